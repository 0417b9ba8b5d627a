"""SO3LR's compiled kernel against the plain model, on random models and structures."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule

import heliodor
from heliodor.errors import ModelError
from heliodor.kernels import choose_kernels
from heliodor.kernels.cpu import functions, threads
from heliodor.kernels.cpu.so3lr.harmonics import harmonics, harmonics_pullback
from heliodor.kernels.cpu.so3lr.long_range import seventh_root
from heliodor.kernels.cpu.vector import load, store, total
from heliodor.potential import evaluate_system
from heliodor.potentials.angular import spherical_harmonics
from heliodor.potentials.so3krates import SO3kratesConfig
from heliodor.potentials.so3lr import SO3LR, SO3LRConfig
from heliodor.response import response_derivatives
from heliodor.system import System

CPU = torch.device("cpu")
TERMS = ("so3krates", "zbl", "electrostatics", "dispersion")
SMALL = SO3kratesConfig(n_features=64, n_heads=2, n_layers=2, n_basis=8, cutoff=4.0, n_elements=18)


def make(seed=0, dtype=torch.float64, network=SMALL, **changes):
    """A random model whose every part shows in the energy."""
    torch.manual_seed(seed)
    model = SO3LR(SO3LRConfig(network=network, n_hirshfeld=16), **changes)
    with torch.no_grad():
        model.hirshfeld_weight.normal_()
        model.energy_offset.normal_()
        for layer in model.network.layers:
            layer.filter_bias.normal_()
            for norm in (layer.norm_1, layer.norm_2):
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.normal_()
    return model.to(dtype).eval().requires_grad_(False)


def box(n=20, seed=0, cell=6.0):
    """Atoms anywhere in a skewed box, none closer than 0.7 Å."""
    rng = np.random.default_rng(seed)
    rows = cell * np.array([[1.0, 0.0, 0.0], [0.2, 0.9, 0.0], [-0.1, 0.3, 1.1]])
    atoms = ase.Atoms(cell=rows, pbc=True)
    while len(atoms) < n:
        trial = atoms + ase.Atoms([int(rng.choice([1, 6, 7, 8]))], positions=[rng.uniform(size=3) @ rows])
        if len(trial) == 1 or trial.get_distances(-1, range(len(trial) - 1), mic=True).min() > 0.7:
            atoms = trial
    return atoms


def ion():
    atoms = molecule("CH3COOH")[:-1]
    atoms.info["charge"] = -1
    return atoms


STRUCTURES = {
    "molecule": lambda: molecule("CH3CONH2"),
    "box": box,
    "several images": lambda: box(4, 1, 2.6),
    "alone": lambda: ase.Atoms("N", info={"spin": 3}),
    "no edges": lambda: ase.Atoms("CO", positions=[(0, 0, 0), (9, 0, 0)]),
    "far apart": lambda: ase.Atoms("CO", positions=[(0, 0, 0), (3e4, 0, 0)]),
    "just inside": lambda: ase.Atoms("CO", positions=[(0, 0, 0), (3.9999, 0, 0)]),
    "just outside": lambda: ase.Atoms("CO", positions=[(0, 0, 0), (4.0001, 0, 0)]),
    "slab": lambda: ase.Atoms("H2OCN", np.random.default_rng(4).uniform(0, 3.5, (5, 3)), cell=[5, 5, 9], pbc=[1, 1, 0]),
    "ion": ion,
    "batch": lambda: [box(7, 2), molecule("H2O"), ion(), ase.Atoms("H", info={"spin": 1}), molecule("C2H4")],
}


def both(model, frames, skin=0.0, **wanted):
    """Predictions of the plain model and of the kernel."""
    system = System.from_atoms(frames)
    neighbors = model.neighbors(system, skin=skin)
    plain = evaluate_system(model, system, neighbors, **wanted)
    assert choose_kernels(model, CPU, "numba") == "numba"
    return plain, evaluate_system(model, system, neighbors, **wanted)


def assert_same(fast, plain, tolerance):
    size = float(plain.forces.abs().max()) + 1.0
    for term in TERMS:
        np.testing.assert_allclose(fast.node_terms[term], plain.node_terms[term], atol=tolerance * size, rtol=tolerance)
    np.testing.assert_allclose(fast.charges, plain.charges, atol=tolerance)
    np.testing.assert_allclose(fast.hirshfeld_ratios, plain.hirshfeld_ratios, atol=tolerance)
    np.testing.assert_allclose(fast.dipole, plain.dipole, atol=tolerance * 1e5, rtol=tolerance)
    # slopes of splines are one order less exact than their values
    np.testing.assert_allclose(fast.forces, plain.forces, atol=100 * tolerance * size)
    np.testing.assert_allclose(fast.virial, plain.virial, atol=1000 * tolerance * size)


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_same_as_the_plain_model(name):
    plain, fast = both(make(), STRUCTURES[name](), skin=0.4, virial=True)
    assert_same(fast, plain, 2e-10)


@pytest.mark.parametrize("degrees", [(1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)])
def test_numbers_of_degrees(degrees):
    network = replace(
        SMALL, degrees=degrees, n_heads=4 if len(degrees) != 3 else 3, n_features=192 if len(degrees) == 3 else 64
    )
    plain, fast = both(make(1, network=network), box(8, 3), virial=True)
    assert_same(fast, plain, 2e-10)


@pytest.mark.parametrize("name", ["so3lr", "heliodor-s"])
def test_released_models_in_single_precision(name):
    frames = [molecule("CH3CONH2"), ion(), box(12, 5)]
    exact = evaluate_system(heliodor.load(name, dtype="float64"), System.from_atoms(frames), virial=True)
    model = heliodor.load(name, dtype="float32")
    assert model.kernels == "numba"
    fast = evaluate_system(model, System.from_atoms(frames), virial=True)
    size = float(exact.forces.abs().max())
    np.testing.assert_allclose(fast.forces, exact.forces, atol=1e-5 * size)
    np.testing.assert_allclose(fast.energy, exact.energy, atol=2e-5)
    np.testing.assert_allclose(fast.virial, exact.virial, atol=2e-5 * size)
    np.testing.assert_allclose(fast.charges, exact.charges, atol=2e-6)
    if name == "heliodor-s":
        np.testing.assert_allclose(fast.force_error, exact.force_error, rtol=1e-3)


def test_cutoffs_and_switches():
    # 5 Å: pairs on both sides of the Coulomb switch, in that of dispersion, in the skin
    model = make(long_range_cutoff=5.0, dispersion_damping_width=1.0)
    plain, fast = both(model, [box(14, 4, 5.0), molecule("C6H6")], skin=1.0, virial=True)
    assert_same(fast, plain, 2e-10)


def test_another_damping_width_is_noticed():
    model = make(long_range_cutoff=5.0)
    plain = copy.deepcopy(model)
    choose_kernels(model, CPU, "numba")
    system = System.from_atoms(box(6, 4, 5.0))
    for width in (2.0, 1.0):
        model.dispersion_damping_width = plain.dispersion_damping_width = width
        fast, slow = evaluate_system(model, system), evaluate_system(plain, system)
        np.testing.assert_allclose(fast.terms["dispersion"], slow.terms["dispersion"], atol=1e-10)


def test_fragments_keep_their_charges():
    atoms = molecule("H2O") + molecule("CO2")
    atoms.positions[3:] += (0.0, 0.0, 4.0)
    model = make()
    system = System.from_atoms(atoms, fragments=[0, 0, 0, 1, 1, 1], fragment_charges=[1.0, -1.0])
    plain = evaluate_system(model, system, virial=True)
    choose_kernels(model, CPU, "numba")
    fast = evaluate_system(model, system, virial=True)
    assert_same(fast, plain, 2e-10)
    np.testing.assert_allclose(fast.charges[:3].sum(), 1.0)


def test_forces_are_the_gradient_of_the_energy():
    # exact for the splines themselves: no tolerance for their error
    model = make(3)
    choose_kernels(model, CPU, "numba")
    system = System.from_atoms(box(6, 6))
    prediction = evaluate_system(model, system, virial=True)
    way = torch.randn(system.positions.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    step = 2e-5
    sides = [
        evaluate_system(model, system.replace(positions=system.positions + sign * step * way), forces=False).energy
        for sign in (1.0, -1.0)
    ]
    slope = float(sides[0] - sides[1]) / (2.0 * step)
    assert slope == pytest.approx(-float((prediction.forces * way).sum()), rel=2e-7)
    strain = torch.randn(1, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    strain = strain + strain.mT
    sides = [evaluate_system(model, system.deform(sign * step * strain), forces=False).energy for sign in (1.0, -1.0)]
    slope = float(sides[0] - sides[1]) / (2.0 * step)
    assert slope == pytest.approx(-float((prediction.virial * strain).sum()), rel=2e-7)


def test_threads_change_nothing_but_rounding(monkeypatch):
    monkeypatch.setattr(threads, "LEAST", 1)
    model, frames = make(), [box(15, 7), molecule("CH3CONH2")]
    choose_kernels(model, CPU, "numba")
    system = System.from_atoms(frames)
    neighbors = model.neighbors(system, skin=0.5)
    before = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3, 3):
            torch.set_num_threads(count)
            found.append(evaluate_system(model, system, neighbors, virial=True))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        np.testing.assert_allclose(other.forces, found[0].forces, atol=1e-12)
        np.testing.assert_allclose(other.virial, found[0].virial, atol=1e-11)
    # the same number of threads: the same bits
    assert torch.equal(found[2].forces, found[3].forces)
    assert torch.equal(found[2].node_energy, found[3].node_energy)


def test_in_a_graph():
    """A potential around it takes its gradient by autograd; weights of structures are kept apart."""
    model = make()
    system = System.from_atoms([box(5, 8), box(6, 9)])
    neighbors = model.neighbors(system)
    weight = torch.tensor([1.0, -2.5], dtype=torch.float64)

    def gradients():
        moving = system.replace(positions=system.positions.clone().requires_grad_())
        strain = torch.zeros_like(system.cell, requires_grad=True)
        strained = moving.deform(strain)
        terms = model(strained, neighbors)
        energy = torch.stack(list(terms.energies.values())).sum(0)
        weighted = (weight[system.batch] * energy).sum()
        return torch.autograd.grad(weighted, [moving.positions, strain]), terms

    (plain, plain_strain), _ = gradients()
    choose_kernels(model, CPU, "numba")
    (fast, fast_strain), terms = gradients()
    size = float(plain.abs().max()) + 1.0
    np.testing.assert_allclose(fast, plain, atol=2e-8 * size)
    np.testing.assert_allclose(fast_strain, plain_strain, atol=2e-7 * size)
    moving = system.replace(positions=system.positions.clone().requires_grad_())
    terms = model(moving, neighbors)
    with pytest.raises(ModelError, match='kernels="reference"'):
        torch.autograd.grad(terms.energies["dispersion"].sum(), moving.positions)
    assert not terms.charges.requires_grad


def test_plain_where_more_is_differentiated():
    model = make()
    atoms = molecule("H2O")
    plain = response_derivatives(model, atoms)
    choose_kernels(model, CPU, "numba")
    kernel = model.kernel
    again = response_derivatives(model, atoms)
    assert model.kernel is kernel
    np.testing.assert_array_equal(again.born_charges, plain.born_charges)


def test_lists_and_atoms_are_told_apart():
    """What is kept between calls belongs to its list, and to its charge."""
    model = make()
    plain = copy.deepcopy(model)
    choose_kernels(model, CPU, "numba")
    frames = [molecule("H2O"), molecule("H2O"), box(6, 1), molecule("C2H4"), molecule("H2O")]
    frames[1].info["charge"], frames[1].info["spin"] = 1, 1
    frames[4].positions += 0.05 * np.random.default_rng(0).normal(size=(3, 3))
    for atoms in (*frames, *reversed(frames)):
        system = System.from_atoms(atoms)
        fast, slow = evaluate_system(model, system), evaluate_system(plain, system)
        np.testing.assert_allclose(fast.forces, slow.forces, atol=1e-7)
    moving = System.from_atoms(frames[2])
    neighbors = model.neighbors(moving, skin=1.0)
    for seed in range(3):
        noise = 0.1 * torch.randn(
            moving.positions.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        moved = moving.replace(positions=moving.positions + noise)
        fast, slow = evaluate_system(model, moved, neighbors), evaluate_system(plain, moved, neighbors)
        np.testing.assert_allclose(fast.forces, slow.forces, atol=1e-6)


def test_what_is_not_a_number_shows():
    model = make(dtype=torch.float32)
    choose_kernels(model, CPU, "numba")
    system = System.from_atoms(molecule("CH3CONH2"))
    neighbors = model.neighbors(system, skin=0.5)
    positions = system.positions.clone()
    positions[2, 1] = torch.nan
    found = evaluate_system(model, system.replace(positions=positions), neighbors)
    assert not bool(found.forces.isfinite().all())
    assert not bool(found.energy.isfinite().all())


def test_shapes_that_do_not_fit_run_the_plain_model():
    model = make(network=replace(SMALL, n_features=40), dtype=torch.float32)
    assert choose_kernels(model, CPU, "auto") == "reference"
    with pytest.raises(ModelError, match="no kernel called 'numba'"):
        choose_kernels(model, CPU, "numba")


def test_harmonics():
    rng = np.random.default_rng(1)
    unit = rng.normal(size=3)
    unit /= np.linalg.norm(unit)
    pull = rng.normal(size=24)
    leaf = torch.tensor(unit, requires_grad=True)
    exact = spherical_harmonics(leaf.unsqueeze(0), (1, 2, 3, 4))[0]
    found = np.empty(24)
    harmonics(*unit, found)
    np.testing.assert_allclose(found, exact.detach(), atol=1e-14)
    (gradient,) = torch.autograd.grad((exact * torch.tensor(pull)).sum(), leaf)
    np.testing.assert_allclose(harmonics_pullback(*unit, pull), gradient, atol=1e-13)


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_functions(real):
    rounding = float(np.finfo(real).eps)
    x = np.linspace(-80.0, 80.0, 4001).astype(real)
    exact = x.astype(np.float64)
    found = np.empty_like(x)
    functions.silu_all(x, len(x), found)
    np.testing.assert_allclose(found, exact / (1.0 + np.exp(-exact)), rtol=4 * rounding, atol=1e-30)
    pull = np.ones_like(x)
    functions.silu_slope_all(x, len(x), pull)
    s = 1.0 / (1.0 + np.exp(-exact))
    np.testing.assert_allclose(pull, s * (1.0 + exact * (1.0 - s)), rtol=1e-4, atol=8 * rounding)
    for value in np.geomspace(1e-3, 1e3, 50).astype(real):
        root, inverse = _seventh(value)
        assert root == pytest.approx(float(value) ** (1 / 7), rel=8 * rounding)
        assert inverse == pytest.approx(1.0 / float(value), rel=16 * rounding)


@pytest.mark.parametrize(("rows", "inner", "columns"), [(1, 3, 16), (6, 32, 128), (13, 5, 48)])
def test_products_of_matrices(rows, inner, columns):
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(18, inner)), rng.normal(size=(inner, columns)), rng.normal(size=(18, columns))
    for more in (False, True):
        found = c.copy()
        functions.multiply(
            a.reshape(-1), 0, inner, functions.packed(b), 0, found.reshape(-1), 0, columns, rows, inner, columns, more
        )
        np.testing.assert_allclose(found[:rows], more * c[:rows] + a[:rows] @ b, atol=1e-12)


def test_vectors():
    values = np.arange(20.0)
    out = np.zeros(20)
    _shift(values, out)
    np.testing.assert_array_equal(out[5:13], values[3:11])
    assert not out[:5].any()
    assert _sum(values.astype(np.float32)) == 28.0


def _compiled(function):
    from heliodor.kernels.cpu.compiled import compiled

    return compiled(function)


def _plain_seventh(x):
    return seventh_root(x)


def _plain_shift(a, b):
    store(b, 5, load(a, 3))


def _plain_sum(a):
    return total(load(a, 0))


_seventh, _shift, _sum = _compiled(_plain_seventh), _compiled(_plain_shift), _compiled(_plain_sum)


def test_a_failing_thread_stops_the_others():
    before = torch.get_num_threads()

    def work(group):
        group.meet()
        if group.thread == 1:
            raise ValueError("this one")
        group.meet()

    try:
        torch.set_num_threads(3)
        with pytest.raises(ValueError, match="this one"):
            threads.together(work, 3)
        met = []
        threads.together(lambda group: (group.meet(), met.append(group.thread), group.meet()), 3)
        assert sorted(met) == [0, 1, 2]
    finally:
        torch.set_num_threads(before)


def test_copies_and_other_processes():
    model = make()
    choose_kernels(model, CPU, "numba")
    system = System.from_atoms(molecule("H2O"))
    forces = evaluate_system(model, system).forces
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.kernels == "numba"
        assert torch.equal(evaluate_system(other, system).forces, forces)
