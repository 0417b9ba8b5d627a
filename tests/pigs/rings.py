"""Ring polymers and their exact answers, without i-PI: what the coarse graining is judged by.

The sampler: free ring polymers exactly in normal modes, Langevin noise on each mode (Ceriotti, Parrinello, Markland &
Manolopoulos, J. Chem. Phys. 133, 124104 (2010)). The answer: the same discretised path integral by products of matrices
on a grid, the centroid held by a Fourier transform.
"""

from __future__ import annotations

from collections.abc import Callable

import ase
import numpy as np

from heliodor.paths import PathResult
from heliodor.potential import Potential, evaluate_system
from heliodor.system import System
from heliodor.units import ACCELERATION, BOLTZMANN, HBAR, KINETIC


def ring_polymers(
    force: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    masses: np.ndarray,
    temperature: float,
    beads: int,
    steps: int,
    dt: float,
    stride: int,
    rng: np.random.Generator,
    friction: float = 0.02,
    settle: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Centroids and mean forces every ``stride`` steps after ``settle``; coordinates of any shape, beads first.

    Args:
        force: eV/Å at positions [P, ...] in Å.
        start: Å, of all beads alike.
        masses: amu, of the shape of start or one that broadcasts.
        friction: 1/fs, of the centroids; that of mode k is twice its frequency.
    """
    shape = (beads,) + (1,) * start.ndim
    k = np.arange(beads)
    basis = np.cos(2.0 * np.pi * np.outer(k, k) / beads) + np.sin(2.0 * np.pi * np.outer(k, k) / beads)
    basis /= np.sqrt(beads)
    # the Hartley transform is its own inverse
    change = lambda values: np.tensordot(basis, values, 1)  # noqa: E731
    omega = (2.0 * beads * BOLTZMANN * temperature / HBAR * np.sin(np.pi * k / beads)).reshape(shape)
    damping = np.exp(-0.5 * dt * np.where(omega > 0, 2.0 * omega, friction))
    kick = np.sqrt(1.0 - damping**2) * np.sqrt(masses * beads * BOLTZMANN * temperature * ACCELERATION)
    cos, sinc = np.cos(omega * dt), dt * np.sinc(omega * dt / np.pi)
    minus = omega * np.sin(omega * dt)
    q = np.broadcast_to(start, (beads, *start.shape)).copy()
    p = rng.normal(size=q.shape) * np.sqrt(masses * beads * BOLTZMANN * temperature * ACCELERATION)
    f = force(q)
    kept = []
    for step in range(1, settle + steps + 1):
        modes = change(p)
        p = change(damping * modes + kick * rng.normal(size=q.shape))
        p += 0.5 * dt * ACCELERATION * f
        modes, places = change(p), change(q)
        q = change(cos * places + sinc * modes / masses)
        p = change(cos * modes - minus * masses * places)
        f = force(q)
        p += 0.5 * dt * ACCELERATION * f
        p = change(damping * change(p) + kick * rng.normal(size=q.shape))
        if step > settle and step % stride == 0:
            kept.append((q.mean(0), f.mean(0)))
    return np.stack([one for one, _ in kept]), np.stack([other for _, other in kept])


def centroid_mean_force(
    potential: Callable[[np.ndarray], np.ndarray],
    mass: float,
    temperature: float,
    beads: int,
    grid: np.ndarray,
    centroids: np.ndarray,
) -> np.ndarray:
    """kT d ln ρ(centroid)/dx of one particle in one dimension, eV/Å, for so many beads: no sampling, no Trotter limit.

    ρ(c) = ∫ dk/2π exp(-ikc) Tr M_k^P, with M_k = exp(-βV/2P) K_{β/P} exp(-βV/2P) exp(ikx/P) on the grid.
    """
    warm = BOLTZMANN * temperature
    spring = mass * KINETIC * beads * warm**2 / HBAR**2
    step = grid[1] - grid[0]
    kernel = np.exp(-0.5 * spring * np.square(grid[:, None] - grid[None]) / warm) * step
    v = potential(grid)
    half = np.exp(-0.5 * (v - v.min()) / (beads * warm))
    matrix = half[:, None] * kernel * half[None]
    matrix /= np.abs(np.linalg.eigvalsh(matrix)).max()
    middle = float(grid[v.argmin()])
    waves = np.linspace(0.0, 260.0, 131)
    traces = np.empty(len(waves), dtype=complex)
    for n, wave in enumerate(waves):
        turned = matrix * np.exp(1j * wave * (grid - middle) / beads)[None]
        traces[n] = np.trace(np.linalg.matrix_power(turned, beads))
    phases = np.exp(-1j * waves[None] * (centroids[:, None] - middle)) * traces
    density = np.trapezoid(phases.real, waves, axis=1)
    slope = np.trapezoid((-1j * waves * phases).real, waves, axis=1)
    return warm * slope / density


def stand_in(model: Potential, atoms: ase.Atoms, folder, settings, *, restart=False, tell=None) -> PathResult:
    """For `heliodor.paths.run_paths`, of molecules."""
    rng = np.random.default_rng(settings.seed)
    steps = round(float(str(settings.time).split()[0]) / settings.timestep)

    def force(q: np.ndarray) -> np.ndarray:
        frames = [ase.Atoms(atoms.numbers, one, info=atoms.info) for one in q]
        found = evaluate_system(model, System.from_atoms(frames))
        return found.forces.double().numpy().reshape(q.shape)

    centroids, forces = ring_polymers(
        *(force, atoms.positions, atoms.get_masses()[:, None], settings.temperature, settings.beads, steps),
        *(settings.timestep, settings.stride, rng),
    )
    time = settings.timestep * settings.stride * np.arange(1, len(centroids) + 1)
    warm = {"temperature": np.full(len(time), settings.temperature)}
    no_atoms = np.zeros((len(time), len(atoms)))
    return PathResult(folder, settings, atoms, time, warm, no_atoms, None, centroids, forces, None)
