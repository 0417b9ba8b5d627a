"""Many-body dispersion with range-separated screening, MBD@rsSCS, of molecules; differentiable.

Ambrosetti, Reilly, DiStasio & Tkatchenko, J. Chem. Phys. 140, 18A508 (2014). Each atom is a harmonic
oscillator whose polarizability follows from its Hirshfeld volume. Short-ranged coupling screens the polarizabilities at
imaginary frequencies; the long-ranged rest couples the screened oscillators, and the energy is what that does to their
zero-point energy. Inside this module: Hartree and Bohr.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from heliodor.errors import ModelError
from heliodor.physics.free_atoms import free_atoms
from heliodor.units import BOHR, HARTREE

BETA_PBE0 = 0.85
"""Range of the damping for PBE0, fitted to S66x8 by the authors; PBE has 0.83."""

STEEPNESS = 6.0
"""Of the damping function, the same for all functionals."""

_FREQUENCY_SCALE = 0.6
"""Hartree; where half the quadrature's points lie below."""


def mbd_energy(
    positions: Float[Tensor, "N 3"],
    numbers: Sequence[int],
    hirshfeld_ratios: Float[Tensor, "N"],
    *,
    beta: float = BETA_PBE0,
    steepness: float = STEEPNESS,
    n_frequencies: int = 15,
) -> Float[Tensor, ""]:
    """Energy of dispersion of one molecule in eV.

    Its derivative by the positions at fixed ratios is what programs call the MBD forces. The ratios change with the
    positions too, which they leave out: of ethanol's MBD forces (up to 9e-3 eV/Å) that is up to 2e-3 eV/Å.

    Args:
        positions: Å, float64.
        numbers: atomic numbers.
        hirshfeld_ratios: effective over free atomic volume.
        beta: of the functional.
        n_frequencies: of the quadrature along the imaginary axis.

    Raises:
        ModelError: an element without parameters; a ratio that is not positive (a bare proton has no volume);
            oscillators so polarizable or so close that coupling them has no bound state ("polarization catastrophe").
    """
    r = positions.double() / BOHR
    v = hirshfeld_ratios.double()
    empty = (~(v > 0.0)).nonzero()
    if len(empty):
        atom = int(empty[0])
        raise ModelError(
            f"many-body dispersion: atom {atom} has the Hirshfeld ratio {float(v[atom]):.3g}, and an atom without "
            "volume has no polarizability"
        )
    alpha, c6, radius = free_atoms(numbers).to(r.device).unbind(-1)
    alpha, c6, radius = alpha * v, c6 * v**2, radius * v ** (1.0 / 3.0)
    screened, screened_c6 = _screen(r, alpha, c6, radius, beta, steepness, n_frequencies)
    if bool((screened <= 0.0).any()):
        raise ModelError(
            f"many-body dispersion: screening turns the polarizability of atom {int(screened.argmin())} <= 0"
        )
    screened_radius = radius * (screened / alpha) ** (1.0 / 3.0)
    omega = 4.0 / 3.0 * screened_c6 / screened**2
    vectors, distances = _pairs(r)
    damping = _fermi(distances, beta * (screened_radius[:, None] + screened_radius[None, :]), steepness)
    coupling = _as_matrix(damping[..., None, None] * _dipole_tensor(vectors, distances))
    pull = (omega * screened.sqrt()).repeat_interleave(3)
    modes = torch.linalg.eigvalsh(
        torch.diag((omega**2).repeat_interleave(3)) + pull[:, None] * pull[None, :] * coupling
    )
    if bool(modes[0] <= 0.0):
        raise ModelError(
            "many-body dispersion has no ground state here (polarization catastrophe): atoms too close, or Hirshfeld "
            "ratios too large"
        )
    return (0.5 * modes.sqrt().sum() - 1.5 * omega.sum()) * HARTREE


def mbd_energy_forces(
    positions: Float[np.ndarray, "N 3"],
    numbers: Sequence[int],
    hirshfeld_ratios: Float[np.ndarray, "N"],
    **options: Any,
) -> tuple[float, Float[np.ndarray, "N 3"]]:
    """Energy (eV) and forces at fixed Hirshfeld ratios (eV/Å); options and errors as of `mbd_energy`."""
    leaf = torch.tensor(np.asarray(positions, dtype=float), requires_grad=True)
    energy = mbd_energy(leaf, numbers, torch.tensor(np.asarray(hirshfeld_ratios, dtype=float)), **options)
    (gradient,) = torch.autograd.grad(energy, leaf, materialize_grads=True)
    return float(energy.detach()), -gradient.numpy()


def _screen(
    r: Float[Tensor, "N 3"],
    alpha: Float[Tensor, "N"],
    c6: Float[Tensor, "N"],
    radius: Float[Tensor, "N"],
    beta: float,
    steepness: float,
    n_frequencies: int,
) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
    """Static polarizabilities and C6 after self-consistent screening at short range."""
    n = len(alpha)
    frequencies, weights = _quadrature(n_frequencies)
    # the static limit first: it carries no weight in the integral for C6
    frequencies = torch.cat([frequencies.new_zeros(1), frequencies]).to(r.device)
    omega = 4.0 / 3.0 * c6 / alpha**2
    dynamic = alpha / (1.0 + (frequencies[:, None] / omega) ** 2)
    width = (math.sqrt(2.0 / math.pi) * dynamic / 3.0) ** (1.0 / 3.0)
    vectors, distances = _pairs(r)
    short = 1.0 - _fermi(distances, beta * (radius[:, None] + radius[None, :]), steepness)
    smeared = _smeared_dipole_tensor(vectors, distances, (width[:, :, None] ** 2 + width[:, None, :] ** 2).sqrt())
    matrix = _as_matrix(short[..., None, None] * smeared)
    matrix = matrix + torch.diag_embed((1.0 / dynamic).repeat_interleave(3, dim=-1))
    response = torch.linalg.inv(matrix).reshape(-1, n, 3, n, 3)
    screened = torch.einsum("fiajb,ab->fi", response, torch.eye(3, dtype=r.dtype, device=r.device)) / 3.0
    return screened[0], 3.0 / math.pi * (weights.to(r.device)[:, None] * screened[1:] ** 2).sum(0)


def _quadrature(n: int) -> tuple[Float[Tensor, "F"], Float[Tensor, "F"]]:
    """Gauss–Legendre points and weights, mapped from (-1, 1) to the imaginary half-axis."""
    x, w = np.polynomial.legendre.leggauss(n)
    points, weights = _FREQUENCY_SCALE * (1.0 + x) / (1.0 - x), 2.0 * _FREQUENCY_SCALE * w / (1.0 - x) ** 2
    return torch.from_numpy(points), torch.from_numpy(weights)


def _pairs(r: Float[Tensor, "N 3"]) -> tuple[Float[Tensor, "N N 3"], Float[Tensor, "N N"]]:
    """Vectors and distances; the distance of an atom from itself is infinite, which makes all its tensors vanish."""
    vectors = r[:, None, :] - r[None, :, :]
    itself = torch.eye(len(r), dtype=torch.bool, device=r.device)
    squares = (vectors**2).sum(-1).masked_fill(itself, 1.0)
    return vectors, squares.sqrt().masked_fill(itself, torch.inf)


def _fermi(distances: Float[Tensor, "N N"], onset: Float[Tensor, "N N"], steepness: float) -> Float[Tensor, "N N"]:
    """From 0 at contact to 1 far away."""
    finite = distances.masked_fill(distances.isinf(), 1e6)
    return torch.sigmoid(steepness * (finite / onset - 1.0))


def _dipole_tensor(vectors: Float[Tensor, "N N 3"], distances: Float[Tensor, "N N"]) -> Float[Tensor, "N N 3 3"]:
    """Interaction of point dipoles, minus the second derivatives of 1/r."""
    unit = torch.eye(3, dtype=vectors.dtype, device=vectors.device)
    outer = vectors[..., :, None] * vectors[..., None, :]
    return unit * distances[..., None, None] ** -3 - 3.0 * outer * distances[..., None, None] ** -5


def _smeared_dipole_tensor(
    vectors: Float[Tensor, "N N 3"], distances: Float[Tensor, "N N"], width: Float[Tensor, "F N N"]
) -> Float[Tensor, "F N N 3 3"]:
    """Interaction of Gaussian charge distributions, minus the second derivatives of erf(r/σ)/r."""
    z = distances.masked_fill(distances.isinf(), 1e6) / width
    theta = 2.0 / math.sqrt(math.pi) * z * torch.exp(-(z**2))
    outer = vectors[..., :, None] * vectors[..., None, :] * distances[..., None, None] ** -5
    overlap = (torch.erf(z) - theta)[..., None, None] * _dipole_tensor(vectors, distances)
    return overlap + (2.0 * z**2 * theta)[..., None, None] * outer


def _as_matrix(blocks: Float[Tensor, "*F N N 3 3"]) -> Float[Tensor, "*F M M"]:
    n = blocks.shape[-3]
    return blocks.transpose(-3, -2).reshape(*blocks.shape[:-4], 3 * n, 3 * n)
