"""Conversion: filters leave out what they say, and an interrupted one goes on to the same shelf."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from labelled_springs import spring_set

from heliodor.errors import InputError
from heliodor.train.data.conversion import Filters, convert, copy_to
from heliodor.train.data.reading import Source, Wanted, open_source
from heliodor.train.dataset import PER_ATOM, PER_STRUCTURE, Dataset, join, open_dataset


def source(path: Path, data: Dataset, fails_after: int | None = None) -> Source:
    """Blocks of ten, of which some number can be read before the power fails."""

    def blocks(skip: int) -> Iterator[Dataset]:
        for number, begin in enumerate(range(skip, len(data), 10)):
            if fails_after is not None and number == fails_after:
                raise KeyboardInterrupt
            yield data.take(range(begin, min(begin + 10, len(data))))

    path.touch()
    return Source(path, "test", (), data.method, len(data), blocks)


def made() -> Dataset:
    """Of 60 structures 4 is a repetition of 3, 17 has a strong force and 31 two close atoms."""
    data = spring_set("CH3OH", 60)
    data = data.take([0, 1, 2, 3, 3, *range(5, 60)])
    forces, positions = data.forces.copy(), data.positions.copy()
    forces[17 * 6 + 2, 1] = 30.0
    positions[31 * 6] = positions[31 * 6 + 1] + [0.0, 0.1, 0.0]
    return replace(data, forces=forces, positions=positions)


FILTERS = Filters(max_force=25.0, min_distance=0.25, drop_duplicates=True)
KEPT = [k for k in range(60) if k not in (4, 17, 31)]


def same(a: Dataset, b: Dataset) -> None:
    for name in (*PER_ATOM, *PER_STRUCTURE):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@pytest.mark.parametrize("name", ["out.shelf", "out.h5"])
def test_filters(tmp_path: Path, name: str) -> None:
    done = convert([source(tmp_path / "in", made())], tmp_path / name, FILTERS)
    assert (done.read, done.written) == (60, 57)
    assert done.dropped == {"force": 1, "distance": 1, "duplicate": 1}
    assert done.examples["force"] == [17] and done.examples["distance"] == [31]
    same(open_dataset(tmp_path / name), made().take(KEPT))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", name]


def test_goes_on(tmp_path: Path) -> None:
    """Stopped twice, the result is that of a run without interruption."""
    data, target = join([made(), spring_set("H2O", 25)]), tmp_path / "out.shelf"
    for after in (2, 3):
        with pytest.raises(KeyboardInterrupt):
            convert([source(tmp_path / "in", data, after)], target, FILTERS)
        assert not target.exists()
    with pytest.raises(InputError, match="unfinished work of another conversion"):
        convert([source(tmp_path / "in", data)], target)
    done = convert([source(tmp_path / "in", data)], target, FILTERS)
    assert (done.resumed, done.read, done.written) == (50, 85, 82)
    assert done.dropped == {"force": 1, "distance": 1, "duplicate": 1}
    same(open_dataset(target), data.take([*KEPT, *range(60, 85)]))


def test_refusals(tmp_path: Path) -> None:
    data = made()
    convert([source(tmp_path / "in", data)], tmp_path / "a.shelf")
    with pytest.raises(InputError, match="exists"):
        convert([source(tmp_path / "in", data)], tmp_path / "a.shelf")
    with pytest.raises(InputError, match=r"no structure is left of 60: 60 by force"):
        convert([source(tmp_path / "in", data)], tmp_path / "b.shelf", Filters(max_force=1e-6))
    assert not (tmp_path / "b.shelf.unfinished").exists()
    # what belongs to others is never replaced
    (tmp_path / "mine.shelf").mkdir()
    (tmp_path / "mine.shelf" / "thesis").touch()
    for target, words in (("mine.shelf", "no shelf"), ("in", "is a file"), ("mine.h5", "is a folder")):
        (tmp_path / "mine.h5").mkdir(exist_ok=True)
        with pytest.raises(InputError, match=words):
            convert([source(tmp_path / "in", data)], tmp_path / target, overwrite=True)
        with pytest.raises(InputError, match=words):
            copy_to(data, np.arange(3), tmp_path / target)
    assert (tmp_path / "mine.shelf" / "thesis").exists() and (tmp_path / "in").is_file()
    same(open_dataset(tmp_path / "a.shelf"), data)
    done = convert([source(tmp_path / "in", data.take([1]))], tmp_path / "a.shelf", overwrite=True)
    assert done.written == len(open_dataset(tmp_path / "a.shelf")) == 1


def test_refused_labels_leave_nothing_in_the_way(tmp_path: Path) -> None:
    """Once the file is mended, or --keep-nan given, the same target can be made."""
    text = "1\nProperties=species:S:1:pos:R:3 energy={}\nHe 0 0 0\n"
    path, target = tmp_path / "in.xyz", tmp_path / "out.shelf"
    path.write_text(text.format(-79.0) + text.format("nan"))
    with pytest.raises(InputError, match=r"structure 1 of .* not a finite number"):
        convert([open_source(path)], target)
    wanted = Wanted(keep_nan=True)
    assert convert([open_source(path, wanted)], target, wanted=wanted).written == 2
    np.testing.assert_array_equal(open_dataset(target).energy, [-79.0, np.nan])


def test_own_files_as_sources(tmp_path: Path) -> None:
    data = made()
    copy_to(data, np.arange(60)[::-1].copy(), tmp_path / "a.shelf", {"why": "backwards"})
    opened = open_dataset(tmp_path / "a.shelf")
    same(opened, data.take(range(59, -1, -1)))
    assert opened.notes["why"] == "backwards"
    convert([open_source(tmp_path / "a.shelf")], tmp_path / "b.h5")
    same(open_dataset(tmp_path / "b.h5"), opened)
