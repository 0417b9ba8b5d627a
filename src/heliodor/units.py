"""Units inside heliodor: eV, Å, fs, amu, e, K. Conversions happen at the border, with these factors.

Constants are CODATA 2018. A published model that was trained with older constants carries its own
(see `heliodor.physics`), because they are part of its parameters.
"""

from __future__ import annotations

import re

from heliodor.errors import InputError

BOLTZMANN = 8.617333262e-5
"""k_B in eV/K."""

ACCELERATION = 1.602176634e-19 / 1.66053906660e-27 * 1e-10
"""(eV/Å)/amu expressed in Å/fs²: F/m * ACCELERATION is an acceleration (9.6485e-3)."""

KINETIC = 1.0 / ACCELERATION
"""amu Å²/fs² expressed in eV: m v² * KINETIC is an energy."""

BOHR = 0.529177210903
"""Å."""

HARTREE = 27.211386245988
"""eV."""

KCAL_PER_MOL = 4184.0 / (6.02214076e23 * 1.602176634e-19)
"""eV (0.0433641)."""

KJ_PER_MOL = KCAL_PER_MOL / 4.184
"""eV."""

BAR = 1e5 * 1e-30 / 1.602176634e-19
"""eV/Å³ (6.2415e-7)."""

GPA = 1e4 * BAR
"""eV/Å³."""

MILLINEWTON_PER_M = 1e-3 * 1e-20 / 1.602176634e-19
"""eV/Å² (6.2415e-5); of surface tensions."""

DEBYE = 0.20819433270
"""e·Å."""

POLARIZABILITY_VOLUME = BOHR * HARTREE
"""Å³ of a polarizability of 1 e²Å²/eV (14.39965): what is called a polarizability in Å³ is α/(4π ε₀)."""

GRAM_PER_CM3 = 1e-24 / 1.66053906660e-24
"""amu/Å³ (0.602214)."""

HBAR = 6.62607015e-34 / (2.0 * 3.141592653589793) / 1.602176634e-19 * 1e15
"""ħ in eV·fs (0.658212)."""

INVERSE_CM = 6.62607015e-34 * 2.99792458e10 / 1.602176634e-19
"""eV of a quantum of 1 cm⁻¹ (1.239842e-4)."""

INFRARED = 1e-3 * 6.02214076e23 * 1.602176634e-19**2 / 1.66053906660e-27 / (12.0 * 8.8541878128e-12 * 299792458.0**2)
"""km/mol of an integrated absorption coefficient N_A |dμ/dQ|²/(12 ε₀ c²) where |dμ/dQ|² is 1 e²/amu (974.88)."""

PASCAL = 1e-5
"""bar."""

_TIME = {"as": 1e-3, "fs": 1.0, "ps": 1e3, "ns": 1e6, "us": 1e9, "µs": 1e9}


def parse_time(text: str | float) -> float:
    """Read a time such as ``"10 ps"``, ``"0.5fs"`` or a bare number of femtoseconds.

    Returns:
        The time in fs.

    Raises:
        InputError: the text is not a positive time with a known unit.
    """
    match = re.fullmatch(r"\s*([0-9.eE+-]+)\s*([a-zµ]*)\s*", str(text))
    try:
        value = float(match.group(1)) if match else float("nan")
    except ValueError:
        value = float("nan")
    unit = (match.group(2) if match else "") or "fs"
    if unit not in _TIME or not 0.0 < value < float("inf"):
        raise InputError(f"cannot read {text!r} as a time above zero; write for example '10 ps', '0.5 fs' or '2 ns'")
    return value * _TIME[unit]


def format_time(femtoseconds: float) -> str:
    """Write a time in the unit a person would choose: ``"2.5 ps"``."""
    for unit, scale in (("ns", 1e6), ("ps", 1e3), ("fs", 1.0)):
        if abs(femtoseconds) >= scale:
            return f"{femtoseconds / scale:.4g} {unit}"
    return f"{femtoseconds:.4g} fs"
