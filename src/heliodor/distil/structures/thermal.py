"""Geometries of one molecule: conformers, displacements along MMFF's normal modes, and short MMFF dynamics."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float

from heliodor.distil.structures.langevin import langevin
from heliodor.distil.structures.mmff import Field, field_of
from heliodor.distil.structures.sound import Shape, shape_of
from heliodor.fragments.embed import seed_of
from heliodor.fragments.rdkit_graph import quiet, read_smiles
from heliodor.units import ACCELERATION, BOLTZMANN, HBAR, INVERSE_CM

TEMPERATURES = (100.0, 200.0, 300.0, 400.0, 500.0, 700.0, 1000.0)
"""K."""

OFTEN = (0.08, 0.15, 0.22, 0.2, 0.18, 0.1, 0.07)
"""How often each of them is drawn."""

SOFTEST = 200.0
"""1/cm; softer modes move as if they were of this wavenumber: the straight lines of normal modes are no torsions."""

DIATOMIC = {
    "[H][H]": 0.741,
    "N#N": 1.098,
    "[C-]#[O+]": 1.128,
    "F": 0.917,
    "Cl": 1.275,
    "FF": 1.412,
    "ClCl": 1.988,
    "FCl": 1.628,
    "[OH-]": 0.964,
    "[C-]#N": 1.177,
    "[SH-]": 1.343,
}
"""Å; molecules of two atoms with their bond lengths (Huber & Herzberg 1979), which need no force field."""

Places = Float[np.ndarray, "N 3"]


def read(smiles: str) -> tuple[Any, Shape]:
    """A molecule with hydrogens, and its shape."""
    mol = read_smiles(smiles)
    return mol, shape_of(mol)


def embedded(mol: Any, count: int, seed: int) -> list[int]:
    """Conformers by ETKDGv3 put into the molecule; their numbers, fewer or none where that fails."""
    from rdkit.Chem import rdDistGeom

    for random in (False, True):
        parameters: Any = rdDistGeom.ETKDGv3()
        parameters.randomSeed = seed
        parameters.numThreads = 1
        parameters.useRandomCoords = random
        parameters.maxIterations = 20 if not random else 50
        with quiet():
            found = list(rdDistGeom.EmbedMultipleConfs(mol, count, parameters))
        if found:
            return found
    return []


def temperature(rng: np.random.Generator) -> float:
    """One of `TEMPERATURES`, K."""
    return float(rng.choice(TEMPERATURES, p=OFTEN))


@dataclass(frozen=True, eq=False)
class Modes:
    """K vibrations about a minimum: curvatures in eV/(amu Å²), displacements in Å of a unit step of each."""

    rest: Float[np.ndarray, "N 3"]
    curvatures: Float[np.ndarray, "K"]
    vectors: Float[np.ndarray, "K N 3"]

    def draw(self, kelvin: float, rng: np.random.Generator) -> Places:
        """Positions from the classical harmonic distribution, Å."""
        least = (SOFTEST * INVERSE_CM / HBAR) ** 2 / ACCELERATION
        steps = rng.standard_normal(len(self.curvatures)) * np.sqrt(
            BOLTZMANN * kelvin / np.maximum(self.curvatures, least)
        )
        return self.rest + np.einsum("k,kij->ij", steps, self.vectors)


def modes_of(field: Field, masses: Float[np.ndarray, "N"], rest: Places) -> Modes:
    """Normal modes by central differences of forces; translations and rotations are taken out exactly."""
    size, step = rest.size, 0.002
    rows = np.empty((size, size))
    for k in range(size):
        ahead, behind = rest.copy(), rest.copy()
        ahead.flat[k] += step
        behind.flat[k] -= step
        rows[k] = (field.forces(behind) - field.forces(ahead)).ravel() / (2.0 * step)
    root = np.sqrt(np.repeat(masses, 3))
    weighted = 0.5 * (rows + rows.T) / root[:, None] / root[None]
    arms = rest - masses @ rest / masses.sum()
    moves = [np.broadcast_to(axis, arms.shape) for axis in np.eye(3)] + [np.cross(axis, arms) for axis in np.eye(3)]
    u, sizes, _ = np.linalg.svd(np.stack([(np.sqrt(masses)[:, None] * m).ravel() for m in moves], 1), False)
    rigid = u[:, sizes > 1e-2]
    out = np.eye(size) - rigid @ rigid.T
    lifted = out @ weighted @ out + 10.0 * (1.0 + np.abs(weighted).max() * size) * (rigid @ rigid.T)
    values, vectors = np.linalg.eigh(lifted)
    kept = size - rigid.shape[1]
    return Modes(rest, values[:kept], (vectors[:, :kept] / root[:, None]).T.reshape(kept, len(masses), 3))


def masses_of(mol: Any) -> Float[np.ndarray, "N"]:
    """amu."""
    return np.array([atom.GetMass() for atom in mol.GetAtoms()], dtype=np.float64)


def dynamics(
    field: Field, masses: Float[np.ndarray, "N"], x: Places, kelvin: float, rng: np.random.Generator, frames: int
) -> list[Places]:
    """Frames of a short trajectory, 60 to 100 fs apart."""
    step = 1.0 if kelvin < 450.0 else 0.6
    return langevin(field.forces, masses, x, kelvin, rng, frames=frames, first=200, every=100, step=step)


def rattled(x: Places, rng: np.random.Generator) -> Places:
    """One time in eight with noise on every atom: what no force field would do."""
    return x + rng.normal(0.0, rng.uniform(0.02, 0.05), x.shape) if rng.random() < 0.125 else x


def sampled(smiles: str, count: int, rng: np.random.Generator) -> tuple[Any, Shape, list[tuple[Places, str]]]:
    """A molecule and up to so many geometries of it, each with words on how it was made.

    Half come from normal modes, half from dynamics, both on MMFF94 or MMFF94s, at 100 to 1000 K.
    """
    mol, shape = read(smiles)
    if smiles in DIATOMIC:
        return mol, shape, [(x, "stretched") for x in _diatomic(smiles, count, rng) if shape.holds(x)]
    if len(shape.numbers) == 1:
        return mol, shape, [(np.zeros((1, 3)), "single atom")]
    found: list[tuple[Places, str]] = []
    masses = masses_of(mol)
    for _ in range(3):
        wanted = count - len(found)
        if wanted <= 0:
            break
        for conformer in embedded(mol, 1 if wanted < 4 else 2, int(rng.integers(1, 2**30))):
            share = min(count - len(found), max(1, wanted // 2) if wanted >= 4 else wanted)
            new, how = _around(mol, conformer, masses, share, rng)
            for x in new:
                y = rattled(x, rng)
                found += [(y, how)] if shape.holds(y) else [(x, how)] if shape.holds(x) else []
    return mol, shape, found[:count]


def _around(
    mol: Any, conformer: int, masses: Float[np.ndarray, "N"], count: int, rng: np.random.Generator
) -> tuple[list[Places], str]:
    field = field_of(mol, conformer, "MMFF94s" if rng.random() < 0.5 else "MMFF94")
    if field is None:
        x = np.array(mol.GetConformer(conformer).GetPositions())
        return [x + rng.normal(0.0, rng.uniform(0.01, 0.06), x.shape) for _ in range(count)], "conformer with noise"
    harmonic = rng.random() < 0.5
    field.relax(500 if harmonic else 200)
    x = np.array(mol.GetConformer(conformer).GetPositions())
    if not harmonic:
        kelvin = temperature(rng)
        return dynamics(field, masses, x, kelvin, rng, count), f"MMFF dynamics at {kelvin:g} K"
    modes = modes_of(field, masses, x)
    return [modes.draw(temperature(rng), rng) for _ in range(count)], "MMFF normal modes"


def _diatomic(smiles: str, count: int, rng: np.random.Generator) -> list[Places]:
    line = np.array([[-0.5, 0.0, 0.0], [0.5, 0.0, 0.0]])
    return [line * (DIATOMIC[smiles] + rng.choice((0.03, 0.08)) * rng.standard_normal()) for _ in range(count)]


@dataclass(frozen=True, eq=False)
class Monomer:
    """A molecule to be put beside others; the same in every process.

    Attributes:
        smiles: as given.
        mol: with hydrogens, without conformers.
        shape: its distances.
        modes: of a few conformers; empty for single atoms and molecules of two.
        rests: Å, of its conformers.
    """

    smiles: str
    mol: Any
    shape: Shape
    modes: tuple[Modes, ...]
    rests: tuple[Float[np.ndarray, "N 3"], ...]

    def draw(self, rng: np.random.Generator, kelvin: float | None = None) -> Places:
        """A sound geometry at a temperature, Å, about its centre."""
        for _ in range(10 if self.modes else 0):
            x = self.modes[rng.integers(len(self.modes))].draw(kelvin or temperature(rng), rng)
            if self.shape.holds(x):
                return x - x.mean(0)
        x = self.rests[rng.integers(len(self.rests))]
        return x - x.mean(0)


@lru_cache(maxsize=4096)
def monomer(smiles: str) -> Monomer | None:
    """A molecule with up to three relaxed conformers, or None where no geometry is found."""
    mol, shape = read(smiles)
    if len(shape.numbers) == 1:
        return Monomer(smiles, mol, shape, (), (np.zeros((1, 3)),))
    if smiles in DIATOMIC:
        line = np.array([[-0.5, 0.0, 0.0], [0.5, 0.0, 0.0]]) * DIATOMIC[smiles]
        return Monomer(smiles, mol, shape, (), (line, line * 1.03, line * 0.98))
    masses = masses_of(mol)
    modes: list[Modes] = []
    rests: list[Places] = []
    for conformer in embedded(mol, 3, seed_of("monomer", smiles) % 2**30 + 1):
        field = field_of(mol, conformer)
        if field is not None:
            field.relax(500)
        x = np.array(mol.GetConformer(conformer).GetPositions())
        if not shape.holds(x) or any(np.abs(_distances(x) - _distances(y)).max() < 0.1 for y in rests):
            continue
        rests.append(x)
        if field is not None:
            modes.append(modes_of(field, masses, x))
    mol.RemoveAllConformers()
    return Monomer(smiles, mol, shape, tuple(modes), tuple(rests)) if rests else None


def _distances(x: Places) -> Float[np.ndarray, "N N"]:
    return np.linalg.norm(x[:, None] - x[None], axis=-1)
