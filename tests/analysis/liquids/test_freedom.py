"""Temperatures from velocities of systems that are held in part."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from heliodor.analysis.liquids.conditions import other_masses, temperature_of
from heliodor.analysis.liquids.freedom import freedom_of
from heliodor.analysis.spectra.velocities import velocity_power
from heliodor.analysis.spectra.velocities_show import show as show_vdos
from heliodor.trajectory import Trajectory
from heliodor.units import BOLTZMANN, KINETIC
from memory_trajectories import in_memory
from trajectories import waters

CONSTRAINED = {"settings": {"constraints": "water"}}


def maxwell(atoms: Atoms, frames: int, temperature: float = 300.0, seed: int = 5) -> np.ndarray:
    spread = np.sqrt(BOLTZMANN * temperature / KINETIC / atoms.get_masses())
    return np.random.default_rng(seed).normal(size=(frames, len(atoms), 3)) * spread[:, None]


def without(velocities: np.ndarray, atoms: Atoms, pairs: list[tuple[int, int]]) -> np.ndarray:
    """Velocities less what changes the distances of pairs: those of the constrained canonical ensemble."""
    jacobian = np.zeros((len(pairs), 3 * len(atoms)))
    for row, (i, j) in enumerate(pairs):
        apart = atoms.positions[j] - atoms.positions[i]
        jacobian[row, 3 * i : 3 * i + 3], jacobian[row, 3 * j : 3 * j + 3] = -apart, apart
    light = jacobian / np.repeat(atoms.get_masses(), 3)
    flat = velocities.reshape(len(velocities), -1)
    return (flat - flat @ jacobian.T @ np.linalg.solve(light @ jacobian.T, light)).reshape(velocities.shape)


def rigid_waters(frames: int = 120, **fields: object) -> Trajectory:
    box = waters(3, 3.2)
    pairs = [(3 * k + a, 3 * k + b) for k in range(27) for a, b in ((0, 1), (0, 2), (1, 2))]
    velocities = without(maxwell(box, frames), box, pairs)
    return in_memory(box, np.tile(box.positions, (frames, 1, 1)), values={"velocities": velocities}, **fields)


@pytest.mark.parametrize("record", [{}, CONSTRAINED])
def test_the_temperature_of_rigid_waters(record: dict) -> None:
    run = rigid_waters(record=record)
    found = freedom_of(run)
    assert found is not None and found.degrees == 27 * 6
    # 50 frames of 162 degrees of freedom: 1.6 %
    assert temperature_of(run) == pytest.approx(300.0, rel=0.06)
    power = velocity_power(run, resolution=450.0)
    assert power.modes == 27 * 6 and power.temperature == pytest.approx(300.0, rel=0.06)
    step = power.wavenumber[1]
    assert power.weighted.sum() * step == pytest.approx(27 * 6, rel=0.05)
    assert any("162 modes: 3N = 243 less" in note for note in show_vdos(run, resolution=450.0).notes)


def test_flexible_waters_have_all_degrees_of_freedom_and_frozen_atoms_none() -> None:
    box = waters(3, 3.2)
    velocities = maxwell(box, 60)
    frames = np.tile(box.positions, (60, 1, 1))
    free = freedom_of(in_memory(box, frames, values={"velocities": velocities}))
    assert free is not None and free.degrees == 243 and len(free.held) == 0
    velocities[:, :30] = 0.0
    run = in_memory(box, frames, values={"velocities": velocities})
    held = freedom_of(run)
    assert held is not None and held.degrees == 243 - 90 and held.frozen.tolist() == list(range(30))
    assert temperature_of(run) == pytest.approx(300.0, rel=0.06)


def test_what_cannot_be_counted_gives_no_temperature() -> None:
    assert temperature_of(rigid_waters(partial=True)) is None
    box = waters(1, 8.0)
    one = in_memory(box, box.positions[None], values={"velocities": maxwell(box, 1)}, record=CONSTRAINED)
    assert temperature_of(one) is None
    # differences of positions do not tell whether bonds are held
    moving = np.cumsum(maxwell(box, 200), axis=0) * 0.01 + box.positions
    power = velocity_power(in_memory(box, moving, record=CONSTRAINED), resolution=200.0)
    assert not power.counted and np.isnan(power.temperature)


def test_shifted_masses_are_mentioned() -> None:
    box = waters(2, 3.2)
    run = in_memory(box, box.positions[None])
    assert other_masses(run) == []
    masses = box.get_masses()
    masses[box.numbers == 1] += 2.0
    masses[box.numbers == 8] -= 4.0
    box.set_masses(masses)
    assert "masses of 24 atoms are not those of their elements" in other_masses(in_memory(box, box.positions[None]))[0]
