"""Second derivatives: against differences of forces, and what is refused."""

from __future__ import annotations

from typing import Any

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule
from torch import Tensor
from torch.autograd.function import once_differentiable

import heliodor
from heliodor.errors import InputError, ModelError
from heliodor.hessian import curvature, hessian
from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, Terms
from heliodor.system import System

STENCIL = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))
"""Fourth-order central differences."""


@pytest.fixture(scope="module")
def mini() -> Potential:
    return heliodor.load("heliodor-mini", device="cpu", dtype="float64", long_range_cutoff="auto")


def methanol() -> ase.Atoms:
    atoms = molecule("CH3OH")
    atoms.rattle(0.08, seed=3)
    atoms.positions += [4.0, -3.0, 2.0]
    return atoms


def differences(potential: Potential, atoms: ase.Atoms, rows: list[int], h: float = 2e-3) -> tuple[Any, Any]:
    """Rows of the Hessian and of the dipole's derivatives by differences of forces and dipoles."""
    frames, charge = [], atoms.info.get("charge", 0.0)
    for row in rows:
        for step, _ in STENCIL:
            frame = atoms.copy()
            frame.positions[row // 3, row % 3] += step * h
            frames.append(frame)
    p = heliodor.evaluate(potential, frames, charge=charge)
    weights = np.array([weight for _, weight in STENCIL]) / h
    forces = p.forces.numpy().reshape(len(rows), len(STENCIL), -1)
    dipole = None if p.dipole is None else p.dipole.numpy().reshape(len(rows), len(STENCIL), 3)
    return -np.einsum("s,rsc->rc", weights, forces), None if dipole is None else np.einsum("s,rsc->rc", weights, dipole)


@pytest.mark.parametrize("name", ["heliodor-mini", "so3lr"])
def test_against_differences_of_forces_and_dipoles(name: str) -> None:
    potential = heliodor.load(name, device="cpu", dtype="float64")
    atoms = methanol()
    found = curvature(potential, atoms)
    expected, dipole = differences(potential, atoms, list(range(18)))
    np.testing.assert_allclose(found.hessian, expected, atol=2e-6)
    np.testing.assert_allclose(found.dipole_derivatives, dipole, atol=1e-7)
    assert found.hessian.dtype == np.float64
    assert (found.hessian == found.hessian.T).all()
    assert found.asymmetry < 1e-12
    p = heliodor.evaluate(potential, atoms)
    assert found.energy == pytest.approx(float(p.energy[0]), abs=1e-12)
    np.testing.assert_allclose(found.forces, p.forces, atol=1e-12)


def test_ions_charge_given_in_either_way(mini: Potential) -> None:
    atoms = molecule("NH3")
    atoms += ase.Atoms("H", [(0.0, 0.0, 1.2)])
    given = hessian(mini, atoms, charge=1.0)
    atoms.info["charge"] = 1.0
    np.testing.assert_array_equal(hessian(mini, atoms), given)
    expected, _ = differences(mini, atoms, [0, 7])
    np.testing.assert_allclose(given[[0, 7]], expected, atol=2e-5)


def test_periodic_structures(crystal: ase.Atoms) -> None:
    potential = heliodor.load("heliodor-mini", device="cpu", dtype="float64", long_range_cutoff=6.0)
    found = curvature(potential, crystal)
    rows = [0, 10, 25]
    expected, _ = differences(potential, crystal, rows, h=1e-3)
    np.testing.assert_allclose(found.hessian[rows], expected, atol=1e-5)
    assert found.dipole_derivatives is None
    # the acoustic sum rule: all atoms moved together feel nothing
    np.testing.assert_allclose(found.hessian.reshape(-1, len(crystal), 3).sum(1), 0.0, atol=1e-10)


def test_a_subset_is_a_block_in_its_own_order(mini: Potential) -> None:
    atoms = methanol()
    whole = curvature(mini, atoms)
    part = curvature(mini, atoms, subset=[4, 1])
    index = [12, 13, 14, 3, 4, 5]
    np.testing.assert_allclose(part.hessian, whole.hessian[np.ix_(index, index)], atol=1e-11)
    np.testing.assert_allclose(part.dipole_derivatives, whole.dipole_derivatives[index], atol=1e-12)
    assert part.forces.shape == (6, 3)


def test_it_turns_with_the_molecule(mini: Potential) -> None:
    atoms = methanol()
    turned = atoms.copy()
    turned.rotate(63.0, (1.0, 2.0, -0.5), center="COM")
    # columns of a rotation are where it takes the axes
    axes = ase.Atoms("H3", np.eye(3))
    axes.rotate(63.0, (1.0, 2.0, -0.5))
    block = np.kron(np.eye(len(atoms)), axes.positions)
    first, second = hessian(mini, atoms), hessian(mini, turned)
    np.testing.assert_allclose(second, block.T @ first @ block, atol=1e-10)


def test_batches_progress_and_float32(mini: Potential) -> None:
    atoms = methanol()
    seen: list[tuple[int, int]] = []
    one = hessian(mini, atoms, chunk=1)
    some = hessian(mini, atoms, chunk=7, progress=lambda done, count: seen.append((done, count)))
    np.testing.assert_allclose(some, one, atol=1e-11)
    assert seen == [(7, 18), (14, 18), (18, 18)]
    single = heliodor.load("heliodor-mini", device="cpu", dtype="float32")
    np.testing.assert_allclose(hessian(single, atoms), one, atol=2e-6 * np.abs(one).max())


def test_the_calculator_has_it(mini: Potential) -> None:
    atoms = methanol()
    calculator = heliodor.Calculator(mini)
    np.testing.assert_array_equal(calculator.get_hessian(atoms), hessian(mini, atoms))
    assert calculator.get_hessian(atoms, subset=np.array([2])).shape == (3, 3)


class Field(Potential):
    """Energies by a function of all coordinates."""

    name, elements, cutoff = "field", tuple(range(1, 90)), 1.0

    def __init__(self, energy: Any) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.energy = energy

    def forward(self, system: System, neighbors: Neighbors) -> Terms:
        return Terms({"field": self.energy(system.positions).expand(system.n_atoms) / system.n_atoms})


MATRIX = torch.tensor(np.random.default_rng(5).normal(size=(6, 6)))


class Square(torch.autograd.Function):
    """½ x·A·x by hand, without a rule for batches; its gradient is right only for a symmetric A."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor) -> Tensor:
        ctx.save_for_backward(x, matrix)
        return 0.5 * x.flatten() @ matrix @ x.flatten()

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, None]:
        x, matrix = ctx.saved_tensors
        return above * Linear.apply(x, matrix), None


class Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor) -> Tensor:
        ctx.save_for_backward(matrix)
        return (matrix @ x.flatten()).view_as(x)

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, None]:
        # numpy knows nothing of batches
        (matrix,) = ctx.saved_tensors
        return torch.from_numpy(matrix.numpy().T @ above.numpy().ravel()).view_as(above), None


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return 0.5 * x.square().sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> Tensor:
        return above * ctx.saved_tensors[0]


PAIR = ase.Atoms("He2", [(0.1, 0.2, 0.3), (1.0, 2.0, 3.0)])


def test_models_that_cannot_be_batched_go_row_by_row() -> None:
    matrix = MATRIX + MATRIX.T
    seen: list[int] = []
    found = hessian(Field(lambda x: Square.apply(x, matrix)), PAIR, progress=lambda done, _: seen.append(done))
    np.testing.assert_allclose(found, matrix, atol=1e-13)
    assert seen == [1, 2, 3, 4, 5, 6]


def test_models_without_second_derivatives_are_refused(mini: Potential) -> None:
    with pytest.raises(ModelError, match="not symmetric"):
        hessian(Field(lambda x: Square.apply(x, MATRIX)), PAIR)
    # PyTorch says nothing where a part counts as constant, and of the other part all would look well
    for energy in (Once.apply, lambda x: Once.apply(x) + x.square().sum()):
        with pytest.raises(ModelError, match=r"differences of its forces by .* cannot be differentiated twice"):
            hessian(Field(energy), PAIR)
    with pytest.raises(ModelError, match="cannot be differentiated twice"):
        hessian(Field(lambda x: Once.apply(x).square()), PAIR)
    with pytest.raises(ModelError, match="forces of field are not finite"):
        hessian(Field(lambda x: (x - x[:1]).square().sum(-1).sqrt().sum()), PAIR)
    with pytest.raises(ModelError, match="second derivatives of field are not finite"):
        hessian(Field(lambda x: (x - x.detach()).abs().pow(1.5).sum()), PAIR)


def test_a_kernel_is_left_aside(mini: Potential) -> None:
    # what it hands out would show
    fused = Field(lambda x: x.square().sum())
    kernel = fused.kernel = lambda system, neighbors: None
    np.testing.assert_allclose(hessian(fused, PAIR), 2.0 * np.eye(6))
    assert fused.kernel is kernel


def test_no_interaction_has_no_curvature(mini: Potential) -> None:
    np.testing.assert_array_equal(hessian(mini, ase.Atoms("O")), np.zeros((3, 3)))
    np.testing.assert_array_equal(hessian(Field(lambda x: 0.0 * x.square().sum()), PAIR), np.zeros((6, 6)))
    np.testing.assert_array_equal(hessian(Field(lambda x: x.sum()), PAIR), np.zeros((6, 6)))
    assert curvature(Field(lambda x: x.sum()), PAIR).dipole_derivatives is None


def test_bad_input(mini: Potential) -> None:
    water = molecule("H2O")
    for subset, message in (
        ([], "at least one"),
        ([0, 0], "twice"),
        ([3], "counted from 0 to 2"),
        ([-1], "counted from 0 to 2"),
        (np.array([True, False, True]), "list of indices"),
        (np.array([0.0]), "list of indices"),
    ):
        with pytest.raises(InputError, match=message):
            hessian(mini, water, subset=subset)
    with pytest.raises(InputError, match="chunk"):
        hessian(mini, water, chunk=0)
    with pytest.raises(InputError, match="unpaired"):
        hessian(mini, water, charge=1.0)
    with pytest.raises(ModelError, match="Na"):
        hessian(mini, ase.Atoms("NaCl", [(0, 0, 0), (2.4, 0, 0)]))
    with pytest.raises(InputError, match="one spot"):
        hessian(mini, ase.Atoms("H2", [(0, 0, 0), (0.01, 0, 0)]))
