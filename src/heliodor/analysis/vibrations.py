"""Normal modes of vibration from a Hessian: frequencies, displacements, reduced masses, infrared intensities.

Wilson, Decius & Cross, Molecular Vibrations (1955). Overall motion is projected out in mass-weighted coordinates, as
the Eckart conditions have it, so that it cannot mix with soft modes where forces are not quite zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ase
import numpy as np
from jaxtyping import Float

from heliodor.errors import InputError
from heliodor.hessian import chosen_atoms
from heliodor.units import ACCELERATION, HBAR, INFRARED, INVERSE_CM

LINEAR = 1e-5
"""Smallest over largest moment of inertia below which a molecule counts as linear: atoms off its axis by a 300th."""


@dataclass(frozen=True)
class Vibrations:
    """Modes of one structure of N atoms, of which n move; M modes by rising frequency, imaginary ones first.

    Attributes:
        atoms: the structure.
        moving: [n] indices of the atoms that move.
        kind: "atom", "linear" or "nonlinear" (molecules), "periodic", "partial" (other atoms are frozen), or "all"
            (nothing projected out because so it was asked).
        frequencies: cm⁻¹; an imaginary one, of a direction in which the energy falls, is given as negative.
        modes: Cartesian displacements of each atom, each mode of length one; zero for atoms that do not move.
        reduced_masses: amu, those of the displacements of length one.
        force_constants: eV/Å², likewise.
        intensities: infrared, km/mol; None without derivatives of a dipole.
        overall: cm⁻¹ of the translations and rotations that were projected out; at a minimum they are numerical noise,
            and rotations say how far from one the structure is.
    """

    atoms: ase.Atoms
    moving: np.ndarray
    kind: str
    frequencies: Float[np.ndarray, "M"]
    modes: Float[np.ndarray, "M N 3"]
    reduced_masses: Float[np.ndarray, "M"]
    force_constants: Float[np.ndarray, "M"]
    intensities: Float[np.ndarray, "M"] | None
    overall: Float[np.ndarray, "K"]

    @property
    def imaginary(self) -> int:
        """How many modes have an imaginary frequency: 0 at a minimum, 1 at a transition state."""
        return int((self.frequencies < 0.0).sum())

    @property
    def energies(self) -> Float[np.ndarray, "M"]:
        """eV of one quantum of each mode; negative for imaginary frequencies."""
        quanta: np.ndarray = self.frequencies * INVERSE_CM
        return quanta

    @property
    def zero_point_energy(self) -> float:
        """eV; half a quantum of every mode with a real frequency."""
        return 0.5 * float(self.energies[self.frequencies > 0.0].sum())


def vibrations(
    hessian: Float[np.ndarray, "R R"],
    atoms: ase.Atoms,
    *,
    subset: Sequence[int] | np.ndarray | None = None,
    dipole_derivatives: Float[np.ndarray, "D 3"] | None = None,
    project: bool = True,
) -> Vibrations:
    """Normal modes of a structure from its Hessian.

    Masses are those of the atoms (`ase.Atoms.set_masses` makes isotopes). Projected out are: of a molecule the three
    translations and three rotations (two if it is linear), of a structure with a periodic direction the translations,
    nothing where other atoms are frozen.

    Args:
        hessian: [3n, 3n] eV/Å², as `heliodor.hessian.hessian`.
        subset: the n atoms it is of, if not all.
        dipole_derivatives: [3n, 3] e, as `heliodor.hessian.curvature`; of structures that are not periodic.
        project: False keeps translations and rotations among the modes, for structures that are held by something.

    Raises:
        InputError: sizes that do not fit, numbers that are not finite, masses that are not positive, infrared
            intensities of a periodic structure.
    """
    moving = chosen_atoms(subset, len(atoms))
    size = 3 * len(moving)
    for name, given, shape in (
        ("hessian", hessian, (size, size)),
        ("dipole_derivatives", dipole_derivatives, (size, 3)),
    ):
        if given is not None and given.shape != shape:
            raise InputError(f"{name} of {len(moving)} atoms must be {shape[0]} × {shape[1]}, not {given.shape}")
        if given is not None and not np.isfinite(given).all():
            raise InputError(f"{name} holds numbers that are not finite")
    if dipole_derivatives is not None and atoms.pbc.any():
        raise InputError("infrared intensities need a dipole, and a periodic structure has none")
    masses = np.asarray(atoms.get_masses(), dtype=np.float64)[moving]
    if not (np.isfinite(masses) & (masses > 0.0)).all():
        raise InputError("every moving atom needs a positive mass (amu)")

    roots = np.repeat(np.sqrt(masses), 3)
    weighted = 0.5 * (hessian + hessian.T) / np.outer(roots, roots)
    kind = _kind(atoms, masses, len(moving) < len(atoms), project)
    outer = _overall(atoms.positions[moving], masses, kind)
    # an orthonormal basis of what is left; the modes are exactly free of overall motion
    inner = np.linalg.svd(outer, full_matrices=True)[0][:, outer.shape[1] :] if outer.shape[1] else np.eye(size)
    stiffness, vectors = np.linalg.eigh(inner.T @ weighted @ inner)
    normal = inner @ vectors
    displaced = normal / roots[:, None]
    lengths = np.linalg.norm(displaced, axis=0)
    reduced = lengths**-2
    modes = np.zeros((len(stiffness), len(atoms), 3))
    modes[:, moving] = (displaced / lengths).T.reshape(-1, len(moving), 3)
    intensities = None
    if dipole_derivatives is not None:
        intensities = INFRARED * np.square(dipole_derivatives.T @ displaced).sum(axis=0)
    return Vibrations(
        atoms=atoms.copy(),
        moving=moving,
        kind=kind,
        frequencies=_wavenumbers(stiffness),
        modes=modes,
        reduced_masses=reduced,
        force_constants=stiffness * reduced,
        intensities=intensities,
        overall=_wavenumbers(np.linalg.eigvalsh(outer.T @ weighted @ outer)),
    )


def _wavenumbers(stiffness: np.ndarray) -> np.ndarray:
    """cm⁻¹ of mass-weighted force constants, eV/Å²/amu."""
    rates: np.ndarray = np.sign(stiffness) * np.sqrt(np.abs(stiffness) * ACCELERATION)
    return rates * HBAR / INVERSE_CM


def _kind(atoms: ase.Atoms, masses: np.ndarray, partial: bool, project: bool) -> str:
    if partial:
        return "partial"
    if not project:
        return "all"
    if atoms.pbc.any():
        return "periodic"
    if len(atoms) == 1:
        return "atom"
    centred = atoms.positions - masses @ atoms.positions / masses.sum()
    spread = np.square(np.linalg.svd(np.sqrt(masses)[:, None] * centred, compute_uv=False))
    # moments of inertia about the longest axis and across it
    about, across = spread[1:].sum(), spread[:2].sum()
    return "linear" if about < LINEAR * across else "nonlinear"


def _overall(positions: np.ndarray, masses: np.ndarray, kind: str) -> np.ndarray:
    """Orthonormal mass-weighted translations and rotations, [3n, k]."""
    if kind in ("partial", "all"):
        return np.zeros((3 * len(masses), 0))
    roots = np.sqrt(masses)[:, None]
    columns = [(roots * axis).ravel() for axis in np.eye(3)]
    if kind in ("linear", "nonlinear"):
        centred = positions - masses @ positions / masses.sum()
        axes = np.linalg.svd(roots * centred)[2]
        # the first of the axes is that of the smallest moment of inertia, about which a linear molecule does not turn
        columns += [(roots * np.cross(axis, centred)).ravel() for axis in axes[kind == "linear" :]]
    basis, _ = np.linalg.qr(np.stack(columns, axis=1))
    return basis
