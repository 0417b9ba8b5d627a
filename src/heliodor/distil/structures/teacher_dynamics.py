"""Structures as the teacher itself meets them: its own dynamics, thinned to what differs."""

from __future__ import annotations

from collections.abc import Sequence

import ase
import numpy as np
from jaxtyping import Float

from heliodor.distil.structures.generate import Progress
from heliodor.distil.structures.langevin import langevin
from heliodor.errors import InputError
from heliodor.fragments.aligned import shapes
from heliodor.fragments.embed import seed_of_structure
from heliodor.fragments.energy_source import Surface, offsets_of, surface
from heliodor.fragments.farthest import add_farthest, nearest
from heliodor.fragments.normal_modes import check_temperatures
from heliodor.fragments.short_dynamics import sample_dynamics
from heliodor.potential import Potential
from heliodor.topology import bonds_by_distance

TEMPERATURES = (300.0, 500.0, 1000.0)
"""K."""

LARGEST_FORCE = 15.0
"""eV/Å; frames with a larger force on an atom are left out."""

SETTLING = 2
"""Frames at the beginning of each trajectory that are left out: the start is at rest on another force field."""

TOGETHER = 40
"""Molecules of one batch of trajectories."""


def teacher_dynamics(
    teacher: Potential,
    starts: Sequence[ase.Atoms],
    *,
    keep: int = 4,
    frames: int = 10,
    temperatures: Sequence[float] = TEMPERATURES,
    every: float = 50.0,
    step: float = 0.5,
    largest_force: float = LARGEST_FORCE,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[ase.Atoms]:
    """Diverse frames of Langevin dynamics by the teacher, all molecules at once, boxes one after another.

    Every start runs at every temperature; of its frames the farthest from one another are kept (least sum of squared
    distances, superposed; Gonzalez 1985), boxes at even times. Frames whose bonds are not those of the start, or with a
    larger force than allowed, are left out.

    Args:
        keep: frames of each start, at most.
        frames: of each trajectory, beside `SETTLING` at its beginning.
        temperatures: K.
        every: fs between frames.
        step: fs.
        largest_force: eV/Å.
        seed: with the same starts, teacher and seed the result is the same.
        progress: called with (starts done, all).

    Returns:
        Structures with the ``info`` of their starts, and how they were made in "sampling" and "origin".

    Raises:
        InputError: a setting that means nothing; a start that the teacher cannot take.
        ModelError: an element outside the teacher.
    """
    check_temperatures(temperatures)
    if keep < 1 or frames < 1 or not largest_force > 0.0:
        raise InputError("teacher dynamics keep at least one frame of at least one, below a force above zero")
    if not 0.0 < step <= 5.0 or not every >= step:
        raise InputError("the step must be between 0 and 5 fs, frames at least a step apart")
    found: list[ase.Atoms] = []
    molecules = [atoms for atoms in starts if not atoms.pbc.any()]
    boxes = [atoms for atoms in starts if atoms.pbc.any()]
    for first in range(0, len(molecules), TOGETHER):
        some = [_marked(atoms, k) for k, atoms in enumerate(molecules[first : first + TOGETHER])]
        made = sample_dynamics(
            some,
            teacher,
            temperatures=temperatures,
            frames=frames + SETTLING,
            every=every,
            step=step,
            reject_reconnected=True,
            seed=seed,
        )
        settled = _settled(made.frames)
        calm = _calm(teacher, settled, largest_force)
        for k in range(len(some)):
            found += _farthest([atoms for atoms in calm if atoms.info["start"] == k], keep)
        if progress is not None:
            progress(first + len(some), len(starts))
    for k, box in enumerate(boxes):
        found += _calm(teacher, _of_box(teacher, box, temperatures, keep, frames, every, step, seed), largest_force)
        if progress is not None:
            progress(len(molecules) + k + 1, len(starts))
    for atoms in found:
        atoms.info.pop("start", None)
        atoms.info["sampling"] = f"teacher {atoms.info['sampling']}"
        atoms.info["origin"] = f"{atoms.info.get('origin', 'start')}; {atoms.info['sampling']}"
    return found


def _marked(atoms: ase.Atoms, k: int) -> ase.Atoms:
    marked = atoms.copy()
    marked.info["start"] = k
    return marked


def _settled(frames: Sequence[ase.Atoms]) -> list[ase.Atoms]:
    """Without the first frames of each trajectory."""
    seen: dict[tuple[int, str], int] = {}
    kept = []
    for atoms in frames:
        key = (atoms.info["start"], atoms.info["sampling"])
        seen[key] = seen.get(key, 0) + 1
        if seen[key] > SETTLING:
            kept.append(atoms)
    return kept


def _calm(teacher: Potential, frames: Sequence[ase.Atoms], largest: float) -> list[ase.Atoms]:
    if not frames:
        return []
    _, forces = surface(teacher, frames)(np.concatenate([atoms.positions for atoms in frames]).astype(np.float64))
    size = np.linalg.norm(forces, axis=1)
    # not a number is not calm
    return [atoms for atoms, span in zip(frames, offsets_of(frames), strict=True) if size[span].max() <= largest]


def _farthest(frames: Sequence[ase.Atoms], keep: int) -> list[ase.Atoms]:
    if len(frames) <= keep or len(frames[0]) < 3:
        return list(frames[:keep])
    points = shapes(np.stack([atoms.positions for atoms in frames]))
    chosen = add_farthest(points, nearest(points, np.array([0])), keep - 1).chosen
    return [frames[k] for k in sorted(chosen.tolist())]


def _of_box(
    teacher: Potential,
    box: ase.Atoms,
    temperatures: Sequence[float],
    keep: int,
    frames: int,
    every: float,
    step: float,
    seed: int,
) -> list[ase.Atoms]:
    energy_of: Surface = surface(teacher, [box])

    def forces_of(x: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
        return energy_of(x)[1]

    bonds, stride = bonds_by_distance(box), max(1, round(every / step))
    found = []
    for kelvin in temperatures:
        rng = np.random.default_rng(seed_of_structure(box, "teacher dynamics", float(kelvin), seed))
        start = np.asarray(box.positions, dtype=np.float64)
        masses = np.asarray(box.get_masses(), dtype=np.float64)
        trajectory = langevin(
            forces_of,
            masses,
            start,
            float(kelvin),
            rng,
            frames=frames,
            first=stride * (SETTLING + 1),
            every=stride,
            step=step,
            friction=10.0,
        )
        for x in trajectory:
            atoms = box.copy()
            atoms.positions[:] = x
            atoms.info["sampling"] = f"dynamics at {kelvin:g} K"
            if np.array_equal(bonds_by_distance(atoms), bonds):
                found.append(atoms)
    # evenly over temperatures and times
    return [found[k] for k in np.unique(np.linspace(0, len(found) - 1, min(keep, len(found))).round().astype(int))]
