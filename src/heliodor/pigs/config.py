"""Every choice of a path-integral coarse graining, read from YAML."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from heliodor.choices import explain_fields, option, read_fields
from heliodor.errors import InputError
from heliodor.train.settings import TrainSettings
from heliodor.units import parse_time

MEANS = ("mse", "mace", "so3lr")
"""Losses whose minimum is the mean of noisy forces: quadratic ones."""

FEWEST = 50
"""Frames of a spectrum."""

FEWEST_CENTROIDS = 20
"""Frames of centroids below which nothing can be learned and judged."""

EXPECTED = {"loss": "mse", "batch_size": 32, "learning_rate": 1e-2, "weight_decay": 0.0, "ema": 0.99, "compile": "no"}
"""Of the training, unless said otherwise."""


@dataclass(frozen=True, kw_only=True)
class PathChoices:
    """Path-integral dynamics, from which the correction is learned."""

    temperature: float = option(500.0, "K, the elevated one.")
    beads: int = option(32, "Of each ring polymer; more than ħω/kT of the fastest vibration.")
    time: str | float = option("10 ps", "Length of the run.")
    timestep: float = option(0.25, "fs.")
    thermostat: str = option("pile", "pile or gle.")
    stride: int = option(20, "Steps between stored centroids; forces of neighbours in time teach little.")
    skip: float = option(0.1, "Share of the run that is left out at its beginning.")


@dataclass(frozen=True, kw_only=True)
class CorrectionChoices:
    """The model of the difference between mean and classical forces."""

    architecture: str = option("mace", "mace or spookynet: physical terms have no place in a correction.")
    size: str | Mapping[str, Any] = option(
        {"preset": "small", "cutoff": 4.0}, "small, medium, large, or fields of the architecture."
    )
    validation: float = option(0.1, "Share of the frames that the training watches: one piece of the run.")
    test: float = option(0.2, "Share that is held out until the end: the last piece of the run.")


@dataclass(frozen=True, kw_only=True)
class DynamicsChoices:
    """Classical dynamics with and without the correction, for spectra."""

    time: str | float = option("5 ps", "At constant energy; empty for none.")
    settle: str | float = option("1 ps", "Before, with a Langevin thermostat.")
    copies: int = option(8, "Run at once, and averaged.")
    timestep: float = option(0.25, "fs.")
    save_every: float = option(2.0, "fs, between frames.")
    trpmd: str | float = option("", "Length of ring-polymer dynamics to compare with, such as '5 ps'; empty for none.")
    trpmd_beads: int = option(32, "Of it.")
    resolution: float = option(20.0, "cm⁻¹, of the spectra; coarser where the runs are short.")


@dataclass(frozen=True, kw_only=True)
class PigsChoices:
    """All choices."""

    seed: int = option(0, "Of everything random.")
    temperature: float = option(300.0, "K, of the classical dynamics.")
    charge: float | None = option(None, "Total charge in e. [default: the file's]")
    spin: int | None = option(None, "Unpaired electrons. [default: the file's]")
    paths: PathChoices = field(default_factory=PathChoices, metadata={"help": "Path-integral dynamics."})
    correction: CorrectionChoices = field(default_factory=CorrectionChoices, metadata={"help": "What is learned."})
    train: Mapping[str, Any] = option(
        {"epochs": 40}, "How, such as {epochs: 100}; 40 epochs if no length is given; see docs/training.md."
    )
    dynamics: DynamicsChoices = field(default_factory=DynamicsChoices, metadata={"help": "For the spectra."})

    def train_settings(self) -> TrainSettings:
        """Those given, over ours.

        Raises:
            InputError: misspelt or impossible settings; a loss that does not give means.
        """
        length = {} if {"time", "epochs", "stop_after"} & self.train.keys() else {"epochs": 40}
        settings = TrainSettings.from_mapping({**EXPECTED, **length, "seed": self.seed + 1, **self.train}, "train: ")
        if settings.loss not in MEANS:
            raise InputError(
                f"train.loss is one of {', '.join(MEANS)}, not {settings.loss!r}: the force wanted is the mean of "
                "noisy ones, which only squared errors find"
            )
        return settings


def read_pigs_choices(values: Mapping[str, Any]) -> PigsChoices:
    """Choices from what a YAML file holds.

    Raises:
        InputError: a name that no choice has, or a value that cannot be.
    """
    choices = read_fields(PigsChoices, values)
    p, c, d = choices.paths, choices.correction, choices.dynamics
    for name, kelvin in (("temperature", choices.temperature), ("paths.temperature", p.temperature)):
        if not 0.0 < kelvin < math.inf:
            raise InputError(f"{name} must be positive (K), not {kelvin:g}")
    if p.temperature < choices.temperature:
        raise InputError(
            f"paths.temperature ({p.temperature:g} K) is the elevated one: it cannot be below the temperature of the "
            f"dynamics ({choices.temperature:g} K)"
        )
    if p.beads < 2:
        raise InputError(f"paths.beads must be 2 or more, not {p.beads}: one bead is classical, and teaches nothing")
    if p.thermostat not in ("pile", "gle"):
        raise InputError(f"paths.thermostat is pile or gle, not {p.thermostat!r}")
    if not 0.0 <= p.skip < 1.0 or p.stride < 1 or not p.timestep > 0.0:
        raise InputError("paths: skip lies from 0 to below 1, stride is 1 or more, timestep above zero")
    if not (c.validation > 0.0 and c.test > 0.0 and c.validation + c.test < 0.9):
        raise InputError("correction: validation and test are shares above 0, together below 0.9")
    if c.architecture not in ("mace", "spookynet"):
        raise InputError(
            f"correction.architecture is mace or spookynet, not {c.architecture!r}: physical terms such as "
            "electrostatics are the base's, and would be counted twice"
        )
    if d.copies < 1 or not d.timestep > 0.0 or d.save_every < d.timestep or not d.resolution > 0.0:
        raise InputError(
            "dynamics: copies is 1 or more, timestep and resolution above zero, save_every not below timestep"
        )
    for name, time in (("paths.time", p.time), ("dynamics.settle", d.settle)):
        if not parse_time(time) > 0.0:
            raise InputError(f"{name} must be positive, not {time!r}")
    frames = int(round(parse_time(p.time) / p.timestep) / p.stride)
    if frames - int(p.skip * frames) < FEWEST_CENTROIDS:
        raise InputError(
            f"paths.time {p.time!r} is too short: it leaves {frames - int(p.skip * frames)} frames of centroids, and "
            f"{FEWEST_CENTROIDS} are the least, thousands usual (a longer paths.time, a smaller paths.stride or skip)"
        )
    for name, time, first in (("dynamics.time", d.time, 0.0), ("dynamics.trpmd", d.trpmd, parse_time(d.settle))):
        if time and (parse_time(time) - first) / d.save_every < FEWEST:
            after = " after dynamics.settle" if first else ""
            raise InputError(
                f"{name} is too short for a spectrum: {FEWEST} frames{after} are the least, {d.save_every:g} fs apart"
            )
    choices.train_settings()
    return choices


def explain(choices: PigsChoices | None = None) -> str:
    """All choices with their values as commented YAML; the defaults if none are given."""
    return explain_fields(PigsChoices() if choices is None else choices)
