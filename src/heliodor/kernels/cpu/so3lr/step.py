"""One evaluation of SO3LR from beginning to end: the order of the compiled stages, and where threads meet."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from heliodor.kernels.cpu.compiled import compiled
from heliodor.kernels.cpu.so3lr.edges import attend, attend_back
from heliodor.kernels.cpu.so3lr.first import (
    FirstLayer,
    attend_first,
    attend_first_back,
    send_first,
    send_first_back,
)
from heliodor.kernels.cpu.so3lr.geometry import count_edges, find_edges, pull_edges
from heliodor.kernels.cpu.so3lr.long_range import DistanceTable, long_range
from heliodor.kernels.cpu.so3lr.nodes import Kept, heads, heads_back, project, project_back, update, update_back
from heliodor.kernels.cpu.so3lr.tables import Tables
from heliodor.kernels.cpu.threads import Group


class Pairs(NamedTuple):
    """A half list by receiving atom, and who works on it.

    Attributes:
        start, other, code: [N+1], [P], [P]: see `heliodor.kernels.cpu.lists.Listed`.
        shifts: [B, S, 3] Å.
        bounds: [T+1] first atom of each thread's share.
    """

    start: np.ndarray
    other: np.ndarray
    code: np.ndarray
    shifts: np.ndarray
    bounds: np.ndarray


class Atoms(NamedTuple):
    """Positions [N, 3] Å, float64; atomic numbers; structures; groups whose charges add up to totals [G]; classes."""

    positions: np.ndarray
    numbers: np.ndarray
    batch: np.ndarray
    group: np.ndarray
    total: np.ndarray
    classes: np.ndarray


class Space(NamedTuple):
    """Room for everything on the way; D layers, P listed pairs, T threads."""

    place: np.ndarray  # [N+1]
    pair_i: np.ndarray  # [P]
    pair_j: np.ndarray  # [P]
    unit: np.ndarray  # [P, 3]
    d: np.ndarray  # [P]
    scaled: np.ndarray  # [P]
    slope: np.ndarray  # [P]
    angular: np.ndarray  # [P, M]
    d_pull: np.ndarray  # [P]
    scaled_pull: np.ndarray  # [P]
    angular_pull: np.ndarray  # [P, M]
    alpha: list[np.ndarray]  # D of [P, W]
    x: list[np.ndarray]  # D+1 of [N, F], the first of them given
    ev: list[np.ndarray]  # D+1 of [N, M]
    proj: list[np.ndarray]  # D of [N, 5F], the first unused where there are classes
    kept: list[Kept]  # D
    x_sum: np.ndarray  # [T, N, F]
    ev_sum: np.ndarray  # [T, N, M]
    class_sum: np.ndarray  # [T, N, C, H]
    class_pull: np.ndarray  # [N, C, H]
    hidden: np.ndarray  # [N, 2F + n]
    raw: np.ndarray  # [N]
    signed: np.ndarray  # [N]
    charge_sum: np.ndarray  # [T, N]
    ratio_sum: np.ndarray  # [T, N]
    charge_pull: np.ndarray  # [N]
    ratio_pull: np.ndarray  # [N]
    pull: np.ndarray  # [N, F]
    ev_pull: np.ndarray  # [N, M]
    proj_pull: np.ndarray  # [T, N, 5F]
    ev_back: np.ndarray  # [T, N, M]


class Results(NamedTuple):
    """What comes out; sums of threads are left to the caller. Gradients are empty where not asked for."""

    energy: np.ndarray  # [N]
    repulsion: np.ndarray  # [T, N]
    charges: np.ndarray  # [N]
    ratios: np.ndarray  # [N]
    far_energies: np.ndarray  # [T, 2, N]
    far_gradient: np.ndarray  # [T, N, 3]
    far_strain: np.ndarray  # [T, B or 0, 3, 3]
    near_gradient: np.ndarray  # [T, N, 3], T = 0: no gradient
    near_strain: np.ndarray  # [T, B or 0, 3, 3]


class More(NamedTuple):
    """Cutoff (Å), average number of neighbours, functions of long distances, the first layer by classes of atoms.

    Attributes:
        table, kind: of `heliodor.kernels.cpu.so3lr.long_range`.
        by_class: of no classes where the first layer is taken as the others.
    """

    cutoff: float
    average: float
    table: DistanceTable
    kind: np.ndarray
    by_class: FirstLayer


@compiled
def neutralise(raw, signed, group, total, charges, ratios):  # type: ignore[no-untyped-def]
    """Charges [N] that add up to the total of each group [G], by one correction for all its atoms; ratios |signed|."""
    missing, count = total.copy(), np.zeros(len(total))
    for i in range(len(raw)):
        missing[group[i]] -= raw[i]
        count[group[i]] += 1.0
    for i in range(len(raw)):
        charges[i] = raw[i] + missing[group[i]] / count[group[i]]
        ratios[i] = abs(signed[i])


@compiled
def centre(charge_sum, ratio_sum, signed, group, n_groups, charge_pull, ratio_pull):  # type: ignore[no-untyped-def]
    """Derivatives by what `neutralise` took, from those by what it gave, [T, N] of all threads."""
    mean, count = np.zeros(n_groups), np.zeros(n_groups)
    for i in range(len(signed)):
        q, h = 0.0, 0.0
        for t in range(charge_sum.shape[0]):
            q += charge_sum[t, i]
            h += ratio_sum[t, i]
        charge_pull[i] = q
        ratio_pull[i] = h if signed[i] > 0.0 else -h
        mean[group[i]] += q
        count[group[i]] += 1.0
    for i in range(len(signed)):
        charge_pull[i] -= mean[group[i]] / count[group[i]]


def evaluate(
    group: Group, model: Tables, atoms: Atoms, near: Pairs, far: Pairs, more: More, a: Space, out: Results
) -> None:
    """Energies and their derivatives; every thread of the group calls this, with the same arguments.

    Args:
        near, far: of the network and of the long range.
        a, out: written.
    """
    first, last = int(near.bounds[group.thread]), int(near.bounds[group.thread + 1])
    _forth(group, first, last, model, atoms, near, more, a, out)
    heads(first, last, a.x[-1], atoms.numbers, model.heads, a.hidden, out.energy, a.raw, a.signed)
    group.meet()
    if group.thread == 0:
        neutralise(a.raw, a.signed, atoms.group, atoms.total, out.charges, out.ratios)
    group.meet()
    long_range(
        group.thread, *far.bounds[group.thread : group.thread + 2], far.start, far.other, far.code, atoms.positions,
        far.shifts, atoms.batch, atoms.numbers, out.charges, out.ratios, model.pairs, more.table, more.kind,
        out.far_energies, out.far_gradient, a.charge_sum, a.ratio_sum, out.far_strain,
    )  # fmt: skip
    if not len(out.near_gradient):
        return
    group.meet()
    if group.thread == 0:
        centre(a.charge_sum, a.ratio_sum, a.signed, atoms.group, len(atoms.total), a.charge_pull, a.ratio_pull)
    group.meet()
    one = a.pull.dtype.type(1.0)
    heads_back(first, last, atoms.numbers, model.heads, a.hidden, one, a.charge_pull, a.ratio_pull, a.pull)
    _back(group, first, last, model, atoms, more, a, out)


def _forth(
    group: Group, first: int, last: int, model: Tables, atoms: Atoms, near: Pairs, more: More, a: Space, out: Results
) -> None:
    """Edges and layers."""
    listed = (near.start, near.other, near.code, atoms.positions, near.shifts, atoms.batch)
    count_edges(first, last, *listed, more.cutoff, a.place[1:])
    group.meet()
    if group.thread == 0:
        a.place[0] = 0
        np.cumsum(a.place, out=a.place)
    group.meet()
    find_edges(
        group.thread, first, last, *listed, atoms.numbers, more.cutoff, more.average, model.repulsion, a.place,
        a.pair_i, a.pair_j, a.unit, a.d, a.scaled, a.slope, a.angular, a.d_pull, out.repulsion,
    )  # fmt: skip
    a.ev[0][first:last] = 0.0
    for k, layer in enumerate(model.layers):
        sums = a.x_sum
        if k == 0 and len(more.by_class.values):
            attend_first(
                group.thread, first, last, a.place, a.pair_i, a.pair_j, a.d, a.angular, atoms.classes, more.by_class,
                layer.edges, a.class_sum, a.ev_sum, a.alpha[0],
            )  # fmt: skip
            group.meet()
            sums = a.x_sum[:1]
            send_first(first, last, a.class_sum, more.by_class, layer.edges.heads, sums)
        else:
            project(first, last, a.x[k], layer.nodes, a.proj[k])
            group.meet()
            attend(
                group.thread, first, last, a.place, a.pair_i, a.pair_j, a.d, a.scaled, a.angular, a.proj[k], a.ev[k],
                layer.edges, a.x_sum, a.ev_sum, a.alpha[k],
            )  # fmt: skip
            group.meet()
        update(first, last, a.x[k], a.ev[k], sums, a.ev_sum, layer.nodes, a.kept[k], a.x[k + 1], a.ev[k + 1])


def _back(group: Group, first: int, last: int, model: Tables, atoms: Atoms, more: More, a: Space, out: Results) -> None:
    """From derivatives by the last features to those by positions."""
    begin, end = a.place[first], a.place[last]
    a.scaled_pull[begin:end] = 0.0
    a.angular_pull[begin:end] = 0.0
    a.ev_pull[first:last] = 0.0
    ev_back = a.ev_back[:0]
    for k, layer in reversed(list(enumerate(model.layers))):
        update_back(first, last, layer.nodes, a.kept[k], a.pull, a.ev_pull, ev_back)
        ev_back = a.ev_back
        if k == 0 and len(more.by_class.values):
            send_first_back(first, last, a.pull, more.by_class, layer.edges.heads, a.class_pull)
            group.meet()
            attend_first_back(
                group.thread, first, last, a.place, a.pair_i, a.pair_j, a.d, a.angular, atoms.classes, more.by_class,
                layer.edges, a.alpha[0], a.class_pull, a.ev_pull, a.d_pull, a.angular_pull,
            )  # fmt: skip
            continue
        group.meet()
        attend_back(
            group.thread, first, last, a.place, a.pair_i, a.pair_j, a.d, a.scaled, a.angular, a.proj[k], a.ev[k],
            layer.edges, a.alpha[k], a.pull, a.ev_pull, a.proj_pull, a.ev_back, a.d_pull, a.scaled_pull, a.angular_pull,
        )  # fmt: skip
        group.meet()
        if k:
            project_back(first, last, a.proj_pull, layer.nodes, a.pull)
    out.near_gradient[group.thread] = 0.0
    out.near_strain[group.thread] = 0.0
    pull_edges(
        group.thread, first, last, a.place, a.pair_i, a.pair_j, atoms.batch, a.unit, a.d, a.slope, a.d_pull,
        a.scaled_pull, a.angular_pull, out.near_gradient, out.near_strain,
    )  # fmt: skip
