"""What path integrals add to classical forces: residual forces at centroids, and how much of them a model explains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import ase
import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Float

from heliodor.api import evaluate
from heliodor.errors import InputError
from heliodor.label.label import Label
from heliodor.pigs.config import FEWEST_CENTROIDS
from heliodor.potential import Potential, evaluate_system
from heliodor.system import System
from heliodor.train.dataset import Dataset

BLOCKS = 5
"""Of the held-out frames, for errors of means."""

CHUNK = 200
"""Frames evaluated between reports."""


def centroid_frames(
    atoms: ase.Atoms,
    centroids: Float[np.ndarray, "T N 3"],
    forces: Float[np.ndarray, "T N 3"],
    cells: Float[np.ndarray, "T 3 3"] | None,
    method: str,
) -> Dataset:
    """Centroids as structures, in the order of time, with the mean forces of their beads.

    Raises:
        InputError: too few frames, or positions that are no numbers.
    """
    if len(centroids) < FEWEST_CENTROIDS:
        raise InputError(
            f"{len(centroids)} frames of centroids are too few to learn from: {FEWEST_CENTROIDS} are the least, "
            "thousands usual (a longer paths.time, a smaller paths.stride)"
        )
    if not (np.isfinite(centroids).all() and np.isfinite(forces).all()):
        raise InputError("centroids or forces of the path-integral run are no numbers: its time step may be too long")
    frames = []
    for k, positions in enumerate(centroids):
        frame = ase.Atoms(atoms.numbers, positions, pbc=atoms.pbc, cell=atoms.cell if cells is None else cells[k])
        frame.info = {key: atoms.info[key] for key in ("charge", "spin") if key in atoms.info}
        frames.append(frame)
    return Dataset.from_atoms(frames, [Label(energy=np.nan, forces=force) for force in forces], method=method)


def residuals(
    base: Potential, frames: Dataset, say: Callable[[str, int, int], None] = lambda what, done, of: None
) -> Dataset:
    """The same structures with force on the centroid less the base's force there, eV/Å."""
    parts = []
    for first in range(0, len(frames), CHUNK):
        some = [frames.atoms(k) for k in range(first, min(first + CHUNK, len(frames)))]
        found = evaluate(base, some)
        assert found.forces is not None
        parts.append(found.forces.double().numpy())
        say("classical forces at the centroids", first + len(some), len(frames))
    left = frames.forces - np.concatenate(parts)
    labels = [Label(energy=np.nan, forces=left[frames.span(k)]) for k in range(len(frames))]
    return Dataset.from_atoms([frames.atoms(k) for k in range(len(frames))], labels, method="residual forces")


def split_in_time(data: Dataset, validation: float, test: float) -> tuple[Dataset, Dataset, Dataset]:
    """Training, validation and test frames: three pieces of the run, one after the other.

    Neighbours in time are alike: drawn at random, held-out frames would have been seen in all but name.
    """
    count = len(data)
    held = max(1, round(test * count))
    watched = max(1, round(validation * count))
    edges = (count - held - watched, count - held)
    first, second, third = np.split(np.arange(count), edges)
    return data.take(first), data.take(second), data.take(third)


@dataclass(frozen=True)
class Explained:
    """Residual forces of held-out frames, before and after the correction.

    Attributes:
        frames: how many.
        before: eV/Å, root mean square of the residuals.
        after: of what the correction leaves. Most of it is noise: the beads' forces around their mean.
        by_element: both, by symbol.
        slope: <f · c> / <c · c> of residuals f and corrections c: 1 where the correction is the mean of the residuals,
            whatever their noise; below where it has learned noise.
        slope_error: its standard error, over `BLOCKS` pieces of the frames.
    """

    frames: int
    before: float
    after: float
    by_element: dict[str, tuple[float, float]]
    slope: float
    slope_error: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def explained(correction: Potential, held: Dataset) -> Explained:
    """How well a correction does on residuals it has not seen."""
    parts = []
    for first in range(0, len(held), CHUNK):
        some = [held.atoms(k) for k in range(first, min(first + CHUNK, len(held)))]
        # without `check`: a correction needs no notion of the charge of what it was learned for
        forces = evaluate_system(correction, System.from_atoms(some, device=correction.device)).forces
        assert forces is not None
        parts.append(forces.double().cpu().numpy())
    c, f = np.concatenate(parts), held.forces
    square = {"before": np.square(f).mean(1), "after": np.square(f - c).mean(1)}
    by_element = {
        chemical_symbols[z]: (
            float(np.sqrt(square["before"][held.numbers == z].mean())),
            float(np.sqrt(square["after"][held.numbers == z].mean())),
        )
        for z in held.elements
    }
    both = np.add.reduceat((f * c).sum(1), held.offsets[:-1])
    own = np.add.reduceat((c * c).sum(1), held.offsets[:-1])
    pieces = np.array_split(np.arange(len(held)), min(BLOCKS, len(held)))
    slopes = [both[piece].sum() / own[piece].sum() for piece in pieces]
    error = float(np.std(slopes, ddof=1) / np.sqrt(len(slopes))) if len(slopes) > 1 else float("nan")
    return Explained(
        frames=len(held),
        before=float(np.sqrt(square["before"].mean())),
        after=float(np.sqrt(square["after"].mean())),
        by_element=by_element,
        slope=float(both.sum() / own.sum()),
        slope_error=error,
    )
