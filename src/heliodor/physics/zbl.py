"""Screened nuclear repulsion after Ziegler, Biersack and Littmark, with learned screening."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from heliodor.physics.tables import COULOMB
from heliodor.potentials.radial import smooth_switch


class ZBLRepulsion(nn.Module):
    """E = k_e Z_i Z_j / d · f_c(d) · Σ_n ĉ_n exp(-a_n ρ) · sw(d; 0, 1.5 Å), ρ = d (Z_i^p + Z_j^p) p_d.

    The parameters are stored before softplus. The switch confines the term to covalent bonds and closer
    contacts (Kabylda et al. 2025, SI; Ziegler, Biersack & Littmark 1985).

    Args:
        switch_off: Å where the switch has come to zero; None for none (SpookyNet).
    """

    def __init__(self, switch_off: float | None = 1.5) -> None:
        super().__init__()
        self.switch_off = switch_off
        self.exponents = nn.Parameter(torch.tensor([3.1998, 0.94229, 0.4029, 0.20162]).expm1().log())
        self.coefficients = nn.Parameter(torch.tensor([0.18175, 0.50986, 0.28022, 0.02817]).expm1().log())
        self.power = nn.Parameter(torch.tensor([0.23]).expm1().log())
        self.inverse_length = nn.Parameter(torch.tensor([1.0 / (0.8854 * 0.529177)]).expm1().log())

    def forward(
        self,
        d: Float[Tensor, "E"],
        z_i: Float[Tensor, "E"],
        z_j: Float[Tensor, "E"],
        cutoff: Float[Tensor, "E"],
    ) -> Float[Tensor, "E"]:
        """Pair energies in eV.

        Args:
            d: distances, Å.
            z_i, z_j: atomic numbers.
            cutoff: the network's cutoff function at d.
        """
        a, p, inverse = softplus(self.exponents), softplus(self.power), softplus(self.inverse_length)
        c = softplus(self.coefficients)
        rho = d * (z_i**p + z_j**p) * inverse
        screening = torch.exp(-a * rho.unsqueeze(-1)) @ (c / c.sum())
        energy = COULOMB * z_i * z_j / d * cutoff * screening
        return energy if self.switch_off is None else energy * smooth_switch(d / self.switch_off)
