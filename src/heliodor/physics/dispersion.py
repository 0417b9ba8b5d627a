"""Dispersion between quantum Drude oscillators whose strength follows the Hirshfeld ratios."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from heliodor.physics.tables import BOHR_2014, FINE_STRUCTURE, HARTREE_2014
from heliodor.potentials.radial import smooth_switch

_RADIUS_POWER = FINE_STRUCTURE ** (-4.0 / 21.0)
_GAMMA_FIT = (-0.00433008, 0.24428889, 0.04125273, -0.00078893)
_VDW_PREFACTOR = 2.54
"""Fedorov's empirical prefactor of the van der Waals radius; not α_fs^(-4/21) = 2.5528, which enters γ."""


def qdo_dispersion(
    d: Float[Tensor, "P"],
    alpha_i: Float[Tensor, "P"],
    alpha_j: Float[Tensor, "P"],
    c6_i: Float[Tensor, "P"],
    c6_j: Float[Tensor, "P"],
    cutoff: Float[Tensor, "#P"],
    damping_width: float,
    scale: float,
) -> Float[Tensor, "P"]:
    """Pair energies in eV: -(C6/(r⁶+p⁶) + C8/(r⁸+p⁸) + C10/(r¹⁰+p¹⁰)), switched off below the cutoff.

    C8 and C10 follow from C6 by the quantum Drude oscillator's γ, a fit in the van der Waals radius
    (Kabylda et al. 2025, eqs. 4-5; Khabibrakhmanov et al. 2023).

    Args:
        d: distances, Å.
        alpha_i, alpha_j: polarizabilities, Bohr³.
        c6_i, c6_j: homonuclear coefficients, Hartree·Bohr⁶.
        cutoff: R in Å for each pair (or one for all); may be infinite.
        damping_width: Å over which the term is switched off before R.
        scale: multiplies the damping radius p (γ_scale).
    """
    alpha = 0.5 * (alpha_i + alpha_j)
    c6 = 2.0 * c6_i * c6_j * alpha_i * alpha_j / (alpha_i.square() * c6_j + alpha_j.square() * c6_i)
    root = alpha ** (1.0 / 7.0)
    rho = _RADIUS_POWER * root
    b0, b1, b2, b3 = _GAMMA_FIT
    s = ((b3 * rho + b2) * rho + b1) * rho + b0
    inverse_gamma = 2.0 * s.square()
    p2 = (scale * 2.0 * _VDW_PREFACTOR * root).square()
    r2 = (d / BOHR_2014).square()
    r4, p4 = r2.square(), p2.square()
    r6, p6 = r4 * r2, p4 * p2
    series = 1.0 / (r6 + p6) + 5.0 * inverse_gamma * (
        1.0 / (r4.square() + p4.square()) + 6.125 * inverse_gamma / (r6 * r4 + p6 * p4)
    )
    return -HARTREE_2014 * c6 * series * smooth_switch((d - cutoff) / damping_width + 1.0)
