"""Frames for the viewer."""

from __future__ import annotations

from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase.build import molecule
from scipy.spatial.transform import Rotation

from heliodor.report.frames import GRAIN, film, pack, traces, unpack
from heliodor.report.still import still
from heliodor.topology import topology_of
from heliodor.trajectory.open import open_trajectory


def opened(path: Path, images: list[ase.Atoms]):
    for k, atoms in enumerate(images):
        atoms.info["time_fs"] = 2.0 * k
    ase.io.write(path, images, format="extxyz")
    return open_trajectory(path)


def shown(found) -> np.ndarray:
    return unpack(found.data["positions"], found.data["frames"], found.data["grain"])


@pytest.mark.parametrize("extent", [5.0, 100.0])
def test_packing_keeps_positions_to_half_a_grain(rng, extent):
    positions = rng.uniform(-extent, extent, (7, 11, 3))
    grain = max(GRAIN, extent / 32000)
    assert np.abs(unpack(pack(positions, grain), 7, grain) - positions).max() <= 0.5 * grain * 1.001


def test_molecules_are_whole_and_the_solute_in_the_middle(tmp_path):
    box = molecule("CH3CH2OH")
    for k in range(6):
        water = molecule("H2O")
        water.translate([5.5, 3.5 * (k % 3), 2.0 + 5.0 * (k // 3)])
        box += water
    box.set_cell([11.0, 12.0, 13.0])
    box.pbc = True
    images = []
    for k in range(4):
        image = box.copy()
        image.positions += np.array([3.1, -2.0, 5.5]) * k
        image.wrap()
        images.append(image)
    trajectory = opened(tmp_path / "box.xyz", images)
    found = film(trajectory)
    positions = shown(found)
    bonds = trajectory.topology.bonds
    lengths = np.linalg.norm(positions[:, bonds[:, 0]] - positions[:, bonds[:, 1]], axis=2)
    there = np.linalg.norm(box.positions[bonds[:, 0]] - box.positions[bonds[:, 1]], axis=1)
    np.testing.assert_allclose(lengths, np.tile(there, (4, 1)), atol=3 * GRAIN)
    np.testing.assert_allclose(positions[:, :9].mean(1), 0.0, atol=GRAIN)
    assert found.data["cell"] == [11.0, 0, 0, 0, 12.0, 0, 0, 0, 13.0]
    assert len(found.data["solvent"]) == 18


def test_turns_lay_frames_on_the_first(tmp_path, rng):
    first = molecule("CH3CH2OH")
    images = []
    for turn in [Rotation.identity(), *Rotation.random(4, rng=rng)]:
        image = first.copy()
        image.positions = turn.apply(first.positions) + rng.normal(size=3)
        images.append(image)
    found = film(opened(tmp_path / "spin.xyz", images))
    positions, turns = shown(found), np.array(found.data["turns"]).reshape(-1, 3, 3)
    laid = np.einsum("fij,fnj->fni", turns, positions)
    np.testing.assert_allclose(laid, np.broadcast_to(positions[0], laid.shape), atol=4 * GRAIN)


def test_the_budget_keeps_frames_of_the_solute_and_whole_waters(tmp_path):
    box = molecule("CH3CH2OH")
    for k in range(10):
        water = molecule("H2O")
        water.translate([4.0 + 3.0 * k, 0.0, 0.0])
        box += water
    trajectory = opened(tmp_path / "drop.xyz", [box.copy() for _ in range(10)])
    found = film(trajectory, values=10 * (9 + 10))
    assert found.data["frames"] == 10
    assert found.data["atoms"] == 9 + 9
    assert found.words == ("Of the solvent 21 atoms farther from the solute are not shown.",)
    found = film(trajectory, values=5 * 9)
    assert (found.data["frames"], found.data["atoms"]) == (5, 9)
    assert found.words[0] == "5 of 10 frames are shown, evenly chosen."


def test_a_ribbon_ends_at_gaps():
    n = 9
    atoms = ase.Atoms("C" * n, positions=np.arange(n)[:, None] * [1.5, 0.0, 0.0])
    atoms.set_array("atom_name", np.array(["CA"] * n))
    atoms.set_array("residue_name", np.array(["ALA"] * n))
    atoms.set_array("residue_number", np.arange(n))
    bonds = np.array([[k, k + 1] for k in range(n - 1) if k != 4])
    assert traces(topology_of(atoms, bonds)) == [[0, 1, 2, 3, 4], [5, 6, 7, 8]]


def test_still_shows_every_atom_and_bond():
    water = molecule("H2O")
    picture = still(water.positions, topology_of(water), np.arange(3))
    assert (picture.count("<circle"), picture.count("<line")) == (3, 2)
    assert "nan" not in still(np.zeros((1, 3)), topology_of(ase.Atoms("Ar")), np.arange(1))
