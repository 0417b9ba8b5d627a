"""Dipoles and charges that are known."""

from __future__ import annotations

import ase
import numpy as np
import pytest
from ase.build import bulk, molecule

from heliodor.analysis.liquids.charges import atomic_statistics
from heliodor.analysis.liquids.charges import show as show_charges
from heliodor.analysis.liquids.dipoles import molecular_dipoles
from heliodor.analysis.liquids.dipoles_show import show as show_dipoles
from heliodor.analysis.liquids.histogram import Histogram
from heliodor.analysis.statistics import mean_with_error
from heliodor.errors import InputError
from memory_trajectories import in_memory
from trajectories import waters


def test_the_dipole_of_three_point_charges() -> None:
    # TIP3P: 0.417 e, 0.9572 Å, 104.52° have 2.35 D (Jorgensen et al., J. Chem. Phys. 79, 926 (1983))
    water = ase.Atoms("OH2", [[0, 0, 0], [0.9572, 0, 0], [0, 0.9572, 0]])
    water.set_angle(1, 0, 2, 104.52)
    charges = np.array([[-0.834, 0.417, 0.417]])
    found = molecular_dipoles(in_memory(water, water.positions[None] + 50.0, values={"charges": charges}))
    assert found.kinds[0].mean[0] == pytest.approx(2.35, abs=0.005)
    assert found.kinds[0].kind.formula == "H2O" and found.kinds[0].charge == pytest.approx(0.0)


def test_images_do_not_matter_and_charged_molecules_are_taken_about_their_centres_of_mass() -> None:
    rng = np.random.default_rng(1)
    box = waters(2, 3.2)
    positions = box.positions + rng.normal(scale=0.05, size=(5, 24, 3))
    charges = np.tile([-0.8, 0.4, 0.4], 8) + rng.normal(scale=0.05, size=(5, 24))
    whole = in_memory(box, positions, values={"charges": charges})
    elsewhere = positions + 6.4 * rng.integers(-2, 3, size=(5, 24, 3))
    broken = in_memory(box, elsewhere, values={"charges": charges}, bonds=whole.topology.bonds)
    one, two = molecular_dipoles(whole), molecular_dipoles(broken)
    np.testing.assert_allclose(one.total, two.total, atol=1e-10)
    masses = box.get_masses()[:3]
    own = []
    for k in range(8):
        here = slice(3 * k, 3 * k + 3)
        centre = masses @ positions[:, here] / masses.sum()
        own.append(np.einsum("ta,tai->ti", charges[:, here], positions[:, here] - centre[:, None]))
    np.testing.assert_allclose(one.total, np.sum(own, axis=0), atol=1e-12)
    sizes = np.linalg.norm(own, axis=2) / 0.20819434
    np.testing.assert_allclose(one.kinds[0].mean, sizes.mean(0))
    assert one.kinds[0].spread == pytest.approx(sizes.std(), rel=1e-6)
    net = charges.reshape(5, 8, 3).sum(2)
    assert one.kinds[0].charge == pytest.approx(np.sqrt(np.square(net).mean()))
    area = one.kinds[0].probability.sum() * np.diff(one.kinds[0].dipole)[0]
    assert area == pytest.approx(1.0)


def test_the_dipole_of_the_whole_in_vacuum() -> None:
    ion = molecule("NH3")
    pair = ion + ase.Atoms("Ar", [[0.0, 0.0, 5.0]])
    charges = np.array([[-0.9, 0.4, 0.4, 0.4, -0.3]])
    found = molecular_dipoles(in_memory(pair, pair.positions[None], values={"charges": charges}))
    np.testing.assert_allclose(found.total[0], charges[0] @ pair.positions, atol=1e-12)
    assert [item.kind.formula for item in found.kinds] == ["H3N", "Ar"]
    shown = show_dipoles(in_memory(pair, pair.positions[None], values={"charges": charges}))
    assert shown.numbers[-1].name == "dipole of the whole"
    assert any("Net charges of H₃N are 0.30 e" in note for note in shown.notes)


def test_networks_without_end_and_wrong_charges_are_refused() -> None:
    diamond = bulk("C", cubic=True).repeat(2)
    charges = np.zeros((1, len(diamond)))
    with pytest.raises(InputError, match="run through the cell without end"):
        molecular_dipoles(in_memory(diamond, diamond.positions[None], values={"charges": charges}))
    box = waters(2, 3.2)
    charges = np.full((1, 24), np.nan)
    with pytest.raises(InputError, match="charges that are no numbers"):
        molecular_dipoles(in_memory(box, box.positions[None], values={"charges": charges}))
    with pytest.raises(InputError, match="charges that are no numbers"):
        atomic_statistics(in_memory(box, box.positions[None], values={"charges": charges}), "charges")
    with pytest.raises(InputError, match="holds no charges"):
        molecular_dipoles(in_memory(box, box.positions[None]))


def test_atoms_by_element() -> None:
    rng = np.random.default_rng(2)
    box = waters(2, 3.2)
    ratios = np.where(box.numbers == 8, 0.9, 0.6) + 0.02 * rng.normal(size=(30, 24))
    positions = np.tile(box.positions, (30, 1, 1))
    trajectory = in_memory(box, positions, values={"hirshfeld_ratios": ratios})
    found = atomic_statistics(trajectory, "hirshfeld_ratios")
    assert [item.symbol for item in found.elements] == ["H", "O"]
    oxygen = ratios[:, box.numbers == 8]
    assert found.elements[1].mean == pytest.approx(oxygen.mean(1))
    assert found.elements[1].spread == pytest.approx(oxygen.std(), rel=1e-9)
    np.testing.assert_allclose(found.mean, ratios.mean(0))
    np.testing.assert_allclose(found.spread, ratios.std(0))
    shown = show_charges(trajectory)
    assert len(shown.panels) == 1 and len(shown.tables["atoms"]["hirshfeld_ratio_mean"]) == 24
    with pytest.raises(InputError, match="no quantity of atoms"):
        atomic_statistics(trajectory, "spin")


def test_histograms_grow() -> None:
    rng = np.random.default_rng(3)
    parts = [rng.normal(loc, size=100) for loc in (0.0, -30.0, 40.0)]
    ours = Histogram(0.5)
    for part in parts:
        ours.add(part)
    ours.add(np.zeros(0))
    edges = np.append(ours.centres - 0.25, ours.centres[-1] + 0.25)
    expected = np.histogram(np.concatenate(parts), edges, density=True)[0]
    np.testing.assert_allclose(ours.density, expected)


def test_errors_see_slow_wandering_beneath_fast_oscillations() -> None:
    rng = np.random.default_rng(4)
    truth, found = [], []
    for _ in range(40):
        slow = np.zeros(2000)
        for k in range(1, 2000):
            slow[k] = 0.98 * slow[k - 1] + 0.2 * rng.normal()
        mean, error = mean_with_error(slow + 3.0 * np.sin(1.2 * np.arange(2000) + rng.uniform(0.0, 6.0)))
        truth.append(mean)
        found.append(error)
    # 1/√N σ √(2/(1-a)) of the wandering: 0.22; runs of twenty correlation times miss some of it
    assert np.std(truth) == pytest.approx(0.22, rel=0.3)
    assert 0.12 < np.mean(found) < 0.3
    assert mean_with_error(np.arange(3.0)) == (1.0, None)
