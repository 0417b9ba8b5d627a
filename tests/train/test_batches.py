"""Batches against lists found anew, dummies against nothing, and what is drawn how often."""

from __future__ import annotations

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule

from heliodor.errors import InputError
from heliodor.label.label import Label
from heliodor.potential import evaluate_system
from heliodor.potentials.so3krates import SO3kratesConfig
from heliodor.potentials.so3lr import SO3LR, SO3LRConfig
from heliodor.system import System
from heliodor.train.batches import Shape, find_lists
from heliodor.train.dataset import Dataset
from heliodor.train.losses import make_loss
from heliodor.train.sampling import Sampler, choose_shape, draw_epoch, kind_shares, pack
from heliodor.train.settings import TrainSettings
from heliodor.train.step import evaluate_batch, evaluate_functional


@pytest.fixture(scope="module")
def model() -> SO3LR:
    torch.manual_seed(3)
    network = SO3kratesConfig(n_features=16, n_heads=2, degrees=(1, 2), n_layers=2, n_basis=8, n_elements=18)
    model = SO3LR(SO3LRConfig(network=network, n_hirshfeld=8)).double()
    with torch.no_grad():
        model.hirshfeld_weight.normal_(0.0, 0.1)
    return model


@pytest.fixture
def frames(rng: np.random.Generator, crystal: ase.Atoms) -> list[ase.Atoms]:
    found = [molecule(n) for n in ("H2O", "CH3OH", "C6H6", "CH3CONH2", "HCOOH", "NH3")]
    ion = molecule("NH3")
    ion.append("H")
    ion.positions[-1] = (0.0, 0.0, 1.1)
    ion.info["charge"] = 1.0
    for k, frame in enumerate([*found, ion]):
        frame.positions += rng.normal((5.0 * k, 2.0, -1.0), 0.05, frame.positions.shape)
    return [*found, ion, crystal]


@pytest.fixture
def labelled(frames: list[ase.Atoms], rng: np.random.Generator) -> Dataset:
    labels = [
        Label(float(rng.normal()), rng.normal(size=(len(f), 3)), rng.normal(size=3), rng.random(len(f))) for f in frames
    ]
    return Dataset.from_atoms(frames, labels)


def test_batch_is_what_the_model_would_find(model: SO3LR, frames: list[ase.Atoms], labelled: Dataset) -> None:
    lists = find_lists(labelled, model, None, torch.float64)
    chosen = np.array([7, 2, 6, 0])
    batch = lists.batch(chosen)
    found = evaluate_system(model, batch.system, batch.neighbors(batch.system))
    expected = evaluate_system(model, System.from_atoms([frames[k] for k in chosen]))
    torch.testing.assert_close(found.energy, expected.energy, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.forces, expected.forces, rtol=1e-10, atol=1e-12)
    # dipole labels move with the structures; a crystal's is left out
    moved = batch.dipole - torch.from_numpy(labelled.dipole[chosen])
    torch.testing.assert_close(moved[1:], (found.dipole - expected.dipole)[1:], rtol=0.0, atol=1e-10)
    assert bool(batch.dipole[0].isnan().all())
    assert float(moved[2].norm()) > 1.0 and float(moved[1].norm()) < 1e-12


def test_dummies_contribute_nothing(model: SO3LR, labelled: Dataset) -> None:
    lists = find_lists(labelled, model, None, torch.float64)
    chosen = np.array([3, 7, 6])
    shape = Shape(6, 60, 900, 2600)
    bare, full = lists.batch(chosen), lists.batch(chosen, shape)
    assert len(full.positions) == shape.atoms > len(bare.positions) and len(full.i) == shape.edges > len(bare.i)
    n, s = len(bare.positions), len(chosen)
    one, two = evaluate_batch(model, bare), evaluate_functional(model, full)
    torch.testing.assert_close(two.energy[:s], one.energy, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(two.forces[:n], one.forces, rtol=1e-12, atol=1e-13)
    assert one.dipole is not None and two.dipole is not None
    torch.testing.assert_close(two.dipole[:s], one.dipole, rtol=1e-12, atol=1e-13)
    assert bool(full.energy[s:].isnan().all() and full.forces[n:].isnan().all())
    # nor do they reach the loss or its derivatives
    settings = TrainSettings(epochs=1)
    gradients = []
    for outputs, batch in ((one, bare), (two, full)):
        loss = make_loss(settings, lists, model.outputs).double()
        value, _ = loss(outputs, batch)
        leaves = [p for p in model.parameters() if p.requires_grad]
        parts = torch.autograd.grad(value, leaves, allow_unused=True)
        gradients.append(torch.cat([value.view(1), *(g.flatten() for g in parts if g is not None)]))
    assert bool(gradients[0].isfinite().all())
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-9, atol=1e-12)


def test_nan_labels_are_masked(model: SO3LR, labelled: Dataset) -> None:
    """A property without a label counts as if its structure were not there, for that property alone."""
    lists = find_lists(labelled, model, None, torch.float64)
    settings = TrainSettings(epochs=1, loss="mse", forces_weight=0.0, dipole_weight=0.0, hirshfeld_weight=0.0)
    loss = make_loss(settings, lists, model.outputs)
    labelled.energy[2] = np.nan
    holed = find_lists(labelled, model, None, torch.float64)
    first, second = np.array([1, 2, 3]), np.array([1, 3])
    values = [loss(evaluate_batch(model, part), part)[0] for part in (holed.batch(first), holed.batch(second))]
    torch.testing.assert_close(*values)
    _, sums = loss(evaluate_batch(model, holed.batch(first)), holed.batch(first))
    assert sums["energy"][1] == 2.0


def test_loss_by_hand(model: SO3LR, frames: list[ase.Atoms], labelled: Dataset) -> None:
    chosen = [0, 1, 4]
    lists = find_lists(labelled, model, None, torch.float64)
    settings = TrainSettings(epochs=1, loss="mse", energy_weight=2.0, forces_weight=3.0, dipole_weight=0.5)
    loss = make_loss(settings, lists, model.outputs)
    batch = lists.batch(np.array(chosen))
    value, _ = loss(evaluate_batch(model, batch), batch)
    p = evaluate_system(model, System.from_atoms([frames[k] for k in chosen]))
    part, spread = labelled.take(chosen), loss.spreads
    assert p.forces is not None and p.dipole is not None and p.hirshfeld_ratios is not None
    energy = (p.energy.numpy() - part.energy) / part.counts / spread["energy"]
    forces = (p.forces.numpy() - part.forces) / spread["forces"]
    dipole = (p.dipole.numpy() - part.dipole) / spread["dipole"]
    ratios = (p.hirshfeld_ratios.numpy() - part.hirshfeld_ratios) / spread["hirshfeld_ratios"]
    by_hand = sum(w * np.square(x).mean() for w, x in ((2.0, energy), (3.0, forces), (0.5, dipole), (0.1, ratios)))
    assert value.item() == pytest.approx(by_hand, rel=1e-10)


def test_no_labels_at_all(model: SO3LR, labelled: Dataset) -> None:
    """Such a batch has a loss and derivatives of zero, not NaN."""
    labelled.forces[3:9] = np.nan
    labelled.hirshfeld_ratios[3:9] = np.nan
    labelled.energy[1] = labelled.dipole[1] = np.nan
    lists = find_lists(labelled, model, None, torch.float64)
    loss = make_loss(TrainSettings(epochs=1), lists, model.outputs).double()
    batch = lists.batch(np.array([1]), Shape(3, 20, 100, 100))
    value, _ = loss(evaluate_batch(model, batch), batch)
    leaves = [p for p in model.parameters() if p.requires_grad]
    gradients = [g for g in torch.autograd.grad(value, leaves, allow_unused=True) if g is not None]
    assert value.item() == 0.0 and gradients and all(bool((g == 0.0).all()) for g in gradients)


KINDS = np.array(["bottom-up"] * 900 + ["top-down"] * 100)


def test_equal_shares() -> None:
    shares = kind_shares(KINDS, {"bottom-up": 1.0, "top-down": 1.0})
    drawn = np.concatenate([draw_epoch(KINDS, shares, seed=4, epoch=e) for e in range(9)])
    assert np.isin(drawn, np.flatnonzero(KINDS == "top-down")).mean() == pytest.approx(0.5, abs=1e-3)
    counts = np.bincount(drawn, minlength=1000)
    # 9 epochs of 500 of each: every bottom-up structure 5 times, every top-down one 45 times
    assert set(counts[:900]) == {5} and set(counts[900:]) == {45}
    # no half of an epoch is of one kind
    assert np.isin(drawn[:250], np.flatnonzero(KINDS == "top-down")).mean() == pytest.approx(0.5, abs=0.13)


def test_order_is_a_function_of_the_epoch() -> None:
    shares = kind_shares(KINDS, None)
    late = draw_epoch(KINDS, shares, 1, 5)
    np.testing.assert_array_equal(late, draw_epoch(KINDS, shares, 1, 5))
    assert not np.array_equal(late, draw_epoch(KINDS, shares, 1, 6))
    assert not np.array_equal(late, draw_epoch(KINDS, shares, 2, 5))
    assert sorted(late) == list(range(1000))


def test_packing(rng: np.random.Generator) -> None:
    atoms = rng.integers(3, 43, 500)
    sizes = np.stack([atoms, 10 * atoms, atoms * (atoms - 1) // 2], axis=1)
    shape = choose_shape(sizes, np.full(500, 1 / 500), 16)
    batches = pack(rng.permutation(500), sizes, shape)
    assert sorted(np.concatenate(batches)) == list(range(500))
    for batch in batches:
        total = sizes[batch].sum(0)
        spare = shape.structures - len(batch)
        assert spare >= 1 and total[0] + spare <= shape.atoms and total[1] <= shape.edges and total[2] <= shape.pairs
    filled = np.mean([sizes[b][:, 1].sum() / shape.edges for b in batches[:-2]])
    assert filled > 0.8


def test_largest_structure_fits_alone() -> None:
    sizes = np.array([[5, 20, 10]] * 50 + [[300, 5000, 44850]])
    shape = choose_shape(sizes, np.full(51, 1 / 51), 2)
    assert sum(map(len, pack(np.arange(51), sizes, shape))) == 51


def test_kinds_that_are_not_there() -> None:
    with pytest.raises(InputError, match="'topdown'; did you mean 'top-down'"):
        kind_shares(KINDS, {"topdown": 1.0})
    with pytest.raises(InputError, match="not for 'top-down'"):
        kind_shares(KINDS, {"bottom-up": 1.0})


def test_sampler_goes_on_anywhere(model: SO3LR, labelled: Dataset) -> None:
    lists = find_lists(labelled, model, None)
    shares = kind_shares(labelled.kind, None)
    one, two = (Sampler(lists, 3, shares, 9) for _ in range(2))
    for e in range(3):
        one.epoch(e)
    for a, b in zip(one.epoch(2), two.epoch(2), strict=True):
        np.testing.assert_array_equal(a, b)
