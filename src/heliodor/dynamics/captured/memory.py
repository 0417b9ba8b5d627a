"""What a captured run changes, as tensors that stay in one place."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from heliodor.dynamics.state import MDState
from heliodor.dynamics.steps.extended import Chain
from heliodor.neighbors import Neighbors
from heliodor.system import System


def moving_parts(state: MDState) -> dict[str, Tensor]:
    """The tensors of a state that steps change, by name."""
    system = state.system
    parts = {
        "positions": system.positions,
        "velocities": state.velocities,
        "forces": state.forces,
        "energy": state.energy,
        "bath": state.bath,
        "cell": system.cell,
    }
    if state.virial is not None:
        parts["virial"] = state.virial
    if state.chain is not None:
        parts |= {"links": state.chain.velocities, "heat": state.chain.heat}
    return parts


def with_parts(state: MDState, parts: dict[str, Tensor]) -> MDState:
    """The state with these tensors in the place of its own."""
    chain = Chain(parts["links"], parts["heat"]) if "links" in parts else state.chain
    return replace(
        state,
        system=state.system.replace(positions=parts["positions"], cell=parts["cell"]),
        velocities=parts["velocities"],
        forces=parts["forces"],
        energy=parts["energy"],
        bath=parts["bath"],
        virial=parts.get("virial", state.virial),
        chain=chain,
    )


def copied(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies in memory of their own."""
    return {name: part.detach().clone() for name, part in parts.items()}


def copy_into(target: dict[str, Tensor], source: dict[str, Tensor]) -> None:
    """Write values over values."""
    for name, tensor in target.items():
        tensor.copy_(source[name])


def no_lists(system: System, skin: float) -> Neighbors:
    """Lists that are stale whatever is asked of them: who goes on from here without matrices makes lists anew.

    Their cutoff of zero says that they see nothing.
    """
    none = torch.zeros(0, dtype=torch.int64, device=system.device)
    nowhere = torch.zeros(0, 3, dtype=torch.int64, device=system.device)
    limits = torch.zeros_like(system.charge)
    return Neighbors(none, none, nowhere, limits, skin, True, torch.full_like(system.positions, torch.nan), system.cell)
