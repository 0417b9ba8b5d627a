"""What a MACE file must say of itself to be computed exactly; every deviation is refused in one sentence.

Source of the layouts and normalisations: shared/specs/mace.md, sections 2.2 to 2.10.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NoReturn

from torch import Tensor

from heliodor.convert.archive import attribute, class_name
from heliodor.convert.pickled import Name, Stub
from heliodor.errors import CheckpointError
from heliodor.potentials.couplings import convolution_paths

L_MAX = 3
CORRELATION = 3
MAX_DEGREE = 2
MAX_LAYERS = 8
MAX_CHANNELS = 4096
BLOCKS = "mace.modules.blocks."
FIRST = ("RealAgnosticInteractionBlock", "RealAgnosticResidualInteractionBlock")
LATER = "RealAgnosticResidualInteractionBlock"
NORMALISATION = 1e-12
"""Relative; the stored path weights are square roots in float64."""

_SWITCHES: tuple[tuple[str, tuple[Any, ...], str], ...] = (
    ("pair_repulsion", (None, False), "a ZBL pair repulsion"),
    ("pair_repulsion_fn", (None,), "a ZBL pair repulsion"),
    ("radial_embedding.distance_transform", (None,), "an Agnesi or Soft distance transform"),
    ("joint_embedding", (None,), "a joint embedding of charge, spin or the like"),
    ("embedding_specs", (None,), "embeddings of charge, spin or the like"),
    ("use_agnostic_product", (None, False), "an element-agnostic product (use_agnostic_product)"),
    ("use_last_readout_only", (None, False), "an energy from the last readout only (use_last_readout_only)"),
    ("use_so3", (None, False), "SO(3) instead of O(3) features (use_so3)"),
    ("use_edge_irreps_first", (None, False), "edge features of higher degree (use_edge_irreps_first)"),
    ("edge_irreps", (None,), "edge features of other degrees (edge_irreps)"),
    ("apply_cutoff", (None, True), "a cutoff outside the radial basis (apply_cutoff=False)"),
    ("radial_embedding.apply_cutoff", (None, True), "a cutoff outside the radial basis (apply_cutoff=False)"),
)
"""Attribute, values that mean "as in the specification", what any other value means."""

_NETWORK = {
    "node_embedding": (f"{BLOCKS}LinearNodeEmbeddingBlock",),
    "radial_embedding": (f"{BLOCKS}RadialEmbeddingBlock",),
    "radial_embedding.bessel_fn": ("mace.modules.radial.BesselBasis",),
    "radial_embedding.cutoff_fn": ("mace.modules.radial.PolynomialCutoff",),
    "spherical_harmonics": ("e3nn.o3._spherical_harmonics.SphericalHarmonics",),
}


def layers(model: Stub) -> int:
    """How many layers the network has.

    Raises:
        CheckpointError: a number that cannot be.
    """
    count = len(attribute(model, "interactions._modules", {}))
    if not 2 <= count <= MAX_LAYERS:
        refuse(f"{count} interactions instead of 2 to {MAX_LAYERS}")
    return count


def energy_ends(count: int) -> dict[str, tuple[str, ...]]:
    """Classes of the parts that make an energy of the features of so many layers."""
    linear: dict[str, tuple[str, ...]] = {f"readouts.{t}": (f"{BLOCKS}LinearReadoutBlock",) for t in range(count - 1)}
    return linear | {
        f"readouts.{count - 1}": (f"{BLOCKS}NonLinearReadoutBlock",),
        "atomic_energies_fn": (f"{BLOCKS}AtomicEnergiesBlock",),
        "scale_shift": (f"{BLOCKS}ScaleShiftBlock",),
    }


def refuse(what: str) -> NoReturn:
    """Raise the one error of this reader.

    Raises:
        CheckpointError: always.
    """
    raise CheckpointError(f"this MACE model has {what}, which heliodor does not compute: refused")


def check_architecture(model: Stub, ends: Mapping[str, tuple[str, ...]]) -> None:
    """Switches, classes and spherical harmonics; not yet the sizes.

    Args:
        ends: classes of what follows the network, such as `energy_ends`.

    Raises:
        CheckpointError: the first thing that heliodor does not compute.
    """
    for path, usual, meaning in _SWITCHES:
        value = attribute(model, path)
        if not any(value is choice for choice in usual):
            refuse(meaning)
    count = layers(model)
    for group, wanted in (("products", count), ("readouts", sum(key.startswith("readouts.") for key in ends))):
        found = len(attribute(model, f"{group}._modules", {}))
        if found != wanted or wanted != count:
            refuse(f"{count} interactions with {found} {group}")
    blocks: dict[str, tuple[str, ...]] = {f"interactions.{t}": (BLOCKS + LATER,) for t in range(1, count)}
    blocks["interactions.0"] = tuple(BLOCKS + name for name in FIRST)
    blocks |= {f"products.{t}": (f"{BLOCKS}EquivariantProductBasisBlock",) for t in range(count)}
    for path, names in {**_NETWORK, **blocks, **ends}.items():
        kind = class_name(attribute(model, path))
        if kind not in names:
            what = "density-normalised messages" if "Density" in kind else f"the block {short(kind)}"
            refuse(f"{what} as {path}")
    for path in (f"products.{t}" for t in range(count)):
        if attribute(model, f"{path}.use_agnostic_product", False) is not False:
            refuse("an element-agnostic product (use_agnostic_product)")
        contractions = attribute(model, f"{path}.symmetric_contractions.contractions._modules", {})
        if any(attribute(contraction, "correlation") != CORRELATION for contraction in contractions.values()):
            refuse(f"a correlation order other than {CORRELATION}")
    harmonics = attribute(model, "spherical_harmonics")
    if attribute(harmonics, "normalize") is not True or attribute(harmonics, "normalization") != "component":
        refuse("spherical harmonics of another normalisation")
    if list(attribute(harmonics, "_ls_list", ())) != list(range(L_MAX + 1)):
        refuse(f"spherical harmonics other than degrees 0 to {L_MAX}")


def check_silu(activation: Any, where: str) -> float:
    """The factor that e3nn puts before silu, stored as ``cst``.

    Raises:
        CheckpointError: another function.
    """
    function = attribute(activation, "f")
    name = function.text if isinstance(function, Name) else class_name(function)
    if name not in ("torch.nn.functional.silu", "torch.nn.modules.activation.SiLU"):
        refuse(f"the activation {short(name) or 'none'} instead of silu in {where}")
    scale = attribute(activation, "cst")
    if type(scale) is not float or not 0.0 < scale < 10.0 or attribute(activation, "_is_id") is not False:
        refuse(f"an activation without a proper normalisation in {where}")
    return scale


def degrees(value: Any) -> list[tuple[int, int]]:
    """e3nn irreps as (multiplicity, degree), neighbours of one degree joined.

    Raises:
        CheckpointError: not irreps, or of a parity other than (-1)^degree.
    """
    found: list[tuple[int, int]] = []
    for multiplicity, degree in separate_degrees(value):
        if found and found[-1][1] == degree:
            multiplicity += found.pop()[0]
        found.append((multiplicity, degree))
    return found


def separate_degrees(value: Any) -> list[tuple[int, int]]:
    """e3nn irreps as (multiplicity, degree), as they are written.

    Raises:
        CheckpointError: as `degrees`.
    """
    found = []
    try:
        for item in _fields(value, "Irreps"):
            multiplicity, irrep = _fields(item, "_MulIr")
            degree, parity = _fields(irrep, "Irrep")
            if type(multiplicity) is not int or type(degree) is not int or parity != (-1) ** degree:
                refuse("features of unusual parity")
            found.append((multiplicity, degree))
    except (TypeError, ValueError):
        raise CheckpointError("the file's irreps cannot be read") from None
    return found


def check_convolution(block: Any, channels: int, max_degree: int) -> None:
    """The paths of ``conv_tp``, their order and their factors sqrt(2 l3 + 1).

    Raises:
        CheckpointError: they are others.
    """
    product = attribute(block, "conv_tp")
    one, two, out = (separate_degrees(attribute(product, f"irreps_{key}")) for key in ("in1", "in2", "out"))
    if one != [(channels, d) for d in range(max_degree + 1)] or two != [(1, d) for d in range(L_MAX + 1)]:
        refuse("a convolution of other features")
    try:
        found = [
            ((one[i1][1], two[i2][1], out[i3][1]), i3, mode, has_weight, weight)
            for i1, i2, i3, mode, has_weight, weight, *_ in _instructions(product)
        ]
    except (TypeError, ValueError, IndexError):
        raise CheckpointError("the file's convolution cannot be read") from None
    paths = convolution_paths(max_degree, L_MAX, L_MAX)
    expected = [(path, index, "uvu", True, math.sqrt(2 * path[2] + 1)) for index, path in enumerate(paths)]
    if not _agree(found, expected):
        refuse("a convolution with other paths")


def check_linear(module: Any, source: list[tuple[int, int]], target: list[tuple[int, int]], where: str) -> None:
    """Degrees and factors 1/sqrt(fan-in) of an e3nn ``Linear``.

    Args:
        source, target: (multiplicity, degree), each degree once.

    Raises:
        CheckpointError: others, or a bias.
    """
    inputs, outputs = attribute(module, "irreps_in"), attribute(module, "irreps_out")
    if degrees(inputs) != source or separate_degrees(outputs) != target:
        refuse(f"other features in {where}")
    into = separate_degrees(inputs)
    fan_in = {degree: multiplicity for multiplicity, degree in source}
    position = {degree: index for index, (_, degree) in enumerate(target)}
    expected = [
        (i, position[degree], 1 / math.sqrt(fan_in[degree])) for i, (_, degree) in enumerate(into) if degree in position
    ]
    found = [(item[0], item[1], item[-1]) for item in _instructions(module) if len(item) == 4]
    bias = attribute(module, "_buffers.bias", attribute(module, "_parameters.bias"))
    if not _agree(found, expected) or (isinstance(bias, Tensor) and bias.numel()):
        refuse(f"another normalisation, or a bias, in {where}")


def check_skip(module: Any, channels: int, elements: int, source: int, target: int, where: str) -> None:
    """Degrees and factors of the element-dependent ``skip_tp``: sqrt((2l+1) / (channels elements)).

    Args:
        source: largest degree of its input.
        target: largest degree it makes.

    Raises:
        CheckpointError: others.
    """
    one, two, out = (separate_degrees(attribute(module, f"irreps_{key}")) for key in ("in1", "in2", "out"))
    if one != [(channels, d) for d in range(source + 1)] or two != [(elements, 0)]:
        refuse(f"other features in {where}")
    if out != [(channels, d) for d in range(len(out))] or len(out) <= target:
        refuse(f"other features in {where}")
    expected = [(d, 0, d, "uvw", True, math.sqrt((2 * d + 1) / (channels * elements))) for d in range(target + 1)]
    if not _agree([item[:6] for item in _instructions(module)], expected):
        refuse(f"another normalisation in {where}")


def short(name: str) -> str:
    """The last word of a full name."""
    return name.rsplit(".", 1)[-1]


def _instructions(module: Any) -> list[tuple[Any, ...]]:
    items = attribute(module, "instructions", ())
    return [_fields(item, "Instruction") for item in items] if isinstance(items, list) else []


def _fields(value: Any, kind: str) -> tuple[Any, ...]:
    """What a pickled tuple of e3nn holds: ``Irreps`` gets its items as one argument, named tuples as several."""
    if not isinstance(value, Stub) or short(value.name) != kind or not value.name.startswith("e3nn."):
        raise TypeError
    first = value.arguments[0] if value.arguments else ()
    return first if len(value.arguments) == 1 and isinstance(first, tuple) else value.arguments


def _agree(found: Any, expected: Any) -> bool:
    """Equality of nested tuples and lists, floats to within `NORMALISATION`."""
    if isinstance(expected, (list, tuple)):
        return (
            isinstance(found, (list, tuple))
            and len(found) == len(expected)
            and all(_agree(a, b) for a, b in zip(found, expected, strict=True))
        )
    if type(expected) is float:
        return type(found) is float and abs(found - expected) <= NORMALISATION * expected
    return type(found) is type(expected) and bool(found == expected)
