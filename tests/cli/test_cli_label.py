"""heliodor label: what it prints, writes and refuses."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import ase
import ase.io
import pytest
from ase.build import molecule

from heliodor.label.store import open_store
from heliodor.train.dataset import Dataset

pytest.importorskip("tblite")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def write_structures(number: int = 4) -> Path:
    frames = []
    for name in ("H2O", "CH3OH", "C6H6"):
        for seed in range(number):
            atoms = molecule(name)
            atoms.rattle(0.05, seed=seed)
            atoms.info |= {"kind": "bottom-up", "group": name}
            frames.append(atoms)
    # an electron too few
    frames.insert(2, ase.Atoms("H", info={"kind": "odd"}))
    ase.io.write("some.extxyz", frames)
    return Path("some.extxyz")


def test_from_structures_to_labels(cli):
    path = write_structures()
    first = cli("label", path, "--dry-run", "--json")
    estimate = json.loads(first.out)
    assert first.code == 0 and not Path("labels.db").exists()
    assert (estimate["structures"], estimate["to_do"], estimate["atoms"]) == (13, 13, 4 * (3 + 6 + 12) + 1)
    assert 0 < estimate["seconds_per_job"] < 5 and 1000 < estimate["disk_bytes"] < 100_000

    done = cli(
        "label", path, "--workers", 1, "--memory", "2 GB", "--time-limit", "1 min", "-o", "labelled.h5", "--json"
    )
    record = json.loads(done.out)
    assert done.code == 0 and (record["done"], record["failed"]) == (12, 1)
    assert record["failures"] == {"refused": 1} and record["output"]["failed"] == 1
    data = Dataset.read("labelled.h5")
    assert (
        len(data) == 12
        and data.method == "gfn2"
        and data.group.tolist() == sorted(data.group, key=["H2O", "CH3OH", "C6H6"].index)
    )
    # of water, by GFN2-xTB: near the bottom of its well
    assert data.energy[0] == pytest.approx(-5.07 * 27.2114, abs=0.5)

    status = cli("label", "status", "labels.db")
    assert "13: 12 done, 1 failed" in status.out and "1 refused: gfn2" in status.out
    assert json.loads(cli("label", "status", "labels.db", "--json").out)["jobs"]["done"] == 12
    # all is known: nothing is done again
    again = json.loads(cli("label", path, "--json").out)
    assert again["done"] == again["failed"] == 0
    assert "0 are new" in cli("label", path, "--dry-run").out

    assert "time limit" not in cli("label", "retry-failed", "labels.db").out
    assert cli("label", "status", "labels.db").out.count("1 waiting") == 1
    exported = cli("label", "export", "labels.db", "-o", "labelled.extxyz")
    assert exported.code == 0 and "12 structures; left out: 1 waiting" in exported.out
    assert len(ase.io.read("labelled.extxyz", ":")) == 12
    # a data set is as good as a file of structures
    assert "12, of which 0 are new" in cli("label", "labelled.h5", "--dry-run").out


def test_ctrl_c_and_the_same_command_again(cli):
    path = write_structures(80)
    with subprocess.Popen(
        [sys.executable, "-m", "heliodor", "label", "some.extxyz", "--workers", "1"], stderr=subprocess.PIPE, text=True
    ) as process:
        end = time.monotonic() + 60.0
        while not (Path("labels.db").exists() and done() > 10):
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGINT)
        _, words = process.communicate(timeout=60)
    assert process.returncode == 130, words
    assert "goes on from there" in words and "Traceback" not in words
    before = done()
    assert 10 < before < 240
    again = json.loads(cli("label", path, "--workers", "1", "--json").out)
    assert again["done"] == 240 - before and again["jobs"]["done"] == 240


def done() -> int:
    try:
        with open_store("labels.db") as store:
            return store.counts().done
    except sqlite3.OperationalError:
        return 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("label",), None),
        (("label", "none.xyz"), "no file"),
        (("label", "--store", "none.db"), "no structures to label and no store"),
        (("label", "water.xyz", "--method", "gfn3"), "no method 'gfn3'"),
        (("label", "water.xyz", "--memory", "much"), "amount of memory"),
        (("label", "water.xyz", "--time-limit", "5"), "as a time"),
        (("label", "water.xyz", "--executor", "slurm"), "local or parsl"),
        (("label", "water.xyz", "--executor", "local", "--config", "x.yaml"), "--config is for"),
        (("label", "water.xyz", "--config", "x.yaml"), "x.yaml cannot be read"),
        (("label", "water.xyz", "-o", "x.csv"), "end it in .h5"),
        (("label", "water.xyz", "-o", "water.xyz"), "exists already"),
        (("label", "water.xyz", "--store", "water.xyz"), "not a store"),
        (("label", "status", "none.db"), "no store"),
        (("label", "export", "none.db"), "no store"),
        (("label", "retry-failed", "none.db"), "no store"),
    ],
)
def test_what_cannot_be(cli, water, words, message):
    answer = cli(*words)
    if message is None:
        assert answer.code == 0 and "retry-failed" in answer.out
        return
    assert answer.code == 2 and message in answer.error
    assert not Path("labels.db").exists() and not Path("none.db").exists()


def test_a_store_of_another_version(cli, water):
    from heliodor.label.store import Store

    Store("labels.db").close()
    database = sqlite3.connect("labels.db")
    database.execute("PRAGMA user_version=99")
    database.close()
    for words in (("label", "water.xyz"), ("label", "status", "labels.db"), ("label", "water.xyz", "--dry-run")):
        answer = cli(*words)
        assert answer.code == 2 and "store of version 99" in answer.error
