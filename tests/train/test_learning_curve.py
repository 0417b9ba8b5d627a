"""Learning curves: the slope of a known power law, and sets that grow."""

import json

import numpy as np
import pytest
from ase.build import molecule

import heliodor
from heliodor.errors import InputError
from heliodor.train import learning
from heliodor.train.dataset import Dataset
from heliodor.train.learning import learning_curve, slope_of
from heliodor.train.models import new_model
from heliodor.train.settings import TrainSettings


def test_slope_of_a_power_law():
    sizes = np.array([50, 100, 200, 400, 800])
    b, error = slope_of(sizes, 3.0 * sizes**-0.42)
    assert b == pytest.approx(0.42, abs=1e-12) and error < 1e-9
    assert np.isnan(slope_of(sizes[:2], np.array([2.0, 1.0]))[1])
    # scipy's linear regression, on noise
    stats = pytest.importorskip("scipy.stats")
    noisy = 3.0 * sizes**-0.42 * np.exp(0.1 * np.random.default_rng(0).normal(size=5))
    expected = stats.linregress(np.log(sizes), np.log(noisy))
    assert slope_of(sizes, noisy) == pytest.approx((-expected.slope, expected.stderr), rel=1e-9)


def waters(number, seed):
    random = np.random.default_rng(seed)
    frames = []
    for _ in range(number):
        frame = molecule("H2O")
        frame.positions += 0.05 * random.normal(size=frame.positions.shape)
        frames.append(frame)
    return frames


def test_sets_grow_and_steps_stay(tmp_path, monkeypatch):
    teacher = heliodor.load("heliodor-mini", dtype="float64")
    frames = waters(24, 0)
    prediction = heliodor.evaluate(teacher, frames)
    from heliodor.label.label import Label

    forces = np.asarray(prediction.forces).reshape(24, 3, 3)
    data = Dataset.from_atoms(frames, [Label(float(prediction.energy[k]), forces[k]) for k in range(24)])
    training, test = data.take(range(16)), data.take(range(16, 24))
    seen: list[tuple[Dataset, int]] = []
    real = learning.train

    def watched(model, part, *rest):
        result = real(model, part, *rest)
        seen.append((part, result.steps))
        return result

    monkeypatch.setattr(learning, "train", watched)
    settings = TrainSettings(epochs=4, batch_size=4, compile="no", loss="huber")
    curve = learning_curve(
        lambda part: new_model("so3lr", {"preset": "small", "n_features": 16, "n_layers": 1}, (1, 8), part),
        *(training, test, test, (16, 4, 8), tmp_path, settings),
    )
    assert curve.sizes == (4, 8, 16)
    smaller, larger = (set(part.energy.tolist()) for part in (seen[0][0], seen[2][0]))
    assert smaller < larger
    # packing cuts batches by atoms, so that their number differs a little
    steps = [count for _, count in seen]
    assert max(steps) <= 1.5 * min(steps)
    kept = json.loads((tmp_path / "learning.json").read_text())
    assert kept["sizes"] == [4, 8, 16] and (tmp_path / "learning.png").stat().st_size > 5000
    assert curve.slopes["forces"] == slope_of((4, 8, 16), curve.rmse["forces"])
    with pytest.raises(InputError, match="two or more sizes"):
        learning_curve(lambda part: teacher, training, test, test, (8, 99), tmp_path / "x", settings)
