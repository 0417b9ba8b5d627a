"""Molecular crystals: their molecules, lattice energies, sublimation enthalpies."""

from __future__ import annotations

from heliodor.crystal.lattice import lattice_energy
from heliodor.crystal.molecules import Molecule, find_molecules
from heliodor.crystal.result import Component, LatticeEnergy

__all__ = ["Component", "LatticeEnergy", "Molecule", "find_molecules", "lattice_energy"]
