"""The compiled kernel against the plain model, on random models and structures."""

from itertools import pairwise

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule

import heliodor
from heliodor.checkpoint import save_checkpoint
from heliodor.errors import ModelError
from heliodor.kernels import choose_kernels
from heliodor.kernels.cpu import threads
from heliodor.potential import evaluate_system
from heliodor.potentials.committee import Committee
from heliodor.potentials.mace import MACE, MACEConfig
from heliodor.system import System

CPU = torch.device("cpu")


def make(degree=1, channels=8, seed=0, dtype=torch.float64, **changes):
    """A random model whose every part shows in the energy."""
    torch.manual_seed(seed)
    values = {"cutoff": 4.0, "elements": (1, 6, 7, 8), "channels": channels, "degrees": (degree, 0)}
    values |= {"isolated_energies": (-13.0, -1030.0, -1486.0, -2043.0), "average_neighbors": (7.0, 6.0)}
    values |= {"radial_hidden": (8, 8), "silu_scale": 1.68, "gate_scale": 1.68}
    model = MACE(MACEConfig(**(values | changes)))
    model.scale.fill_(0.8)
    model.shift.fill_(0.3)
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


STRUCTURES = {
    "molecule": lambda: molecule("CH3CONH2"),
    "box": box,
    "several images": lambda: box(4, 1, 2.6),
    "alone": lambda: ase.Atoms("N"),
    "no edges": lambda: ase.Atoms("CO", positions=[(0, 0, 0), (9, 0, 0)]),
    "just inside": lambda: ase.Atoms("CO", positions=[(0, 0, 0), (3.9999, 0, 0)]),
    "just outside": lambda: ase.Atoms("CO", positions=[(0, 0, 0), (4.0001, 0, 0)]),
    "slab": lambda: ase.Atoms("H2OCN", np.random.default_rng(4).uniform(0, 3.5, (5, 3)), cell=[5, 5, 9], pbc=[1, 1, 0]),
    "batch": lambda: [box(7, 2), molecule("H2O"), ase.Atoms("H"), molecule("C2H4")],
}


def both(model, frames, dtype=torch.float64, skin=0.0, **wanted):
    """Predictions of the plain model and of the kernel."""
    system = System.from_atoms(frames)
    neighbors = model.neighbors(system, skin=skin)
    plain = evaluate_system(model, system, neighbors, **wanted)
    assert choose_kernels(model, CPU, "numba") == "numba"
    return plain, evaluate_system(model, system, neighbors, **wanted)


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("degree", [0, 1, 2])
def test_the_same_as_the_plain_model(degree, name):
    plain, fast = both(make(degree), STRUCTURES[name](), skin=0.4, virial=True)
    # what is left is the splines' error
    size = float(plain.forces.abs().max()) + 1.0
    np.testing.assert_allclose(fast.node_terms["mace"], plain.node_terms["mace"], atol=1e-8)
    np.testing.assert_allclose(fast.forces, plain.forces, atol=3e-7 * size)
    np.testing.assert_allclose(fast.virial, plain.virial, atol=1e-6 * size)
    assert torch.equal(fast.terms["isolated_atoms"], plain.terms["isolated_atoms"])


@pytest.mark.parametrize("channels", [1, 5, 8, 16, 33])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_number_of_channels(channels, dtype):
    exact, _ = both(make(1, channels), box(12, 3))
    _, fast = both(make(1, channels, dtype=dtype), box(12, 3), stress=True)
    size = float(exact.forces.abs().max())
    assert fast.node_terms["mace"].dtype == torch.float64
    np.testing.assert_allclose(fast.forces, exact.forces, atol=(1e-5 if dtype == torch.float32 else 3e-7) * size)
    assert fast.stress is not None


@pytest.mark.parametrize("seed", range(6))
def test_random_structures(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 4))
    frames = [box(int(rng.integers(1, 16)), seed + k, float(rng.uniform(4.5, 9.0))) for k in range(count)]
    plain, fast = both(make(int(rng.integers(0, 3)), 4, seed), frames, skin=float(rng.uniform(0, 1)))
    np.testing.assert_allclose(fast.forces, plain.forces, atol=3e-7 * (1.0 + float(plain.forces.abs().max())))


def test_forces_are_the_gradient_of_its_own_energy():
    """Of the splines, not of what they stand for: energy is conserved."""
    model = make(2, 4, dtype=torch.float64)
    atoms = box(9, 5)
    choose_kernels(model, CPU, "numba")
    forces = heliodor.evaluate(model, atoms).forces
    step = 1e-5
    for atom, axis in ((0, 0), (4, 1), (8, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * step
            energies.append(float(heliodor.evaluate(model, moved, forces=False).terms["mace"]))
        slope = -(energies[0] - energies[1]) / (2 * step)
        assert slope == pytest.approx(float(forces[atom, axis]), abs=1e-8 + 1e-7 * abs(slope))


def test_any_weights_of_the_atoms_energies_can_be_differentiated():
    model = make(1)
    system = System.from_atoms(box(10, 7))
    neighbors = model.neighbors(system)
    weights = torch.linspace(-1.0, 2.0, 10, dtype=torch.float64)
    gradients = []
    for name in ("reference", "numba"):
        choose_kernels(model, CPU, name)
        leaf = system.positions.clone().requires_grad_()
        energies = model(system.replace(positions=leaf), neighbors).energies["mace"]
        gradients.append(torch.autograd.grad((weights * energies).sum(), leaf)[0])
    np.testing.assert_allclose(gradients[1], gradients[0], atol=1e-6)


def test_threads_change_nothing(monkeypatch):
    model = make(1, 8, dtype=torch.float32)
    choose_kernels(model, CPU, "numba")
    system = System.from_atoms(box(40, 11, 8.0))
    monkeypatch.setattr(threads, "LEAST", 20)
    predictions = []
    for count in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=count: count)
        predictions.append(evaluate_system(model, system))
    for other in predictions[1:]:
        assert torch.equal(other.forces, predictions[0].forces)
        assert torch.equal(other.energy, predictions[0].energy)


def test_blocks_of_work():
    start = np.array([0, 0, 1000, 1000, 1500, 3000])
    for ranges in (threads.blocks(start), threads.blocks(np.array([0])), threads.blocks(np.array([0, 0, 0]))):
        assert ranges[0][0] == 0
        assert all(first[1] == second[0] for first, second in pairwise(ranges))
    assert threads.blocks(start)[-1][1] == 5


def test_what_is_not_a_number_stays_so_and_stays_there():
    model = make(1)
    choose_kernels(model, CPU, "numba")
    system = System.from_atoms([molecule("H2O"), molecule("CH4")])
    neighbors = model.neighbors(system)
    broken = system.positions.clone()
    broken[1, 2] = torch.nan
    p = evaluate_system(model, system.replace(positions=broken), neighbors)
    assert p.energy.isfinite().tolist() == [False, True]
    assert not bool(p.forces[1].isfinite().any())
    assert bool(p.forces[3:].isfinite().all())


def test_which_kernel(tmp_path, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    model = make(1, 4)
    save_checkpoint(model, tmp_path / "m.safetensors")
    load = lambda **options: heliodor.load(tmp_path / "m.safetensors", device="cpu", **options)  # noqa: E731
    assert load().kernels == "numba"
    assert load(dtype="float64").kernels == "reference"
    assert load(dtype="float64", kernels="numba").kernels == "numba"
    assert load(kernels="reference").kernel is None
    with pytest.raises(ModelError, match=r"no kernel called 'triton'.*auto, reference, numba"):
        load(kernels="triton")
    with pytest.raises(ModelError, match="no kernel called 'numba' for spookynet-gfn2"):
        heliodor.load("spookynet-gfn2", device="cpu", kernels="numba")


@pytest.mark.parametrize("changes", [{"degrees": (1, 1, 0), "average_neighbors": (7.0,) * 3}, {"residual_first": True}])
def test_other_networks_run_plain(changes):
    model = make(1, 4, dtype=torch.float32, **changes)
    assert choose_kernels(model, CPU, "auto") == "reference"
    with pytest.raises(ModelError, match="no kernel called 'numba'"):
        choose_kernels(model, CPU, "numba")


def test_without_numba(monkeypatch):
    monkeypatch.setattr("heliodor.kernels._installed", lambda name: False)
    model = make(1, 4, dtype=torch.float32)
    with pytest.warns(UserWarning, match="pip install 'heliodor\\[fast\\]'"):
        assert choose_kernels(model, CPU, "auto") == "reference"
    with pytest.raises(ModelError, match="heliodor\\[fast\\]"):
        choose_kernels(model, CPU, "numba")


def test_second_derivatives_come_from_the_plain_model():
    model = make(1, 4)
    system = System.from_atoms(molecule("H2O"))
    plain = evaluate_system(model, system, create_graph=True)
    choose_kernels(model, CPU, "numba")
    kernel = model.kernel
    again = evaluate_system(model, system, create_graph=True)
    assert model.kernel is kernel
    assert torch.equal(again.forces, plain.forces)
    assert again.forces.grad_fn is not None


def test_a_change_of_the_model_drops_the_kernel():
    model = make(1, 4, dtype=torch.float32)
    choose_kernels(model, CPU, "numba")
    assert model.float().to("cpu").kernels == "numba"
    assert model.double().kernel is None
    assert model.kernels == "reference"


def test_loading_parameters_drops_the_kernel():
    """It would answer with those it was made from."""
    model, other = make(1, 4), make(1, 4, seed=1)
    choose_kernels(model, CPU, "numba")
    Committee([model, other]).load_state_dict(Committee([other, model]).state_dict())
    assert model.kernels == "reference"
    system = System.from_atoms(box(6))
    assert torch.equal(evaluate_system(model, system).energy, evaluate_system(make(1, 4, seed=1), system).energy)


def test_training_drops_the_kernel():
    model = make(1, 4)
    choose_kernels(model, CPU, "numba")
    model.requires_grad_(False)
    assert model.kernels == "numba"
    Committee([model, make(1, 4, seed=1)]).requires_grad_()
    assert model.kernel is None


def test_splines_keep_the_error_they_state():
    model = make(1, 8)
    choose_kernels(model, CPU, "numba")
    assert model.kernel.spline_error <= 1e-10
    model = model.float()
    choose_kernels(model, CPU, "numba")
    assert 1e-10 < model.kernel.spline_error <= 3e-7
