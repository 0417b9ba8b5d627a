"""The relaxation of a prepared system: what the file gives is held by springs, what is new moves freely."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from heliodor.prepare.prepared import NANOMETRE, WATERS, Progress, nanometres
from heliodor.prepare.relax import Equilibration, equilibrated, parametrised, relaxed

STIFF = 10_000.0
"""kJ/mol/nm²; of the springs during a minimisation: salt bridges in gas phase pull ångströms out of weaker ones."""


def relax(
    topology: Any,
    positions: Any,
    field: Any,
    *,
    minimise: bool,
    equilibration: Equilibration | None,
    given: set[tuple[float, ...]],
    frozen: Sequence[int] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "3 3"] | None, list[str], dict[str, Any]]:
    """Relax with the force field.

    The solute's heavy atoms that stand where the file has them are held by springs: the minimum of a classical force
    field, in gas phase above all, is a worse guess than an experiment. Hydrogens, atoms that were built and water move
    freely; an equilibration releases the springs at its end.

    Args:
        positions: nm, or a quantity.
        given: places of the file's atoms, as `place` makes them.
        frozen: atoms that never move (ligands without parameters for their bonds).

    Returns:
        Positions and box in nm, notes, numbers for the record.
    """
    start = nanometres(positions)
    vectors = topology.getPeriodicBoxVectors()
    box = None if vectors is None else nanometres(vectors)
    if not minimise:
        return start, box, ["not relaxed"], {"protocol": "none"}
    fixed = set(frozen)
    heavy = [
        atom.index
        for atom in topology.atoms()
        if atom.element.atomic_number > 1 and atom.residue.name not in WATERS and atom.index not in fixed
    ]
    held = [k for k in heavy if place(start[k]) in given]
    if equilibration is None:
        last = relaxed(
            topology,
            start,
            field,
            held=held,
            stiffness=STIFF,
            progress=progress,
            system=_system(topology, field, frozen),
        )
    else:
        last = equilibrated(
            topology,
            start,
            field,
            protocol=equilibration,
            held=held,
            frozen=frozen,
            seed=seed,
            progress=progress,
        )
    moved = float(np.linalg.norm(last.positions[held] - start[held], axis=1).max()) * NANOMETRE if held else 0.0
    note = f"{last.protocol}; heavy atoms of the file moved by up to {moved:.2f} Å"
    record = {
        "protocol": last.protocol,
        "energy_before_kJ_mol": last.before,
        "energy_after_kJ_mol": last.after,
        "largest_move_A": moved,
    }
    return last.positions, last.box, [note], record


def place(position: Float[np.ndarray, "3"]) -> tuple[float, ...]:
    """A position in nm as something to look up; building moves no atom of the file."""
    return tuple(float(x) for x in np.round(position, 5) + 0.0)


def centred(
    topology: Any, positions: Float[np.ndarray, "N 3"], box: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "N 3"]:
    """The solute in the middle of the box, whole, and every solvent molecule whole with its first atom inside.

    Args:
        positions: nm.
        box: nm, rows are vectors.
    """
    residues = list(topology.residues())
    solvent = [r for r in residues if r.name in WATERS or len(list(r.atoms())) == 1]
    inside = [a.index for r in solvent for a in r.atoms()]
    solute = np.setdiff1d(np.arange(len(positions)), inside)
    middle = positions[solute].mean(0) if len(solute) else positions.mean(0)
    moved = positions - middle + 0.5 * box.sum(0)
    inverse = np.linalg.inv(box)
    for residue in solvent:
        atoms = [atom.index for atom in residue.atoms()]
        moved[atoms] -= np.floor(moved[atoms[0]] @ inverse) @ box
    return moved


def _system(topology: Any, field: Any, frozen: Sequence[int]) -> Any:
    system = parametrised(topology, field)
    for atom in frozen:
        system.setParticleMass(int(atom), 0.0)
    return system
