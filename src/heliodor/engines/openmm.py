"""OpenMM: any heliodor potential as a force of an OpenMM system.

OpenMM's Python callbacks (`openmm.PythonForce`) get the state of a step and return energy and forces.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase
import numpy as np

from heliodor.engines.evaluator import Evaluator
from heliodor.errors import MissingExtraError
from heliodor.potential import Potential
from heliodor.units import KJ_PER_MOL

if TYPE_CHECKING:
    import openmm

NM = 10.0
"""Å."""


class Force:
    """What OpenMM calls at each step: positions of a state in, energy (kJ/mol) and forces (kJ/mol/nm) out."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator

    def __call__(self, state: openmm.State) -> tuple[float, np.ndarray]:
        periodic = bool(self.evaluator.atoms.pbc.any())
        positions = np.asarray(state.getPositions(asNumpy=True)._value) * NM
        cell = np.asarray(state.getPeriodicBoxVectors(asNumpy=True)._value) * NM if periodic else None
        prediction = self.evaluator(positions, cell)
        assert prediction.forces is not None
        return float(prediction.energy[0]) / KJ_PER_MOL, prediction.forces.double().numpy() * (NM / KJ_PER_MOL)


def openmm_force(
    model: str | Path | Sequence[str | Path] | Potential,
    atoms: ase.Atoms,
    *,
    particles: Sequence[int] | None = None,
    charge: float | None = None,
    spin: int | None = None,
    skin: float = 0.5,
    **load_options: Any,
) -> openmm.PythonForce:
    """A force to add to an `openmm.System`.

    Args:
        model: name, file, several of these for a committee, or a loaded potential.
        atoms: the particles in OpenMM's order (those of ``particles``, where given), cell, periodicity, charge, spin.
        particles: indices of the particles the model describes; all of them if not given.
        charge, spin: total charge (e) and unpaired electrons; override ``atoms.info``.
        skin: Å, of the neighbour list.
        load_options: as for `heliodor.load`.

    Raises:
        MissingExtraError: OpenMM is not installed.
        InputError, ModelError: what the model cannot describe, naming the atom.
    """
    try:
        import openmm
    except ImportError:
        raise MissingExtraError("openmm", "openmm") from None
    force = openmm.PythonForce(Force(Evaluator(model, atoms, charge=charge, spin=spin, skin=skin, **load_options)))
    force.setUsesPeriodicBoundaryConditions(bool(atoms.pbc.any()))
    if particles is not None:
        force.setParticles([int(k) for k in particles])
    return force
