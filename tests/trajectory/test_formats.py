"""What files say of their run beside positions: periodicity, times, masses, settings; and memory while reading."""

import struct
import tracemalloc

import ase
import ase.io
import h5py
import mdtraj
import numpy as np
import pytest

import heliodor
from heliodor.errors import InputError
from heliodor.trajectory import open_trajectory
from heliodor.trajectory.images import Follower
from heliodor.trajectory.parallel import over_blocks
from trajectories import waters, write_frames


@pytest.fixture
def frames(rng):
    atoms = waters()
    return atoms, atoms.positions + np.cumsum(rng.normal(0, 0.05, (7, len(atoms), 3)), axis=0)


def test_slabs_in_dcd_files_are_open_where_their_cell_has_no_length(tmp_path, frames):
    atoms, positions = frames
    cell = np.array([[6.4, 0, 0], [2.0, 6.2, 0], [0, 0, 0]])
    path = write_frames(tmp_path / "slab.dcd", atoms, positions, cells=np.repeat(cell[None], 7, axis=0))
    slab = open_trajectory(path, atoms)
    assert slab.pbc.tolist() == [True, True, False]
    assert not slab.periodic
    np.testing.assert_allclose(slab.read(np.array([0, 3])).cell[1], cell, atol=1e-6)
    # paths keep what lies along the open axis
    block = slab.read(np.arange(7))
    np.testing.assert_allclose(Follower().follow(block.positions, block.cell), block.positions, atol=1e-9)


def test_a_last_dcd_frame_off_the_rhythm_has_its_own_time(tmp_path, frames):
    from heliodor.dynamics import init, open_writer
    from heliodor.system import System
    from trajectories import Free

    atoms, _ = frames
    state = init(System.from_atoms(atoms), Free(), temperature=0.0)
    with open_writer(tmp_path / "run.dcd") as writer:
        for step in (0, 10, 20, 30, 40, 45):
            writer.write(state.replace(step=step, time=float(step)))
    trajectory = open_trajectory(tmp_path / "run.dcd", atoms)
    np.testing.assert_allclose(trajectory.time, [0, 10, 20, 30, 40, 45], rtol=1e-6)
    assert trajectory.interval == pytest.approx(10.0, rel=1e-6)
    assert trajectory.even == 5
    # one cut off later tells nothing of the last that is left
    whole = (tmp_path / "run.dcd").read_bytes()
    (tmp_path / "run.dcd").write_bytes(whole[:-4])
    np.testing.assert_allclose(open_trajectory(tmp_path / "run.dcd", atoms).time, [0, 10, 20, 30, 40], rtol=1e-6)
    assert struct.unpack("<i", whole[20:24]) == (45,)


def test_times_in_single_precision_are_even(tmp_path, frames):
    atoms, _ = frames
    ase.io.write(tmp_path / "top.pdb", atoms)
    top = mdtraj.load(str(tmp_path / "top.pdb"))
    count = 400
    run = mdtraj.Trajectory(np.repeat(top.xyz, count, axis=0), top.top, time=20_000.0 + 0.02 * np.arange(count))
    run.unitcell_vectors = np.repeat(0.64 * np.eye(3)[None], count, axis=0)
    run.save_xtc(str(tmp_path / "run.xtc"))
    trajectory = open_trajectory(tmp_path / "run.xtc", tmp_path / "top.pdb")
    assert np.ptp(np.diff(trajectory.time)) > 1.0
    assert trajectory.interval == pytest.approx(20.0, rel=1e-3)
    assert trajectory.even == count
    # a gap is seen all the same
    run[np.r_[0:200, 205:count]].save_xtc(str(tmp_path / "gap.xtc"))
    with pytest.raises(InputError, match="not evenly spaced"):
        _ = open_trajectory(tmp_path / "gap.xtc", tmp_path / "top.pdb").interval


def foreign(path, positions, steps, boxes, velocities=None):
    """An H5MD file as another program may write it: step and box of their own for each element."""
    with h5py.File(path, "w") as file:
        group = file.create_group("particles/all")
        group["species"] = [8, 1, 1]
        group.create_group("box").attrs["boundary"] = np.array([b"periodic"] * 3)
        for name, every, value in (
            ("position", steps, positions),
            ("box/edges", boxes, np.array([[10.0 + s] * 3 for s in boxes])),
            ("velocity", velocities, None if velocities is None else np.zeros((len(velocities), 3, 3))),
        ):
            if every is not None:
                group[f"{name}/value"], group[f"{name}/step"] = value, every
                group[f"{name}/time"] = 2.0 * np.array(every)
    return path


def test_elements_of_other_steps_are_not_taken_for_those_of_the_frames(tmp_path):
    water = np.array([[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]])
    positions = np.repeat(water[None], 6, axis=0)
    steps = [0, 10, 20, 30, 40, 50]
    path = foreign(tmp_path / "a.h5", positions, steps, steps, velocities=[0, 20, 40])
    trajectory = open_trajectory(path)
    assert len(trajectory) == 6
    assert trajectory.holds == frozenset()
    assert trajectory.notes == ("velocities were saved at other steps than positions and are left out",)
    fine = open_trajectory(foreign(tmp_path / "b.h5", positions, steps, list(range(0, 51, 5)), velocities=steps))
    assert fine.holds == {"velocities"}
    assert fine.read(np.array([1, 4, 5])).cell[:, 0, 0].tolist() == [20.0, 50.0, 60.0]
    with h5py.File(fine.path, "r+") as file:
        group = file["particles/all/position"]
        for key, interval, offset in (("step", 10, 0), ("time", 20.0, 5.0)):
            del group[key]
            group[key] = interval
            group[key].attrs["offset"] = offset
    assert open_trajectory(fine.path).time.tolist() == [5.0, 25.0, 45.0, 65.0, 85.0, 105.0]
    with pytest.raises(InputError, match="there is none of step 10"):
        open_trajectory(foreign(tmp_path / "c.h5", positions, steps, [0, 20, 40]))


@pytest.mark.parametrize("name", ["run.xyz", "run.dcd", "run.h5"])
@pytest.mark.parametrize("saved", ["all", "H"])
def test_the_run_is_described_alike_in_all_formats(tmp_path, name, saved):
    atoms = waters()
    out = tmp_path / name
    heliodor.simulate(
        atoms, "heliodor-mini", time="1 fs", save_every=0.5, output=out, seed=1, progress=False, ensemble="npt",
        hydrogen_mass=3.024, pressure=2.0, temperature="300:310", save_atoms=saved,
    )  # fmt: skip
    kept = atoms if saved == "all" else atoms[atoms.numbers == 1]
    trajectory = open_trajectory(out, kept)
    expected = {
        "ensemble": "npt", "thermostat": "langevin", "barostat": "scr", "temperature_K": "300 to 310",
        "pressure_bar": "2.0", "rotation": "thermal", "timestep_fs": 0.5, "seed": 1,
    }  # fmt: skip
    assert {key: trajectory.settings[key] for key in expected} == expected
    assert trajectory.settings["model"]
    assert trajectory.continuous
    if name == "run.dcd" and saved == "H":
        # which atoms of all they are is not in the file
        return
    assert trajectory.masses[kept.numbers == 1] == pytest.approx(3.024)
    assert trajectory.masses.sum() == pytest.approx(144.12 if saved == "all" else 48.384, rel=1e-4)
    assert "masses are not the standard ones" in trajectory.notes[-1]


def counted(block):
    return len(block)


@pytest.mark.parametrize("name", ["run.h5", "run.dcd", "run.xtc"])
def test_few_atoms_of_many_take_little_memory(tmp_path, name):
    n, count = 4000, 700
    atoms = ase.Atoms("He" * n, np.random.default_rng(0).uniform(0, 50, (n, 3)), cell=[50.0] * 3, pbc=True)
    path = tmp_path / name
    if name == "run.xtc":
        ase.io.write(tmp_path / "top.pdb", atoms)
        top = mdtraj.load(str(tmp_path / "top.pdb"))
        mdtraj.Trajectory(np.repeat(top.xyz, count, axis=0), top.top).save_xtc(str(path))
    else:
        write_frames(path, atoms, np.repeat(atoms.positions[None], count, axis=0))
    trajectory = open_trajectory(path, atoms)
    chosen = np.array([0, n - 1])
    tracemalloc.start()
    try:
        assert sum(over_blocks(trajectory, counted, atoms=chosen)) == count
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # all of it is 34 MB in single precision; parts of 8 MB are read, and converted
    assert peak < 20 * 2**20
    np.testing.assert_allclose(
        trajectory.read(np.array([0, 650]), atoms=chosen).positions[1], atoms.positions[chosen], atol=0.01
    )
