"""What every engine's adapter asks: the evaluator's answers, and the comparison of a first step."""

from __future__ import annotations

import ase
import numpy as np
import pytest
from ase.build import molecule

import heliodor
from heliodor.engines.evaluator import Evaluator
from heliodor.engines.first_step import check_forces, check_positions
from heliodor.errors import InputError
from heliodor.potential import Potential

HARTREE, BOHR, KCAL, KJ = 27.211386245988, 0.529177210903, 0.04336410390059322, 0.010364269565


@pytest.fixture(scope="module")
def mini() -> Potential:
    return heliodor.load("heliodor-mini", device="cpu", dtype="float64", kernels="reference")


def crystal() -> ase.Atoms:
    """Two waters and a methane in a skewed cell."""
    atoms = molecule("H2O") + molecule("H2O") + molecule("CH4")
    atoms.positions[3:6] += [0.3, 1.4, 2.6]
    atoms.positions[6:] += [3.0, 3.2, 0.4]
    atoms.set_cell([[6.4, 0, 0], [0.5, 6.7, 0], [0.2, -0.4, 6.1]])
    atoms.pbc = True
    return atoms


def same(found: heliodor.potential.Prediction, potential: Potential, atoms: ase.Atoms) -> None:
    expected = heliodor.evaluate(potential, atoms)
    assert float(found.energy[0]) == pytest.approx(float(expected.energy[0]), abs=1e-9)
    np.testing.assert_allclose(found.forces.numpy(), expected.forces.numpy(), atol=1e-9)


def test_a_path_through_faces_and_changing_cells(mini: Potential) -> None:
    """Drift, thermal motion, a cell that breathes and shears, atoms put back at random: as evaluated anew."""
    rng = np.random.default_rng(2)
    atoms = crystal()
    evaluator = Evaluator(mini, atoms, skin=0.6)
    moving = atoms.copy()
    for step in range(15):
        strain = np.eye(3) + rng.normal(0, 0.004, (3, 3))
        moving.set_cell(np.asarray(moving.cell) @ strain, scale_atoms=True)
        moving.positions += rng.normal([0.35, 0.0, -0.5], 0.02, moving.positions.shape)
        shown = moving.copy()
        shown.positions += rng.integers(-3, 4, (len(atoms), 3)) @ np.asarray(moving.cell)
        if step % 3 == 0:
            shown.wrap()
        found = evaluator(shown.positions, np.asarray(shown.cell), stress=True)
        same(found, mini, shown)
        np.testing.assert_allclose(found.stress, heliodor.evaluate(mini, shown).stress, atol=1e-9)
    assert evaluator.lists_built > 1


def test_wrapping_costs_no_list(mini: Potential) -> None:
    atoms = crystal()
    evaluator = Evaluator(mini, atoms)
    cell = np.asarray(atoms.cell)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        jumps = rng.integers(-2, 3, (len(atoms), 3)) @ cell
        same(evaluator(atoms.positions + jumps, cell), mini, atoms)
    assert evaluator.lists_built == 1


def test_copies_are_evaluated_as_one_batch(mini: Potential) -> None:
    atoms = crystal()
    evaluator = Evaluator(mini, atoms, copies=3)
    rng = np.random.default_rng(7)
    positions = atoms.positions + rng.normal(0, 0.05, (3, len(atoms), 3))
    cells = np.asarray(atoms.cell) * np.array([1.0, 1.01, 0.99])[:, None, None]
    found = evaluator(positions, cells)
    for k in range(3):
        one = ase.Atoms(atoms.numbers, positions[k], cell=cells[k], pbc=True)
        expected = heliodor.evaluate(mini, one)
        assert float(found.energy[k]) == pytest.approx(float(expected.energy[0]), abs=1e-9)
        part = found.forces.numpy()[k * len(atoms) : (k + 1) * len(atoms)]
        np.testing.assert_allclose(part, expected.forces.numpy(), atol=1e-9)


def test_the_evaluator_refuses(mini: Potential) -> None:
    atoms = molecule("H2O")
    evaluator = Evaluator(mini, atoms)
    with pytest.raises(InputError, match=r"shape \(4, 3\), but there are 3 atoms"):
        evaluator(np.zeros((4, 3)))
    with pytest.raises(InputError, match="position of atom 1 is not a finite number"):
        evaluator(np.array([[0, 0, 0], [0, np.nan, 0], [0, 1, 0.0]]))
    with pytest.raises(InputError, match="two atoms on one spot"):
        evaluator(np.zeros((3, 3)))
    with pytest.raises(InputError, match="skin must be a length"):
        Evaluator(mini, atoms, skin=-1.0)
    with pytest.raises(InputError, match="copies must be at least 1"):
        Evaluator(mini, atoms, copies=0)
    # positions that are not known yet are looked at when they come
    unplaced = ase.Atoms("OH2", np.zeros((3, 3)))
    same(Evaluator(mini, unplaced, placed=False)(atoms.positions), mini, atoms)
    with pytest.raises(InputError, match="two atoms on one spot"):
        Evaluator(mini, unplaced, placed=False)(unplaced.positions)


@pytest.mark.parametrize("periodic", [False, True])
def test_positions_of_the_structure_pass(mini: Potential, periodic: bool) -> None:
    atoms = crystal() if periodic else molecule("CH3OH")
    evaluator = Evaluator(mini, atoms)
    rng = np.random.default_rng(0)
    moved = atoms.positions + rng.uniform(-4e-4, 4e-4, atoms.positions.shape) + np.array([12.0, -3.0, 0.7])
    if periodic:
        moved = moved + rng.integers(-2, 3, (len(atoms), 3)) @ np.asarray(atoms.cell)
    check_positions(evaluator, moved, "Engine")


@pytest.mark.parametrize("periodic", [False, True])
def test_positions_in_other_units_are_told_apart(mini: Potential, periodic: bool) -> None:
    atoms = crystal() if periodic else molecule("CH3OH")
    evaluator = Evaluator(mini, atoms)
    for factor, words in (
        (0.1, "0.1 times those of the structure: they are in nm"),
        (10.0, "10 times those of the structure: it was given Å where it takes nm"),
        (1.0 / BOHR, "1.89 times those of the structure: they are in Bohr"),
        (BOHR, "0.5292 times those of the structure: it was given Å where it takes Bohr"),
        (100.0, "they are in pm"),
    ):
        with pytest.raises(InputError, match=words):
            check_positions(evaluator, atoms.positions * factor, "Engine")


@pytest.mark.parametrize("periodic", [False, True])
def test_another_order_number_or_structure_is_told(mini: Potential, periodic: bool) -> None:
    atoms = crystal() if periodic else molecule("CH3OH")
    evaluator = Evaluator(mini, atoms)
    order = np.random.default_rng(3).permutation(len(atoms))
    with pytest.raises(InputError, match="Engine has the same atoms in another order"):
        check_positions(evaluator, atoms.positions[order], "Engine")
    with pytest.raises(InputError, match=f"{len(atoms) - 1} atoms, the structure given to heliodor {len(atoms)}"):
        check_positions(evaluator, atoms.positions[1:], "Engine")
    other = atoms.positions.copy()
    other[4] += [0.3, 0.2, 0.0]
    with pytest.raises(InputError, match=r"not those of the structure.*least of all that of atom 4"):
        check_positions(evaluator, other, "Engine")
    slightly = atoms.positions + np.eye(len(atoms), 3) * 0.01
    with pytest.raises(InputError, match="not those of the structure"):
        check_positions(evaluator, slightly, "Engine")
    hydrogens = np.flatnonzero(atoms.numbers == 1)[:2]
    swapped = np.arange(len(atoms))
    swapped[hydrogens] = hydrogens[::-1]
    shown = atoms.positions[swapped] + (np.asarray(atoms.cell)[2] if periodic else 5.0)
    with pytest.raises(InputError, match="Engine has the same atoms in another order"):
        check_positions(evaluator, shown, "Engine")


def test_a_turned_molecule_is_not_one_in_another_order(mini: Potential) -> None:
    atoms = molecule("CH3CH2OH")
    turned = atoms.copy()
    turned.rotate(30, "z")
    with pytest.raises(InputError, match="not those of the structure"):
        check_positions(Evaluator(mini, atoms), turned.positions, "Engine")


def test_forces_of_the_model_pass_and_others_are_explained(mini: Potential) -> None:
    atoms = molecule("CH3OH")
    atoms.rattle(0.05, seed=1)
    evaluator = Evaluator(mini, atoms)
    p = heliodor.evaluate(mini, atoms)
    energy, forces = float(p.energy[0]), p.forces.numpy()
    check_forces(evaluator, atoms.positions, energy, forces.astype(np.float32).astype(float), "Engine")
    check_forces(evaluator, atoms.positions, None, forces, "Engine")
    for factor, words in (
        (10.0 / KJ, "as if in kJ/mol/nm"),
        (1.0 / KCAL, "as if in kcal/mol$"),
        (BOHR / HARTREE, "as if in Hartree/Bohr"),
        (10.0, "as if in eV/nm"),
        (-1.0, "opposite sign"),
        (3.0, "they are 3 times as large"),
    ):
        with pytest.raises(InputError, match=f"forces that are not the model's.*{words}"):
            check_forces(evaluator, atoms.positions, None, forces * factor, "Engine")
    with pytest.raises(InputError, match="check the order of atoms and what other forces"):
        check_forces(evaluator, atoms.positions, None, forces[::-1].copy(), "Engine")
    with pytest.raises(InputError, match=r"reads back an energy.*as if in kcal/mol"):
        check_forces(evaluator, atoms.positions, energy / KCAL, forces, "Engine")
