"""Reader of ``AtomicDielectricMACE`` files: the network as `mace_file` reads it, and readouts of dipoles.

Source: mace-torch 0.3.16, read and run as a peer (tests/data/mace_dielectric). The gate is e3nn's in older files, then
mace's own; both are the same function. No official file was at hand.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from heliodor.convert import mace_checks as checks
from heliodor.convert.archive import Archive, attribute, class_name, state_dict
from heliodor.convert.mace_checks import BLOCKS, refuse
from heliodor.convert.mace_file import (
    MACEFile,
    Shapes,
    check_network,
    empty_of_information,
    network_shapes,
    network_values,
    state_sha256,
    take,
)
from heliodor.convert.pickled import Name, Stub
from heliodor.potentials.mace_dielectric import symmetric_basis

ENDS = {
    "readouts.0": (f"{BLOCKS}LinearDipolePolarReadoutBlock", f"{BLOCKS}LinearDipoleReadoutBlock"),
    "readouts.1": (f"{BLOCKS}NonLinearDipolePolarReadoutBlock", f"{BLOCKS}NonLinearDipoleReadoutBlock"),
}
GATES = ("mace.modules.gate.GatedEquivariantBlock", "e3nn.nn._gate.Gate")
UNUSED = ("dipole_mean", "dipole_std", "polarizability_mean", "polarizability_std")
"""Statistics of the training set, which mace stores and never looks at."""


def read_dielectric(archive: Archive) -> MACEFile:
    """AtomicDielectricMACE, everything checked.

    Returns:
        ``config`` as that of an energy model without heads; readout_hidden has the channels by degree, two numbers for
        a model of dipoles alone. Among the tensors is ``change_of_basis`` [6, 3, 3] of polarizable models.

    Raises:
        CheckpointError: something that heliodor does not compute; something missing.
    """
    model, state = archive.root, state_dict(archive.root)
    checks.check_architecture(model, ENDS)
    config = network_values(model, state)
    polarizable = attribute(model, "use_polarizability")
    if type(polarizable) is not bool:
        refuse("no word on whether it predicts polarizabilities")
    degree, top = (2 if polarizable else 1), config["hidden_degrees"]
    if top < degree:
        refuse(f"messages up to degree {top}, too low for its outputs,")
    hidden, scale = _gate(attribute(model, "readouts.1.equivariant_nonlin"), degree)
    config |= {"readout_hidden": hidden, "gate_scale": scale}
    shapes = network_shapes(config, state, top) | _shapes(config["channels"], hidden)
    check_network(model, config, top)
    _check_readouts(model, config["channels"], top, hidden)
    if polarizable:
        shapes["change_of_basis"] = (6, 3, 3)

    def harmless(key: str, value: Tensor) -> bool:
        return empty_of_information(key, value) or key in (*UNUSED, "change_of_basis")

    tensors = take(state, shapes, harmless)
    if polarizable and not torch.allclose(tensors["change_of_basis"], symmetric_basis(), rtol=0.0, atol=1e-6):
        refuse("polarizabilities in another basis")
    version = "current" if class_name(attribute(model, "readouts.1.equivariant_nonlin")) == GATES[0] else "2024 format"
    return MACEFile("AtomicDielectricMACE", config, tensors, archive.sha256, state_sha256(state), version)


def _shapes(k: int, hidden: tuple[int, ...]) -> Shapes:
    # two scalars where there is a polarizability: the charge and a trace
    out = (len(hidden) - 1, *(1 for _ in hidden[1:]))
    return {
        "readouts.0.linear.weight": (k * sum(out),),
        "readouts.1.linear_1.weight": (k * (sum(hidden) + sum(hidden[1:])),),
        "readouts.1.linear_2.weight": (sum(m * o for m, o in zip(hidden, out, strict=True)),),
    }


def _check_readouts(model: Stub, k: int, top: int, hidden: tuple[int, ...]) -> None:
    """Degrees and normalisations of the readouts' linear maps."""
    features = [(k, d) for d in range(top + 1)]
    out = [(len(hidden) - 1, 0), *((1, d) for d in range(1, len(hidden)))]
    into_gate = [(sum(hidden), 0), *((m, d) for d, m in enumerate(hidden) if d)]
    for path, source, target in (
        ("readouts.0.linear", features, out),
        ("readouts.1.linear_1", features, into_gate),
        ("readouts.1.linear_2", [(m, d) for d, m in enumerate(hidden)], out),
    ):
        checks.check_linear(attribute(model, path), source, target, path)


def _gate(gate: Any, degree: int) -> tuple[tuple[int, ...], float]:
    """Channels by degree, and the factor on silu, of a gate whose scalars and gates both pass through silu."""
    if class_name(gate) not in GATES:
        refuse(f"the gate {checks.short(class_name(gate)) or 'of no kind'} in its readout")
    scalars, gated = (checks.separate_degrees(attribute(gate, f"irreps_{part}")) for part in ("scalars", "gated"))
    gates = checks.degrees(attribute(gate, "irreps_gates"))
    both = scalars + gated
    if [d for _, d in both] != list(range(degree + 1)) or gates != [(sum(m for m, _ in gated), 0)]:
        refuse("a readout without a gate for each degree of its outputs")
    if class_name(gate) == GATES[0]:
        if attribute(gate, "_layout_is_ir_mul") is not False:
            refuse("features in cuEquivariance's order")
        scales = {_scale(gate, part) for part in ("scalar", "gate")}
    else:
        parts = [attribute(gate, f"{part}.acts._modules", {}) for part in ("act_scalars", "act_gates")]
        scales = {checks.check_silu(act, "the readout") for part in parts for act in part.values()}
    if len(scales) != 1:
        refuse("a readout with activations of different normalisations")
    return tuple(m for m, _ in both), scales.pop()


def _scale(gate: Any, part: str) -> float:
    function, scale = attribute(gate, f"_act_{part}"), attribute(gate, f"_{part}_cst")
    name = function.text if isinstance(function, Name) else class_name(function)
    if name not in ("torch.nn.functional.silu", "torch.nn.modules.activation.SiLU"):
        refuse(f"the activation {checks.short(name) or 'none'} instead of silu in the readout")
    if type(scale) is not float or not 0.0 < scale < 10.0:
        refuse("an activation without a proper normalisation in the readout")
    return scale
