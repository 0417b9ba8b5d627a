"""Densities of cells of known volume."""

from __future__ import annotations

import numpy as np
import pytest

from heliodor.analysis.liquids.density import density, show
from heliodor.errors import InputError
from memory_trajectories import in_memory
from trajectories import waters

MASS = 8 * 18.015 / 0.60221408
"""g/cm³ × Å³ of eight waters."""


def test_a_constant_cell_has_a_density_and_no_error() -> None:
    box = waters(2, 3.1)
    found = density(in_memory(box, np.tile(box.positions, (3, 1, 1))))
    assert found.mean == pytest.approx(MASS / 6.2**3, rel=1e-5)
    assert found.error is None and found.settling is None
    settings = {"ensemble": "npt", "temperature_K": "298.15"}
    shown = show(in_memory(box, box.positions[None], settings=settings))
    assert shown.numbers[0].reference == pytest.approx(0.99705, abs=1e-5)
    assert "says nothing about the model" in shown.notes[-1]
    assert shown.panels == ()


def test_the_mean_lies_within_its_error_and_a_drift_is_told() -> None:
    rng = np.random.default_rng(0)
    box = waters(2, 3.1)
    volumes = 240.0 * (1.0 + 0.02 * rng.normal(size=400))
    cells = np.eye(3) * np.cbrt(volumes)[:, None, None]
    found = density(in_memory(box, np.tile(box.positions, (400, 1, 1)), cells=cells))
    assert found.error == pytest.approx(0.02 * MASS / 240.0 / 20.0, rel=0.2)
    assert found.mean == pytest.approx(MASS / 240.0 * 1.0004, abs=4.0 * (found.error or 0.0))
    assert found.settling is not None and found.settling.settled
    np.testing.assert_allclose(found.density, MASS / volumes, rtol=1e-5)
    growing = np.eye(3) * np.cbrt(volumes * np.linspace(1.0, 1.2, 400))[:, None, None]
    shown = show(in_memory(box, np.tile(box.positions, (400, 1, 1)), cells=growing))
    assert any("still drifting" in note for note in shown.notes)


def test_what_has_no_density_is_refused() -> None:
    box = waters(2, 3.1)
    with pytest.raises(InputError, match="holds a part of the atoms"):
        density(in_memory(box, box.positions[None], partial=True))
    box.pbc = False
    with pytest.raises(InputError, match="not periodic"):
        density(in_memory(box, box.positions[None]))
