"""Structures written shard by shard: what was made before a kill stays made."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np

from heliodor.distil.structures.generate import Progress, items, make
from heliodor.distil.structures.recipe import Recipe, find_recipe
from heliodor.errors import InputError
from heliodor.train.dataset import Dataset, join

SHARD = 250
"""Items of a shard: about a thousand structures."""

NOTE = "recipe.json"


def write_structures(
    recipe: Recipe | str,
    path: str | Path,
    seed: int = 0,
    progress: Progress | None = None,
    *,
    worker: tuple[int, int] = (0, 1),
    shard: int = SHARD,
) -> list[Path]:
    """Write an unlabelled data set: one file, or a folder of shards.

    Shards that are there already are not made again. Items are dealt to the shards like cards, so that each shard is a
    small sample of the whole.

    Args:
        recipe: or the name of one of `PRESETS`.
        path: a folder for shards ``structures-0000.h5`` and so on; if it ends in ``.h5``, the one file in which they
            are joined at the end (until then they lie in ``<path>.parts``).
        seed: see `generate`.
        worker: (k, n): only every n-th shard from the k-th on, for n processes that share a folder.
        shard: items of one, about four structures each.

    Returns:
        The files of this worker.

    Raises:
        InputError: an unknown name, a folder begun with another recipe or seed, a disk that is full.
        MissingExtraError: RDKit or OpenMM is not installed.
    """
    chosen = find_recipe(recipe) if isinstance(recipe, str) else recipe
    path = Path(path)
    k, n = worker
    if not 0 <= k < n:
        raise InputError(f"worker {k} of {n} does not exist: they are counted from 0")
    if chosen.total == 0:
        raise InputError("the recipe asks for no structures")
    single = path.suffix == ".h5"
    if single and n > 1:
        raise InputError(f"{path} is one file: several workers write into a folder")
    folder = path.with_name(path.name + ".parts") if single else path
    if single and path.exists():
        raise InputError(f"{path} exists: choose another name, or delete it")
    work = items(chosen)
    pieces = max(1, -(-len(work) // max(1, shard)))
    _begin(folder, {"recipe": asdict(chosen), "seed": seed, "shards": pieces})
    files = []
    done, wanted = 0, sum(item.count for p in range(k, pieces, n) for item in work[p::pieces])
    for p in range(k, pieces, n):
        file = folder / f"structures-{p:04d}.h5"
        mine = work[p::pieces]
        if not file.exists():
            frames = []
            for item in mine:
                frames += make(item, seed)
                done += item.count
                if progress is not None:
                    progress(done, wanted)
            if frames:
                Dataset.from_atoms(frames).write(file)
        else:
            done += sum(item.count for item in mine)
            if progress is not None:
                progress(done, wanted)
        if file.exists():
            files.append(file)
    if not single:
        return files
    join([Dataset.read(file) for file in files]).write(path)
    for file in files:
        file.unlink()
    (folder / NOTE).unlink()
    folder.rmdir()
    return [path]


def read_structures(folder: str | Path) -> Dataset:
    """All shards of a folder as one data set.

    Raises:
        InputError: no shards, or a damaged one.
    """
    files = sorted(Path(folder).glob("structures-*.h5"))
    if not files:
        raise InputError(f"{folder} holds no structures-*.h5")
    return join([Dataset.read(file) for file in files])


def _begin(folder: Path, plan: dict[str, object]) -> None:
    """Write down what a folder is for, or refuse one that is for something else."""
    note = folder / NOTE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if note.exists():
            if json.loads(note.read_text()) != plan:
                raise InputError(
                    f"{folder} was begun with another recipe, seed or size of shards: choose another folder"
                )
            return
        # several workers may begin at once
        temporary = folder / f"{NOTE}.{os.getpid()}.{np.random.default_rng().integers(2**30)}"
        temporary.write_text(json.dumps(plan, indent=1))
        temporary.replace(note)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} cannot be written: {error}") from None
