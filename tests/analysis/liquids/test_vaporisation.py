"""Heats of vaporisation of made-up energies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule

from heliodor.analysis.liquids.vaporisation import heat_of_vaporisation, show
from heliodor.errors import InputError
from heliodor.trajectory import open_trajectory
from memory_trajectories import in_memory
from trajectories import waters, write_frames


def test_the_heat_is_found_within_its_error() -> None:
    rng = np.random.default_rng(0)
    deviations = []
    for _ in range(25):
        liquid = -100.0 + 0.5 * rng.normal(size=500)
        gas = [-1.5 + 0.1 * rng.normal(size=300), -1.5 + 0.1 * rng.normal(size=600)]
        found = heat_of_vaporisation(liquid, gas, 50, 298.15)
        # -1.5 + 2.0 eV, and 2.479 kJ/mol of RT
        deviations.append((found.heat - 0.5 - 2.479 / 96.485) / found.error)
    assert abs(np.mean(deviations)) < 3.0 / np.sqrt(25)
    assert 0.4 < np.mean(np.square(deviations)) < 2.2


def test_the_beginning_is_left_out() -> None:
    rng = np.random.default_rng(1)
    liquid = -100.0 + 0.5 * rng.normal(size=1000) + 20.0 * np.exp(-np.arange(1000) / 30.0)
    found = heat_of_vaporisation(liquid, [-1.5 + 0.1 * rng.normal(size=300)], 50, 300.0)
    assert found.liquid == pytest.approx(-2.0, abs=5.0 * found.liquid_error)


def test_from_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    box, alone = waters(2, 3.2), molecule("H2O")
    liquid, gas = (
        write_frames(tmp_path / f"{name}.h5", atoms, np.tile(atoms.positions, (40, 1, 1)), energies=energies)
        for name, atoms, energies in (
            ("liquid", box, -4.0 + 0.1 * rng.normal(size=40)),
            ("gas", alone, 0.01 * rng.normal(size=40)),
        )
    )
    trajectory = open_trajectory(liquid)
    shown = show(trajectory, gas=str(gas), temperature=300.0)
    # 0.5 eV + k_BT
    assert shown.numbers[1].value == pytest.approx(0.5 * 96.485 + 2.494, abs=5.0 * (shown.numbers[1].error or 0.0))
    assert shown.numbers[0].value == pytest.approx(shown.numbers[1].value / 4.184)
    with pytest.raises(InputError, match="give the run of one molecule in the gas"):
        show(trajectory)
    with pytest.raises(InputError, match="one H2O alone is needed"):
        show(trajectory, gas=str(liquid), temperature=300.0)
    with pytest.raises(InputError, match="there is no file"):
        show(trajectory, gas="nowhere.h5", temperature=300.0)


def test_what_cannot_be_is_refused() -> None:
    values = np.random.default_rng(3).normal(size=30)
    with pytest.raises(InputError, match="is none"):
        heat_of_vaporisation(values, [values], 1, 300.0)
    with pytest.raises(InputError, match="temperature must be positive"):
        heat_of_vaporisation(values, [values], 8, 0.0)
    with pytest.raises(InputError, match="too few to tell"):
        heat_of_vaporisation(values[:5], [values], 8, 300.0)
    with pytest.raises(InputError, match="no energies of the gas"):
        heat_of_vaporisation(values, [], 8, 300.0)
    mixed = waters(2, 3.2)
    mixed.numbers[0] = 16
    with pytest.raises(InputError, match="mixture of 2 kinds"):
        show(
            in_memory(mixed, mixed.positions[None]), gas=str(Path(__file__).parents[3] / "examples" / "paracetamol.xyz")
        )
