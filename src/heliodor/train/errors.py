"""Errors of a model on a data set, by property and by kind of structure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from heliodor.potential import Potential, Prediction, evaluate_system
from heliodor.train.batches import Batch, Lists, find_lists
from heliodor.train.dataset import Dataset
from heliodor.train.losses import UNITS, network_term, stress_of
from heliodor.train.references import References
from heliodor.train.step import with_shifts

ATOMS = 600
"""In a batch, at most (or one structure)."""

TITLES = {
    "energy": "energy",
    "energy_shifted": "energy, mean error off",
    "forces": "forces",
    "stress": "stress",
    "dipole": "dipole",
    "hirshfeld_ratios": "Hirshfeld ratios",
    "charges": "charges",
    "node_energies": "atomic energies",
}
"""Properties by the words of tables and pictures, in their order."""


@dataclass(frozen=True, eq=False)
class Predicted:
    """A model's answers for a data set, its reference energies added; NaN where the model has no such property.

    Attributes:
        reference: eV, what of each energy is the elements' reference energies.
        stress: eV/Å³, of fully periodic structures that have a label of it; None like all others.
        node_energies: eV, of the network's term.
    """

    energy: Float[np.ndarray, "S"]
    forces: Float[np.ndarray, "N 3"]
    dipole: Float[np.ndarray, "S 3"]
    hirshfeld_ratios: Float[np.ndarray, "N"]
    charges: Float[np.ndarray, "N"]
    reference: Float[np.ndarray, "S"]
    stress: Float[np.ndarray, "S 3 3"] | None = None
    node_energies: Float[np.ndarray, "N"] | None = None


@dataclass(frozen=True)
class PropertyErrors:
    """Of one property over one set of structures, in eV, Å, e.

    Attributes:
        mae, rmse: mean absolute and root mean square errors, over components.
        r2: coefficient of determination, 1 - Σ error²/Σ (label - mean)²; NaN for constant labels. Of energies without
            their reference energies, which would make any model look perfect.
        count: number of labels.
    """

    mae: float
    rmse: float
    r2: float
    count: int


@dataclass(frozen=True)
class Errors:
    """Errors by kind of structure ("all" first) and property.

    The properties are "energy" (per atom), "energy_shifted" (per atom, after the mean error of the set has been taken
    off, as GEMS reports it), "forces", "dipole" (of neutral structures and ions alike, about the centre of the
    atoms), "hirshfeld_ratios", "charges", "stress" and "node_energies"; those without labels or predictions are
    missing.
    """

    by_kind: dict[str, dict[str, PropertyErrors]]
    structures: dict[str, int]

    @property
    def all(self) -> dict[str, PropertyErrors]:
        return self.by_kind["all"]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for a card or JSON."""
        return {
            kind: {
                "structures": self.structures[kind],
                **{n: {"mae": p.mae, "rmse": p.rmse, "r2": p.r2, "count": p.count} for n, p in errors.items()},
            }
            for kind, errors in self.by_kind.items()
        }

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Errors:
        """What `to_dict` gave."""
        by_kind = {
            kind: {
                n: PropertyErrors(count=p.get("count", 0), **_numbers(p)) for n, p in found.items() if n != "structures"
            }
            for kind, found in values.items()
        }
        return Errors(by_kind, {kind: int(found["structures"]) for kind, found in values.items()})

    def table(self) -> str:
        """For people: MAE, RMSE and R² of each property by kind of structure, units written."""
        lines = [f"{'':34s}{'MAE':>10s}{'RMSE':>10s}{'R²':>9s}{'labels':>11s}"]
        for kind, errors in self.by_kind.items():
            lines.append(f"{kind} ({self.structures[kind]} structures)")
            for key, word in TITLES.items():
                if key in errors:
                    p = errors[key]
                    unit, factor = UNITS[key.removesuffix("_shifted")]
                    title = f"{word} {unit}".rstrip()
                    numbers = f"{factor * p.mae:10.3f}{factor * p.rmse:10.3f}{p.r2:9.4f}{p.count:11d}"
                    lines.append(f"  {title:32s}{numbers}")
        return "\n".join(lines)


def predict(
    model: Potential, dataset: Dataset | Lists, progress: Callable[[int, int], None] | None = None
) -> Predicted:
    """Evaluate every structure, in the model's dtype and on its device.

    Args:
        progress: called with the structures done and their number.
    """
    references = References.from_card(model.card)
    lists = dataset if isinstance(dataset, Lists) else find_lists(dataset, model, references, model.dtype)
    data, n_atoms = lists.dataset, len(lists.positions)
    energy = np.full(len(data), np.nan)
    forces, dipole = np.full((n_atoms, 3), np.nan), np.full((len(data), 3), np.nan)
    ratios, charges, node = (np.full(n_atoms, np.nan) for _ in range(3))
    stress = np.full((len(data), 3, 3), np.nan)
    wanted = np.isfinite(data.stress).all((1, 2)) & data.pbc.all(1)
    training = model.training
    model.eval()
    done = 0
    for chosen in _chunks(lists):
        batch = lists.batch(chosen).to(model.device)
        p = _answer(model, batch, bool(wanted[chosen].any()))
        rows = np.concatenate([np.arange(data.offsets[s], data.offsets[s + 1]) for s in chosen])
        assert p.forces is not None
        energy[chosen], forces[rows] = p.energy.numpy(), p.forces.numpy()
        if p.dipole is not None:
            dipole[chosen] = p.dipole.numpy()
        if p.hirshfeld_ratios is not None:
            ratios[rows] = p.hirshfeld_ratios.numpy()
        if p.charges is not None:
            charges[rows] = p.charges.numpy()
        if p.stress is not None:
            stress[chosen[wanted[chosen]]] = p.stress.numpy()[wanted[chosen]]
        if p.node_terms:
            node[rows] = p.node_terms[network_term(p.node_terms)].numpy()
        done += len(chosen)
        if progress is not None:
            progress(done, len(data))
    model.train(training)
    # what the lists have taken off the energies, and how far they have moved each structure
    reference = np.zeros(len(data)) if references is None else references.sums(data)
    centre = np.add.reduceat(data.positions - lists.positions, data.offsets[:-1]) / data.counts[:, None]
    dipole = dipole + data.charge[:, None] * centre
    return Predicted(energy + reference, forces, dipole, ratios, charges, reference, stress, node)


def _answer(model: Potential, batch: Batch, stress: bool) -> Prediction:
    """One batch on the CPU; stresses are zero where a structure is not fully periodic."""
    system = batch.system
    neighbors = batch.neighbors(system)
    if not stress:
        return evaluate_system(model, system, neighbors).detached("cpu")
    p = evaluate_system(model, system, with_shifts(neighbors, system), virial=True)
    assert isinstance(p.virial, torch.Tensor)
    return replace(p, stress=stress_of(p.virial, system)).detached("cpu")


def errors_of(model: Potential, dataset: Dataset | Lists, progress: Callable[[int, int], None] | None = None) -> Errors:
    """Errors of a model, reference energies of its card included, on labelled structures."""
    data = dataset.dataset if isinstance(dataset, Lists) else dataset
    return compare(predict(model, dataset, progress), data)


def compare(predicted: Predicted, data: Dataset) -> Errors:
    """Errors of answers against a data set's labels."""
    kinds = [str(k) for k in np.unique(data.kind) if str(k)]
    masks = {"all": np.ones(len(data), dtype=bool)}
    if len(kinds) > 1:
        masks |= {kind: data.kind == kind for kind in kinds}
    by_kind = {kind: _errors(predicted, data, mask) for kind, mask in masks.items()}
    return Errors(by_kind, {kind: int(mask.sum()) for kind, mask in masks.items()})


def pairs_of(predicted: Predicted, data: Dataset) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Labels and answers of each property, side by side, as the errors compare them (unfinished ones NaN).

    Energies are per atom, without reference energies; in "energy_shifted" the answers' mean error over the set is taken
    off. Dipoles are about the atoms' centre; those of periodic structures are left out.
    """
    counts = data.counts
    label, answer = ((energy - predicted.reference) / counts for energy in (data.energy, predicted.energy))
    off = answer - label
    shift = float(np.mean(off[np.isfinite(off)])) if np.isfinite(off).any() else 0.0
    centre = np.add.reduceat(data.positions, data.offsets[:-1]) / counts[:, None]
    origin = data.charge[:, None] * centre
    origin[data.pbc.any(1)] = np.nan
    stress = np.full_like(data.stress, np.nan) if predicted.stress is None else predicted.stress
    node = np.full_like(data.node_energies, np.nan) if predicted.node_energies is None else predicted.node_energies
    return {
        "energy": (label, answer),
        "energy_shifted": (label, answer - shift),
        "stress": (np.where(np.isnan(stress), np.nan, data.stress), stress),
        "node_energies": (data.node_energies, node),
        "forces": (data.forces, predicted.forces),
        "dipole": (data.dipole - origin, predicted.dipole - origin),
        "hirshfeld_ratios": (data.hirshfeld_ratios, predicted.hirshfeld_ratios),
        "charges": (data.charges, predicted.charges),
    }


def unanswered(predicted: Predicted, data: Dataset) -> list[str]:
    """Structures whose energy or forces are not finite, in words."""
    bad = ~np.isfinite(predicted.energy)
    bad |= np.add.reduceat(~np.isfinite(predicted.forces).all(1), data.offsets[:-1]) > 0
    return [data_name(data, int(k)) for k in np.flatnonzero(bad)]


def data_name(data: Dataset, index: int) -> str:
    """A structure for people: index, formula, group."""
    group = f", {data.group[index]}" if str(data.group[index]) else ""
    return f"structure {index} ({data.atoms(index).get_chemical_formula()}{group})"


def some_of(data: Dataset, number: int, seed: int) -> Dataset:
    """At most so many structures, drawn once for a seed."""
    if not number or number >= len(data):
        return data
    return data.take(np.sort(np.random.default_rng([seed, 7]).permutation(len(data))[:number]))


def _errors(predicted: Predicted, data: Dataset, mask: np.ndarray) -> dict[str, PropertyErrors]:
    atoms = np.repeat(mask, data.counts)
    part = data.take(np.flatnonzero(mask))
    values = {field.name: getattr(predicted, field.name) for field in fields(predicted)}
    whole = ("energy", "dipole", "reference", "stress")
    chosen: dict[str, Any] = {
        name: v if v is None else v[mask if name in whole else atoms] for name, v in values.items()
    }
    found: dict[str, PropertyErrors] = {}
    for name, (label, answer) in pairs_of(replace(predicted, **chosen), part).items():
        both = np.isfinite(label)
        if both.any() and not np.isnan(answer).all():
            found[name] = _statistics(label[both], answer[both])
    return found


def _statistics(label: np.ndarray, answer: np.ndarray) -> PropertyErrors:
    error = answer - label
    spread = np.square(label - label.mean()).sum()
    squares = np.square(error).sum()
    r2 = 1.0 - squares / spread if spread > 0 else np.nan
    return PropertyErrors(float(np.abs(error).mean()), float(np.sqrt(squares / len(error))), float(r2), len(error))


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    # JSON knows no NaN everywhere
    return {name: float("nan") if values[name] is None else float(values[name]) for name in ("mae", "rmse", "r2")}


def _chunks(lists: Lists) -> list[np.ndarray]:
    """Structures of about the same size together, as many as fit."""
    order = np.argsort(lists.sizes[:, 0], kind="stable")
    batches: list[np.ndarray] = []
    chosen: list[int] = []
    atoms = 0
    for s in order:
        size = int(lists.sizes[s, 0])
        if chosen and atoms + size > ATOMS:
            batches.append(np.array(chosen))
            chosen, atoms = [], 0
        chosen.append(int(s))
        atoms += size
    return [*batches, np.array(chosen)] if chosen else batches
