"""From the files of a configuration to training, validation and test sets."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.errors import InputError
from heliodor.train.data.conversion import Filters, filter_block
from heliodor.train.data.electrons import cause_of_misfits, count_electrons, misfits
from heliodor.train.data.reading import Source, Wanted, open_source
from heliodor.train.data.reading.own import is_own
from heliodor.train.data.splits import split_dataset
from heliodor.train.dataset import Dataset, join, open_dataset
from heliodor.train.errors import data_name
from heliodor.train.files.config import DataChoices, TrainConfig

Tell = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True, eq=False)
class Sets:
    """What a run is given.

    Attributes:
        notes: sentences on what was decided about keys, units, filters and the division.
    """

    training: Dataset
    validation: Dataset
    test: Dataset | None
    notes: tuple[str, ...]


def load_sets(config: TrainConfig, tell: Tell) -> Sets:
    """Read, check, filter and divide.

    Raises:
        InputError: missing files or keys, labels that are no numbers, nothing left, electrons that do not fit.
    """
    data, notes = config.data, []
    sets: dict[str, Dataset] = {}
    for name in ("training", "validation", "test"):
        paths = [config.path(path) for path in getattr(data, name)]
        if paths:
            sets[name], said = _load(paths, name, data, tell)
            notes += said
    shares = {name: getattr(data, f"{name}_share") for name in ("validation", "test") if name not in sets}
    if any(shares.values()):
        parts, said = _divide(sets["training"], shares, data)
        sets |= parts
        notes += said
    if data.structures and data.structures < len(sets["training"]):
        order = np.random.default_rng([data.split_seed, 5]).permutation(len(sets["training"]))
        sets["training"] = sets["training"].take(np.sort(order[: data.structures]))
        notes.append(f"{data.structures} of {len(order)} training structures, drawn at random")
    return Sets(sets["training"], sets["validation"], sets.get("test"), tuple(notes))


def _load(paths: Sequence[Path], name: str, data: DataChoices, tell: Tell) -> tuple[Dataset, list[str]]:
    notes: list[str] = []
    parts = []
    for path in paths:
        part = _read(path, data, notes, tell)
        if data.check_electrons:
            _check_electrons(part, path)
        parts.append(_filter(part, path, data, notes))
    whole = parts[0] if len(parts) == 1 else join(parts)
    if len(whole) == 0:
        raise InputError(f"data.{name}: no structures are left of {', '.join(map(str, paths))}")
    return whole, notes


def _read(path: Path, data: DataChoices, notes: list[str], tell: Tell) -> Dataset:
    units = {
        f"{what}_unit": getattr(data, f"{what}_unit") for what in ("energy", "length", "force", "dipole", "stress")
    }
    wanted = Wanted(keys=data.keys, gradient=data.gradient, method=data.method, keep_nan=data.keep_nan, **units)
    if path.is_dir() or (path.is_file() and path.suffix.lower() in (".h5", ".hdf5") and is_own(path)):
        if wanted.says_something:
            notes.append(f"{path} is a data set of heliodor: keys, units and the sign are not for it")
        found = open_dataset(path)
        if found.method and data.method and found.method != data.method:
            raise InputError(f"{path} holds labels by {found.method}, not by {data.method} (data.method)")
        return found if found.method or not data.method else replace(found, method=data.method)
    try:
        return _assemble(open_source(path, wanted), notes, tell)
    except InputError as error:
        raise InputError(_in_yaml(str(error))) from None


def _assemble(source: Source, notes: list[str], tell: Tell) -> Dataset:
    path = source.path
    notes += [f"{path.name}: {line}" for line in source.said]
    blocks: list[Dataset] = []
    done = 0
    for block in source.blocks(0):
        lost = {label: len(which) for label, which in block.notes.get("not_numbers", {}).items()}
        notes += [
            f"{path.name}: {n} labels of {label} that are no numbers count as missing" for label, n in lost.items()
        ]
        blocks.append(block)
        done += len(block)
        tell(f"reading {path.name}", done, source.total)
    return join(blocks)


def _in_yaml(text: str) -> str:
    """A message for `heliodor data`, in the words of the YAML file."""
    text = re.sub(r"--([a-z-]+)-key\b", lambda m: f"data.keys.{m.group(1).replace('-', '_')}", text)
    text = text.replace(", or that there are none (--unlabelled)", "")
    return text.replace("with --keep-nan", "with data.keep_nan: true").replace("--units eV", "data.energy_unit: eV")


def _check_electrons(data: Dataset, path: Path) -> None:
    bad = np.flatnonzero(misfits(data))
    if not len(bad):
        return
    k = int(bad[0])
    hint = {
        "charge": "the file seems to mix charge states without saying so: name the key of the charge in "
        "data.keys.charge (and of the unpaired electrons in data.keys.spin)",
        "multiplicity": "its spins are multiplicities, by their values: name their key in data.keys.multiplicity",
        "": "mend its charge or its number of unpaired electrons",
    }[cause_of_misfits(data)]
    raise InputError(
        f"{path}: {len(bad)} of {len(data)} structures have electrons that do not fit their charge and spin, such as "
        f"{data_name(data, k)} with {count_electrons(data)[k]:g} electrons, {data.spin[k]:g} of them unpaired: {hint}; "
        "data.check_electrons: false takes them as they are"
    )


def _filter(data: Dataset, path: Path, choices: DataChoices, notes: list[str]) -> Dataset:
    state: dict[str, Any] = {"read": 0, "dropped": {}, "examples": {}}
    kept = filter_block(data, Filters(choices.max_force, choices.min_distance), state)
    reasons = {
        "force": f"forces above {choices.max_force} eV/Å",
        "distance": f"atoms closer than {choices.min_distance} Å",
    }
    notes += [f"{path.name}: {count} structures left out, {reasons[why]}" for why, count in state["dropped"].items()]
    return kept


def _divide(data: Dataset, shares: dict[str, float], choices: DataChoices) -> tuple[dict[str, Dataset], list[str]]:
    """Parts of a set, each as near to its share as undivided molecules allow."""
    wanted = {name: share for name, share in shares.items() if share}
    rest = 1.0 - sum(wanted.values())
    if rest <= 0.0:
        raise InputError("data: nothing is left to train on once the validation and test shares are taken off")
    try:
        split = split_dataset(data, {"training": rest, **wanted}, by=choices.split, seed=choices.split_seed)
    except InputError as error:
        shown = " and ".join(f"data.{name}_share" for name in wanted)
        raise InputError(f"{shown}: {error}; give files of their own, larger shares, or split: frame") from None
    parts = {name: data.take(chosen) for name, chosen in split.parts.items()}
    counted = ", ".join(f"{len(part)} for {name}" for name, part in parts.items())
    units = "" if choices.split == "frame" else f" ({sum(split.units.values())} of them)"
    return parts, [f"divided by {choices.split}{units}: {counted}"]
