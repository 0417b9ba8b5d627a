"""Systems under pressure whose distributions are known on paper, and how pressure and time are measured on them."""

from __future__ import annotations

from collections.abc import Callable

import ase
import numpy as np
import torch
from ase.build import bulk
from ase.neighborlist import neighbor_list
from torch import Tensor

from heliodor.dynamics import init
from heliodor.dynamics.state import MDState
from heliodor.dynamics.steps.coupling import AXES, project
from heliodor.dynamics.steps.extended import Chain, Piston
from heliodor.dynamics.steps.nose_hoover import LINKS
from heliodor.dynamics.steps.pressure import Barostat
from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, Terms
from heliodor.system import System
from heliodor.units import BOLTZMANN


class IdealGas(Potential):
    """No energy at all, through the graph nonetheless; an empty list that nothing outgrows, however long a box gets."""

    name = "ideal gas"
    elements = tuple(range(1, 90))
    cutoff = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

    def neighbors(self, system: System, skin: float = 0.0) -> Neighbors:
        none = torch.zeros(0, dtype=torch.int64)
        limits = torch.ones(system.n_structures, dtype=torch.float64)
        return Neighbors(none, none, none.view(0, 1).expand(0, 3), limits, 1e30, True, system.positions, system.cell)

    def forward(self, system: System, neighbors: Neighbors) -> Terms:
        return Terms({"nothing": 0.0 * system.positions.sum(-1)})


class Crystal(IdealGas):
    """Springs between the nearest neighbours of a face-centred cubic lattice, N = 4 cells³ atoms of argon.

    ``radial``: k/2 (|r| - d)², as in textbooks. Otherwise k/2 |r - r0|² between vectors: harmonic in positions and
    cell, so that modes do not depend on the cell h = h0 F, whose energy at rest is N k d² |F - 1|² (the bonds' Σ r0 r0
    is 2 d² per atom); such springs know how they are turned. Structures where ``present`` is 0 are ideal gases.
    """

    name = "crystal"

    def __init__(self, cells: int = 1, d: float = 3.7, k: float = 0.3, radial: bool = False) -> None:
        super().__init__()
        self.d, self.k, self.radial = d, k, radial
        self.present = torch.ones(1, 1, dtype=torch.float64)
        self.unit = bulk("Ar", "fcc", a=d * 2**0.5, cubic=True).repeat(cells)
        i, j, image, rest = neighbor_list("ijSD", self.unit, 1.1 * d)
        once = (rest @ [1.0, 0.1, 0.01]) > 0
        self.i, self.j = torch.as_tensor(i[once]), torch.as_tensor(j[once])
        self.shift, self.rest = torch.as_tensor(image[once]).double(), torch.as_tensor(rest[once])

    def forward(self, system: System, neighbors: Neighbors) -> Terms:
        r = system.positions.view(system.n_structures, -1, 3)
        bond = r[:, self.j] - r[:, self.i] + self.shift @ system.cell
        squared = (bond.norm(dim=-1) - self.d).square() if self.radial else (bond - self.rest).square().sum(-1)
        share = torch.zeros_like(r[..., 0]).index_add(1, self.i, 0.5 * self.k * self.present * squared)
        return Terms({"springs": share.flatten()})

    def copies(self, count: int, temperature: float, seed: int = 0) -> System:
        """Unstrained crystals with canonical displacements (of radial springs: to the first order)."""
        rng = np.random.default_rng(seed)
        n = len(self.unit)
        laplacian = np.zeros((n, n))
        for i, j in zip(self.i.tolist(), self.j.tolist(), strict=True):
            np.add.at(laplacian, ([i, j, i, j], [i, j, j, i]), [self.k, self.k, -self.k, -self.k])
        stiffness, modes = np.linalg.eigh(laplacian)
        width = (BOLTZMANN * temperature / stiffness[1:]) ** 0.5
        moved = np.einsum("am,cmx->cax", modes[:, 1:] * width, rng.normal(size=(count, n - 1, 3)))
        system = System.from_atoms([self.unit] * count)
        return system.replace(positions=system.positions + torch.as_tensor(moved.reshape(-1, 3)))

    def strains(
        self, coupling: str, pressure: float, temperature: float, tension: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logarithmic strains x, y, z on a grid, and the probability of each, of vector springs under pressure.

        Modes do not depend on the cell and the centre of mass goes anywhere in it: V dV in every direction, which is
        V² d ln L.
        """
        free = {"isotropic": [[1, 1, 1]], "in-plane": [[1, 1, 0]], "semi-isotropic": [[1, 1, 0], [0, 0, 1]]}
        axes = np.array(free.get(coupling, np.eye(3)), float)
        n, volume = len(self.unit), self.unit.get_volume()
        half = 7.0 * (BOLTZMANN * temperature / (2 * n * self.k * self.d**2)) ** 0.5
        line = np.linspace(-half, half, {1: 4001, 2: 401, 3: 101}[len(axes)])
        x = np.stack(np.meshgrid(*[line] * len(axes), indexing="ij"), -1).reshape(-1, len(axes)) @ axes
        grown = volume * np.exp(x.sum(-1))
        energy = n * self.k * self.d**2 * np.square(np.expm1(x)).sum(-1) + pressure * grown
        energy = energy - tension * self.unit.cell[0, 0] ** 2 * np.exp(x[:, 0] + x[:, 1])
        log = 2.0 * x.sum(-1) - energy / (BOLTZMANN * temperature)
        weight = np.exp(log - log.max())
        return x, weight / weight.sum()


def gas(atoms: int, copies: int, lengths: tuple[float, float, float], pbc: object = True, seed: int = 0) -> System:
    """Boxes of argon atoms anywhere."""
    rng = np.random.default_rng(seed)
    return System.from_atoms(
        [ase.Atoms(f"Ar{atoms}", rng.uniform(0, 1, (atoms, 3)) * lengths, cell=lengths, pbc=pbc) for _ in range(copies)]
    )


def joined(systems: list[System]) -> System:
    """One batch of several."""
    return System.from_atoms([atoms for system in systems for atoms in system.to_atoms()])


def hydrostatic(value: float) -> Tensor:
    """The same pressure along all axes, eV/Å³."""
    return torch.full((1, 3), value, dtype=torch.float64)


def stretched(system: System, factors: Tensor) -> System:
    """Each structure's axes times its factors ([B, 3])."""
    return system.deform(torch.diag_embed(factors - 1.0))


def thermal(state: MDState, barostat: Barostat | None, temperature: float, time_constant: float, seed: int) -> MDState:
    """The state with chains and piston moving as they do in equilibrium, so that a right ensemble stays as it is.

    Gaussians with the masses that `heliodor.dynamics.steps.nose_hoover` and `mtk` document.
    """
    draw = torch.Generator().manual_seed(seed)
    structures = state.system.n_structures

    def chain(free: Tensor, tau: float) -> Chain:
        noise = torch.randn(structures, LINKS, generator=draw, dtype=torch.float64) / tau
        noise[:, 0] /= free.sqrt()
        return Chain(noise, torch.zeros(structures, dtype=torch.float64))

    free = state.degrees_of_freedom
    state = state.replace(chain=chain(free, time_constant))
    if barostat is None:
        return state
    axes = AXES[barostat.coupling]
    noise = torch.randn(structures, 3, 3, generator=draw, dtype=torch.float64)
    rate = project(0.5 * (noise + noise.mT), barostat.coupling)
    mass = (free + axes) * BOLTZMANN * temperature * barostat.time_constant**2 / axes
    rate = rate * (BOLTZMANN * temperature / mass).sqrt().view(-1, 1, 1)
    kinds = {"isotropic": 1, "in-plane": 1, "semi-isotropic": 2, "anisotropic": 3, "triclinic": 6}
    own = chain(torch.full((structures,), float(kinds[barostat.coupling]), dtype=torch.float64), barostat.time_constant)
    return state.replace(piston=Piston(rate, own))


def start(system: System, potential: Potential, temperature: float, seed: int = 0, **options: object) -> MDState:
    """A state that keeps its virial, kinetic energies drawn rather than scaled."""
    return init(
        system, potential, temperature=temperature, seed=seed, exact=False, virial=True, rotating=True, **options
    )


def sampled(
    state: MDState,
    step: Callable[..., MDState],
    potential: Potential,
    dt: float,
    keep: int,
    every: int,
    measure: Callable[[MDState], Tensor],
    **options: object,
) -> tuple[np.ndarray, MDState]:
    """One row per kept time, one column per structure."""
    rows = []
    for n in range(1, keep * every + 1):
        state = step(state, potential, dt, **options)
        if n % every == 0:
            rows.append(measure(state))
    return torch.stack(rows).numpy(), state


def sigmas(rows: np.ndarray, expected: float | np.ndarray) -> np.ndarray:
    """Deviation of the mean over times and structures; the structures are independent, the times need not be."""
    means = rows.mean(0)
    return (means.mean(0) - expected) / (means.std(0, ddof=1) / len(means) ** 0.5)
