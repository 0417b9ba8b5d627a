"""Shelves: what is committed stays, to the bit, whatever happens to the writer; nothing is loaded to be opened."""

from __future__ import annotations

import errno
import os
import signal
import time
import tracemalloc
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from labelled_springs import spring_set

from heliodor.errors import InputError
from heliodor.train.dataset import PER_ATOM, PER_STRUCTURE, Dataset, join, open_dataset
from heliodor.train.shelf import ShelfError, ShelfWriter, open_shelf


def same(a: Dataset, b: Dataset) -> None:
    np.testing.assert_array_equal(a.offsets, b.offsets)
    for name in (*PER_ATOM, *PER_STRUCTURE):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert a.method == b.method


def pieces() -> list[Dataset]:
    """Sizes, words and labels differ: the second has dipoles, which the first lacks, and no forces."""
    first, second, third = (spring_set(n, 5, seed=k) for k, n in enumerate(("CH3OH", "H2O", "NH3")))
    rng = np.random.default_rng(0)
    second = replace(second, dipole=rng.normal(size=(5, 3)), forces=np.full_like(second.forces, np.nan))
    return [first, replace(second, group=np.array(["wäter\n", "b", "", "b", "c"])), third]


def test_round_trip(tmp_path: Path) -> None:
    with ShelfWriter(tmp_path / "s.shelf") as shelf:
        for piece in pieces():
            shelf.append(piece)
        assert len(shelf) == 15
    whole = join(pieces())
    found = open_dataset(tmp_path / "s.shelf")
    same(found, whole)
    same(found.take([14, 0, 7]), whole.take([14, 0, 7]))
    # labels that nothing has are not stored
    assert not (tmp_path / "s.shelf" / "stress").exists()
    whole.write(tmp_path / "s.h5")
    same(open_dataset(tmp_path / "s.h5"), whole)


@pytest.mark.parametrize("at", range(18))
def test_stopped_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """A disk that fails at the n-th flush: the first piece is intact, and writing can go on."""
    path, (first, second, third) = tmp_path / "s.shelf", pieces()
    with ShelfWriter(path) as shelf:
        shelf.append(first)
        flushes, real = 0, os.fsync

        def fsync(descriptor: int) -> None:
            nonlocal flushes
            flushes += 1
            if flushes > at:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        with suppress(ShelfError):
            shelf.append(second)
        monkeypatch.undo()
        written = len(shelf)
        assert written in (5, 10)
        same(open_shelf(path), join(pieces()[: written // 5]))
        shelf.append(third)
    same(open_shelf(path), join([first, third] if written == 5 else [first, second, third]))


def test_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ShelfWriter(tmp_path / "s.shelf") as shelf:
        shelf.append(pieces()[0])

        def fsync(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(ShelfError, match="no space left on device; the 5 structures written before are intact"):
            shelf.append(pieces()[1])


def test_tails_are_cut(tmp_path: Path) -> None:
    """What a killed writer left behind the committed part is not read, and gone after the next block."""
    path, (first, second, third) = tmp_path / "s.shelf", pieces()
    with ShelfWriter(path) as shelf:
        shelf.append(first)
    for file in path.iterdir():
        if file.name != "shelf.json":
            with file.open("ab") as opened:
                opened.write(b"\x07" * 13)
    (path / "dipole").write_bytes(b"rest of a label that was never committed")
    same(open_shelf(path), first)
    with ShelfWriter(path) as shelf:
        shelf.append(second)
        shelf.append(third)
    same(open_shelf(path), join([first, second, third]))


def test_killed_writer(tmp_path: Path) -> None:
    """kill -9 in the middle of writing, again and again."""
    path, piece = tmp_path / "s.shelf", pieces()[0]
    for _ in range(4):
        before = len(open_shelf(path)) if path.exists() else 0
        child = os.fork()
        if child == 0:
            with ShelfWriter(path) as shelf:
                while True:
                    shelf.append(piece)
        deadline = time.monotonic() + 20.0
        while time.monotonic() < deadline:
            time.sleep(0.03)
            if (path / "shelf.json").exists() and len(open_shelf(path)) > before:
                break
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found = open_shelf(path)
        assert len(found) > before and len(found) % 5 == 0
        same(found.take(range(len(found) - 5, len(found))), piece)


def test_damage_is_told(tmp_path: Path) -> None:
    path = tmp_path / "s.shelf"
    with ShelfWriter(path) as shelf:
        shelf.append(pieces()[0])
        with pytest.raises(InputError, match="another process"):
            ShelfWriter(path)
        with pytest.raises(InputError, match="labels by springs"):
            shelf.append(replace(pieces()[1], method="other"))
    os.truncate(path / "forces", 100)
    with pytest.raises(InputError, match="forces is damaged: it has 100 bytes"):
        open_shelf(path)
    with pytest.raises(InputError, match="damaged"):
        ShelfWriter(path)
    with pytest.raises(InputError, match="there is no shelf"):
        open_dataset(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("")
    with pytest.raises(InputError, match="other things"):
        ShelfWriter(tmp_path / "other")


def test_nothing_is_loaded(tmp_path: Path) -> None:
    """Opening, and reading shuffled batches, takes a small part of the memory that the set would."""
    block = spring_set("CH3CH2OH", 100)
    many = block.take(np.tile(np.arange(100), 50))
    with ShelfWriter(tmp_path / "s.shelf") as shelf:
        for _ in range(8):
            shelf.append(many)
    size = sum(file.stat().st_size for file in (tmp_path / "s.shelf").iterdir())
    tracemalloc.start()
    data = open_shelf(tmp_path / "s.shelf")
    order = np.random.default_rng(0).permutation(len(data))
    for begin in range(0, 2000, 20):
        batch = data.take(order[begin : begin + 20])
        np.testing.assert_array_equal(batch.energy, block.energy[order[begin : begin + 20] % 100])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(data) == 40_000
    assert peak < 0.12 * size
