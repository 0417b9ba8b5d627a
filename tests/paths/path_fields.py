"""Particles in fields whose quantum statistics are known, any number of copies at once."""

from __future__ import annotations

import ase
import numpy as np
import torch

from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, Terms
from heliodor.system import System
from heliodor.units import ACCELERATION, BOLTZMANN, HBAR


class Field(Potential):
    """Each atom near its own place on a row along x, 10 Å apart: k/2 r², or a Morse well along x in its stead."""

    name = "field"
    elements = tuple(range(1, 90))
    cutoff = 1.0
    outputs = frozenset({"charges"})

    def __init__(self, n: int, k: float, depth: float | None = None, width: float = 0.0) -> None:
        super().__init__()
        self.n, self.k, self.depth, self.width = n, k, depth, width
        self.anchor = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.spoiled_after: int | None = None

    def atoms(self, symbol: str = "H") -> ase.Atoms:
        atoms = ase.Atoms(f"{symbol}{self.n}", self.places())
        atoms.info["spin"] = int(atoms.numbers.sum() % 2)
        return atoms

    def places(self) -> np.ndarray:
        return np.stack([10.0 * np.arange(self.n), np.zeros(self.n), np.zeros(self.n)], axis=1)

    def neighbors(self, system: System, skin: float = 0.0) -> Neighbors:
        """None, and never out of date."""
        none = torch.zeros(0, dtype=torch.int64)
        limits = torch.ones(system.n_structures, dtype=torch.float64)
        return Neighbors(none, none, none.view(0, 1).expand(0, 3), limits, 1e30, True, system.positions, system.cell)

    def forward(self, system: System, neighbors: Neighbors) -> Terms:
        copies = system.n_atoms // self.n
        r = system.positions - torch.as_tensor(np.tile(self.places(), (copies, 1)))
        springs = 0.5 * self.k * r.square()
        along = springs[:, 0] if self.depth is None else self.depth * (1.0 - (-self.width * r[:, 0]).exp()).square()
        energy = along + springs[:, 1] + springs[:, 2]
        if self.spoiled_after is not None:
            self.spoiled_after -= 1
            if self.spoiled_after < 0:
                energy = energy * float("nan")
        return Terms({"field": energy}, charges=torch.ones_like(energy))

    def wavenumber(self, mass: float) -> float:
        """cm⁻¹ of the springs: ω/(2π c)."""
        return float(np.sqrt(self.k * ACCELERATION / mass) / (2.0 * np.pi * 2.99792458e-5))


def discretised_energy(potential, mass: float, temperature: float, beads: int, grid: np.ndarray) -> float:
    """Energy of a ring polymer in one dimension, eV: -d ln Tr(ρ^P)/dβ, ρ the primitive density matrix on a grid."""

    def log_trace(beta: float) -> float:
        tau = beta / beads
        stiff = mass / ACCELERATION / (2.0 * HBAR**2 * tau)
        half = np.exp(-0.5 * tau * potential(grid))
        rho = half[:, None] * np.exp(-stiff * (grid[:, None] - grid) ** 2) * half
        rho *= np.sqrt(stiff / np.pi) * (grid[1] - grid[0])
        values = np.linalg.eigvalsh(rho)
        return float(np.log((values**beads).sum()))

    beta = 1.0 / (BOLTZMANN * temperature)
    step = 1e-4 * beta
    return -(log_trace(beta + step) - log_trace(beta - step)) / (2.0 * step)


def morse_energy(depth: float, width: float, mass: float, temperature: float) -> float:
    """Mean energy of a Morse oscillator from its exact levels ħω(n + ½) - (ħω (n + ½))²/(4D), eV."""
    quantum = HBAR * width * np.sqrt(2.0 * depth * ACCELERATION / mass)
    n = np.arange(int(2.0 * depth / quantum)) + 0.5
    levels = quantum * n - (quantum * n) ** 2 / (4.0 * depth)
    weights = np.exp(-(levels - levels[0]) / (BOLTZMANN * temperature))
    return float((levels * weights).sum() / weights.sum())
