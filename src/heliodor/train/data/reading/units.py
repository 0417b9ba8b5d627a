"""Units by the names that files and papers give them."""

from __future__ import annotations

from heliodor import units
from heliodor.errors import InputError, suggestion

ENERGIES = {
    "ev": 1.0,
    "mev": 1e-3,
    "hartree": units.HARTREE,
    "ha": units.HARTREE,
    "eh": units.HARTREE,
    "rydberg": units.HARTREE / 2.0,
    "ry": units.HARTREE / 2.0,
    "kcal/mol": units.KCAL_PER_MOL,
    "kj/mol": units.KJ_PER_MOL,
}
LENGTHS = {
    "å": 1.0,
    "a": 1.0,
    "angstrom": 1.0,
    "ang": 1.0,
    "bohr": units.BOHR,
    "a0": units.BOHR,
    "nm": 10.0,
    "pm": 0.01,
}
DIPOLES = {"debye": units.DEBYE, "d": units.DEBYE} | {
    f"e{mark}{name}": factor for name, factor in LENGTHS.items() for mark in ("*", "")
}
PRESSURES = {"gpa": units.GPA, "bar": units.BAR, "kbar": 1e3 * units.BAR}


def energy_factor(name: str) -> float:
    """eV.

    Raises:
        InputError: an unknown unit.
    """
    return _look(name, ENERGIES, "energy")


def length_factor(name: str) -> float:
    """Å.

    Raises:
        InputError: an unknown unit.
    """
    return _look(name, LENGTHS, "length")


def unit_factor(quantity: str, name: str) -> float:
    """What a value in a unit is multiplied with to be in eV, Å, e.

    Args:
        quantity: "energy", "positions", "cell", "forces" (``hartree/bohr``), "stress" (``eV/Å^3``, ``GPa``, or an
            energy, for virials) or "dipole".

    Raises:
        InputError: an unknown unit.
    """
    if quantity == "energy":
        return energy_factor(name)
    if quantity in ("positions", "cell"):
        return length_factor(name)
    if quantity == "dipole":
        return _look(name.replace(" ", "").replace("·", "*"), DIPOLES, "dipole")
    text = _plain(name)
    if quantity == "stress":
        if text in PRESSURES or text in ENERGIES:
            return PRESSURES.get(text) or ENERGIES[text]
        energy, _, length = text.removesuffix("^3").removesuffix("**3").rpartition("/")
        return energy_factor(energy) / length_factor(length) ** 3
    energy, _, length = text.rpartition("/")
    # "kcal/mol" has a stroke of its own
    return energy_factor(energy) / length_factor(length)


def _look(name: str, table: dict[str, float], what: str) -> float:
    text = _plain(name)
    if text not in table:
        raise InputError(
            f"{name!r} is no unit of {what} that is known{suggestion(text, table)}; there are {', '.join(table)}"
        )
    return table[text]


def _plain(name: str) -> str:
    return name.strip().lower().replace("ångström", "angstrom").replace("ångstrom", "angstrom").replace(" ", "")
