"""Trajectories: round trips, growing files, killed writers, refusals."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.units
import h5py
import numpy as np
import pytest
import torch
from toys import LennardJones, Morse, argon_box, cluster

import heliodor
from heliodor.dynamics import init, nve_step, open_writer, read_trajectory
from heliodor.dynamics.files import h5md_resume
from heliodor.dynamics.files.storage import StorageError
from heliodor.errors import InputError
from heliodor.potential import Terms
from heliodor.system import System
from heliodor.units import KJ_PER_MOL

SUFFIXES = (".h5", ".xyz")


class Charged(LennardJones):
    def forward(self, system, neighbors):
        terms = super().forward(system, neighbors)
        return Terms(terms.energies, charges=torch.linspace(-0.5, 0.5, system.n_atoms, dtype=torch.float64))


def states(count, frames, potential):
    state = init(System.from_atoms(frames), potential, temperature=100.0, seed=1)
    found = [state]
    for _ in range(count - 1):
        found.append(nve_step(found[-1], potential, 4.0))
    return found


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read(tmp_path, suffix):
    path = tmp_path / f"run{suffix}"
    atoms = argon_box(2, 4.1)
    atoms.positions += 30.0
    atoms.info |= {"charge": 1, "spin": 1}
    written = states(4, atoms, Charged())
    with open_writer(path, forces=True, precision="double") as writer:
        for state in written:
            writer.write(state)
    frames = read_trajectory(path)
    assert len(frames) == 4
    for state, frame in zip(written, frames, strict=True):
        assert frame.get_chemical_symbols() == ["Ar"] * 8
        np.testing.assert_allclose(frame.positions, state.system.positions, atol=1e-8, rtol=0)
        np.testing.assert_allclose(frame.get_velocities() * ase.units.fs, state.velocities, atol=1e-8, rtol=0)
        np.testing.assert_allclose(frame.get_forces(), state.forces, atol=1e-8, rtol=0)
        np.testing.assert_allclose(frame.get_charges(), np.linspace(-0.5, 0.5, 8), atol=1e-8)
        np.testing.assert_allclose(frame.cell.array, atoms.cell.array)
        assert frame.get_potential_energy() == pytest.approx(float(state.energy[0]), abs=1e-8)
        assert frame.pbc.all()
        assert (frame.info["charge"], frame.info["spin"]) == (1, 1)
        assert (frame.info["step"], frame.info["time_fs"]) == (state.step, state.time)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_several_structures_share_a_file(tmp_path, suffix):
    path = tmp_path / f"run{suffix}"
    written = states(3, [cluster(4, 2.0, "Ar"), argon_box(2), cluster(2, 3.8, "Ar")], LennardJones())
    with open_writer(path) as writer:
        for state in written:
            writer.write(state)
    for b, expected in enumerate(written[-1].system.to_atoms()):
        frames = read_trajectory(path, structure=b)
        assert len(frames) == 3
        np.testing.assert_allclose(frames[-1].positions, expected.positions, atol=1e-5)
        assert frames[-1].pbc.all() == (b == 1)
        assert frames[-1].get_potential_energy() == pytest.approx(float(written[-1].energy[b]))


def test_the_layout_is_h5md(tmp_path):
    path = tmp_path / "run.h5"
    with open_writer(path, metadata={"model": "toy"}) as writer:
        for state in states(3, argon_box(2), LennardJones()):
            writer.write(state)
    with h5py.File(path) as file:
        assert file["h5md"].attrs["version"].tolist() == [1, 1]
        assert file["h5md/creator"].attrs["name"] == "heliodor"
        assert file["h5md/creator"].attrs["version"] == heliodor.__version__
        assert "name" in file["h5md/author"].attrs
        group = file["particles/trajectory"]
        assert group["species"][:].tolist() == [18] * 8
        assert group["box"].attrs["dimension"] == 3
        assert group["box"].attrs["boundary"].tolist() == [b"periodic"] * 3
        for name, unit in (("position", "Angstrom"), ("velocity", "Angstrom fs-1"), ("box/edges", "Angstrom")):
            assert group[name]["value"].attrs["unit"] == unit
            assert group[name]["value"].shape[0] == 3
            assert group[name]["step"][:].tolist() == [0, 1, 2]
            assert group[name]["time"].attrs["unit"] == "fs"
        assert file["observables/potential_energy/value"].shape == (3,)
        assert file["observables/potential_energy/value"].attrs["unit"] == "eV"
        assert file["heliodor"].attrs["model"] == "toy"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_growing_file_can_be_read(tmp_path, suffix):
    path = tmp_path / f"run{suffix}"
    with open_writer(path) as writer:
        for n, state in enumerate(states(3, argon_box(2), LennardJones())):
            writer.write(state)
            assert len(read_trajectory(path)) == n + 1


def test_an_extxyz_cut_anywhere_gives_its_whole_frames(tmp_path):
    whole, cut = tmp_path / "run.xyz", tmp_path / "cut.xyz"
    with open_writer(whole) as writer:
        for state in states(3, cluster(3, 3.8, "Ar"), LennardJones()):
            writer.write(state)
    data = whole.read_bytes()
    third = len(data) // 3
    for end in [*range(2 * third - 60, 2 * third + 60), len(data) - 1]:
        cut.write_bytes(data[:end])
        # every whole frame, none in parts: what is left are exact prefixes
        frames = read_trajectory(cut)
        assert len(frames) in (1, 2)
        assert all(len(frame) == 3 for frame in frames)
        assert [frame.info["step"] for frame in frames] == list(range(len(frames)))
    assert len(read_trajectory(cut)) == 2


def test_an_unfinished_h5_frame_is_left_out(tmp_path):
    path = tmp_path / "run.h5"
    with open_writer(path) as writer:
        for state in states(3, argon_box(2), LennardJones()):
            writer.write(state)
    with h5py.File(path, "r+") as file:
        file["particles/trajectory/position/value"].resize(5, axis=0)
        file["heliodor/step"].resize(5, axis=0)
    assert len(read_trajectory(path)) == 3


def test_files_of_older_versions_are_read(tmp_path):
    path = tmp_path / "run.h5"
    with open_writer(path, forces=True, precision="double") as writer:
        for state in states(3, argon_box(2), LennardJones()):
            writer.write(state)
    expected = read_trajectory(path)
    with h5py.File(path, "r+") as file:
        # one structure was called "all", and forces were in eV/Å
        file.move("particles/trajectory", "particles/all")
        force = file["particles/all/force/value"]
        assert force.attrs["unit"] == "kJ mol-1 Angstrom-1"
        force[:] = force[:] * KJ_PER_MOL
        force.attrs["unit"] = "eV Angstrom-1"
    for old, new in zip(read_trajectory(path), expected, strict=True):
        np.testing.assert_array_equal(old.positions, new.positions)
        np.testing.assert_allclose(old.get_forces(), new.get_forces(), rtol=1e-14)


def killed(path):
    """A file as kill -9 leaves it: a copy taken while it is being written."""
    twin = path.with_name("killed" + path.suffix)
    twin.write_bytes(path.read_bytes())
    return twin


@pytest.mark.parametrize("frames", [argon_box(2), [argon_box(2), cluster(3, 3.8, "Ar")]])
def test_a_killed_h5_file_is_copied_block_by_block(tmp_path, monkeypatch, frames):
    monkeypatch.setattr(h5md_resume, "BLOCK_BYTES", 1000)
    path = tmp_path / "run.h5"
    found = states(9, frames, LennardJones())
    with open_writer(path, forces=True, metadata={"model": "toy"}) as writer:
        for state in found[:5]:
            writer.write(state)
        mark = writer.mark()
        for state in found[5:7]:
            writer.write(state)
        left = killed(path)
        for state in found[7:]:
            writer.write(state)
    with pytest.raises(OSError, match="already open for write"):
        h5py.File(left, "r+")
    before = left.stat().st_ino
    with open_writer(left, resume=mark) as writer:
        assert left.stat().st_ino != before
        assert not left.with_name("killed.h5.part").exists()
        assert len(read_trajectory(left)) == 5
        for state in found[5:]:
            writer.write(state)
    for b in range(found[0].system.n_structures):
        for one, other in zip(read_trajectory(path, b), read_trajectory(left, b), strict=True):
            np.testing.assert_array_equal(one.positions, other.positions)
            np.testing.assert_array_equal(one.get_velocities(), other.get_velocities())
            np.testing.assert_array_equal(one.get_forces(), other.get_forces())
            assert one.info == other.info


def test_a_failing_copy_leaves_the_killed_file(tmp_path, monkeypatch):
    path = tmp_path / "run.h5"
    with open_writer(path) as writer:
        for state in states(3, argon_box(2), LennardJones()):
            writer.write(state)
        mark = writer.mark()
        left = killed(path)
    before = left.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(h5md_resume, "_copied", full)
        with pytest.raises(StorageError, match=r"killed\.h5: no space left on device"):
            open_writer(left, resume=mark)
    assert left.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["killed.h5", "run.h5"]
    with open_writer(left, resume=mark):
        pass
    assert len(read_trajectory(left)) == 3


def test_a_file_goes_on_with_what_it_was_begun_with(tmp_path):
    path = tmp_path / "run.h5"
    found = states(4, argon_box(2), Charged())
    with open_writer(path, forces=True, atoms=torch.tensor([2, 5]), precision="double") as writer:
        for state in found[:2]:
            writer.write(state)
        mark = writer.mark()
    with open_writer(path, resume=mark) as writer:
        # charges are not in a checkpoint
        writer.write(found[2].replace(prediction=None))
        writer.write(found[3])
    frames = read_trajectory(path)
    np.testing.assert_array_equal(frames[3].positions, found[3].system.positions[[2, 5]])
    np.testing.assert_allclose(frames[3].get_forces(), found[3].forces[[2, 5]], rtol=1e-14)
    assert np.isnan(frames[2].get_charges()).all()
    np.testing.assert_allclose(frames[3].get_charges(), np.linspace(-0.5, 0.5, 8)[[2, 5]], rtol=1e-14)


@pytest.mark.parametrize("name", ["run.dat", "run", "run.h5.gz"])
def test_unknown_formats_are_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"must end in one of \.h5"):
        open_writer(tmp_path / name)


def test_unreadable_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        read_trajectory(tmp_path / "none.h5")
    for name in ("bad.h5", "bad.xyz"):
        (tmp_path / name).write_text("nonsense\nmore\n")
        with pytest.raises(InputError, match=name):
            read_trajectory(tmp_path / name)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(InputError, match="not an H5MD trajectory"):
        read_trajectory(tmp_path / "other.h5")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_existing_files_and_missing_folders_are_refused(tmp_path, suffix):
    path = tmp_path / f"run{suffix}"
    path.write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        open_writer(path)
    assert path.read_text() == "precious"
    with open_writer(path, overwrite=True) as writer:
        writer.write(states(1, argon_box(2), LennardJones())[0])
    assert len(read_trajectory(path)) == 1
    with pytest.raises(InputError, match="no folder"):
        open_writer(tmp_path / "none" / path.name)
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        open_writer(tmp_path / f"folder{suffix}", overwrite=True)


def test_signals_leave_readable_files(tmp_path):
    """kill -9 in mid-writing, at two rates and in both formats, Ctrl-C and SIGTERM: all at once, for speed."""
    cases = {
        "kill.h5": (signal.SIGKILL, 0.5),
        "kill_sparse.h5": (signal.SIGKILL, 5.0),
        "kill_text.xyz": (signal.SIGKILL, 0.5),
        "interrupt.h5": (signal.SIGINT, 7.0),
        "terminate.xyz": (signal.SIGTERM, 7.0),
    }
    script = Path(__file__).with_name("writer_process.py")
    source = Path(heliodor.__file__).parents[1]
    parent = subprocess.Popen(
        [sys.executable, str(script), *(f"{name}:{save}" for name, (_, save) in cases.items())],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(source)},
        stdout=subprocess.PIPE,
        text=True,
    )
    children = {}
    try:
        for _ in cases:
            _, name, pid = parent.stdout.readline().split()
            children[name] = int(pid)
        time.sleep(0.3)
        for name, pid in children.items():
            os.kill(pid, cases[name][0])
        ends = dict(line.split()[1:] for line in parent.communicate(timeout=60)[0].splitlines())
    finally:
        parent.kill()
        parent.communicate()

    potential = Morse()
    for name, (number, save) in cases.items():
        assert int(ends[name]) == (-signal.SIGKILL if number == signal.SIGKILL else 0)
        frames = read_trajectory(tmp_path / name)
        steps = [frame.info["step"] for frame in frames]
        stride = round(save / 0.5)
        assert len(frames) > 3
        assert steps[:-1] == list(range(0, (len(steps) - 1) * stride, stride))
        for frame in (frames[len(frames) // 2], frames[-1]):
            energy = heliodor.evaluate(potential, frame).energy
            assert frame.get_potential_energy() == pytest.approx(float(energy[0]), abs=1e-4)
        log = (tmp_path / name).with_suffix(".csv").read_text().splitlines()
        assert log[0].startswith("step,time_fs,temperature_K,potential_eV,pair_eV,kinetic_eV,conserved_eV,drift")
        assert len(log) >= 2
        if number != signal.SIGKILL:
            assert (tmp_path / f"{name}.end").read_text() == f"True {steps[-1]}"
            assert log[-1].startswith(f"{steps[-1]},")


def test_a_file_that_lost_its_end_is_refused_at_once(tmp_path):
    with open_writer(tmp_path / "run.h5") as writer:
        for state in states(4, argon_box(2, 4.1), LennardJones(cutoff=5.0)):
            writer.write(state)
        mark = writer.mark()
    content = (tmp_path / "run.h5").read_bytes()
    for size in (len(content) // 3, len(content) - 1):
        (tmp_path / "run.h5").write_bytes(content[:size])
        with pytest.raises(InputError, match="has lost its end"):
            read_trajectory(tmp_path / "run.h5")
        with pytest.raises(InputError, match="has lost its end"):
            open_writer(tmp_path / "run.h5", resume=mark)
