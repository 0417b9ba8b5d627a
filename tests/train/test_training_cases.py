"""Runs with odd data, full disks, compilers that fail, and what is decayed, counted and refused."""

from __future__ import annotations

import json
import resource
from dataclasses import replace
from pathlib import Path

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule

import heliodor
from heliodor.errors import InputError
from heliodor.label.label import Label
from heliodor.potential import Potential
from heliodor.train.batches import find_lists
from heliodor.train.dataset import Dataset
from heliodor.train.errors import errors_of, predict
from heliodor.train.losses import make_loss
from heliodor.train.models import new_model
from heliodor.train.run import advance, new_run
from heliodor.train.sampling import Sampler, choose_shape, pack
from heliodor.train.schedule import Pace
from heliodor.train.settings import TrainSettings
from heliodor.train.step import plain_step
from heliodor.train.stepper import CompileWarning
from heliodor.train.trainer import train

TINY = {"preset": "small", "n_features": 8, "n_modules": 1}


@pytest.fixture(scope="module")
def mini() -> Potential:
    return heliodor.load("heliodor-mini", device="cpu", dtype="float64")


def labelled(teacher: Potential, frames: list[ase.Atoms]) -> Dataset:
    p = heliodor.evaluate(teacher, frames)
    assert p.forces is not None
    ends = np.cumsum([len(f) for f in frames])
    forces = np.split(p.forces.double().numpy(), ends[:-1])
    energies = [float(e) - 500.0 * sum(f.numbers) for e, f in zip(p.energy, frames, strict=True)]
    return Dataset.from_atoms(frames, [Label(e, f) for e, f in zip(energies, forces, strict=True)], method="mini")


@pytest.fixture(scope="module")
def data(mini: Potential) -> Dataset:
    rng = np.random.default_rng(3)
    frames = [molecule(name) for name in ("H2O", "CH3OH", "NH3") for _ in range(4)]
    for k, frame in enumerate(frames):
        frame.positions += rng.normal(scale=0.05, size=frame.positions.shape)
        frame.info["group"] = f"m{k}"
    return labelled(mini, frames)


def without(data: Dataset, *names: str) -> Dataset:
    return replace(data, **{name: np.full_like(getattr(data, name), np.nan) for name in names})


@pytest.mark.parametrize("missing", ["energy", "forces"])
def test_one_label_only(missing: str, data: Dataset, tmp_path: Path) -> None:
    """Trained on energies or forces alone: what is there gets better, what is not is not in the log."""
    bare = without(data, missing)
    model = new_model("spookynet", TINY, bare.elements, bare)
    settings = TrainSettings(epochs=15, batch_size=6, learning_rate=5e-3, warmup_steps=5, ema=0.8)
    result = train(model, bare, bare, tmp_path, settings)
    left = "forces" if missing == "energy" else "energy"
    assert result.rows[-1][f"validation_{left}_mae"] < result.rows[0][f"validation_{left}_mae"]
    assert not any(missing in name for row in result.rows for name in row)
    assert result.rows[0]["step"] == 0.0 and result.errors["all"][left]["mae"] > 0.0
    origin = result.model.card["reference_origin"]
    assert origin == ("none: the set has no energies" if missing == "energy" else "least squares over the set")


def test_periodic_water_with_long_range_cutoff(mini: Potential, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    frames = []
    for k in range(4):
        frame = ase.Atoms(cell=[4.4 + 0.1 * k, 4.5, 4.6], pbc=True)
        for shift in ((0.3, 0.2, 0.1), (2.4, 2.2, 2.5)):
            water = molecule("H2O")
            water.positions += shift
            frame += water
        frame.positions += rng.normal(scale=0.05, size=frame.positions.shape)
        frames.append(frame)
    boxes = labelled(mini, frames)
    with pytest.raises(heliodor.errors.ModelError, match="long-range cutoff"):
        new_model("spookynet", TINY, boxes.elements, boxes)
    model = new_model("spookynet", {**TINY, "long_range_cutoff": 8.0}, boxes.elements, boxes)
    settings = TrainSettings(epochs=4, batch_size=2, learning_rate=3e-3, warmup_steps=2, ema=0.5)
    result = train(model, boxes, boxes, tmp_path, settings)
    assert result.errors["all"]["forces"]["mae"] < result.rows[0]["validation_forces_mae"]
    # the trained model in float64, on lists found by itself
    loaded = heliodor.load(str(result.path), device="cpu", dtype="float64")
    forces = heliodor.evaluate(loaded, frames).forces
    assert forces is not None
    mae = float(np.abs(forces.numpy() - boxes.forces).mean())
    assert mae == pytest.approx(result.errors["all"]["forces"]["mae"], rel=1e-4)


def test_compiler_that_fails_changes_nothing(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = new_model("spookynet", TINY, data.elements, data)
    settings = TrainSettings(epochs=2, batch_size=6)
    plain = train(model, data, data, tmp_path / "plain", settings)

    def compiler(function: object, **options: object) -> object:
        raise RuntimeError("g++ is missing")

    monkeypatch.setattr(torch, "compile", compiler)
    told: list[str] = []
    with pytest.warns(CompileWarning, match=r"g\+\+ is missing"):
        other = train(
            *(model, data, data, tmp_path / "other", replace(settings, compile="yes")),
            lambda fraction, words: told.append(words),
        )
    assert any("compiling" in words for words in told) and "preparing" in told[0] and "neighbour lists" in told[1]
    one, two = plain.model.state_dict(), other.model.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert plain.compiled == "no" and "g++ is missing" in other.compiled
    assert json.loads((tmp_path / "other" / "result.json").read_text())["compiled"] == other.compiled
    # a run is the same run, compiled or not
    again = train(model, data, data, tmp_path / "plain", replace(settings, compile="yes"))
    assert again.steps == plain.steps and again.compiled == "no"


def test_card(data: Dataset, tmp_path: Path) -> None:
    model = new_model("spookynet", TINY, data.elements, data, seed=4)
    card = train(model, data, data.take([0, 5]), tmp_path, TrainSettings(epochs=1, seed=9)).model.card
    assert card["heliodor"] == heliodor.__version__ and card["method"] == "mini" and card["seed"] == 4
    assert card["elements"] == ["H", "C", "N", "O"] and card["reference_origin"] == "least squares over the set"
    assert set(card["reference_energies"]) == {"H", "C", "N", "O"}
    assert card["training"]["structures"] == 12 and card["training"]["seed"] == 9
    assert card["training"]["settings"]["batch_size"] == 16 and card["training"]["epochs"] == 1.0
    assert card["validation"]["all"]["structures"] == 2 and card["validation"]["all"]["forces"]["mae"] > 0.0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("name", ["state.pt", "model.safetensors", "log.csv"])
def test_full_disk(name: str, data: Dataset, tmp_path: Path) -> None:
    """One plain error, the last good state intact, and the same result once there is room."""
    model = new_model("spookynet", TINY, data.elements, data)
    settings = TrainSettings(epochs=3, batch_size=6, checkpoint_minutes=1e-6)
    full = tmp_path / f"{name}.part"
    stop = {"state.pt": 3, "model.safetensors": 5, "log.csv": 4}[name]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(fraction: float, words: str) -> None:
        if name == "model.safetensors" and words.startswith("errors on"):
            # its writer does not follow links
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        elif name != "model.safetensors" and words.startswith(f"step {stop}"):
            full.symlink_to("/dev/full")

    try:
        with pytest.raises(InputError, match="could not be written") as error:
            train(model, data, data, tmp_path, settings, fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(error.value)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] >= stop
    full.unlink(missing_ok=True)
    resumed = train(model, data, data, tmp_path, settings).model.state_dict()
    whole = train(model, data, data, tmp_path / "whole", settings).model.state_dict()
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)
    assert not list(tmp_path.glob("*.part"))


def test_validation_that_says_nothing(data: Dataset, tmp_path: Path) -> None:
    model = new_model("spookynet", TINY, data.elements, data)
    settings = TrainSettings(epochs=1)
    with pytest.raises(InputError, match="validation set has no labels of what is trained on"):
        train(model, data, without(data, "energy", "forces"), tmp_path, settings)
    broken = data.take(range(len(data)))
    broken.positions[1] = broken.positions[0]
    with pytest.raises(InputError, match=r"structure 0 \(H2O, m0\)"):
        train(model, data, broken, tmp_path, settings)


def test_other_constants_are_another_run(data: Dataset, tmp_path: Path) -> None:
    """The same parameters with another cutoff."""
    one, two = (
        new_model("spookynet", {**TINY, "long_range_cutoff": c}, data.elements, data, references=None)
        for c in (8.0, 9.0)
    )
    two.load_state_dict(one.state_dict())
    train(one, data, data, tmp_path, TrainSettings(epochs=1))
    with pytest.raises(InputError, match="other data, settings or another model"):
        train(two, data, data, tmp_path, TrainSettings(epochs=1))


def test_r2_without_references(data: Dataset) -> None:
    """A model that says nothing explains nothing, however far apart the compositions' energies are."""
    model = new_model("spookynet", TINY, data.elements, data)
    predicted = predict(model, data)
    label = (data.energy - predicted.reference) / data.counts
    error = (predicted.energy - data.energy) / data.counts
    expected = 1.0 - np.square(error).sum() / np.square(label - label.mean()).sum()
    assert errors_of(model, data).all["energy"].r2 == pytest.approx(expected, abs=1e-9)
    assert np.ptp(data.energy / data.counts) > 100.0 * np.ptp(label)


def test_what_decays(data: Dataset) -> None:
    model = new_model("spookynet", TINY, data.elements, data)
    loss = make_loss(TrainSettings(epochs=1), find_lists(data, model, None), model.outputs)
    groups = new_run(model, loss, TrainSettings(epochs=1)).optimizer.param_groups
    decayed = {id(p) for group in groups if group["weight_decay"] > 0.0 for p in group["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in decayed}
    assert "interactions.0.readers.linear.weight" in names and "output.weight" in names
    assert not [name for name in names if name.endswith(("bias", "alpha", "beta"))]
    assert sum(len(group["params"]) for group in groups) == len([*model.parameters(), *loss.parameters()])


def test_one_giant_among_small_ones() -> None:
    sizes = np.array([[5, 20, 10]] * 200 + [[500, 9000, 124750]])
    shape = choose_shape(sizes, np.full(201, 1 / 201), 16)
    assert sorted(np.concatenate(pack(np.arange(201), sizes, shape))) == list(range(201))


def test_pace_of_a_run_taken_up_again() -> None:
    """So many minutes, killed at a third, gone on with at half the speed: never backwards, and over at the limit."""
    pace, step, elapsed, seen = Pace(), 0, 0.0, [0.0]
    for part, seconds in ((100.0, 0.5), (300.0, 1.0)):
        pace = Pace(**vars(pace))
        while elapsed < part:
            step, elapsed = step + 1, elapsed + seconds
            if step % 20 == 0:
                pace.look(step, elapsed, seconds, 300.0)
            seen.append(pace.progress(step))
    assert seen == sorted(seen) and seen[-1] == pytest.approx(1.0, abs=1e-6)
    # an end by epochs that comes earlier than the time's is the end
    both = Pace(last=50.0, most=50.0)
    both.look(10, 10.0, 1.0, 300.0)
    assert both.last == 50.0


def test_stage_two_is_reached(data: Dataset, tmp_path: Path) -> None:
    """A run that no longer improves is not over before stage two, and is soon after its beginning."""
    model = new_model("spookynet", TINY, data.elements, data)
    # too small a rate for any parameter to change
    still = {"learning_rate": 1e-30, "epochs": 8, "batch_size": 12, "stop_after": 1, "weight_decay": 0.0, "threads": 1}
    for stage_two, steps in ((0.0, 2), (0.5, 4)):
        settings = TrainSettings.from_mapping({**still, "stage_two": stage_two})
        per_epoch = len(Sampler(find_lists(data, model, None), 12, {"": 1.0}, 1).epoch(0))
        result = train(model, data, data, tmp_path / str(stage_two), settings)
        assert result.steps == steps * per_epoch


def test_labels_that_a_batch_lacks() -> None:
    """The loss of stresses is treated alike by one process and by several, of which some have none; no volume, no
    stress."""
    frames = [molecule("H2O"), molecule("H2O")]
    frames[1].set_cell([5.0, 5.0, 5.0])
    frames[1].pbc = True
    rng = np.random.default_rng(2)
    labels = [Label(-1.0, rng.normal(size=(3, 3)), stress=rng.normal(size=(3, 3))) for _ in frames]
    both = Dataset.from_atoms(frames, labels)
    model = new_model("mace", {"preset": "small", "channels": 2}, both.elements, both)
    settings = TrainSettings(epochs=1, stress_weight=1.0)
    lists = find_lists(both, model, None, torch.float64)
    assert torch.isfinite(lists.batch(np.arange(2)).stress).all((1, 2)).tolist() == [False, True]
    loss = make_loss(settings, lists, model.outputs).double()
    assert loss.wants_stress
    run = new_run(model, loss, settings)
    advance(run, plain_step(model, loss), [lists.batch(np.array([0]))], lists, settings)
    assert all(p.grad is not None and bool((p.grad == 0).all()) for p in loss.robust["stress"].parameters())
    assert all(p.grad is not None and bool((p.grad != 0).all()) for p in loss.robust["forces"].parameters())


def test_skipped_where_only_the_shape_has_no_gradient(data: Dataset) -> None:
    """A finite loss with finite gradients of the model's parameters, but not of the loss's own."""
    model = new_model("spookynet", TINY, data.elements, data)
    settings = TrainSettings(epochs=1)
    lists = find_lists(data, model, None, torch.float64)
    loss = make_loss(settings, lists, model.outputs).double()
    run = new_run(model, loss, settings)
    before = [p.detach().clone() for p in (*model.parameters(), *loss.parameters())]
    first = next(iter(loss.parameters()))
    hook = first.register_hook(lambda grad: grad * torch.nan)
    advance(run, plain_step(model, loss), [lists.batch(np.arange(4))], lists, settings)
    hook.remove()
    after = [p.detach() for p in (*model.parameters(), *loss.parameters())]
    assert len(run.skipped) == 1 and all(map(torch.equal, before, after))
    advance(run, plain_step(model, loss), [lists.batch(np.arange(4))], lists, settings)
    assert len(run.skipped) == 1 and not all(map(torch.equal, before, after))
