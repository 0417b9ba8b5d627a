"""SO3LR on CPUs: energies and their derivatives by hand, no graph; memory linear in atoms.

The arithmetic is that of `heliodor.potentials.so3lr`, regrouped: radial filters by splines, each pair of atoms once for
both directions, nothing kept for a pair but its attention, long-range pairs in one pass.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from heliodor.kernels.cpu.lists import Listed, listed
from heliodor.kernels.cpu.so3lr import edges, first, geometry, nodes
from heliodor.kernels.cpu.so3lr.long_range import DistanceTable, distance_table, long_range
from heliodor.kernels.cpu.so3lr.tables import Tables, first_layer, tables
from heliodor.kernels.cpu.threads import run, shares
from heliodor.kernels.cpu.workspace import Workspace
from heliodor.kernels.derived import Derived
from heliodor.neighbors import Neighbors
from heliodor.potential import Terms
from heliodor.potentials.so3lr import SO3LR
from heliodor.system import System

MOST_KINDS = 8
"""Sets of elements (and charges) for which the first layer's splines are kept."""

MOST_THREADS = 16
"""Each thread has sums of its own over all atoms: more threads take more memory than they save time."""


class Kept(NamedTuple):
    """What a layer's `update` keeps of N atoms for the way back."""

    hat_1: np.ndarray
    width_1: np.ndarray
    inner: np.ndarray
    middle: np.ndarray
    gain: np.ndarray
    hat_2: np.ndarray
    width_2: np.ndarray


class Begun(NamedTuple):
    """Before the first layer: features [N, F], classes [N] of atoms that share them, the first layer by classes."""

    features: np.ndarray
    classes: np.ndarray
    by_class: first.FirstLayer | None


class SO3LRKernel:
    """SO3LR's energies with their derivatives by positions and strain (`heliodor.kernels.derived.DerivingKernel`).

    One thread at a time: its arrays are used again at each call.
    """

    def __init__(self, model: SO3LR) -> None:
        self._model = model
        self._tables: Tables = tables(model, model.dtype)
        self._real = np.float32 if model.dtype == torch.float32 else np.float64
        self._space = Workspace()
        self._lock = threading.Lock()
        self._lists: dict[str, tuple[Tensor, Listed, int, list[tuple[int, int, int]]]] = {}
        self._distance: tuple[tuple[float, ...], DistanceTable] | None = None
        self._atoms: tuple[tuple[Any, ...], Begun] | None = None
        self._first: dict[bytes, first.FirstLayer] = {}

    def __getstate__(self) -> dict[str, Any]:
        """For copies and other processes: without what belongs to one of them."""
        mine = {name: value for name, value in self.__dict__.items() if name != "_lock"}
        return mine | {"_space": Workspace(), "_lists": {}, "_atoms": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    @property
    def spline_error(self) -> float:
        """Largest error of a radial filter by its spline, as a fraction of the largest."""
        return self._tables.spline_error

    def derive(self, system: System, neighbors: Neighbors, *, gradient: bool, strain: bool) -> Derived:
        """As `DerivingKernel.derive`."""
        if neighbors.long_range is None:
            raise ValueError("SO3LR needs a long-range list: use potential.neighbors(system)")
        with self._lock, torch.no_grad():
            return self._derive(system, neighbors, neighbors.long_range, gradient or strain, strain)

    def _derive(self, system: System, short: Neighbors, long: Neighbors, gradient: bool, strain: bool) -> Derived:
        real, take, t = self._real, self._space.take, self._tables
        config = self._model.config.network
        n, b, f, depth = system.n_atoms, system.n_structures, config.n_features, len(t.layers)
        m, attentions = t.layers[0].components, -(-2 * (config.n_heads + len(config.degrees)) // 8) * 8
        near, work = self._listed("short", short, n)
        far, far_work = self._listed("long", long, n)
        positions = np.ascontiguousarray(system.positions.detach().double().numpy())
        numbers, batch = system.numbers.numpy(), system.batch.numpy()
        count, far_count = len(work), len(far_work)
        atoms = [part[1:] for part in work]
        shifts = near.shifts(system)

        place = np.zeros(n + 1, np.int64)
        run(
            geometry.count_edges,
            atoms,
            near.start,
            near.other,
            near.code,
            positions,
            shifts,
            batch,
            config.cutoff,
            place[1:],
        )
        np.cumsum(place, out=place)
        pairs, room = int(place[-1]), len(near.other)
        pair_i, pair_j = take("i", (room,), np.int32), take("j", (room,), np.int32)
        unit, d = take("unit", (room, 3), real), take("d", (room,), real)
        scaled, slope = take("scaled", (room,), real), take("slope", (room,), real)
        angular, d_pull = take("angular", (room, m), real), take("d_pull", (room,), real)
        repulsion = take("repulsion", (count, n), np.float64)
        run(
            geometry.find_edges, work, near.start, near.other, near.code, positions, shifts, batch, numbers,
            config.cutoff, config.average_neighbors, t.repulsion, place, pair_i, pair_j, unit, d, scaled, slope,
            angular, d_pull, repulsion,
        )  # fmt: skip

        begun = self._begun(system)
        x, ev = [begun.features], [take("ev", (n, m), real)]
        ev[0][:] = 0.0
        kept, projections, alphas = [], [], []
        x_sum, ev_sum = take("x_sum", (count, n, f), real), take("ev_sum", (count, n, m), real)
        for k, layer in enumerate(t.layers):
            projections.append(take(f"proj {k}", (n, 5 * f), real))
            alphas.append(take(f"alpha {k}", (room, attentions), real))
            x.append(take(f"x {k}", (n, f), real))
            ev.append(take(f"ev {k}", (n, m), real))
            kept.append(self._keep(k, n, f, m, len(config.degrees)))
            if k == 0 and begun.by_class is not None:
                class_sum = take("class sum", (count, n, len(begun.by_class.values), layer.heads), real)
                run(
                    first.attend_first, work, place, pair_i, pair_j, d, angular, begun.classes, begun.by_class,
                    layer, class_sum, ev_sum, alphas[0],
                )  # fmt: skip
                sums = x_sum[:1]
                run(first.send_first, atoms, class_sum, begun.by_class, layer.heads, sums)
                run(nodes.update, atoms, x[k], ev[k], sums, ev_sum, layer, kept[k], x[k + 1], ev[k + 1])
                continue
            run(nodes.project, atoms, x[k], layer, projections[k])
            run(
                edges.attend, work, place, pair_i, pair_j, d, scaled, angular, projections[k], ev[k], layer, x_sum,
                ev_sum, alphas[k],
            )  # fmt: skip
            run(nodes.update, atoms, x[k], ev[k], x_sum, ev_sum, layer, kept[k], x[k + 1], ev[k + 1])
        hidden = take("hidden", (n, len(t.heads.hidden_bias)), real)
        energy, raw, signed = (np.empty(n, real) for _ in range(3))
        run(nodes.heads, atoms, x[depth], numbers, t.heads, hidden, energy, raw, signed)
        charges, ratios = self._neutralised(raw, system), np.abs(signed)

        far_energies = take("far energies", (far_count, 2, n), np.float64)
        far_gradient = take("far gradient", (far_count, n, 3), np.float64)
        charge_pulls, ratio_pulls = take("charge pull", (far_count, n), real), take("ratio pull", (far_count, n), real)
        far_strain = np.empty((far_count, b if strain else 0, 3, 3))
        table, kind = self._distances(long)
        run(
            long_range, far_work, far.start, far.other, far.code, positions, far.shifts(system), batch, numbers,
            charges, ratios, t.pairs, table, kind, far_energies, far_gradient, charge_pulls, ratio_pulls, far_strain,
        )  # fmt: skip
        terms = Terms(
            energies={
                "so3krates": torch.from_numpy(energy),
                "zbl": torch.from_numpy(repulsion.sum(0)),
                "electrostatics": torch.from_numpy(far_energies[:, 0].sum(0)),
                "dispersion": torch.from_numpy(far_energies[:, 1].sum(0)),
            },
            charges=torch.from_numpy(charges),
            hirshfeld_ratios=torch.from_numpy(ratios),
            force_error=self._model.force_error(torch.from_numpy(x[depth]), system),
        )
        if not gradient:
            return Derived(terms)

        scaled_pull, angular_pull = take("scaled pull", (room,), real), take("angular pull", (room, m), real)
        scaled_pull[:pairs] = 0.0
        angular_pull[:pairs] = 0.0
        pull, ev_pull = take("pull", (n, f), real), take("ev pull", (n, m), real)
        ev_pull[:] = 0.0
        charge_pull = self._centred(charge_pulls.sum(0), system)
        ratio_pull = ratio_pulls.sum(0) * np.sign(signed)
        run(nodes.heads_back, atoms, numbers, t.heads, hidden, real(1.0), charge_pull, ratio_pull, pull)
        proj_pull, ev_back = take("proj pull", (count, n, 5 * f), real), take("ev back", (count, n, m), real)
        for k in reversed(range(depth)):
            layer = t.layers[k]
            run(nodes.update_back, atoms, layer, kept[k], pull, ev_pull, ev_back[: 0 if k == depth - 1 else count])
            if k == 0 and begun.by_class is not None:
                class_pull = take("class pull", (n, len(begun.by_class.values), layer.heads), real)
                run(first.send_first_back, atoms, pull, begun.by_class, layer.heads, class_pull)
                run(
                    first.attend_first_back, work, place, pair_i, pair_j, d, angular, begun.classes, begun.by_class,
                    layer, alphas[0], class_pull, ev_pull, d_pull, angular_pull,
                )  # fmt: skip
                continue
            run(
                edges.attend_back, work, place, pair_i, pair_j, d, scaled, angular, projections[k], ev[k], layer,
                alphas[k], pull, ev_pull, proj_pull, ev_back, d_pull, scaled_pull, angular_pull,
            )  # fmt: skip
            if k:
                run(nodes.project_back, atoms, proj_pull, layer, pull)
        near_gradient = take("near gradient", (count, n, 3), np.float64)
        near_gradient[:] = 0.0
        near_strain = np.zeros((count, b if strain else 0, 3, 3))
        run(
            geometry.pull_edges, work, place, pair_i, pair_j, batch, unit, d, slope, d_pull, scaled_pull,
            angular_pull, near_gradient, near_strain,
        )  # fmt: skip
        total = torch.from_numpy(near_gradient.sum(0) + far_gradient.sum(0))
        strains = torch.from_numpy(near_strain.sum(0) + far_strain.sum(0)) if strain else None
        return Derived(terms, total, strains)

    def _keep(self, k: int, n: int, f: int, m: int, degrees: int) -> Kept:
        widths = {"hat_1": f, "width_1": 0, "inner": f, "middle": m, "gain": degrees, "hat_2": f, "width_2": 0}
        return Kept(
            **{
                name: self._space.take(f"{name} {k}", (n, width) if width else (n,), self._real)
                for name, width in widths.items()
            }
        )

    def _listed(self, name: str, neighbors: Neighbors, n: int) -> tuple[Listed, list[tuple[int, int, int]]]:
        """A list as loops read it, and each thread's share of it; kept as long as the list is."""
        known, threads = self._lists.get(name), torch.get_num_threads()
        if known is None or known[0] is not neighbors.i or len(known[1].start) != n + 1:
            known = (neighbors.i, listed(neighbors, n), 0, [])
        if known[2] != threads:
            known = (known[0], known[1], threads, shares(known[1].start, MOST_THREADS))
        self._lists[name] = known
        return known[1], known[3]

    def _begun(self, system: System) -> Begun:
        """Features before the first layer, and what follows for it; they depend on nothing that moves."""
        what = (system.numbers, system.charge, system.spin, system.batch)
        if self._atoms is None or not _same(self._atoms[0], what):
            model = self._model
            x = model.network.embed(
                system.numbers, system.charge.to(model.dtype), system.spin.to(model.dtype), system.batch
            ).contiguous()
            # atoms of one element in structures of no charge and spin are one class, others one in each structure
            marked = ((system.charge != 0) | (system.spin != 0))[system.batch]
            key = torch.where(marked, (system.batch + 1) * 256 + system.numbers, system.numbers)
            kinds, classes = torch.unique(key, return_inverse=True)
            by_class = None
            if len(kinds) <= first.MOST_CLASSES:
                member = torch.zeros(len(kinds), dtype=torch.long).scatter(0, classes, torch.arange(len(key)))
                by_class = self._first_layer(x[member])
            self._atoms = (_marked(what), Begun(x.numpy(), classes.numpy(), by_class))
        return self._atoms[1]

    def _first_layer(self, x: Tensor) -> first.FirstLayer:
        """Kept for the last few kinds of structures: a data set has few."""
        key = x.numpy().tobytes()
        if key not in self._first:
            while len(self._first) >= MOST_KINDS:
                del self._first[next(iter(self._first))]
            self._first[key] = first_layer(self._tables.first, x, self._real)
        return self._first[key]

    def _distances(self, long: Neighbors) -> tuple[DistanceTable, np.ndarray]:
        cutoffs = long.cutoff.double().numpy()
        distinct = tuple(sorted(set(cutoffs.tolist())))
        if self._distance is None or self._distance[0] != distinct:
            damping, width = self._model.config.electrostatic_damping, self._model.dispersion_damping_width
            self._distance = (distinct, distance_table(list(distinct), damping, width, self._real))
        return self._distance[1], np.searchsorted(np.array(distinct), cutoffs)

    def _neutralised(self, raw: np.ndarray, system: System) -> np.ndarray:
        """Charges that add up to the total charge of each structure, or fragment."""
        if system.fragment is not None and system.fragment_charge is not None:
            group, total = system.fragment.numpy(), system.fragment_charge.double().numpy()
        else:
            group, total = system.batch.numpy(), system.charge.double().numpy()
        sums, counts = np.bincount(group, raw, len(total)), np.bincount(group, minlength=len(total))
        return (raw + ((total - sums) / counts)[group]).astype(self._real)

    def _centred(self, pull: np.ndarray, system: System) -> np.ndarray:
        """Derivatives by charges before their correction."""
        group = (system.batch if system.fragment is None else system.fragment).numpy()
        return (pull - (np.bincount(group, pull) / np.bincount(group))[group]).astype(self._real)


def _marked(tensors: tuple[Tensor, ...]) -> tuple[Any, ...]:
    return tuple((x, x._version) for x in tensors)


def _same(marked: tuple[Any, ...], tensors: tuple[Tensor, ...]) -> bool:
    return all(was is x and version == x._version for (was, version), x in zip(marked, tensors, strict=True))
