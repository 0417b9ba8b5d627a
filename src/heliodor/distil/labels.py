"""The structures and the teacher's labels on disk, piece by piece: a kill loses one piece at most."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from heliodor.distil.config import StructureChoices
from heliodor.distil.teach import no_use, teach_some
from heliodor.dynamics.files.storage import write_durably
from heliodor.errors import InputError
from heliodor.potential import Potential
from heliodor.train.dataset import Dataset, join

PIECE = 1000
"""Structures labelled at a time."""

Say = Callable[[str, int, int], None]


def label_pieces(
    teacher: Potential, structures: Dataset, folder: Path, choices: StructureChoices, name: str, say: Say
) -> tuple[Dataset, dict[str, int]]:
    """Labels of all structures; pieces that an earlier, killed call finished are read instead.

    Args:
        folder: of the pieces; it belongs to one set of structures, one teacher and one set of choices.
        name: of the level of theory.

    Returns:
        The labelled structures, and how many were left out, by reason.

    Raises:
        InputError: no structure is left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = teacher.periodic_long_range_cutoff
    teacher.periodic_long_range_cutoff = choices.periodic_cutoff
    try:
        pieces = []
        for number, begin in enumerate(range(0, len(structures), PIECE)):
            chunk = structures.take(range(begin, min(begin + PIECE, len(structures))))
            pieces.append(_piece(teacher, chunk, folder / f"{number:05d}", choices, name))
            say("structures labelled", min(begin + PIECE, len(structures)), len(structures))
    finally:
        teacher.periodic_long_range_cutoff = before
    left_out: dict[str, int] = {}
    for _, counts in pieces:
        for why, count in counts.items():
            left_out[why] = left_out.get(why, 0) + count
    kept = [part for part, _ in pieces if part is not None]
    if not kept:
        raise no_use(teacher, len(structures), left_out)
    return join(kept), left_out


def _piece(
    teacher: Potential, chunk: Dataset, stem: Path, choices: StructureChoices, name: str
) -> tuple[Dataset | None, dict[str, int]]:
    file, notes = stem.with_suffix(".h5"), stem.with_suffix(".json")
    if notes.exists():
        counts = json.loads(notes.read_text())
        return (Dataset.read(file) if file.exists() else None), counts
    # a piece may be all of one unusable kind
    found, counts = teach_some(teacher, chunk, name=name, max_force=choices.max_force)
    if found is not None:
        found.write(file)
    write_durably(notes, json.dumps(counts).encode())
    return found, counts


def split_buckets(data: Dataset, choices: StructureChoices, seed: int) -> tuple[Dataset, Dataset, Dataset]:
    """Training, validation and test sets of generated structures: no molecule is in two of them, be it in a dimer.

    Whole buckets of molecules (`heliodor.distil.structures.groups.bucket_of`) are held out, at least one for each set,
    and structures that mix molecules of a held-out bucket with others are left out.

    Raises:
        InputError: a set would be empty.
    """
    from heliodor.distil.structures.groups import BUCKETS, buckets_of

    found_in = [buckets_of(str(group)) for group in data.group]
    whole = frozenset().union(*(found for found in found_in if len(found) == 1))
    # of few structures, buckets that have one of their own come first
    order = sorted(
        np.random.default_rng([seed, 5]).permutation(BUCKETS).tolist(), key=lambda bucket: bucket not in whole
    )
    n_test, n_valid = (max(1, round(share * BUCKETS)) for share in (choices.test, choices.validation))
    test, valid = frozenset(order[:n_test]), frozenset(order[n_test : n_test + n_valid])
    part = np.full(len(data), -1)
    for k, found in enumerate(found_in):
        if not found & (test | valid):
            part[k] = 0
        elif found <= valid or found <= test:
            part[k] = 1 if found <= valid else 2
    return _parts(data, part)


def split_groups(data: Dataset, choices: StructureChoices, seed: int) -> tuple[Dataset, Dataset, Dataset]:
    """Training, validation and test sets of each kind, whole groups of it.

    A group with structures of several kinds goes as a whole with the kind of its first one.

    Raises:
        InputError: a set would be empty.
    """
    random = np.random.default_rng([seed, 5])
    part = np.zeros(len(data), dtype=np.int64)
    # an empty group says nothing: such structures stand alone
    group = np.array([str(g) or f"\0alone {k}" for k, g in enumerate(data.group)])
    _, first, owner = np.unique(group, return_index=True, return_inverse=True)
    kinds = data.kind[first][owner]
    for kind in np.unique(kinds):
        mine = np.flatnonzero(kinds == kind)
        names, inverse, sizes = np.unique(group[mine], return_inverse=True, return_counts=True)
        room = {1: choices.validation * len(mine), 2: choices.test * len(mine)}
        for k in random.permutation(len(names)):
            for which in (2, 1):
                # rounding up: every kind that has several groups is represented
                if room[which] > 0 and (sizes[k] <= room[which] or sizes[k] <= 0.2 * len(mine)):
                    part[mine[inverse == k]] = which
                    room[which] -= sizes[k]
                    break
    return _parts(data, part)


def _parts(data: Dataset, part: np.ndarray) -> tuple[Dataset, Dataset, Dataset]:
    sets = [np.flatnonzero(part == which) for which in range(3)]
    for words, chosen in zip(("training", "validation", "test"), sets, strict=True):
        if not len(chosen):
            groups = len(np.unique(data.group))
            raise InputError(
                f"the {words} set would be empty: {len(data)} structures in {groups} groups are too few; "
                "take more, or larger shares (structures.validation, structures.test)"
            )
    training, validation, test = (data.take(chosen) for chosen in sets)
    return training, validation, test
