"""Sets of reactions: energies of structures added up with coefficients, and what they should give."""

from __future__ import annotations

import gzip
import io
import json
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import ase
from ase.io import read

from heliodor.errors import InputError
from heliodor.system import read_charge, read_spin
from heliodor.units import HARTREE, KCAL_PER_MOL, KJ_PER_MOL

UNITS = {
    "kcal/mol": 1.0,
    "kj/mol": KJ_PER_MOL / KCAL_PER_MOL,
    "ev": 1.0 / KCAL_PER_MOL,
    "hartree": HARTREE / KCAL_PER_MOL,
}
"""Factors to kcal/mol."""


@dataclass(frozen=True)
class Reaction:
    """Σ c E(name) = reference.

    Attributes:
        name: unique in its set.
        terms: names of structures and their coefficients.
        reference: kcal/mol.
    """

    name: str
    terms: tuple[tuple[str, float], ...]
    reference: float


@dataclass(frozen=True, eq=False)
class ReactionSet:
    """Reactions and the structures they speak of.

    Attributes:
        level: the reference's level of theory as the file says it; empty if it does not.
        source: who made it, as the file says.
        sha256: over both files.
    """

    name: str
    level: str
    source: str
    structures: dict[str, ase.Atoms]
    reactions: tuple[Reaction, ...]
    sha256: str


def read_set(path: str | Path) -> ReactionSet:
    """Read ``NAME.json`` and the structures beside it, ``NAME.xyz`` or ``NAME.xyz.gz``.

    The JSON file holds ``reactions``, a list of ``{"terms": [[name, coefficient], ...], "ref": value}`` (``label``
    names a reaction), and may hold ``set``, ``unit`` (kcal/mol, kJ/mol, eV or hartree), ``level`` and
    ``source_header``. The structures are extended xyz with ``name``, ``charge`` and ``spin_multiplicity`` in their
    comment lines.

    Raises:
        InputError: what cannot be read, a structure that is missing or twice there, atoms or charges that do not
            balance, each with the file and the reaction.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    try:
        data = json.loads(content)
    except ValueError as error:
        raise InputError(f"{path} is no JSON file: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("reactions"), list) or not data["reactions"]:
        raise InputError(f"{path} has no list 'reactions' (docs/accuracy.md shows the format)")
    unit = str(data.get("unit", "kcal/mol"))
    if unit.lower() not in UNITS:
        raise InputError(f"{path}: unit is {unit!r}; it must be one of kcal/mol, kJ/mol, eV, hartree")
    structures, raw = _read_structures(path)
    found = [
        _reaction(entry, number, UNITS[unit.lower()], structures, path)
        for number, entry in enumerate(data["reactions"])
    ]
    header = data.get("source_header") or []
    source = " ".join(str(line).strip() for line in (header if isinstance(header, list) else [header]))
    return ReactionSet(
        str(data.get("set", path.stem)),
        str(data.get("level", "")),
        source,
        structures,
        tuple(_unique(found)),
        sha256(content + raw).hexdigest(),
    )


def _read_structures(path: Path) -> tuple[dict[str, ase.Atoms], bytes]:
    places = [path.with_suffix(".xyz"), path.with_suffix(".xyz.gz")]
    place = next((p for p in places if p.is_file()), None)
    if place is None:
        raise InputError(f"{path}: no structures beside it: neither {places[0].name} nor {places[1].name} exists")
    raw = place.read_bytes()
    try:
        text = (gzip.decompress(raw) if place.suffix == ".gz" else raw).decode()
        frames = read(io.StringIO(text), ":", format="extxyz")
    except (EOFError, IndexError, KeyError, OSError, ValueError) as error:
        raise InputError(f"{place} cannot be read as extended xyz: {error}") from None
    structures: dict[str, ase.Atoms] = {}
    for number, frame in enumerate(frames):
        if "name" not in frame.info:
            raise InputError(f"{place}: structure {number} has no name=... in its comment line")
        name = str(frame.info["name"])
        if name in structures:
            raise InputError(f"{place}: two structures are called {name!r}")
        try:
            read_charge(frame), read_spin(frame)
        except InputError as error:
            raise InputError(f"{place}: {name}: {error}") from None
        structures[name] = frame
    return structures, raw


def _reaction(entry: Any, number: int, factor: float, structures: dict[str, ase.Atoms], path: Path) -> Reaction:
    where = f"{path}: reaction {number}"
    try:
        terms = tuple((str(name), float(coefficient)) for name, coefficient in entry["terms"])
        reference = float(entry["ref"]) * factor
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f'{where} must have "terms": [[name, coefficient], ...] and a number "ref", not {str(entry)[:80]}'
        ) from None
    if not terms or not all(abs(x) < float("inf") for x in (reference, *(c for _, c in terms))):
        raise InputError(f"{where} has no terms, or a number that is not finite")
    missing = [name for name, _ in terms if name not in structures]
    if missing:
        raise InputError(f"{where} speaks of {missing[0]!r}, which is not among the structures")
    atoms: Counter[str] = Counter()
    charge = 0.0
    for name, coefficient in terms:
        for symbol, count in Counter(structures[name].symbols).items():
            atoms[symbol] += coefficient * count  # type: ignore[assignment]
        charge += coefficient * read_charge(structures[name])
    uneven = [symbol for symbol, count in atoms.items() if abs(count) > 1e-6]
    if uneven or abs(charge) > 1e-6:
        raise InputError(f"{where}: {f'atoms of {uneven[0]}' if uneven else 'charges'} do not balance")
    # the first structure alone is what series of distances differ in
    return Reaction(str(entry.get("label") or _main(terms, structures)), terms, reference)


def _main(terms: tuple[tuple[str, float], ...], structures: dict[str, ase.Atoms]) -> str:
    """The complex, or both ends of a change of shape."""
    largest = max(len(structures[name]) for name, _ in terms)
    names = [name for name, _ in terms if len(structures[name]) == largest]
    return " ".join(names[:2])


def _unique(reactions: list[Reaction]) -> list[Reaction]:
    seen: Counter[str] = Counter()
    found = []
    for reaction in reactions:
        seen[reaction.name] += 1
        count = seen[reaction.name]
        name = reaction.name if count == 1 else f"{reaction.name} ({count})"
        found.append(Reaction(name, reaction.terms, reaction.reference))
    return found
