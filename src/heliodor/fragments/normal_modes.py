"""Normal modes of a small molecule, and structures drawn along them at a temperature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ase
import numpy as np
from jaxtyping import Float

from heliodor.errors import HeliodorError, InputError
from heliodor.fragments.bottom_up import Progress
from heliodor.fragments.distorted import Distorted, Sieve
from heliodor.fragments.embed import seed_of_structure
from heliodor.fragments.energy_source import Source, relaxed, surface
from heliodor.hessian import hessian
from heliodor.potential import Potential
from heliodor.units import ACCELERATION, BOLTZMANN, HBAR, INVERSE_CM

STEP = 0.005
"""Å; of central differences of forces, where second derivatives are not exact."""

SOFTEST = 300.0
"""1/cm; modes below it, and those of negative curvature, are moved as if they were of this wavenumber: the straight
lines of normal modes are no paths of torsions."""

UNRELAXED = 0.1
"""eV/Å; a larger force after relaxation is told of."""

RECIPES = ("thermal", "ani")
TRIES = 20
"""Structures drawn for each that is wanted, at most."""


@dataclass(frozen=True, eq=False)
class Modes:
    """The K vibrations of N atoms about a geometry; translations and rotations are taken out exactly.

    Attributes:
        atoms: the geometry.
        curvatures: eigenvalues of the mass-weighted Hessian, eV/(amu Å²), ascending; negative at saddle points.
        vectors: displacements in Å for a unit step, √amu Å, of each mode: M^(-1/2) times the orthonormal eigenvectors.
        residual_force: largest force left on an atom, eV/Å.
    """

    atoms: ase.Atoms
    curvatures: Float[np.ndarray, "K"]
    vectors: Float[np.ndarray, "K N 3"]
    residual_force: float

    @property
    def wavenumbers(self) -> Float[np.ndarray, "K"]:
        """1/cm; imaginary ones as negative numbers."""
        return np.sign(self.curvatures) * np.sqrt(np.abs(self.curvatures) * ACCELERATION) * (HBAR / INVERSE_CM)


def normal_modes(atoms: ase.Atoms, source: Source, *, relax: bool = True, progress: Progress | None = None) -> Modes:
    """Vibrations about the nearest minimum, or about the geometry as it is.

    Second derivatives are exact for a Potential of plain PyTorch, central differences of forces otherwise.

    Args:
        relax: walk downhill first.
        progress: called with (rows of the Hessian done, all).

    Raises:
        InputError: no energies at a geometry that is needed; a periodic structure.
        ModelError: an element outside the model.
    """
    if atoms.pbc.any():
        raise InputError("normal modes are of molecules: the structure is periodic")
    left = float("nan")
    if relax and len(atoms) > 1:
        atoms, left = relaxed(source, atoms)
    root = np.sqrt(np.repeat(atoms.get_masses(), 3))
    weighted = _hessian(atoms, source, progress) / root[:, None] / root[None]
    rigid = _rigid(atoms)
    projector = np.eye(len(root)) - rigid @ rigid.T
    # the rigid motions are lifted far above everything else, and cut off
    shift = 10.0 * (1.0 + float(np.abs(weighted).max()) * len(root))
    values, vectors = np.linalg.eigh(projector @ weighted @ projector + shift * (rigid @ rigid.T))
    kept = len(root) - rigid.shape[1]
    shapes = (vectors[:, :kept] / root[:, None]).T.reshape(kept, len(atoms), 3)
    return Modes(atoms, values[:kept], shapes, left)


def sample_normal_modes(
    atoms: ase.Atoms,
    source: Source,
    count: int,
    *,
    temperatures: Sequence[float] = (300.0,),
    recipe: str = "thermal",
    relax: bool = True,
    softest: float = SOFTEST,
    reject_reconnected: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Distorted:
    """Structures distorted along the normal modes of a molecule.

    "thermal": every mode is drawn from its classical Boltzmann distribution, kT/2 of harmonic energy on average. "ani":
    mode i gets the energy 3/2 c_i N kT, that is, the displacement ±√(3 c_i N kT/K_i) of Smith, Isayev & Roitberg
    (Chem. Sci. 8, 3192 (2017)), for c uniform among c_i ≥ 0, Σc_i ≤ 1.

    Args:
        count: structures, the temperatures in turn.
        temperatures: K.
        relax: to the nearest minimum first; without, modes are those of the geometry as it is.
        softest: 1/cm, see `SOFTEST`.
        reject_reconnected: leave out structures whose bonds changed.
        seed: with the same structure, source and seed the result is the same to the last bit.
        progress: called with (rows of the Hessian done, all).

    Raises:
        InputError: what cannot be sampled; too few structures without clashes.
    """
    if recipe not in RECIPES:
        raise InputError(f"no recipe {recipe!r}: take one of {RECIPES}")
    check_temperatures(temperatures)
    if count < 0 or not softest > 0.0:
        raise InputError("count must be 0 or more, the softest wavenumber above 0")
    sieve = Sieve(atoms, reject_reconnected)
    if len(atoms) == 1:
        return sieve.result(notes=("a single atom has no vibrations",))
    modes = normal_modes(atoms, source, relax=relax, progress=progress)
    least = (softest * INVERSE_CM / HBAR) ** 2 / ACCELERATION
    soft = int((modes.curvatures < least).sum())
    curvatures = np.maximum(modes.curvatures, least)
    rng = np.random.default_rng(seed_of_structure(atoms, "normal modes", recipe, seed))
    for _ in range(TRIES * count):
        if len(sieve.frames) == count:
            break
        temperature = float(temperatures[len(sieve.frames) % len(temperatures)])
        steps = _steps(rng, curvatures, BOLTZMANN * temperature, len(atoms), recipe)
        positions = modes.atoms.positions + np.einsum("k,kij->ij", steps, modes.vectors)
        sieve.offer(positions, f"normal modes ({recipe}) at {temperature:g} K")
    notes = ["the geometry did not relax to a minimum: forces are left"] * (modes.residual_force > UNRELAXED)
    notes += [f"{soft} of {len(curvatures)} modes are softer than {softest:g} 1/cm and moved as if they were not"] * (
        soft > 0
    )
    if len(sieve.frames) < count:
        notes.append(f"only {len(sieve.frames)} of {count} structures were sound in {TRIES * count} tries")
    return sieve.result(notes=tuple(notes))


def check_temperatures(temperatures: Sequence[float]) -> None:
    """Refuse what is no list of temperatures above zero."""
    if len(temperatures) == 0 or not all(0.0 < float(t) < float("inf") for t in temperatures):
        raise InputError(f"temperatures must be above 0 K, at least one, not {list(temperatures)}")


def _steps(
    rng: np.random.Generator, curvatures: Float[np.ndarray, "K"], kt: float, n_atoms: int, recipe: str
) -> Float[np.ndarray, "K"]:
    """Displacements along the modes, √amu Å; kt in eV."""
    if recipe == "thermal":
        return rng.standard_normal(len(curvatures)) * np.sqrt(kt / curvatures)
    # gaps between sorted uniform numbers: c is uniform in the simplex, what is left over being the last gap
    gaps = rng.exponential(size=len(curvatures) + 1)
    energies = 1.5 * n_atoms * kt * gaps[:-1] / gaps.sum()
    signs = rng.choice((-1.0, 1.0), size=len(curvatures))
    return signs * np.sqrt(2.0 * energies / curvatures)


def _hessian(atoms: ase.Atoms, source: Source, progress: Progress | None) -> Float[np.ndarray, "M M"]:
    if isinstance(source, Potential):
        try:
            return hessian(source, atoms, progress=progress)
        except InputError:
            raise
        except HeliodorError:
            # a fused kernel, or a part that cannot be differentiated twice
            pass
    positions = np.asarray(atoms.positions, dtype=np.float64)
    size = positions.size
    energy_of = surface(source, [atoms, atoms])
    rows = np.empty((size, size))
    for row in range(size):
        moved = np.stack([positions, positions])
        moved[0].flat[row] += STEP
        moved[1].flat[row] -= STEP
        _, forces = energy_of(moved.reshape(-1, 3))
        if not np.isfinite(forces).all():
            raise InputError("no forces near the geometry whose normal modes are wanted")
        plus, minus = forces.reshape(2, size)
        rows[row] = (minus - plus) / (2.0 * STEP)
        if progress is not None:
            progress(row + 1, size)
    return 0.5 * (rows + rows.T)


def _rigid(atoms: ase.Atoms) -> Float[np.ndarray, "M K"]:
    """Orthonormal mass-weighted translations and rotations, as columns: six, five for linear molecules, or three."""
    masses = atoms.get_masses()
    arms = atoms.positions - masses @ atoms.positions / masses.sum()
    root = np.sqrt(masses)[:, None]
    unit = np.eye(3)
    moves = [np.broadcast_to(axis, arms.shape) for axis in unit] + [np.cross(axis, arms) for axis in unit]
    columns = np.stack([(root * move).ravel() for move in moves], axis=1)
    u, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    # a hundredth of an Å off the axis is linear all the same
    return u[:, sizes > 1e-2]
