"""heliodor pimd: runs, comparison with classical nuclei, going on, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest

from heliodor.trajectory.open import open_trajectory

pytest.importorskip("ipi")

FAST = ("--model", "heliodor-mini", "--device", "cpu", "--kernels", "reference", "--timestep", 0.5)


def test_quantum_and_classical(cli, water):
    words = ("pimd", water, *FAST, "--beads", 4, "--stride", 1, "--bead-stride", 2, "--thermostat", "trpmd")
    answer = cli(*words, "--classical", "--time", "6 fs", "--json", "--centroid")
    assert answer.code == 0, answer.err
    assert "errors are too small" in answer.err
    found = json.loads(answer.out)
    numbers = found["numbers"]
    classical = numbers["classical"]["kinetic energy of H"]
    assert classical["value"] == pytest.approx(1.5e3 * 8.617333e-5 * 300.0)
    assert classical["unit"] == "meV"
    folder = Path("water-pimd")
    assert found["folder"] == str(folder)
    for name in ("course.png", "kinetic.png", "bonds.png"):
        assert (folder / name).read_bytes()[:4] == b"\x89PNG"
    table = np.genfromtxt(folder / "properties-quantum.csv", delimiter=",", names=True)
    assert table["time_fs"].tolist() == [0.5 * k for k in range(1, 13)]
    assert (folder / "input.xml").is_file()
    centroids = open_trajectory(folder / "centroids-quantum.xyz")
    assert centroids.time.tolist() == table["time_fs"].tolist()
    assert len(ase.io.read(folder / "beads-quantum.xyz", ":")) == 5 * 4
    # again without --restart nothing is touched; with it the run goes on to a longer time
    words = (*words, "--centroid")
    assert "already" in cli(*words, "--time", "6 fs").error
    longer = cli(*words, "--time", "7 fs", "--restart")
    assert longer.code == 0, longer.err
    assert "kinetic energy of O" in longer.out
    table = np.genfromtxt(folder / "properties-quantum.csv", delimiter=",", names=True)
    assert table["step"].tolist() == list(range(1, 15))
    assert "temperature" in cli(*words, "--time", "8 fs", "--restart", "--temperature", 310).error


def test_refusals(cli, water):
    assert "did you mean 'pile'" in cli("pimd", water, *FAST, "--thermostat", "pil").error
    assert "periodic" in cli("pimd", water, *FAST, "--pressure", 1, "--time", "5 fs").error
    assert "stride" in cli("pimd", water, *FAST, "--time", "2 fs").error
    assert "--skip" in cli("pimd", water, *FAST, "--skip", 1.5).error
    assert "no address" in cli("pimd", water, *FAST, "--driver", "here").error
    assert "seconds" in cli("pimd", water, *FAST, "--driver", "here:1", "--timeout", 0).error
    assert not Path("water-pimd").exists()
