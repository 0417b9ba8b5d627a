"""Crystals, and toy potentials whose lattice energies are sums on paper."""

from __future__ import annotations

import itertools

import ase
import numpy as np
import torch
from ase.build import bulk
from ase.spacegroup import crystal as by_symmetry
from torch import Tensor

from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, Terms
from heliodor.system import System


class PairSum(Potential):
    """Half the sum of `shape` over all pairs within a cutoff; any element, float64."""

    name = "pair sum"
    elements = tuple(range(1, 90))

    def __init__(self, shape, cutoff: float) -> None:
        super().__init__()
        self.shape, self.cutoff = shape, cutoff
        self.anchor = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, system: System, neighbors: Neighbors) -> Terms:
        edges = neighbors.within(system)
        half = 0.5 * self.shape(edges.vectors(system).square().sum(-1).sqrt())
        node = torch.zeros(system.n_atoms, dtype=half.dtype)
        return Terms({"pair": node.index_add(0, edges.i, half).index_add(0, edges.j, half)})


SIGMA = 3.4
"""Å."""


def lennard_jones(d: Tensor) -> Tensor:
    """ε = 1 eV, σ = 3.4 Å."""
    c6 = (SIGMA / d) ** 6
    return 4.0 * (c6**2 - c6)


def diatomic(d: Tensor) -> Tensor:
    """A bond at about 1.1 Å, a wall around 2.2 Å, a shallow well at 3.8 Å; below 1e-8 eV from 7 Å on."""
    bond = 2.0 * ((1.0 - (-4.0 * (d - 1.1)).exp()) ** 2 - 1.0)
    return bond + (-(((d - 2.2) / 0.6) ** 2)).exp() - 0.03 * (-(((d - 3.8) / 0.8) ** 2)).exp()


def direct_sum(atoms: ase.Atoms, shape, cutoff: float) -> float:
    """Energy of the cell, images one by one."""
    heights = 1.0 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0)
    reach = np.ceil(cutoff / heights).astype(int) + 1
    total = 0.0
    for image in itertools.product(*[range(-n, n + 1) for n in reach]):
        offset = np.array(image) @ atoms.cell.array
        d = np.linalg.norm(atoms.positions[None] + offset - atoms.positions[:, None], axis=-1).ravel()
        d = d[(d > 1e-9) & (d < cutoff)]
        total += 0.5 * float(shape(torch.as_tensor(d)).sum())
    return total


def argon(nearest: float = 1.0902) -> ase.Atoms:
    """The primitive fcc cell; the distance of neighbours in units of σ."""
    return bulk("Ar", "fcc", a=nearest * SIGMA * 2**0.5)


def nitrogen(a: float = 5.65, bond: float = 1.1) -> ase.Atoms:
    """Pa-3, as α-N2: four molecules along the diagonals."""
    u = bond / (2 * 3**0.5 * a)
    return by_symmetry(["N"], basis=[(u, u, u)], spacegroup=205, cellpar=[a, a, a, 90, 90, 90])


def urea() -> ase.Atoms:
    """Swaminathan, Craven, McMullan, Acta Cryst. B40, 300 (1984): neutrons, 12 K; Z' = 1/4, cut by the faces."""
    basis = [
        (0, 0.5, 0.326), (0, 0.5, 0.5953), (0.1459, 0.6459, 0.1766), (0.2575, 0.7575, 0.2827), (0.1441, 0.6441, -0.038)
    ]  # fmt: skip
    return plain(
        by_symmetry(["C", "O", "N", "H", "H"], basis=basis, spacegroup=113, cellpar=[5.565, 5.565, 4.684, 90, 90, 90])
    )


def carbon_dioxide() -> ase.Atoms:
    """Simon, Peters, Acta Cryst. B36, 2750 (1980): Pa-3 at 150 K."""
    return plain(
        by_symmetry(
            ["C", "O"], basis=[(0, 0, 0), (0.1185, 0.1185, 0.1185)], spacegroup=205,
            cellpar=[5.624, 5.624, 5.624, 90, 90, 90],
        )
    )  # fmt: skip


def plain(atoms: ase.Atoms) -> ase.Atoms:
    """Without what ASE notes about symmetry."""
    return ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)


def scrambled(atoms: ase.Atoms, seed: int = 0) -> ase.Atoms:
    """The same crystal: atoms in another order, moved to other cells, origin elsewhere."""
    rng = np.random.default_rng(seed)
    moved = atoms.copy()
    moved.positions += rng.uniform(-3, 3, 3) + rng.integers(-2, 3, (len(atoms), 3)) @ atoms.cell.array
    return moved[rng.permutation(len(atoms))]
