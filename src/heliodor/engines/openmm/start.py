"""The first step compared: positions, box, order of atoms, units, and the forces that OpenMM has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase
import numpy as np

from heliodor.engines.evaluator import Evaluator
from heliodor.engines.first_step import check_forces, check_positions
from heliodor.engines.openmm.force import NAME, NM, import_openmm
from heliodor.engines.openmm.molecule import Molecule
from heliodor.engines.openmm.system import openmm_box
from heliodor.errors import InputError
from heliodor.potential import Potential
from heliodor.topology import bonds_by_distance
from heliodor.units import KJ_PER_MOL

if TYPE_CHECKING:
    import openmm
    from openmm import app

_SILENT = (
    "CMMotionRemover",
    "MonteCarloBarostat",
    "MonteCarloAnisotropicBarostat",
    "MonteCarloMembraneBarostat",
    "MonteCarloFlexibleBarostat",
    "AndersenThermostat",
)
"""Forces of OpenMM that give no force."""


def check_simulation(
    simulation: app.Simulation | openmm.Context,
    model: str | Path | Sequence[str | Path] | Potential | Evaluator,
    atoms: ase.Atoms | None = None,
    *,
    charge: float | None = None,
    spin: int | None = None,
    tolerance: float = 1e-3,
    **load_options: Any,
) -> None:
    """Refuse a simulation, at its first positions, whose atoms, box or forces are not those of structure and model.

    Args:
        simulation: with positions set.
        model: as it was given to the force, or an `Evaluator` of it and the atoms.
        atoms: the structure (of the particles the model describes), not needed with an `Evaluator`.
        charge, spin, load_options: as they were given to the force.
        tolerance: eV/Å, and eV per atom, between what OpenMM has and what the model gives at OpenMM's positions.

    Raises:
        InputError: other atoms, order, units, box or forces; no force of heliodor; forces of others in its group.
    """
    context = getattr(simulation, "context", simulation)
    system = context.getSystem()
    force = _ours(system)
    if not isinstance(model, Evaluator):
        if atoms is None:
            raise InputError("check_simulation needs the structure the simulation was made from")
        model = Evaluator(model, atoms, charge=charge, spin=spin, **load_options)
    particles = list(force.getParticles()) or list(range(system.getNumParticles()))
    if max(particles) >= system.getNumParticles():
        raise InputError(
            f"the model's force acts on particle {max(particles)}, but the OpenMM system has only "
            f"{system.getNumParticles()} (counted from 0)"
        )
    topology = getattr(simulation, "topology", None)
    state = context.getState(getPositions=True)
    positions = np.asarray(state.getPositions(asNumpy=True)._value)[particles] * NM
    box = None
    if force.usesPeriodicBoundaryConditions():
        box = np.asarray(state.getPeriodicBoxVectors(asNumpy=True)._value) * NM
        if not model.atoms.pbc.any() and len(particles) == len(model.atoms):
            # a molecule by itself, which the box may have cut
            positions = Molecule(bonds_by_distance(model.atoms)).whole(positions, box)
    _check_elements(model.atoms, topology, particles)
    check_positions(model, positions, "OpenMM")
    if box is not None:
        _check_box(model.atoms, box)
    if any(system.isVirtualSite(k) for k in particles):
        # what acts on a link atom has been handed on to others
        return
    only = context.getState(getEnergy=True, getForces=True, groups={force.getForceGroup()})
    forces = np.asarray(only.getForces(asNumpy=True)._value)[particles] * (KJ_PER_MOL / NM)
    energy = only.getPotentialEnergy()._value * KJ_PER_MOL
    cell = box if model.atoms.pbc.any() else None
    check_forces(model, positions, energy, forces, "OpenMM", cell, tolerance)


def _ours(system: openmm.System) -> openmm.PythonForce:
    """Our force, alone in its group."""
    openmm = import_openmm()
    forces = list(system.getForces())
    ours = [f for f in forces if isinstance(f, openmm.PythonForce) and f.getName().startswith(NAME)]
    if len(ours) != 1:
        raise InputError(
            f"the OpenMM system has {len(ours) or 'no'} forces of heliodor: the comparison at the start is of one"
        )
    group = ours[0].getForceGroup()
    for other in forces:
        shares = other.getForceGroup() == group and type(other).__name__ not in _SILENT
        if shares and not other.getName().startswith(NAME):
            raise InputError(
                f"{other.getName()} is in the same force group ({group}) as heliodor's force, so that what OpenMM "
                "computes by the model cannot be told apart: give the model a group of its own (group=1, or "
                "forceGroup=1 for openmmml)"
            )
    return ours[0]


def _check_elements(atoms: ase.Atoms, topology: Any, particles: list[int]) -> None:
    if topology is None:
        return
    listed = list(topology.atoms())
    for k, particle in enumerate(particles[: len(atoms)]):
        element = listed[particle].element
        if element is not None and element.atomic_number != atoms.numbers[k]:
            raise InputError(
                f"atom {particle} is {element.symbol} in OpenMM's topology, but {atoms.symbols[k]} (atom {k}) in the "
                "structure given to heliodor: the atoms are in another order, or of another structure"
            )


def _check_box(atoms: ase.Atoms, box: np.ndarray) -> None:
    wanted = openmm_box(atoms)
    if wanted is not None and np.abs(box - wanted).max() > 1e-3:
        raise InputError(
            f"OpenMM's box has the edges {_edges(box)} Å, the structure given to heliodor {_edges(wanted)} Å: set the "
            "box (context.setPeriodicBoxVectors, in nm)"
        )


def _edges(box: np.ndarray) -> str:
    return " ".join(f"{length:.3f}" for length in np.linalg.norm(box, axis=1))
