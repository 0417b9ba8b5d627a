"""Every choice of the pipeline, documented, read from YAML with an error that names the misspelt one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from heliodor.choices import explain_fields, option, read_fields
from heliodor.errors import InputError


@dataclass(frozen=True, kw_only=True)
class SystemChoices:
    """The molecule, from a sequence or a file."""

    ph: float = option(7.0, "Decides on protons, of sequences and PDB files.")
    charge: int | None = option(None, "Total charge in e, of structures that do not say it themselves.")
    solvate: float | None = option(None, "Margin of water in Å around a PDB file's molecule; none: gas phase.")
    folds: tuple[str, ...] = option(("extended", "alpha"), "Where the snapshots of a sequence start from.")


@dataclass(frozen=True, kw_only=True)
class SnapshotChoices:
    """Conformations of the whole molecule, from classical dynamics or a trajectory of one's own."""

    trajectory: str | None = option(None, "A trajectory to take them from instead of running dynamics.")
    temperatures: tuple[float, ...] = option((300.0, 500.0, 800.0), "K; one run each from each starting structure.")
    time: str = option("40 ps", "Length of each run.")
    every: str = option("0.5 ps", "Between snapshots.")


@dataclass(frozen=True, kw_only=True)
class BottomUpChoices:
    """Small molecules from all connected pieces of the bonded graph."""

    max_heavy: int = option(8, "Largest number of heavy atoms; 0 for no bottom-up fragments.")
    conformers: int = option(3, "Starting geometries of each.")
    sampler: str = option("gfn2", "What distorts them: a label method, or 'model:NAME' for a model of heliodor.")
    mode_temperatures: tuple[float, ...] = option((300.0, 1000.0), "K, of normal mode sampling.")
    modes: int = option(4, "Structures by normal modes from each conformer and temperature.")
    dynamics_temperatures: tuple[float, ...] = option((500.0,), "K, of short dynamics.")
    dynamics: int = option(4, "Structures by dynamics from each conformer and temperature.")
    waters: int = option(0, "Structures with one to three waters of each fragment, and clusters of water.")
    structures: int = option(8000, "At most, after selection.")


@dataclass(frozen=True, kw_only=True)
class TopDownChoices:
    """Pieces cut out of the snapshots."""

    radius: float = option(8.0, "Å around the central atom.")
    centres: int = option(4, "Central atoms taken from each snapshot.")
    structures: int = option(1000, "At most, after selection; 0 for no top-down fragments.")
    held_out: int = option(200, "Cut from later snapshots, never trained on.")
    max_charge: int = option(2, "Fragments of a larger charge are left out, e.")


@dataclass(frozen=True, kw_only=True)
class LabelChoices:
    """Quantum chemistry."""

    method: str = option("gfn2", "Such as gfn2, pbe0-mbd/def2-svp, wb97m-d3bj/def2-tzvppd, teacher:so3lr.")
    executor: str = option("local", "local, or parsl with a cluster file.")
    cluster: str | None = option(None, "YAML file that describes a cluster, see docs/campaigns.md.")
    memory: str | None = option(None, "Of one job, such as '4 GB'; none: no limit.")
    time_limit: str | None = option(None, "Of one job, such as '30 min'; none: no limit.")


@dataclass(frozen=True, kw_only=True)
class ModelChoices:
    """What is trained."""

    architecture: str = option("spookynet", "spookynet, so3lr or mace.")
    size: str | Mapping[str, Any] = option(
        "medium", "small, medium, large, or fields of the architecture, such as {n_features: 64}."
    )


@dataclass(frozen=True, kw_only=True)
class ValidationChoices:
    """What the force field is held against; all of it labelled with the same method."""

    without_top_down: bool = option(True, "Train a second model without top-down fragments, to see what they bring.")
    whole: int = option(20, "Snapshots of the whole molecule, if it is small enough.")
    whole_atoms: int = option(200, "Largest molecule that is labelled as a whole.")
    helix: str | None = option(None, "A sequence with {n}, such as 'AceAla{n}Nme': helices of growing length.")
    lengths: tuple[int, ...] = option((3, 4, 5, 6, 8, 10), "n of these.")
    relax: bool = option(True, "Relax the helices with the method first (not with methods of DFT).")


@dataclass(frozen=True, kw_only=True)
class TrialChoices:
    """A short run with the finished force field."""

    time: str = option("10 ps", "Length; '0 ps' for none.")
    temperature: float = option(300.0, "K.")
    ensemble: str = option("nvt", "nve, nvt (Langevin) or npt.")
    timestep: float = option(0.5, "fs.")


@dataclass(frozen=True, kw_only=True)
class Config:
    """All choices of one pipeline."""

    seed: int = option(0, "Of everything random.")
    workers: int = option(2, "Processes that label and train at once.")
    system: SystemChoices = field(default_factory=SystemChoices, metadata={"help": "The molecule."})
    snapshots: SnapshotChoices = field(default_factory=SnapshotChoices, metadata={"help": "Conformations of it."})
    bottom_up: BottomUpChoices = field(default_factory=BottomUpChoices, metadata={"help": "Small pieces."})
    top_down: TopDownChoices = field(default_factory=TopDownChoices, metadata={"help": "Large pieces."})
    label: LabelChoices = field(default_factory=LabelChoices, metadata={"help": "Quantum chemistry."})
    model: ModelChoices = field(default_factory=ModelChoices, metadata={"help": "What is trained."})
    train: Mapping[str, Any] = option(
        {}, "How, such as {time: 2 h}; see heliodor.train.settings.TrainSettings. Without time or epochs 30 min each."
    )
    validate: ValidationChoices = field(default_factory=ValidationChoices, metadata={"help": "How it is tried."})
    simulate: TrialChoices = field(default_factory=TrialChoices, metadata={"help": "A short run with it."})


def read_config(values: Mapping[str, Any]) -> Config:
    """A configuration from what a YAML file holds.

    Raises:
        InputError: a name that no choice has, with the one that was probably meant; a value of the wrong kind.
    """
    config = read_fields(Config, values)
    for name, value in (("workers", config.workers), ("bottom_up.conformers", config.bottom_up.conformers)):
        if value < 1:
            raise InputError(f"{name} must be at least 1, not {value}")
    if config.top_down.radius <= 0.0:
        raise InputError(f"top_down.radius must be a length in Å, not {config.top_down.radius:g}")
    if not config.bottom_up.max_heavy and not config.top_down.structures:
        raise InputError("neither bottom-up nor top-down fragments are wanted: there is nothing to train on")
    return config


def explain(config: Config | None = None) -> str:
    """All choices with their values as commented YAML; the defaults if no configuration is given."""
    return explain_fields(Config() if config is None else config)
