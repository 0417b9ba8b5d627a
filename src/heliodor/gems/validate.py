"""A force field held against labels it has not seen: energies and forces by set, in numbers and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from heliodor.analysis.parity import Errors, errors
from heliodor.analysis.show import Axis, Curve, Number, Panel, Shown
from heliodor.api import evaluate
from heliodor.potential import Potential
from heliodor.train.dataset import Dataset
from heliodor.train.references import References

POINTS = 4000
"""Drawn of a set's forces."""

DRAWN = f"{POINTS} force components are drawn, chosen at random; the numbers are of all."

LINE = "line of equality"


@dataclass(frozen=True, eq=False)
class Held:
    """One model on one set of S structures with M atoms in all.

    Attributes:
        model: its name for people.
        energy, predicted_energy: eV per atom, each without its mean over the set (models and methods have different
            zeros; GEMS compares in the same way).
        forces, predicted_forces: eV/Å.
        counts: atoms of each structure.
    """

    model: str
    energy: Float[np.ndarray, "S"]
    predicted_energy: Float[np.ndarray, "S"]
    forces: Float[np.ndarray, "M 3"]
    predicted_forces: Float[np.ndarray, "M 3"]
    counts: Int[np.ndarray, "S"]

    @property
    def energy_errors(self) -> Errors:
        """eV per atom."""
        return errors(self.energy, self.predicted_energy)

    @property
    def force_errors(self) -> Errors:
        """eV/Å, of components."""
        return errors(self.forces, self.predicted_forces)

    @property
    def facts(self) -> dict[str, Any]:
        """Numbers for a JSON file."""
        return {
            "structures": len(self.energy),
            "energy_per_atom_eV": asdict(self.energy_errors),
            "forces_eV_per_A": asdict(self.force_errors),
        }


def hold(potential: Potential, labelled: Dataset, references: References, model: str) -> Held:
    """Predict a labelled set.

    Args:
        references: energies of elements that the model's energies are relative to.
    """
    found = evaluate(potential, [labelled.atoms(k) for k in range(len(labelled))])
    true = (labelled.energy - references.sums(labelled)) / labelled.counts
    mine = found.energy.double().numpy() / labelled.counts
    assert found.forces is not None
    return Held(
        model=model,
        energy=true - true.mean(),
        predicted_energy=mine - mine.mean(),
        forces=labelled.forces,
        predicted_forces=found.forces.double().numpy(),
        counts=labelled.counts,
    )


def show(name: str, title: str, held: Sequence[Held], method: str, notes: Sequence[str] = ()) -> Shown:
    """Parity plots of several models on one set."""
    energies, forces, numbers = [], [], []
    tables: dict[str, dict[str, np.ndarray]] = {}
    for one in held:
        energies.append(Curve(one.model, 1e3 * one.energy, 1e3 * one.predicted_energy, style="points"))
        x, y = one.forces.ravel(), one.predicted_forces.ravel()
        chosen = np.random.default_rng(0).permutation(len(x))[:POINTS]
        forces.append(Curve(one.model, x[chosen], y[chosen], style="points"))
        e, f = one.energy_errors, one.force_errors
        numbers += [
            Number(f"{one.model}: energy, mean absolute error", 1e3 * e.mae, unit="meV/atom", note=f"R² {e.r2:.4f}"),
            Number(f"{one.model}: forces, mean absolute error", 1e3 * f.mae, unit="meV/Å", note=f"R² {f.r2:.4f}"),
            Number(f"{one.model}: forces, root mean square error", 1e3 * f.rmse, unit="meV/Å"),
        ]
        tables[f"{name}_{one.model.replace(' ', '_')}"] = {
            "atoms": one.counts,
            "energy_reference_eV_per_atom": one.energy,
            "energy_predicted_eV_per_atom": one.predicted_energy,
        }
    return Shown(
        name,
        title,
        panels=(
            _panel("Energies", "energy per atom", "meV/atom", energies),
            _panel("Forces", "force component", "eV/Å", forces),
        ),
        numbers=tuple(numbers),
        notes=(
            f"{len(held[0].energy)} structures, {held[0].counts.mean():.0f} atoms on average, labels by {method}.",
            "The mean over the set is removed from energies, of the reference and of each model.",
            *((DRAWN,) if held[0].forces.size > POINTS else ()),
            *notes,
        ),
        tables=tables,
    )


def _panel(title: str, label: str, unit: str, curves: Sequence[Curve]) -> Panel:
    low = min(float(np.min([c.x.min(), c.y.min()])) for c in curves)
    high = max(float(np.max([c.x.max(), c.y.max()])) for c in curves)
    span = np.array([low, high])
    # what is drawn last lies on top: the line under all, the force field over the one it is held against
    line = Curve(LINE, span, span, style="dashed", reference=True)
    return Panel(title, Axis(f"{label}, reference", unit), Axis(f"{label}, model", unit), (line, *reversed(curves)))
