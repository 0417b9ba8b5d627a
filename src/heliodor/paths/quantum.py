"""Quantum kinetic energies, and what a harmonic oscillator has exactly, at any number of beads."""

from __future__ import annotations

import math

import ase
import numpy as np
from jaxtyping import Float

from heliodor.analysis.statistics import mean_with_error
from heliodor.units import BOLTZMANN, HBAR, INVERSE_CM


def centroid_virial(
    positions: Float[np.ndarray, "P N 3"], forces: Float[np.ndarray, "P N 3"], temperature: float
) -> Float[np.ndarray, "N"]:
    """Quantum kinetic energy of each atom, eV: 3/2 kT - 1/(2P) Σ (r - r̄)·F over the beads.

    Herman, Bruskin & Berne, J. Chem. Phys. 76, 5150 (1982); Cao & Berne, J. Chem. Phys. 91, 6359 (1989).

    Args:
        positions: Å, not put back into a cell.
        forces: eV/Å, of each bead's own potential.
        temperature: K.
    """
    away = positions - positions.mean(0)
    return 1.5 * BOLTZMANN * temperature - 0.5 * (away * forces).sum(-1).mean(0)


def by_element(atoms: ase.Atoms, kinetic: Float[np.ndarray, "T N"]) -> dict[str, tuple[float, float | None]]:
    """Mean kinetic energy of an atom of each element, eV, and its standard error."""
    symbols = np.array(atoms.get_chemical_symbols())
    return {s: mean_with_error(kinetic[:, symbols == s].mean(1)) for s in dict.fromkeys(symbols.tolist())}


def harmonic_energy(wavenumber: float, temperature: float, beads: int | None = None) -> float:
    """Mean total energy of a harmonic oscillator, eV: ħω/2 coth(ħω/2kT), or that of a ring polymer of so many beads.

    The ring polymer's potential and kinetic (centroid-virial) energies are kT/2 Σ_k ω²/(ω² + ω_k²) each, with
    ω_k = (2 P kT/ħ) sin(πk/P).

    Args:
        wavenumber: cm⁻¹.
        temperature: K.
    """
    warm, quantum = BOLTZMANN * temperature, wavenumber * INVERSE_CM
    if beads is None:
        return 0.5 * quantum / math.tanh(0.5 * quantum / warm)
    omega = quantum / HBAR
    rings = 2.0 * beads * warm / HBAR * np.sin(np.pi * np.arange(beads) / beads)
    return float(warm * (omega**2 / (omega**2 + rings**2)).sum())


def beads_for(wavenumber: float, temperature: float, share: float = 0.99) -> int:
    """The fewest beads that give a harmonic oscillator this share of its quantum energy.

    Args:
        wavenumber: cm⁻¹, of the fastest vibration: 3700 with O-H bonds.
        temperature: K.
        share: below 1.
    """
    exact, beads = harmonic_energy(wavenumber, temperature), 1
    while harmonic_energy(wavenumber, temperature, beads) < share * exact:
        beads += 1
    return beads
