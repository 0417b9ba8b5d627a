"""One YAML file for a training run: data, model, reference energies, settings, output; every field documented here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from heliodor.choices import explain_fields, field_help, in_yaml, option, read_fields
from heliodor.errors import InputError, suggestion
from heliodor.train.data.splits import BY
from heliodor.train.models import PRESETS
from heliodor.train.references import References, isolated_atoms
from heliodor.train.settings import TrainSettings

REFERENCES = ("fitted", "isolated", "none")


@dataclass(frozen=True, kw_only=True)
class DataChoices:
    """Labelled structures. Paths are relative to the YAML file."""

    training: tuple[str, ...] = option(
        (), "Files: extxyz (also .gz), ASE's .db and .traj, npz, HDF5, data sets of heliodor."
    )
    validation: tuple[str, ...] = option((), "Likewise; empty: a part of the training files.")
    test: tuple[str, ...] = option((), "Likewise, for errors at the end; empty: test_share, or none.")
    validation_share: float = option(0.1, "Part of the training files kept for validation where no files are given.")
    test_share: float = option(0.0, "Part of them kept for the test where no files are given.")
    split: str = option(
        "molecule",
        "What stays together: molecule (same group, or without groups same bonded graph), group, formula, or frame: "
        "nothing does.",
    )
    split_seed: int = option(0, "Of the division and of what `structures` draws.")
    structures: int = option(0, "Training structures at most, drawn at random; 0 for all.")
    keys: Mapping[str, str] = option(
        {}, "Where the files have what, such as {energy: ref_energy, forces: ref_forces, charge: total_charge}."
    )
    energy_unit: str | None = option(None, "Such as kcal/mol or hartree; empty: what the format says.")
    length_unit: str | None = option(None, "Of positions, such as bohr; empty: what the format says.")
    force_unit: str | None = option(None, "Such as hartree/bohr; empty: energy over length.")
    dipole_unit: str | None = option(None, "e*Å, debye or e*bohr.")
    stress_unit: str | None = option(None, "Such as GPa; empty: energy over volume.")
    gradient: bool = option(False, "The files' forces are gradients, of the opposite sign.")
    method: str = option("", "Level of theory of the labels, where the files do not say it.")
    keep_nan: bool = option(False, "Labels that are no numbers count as missing; otherwise they are an error.")
    max_force: float | None = option(None, "eV/Å; structures with a larger force on an atom are left out (SO3LR: 25).")
    min_distance: float | None = option(None, "Å; structures with atoms closer than this are left out (SO3LR: 0.25).")
    check_electrons: bool = option(True, "Refuse structures whose electrons do not fit their charge and spin.")


@dataclass(frozen=True, kw_only=True)
class ModelChoices:
    """What is trained: a new model, or a trained one to go on from."""

    architecture: str | None = option(None, "spookynet, so3lr or mace; of a checkpoint only to be sure of it.")
    size: str | Mapping[str, Any] = option(
        "medium", "small, medium, large, or fields of the architecture over one, such as {preset: small, cutoff: 6}."
    )
    elements: tuple[str, ...] = option((), "Symbols to be known beyond those of the training structures.")
    checkpoint: str | None = option(None, "A model file or a name such as so3lr, all of whose weights go on.")


@dataclass(frozen=True, kw_only=True)
class ReferenceChoices:
    """Energies of the elements, taken off before a model learns the rest; kept in its card."""

    kind: str | None = option(
        None, "fitted to the training set, isolated (given in energies), none; empty: fitted, or the checkpoint's own."
    )
    energies: Mapping[str, float] = option({}, "eV by symbol, of isolated atoms by the labels' method.")


@dataclass(frozen=True, kw_only=True)
class OutputChoices:
    """What the run leaves."""

    folder: str = option("run", "Model, log, pictures, state; the same command goes on there.")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All choices of one run.

    Attributes:
        base: folder that paths are relative to.
    """

    data: DataChoices = field(default_factory=DataChoices, metadata={"help": "Labelled structures."})
    model: ModelChoices = field(default_factory=ModelChoices, metadata={"help": "What is trained."})
    references: ReferenceChoices = field(
        default_factory=ReferenceChoices, metadata={"help": "Energies of the elements."}
    )
    training: Mapping[str, Any] = option({}, "How, see below.")
    finetune: Mapping[str, Any] | None = option(None, "To fit a trained model to new data; see docs/fine-tuning.md.")
    output: OutputChoices = field(default_factory=OutputChoices, metadata={"help": "What the run leaves."})
    base: Path = field(default=Path(), metadata={"help": ""})

    @property
    def settings(self) -> TrainSettings:
        """`training`, read; that of fine-tuning has defaults of its own."""
        if self.finetune is None:
            return TrainSettings.from_mapping(self.training)
        from heliodor.train.finetuning.settings import FineTune

        return FineTune.from_mapping(self.tuning).settings(self.training)

    @property
    def tuning(self) -> dict[str, Any]:
        """`finetune` with its paths worked out."""
        values = dict(self.finetune or {})
        if self.model.checkpoint is not None:
            values.setdefault("model", self.model.checkpoint)
        if values.get("model"):
            values["model"] = self.model_path(str(values["model"]))
        if isinstance(values.get("replay"), Mapping):
            paths = {k: str(self.path(str(v))) for k, v in values["replay"].items() if k in ("data", "structures")}
            values["replay"] = {**values["replay"], **paths}
        return values

    @property
    def folder(self) -> Path:
        return self.path(self.output.folder)

    def path(self, name: str) -> Path:
        return self.base / Path(name).expanduser()

    def model_path(self, name: str) -> str:
        """A model file beside the YAML file, or the name as it is."""
        path = self.path(name)
        return str(path) if path.is_file() else name

    def given_references(self) -> References | None:
        """Those of isolated atoms, if they are given."""
        return isolated_atoms(self.references.energies) if self.references.energies else None


def read_config(values: Mapping[str, Any], base: Path) -> TrainConfig:
    """A configuration from what a YAML file holds.

    Args:
        base: the file's folder.

    Raises:
        InputError: a name that does not exist, with the one that was probably meant; a value that cannot be.
    """
    if "base" in values:
        raise InputError(f"unknown entry base{suggestion('base', [f.name for f in fields(TrainConfig)])}")
    filled = {key: {} if value is None and key != "finetune" else value for key, value in values.items()}
    config = replace(read_fields(TrainConfig, filled), base=base)
    _check(config)
    # an error in these should not come after an hour of reading structures
    _ = config.settings
    _ = config.given_references()
    return config


def _check(config: TrainConfig) -> None:
    data, model, references = config.data, config.model, config.references
    if not data.training:
        raise InputError("data.training: name the files of labelled structures")
    if data.split not in BY:
        raise InputError(f"data.split is one of {', '.join(BY)}, not {data.split!r}{suggestion(data.split, BY)}")
    for name in ("validation_share", "test_share"):
        if not 0.0 <= getattr(data, name) < 1.0:
            raise InputError(f"data.{name} lies between 0 and 1, not {getattr(data, name):g}")
    if not data.validation and not data.validation_share:
        raise InputError("data: without validation files there must be a validation_share above 0")
    if data.structures < 0:
        raise InputError(f"data.structures must not be below zero: {data.structures}")
    for name in ("max_force", "min_distance"):
        value = getattr(data, name)
        if value is not None and not value > 0.0:
            raise InputError(f"data.{name} must be above zero, not {value:g}")
    if not isinstance(config.training, Mapping):
        raise InputError("training should hold names and values, such as {epochs: 100, batch_size: 16}")
    known = ", ".join(PRESETS)
    if model.architecture is not None and model.architecture not in PRESETS:
        words = suggestion(model.architecture, PRESETS)
        raise InputError(f"model.architecture is one of {known}, not {model.architecture!r}{words}")
    if model.architecture is None and model.checkpoint is None and config.finetune is None:
        raise InputError(f"model: give an architecture ({known}), or a checkpoint to go on from")
    if config.finetune is not None and (references.kind or references.energies):
        raise InputError("references: of fine-tuning they are given in finetune.references")
    if references.kind is not None and references.kind not in REFERENCES:
        words = suggestion(references.kind, REFERENCES)
        raise InputError(f"references.kind is one of {', '.join(REFERENCES)}, not {references.kind!r}{words}")
    if references.kind == "isolated" and not references.energies:
        raise InputError("references.energies: give the energies of isolated atoms, such as {H: -13.6, O: -2041.8}")
    if references.energies and references.kind not in (None, "isolated"):
        raise InputError(f"references.energies go with kind: isolated, not {references.kind}")


def documented() -> list[tuple[str, str, str, str]]:
    """Every field: section, name, default, meaning."""
    rows = []
    for section, values in _sections().items():
        words = field_help(type(values))
        rows += [(section, f.name, in_yaml(getattr(values, f.name)), words[f.name]) for f in fields(values)]
    return rows


def explain() -> str:
    """Every field with its default as commented YAML."""
    rooms = field_help(TrainConfig)
    parts = [f"{name}:  # {rooms[name]}\n{explain_fields(values, 1)}" for name, values in _sections().items()]
    return "\n".join([*parts, f"finetune:  # {rooms['finetune']}"])


def tables() -> str:
    """Every field as Markdown tables, for docs/training.md."""
    parts: list[str] = []
    rows = documented()
    for section in _sections():
        parts += [*([""] if parts else []), f"### `{section}`", "", "| field | default | meaning |", "|---|---|---|"]
        for room, name, default, text in rows:
            if room == section:
                shown = f"`{default}`" if default else ""
                parts.append(f"| `{name}` | {shown} | {text.replace('|', chr(92) + '|')} |")
    return "\n".join(parts) + "\n"


def _sections() -> dict[str, Any]:
    """The sections with their defaults; that of fine-tuning has a page of its own."""
    config = TrainConfig()
    return {
        f.name: TrainSettings() if f.name == "training" else getattr(config, f.name)
        for f in fields(TrainConfig)
        if f.name not in ("finetune", "base")
    }
