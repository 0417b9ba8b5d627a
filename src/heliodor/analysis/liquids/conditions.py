"""What kind of sample a trajectory is of: temperature, kinds of molecules, whether it is water."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import atomic_masses
from jaxtyping import Float, Int

from heliodor.analysis.liquids.freedom import freedom_of
from heliodor.topology import Topology
from heliodor.trajectory.images import inverse
from heliodor.trajectory.selection import is_water
from heliodor.trajectory.trajectory import Trajectory
from heliodor.units import BOLTZMANN

SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


@dataclass(frozen=True, eq=False)
class Kind:
    """Molecules of one composition.

    Attributes:
        formula: as ASE writes it in Hill's order: "H2O".
        molecules: indices of them, ascending.
        size: atoms in one.
    """

    formula: str
    molecules: Int[np.ndarray, "M"]
    size: int

    @property
    def label(self) -> str:
        """The formula for people: "H₂O"."""
        return self.formula.translate(SUBSCRIPTS)


def kinds_of(topology: Topology) -> tuple[Kind, ...]:
    """Kinds of molecules by composition, the most atoms first."""
    from ase.formula import Formula

    molecules, elements = topology.molecules, np.unique(topology.numbers)
    counts = np.stack([np.bincount(molecules, weights=topology.numbers == z) for z in elements], axis=1)
    compositions, which = np.unique(counts.astype(int), axis=0, return_inverse=True)
    symbols = [str(topology.symbols[topology.numbers == z][0]) for z in elements]
    kinds = []
    for k, composition in enumerate(compositions.tolist()):
        amounts = {symbol: n for symbol, n in zip(symbols, composition, strict=True) if n}
        formula = Formula.from_dict(amounts).format("hill")
        kinds.append(Kind(formula, np.flatnonzero(which.ravel() == k), sum(composition)))
    return tuple(sorted(kinds, key=lambda kind: -kind.size * len(kind.molecules)))


PARTIAL = "the file holds a part of the atoms that were simulated"
"""What is said of files that cannot be used for that reason."""

ODD_MASS = 1e-3
"""Relative deviation of a mass from that of its element that counts."""


def only_water(topology: Topology) -> bool:
    """Whether all atoms are of water molecules."""
    return bool(is_water(topology).all())


def pure_water(trajectory: Trajectory) -> bool:
    """Whether water alone was simulated; False where the file holds a part of what was."""
    return not trajectory.partial and only_water(trajectory.topology)


def other_masses(trajectory: Trajectory) -> list[str]:
    """A sentence about masses that are not those of the elements, if there are any."""
    usual = atomic_masses[trajectory.topology.numbers]
    odd = int((np.abs(trajectory.masses - usual) > ODD_MASS * usual).sum())
    if not odd:
        return []
    return [
        f"The masses of {odd} atoms are not those of their elements (shifted to hydrogen, or isotopes): frequencies "
        "and times are those of these masses and not those of nature."
    ]


def temperature_of(trajectory: Trajectory) -> float | None:
    """K: the thermostat's; else the mean of the log; else of the velocities; None if unknown.

    Velocities tell it only with their degrees of freedom: `freedom_of`.
    """
    held = str(trajectory.settings.get("ensemble", "")).lower() in ("nvt", "npt")
    if held and trajectory.temperature is not None:
        return trajectory.temperature
    logged = trajectory.log.get("temperature_K")
    if logged is not None and len(logged) and np.isfinite(logged).any():
        return float(np.nanmean(logged))
    if "velocities" in trajectory.holds:
        found = freedom_of(trajectory)
        return None if found is None or not found.degrees else found.energy / (found.degrees * BOLTZMANN) or None
    return trajectory.temperature


def cells(trajectory: Trajectory) -> Float[np.ndarray, "T 3 3"]:
    """Cells of all frames, Å, read with a single atom. The trajectory is periodic."""
    one = np.array([0])
    found = [block.cell for block in trajectory.blocks(atoms=one, memory=2**20) if block.cell is not None]
    return np.concatenate(found)


def thickness(cell: Float[np.ndarray, "K 3 3"]) -> Float[np.ndarray, "K"]:
    """Å; smallest distance of opposite faces of each cell."""
    smallest: np.ndarray = 1.0 / np.linalg.norm(inverse(cell), axis=1).max(1)
    return smallest


def cubic(cell: Float[np.ndarray, "K 3 3"], tolerance: float = 0.01) -> bool:
    """Whether the mean cell has equal edges and right angles, to a relative ``tolerance``."""
    metric = cell.mean(0) @ cell.mean(0).T
    return bool(np.abs(metric / metric.trace() * 3.0 - np.eye(3)).max() < 2.0 * tolerance)
