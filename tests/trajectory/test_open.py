"""What is read back is what was written, in every format, whole, in parts, cut off, and by other programs."""

import shutil

import ase.io
import h5py
import mdtraj
import numpy as np
import pytest

from heliodor.errors import InputError
from heliodor.topology import set_names, topology_of
from heliodor.trajectory import open_trajectory
from trajectories import waters, write_frames

FRAMES = 7


@pytest.fixture
def known(rng):
    """Positions, velocities, charges, ratios, cells and energies of waters that drift, in a cell that grows."""
    atoms = waters()
    n = len(atoms)
    drift = np.cumsum(rng.normal(0, 0.05, (FRAMES, n, 3)), axis=0)
    grow = 1.0 + 0.01 * np.arange(FRAMES)
    return atoms, {
        "positions": atoms.positions + drift,
        "velocities": rng.normal(0, 0.01, (FRAMES, n, 3)),
        "charges": rng.normal(0, 0.3, (FRAMES, n)),
        "ratios": rng.uniform(0.5, 1.0, (FRAMES, n)),
        "cells": grow[:, None, None] * atoms.cell.array,
        "energies": rng.normal(-50, 1, FRAMES),
    }


WANTED = ("velocities", "charges", "hirshfeld_ratios", "energy")


@pytest.mark.parametrize("name", ["run.h5", "run.xyz"])
def test_everything_comes_back(tmp_path, known, name):
    atoms, given = known
    path = write_frames(tmp_path / name, atoms, interval=2.5, precision="double", **given)
    trajectory = open_trajectory(path)
    assert len(trajectory) == FRAMES
    assert trajectory.interval == 2.5
    assert trajectory.holds == set(WANTED)
    assert trajectory.periodic
    assert trajectory.charge == 0.0
    block = trajectory.read(np.arange(FRAMES), wanted=WANTED)
    for mine, theirs in (("positions",) * 2, ("velocities",) * 2, ("charges",) * 2, ("hirshfeld_ratios", "ratios")):
        np.testing.assert_allclose(getattr(block, mine), given[theirs], atol=1e-12)
    np.testing.assert_allclose(block.cell, given["cells"], atol=1e-12)
    np.testing.assert_allclose(block.energy, given["energies"], atol=1e-9)
    np.testing.assert_array_equal(block.time, 2.5 * np.arange(FRAMES))
    some, few = np.array([1, 4, 5]), np.array([0, 7, 20])
    part = trajectory.read(some, atoms=few, wanted=("velocities",))
    np.testing.assert_array_equal(part.positions, block.positions[some][:, few])
    np.testing.assert_array_equal(part.velocities, block.velocities[some][:, few])
    gathered = list(trajectory.blocks(1, None, 2, memory=24 * len(atoms) * 2))
    assert [len(b) for b in gathered] == [2, 1]
    np.testing.assert_array_equal(np.concatenate([b.index for b in gathered]), [1, 3, 5])
    np.testing.assert_array_equal(gathered[1].positions[0], block.positions[5])
    frame = trajectory.atoms(-1)
    np.testing.assert_array_equal(frame.positions, block.positions[-1])
    np.testing.assert_array_equal(frame.cell.array, block.cell[-1])
    assert frame.info["time_fs"] == 15.0


def test_dcd_and_xtc_need_a_topology_and_agree_with_mdtraj(tmp_path, known):
    atoms, given = known
    path = write_frames(tmp_path / "run.dcd", atoms, given["positions"], cells=given["cells"], interval=2.5)
    with pytest.raises(InputError, match=r"no elements: give the structure.*--topology"):
        open_trajectory(path)
    mine = open_trajectory(path, atoms)
    np.testing.assert_allclose(mine.time, 2.5 * np.arange(FRAMES), rtol=1e-6)
    block = mine.read(np.array([0, 2, 3, 6]))
    np.testing.assert_allclose(block.positions, given["positions"][[0, 2, 3, 6]], atol=1e-5)
    np.testing.assert_allclose(block.cell, given["cells"][[0, 2, 3, 6]], atol=1e-5)
    ase.io.write(tmp_path / "top.pdb", atoms)
    frames = mdtraj.load_dcd(str(path), top=str(tmp_path / "top.pdb"))
    frames.time = 0.01 * np.arange(FRAMES)
    frames.save_xtc(str(tmp_path / "run.xtc"))
    other = open_trajectory(tmp_path / "run.xtc", tmp_path / "top.pdb")
    np.testing.assert_allclose(other.time, 10.0 * np.arange(FRAMES), atol=1e-3)
    # XTC keeps 1e-3 nm
    np.testing.assert_allclose(other.read(np.array([1, 5])).positions, given["positions"][[1, 5]], atol=0.006)
    with pytest.raises(InputError, match=r"frames of 24 atoms and the topology has 21"):
        open_trajectory(path, atoms[:-3])
    path.write_bytes(path.read_bytes()[:-50])
    assert len(open_trajectory(path, atoms)) == FRAMES - 1


def test_dcd_files_of_openmm_with_a_tilted_cell(tmp_path, known):
    import openmm
    from openmm import app, unit

    atoms, given = known
    cell = np.array([[6.4, 0, 0], [2.0, 6.2, 0], [-1.5, 1.1, 6.3]])
    topology = app.Topology()
    topology.setPeriodicBoxVectors([openmm.Vec3(*row) * unit.angstrom for row in cell])
    residue = topology.addResidue("X", topology.addChain())
    for symbol in atoms.symbols:
        topology.addAtom(symbol, app.Element.getBySymbol(symbol), residue)
    with (tmp_path / "o.dcd").open("wb") as file:
        out = app.DCDFile(file, topology, 2.0 * unit.femtosecond, firstStep=0, interval=5)
        for frame in given["positions"]:
            vectors = [openmm.Vec3(*row) for row in cell] * unit.angstrom
            out.writeModel([openmm.Vec3(*x) for x in frame] * unit.angstrom, periodicBoxVectors=vectors)
    mine = open_trajectory(tmp_path / "o.dcd", atoms)
    block = mine.read(np.arange(FRAMES))
    np.testing.assert_allclose(block.positions, given["positions"], atol=1e-5)
    np.testing.assert_allclose(block.cell, np.broadcast_to(cell, (FRAMES, 3, 3)), atol=1e-5)
    assert mine.interval == pytest.approx(10.0, rel=1e-5)


def test_names_travel_with_the_trajectory(tmp_path, known):
    atoms, given = known
    n = len(atoms)
    names = np.array(["O", "H1", "H2"] * (n // 3))
    atoms.set_array("atom_name", names)
    atoms.set_array("residue_name", np.array(["HOH"] * n))
    atoms.set_array("residue_number", np.arange(n) // 3 + 5)
    atoms.set_array("chain", np.array(["W"] * n))
    topology = open_trajectory(write_frames(tmp_path / "run.h5", atoms, given["positions"])).topology
    assert topology.named
    assert topology.names.tolist() == names.tolist()
    assert topology.residue_numbers.tolist() == (np.arange(n) // 3 + 5).tolist()
    assert set(topology.residue_names) == {"HOH"}
    assert set(topology.chains) == {"W"}
    assert topology.residues.tolist() == (np.arange(n) // 3).tolist()
    assert topology.molecules.tolist() == (np.arange(n) // 3).tolist()
    assert len(topology.bonds) == 2 * n // 3
    assert topology.label(3) == "HOH 6 O"
    # as extended xyz, and from a PDB file that MDTraj reads alike
    plain = atoms.copy()
    set_names(plain, topology)
    ase.io.write(tmp_path / "start.xyz", plain, format="extxyz")
    again = topology_of(ase.io.read(tmp_path / "start.xyz"))
    assert again.names.tolist() == topology.names.tolist()
    assert again.chains.tolist() == topology.chains.tolist()
    chosen = np.array([3, 4, 5, 9])
    part = topology.take(chosen)
    assert part.bonds.tolist() == [[0, 1], [0, 2]]
    assert part.names.tolist() == names[chosen].tolist()


def test_a_topology_of_other_atoms_is_refused(tmp_path, known):
    atoms, given = known
    path = write_frames(tmp_path / "run.h5", atoms, given["positions"])
    with pytest.raises(InputError, match=r"21 atoms and .* has 24"):
        open_trajectory(path, atoms[:-3])
    turned = atoms[np.r_[1, 0, 2:24]]
    with pytest.raises(InputError, match=r"atom 0 is H in the topology and O in"):
        open_trajectory(path, turned)
    with pytest.raises(InputError, match="there is no file"):
        open_trajectory(tmp_path / "none.h5")
    with pytest.raises(InputError, match=r"there is no file .* topology"):
        open_trajectory(path, tmp_path / "none.pdb")
    (tmp_path / "a.abc").write_text("x")
    with pytest.raises(InputError, match="cannot tell the trajectory format"):
        open_trajectory(tmp_path / "a.abc")


def test_files_cut_off_are_read_up_to_there(tmp_path, known):
    atoms, given = known
    path = write_frames(tmp_path / "run.xyz", atoms, given["positions"])
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    trajectory = open_trajectory(path)
    assert len(trajectory) == FRAMES - 1
    assert "cut off" in trajectory.notes[0]
    path.write_bytes(whole[: len(whole) // FRAMES // 2])
    with pytest.raises(InputError, match="no complete frame"):
        open_trajectory(path)
    path = write_frames(tmp_path / "run.h5", atoms, given["positions"])
    with h5py.File(path, "r+") as file:
        file["heliodor/step"][-2:] = -1
    trajectory = open_trajectory(path)
    assert len(trajectory) == FRAMES - 2
    assert "2 frame(s)" in trajectory.notes[0]
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match="lost its end"):
        open_trajectory(path)


def test_times_that_are_uneven_or_missing(tmp_path, known):
    atoms, given = known
    one = open_trajectory(write_frames(tmp_path / "one.h5", atoms, given["positions"][:1]))
    with pytest.raises(InputError, match=r"1 frame\(s\): anything along time needs two"):
        _ = one.interval
    path = write_frames(tmp_path / "run.h5", atoms, given["positions"])
    with h5py.File(path, "r+") as file:
        file["heliodor/time"][-1] = 11.0
    last = open_trajectory(path)
    assert last.interval == 2.0
    assert last.even == FRAMES - 1
    with h5py.File(path, "r+") as file:
        file["heliodor/time"][3] = 6.5
    with pytest.raises(InputError, match="not evenly spaced"):
        _ = open_trajectory(path).interval
    ase.io.write(tmp_path / "plain.xyz", [atoms, atoms], format="extxyz")
    plain = open_trajectory(tmp_path / "plain.xyz")
    assert plain.time.tolist() == [0.0, 1.0]
    assert "do not say their time" in plain.notes[0]


def test_numbers_that_are_none_and_quantities_that_are_missing(tmp_path, known):
    atoms, given = known
    positions = given["positions"].copy()
    positions[3, 2, 1] = np.nan
    trajectory = open_trajectory(write_frames(tmp_path / "run.h5", atoms, positions))
    assert trajectory.holds == {"energy"}
    with pytest.raises(InputError, match="frame 3 holds positions that are no numbers"):
        list(trajectory.blocks())
    with pytest.raises(InputError, match="holds no velocities or hirshfeld ratios"):
        trajectory.read(np.array([0]), wanted=("velocities", "hirshfeld_ratios"))


def test_names_of_the_start_are_found_through_the_record(tmp_path, monkeypatch):
    import heliodor

    monkeypatch.chdir(tmp_path)
    atoms = waters()
    n = len(atoms)
    atoms.set_array("atom_name", np.array(["OW", "HA", "HB"] * (n // 3)))
    atoms.set_array("residue_name", np.array(["HOH"] * n))
    ase.io.write("start.xyz", atoms, format="extxyz")
    from heliodor.dynamics.provenance import sha256_of

    inputs = {"structure": "start.xyz", "sha256": sha256_of("start.xyz"), "frame": None}
    heliodor.simulate(
        ase.io.read("start.xyz"), "heliodor-mini", time="1 fs", save_every=0.5, output="run.xyz", inputs=inputs, seed=1,
        progress=False,
    )  # fmt: skip
    found = open_trajectory("run.xyz")
    assert found.topology.names[:3].tolist() == ["OW", "HA", "HB"]
    assert found.temperature == 300.0
    assert found.log["time_fs"].tolist() == [0.0, 1.0]
    shutil.move("start.xyz", "elsewhere.xyz")
    assert "OW" not in open_trajectory("run.xyz").topology.names.tolist()


def test_the_record_of_another_run_is_not_used(tmp_path, monkeypatch):
    import heliodor

    monkeypatch.chdir(tmp_path)
    heliodor.simulate(waters(), "heliodor-mini", time="1 fs", save_every=0.5, output="run.h5", seed=1, progress=False)
    assert open_trajectory("run.h5").log
    shutil.copy("run.json", "other.json")
    shutil.copy("run.csv", "other.csv")
    larger = waters(3)
    write_frames(tmp_path / "other.xyz", larger, larger.positions[None])
    other = open_trajectory("other.xyz")
    assert not other.log
    assert not other.record
    assert "other.json beside it is of another run" in " ".join(other.notes)
