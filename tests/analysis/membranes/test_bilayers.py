"""Area, thickness and order of bilayers made so that the answers are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from heliodor.analysis.membranes import ANALYSES
from heliodor.analysis.membranes.area import area_per_lipid, show_area
from heliodor.analysis.membranes.density import d_hh, density_profile, show_density
from heliodor.analysis.membranes.lipids import kinds_of
from heliodor.analysis.membranes.order import order_parameters, show_order
from heliodor.errors import InputError


def towards(*vector: float):
    unit = np.array(vector) / np.linalg.norm(vector)
    return lambda shape: np.broadcast_to(unit, (*shape, 3))


MAGIC = np.arccos(1.0 / np.sqrt(3.0))


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        (towards(0, 0, 1), 1.0),
        (towards(0, 0, -1), 1.0),
        (towards(1, 0, 0), -0.5),
        (towards(0.6, -0.8, 0), -0.5),
        (towards(np.sin(MAGIC), 0.0, np.cos(MAGIC)), 0.0),
        (towards(np.sin(0.5), 0.0, np.cos(0.5)), 1.5 * np.cos(0.5) ** 2 - 0.5),
    ],
)
def test_order_of_known_directions(direction, expected, bilayer):
    found = order_parameters(bilayer(direction, frames=3))
    assert [(item.tail, item.lipids) for item in found] == [("sn-1", 16), ("sn-2", 16)]
    for item in found:
        assert item.carbon.tolist() == list(range(2, 10))
        np.testing.assert_allclose(item.order, expected, atol=1e-12)


def test_isotropic_bonds_have_no_order_and_an_honest_error(bilayer, random_directions):
    found = order_parameters(bilayer(random_directions, frames=200))
    order = np.concatenate([item.order for item in found])
    error = np.concatenate([item.error for item in found])
    # <P2²> = 1/5; 16 lipids, 200 frames, 2 hydrogens (3 at the end)
    np.testing.assert_allclose(error[:-1], np.sqrt(0.2 / (16 * 200 * 2)), rtol=0.7)
    assert (np.abs(order / error) < 4.0).all()
    assert np.abs(order).mean() < 0.01


def test_the_normal_is_that_of_the_box(bilayer):
    """A tilted box; its normal is perpendicular to a and b, not along c."""
    cell = np.array([[40.0, 0.0, 0.0], [5.0, 36.0, 0.0], [12.0, -7.0, 70.0]])
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_euler("xyz", [0.4, -0.7, 1.1]).as_matrix()
    run = bilayer(towards(0, 0, 1), frames=2, cell=cell)
    source = run.source
    source.held["positions"] = source.held["positions"] @ turn.T
    source.held["cell"] = source.held["cell"] @ turn.T
    for item in order_parameters(run):
        np.testing.assert_allclose(item.order, 1.0, atol=1e-12)
    assert area_per_lipid(run).per_lipid[0] == pytest.approx(40.0 * 36.0 / 8.0)
    # another lattice vector leads out of the bilayer when they are named differently
    source.held["cell"] = source.held["cell"][:, [2, 0, 1]]
    for item in order_parameters(run, axis="a"):
        np.testing.assert_allclose(item.order, 1.0, atol=1e-12)
    with pytest.raises(InputError, match="must be a, b or c"):
        order_parameters(run, axis="z")


def test_area_leaflets_and_flips(bilayer):
    run = bilayer(towards(0, 0, 1), frames=40)
    held = run.source.held
    wide = 1.0 + 0.02 * np.random.default_rng(1).normal(size=40)
    held["cell"] *= wide[:, None, None]
    n = run.n_atoms // 16
    # the phosphorus of one lipid goes to the other side for ten frames, that of another once for all
    held["positions"][10:20, 0, 2] = -18.0
    held["positions"][30:, 2 * n, 2] = -18.0
    found = area_per_lipid(run)
    np.testing.assert_allclose(found.per_lipid, 40.0 * 36.0 * wide**2 / 8.0)
    assert found.upper.tolist() == [8] * 10 + [7] * 10 + [8] * 10 + [7] * 10
    assert found.flips == 3
    assert (found.upper + found.lower == 16).all()
    shown = show_area(run)
    assert shown.numbers[0].value == pytest.approx(found.per_lipid.mean())
    assert shown.numbers[0].error == pytest.approx(found.per_lipid.std() / np.sqrt(40), rel=0.6)
    # not POPC: nothing is compared
    assert shown.numbers[0].reference is None


def test_where_the_bilayer_lies_in_the_box_does_not_matter(bilayer, random_directions, rng):
    run = bilayer(random_directions, frames=20)
    here = density_profile(run, width=0.25), area_per_lipid(run), order_parameters(run)
    held = run.source.held
    moved = held["positions"] + rng.uniform(-200.0, 200.0, (20, 1, 3))
    held["positions"] = moved - np.floor(moved / np.diag(held["cell"][0])) * np.diag(held["cell"][0])
    there = density_profile(run, width=0.25), area_per_lipid(run), order_parameters(run)
    # atoms on the edge of a bin may fall to either side
    wide = [p.density["all"].reshape(-1, 8).sum(1) for p in (here[0], there[0])]
    np.testing.assert_allclose(wide[0].sum(), wide[1].sum())
    assert np.abs(wide[0] - wide[1]).max() < 0.05 * wide[0].max()
    assert there[0].thickness == pytest.approx(here[0].thickness, abs=0.05)
    np.testing.assert_array_equal(here[1].upper, there[1].upper)
    np.testing.assert_allclose(here[2][0].order, there[2][0].order, atol=1e-9)


@pytest.mark.parametrize("charged", [False, True])
def test_every_electron_is_counted(charged, bilayer, random_directions, rng):
    run = bilayer(random_directions, frames=12)
    charges = rng.normal(scale=0.3, size=run.n_atoms)
    if charged:
        run = replace(run, holds=frozenset(["charges"]))
        run.source.held["charges"] = np.broadcast_to(charges, (12, run.n_atoms)).copy()
    # a box that breathes, its height no multiple of the bins
    run.source.held["cell"] *= (1.0 + 0.05 * rng.normal(size=12))[:, None, None]
    found = density_profile(run, width=0.3)
    assert found.charges is charged
    electrons = run.topology.numbers.sum() - charged * charges.sum()
    assert (found.density["all"] * found.volume).sum() == pytest.approx(electrons, rel=1e-12)
    parts = sum(found.density[name] for name in ("lipid", "water", "other"))
    np.testing.assert_allclose(parts, found.density["all"], atol=1e-12)
    phosphorus = 15.0 * 16 - charged * charges[run.topology.numbers == 15].sum()
    assert (found.density["phosphorus"] * found.volume).sum() == pytest.approx(phosphorus)
    volume = np.abs(np.linalg.det(run.source.held["cell"])).mean()
    assert found.volume.sum() == pytest.approx(volume, rel=1e-12)
    np.testing.assert_allclose(found.z, -found.z[::-1])


def test_an_even_density_is_even(bilayer, random_directions, rng):
    """Ideal gas of known density beside a bilayer too small to be seen."""
    run = bilayer(random_directions, frames=60)
    held = run.source.held
    lattice = np.diag(held["cell"][0])
    light = run.topology.numbers == 1
    held["positions"][:, light] = rng.uniform(size=(60, light.sum(), 3)) * lattice
    heavy = ~light
    held["positions"][:, heavy, 2] = np.sign(held["positions"][:, heavy, 2] + 1e-9) * 1e-3
    found = density_profile(run, width=1.0)
    gas = np.abs(found.z) > 2.0
    expected = light.sum() / lattice.prod()
    per_bin = 60 * light.sum() / 70.0
    assert (np.abs(found.density["all"][gas] / expected - 1.0) < 5.0 / np.sqrt(per_bin)).all()
    assert found.density["all"][gas].mean() == pytest.approx(expected, rel=0.03)


def test_thickness_of_gaussian_headgroups(bilayer, random_directions, rng):
    z = 0.25 * (np.arange(280) - 140 + 0.5)
    profile = 0.3 + sum(0.15 * np.exp(-0.5 * ((z - c) / 3.0) ** 2) for c in (-18.37, 18.37))
    assert d_hh(z, profile, 0.0) == pytest.approx(36.74, abs=1e-2)
    assert d_hh(z, profile, 1.0) == pytest.approx(36.74, abs=1e-2)
    # leaflets that differ give the mean
    shifted = 0.3 + 0.15 * np.exp(-0.5 * ((z - 17.0) / 3.0) ** 2) + 0.15 * np.exp(-0.5 * ((z + 18.0) / 3.0) ** 2)
    assert d_hh(z, shifted, 0.0) == pytest.approx(35.0, abs=1e-2)
    run = bilayer(random_directions, frames=50, lipids=40, head=18.0)
    phosphorus = run.topology.numbers == 15
    places = run.source.held["positions"]
    places[:, phosphorus, 2] += rng.normal(scale=1.5, size=(50, 40))
    # all electrons are taken off but those of phosphorus
    run = replace(run, holds=frozenset(["charges"]))
    run.source.held["charges"] = np.tile(np.where(phosphorus, 0.0, run.topology.numbers), (50, 1))
    shown = show_density(run, symmetric=True, smoothing=1.5)
    assert 0.0 < shown.numbers[0].error < 0.5
    assert shown.numbers[0].value == pytest.approx(36.0, abs=4.0 * shown.numbers[0].error)
    assert shown.numbers[2].value == pytest.approx(15.0 * 40)
    with pytest.raises(InputError, match="up to 10 Å"):
        density_profile(run, width=-1.0)


def test_tails_are_found_by_bonds(bilayer, random_directions):
    run = bilayer(random_directions, name="XYZ")
    (kind,) = kinds_of(run.topology)
    assert kind.name == "XYZ"
    assert not kind.palmitoyl_oleoyl_choline
    assert [(tail.name, tail.length, tail.double) for tail in kind.tails] == [("sn-1", 9, ()), ("sn-2", 9, ())]
    # a permutation of the file's order changes nothing but the indices
    assert (run.topology.numbers[kind.phosphorus] == 15).all()
    assert (run.topology.numbers[kind.tails[0].hydrogen] == 1).all()


def test_what_is_no_bilayer_is_refused(bilayer, random_directions):
    few = bilayer(random_directions, lipids=6)
    assert all("6 phospholipid(s)" in analysis.unfit(few) for analysis in ANALYSES)
    open_box = replace(bilayer(random_directions), pbc=np.array([True, True, False]))
    assert all("not periodic" in analysis.unfit(open_box) for analysis in ANALYSES)
    run = bilayer(random_directions)
    assert all(analysis.unfit(run) is None for analysis in ANALYSES)
    united = replace(run, topology=run.topology.take(np.flatnonzero(run.topology.numbers > 1)))
    united.source.held["positions"] = united.source.held["positions"][:, run.topology.numbers > 1]
    with pytest.raises(InputError, match="have no hydrogens"):
        show_order(united)
    micelle = bilayer(random_directions)
    heads = micelle.topology.numbers == 15
    micelle.source.held["positions"][:, heads, 2] = 18.0
    with pytest.raises(InputError, match="all phosphorus atoms lie on one side"):
        show_area(micelle)


def test_frames_without_charges_are_left_out(bilayer, random_directions, rng):
    run = replace(bilayer(random_directions, frames=30), holds=frozenset(["charges"]))
    held = run.source.held
    held["charges"] = rng.normal(scale=0.3, size=(30, run.n_atoms))
    kept = np.delete(np.arange(30), [0, 17])
    whole = replace(run, time=run.time[kept], source=type(run.source)(*(held[key][kept] for key in held)))
    held["charges"][0], held["charges"][17, 3] = np.nan, np.inf
    found, expected = density_profile(run), density_profile(whole)
    np.testing.assert_allclose(found.density["all"], expected.density["all"])
    assert found.thickness == pytest.approx(expected.thickness) and found.skipped == 2
    assert (found.density["all"] * found.volume).sum() == pytest.approx(
        run.topology.numbers.sum() - held["charges"][kept].sum(1).mean()
    )
    assert any("2 frame(s) with charges that are no numbers" in note for note in show_density(run).notes)
    held["charges"][:] = np.nan
    with pytest.raises(InputError, match="charges=false"):
        density_profile(run)
    with pytest.raises(InputError, match="not a finite number"):
        d_hh(np.linspace(-30.0, 30.0, 121), np.full(121, np.nan), 1.0)


def test_a_part_of_the_atoms_has_no_density(bilayer, random_directions):
    part = replace(bilayer(random_directions), partial=True)
    assert {one.name for one in ANALYSES if one.unfit(part) is not None} == {"density_profile"}
    with pytest.raises(InputError, match="part of the atoms"):
        density_profile(part)
    assert any("right if all lipids are" in note for note in show_area(part).notes)
