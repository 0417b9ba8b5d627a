"""The way from a molecule to its force field, in stages.

Unke, Stöhr, Ganscha, Unterthiner, Maennel, Kashubin, Ahlin, Gastegger, Medrano Sandonas, Berryman, Tkatchenko &
Müller, Biomolecular dynamics with machine-learned quantum-mechanical force fields trained on diverse chemical
fragments (GEMS), Sci. Adv. 10, eadn4397 (2024).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np

from heliodor.errors import InputError, suggestion
from heliodor.fragments.embed import seed_of
from heliodor.gems import cooperativity, fit, judge, labels, pieces, snapshots, trial
from heliodor.gems.choose import choose
from heliodor.gems.config import Config
from heliodor.gems.molecule import Source, build_system, read_source
from heliodor.label.label import LabelError
from heliodor.label.methods import find_method
from heliodor.stages import Record, Stage, Tell, run_stages
from heliodor.train.dataset import Dataset
from heliodor.units import parse_time

Say = Callable[[str, int, int], None]


def make_force_field(
    source: str | Path | ase.Atoms,
    folder: str | Path,
    config: Config | None = None,
    *,
    until: str | None = None,
    tell: Tell = lambda stage, what, done, of: None,
) -> dict[str, Record]:
    """Make a force field for one molecule: fragments, labels, training, validation, a short run, and a page about it.

    Stages whose inputs have not changed are skipped, and what was killed goes on, when called again.

    Args:
        source: a sequence such as "AceAla15Nme", a PDB or mmCIF file, or a structure with all hydrogens.
        folder: gets ``model.safetensors``, ``report.html``, ``labels.db``, ``labelled.h5`` and all between.
        until: name of the last stage to be done.
        tell: called as the work goes on.

    Returns:
        The record of each stage.

    Raises:
        InputError: what cannot be read, prepared, cut or labelled; choices that mean nothing.
        HeliodorError: a stage that failed; the same call goes on from there.
        MissingExtraError: a package is missing.
    """
    wanted = stages(read_source(source), Path(folder), config or Config())
    if until is not None:
        names = [stage.name for stage in wanted]
        if until not in names:
            raise InputError(f"there is no stage {until!r}{suggestion(until, names)}; they are {', '.join(names)}")
        wanted = wanted[: names.index(until) + 1]
    return run_stages(wanted, Path(folder), tell)


def stages(source: Source, folder: Path, config: Config) -> list[Stage]:
    """All stages a configuration asks for, in order."""
    check(config)
    bottom, top = config.bottom_up.max_heavy > 0, config.top_down.structures > 0
    models = tuple(f"{one.name}{end}" for one in fit.fits(config) for end in (".safetensors", "-curves.png"))
    found = [
        Stage(
            "prepare",
            "building the molecule",
            (),
            {"source": source.digest, "choices": asdict(config.system), "seed": config.seed},
            ("system.xyz",),
            lambda say: _prepare(source, folder, config, say),
        ),
        Stage(
            "snapshots",
            "taking snapshots of the whole molecule",
            ("prepare",),
            {"choices": asdict(config.snapshots), "seed": config.seed} | _file_of(config.snapshots.trajectory),
            ("snapshots.h5",),
            lambda say: _snapshots(folder, config, say),
        ),
    ]
    if bottom:
        settings = {k: v for k, v in asdict(config.bottom_up).items() if k != "structures"}
        found.append(
            Stage(
                "bottom-up",
                "building small pieces",
                ("prepare",),
                {"choices": settings, "seed": config.seed} | pieces.weights(config.bottom_up.sampler),
                ("bottom-up.h5",),
                lambda say: _bottom_up(folder, config, say),
            )
        )
    if top:
        settings = {k: v for k, v in asdict(config.top_down).items() if k not in ("structures", "held_out")}
        found.append(
            Stage(
                "top-down",
                "cutting large pieces",
                ("prepare", "snapshots"),
                {"choices": settings, "seed": config.seed},
                ("top-down.h5",),
                lambda say: _top_down(folder, config, say),
            )
        )
    found += [
        Stage(
            "select",
            "choosing what is labelled",
            ("snapshots", *(("bottom-up",) if bottom else ()), *(("top-down",) if top else ())),
            {
                "bottom_up": config.bottom_up.structures,
                "top_down": [config.top_down.structures, config.top_down.held_out],
                "whole": [config.validate.whole, config.validate.whole_atoms],
                "seed": config.seed,
            },
            ("chosen.h5",),
            lambda say: _select(folder, config, say),
        ),
        Stage(
            "label",
            "quantum chemistry",
            ("select",),
            {"method": config.label.method} | _limits(config) | pieces.weights(config.label.method),
            ("labelled.h5",),
            lambda say: _label(folder, config, say),
        ),
        Stage(
            "train",
            "training",
            ("label",),
            {
                "model": asdict(config.model),
                "trainings": [[one.name, fit.train_settings(config, one).to_dict()] for one in fit.fits(config)],
            },
            models,
            lambda say: fit.fit_all(folder, config, say),
        ),
    ]
    if config.validate.helix is not None:
        found.append(
            Stage(
                "helix",
                "quantum chemistry of helices",
                (),
                {
                    "sequence": config.validate.helix,
                    "lengths": config.validate.lengths,
                    "relax": config.validate.relax,
                    "method": config.label.method,
                }
                | pieces.weights(config.label.method),
                cooperativity.OUTPUTS,
                lambda say: cooperativity.label_series(folder, config, say),
            )
        )
    helix = ("helix",) if config.validate.helix is not None else ()
    found.append(
        Stage(
            "validate",
            "holding it against what it has not seen",
            ("label", "train", *helix),
            {"held_out": "as labelled"},
            ("validation.json",),
            lambda say: judge.judge(folder, config, say),
        )
    )
    if _trial_wanted(config):
        found += [
            Stage(
                "simulate",
                "a short run",
                ("prepare", "train"),
                {"choices": asdict(config.simulate), "seed": config.seed},
                ("run.h5",),
                lambda say: _simulate(folder, config, say),
            ),
            Stage(
                "report",
                "writing the page",
                ("label", "train", "validate", "simulate"),
                {"source": source.words},
                ("report.html",),
                lambda say: _report(folder, source.words, config, say),
            ),
        ]
    return found


def check(config: Config) -> None:
    """Refuse at once what would be refused after hours.

    Raises:
        InputError: unknown method, architecture, setting of the training, or time.
    """
    wanted = [config.label.method]
    if config.bottom_up.max_heavy and not config.bottom_up.sampler.startswith(pieces.MODEL):
        wanted.append(config.bottom_up.sampler)
    for name in wanted:
        try:
            find_method(name)
        except LabelError as error:
            raise InputError(str(error)) from None
    labels.limits(config.label)
    fit.check_model(config.model)
    if config.bottom_up.max_heavy and config.bottom_up.sampler.startswith(pieces.MODEL):
        pieces.check_sampler(config.bottom_up.sampler)
    for one in fit.fits(config):
        fit.train_settings(config, one)
    parse_time(config.snapshots.time)
    parse_time(config.snapshots.every)
    if config.label.executor not in ("local", "parsl"):
        raise InputError(f"label.executor must be 'local' or 'parsl', not {config.label.executor!r}")
    if _trial_wanted(config):
        parse_time(config.simulate.time)
        if config.simulate.ensemble not in ("nve", "nvt", "npt"):
            raise InputError(f"simulate.ensemble must be nve, nvt or npt, not {config.simulate.ensemble!r}")
    if config.validate.helix is not None:
        cooperativity.check_series(config.validate.helix, config.validate.lengths)


def _trial_wanted(config: Config) -> bool:
    """Whether the time is none of zero."""
    return re.fullmatch(r"\s*[0.]+\s*[a-zµ]*\s*", config.simulate.time) is None


def _limits(config: Config) -> dict[str, Any]:
    """Those of labels, which decide on what fails."""
    given = {"time": config.label.time_limit, "memory": config.label.memory}
    return {"limits": given} if any(given.values()) else {}


def _file_of(trajectory: str | None) -> dict[str, Any]:
    """What tells a stage that a file too large to be read for it has changed: bytes, and its time stamp in ns."""
    if trajectory is None:
        return {}
    try:
        found = Path(trajectory).stat()
    except OSError as error:
        raise InputError(f"the trajectory {trajectory} cannot be read: {error.strerror}") from None
    return {"file": [found.st_size, found.st_mtime_ns]}


def _prepare(source: Source, folder: Path, config: Config, say: Say) -> Mapping[str, Any]:
    frames = build_system(source, config.system, config.seed, say)
    part = folder / ".system.part"
    ase.io.write(part, frames, format="extxyz")
    part.replace(folder / "system.xyz")
    first = frames[0]
    return {"atoms": len(first), "formula": first.get_chemical_formula("hill"), "charge": first.info.get("charge", 0)}


def systems(folder: Path) -> list[ase.Atoms]:
    """The molecule, in one structure or several, as the first stage left it."""
    frames = ase.io.read(folder / "system.xyz", index=":", format="extxyz")
    assert isinstance(frames, list)
    return frames


def _snapshots(folder: Path, config: Config, say: Say) -> Mapping[str, Any]:
    found = snapshots.take_snapshots(folder, systems(folder), config, say)
    found.write(folder / "snapshots.h5")
    return {"snapshots": len(found), "held_out": int((found.kind == snapshots.KEPT).sum())}


def _bottom_up(folder: Path, config: Config, say: Say) -> Mapping[str, Any]:
    amons = pieces.amons_of(systems(folder)[0], config.bottom_up)
    made, facts = pieces.sample_all(folder, amons, config, say)
    made.write(folder / "bottom-up.h5")
    return facts


def _top_down(folder: Path, config: Config, say: Say) -> Mapping[str, Any]:
    made, facts = snapshots.cut(systems(folder)[0], Dataset.read(folder / "snapshots.h5"), config, say)
    assert made is not None
    made.write(folder / "top-down.h5")
    held = int((made.kind == "held-out").sum())
    atoms = round(float(made.counts.mean()), 1)
    return {"fragments": len(made) - held, "held_out": held, "mean_atoms": atoms, **facts}


def _select(folder: Path, config: Config, say: Say) -> Mapping[str, Any]:
    parts: list[Dataset | None] = []
    if config.bottom_up.max_heavy:
        made = Dataset.read(folder / "bottom-up.h5")
        parts.append(made.take(choose(made, config.bottom_up.structures, "groups", config.seed, say)))
    if config.top_down.structures:
        made = Dataset.read(folder / "top-down.h5")
        learned, held = (made.take(np.flatnonzero(made.kind == kind)) for kind in ("top-down", "held-out"))
        parts.append(learned.take(choose(learned, config.top_down.structures, "mixed", config.seed, say)))
        # drawn at random: what is held against the force field must not be chosen to be extreme
        random = np.random.default_rng(seed_of("held out", config.seed))
        parts.append(held.take(np.sort(random.permutation(len(held))[: config.top_down.held_out])))
    parts.append(snapshots.whole(Dataset.read(folder / "snapshots.h5"), config))
    chosen = snapshots.joined([part for part in parts if part is not None and len(part)])
    chosen.write(folder / "chosen.h5")
    kinds, counts = np.unique(chosen.kind, return_counts=True)
    return {str(kind): int(count) for kind, count in zip(kinds, counts, strict=True)}


def _label(folder: Path, config: Config, say: Say) -> Mapping[str, Any]:
    chosen = Dataset.read(folder / "chosen.h5")
    labelled, facts = labels.label(chosen, folder / "labels.db", config.label, config.workers, say)
    labelled.write(folder / "labelled.h5")
    return facts


def _simulate(folder: Path, config: Config, say: Say) -> Mapping[str, Any]:
    potential = judge.models(folder, config)[judge.MAIN]
    start = systems(folder)[0]
    return trial.trial(start, potential, config.simulate, folder / "run.h5", config.seed, say)


def _report(folder: Path, words: str, config: Config, say: Say) -> Mapping[str, Any]:
    sections = judge.sections(folder, config)
    title = f"{words}: force field from {config.label.method}"
    size = trial.write_page(folder / "run.h5", folder / "report.html", title, sections, say)
    return {"megabytes": round(size / 1e6, 1)}
