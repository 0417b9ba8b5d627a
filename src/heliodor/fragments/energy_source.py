"""Energies and forces of many small structures from whatever gives them: a Potential in batches, or a label method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import ase
import numpy as np
import torch
from jaxtyping import Bool, Float

from heliodor.errors import InputError
from heliodor.label.label import LabelError, Method
from heliodor.label.single import labelled
from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, evaluate_system
from heliodor.system import System

BATCH = 1000
"""Atoms that a Potential is given at once, about."""

SKIN = 1.0
"""Å, of the neighbour lists."""

Source = Potential | Method
"""What energies and forces come from."""


class Surface(ABC):
    """Energies of B structures, made by `surface`; they keep their atoms and move.

    Args:
        positions: Å, of all atoms, structure after structure.
        active: structures that are wanted; None: all.

    Returns:
        Energies in eV and forces in eV/Å; not a number for structures that were not wanted or could not be computed.
    """

    @abstractmethod
    def __call__(
        self, positions: Float[np.ndarray, "N 3"], active: Bool[np.ndarray, "B"] | None = None
    ) -> tuple[Float[np.ndarray, "B"], Float[np.ndarray, "N 3"]]: ...


def surface(source: Source, frames: Sequence[ase.Atoms]) -> Surface:
    """The energies of some structures; elements, charge and spin are those of the frames.

    Raises:
        InputError: no structures; charge and spin that do not fit the electrons; `source` is no source of energies.
        ModelError: an element that the Potential does not know.
    """
    if not frames:
        raise InputError("no structures given")
    if isinstance(source, Potential):
        return _PotentialSurface(source, frames)
    if not callable(source) or not hasattr(source, "efforts"):
        raise InputError(
            f"energies come from a Potential (heliodor.load) or a label method (find_method), not {source!r}"
        )
    return _MethodSurface(source, frames)


def offsets_of(frames: Sequence[ase.Atoms]) -> list[slice]:
    """Where the atoms of each structure lie when all are written one after the other."""
    ends = np.cumsum([0, *map(len, frames)]).tolist()
    return [slice(first, last) for first, last in pairwise(ends)]


class _MethodSurface(Surface):
    def __init__(self, method: Method, frames: Sequence[ase.Atoms]) -> None:
        self._method = method
        self._frames = [frame.copy() for frame in frames]
        self._spans = offsets_of(frames)

    def __call__(
        self, positions: Float[np.ndarray, "N 3"], active: Bool[np.ndarray, "B"] | None = None
    ) -> tuple[Float[np.ndarray, "B"], Float[np.ndarray, "N 3"]]:
        energies, forces = np.full(len(self._frames), np.nan), np.full(positions.shape, np.nan)
        for k, (frame, span) in enumerate(zip(self._frames, self._spans, strict=True)):
            if active is not None and not active[k]:
                continue
            frame.positions[:] = positions[span]
            try:
                label = labelled(self._method, frame)
            except LabelError:
                continue
            if label.forces is None:
                raise InputError(f"the method {self._method.name} gives no forces")
            energies[k], forces[span] = label.energy, label.forces
        return energies, forces


class _PotentialSurface(Surface):
    def __init__(self, potential: Potential, frames: Sequence[ase.Atoms]) -> None:
        self._potential = potential
        self._parts: list[tuple[slice, slice, System]] = []
        self._lists: list[Neighbors | None] = []
        spans, first = offsets_of(frames), 0
        while first < len(frames):
            last = first + 1
            while last < len(frames) and spans[last].stop - spans[first].start <= BATCH:
                last += 1
            system = System.from_atoms(list(frames[first:last]), device=potential.device)
            potential.check(system)
            self._parts.append((slice(first, last), slice(spans[first].start, spans[last - 1].stop), system))
            self._lists.append(None)
            first = last

    def __call__(
        self, positions: Float[np.ndarray, "N 3"], active: Bool[np.ndarray, "B"] | None = None
    ) -> tuple[Float[np.ndarray, "B"], Float[np.ndarray, "N 3"]]:
        count = self._parts[-1][0].stop
        energies, forces = np.full(count, np.nan), np.full(positions.shape, np.nan)
        for k, (structures, atoms, system) in enumerate(self._parts):
            if active is not None and not active[structures].any():
                continue
            moved = system.replace(positions=torch.as_tensor(positions[atoms]).to(system.positions))
            neighbors = self._lists[k]
            if neighbors is None or bool(neighbors.stale(moved)):
                neighbors = self._lists[k] = self._potential.neighbors(moved, SKIN)
            p = evaluate_system(self._potential, moved, neighbors)
            assert p.forces is not None
            energies[structures] = p.energy.double().cpu().numpy()
            forces[atoms] = p.forces.double().cpu().numpy()
        if active is not None:
            energies[~active] = np.nan
        return energies, forces


def relaxed(source: Source, atoms: ase.Atoms, fmax: float = 0.02, steps: int = 500) -> tuple[ase.Atoms, float]:
    """Walk downhill by L-BFGS.

    Args:
        fmax: eV/Å.

    Returns:
        The structure, and the largest force left on an atom, eV/Å.

    Raises:
        InputError: no energy on the way.
    """
    from ase.calculators.calculator import Calculator, all_changes
    from ase.optimize import LBFGS

    energy_of = surface(source, [atoms])

    class Surfaced(Calculator):
        implemented_properties = ["energy", "forces"]  # noqa: RUF012 (as ASE declares it)

        def calculate(
            self, atoms: ase.Atoms | None = None, properties: object = None, system_changes: object = all_changes
        ) -> None:
            assert atoms is not None
            energies, forces = energy_of(np.asarray(atoms.positions, dtype=np.float64))
            if not np.isfinite(forces).all():
                raise InputError("a structure could not be relaxed: no energy or forces on the way")
            self.results = {"energy": float(energies[0]), "forces": forces}

    moving = atoms.copy()
    moving.calc = Surfaced()  # type: ignore[no-untyped-call]
    LBFGS(moving, logfile=None, maxstep=0.1).run(fmax=fmax, steps=steps)  # type: ignore[arg-type]
    left = float(np.linalg.norm(moving.get_forces(), axis=1).max())
    result = moving.copy()
    result.calc = None
    return result, left
