"""Labelled sets whose energies and forces are known exactly: atoms joined by springs."""

from __future__ import annotations

import ase
import numpy as np
from ase.build import molecule

from heliodor.label.label import Label
from heliodor.train.dataset import Dataset

STIFFNESS = 4.0
"""eV/Å²."""


def label(atoms: ase.Atoms, rest: np.ndarray, zero: float) -> Label:
    """½ k Σ (r - r0)² over all pairs, and its exact gradient."""
    apart = atoms.positions[:, None] - atoms.positions[None]
    r = np.sqrt((apart**2).sum(-1)) + np.eye(len(atoms))
    stretch = r - rest - np.eye(len(atoms))
    forces = -STIFFNESS * (stretch / r)[:, :, None] * apart
    return Label(energy=zero + 0.25 * STIFFNESS * float((stretch**2).sum()), forces=forces.sum(1))


def spring_frames(name: str = "CH3CH2OH", frames: int = 120, step: float = 0.05, seed: int = 1) -> list[ase.Atoms]:
    """Random displacements about the molecule at rest, each frame turned and moved at random."""
    rng = np.random.default_rng(seed)
    out = []
    for k in range(frames):
        atoms = molecule(name)
        atoms.positions += rng.normal(scale=step, size=atoms.positions.shape)
        atoms.rotate(float(rng.uniform(0, 360)), rng.normal(size=3))
        atoms.positions += rng.normal(scale=3.0, size=3)
        atoms.info["kind"] = "even" if k % 2 == 0 else "odd"
        out.append(atoms)
    return out


def spring_set(name: str = "CH3CH2OH", frames: int = 120, step: float = 0.05, seed: int = 1) -> Dataset:
    """`spring_frames` with labels; energies have the size of an all-electron method's."""
    rest = molecule(name).get_all_distances()
    zero = sum({1: -13.6, 6: -1030.0, 7: -1486.0, 8: -2043.0}[z] for z in molecule(name).numbers)
    made = spring_frames(name, frames, step, seed)
    return Dataset.from_atoms(made, [label(atoms, rest, zero) for atoms in made], "springs")
