"""Reader of official MACE ``.model`` files: no mace, no e3nn, nothing in the file executed.

Source: shared/specs/mace.md, sections 2.10 and 3.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heliodor.convert import mace_checks as checks
from heliodor.convert.archive import Archive, attribute, class_name, read_archive, state_dict
from heliodor.convert.mace_checks import CORRELATION, L_MAX, MAX_CHANNELS, MAX_DEGREE, refuse
from heliodor.convert.pickled import Stub
from heliodor.errors import CheckpointError
from heliodor.potentials.couplings import convolution_paths, ways_to

MAX_ELEMENT = 118
MAX_NUMBERS = 2**27
"""Of all tensors together, 1 GB in float64: a small file may name the same bytes many times."""

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class MACEFile:
    """A MACE model as its file holds it.

    Attributes:
        model: its class in mace, such as "ScaleShiftMACE".
        config: r_max [Å], numbers (ascending), channels, hidden_degrees (largest degree of the messages), n_layers,
            l_max, correlation, n_bessel, cutoff_power, radial_hidden, readout_hidden, avg_num_neighbors (per layer),
            silu_scale and gate_scale (e3nn's factors before silu), residual_first, heads.
        tensors: float64, by the file's own names and in its shapes: parameters, U matrices, ``bessel_weights`` and
            ``prefactor``, ``atomic_energies`` [elements] or [heads, elements] (eV), ``scale`` and ``shift`` [] or
            [heads]; what belongs to one head is to be cut out of the readouts by whoever uses them.
        sha256: hex digest of the file.
        state_sha256: hex digest over names and raw bytes of the sorted state dict; it survives re-saving. e3nn's
            tables inside TorchScript, which models with max L > 0 have, are not in it.
        version: "2024 format" or "current".
    """

    model: str
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    sha256: str
    state_sha256: str
    version: str


def read_mace(path: str | Path, head: str | None = None) -> MACEFile:
    """Read a ``.model`` file.

    Args:
        head: which level of theory is meant, of a file that holds several: checked here, cut out by the caller.

    Raises:
        CheckpointError: not such a file, damaged, asking for code, or a model that heliodor does not compute exactly.
    """
    archive = read_archive(path)
    name = class_name(archive.root)
    try:
        if name in READERS:
            return READERS[name](archive, head)
        if name in KNOWN:
            raise CheckpointError(f"it is {KNOWN[name]}, which heliodor does not compute")
        raise CheckpointError(f"it holds {name or 'no model'}, not a MACE model that heliodor knows")
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except (AttributeError, IndexError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged or no MACE model: {error}") from None


def state_sha256(state: dict[str, Tensor]) -> str:
    """SHA-256 over the sorted names, each followed by the raw bytes of its tensor."""
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read_energy(archive: Archive, head: str | None) -> MACEFile:
    """ScaleShiftMACE, everything checked."""
    model, state = archive.root, state_dict(archive.root)
    checks.check_architecture(model, checks.energy_ends(checks.layers(model)))
    heads = _heads(model)
    _check_head(heads, head)
    config = _config(model, state, heads)
    shapes = _shapes(config, state, len(heads))
    _check_modules(model, config, len(heads))
    version = "current" if "heads" in model.state else "2024 format"
    tensors = take(state, shapes, empty_of_information)
    return MACEFile("ScaleShiftMACE", config, tensors, archive.sha256, state_sha256(state), version)


def take(state: dict[str, Tensor], shapes: Shapes, harmless: Callable[[str, Tensor], bool]) -> dict[str, Tensor]:
    """What is needed of a file, float64.

    Args:
        harmless: says by name and value what may be left behind.

    Raises:
        CheckpointError: missing, of another shape, not finite, or something left that is not harmless.
    """
    if sum(math.prod(shape) for shape in shapes.values()) > MAX_NUMBERS:
        raise CheckpointError("it has more parameters than any model")
    tensors = {}
    for key, shape in shapes.items():
        if key not in state:
            raise CheckpointError(f"the file lacks {key}")
        if tuple(state[key].shape) != shape:
            raise CheckpointError(f"{key} has shape {tuple(state[key].shape)}; expected {shape}")
        tensors[key] = state[key].to(torch.float64).contiguous().clone()
    left = [key for key in state if key not in shapes and not harmless(key, state[key])]
    if left:
        refuse(f"parameters of an unknown kind ({left[0]})")
    strange = [key for key, value in tensors.items() if not bool(value.isfinite().all())]
    if strange:
        raise CheckpointError(f"{strange[0]} holds numbers that are not finite")
    return tensors


def _read_dielectric(archive: Archive, head: str | None) -> MACEFile:
    from heliodor.convert.mace_dielectric_file import read_dielectric

    if head is not None:
        raise CheckpointError(f"it has no head {head!r}: models of dipoles have none")
    return read_dielectric(archive)


READERS: dict[str, Callable[[Archive, str | None], MACEFile]] = {
    "mace.modules.models.ScaleShiftMACE": _read_energy,
    "mace.modules.models.AtomicDielectricMACE": _read_dielectric,
}
"""By the class a file holds."""

KNOWN = {
    "mace.modules.models.MACE": "a MACE model without scale and shift",
    "mace.modules.models.AtomicDipolesMACE": "a model of dipoles alone (AtomicDipolesMACE)",
    "mace.modules.models.EnergyDipolesMACE": "a model of energies with dipoles (EnergyDipolesMACE)",
    "mace.modules.models.BOTNet": "a BOTNet",
    "mace.modules.models.ScaleShiftBOTNet": "a BOTNet",
    "mace.modules.extensions.MACELES": "a MACE model with latent Ewald sums (MACELES)",
    "mace.modules.extensions.PolarMACE": "a MACE model with electrostatics (PolarMACE)",
}
"""Classes of mace that are told apart, but not read."""


def _heads(model: Stub) -> tuple[str, ...]:
    heads = attribute(model, "heads", ["Default"])
    if not isinstance(heads, (list, tuple)) or not heads or not all(isinstance(h, str) for h in heads):
        raise CheckpointError("the file's list of heads cannot be read")
    return tuple(heads)


def _check_head(heads: tuple[str, ...], head: str | None) -> None:
    if head is None and len(heads) > 1:
        raise CheckpointError(
            f"it holds several levels of theory, {', '.join(heads)}: choose one with heliodor.load(..., head=) or "
            "'heliodor models import FILE --head'"
        )
    if head is not None and head not in heads:
        raise CheckpointError(f"it has no head {head!r}, only {', '.join(heads)}")


def _config(model: Stub, state: dict[str, Tensor], heads: tuple[str, ...]) -> dict[str, Any]:
    last = f"readouts.{checks.layers(model) - 1}"
    acts = attribute(model, f"{last}.non_linearity.acts._modules", {})
    readout = checks.separate_degrees(attribute(model, f"{last}.linear_1.irreps_out"))
    if len(acts) != 1 or len(readout) != 1 or readout[0][1] != 0 or readout[0][0] % len(heads):
        refuse("a readout of other than scalars")
    return network_values(model, state) | {
        "readout_hidden": readout[0][0] // len(heads),
        "gate_scale": checks.check_silu(acts["0"], "the readout"),
        "heads": heads,
    }


def network_values(model: Stub, state: dict[str, Tensor]) -> dict[str, Any]:
    """Of `MACEFile.config` what describes the network without its readouts.

    Raises:
        CheckpointError: something that heliodor does not compute.
    """
    # no more than can be right: of a hundred million of them no list is made
    numbers = tuple(int(z) for z in state["atomic_numbers"].reshape(-1)[: MAX_ELEMENT + 1])
    if not numbers or numbers != tuple(sorted(set(numbers))) or not 0 < numbers[0] <= numbers[-1] <= MAX_ELEMENT:
        raise CheckpointError("its list of elements is not one")
    layers = checks.layers(model)
    if int(state["num_interactions"]) != layers:
        refuse(f"{layers} interactions that say they are {int(state['num_interactions'])}")
    hidden = checks.separate_degrees(attribute(model, "interactions.0.hidden_irreps"))
    channels, degree = hidden[0][0], len(hidden) - 1
    if hidden != [(channels, d) for d in range(degree + 1)] or not 0 < channels <= MAX_CHANNELS:
        refuse("messages with degrees of different or missing channels")
    if degree > MAX_DEGREE:
        refuse(f"messages of degree {degree} (at most {MAX_DEGREE})")
    r_max = float(state["r_max"])
    power = float(state["radial_embedding.cutoff_fn.p"])
    for key in ("radial_embedding.bessel_fn.r_max", "radial_embedding.cutoff_fn.r_max"):
        if float(state[key]) != r_max:
            refuse("different cutoffs in its parts")
    if not 0.0 < r_max < 100.0 or power != int(power) or not 2 <= power <= 100:
        raise CheckpointError("its cutoff is not one")
    neighbors, scales, radial = [], set(), set()
    for t in range(layers):
        block = attribute(model, f"interactions.{t}")
        number = attribute(block, "avg_num_neighbors")
        number = float(number) if isinstance(number, (int, float, Tensor)) else math.nan
        if not 0.0 < number < 1e6:
            raise CheckpointError(f"interactions.{t}.avg_num_neighbors is not a positive number")
        neighbors.append(number)
        widths, scale = _radial(attribute(block, "conv_tp_weights"), f"interactions.{t}.conv_tp_weights")
        scales.add(scale)
        radial.add(widths)
    if len(scales) != 1 or len(radial) != 1:
        refuse("radial networks that differ between layers")
    first = checks.short(class_name(attribute(model, "interactions.0")))
    return {
        "r_max": r_max,
        "numbers": numbers,
        "channels": channels,
        "hidden_degrees": degree,
        "n_layers": layers,
        "l_max": L_MAX,
        "correlation": CORRELATION,
        "n_bessel": state["radial_embedding.bessel_fn.bessel_weights"].numel(),
        "cutoff_power": int(power),
        "radial_hidden": radial.pop(),
        "avg_num_neighbors": tuple(neighbors),
        "silu_scale": scales.pop(),
        "residual_first": first == checks.LATER,
    }


def _radial(network: Any, where: str) -> tuple[tuple[int, ...], float]:
    """Hidden widths and silu's factor of a radial network without biases."""
    if class_name(network) != "e3nn.nn._fc.FullyConnectedNet":
        refuse(f"a radial network {checks.short(class_name(network)) or 'of no kind'}")
    layers = attribute(network, "_modules", {})
    names = [f"layer{n}" for n in range(len(layers))]
    if not 2 <= len(layers) <= 10 or list(layers) != names:
        refuse("a radial network of unusual layers")
    scales = {checks.check_silu(attribute(layers[name], "act"), where) for name in names[:-1]}
    last = layers[names[-1]]
    plain = all(attribute(layers[n], key) in (1, 1.0) for n in names for key in ("var_in", "var_out"))
    if len(scales) != 1 or not plain or attribute(last, "act") is not None:
        refuse("a radial network of unusual normalisation")
    return tuple(int(attribute(layers[name], "h_out")) for name in names[:-1]), scales.pop()


def _shapes(config: dict[str, Any], state: dict[str, Tensor], heads: int) -> Shapes:
    """Every tensor that is needed, with its shape."""
    k, n = config["channels"], len(config["numbers"])
    hidden = config["readout_hidden"] * heads
    energies = state["atomic_energies_fn.atomic_energies"]
    last = config["n_layers"] - 1
    shapes: Shapes = {
        "atomic_energies_fn.atomic_energies": (n,) if heads == 1 and energies.dim() == 1 else (heads, n),
        f"readouts.{last}.linear_1.weight": (k * hidden,),
        f"readouts.{last}.linear_2.weight": (hidden * heads,),
    }
    for t in range(last):
        shapes[f"readouts.{t}.linear.weight"] = (k * heads,)
    for key in ("scale_shift.scale", "scale_shift.shift"):
        shapes[key] = () if heads == 1 and state[key].dim() == 0 else (heads,)
    return network_shapes(config, state, 0) | shapes


def network_shapes(config: dict[str, Any], state: dict[str, Tensor], last: int) -> Shapes:
    """The tensors of the network without readouts; path counts are what the U matrices say.

    Args:
        last: highest degree of the features of the last layer.
    """
    k, n, top = config["channels"], len(config["numbers"]), config["hidden_degrees"]
    shapes: Shapes = {
        "node_embedding.linear.weight": (n * k,),
        "radial_embedding.bessel_fn.bessel_weights": (config["n_bessel"],),
        "radial_embedding.bessel_fn.prefactor": (),
    }
    for t in range(config["n_layers"]):
        degree_in, degree_out = (0 if t == 0 else top), (top if t < config["n_layers"] - 1 else last)
        block, count = f"interactions.{t}", len(convolution_paths(degree_in, L_MAX, L_MAX))
        widths = (config["n_bessel"], *config["radial_hidden"], count * k)
        for m, pair in enumerate(itertools.pairwise(widths)):
            shapes[f"{block}.conv_tp_weights.layer{m}.weight"] = pair
        mixed = 1 + (L_MAX if t == 0 and not config["residual_first"] else min(degree_in, degree_out))
        shapes |= {
            f"{block}.linear_up.weight": ((degree_in + 1) * k * k,),
            f"{block}.linear.weight": (count * k * k,),
            f"{block}.skip_tp.weight": (mixed * k * n * k,),
            f"products.{t}.linear.weight": ((degree_out + 1) * k * k,),
        }
        for degree in range(degree_out + 1):
            product = f"products.{t}.symmetric_contractions.contractions.{degree}"
            for order, weight in ((1, "weights.1"), (2, "weights.0"), (3, "weights_max")):
                count = state[f"{product}.U_matrix_{order}"].shape[-1]
                lead = (2 * degree + 1,) if degree else ()
                shapes[f"{product}.U_matrix_{order}"] = (*lead, *((L_MAX + 1) ** 2,) * order, count)
                shapes[f"{product}.{weight}"] = (n, count, k)
    return shapes


def _check_modules(model: Stub, config: dict[str, Any], heads: int) -> None:
    k, top = config["channels"], config["hidden_degrees"]
    check_network(model, config, 0)
    hidden, scalars = [(config["readout_hidden"] * heads, 0)], [(k, 0)]
    last = config["n_layers"] - 1
    maps = [(f"readouts.{t}.linear", [(k, d) for d in range(top + 1)], [(heads, 0)]) for t in range(last)]
    maps += [(f"readouts.{last}.linear_1", scalars, hidden), (f"readouts.{last}.linear_2", hidden, [(heads, 0)])]
    for path, source, target in maps:
        checks.check_linear(attribute(model, path), source, target, path)


def check_network(model: Stub, config: dict[str, Any], last: int) -> None:
    """Degrees, paths and normalisations of every block, as section 2 of the specification has them.

    Args:
        last: as of `network_shapes`.

    Raises:
        CheckpointError: others.
    """
    k, n, top = config["channels"], len(config["numbers"]), config["hidden_degrees"]

    def up_to(degree: int) -> list[tuple[int, int]]:
        return [(k, d) for d in range(degree + 1)]

    def linear(path: str, source: list[tuple[int, int]], target: list[tuple[int, int]]) -> None:
        checks.check_linear(attribute(model, path), source, target, path)

    linear("node_embedding.linear", [(n, 0)], up_to(0))
    for t in range(config["n_layers"]):
        degree_in, degree_out = (0 if t == 0 else top), (top if t < config["n_layers"] - 1 else last)
        residual = t > 0 or config["residual_first"]
        block = f"interactions.{t}"
        checks.check_convolution(attribute(model, block), k, degree_in)
        counts = [len(ways) for ways in ways_to(convolution_paths(degree_in, L_MAX, L_MAX))]
        linear(f"{block}.linear_up", up_to(degree_in), up_to(degree_in))
        linear(f"{block}.linear", [(k * c, d) for d, c in enumerate(counts)], up_to(L_MAX))
        source, target = (degree_in, min(degree_in, degree_out)) if residual else (L_MAX, L_MAX)
        checks.check_skip(attribute(model, f"{block}.skip_tp"), k, n, source, target, f"{block}.skip_tp")
        product = f"products.{t}"
        if attribute(model, f"{product}.use_sc") is not residual:
            refuse(f"an unusual residual connection in {product}")
        contractions = attribute(model, f"{product}.symmetric_contractions.contractions._modules", {})
        if list(contractions) != [str(d) for d in range(degree_out + 1)]:
            refuse(f"a product of other degrees in {product}")
        linear(f"{product}.linear", up_to(degree_out), up_to(degree_out))


def empty_of_information(key: str, value: Tensor) -> bool:
    """Of what the model class need not know: read into the configuration, switches that are off, or nothing."""
    if key in ("atomic_numbers", "r_max", "num_interactions"):
        return True
    if key.startswith("radial_embedding.") and key.rsplit(".", 1)[-1] in ("r_max", "p"):
        return True
    if key.endswith("_zeroed"):
        return not bool(value.any())
    return key.endswith(".output_mask") or value.numel() == 0
