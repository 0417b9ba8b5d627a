"""heliodor md in parts and heliodor protocol, as a user runs them."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase
import numpy as np
import pytest
from ase.build import molecule

import heliodor
from heliodor.dynamics.files.trajectory import read_trajectory

MD = ("--model", "heliodor-mini", "--device", "cpu", "--seed", 4)


def box() -> ase.Atoms:
    """Eight waters in a periodic box."""
    atoms = molecule("H2O")
    atoms.set_cell([3.1] * 3)
    atoms.pbc = True
    atoms = atoms.repeat(2)
    atoms.rattle(0.02, seed=1)
    return atoms


def rows(path: str) -> list[dict[str, str]]:
    with Path(path).open() as file:
        return list(csv.DictReader(file))


def test_a_run_in_parts_is_the_run_in_one(cli, write):
    write("box.xyz", box())
    npt = ("--ensemble", "npt", "--coupling", "semi-isotropic", "--log-every", "1 fs", "--save-every", "2 fs")
    whole = cli("md", "box.xyz", *MD, *npt, "--steps", 16, "--output", "whole.h5")
    assert whole.code == 0, whole.err
    assert "NPT at 300 K, 1.0 bar (Langevin thermostat 2 1/ps; stochastic cell rescaling 1000 fs, semi-isotropic)" in (
        whole.out
    )
    first = cli("md", "box.xyz", *MD, *npt, "--steps", 6, "--output", "part.h5")
    assert first.code == 0, first.err
    again = cli("md", "--restart", "part.restart")
    assert again.code == 2
    assert "--extend" in again.error
    rest = cli("md", "--restart", "part.restart", "--extend", "5 fs", "--json")
    assert rest.code == 0, rest.err
    result = json.loads(rest.out)
    assert (result["steps"], result["ended"]) == (16, "finished")
    assert {"mean_pressure_bar", "mean_density_g_cm3", "peak_memory_GB"} <= set(result)
    assert result["seconds_by_stage"]["steps"] > 0
    assert Path("part.csv").read_text() == Path("whole.csv").read_text()
    for a, b in zip(read_trajectory("part.h5"), read_trajectory("whole.h5"), strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
    lines = rows("part.csv")
    assert float(lines[-1]["density_g_cm3"]) == pytest.approx(
        box().get_masses().sum() / float(lines[-1]["volume_A3"]) / 0.602214, rel=1e-4
    )
    assert lines[-1]["a_A"] == lines[-1]["b_A"] != lines[-1]["c_A"]
    inputs = json.loads(Path("part.json").read_text())["inputs"]
    assert inputs["structure"] == "box.xyz"
    assert len(inputs["sha256"]) == 64


def test_another_model_at_the_restart(cli, write):
    write("water.xyz", molecule("H2O"))
    assert cli("md", "water.xyz", *MD, "--steps", 2).code == 0
    answer = cli("md", "--restart", "run.restart", "--model", "so3lr", "--extend", "1 fs")
    assert answer.code == 2
    assert "another model" in answer.error
    damaged = Path("run.restart").read_bytes()[:-20]
    Path("run.restart").write_bytes(damaged)
    answer = cli("md", "--restart", "run.restart", "--extend", "1 fs")
    assert answer.code == 2
    assert "run.restart" in answer.error


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_sigterm_and_walltime_leave_what_a_restart_needs(cli, write):
    write("water.xyz", molecule("H2O"))
    source = str(Path(heliodor.__file__).parents[1])
    words = ["md", "water.xyz", *map(str, MD), "--steps", "1000000", "--log-every", "0.5 fs"]
    program = subprocess.Popen(
        [sys.executable, "-m", "heliodor", *words],
        env={**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = Path("run.csv")
    for _ in range(900):
        if program.poll() is not None or (log.exists() and len(log.read_text().splitlines()) > 5):
            break
        time.sleep(0.1)
    twice = cli("md", "--restart", "run.restart")
    assert twice.code == 2
    assert "being written by another process" in twice.error
    program.send_signal(signal.SIGTERM)
    out, err = program.communicate(timeout=60)
    assert program.returncode == 130, err
    assert "go on        heliodor md --restart run.restart" in out
    reached = int(rows("run.csv")[-1]["step"])
    more = cli("md", "--restart", "run.restart", "--walltime", "2s", "--json")
    assert more.code == 0, more.err
    result = json.loads(more.out)
    assert result["ended"] == "walltime"
    assert result["seconds"] < 2.5
    assert result["steps"] > reached
    assert read_trajectory("run.h5")[-1].info["step"] == result["steps"]


def test_protocol(cli, write):
    write("box.xyz", box())
    shown = cli("protocol", "box.xyz", "--show", "--temperature", 350)
    assert '"50:350"' in shown.out
    steps = (
        "settings: {log_every: 1 fs}\n"
        "stages:\n"
        "  - minimize: {fmax: 1.0, steps: 5}\n"
        '  - {name: heat, ensemble: nvt, temperature: "50:300", steps: 12}\n'
        "  - {name: npt, ensemble: npt, steps: 30, settle: [density_g_cm3]}\n"
    )
    write("steps.yaml", steps)
    answer = cli("protocol", "box.xyz", "--model", "heliodor-mini", "--steps", "steps.yaml", "--folder", "out")
    assert answer.code == 0, answer.err
    assert "minimize     largest force" in answer.out
    assert "density" in answer.out
    assert Path("out/03-npt.png").read_bytes().startswith(b"\x89PNG")
    again = cli("protocol", "box.xyz", "--model", "heliodor-mini", "--steps", "steps.yaml", "--folder", "out", "--json")
    result = json.loads(again.out)
    assert set(result) == {"minimize", "heat", "npt"}
    assert result["npt"]["settled"]["density"]["words"]
    assert again.err.count("already done") == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: [{steps: 5, tmperature: 3}]", "did you mean 'temperature'"),
        ("stages: [", "steps.yaml, line"),
        ("- 5", "should hold names and values"),
    ],
)
def test_protocol_mistakes(cli, write, text, message):
    write("box.xyz", box())
    write("steps.yaml", text)
    answer = cli("protocol", "box.xyz", "--model", "heliodor-mini", "--steps", "steps.yaml")
    assert answer.code == 2
    assert message in answer.error


def test_restraints_hold(cli, write):
    write("water.xyz", molecule("H2O"))
    write("restraints.yaml", "- {kind: distance, atoms: [0, 1], value: 1.1, k: 40}\n")
    answer = cli("md", "water.xyz", *MD, "--steps", 60, "--restraints", "restraints.yaml", "--temperature", 10)
    assert answer.code == 0, answer.err
    assert "restraint_eV" in rows("run.csv")[0]
    lengths = [frame.get_distance(0, 1) for frame in read_trajectory("run.h5")]
    assert np.mean(lengths[1:]) == pytest.approx(1.04, abs=0.05)
    write("restraints.yaml", "- {kind: distance, atoms: [0, 9], value: 1.3, k: 500}\n")
    answer = cli("md", "water.xyz", *MD, "--steps", 6, "--restraints", "restraints.yaml", "--output", "b.h5")
    assert answer.code == 2
    assert "9" in answer.error
