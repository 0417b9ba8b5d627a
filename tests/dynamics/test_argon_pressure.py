"""Density of argon under pressure, against OpenMM's Monte Carlo barostats (benchmarks/ensembles_openmm.py)."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from support import DATA

pytestmark = pytest.mark.usefixtures("unchecked")


@pytest.fixture(scope="module")
def benchmark():
    """The very script that made the reference; of it only our half is run."""
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "ensembles_openmm.py"
    spec = importlib.util.spec_from_file_location("ensembles_openmm", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_density_of_solid_argon(benchmark):
    stored = json.loads((DATA / "argon_npt_openmm.json").read_text())["openmm anisotropic"]
    rows = benchmark.by_heliodor("rescaling", "anisotropic", 4.0, 7, settle=1.6)
    means = rows.mean(0)
    error = float(np.hypot(means.std(ddof=1) / len(means) ** 0.5, stored["error"]))
    assert abs(means.mean() - stored["density"]) < 4 * error
    # without the pressure the density would be a percent and a half lower
    assert error < 0.003 * stored["density"]
