"""A model of dipoles and polarizabilities with random weights, small enough for many calls."""

from __future__ import annotations

import torch

from heliodor.potentials.mace import MACEConfig
from heliodor.potentials.mace_dielectric import MACEDielectric, MACEDielectricConfig


def polarizable_model() -> MACEDielectric:
    """Hydrogen and oxygen, float64."""
    shape = MACEConfig(
        cutoff=4.0,
        elements=(1, 8),
        channels=3,
        degrees=(2, 2),
        isolated_energies=(),
        average_neighbors=(2.0, 2.0),
        correlation=2,
        radial_hidden=(8,),
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return MACEDielectric(MACEDielectricConfig(shape, (4, 3, 2))).requires_grad_(False)
