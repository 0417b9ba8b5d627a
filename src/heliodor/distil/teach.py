"""What a teacher says about many structures, as the labels of a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Bool

from heliodor.errors import InputError
from heliodor.potential import Potential, evaluate_system
from heliodor.train.batches import Lists, find_lists
from heliodor.train.dataset import Dataset, join

NETWORK_TERMS = ("so3krates", "mace", "spookynet")
"""Names of the energy terms that a network gives, as opposed to those of physics."""

ATOMS = 1200
"""In a batch, at most (or one structure)."""

CHUNK = 2000
"""Structures whose neighbour lists are in memory at a time."""


@dataclass(frozen=True, eq=False)
class Taught:
    """Labels of the structures that were kept.

    Attributes:
        dataset: with energies (eV), forces, dipoles, Hirshfeld ratios, charges and the atomic energies of the network,
            as far as the teacher has them; dipoles of molecules only.
        left_out: how many structures were left out, by reason.
    """

    dataset: Dataset
    left_out: dict[str, int]


def teach(
    teacher: Potential,
    structures: Dataset,
    *,
    name: str = "",
    max_force: float = 25.0,
    progress: Callable[[int, int], None] | None = None,
) -> Taught:
    """Label structures with a model.

    Structures whose elements or electrons the teacher cannot have are left out and counted, as are those with a force
    above `max_force` on some atom (strained beyond what dynamics visits) and those without a finite answer.

    Args:
        name: of the level of theory; the teacher's own name if empty.
        max_force: eV/Å.
        progress: called with the structures done and their number.

    Raises:
        InputError: no structure is left.
    """
    found, left_out = teach_some(teacher, structures, name=name, max_force=max_force, progress=progress)
    if found is None:
        raise no_use(teacher, len(structures), left_out)
    return Taught(found, left_out)


def teach_some(
    teacher: Potential,
    structures: Dataset,
    *,
    name: str = "",
    max_force: float = 25.0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Dataset | None, dict[str, int]]:
    """As `teach`, but where no structure is left there is no data set, and why."""
    fit = _possible(teacher, structures)
    left_out = {"outside the teacher": int((~fit).sum())}
    possible = structures.take(np.flatnonzero(fit)) if fit.any() else structures.take([])
    parts: list[Dataset] = []
    counts = {"not finite": 0, f"force above {max_force:g} eV/Å": 0}
    for begin in range(0, len(possible), CHUNK):
        chunk = possible.take(range(begin, min(begin + CHUNK, len(possible))))

        def tell(done: int, base: int = begin) -> None:
            if progress is not None:
                progress(base + done, len(possible))

        labelled = _label(teacher, chunk, tell)
        largest = np.maximum.reduceat(np.linalg.norm(labelled.forces, axis=1), labelled.offsets[:-1])
        finite = np.isfinite(labelled.energy) & np.isfinite(largest)
        keep = finite & (largest <= max_force)
        counts["not finite"] += int((~finite).sum())
        counts[f"force above {max_force:g} eV/Å"] += int((finite & ~keep).sum())
        if keep.any():
            parts.append(labelled.take(np.flatnonzero(keep)))
    left_out = {why: number for why, number in (left_out | counts).items() if number}
    if not parts:
        return None, left_out
    return replace(join(parts), method=f"teacher:{name or teacher.name}"), left_out


def no_use(teacher: Potential, number: int, left_out: dict[str, int]) -> InputError:
    """What to say where a teacher has labelled none of so many structures."""
    words = ", ".join(f"{count} {why}" for why, count in left_out.items())
    return InputError(f"{teacher.name} has no use for any of the {number} structures ({words})")


def _label(teacher: Potential, chunk: Dataset, tell: Callable[[int], None]) -> Dataset:
    lists = find_lists(chunk, teacher, None, teacher.dtype)
    n_atoms = len(chunk.numbers)
    energy, dipole = np.full(len(chunk), np.nan), np.full((len(chunk), 3), np.nan)
    forces = np.full((n_atoms, 3), np.nan)
    per_atom = {name: np.full(n_atoms, np.nan) for name in ("hirshfeld_ratios", "charges", "node_energies")}
    centre = np.add.reduceat(chunk.positions, chunk.offsets[:-1]) / chunk.counts[:, None]
    done = 0
    for chosen in _groups(lists):
        batch = lists.batch(chosen).to(teacher.device)
        system = batch.system
        p = evaluate_system(teacher, system, batch.neighbors(system)).detached("cpu")
        rows = np.concatenate([np.arange(chunk.offsets[s], chunk.offsets[s + 1]) for s in chosen])
        assert p.forces is not None
        energy[chosen], forces[rows] = p.energy.numpy(), p.forces.double().numpy()
        network = next((p.node_terms[name] for name in NETWORK_TERMS if name in p.node_terms), None)
        for key, values in (
            ("hirshfeld_ratios", p.hirshfeld_ratios),
            ("charges", p.charges),
            ("node_energies", network),
        ):
            if values is not None:
                per_atom[key][rows] = values.double().numpy()
        if p.dipole is not None:
            # lists are about each structure's centre, labels about the origin of its coordinates
            dipole[chosen] = p.dipole.double().numpy() + chunk.charge[chosen, None] * centre[chosen]
        done += len(chosen)
        tell(done)
    dipole[chunk.pbc.any(1)] = np.nan
    return replace(
        chunk,
        energy=energy,
        forces=forces,
        dipole=dipole,
        hirshfeld_ratios=per_atom["hirshfeld_ratios"],
        charges=per_atom["charges"],
        node_energies=per_atom["node_energies"],
    )


def _groups(lists: Lists) -> list[np.ndarray]:
    order = np.argsort(lists.sizes[:, 0], kind="stable")
    ends = np.cumsum(lists.sizes[order, 0]) // ATOMS
    return [part for part in np.split(order, np.flatnonzero(np.diff(ends)) + 1) if len(part)]


def _possible(teacher: Potential, structures: Dataset) -> Bool[np.ndarray, "S"]:
    """Which structures have only elements of the teacher, and electrons that fit their spin."""
    known = np.isin(structures.numbers, teacher.elements)
    starts = structures.offsets[:-1]
    electrons = np.add.reduceat(structures.numbers, starts) - structures.charge - structures.spin
    found: np.ndarray = np.logical_and.reduceat(known, starts) & (electrons % 2 == 0) & (electrons >= 0)
    return found


def check_teacher(teacher: Potential, elements: Sequence[int] = ()) -> None:
    """Refuse models that cannot teach.

    Raises:
        InputError: no energies, or elements it does not know.
    """
    if not teacher.has_energy:
        raise InputError(f"{teacher.name} predicts no energies: it cannot teach")
    outside = [chemical_symbols[z] for z in elements if z not in teacher.elements]
    if outside:
        raise InputError(f"{teacher.name} does not know {', '.join(outside)}: it cannot teach structures with these")
