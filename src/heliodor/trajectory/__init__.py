"""Reading trajectories a block at a time, whatever program wrote them: the floor under `heliodor.analysis`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heliodor.lazy import attach

if TYPE_CHECKING:
    from heliodor.trajectory.block import Block
    from heliodor.trajectory.open import open_trajectory
    from heliodor.trajectory.trajectory import Trajectory

__all__ = ["Block", "Trajectory", "open_trajectory"]

_HOMES = {
    "Block": "heliodor.trajectory.block",
    "Trajectory": "heliodor.trajectory.trajectory",
    "open_trajectory": "heliodor.trajectory.open",
}

__getattr__, __dir__ = attach(__name__, _HOMES)
