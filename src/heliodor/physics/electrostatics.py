"""Coulomb interaction of partial charges, damped at short range, shifted smoothly at a cutoff."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from heliodor.physics.tables import COULOMB
from heliodor.potentials.radial import smooth_switch

SWITCH_ON = 0.45
"""Fraction of the cutoff at which the potential shift begins to turn into a force shift."""


def damped_coulomb(
    d: Float[Tensor, "P"],
    charge_product: Float[Tensor, "P"],
    cutoff: Float[Tensor, "#P"],
    damping: float,
) -> Float[Tensor, "P"]:
    """Pair energies in eV: k_e q_i q_j V(d) with V(r) = erf(r/σ)/r, brought to zero at the cutoff R.

    Below 0.45 R the potential is shifted by V(R); from there on it goes over smoothly into the force-shifted
    form, so that energy and force vanish at R (Kabylda et al. 2025; the shift makes energies at different
    cutoffs incomparable). An infinite cutoff leaves V(d).

    Args:
        d: distances, Å.
        charge_product: q_i q_j, e².
        cutoff: R in Å for each pair (or one for all); may be infinite.
        damping: σ, Å.
    """
    finite = cutoff.isfinite()
    edge = torch.where(finite, cutoff, torch.ones_like(cutoff))
    value = torch.where(finite, torch.erf(edge / damping) / edge, 0.0)
    gauss = 2.0 / (math.sqrt(math.pi) * damping) * torch.exp(-((edge / damping) ** 2))
    slope = torch.where(finite, (gauss - value) / edge, 0.0)
    force_shifted = 1.0 - smooth_switch((d / cutoff - SWITCH_ON) / (1.0 - SWITCH_ON))
    shifted = torch.erf(d / damping) / d - value - force_shifted * slope * (d - edge)
    return torch.where(d < cutoff, COULOMB * charge_product * shifted, 0.0)
