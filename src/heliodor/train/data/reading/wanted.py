"""Which keys of a file are labels, and in which units they are: as the caller says, or found and said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from heliodor.errors import InputError, suggestion
from heliodor.train.data.reading.units import energy_factor, length_factor, unit_factor

LABELS = ("energy", "forces", "stress", "dipole", "hirshfeld_ratios", "charges")
FACTS = ("charge", "spin", "multiplicity", "kind", "group")

CANDIDATES: dict[str, tuple[str, ...]] = {
    "energy": ("energy", "REF_energy", "dft_energy", "E", "energies", "total_energy", "dft_total_energy"),
    "forces": (
        *("forces", "force", "REF_forces", "dft_forces", "F", "dft_total_gradient", "gradient", "gradients"),
        *("dft_total_force", "total_force"),
    ),
    "stress": ("stress", "REF_stress", "virial", "virials", "REF_virials"),
    "dipole": ("dipole", "REF_dipole", "dipoles", "D", "scf_dipole", "dipole_eA"),
    "hirshfeld_ratios": ("hirshfeld_ratios", "hirsh_ratios"),
    "charges": ("charges", "mbis_charges", "mbi_charges", "charges_ref", "REF_charges", "hirshfeld_charges"),
    "charge": ("charge", "total_charge", "Q"),
    "spin": ("spin", "num_unpaired_electrons"),
    "multiplicity": ("multiplicity", "spin_multiplicity", "mult"),
    "kind": ("kind", "config_type", "subset"),
    "group": ("group",),
    "positions": ("R", "coords", "coordinates", "positions", "pos", "coord", "conformations"),
    "numbers": ("z", "Z", "nuclear_charges", "atomic_numbers", "numbers", "species"),
    "cell": ("cell", "lattice"),
    "pbc": ("pbc",),
}
"""Names that are taken where the caller does not say, if just one of them is there."""


@dataclass(frozen=True)
class Wanted:
    """What the caller says about a file; what is not said is looked for, and told.

    Attributes:
        keys: by our names (`LABELS`, `FACTS`, "positions", "numbers"), the file's.
        energy_unit, length_unit: of energies and of positions, such as "kcal/mol" and "bohr".
        force_unit: such as "hartree/bohr"; without it, energy over length.
        dipole_unit: "e*Å", "debye" or "e*bohr".
        stress_unit: such as "GPa".
        gradient: the forces of the file are gradients, of the opposite sign.
        method: level of theory.
        unlabelled: take structures without energies and forces too.
        keep_nan: labels that are no numbers become missing ones (and are told); without it they are refused.
    """

    keys: Mapping[str, str] = field(default_factory=dict)
    energy_unit: str | None = None
    length_unit: str | None = None
    force_unit: str | None = None
    dipole_unit: str | None = None
    stress_unit: str | None = None
    gradient: bool = False
    method: str = ""
    unlabelled: bool = False
    keep_nan: bool = False

    @property
    def says_something(self) -> bool:
        """Whether keys or units are given at all."""
        units = (self.energy_unit, self.length_unit, self.force_unit, self.dipole_unit, self.stress_unit)
        return bool(self.keys) or any(unit is not None for unit in units) or self.gradient


@dataclass(frozen=True)
class Units:
    """What a format means where nobody says otherwise; "" if it has no convention."""

    energy: str
    length: str
    origin: str


@dataclass(frozen=True)
class Column:
    """Where a quantity is in the file, and what to multiply it with."""

    key: str
    factor: float = 1.0


def settle(
    path: Path,
    present: Iterable[str],
    wanted: Wanted,
    convention: Units,
    stated: Mapping[str, str] | None = None,
    ignore: Iterable[str] = (),
) -> tuple[dict[str, Column], list[str]]:
    """Choose the columns of a file.

    Args:
        present: its keys.
        convention: units of the format.
        stated: units that the file itself states, by key.
        ignore: keys that need not be called unused.

    Returns:
        Columns by our names, and sentences that say what was decided.

    Raises:
        InputError: as `heliodor.train.data.reading.open_source`.
    """
    names, stated = list(dict.fromkeys(present)), dict(stated or {})
    columns: dict[str, Column] = {}
    said: list[str] = []
    for name in (*LABELS, *FACTS, "positions", "numbers", "cell", "pbc"):
        key = _choose(path, name, names, wanted)
        if key is None:
            continue
        unit, why = _unit(path, name, key, wanted, convention, stated)
        factor = unit_factor(name, unit) if unit else 1.0
        words = f"{name}: {key!r}" + (f" in {unit}{why}" if unit else "")
        if name == "forces" and (wanted.gradient or "grad" in key.lower()):
            factor, words = -factor, words + ", gradients: the sign is turned"
        if name == "spin":
            words += ", taken as the number of unpaired electrons"
        columns[name] = Column(key, factor)
        said.append(words)
    if "energy" not in columns and "forces" not in columns and not wanted.unlabelled:
        raise InputError(
            f"{path} has no energies or forces under a known name; its keys are: {', '.join(names) or 'none'}. "
            "Say which they are (--energy-key, --forces-key), or that there are none (--unlabelled)"
        )
    if not wanted.unlabelled:
        said += [f"{name}: none" for name in ("energy", "forces") if name not in columns]
    if "charge" not in columns:
        said.append("charge: no such key, taken as 0 for all")
    used = {column.key for column in columns.values()} | set(ignore)
    if unused := [name for name in names if name not in used]:
        said.append(f"not used: {', '.join(unused[:20])}{' ...' if len(unused) > 20 else ''}")
    return columns, said


def _choose(path: Path, name: str, names: list[str], wanted: Wanted) -> str | None:
    asked = wanted.keys.get(name)
    if asked is not None:
        if asked not in names:
            raise InputError(
                f"{path} has no key {asked!r} for {name}{suggestion(asked, names)}; its keys are: {', '.join(names)}"
            )
        return asked
    taken = set(wanted.keys.values())
    found = [key for key in CANDIDATES[name] if key in names and key not in taken]
    if name == "multiplicity" and any(key in names for key in CANDIDATES["spin"]):
        return None
    if len(found) > 1:
        option = f"--{name.replace('_', '-')}-key"
        raise InputError(f"{path} has several keys that could be {name}: {', '.join(found)}; say which by {option}")
    return found[0] if found else None


def _unit(
    path: Path, name: str, key: str, wanted: Wanted, convention: Units, stated: Mapping[str, str]
) -> tuple[str, str]:
    """The unit's words and where they come from."""
    asked = {
        "energy": wanted.energy_unit,
        "positions": wanted.length_unit,
        "forces": wanted.force_unit,
        "dipole": wanted.dipole_unit,
        "stress": wanted.stress_unit,
        "cell": wanted.length_unit,
    }
    if name not in asked:
        return "", ""
    if asked[name] is not None:
        return str(asked[name]), ""
    own_energy = wanted.energy_unit is not None or wanted.length_unit is not None
    if key in stated and not (name in ("forces", "stress") and own_energy):
        return stated[key], " (the file says so)"
    energy, length = wanted.energy_unit or convention.energy, wanted.length_unit or convention.length
    why = f" ({convention.origin})"
    if name in ("positions", "cell"):
        return length, why
    if name == "dipole":
        return ("e*bohr" if length_factor(length) != 1.0 else "e*Å"), why
    if not energy:
        raise InputError(f"{path} does not say in which unit its energies are: say so by --units eV, kcal/mol, ...")
    energy_factor(energy)
    if name == "energy":
        return energy, "" if wanted.energy_unit else why
    joined = f"{energy}/{length}" if name == "forces" else f"{energy}/{length}^3"
    if name == "stress" and "virial" in key:
        joined = energy
    return joined, "" if wanted.energy_unit else why
