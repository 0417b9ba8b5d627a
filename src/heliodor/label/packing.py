"""Structures and labels as bytes, and the hash that names a job by its content."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import ase
import numpy as np

from heliodor.errors import InputError
from heliodor.label.label import Label

ROUNDED = 1e-8
"""Å; structures whose coordinates agree to this are the same: extxyz files keep no more."""

ARRAYS = ("forces", "dipole", "hirshfeld_ratios", "charges")


def pack_structure(atoms: ase.Atoms) -> bytes:
    """What a method may look at: numbers, positions, cell, periodicity, charge, unpaired electrons."""
    # here, as it brings torch, which a worker's child may do without
    from heliodor.system import read_charge, read_spin

    meta = {"charge": read_charge(atoms), "spin": read_spin(atoms), "pbc": [bool(p) for p in atoms.pbc]}
    arrays = {"numbers": atoms.numbers.astype("<i2"), "positions": atoms.positions.astype("<f8")}
    if atoms.cell.rank:
        arrays["cell"] = atoms.cell.array.astype("<f8")
    return _pack(meta, arrays)


def unpack_structure(content: bytes) -> ase.Atoms:
    """The inverse of `pack_structure`."""
    meta, arrays = _unpack(content)
    return ase.Atoms(
        arrays["numbers"].astype(np.int64),
        arrays["positions"],
        cell=arrays.get("cell"),
        pbc=meta["pbc"],
        info={"charge": meta["charge"], "spin": meta["spin"]},
    )


def pack_label(label: Label) -> bytes:
    """A label in full precision."""
    meta = {"energy": float(label.energy), "terms": {k: float(v) for k, v in label.terms.items()}}
    given = {name: getattr(label, name) for name in ARRAYS}
    arrays = {name: np.asarray(value).astype("<f8") for name, value in given.items() if value is not None}
    return _pack(meta | {"notes": list(label.notes)}, arrays)


def unpack_label(content: bytes) -> Label:
    """The inverse of `pack_label`."""
    meta, arrays = _unpack(content)
    return Label(meta["energy"], terms=meta["terms"], notes=tuple(meta["notes"]), **arrays)


def content_hash(atoms: ase.Atoms, method: str) -> bytes:
    """32 bytes that name a job: what `pack_structure` keeps, with lengths rounded to 1e-8 Å, and the method's name.

    The order of the atoms counts: results are given per atom.

    Raises:
        InputError: no atoms, positions or a cell that are not finite, or a charge or spin that cannot be read.
    """
    from heliodor.system import read_charge, read_spin

    if not len(atoms):
        raise InputError("it has no atoms")
    cell = atoms.cell.array
    if not (np.isfinite(atoms.positions).all() and np.isfinite(cell).all()):
        raise InputError("it has positions or a cell that are not finite")
    if (atoms.numbers < 1).any():
        raise InputError("it has atoms without an element")
    words = [method, repr(read_charge(atoms)), repr(read_spin(atoms)), repr([bool(p) for p in atoms.pbc])]
    digest = hashlib.sha256("\n".join(words).encode())
    digest.update(atoms.numbers.astype("<i2").tobytes())
    for lengths in (atoms.positions, cell):
        # as integers: minus zero is zero
        digest.update(np.rint(lengths / ROUNDED).astype("<i8").tobytes())
    return digest.digest()


def _pack(meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> bytes:
    shapes = [[name, value.dtype.str, list(value.shape)] for name, value in arrays.items()]
    head = json.dumps([meta, shapes], separators=(",", ":")).encode()
    return b"".join([len(head).to_bytes(4, "little"), head, *(value.tobytes() for value in arrays.values())])


def _unpack(content: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    start = 4 + int.from_bytes(content[:4], "little")
    meta, shapes = json.loads(content[4:start])
    arrays = {}
    for name, kind, shape in shapes:
        count = int(np.prod(shape, dtype=int))
        arrays[name] = np.frombuffer(content, kind, count, start).reshape(shape).copy()
        start += arrays[name].nbytes
    return meta, arrays
