"""Trajectories made for a purpose, written to disk and opened like any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest

from heliodor.trajectory import Trajectory, open_trajectory


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Trajectory]:
    """Frames of one structure as a trajectory file, ``interval`` fs apart."""

    def make(atoms: ase.Atoms, positions: np.ndarray, interval: float = 10.0, name: str = "run") -> Trajectory:
        frames = []
        for k, place in enumerate(positions):
            frame = atoms.copy()
            frame.positions = place
            frame.info = {"time_fs": k * interval}
            frames.append(frame)
        path = tmp_path / f"{name}.extxyz"
        ase.io.write(path, frames, format="extxyz")
        return open_trajectory(path)

    return make


@pytest.fixture
def butane() -> ase.Atoms:
    from ase.build import molecule

    return molecule("trans-butane")


def turned(positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each frame rotated and moved at random."""
    from scipy.spatial.transform import Rotation

    rotations = Rotation.random(len(positions), random_state=rng.integers(2**31)).as_matrix()
    moved: np.ndarray = np.einsum("fij,fnj->fni", rotations, positions) + rng.normal(
        scale=5.0, size=(len(positions), 1, 3)
    )
    return moved


@pytest.fixture
def scramble() -> Callable[..., np.ndarray]:
    return turned
