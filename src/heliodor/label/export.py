"""From a store of labels to what training reads: a data set, or an extxyz file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase

from heliodor.errors import InputError, suggestion
from heliodor.label.label import Label
from heliodor.label.rows import Row
from heliodor.label.store import Store

if TYPE_CHECKING:
    from heliodor.train.dataset import Dataset


def export(store: Store | str | Path, frames: Iterable[ase.Atoms] | None = None, method: str | None = None) -> Dataset:
    """The labelled structures of a store.

    Args:
        frames: which, and in which order; their own ``info["kind"]`` and ``["group"]`` are kept. By default all, in
            the order in which they were added, with the kind and group they were added with.
        method: of those of the store; may be left out where it holds one.

    Returns:
        A data set whose ``notes`` hold: ``failed``, ``waiting`` and ``unknown``, the numbers of structures left out
        because labelling failed, has not been done, or was never asked for, ``written``, the number of the others, and
        ``versions`` of the programs.

    Raises:
        InputError: no such method, several of them, or nothing labelled.
    """
    from heliodor.train.dataset import Dataset

    chosen, labels, notes, name = _labelled(store, frames, method)
    return replace(Dataset.from_atoms(chosen, labels, name), notes=notes)


def write_extxyz(
    store: Store | str | Path,
    path: str | Path,
    frames: Iterable[ase.Atoms] | None = None,
    method: str | None = None,
) -> dict[str, Any]:
    """`export` into an extxyz file (eV, eV/Å, e·Å, e), complete or not at all; the notes.

    Raises:
        InputError: as `export`; or the file cannot be written.
    """
    import ase.io

    chosen, labels, notes, name = _labelled(store, frames, method)
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        ase.io.write(part, [_with_label(a, b, name) for a, b in zip(chosen, labels, strict=True)], format="extxyz")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"{path} could not be written: {error.strerror or error}") from None
    return notes


def _labelled(
    store: Store | str | Path, frames: Iterable[ase.Atoms] | None, method: str | None
) -> tuple[list[ase.Atoms], list[Label], dict[str, Any], str]:
    if isinstance(store, (str, Path)):
        with Store(store, create=False) as opened:
            return _labelled(opened, frames, method)
    name = _the_method(store, method)
    chosen: list[ase.Atoms] = []
    labels: list[Label] = []
    versions: dict[str, set[str]] = {}
    left = {"failed": 0, "waiting": 0, "unknown": 0}

    def look(row: Row | None, given: ase.Atoms | None) -> None:
        if row is None:
            left["unknown"] += 1
        elif row.label is None:
            left["failed" if row.state == "failed" else "waiting"] += 1
        else:
            chosen.append(row.atoms if given is None else given)
            labels.append(row.label)
            for program, version in row.versions.items():
                versions.setdefault(program, set()).add(version)

    if frames is None:
        counts = store.counts(name)
        left |= {"failed": counts.failed, "waiting": counts.left}
        for row in store.rows("done", name):
            look(row, None)
    else:
        for frame in frames:
            look(store.find(frame, name), frame)
    if not chosen:
        raise InputError(
            f"{store.path} has no labels by {name} to export: {left['failed']} failed, {left['waiting']} wait"
        )
    notes = left | {
        "written": len(chosen),
        "versions": {program: sorted(found) for program, found in sorted(versions.items())},
    }
    return chosen, labels, notes, name


def _the_method(store: Store, method: str | None) -> str:
    known = store.methods()
    if not known:
        raise InputError(f"{store.path} is empty")
    if method is None:
        if len(known) > 1:
            raise InputError(f"{store.path} holds labels of several methods, say which: {', '.join(known)}")
        return known[0]
    if method not in known:
        raise InputError(
            f"{store.path} holds nothing by {method!r}{suggestion(method, known)}; it has {', '.join(known)}"
        )
    return method


def _with_label(atoms: ase.Atoms, label: Label, method: str) -> ase.Atoms:
    from ase.calculators.singlepoint import SinglePointCalculator

    frame = atoms.copy()
    frame.info = {k: v for k, v in frame.info.items() if not (isinstance(v, str) and not v)} | {"method": method}
    results = {"energy": label.energy, "forces": label.forces, "dipole": label.dipole, "charges": label.charges}
    frame.calc = SinglePointCalculator(frame, **{name: value for name, value in results.items() if value is not None})
    if label.hirshfeld_ratios is not None:
        frame.set_array("hirshfeld_ratios", label.hirshfeld_ratios)
    return frame
