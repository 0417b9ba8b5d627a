"""Reference energies: known ones recovered, sets that cannot tell elements apart, the card and back."""

from __future__ import annotations

import ase
import numpy as np
import pytest
from ase.build import molecule

from heliodor.errors import InputError
from heliodor.label.label import Label
from heliodor.train.dataset import Dataset
from heliodor.train.references import References, fit_references, isolated_atoms

ATOMS = {1: -13.587, 6: -1029.4, 7: -1485.1, 8: -2042.6}
"""Of the size that all-electron methods give, eV."""


def made_of(names: list[str], table: dict[int, float] = ATOMS) -> Dataset:
    frames = [molecule(name) for name in names]
    labels = [Label(energy=sum(table[z] for z in frame.numbers)) for frame in frames]
    return Dataset.from_atoms(frames, labels)


def test_recovers_known_atoms() -> None:
    found = fit_references(made_of(["H2O", "CH4", "NH3", "CH3OH", "HCN", "C2H6", "CO2"]))
    for z, energy in ATOMS.items():
        assert found.energies[z] == pytest.approx(energy, abs=1e-6)


def test_sums_are_float64() -> None:
    data = made_of(["CH3OH", "H2O"])
    sums = isolated_atoms(ATOMS).sums(data)
    assert sums.dtype == np.float64
    np.testing.assert_array_equal(sums, data.energy)


def test_dependent_elements() -> None:
    """Only waters: two unknowns, one equation; the sum must fit, and nothing may run away."""
    data = made_of(["H2O"] * 4)
    found = fit_references(data)
    np.testing.assert_allclose(found.sums(data), data.energy, rtol=1e-9)
    assert all(abs(energy) < 2.0 * abs(data.energy[0]) for energy in found.energies.values())


def test_one_energy_missing() -> None:
    data = made_of(["H2O", "CH4", "H2", "CO2", "O2"])
    data.energy[1] = np.nan
    assert fit_references(data).energies[6] == pytest.approx(ATOMS[6], abs=1e-6)


def test_card_round_trip() -> None:
    kept = isolated_atoms({"H": -13.5, "C": -1030.25})
    assert References.from_card(kept.to_card()) == kept
    assert References.from_card({"name": "other"}) is None


def test_refusals() -> None:
    data = made_of(["CH3OH"])
    with pytest.raises(InputError, match="no reference energy for C, O"):
        isolated_atoms({"H": -13.5}).sums(data)
    with pytest.raises(InputError, match="'Xx' is none"):
        isolated_atoms({"Xx": 1.0})
    with pytest.raises(InputError, match="need energies"):
        fit_references(Dataset.from_atoms([ase.Atoms("H")]))
