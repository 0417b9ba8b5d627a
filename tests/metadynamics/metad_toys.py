"""Systems whose free energies along distances and torsions are known on paper, as forces of OpenMM itself.

They take the place of the model's force, so that many steps cost little; `Nothing` is what heliodor is told.
"""

from __future__ import annotations

from typing import Any

import ase
import numpy as np
import torch
from torch import Tensor

from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, Terms
from heliodor.system import System
from heliodor.units import KJ_PER_MOL


class Nothing(Potential):
    """No energy; an empty list that nothing outgrows."""

    name = "nothing"
    elements = tuple(range(1, 90))
    cutoff = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

    def neighbors(self, system: System, skin: float = 0.0) -> Neighbors:
        none = torch.zeros(0, dtype=torch.int64)
        limits = torch.ones(system.n_structures, dtype=torch.float64)
        return Neighbors(none, none, none.view(0, 1).expand(0, 3), limits, 1e30, True, system.positions, system.cell)

    def energy(self, x: Tensor) -> Tensor:
        return 0.0 * x.sum()

    def forward(self, system: System, neighbors: Neighbors) -> Terms:
        share = torch.zeros(system.n_atoms, dtype=torch.float64)
        share[0] = 1.0
        return Terms({"known": share * self.energy(system.positions)})


class Springs(Nothing):
    """Between neighbours along a chain, and a weak one between its ends: something that moves; NaN from a call on."""

    name = "springs"

    def __init__(self, good_calls: int = 10**9) -> None:
        super().__init__()
        self.good_calls = good_calls

    def energy(self, x: Tensor) -> Tensor:
        self.good_calls -= 1
        steps = (x[1:] - x[:-1]).norm(dim=-1)
        value = 2.5 * (steps - 1.5).square().sum() + 0.1 * ((x[-1] - x[0]).norm() - 2.5).square()
        return value if self.good_calls >= 0 else value * float("nan")


class DoubleWells:
    """Pairs of atoms 0-1, 2-3 ...: wells at 2 and 3 Å, a barrier between them; the well at 3 Å is higher by a tilt.

    Pairs do not see each other. ``wells`` has barrier and tilt of each pair, eV.
    """

    def __init__(self, *wells: tuple[float, float]) -> None:
        self.wells = wells

    def force(self) -> Any:
        import openmm

        force = openmm.CustomBondForce("barrier*(u^2-1)^2 + tilt*u/2; u = 20*(r-0.25)")
        force.addPerBondParameter("barrier")
        force.addPerBondParameter("tilt")
        for k, (barrier, tilt) in enumerate(self.wells):
            force.addBond(2 * k, 2 * k + 1, [barrier / KJ_PER_MOL, tilt / KJ_PER_MOL])
        return force

    def profile(self, k: int, d: np.ndarray, kt: float) -> np.ndarray:
        """Free energy of pair k, eV: the shell of radius d (Å) grows as d²."""
        barrier, tilt = self.wells[k]
        u = 2.0 * (d - 2.5)
        found: np.ndarray = barrier * (u**2 - 1.0) ** 2 + 0.5 * tilt * u - 2.0 * kt * np.log(d)
        return found


class Chain:
    """Atoms in a chain, stiff bonds of 1.5 Å and angles of 110°; one torsion after the other of known energy.

    F along the torsions is their energy: the volume element of internal coordinates, r² sin θ, has no torsion in it.
    ``cosines`` has V (eV), n and φ0 (°) of each: V/2 (1 - cos n(φ - φ0)) + 0.02 sin φ, the last tells left from right.
    """

    def __init__(self, *cosines: tuple[float, int, float]) -> None:
        self.cosines = cosines

    def force(self) -> Any:
        import openmm

        count = len(self.cosines) + 3
        terms = [f"12000*(distance(p{k},p{k + 1})-0.15)^2" for k in range(1, count)]
        terms += [f"100*(angle(p{k},p{k + 1},p{k + 2})-{np.radians(110.0)})^2" for k in range(1, count - 1)]
        for k, (v, n, phase) in enumerate(self.cosines, 1):
            phi = f"dihedral(p{k},p{k + 1},p{k + 2},p{k + 3})"
            terms.append(
                f"{v / KJ_PER_MOL}/2*(1-cos({n}*({phi}-{np.radians(phase)}))) + {0.02 / KJ_PER_MOL}*sin({phi})"
            )
        force = openmm.CustomCompoundBondForce(count, " + ".join(terms))
        force.addBond(list(range(count)))
        return force

    def profile(self, k: int, degrees: np.ndarray, kt: float) -> np.ndarray:
        """Free energy of torsion k, eV."""
        v, n, phase = self.cosines[k]
        x = np.radians(degrees)
        found: np.ndarray = 0.5 * v * (1.0 - np.cos(n * (x - np.radians(phase)))) + 0.02 * np.sin(x)
        return found


def exact(known: DoubleWells | Chain, kt: float, centers: tuple[np.ndarray, ...]) -> np.ndarray:
    """-kT ln of the probability of each bin, zero at the lowest."""
    parts = []
    for k, x in enumerate(centers):
        half = 0.5 * (x[1] - x[0])
        inner = np.linspace(-half, half, 41)
        parts.append(-kt * np.log(np.exp(-known.profile(k, x[:, None] + inner, kt) / kt).mean(1)))
    found: np.ndarray = parts[0] if len(parts) == 1 else parts[0][:, None] + parts[1][None, :]
    return found - found.min()


def pairs(count: int = 1) -> ase.Atoms:
    """Neon, each pair in its first well."""
    return ase.Atoms(f"Ne{2 * count}", [[2.0 * (k % 2), 5.0 * (k // 2), 0.0] for k in range(2 * count)])


def zigzag(count: int) -> ase.Atoms:
    """A chain of carbons, not flat."""
    turn, x = np.radians(70.0), [np.zeros(3)]
    for k in range(count - 1):
        x.append(x[-1] + 1.5 * np.array([np.cos(turn / 2), np.sin(turn / 2) * (-1) ** k, 0.15 * (k % 3)]))
    return ase.Atoms(f"C{count}", np.array(x))
