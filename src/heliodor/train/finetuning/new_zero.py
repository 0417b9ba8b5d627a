"""The zero of energy of a new level of theory, for a model that has its own.

A model's card may hold reference energies of the elements, which training takes off the labels; MACE has energies of
isolated atoms in its configuration. Both are brought to one place while a model is trained, as the labels lose their
last digits in float32 otherwise, and MACE's are put back afterwards.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from ase.data import chemical_symbols

from heliodor.errors import InputError
from heliodor.potential import Potential
from heliodor.train.dataset import Dataset
from heliodor.train.errors import predict
from heliodor.train.references import References, fit_references, isolated_atoms

Zero = str | Mapping[str, float]
"""What becomes of the reference energies: "keep", "refit", or energies by element, eV."""


def with_zero(model: Potential, training: Dataset, zero: Zero) -> Potential:
    """A plain copy of a model, float64, without its uncertainty, whose card has the reference energies for a data set.

    "refit" shifts the references of each element so that the model as it is meets the energies of the set by least
    squares (elements that the set does not tell apart share what is left). "keep" leaves them; energies by element
    replace them.

    Raises:
        InputError: energies of elements that are missing or not numbers.
    """
    start = copy.deepcopy(model).double().requires_grad_(False).eval()
    for part in start.modules():
        if isinstance(part, Potential):
            part.use_kernel(None, "reference")
    # fitted to the errors of the weights as they were
    start.uncertainty = None
    own = _take_out(start)
    kept = References.from_card(start.card)
    energies = {z: (kept.energies.get(z, 0.0) if kept else 0.0) + own.get(z, 0.0) for z in start.elements}
    origin = kept.origin if kept and kept.origin else f"{model.name}, unchanged"
    if isinstance(zero, Mapping):
        given = isolated_atoms(dict(zero))
        energies, origin = energies | given.energies, "given for the new level of theory"
        missing = [chemical_symbols[z] for z in training.elements if z not in given.energies]
        if missing:
            raise InputError(f"references: no energy is given for {', '.join(missing)}, which the training set holds")
    elif zero == "refit" and np.isfinite(training.energy).any():
        start.card |= References(energies, origin).to_card()
        shift = residual_shift(start, training)
        energies = {z: e + shift.energies.get(z, 0.0) for z, e in energies.items()}
        origin = (
            f"those of {model.name}, shifted for "
            f"{', '.join(shift.symbols)} to the energies of the new level of theory (least squares over "
            "what the model lacks); other elements keep the old zero"
        )
    start.card |= References(energies, origin).to_card()
    return start


def residual_shift(model: Potential, data: Dataset) -> References:
    """Energies by element, eV, that the model's total energies lack on a data set, by least squares."""
    return fit_references(replace(data, energy=data.energy - predict(model, data).energy))


def put_back(model: Potential, before: Potential) -> None:
    """Give a MACE its energies of isolated atoms again, in place, from the references of its card.

    Args:
        before: the model as it was handed in; other architectures, and MACEs that had none, are left alone.
    """
    from heliodor.potentials.mace import MACE

    references = References.from_card(model.card)
    if not isinstance(model, MACE) or not isinstance(before, MACE) or references is None:
        return
    if not any(before.config.isolated_energies):
        return
    model.config = replace(model.config, isolated_energies=tuple(references.energies[z] for z in model.elements))
    model.double()
    zero = References(dict.fromkeys(references.energies, 0.0), f"in the model itself: {references.origin}")
    model.card |= zero.to_card()


def _take_out(model: Potential) -> dict[int, float]:
    """The isolated atoms' energies of a MACE, which has zeros from then on."""
    from heliodor.potentials.mace import MACE

    if not isinstance(model, MACE):
        return {}
    energies = model.config.isolated_energies
    found = {z: float(e) for z, e in zip(model.elements, energies, strict=True) if math.isfinite(e)}
    model.config = replace(model.config, isolated_energies=(0.0,) * len(energies))
    # which makes its table anew
    model.double()
    return found
