"""Small potentials whose statistics are known on paper."""

from __future__ import annotations

import ase
import numpy as np
import torch
from torch import Tensor

from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, Terms
from heliodor.system import System


class Toy(Potential):
    """Base: any element, float64, energies summed from pairs."""

    name = "toy"
    elements = tuple(range(1, 90))

    def __init__(self, cutoff: float = 6.0) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.anchor = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

    def pair(self, d: Tensor, system: System, edges: Neighbors) -> Tensor:
        raise NotImplementedError

    def forward(self, system: System, neighbors: Neighbors) -> Terms:
        edges = neighbors.within(system)
        d = edges.vectors(system).square().sum(-1).sqrt()
        half = 0.5 * self.pair(d, system, edges)
        node = torch.zeros(system.n_atoms, dtype=half.dtype, device=half.device)
        return Terms({"pair": node.index_add(0, edges.i, half).index_add(0, edges.j, half)})


class Spring(Toy):
    """k/2 (d - d0)² between all pairs in reach."""

    def __init__(self, k: float = 10.0, d0: float = 2.0) -> None:
        super().__init__()
        self.k, self.d0 = k, d0

    def pair(self, d: Tensor, system: System, edges: Neighbors) -> Tensor:
        return 0.5 * self.k * (d - self.d0).square()


class Morse(Toy):
    """D (1 - exp(-a (d - d0)))² - D."""

    def __init__(self, depth: float = 0.4, a: float = 1.5, d0: float = 2.0, cutoff: float = 12.0) -> None:
        super().__init__(cutoff)
        self.depth, self.a, self.d0 = depth, a, d0

    def pair(self, d: Tensor, system: System, edges: Neighbors) -> Tensor:
        return self.depth * ((1.0 - (-self.a * (d - self.d0)).exp()).square() - 1.0)


class LennardJones(Toy):
    """Argon, 4ε(...), brought to zero at the cutoff with zero slope."""

    def __init__(self, epsilon: float = 0.0104, sigma: float = 3.4, cutoff: float = 7.5) -> None:
        super().__init__(cutoff)
        self.epsilon, self.sigma = epsilon, sigma

    def pair(self, d: Tensor, system: System, edges: Neighbors) -> Tensor:
        c6, k6 = (self.sigma / d) ** 6, (self.sigma / self.cutoff) ** 6
        slope = 4.0 * self.epsilon * (-12.0 * k6**2 + 6.0 * k6) / self.cutoff
        shifted = 4.0 * self.epsilon * (c6**2 - c6 - k6**2 + k6)
        return shifted - slope * (d - self.cutoff)


class Wells(Potential):
    """Each atom in its own harmonic well k/2 |R - R0|²: an external field, momentum is not conserved."""

    name = "wells"
    elements = tuple(range(1, 90))
    cutoff = 1.0

    def __init__(self, centers: Tensor, k: float = 2.0) -> None:
        super().__init__()
        self.centers = torch.nn.Parameter(centers.double())
        self.k = k

    def forward(self, system: System, neighbors: Neighbors) -> Terms:
        return Terms({"well": 0.5 * self.k * (system.positions - self.centers).square().sum(-1)})


class Poisoned(Morse):
    """Morse whose energy is NaN from a given call on."""

    def __init__(self, good_calls: int) -> None:
        super().__init__()
        self.good_calls = good_calls

    def forward(self, system: System, neighbors: Neighbors) -> Terms:
        self.good_calls -= 1
        terms = super().forward(system, neighbors)
        return terms if self.good_calls >= 0 else Terms({"pair": terms.energies["pair"] * float("nan")})


def dimers(count: int, d: float = 2.0, symbol: str = "N2") -> list[ase.Atoms]:
    """Separate diatomics."""
    return [ase.Atoms(symbol, [[0, 0, 0], [d, 0, 0]], info={"charge": 0}) for _ in range(count)]


def cluster(n: int = 7, spacing: float = 2.0, symbol: str = "C", seed: int = 0) -> ase.Atoms:
    """Atoms on a rattled piece of a cubic lattice."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(n ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)[:n]
    return ase.Atoms(f"{symbol}{n}", spacing * grid + rng.normal(0, 0.05, (n, 3)))


def argon_box(side: int = 3, spacing: float = 3.9, seed: int = 0) -> ase.Atoms:
    """A periodic cubic lattice of argon, rattled."""
    atoms = cluster(side**3, spacing, "Ar", seed)
    atoms.set_cell([side * spacing] * 3)
    atoms.pbc = True
    return atoms
