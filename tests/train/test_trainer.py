"""The trainer: overfitting, the same bits after kill -9, averages, bad batches, settings, what it leaves."""

from __future__ import annotations

import copy
import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule

import heliodor
from heliodor.durations import parse_duration
from heliodor.errors import InputError
from heliodor.label.label import Label
from heliodor.potential import Potential
from heliodor.train import finish, trainer
from heliodor.train.dataset import Dataset
from heliodor.train.errors import errors_of, predict
from heliodor.train.models import new_model
from heliodor.train.references import References
from heliodor.train.settings import TrainSettings
from heliodor.train.state import fingerprint
from heliodor.train.trainer import train
from heliodor.uncertainty import ForceError, ForceErrorConfig

TINY = {"n_features": 16, "n_heads": 2, "degrees": [1, 2], "n_layers": 1, "n_basis": 8, "n_hirshfeld": 8}


def distorted(number: int, seed: int, size: float = 0.05) -> list[ase.Atoms]:
    rng = np.random.default_rng(seed)
    frames = []
    for k in range(number):
        frame = molecule(("H2O", "CH3OH", "NH3", "CH4")[k % 4])
        frame.positions += rng.normal(scale=size, size=frame.positions.shape)
        frame.info |= {"kind": "top-down" if k % 4 == 1 else "bottom-up", "group": f"m{k}"}
        frames.append(frame)
    return frames


@pytest.fixture(scope="module")
def mini() -> Potential:
    return heliodor.load("heliodor-mini", device="cpu", dtype="float64")


def labelled(teacher: Potential, frames: list[ase.Atoms], offset: float = 0.0) -> Dataset:
    """Energies far from zero, so that only float64 references keep them."""
    p = heliodor.evaluate(teacher, frames)
    bounds = np.concatenate([[0], np.cumsum([len(f) for f in frames])])
    assert p.forces is not None and p.dipole is not None
    labels = [
        Label(
            energy=float(p.energy[k]) + offset * sum(frame.numbers),
            forces=p.forces[bounds[k] : bounds[k + 1]].numpy().astype(float),
            dipole=p.dipole[k].numpy().astype(float),
        )
        for k, frame in enumerate(frames)
    ]
    return Dataset.from_atoms(frames, labels, method="mini")


@pytest.fixture(scope="module")
def data(mini: Potential) -> Dataset:
    return labelled(mini, distorted(20, 1), offset=-100.0)


@pytest.fixture(scope="module")
def held(mini: Potential) -> Dataset:
    return labelled(mini, distorted(8, 2), offset=-100.0)


def test_overfits(data: Dataset, tmp_path: Path) -> None:
    size = {"preset": "small", "n_modules": 1}
    model = new_model("spookynet", size, data.elements, data)
    before = errors_of(model, data).all
    settings = TrainSettings(
        epochs=250, batch_size=20, learning_rate=1e-2, weight_decay=0.0, ema=0.9, warmup_steps=10, validate_every=150
    )
    result = train(model, data, data, tmp_path, settings)
    after = errors_of(result.model, data).all
    assert after["forces"].mae < 0.05 * before["forces"].mae
    assert after["forces"].r2 > 0.98 and after["dipole"].r2 > 0.98
    assert after["energy"].mae < 0.02 * before["energy"].mae + 0.01


def test_what_it_leaves(data: Dataset, held: Dataset, tmp_path: Path) -> None:
    model = new_model("so3lr", TINY, data.elements, data)
    model.uncertainty = ForceError(ForceErrorConfig(16, tuple(data.elements), 0.9, 1.0, "of these weights")).double()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    told: list[float] = []
    settings = TrainSettings(epochs=3, batch_size=8, validation_structures=4)
    result = train(model, data, held, tmp_path / "run", settings, lambda fraction, words: told.append(fraction))
    assert all(torch.equal(start[name], value) for name, value in model.state_dict().items())
    assert told[0] == 0.0 and told[-1] == 1.0 and told == sorted(told)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"model.safetensors", "log.csv", "result.json", "curves.png", "parity.png"}
    loaded = heliodor.load(str(result.path), device="cpu", dtype="float64")
    # an uncertainty is of the weights as they were
    assert result.model.uncertainty is None and loaded.uncertainty is None and model.uncertainty is not None
    # the card brings total energies back
    references = References.from_card(loaded.card)
    assert references is not None and loaded.card["method"] == "mini"
    total = predict(loaded, held).energy
    bare = heliodor.evaluate(loaded, [held.atoms(k) for k in range(len(held))]).energy.numpy()
    np.testing.assert_allclose(total, bare + references.sums(held), rtol=1e-12)
    assert np.abs(total - held.energy).max() < 5.0 < np.abs(held.energy).min() / 100
    # errors by kind, by hand
    error = (total - held.energy) / held.counts
    found = errors_of(loaded, held).by_kind
    assert found["all"]["energy"].mae == pytest.approx(np.abs(error).mean(), rel=1e-9)
    assert found["all"]["energy_shifted"].mae == pytest.approx(np.abs(error - error.mean()).mean(), rel=1e-9)
    assert found["top-down"]["energy"].rmse == pytest.approx(
        np.sqrt(np.square(error[held.kind == "top-down"]).mean()), rel=1e-9
    )
    # finished: returned at once, and only for the same inputs
    again = train(model, data, held, tmp_path / "run", settings)
    assert again.errors == result.errors and again.rows == result.rows
    with pytest.raises(InputError, match="other data, settings or another model"):
        train(model, held, held, tmp_path / "run", settings)


SCRIPT = """
import sys
from pathlib import Path
from heliodor.train.dataset import Dataset
from heliodor.train.models import new_model
from heliodor.train.settings import TrainSettings
from heliodor.train.trainer import train
folder = Path(sys.argv[1])
data, held = Dataset.read(folder / "data.h5"), Dataset.read(folder / "held.h5")
model = new_model("so3lr", {size}, data.elements, data)
train(model, data, held, folder / "killed", TrainSettings.from_mapping({settings}), lambda f, w: print(w, flush=True))
"""


def rows_without_times(path: Path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k != "minutes"} for row in csv.DictReader(path.read_text().splitlines())]


def test_killed_run_goes_on_to_the_same_bits(data: Dataset, held: Dataset, tmp_path: Path) -> None:
    values = {
        **{"epochs": 3, "batch_size": 4, "validate_every": 4, "checkpoint_minutes": 1e-6, "plateau_patience": 0},
        **{"kind_shares": {"bottom-up": 0.5, "top-down": 0.5}, "schedule": "plateau", "ema": 0.99, "threads": 1},
    }
    data.write(tmp_path / "data.h5")
    held.write(tmp_path / "held.h5")
    script = tmp_path / "run.py"
    script.write_text(SCRIPT.format(size=TINY, settings=values))
    source = str(Path(heliodor.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(tmp_path)]
    killed = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    for line in killed.stdout:
        if line.startswith("step 7"):
            os.kill(killed.pid, signal.SIGKILL)
            break
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL and (tmp_path / "killed" / "state.pt").exists()

    model = new_model("so3lr", TINY, data.elements, data)
    told: list[str] = []
    settings = TrainSettings.from_mapping(values)
    resumed = train(model, data, held, tmp_path / "killed", settings, lambda fraction, words: told.append(words))
    whole = train(model, data, held, tmp_path / "whole", settings)
    first = next(int(line.split()[1].strip(",")) for line in told if line.startswith("step"))
    assert first in (7, 8, 9) and resumed.steps == whole.steps >= 13
    models = [result.model.state_dict() for result in (whole, resumed)]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    logs = [rows_without_times(tmp_path / name / "log.csv") for name in ("whole", "killed")]
    assert logs[0] == logs[1] and len(logs[0]) >= 4


def test_average(data: Dataset, tmp_path: Path) -> None:
    """With a tiny learning rate and no memory the average is the last step's model; with a long one it lags."""
    model = new_model("so3lr", TINY, data.elements, data)
    common = {"epochs": 2, "batch_size": 8, "schedule": "constant", "warmup_steps": 1, "learning_rate": 1e-3}
    weights = {}
    for ema in (0.0, 0.999):
        settings = TrainSettings.from_mapping({**common, "ema": ema})
        result = train(model, data, data, tmp_path / str(ema), settings)
        weights[ema] = result.model.state_dict()["energy_head.hidden.weight"]
    start = model.state_dict()["energy_head.hidden.weight"]
    lagging, last = ((weights[ema] - start).norm() for ema in (0.999, 0.0))
    assert 0.0 < lagging < last


def test_bad_batch_is_skipped_and_named(data: Dataset, held: Dataset, tmp_path: Path) -> None:
    frames = [data.atoms(k) for k in range(len(data))]
    data = data.take(range(len(data)))
    # two atoms on one spot: no finite forces
    data.positions[1] = data.positions[2]
    assert frames[0].get_chemical_formula() == "H2O"
    settings = TrainSettings(epochs=4, batch_size=4)
    result = train(new_model("so3lr", TINY, held.elements, held), data, held, tmp_path, settings)
    assert len(result.skipped) == 4
    assert all(event["structures"] == ["structure 0 (H2O, m0)"] for event in result.skipped)
    assert all(bool(p.isfinite().all()) for p in result.model.parameters())
    assert json.loads((tmp_path / "result.json").read_text())["rows"][-1]["skipped"] == 4


def test_time_limit(data: Dataset, held: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock by which a step takes 0.1 s, from the fortieth on 0.2 s, and four structures' validation 0.25 s."""
    now, steps = 0.0, 0

    def advance(*given: object) -> None:
        nonlocal now, steps
        steps += 1
        now += 0.1 if steps < 40 else 0.2
        trainer_advance(*given)

    def validate(*given: object) -> object:
        nonlocal now
        now += 0.25
        return trainer_validate(*given)

    trainer_advance, trainer_validate = trainer.advance, trainer.validate
    monkeypatch.setattr(trainer, "advance", advance)
    monkeypatch.setattr(trainer, "validate", validate)
    for module in (trainer, finish):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now))
    values = {"time": "20 s", "batch_size": 4, "threads": 1, "validate_every": 20, "validation_structures": 4}
    settings = TrainSettings.from_mapping({**values, "warmup_steps": 5, "plot_every": 0})
    result = train(new_model("so3lr", TINY, data.elements, data), data, held, tmp_path, settings)
    # room is left for the errors of all eight structures with a third to spare, and for plots: a tenth of the time
    last = 60.0 * result.rows[-1]["minutes"]
    reserve = 1.3 * 0.5 + 2.0
    assert -1e-9 <= last - (20.0 - reserve) <= 0.2
    assert result.seconds == pytest.approx(now) and now <= 20.0 and result.steps == steps
    # 40 steps take 4 s, and the next 13 s a little less than 65 for the validations among them
    assert 95 <= steps <= 105
    # the cosine has come down by then, although the speed was another one at first: progress is 0.85 if worked out by
    # hand from the looks at steps 41 and 71, and the rate 0.07
    assert result.rows[-1]["learning_rate"] < 0.1 * settings.learning_rate


def test_key_of_a_run(data: Dataset, held: Dataset) -> None:
    """What is frozen belongs to it: a run of the same weights that trains others of them is another run."""
    model = new_model("so3lr", TINY, data.elements, data)
    settings = TrainSettings(epochs=1)
    keys = [fingerprint(model, data, held, settings), fingerprint(copy.deepcopy(model), data, held, settings)]
    for name in ("energy_head.hidden.weight", "energy_offset"):
        part = copy.deepcopy(model)
        part.get_parameter(name).requires_grad_(False)
        keys.append(fingerprint(part, data, held, settings))
    assert keys[0] == keys[1] and len(set(keys)) == 3


def test_only_some_labels(data: Dataset, held: Dataset, tmp_path: Path) -> None:
    """Energies alone, forces missing everywhere: the forces' term is left out and nothing breaks."""
    bare = data.take(range(len(data)))
    bare.forces[:] = np.nan
    bare.dipole[:] = np.nan
    settings = TrainSettings(epochs=2, loss="huber")
    result = train(new_model("so3lr", TINY, data.elements, data), bare, bare, tmp_path, settings)
    assert "validation_forces_mae" not in result.rows[0] and result.rows[0]["validation_energy_mae"] > 0.0


def test_settings() -> None:
    settings = TrainSettings.from_mapping({"time": "35 min", "learning_rate": "5e-4", "compile": False})
    assert settings.seconds == 2100.0 and settings.learning_rate == 5e-4 and settings.compile == "no"
    assert TrainSettings.from_mapping(settings.to_dict()) == settings
    assert parse_duration("1.5h") == 5400.0 and parse_duration(90) == 90.0
    for values, words in (
        ({"lerning_rate": 1e-3, "epochs": 1}, "no setting 'lerning_rate'; did you mean 'learning_rate'"),
        ({"epochs": 1, "loss": "robsut"}, "did you mean 'robust'"),
        ({}, "would never end"),
        ({"time": "soon"}, "cannot read 'soon'"),
        ({"epochs": 1, "batch_size": "many"}, "batch_size must be a number"),
        ({"epochs": 1, "ema": 1.0}, "ema must lie between"),
        ({"epochs": 1, "forces_weight": -1.0}, "weights"),
    ):
        with pytest.raises(InputError, match=words):
            TrainSettings.from_mapping(values)


def test_refusals(data: Dataset, held: Dataset, tmp_path: Path) -> None:
    model = new_model("so3lr", TINY, data.elements, data)
    settings = TrainSettings(epochs=1)
    with pytest.raises(InputError, match="validation set is empty"):
        train(model, data, held.take([]), tmp_path, settings)
    with pytest.raises(InputError, match="no architecture called 'spooky'"):
        new_model("spooky", "small", data.elements, data)
    with pytest.raises(InputError, match="'n_feature'; did you mean 'n_features'"):
        new_model("so3lr", {"n_feature": 8}, data.elements, data)
    with pytest.raises(InputError, match="holds O, which"):
        new_model("so3lr", TINY, [1, 6, 7], data)
    unlabelled = Dataset.from_atoms([data.atoms(k) for k in range(3)])
    with pytest.raises(InputError, match="nothing to train on"):
        train(model, unlabelled, held, tmp_path, settings)
    (tmp_path / "state.pt").write_bytes(b"rubbish")
    with pytest.raises(InputError, match="is damaged"):
        train(model, data, held, tmp_path, settings)


@pytest.mark.parametrize("architecture", ["spookynet", "mace"])
def test_new_models_start_near_the_energies(architecture: str, data: Dataset) -> None:
    """What the untrained physical terms say is made up for by the elements' energies."""
    model = new_model(architecture, "small", data.elements, data)
    assert errors_of(model, data).all["energy"].mae < 0.5
    assert model.card["reference_origin"] == "least squares over the set"
    other = new_model(architecture, "small", data.elements, data)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
