"""Batches: neighbour lists joined by index arithmetic, filled up to a shape if asked.

Everything is moved to the centre of its structure first, so that float32 coordinates lose nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heliodor.neighbors import Neighbors
from heliodor.potential import Potential
from heliodor.system import System
from heliodor.train.dataset import Dataset
from heliodor.train.references import References

FAR = 100.0
"""Å, length of the edges that only fill a batch up: beyond every cutoff, yet harmless to the 10th power."""

CHUNK = 2000
"""Structures whose neighbours are searched in one go."""


@dataclass(frozen=True, eq=False)
class Batch:
    """B structures, N atoms, E edges (half list) and P long-range pairs, labels NaN where there are none.

    A batch filled up to a `Shape` ends with structures of dummy atoms without labels, and its lists with edges from
    the last dummy atom to an image of itself far away: nothing of them reaches a real atom or a loss.

    Attributes:
        index: which structures of the data set these are, -1 for dummies.
        limit: Å, long-range cutoff of each structure.
        offset, pair_offset: Å, lattice translations of the sending atoms; None without periodic structures.
        pair_i, pair_j: None for models without long-range terms.
        energy: eV, without the reference energies.
        dipole: e·Å about the origin of `positions`.
    """

    index: Int[Tensor, "B"]
    positions: Float[Tensor, "N 3"]
    numbers: Int[Tensor, "N"]
    batch: Int[Tensor, "N"]
    cell: Float[Tensor, "B 3 3"]
    pbc: Bool[Tensor, "B 3"]
    charge: Float[Tensor, "B"]
    spin: Float[Tensor, "B"]
    i: Int[Tensor, "E"]
    j: Int[Tensor, "E"]
    offset: Float[Tensor, "E 3"] | None
    pair_i: Int[Tensor, "P"] | None
    pair_j: Int[Tensor, "P"] | None
    pair_offset: Float[Tensor, "P 3"] | None
    cutoff: Float[Tensor, "B"]
    limit: Float[Tensor, "B"] | None
    counts: Float[Tensor, "B"]
    energy: Float[Tensor, "B"]
    forces: Float[Tensor, "N 3"]
    dipole: Float[Tensor, "B 3"]
    hirshfeld_ratios: Float[Tensor, "N"]
    charges: Float[Tensor, "N"]
    node_energies: Float[Tensor, "N"]
    stress: Float[Tensor, "B 3 3"]

    def to(self, device: torch.device | str) -> Batch:
        """On a device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: v.to(device, non_blocking=True) for k, v in moved.items() if v is not None})

    @property
    def system(self) -> System:
        return System(self.positions, self.numbers, self.cell, self.pbc, self.batch, self.charge, self.spin)

    def neighbors(self, system: System) -> Neighbors:
        """The lists, for a system made of these tensors (cached translations hold for its cell)."""
        long = None
        if self.pair_i is not None and self.pair_j is not None and self.limit is not None:
            long = self._list(system, self.pair_i, self.pair_j, self.pair_offset, self.limit, None)
        return self._list(system, self.i, self.j, self.offset, self.cutoff, long)

    def _list(
        self, system: System, i: Tensor, j: Tensor, offset: Tensor | None, limit: Tensor, long: Neighbors | None
    ) -> Neighbors:
        shift = torch.zeros(len(i), 3, dtype=torch.int32, device=i.device)
        return Neighbors(i, j, shift, limit, 0.0, True, system.positions, system.cell, offset, long)


@dataclass(frozen=True)
class Shape:
    """Size of a filled-up batch; every dummy structure takes one atom at least."""

    structures: int
    atoms: int
    edges: int
    pairs: int


@dataclass(frozen=True, eq=False)
class Lists:
    """A data set ready to be cut into batches of one dtype.

    Attributes:
        sizes: atoms, edges and pairs of each structure.
        starts: where they begin; edges and pairs count atoms from the structure's own first one.
        filler: atomic number of dummies.
    """

    dataset: Dataset
    positions: Float[np.ndarray, "N 3"]
    energy: Float[np.ndarray, "S"]
    dipole: Float[np.ndarray, "S 3"]
    sizes: Int[np.ndarray, "S 3"]
    starts: Int[np.ndarray, "S1 3"]
    i: Int[np.ndarray, "E"]
    j: Int[np.ndarray, "E"]
    offset: Float[np.ndarray, "E 3"] | None
    pair_i: Int[np.ndarray, "P"] | None
    pair_j: Int[np.ndarray, "P"] | None
    pair_offset: Float[np.ndarray, "P 3"] | None
    cutoff: float
    limit: Float[np.ndarray, "S"] | None
    dtype: torch.dtype
    filler: int = 1

    def __len__(self) -> int:
        return len(self.dataset)

    def batch(self, chosen: Int[np.ndarray, "s"], shape: Shape | None = None) -> Batch:
        """Structures as one batch, filled up to a shape if one is given (they must fit)."""
        data, chosen = self.dataset, np.asarray(chosen, dtype=np.int64)
        sizes = self.sizes[chosen]
        rows = [_rows(self.starts[chosen, k], sizes[:, k]) for k in range(3)]
        n, s = int(sizes[:, 0].sum()), len(chosen)
        total = Shape(s, n, int(sizes[:, 1].sum()), int(sizes[:, 2].sum())) if shape is None else shape
        counts = np.concatenate([sizes[:, 0], _dummies(total.structures - s, total.atoms - n)])
        first = np.concatenate([[0], np.cumsum(sizes[:-1, 0])])

        def real(values: np.ndarray, count: int, fill: float = 0.0) -> Tensor:
            out = np.full((count, *values.shape[1:]), fill)
            out[: len(values)] = values
            return torch.from_numpy(out).to(self.dtype)

        def index(local: np.ndarray, kind: int, count: int) -> Tensor:
            out = np.full(count, total.atoms - 1)
            out[: len(rows[kind])] = local[rows[kind]] + np.repeat(first, sizes[:, kind])
            return torch.from_numpy(out)

        def offset(values: np.ndarray | None, kind: int, count: int) -> Tensor | None:
            if values is None and shape is None:
                return None
            out = np.zeros((count, 3))
            out[:, 0] = FAR
            out[: len(rows[kind])] = 0.0 if values is None else values[rows[kind]]
            return torch.from_numpy(out).to(self.dtype)

        pbc = np.zeros((total.structures, 3), dtype=bool)
        pbc[:s] = data.pbc[chosen]
        # what is not periodic in every direction has no volume
        stress = np.where(data.pbc[chosen].all(1)[:, None, None], data.stress[chosen], np.nan)
        numbers = np.full(total.atoms, self.filler)
        numbers[:n] = data.numbers[rows[0]]
        names = np.full(total.structures, -1)
        names[:s] = chosen
        long = self.pair_i is not None
        return Batch(
            index=torch.from_numpy(names),
            positions=real(self.positions[rows[0]], total.atoms),
            numbers=torch.from_numpy(numbers),
            batch=torch.from_numpy(np.repeat(np.arange(total.structures), counts)),
            cell=real(data.cell[chosen], total.structures),
            pbc=torch.from_numpy(pbc),
            charge=real(data.charge[chosen], total.structures),
            spin=real(data.spin[chosen], total.structures),
            i=index(self.i, 1, total.edges),
            j=index(self.j, 1, total.edges),
            offset=offset(self.offset, 1, total.edges),
            pair_i=index(self.pair_i, 2, total.pairs) if self.pair_i is not None else None,
            pair_j=index(self.pair_j, 2, total.pairs) if self.pair_j is not None else None,
            pair_offset=offset(self.pair_offset, 2, total.pairs) if long else None,
            cutoff=torch.full((total.structures,), self.cutoff, dtype=self.dtype),
            limit=real(self.limit[chosen], total.structures, 1.0) if self.limit is not None else None,
            counts=torch.from_numpy(counts).to(self.dtype),
            energy=real(self.energy[chosen], total.structures, np.nan),
            forces=real(data.forces[rows[0]], total.atoms, np.nan),
            dipole=real(self.dipole[chosen], total.structures, np.nan),
            hirshfeld_ratios=real(data.hirshfeld_ratios[rows[0]], total.atoms, np.nan),
            charges=real(data.charges[rows[0]], total.atoms, np.nan),
            node_energies=real(data.node_energies[rows[0]], total.atoms, np.nan),
            stress=real(stress, total.structures, np.nan),
        )


def find_lists(
    dataset: Dataset,
    model: Potential,
    references: References | None,
    dtype: torch.dtype = torch.float32,
    progress: Callable[[int, int], None] | None = None,
) -> Lists:
    """Neighbour lists of every structure for a model, and labels ready for it.

    Reference energies are taken off in float64. Dipoles of periodic structures are left out: they have no meaning
    without a choice of images.

    Args:
        progress: called with the structures done and their number.

    Raises:
        ModelError: periodic structures, for a model that cannot have them.
    """
    centre, positions = _centred(dataset)
    short, long, limits = [], [], []
    for system, found in _searches(dataset, model, progress):
        short.append(_columns(found, system))
        if found.long_range is not None:
            long.append(_columns(found.long_range, system))
            limits.append(found.long_range.cutoff.numpy())
    i, j, offset, edges = _join(short)
    pair_i, pair_j, pair_offset, pairs = _join(long) if long else (None, None, None, np.zeros_like(edges))
    table = np.stack([dataset.counts, edges, pairs], axis=1)
    return Lists(
        dataset=dataset,
        positions=positions,
        energy=dataset.energy - (0.0 if references is None else references.sums(dataset)),
        dipole=_dipoles(dataset, centre),
        sizes=table,
        starts=np.concatenate([np.zeros((1, 3), dtype=table.dtype), table.cumsum(0)]),
        i=i,
        j=j,
        offset=offset,
        pair_i=pair_i,
        pair_j=pair_j,
        pair_offset=pair_offset,
        cutoff=float(model.cutoff),
        limit=np.concatenate(limits) if limits else None,
        dtype=dtype,
        filler=dataset.elements[0],
    )


def _searches(
    dataset: Dataset, model: Potential, progress: Callable[[int, int], None] | None
) -> Iterator[tuple[System, Neighbors]]:
    """Structures moved to their centres and their lists, some at a time."""
    for begin in range(0, len(dataset), CHUNK):
        end = min(begin + CHUNK, len(dataset))
        span = slice(int(dataset.offsets[begin]), int(dataset.offsets[end]))
        counts = np.diff(dataset.offsets[begin : end + 1])
        firsts = dataset.offsets[begin:end] - dataset.offsets[begin]
        raw = dataset.positions[span]
        system = System(
            positions=torch.from_numpy(raw - np.repeat(_centres(raw, firsts, counts), counts, axis=0)),
            numbers=torch.from_numpy(dataset.numbers[span].astype(np.int64)),
            cell=torch.from_numpy(np.array(dataset.cell[begin:end])),
            pbc=torch.from_numpy(np.array(dataset.pbc[begin:end])),
            batch=torch.repeat_interleave(torch.arange(end - begin), torch.from_numpy(counts)),
            charge=torch.from_numpy(np.array(dataset.charge[begin:end])),
            spin=torch.from_numpy(np.array(dataset.spin[begin:end])),
        )
        yield system, model.neighbors(system)
        if progress is not None:
            progress(end, len(dataset))


def _centres(positions: np.ndarray, firsts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.add.reduceat(positions, firsts) / counts[:, None]


def _centred(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Centres of the structures, and all positions from there."""
    centre = _centres(dataset.positions, dataset.offsets[:-1], dataset.counts)
    return centre, dataset.positions - np.repeat(centre, dataset.counts, axis=0)


def _dipoles(dataset: Dataset, centre: np.ndarray) -> np.ndarray:
    """About the centre; left out of periodic structures."""
    dipole = dataset.dipole - dataset.charge[:, None] * centre
    dipole[dataset.pbc.any(1)] = np.nan
    return dipole


_Columns = tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]
"""i and j within each structure, translations, and how many edges each structure has."""


def _columns(edges: Neighbors, system: System) -> _Columns:
    owner = system.batch[edges.i]
    first = torch.cat([torch.zeros(1, dtype=torch.int64), system.counts.cumsum(0)])[owner]
    counts = torch.bincount(owner, minlength=system.n_structures).numpy()
    offset = None if edges.offset is None else edges.offset.numpy()
    return (edges.i - first).to(torch.int32).numpy(), (edges.j - first).to(torch.int32).numpy(), offset, counts


def _join(parts: list[_Columns]) -> _Columns:
    i, j, offsets, counts = zip(*parts, strict=True)
    offset = None
    if any(values is not None for values in offsets):
        offset = np.concatenate(
            [np.zeros((len(k), 3)) if values is None else values for k, values in zip(i, offsets, strict=True)]
        )
    return np.concatenate(i), np.concatenate(j), offset, np.concatenate(counts)


def _rows(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """starts[0], starts[0]+1, ... (counts[0] of them), then from starts[1] on, and so forth."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - counts), counts)


def _dummies(structures: int, atoms: int) -> np.ndarray:
    """Atoms of each dummy structure: one each, the rest to the last."""
    if structures < 0 or atoms < structures or (structures == 0 and atoms):
        raise ValueError(f"{atoms} places are left for the atoms of {structures} dummy structures")
    counts = np.ones(structures, dtype=np.int64)
    if structures:
        counts[-1] += atoms - structures
    return counts
