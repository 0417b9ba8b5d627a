"""The store: the same job once, leases, results committed once, and everything that is not a store refused."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest

from heliodor.errors import InputError
from heliodor.label.drive import reap, spool_of, work_folder
from heliodor.label.label import Label
from heliodor.label.packing import content_hash, pack_label, pack_structure, unpack_label, unpack_structure
from heliodor.label.process import gone, identity
from heliodor.label.schema import StoreError
from heliodor.label.shard import CRASHED, DONE, LOST, Attempt, Outcome, Spool, Started, read_spool
from heliodor.label.store import LOSSES, Store, open_store


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "labels.db") as opened:
        yield opened


def outcome(job: int, energy: float = 1.0, message: str = "") -> Outcome:
    attempt = Attempt(0, DONE if not message else CRASHED, message, time.time(), 2.0, 1.5, 1000, "here")
    if message:
        return Outcome(job, (attempt,))
    return Outcome(job, (attempt,), pack_label(Label(energy)), energy, (("toy", "1"),))


def test_structures_and_labels_survive_to_the_last_bit(crystal):
    crystal.info |= {"charge": -1.0, "spin": 2}
    back = unpack_structure(pack_structure(crystal))
    assert np.array_equal(back.positions, crystal.positions) and np.array_equal(back.cell.array, crystal.cell.array)
    assert back.pbc.tolist() == [True] * 3 and back.info == {"charge": -1.0, "spin": 2}
    assert back.numbers.tolist() == crystal.numbers.tolist()
    rng = np.random.default_rng(1)
    label = Label(
        -1.1e5 / 3, rng.normal(size=(4, 3)), rng.normal(size=3), None, rng.normal(size=4), {"x": 1 / 3}, ("a",)
    )
    again = unpack_label(pack_label(label))
    assert (again.energy, again.terms, again.notes) == (label.energy, label.terms, label.notes)
    assert again.hirshfeld_ratios is None and np.array_equal(again.forces, label.forces)
    assert np.array_equal(again.dipole, label.dipole) and np.array_equal(again.charges, label.charges)


def test_hash_knows_what_matters_and_nothing_else(frames, tmp_path):
    (one,) = frames(1)
    key = content_hash(one, "gfn2")
    # seven kinds of difference, each a job of its own
    others = [one.copy() for _ in range(6)]
    others[0].positions[0, 0] += 1e-6
    others[1].numbers[0] = 7
    others[2].info["charge"] = 1.0
    others[3].info["spin"] = 2
    others[4] = one[[1, 0, *range(2, len(one))]]
    others[5].set_cell(np.eye(3) * 10)
    keys = {content_hash(other, "gfn2") for other in others} | {content_hash(one, "gfn1"), key}
    assert len(keys) == 8
    # what a method never sees
    same = one.copy()
    same.info |= {"kind": "top-down", "group": "x", "comment": 5}
    assert content_hash(same, "gfn2") == key
    # nor is there a difference in a structure that was written and read
    ase.io.write(tmp_path / "one.extxyz", one)
    assert content_hash(ase.io.read(tmp_path / "one.extxyz"), "gfn2") == key
    zero = ase.Atoms("H", [(0.0, 0.0, 0.0)])
    minus = ase.Atoms("H", [(-0.0, 0.0, 0.0)])
    assert content_hash(zero, "gfn2") == content_hash(minus, "gfn2")


def test_adding_again_changes_nothing(store, frames):
    some = frames(5)
    assert store.add([*some, some[0]], "toy").new == 5
    store.take(store.register(), "s", 1)
    again = store.add(some, "toy")
    assert (again.new, again.known) == (0, 5)
    assert (store.counts().waiting, store.counts().running) == (4, 1)
    assert store.add(some[:2], "other").new == 2
    assert store.methods() == ["other", "toy"]


def test_bad_structures_are_refused_by_number(store, frames):
    some = frames(3)
    some[1].positions[0] = np.nan
    with pytest.raises(InputError, match=r"structure 1 .*not finite"):
        store.add(some, "toy")
    with pytest.raises(InputError, match=r"structure 0 .*no atoms"):
        store.add([ase.Atoms()], "toy")
    assert store.counts().total == 0


def test_a_result_is_committed_once_and_only_by_who_holds_the_lease(store, frames):
    store.add(frames(2), "toy")
    first, second = store.register(), store.register()
    (job,) = store.take(first, "a", 1)
    assert store.commit(second, {"a": [outcome(job.id)]}) == []
    assert store.commit(first, {"b": [outcome(job.id)]}) == []
    assert len(store.commit(first, {"a": [outcome(job.id, 7.0), outcome(job.id, 8.0)]})) == 1
    assert store.commit(first, {"a": [outcome(job.id, 9.0)]}) == []
    (row,) = store.rows("done")
    assert row.label is not None and row.label.energy == 7.0 and row.versions == {"toy": "1"}
    assert len(store.attempts()) == 1
    (other,) = store.take(second, "c", 5)
    assert other.id != job.id and store.take(first, "d", 5) == []
    # given back by its master: not to be written any more
    store.leave(second)
    assert store.commit(second, {"c": [outcome(other.id)]}) == []
    assert store.counts().waiting == 1


def test_failures_are_counted_kept_and_tried_again(store, frames):
    store.add(frames(3), "toy")
    master = store.register()
    jobs = store.take(master, "a", 3)
    store.commit(master, {"a": [outcome(jobs[0].id), outcome(jobs[1].id, message="boom")]})
    assert store.failures() == {CRASHED: 1}
    assert next(store.rows("failed")).error == "boom"
    assert store.retry_failed("time limit") == 0
    assert store.retry_failed() == 1
    assert store.failures() == {} and len(store.attempts(jobs[1].id)) == 1
    (again,) = store.take(master, "b", 1)
    assert again.id == jobs[1].id
    store.commit(master, {"b": [outcome(again.id)]})
    assert [attempt.outcome for _, attempt in store.attempts(again.id)] == [CRASHED, DONE]


def test_a_job_that_takes_its_workers_along_fails_in_the_end(store, frames):
    store.add(frames(2), "toy")
    master = store.register()
    for k in range(LOSSES):
        jobs = store.take(master, f"s{k}", 2)
        assert [job.id for job in jobs] == [1, 2]
        store.release(master, f"s{k}", 1, "killed", time.time())
    assert (store.counts().failed, store.counts().waiting) == (1, 1)
    assert [attempt.outcome for _, attempt in store.attempts()] == [LOST] * LOSSES
    assert store.failures() == {LOST: 1}


MASTER = """
import sys, time
from heliodor.label.store import Store
from heliodor.label.packing import pack_label
from heliodor.label.drive import spool_of, work_folder
from heliodor.label.label import Label
from heliodor.label.shard import Attempt, Outcome, Spool, Started
store = Store(sys.argv[1])
jobs = store.take(store.register(), "shard", 3)
work_folder(store.path).mkdir()
spool = Spool(spool_of(store.path, "shard"))
spool.write(Started(jobs[0].id, time.time()))
attempt = Attempt(0, "done", "", time.time(), 1.0)
spool.write(Outcome(jobs[0].id, (attempt,), pack_label(Label(3.0)), 3.0, (("toy", "1"),)))
spool.write(Started(jobs[1].id, time.time()))
print("ready", flush=True)
time.sleep(60)
"""


def test_what_a_killed_master_left_is_taken_over(store, frames):
    store.add(frames(4), "toy")
    with subprocess.Popen([sys.executable, "-c", MASTER, str(store.path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        assert reap(store, 300.0) == 0
        assert store.counts().running == 3
        process.send_signal(signal.SIGKILL)
    assert reap(store, 300.0) == 1 and reap(store, 300.0) == 0
    counts = store.counts()
    assert (counts.done, counts.waiting, counts.running) == (1, 3, 0)
    assert [(job, attempt.outcome) for job, attempt in store.attempts()] == [(1, DONE), (2, LOST)]
    assert not list(work_folder(store.path).iterdir())


def test_a_master_of_another_machine_is_dead_when_it_is_silent(store, frames):
    store.add(frames(1), "toy")
    master = store.register()
    store.take(master, "s", 1)
    store._database.execute("UPDATE masters SET process='elsewhere/1/2 77 5', beat=?", (time.time() - 100.0,))
    assert store.dead(300.0) == [] and store.dead(50.0) == [master]
    reap(store, 50.0)
    assert store.counts().waiting == 1
    # it lived after all: it may go on, but what it had leased is gone
    store.beat(master)
    assert store.commit(master, {"s": [outcome(1)]}) == [] and store.dead(50.0) == []


def test_processes_are_known_by_more_than_their_number():
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        who = identity(process.pid)
        assert not gone(who)
        place, pid, started = who.split(" ")
        assert gone(f"{place} {pid} {int(started) - 1}")
        assert not gone(f"other {pid} {int(started) - 1}")
        process.kill()
    assert gone(who)


def test_a_torn_end_of_a_spool_is_not_read(tmp_path):
    path = tmp_path / "x.spool"
    spool = Spool(path)
    frames = [Started(1, 2.0), outcome(1), outcome(2, message="no")]
    for frame in frames:
        spool.write(frame)
    spool.close()
    whole = path.read_bytes()
    assert read_spool(path) == (frames, len(whole))
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        read, offset = read_spool(path)
        assert read == frames[: len(read)] and offset <= cut and len(read) < 3
    path.write_bytes(whole[:-1] + b"?")
    assert len(read_spool(path)[0]) == 2


@pytest.mark.parametrize(("version", "side"), [(0, "older"), (2, "newer")])
def test_a_store_of_another_version_is_refused_and_left_alone(tmp_path, frames, version, side):
    path = tmp_path / "labels.db"
    with Store(path) as store:
        store.add(frames(1), "toy")
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA user_version={version}")
    database.execute("PRAGMA journal_mode=DELETE")
    database.close()
    before = path.read_bytes()
    with pytest.raises(InputError, match=f"version {version}, from {side}"):
        Store(path)
    assert path.read_bytes() == before


def test_what_is_no_store_is_refused_and_left_alone(tmp_path):
    text = tmp_path / "text.db"
    text.write_text("a list of things to do\n" * 100)
    other = tmp_path / "other.db"
    database = sqlite3.connect(other)
    database.execute("CREATE TABLE things(x)")
    database.close()
    for path, words in ((text, "not a store"), (other, "another program"), (tmp_path, "a folder")):
        before = path.read_bytes() if path.is_file() else b""
        with pytest.raises(InputError, match=words):
            Store(path)
        assert not path.is_file() or path.read_bytes() == before
    with pytest.raises(InputError, match="no store"):
        open_store(tmp_path / "none.db")
    with pytest.raises(InputError, match="no folder"):
        Store(tmp_path / "none" / "labels.db")


def test_a_full_disk_is_one_error_and_nothing_committed_is_lost(store, frames):
    store.add(frames(100), "toy")
    (pages,) = store._database.execute("PRAGMA page_count").fetchone()
    store._database.execute(f"PRAGMA max_page_count={pages + 2}")
    with pytest.raises(StoreError, match=r"disk is full.*intact.*same command"):
        store.add(frames(1000, "C6H6"), "toy")
    assert store.counts().total == 100
    store._database.execute(f"PRAGMA max_page_count={2**30}")
    assert store.add(frames(150, "C6H6"), "toy").new == 150
    assert store._database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


FULL = """
import resource, sys
from ase.build import molecule
from heliodor.label.store import Store
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
store = Store(sys.argv[1])
for seed in range(100):
    frames = []
    for k in range(100):
        atoms = molecule("C6H6")
        atoms.rattle(0.05, seed=100 * seed + k)
        frames.append(atoms)
    try:
        store.add(frames, "toy")
    except Exception as error:
        print(type(error).__name__, store.counts().total)
        break
"""


def test_files_that_may_not_grow_are_a_full_disk(tmp_path):
    path = tmp_path / "labels.db"
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, timeout=100)
    word, number = done.stdout.split()
    assert word == "StoreError" and int(number) > 0 and int(number) % 100 == 0, done.stderr
    with open_store(path) as store:
        assert store.counts().total == int(number)


def test_readable_only(tmp_path, frames):
    if os.geteuid() == 0:
        pytest.skip("root may write everything")
    path = tmp_path / "labels.db"
    Store(path).close()
    path.chmod(0o444)
    with pytest.raises(StoreError, match="permission"), Store(path) as store:
        store.add(frames(1), "toy")


def test_spool_names_do_not_leave_the_folder(store):
    assert spool_of(store.path, "abc").parent == work_folder(store.path) == Path(f"{store.path}.work")
