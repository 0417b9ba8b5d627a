"""Losses: residuals of each property, masked where there is no label, turned into one number.

Energies are those without references, divided by the number of atoms ("atom") or not ("structure"). Each property's
term is a mean over the labels there are, and the terms are added with their weights:

- "robust": Barron's adaptive likelihood (`heliodor.train.robust`), as GEMS trains with (Unke et al. 2024). It learns a
  scale for each property, so that its weights say little.
- "huber", "mse": in units of the labels' own spread, so that weights mean the same for all properties.
- "so3lr": SO3LR's (Kabylda et al., J. Am. Chem. Soc. 147, 33723 (2025), eq. 7), squared errors in eV/Å, e·Å and 1:
  L = λ_F <1/(3 N_s) Σ_a |ΔF_a|²>_s + λ_μ <1/3 |Δμ_s|²>_s + λ_h <1/N_s Σ_a Δh_a²>_s,
  <>_s being the mean over the structures with such labels: every structure counts the same, whatever its size. Their
  published hyperparameters have λ_F = 10, λ_μ = λ_h = 1.
- "mace": MACE's weighted loss (Batatia et al., NeurIPS 2022), squared errors in eV, eV/Å, eV/Å³:
  L = λ_E <(ΔE_s/N_s)²>_s + λ_F <ΔF²> over all components of the batch + λ_σ <Δσ²> over all components,
  normalised as its trainer does (with `average: structure` forces are averaged over each structure first).
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
from heliodor.system import System
from heliodor.train.batches import Batch, Lists
from heliodor.train.robust import RobustLoss
from heliodor.train.settings import TrainSettings

UNITS = {
    "energy": ("meV/atom", 1e3),
    "forces": ("meV/Å", 1e3),
    "stress": ("meV/Å³", 1e3),
    "dipole": ("e·Å", 1.0),
    "hirshfeld_ratios": ("", 1.0),
    "charges": ("e", 1.0),
    "node_energies": ("meV", 1e3),
}
"""How each property's errors are printed: unit, and factor from eV, Å, e."""

OF_ATOMS = ("forces", "hirshfeld_ratios", "charges", "node_energies")
"""Properties whose labels belong to atoms."""

ALWAYS = frozenset({"energy", "forces", "stress", "node_energies"})
"""What every potential predicts, beyond its `outputs`."""

SAMPLE = 50_000
"""Structures of which the labels' spread is taken, in larger sets."""


@dataclass(frozen=True)
class Outputs:
    """What a loss sees of a model's answer; None where the model has no such property, or was not asked for it.

    Attributes:
        energy: eV.
        forces: eV/Å.
        dipole: e·Å.
        stress: eV/Å³; zero for structures that are not fully periodic.
        node_energies: eV, of the network's term alone (`network_term`).
    """

    energy: Float[Tensor, "B"]
    forces: Float[Tensor, "N 3"]
    dipole: Float[Tensor, "B 3"] | None = None
    hirshfeld_ratios: Float[Tensor, "N"] | None = None
    charges: Float[Tensor, "N"] | None = None
    stress: Float[Tensor, "B 3 3"] | None = None
    node_energies: Float[Tensor, "N"] | None = None

    @staticmethod
    def of(prediction: Prediction, system: System | None = None) -> Outputs:
        """From an evaluation; with the stress where that has a virial and the system is given."""
        p = prediction
        assert p.forces is not None
        stress = None if p.virial is None or system is None else stress_of(p.virial, system)
        node = p.node_terms[network_term(p.node_terms)] if p.node_terms else None
        return Outputs(p.energy, p.forces, p.dipole, p.hirshfeld_ratios, p.charges, stress, node)


def network_term(energies: Mapping[str, Tensor]) -> str:
    """The name of the network's own energies among a potential's terms: the first, "so3krates" for SO3LR."""
    return next(iter(energies))


def stress_of(virial: Float[Tensor, "B 3 3"], system: System) -> Float[Tensor, "B 3 3"]:
    """-virial/V, eV/Å³, of fully periodic structures; zeros elsewhere."""
    periodic = system.pbc.all(-1)
    volume = torch.where(periodic, system.volume.abs(), torch.ones_like(system.volume))
    return torch.where(periodic.view(-1, 1, 1), -virial / volume.view(-1, 1, 1).to(virial.dtype), 0.0)


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
        weights: of the properties that take part, at the beginning of a run.
        spreads: of their labels: mean absolute deviations, by which the robust loss starts and "huber" and "mse" are
            scaled.

    Attributes:
        names: of the properties that take part.
        weights: as they are now, by name.
        levels: the same as a tensor, which a compiled step reads.
    """

    levels: Tensor

    def __init__(self, settings: TrainSettings, weights: Mapping[str, float], spreads: Mapping[str, float]) -> None:
        super().__init__()
        self.settings = settings
        self.kind, self.per_atom, self.width = settings.loss, settings.energy_per == "atom", settings.huber_width
        self.by_structure = settings.by_structure
        self.names = tuple(weights)
        self.weights, self.spreads = dict(weights), dict(spreads)
        robust = {name: RobustLoss(scale=spreads[name]) for name in weights} if self.kind == "robust" else {}
        self.robust = nn.ModuleDict(robust)
        # not in checkpoints: a function of how far the run has come
        self.register_buffer("levels", torch.tensor(list(weights.values()), dtype=torch.float64), persistent=False)

    def set_progress(self, fraction: float) -> None:
        """Give the properties the weights that they have where so much of the run (0 to 1) is over."""
        if self.settings.weights_change:
            now = self.settings.weights_at(fraction)
            self.weights = {name: now[name] for name in self.names}
            with torch.no_grad():
                self.levels.copy_(torch.tensor(list(self.weights.values()), dtype=self.levels.dtype))

    @property
    def wants_stress(self) -> bool:
        return "stress" in self.names

    def label_counts(self, batch: Batch) -> Float[Tensor, "P"]:
        """What each property's term is divided by: labels, or structures that have some."""
        return torch.stack([self._count(name, torch.isfinite(getattr(batch, name)), batch) for name in self.names])

    def forward(
        self, outputs: Outputs, batch: Batch, counts: Float[Tensor, "P"] | None = None
    ) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, "2"]]]:
        """The loss, and for each property the sum of absolute residuals (energies: per atom) and how many there are.

        Args:
            counts: what to divide by, in the place of `label_counts` of the batch: those of all batches of one step
                together make the losses of its parts (accumulated batches, processes) add up to that of the whole.
        """
        total = batch.energy.new_zeros(())
        sums: dict[str, Tensor] = {}
        for k, name in enumerate(self.names):
            x = residuals(outputs, batch, name, self.per_atom)
            if x is None:
                # a stress that was not asked for, as no structure of the batch has a label of it
                assert name == "stress"
                sums[name] = batch.energy.new_zeros(2)
                continue
            known = torch.isfinite(getattr(batch, name))
            # zeros in the place of NaN before anything is differentiated: NaN times zero is NaN
            x = torch.where(known, x, torch.zeros_like(x))
            each = torch.where(known, self.each(name, x), torch.zeros_like(x))
            part = _structure_means(each, known, batch).sum() if self._over_structures(name) else each.sum()
            count = self._count(name, known, batch) if counts is None else counts[k]
            total = total + self.levels[k].to(x.dtype) * part / count.clamp(min=1).to(x.dtype)
            shown = x.detach().abs()
            if name == "energy" and not self.per_atom:
                shown = shown / batch.counts
            sums[name] = torch.stack([shown.sum(), known.sum().to(x.dtype)])
        return total, sums

    def each(self, name: str, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The loss of each residual."""
        if self.kind == "robust":
            return self.robust[name](x)
        if self.kind in ("so3lr", "mace"):
            return x.square()
        scaled = x / self.spreads[name]
        if self.kind == "mse":
            return scaled.square()
        return nn.functional.huber_loss(scaled, torch.zeros_like(scaled), reduction="none", delta=self.width)

    def describe(self) -> dict[str, float]:
        """Shape and scale of each property's robust loss, and weights that change, for the log."""
        found: dict[str, float] = {}
        for name, part in self.robust.items():
            assert isinstance(part, RobustLoss)
            found[f"{name}_shape"], found[f"{name}_scale"] = part.shape.item(), part.scale.item()
        if self.settings.weights_change:
            found |= {f"{name}_weight": weight for name, weight in self.weights.items()}
        return found

    def _over_structures(self, name: str) -> bool:
        return self.by_structure and name in OF_ATOMS

    def _count(self, name: str, known: Tensor, batch: Batch) -> Float[Tensor, ""]:
        if not self._over_structures(name):
            return known.sum().to(batch.energy.dtype)
        owners = _per_structure(known.to(batch.energy.dtype), batch)
        return (owners > 0).sum().to(batch.energy.dtype)


def _per_structure(values: Tensor, batch: Batch) -> Float[Tensor, "B"]:
    """Sums over the atoms of each structure, and over components."""
    rows = values.reshape(values.shape[0], -1).sum(1)
    return torch.zeros_like(batch.energy).index_add(0, batch.batch, rows.to(batch.energy.dtype))


def _structure_means(each: Tensor, known: Tensor, batch: Batch) -> Float[Tensor, "B"]:
    """Means over the labels that each structure has; zero where it has none."""
    return _per_structure(each, batch) / _per_structure(known, batch).clamp(min=1)


def label_spreads(lists: Lists, per_atom: bool = True) -> dict[str, float]:
    """Mean absolute deviation of each property's labels from their median (forces, stress, dipoles: from zero).

    Only properties that have labels are listed. Of sets of more than `SAMPLE` structures, so many are looked at.
    """
    data, energies, dipoles = lists.dataset, lists.energy, lists.dipole
    if len(data) > SAMPLE:
        chosen = np.sort(np.random.default_rng(17).permutation(len(data))[:SAMPLE])
        data, energies, dipoles = data.take(chosen), energies[chosen], dipoles[chosen]
    found: dict[str, float] = {}
    values = {
        "energy": energies / data.counts if per_atom else energies,
        "forces": data.forces,
        "stress": data.stress[data.pbc.all(1)],
        "dipole": dipoles,
        "hirshfeld_ratios": data.hirshfeld_ratios,
        "charges": data.charges,
        "node_energies": data.node_energies,
    }
    for name, labels in values.items():
        known = labels[np.isfinite(labels)]
        if len(known):
            middle = 0.0 if name in ("forces", "stress", "dipole") else float(np.median(known))
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
    possible = ALWAYS | outputs
    ever, first = settings.largest_weights, settings.weights_at(0.0)
    weights = {name: first[name] for name, most in ever.items() if most > 0 and name in spreads and name in possible}
    if not weights:
        raise InputError(
            "there is nothing to train on: the structures have labels for "
            f"{', '.join(spreads) or 'nothing'}, the model predicts {', '.join(sorted(possible))}, and weights are "
            f"given for {', '.join(name for name, most in ever.items() if most > 0)}"
        )
    return Loss(settings, weights, spreads)
