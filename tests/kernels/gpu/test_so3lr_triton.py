"""SO3LR's Triton kernels against the plain model in float64: whatever the shape, whatever the structure."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

import heliodor
from heliodor.kernels.gpu.matrix import NeighborMatrix, matrix_of
from heliodor.kernels.gpu.so3lr.kernel import SO3LRTriton
from heliodor.potential import evaluate_system
from heliodor.potentials.so3krates import SO3kratesConfig
from heliodor.potentials.so3lr import SO3LR, SO3LRConfig
from heliodor.system import System

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="tensors here are of the CPU, for the interpreter")

NETWORK = SO3kratesConfig(n_features=32, n_heads=2, degrees=(1, 2), n_layers=2, n_basis=8, cutoff=3.0)
PADDED = SO3kratesConfig(n_features=24, n_heads=2, degrees=(1, 2, 3), n_layers=2, n_basis=8, cutoff=3.0)


def random_model(network: SO3kratesConfig = NETWORK) -> SO3LR:
    torch.manual_seed(4)
    model = SO3LR(SO3LRConfig(network=network, n_hirshfeld=8))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def model() -> SO3LR:
    return random_model()


@pytest.fixture(scope="module")
def kernel(model: SO3LR) -> SO3LRTriton:
    return SO3LRTriton(model)


def cluster(n: int, seed: int, side: float = 3.0) -> Atoms:
    rng = np.random.default_rng(seed)
    points: list[np.ndarray] = []
    while len(points) < n:
        point = rng.uniform(0.0, side, 3)
        if all(np.linalg.norm(point - other) > 0.95 for other in points):
            points.append(point)
    return Atoms(rng.choice([1, 6, 7, 8], n), positions=points)


def check(kernel: SO3LRTriton, model: SO3LR, system: System, tolerance: float = 1e-5, skin: float = 0.0) -> None:
    """Everything within a rounding of float32, in units of the largest force, virial, charge."""
    exact = copy.deepcopy(model).double()
    lists = exact.neighbors(system, skin=skin)
    true = evaluate_system(exact, system, exact.neighbors(system), virial=True)
    made = kernel.derive(system, lists, gradient=True, strain=True)
    assert made.gradient is not None
    assert made.strain is not None
    for name, energy in made.terms.energies.items():
        torch.testing.assert_close(energy.double(), true.node_terms[name], rtol=1e-5, atol=3e-6)
    torch.testing.assert_close(made.terms.charges.double(), true.charges, rtol=0, atol=2e-6)
    torch.testing.assert_close(made.terms.hirshfeld_ratios.double(), true.hirshfeld_ratios, rtol=0, atol=2e-6)
    scale = 1.0 + float(true.forces.abs().max())
    assert float((made.gradient + true.forces).abs().max()) < tolerance * scale
    virial = -0.5 * (made.strain + made.strain.mT)
    assert float((virial - true.virial).abs().max()) < tolerance * (1.0 + float(true.virial.abs().max()))


def test_random_molecule(kernel: SO3LRTriton, model: SO3LR) -> None:
    check(kernel, model, System.from_atoms(cluster(4, 1)))


def test_widths_that_are_no_powers_of_two() -> None:
    model = random_model(PADDED)
    check(SO3LRTriton(model), model, System.from_atoms(cluster(3, 2, 2.5)))


@pytest.mark.parametrize("positions", [[[0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0], [3.5, 0.0, 0.0]]])
def test_atoms_without_edges(kernel: SO3LRTriton, model: SO3LR, positions: list[list[float]]) -> None:
    check(kernel, model, System.from_atoms(Atoms("H" * len(positions), positions=positions)))


def test_many_images_of_few_atoms_and_more_edges_than_a_block(kernel: SO3LRTriton, model: SO3LR) -> None:
    cell = [[2.1, 0.0, 0.0], [0.4, 2.2, 0.0], [-0.3, 0.2, 2.3]]
    crystal = Atoms("OH", positions=[[0.0, 0.0, 0.0], [0.9, 0.3, 0.4]], cell=cell, pbc=True)
    short = copy.deepcopy(model)
    short.long_range_cutoff = 4.0
    system = System.from_atoms(crystal)
    lists = short.neighbors(system)
    assert int(matrix_of(lists, 2).count.max()) > 16
    check(kernel, short, system)


def test_edges_in_the_skin_do_not_count(kernel: SO3LRTriton, model: SO3LR) -> None:
    check(kernel, model, System.from_atoms(cluster(4, 1)), skin=1.5)


def test_batch_with_charges(kernel: SO3LRTriton, model: SO3LR) -> None:
    frames = [molecule("OH"), cluster(3, 5), molecule("H2O")]
    for frame, charge, spin in zip(frames, (-1, 0, 1), (0, 0, 1), strict=True):
        frame.info.update(charge=charge, spin=spin)
    check(kernel, model, System.from_atoms(frames))


def test_fragments_keep_their_charges(kernel: SO3LRTriton, model: SO3LR) -> None:
    pair = molecule("H2O") + Atoms("OH", positions=[[0.0, 2.4, 0.3], [0.0, 3.3, 0.3]])
    system = System.from_atoms(pair, charge=-1, fragments=[1, 1, 1, 0, 0], fragment_charges=[-1.0, 0.0])
    check(kernel, model, system)


def test_two_runs_are_equal_to_the_last_bit_and_permuted_rows_to_rounding(kernel: SO3LRTriton, model: SO3LR) -> None:
    system = System.from_atoms(cluster(4, 7))
    lists = model.neighbors(system)
    assert lists.long_range is not None
    short, long = matrix_of(lists, 4), matrix_of(lists.long_range, 4)
    one = kernel.evaluate(system, short, long)
    two = kernel.evaluate(system, short, long)
    assert one.gradient is not None
    assert two.gradient is not None
    assert torch.equal(one.gradient, two.gradient)
    assert all(torch.equal(one.terms.energies[name], two.terms.energies[name]) for name in one.terms.energies)

    def turned(matrix: NeighborMatrix) -> NeighborMatrix:
        index, shift = matrix.index.clone(), matrix.shift.clone()
        for i, n in enumerate(matrix.count.tolist()):
            index[i, :n], shift[i, :n] = index[i, :n].flip(0), shift[i, :n].flip(0)
        return replace(matrix, index=index, shift=shift)

    other = kernel.evaluate(system, turned(short), turned(long))
    torch.testing.assert_close(other.gradient, one.gradient, rtol=1e-5, atol=1e-5)
    # rows without a place to spare, and all pairs without a list
    exact = matrix_of(lists, 4, capacity=int(short.count.max()))
    full = kernel.evaluate(system, exact, None)
    torch.testing.assert_close(full.gradient, one.gradient, rtol=1e-5, atol=1e-5)


def test_forces_are_slopes_of_energies(kernel: SO3LRTriton, model: SO3LR) -> None:
    system = System.from_atoms(cluster(4, 9))
    made = kernel.derive(system, model.neighbors(system), gradient=True, strain=False)
    assert made.gradient is not None
    step, energies = 2e-2, []
    direction = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    direction /= direction.norm()
    for k in (-2, -1, 1, 2):
        moved = system.replace(positions=system.positions + k * step * direction)
        terms = kernel.derive(moved, model.neighbors(moved), gradient=False, strain=False).terms
        energies.append(sum(float(energy.double().sum()) for energy in terms.energies.values()))
    slope = (energies[0] - 8 * energies[1] + 8 * energies[2] - energies[3]) / (12 * step)
    along = float((made.gradient * direction).sum())
    assert abs(slope - along) < 2e-3 * float(made.gradient.norm())


@pytest.mark.parametrize("name", ["so3lr", "heliodor-s"])
def test_released_weights(name: str) -> None:
    model = heliodor.load(name, device="cpu", kernels="reference")
    assert isinstance(model, SO3LR)
    kernel = SO3LRTriton(model)
    assert kernel.network.radial_error < 1e-5
    assert kernel.network.slope_error < 3e-4
    system = System.from_atoms(molecule("H2O"))
    check(kernel, model, system)
    if model.uncertainty is not None:
        made = kernel.derive(system, model.neighbors(system), gradient=False, strain=False)
        plain = model(system, model.neighbors(system))
        torch.testing.assert_close(made.terms.force_error, plain.force_error, rtol=1e-3, atol=1e-5)


def test_batches_of_two_cutoffs_run_the_plain_model():
    model = random_model().float()
    box = Atoms("OH", positions=[(0.0, 0.0, 0.0), (1.0, 0.0, 0.0)], cell=(4.0, 4.0, 4.0), pbc=True, info={"spin": 1})
    system = System.from_atoms([box, molecule("H2O")])
    model.periodic_long_range_cutoff = 5.0
    neighbors = model.neighbors(system)
    plain = evaluate_system(model, system, neighbors)
    model.use_kernel(SO3LRTriton(model), "triton")
    assert not model.derives(neighbors)
    assert torch.equal(evaluate_system(model, system, neighbors).forces, plain.forces)
    assert model.derives(model.neighbors(System.from_atoms([box, box])))
