"""benchmarks/gpu_speed.py at toy size, by Triton's interpreter: it has to work at once where there is a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="the extra 'gpu' is not installed")
SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu_speed.py"


def script(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TRITON_INTERPRET": "0"} | env,
    )


def test_a_row_checks_forces_and_takes_steps(tmp_path):
    done = script("--quick", "--only", "so3lr-ala15", "--output", str(tmp_path / "found"))
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert row["name"] == "so3lr-ala15" and row["atoms"] == 3 and row["steps"] == 1
    assert 0.0 < row["force_error"] < 1e-5
    assert row["floor_us"] > 0.0 and row["goal_ms"] == 0.25
    assert "so3lr-ala15" in done.stdout and "force error" in done.stdout


def test_without_a_gpu_it_says_so(tmp_path):
    done = script("--only", "so3lr-12k", "--output", str(tmp_path / "found"), CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2 and "torch sees no GPU" in done.stdout
    assert not (tmp_path / "found.json").exists()
