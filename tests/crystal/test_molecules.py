"""Molecules are found whole, wherever the cell cuts them; what is no molecular crystal is refused."""

import ase
import numpy as np
import pytest
from ase.build import bulk, molecule
from solids import argon, carbon_dioxide, nitrogen, scrambled, urea

from heliodor.crystal.doubts import check_electrons, check_hydrogens, unsaturated_atoms
from heliodor.crystal.geometry import density, rmsd_cluster, rmsd_positions, space_group
from heliodor.crystal.molecules import conformers, find_molecules, graph_key, is_linear
from heliodor.errors import InputError


def boxed(*molecules, length=9.0):
    """Molecules side by side along x in one cell."""
    crystal = ase.Atoms(cell=[length * len(molecules), length, length], pbc=True)
    for k, part in enumerate(molecules):
        part = part.copy()
        part.positions += [(k + 0.5) * length, 0.0, 0.0]
        crystal += part
    return crystal


@pytest.mark.parametrize("repeat", [(1, 1, 1), (2, 1, 3)])
@pytest.mark.parametrize(
    ("make", "n", "formula"), [(urea, 2, "CH4N2O"), (carbon_dioxide, 4, "CO2"), (nitrogen, 4, "N2")]
)
def test_molecules_do_not_depend_on_cells_order_or_origin(make, n, formula, repeat):
    cell = make()
    alone = find_molecules(cell)
    assert [m.formula for m in alone] == [formula] * n
    for seed in range(3):
        found = find_molecules(scrambled(cell * repeat, seed))
        assert len(found) == n * np.prod(repeat)
        assert {m.key for m in found} == {alone[0].key}
        assert len(conformers(found)) == 1
        for m in found:
            # in one piece: no atom further from the middle than the molecule is long
            assert np.linalg.norm(m.atoms.positions - m.atoms.positions.mean(axis=0), axis=1).max() < 3.0


def test_all_atoms_are_used_once_and_shifts_rebuild_the_molecule():
    crystal = scrambled(urea() * (1, 2, 1), 5)
    found = find_molecules(crystal)
    assert sorted(k for m in found for k in m.indices) == list(range(len(crystal)))
    for m in found:
        np.testing.assert_allclose(m.at(crystal).positions, m.atoms.positions)


def test_a_cell_flatter_than_its_molecule():
    """The same lattice as a box, told by such skewed vectors that bonds lead to atoms several cells away."""
    chain = molecule("trans-butane")
    a, b, c = np.diag([6.0, 9.0, 5.5])
    crystal = ase.Atoms(chain.numbers, chain.positions, cell=[a, b + 3 * a, c - 2 * b + a], pbc=True)
    crystal.wrap()
    (found,) = find_molecules(crystal)
    assert np.abs(found.shifts).max() > 1
    assert found.key == graph_key(chain)
    np.testing.assert_allclose(
        np.sort(found.atoms.get_all_distances().ravel()), np.sort(chain.get_all_distances().ravel()), atol=1e-9
    )


def test_networks_metals_and_salts_are_refused():
    for crystal in (
        bulk("Cu"),
        bulk("C", "diamond", a=3.57),
        bulk("NaCl", "rocksalt", a=5.64),
        bulk("C", "diamond", a=3.57) * 2,
    ):
        with pytest.raises(InputError, match="go on without end"):
            find_molecules(crystal)
    with pytest.raises(InputError, match="periodic in three directions"):
        find_molecules(molecule("H2O"))
    with pytest.raises(InputError, match="bond factor must lie"):
        find_molecules(urea(), 3.0)


def test_ions_are_refused():
    salt = boxed(molecule("NH3"), ase.Atoms("Cl"))
    salt += ase.Atoms("H", [[4.5, 0.0, 1.1]])
    found = find_molecules(salt)
    assert sorted(m.formula for m in found) == ["Cl", "H4N"]
    with pytest.raises(InputError, match="an ion of a salt or a radical"):
        check_electrons(found)


def test_isomers_differ_and_mirror_images_do_not():
    isomers = [molecule(name) for name in ("CH3CH2OH", "CH3OCH3", "trans-butane", "isobutane")]
    assert len({graph_key(m) for m in isomers}) == 4
    twisted = molecule("H2O2")
    mirrored = twisted.copy()
    mirrored.positions[:, 0] *= -1
    mirrored.rotate(40, "y")
    flat = twisted.copy()
    flat.set_dihedral(2, 0, 1, 3, 180.0)
    found = find_molecules(boxed(twisted, mirrored, flat))
    assert conformers(found) == [[0, 1], [2]]


def test_linear_molecules():
    assert is_linear(molecule("CO2"))
    assert is_linear(molecule("N2"))
    assert not is_linear(molecule("H2O"))
    assert not is_linear(molecule("CH4"))
    assert not is_linear(ase.Atoms("Ar"))


@pytest.mark.parametrize(
    "name",
    ["C6H6", "CH3CONH2", "HCN", "CO", "CO2", "C2H2", "C2H4", "CH3NO2", "HCOOH", "C5H5N", "N2O", "CH3CN", "H2CCO",
     "C3H4_C2v", "bicyclobutane", "SO2", "CH3SH", "C4H4NH", "cyclobutene", "NH3", "O3", "CH3CHO"],
)  # fmt: skip
def test_whole_molecules_lack_nothing(name):
    assert unsaturated_atoms(molecule(name)) == []


@pytest.mark.parametrize(
    "name", ["C6H6", "CH3CONH2", "CH3CH2OH", "CH4", "H2O", "CH3CH2NH2", "C4H4O", "HCOOH", "trans-butane", "CH3COOH"]
)
def test_molecules_without_hydrogens_are_recognised(name):
    bare = molecule(name)
    del bare[bare.numbers == 1]
    assert unsaturated_atoms(bare)
    with pytest.raises(InputError, match="the crystal has no hydrogens"):
        check_hydrogens(find_molecules(boxed(bare)))
    mixed = check_hydrogens(find_molecules(boxed(bare, molecule("CH4"))))
    assert len(mixed) == 1
    assert "valences look incomplete" in mixed[0]


def test_crystals_without_need_of_hydrogens_pass():
    assert check_hydrogens(find_molecules(carbon_dioxide())) == []
    assert check_hydrogens(find_molecules(nitrogen())) == []
    bare = urea()
    del bare[bare.numbers == 1]
    with pytest.raises(InputError, match=r"N \(atom \d\).*cannot do without"):
        check_hydrogens(find_molecules(bare))


def test_density_and_distances_between_crystals():
    start = urea()
    # 60.056 amu twice in 145.06 Å³
    assert density(start) == pytest.approx(2 * 60.056 * 1.66054 / 145.06, rel=1e-4)
    found = find_molecules(start)
    moved = start.copy()
    moved.positions += [0.3, -1.0, 2.0]
    moved.rotate(33.0, (1, 2, 3), rotate_cell=True)
    assert rmsd_cluster(start, moved, found) == pytest.approx(0.0, abs=1e-6)
    swollen = start.copy()
    swollen.set_cell(1.02 * start.cell.array, scale_atoms=True)
    assert rmsd_positions(start, swollen) == pytest.approx(0.0, abs=1e-12)
    assert 0.02 < rmsd_cluster(start, swollen, found) < 0.3
    rattled = start.copy()
    step = np.random.default_rng(0).normal(0, 0.05, (16, 3))
    rattled.positions += step
    assert rmsd_positions(start, rattled) == pytest.approx(np.sqrt(np.square(step - step.mean(0)).sum(1).mean()))
    lattice = argon()
    assert rmsd_cluster(lattice, lattice, find_molecules(lattice)) == pytest.approx(0.0, abs=1e-6)


def test_the_space_group_is_told_where_it_can_be():
    pytest.importorskip("spglib")
    assert space_group(urea()) == "P-42_1m (113)"


def test_without_spglib_there_is_no_space_group(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert space_group(urea()) is None
