"""Lists found batch by batch against those found at once; batches made ahead; what a run is said to take."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import fields
from pathlib import Path

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule

from heliodor.label.label import Label
from heliodor.train import lazy_lists
from heliodor.train.ahead import Ahead
from heliodor.train.batches import find_lists
from heliodor.train.dataset import Dataset
from heliodor.train.estimate import estimate
from heliodor.train.lazy_lists import LazyLists, bytes_of_lists, count_lists, lists_for
from heliodor.train.models import new_model
from heliodor.train.references import References
from heliodor.train.sampling import Sampler, kind_shares
from heliodor.train.settings import TrainSettings
from heliodor.train.trainer import train

TINY = {"n_features": 16, "n_heads": 2, "degrees": [1, 2], "n_layers": 1, "n_basis": 8, "n_hirshfeld": 8}


def structures(periodic: bool) -> Dataset:
    rng = np.random.default_rng(7)
    frames: list[ase.Atoms] = []
    for k in range(12):
        frame = molecule(("H2O", "CH3CONH2", "NH3", "C6H6")[k % 4])
        frame.positions += rng.normal((100.0 * k, 0.0, 5.0), 0.05, frame.positions.shape)
        if periodic and k % 3 == 0:
            frame.set_cell([6.0, 7.0, 8.0])
            frame.pbc = True
        frames.append(frame)
    labels = [Label(float(rng.normal()), rng.normal(size=(len(f), 3)), rng.normal(size=3)) for f in frames]
    return Dataset.from_atoms(frames, labels)


@pytest.mark.parametrize("periodic", [False, True])
def test_the_same_bits(periodic: bool) -> None:
    data = structures(periodic)
    model = new_model("so3lr", TINY, data.elements, data)
    references = References({1: -13.6, 6: -1027.0, 7: -1480.0, 8: -2037.0}, "by hand")
    eager, lazy = (find(data, model, references) for find in (find_lists, count_lists))
    np.testing.assert_array_equal(eager.sizes, lazy.sizes)
    samplers = [Sampler(lists, 3, kind_shares(data.kind, None), 2) for lists in (eager, lazy)]
    assert samplers[0].shape == samplers[1].shape
    for one, two in zip(samplers[0].epoch(1), samplers[1].epoch(1), strict=True):
        np.testing.assert_array_equal(one, two)
        for shape in (None, samplers[0].shape):
            a, b = eager.batch(one, shape), lazy.batch(two, shape)
            for field in fields(a):
                x, y = getattr(a, field.name), getattr(b, field.name)
                assert (x is None) == (y is None), field.name
                if x is not None:
                    assert x.dtype == y.dtype and torch.equal(x.nan_to_num(1e9), y.nan_to_num(1e9)), field.name


def test_a_run_with_either_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = structures(False)
    model = new_model("so3lr", TINY, data.elements, data)
    settings = TrainSettings(epochs=3, batch_size=3, accumulate=2, threads=1, plot_every=0)
    eager = train(model, data, data, tmp_path / "eager", settings)
    monkeypatch.setattr(lazy_lists, "SHARE", 0.0)
    assert isinstance(lists_for(data, model, None), LazyLists)
    lazy = train(model, data, data, tmp_path / "lazy", settings)
    assert all(torch.equal(value, lazy.model.state_dict()[name]) for name, value in eager.model.state_dict().items())
    assert not [t for t in threading.enumerate() if t.name == "heliodor batches"]


def test_memory_of_lists() -> None:
    data = structures(True)
    model = new_model("so3lr", TINY, data.elements, data)
    eager = find_lists(data, model, None)
    known = sum(x.nbytes for f in fields(eager) if isinstance(x := getattr(eager, f.name), np.ndarray))
    assert bytes_of_lists(data, model) == pytest.approx(known, rel=0.05)
    assert not isinstance(lists_for(data, model, None, room=2.0 * known), LazyLists)
    assert isinstance(lists_for(data, model, None, room=0.5 * known), LazyLists)


def test_ahead() -> None:
    made: list[int] = []

    def make(k: int) -> int:
        if k == 7:
            raise ValueError("seven")
        made.append(k)
        return k * k

    ahead = Ahead(iter(range(100)), make, depth=2)
    deadline = time.monotonic() + 20.0
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    # two wait in the queue, one for room in it
    assert made == [0, 1, 2]
    assert [ahead.take() for _ in range(7)] == [k * k for k in range(7)]
    with pytest.raises(ValueError, match="seven"):
        ahead.take()
    ahead.close()
    endless = Ahead(iter(range(10**9)), lambda k: k, depth=1)
    endless.close()
    assert Ahead(iter([3]), lambda k: k + 1, depth=0).take() == 4


def test_estimate() -> None:
    data = structures(False)
    model = new_model("so3lr", TINY, data.elements, data)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    small, large = (
        estimate(model, data, TrainSettings(epochs=10, batch_size=size, accumulate=2, threads=1)) for size in (2, 12)
    )
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state()) and model.dtype == torch.float64
    # of so few structures all are looked at: the batches are those of a run
    lists = find_lists(data, model, None)
    for size, found in ((2, small), (12, large)):
        batches = len(Sampler(lists, size, kind_shares(data.kind, None), 1).epoch(0))
        assert found.batches_per_epoch == batches and found.steps == 10 * math.ceil(batches / 2)
    # more structures in a batch hold more, and some of it does not depend on them
    largest = [max(map(len, Sampler(lists, size, kind_shares(data.kind, None), 1).epoch(0))) for size in (2, 12)]
    assert small.bytes_peak < large.bytes_peak < largest[1] * small.bytes_peak
    for found in (small, large):
        assert found.seconds_per_epoch == pytest.approx(len(data) / found.structures_per_second)


def test_peak_is_what_tensors_take() -> None:
    from heliodor.train.estimate import _peak

    def step() -> None:
        first = torch.zeros(1_000_000)
        second = first + 1.0
        del first
        third = second * 2.0
        del second, third

    assert _peak(step, torch.device("cpu")) == pytest.approx(8_000_000, rel=0.01)
