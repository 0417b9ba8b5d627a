"""A store that goes on under other choices: another method, other structures, higher limits, other weights."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from heliodor.errors import InputError
from heliodor.gems.config import LabelChoices
from heliodor.gems.labels import label
from heliodor.label.campaign import refuse_other_weights, run_campaign
from heliodor.label.label import Label
from heliodor.label.packing import pack_label
from heliodor.label.shard import DONE, MEMORY, TIME, Attempt, Limits, Outcome
from heliodor.label.store import Store
from heliodor.label.teacher import find_teacher
from heliodor.train.dataset import Dataset


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "labels.db") as opened:
        yield opened


def end(store, how, wall=1.0, memory=1000, versions=(("toy", "1"),)):
    """The next job, ended in some way."""
    master = store.register()
    (job,) = store.take(master, "shard", 1)
    attempt = Attempt(0, how, "" if how == DONE else "too much", time.time(), wall, wall, memory, "here")
    good = (pack_label(Label(1.0)), 1.0, versions) if how == DONE else ()
    store.commit(master, {"shard": [Outcome(job.id, (attempt,), *good)]})
    store.leave(master)


def test_what_waits_for_nobody_is_taken_out_and_nothing_else(store, frames):
    old, new = frames(6)[:4], frames(6)[2:]
    store.add(old, "toy")
    end(store, DONE)
    end(store, TIME)
    master = store.register()
    (running,) = store.take(master, "shard", 1)
    store.add(frames(3, "H2O"), "slow")
    assert store.keep_waiting(new, "toy") == 3
    assert {(row.method, row.state) for row in store.rows()} == {
        ("toy", s) for s in ("done", "failed", "running", "waiting")
    }
    # its number was free again: nothing of the old job clings to the new one
    store.leave(master)
    assert store.keep_waiting([], "toy") == 2 and store.counts().total == 2
    assert len(store.attempts()) == 2
    assert store.add(new, "toy").new == 4 and store.counts().waiting == 4
    assert len(store.attempts()) == 2 and running.id in {row.id for row in store.rows("waiting")}


def test_only_higher_limits_are_worth_another_try(store, frames):
    store.add(frames(3), "toy")
    end(store, TIME, wall=10.02)
    end(store, MEMORY, wall=3.0, memory=2_000_000_000)
    end(store, "refused")
    assert store.retry_limited(Limits(seconds=10.0, memory=10**9)) == 0
    assert store.retry_limited(Limits(seconds=20.0, memory=10**9)) == 1
    assert store.retry_limited(Limits()) == 1
    assert (store.counts().waiting, store.counts().failed) == (2, 1)


def test_labels_of_other_weights_are_not_mixed(store, frames):
    teacher = find_teacher("heliodor-mini")
    store.add(frames(2), teacher)
    end(store, DONE, versions=tuple((teacher.versions | {"heliodor": "0"}).items()))
    # other weights matter, another release of the same does not
    refuse_other_weights(store, teacher)
    other = replace(teacher, versions=teacher.versions | {"model": "0123456789abcdef"})
    with pytest.raises(InputError, match=r"of other weights .* begin a new store"):
        refuse_other_weights(store, other)
    store.retry_failed()
    end(store, DONE, versions=tuple(other.versions.items()))
    store.add(frames(3), teacher)
    with pytest.raises(InputError, match="of other weights"):
        run_campaign(store, workers=1)


def test_the_pipeline_labels_what_is_chosen_now(tmp_path, frames):
    path = tmp_path / "labels.db"
    with Store(path) as store:
        # a run that was stopped, with a method that takes hours, and other structures
        store.add(frames(5), "pbe0-mbd/def2-qzvppd")
        store.add(frames(5, "C6H6"), "teacher:heliodor-mini")
    chosen = Dataset.from_atoms(frames(3))
    labelled, facts = label(chosen, path, LabelChoices(method="teacher:heliodor-mini"), 1, lambda *_: None)
    assert len(labelled) == 3 and facts["failed"] == 0
    with Store(path) as store:
        assert store.counts().total == store.counts().done == 3
