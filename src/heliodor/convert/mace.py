"""From a MACE file, read without executing anything, to our model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from heliodor.convert.mace_file import MACEFile, read_mace
from heliodor.errors import CheckpointError
from heliodor.potentials.couplings import convolution_paths, monomials, ways_to
from heliodor.potentials.mace import MACE, MACEConfig


def convert_mace(path: str | Path, head: str | None = None) -> MACE:
    """Build our MACE from an official file, float64 on the CPU.

    Args:
        head: which of several heads; not needed where there is one.

    Raises:
        CheckpointError: not such a file, damaged, untrusted, of an architecture that is not computed exactly, or with
            several heads of which none is chosen.
    """
    return build_mace(read_mace(path, head), path, head)


def build_mace(file: MACEFile, path: str | Path, head: str | None = None) -> MACE:
    """The model of a file that was read; arguments and errors as `convert_mace`."""
    if file.model != "ScaleShiftMACE":
        raise CheckpointError(f"{path} holds no energies: it is a model of dipoles ({file.model})")
    try:
        model = _build(file, file.config["heads"].index(head) if head is not None else 0)
    except (KeyError, IndexError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} does not fit the MACE architecture it describes: {error}") from None
    model.name = Path(path).stem
    model.card = {"name": model.name, "source_sha256": file.sha256, "state_sha256": file.state_sha256}
    if head is not None:
        model.card["head"] = head
    return model


def _build(file: MACEFile, head: int) -> MACE:
    values = file.config
    n, layers = len(values["numbers"]), int(values["n_layers"])
    tensors = {key: value.double() for key, value in file.tensors.items()}
    degrees = (*(int(values["hidden_degrees"]) for _ in range(layers - 1)), 0)
    state, products = convert_network(tensors, degrees, n, values)
    isolated = tensors["atomic_energies_fn.atomic_energies"].reshape(-1, n)[head]
    config = network_config(values, degrees, products, tuple(isolated.tolist()))
    heads, hidden = len(values["heads"]), config.readout_hidden
    state = {f"network.{key}": value for key, value in state.items()}
    for t in range(layers - 1):
        state[f"readouts.{t}"] = tensors[f"readouts.{t}.linear.weight"].view(config.channels, heads)[:, head]
    last = f"readouts.{layers - 1}"
    of_head = slice(head * hidden, (head + 1) * hidden)
    state["last_hidden"] = tensors[f"{last}.linear_1.weight"].view(config.channels, heads * hidden)[:, of_head]
    # the file divides by the root of all heads' units, though only one head's are not masked
    out = tensors[f"{last}.linear_2.weight"].view(heads * hidden, heads)[of_head, head]
    state["last_out"] = out / math.sqrt(heads)
    for name in ("scale", "shift"):
        state[name] = tensors[f"scale_shift.{name}"].reshape(-1).expand(heads)[head].clone()
    model = MACE(config).double()
    model.load_state_dict({key: value.contiguous() for key, value in state.items()})
    if not all(bool(tensor.isfinite().all()) for tensor in model.state_dict().values()):
        raise CheckpointError("the file holds parameters that are not finite")
    return model


def network_config(
    values: dict[str, Any], degrees: tuple[int, ...], products: tuple[Any, ...], isolated: tuple[float, ...]
) -> MACEConfig:
    """The configuration in our words."""
    return MACEConfig(
        cutoff=float(values["r_max"]),
        elements=tuple(values["numbers"]),
        channels=int(values["channels"]),
        degrees=degrees,
        isolated_energies=isolated,
        average_neighbors=tuple(values["avg_num_neighbors"]),
        products=products,
        edge_degree=int(values["l_max"]),
        correlation=int(values["correlation"]),
        bessel=int(values["n_bessel"]),
        cutoff_power=int(values["cutoff_power"]),
        radial_hidden=tuple(values["radial_hidden"]),
        residual_first=bool(values["residual_first"]),
        silu_scale=float(values["silu_scale"]),
        gate_scale=float(values["gate_scale"]),
        readout_hidden=int(values["readout_hidden"]),
    )


def convert_network(
    tensors: dict[str, Tensor], degrees: tuple[int, ...], n: int, values: dict[str, Any]
) -> tuple[dict[str, Tensor], tuple[Any, ...]]:
    """Our `MACENetwork`'s state from a file's tensors, and the numbers of monomials and paths of its products."""
    k, correlation, l_max = (int(values[key]) for key in ("channels", "correlation", "l_max"))
    state = {
        "embedding": tensors["node_embedding.linear.weight"].view(n, k),
        "frequency": tensors["radial_embedding.bessel_fn.bessel_weights"],
    }
    # the file's factor of the Bessel functions, by ours
    prefactor = tensors["radial_embedding.bessel_fn.prefactor"] / math.sqrt(2.0 / float(values["r_max"]))
    products = []
    for t, goes in enumerate(degrees):
        here, there = f"interactions.{t}", f"layers.{t}"
        came = 0 if t == 0 else degrees[t - 1]
        for degree, block in enumerate(tensors[f"{here}.linear_up.weight"].view(came + 1, k, k)):
            state[f"{there}.up.{degree}"] = block
        for number in range(len(values["radial_hidden"]) + 1):
            state[f"{there}.radial.{number}"] = tensors[f"{here}.conv_tp_weights.layer{number}.weight"]
        state[f"{there}.radial.0"] = state[f"{there}.radial.0"] * prefactor
        mix = tensors[f"{here}.linear.weight"].view(-1, k, k)
        first = 0
        for degree, ways in enumerate(ways_to(convolution_paths(came, l_max, l_max))):
            state[f"{there}.mix.{degree}"] = mix[first : first + len(ways)].reshape(-1, k)
            first += len(ways)
        for degree, block in enumerate(tensors[f"{here}.skip_tp.weight"].view(-1, k, n, k)):
            state[f"{there}.skip.{degree}"] = block.transpose(0, 1)
        shapes = []
        for degree in range(goes + 1):
            shape = []
            product = f"products.{t}.symmetric_contractions.contractions.{degree}"
            for order in range(1, correlation + 1):
                name = "weights_max" if order == correlation else f"weights.{correlation - 1 - order}"
                state[f"{there}.products.{degree}.weights.{order - 1}"] = tensors[f"{product}.{name}"]
                matrix = tensors[f"{product}.U_matrix_{order}"].numpy()
                factors, coefficients = monomials(matrix if degree else matrix[np.newaxis])
                state[f"{there}.products.{degree}.factors_{order}"] = torch.from_numpy(factors)
                state[f"{there}.products.{degree}.coefficients_{order}"] = torch.from_numpy(coefficients)
                shape.append((len(factors), coefficients.shape[-1]))
            shapes.append(tuple(shape))
        products.append(tuple(shapes))
        for degree, block in enumerate(tensors[f"products.{t}.linear.weight"].view(goes + 1, k, k)):
            state[f"{there}.out.{degree}"] = block
    return state, tuple(products)
