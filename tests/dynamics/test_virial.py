"""The virial is the derivative with respect to strain, all nine components, term by term, for every periodicity."""

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule
from solvable import Crystal
from toys import LennardJones, argon_box

import heliodor
from heliodor.potential import evaluate_system
from heliodor.system import System

POINTS = ((1, 3 / 4), (-1, -3 / 4), (2, -3 / 20), (-2, 3 / 20), (3, 1 / 60), (-3, -1 / 60))
"""Central differences of sixth order."""


def by_term(potential, system):
    """[terms, B] eV, with lists made for this very system."""
    return torch.stack(list(evaluate_system(potential, system, forces=False).terms.values()))


def differences(potential, system, step):
    """-∂E/∂ε of each term of one structure, [terms, 3, 3], all strains in one batch."""
    pattern = torch.zeros(9, len(POINTS), 3, 3, dtype=torch.float64)
    for component in range(9):
        for n, (factor, _) in enumerate(POINTS):
            pattern[component, n, component // 3, component % 3] = factor * step
    pattern = pattern.view(-1, 3, 3)
    atoms = system.to_atoms()[0]
    many = System.from_atoms([atoms] * len(pattern))
    energies = by_term(potential, many.deform(pattern)).view(-1, 9, len(POINTS))
    weights = torch.tensor([weight for _, weight in POINTS], dtype=torch.float64)
    # the energy at rest taken away first, so that rounding is relative to what changes
    return -((energies - by_term(potential, system)[:, :, None]) @ weights / step).view(-1, 3, 3)


def gradients(potential, system):
    """-∂E/∂ε of each term by differentiation, not symmetrised."""
    strain = torch.zeros(1, 3, 3, dtype=torch.float64, requires_grad=True)
    moved = system.deform(strain)
    energies = [energy.sum() for energy in potential(moved, potential.neighbors(system)).energies.values()]
    return torch.stack([-torch.autograd.grad(e, strain, retain_graph=True)[0][0] for e in energies])


def check(potential, atoms, step=3e-3, tolerance=1e-7):
    system = System.from_atoms(atoms)
    numerical = differences(potential, system, step)
    names = list(evaluate_system(potential, system, forces=False).terms)
    exact = gradients(potential, system)
    for name, found, expected in zip(names, exact, numerical, strict=True):
        assert expected.abs().max() > 1e-3, name
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * expected.abs().max(), err_msg=name)
        # no energy knows how the structure is turned
        np.testing.assert_allclose(found, found.mT, rtol=0, atol=1e-10 * expected.abs().max(), err_msg=name)
    virial = evaluate_system(potential, system, virial=True).virial[0]
    np.testing.assert_allclose(virial, numerical.sum(0), rtol=0, atol=tolerance * numerical.abs().max())


@pytest.fixture
def pair():
    """Water and hydrogen fluoride, periodic in a small skew cell."""
    atoms = molecule("H2O") + molecule("HF")
    atoms.positions += np.random.default_rng(3).normal(0, 0.05, atoms.positions.shape)
    atoms.positions[3:] += [0.4, 2.2, 1.9]
    atoms.set_cell([[4.3, 0.0, 0.0], [0.5, 4.6, 0.0], [-0.4, 0.6, 5.4]])
    return atoms


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, False, False)])
@pytest.mark.parametrize(("cutoff", "size"), [(5.0, 1.5), (9.0, 1.0)])
def test_so3lr(so3lr_at, pair, cutoff, size, pbc):
    """With a long range that ends within the cell and one that reaches several images; a slab, a molecule."""
    pair.set_cell(size * pair.cell.array)
    pair.pbc = pbc
    check(so3lr_at(cutoff), pair, step=STEP)


def test_mini(pair):
    pair.pbc = True
    check(heliodor.load("heliodor-mini", device="cpu", dtype="float64"), pair, step=STEP)


@pytest.mark.parametrize("pbc", [True, (True, True, False), False])
def test_toys(pbc):
    atoms = argon_box(2, 3.9)
    atoms.pbc = pbc
    check(LennardJones(), atoms)
    if pbc is True:
        check(Crystal(radial=True), rattled())


def rattled() -> ase.Atoms:
    atoms = Crystal().unit.copy()
    atoms.rattle(0.1, seed=1)
    return atoms


STEP = 2e-5
"""Small, because the force between charges has a kink where the cutoff ends it."""
