"""Restraints: springs on distances, angles, dihedrals and places, as plain data that a YAML file can hold.

`heliodor.dynamics.Restrained` adds their energy to a potential. All have the energy k/2 x², x being how far the
quantity is outside of value ± flat, so that a flat bottom costs nothing inside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any

from heliodor.errors import InputError, suggestion


@dataclass(frozen=True)
class DistanceRestraint:
    """Between two atoms, or their nearest images.

    Attributes:
        atoms: two indices, counted from zero within a structure.
        value: Å.
        k: eV/Å².
        flat: half the width of the flat bottom, Å.
        structure: which structure of a batch; None for every one.

    Raises:
        InputError: values that mean nothing; the same atom twice.
    """

    atoms: tuple[int, ...]
    value: float
    k: float
    flat: float = 0.0
    structure: int | None = None

    def __post_init__(self) -> None:
        _check(self, n_atoms=2, least=0.0, most=math.inf)


@dataclass(frozen=True)
class AngleRestraint:
    """The angle i-j-k at the middle atom.

    Attributes:
        atoms: three indices, counted from zero within a structure.
        value: degrees, 0 to 180.
        k: eV/rad².
        flat: half the width of the flat bottom, degrees.
        structure: which structure of a batch; None for every one.

    Raises:
        InputError: values that mean nothing; the same atom twice.
    """

    atoms: tuple[int, ...]
    value: float
    k: float
    flat: float = 0.0
    structure: int | None = None

    def __post_init__(self) -> None:
        _check(self, n_atoms=3, least=0.0, most=180.0)


@dataclass(frozen=True)
class DihedralRestraint:
    """The dihedral i-j-k-l, IUPAC sign, cis is 0. Differences are taken modulo 360°.

    Attributes:
        atoms: four indices, counted from zero within a structure.
        value: degrees.
        k: eV/rad².
        flat: half the width of the flat bottom, degrees.
        structure: which structure of a batch; None for every one.

    Raises:
        InputError: values that mean nothing; the same atom twice.
    """

    atoms: tuple[int, ...]
    value: float
    k: float
    flat: float = 0.0
    structure: int | None = None

    def __post_init__(self) -> None:
        _check(self, n_atoms=4, least=-360.0, most=360.0)


@dataclass(frozen=True)
class PositionRestraint:
    """Each of some atoms to its place. In periodic structures the places move with the cell.

    Attributes:
        atoms: indices, counted from zero within a structure.
        k: eV/Å².
        reference: x, y, z of each of the atoms, Å; None for where they are at the start.
        flat: radius within which an atom is free, Å.
        structure: which structure of a batch; None for every one.

    Raises:
        InputError: values that mean nothing; the same atom twice.
    """

    atoms: tuple[int, ...]
    k: float
    reference: tuple[tuple[float, ...], ...] | None = None
    flat: float = 0.0
    structure: int | None = None

    def __post_init__(self) -> None:
        _check(self, n_atoms=None, least=0.0, most=0.0)
        if self.reference is None:
            return
        rows = [len(row) == 3 and all(_is_number(x) for x in row) for row in self.reference]
        if len(rows) != len(self.atoms) or not all(rows):
            raise InputError(f"{describe(self)}: reference must be x, y, z for each of its {len(self.atoms)} atoms")


Restraint = DistanceRestraint | AngleRestraint | DihedralRestraint | PositionRestraint

KINDS: dict[str, type[Restraint]] = {
    "distance": DistanceRestraint,
    "angle": AngleRestraint,
    "dihedral": DihedralRestraint,
    "position": PositionRestraint,
}
"""By the name a file gives."""


def describe(restraint: Restraint) -> str:
    """Such as ``"distance restraint of atoms 0, 5"``."""
    names = [str(atom) for atom in restraint.atoms]
    shown = names if len(names) <= 6 else [*names[:5], "..."]
    return f"{kind_of(restraint)} restraint of atom{'s' * (len(names) > 1)} {', '.join(shown)}"


def kind_of(restraint: Restraint) -> str:
    """Its name in files."""
    return next(name for name, cls in KINDS.items() if isinstance(restraint, cls))


def read_restraints(data: Any) -> tuple[Restraint, ...]:
    """Restraints from plain data, as a YAML or JSON file gives it.

    Args:
        data: a list of mappings such as ``{"kind": "distance", "atoms": [0, 5], "value": 3.0, "k": 10.0}``, with the
            attributes of the restraints as keys; or one such mapping; or a mapping with the list as ``restraints``.

    Raises:
        InputError: unknown kind or key, missing or unusable values, named by the restraint's place in the list.
    """
    if isinstance(data, Mapping):
        if set(data) == {"restraints"}:
            return read_restraints(data["restraints"])
        data = [data]
    if isinstance(data, str) or not isinstance(data, Sequence):
        raise InputError(f"restraints must be a list, not {data!r}")
    result = []
    for index, entry in enumerate(data):
        try:
            result.append(_read(entry))
        except InputError as error:
            raise InputError(f"restraint {index}: {error}") from None
    return tuple(result)


def to_dict(restraint: Restraint) -> dict[str, Any]:
    """Plain data that `read_restraints` reads; defaults are left out."""
    data: dict[str, Any] = {"kind": kind_of(restraint)}
    for f in fields(restraint):
        value = getattr(restraint, f.name)
        if value != f.default:
            data[f.name] = _listed(value)
    return data


def _read(entry: Any) -> Restraint:
    if not isinstance(entry, Mapping):
        raise InputError(f"write a mapping with kind, atoms, k and so on, not {entry!r}")
    kind = entry.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(f"there is no restraint of the kind {kind!r}{_meant(kind, list(KINDS))}")
    cls = KINDS[kind]
    known = {f.name: f for f in fields(cls)}
    for key in entry:
        if key != "kind" and key not in known:
            raise InputError(f"a {kind} restraint has no {key!r}{_meant(key, list(known))}")
    missing = [name for name, f in known.items() if f.default is MISSING and name not in entry]
    if missing:
        raise InputError(f"a {kind} restraint needs {' and '.join(missing)}")
    values = {key: value for key, value in entry.items() if key != "kind"}
    atoms = values["atoms"]
    if isinstance(atoms, str) or not isinstance(atoms, Sequence) or not all(type(a) is int for a in atoms):
        raise InputError(f"atoms must be a list of indices, not {atoms!r}")
    values["atoms"] = tuple(atoms)
    for key in ("value", "k", "flat"):
        if key in values:
            if not _is_number(values[key]):
                raise InputError(f"{key} must be a number, not {values[key]!r}")
            values[key] = float(values[key])
    structure = values.get("structure")
    if structure is not None and type(structure) is not int:
        raise InputError(f"structure must be the index of a structure, not {structure!r}")
    reference = values.get("reference")
    if reference is not None:
        rows = isinstance(reference, Sequence) and not isinstance(reference, str)
        if not rows or not all(isinstance(row, Sequence) and all(map(_is_number, row)) for row in reference):
            raise InputError("reference must be a list of x, y, z")
        values["reference"] = tuple(tuple(float(x) for x in row) for row in reference)
    return cls(**values)


def _check(restraint: Any, n_atoms: int | None, least: float, most: float) -> None:
    name = describe(restraint)
    count = len(restraint.atoms)
    if count != n_atoms and (n_atoms is not None or count == 0):
        raise InputError(f"{name}: it needs {n_atoms or 'some'} atoms, not {count}")
    if len(set(restraint.atoms)) < count:
        raise InputError(f"{name}: the same atom stands twice")
    if min(restraint.atoms) < 0 or (restraint.structure or 0) < 0:
        raise InputError(f"{name}: atoms and structures are counted from 0")
    if not 0.0 < restraint.k < math.inf:
        raise InputError(f"{name}: k must be positive, not {restraint.k:g}")
    if not 0.0 <= restraint.flat < math.inf:
        raise InputError(f"{name}: flat must not be negative, and is {restraint.flat:g}")
    value = getattr(restraint, "value", 0.0)
    if not (math.isfinite(value) and least <= value <= most):
        raise InputError(f"{name}: a value of {value:g} is not possible")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _listed(value: Any) -> Any:
    return [_listed(x) for x in value] if isinstance(value, tuple) else value


def _meant(word: Any, known: list[str]) -> str:
    return suggestion(word, known) or f"; there are {', '.join(known)}"
