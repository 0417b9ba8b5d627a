"""Campaigns: everything is labelled once, whatever is killed; what cannot be labelled is recorded with its reason."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import ase
import numpy as np
import pytest
import toy_methods
from toy_methods import FIND, workers_of

from heliodor.errors import InputError
from heliodor.label.campaign import run_campaign
from heliodor.label.drive import work_folder
from heliodor.label.label import LabelError
from heliodor.label.parsl_pool import Cluster, read_cluster
from heliodor.label.schema import StoreError
from heliodor.label.shard import CRASHED, DONE, ERROR, LOST, MEMORY, NOT_CONVERGED, REFUSED, TIME, Limits
from heliodor.label.store import Store

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:parsl", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "labels.db") as opened:
        yield opened


def check_each_once(store: Store, executions: Counter[str], total: int, lost: int) -> None:
    """Every job has one result; by the methods' own log, no more was done than what died with a worker."""
    counts = store.counts()
    assert (counts.done, counts.total, counts.running) == (total, total, 0)
    good = Counter(job for job, attempt in store.attempts() if attempt.outcome == DONE)
    assert len(good) == total and set(good.values()) == {1}
    assert len(executions) == total
    assert sum(executions.values()) <= total + lost
    assert not work_folder(store.path).exists()


@pytest.mark.parametrize("executor", ["local", "parsl"])
def test_200_jobs_with_four_workers_of_which_two_are_killed(store, frames, executions, executor):
    pytest.importorskip("tblite")
    # the sum of coordinates tells them apart
    some = [atoms for name in ("CH3CONH2", "C6H6", "isobutane", "CH3CH2OH") for atoms in frames(50, name)]
    store.add(some, "gfn2")
    chance = random.Random(7)
    log = os.environ[toy_methods.LOG]
    killed: list[int] = []

    def kill_two() -> None:
        for mark in (15, 70):
            while sum(executions().values()) < mark:
                time.sleep(0.002)
            alive = [pid for pid in workers_of(log) if pid not in killed]
            killed.append(chance.choice(alive))
            os.kill(killed[-1], signal.SIGKILL)

    killer = threading.Thread(target=kill_two)
    killer.start()
    cluster = Cluster(shard_seconds=0.3, heartbeat=1) if executor == "parsl" else None
    summary = run_campaign(store, 4, executor, cluster=cluster, find="toy_methods:find_counted")
    killer.join()
    assert len(killed) == 2 and summary.done == 200 and summary.failed == 0
    check_each_once(store, executions(), 200, lost=2)
    outcomes = Counter(attempt.outcome for _, attempt in store.attempts())
    assert set(outcomes) <= {DONE, LOST} and outcomes[LOST] <= 2
    assert summary.lost_workers >= 1
    # the numbers are those of the method itself
    from heliodor.label.methods import find_method

    for k in (0, 77, 199):
        row = store.find(some[k], "gfn2")
        direct = find_method("gfn2")(some[k])
        assert row is not None and row.label is not None
        assert row.label.energy == pytest.approx(direct.energy, abs=1e-9)
        np.testing.assert_allclose(row.label.forces, direct.forces, atol=1e-8)


MASTER = """
import sys
from heliodor.label.campaign import run_campaign
from heliodor.label.store import Store
with Store(sys.argv[1]) as store:
    print(run_campaign(store, 2, sys.argv[2], find="toy_methods:find").done)
"""


def begin_master(store: Store, executor: str = "local") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", MASTER, str(store.path), executor], stdout=subprocess.PIPE, text=True
    )


def wait_for(what: object, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@pytest.mark.parametrize("executor", ["local", "parsl"])
def test_a_killed_master_is_resumed_and_its_workers_end(store, frames, executions, executor):
    store.add(frames(60), "slow")
    with begin_master(store, executor) as master:
        wait_for(lambda: sum(executions().values()) >= 20)
        master.kill()
    wait_for(lambda: not workers_of(os.environ[toy_methods.LOG]))
    before = sum(executions().values())
    assert 20 <= before < 60
    summary = run_campaign(store, 2, find=FIND)
    # what lay in the spools was not done again
    assert summary.done <= 60 - before + 2
    check_each_once(store, executions(), 60, lost=2)


def test_two_masters_share_one_store(store, frames, executions):
    store.add(frames(60), "slow")
    with begin_master(store) as one, begin_master(store) as two:
        done = [int(master.communicate(timeout=100)[0]) for master in (one, two)]
    assert sum(done) == 60 and min(done) > 0
    check_each_once(store, executions(), 60, lost=0)


def test_what_cannot_be_labelled_is_recorded_and_hurts_nobody_else(store, frames, executions):
    symbols = ("He", "Ca", "Ne", "Ar", "Kr", "Xe", "Li", "Be", "B")
    odd = [ase.Atoms(symbol, [(0.1 * k, 0.0, 0.0)]) for k, symbol in enumerate(symbols)]
    some = frames(18)
    store.add([atoms for k in range(9) for atoms in (some[2 * k], odd[k], some[2 * k + 1])], "toy")
    summary = run_campaign(store, 2, find=FIND, limits=Limits(seconds=2.0, memory=300_000_000))
    assert (summary.done, summary.failed, summary.counts.left) == (20, 7, 0)
    rows = {symbol: store.find(atoms, "toy") for symbol, atoms in zip(symbols, odd, strict=True)}
    tries = {s: [a.outcome for _, a in store.attempts(row.id)] for s, row in rows.items() if row is not None}
    reasons = {symbol: row.reason for symbol, row in rows.items() if row is not None}
    assert reasons == {
        **{"He": CRASHED, "Ca": "", "Ne": NOT_CONVERGED, "Ar": "", "Kr": TIME, "Xe": MEMORY},
        **{"Li": REFUSED, "Be": ERROR, "B": ERROR},
    }
    # a crash is tried again, twice at most; more effort is made as far as there is any; the rest is final
    assert tries["He"] == [CRASHED] * 3 and tries["Ca"] == [CRASHED, DONE]
    assert tries["Ne"] == [NOT_CONVERGED] * 3 and tries["Ar"] == [NOT_CONVERGED, NOT_CONVERGED, DONE]
    assert all(len(tries[symbol]) == 1 for symbol in ("Kr", "Xe", "Li", "Be", "B"))
    assert rows["Ar"].effort == 2 and [a.effort for _, a in store.attempts(rows["Ne"].id)] == [0, 1, 2]
    # in words: what was tried
    assert "attempt 3 (effort 2): no convergence in 300 cycles" in rows["Ne"].error
    assert "SIGSEGV" in rows["He"].error and "limit of 2 s" in rows["Kr"].error and "GB" in rows["Xe"].error
    assert "lithium" in rows["Li"].error and "ZeroDivisionError" in rows["Be"].error and "finite" in rows["B"].error
    kr, xe = (store.attempts(rows[s].id)[0][1] for s in ("Kr", "Xe"))
    assert 2.0 <= kr.wall < 10.0 and xe.memory > 300_000_000
    assert summary.lost_workers == 0 and max(executions().values()) == 1


def test_interrupted_and_resumed(store, frames, executions):
    store.add(frames(60), "slow")

    def interrupt(now) -> None:
        if now.done >= 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_campaign(store, 2, find=FIND, progress=interrupt)
    assert not workers_of(os.environ[toy_methods.LOG])
    counts = store.counts()
    assert counts.running == 0 and counts.done >= 10 and counts.done + counts.waiting == 60
    told = []
    summary = run_campaign(store, 2, find=FIND, progress=told.append)
    assert summary.done == counts.waiting and told[-1].counts.done == 60
    check_each_once(store, executions(), 60, lost=2)


def test_a_full_disk_in_the_middle_loses_nothing(store, frames, executions):
    store.add(frames(60), "slow")
    (pages,) = store._database.execute("PRAGMA page_count").fetchone()
    store._database.execute(f"PRAGMA max_page_count={pages + 3}")
    with pytest.raises(StoreError, match="disk is full"):
        run_campaign(store, 2, find=FIND)
    before = sum(executions().values())
    counts = store.counts()
    assert 0 < counts.done < before < 60
    store._database.execute(f"PRAGMA max_page_count={2**30}")
    # what was finished but could not be committed lay in the spools
    assert run_campaign(store, 2, find=FIND).done <= 60 - before + 2
    check_each_once(store, executions(), 60, lost=2)


def test_a_method_that_no_worker_can_make_is_one_error(store, frames, executions, monkeypatch):
    store.add(frames(5), "broken")
    with pytest.raises(LabelError, match="not on this node"):
        run_campaign(store, 1, find=FIND)
    # here it can be made, there it cannot
    monkeypatch.setattr(toy_methods, "find", lambda name: toy_methods.Toy(name))
    with pytest.raises(InputError, match="cannot be made in a worker: its program is not on this node"):
        run_campaign(store, 1, find=FIND)
    assert store.counts().waiting == 5 and store.attempts() == []


def test_an_empty_store_and_wrong_words(store, frames):
    assert run_campaign(store).done == 0
    with pytest.raises(InputError, match="executor"):
        run_campaign(store, executor="slurm")
    with pytest.raises(InputError, match="at least one worker"):
        run_campaign(store, 0)
    with pytest.raises(InputError, match="no store"):
        run_campaign(store.path.with_name("other.db"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("provider: slurn", "did you mean 'slurm'"),
        ("provider: slurm\npartition: cpu", "goes under 'options:'"),
        ("provider: slurm\noptions: {partitoin: cpu}", "did you mean 'partition'"),
        ("executor: {adress: x}", "did you mean 'address'"),
        ("shard_seconds: soon", "shard_seconds must be a number of at least"),
        ("options: 5", "options must be"),
        ("- a\n- b", "names with values"),
        ("a: [", "not YAML"),
    ],
)
def test_wrong_configurations(tmp_path, store, frames, executions, text, words):
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    store.add(frames(1), "toy")
    with pytest.raises(InputError, match=words):
        run_campaign(store, 1, "parsl", cluster=read_cluster(path), find=FIND)
    assert store.counts().waiting == 1


def test_configuration_without_a_shared_folder(tmp_path, store, frames, executions, monkeypatch):
    path = tmp_path / "cluster.yaml"
    path.write_text("provider: local\nshared_files: no\nworkers_per_node: 1\nshard_seconds: 1\nheartbeat: 1\n")
    # process_worker_pool.py is then found as on any other machine, by the environment
    place = os.path.dirname(sys.executable)
    monkeypatch.setenv("PATH", place + os.pathsep + os.environ["PATH"])
    store.add(frames(20), "toy")
    assert run_campaign(store.path, 1, "parsl", cluster=read_cluster(path), find=FIND).done == 20
    check_each_once(store, executions(), 20, lost=0)
