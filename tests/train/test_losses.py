"""Losses against values worked out by hand, weights along a run, stresses by finite differences."""

from __future__ import annotations

import math
from dataclasses import replace

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from heliodor.errors import InputError
from heliodor.potential import Potential, evaluate_system
from heliodor.system import System
from heliodor.train.batches import Batch, Lists, Shape, find_lists
from heliodor.train.dataset import Dataset
from heliodor.train.errors import compare, predict
from heliodor.train.losses import Loss, Outputs, make_loss
from heliodor.train.models import new_model
from heliodor.train.schedule import Pace, Plateau, Rate
from heliodor.train.settings import TrainSettings
from heliodor.train.step import evaluate_batch, evaluate_functional
from heliodor.train.weights import Ramp

TINY = {
    "so3lr": {"n_features": 16, "n_heads": 2, "degrees": [1, 2], "n_layers": 1, "n_basis": 8, "n_hirshfeld": 8},
    "mace": {"preset": "small", "channels": 4},
}
NAMES = ("energy", "forces", "dipole", "hirshfeld_ratios", "charges", "node_energies")


@pytest.fixture
def data() -> Dataset:
    """Water and H2 with labels of zero: an answer is its own residual."""
    data = Dataset.from_atoms([molecule("H2O"), molecule("H2")])
    return replace(data, **{name: np.zeros_like(getattr(data, name)) for name in (*NAMES, "stress")})


@pytest.fixture
def lists(data: Dataset) -> Lists:
    model = new_model("so3lr", TINY["so3lr"], (1, 8), data)
    return find_lists(data, model, None, torch.float64)


def answer(batch: Batch) -> Outputs:
    """Water: forces of 0.3 everywhere; H2: one atom has (1, 2, 3), the other none."""
    forces = torch.tensor([[0.3, 0.3, 0.3]] * 3 + [[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    return Outputs(
        energy=torch.tensor([0.6, 0.8], dtype=torch.float64),
        forces=forces,
        dipole=torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]], dtype=torch.float64),
        hirshfeld_ratios=torch.tensor([0.1, 0.1, 0.1, 0.2, 0.2], dtype=torch.float64),
        charges=torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64),
        stress=torch.full((2, 3, 3), 0.5, dtype=torch.float64),
        node_energies=torch.tensor([0.0, 0.0, 3.0, 0.0, 0.0], dtype=torch.float64),
    )


def value(lists: Lists, **settings: object) -> float:
    loss = make_loss(TrainSettings.from_mapping({"epochs": 1, **settings}), lists, frozenset(NAMES))
    batch = lists.batch(np.array([0, 1]))
    return float(loss(answer(batch), batch)[0])


def test_so3lr_equation_7(lists: Lists) -> None:
    """Water's mean squared force component is 0.09, H2's is 14/6; their mean is what λ_F = 10 stands before."""
    by_hand = 10.0 * (0.09 + 14.0 / 6.0) / 2.0 + (1.0 + 4.0) / 6.0 + (0.01 + 0.04) / 2.0
    assert value(lists, loss="so3lr") == pytest.approx(by_hand, rel=1e-12)
    # over all labels alike, large structures count for more
    flat = 10.0 * (9 * 0.09 + 14.0) / 15.0 + (1.0 + 4.0) / 6.0 + (3 * 0.01 + 2 * 0.04) / 5.0
    assert value(lists, loss="so3lr", average="labels") == pytest.approx(flat, rel=1e-12)


def test_mace_energy_forces_stress(lists: Lists, data: Dataset) -> None:
    """Energies per atom: 0.2 and 0.4 eV. Neither structure is periodic: no stress is counted, whatever the label."""
    by_hand = (0.04 + 0.16) / 2.0 + 100.0 * (9 * 0.09 + 14.0) / 15.0
    assert value(lists, loss="mace") == pytest.approx(by_hand, rel=1e-12)
    per_structure = by_hand - 100.0 * (9 * 0.09 + 14.0) / 15.0 + 100.0 * (0.09 + 14.0 / 6.0) / 2.0
    assert value(lists, loss="mace", average="structure") == pytest.approx(per_structure, rel=1e-12)
    pbc = np.array([[True] * 3, [False] * 3])
    stress = np.stack([np.zeros((3, 3)), np.full((3, 3), np.nan)])
    periodic = replace(lists, dataset=replace(data, pbc=pbc, stress=stress, cell=np.stack([4.0 * np.eye(3)] * 2)))
    assert value(periodic, loss="mace") == pytest.approx(by_hand + 0.25, rel=1e-12)


def test_other_properties(lists: Lists) -> None:
    alone = {"loss": "mace", "forces_weight": 0, "energy_weight": 0}
    assert value(lists, **alone, charges_weight=2) == pytest.approx(2.0 / 5.0, rel=1e-12)
    assert value(lists, **alone, node_energies_weight=1) == pytest.approx(9.0 / 5.0, rel=1e-12)
    # 3 eV on one of three atoms of water, none in H2
    assert value(lists, **alone, node_energies_weight=1, average="structure") == pytest.approx(1.5, rel=1e-12)


def test_huber_against_scipy(lists: Lists, data: Dataset) -> None:
    from scipy.special import huber

    spread = 2.0
    labels = np.full_like(data.forces, spread)
    held = replace(lists, dataset=replace(data, forces=labels))
    batch = held.batch(np.array([0, 1]))
    x = (answer(batch).forces.numpy() - labels) / spread
    found = value(held, loss="huber", huber_width=0.7, energy_weight=0, dipole_weight=0, hirshfeld_weight=0)
    assert found == pytest.approx(huber(0.7, x).mean(), rel=1e-12)


@pytest.mark.parametrize("kind", ["so3lr", "mace", "robust", "mse"])
def test_missing_labels(lists: Lists, data: Dataset, kind: str) -> None:
    """Without the forces of H2 that of water alone counts; and half of a structure's labels count as they are."""
    alone = {"loss": kind, "forces_weight": 1, "energy_weight": 0, "dipole_weight": 0, "hirshfeld_weight": 0}
    settings = TrainSettings.from_mapping({"epochs": 1, **alone})
    loss = Loss(settings, {"forces": 1.0}, {"forces": 1.0}).double()
    forces = data.forces.copy()
    forces[3:] = np.nan
    holed = replace(lists, dataset=replace(data, forces=forces))
    both, first = (part.batch(np.array(which)) for part, which in ((holed, [0, 1]), (lists, [0])))
    whole, one = answer(both), answer(both)
    one = Outputs(one.energy[:1], one.forces[:3])
    torch.testing.assert_close(loss(whole, both)[0], loss(one, first)[0], rtol=1e-12, atol=0)
    assert loss(whole, both)[1]["forces"].tolist() == pytest.approx([9 * 0.3, 9.0])
    # filled up with dummies, which have no labels
    full = holed.batch(np.array([0, 1]), Shape(4, 12, 40, 40))
    padded = {
        name: torch.nn.functional.pad(
            getattr(whole, name), (0,) * (2 * getattr(whole, name).ndim - 1) + (n,), value=7.0
        )
        for name, n in (("energy", 2), ("forces", 7))
    }
    torch.testing.assert_close(loss(Outputs(**padded), full)[0], loss(whole, both)[0], rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", ["so3lr", "mace", "robust"])
def test_parts_add_up_to_the_whole(lists: Lists, kind: str) -> None:
    """With the counts of both together, as accumulated batches and several processes need them."""
    settings = TrainSettings.from_mapping({"epochs": 1, "loss": kind})
    loss = make_loss(settings, lists, frozenset(NAMES)).double()
    whole = lists.batch(np.array([0, 1]))
    parts = [lists.batch(np.array([k])) for k in (0, 1)]
    counts = sum(loss.label_counts(part) for part in parts)
    torch.testing.assert_close(counts, loss.label_counts(whole))
    p = answer(whole)
    answers = [
        Outputs(p.energy[k : k + 1], p.forces[rows], p.dipole[k : k + 1], p.hirshfeld_ratios[rows])  # type: ignore[index]
        for k, rows in enumerate((slice(0, 3), slice(3, 5)))
    ]
    added = sum(loss(a, part, counts)[0] for a, part in zip(answers, parts, strict=True))
    torch.testing.assert_close(added, loss(p, whole)[0], rtol=1e-12, atol=0)


def test_ramps() -> None:
    straight = Ramp(1.0, 3.0, "linear", 0.2, 0.6)
    assert [straight.at(x) for x in (0.0, 0.2, 0.4, 0.6, 1.0)] == pytest.approx([1.0, 1.0, 2.0, 3.0, 3.0])
    round_ = Ramp(0.0, 1.0, "cosine")
    assert [round_.at(x) for x in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([0.0, 0.5 - 0.5 / math.sqrt(2.0), 0.5, 1.0])
    sudden = Ramp(1.0, 5.0, begin=0.5, until=0.5)
    assert [sudden.at(x) for x in (0.49, 0.5)] == [1.0, 5.0]


def test_weights_along_a_run(lists: Lists) -> None:
    values = {"epochs": 1, "loss": "mace", "energy_weight": {"start": 0, "end": 4, "until": 0.5}}
    values |= {"stage_two": 0.75, "stage_two_weights": {"energy": 50}}
    settings = TrainSettings.from_mapping(values)
    assert TrainSettings.from_mapping(settings.to_dict()) == settings
    loss = make_loss(settings, lists, frozenset(NAMES))
    place = loss.levels.data_ptr()
    batch = lists.batch(np.array([0, 1]))
    forces = 100.0 * (9 * 0.09 + 14.0) / 15.0
    for progress, weight in ((0.0, 0.0), (0.25, 2.0), (0.6, 4.0), (0.75, 50.0), (1.0, 50.0)):
        loss.set_progress(progress)
        assert loss.weights == {"energy": weight, "forces": 100.0}
        assert float(loss(answer(batch), batch)[0]) == pytest.approx(forces + weight * 0.1, rel=1e-12)
    # a compiled step reads the same tensor, and nothing of it is in a checkpoint
    assert loss.levels.data_ptr() == place and not loss.state_dict()
    assert loss.describe() == {"energy_weight": 50.0, "forces_weight": 100.0}


def test_stage_two_of_mace() -> None:
    settings = TrainSettings(epochs=1, loss="mace", stage_two=0.75, schedule="constant", warmup_steps=0)
    assert settings.weights_at(0.74)["energy"] == 1.0
    later = settings.weights_at(0.76)
    assert (later["energy"], later["forces"], later["stress"]) == (1000.0, 100.0, 10.0)
    rate = Rate(settings, Pace(last=100.0))
    assert [rate.at(step) for step in (0, 74, 75, 99)] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])
    # a schedule comes to its end where stage two begins
    falling = Rate(replace(settings, schedule="exponential"), Pace(last=100.0))
    assert falling.at(74) == pytest.approx(1e-3 * 0.01 ** (0.74 / 0.75))
    # a plateau's end is not the run's
    assert not Rate(replace(settings, schedule="plateau"), plateau=Plateau(factor=1e-9)).exhausted


def test_settings_that_cannot_be() -> None:
    cases = [
        ({"energy_weight": {"start": 1, "ned": 2}}, "energy_weight has no entry 'ned'; did you mean 'end'"),
        ({"energy_weight": {"start": 1}}, "energy_weight lacks 'end'"),
        ({"energy_weight": {"start": 1, "end": 2, "shape": "cosin"}}, "did you mean 'cosine'"),
        ({"energy_weight": {"start": 1, "end": 2, "begin": 0.9, "until": 0.1}}, "0.9 <= 0.1"),
        ({"energy_weight": {"start": -1, "end": 2}}, "must be >= 0"),
        ({"energy_weight": "much"}, "energy_weight must be a number, not 'much'"),
        ({"stage_two": 0.5, "stage_two_weights": {"force": 1}}, "no property 'force'; did you mean 'forces'"),
        ({"stage_two_weights": {"forces": 1}}, "stage_two, the fraction"),
        ({"stage_two": 1.0}, "between 0 and 1"),
        ({"loss": "so3l"}, "did you mean 'so3lr'"),
        ({"average": "structures"}, "did you mean 'structure'"),
        ({"tensorboard": "yes"}, "tensorboard is true or false"),
        ({"loss": "so3lr", "forces_weight": 0, "dipole_weight": 0, "hirshfeld_weight": 0}, "one of them above"),
    ]
    for values, words in cases:
        with pytest.raises(InputError, match=words.replace("(", r"\(")):
            TrainSettings.from_mapping({"epochs": 1, **values})
    with pytest.raises(InputError, match="need to know its end"):
        TrainSettings.from_mapping({"stop_after": 3, "schedule": "constant", "stage_two": 0.5})


@pytest.fixture
def crystals() -> list[ase.Atoms]:
    """Two cells, one of them thinner than the cutoff and skew, and a molecule."""
    rng = np.random.default_rng(3)
    salt = bulk("HO", "rocksalt", a=3.6)
    cubic = bulk("HO", "zincblende", a=5.1, cubic=True)
    frames = [salt, cubic, molecule("H2O")]
    for frame in frames:
        frame.positions += rng.normal(scale=0.05, size=frame.positions.shape)
    return frames


def crystal_model(name: str, frames: list[ase.Atoms]) -> tuple[Potential, Dataset]:
    data = Dataset.from_atoms(frames)
    data = replace(data, energy=np.zeros(len(data)), stress=np.where(data.pbc.all(1)[:, None, None], 0.01, data.stress))
    model = new_model(name, TINY[name], (1, 8), data)
    if hasattr(model, "long_range_cutoff"):
        model.long_range_cutoff = 7.0
    return model, data


@pytest.mark.parametrize("name", ["mace", "so3lr"])
def test_stress_by_finite_differences(name: str, crystals: list[ase.Atoms]) -> None:
    model, data = crystal_model(name, crystals)
    lists = find_lists(data, model, None, torch.float64)
    batch = lists.batch(np.arange(3))
    plain, functional = evaluate_batch(model, batch), evaluate_functional(model, batch, stress=True)
    assert plain.stress is not None and functional.stress is not None
    torch.testing.assert_close(functional.stress, plain.stress, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(functional.forces, plain.forces, rtol=1e-9, atol=1e-12)
    assert not plain.stress[2].any()
    # along one symmetric strain, with lists searched anew; the pair term is cut off sharply only beyond its damping
    strain = np.array([[0.4, 0.1, -0.2], [0.1, -0.3, 0.25], [-0.2, 0.25, 0.2]])
    h = 1e-5
    for k in range(2):
        energies = []
        for sign in (1.0, -1.0):
            moved = crystals[k].copy()
            moved.set_cell(crystals[k].cell.array @ (np.eye(3) + sign * h * strain), scale_atoms=True)
            energies.append(float(evaluate_system(model, System.from_atoms(moved), forces=False).energy[0]))
        slope = (energies[0] - energies[1]) / (2.0 * h) / crystals[k].get_volume()
        assert float((plain.stress[k].detach().numpy() * strain).sum()) == pytest.approx(slope, rel=2e-6, abs=1e-9)


def test_stress_is_trained_and_scored(crystals: list[ase.Atoms]) -> None:
    model, data = crystal_model("mace", crystals)
    lists = find_lists(data, model, None, torch.float64)
    loss = make_loss(TrainSettings(epochs=1, loss="mace", energy_weight=0.0), lists, model.outputs).double()
    assert loss.names == ("stress",) and loss.wants_stress
    batch = lists.batch(np.arange(3))
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = []
    for outputs in (evaluate_batch(model, batch), evaluate_functional(model, batch, stress=True)):
        value, sums = loss(outputs, batch)
        parts = torch.autograd.grad(value, parameters, allow_unused=True)
        gradients.append(torch.cat([g.flatten() for g in parts if g is not None]))
        assert sums["stress"][1] == 18.0
    assert gradients[0].abs().max() > 0.0
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-8, atol=1e-12)
    # the molecule alone: nothing to be learned, and no error
    alone = lists.batch(np.array([2]))
    value, sums = loss(evaluate_batch(model, alone), alone)
    assert float(value) == 0.0 and sums["stress"].tolist() == [0.0, 0.0]
    # scored against stresses that ASE's calculator would give, from lists of their own
    predicted = predict(model, data)
    assert predicted.stress is not None
    truth = [
        evaluate_system(model, System.from_atoms(frame), stress=True).stress.numpy()[0]  # type: ignore[union-attr]
        for frame in crystals[:2]
    ]
    np.testing.assert_allclose(predicted.stress[:2], truth, rtol=1e-9, atol=1e-13)
    found = compare(predicted, data).all["stress"]
    assert found.mae == pytest.approx(np.abs(np.array(truth) - 0.01).mean(), rel=1e-9) and found.count == 18


def test_energies_of_atoms(crystals: list[ase.Atoms]) -> None:
    """Those of SO3LR's network: with the physical terms they add up to the energy."""
    model, data = crystal_model("so3lr", crystals)
    lists = find_lists(data, model, None, torch.float64)
    batch = lists.batch(np.arange(3))
    p = evaluate_system(model, System.from_atoms(crystals))
    for outputs in (evaluate_batch(model, batch), evaluate_functional(model, batch)):
        assert outputs.node_energies is not None
        sums = torch.zeros(3, dtype=torch.float64).index_add(0, batch.batch, outputs.node_energies)
        physics = sum(p.terms[name] for name in ("zbl", "electrostatics", "dispersion"))
        torch.testing.assert_close(sums + physics, p.energy, rtol=1e-10, atol=1e-10)
        assert float(p.terms["dispersion"].abs().max()) > 1e-6
