"""Losses: residuals of each property, masked where there is no label, turned into one number.

Energies are those without references, divided by the number of atoms ("atom") or not ("structure"); forces, dipoles,
Hirshfeld ratios and charges enter component by component. Each property's term is the mean over the labels there are,
and the terms are added with their weights. The robust loss learns a scale for each property, so that its weights say
little; Huber and squared errors are taken in units of the labels' own spread, so that weights mean the same for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from heliodor.errors import InputError
from heliodor.potential import Prediction
from heliodor.train.batches import Batch, Lists
from heliodor.train.robust import RobustLoss
from heliodor.train.settings import TrainSettings

UNITS = {
    "energy": ("meV/atom", 1e3),
    "forces": ("meV/Å", 1e3),
    "dipole": ("e·Å", 1.0),
    "hirshfeld_ratios": ("", 1.0),
    "charges": ("e", 1.0),
}
"""How each property's errors are printed: unit, and factor from eV, Å, e."""


@dataclass(frozen=True)
class Outputs:
    """What a loss sees of a model's answer; None where the model has no such property.

    Attributes:
        energy: eV.
        forces: eV/Å.
        dipole: e·Å.
    """

    energy: Float[Tensor, "B"]
    forces: Float[Tensor, "N 3"]
    dipole: Float[Tensor, "B 3"] | None = None
    hirshfeld_ratios: Float[Tensor, "N"] | None = None
    charges: Float[Tensor, "N"] | None = None

    @staticmethod
    def of(prediction: Prediction) -> Outputs:
        assert prediction.forces is not None
        p = prediction
        return Outputs(p.energy, prediction.forces, p.dipole, p.hirshfeld_ratios, p.charges)


def residuals(outputs: Outputs, batch: Batch, name: str, per_atom: bool = True) -> Float[Tensor, "..."] | None:
    """Prediction minus label of one property, NaN where there is no label; None if the model has no such property."""
    predicted: Tensor | None = getattr(outputs, name)
    if predicted is None:
        return None
    label: Tensor = getattr(batch, name)
    difference = predicted.to(label.dtype) - label
    return difference / batch.counts if name == "energy" and per_atom else difference


class Loss(nn.Module):
    """The weighted sum of each property's mean loss.

    Args:
        weights: of the properties that take part.
        spreads: of their labels: mean absolute deviations, by which the robust loss starts and the others are scaled.
    """

    def __init__(self, settings: TrainSettings, weights: Mapping[str, float], spreads: Mapping[str, float]) -> None:
        super().__init__()
        self.kind, self.per_atom, self.width = settings.loss, settings.energy_per == "atom", settings.huber_width
        self.weights, self.spreads = dict(weights), dict(spreads)
        robust = {name: RobustLoss(scale=spreads[name]) for name in weights} if self.kind == "robust" else {}
        self.robust = nn.ModuleDict(robust)

    def forward(self, outputs: Outputs, batch: Batch) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, "2"]]]:
        """The loss, and for each property the sum of absolute residuals (energies: per atom) and how many there are."""
        total = batch.energy.new_zeros(())
        sums: dict[str, Tensor] = {}
        for name, weight in self.weights.items():
            x = residuals(outputs, batch, name, self.per_atom)
            assert x is not None
            known = torch.isfinite(getattr(batch, name))
            # zeros in the place of NaN before anything is differentiated: NaN times zero is NaN
            x = torch.where(known, x, torch.zeros_like(x))
            count = known.sum()
            each = torch.where(known, self.each(name, x), torch.zeros_like(x))
            total = total + weight * each.sum() / count.clamp(min=1)
            shown = x.detach().abs()
            if name == "energy" and not self.per_atom:
                shown = shown / batch.counts
            sums[name] = torch.stack([shown.sum(), count.to(x.dtype)])
        return total, sums

    def each(self, name: str, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The loss of each residual."""
        if self.kind == "robust":
            return self.robust[name](x)
        scaled = x / self.spreads[name]
        if self.kind == "mse":
            return scaled.square()
        return nn.functional.huber_loss(scaled, torch.zeros_like(scaled), reduction="none", delta=self.width)

    def describe(self) -> dict[str, float]:
        """Shape and scale of each property's robust loss, for the log."""
        found: dict[str, float] = {}
        for name, part in self.robust.items():
            assert isinstance(part, RobustLoss)
            found[f"{name}_shape"], found[f"{name}_scale"] = part.shape.item(), part.scale.item()
        return found


def label_spreads(lists: Lists, per_atom: bool = True) -> dict[str, float]:
    """Mean absolute deviation of each property's labels from their median (forces and dipoles: from zero).

    Only properties that have labels are listed.
    """
    data = lists.dataset
    energy = lists.energy / data.counts if per_atom else lists.energy
    found: dict[str, float] = {}
    values = {
        "energy": energy,
        "forces": data.forces,
        "dipole": lists.dipole,
        "hirshfeld_ratios": data.hirshfeld_ratios,
        "charges": data.charges,
    }
    for name, labels in values.items():
        known = labels[np.isfinite(labels)]
        if len(known):
            middle = 0.0 if name in ("forces", "dipole") else float(np.median(known))
            # a constant label has no spread, and is learned as such
            found[name] = max(float(np.abs(known - middle).mean()), 1e-4)
    return found


def make_loss(settings: TrainSettings, lists: Lists, outputs: frozenset[str]) -> Loss:
    """A loss over what the set has labels for, the settings give a weight, and the model predicts.

    Args:
        outputs: of the model, beyond energy and forces.

    Raises:
        InputError: nothing is left.
    """
    spreads = label_spreads(lists, settings.energy_per == "atom")
    possible = {"energy", "forces", *outputs}
    weights = {k: w for k, w in settings.weights.items() if w > 0 and k in spreads and k in possible}
    if not weights:
        raise InputError(
            "there is nothing to train on: the structures have labels for "
            f"{', '.join(spreads) or 'nothing'}, the model predicts {', '.join(sorted(possible))}, and weights are "
            f"given for {', '.join(k for k, w in settings.weights.items() if w > 0)}"
        )
    return Loss(settings, weights, spreads)
