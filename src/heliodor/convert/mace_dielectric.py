"""From a MACE file of dipoles and polarizabilities, read without executing anything, to our model."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from heliodor.convert.mace import convert_network, network_config
from heliodor.convert.mace_file import MACEFile, read_mace
from heliodor.errors import CheckpointError
from heliodor.potentials.mace_dielectric import MACEDielectric, MACEDielectricConfig

MODEL = "AtomicDielectricMACE"


def convert_mace_dielectric(path: str | Path) -> MACEDielectric:
    """Build our model from a file that mace wrote, float64 on the CPU.

    Raises:
        CheckpointError: not such a file, damaged, untrusted, or of an architecture that is not computed exactly.
    """
    return build_dielectric(read_mace(path), path)


def build_dielectric(file: MACEFile, path: str | Path) -> MACEDielectric:
    """The model of a file that was read; errors as `convert_mace_dielectric`."""
    if file.model != MODEL:
        raise CheckpointError(f"{path} is no model of dipoles and polarizabilities ({file.model})")
    try:
        return _build(file)
    except (KeyError, IndexError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} does not fit the MACE architecture it describes: {error}") from None


def _build(file: MACEFile) -> MACEDielectric:
    values, tensors = file.config, file.tensors
    n, k, layers = len(values["numbers"]), int(values["channels"]), int(values["n_layers"])
    degrees = (int(values["hidden_degrees"]),) * layers
    hidden = tuple(values["readout_hidden"])
    network, products = convert_network(tensors, degrees, n, values)
    config = MACEDielectricConfig(
        network_config(values | {"readout_hidden": 0}, degrees, products, ()), hidden, float(values["gate_scale"])
    )
    out = (len(hidden) - 1, *(1 for _ in hidden[1:]))
    state = {f"network.{key}": value for key, value in network.items()}
    for t in range(layers - 1):
        state |= _blocks(f"linear.{t}", tensors[f"readouts.{t}.linear.weight"], [(k, o) for o in out])
    last = f"readouts.{layers - 1}"
    inner = [(k, width) for width in (sum(hidden), *hidden[1:])]
    state |= _blocks("inner", tensors[f"{last}.linear_1.weight"], inner)
    state |= _blocks("outer", tensors[f"{last}.linear_2.weight"], list(zip(hidden, out, strict=True)))
    state["basis"] = tensors["change_of_basis"] if config.polarizable else torch.zeros(0, 3, 3, dtype=torch.float64)
    model = MACEDielectric(config).double()
    model.load_state_dict({key: value.contiguous() for key, value in state.items()})
    return model


def _blocks(name: str, weight: Tensor, shapes: list[tuple[int, int]]) -> dict[str, Tensor]:
    """A weight matrix for each degree out of e3nn's row of numbers."""
    parts = torch.split(weight, [a * b for a, b in shapes])
    return {f"{name}.{d}": part.view(shape) for d, (part, shape) in enumerate(zip(parts, shapes, strict=True))}
