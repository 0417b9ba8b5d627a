"""Writing structures: shards, workers, restarts; the teacher's own dynamics."""

from __future__ import annotations

from pathlib import Path

import ase
import numpy as np
import pytest

import heliodor
from heliodor.distil.structures import Recipe, generate, items, read_structures, teacher_dynamics, write_structures
from heliodor.errors import InputError
from heliodor.topology import bonds_by_distance
from heliodor.train.dataset import Dataset

RECIPE = Recipe(grown=20, dimers=8, water_clusters=8)


def sorted_rows(data: Dataset) -> list[tuple[str, bytes]]:
    return sorted((str(data.origin[k]), data.positions[data.span(k)].tobytes()) for k in range(len(data)))


def test_workers_together_make_the_whole(tmp_path: Path) -> None:
    whole = write_structures(RECIPE, tmp_path / "whole.h5", 3)
    assert whole == [tmp_path / "whole.h5"] and not (tmp_path / "whole.h5.parts").exists()
    for k in (1, 0, 2):
        write_structures(RECIPE, tmp_path / "parts", 3, worker=(k, 3), shard=2)
    parts = read_structures(tmp_path / "parts")
    one = Dataset.read(whole[0])
    assert len(one) == sum(len(atoms.numbers) > 0 for atoms in generate(RECIPE, 3)) > 30
    assert sorted_rows(one) == sorted_rows(parts)
    assert np.isnan(one.energy).all() and set(one.kind) == {"molecule", "dimer", "water cluster"}
    assert all(one.group) and all(one.origin)


def test_a_killed_run_goes_on_and_loses_one_shard(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    told = []

    def stop(done: int, wanted: int) -> None:
        told.append((done, wanted))
        if done >= 20:
            raise Killed

    with pytest.raises(Killed):
        write_structures(RECIPE, tmp_path / "set", 3, stop, shard=2)
    there = {file: file.stat().st_mtime_ns for file in (tmp_path / "set").glob("*.h5")}
    assert len(there) >= 1 and told[-1][1] == RECIPE.total
    files = write_structures(RECIPE, tmp_path / "set", 3, shard=2)
    assert all(file.stat().st_mtime_ns == when for file, when in there.items())
    assert len(files) == -(-len(items(RECIPE)) // 2)
    other = write_structures(RECIPE, tmp_path / "again", 3, shard=2)
    assert sorted_rows(read_structures(tmp_path / "set")) == sorted_rows(read_structures(tmp_path / "again"))
    assert [f.name for f in files] == [f.name for f in other]


def test_a_folder_is_for_one_recipe_and_seed(tmp_path: Path) -> None:
    few = Recipe(grown=2)
    write_structures(few, tmp_path / "set", 1)
    with pytest.raises(InputError, match="another recipe, seed"):
        write_structures(few, tmp_path / "set", 2)
    with pytest.raises(InputError, match="counted from 0"):
        write_structures(few, tmp_path / "set", 1, worker=(2, 2))
    with pytest.raises(InputError, match="asks for no structures"):
        write_structures(Recipe(), tmp_path / "none", 1)
    write_structures(few, tmp_path / "one.h5", 1)
    with pytest.raises(InputError, match="exists"):
        write_structures(few, tmp_path / "one.h5", 1)
    with pytest.raises(InputError, match="no structures-"):
        read_structures(tmp_path)


def test_the_teachers_dynamics_keep_bonds_groups_and_calm_frames() -> None:
    teacher = heliodor.load("heliodor-mini")
    starts = [atoms for atoms in generate(Recipe(drug_like=8, lipids=4), 5) if 5 < len(atoms) < 18][:4]
    settings = {"keep": 2, "frames": 2, "temperatures": (300.0, 600.0), "every": 5.0, "seed": 1}
    found = teacher_dynamics(teacher, starts, **settings)  # type: ignore[arg-type]
    assert len(starts) <= len(found) <= 2 * len(starts)
    by_group = {atoms.info["group"]: atoms for atoms in starts}
    for atoms in found:
        start = by_group[atoms.info["group"]]
        assert np.array_equal(bonds_by_distance(atoms), bonds_by_distance(start))
        assert not np.allclose(atoms.positions, start.positions, atol=1e-3)
        assert np.linalg.norm(heliodor.evaluate(teacher, atoms).forces, axis=1).max() <= 15.0
        assert "teacher dynamics" in atoms.info["origin"] and "start" not in atoms.info
    again = teacher_dynamics(teacher, starts, **settings)  # type: ignore[arg-type]
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(found, again, strict=True))
    assert teacher_dynamics(teacher, starts, largest_force=1e-6, **settings) == []  # type: ignore[arg-type]


def test_the_teachers_dynamics_of_a_box() -> None:
    teacher = heliodor.load("heliodor-mini")
    box: ase.Atoms = next(iter(generate(Recipe(water_boxes=1), 5)))
    found = teacher_dynamics(teacher, [box], keep=2, frames=2, temperatures=(300.0,), every=2.0)
    assert len(found) == 2 and all(atoms.pbc.all() for atoms in found)
    assert np.array_equal(found[0].cell, box.cell) and not np.allclose(found[0].positions, found[1].positions)


def test_teacher_dynamics_refuse_nonsense() -> None:
    teacher = heliodor.load("heliodor-mini")
    for wrong in ({"keep": 0}, {"step": 0.0}, {"temperatures": ()}, {"largest_force": 0.0}):
        with pytest.raises(InputError):
            teacher_dynamics(teacher, [], **wrong)  # type: ignore[arg-type]
