"""Full disks, folders that vanish or are read-only: one error in words, nothing lost, and the run goes on later."""

import os
import resource
import shutil
import subprocess
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from parts import go
from test_restart import NAMES, same, same_trajectories
from toys import Wells, cluster

import heliodor.dynamics.files.storage as storage
from heliodor.dynamics import init, open_writer, read_trajectory
from heliodor.dynamics.files.restart import load_state
from heliodor.dynamics.files.storage import AppendFile, StorageError, write_durably
from heliodor.errors import InputError
from heliodor.system import System


@contextmanager
def limited(folder, size):
    """No file of this process may grow beyond so many bytes (an honest failure of the system's own)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def small_disk(folder, size):
    """The folder on a disk of so many bytes; the disk grows afterwards."""
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True)
    if made.returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)


@pytest.fixture
def place(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    yield folder
    while os.path.ismount(folder):
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def large():
    """A state whose frames are large; no forces to speak of."""
    atoms = cluster(6000, 3.0, "Ar")
    return init(System.from_atoms(atoms), Wells(torch.as_tensor(atoms.positions)), temperature=50.0)


def frames_of(state, count):
    for k in range(count):
        moved = state.system.replace(positions=state.system.positions + k)
        yield state.replace(system=moved, step=k, time=0.5 * k)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("disk", [limited, small_disk])
def test_a_full_disk_loses_no_frame(place, large, name, disk):
    path = place / name
    marks = []

    def fill(writer):
        for state in frames_of(large, 100):
            writer.write(state)
            marks.append(writer.mark())

    with disk(place, 4 * 2**20):
        writer = open_writer(path)
        with pytest.raises(StorageError, match=f"cannot write .*{name}: (no space left|file too large).*make room"):
            fill(writer)
        written = len(marks)
        assert marks[-1]["frames"] == written > 3
        # full disk or not, the file is closed in order and whole
        writer.close()
    if name != "run.dcd":
        assert [frame.info["step"] for frame in read_trajectory(path)] == list(range(written))
    with open_writer(path, resume=marks[-1]) as writer:
        for state in list(frames_of(large, written + 2))[written:]:
            writer.write(state)
    with open_writer(place.parent / name) as writer:
        for state in frames_of(large, written + 2):
            writer.write(state)
    if name != "run.h5":
        same_trajectories(path, place.parent / name)
    else:
        a, b = (read_trajectory(p) for p in (path, place.parent / name))
        assert len(a) == len(b) == written + 2
        assert all(np.array_equal(x.positions, y.positions) for x, y in zip(a, b, strict=True))
        # what was reserved ahead is given back
        assert path.stat().st_size < (place.parent / name).stat().st_size + 2**18


@pytest.mark.parametrize("name", ["run.xyz", "run.dcd"])
def test_a_run_on_a_full_disk_goes_on_when_there_is_room(tmp_path, name):
    often = {"save_every": 1}
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    parts.mkdir()
    whole.mkdir()
    go(parts, last_step=1, name=name, schedule=often)
    checkpoint, frame = (parts / "run.restart").stat().st_size, (parts / name).stat().st_size // 2
    steps = 2 * checkpoint // frame + 30
    expected = go(whole, last_step=steps, name=name, schedule=often)
    with limited(parts, checkpoint + 5 * frame), pytest.raises(StorageError, match=rf"{name}: file too large"):
        go(parts, last_step=steps, name=name, schedule=often)
    state, _ = load_state(parts / "run.restart")
    assert 0 < state.step < steps
    assert state.step % 10 == 0
    end = go(parts, last_step=steps, name=name, schedule=often)
    same(expected.state, end.state)
    assert (whole / "run.csv").read_bytes() == (parts / "run.csv").read_bytes()
    same_trajectories(whole / name, parts / name)


def test_the_old_checkpoint_stays_where_there_is_no_room_for_a_new_one(tmp_path):
    go(tmp_path, last_step=10)
    before = (tmp_path / "run.restart").read_bytes()
    with limited(tmp_path, 2**13), pytest.raises(StorageError, match=r"run\.restart: file too large"):
        write_durably(tmp_path / "run.restart", bytes(2**14))
    assert (tmp_path / "run.restart").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["run.csv", "run.h5", "run.restart"]


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_vanishes_stops_the_run(tmp_path, name):
    folder = tmp_path / "scratch"
    folder.mkdir()

    taken = iter(range(10**6))

    def stop():
        if next(taken) == 15:
            folder.rename(tmp_path / "elsewhere")
        return False

    with pytest.raises(StorageError, match=f"cannot write .*scratch/{name}: no such file or directory.*begin anew"):
        go(folder, last_step=1000, name=name, stop=stop)
    # where it went, it goes on
    state, _ = load_state(tmp_path / "elsewhere" / "run.restart")
    assert state.step == 10
    assert go(tmp_path / "elsewhere", last_step=20, name=name).state.step == 20


def test_another_file_under_the_name_is_noticed(tmp_path):
    file = AppendFile(tmp_path / "run.csv")
    file.append(b"1\n")
    file.sync()
    (tmp_path / "run.csv").unlink()
    (tmp_path / "run.csv").write_text("other")
    with pytest.raises(StorageError, match=r"run\.csv: stale file handle"):
        file.sync()
    file.close()
    assert (tmp_path / "run.csv").read_text() == "other"


@pytest.mark.parametrize("name", [*NAMES, "run.csv", "run.restart"])
def test_a_read_only_folder_is_named(tmp_path, name):
    if shutil.which("chattr") is None or subprocess.run(["chattr", "+i", tmp_path], capture_output=True).returncode:
        tmp_path.chmod(0o555)
        if os.access(tmp_path, os.W_OK):
            pytest.skip("nothing is read-only for this user here")
    begin = {"run.csv": AppendFile, "run.restart": lambda path: write_durably(path, b"x")}
    try:
        with pytest.raises(StorageError, match=rf"{name}: (operation not permitted|permission denied)"):
            begin.get(name, lambda path: go(tmp_path, last_step=3, name=name))(tmp_path / name)
    finally:
        subprocess.run(["chattr", "-i", tmp_path], capture_output=True)
        tmp_path.chmod(0o755)
    assert not list(tmp_path.iterdir())


def test_file_systems_that_cannot_reserve_are_let_be(tmp_path, monkeypatch):
    with (tmp_path / "x").open("wb") as file:
        storage.reserve(file.fileno(), 0, 1000)
        assert (tmp_path / "x").stat().st_size == 1000
        with limited(tmp_path, 5000), pytest.raises(OSError, match="too large"):
            storage.reserve(file.fileno(), 1000, 9000)

        def refuse(*_):
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(os, "posix_fallocate", refuse)
        storage.reserve(file.fileno(), 0, 1000)


def resumed(path, name, marks):
    with open_writer(path / name, resume=marks):
        pass


@pytest.mark.parametrize("name", NAMES)
def test_a_trajectory_of_another_run_is_refused(tmp_path, name):
    from toys import LennardJones, argon_box

    state = init(System.from_atoms(argon_box(2)), LennardJones(), temperature=10.0)
    with open_writer(tmp_path / name) as writer:
        for k in range(3):
            writer.write(state.replace(step=2 * k, time=1.0 * k))
        marks = writer.mark()
    whole = (tmp_path / name).read_bytes()
    resumed(tmp_path, name, marks)
    # one frame only, as if put back from an older copy
    other = tmp_path / "other"
    other.mkdir()
    with open_writer(other / name) as writer:
        writer.write(state)
    lost = r"(it has \d+ bytes where \d+ were written|it has 1 frames where 3 were written)"
    with pytest.raises(InputError, match=rf"not the file the checkpoint belongs to: {lost}; put the right file back"):
        resumed(other, name, marks)
    # other atoms
    helium = argon_box(2)
    helium.numbers[:] = 2
    if name == "run.dcd":
        helium = argon_box(3)
    twin = init(System.from_atoms(helium), LennardJones(), temperature=10.0)
    with open_writer(other / name, overwrite=True) as writer:
        for k in range(3):
            writer.write(twin.replace(step=2 * k, time=1.0 * k))
    with pytest.raises(InputError, match=r"its atoms are others|same number of atoms"):
        resumed(other, name, marks)
    (other / name).write_bytes(b"nonsense\n" * 10000)
    with pytest.raises(InputError, match=name):
        resumed(other, name, marks)
    (other / name).unlink()
    with pytest.raises(InputError, match="which is not there; put it back"):
        resumed(other, name, marks)
    assert (tmp_path / name).stat().st_size == len(whole)


def test_the_frames_of_another_run_of_the_same_atoms_are_noticed(tmp_path):
    from toys import LennardJones, argon_box

    state = init(System.from_atoms(argon_box(2)), LennardJones(), temperature=10.0)
    with open_writer(tmp_path / "run.h5") as writer:
        for k in range(3):
            writer.write(state.replace(step=5 * k, time=1.0 * k))
        marks = writer.mark()
    with pytest.raises(InputError, match="frame 2 is not that of step 11"):
        resumed(tmp_path, "run.h5", marks | {"step": 11})
    assert len(read_trajectory(tmp_path / "run.h5")) == 3
