"""Reader of the official SO3LR parameter file (params.pkl) that can execute nothing.

The file is a plain pickle of nested dicts with float32 arrays. Only the three names numpy needs to rebuild an
array are allowed, and each is replaced by our own inert builder.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from heliodor.errors import CheckpointError
from heliodor.potentials.so3lr import SO3LR, SO3LRConfig

MAX_BYTES = 64 * 2**20
MAX_DEPTH = 12
MAX_ARRAYS = 1000
MAX_INSTRUCTIONS = 50_000
"""Some ten times what the official file needs."""

MAX_TUPLES = 5000
"""As many levels of nesting, were they in one another, still fit the C stack where `hash` walks down a key."""

# ruff: noqa: SIM905 (a list literal of these would be thirty lines)

_OPCODES = frozenset(
    (
        "PROTO FRAME STOP MARK MEMOIZE BINGET LONG_BINGET EMPTY_DICT SETITEM SETITEMS TUPLE EMPTY_TUPLE TUPLE1 TUPLE2 "
        "TUPLE3 NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 SHORT_BINUNICODE BINUNICODE SHORT_BINBYTES BINBYTES "
        "BINBYTES8 STACK_GLOBAL REDUCE BUILD"
    ).split()
)
"""All that a protocol-4 pickle of nested dicts of arrays needs. What is missing could run code, change our own
objects, or reserve memory that the file does not back (memo slots by number)."""


class _Array:
    """Stands in for an array while unpickling: takes the state numpy writes, checks it, builds the array."""

    __slots__ = ("value",)
    value: np.ndarray

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _Float32) or not isinstance(raw, bytes):
            raise CheckpointError("params.pkl holds an array that is not float32")
        if not isinstance(shape, tuple) or int(np.prod(shape, dtype=object)) * 4 != len(raw):
            raise CheckpointError("params.pkl holds an array whose size does not fit its shape")
        self.value = np.frombuffer(raw, dtype="<f4").reshape(shape, order="F" if fortran else "C")


class _Float32:
    """Stands in for numpy's float32 dtype."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        if state[1] not in ("<", "="):
            raise CheckpointError("params.pkl holds big-endian arrays")


class _Name:
    """What a global name in the file becomes: an object without attributes, not our function or class itself."""

    __slots__ = ()


class _NdarrayName(_Name):
    __slots__ = ()


class _ReconstructName(_Name):
    __slots__ = ()

    def __call__(self, *_: Any) -> _Array:
        return _Array()


class _DtypeName(_Name):
    __slots__ = ()

    def __call__(self, code: str = "", *_: Any) -> _Float32:
        if code != "f4":
            raise CheckpointError(f"params.pkl holds an array of type {code!r}; only float32 is expected")
        return _Float32()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module in ("numpy._core.multiarray", "numpy.core.multiarray"):
            return _ReconstructName()
        if module == "numpy" and name == "ndarray":
            return _NdarrayName()
        if module == "numpy" and name == "dtype":
            return _DtypeName()
        raise CheckpointError(
            f"the file asks for {module}.{name}, which SO3LR parameters never need: refused, as it could run code"
        )


def read_parameters(path: str | Path) -> dict[str, np.ndarray]:
    """Read params.pkl into a flat dict ``"layers_0/attention_block/Wq1" -> array``.

    Raises:
        CheckpointError: not such a file, damaged, too large, or asking for anything but float32 arrays.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no such model file: {path}")
    if path.stat().st_size > MAX_BYTES:
        raise CheckpointError(f"{path} is larger than any SO3LR parameter file")
    try:
        content = path.read_bytes()
        _check_instructions(content)
        tree = _Unpickler(io.BytesIO(content)).load()
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except Exception as error:
        raise CheckpointError(
            f"{path} is not a readable SO3LR parameter file (truncated or damaged): {error}"
        ) from None
    if not isinstance(tree, dict) or not isinstance(tree.get("params"), dict):
        raise CheckpointError(f"{path} does not hold SO3LR parameters")
    flat: dict[str, np.ndarray] = {}
    _flatten(tree["params"], "", flat)
    return flat


def _check_instructions(content: bytes) -> None:
    tuples = 0
    for count, (opcode, _, _) in enumerate(pickletools.genops(content)):
        if opcode.name not in _OPCODES:
            raise CheckpointError(f"it uses a pickle instruction SO3LR parameters never need ({opcode.name})")
        tuples += opcode.name.startswith("TUPLE")
        if count > MAX_INSTRUCTIONS or tuples > MAX_TUPLES:
            raise CheckpointError("its pickle is longer than that of SO3LR parameters")


def _flatten(tree: dict[str, Any], prefix: str, flat: dict[str, np.ndarray]) -> None:
    for key, value in tree.items():
        if prefix.count("/") >= MAX_DEPTH or len(flat) >= MAX_ARRAYS:
            raise CheckpointError("the file holds more, or more deeply nested, arrays than SO3LR has")
        if isinstance(value, dict):
            _flatten(value, f"{prefix}{key}/", flat)
        elif isinstance(value, _Array) and hasattr(value, "value"):
            flat[prefix + str(key)] = value.value
        else:
            raise CheckpointError(f"SO3LR parameters hold {prefix}{key} of unexpected type")


def convert_so3lr(path: str | Path) -> SO3LR:
    """Build our SO3LR from the official file; every array must be used, none may be missing.

    Raises:
        CheckpointError: as `read_parameters`, or arrays missing, left over or of another shape.
    """
    flat = read_parameters(path)
    config = SO3LRConfig()
    model = SO3LR(config).double()
    state = model.state_dict()
    try:
        converted = _convert(flat, config.network.n_layers, config.network.n_elements)
    except KeyError as error:
        raise CheckpointError(f"{path} lacks the array {error}") from None
    except (RuntimeError, IndexError, TypeError) as error:
        raise CheckpointError(f"{path} does not fit the SO3LR architecture: {error}") from None
    if flat:
        raise CheckpointError(f"{path} holds arrays this model does not have: {', '.join(sorted(flat)[:4])}")
    wrong = [key for key in state if key not in converted or converted[key].shape != state[key].shape]
    if wrong:
        raise CheckpointError(f"{path} does not fit the SO3LR architecture at {wrong[0]}")
    if not all(bool(tensor.isfinite().all()) for tensor in converted.values()):
        raise CheckpointError(f"{path} holds parameters that are not finite")
    model.load_state_dict(converted)
    return model


def _convert(flat: dict[str, np.ndarray], n_layers: int, n_elements: int) -> dict[str, Tensor]:
    """Our names and layouts; consumes `flat`."""
    out: dict[str, Tensor] = {}

    def take(key: str) -> Tensor:
        return torch.from_numpy(flat.pop(key).copy())

    def linear(target: str, source: str, bias: bool = True) -> None:
        out[f"{target}.weight"] = take(f"{source}/kernel").transpose(0, 1).contiguous()
        if bias:
            out[f"{target}.bias"] = take(f"{source}/bias")

    def by_element(target: str, source: str) -> None:
        table = take(source).squeeze(-1) if target != "hirshfeld_weight" else take(source)
        rows = torch.zeros(n_elements, *table.shape[1:])
        rows[: len(table)] = table
        out[target] = rows

    out["network.element"] = take("feature_embeddings_0/Embed_0/embedding")
    for index, name in ((1, "charge"), (2, "spin")):
        source, target = f"feature_embeddings_{index}/ChargeSpinEmbedSparse_0", f"network.{name}_embedding"
        for k, part in enumerate(("query", "key", "value")):
            out[f"{target}.{part}"] = take(f"{source}/Embed_{k}/embedding")
        for k in (0, 1):
            linear(f"{target}.residual_{k}", f"{source}/Residual_0/layers_{k}", bias=False)
    for t in range(n_layers):
        source, target = f"layers_{t}", f"network.layers.{t}"
        attention = f"{source}/attention_block"
        for name, parts in (("project_x", "Wq1 Wk1 Wv1"), ("project_ev", "Wq2 Wk2")):
            # (head, out, in) -> (head, in, out), q, k, v side by side
            maps = [take(f"{attention}/{part}").mT for part in parts.split()]
            out[f"{target}.{name}"] = torch.cat(maps, dim=-1).contiguous()
        bias = torch.zeros(1, dtype=torch.float64)
        for kind in ("radial", "spherical"):
            layers = [[f"{attention}/{kind}_filter{n}_layer_{k}" for n in (1, 2)] for k in (1, 2)]
            out[f"{target}.{kind}_hidden.weight"] = torch.cat(
                [take(f"{s}/kernel") for s in layers[0]], dim=1
            ).T.contiguous()
            out[f"{target}.{kind}_hidden.bias"] = torch.cat([take(f"{s}/bias") for s in layers[0]])
            out[f"{target}.{kind}_out"] = torch.stack([take(f"{s}/kernel") for s in layers[1]])
            # summed in float64 so that a float64 model sees the two biases unrounded
            bias = bias + torch.stack([take(f"{s}/bias") for s in layers[1]]).double().unsqueeze(1)
        out[f"{target}.filter_bias"] = bias
        for k in (1, 2):
            out[f"{target}.norm_{k}.weight"] = take(f"{source}/layer_normalization_{k}/scale")
            out[f"{target}.norm_{k}.bias"] = take(f"{source}/layer_normalization_{k}/bias")
        linear(f"{target}.update.hidden", f"{source}/res_mlp_1_layer_1")
        linear(f"{target}.update.out", f"{source}/res_mlp_1_layer_2")
        linear(f"{target}.exchange", f"{source}/exchange_block/mlp_layer_2")

    by_element("energy_scale", "observables_0/atomic_scales")
    by_element("energy_offset", "observables_0/energy_offset")
    linear("energy_head.hidden", "observables_0/energy_dense_regression")
    linear("energy_head.out", "observables_0/energy_dense_final")
    charges = "observables_0/electrostatic_energy/partial_charges"
    by_element("charge_offset", f"{charges}/Embed_0/embedding")
    linear("charge_head.hidden", f"{charges}/charge_dense_regression_vec")
    linear("charge_head.out", f"{charges}/charge_dense_final_vec")
    by_element("hirshfeld_offset", "observables_2/Embed_0/embedding")
    by_element("hirshfeld_weight", "observables_2/Embed_1/embedding")
    linear("hirshfeld_head.hidden", "observables_2/hirshfeld_ratios_dense_regression")
    linear("hirshfeld_head.out", "observables_2/hirshfeld_ratios_dense_final")
    zbl = "observables_0/zbl_repulsion"
    out["zbl.exponents"] = torch.cat([take(f"{zbl}/a{n}") for n in range(1, 5)])
    out["zbl.coefficients"] = torch.cat([take(f"{zbl}/c{n}") for n in range(1, 5)])
    out["zbl.power"] = take(f"{zbl}/p")
    out["zbl.inverse_length"] = take(f"{zbl}/d")
    return out
