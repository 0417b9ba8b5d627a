"""Built atoms set right, with hydrogens: tried again where the force field spoils their handedness."""

from __future__ import annotations

from typing import Any

from heliodor.prepare import hydrogens, relaxing, stereo
from heliodor.prepare.prepared import nanometres, openmm

ATTEMPTS = 4
"""To build what is missing with the right handedness and trans peptide bonds."""


def hydrogenated(
    topology: Any,
    positions: Any,
    forces: Any,
    overrides: tuple[hydrogens.Override, ...],
    given: set[tuple[float, ...]],
    rigid: set[str],
    *,
    ph: float,
    tried: bool,
    seed: int,
) -> tuple[Any, Any, list[Any], list[str]]:
    """Set built atoms right and put on hydrogens, anew with other random numbers where a relaxation spoils it.

    Args:
        given: places of the file's atoms, as `relaxing.place` makes them.
        rigid: names of residues that do not move.
        tried: whether a relaxation is tried.

    Returns:
        As `hydrogens.add_hydrogens`.
    """
    mm = openmm()
    of_file = standing(topology, positions, given)
    doubtful = bool(stereo.wrong(topology, positions, of_file)[0]) and tried
    for attempt in range(ATTEMPTS):
        other = seed + 1000 * attempt
        where = stereo.set_right(topology, positions, of_file, other, again=attempt > 0)
        here = mm.unit.Quantity([mm.Vec3(*one) for one in where.tolist()], mm.unit.nanometer)
        made = hydrogens.add_hydrogens(topology, here, forces, ph=ph, overrides=overrides, seed=other)
        if not doubtful:
            break
        frozen = [atom.index for residue in made[0].residues() if residue.name in rigid for atom in residue.atoms()]
        trial = relaxing.relax(
            made[0], made[1], forces, minimise=True, equilibration=None, given=given, frozen=frozen, seed=other
        )[0]
        held = standing(made[0], made[1], given)
        built, own = stereo.wrong(made[0], trial, held)
        if not built and len(own) <= len(stereo.wrong(made[0], made[1], held)[1]):
            break
    return made


def standing(topology: Any, positions: Any, given: set[tuple[float, ...]]) -> set[Any]:
    """Atoms that stand where the file has them."""
    where = nanometres(positions)
    return {atom for atom in topology.atoms() if relaxing.place(where[atom.index]) in given}
