"""New models, ready to be trained: shape from a preset or a mapping, constants and first guesses from the data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols

from heliodor.errors import InputError, suggestion
from heliodor.neighbors import find_neighbors
from heliodor.potential import Potential
from heliodor.system import System
from heliodor.train.batches import find_lists
from heliodor.train.dataset import Dataset
from heliodor.train.errors import predict
from heliodor.train.references import References, count_elements, fit_references, references_for

SAMPLE = 400
"""Structures from which averages and first guesses are taken."""

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "spookynet": {
        "small": {"n_features": 32, "n_modules": 2, "module_keep_prob": 1.0},
        "medium": {"n_features": 64, "n_modules": 3, "module_keep_prob": 1.0},
        "large": {"n_features": 128, "n_modules": 6},
    },
    "so3lr": {
        "small": {"n_features": 64, "n_layers": 2, "n_basis": 16, "n_hirshfeld": 32},
        "medium": {"n_features": 128, "n_layers": 2, "n_basis": 32, "n_hirshfeld": 64},
        "large": {"n_features": 128, "n_layers": 3, "n_basis": 32, "n_hirshfeld": 64},
    },
    "mace": {
        "small": {"channels": 16, "degrees": (0, 0), "correlation": 2},
        "medium": {"channels": 32, "degrees": (1, 0)},
        "large": {"channels": 96, "degrees": (1, 0)},
    },
}
"""Shapes by architecture and name. "small" trains within minutes on a CPU, "large" wants a GPU."""


def new_model(
    architecture: str,
    size: str | Mapping[str, Any],
    elements: Iterable[int],
    dataset: Dataset,
    *,
    references: References | None = None,
    seed: int = 1,
) -> Potential:
    """A model with random parameters, in float64 on the CPU.

    Reference energies (fitted to the set unless given; zero if it has no energies) are kept in its card; energies by
    element that make up for what the untrained model says are put where the architecture has room for them.

    Args:
        architecture: "spookynet", "so3lr" or "mace".
        size: "small", "medium", "large", or a mapping of fields of the architecture's configuration; "preset" among
            them names the preset to begin with ("medium" otherwise).
        elements: atomic numbers the model shall know.
        dataset: the training set.
        seed: of the parameters.

    Raises:
        InputError: an unknown architecture, preset or field, or elements missing.
    """
    if architecture not in PRESETS:
        known = ", ".join(PRESETS)
        raise InputError(f"no architecture called {architecture!r}{suggestion(architecture, PRESETS)} ({known})")
    wanted = tuple(sorted({int(z) for z in elements}))
    outside = [chemical_symbols[z] for z in dataset.elements if z not in wanted]
    if outside:
        raise InputError(f"the training set holds {', '.join(outside)}, which the model is not to know")
    values = _shape(architecture, size)
    references = references or references_for(dataset)
    rng = np.random.default_rng([seed, 11])
    sample = dataset.take(np.sort(rng.permutation(len(dataset))[:SAMPLE]))
    build = {"spookynet": _new_spookynet, "so3lr": _new_so3lr, "mace": _new_mace}[architecture]
    # the caller's random numbers go on as if nothing had been drawn
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(values, wanted, sample, references)
    model.name = architecture
    model.card = {"name": architecture, "seed": seed, **references.to_card()}
    return model


def _shape(architecture: str, size: str | Mapping[str, Any]) -> dict[str, Any]:
    presets = PRESETS[architecture]
    given = {"preset": size} if isinstance(size, str) else dict(size)
    preset = str(given.pop("preset", "medium"))
    if preset not in presets:
        raise InputError(f"{architecture} has no size {preset!r}{suggestion(preset, presets)} ({', '.join(presets)})")
    return {**presets[preset], **given}


def _configure(cls: Any, values: Mapping[str, Any], what: str) -> Any:
    """A configuration from a mapping, lists turned into tuples.

    Raises:
        InputError: naming the field that does not exist.
    """
    known = {f.name: f for f in dataclasses.fields(cls)}
    for key in values:
        if key not in known:
            raise InputError(f"{what} has no setting {key!r}{suggestion(key, known)}")
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _new_spookynet(
    values: dict[str, Any], elements: tuple[int, ...], sample: Dataset, references: References
) -> Potential:
    from heliodor.potentials.spookynet import SpookyNet, SpookyNetConfig
    from heliodor.potentials.spookynet_blocks import Depths

    if isinstance(values.get("depths"), Mapping):
        values = {**values, "depths": _configure(Depths, values["depths"], "SpookyNet's depths")}
    model = SpookyNet(_configure(SpookyNetConfig, {**values, "elements": elements}, "SpookyNet")).double()
    with torch.no_grad():
        # all elements alike, as the reference begins, gives no gradient to half of the network at first
        torch.nn.init.uniform_(model.element, -(3.0**0.5), 3.0**0.5)
        torch.nn.init.orthogonal_(model.element_electrons.weight)
    offsets = _offsets(model, sample, references)
    model.set_element_energies(offsets)
    return model


def _new_so3lr(values: dict[str, Any], elements: tuple[int, ...], sample: Dataset, references: References) -> Potential:
    from heliodor.potentials.so3krates import SO3kratesConfig
    from heliodor.potentials.so3lr import SO3LR, SO3LRConfig

    outer = {f.name for f in dataclasses.fields(SO3LRConfig)} - {"network", "elements"}
    inner = {k: v for k, v in values.items() if k not in outer}
    inner.setdefault("n_elements", max(18, max(elements) + 1))
    cutoff = float(inner.get("cutoff", SO3kratesConfig.cutoff))
    inner.setdefault("average_neighbors", _average_neighbors(sample, cutoff))
    network = _configure(SO3kratesConfig, inner, "so3lr")
    rest = {k: v for k, v in values.items() if k in outer}
    config = _configure(SO3LRConfig, {**rest, "network": network, "elements": elements}, "so3lr")
    model = SO3LR(config).double()
    with torch.no_grad():
        model.hirshfeld_weight.normal_(0.0, 0.1)
        for z in sample.elements:
            here = sample.hirshfeld_ratios[sample.numbers == z]
            if np.isfinite(here).any():
                model.hirshfeld_offset[z] = float(np.nanmean(here))
        for z, energy in _offsets(model, sample, references).items():
            model.energy_offset[z] += energy
    return model


def _new_mace(values: dict[str, Any], elements: tuple[int, ...], sample: Dataset, references: References) -> Potential:
    from heliodor.potentials.mace import MACE, MACEConfig, Product

    cutoff = float(values.get("cutoff", 5.0))
    degrees = tuple(values.get("degrees", (1, 0)))
    average = _average_neighbors(sample, cutoff)
    fixed = {
        "cutoff": cutoff,
        "elements": elements,
        "average_neighbors": (average,) * len(degrees),
        # the references of the card are taken off before, for every architecture alike
        "isolated_energies": (0.0,) * len(elements),
    }
    model = MACE(_configure(MACEConfig, {**fixed, **values}, "mace")).double()
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, Product):
                # as many paths add up to one message (Batatia et al. 2022, their code's initial values)
                for weight in part.weights:
                    weight /= weight.shape[1]
        known = sample.forces[np.isfinite(sample.forces)]
        if len(known):
            model.scale.fill_(max(float(np.sqrt(np.square(known).mean())), 0.1))
        offsets = _offsets(model, sample, references)
        model.shift.fill_(float(np.mean([offsets[z] for z in sample.numbers])) if offsets else 0.0)
    return model


def _offsets(model: Potential, sample: Dataset, references: References) -> dict[int, float]:
    """Energies by element, eV, that the untrained model lacks on average."""
    known = np.isfinite(sample.energy)
    if not known.any():
        return {}
    part = sample.take(np.flatnonzero(known))
    lists = find_lists(part, model, references, torch.float64)
    # without references in its card a model's answer is its own
    left = lists.energy - predict(model, lists).energy
    if not np.isfinite(left).all():
        return {}
    composition = count_elements(part, part.elements)
    fitted = fit_references(dataclasses.replace(part, energy=left)) if composition.any() else None
    return fitted.energies if fitted is not None else {}


def _average_neighbors(sample: Dataset, cutoff: float) -> float:
    """Mean number of atoms within the cutoff of an atom."""
    system = System.from_atoms([sample.atoms(k) for k in range(len(sample))])
    edges = find_neighbors(system, cutoff)
    return max(2.0 * edges.n_edges / system.n_atoms, 1.0)
