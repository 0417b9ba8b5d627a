"""Measured water against tabulated points."""

from __future__ import annotations

import json

import pytest

from heliodor.analysis.liquids.experiment import is_ambient, is_liquid, water_density, water_diffusion, water_viscosity
from support import shared


def test_density() -> None:
    # CRC Handbook: 0, 25 and 100 °C
    for kelvin, expected in ((273.15, 0.99984), (298.15, 0.997045), (373.15, 0.958364)):
        assert water_density(kelvin) == pytest.approx(expected, abs=2e-5)


def test_density_is_the_formula_that_was_handed_in() -> None:
    table = json.loads(shared("data/experimental/water/water_density_kell.json").read_text())
    assert [water_density(kelvin) for kelvin in table["T_K"]] == pytest.approx(table["rho"], rel=1e-12)


def test_viscosity() -> None:
    # IAPWS, mPa s: 0, 20, 25 and 100 °C
    for kelvin, expected in ((273.15, 1.7916), (293.15, 1.0016), (298.15, 0.8900), (373.15, 0.2817)):
        assert water_viscosity(kelvin) == pytest.approx(expected, rel=2e-3)


def test_diffusion() -> None:
    # Mills (1973), 1e-9 m²/s: 5, 25 and 45 °C
    for kelvin, expected in ((278.15, 1.313), (298.15, 2.299), (318.15, 3.575)):
        assert 10.0 * water_diffusion(kelvin) == pytest.approx(expected, rel=1e-2)


def test_where_it_holds() -> None:
    assert is_liquid(300.0) and is_ambient(300.0)
    assert is_liquid(330.0) and not is_ambient(330.0)
    assert not is_liquid(None) and not is_ambient(None) and not is_liquid(400.0)
