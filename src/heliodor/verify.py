"""Known answers: does a model on this machine give the energies that others published for it?"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import ase.io
from ase.build import molecule

from heliodor.api import evaluate, load
from heliodor.checkpoint import read_header, sha256
from heliodor.errors import InputError
from heliodor.potential import ModelWarning
from heliodor.registry import ModelEntry, imported, models, official_model, weights_folder
from heliodor.units import KJ_PER_MOL

UNITS = {"eV": 1.0, "kJ/mol": KJ_PER_MOL}
"""eV."""


@dataclass(frozen=True)
class KnownAnswer:
    """One published energy and what this machine makes of it.

    Attributes:
        structure: its name in ``known_answers.json``.
        expected, tolerance: in `unit`.
        tolerance_from: who says that it may be so large.
        source: where the expected value comes from, and how it was made.
        value: what was computed here, in `unit`; None where the structure is not at hand.
        missing: the file to bring, where `value` is None.
    """

    structure: str
    unit: str
    expected: float
    tolerance: float
    tolerance_from: str
    source: str
    value: float | None
    missing: str | None = None

    @property
    def difference(self) -> float | None:
        return None if self.value is None else self.value - self.expected

    @property
    def passed(self) -> bool | None:
        """None where nothing was computed."""
        return None if self.difference is None else abs(self.difference) <= self.tolerance


@dataclass(frozen=True)
class Verification:
    """Attributes:
    model: whose known answers were taken.
    official: whether the file is, or was converted from, the official one; None where nothing says which file it
        came from.
    identity: the same in words, with the hash.
    answers: in the order of ``known_answers.json``.
    """

    model: str
    official: bool | None
    identity: str
    answers: tuple[KnownAnswer, ...]

    @property
    def passed(self) -> bool:
        """No known answer missed, at least one reproduced, and not another file than the official one."""
        verdicts = [answer.passed for answer in self.answers]
        return self.official is not False and False not in verdicts and True in verdicts


def verify(model: str | Path, known_as: str | None = None, structures: str | Path | None = None) -> Verification:
    """Recompute the known answers of a model, in float64 on the CPU.

    Args:
        model: name, checkpoint or official file.
        known_as: whose answers to expect, where neither name nor hash says so.
        structures: folder with structures that are too large for the package.

    Raises:
        InputError: nothing is known about this model.
        ModelError, CheckpointError: as `heliodor.load`.
    """
    table = json.loads((weights_folder() / "known" / "known_answers.json").read_text(encoding="utf-8"))
    known = table["answers"]
    entry, official, identity = _identify(str(model))
    name = known_as or (entry.name if entry is not None else None)
    if name not in known:
        raise InputError(
            f"no known answers for {name or model}: say with --as which model it should be; there are some for "
            f"{', '.join(known)}"
        )
    if known_as is not None and (entry is None or entry.name != known_as):
        official = False if models()[known_as].official is not None else None
        identity += f", not the official file of {known_as}"
    folders = [weights_folder() / "known", *([Path(structures)] if structures is not None else [])]
    answers = tuple(_answer(model, item, table, folders) for item in known[name])
    return Verification(str(name), official, identity, answers)


def _identify(model: str) -> tuple[ModelEntry | None, bool | None, str]:
    """Which model of the registry a name or file is, whether it is the official file, and that in words."""
    entry = models().get(model)
    path = entry.path if entry is not None else imported().get(model, Path(model))
    if path is None or not path.is_file():
        # loading tells an unknown name, or one to be fetched, as it is told everywhere
        load(model, device="cpu")
        raise InputError(f"no such model file: {model}")
    digest = sha256(path)
    embedded = next((e for e in models().values() if e.sha256 == digest), None)
    if embedded is not None:
        return embedded, True, f"SHA-256 {digest[:16]}..., as shipped with heliodor"
    if path.suffix == ".safetensors":
        source = read_header(path).get("card", {}).get("source_sha256")
        if source is None:
            return entry, None, f"SHA-256 {digest[:16]}..., which does not say what it was made from"
    else:
        source = digest
    found = official_model(str(source))
    if found is not None:
        return found, True, f"source SHA-256 {str(source)[:16]}..., the official file of {found.name}"
    return entry, False if entry is not None else None, f"source SHA-256 {str(source)[:16]}..., no official file"


def _answer(model: str | Path, item: dict[str, Any], table: dict[str, Any], folders: list[Path]) -> KnownAnswer:
    source = table["sources"][item["source"]]
    value, missing = None, None
    atoms = _structure(table["structures"][item["structure"]], folders)
    if isinstance(atoms, str):
        missing = atoms
    else:
        cutoff = item.get("long_range_cutoff", "auto")
        potential = load(model, device="cpu", dtype="float64", long_range_cutoff=cutoff)
        with warnings.catch_warnings():
            # what is doubtful about a structure is not the question here
            warnings.simplefilter("ignore", ModelWarning)
            value = float(evaluate(potential, atoms, forces=False).energy[0]) / UNITS[item["unit"]]
    return KnownAnswer(
        structure=item["structure"],
        unit=item["unit"],
        expected=item["value"],
        tolerance=item["tolerance"],
        tolerance_from=item["tolerance_from"],
        source=f"{source['where']}; {source['how']}",
        value=value,
        missing=missing,
    )


def _structure(described: dict[str, Any], folders: list[Path]) -> ase.Atoms | str:
    """A structure, or the name of the file it needs."""
    if "molecule" in described:
        return molecule(described["molecule"])
    if "file" in described:
        paths = [folder / described["file"] for folder in folders]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            return str(described["file"])
        atoms = ase.io.read(path)
        assert isinstance(atoms, ase.Atoms)
        return atoms
    return ase.Atoms(
        numbers=described["numbers"],
        positions=described["positions"],
        cell=described.get("cell"),
        pbc=described.get("pbc", False),
        info={"charge": described.get("charge", 0.0), "spin": described.get("spin", 0)},
    )
