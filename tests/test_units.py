"""Units against ASE's, which come from another transcription of CODATA, and the reading of times."""

import ase.units
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliodor import units
from heliodor.errors import InputError
from heliodor.units import format_time, parse_time

CODATA_2018 = ase.units.create_units("2018")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (units.BOLTZMANN, CODATA_2018["kB"]),
        (units.BOHR, CODATA_2018["Bohr"]),
        (units.HARTREE, CODATA_2018["Hartree"]),
        (units.KCAL_PER_MOL, CODATA_2018["kcal"] / CODATA_2018["mol"]),
        (units.KJ_PER_MOL, CODATA_2018["kJ"] / CODATA_2018["mol"]),
        (units.BAR, 1e5 * CODATA_2018["Pascal"]),
        (units.GPA, CODATA_2018["GPa"]),
        (units.DEBYE, CODATA_2018["Debye"]),
        # ASE's unit of time is Å√(amu/eV)
        (units.ACCELERATION, 1.0 / CODATA_2018["fs"] ** -2),
        (units.KINETIC, CODATA_2018["fs"] ** -2),
        (units.GRAM_PER_CM3, 1e-3 * CODATA_2018["kg"] / CODATA_2018["m"] ** 3 * 1e6),
    ],
)
def test_constants(ours, theirs):
    assert ours == pytest.approx(theirs, rel=2e-9)


def test_a_hydrogen_atom_at_1_angstrom_per_femtosecond():
    """m v²/2 of 1.008 amu at 1e5 m/s, from SI numbers written here."""
    joule = 0.5 * 1.008 * 1.66053906660e-27 * 1e5**2
    assert pytest.approx(joule / 1.602176634e-19, rel=1e-12) == 0.5 * 1.008 * units.KINETIC


@pytest.mark.parametrize(
    ("text", "femtoseconds"),
    [
        ("10 ps", 1e4),
        ("0.5fs", 0.5),
        (2, 2.0),
        (0.25, 0.25),
        ("1e-3 ns", 1e3),
        ("250 as", 0.25),
        ("1 us", 1e9),
        ("1 µs", 1e9),
        ("  3 fs  ", 3.0),
        ("1E2ps", 1e5),
    ],
)
def test_parse_time(text, femtoseconds):
    assert parse_time(text) == pytest.approx(femtoseconds, rel=1e-14)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ps",
        "ten ps",
        "10 parsec",
        "10 PS",
        "-1 ps",
        "0",
        "0 fs",
        "nan",
        "inf",
        "1e400 fs",
        "1 2 ps",
        "--1",
        "1e fs",
    ],
)
def test_parse_time_refuses(text):
    with pytest.raises(InputError, match="as a time"):
        parse_time(text)


@given(st.floats(min_value=1e-3, max_value=1e9))
def test_format_time_can_be_read_back(femtoseconds):
    assert parse_time(format_time(femtoseconds)) == pytest.approx(femtoseconds, rel=1e-3)


@pytest.mark.parametrize(
    ("femtoseconds", "text"), [(0.5, "0.5 fs"), (2500, "2.5 ps"), (1e6, "1 ns"), (999.0, "999 fs")]
)
def test_format_time(femtoseconds, text):
    assert format_time(femtoseconds) == text
