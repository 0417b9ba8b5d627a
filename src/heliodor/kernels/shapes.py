"""Which models the kernels are written for; known without what the kernels need."""

from __future__ import annotations

import torch

from heliodor.potential import Potential
from heliodor.potentials.mace import MACE
from heliodor.potentials.so3lr import SO3LR
from heliodor.potentials.spookynet import SpookyNet


def fits_numba(model: Potential) -> bool:
    """For `heliodor.kernels.cpu`: MACE of two layers; SO3LR of widths in whole vectors and degrees without gaps."""
    if isinstance(model, MACE):
        return model.config.two_layers
    if not isinstance(model, SO3LR):
        return False
    c = model.config.network
    degrees = tuple(range(1, len(c.degrees) + 1))
    widths = (c.n_features // c.n_heads, c.n_features // len(c.degrees), c.n_features // 4, model.config.n_hirshfeld)
    whole = all(width % 16 == 0 for width in widths)
    return c.degrees == degrees and len(degrees) <= 4 and whole and model.zbl.switch_off is not None


def fits_triton(model: Potential) -> bool:
    """For `heliodor.kernels.gpu`, in float32."""
    if model.dtype != torch.float32:
        return False
    if isinstance(model, MACE):
        return model.config.two_layers
    if isinstance(model, SpookyNet):
        c = model.config
        return c.irreducible and c.n_features in (16, 32, 64, 128, 256) and c.n_basis <= 64
    return isinstance(model, SO3LR)
