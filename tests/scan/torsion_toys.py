"""A chain of four carbon atoms whose relaxed torsion profile is known on paper."""

from __future__ import annotations

import ase
import numpy as np
import torch

from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, Terms
from heliodor.system import System

BOND, ANGLE = 1.5, np.radians(110.0)


class Chain(Potential):
    """Stiff outer bonds and angles, V/2 (1 + cos 3x), and the middle bond d coupled to the dihedral x.

    harmonic: k/2 (d - d0)² + g (d - d0) cos x, so that the relaxed energy has -g² cos² x / 2k beside the torsion.
    double well (w > 0): h (((d - d0)/w)² - 1)² + g (d - d0) cos x.
    """

    name = "chain"
    elements = (1, 6, 7)

    def __init__(self, v: float = 0.2, k: float = 30.0, g: float = 0.6, h: float = 0.0, w: float = 0.0) -> None:
        super().__init__()
        self.cutoff = 3.0
        self.v, self.k, self.g, self.h, self.w = v, k, g, h, w
        self.anchor = torch.nn.Parameter(torch.zeros((), dtype=torch.float64), requires_grad=False)

    def forward(self, system: System, neighbors: Neighbors) -> Terms:
        ab, bc, cd = system.positions.diff(dim=0)
        d = bc.norm()
        cosines = [-(u @ v) / (u.norm() * v.norm()) for u, v in ((ab, bc), (bc, cd))]
        first, second = torch.linalg.cross(ab, bc), torch.linalg.cross(bc, cd)
        x = torch.atan2(d * (ab @ second), first @ second)
        stiff = sum(0.5 * 30.0 * (u.norm() - BOND) ** 2 for u in (ab, cd))
        stiff = stiff + sum(0.5 * 5.0 * (c - np.cos(ANGLE)) ** 2 for c in cosines)
        middle = 0.5 * self.k * (d - BOND) ** 2 if self.w == 0.0 else self.h * (((d - BOND) / self.w) ** 2 - 1) ** 2
        energy = stiff + middle + self.g * (d - BOND) * torch.cos(x) + 0.5 * self.v * (1 + torch.cos(3 * x))
        return Terms({"chain": energy.expand(4) / 4})

    def relaxed(self, degrees: np.ndarray) -> np.ndarray:
        """eV."""
        x = np.radians(degrees)
        torsion = 0.5 * self.v * (1 + np.cos(3 * x))
        if self.w == 0.0:
            return torsion - (self.g * np.cos(x)) ** 2 / (2 * self.k)
        stretch = np.linspace(-2 * self.w, 2 * self.w, 400_001)
        well = self.h * ((stretch / self.w) ** 2 - 1) ** 2
        return torsion + np.array([(well + self.g * stretch * c).min() for c in np.cos(x)])


def chain(degrees: float = 170.0) -> ase.Atoms:
    """Four carbon atoms, a little off their relaxed places."""
    atoms = ase.Atoms("C4", np.zeros((4, 3)))
    s, c = np.sin(ANGLE), np.cos(ANGLE)
    x = np.radians(degrees)
    atoms.positions = [
        [-BOND * c, BOND * s, 0.0],
        [0.0, 0.0, 0.0],
        [-1.47, 0.0, 0.0],
        [-1.47 + 1.52 * c, 1.52 * s * np.cos(x), -1.52 * s * np.sin(x)],
    ]
    atoms.set_dihedral(0, 1, 2, 3, degrees, indices=[3])
    return atoms
