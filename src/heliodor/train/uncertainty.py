"""Fitting how far off a model's forces may be, and looking at whether what it says holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heliodor.errors import InputError, ModelError
from heliodor.potential import Potential, check_distances, evaluate_system
from heliodor.system import System
from heliodor.train.conformal import Coverage, check_level, conformal_scale, coverage_of, groups_of, rank_correlation
from heliodor.train.dataset import Dataset
from heliodor.train.errors import data_name
from heliodor.train.ridge import ridge
from heliodor.uncertainty import NEAREST, ForceError, ForceErrorConfig, weights_digest

ATOMS = 1200
"""In a batch, at most (or one structure)."""

REFERENCES = 3000
"""Training structures, at most, that say where the training set lies."""

INSIDE = 0.99
"""Share of the training set's atoms within the radius."""

SHRINKAGE = 1e-3
"""Of the covariance towards a multiple of the identity: directions in which features hardly vary tell nothing."""

FLAT = 1e-12
"""Part of their square that features must vary by; what rounding leaves is less."""

SMALLEST = 0.05
"""Of the median error: what is smaller is as good as that, and its logarithm is not followed further."""

SHARE = 0.6
"""Share of the calibration groups that the widths are fitted to; the others calibrate them."""

USUAL = 0.999
"""Share of the calibration atoms below the limit beyond which the model doubts itself."""

FEWEST = 20
"""Groups that calibration needs to be worth anything."""

Progress = Callable[[int, int], None]
"""Called with the structures done and their number."""


class _Collector(ForceError):
    """Stands in for the uncertainty while features are collected."""

    def __init__(self, config: ForceErrorConfig) -> None:
        super().__init__(config)
        self.found: list[Tensor] = []

    def forward(self, features: Float[Tensor, "N F"], numbers: Int[Tensor, "N"]) -> Float[Tensor, "N"]:
        self.found.append(features.detach().double().cpu())
        return torch.zeros(len(numbers), dtype=features.dtype, device=features.device)


@dataclass(frozen=True, eq=False)
class _Seen:
    """What a model made of the labelled structures of a set, atom by atom.

    Attributes:
        features: of the last layer; None where they were not collected.
        widths: eV/Å, the half-widths it stated; NaN without.
        errors: eV/Å, |ΔF|, NaN without labels.
        structure, group, kind: of each atom.
    """

    features: Tensor | None
    widths: Float[np.ndarray, "N"]
    errors: Float[np.ndarray, "N"]
    numbers: Int[np.ndarray, "N"]
    structure: Int[np.ndarray, "N"]
    group: Int[np.ndarray, "N"]
    kind: np.ndarray

    def where(self, mask: Bool[np.ndarray, "N"]) -> _Seen:
        """Some of the atoms."""
        arrays = ("widths", "errors", "numbers", "structure", "group", "kind")
        features = None if self.features is None else self.features[torch.from_numpy(mask)]
        return replace(self, features=features, **{name: getattr(self, name)[mask] for name in arrays})

    @property
    def weights(self) -> Float[np.ndarray, "N"]:
        """One for each structure, shared by its atoms."""
        _, which, counts = np.unique(self.structure, return_inverse=True, return_counts=True)
        shares: np.ndarray = 1.0 / counts[which]
        return shares


def fit_uncertainty(
    model: Potential,
    training: Dataset,
    calibration: Dataset,
    *,
    level: float = 0.9,
    seed: int = 0,
    progress: Progress | None = None,
) -> Potential:
    """Give a model an `uncertainty`: the half-width of the interval that |ΔF| of each atom lies in.

    1. The training structures (3000 at most) say where in the space of its last features the model knows its way.
    2. Six tenths of the calibration groups: ridge regression of log |ΔF| on element, distance from the training set
       and whitened features, its strength by cross-validation over groups.
    3. The other four tenths: one scale for all widths, by split conformal calibration (`conformal_scale`).

    Energies and forces stay as they are. Where groups are named (`Dataset.group`) they are what is held to be
    exchangeable, so that the level holds for molecules that were in none of the sets; elsewhere it is structures.

    Args:
        training: what the model was trained on; no labels are needed.
        calibration: labelled, as the structures it will be used for are, and never used in training, not even to
            choose between checkpoints. Some hundred groups or more; the coverage of a single calibration with K groups
            scatters by about √(level (1 - level)/(0.4 K)): 1.5 % at a level of 0.9 with 1000.
        level: share of atoms to be covered.
        seed: of the split of the calibration groups and of the choice of training structures.

    Returns:
        The model that was given, on its device, without its kernel if it had one (kernels hand out no features).

    Raises:
        InputError: too few groups or labels, a level that is none, atoms on one spot.
        ModelError: a model without features or with constant ones, structures outside the model.
    """
    check_level(level)
    rng = np.random.default_rng([seed, 23])
    if not len(training) or not len(calibration):
        raise InputError("the uncertainty needs training structures and labelled calibration structures")
    labelled = _labelled(calibration)
    known = groups_of(labelled.group)
    if len(np.unique(known)) < FEWEST:
        raise InputError(
            f"the calibration set has {len(np.unique(known))} independent groups of structures with forces; {FEWEST} "
            "are the least, and some hundreds are needed for a stated level that means anything"
        )
    references = training.take(np.sort(rng.permutation(len(training))[:REFERENCES]))
    names = rng.permutation(np.unique(known))
    fitting = np.isin(known, names[: round(SHARE * len(names))])
    total, told = len(references) + len(labelled), 0

    def tell(done: int, _: int) -> None:
        if progress is not None:
            progress(told + done, total)

    about = _see(model, references, tell, collect=True)
    told = len(references)
    seen = _see(model, labelled, tell, collect=True)
    chosen = np.repeat(fitting, labelled.counts)
    error = _placed(model, about, level)
    if not np.isfinite(seen.errors).all():
        worst = data_name(labelled, int(seen.structure[~np.isfinite(seen.errors)][0]))
        raise ModelError(f"{model.name} gives no finite forces for {worst} of the calibration set")
    strength = _regress(error, seen.where(chosen))
    held = seen.where(~chosen)
    scores = held.errors / _widths(error, held)
    error.scale.fill_(conformal_scale(scores, held.structure, held.group, level))
    rounded = {k: v.float().double() if v.is_floating_point() else v for k, v in error.state_dict().items()}
    error.load_state_dict(rounded)
    widths = _widths(error, held)
    notes = {
        "training_structures": len(references),
        "fitted_structures": int(fitting.sum()),
        "calibration_structures": int((~fitting).sum()),
        "calibration_groups": len(np.unique(held.group)),
        "kinds": sorted({str(k) for k in held.kind}),
        "method": calibration.method,
        "rank_correlation": round(rank_correlation(widths, held.errors), 4),
        "mean_half_width": float(np.average(widths, weights=held.weights)),
        "ridge": strength,
        "seed": seed,
    }
    error.config = replace(error.config, limit=float(np.float32(np.quantile(widths, USUAL))), calibration=notes)
    model.uncertainty = error.to(device=model.device, dtype=model.dtype)
    return model


def coverage(model: Potential, dataset: Dataset, *, progress: Progress | None = None) -> Coverage:
    """How often |ΔF| is within what the model's `uncertainty` states, over all structures and by kind.

    Raises:
        ModelError: a model without an uncertainty, or that cannot tell it (a kernel).
        InputError: no labelled forces.
    """
    if model.uncertainty is None:
        raise ModelError(f"{model.name} has no uncertainty of forces: fit one (heliodor.train.uncertainty)")
    seen = _see(model, _labelled(dataset), progress)
    if not np.isfinite(seen.widths).all():
        raise ModelError(f"{model.name} tells no errors of forces with the kernel {model.kernels!r}: load it without")
    level = model.uncertainty.level
    return coverage_of(seen.errors, seen.widths, seen.structure, seen.group, seen.kind, level)


def _labelled(data: Dataset) -> Dataset:
    """The structures all of whose forces are labelled."""
    bad = np.add.reduceat(~np.isfinite(data.forces).all(1), data.offsets[:-1]) > 0
    if bad.all():
        raise InputError("no structure has labelled forces")
    return data.take(np.flatnonzero(~bad))


def _see(model: Potential, data: Dataset, progress: Progress | None, *, collect: bool = False) -> _Seen:
    """Evaluate a set, batch by batch, small structures first."""
    periodic = np.asarray(data.pbc.any(1))
    order = np.lexsort((data.counts, periodic))
    # a batch ends where its atoms are enough, or where periodic structures begin
    full = np.diff(np.cumsum(data.counts[order]) // ATOMS, prepend=0) > 0
    begins = np.diff(periodic[order].astype(np.int64), prepend=0) > 0
    ends = np.flatnonzero(full | begins)
    collector = _Collector(ForceErrorConfig(1, model.elements, 0.5, 1.0, "")) if collect else None
    training, was = model.training, model.uncertainty
    if collector is not None:
        model.use_kernel(None, "reference")
        model.uncertainty = collector
    model.eval()
    widths = np.full(len(data.numbers), np.nan)
    forces = np.full((len(data.numbers), 3), np.nan)
    rows: list[np.ndarray] = []
    done = 0
    try:
        for chosen in np.split(order, ends):
            if not len(chosen):
                continue
            system = System.from_atoms([data.atoms(int(s)) for s in chosen], device=model.device)
            model.check(system)
            neighbors = model.neighbors(system)
            check_distances(system, neighbors)
            p = evaluate_system(model, system, neighbors).detached("cpu")
            assert p.forces is not None
            here = np.concatenate([np.arange(data.offsets[s], data.offsets[s + 1]) for s in chosen])
            rows.append(here)
            forces[here] = p.forces.numpy()
            if p.force_error is not None:
                widths[here] = p.force_error.numpy()
            done += len(chosen)
            if progress is not None:
                progress(done, len(data))
    finally:
        model.train(training)
        model.uncertainty = was
    features = None
    if collector is not None:
        if not collector.found:
            raise ModelError(f"{model.name} hands out no features to tell an uncertainty from")
        found = torch.cat(collector.found)
        features = torch.empty_like(found)
        features[torch.from_numpy(np.concatenate(rows))] = found
    return _Seen(
        features=features,
        widths=widths,
        errors=np.linalg.norm(forces - data.forces, axis=1),
        numbers=data.numbers.astype(np.int64),
        structure=np.repeat(np.arange(len(data)), data.counts),
        group=np.repeat(groups_of(data.group), data.counts),
        kind=np.repeat(data.kind.astype(str), data.counts),
    )


def _placed(model: Potential, about: _Seen, level: float) -> ForceError:
    """Where the training set lies: means by element, common covariance, radius; float64 on the CPU."""
    assert about.features is not None
    x, numbers = about.features, torch.from_numpy(about.numbers)
    config = ForceErrorConfig(x.shape[1], tuple(model.elements), level, float("inf"), weights_digest(model))
    error = ForceError(config).double()
    error.mean.copy_(x.mean(0).expand_as(error.mean))
    z = error.row[numbers]
    for k in torch.unique(z).tolist():
        error.mean[k] = x[z == k].mean(0)
    if not bool(x.isfinite().all()):
        raise ModelError(f"{model.name} has features that are not finite on structures it was trained on")
    off = x - error.mean[z]
    covariance = off.T @ off / len(off)
    mean = float(covariance.diagonal().mean())
    if not mean > FLAT * float(x.square().mean()):
        raise ModelError(f"the features of {model.name} are the same for all atoms of an element: train it first")
    covariance += SHRINKAGE * mean * torch.eye(len(covariance)).double()
    values, vectors = torch.linalg.eigh(covariance)
    error.whiten.copy_(vectors * values.rsqrt())
    error.radius.fill_(float(np.quantile(error.whitened(x, z)[1].numpy(), INSIDE)))
    return error


def _regress(error: ForceError, seen: _Seen) -> float:
    """Fill in the exponent by regression on log |ΔF|; returns the ridge's strength."""
    assert seen.features is not None
    z = error.row[torch.from_numpy(seen.numbers)]
    w, d = error.whitened(seen.features, z)
    inside = d.clamp(NEAREST, None).minimum(error.radius)
    w = w * (inside / d.clamp_min(NEAREST)).unsqueeze(-1)
    own = torch.nn.functional.one_hot(z, len(error.config.elements)).double()
    # what elements have in common costs less than what sets one apart
    shared = 3.0 * torch.ones(len(w), 1, dtype=w.dtype)
    apart = (own.unsqueeze(-1) * w.unsqueeze(1)).flatten(1)
    columns = [shared, own, 2.0 * inside.log().unsqueeze(-1), 0.3 * w, 0.3 * apart]
    floor = SMALLEST * float(np.median(seen.errors))
    target = np.log(np.maximum(seen.errors, max(floor, 1e-12)))
    found, strength = ridge(torch.cat(columns, dim=1).numpy(), target, seen.weights, seen.group)
    coefficients = torch.from_numpy(found)
    n, f = error.slope.shape
    error.intercept.copy_(3.0 * coefficients[0] + coefficients[1 : 1 + n])
    error.by_distance.fill_(2.0 * coefficients[1 + n])
    error.slope.copy_(0.3 * (coefficients[2 + n : 2 + n + f] + coefficients[2 + n + f :].view(n, f)))
    return strength


def _widths(error: ForceError, seen: _Seen) -> Float[np.ndarray, "N"]:
    assert seen.features is not None
    found: np.ndarray = error(seen.features, torch.from_numpy(seen.numbers)).numpy()
    return found
