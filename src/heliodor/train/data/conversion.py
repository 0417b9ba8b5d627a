"""Files into one shelf (or HDF5 file): streamed, filtered, taken up again after a kill."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.errors import InputError
from heliodor.train.data.distances import measure_shapes
from heliodor.train.data.duplicates import TOLERANCE, find_duplicates
from heliodor.train.data.reading import Source, Wanted
from heliodor.train.dataset import Dataset
from heliodor.train.shelf import ShelfWriter, is_shelf, open_shelf, read_manifest

UNFINISHED = ".unfinished"
"""Added to the name of a target while it is being made."""

BLOCK = 400_000
"""Atoms copied at a time."""


@dataclass(frozen=True)
class Filters:
    """What is left out.

    Attributes:
        max_force: eV/Å; structures with a stronger force on an atom.
        min_distance: Å; structures with closer atoms.
        drop_duplicates: structures that occurred before.
        tolerance: Å, by which distances of the same structure may differ.
    """

    max_force: float | None = None
    min_distance: float | None = None
    drop_duplicates: bool = False
    tolerance: float = TOLERANCE


@dataclass(frozen=True)
class Converted:
    """What was done.

    Attributes:
        read, written: structures.
        dropped: how many were left out, by reason.
        examples: numbers (in the order read; of duplicates, among those that were kept otherwise) of some of those.
        resumed: structures that an earlier, interrupted run had read.
    """

    read: int
    written: int
    dropped: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[int]] = field(default_factory=dict)
    resumed: int = 0


def convert(
    sources: Sequence[Source],
    target: str | Path,
    filters: Filters | None = None,
    *,
    wanted: Wanted | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Converted:
    """Write sources, one after the other, to a shelf, or to an HDF5 file if the target ends in .h5.

    Work is done in ``TARGET.unfinished``, a shelf. If something stops it, the same call goes on from there; the target
    appears when it is complete. An HDF5 file is made in memory.

    Args:
        wanted: what was said about the sources, kept so that a call with other words does not go on with old work.
        progress: called with the structures read and their number.

    Raises:
        InputError: the target exists; unfinished work of other settings lies there; nothing is left; bad labels.
        ShelfError: it cannot be written.
    """
    target, filters = Path(target), filters or Filters()
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists: choose another name, or --overwrite")
    check_target(target)
    work = target.with_name(target.name + UNFINISHED)
    plan = _plan(sources, filters, wanted)
    if is_shelf(work) and read_manifest(work)["notes"].get("plan") != plan:
        if not overwrite:
            raise InputError(f"{work} is the unfinished work of another conversion: delete it, or use --overwrite")
        shutil.rmtree(work)
    total = sum(source.total for source in sources)
    with ShelfWriter(work) as shelf:
        notes = shelf.notes
        notes["plan"] = plan
        state = notes.setdefault("state", {"read": 0, "dropped": {}, "examples": {}})
        resumed = int(state["read"])
        try:
            for block in _blocks(sources, resumed):
                kept = filter_block(block, filters, state)
                state["read"] += len(block)
                if len(kept):
                    shelf.append(kept)
                else:
                    shelf.save_notes()
                if progress is not None:
                    progress(state["read"], total)
        except InputError:
            # a mended file or other options are another conversion, in whose way this one's work would lie
            shutil.rmtree(work)
            raise
    data = open_shelf(work)
    if filters.drop_duplicates and len(data):
        data = _without_duplicates(data, work, filters, state)
    if len(data) == 0:
        shutil.rmtree(work)
        raise InputError(f"no structure is left of {state['read']}: {_dropped(state['dropped'])}")
    written = len(data)
    _finish(data, work, target)
    return Converted(int(state["read"]), written, dict(state["dropped"]), dict(state["examples"]), resumed)


def copy_to(data: Dataset, indices: np.ndarray, target: str | Path, notes: dict[str, Any] | None = None) -> None:
    """Some structures of a set as a shelf, or an HDF5 file if the target ends in .h5.

    Raises:
        InputError: the target is something else.
        ShelfError: it cannot be written.
    """
    target = Path(target)
    check_target(target)
    if _is_file_name(target):
        data.take(indices).write(target)
        return
    work = target.with_name(target.name + UNFINISHED)
    if work.exists():
        shutil.rmtree(work)
    _copy(data, indices, work, notes or {})
    _put(work, target)


def _copy(data: Dataset, indices: np.ndarray, path: Path, notes: dict[str, Any]) -> None:
    with ShelfWriter(path, data.method) as shelf:
        shelf.notes.update(notes)
        counts = np.concatenate([[0], np.cumsum(data.counts[indices])])
        begin = 0
        while begin < len(indices):
            end = max(int(np.searchsorted(counts, counts[begin] + BLOCK, side="right")) - 1, begin + 1)
            shelf.append(data.take(indices[begin:end]))
            begin = end
        shelf.save_notes()


def _is_file_name(target: Path) -> bool:
    return target.suffix.lower() in (".h5", ".hdf5")


def check_target(target: Path) -> None:
    """Whether a set may be written there: only one of the same form may be replaced.

    Raises:
        InputError: a folder that is no shelf, or a file where a shelf should be.
    """
    if target.is_dir() and (_is_file_name(target) or not is_shelf(target)):
        raise InputError(f"{target} is a folder{'' if is_shelf(target) else ' and no shelf'}: choose another name")
    if target.is_file() and not _is_file_name(target):
        raise InputError(f"{target} is a file, and a shelf is a folder: choose another name, or one that ends in .h5")


def _plan(sources: Sequence[Source], filters: Filters, wanted: Wanted | None) -> dict[str, Any]:
    files = [[str(s.path), s.total, s.path.stat().st_size, list(s.said)] for s in sources]
    said = None if wanted is None else asdict(wanted)
    plan: dict[str, Any] = json.loads(json.dumps({"files": files, "filters": asdict(filters), "wanted": said}))
    return plan


def _blocks(sources: Sequence[Source], skip: int) -> Iterator[Dataset]:
    for source in sources:
        if skip < source.total:
            yield from source.blocks(skip)
        skip = max(0, skip - source.total)


def filter_block(block: Dataset, filters: Filters, state: dict[str, Any]) -> Dataset:
    """A block without structures of too strong forces or too close atoms.

    Args:
        state: ``read`` is the number of structures before the block; ``dropped`` and ``examples`` are added to, as in
            `Converted`.
    """
    keep = np.ones(len(block), dtype=bool)
    if filters.max_force is not None:
        strong = np.linalg.norm(block.forces, axis=1) > filters.max_force
        _leave_out(np.logical_or.reduceat(strong, block.offsets[:-1]), keep, "force", state)
    if filters.min_distance is not None:
        _leave_out(measure_shapes(block).shortest < filters.min_distance, keep, "distance", state)
    return block if keep.all() else block.take(np.flatnonzero(keep))


def _leave_out(bad: np.ndarray, keep: np.ndarray, reason: str, state: dict[str, Any]) -> None:
    out = np.flatnonzero(bad & keep)
    keep[out] = False
    if len(out):
        state["dropped"][reason] = state["dropped"].get(reason, 0) + len(out)
        listed = state["examples"].setdefault(reason, [])
        listed += [int(k) + state["read"] for k in out[: max(0, 10 - len(listed))]]


def _without_duplicates(data: Dataset, work: Path, filters: Filters, state: dict[str, Any]) -> Dataset:
    first = find_duplicates(data, filters.tolerance)
    again = np.flatnonzero(first != np.arange(len(data)))
    if not len(again):
        return data
    state["dropped"]["duplicate"] = len(again)
    state["examples"]["duplicate"] = again[:10].tolist()
    other = work.with_name(work.name + "2")
    shutil.rmtree(other, ignore_errors=True)
    _copy(data, np.setdiff1d(np.arange(len(data)), again), other, {**data.notes, "state": state})
    shutil.rmtree(work)
    other.replace(work)
    return open_shelf(work)


def _finish(data: Dataset, work: Path, target: Path) -> None:
    if _is_file_name(target):
        data.write(target)
        shutil.rmtree(work)
    else:
        _put(work, target)


def _put(work: Path, target: Path) -> None:
    # a folder cannot be renamed over another
    if target.is_dir():
        shutil.rmtree(target)
    work.replace(target)


def _dropped(dropped: dict[str, int]) -> str:
    return ", ".join(f"{count} by {reason}" for reason, count in dropped.items()) or "there were none"
