"""Neighbour lists found batch by batch, for sets whose lists would not fit in memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Int

from heliodor.potential import Potential
from heliodor.train.batches import Batch, Lists, Shape, _centres, _dipoles, _searches, find_lists
from heliodor.train.dataset import Dataset
from heliodor.train.references import References

SAMPLE = 200
"""Structures from which the memory of all lists is estimated."""

SHARE = 0.25
"""Of the free memory, which lists may take."""


@dataclass(frozen=True, eq=False)
class LazyLists(Lists):
    """As `Lists`, with the lists of a batch found when it is made: the same batches to the same bits.

    Numbers of edges and pairs are counted beforehand, once, as batches are cut by them. `i`, `j` and the like are
    empty, and `positions` are those of the set, not moved to the centres.
    """

    model: Potential | None = None
    periodic: bool = False

    def batch(self, chosen: Int[np.ndarray, "s"], shape: Shape | None = None) -> Batch:
        """Structures as one batch, filled up to a shape if one is given (they must fit)."""
        assert self.model is not None
        chosen = np.asarray(chosen, dtype=np.int64)
        part = find_lists(self.dataset.take(chosen), self.model, None, self.dtype)
        known = {"energy": self.energy[chosen], "dipole": self.dipole[chosen], "filler": self.filler}
        if self.periodic:
            # as beside periodic structures of the same set
            known["offset"] = np.zeros((len(part.i), 3)) if part.offset is None else part.offset
            if part.pair_i is not None and part.pair_offset is None:
                known["pair_offset"] = np.zeros((len(part.pair_i), 3))
        made = replace(part, **known).batch(np.arange(len(chosen)), shape)
        index = torch.full_like(made.index, -1)
        index[: len(chosen)] = torch.from_numpy(chosen)
        return replace(made, index=index)


def count_lists(
    dataset: Dataset,
    model: Potential,
    references: References | None,
    dtype: torch.dtype = torch.float32,
    progress: Callable[[int, int], None] | None = None,
) -> LazyLists:
    """What `find_lists` gives, without the lists themselves.

    Args:
        progress: called with the structures done and their number.
    """
    sizes = []
    for system, found in _searches(dataset, model, progress):
        n = system.n_structures
        columns = [system.counts, torch.bincount(system.batch[found.i], minlength=n)]
        long = found.long_range
        pairs = torch.zeros_like(columns[0]) if long is None else torch.bincount(system.batch[long.i], minlength=n)
        sizes.append(torch.stack([*columns, pairs], dim=1).numpy())
    table = np.concatenate(sizes)
    nothing = np.zeros(0, dtype=np.int32)
    return LazyLists(
        dataset=dataset,
        positions=dataset.positions,
        energy=dataset.energy - (0.0 if references is None else references.sums(dataset)),
        dipole=_dipoles(dataset, _centres(dataset.positions, dataset.offsets[:-1], dataset.counts)),
        sizes=table,
        starts=np.concatenate([np.zeros((1, 3), dtype=table.dtype), table.cumsum(0)]),
        i=nothing,
        j=nothing,
        offset=None,
        pair_i=None,
        pair_j=None,
        pair_offset=None,
        cutoff=float(model.cutoff),
        limit=None,
        dtype=dtype,
        filler=dataset.elements[0],
        model=model,
        periodic=bool(dataset.pbc.any()),
    )


def lists_for(
    dataset: Dataset,
    model: Potential,
    references: References | None,
    dtype: torch.dtype = torch.float32,
    progress: Callable[[int, int], None] | None = None,
    room: float | None = None,
) -> Lists:
    """All lists at once where they fit into memory, else batch by batch.

    Args:
        room: bytes that they may take; a share of the free memory by default.
    """
    limit = SHARE * free_memory() if room is None else room
    lazy = bytes_of_lists(dataset, model) > limit
    return (count_lists if lazy else find_lists)(dataset, model, references, dtype, progress)


def bytes_of_lists(dataset: Dataset, model: Potential) -> float:
    """What `find_lists` would keep, estimated from a sample."""
    rows = np.unique(np.linspace(0, len(dataset) - 1, SAMPLE).astype(np.int64))
    sample = find_lists(dataset.take(rows), model, None)
    arrays = (getattr(sample, f.name) for f in fields(sample))
    size = sum(a.nbytes for a in arrays if isinstance(a, np.ndarray))
    return float(size) * len(dataset) / len(rows)


def free_memory() -> float:
    """Bytes that the system has left for programs; 4 GiB where it does not say."""
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                if line.startswith("MemAvailable"):
                    return 1024.0 * float(line.split()[1])
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError):
        return 4.0 * 2**30
