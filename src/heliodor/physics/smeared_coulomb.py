"""Coulomb interaction of partial charges, smeared at bonding distances (SpookyNet's electrostatics)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from heliodor.physics.tables import COULOMB
from heliodor.potentials.radial import smooth_switch


def smeared_coulomb(
    d: Float[Tensor, "P"],
    charge_product: Float[Tensor, "P"],
    switch_on: float,
    switch_off: float,
    cutoff: float | None,
) -> Float[Tensor, "P"]:
    """Pair energies in eV: k_e q_i q_j V(d), V going over from 1/√(d² + 1 Å²) to 1/d between two distances.

    With a cutoff both branches are shifted so that energy and force vanish there (Unke et al. 2021). The
    shift acts on bonded pairs too: a model must be run with the cutoff it was trained with.

    Args:
        d: distances, Å.
        charge_product: q_i q_j, e².
        switch_on, switch_off: Å where the crossover begins and ends.
        cutoff: Å; None for none.
    """
    near = torch.rsqrt(d.square() + 1.0)
    far = 1.0 / d
    if cutoff is not None:
        c, root = cutoff, (cutoff**2 + 1.0) ** 1.5
        near = near + d * (c / root) - (2.0 * c**2 + 1.0) / root
        far = far + d / c**2 - 2.0 / c
    s = smooth_switch((d - switch_on) / (switch_off - switch_on))
    energy = COULOMB * charge_product * (far + s * (near - far))
    return energy if cutoff is None else torch.where(d < cutoff, energy, 0.0)
