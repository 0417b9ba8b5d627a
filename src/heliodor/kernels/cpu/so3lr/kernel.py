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
from heliodor.kernels.cpu.so3lr.first import MOST_CLASSES, FirstLayer
from heliodor.kernels.cpu.so3lr.long_range import DistanceTable, distance_table
from heliodor.kernels.cpu.so3lr.nodes import Kept
from heliodor.kernels.cpu.so3lr.step import Atoms, More, Pairs, Results, Space, evaluate
from heliodor.kernels.cpu.so3lr.tables import Tables, first_layer, tables
from heliodor.kernels.cpu.threads import LEAST, shares, together
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


class Begun(NamedTuple):
    """Before the first layer: features [N, F], classes [N] of atoms that share them, the first layer by classes.

    Where there are too many classes, ``by_class`` has none.
    """

    features: np.ndarray
    classes: np.ndarray
    by_class: FirstLayer


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
        self._lists: dict[str, tuple[Tensor, Any, Listed, np.ndarray]] = {}
        self._last: tuple[Any, Space, np.ndarray | None] | None = None
        self._distance: tuple[tuple[float, ...], DistanceTable] | None = None
        self._atoms: tuple[tuple[Any, ...], Begun] | None = None
        self._first: dict[bytes, FirstLayer] = {}

    def __getstate__(self) -> dict[str, Any]:
        """For copies and other processes: without what belongs to one of them."""
        mine = {name: value for name, value in self.__dict__.items() if name != "_lock"}
        return mine | {"_space": Workspace(), "_lists": {}, "_atoms": None, "_last": None}

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
        config, t = self._model.config.network, self._tables
        n, b = system.n_atoms, system.n_structures
        begun = self._begun(system)
        near, threads = self._listed("short", short, system, None)
        far, _ = self._listed("long", long, system, threads)
        atoms = Atoms(
            np.ascontiguousarray(system.positions.double().numpy()),
            np.ascontiguousarray(system.numbers.numpy()),
            np.ascontiguousarray(system.batch.numpy()),
            *_groups(system),
            begun.classes,
        )
        space = self._room(n, len(near.other), threads, begun)
        out = self._results(n, b if strain else 0, threads, gradient)
        more = More(config.cutoff, config.average_neighbors, *self._distances(long), begun.by_class)
        together(lambda group: evaluate(group, t, atoms, near, far, more, space, out), threads)
        features = torch.from_numpy(space.x[-1])
        far_energies = out.far_energies.sum(0)
        terms = Terms(
            energies={
                "so3krates": torch.from_numpy(out.energy),
                "zbl": torch.from_numpy(out.repulsion.sum(0)),
                "electrostatics": torch.from_numpy(far_energies[0]),
                "dispersion": torch.from_numpy(far_energies[1]),
            },
            charges=torch.from_numpy(out.charges),
            hirshfeld_ratios=torch.from_numpy(out.ratios),
            force_error=self._model.force_error(features, system),
        )
        if not gradient:
            return Derived(terms)
        total = torch.from_numpy(out.near_gradient.sum(0) + out.far_gradient.sum(0))
        strains = torch.from_numpy(out.near_strain.sum(0) + out.far_strain.sum(0)) if strain else None
        return Derived(terms, total, strains)

    def _room(self, n: int, pairs: int, threads: int, begun: Begun) -> Space:
        """Arrays for so many atoms and pairs, the same as last time if they fit; the first features put in."""
        config, t = self._model.config.network, self._tables
        f, m, depth, heads = config.n_features, t.layers[0].components, len(t.layers), config.n_heads
        degrees, classes = len(config.degrees), len(begun.by_class.values)
        key = (n, pairs, threads, classes)
        if self._last is None or self._last[0] != key:

            def real(name: str, *shape: int) -> np.ndarray:
                return self._space.take(name, shape, self._real)

            def layers(name: str, count: int, *shape: int) -> list[np.ndarray]:
                return [real(f"{name} {k}", *shape) for k in range(count)]

            kept = {"hat_1": (n, f), "width_1": (n,), "inner": (n, f), "middle": (n, m), "gain": (n, degrees)}
            kept |= {"hat_2": (n, f), "width_2": (n,)}
            shapes = {
                "unit": (pairs, 3), "d": (pairs,), "scaled": (pairs,), "slope": (pairs,), "angular": (pairs, m),
                "d_pull": (pairs,), "scaled_pull": (pairs,), "angular_pull": (pairs, m), "x_sum": (threads, n, f),
                "ev_sum": (threads, n, m), "class_sum": (threads, n, classes, heads), "class_pull": (n, classes, heads),
                "hidden": (n, len(t.heads.hidden_bias)), "raw": (n,), "signed": (n,), "charge_sum": (threads, n),
                "ratio_sum": (threads, n), "charge_pull": (n,), "ratio_pull": (n,), "pull": (n, f), "ev_pull": (n, m),
                "proj_pull": (threads, n, 5 * f), "ev_back": (threads, n, m),
            }  # fmt: skip
            space = Space(
                place=self._space.take("place", (n + 1,), np.int64),
                pair_i=self._space.take("i", (pairs,), np.int32),
                pair_j=self._space.take("j", (pairs,), np.int32),
                alpha=layers("alpha", depth, pairs, -(-2 * (heads + degrees) // 8) * 8),
                x=layers("x", depth + 1, n, f),
                ev=layers("ev", depth + 1, n, m),
                proj=layers("proj", depth, n, 5 * f),
                kept=[
                    Kept(**{name: real(f"{name} {k}", *shape) for name, shape in kept.items()}) for k in range(depth)
                ],
                **{name: real(name, *shape) for name, shape in shapes.items()},
            )
            self._last = (key, space, None)
        if self._last[2] is not begun.features:
            self._last[1].x[0][:] = begun.features
            self._last = (key, self._last[1], begun.features)
        return self._last[1]

    def _results(self, n: int, strained: int, threads: int, gradient: bool) -> Results:
        real, many = self._real, threads if gradient else 0
        return Results(
            np.empty(n, real),
            np.empty((threads, n)),
            np.empty(n, real),
            np.empty(n, real),
            np.empty((threads, 2, n)),
            np.empty((threads, n, 3)),
            np.empty((threads, strained, 3, 3)),
            np.empty((many, n, 3)),
            np.empty((many, strained, 3, 3)),
        )

    def _listed(self, name: str, neighbors: Neighbors, system: System, threads: int | None) -> tuple[Pairs, int]:
        """A list as loops read it, each thread's share of it, and how many threads; kept as long as the list is.

        Args:
            threads: as many as are worth it, at most `MOST_THREADS`, if not given.
        """
        most = MOST_THREADS if threads is None else threads
        key = (torch.get_num_threads(), most, system.n_atoms)
        known = self._lists.get(name)
        if known is None or known[0] is not neighbors.i or known[1] != key:
            found = listed(neighbors, system.n_atoms)
            bounds = shares(found.start, most, least=1 if threads is not None else LEAST)
            known = self._lists[name] = (neighbors.i, key, found, bounds)
        _, _, found, bounds = known
        return Pairs(found.start, found.other, found.code, found.shifts(system), bounds), len(bounds) - 1

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
            member = torch.zeros(len(kinds), dtype=torch.long).scatter(0, classes, torch.arange(len(key)))
            by_class = self._first_layer(x[member if len(kinds) <= MOST_CLASSES else member[:0]])
            self._atoms = (_marked(what), Begun(x.numpy(), classes.numpy(), by_class))
        return self._atoms[1]

    def _first_layer(self, x: Tensor) -> FirstLayer:
        """Kept for the last few kinds of structures: a data set has few."""
        key = x.numpy().tobytes()
        if key not in self._first:
            while len(self._first) >= MOST_KINDS:
                del self._first[next(iter(self._first))]
            self._first[key] = first_layer(self._tables.first, x, self._real)
        return self._first[key]

    def _distances(self, long: Neighbors) -> tuple[DistanceTable, np.ndarray]:
        """Functions of long distances, and which of them each structure takes."""
        cutoffs = long.cutoff.double().numpy()
        distinct = tuple(sorted(set(cutoffs.tolist())))
        damping, width = self._model.config.electrostatic_damping, self._model.dispersion_damping_width
        key = (*distinct, damping, width)
        if self._distance is None or self._distance[0] != key:
            self._distance = (key, distance_table(list(distinct), damping, width, self._real))
        return self._distance[1], np.searchsorted(np.array(distinct), cutoffs)


def _groups(system: System) -> tuple[np.ndarray, np.ndarray]:
    """Which group of atoms keeps its charge, for each atom, and the charges: fragments, else structures."""
    if system.fragment is not None and system.fragment_charge is not None:
        group, total = system.fragment, system.fragment_charge
    else:
        group, total = system.batch, system.charge
    return np.ascontiguousarray(group.numpy()), np.ascontiguousarray(total.double().numpy())


def _marked(tensors: tuple[Tensor, ...]) -> tuple[Any, ...]:
    return tuple((x, x._version) for x in tensors)


def _same(marked: tuple[Any, ...], tensors: tuple[Tensor, ...]) -> bool:
    return all(was is x and version == x._version for (was, version), x in zip(marked, tensors, strict=True))
