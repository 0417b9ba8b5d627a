"""A generalised Langevin thermostat whose friction grows with frequency, so that no mode is over- or underdamped.

Notation of Ceriotti, Bussi & Parrinello, J. Chem. Theory Comput. 6, 1170 (2010): d(p, s) = -V' - A (p, s) + noise. With
A = [[γ₀ + Σ γ_k, a], [aᵀ, diag(ω_k)]], a_k² = γ_k ω_k, the friction at frequency ω is

    γ(ω) = γ₀ + Σ_k γ_k ω²/(ω² + ω_k²),

and A + Aᵀ is positive, so that the canonical distribution is exact at any number of beads. Frequencies in a geometric
row of ratio r with γ_k = (4 ln r/π) ω_k give γ(ω) ≈ γ₀ + 2ω between the ends of the row, for the sum over the row is
∫ du/(1 + u²)/ln r: critical damping at each frequency. These are no matrices of GLE4MD, and nothing quantum is put into
the noise (as in PIGLET): as many beads are needed as with white noise.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from heliodor.units import BOLTZMANN, HBAR, INVERSE_CM

RATIO = 3.0
"""Between neighbouring frequencies of the row."""

FASTEST_BONDS = 4000.0 * INVERSE_CM / HBAR
"""rad/fs, of vibrations."""


def frequencies(temperature: float, beads: int, friction_time: float) -> Float[np.ndarray, "n"]:
    """Of the row, rad/fs: from a third of 1/friction_time to three times the fastest of ring polymer and bonds."""
    low = 1.0 / friction_time
    high = max(FASTEST_BONDS, 2.0 * beads * BOLTZMANN * temperature / HBAR)
    count = max(2, math.ceil(math.log(9.0 * high / low) / math.log(RATIO)) + 1)
    return low / 3.0 * RATIO ** np.arange(count)


def drift(temperature: float, beads: int, friction_time: float) -> Float[np.ndarray, "n n"]:
    """The matrix A in 1/fs; γ₀ is 1/friction_time."""
    row = frequencies(temperature, beads, friction_time)
    weights = 4.0 * math.log(RATIO) / math.pi * row
    matrix = np.diag(np.concatenate([[1.0 / friction_time + weights.sum()], row]))
    matrix[0, 1:] = matrix[1:, 0] = np.sqrt(weights * row)
    return matrix


def friction(matrix: Float[np.ndarray, "n n"], omega: Float[np.ndarray, "W"]) -> Float[np.ndarray, "W"]:
    """γ(ω) in 1/fs of any such matrix: a_pp - Re a (A_s - iω)⁻¹ āᵀ."""
    rest = matrix[1:, 1:]
    found = [
        matrix[0, 0] - (matrix[0, 1:] @ np.linalg.solve(rest - 1j * w * np.eye(len(rest)), matrix[1:, 0])).real
        for w in omega
    ]
    return np.array(found)
