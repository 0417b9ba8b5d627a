"""Training of the force field, and of the one without top-down fragments, side by side."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import numpy as np
from jaxtyping import Bool

from heliodor.dynamics.files.storage import put_in_place
from heliodor.errors import HeliodorError, InputError
from heliodor.gems.config import Config, ModelChoices
from heliodor.gems.together import end_with_parent
from heliodor.label.label import Label
from heliodor.train.dataset import Dataset
from heliodor.train.models import new_model
from heliodor.train.settings import TrainSettings
from heliodor.train.state import fingerprint
from heliodor.train.trainer import train

KINDS = ("bottom-up", "top-down")

VALIDATION = 0.05
"""Share of each kind that the training watches, whole groups of it."""

DEFAULT_TIME = "30 min"
"""Of each training that says neither how long nor how many epochs."""

POLL = 1.0
"""Seconds between looks at the processes."""


@dataclass(frozen=True)
class Fit:
    """One training.

    Attributes:
        name: of the model's file and of the folder of its training.
        kinds: of structures it learns from.
    """

    name: str
    kinds: tuple[str, ...]


def fits(config: Config) -> tuple[Fit, ...]:
    """The trainings a configuration asks for."""
    wanted = [Fit("model", KINDS)]
    both = config.bottom_up.max_heavy > 0 and config.top_down.structures > 0
    if both and config.validate.without_top_down:
        wanted.append(Fit("model-bottom-up", KINDS[:1]))
    return tuple(wanted)


def check_model(choices: ModelChoices) -> None:
    """Make a model of water, which is quick, to find out whether one can be made.

    Raises:
        InputError: an unknown architecture or size.
    """
    water = ase.Atoms("OH2", positions=[[0.0, 0.0, 0.12], [0.0, 0.76, -0.47], [0.0, -0.76, -0.47]])
    sample = Dataset.from_atoms([water, water], [Label(energy=0.0), Label(energy=0.0)])
    new_model(choices.architecture, choices.size, (1, 8), sample)


def split(labelled: Dataset, kinds: tuple[str, ...], seed: int) -> tuple[Dataset, Dataset]:
    """Structures to train on and to watch, of some kinds; no group is in both.

    Raises:
        InputError: too few labelled structures.
    """
    random = np.random.default_rng(seed)
    training, watching = [], []
    good = np.isfinite(labelled.energy)
    for kind in kinds:
        mine = np.flatnonzero(good & (labelled.kind == kind))
        watched = _watched(labelled.group[mine], random)
        training += mine[~watched].tolist()
        watching += mine[watched].tolist()
    if len(training) < 2 or not watching:
        raise InputError(
            f"{len(training)} labelled structures are too few to train on and to watch: see 'heliodor label status' "
            "for failed labels, or ask for more fragments"
        )
    return labelled.take(training), labelled.take(watching)


def _watched(groups: np.ndarray, random: np.random.Generator) -> Bool[np.ndarray, "n"]:
    """Which structures are watched: whole groups, about `VALIDATION` of all, never everything."""
    if len(np.unique(groups)) < 2:
        groups = np.arange(len(groups))
    names, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    room = max(VALIDATION * len(groups), sizes.min(initial=len(groups)))
    taken = np.zeros(len(names), dtype=bool)
    for k in random.permutation(len(names)):
        if sizes[k] <= room:
            taken[k] = True
            room -= sizes[k]
    found: np.ndarray = taken[inverse]
    return found


def fit_all(folder: Path, config: Config, tell: Callable[[str, int, int], None]) -> dict[str, Any]:
    """Train all models, each in a process of its own; what was killed is taken up.

    Returns:
        What each training came to, as ``<name>: <what>``.

    Raises:
        HeliodorError: a training failed.
    """
    wanted = fits(config)
    context = multiprocessing.get_context("spawn")
    at_once = min(len(wanted), config.workers)
    threads = max(1, (os.cpu_count() or 1) // at_once)
    queue: Any = context.Queue()
    waiting = list(wanted)
    running: dict[str, Any] = {}
    results: dict[str, Any] = {}
    parts: dict[str, tuple[str, float]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                one = waiting.pop(0)
                process = context.Process(target=_fit, args=(folder, config, one, threads, queue), daemon=True)
                process.start()
                running[one.name] = process
            _hear(queue, parts, results)
            for name, process in list(running.items()):
                if process.is_alive():
                    continue
                process.join()
                _hear(queue, parts, results)
                del running[name]
                if not isinstance(results.get(name), dict):
                    told = results.get(name) or f"the process ended with code {process.exitcode}"
                    raise HeliodorError(f"training of {name} failed: {told}; start the same command again to go on")
            if parts:
                share = sum(part for _, part in parts.values()) / len(wanted)
                tell(
                    "; ".join(f"{name}: {words}" for name, (words, _) in sorted(parts.items())), int(1000 * share), 1000
                )
            time.sleep(POLL)
    finally:
        for process in running.values():
            process.terminate()
    return {f"{name}: {what}": value for name, facts in results.items() for what, value in facts.items()}


def _hear(queue: Any, parts: dict[str, tuple[str, float]], results: dict[str, Any]) -> None:
    while not queue.empty():
        kind, name, value = queue.get()
        if kind == "part":
            parts[name] = value
        else:
            results[name] = value


def _fit(folder: Path, config: Config, one: Fit, threads: int, queue: Any) -> None:
    """In a process of its own."""
    import torch

    end_with_parent()

    torch.set_num_threads(threads)
    try:
        facts = fit(folder, config, one, lambda words, part: queue.put(("part", one.name, (words, part))))
        queue.put(("result", one.name, dict(facts)))
    except HeliodorError as error:
        queue.put(("result", one.name, str(error)))


def fit(folder: Path, config: Config, one: Fit, tell: Callable[[str, float], None]) -> Mapping[str, Any]:
    """One training, from ``labelled.h5`` to ``<name>.safetensors``; goes on where it was killed.

    Returns:
        Numbers of structures, steps, seconds, and the errors on the structures it watched.
    """
    labelled = Dataset.read(folder / "labelled.h5")
    settings = train_settings(config, one)
    training, watching = split(labelled, one.kinds, settings.seed)
    model = new_model(config.model.architecture, config.model.size, labelled.elements, training)
    # a training of other data or settings stays where it is
    place = folder / "training" / f"{one.name}-{fingerprint(model, training, watching, settings)[:10]}"
    place.parent.mkdir(exist_ok=True)
    result = train(model, training, watching, place, settings, lambda part, words: tell(words, part))
    for made, name in ((result.path, f"{one.name}.safetensors"), (place / "curves.png", f"{one.name}-curves.png")):
        part = folder / f"{name}.part"
        shutil.copyfile(made, part)
        put_in_place(part, folder / name)
    return {
        "trained_on": len(training),
        "steps": result.steps,
        "seconds": round(result.seconds),
        "skipped_batches": len(result.skipped),
        "errors": result.errors,
    }


def train_settings(config: Config, one: Fit) -> TrainSettings:
    """As the configuration says, each kind of structure drawn equally often unless it says otherwise.

    Raises:
        InputError: misspelt or impossible settings.
    """
    shares = {"kind_shares": {kind: 1.0 / len(one.kinds) for kind in one.kinds}} if len(one.kinds) > 1 else {}
    given = dict(config.train)
    if len(one.kinds) == 1:
        # shares of kinds that this training does not see mean nothing
        given.pop("kind_shares", None)
    length = {} if given.get("time") or given.get("epochs") else {"time": DEFAULT_TIME}
    return TrainSettings.from_mapping({**length, "seed": config.seed, **shares, **given}, where="train: ")
