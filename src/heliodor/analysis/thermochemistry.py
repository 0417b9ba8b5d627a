"""Thermodynamic functions of a structure from its harmonic vibrations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ase.thermochemistry import HarmonicThermo, IdealGasThermo

from heliodor.analysis.vibrations import Vibrations
from heliodor.errors import InputError
from heliodor.system import read_spin
from heliodor.units import BAR, PASCAL

SOFTEST = 1.0
"""cm⁻¹; what is below is no vibration, and its harmonic entropy means nothing."""

GEOMETRIES: dict[str, Literal["monatomic", "linear", "nonlinear"]] = {
    "atom": "monatomic",
    "linear": "linear",
    "nonlinear": "nonlinear",
}
"""What ASE calls the kinds of molecules."""


@dataclass(frozen=True)
class Thermochemistry:
    """What is added to the potential energy of the structure at rest; eV for one molecule, or for one cell.

    Attributes:
        temperature: K.
        pressure: bar.
        model: "ideal gas" (rigid rotor, harmonic oscillators) or "harmonic" (oscillators only).
        zero_point_energy: part of all energies below.
        internal_energy: U - E, eV.
        enthalpy: H - E, eV.
        entropy: S, eV/K.
        gibbs_energy: G - E, eV.
        left_out: modes that are imaginary or below `SOFTEST` and contribute nothing.
    """

    temperature: float
    pressure: float
    model: str
    zero_point_energy: float
    internal_energy: float
    enthalpy: float
    entropy: float
    gibbs_energy: float
    left_out: int


def thermochemistry(
    modes: Vibrations,
    *,
    temperature: float = 298.15,
    pressure: float = 1.0,
    symmetry_number: int = 1,
    spin: int | None = None,
) -> Thermochemistry:
    """Harmonic thermochemistry, by `ase.thermochemistry`.

    A molecule is an ideal gas of rigid rotors. Of crystals, of structures some atoms of which are frozen and where
    overall motion was kept among the modes only the oscillators count; the enthalpy of fully periodic ones has the
    p·V of the cell, the others none.

    Args:
        temperature: K.
        pressure: bar.
        symmetry_number: rotations that bring the molecule onto itself (water 2, methane 12); ideal gas only.
        spin: unpaired electrons; None: from ``atoms.info``.

    Raises:
        InputError: temperature or pressure that are not positive numbers, no symmetry number.
    """
    for name, value, unit in (("temperature", temperature, "K"), ("pressure", pressure, "bar")):
        if not 0.0 < value < math.inf:
            raise InputError(f"{name} must be a positive number of {unit}, not {value:g}")
    if symmetry_number < 1:
        raise InputError(f"symmetry_number must be at least 1, not {symmetry_number}")
    kept = modes.frequencies >= SOFTEST
    quanta = modes.energies[kept].tolist()
    if modes.kind in GEOMETRIES:
        model = "ideal gas"
        unpaired = read_spin(modes.atoms, spin)
        gas = IdealGasThermo(
            quanta,
            GEOMETRIES[modes.kind],
            atoms=modes.atoms,
            symmetrynumber=symmetry_number,
            spin=0.5 * unpaired,
            vib_selection="all",
        )
        internal = float(gas.get_internal_energy(temperature, verbose=False))
        enthalpy = float(gas.get_enthalpy(temperature, verbose=False))
        entropy = float(gas.get_entropy(temperature, pressure / PASCAL, verbose=False))
    else:
        model = "harmonic"
        solid = HarmonicThermo(quanta)
        internal = float(solid.get_internal_energy(temperature, verbose=False))
        enthalpy = internal + (pressure * BAR * modes.atoms.get_volume() if modes.atoms.pbc.all() else 0.0)
        entropy = float(solid.get_entropy(temperature, verbose=False))
    return Thermochemistry(
        temperature=temperature,
        pressure=pressure,
        model=model,
        zero_point_energy=0.5 * sum(quanta),
        internal_energy=internal,
        enthalpy=enthalpy,
        entropy=entropy,
        gibbs_energy=enthalpy - temperature * entropy,
        left_out=int((~kept).sum()),
    )
