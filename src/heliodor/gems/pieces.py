"""Small molecules from all connected pieces of the bonded graph, in many geometries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import ase

from heliodor.errors import HeliodorError, InputError
from heliodor.fragments.bottom_up import Amon, bottom_up, molecules
from heliodor.fragments.embed import embed, seed_of
from heliodor.fragments.graph_of import graph_of
from heliodor.fragments.normal_modes import sample_normal_modes
from heliodor.fragments.short_dynamics import sample_dynamics
from heliodor.fragments.skeleton import without_metals
from heliodor.fragments.solvent import water_clusters, with_waters
from heliodor.gems.config import BottomUpChoices, Config
from heliodor.gems.together import pool
from heliodor.train.dataset import Dataset, join

MODEL = "model:"
"""In front of a model's name where a label method could stand."""

TEACHER = "teacher:"
"""The same of label methods."""

WATERS = 4
"""Largest cluster of water that goes with fragments with water."""

WITH_WATERS = (1, 2, 3)
"""Waters beside a fragment, in turn."""


def amons_of(system: ase.Atoms, choices: BottomUpChoices) -> tuple[Amon, ...]:
    """The pieces, each molecule once; ions of metals that these cannot hold are left to those cut top-down."""
    if not choices.max_heavy:
        return ()
    graph = graph_of(system)
    return molecules(bottom_up(without_metals(graph), choices.max_heavy, every_kekule=True))


def weights(name: str) -> dict[str, str]:
    """What a model behind the name of a method or sampler is known by, for keys; nothing of other methods."""
    kind, _, model = name.partition(":")
    if f"{kind.strip().lower()}:" not in (MODEL, TEACHER):
        return {}
    from heliodor.label.teacher import weights_of

    return {"weights": weights_of(model)}


def sample_all(
    folder: Path, amons: Sequence[Amon], config: Config, tell: Callable[[str, int, int], None]
) -> tuple[Dataset, dict[str, Any]]:
    """Geometries of all pieces; each is kept in a file when it is done, so that nothing is done twice.

    Raises:
        HeliodorError: not a single geometry, or a process that was killed.
    """
    choices = config.bottom_up
    place = folder / "bottom-up"
    place.mkdir(parents=True, exist_ok=True)
    model = weights(choices.sampler)
    jobs = {amon.smiles: place / f"{_digest(amon.smiles, choices, config.seed, model)}.h5" for amon in amons}
    if choices.waters:
        jobs[""] = place / f"{_digest('water clusters', choices, config.seed, model)}.h5"
    left = [(smiles, path) for smiles, path in jobs.items() if not path.is_file()]
    failed: dict[str, str] = {}
    if left:
        failed = _in_processes(left, choices, config.seed, config.workers, len(jobs), tell)
    parts = [Dataset.read(path) for path in jobs.values() if path.is_file()]
    if not parts:
        raise HeliodorError(f"no bottom-up fragment could be built: {next(iter(failed.values()))}")
    made = join(parts)
    return made, {"graphs": len(amons), "structures": len(made), "graphs_failed": len(failed)}


def _in_processes(
    left: Sequence[tuple[str, Path]],
    choices: BottomUpChoices,
    seed: int,
    workers: int,
    total: int,
    tell: Callable[[str, int, int], None],
) -> dict[str, str]:
    """Reasons of those that failed, by SMILES."""
    failed: dict[str, str] = {}
    done = total - len(left)
    try:
        with pool(min(workers, len(left))) as processes:
            waiting = {
                processes.submit(sample_one, smiles, path, choices, seed_of(smiles, seed)): smiles
                for smiles, path in left
            }
            for future in as_completed(waiting):
                done += 1
                tell("geometries of bottom-up fragments", done, total)
                try:
                    future.result()
                except InputError as error:
                    failed[waiting[future]] = str(error)
    except BrokenProcessPool:
        raise HeliodorError("a process that sampled fragments was killed: start the same command again") from None
    return failed


def _digest(smiles: str, choices: BottomUpChoices, seed: int, model: dict[str, str]) -> str:
    kept = {name: value for name, value in asdict(choices).items() if name not in ("max_heavy", "structures")}
    return hashlib.sha256(json.dumps([smiles, kept | model, seed]).encode()).hexdigest()[:24]


@lru_cache(maxsize=1)
def source_of(name: str) -> Any:
    """A model or a label method, loaded once in each process."""
    import torch

    torch.set_num_threads(1)
    if name.startswith(MODEL):
        from heliodor.api import load

        return load(name.removeprefix(MODEL), device="cpu", dtype="float64")
    from heliodor.label.methods import find_method

    return find_method(name)


def check_sampler(name: str) -> None:
    """Find out whether there is such a model, or such a file.

    Raises:
        InputError: there is none.
    """
    from heliodor.api import load

    if Path(name.removeprefix(MODEL)).is_file():
        return
    try:
        load(name.removeprefix(MODEL), device="cpu")
    except HeliodorError as error:
        raise InputError(f"bottom_up.sampler: {error}") from None


def sample_one(smiles: str, path: Path, choices: BottomUpChoices, seed: int) -> None:
    """All geometries of one piece, into a file; of no SMILES clusters of water."""
    source = source_of(choices.sampler)
    starts = embed(smiles, choices.conformers, seed) if smiles else water_clusters(WATERS, choices.waters, seed=seed)
    frames = list(starts) if smiles else []
    for k, start in enumerate(starts):
        if len(start) > 1 and choices.modes:
            frames += sample_normal_modes(
                start,
                source,
                choices.modes * len(choices.mode_temperatures),
                temperatures=choices.mode_temperatures,
                relax=len(start) > 2,
                seed=seed_of(seed, "modes", k),
            ).frames
    if choices.dynamics and choices.dynamics_temperatures:
        moving = [start for start in starts if len(start) > 1]
        if moving:
            frames += sample_dynamics(
                moving,
                source,
                temperatures=choices.dynamics_temperatures,
                frames=choices.dynamics,
                seed=seed_of(seed, "dynamics"),
            ).frames
    if choices.waters and smiles:
        frames += with_waters(starts[0], WITH_WATERS, choices.waters, seed=seed_of(seed, "waters"))
    Dataset.from_atoms(frames).write(path)
