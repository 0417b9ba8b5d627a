"""Fused inner loops that may replace a model's plain PyTorch, chosen by name.

Every kernel is tested against the plain model on random inputs. None is registered yet: "auto" and
"reference" are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from heliodor.errors import ModelError

if TYPE_CHECKING:
    import torch

    from heliodor.potential import Potential

REFERENCE = "reference"


def choose_kernels(potential: Potential, device: torch.device, name: str) -> str:
    """Name of the implementation that will run.

    Raises:
        ModelError: no such kernel for this model and device.
    """
    if name not in ("auto", REFERENCE):
        raise ModelError(f"no kernel called {name!r} for {potential.name} on {device.type}; known: auto, {REFERENCE}")
    return REFERENCE
