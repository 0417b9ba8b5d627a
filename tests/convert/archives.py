"""torch.save archives made by hand, without torch or mace: right ones, wrong ones and malicious ones.

`encode` writes a tree of plain values, `Obj`, `Num` and `Raw` as a pickle of protocol 2; `pack` puts it into a zip.
`mace_tree` is the tree of a small ScaleShiftMACE, as mace 0.3.16 writes it (shared/specs/mace.md, sections 2.10, 3).
"""

from __future__ import annotations

import io
import itertools
import math
import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliodor.convert.archive import read_archive
from heliodor.errors import CheckpointError

KINDS = {"<f8": "Double", "<f4": "Float", "<i8": "Long", "<i4": "Int", "|b1": "Bool"}
NEWOBJ, REDUCE = b"\x81", b"R"


@dataclass(eq=False)
class Obj:
    """A global that is called, and then perhaps filled."""

    name: str
    arguments: tuple = ()
    state: Any = None
    call: bytes = NEWOBJ


@dataclass(eq=False)
class Name:
    name: str


@dataclass(eq=False)
class Raw:
    """Opcodes as they are; they must leave one value on the stack."""

    opcodes: bytes


@dataclass(eq=False)
class Num:
    """A tensor; whatever is not None overrides what the array says of itself."""

    array: np.ndarray
    size: tuple | None = None
    stride: tuple | None = None
    offset: Any = 0
    count: Any = None
    kind: str | None = None
    parameter: bool = False


@dataclass
class Writer:
    storages: dict[str, bytes] = field(default_factory=dict)

    def encode(self, value: Any) -> bytes:
        return b"\x80\x02" + self.one(value) + b"."

    def one(self, value: Any) -> bytes:
        if isinstance(value, Raw):
            return value.opcodes
        if isinstance(value, Name):
            module, name = value.name.rsplit(".", 1)
            return f"c{module}\n{name}\n".encode()
        if isinstance(value, Obj):
            made = self.one(Name(value.name)) + self.one(value.arguments) + value.call
            return made if value.state is None else made + self.one(value.state) + b"b"
        if isinstance(value, Num):
            return self.tensor(value)
        if value is None or isinstance(value, bool):
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        if isinstance(value, int):
            if -(2**31) <= value < 2**31:
                return b"J" + struct.pack("<i", value)
            return b"\x8a\x10" + value.to_bytes(16, "little", signed=True)
        if isinstance(value, float):
            return b"G" + struct.pack(">d", value)
        if isinstance(value, str):
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        if isinstance(value, tuple):
            return b"(" + b"".join(map(self.one, value)) + b"t"
        if isinstance(value, list):
            return b"](" + b"".join(map(self.one, value)) + b"e"
        assert isinstance(value, dict)
        return b"}(" + b"".join(self.one(key) + self.one(item) for key, item in value.items()) + b"u"

    def tensor(self, value: Num) -> bytes:
        array = np.ascontiguousarray(value.array)
        key = str(len(self.storages))
        self.storages[key] = array.tobytes()
        kind = value.kind or KINDS[array.dtype.str]
        count = array.size if value.count is None else value.count
        storage = self.one(("storage", Name(f"torch.{kind}Storage"), key, "cpu", count)) + b"Q"
        shape = value.array.shape
        size = shape if value.size is None else value.size
        strides = tuple(int(np.prod(shape[n + 1 :], dtype=int)) for n in range(len(shape)))
        stride = strides if value.stride is None else value.stride
        arguments = (Raw(storage), value.offset, size, stride, False, ordered())
        rebuilt = self.one(Obj("torch._utils._rebuild_tensor_v2", arguments, call=REDUCE))
        if not value.parameter:
            return rebuilt
        return self.one(Obj("torch._utils._rebuild_parameter", (Raw(rebuilt), True, ordered()), call=REDUCE))


def ordered() -> Obj:
    return Obj("collections.OrderedDict", call=REDUCE)


def pack(content: bytes, storages: dict[str, bytes], byteorder: bytes = b"little", root: str = "archive") -> bytes:
    """The zip around a pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{root}/data.pkl", content)
        archive.writestr(f"{root}/byteorder", byteorder)
        for key, raw in storages.items():
            archive.writestr(f"{root}/data/{key}", raw)
        archive.writestr(f"{root}/version", b"3\n")
    return file.getvalue()


def archive(value: Any) -> bytes:
    """A whole file."""
    writer = Writer()
    content = writer.encode(value)
    return pack(content, writer.storages)


def refused(path: Path, words: str | None = None) -> None:
    """The reader says no: in one line that names the file."""
    with pytest.raises(CheckpointError, match=words) as caught:
        read_archive(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def pickled(opcodes: bytes) -> bytes:
    """An archive whose pickle is these instructions."""
    return pack(b"\x80\x02" + opcodes + b".", {})


# modules ----------------------------------------------------------------------------------------------------


def module(name: str, /, parameters=None, buffers=None, modules=None, **attributes: Any) -> Obj:
    """A torch module; `parameters` and `buffers` are arrays by name."""
    state = {
        "training": False,
        "_parameters": {k: Num(np.asarray(v), parameter=True) for k, v in (parameters or {}).items()},
        "_buffers": {k: Num(np.asarray(v)) for k, v in (buffers or {}).items()},
        "_non_persistent_buffers_set": Obj("__builtin__.set", ([],), call=REDUCE),
        "_modules": modules or {},
        **attributes,
    }
    return Obj(name, state=state)


def modules_of(items: list[Obj]) -> Obj:
    return module("torch.nn.modules.container.ModuleList", modules={str(n): item for n, item in enumerate(items)})


def at(tree: Obj, path: str) -> Obj:
    for part in path.split("."):
        tree = tree.state["_modules"][part]
    return tree


def irreps(*items: tuple[int, int], parity: int = -1) -> Obj:
    """(multiplicity, degree) ..."""
    parts = tuple(
        Obj("e3nn.o3._irreps._MulIr", ((mul, Obj("e3nn.o3._irreps.Irrep", ((degree, parity**degree),))),))
        for mul, degree in items
    )
    return Obj("e3nn.o3._irreps.Irreps", (parts,))


def up_to(channels: int, degree: int) -> list[tuple[int, int]]:
    return [(channels, d) for d in range(degree + 1)]


def linear(rng, source: list[tuple[int, int]], target: list[tuple[int, int]]) -> Obj:
    fan_in = {d: sum(mul for mul, e in source if e == d) for _, d in source}
    pairs = [(i, j) for i, (_, d) in enumerate(source) for j, (_, e) in enumerate(target) if d == e]
    shapes = [(source[i][0], target[j][0]) for i, j in pairs]
    instructions = [
        Obj("e3nn.o3._linear.Instruction", (i, j, shape, fan_in[source[i][1]] ** -0.5))
        for (i, j), shape in zip(pairs, shapes, strict=True)
    ]
    return module(
        "e3nn.o3._linear.Linear",
        {"weight": rng.normal(size=sum(a * b for a, b in shapes))},
        {"bias": np.zeros(0), "output_mask": np.ones(sum(mul * (2 * d + 1) for mul, d in target))},
        irreps_in=irreps(*source),
        irreps_out=irreps(*target),
        instructions=instructions,
        __codegen__={"_compiled_main": Obj("_codecs.encode", ("PK\x03\x04 TorchScript", "latin1"), call=REDUCE)},
    )


def silu() -> Obj:
    return module(
        "e3nn.math._normalize_activation.normalize2mom",
        f=Name("torch.nn.functional.silu"),
        cst=1.6791767923989418,
        _is_id=False,
    )


def radial(rng, widths: tuple[int, ...]) -> Obj:
    layers = {}
    for n, (a, b) in enumerate(itertools.pairwise(widths)):
        last = n == len(widths) - 2
        layers[f"layer{n}"] = module(
            "e3nn.nn._fc._Layer",
            {"weight": rng.normal(size=(a, b))},
            modules={} if last else {"act": silu()},
            h_in=a,
            h_out=b,
            var_in=1,
            var_out=1,
            **({"act": None} if last else {}),
        )
    return module("e3nn.nn._fc.FullyConnectedNet", modules=layers, hs=list(widths))


def convolution(channels: int, degree: int) -> tuple[Obj, list[tuple[int, int, int]]]:
    ways = [
        (l3, l1, l2)
        for l3 in range(4)
        for l1 in range(degree + 1)
        for l2 in range(4)
        if abs(l1 - l2) <= l3 <= l1 + l2 and (l1 + l2 + l3) % 2 == 0
    ]
    product = module(
        "e3nn.o3._tensor_product._tensor_product.TensorProduct",
        buffers={"weight": np.zeros(0), "output_mask": np.ones(3)},
        irreps_in1=irreps(*up_to(channels, degree)),
        irreps_in2=irreps(*up_to(1, 3)),
        irreps_out=irreps(*[(channels, l3) for l3, _, _ in ways]),
        instructions=[
            Obj(
                "e3nn.o3._tensor_product._instruction.Instruction",
                (l1, l2, n, "uvu", True, math.sqrt(2 * l3 + 1), (channels, 1)),
            )
            for n, (l3, l1, l2) in enumerate(ways)
        ],
    )
    return product, ways


def skip(rng, channels: int, elements: int, source: int, target: int) -> Obj:
    return module(
        "e3nn.o3._tensor_product._sub.FullyConnectedTensorProduct",
        {"weight": rng.normal(size=(target + 1) * channels * elements * channels)},
        {"output_mask": np.ones(3)},
        irreps_in1=irreps(*up_to(channels, source)),
        irreps_in2=irreps((elements, 0)),
        irreps_out=irreps(*up_to(channels, target)),
        instructions=[
            Obj(
                "e3nn.o3._tensor_product._instruction.Instruction",
                (d, 0, d, "uvw", True, math.sqrt((2 * d + 1) / (channels * elements)), (channels, elements, channels)),
            )
            for d in range(target + 1)
        ],
    )


def contraction(rng, channels: int, elements: int, degree: int) -> Obj:
    lead, counts = ((2 * degree + 1,) if degree else ()), (1, 2, 3)
    shapes = [(*lead, *(16,) * order, count) for order, count in zip((1, 2, 3), counts, strict=True)]
    graph = Obj("torch.fx.graph_module.reduce_graph_module", ({"_code": "def forward(self): pass"}, ""), call=REDUCE)
    weights = {"0": rng.normal(size=(elements, 2, channels)), "1": rng.normal(size=(elements, 1, channels))}
    return module(
        "mace.modules.symmetric_contraction.Contraction",
        {"weights_max": rng.normal(size=(elements, 3, channels))},
        {f"U_matrix_{n + 1}": rng.normal(size=shape) for n, shape in enumerate(shapes)}
        | {"weights_max_zeroed": np.array(False)},
        {"graph_opt_main": graph, "weights": module("torch.nn.modules.container.ParameterList", weights)},
        correlation=3,
    )


def mace_tree(
    *,
    channels: int = 2,
    degree: int = 1,
    numbers: tuple[int, ...] = (1, 6, 8),
    heads: tuple[str, ...] | None = ("Default",),
    residual_first: bool = False,
) -> Obj:
    """A ScaleShiftMACE with random numbers; no `heads`: as written in January 2024."""
    rng = np.random.default_rng(1)
    k, n, h, hidden = channels, len(numbers), len(heads or "1"), 3
    blocks = "mace.modules.blocks."
    interactions, products = [], []
    for t in range(2):
        came, goes = (0, degree) if t == 0 else (degree, 0)
        residual = t == 1 or residual_first
        product, ways = convolution(k, came)
        interactions.append(
            module(
                f"{blocks}RealAgnostic{'Residual' * residual}InteractionBlock",
                modules={
                    "linear_up": linear(rng, up_to(k, came), up_to(k, came)),
                    "conv_tp": product,
                    "conv_tp_weights": radial(rng, (5, 4, 4, k * len(ways))),
                    "linear": linear(rng, [(k, l3) for l3, _, _ in ways], up_to(k, 3)),
                    "skip_tp": skip(rng, k, n, came, 0) if residual else skip(rng, k, n, 3, 3),
                },
                hidden_irreps=irreps(*up_to(k, degree if t == 0 else 0)),
                avg_num_neighbors=7.25 + t,
            )
        )
        contractions = modules_of([contraction(rng, k, n, d) for d in range(goes + 1)])
        products.append(
            module(
                f"{blocks}EquivariantProductBasisBlock",
                modules={
                    "symmetric_contractions": module(
                        "mace.modules.symmetric_contraction.SymmetricContraction",
                        modules={"contractions": contractions},
                    ),
                    "linear": linear(rng, up_to(k, goes), up_to(k, goes)),
                },
                use_sc=residual,
            )
        )
    gate = module("e3nn.nn._activation.Activation", modules={"acts": modules_of([silu()])})
    readout = {
        "linear_1": linear(rng, [(k, 0)], [(hidden * h, 0)]),
        "non_linearity": gate,
        "linear_2": linear(rng, [(hidden * h, 0)], [(h, 0)]),
    }
    per_head = () if heads is None or h == 1 else (h,)
    modules = {
        "node_embedding": module(
            f"{blocks}LinearNodeEmbeddingBlock", modules={"linear": linear(rng, [(n, 0)], [(k, 0)])}
        ),
        "radial_embedding": module(
            f"{blocks}RadialEmbeddingBlock",
            modules={
                "bessel_fn": module(
                    "mace.modules.radial.BesselBasis",
                    buffers={"bessel_weights": np.arange(1.0, 6.0), "r_max": 4.0, "prefactor": math.sqrt(0.5)},
                ),
                "cutoff_fn": module("mace.modules.radial.PolynomialCutoff", buffers={"p": np.int32(6), "r_max": 4.0}),
            },
            out_dim=5,
        ),
        "spherical_harmonics": module(
            "e3nn.o3._spherical_harmonics.SphericalHarmonics",
            normalize=True,
            normalization="component",
            _ls_list=[0, 1, 2, 3],
        ),
        "atomic_energies_fn": module(
            f"{blocks}AtomicEnergiesBlock",
            buffers={"atomic_energies": rng.normal(size=n if heads is None else (h, n))},
        ),
        "interactions": modules_of(interactions),
        "products": modules_of(products),
        "readouts": modules_of(
            [
                module(f"{blocks}LinearReadoutBlock", modules={"linear": linear(rng, up_to(k, degree), [(h, 0)])}),
                module(f"{blocks}NonLinearReadoutBlock", modules=readout),
            ]
        ),
        "scale_shift": module(
            f"{blocks}ScaleShiftBlock", buffers={"scale": np.full(per_head, 1.5), "shift": np.full(per_head, 0.25)}
        ),
    }
    return module(
        "mace.modules.models.ScaleShiftMACE",
        buffers={"atomic_numbers": np.array(numbers), "r_max": 4.0, "num_interactions": np.array(2)},
        modules=modules,
        **({} if heads is None else {"heads": list(heads), "use_reduced_cg": True}),
    )
