"""How well a model reproduces labels: errors of energies, forces, dipoles, charges and Hirshfeld ratios."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import ase
import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor

from heliodor.analysis.labels import PER_ITEM, PER_STRUCTURE, Labels, contents, find_labels
from heliodor.errors import InputError
from heliodor.potential import Potential, Prediction, check_distances, evaluate_system, join_predictions, warn_about
from heliodor.potentials.committee import Committee
from heliodor.response import evaluate_response
from heliodor.spread import Spread
from heliodor.system import System, read_charge, read_spin
from heliodor.train.conformal import Coverage, coverage_of, groups_of

QUANTITIES = ("energy", "forces", "dipole", "polarizability", "charges", "hirshfeld_ratios")
UNITS = {
    "energy": "eV",
    "energy_per_atom": "eV/atom",
    "forces": "eV/Å",
    "dipole": "e·Å",
    "polarizability": "e²Å²/eV",
    "charges": "e",
    "hirshfeld_ratios": "",
}


IN_NAMES = str.maketrans({"/": "_per_", "·": "_", "Å": "A", "²": "2"})
"""Of units in the names of columns."""


@dataclass(frozen=True)
class Errors:
    """Of a set of numbers, vectors counting as three; in the unit of the quantity.

    Attributes:
        r2: 1 - (squared errors)/(squared deviations of the labels from their mean); NaN where labels do not vary.
    """

    count: int
    mae: float
    rmse: float
    max: float
    r2: float


@dataclass(frozen=True)
class Compared:
    """One quantity, labels against predictions.

    Attributes:
        name: of `UNITS`.
        key: where the labels were found.
        reference, predicted: [M], [M, 3] or, of tensors, [M, 9].
        structure: [M] index of the structure.
        numbers: [M] atomic numbers, None for quantities of whole structures.
    """

    name: str
    key: str
    reference: np.ndarray
    predicted: np.ndarray
    structure: np.ndarray
    numbers: np.ndarray | None = None

    @property
    def unit(self) -> str:
        return UNITS[self.name]

    def errors(self, element: str | None = None) -> Errors:
        """Over all, or over the atoms of one element."""
        chosen = np.ones(len(self.reference), dtype=bool)
        if element is not None:
            assert self.numbers is not None
            chosen = self.numbers == atomic_numbers[element]
        return errors(self.reference[chosen], self.predicted[chosen])

    @property
    def elements(self) -> list[str]:
        """Symbols that occur, by atomic number; none for quantities of whole structures."""
        return [] if self.numbers is None else [chemical_symbols[z] for z in np.unique(self.numbers)]


@dataclass(frozen=True)
class Parity:
    """A model against labelled structures.

    Attributes:
        compared: the quantities that have both labels and predictions.
        notes: what was left out, and why.
        structures: one row per structure: formula, charge, errors, spreads.
        spread: of a committee's models, over all structures; None for one model.
        coverage: how often errors of forces were within what the model states, by kind (``info["kind"]``); None of
            models that state nothing, and without labelled forces.
    """

    compared: list[Compared]
    notes: list[str]
    structures: list[dict[str, Any]]
    spread: Spread | None = None
    coverage: Coverage | None = None

    def rows(self) -> list[dict[str, Any]]:
        """The table: one row per quantity and per element in it."""
        found = []
        for item in self.compared:
            for element in (None, *item.elements):
                numbers = asdict(item.errors(element))
                found.append({"quantity": item.name, "element": element or "all", "unit": item.unit, **numbers})
        return found


def errors(reference: np.ndarray, predicted: np.ndarray) -> Errors:
    """Errors of predictions; components of vectors count one by one."""
    labels = np.asarray(reference, dtype=np.float64).ravel()
    difference = np.asarray(predicted, dtype=np.float64).ravel() - labels
    if len(labels) == 0:
        nan = float("nan")
        return Errors(0, nan, nan, nan, nan)
    spread = float(np.square(labels - labels.mean()).sum())
    # labels that differ by rounding only have nothing to explain
    varies = spread > len(labels) * (1e-12 * max(1.0, float(np.abs(labels).max()))) ** 2
    return Errors(
        count=len(labels),
        mae=float(np.abs(difference).mean()),
        rmse=float(np.sqrt(np.square(difference).mean())),
        max=float(np.abs(difference).max()),
        r2=1.0 - float(np.square(difference).sum()) / spread if varies else float("nan"),
    )


def compare(
    potential: Potential,
    frames: Sequence[ase.Atoms],
    *,
    keys: dict[str, str | None] | None = None,
    charge: float | None = None,
    spin: int | None = None,
    absolute_energies: bool = False,
    batch_atoms: int = 2000,
    progress: Callable[[int], None] | None = None,
) -> Parity:
    """Evaluate a model on labelled structures.

    Energies are compared within groups of the same formula, charge and spin, relative to each group's mean,
    because models trained on forces have no zero of their own. In a group of n structures the mean takes 1/n of
    the variance of the errors with it; groups of one cannot be compared. Dipoles of charged or periodic structures
    depend on the origin, or mean nothing, and are left out.

    Args:
        keys: where the labels are (``atoms.info``, ``atoms.arrays`` or ASE's calculator), by quantity; where none
            is given, `USUAL_KEYS` are tried.
        charge, spin: override those of every structure.
        absolute_energies: compare energies as they are: for two implementations of one model.
        progress: called with the number of atoms done after each batch.

    Raises:
        InputError: no labels, labels of the wrong shape, structures that cannot be evaluated.
        ModelError: structures outside the model.
    """
    whole = System.from_atoms(frames, charge=charge, spin=spin)
    potential.check(whole)
    labels = {name: find_labels(frames, name, (keys or {}).get(name)) for name in QUANTITIES}
    known = {name: found for name, found in labels.items() if found is not None}
    if not known:
        raise InputError(
            f"there are no labels in these structures to compare with; the first one has {contents(frames[0])}: "
            "name them (--energy-key, --forces-key, ...)"
        )
    warn_about(potential, whole)
    predictions = _predict(
        potential,
        frames,
        charge,
        spin,
        forces="forces" in known or isinstance(potential, Committee),
        batch_atoms=batch_atoms,
        progress=progress,
    )
    notes: list[str] = []
    compared: list[Compared] = []
    if "energy" in known and not potential.has_energy:
        notes.append(f"{potential.name} does not predict energies: labels not used")
    elif "energy" in known:
        groups = [_group(frame, charge, spin) for frame in frames]
        compared += _energies(known["energy"], predictions, frames, groups, absolute_energies, notes)
    for name in QUANTITIES[1:]:
        values = getattr(predictions, name)
        if name not in known:
            continue
        if values is None:
            notes.append(f"{potential.name} does not predict {name}: labels not used")
            continue
        usable = known[name]
        if name == "dipole":
            usable = _without_origin(usable, frames, charge, notes)
        item = _pick(name, usable, values.double().numpy(), frames)
        if len(item.reference):
            compared.append(item)
    for name, found in known.items():
        if lacking := sum(value is None for value in found.values):
            notes.append(f"{lacking} of {len(frames)} structures have no label of {name}")
    rows = _structures(frames, compared, charge)
    if predictions.spread is not None:
        _add_spread(rows, predictions.spread)
    covered = None
    if predictions.force_error is not None and potential.uncertainty is not None:
        covered = _cover(rows, frames, compared, predictions.force_error, potential.uncertainty.level)
    return Parity(compared, notes, rows, predictions.spread, covered)


def _predict(
    potential: Potential,
    frames: Sequence[ase.Atoms],
    charge: float | None,
    spin: int | None,
    *,
    forces: bool,
    batch_atoms: int,
    progress: Callable[[int], None] | None,
) -> Prediction:
    """As `heliodor.evaluate`, but telling how far it is."""
    parts, first = [], 0
    while first < len(frames):
        last, total = first + 1, len(frames[first])
        while last < len(frames) and total + len(frames[last]) <= batch_atoms:
            total += len(frames[last])
            last += 1
        system = System.from_atoms(frames[first:last], charge=charge, spin=spin, device=potential.device)
        neighbors = potential.neighbors(system)
        check_distances(system, neighbors, first)
        if potential.has_energy:
            parts.append(evaluate_system(potential, system, neighbors, forces=forces).detached("cpu"))
        else:
            parts.append(evaluate_response(potential, system, neighbors).detached("cpu"))
        if progress is not None:
            progress(total)
        first = last
    return join_predictions(parts)


def _group(frame: ase.Atoms, charge: float | None, spin: int | None) -> tuple[str, float, int]:
    return frame.get_chemical_formula("hill"), read_charge(frame, charge), read_spin(frame, spin)


def _energies(
    labels: Labels,
    predictions: Prediction,
    frames: Sequence[ase.Atoms],
    groups: list[tuple[str, float, int]],
    absolute: bool,
    notes: list[str],
) -> list[Compared]:
    labelled = [k for k, value in enumerate(labels.values) if value is not None]
    reference = np.array([float(labels.values[k]) for k in labelled])  # type: ignore[arg-type]
    predicted = np.asarray(predictions.energy.double())[labelled]
    members: dict[tuple[str, float, int], list[int]] = defaultdict(list)
    for place, k in enumerate(labelled):
        members[groups[k]].append(place)
    kept = np.ones(len(labelled), dtype=bool)
    if absolute:
        notes.append("energies are compared as they are, which means something only between two codes of one model")
    else:
        reference, predicted = reference.copy(), predicted.copy()
        for places in members.values():
            reference[places] -= reference[places].mean()
            predicted[places] -= predicted[places].mean()
            kept[places] = len(places) > 1
        compared = sum(len(places) > 1 for places in members.values())
        notes.append(
            f"energies are relative to the mean of each of {compared} group(s) of the same formula, charge and spin; "
            f"{int((~kept).sum())} of {len(labelled)} structures have no partner and cannot be compared"
        )
    structure = np.array(labelled, dtype=np.int64)[kept]
    if not len(structure):
        return []
    reference, predicted = reference[kept], predicted[kept]
    atoms = np.array([len(frames[k]) for k in structure], dtype=np.float64)
    return [
        Compared("energy", labels.key, reference, predicted, structure),
        Compared("energy_per_atom", labels.key, reference / atoms, predicted / atoms, structure),
    ]


def _without_origin(labels: Labels, frames: Sequence[ase.Atoms], charge: float | None, notes: list[str]) -> Labels:
    bad = [bool(frame.pbc.any()) or read_charge(frame, charge) != 0.0 for frame in frames]
    left_out = sum(b and value is not None for b, value in zip(bad, labels.values, strict=True))
    if left_out:
        notes.append(f"dipoles of {left_out} charged or periodic structures left out: they depend on the origin")
    return Labels(labels.key, [None if b else value for b, value in zip(bad, labels.values, strict=True)])


def _pick(name: str, labels: Labels, values: np.ndarray, frames: Sequence[ase.Atoms]) -> Compared:
    """The rows of ``values`` that have labels, beside them."""
    values = values.reshape(len(values), -1) if name in PER_ITEM else values
    shape = (0, PER_ITEM[name]) if name in PER_ITEM else (0,)
    reference, predicted, structure, numbers = (
        [np.empty(shape)],
        [np.empty(shape)],
        [np.empty(0, int)],
        [np.empty(0, int)],
    )
    start = 0
    for k, (frame, label) in enumerate(zip(frames, labels.values, strict=True)):
        rows = 1 if name in PER_STRUCTURE else len(frame)
        if label is not None:
            reference.append(label.reshape(rows, *shape[1:]))
            predicted.append(values[start : start + rows])
            structure.append(np.full(rows, k))
            numbers.append(frame.numbers)
        start += rows
    return Compared(
        name,
        labels.key,
        np.concatenate(reference),
        np.concatenate(predicted),
        np.concatenate(structure),
        None if name in PER_STRUCTURE else np.concatenate(numbers),
    )


def _structures(frames: Sequence[ase.Atoms], compared: list[Compared], charge: float | None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"structure": k, "formula": f.get_chemical_formula("hill"), "charge": read_charge(f, charge), "atoms": len(f)}
        for k, f in enumerate(frames)
    ]
    for item in compared:
        difference = (item.predicted - item.reference).reshape(len(item.reference), -1)
        unit = f"_{item.unit}".translate(IN_NAMES) if item.unit else ""
        starts = np.flatnonzero(np.r_[True, np.diff(item.structure) != 0])
        for first, last in zip(starts, [*starts[1:], len(difference)], strict=True):
            row, part = rows[int(item.structure[first])], difference[first:last]
            if item.name == "energy":
                row[f"energy_reference{unit}"] = float(item.reference[first])
                row[f"energy_predicted{unit}"] = float(item.predicted[first])
            if item.name in ("energy", "energy_per_atom"):
                row[f"{item.name}_error{unit}"] = float(part[0, 0])
            else:
                row[f"{item.name}_rmse{unit}"] = float(np.sqrt(np.square(part).mean()))
                row[f"{item.name}_max{unit}"] = float(np.abs(part).max())
    return rows


def _add_spread(rows: list[dict[str, Any]], spread: Spread) -> None:
    """Standard deviations over the models, into the row of each structure."""
    norms = spread.force_norms
    start = 0
    for row, energy in zip(rows, spread.energy.tolist(), strict=True):
        row["energy_std_eV"] = energy
        if norms is not None:
            mine = norms[start : start + row["atoms"]]
            row["forces_std_mean_eV_per_A"], row["forces_std_max_eV_per_A"] = float(mine.mean()), float(mine.max())
        start += row["atoms"]


def _cover(
    rows: list[dict[str, Any]], frames: Sequence[ase.Atoms], compared: list[Compared], told: Tensor, level: float
) -> Coverage | None:
    """What the model states of each atom's force, into the row of each structure, and whether it held."""
    widths = told.double().numpy()
    structure = np.repeat(np.arange(len(frames)), [len(frame) for frame in frames])
    for k, row in enumerate(rows):
        mine = widths[structure == k]
        row["force_error_mean_eV_per_A"], row["force_error_max_eV_per_A"] = float(mine.mean()), float(mine.max())
    forces = next((item for item in compared if item.name == "forces"), None)
    if forces is None:
        return None
    here = np.isin(structure, forces.structure)
    errors = np.linalg.norm(forces.predicted - forces.reference, axis=1)
    covered = errors <= widths[here]
    for k in np.unique(forces.structure):
        rows[int(k)]["force_error_covered"] = float(covered[forces.structure == k].mean())
    kind = np.array([str(frame.info.get("kind", "")) for frame in frames])
    group = groups_of(np.array([str(frame.info.get("group", "")) for frame in frames]))
    owner = structure[here]
    return coverage_of(errors, widths[here], owner, group[owner], kind[owner], level)
