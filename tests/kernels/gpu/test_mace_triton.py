"""MACE's Triton kernels by the interpreter, against the plain model in float64; few edges, for it takes its time."""

from __future__ import annotations

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule

from heliodor.errors import ModelError
from heliodor.kernels.gpu.mace.kernel import MACETriton, supports
from heliodor.kernels.gpu.mace.linear import Sorted
from heliodor.kernels.gpu.matrix import matrix_of
from heliodor.potential import evaluate_system
from heliodor.potentials.mace import MACE, MACEConfig
from heliodor.system import System
from heliodor.uncertainty import ForceError, ForceErrorConfig

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="tensors here are of the CPU, for the interpreter")


def make(degree, channels=5, dtype=torch.float64, **changes):
    """A random model whose every part shows in the energy."""
    torch.manual_seed(degree)
    values = {"cutoff": 2.5, "elements": (1, 8), "channels": channels, "degrees": (degree, 0)}
    values |= {"isolated_energies": (-13.0, -2043.0), "average_neighbors": (2.0, 1.5), "readout_hidden": 6}
    values |= {"radial_hidden": (8, 8), "silu_scale": 1.68, "gate_scale": 1.7}
    model = MACE(MACEConfig(**(values | changes)))
    model.scale.fill_(0.8)
    model.shift.fill_(0.3)
    return model.to(dtype).eval().requires_grad_(False)


def bent():
    """A bond, an atom that only one of the two sees, and one that the list has for its skin but not the model."""
    places = [(0, 0, 0), (0.7, 0.5, 0.3), (2.0, 1.6, -0.2), (-2.3, -1.3, 0.5)]
    return ase.Atoms("OHHO", positions=places)


def small_cell():
    """One atom and six images of it."""
    return ase.Atoms("O", cell=[[2.2, 0, 0], [0.3, 2.1, 0], [0, -0.4, 2.3]], pbc=True)


def compare(model, frames, fast=None, skin=0.5):
    system = System.from_atoms(frames)
    neighbors = model.neighbors(system, skin=skin)
    plain = evaluate_system(model, system, neighbors, virial=True)
    fast = fast or MACETriton(model)
    derived = fast.derive(system, neighbors, gradient=True, strain=True)
    size = float(plain.forces.abs().max()) + 1.0
    # what is left is the splines' error
    np.testing.assert_allclose(derived.terms.energies["mace"], plain.node_terms["mace"], atol=1e-9)
    np.testing.assert_allclose(-derived.gradient, plain.forces, atol=1e-7 * size)
    np.testing.assert_allclose(-0.5 * (derived.strain + derived.strain.mT), plain.virial, atol=3e-7 * size)
    assert torch.equal(derived.terms.energies["isolated_atoms"], plain.node_terms["isolated_atoms"])
    return system, neighbors, fast, derived, plain


def test_a_batch_and_rows_exactly_full():
    """No edges, one atom, edges in the skin, images of the atom itself; then once more, in the room there must be."""
    far = ase.Atoms("HO", positions=[(0, 0, 0), (9, 0, 0)])
    system, neighbors, fast, derived, plain = compare(make(0), [far, bent(), ase.Atoms("H"), small_cell()])
    assert plain.forces.abs().max() > 1e-3
    assert torch.equal(derived.gradient[[0, 1, 6]], torch.zeros(3, 3, dtype=torch.float64))
    longest = int(matrix_of(neighbors, system.n_atoms).count.max())
    again = fast.evaluate(system, matrix_of(neighbors, system.n_atoms, longest), None, strain=True)
    assert torch.equal(again.terms.energies["mace"], derived.terms.energies["mace"])
    assert torch.equal(again.gradient, derived.gradient)
    assert torch.equal(again.strain, derived.strain)


def test_features_with_a_direction():
    """40 channels: several to a thread, and the block's last ones are none of the model's."""
    _, neighbors, _, _, plain = compare(make(1, 40), bent()[:3])
    assert len(neighbors.i) == 3
    assert plain.forces.abs().max() > 1e-3


def test_features_of_degree_two():
    *_, plain = compare(make(2), bent()[:2])
    assert plain.forces.abs().max() > 1e-3


def test_images_of_one_another():
    """Two atoms that are neighbours several times: the partner of an edge is the one by the opposite translation."""
    atoms = ase.Atoms("OH", positions=[(0, 0, 0), (1.1, 0.2, 0.1)], cell=[2.3, 9, 9], pbc=True)
    _, neighbors, *_ = compare(make(0), atoms)
    assert len(neighbors.i) >= 4


def test_forces_are_the_gradient_of_its_own_energy():
    model, atoms, step = make(0), bent()[:2], 1e-5
    fast = MACETriton(model)
    system = System.from_atoms(atoms)
    neighbors = model.neighbors(system, skin=0.5)
    gradient = fast.derive(system, neighbors, gradient=True, strain=False).gradient
    energies = []
    for sign in (1, -1):
        moved = system.positions.clone()
        moved[1, 0] += sign * step
        told = fast.derive(system.replace(positions=moved), neighbors, gradient=False, strain=False)
        assert told.gradient is None
        assert told.strain is None
        energies.append(float(told.terms.energies["mace"].sum()))
    assert (energies[0] - energies[1]) / (2 * step) == pytest.approx(float(gradient[1, 0]), abs=1e-8)


def test_float32():
    system = System.from_atoms(bent()[:2])
    model = make(0, dtype=torch.float32)
    neighbors = model.neighbors(system)
    derived = MACETriton(model).derive(system, neighbors, gradient=True, strain=False)
    exact = evaluate_system(make(0), system, neighbors)
    size = float(exact.forces.abs().max())
    assert derived.terms.energies["mace"].dtype == torch.float32
    np.testing.assert_allclose(derived.terms.energies["mace"], exact.node_terms["mace"], rtol=3e-6)
    np.testing.assert_allclose(-derived.gradient, exact.forces, atol=1e-5 * size)


def test_errors_of_forces():
    model = make(0)
    error = ForceError(ForceErrorConfig(5, (1, 8), 0.9, 1.0, "")).double()
    error.whiten.copy_(torch.randn(5, 5))
    error.slope.copy_(0.3 * torch.randn(2, 5))
    model.uncertainty = error
    *_, derived, plain = compare(model, bent()[:2])
    np.testing.assert_allclose(derived.terms.force_error, plain.force_error, rtol=1e-8)


def test_what_is_not_a_number_stays_so():
    model = make(0)
    system = System.from_atoms([molecule("OH"), ase.Atoms("O")])
    neighbors = model.neighbors(system)
    broken = system.positions.clone()
    broken[1, 2] = torch.nan
    derived = MACETriton(model).derive(system.replace(positions=broken), neighbors, gradient=True, strain=False)
    assert derived.terms.energies["mace"].isfinite().tolist() == [False, False, True]
    assert not bool(derived.gradient[:2].isfinite().any())


def test_tiles_of_sorted_atoms():
    """Against a count by hand: an element with no atoms, one with one, one with a tile and a bit."""
    species = torch.tensor([3] * 9 + [0] + [2] * 8 + [3] * 8, dtype=torch.int32)
    found = Sorted.of(species, 5, 8)
    assert found.tiles.tolist() == [[0, 0, 1], [2, 1, 9], [3, 9, 26], [3, 17, 26], [3, 25, 26], *[[0, 0, 0]] * 4]
    assert species[found.order.long()].tolist() == sorted(species.tolist())


@pytest.mark.parametrize("changes", [{"degrees": (1, 1, 0), "average_neighbors": (7.0,) * 3}, {"residual_first": True}])
def test_other_networks_are_refused(changes):
    model = make(1, **changes)
    assert not supports(model)
    with pytest.raises(ModelError, match="no MACE of two layers"):
        MACETriton(model)
