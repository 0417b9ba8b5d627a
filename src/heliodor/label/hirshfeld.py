"""Hirshfeld partition of an electron density: effective volumes of atoms in molecules and their charges.

Hirshfeld, Theor. Chim. Acta 44, 129 (1977); volumes as in Tkatchenko & Scheffler, Phys. Rev. Lett. 102, 073005
(2009). The free atoms are spherically averaged Kohn–Sham atoms of the same functional in the same basis, without spin
polarisation: closed-shell atoms far apart have ratios of exactly one, the hydrogen atom has 0.84. Inside this module:
Bohr.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Float, Int

from heliodor.label.label import LabelError
from heliodor.units import BOHR

_REACH = 30.0
"""Bohr; beyond it a free atom has no density."""

_POINTS = 3001
_TINY = 1e-150
_BLOCK = 8192


@dataclass(frozen=True, eq=False)
class FreeAtom:
    """Spherical density of a neutral atom.

    Attributes:
        volume: Bohr³, the integral of r³ over the density.
        electrons: the density's integral: the atomic number, less those in a pseudopotential.
        log_density: cubic spline of its logarithm along the square root of the distance (Bohr).
    """

    volume: float
    electrons: float
    log_density: Any

    def density(self, distances: Float[np.ndarray, "*P"]) -> Float[np.ndarray, "*P"]:
        """Electrons per Bohr³ at distances in Bohr."""
        inside = distances < _REACH
        return np.where(inside, np.exp(self.log_density(np.sqrt(np.where(inside, distances, 1.0)))), 0.0)


@dataclass(frozen=True, eq=False)
class Partition:
    """What belongs to which of N atoms.

    Attributes:
        ratios: effective over free volume.
        volumes: effective volume, the integral of r³ over the atom's part of the density, Å³.
        charges: e.
    """

    ratios: Float[np.ndarray, "N"]
    volumes: Float[np.ndarray, "N"]
    charges: Float[np.ndarray, "N"]


def partition_density(
    molecule: Any,
    density_matrix: Float[np.ndarray, "..."],
    points: Float[np.ndarray, "P 3"],
    weights: Float[np.ndarray, "P"],
    functional: str,
) -> Partition:
    """Divide a molecule's density among its atoms in proportion to the densities of free atoms.

    Integrals are taken over the difference from the free atoms' sum, whose own are known: that leaves the part of the
    grid's error out which lies in the cores.

    Args:
        molecule: PySCF's ``Mole``.
        density_matrix: of all electrons, or one for each spin.
        points: of the grid, Bohr.
        weights: Bohr³.
        functional: PySCF's name of it, without dispersion.

    Raises:
        LabelError: there is no free atom of some element in this basis.
    """
    from pyscf.dft import numint

    matrix = density_matrix.sum(0) if density_matrix.ndim == 3 else density_matrix
    numbers, centres = _elements(molecule), molecule.atom_coords()
    free = [free_atom(int(z), functional, molecule.basis) for z in numbers]
    electrons, swelling = np.zeros(len(free)), np.zeros(len(free))
    for start in range(0, len(points), _BLOCK):
        block = points[start : start + _BLOCK]
        orbitals = numint.eval_ao(molecule, block)
        density = np.einsum("pi,pi->p", orbitals @ matrix, orbitals)
        distances = np.linalg.norm(block - centres[:, None, :], axis=-1)
        parts = np.stack([atom.density(r) for atom, r in zip(free, distances, strict=True)])
        whole = parts.sum(0)
        change = weights[start : start + _BLOCK] * (density - whole) / np.maximum(whole, _TINY)
        electrons += parts @ change
        swelling += (parts * distances**3) @ change
    free_volumes = np.array([atom.volume for atom in free])
    return Partition(1.0 + swelling / free_volumes, (free_volumes + swelling) * BOHR**3, -electrons)


@lru_cache(maxsize=256)
def free_atom(number: int, functional: str, basis: str) -> FreeAtom:
    """The neutral atom with its electrons spread evenly over the orbitals of each open shell.

    Args:
        number: atomic number.
        functional: PySCF's name of it, without dispersion.
        basis: name.

    Raises:
        LabelError: no such basis for the element, or its atom does not converge.
    """
    from scipy.integrate import simpson
    from scipy.interpolate import CubicSpline

    x = np.linspace(0.0, np.sqrt(_REACH), _POINTS)
    density = _radial_density(number, functional, basis, x**2)
    # dr = 2 x dx
    shell = 8.0 * np.pi * x**5 * density
    spline = CubicSpline(x, np.log(np.maximum(density, _TINY)))
    return FreeAtom(float(simpson(shell * x**6, x=x)), float(simpson(shell, x=x)), spline)


def _radial_density(number: int, functional: str, basis: str, radii: Float[np.ndarray, "R"]) -> Float[np.ndarray, "R"]:
    from pyscf.dft import numint
    from pyscf.scf.atom_ks import AtomSphAverageRKS

    from heliodor.label.mole import make_mole, quiet

    symbol = chemical_symbols[number]
    atom = make_mole([symbol], np.zeros((1, 3)), 0, number % 2, basis)
    field = AtomSphAverageRKS(atom)
    field.xc, field.nlc, field.verbose, field.chkfile = functional, 0, 0, None
    # of a spherical density only products of orbitals have angles: 110 points are exact up to h functions
    field.grids.atom_grid = (120, 110)
    field.conv_tol, field.max_cycle = 1e-10, 200
    if atom.has_ecp():
        # the default superposes potentials of whole atoms, which have no meaning on top of a core's
        field.init_guess = "minao"
    with quiet():
        field.kernel()
    if not field.converged:
        raise LabelError(f"Hirshfeld partition: the free {symbol} atom does not converge with {functional}/{basis}")
    # a spherical density is the same along every direction
    line = np.zeros((len(radii), 3))
    line[:, 2] = radii
    orbitals = numint.eval_ao(atom, line)
    return np.einsum("pi,pi->p", orbitals @ field.make_rdm1(), orbitals)


def _elements(molecule: Any) -> Int[np.ndarray, "N"]:
    # atom_charges() are those of the cores where there are pseudopotentials
    from ase.data import atomic_numbers

    return np.array([atomic_numbers[molecule.atom_pure_symbol(i)] for i in range(molecule.natm)])
