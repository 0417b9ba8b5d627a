"""From the store to training: order, numbers to the last bit, what is left out."""

from __future__ import annotations

import time

import ase.io
import numpy as np
import pytest

from heliodor.errors import InputError
from heliodor.label.export import export, write_extxyz
from heliodor.label.label import Label
from heliodor.label.packing import pack_label
from heliodor.label.shard import DONE, NOT_CONVERGED, Attempt, Outcome
from heliodor.label.store import Store
from heliodor.train.dataset import Dataset


@pytest.fixture
def labels(rng, frames):
    """Six structures of two sizes; the second has failed, the last waits."""
    some = [frame for pair in zip(frames(3, "CH4"), frames(3, "H2O"), strict=True) for frame in pair]
    some[2].info |= {"kind": "top-down", "charge": 1.0, "spin": 1, "group": "other"}
    made = {}
    for k, frame in enumerate(some):
        forces = rng.normal(size=(len(frame), 3))
        ratios = rng.normal(size=len(frame)) if k != 3 else None
        made[k] = Label(-40.0 - k / 3, forces, rng.normal(size=3), ratios, rng.normal(size=len(frame)))
    return some, made


@pytest.fixture
def store(tmp_path, labels):
    some, made = labels
    with Store(tmp_path / "labels.db") as opened:
        opened.add(some, "toy")
        master = opened.register()
        jobs = opened.take(master, "s", 5)
        outcomes = []
        # in another order than they were added in
        for k in (4, 0, 1, 3, 2):
            attempt = Attempt(0, DONE if k != 1 else NOT_CONVERGED, "", time.time(), 1.0)
            packed = pack_label(made[k]) if k != 1 else None
            outcomes.append(Outcome(jobs[k].id, (attempt,), packed, made[k].energy, (("toy", "2"),)))
        opened.commit(master, {"s": outcomes})
        opened.leave(master)
        yield opened


def test_all_that_is_done_in_the_order_of_adding(store, labels, tmp_path):
    some, made = labels
    data = export(store)
    good = [0, 2, 3, 4]
    assert len(data) == 4 and data.method == "toy"
    assert data.notes == {"failed": 1, "waiting": 1, "unknown": 0, "written": 4, "versions": {"toy": ["2"]}}
    assert data.energy.tolist() == [made[k].energy for k in good]
    assert data.kind.tolist() == ["bottom-up", "top-down", "bottom-up", "bottom-up"]
    assert data.group.tolist() == ["CH4", "other", "H2O", "CH4"]
    assert data.charge.tolist() == [0, 1, 0, 0] and data.spin.tolist() == [0, 1, 0, 0]
    for place, k in enumerate(good):
        span = data.span(place)
        np.testing.assert_array_equal(data.positions[span], some[k].positions)
        np.testing.assert_array_equal(data.forces[span], made[k].forces)
        np.testing.assert_array_equal(data.dipole[place], made[k].dipole)
        assert np.isnan(data.hirshfeld_ratios[span]).all() == (k == 3)
    data.write(tmp_path / "labelled.h5")
    back = Dataset.read(tmp_path / "labelled.h5")
    np.testing.assert_array_equal(back.forces, data.forces)
    # a path is as good as a store
    assert export(store.path, method="toy").energy.tolist() == data.energy.tolist()


def test_those_that_are_asked_for_in_their_order_and_kind(store, labels, frames):
    some, made = labels
    asked = [some[4], some[1], some[0].copy(), *frames(1, "C6H6"), some[5], some[4]]
    asked[2].info["kind"] = "another"
    data = export(store, asked)
    assert data.energy.tolist() == [made[4].energy, made[0].energy, made[4].energy]
    assert data.kind.tolist() == ["bottom-up", "another", "bottom-up"]
    assert {word: data.notes[word] for word in ("failed", "waiting", "unknown")} == {
        "failed": 1,
        "waiting": 1,
        "unknown": 1,
    }


def test_extxyz_is_read_by_others(store, labels, tmp_path):
    _, made = labels
    path = tmp_path / "labelled.extxyz"
    assert write_extxyz(store, path)["written"] == 4
    back = ase.io.read(path, ":")
    assert len(back) == 4
    assert back[1].get_potential_energy() == pytest.approx(made[2].energy, abs=1e-7)
    np.testing.assert_allclose(back[1].get_forces(), made[2].forces, atol=1e-7)
    np.testing.assert_allclose(back[1].calc.results["dipole"], made[2].dipole, atol=1e-7)
    np.testing.assert_allclose(back[1].arrays["hirshfeld_ratios"], made[2].hirshfeld_ratios, atol=1e-7)
    assert back[1].info["kind"] == "top-down" and back[1].info["charge"] == 1.0 and back[1].info["method"] == "toy"


def test_what_cannot_be_exported(store, labels, frames, tmp_path):
    with pytest.raises(InputError, match=r"'toi'.*did you mean 'toy'"):
        export(store, method="toi")
    with pytest.raises(InputError, match="no labels by toy"):
        export(store, frames(1, "C6H6"))
    store.add(frames(1), "other")
    with pytest.raises(InputError, match="several methods, say which: other, toy"):
        export(store)
    with pytest.raises(InputError, match="no labels by other"):
        export(store, method="other")
    assert len(export(store, method="toy")) == 4
    with pytest.raises(InputError, match="no store"):
        export(tmp_path / "none.db")
    with Store(tmp_path / "empty.db") as empty, pytest.raises(InputError, match="is empty"):
        export(empty)
    with pytest.raises(InputError, match="could not be written"):
        write_extxyz(store, tmp_path / "none" / "x.extxyz", method="toy")
