"""kill -9 at random moments: what is left can be read, little is lost, and the run ends as if never killed."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from killed_process import LAST
from parts import EVERY, STEPPERS, go
from test_restart import NAMES, same, same_trajectories

import heliodor
from heliodor.dynamics import read_trajectory
from heliodor.dynamics.files.restart import load_state

KILLS = 4
RUNS = 13


def steps_in(path):
    """Step of the last frame in a trajectory that a killed run left."""
    if path.suffix != ".dcd":
        return read_trajectory(path)[-1].info["step"]
    from MDAnalysis.lib.formats.libdcd import DCDFile

    with DCDFile(str(path)) as file:
        frames = file.readframes().xyz
        assert np.isfinite(frames).all()
        return (len(frames) - 1) * EVERY["save_every"]


def test_a_run_killed_again_and_again_ends_as_if_never_killed(tmp_path):
    cases = [(NAMES[k % 3], list(STEPPERS)[k // 3 % 3], tmp_path / f"run{k}") for k in range(RUNS)]
    for _, _, folder in cases:
        folder.mkdir()
    seed = int.from_bytes(os.urandom(4), "little")
    result = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).with_name("killed_process.py")),
            str(seed),
            str(KILLS),
            *(f"{name}:{kind}:{folder}" for name, kind, folder in cases),
        ],
        env=os.environ | {"PYTHONPATH": str(Path(heliodor.__file__).parents[1]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    words = [line.split()[0] for line in result.stdout.splitlines()]
    assert "failed" not in words, f"seed {seed}: {result.stderr}"
    assert len(words) == KILLS * RUNS
    assert words.count("killed") > KILLS * RUNS // 2

    whole = {}
    begun = 0
    for name, kind, folder in cases:
        if (kind, name) not in whole:
            whole[kind, name] = tmp_path / f"{kind}.{name}"
            whole[kind, name].mkdir()
            expected = go(whole[kind, name], last_step=LAST, kind=kind, name=name).state
        expected, _ = load_state(whole[kind, name] / "run.restart")
        if (folder / "run.restart").exists():
            begun += 1
            state, _ = load_state(folder / "run.restart")
            lost = steps_in(folder / name) - state.step
            assert -EVERY["save_every"] < lost <= EVERY["checkpoint_steps"] + EVERY["save_every"]
            table = np.genfromtxt(folder / "run.csv", delimiter=",", names=True, invalid_raise=False)
            assert table["step"].min() == 0
        end = go(folder, last_step=LAST, kind=kind, name=name)
        same(expected, end.state)
        assert (folder / "run.csv").read_bytes() == (whole[kind, name] / "run.csv").read_bytes(), seed
        same_trajectories(folder / name, whole[kind, name] / name)
    assert begun > RUNS // 2
