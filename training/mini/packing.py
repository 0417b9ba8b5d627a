"""Batches of one fixed shape, so that the compiled training step is compiled once.

Structures are packed until a limit of atoms, edges, pairs or structures is reached; what is left is filled with dummy
atoms of a dummy structure, and with edges and pairs of a dummy atom with itself, too long to have any energy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from heliodor.neighbors import Neighbors, find_neighbors
from heliodor.system import System
from label import system_of

FAR = 1e4
"""Å, length of dummy edges."""


@dataclass(frozen=True)
class Shape:
    """Size of every batch."""

    atoms: int = 448
    edges: int = 4000
    pairs: int = 8000
    structures: int = 64


@dataclass
class Dataset:
    """All structures one after another; neighbours are found once."""

    system: System
    short: Neighbors
    long: Neighbors
    labels: dict[str, Tensor]
    kind: np.ndarray
    starts: dict[str, np.ndarray]
    """Where each structure's atoms, edges and pairs begin (S+1 numbers each)."""


@dataclass(frozen=True)
class Batch:
    """Tensors of fixed shape; `weight` is 1 for real atoms and 0 for dummies."""

    positions: Tensor
    numbers: Tensor
    batch: Tensor
    charge: Tensor
    i: Tensor
    j: Tensor
    offset: Tensor
    pair_i: Tensor
    pair_j: Tensor
    pair_offset: Tensor
    limit: Tensor
    forces: Tensor
    node_energy: Tensor
    charges: Tensor
    hirshfeld: Tensor
    weight: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        return tuple(getattr(self, f.name) for f in fields(self))


def read_dataset(data: dict[str, np.ndarray], cutoff: float, periodic_cutoff: float) -> Dataset:
    """Put a labelled set into memory with its neighbour lists."""
    system = system_of(data, range(len(data["energy"])))
    far = torch.where(system.pbc.any(-1), periodic_cutoff, torch.inf).double()
    short = find_neighbors(system, cutoff, long_range_cutoff=far)
    assert short.long_range is not None
    starts = {"atoms": data["offsets"]}
    for name, edges in (("edges", short), ("pairs", short.long_range)):
        counts = torch.bincount(system.batch[edges.i], minlength=system.n_structures)
        starts[name] = np.concatenate([[0], np.cumsum(counts.numpy())])
    labels = {k: torch.from_numpy(data[k]) for k in ("forces", "node_energy", "charges", "hirshfeld")}
    return Dataset(system, short, short.long_range, labels, data["kind"], starts)


def epoch(data: Dataset, shape: Shape, rng: np.random.Generator) -> Iterator[Batch]:
    """Every structure once, in random order, packed greedily."""
    limits = {"atoms": shape.atoms - 1, "edges": shape.edges, "pairs": shape.pairs}
    sizes = np.stack([np.diff(data.starts[name]) for name in limits], axis=1)
    top = np.array(list(limits.values()))
    chosen: list[int] = []
    total = np.zeros(3, dtype=np.int64)
    for s in rng.permutation(len(sizes)):
        if (sizes[s] > top).any():
            continue
        if ((total + sizes[s]) > top).any() or len(chosen) == shape.structures - 1:
            yield pack(data, chosen, shape)
            chosen, total = [], np.zeros(3, dtype=np.int64)
        chosen.append(int(s))
        total += sizes[s]


def pack(data: Dataset, chosen: Sequence[int], shape: Shape) -> Batch:
    """The chosen structures as one batch of the given shape."""
    spans = {n: [np.arange(s[k], s[k + 1]) for k in chosen] for n, s in data.starts.items()}
    rows = {n: torch.from_numpy(np.concatenate(parts)) for n, parts in spans.items()}
    counts = [len(part) for part in spans["atoms"]]
    # atom a of the data set is atom a + move of the batch
    move = torch.from_numpy(np.cumsum([0, *counts[:-1]]) - data.starts["atoms"][list(chosen)])
    n, dummy = sum(counts), shape.atoms - 1

    def atoms(values: Tensor, fill: float = 0.0) -> Tensor:
        out = torch.full((shape.atoms, *values.shape[1:]), fill, dtype=values.dtype)
        out[:n] = values[rows["atoms"]]
        return out

    def indices(values: Tensor, name: str, size: int) -> Tensor:
        out = torch.full((size,), dummy)
        moved = torch.repeat_interleave(move, torch.tensor([len(part) for part in spans[name]]))
        out[: len(moved)] = values[rows[name]] + moved
        return out

    def offsets(edges: Neighbors, name: str, size: int) -> Tensor:
        out = torch.zeros(size, 3)
        out[:, 0] = FAR
        out[: len(rows[name])] = 0.0 if edges.offset is None else edges.offset[rows[name]].float()
        return out

    batch = torch.full((shape.atoms,), shape.structures - 1)
    batch[:n] = torch.repeat_interleave(torch.arange(len(chosen)), torch.tensor(counts))
    charge = torch.zeros(shape.structures)
    charge[: len(chosen)] = data.system.charge[list(chosen)].float()
    limit = torch.ones(shape.structures)
    limit[: len(chosen)] = data.long.cutoff[list(chosen)].float()
    weight = torch.zeros(shape.atoms)
    weight[:n] = 1.0
    return Batch(
        positions=atoms(data.system.positions.float()),
        numbers=atoms(data.system.numbers, 1),
        batch=batch,
        charge=charge,
        i=indices(data.short.i, "edges", shape.edges),
        j=indices(data.short.j, "edges", shape.edges),
        offset=offsets(data.short, "edges", shape.edges),
        pair_i=indices(data.long.i, "pairs", shape.pairs),
        pair_j=indices(data.long.j, "pairs", shape.pairs),
        pair_offset=offsets(data.long, "pairs", shape.pairs),
        limit=limit,
        forces=atoms(data.labels["forces"]),
        node_energy=atoms(data.labels["node_energy"]),
        charges=atoms(data.labels["charges"]),
        hirshfeld=atoms(data.labels["hirshfeld"]),
        weight=weight,
    )
