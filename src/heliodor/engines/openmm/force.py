"""The force itself: positions of a state in, energy and forces out, in OpenMM's units."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase
import numpy as np
from jaxtyping import Float

from heliodor.engines.evaluator import Evaluator
from heliodor.engines.openmm.molecule import Molecule
from heliodor.engines.openmm.saved import Saved, saved_of
from heliodor.errors import HeliodorError, InputError, MissingExtraError
from heliodor.potential import ModelWarning, Potential
from heliodor.units import KJ_PER_MOL

if TYPE_CHECKING:
    import openmm

NM = 10.0
"""Å."""

NAME = "heliodor"
"""How names of our forces in an OpenMM system begin."""

_ONE_AT_A_TIME = threading.Lock()
"""Contexts that run in threads of their own share the lists of one force, and kernels' memory of one model."""


class Force:
    """What OpenMM calls at each step: positions of a state in, energy (kJ/mol) and forces (kJ/mol/nm) out.

    It can be pickled, and with it the OpenMM system that has it, if its model has a name or a file: what is written is
    how to load the model again, a hash of its parameters, and the atoms. A model that cannot be had again, or is
    another by now, is refused at the first energy: OpenMM does not survive an error while it reads.

    Args:
        evaluator: model and atoms.
        molecule: for a molecule without periodicity in a periodic system: its bonds, by which it is made whole.
        load_options: what its model was loaded with.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        molecule: Molecule | None = None,
        load_options: dict[str, Any] | None = None,
    ) -> None:
        self.evaluator = evaluator
        self.molecule = molecule
        self.load_options = load_options or {}
        self._boxed = molecule is not None or bool(evaluator.atoms.pbc.any())

    def __call__(self, state: openmm.State) -> tuple[float, Float[np.ndarray, "N 3"]]:
        positions = np.asarray(state.getPositions(asNumpy=True)._value) * NM
        box = np.asarray(state.getPeriodicBoxVectors(asNumpy=True)._value) * NM if self._boxed else None
        if self.molecule is not None and box is not None:
            positions, box = self.molecule.whole(positions, box), None
        with _ONE_AT_A_TIME:
            prediction = self.evaluator(positions, box)
        assert prediction.forces is not None
        return float(prediction.energy[0]) / KJ_PER_MOL, prediction.forces.double().numpy() * (NM / KJ_PER_MOL)

    def __reduce__(self) -> tuple[Callable[[Saved], Any], tuple[Saved]]:
        saved = saved_of(self.evaluator, self.molecule, self.load_options)
        if saved is None:
            raise InputError(
                f"the model {self.evaluator.potential.name!r} was made in Python and has no file to be loaded from: "
                "save it (heliodor.save_checkpoint), load the file, and make the force from that"
            )
        return revived, (saved,)


class Refused:
    """In the place of a force whose model cannot be had again: says so when it is asked for an energy."""

    def __init__(self, saved: Saved, error: HeliodorError) -> None:
        self.saved, self.error = saved, error

    def __call__(self, state: openmm.State) -> tuple[float, Float[np.ndarray, "N 3"]]:
        raise self.error

    def __reduce__(self) -> tuple[Callable[[Saved], Any], tuple[Saved]]:
        return revived, (self.saved,)


def revived(saved: Saved) -> Force | Refused:
    """The force that was pickled; never raises, since an error here would end the process inside OpenMM."""
    try:
        with warnings.catch_warnings():
            # said when the force was made; a warning turned into an error must not come out of here
            warnings.simplefilter("ignore", ModelWarning)
            return Force(saved.evaluator(), saved.molecule, saved.load_options)
    except HeliodorError as error:
        return Refused(saved, error)
    except Exception as error:
        return Refused(saved, InputError(f"the force of the model {saved.name!r} cannot be read again: {error}"))


def openmm_force(
    model: str | Path | Sequence[str | Path] | Potential,
    atoms: ase.Atoms,
    *,
    particles: Sequence[int] | np.ndarray | None = None,
    charge: float | None = None,
    spin: int | None = None,
    skin: float = 0.5,
    group: int = 0,
    **load_options: Any,
) -> openmm.PythonForce:
    """A force to add to an `openmm.System`.

    Args:
        model: name, file, several of these for a committee, or a loaded potential.
        atoms: the particles in OpenMM's order (those of ``particles``, where given), cell, periodicity, charge, spin.
        particles: indices of the particles the model describes; all of them if not given.
        charge, spin: total charge (e) and unpaired electrons; override ``atoms.info``.
        skin: Å, of the neighbour list; 0 finds the neighbours anew at each call.
        group: OpenMM's force group, 0 to 31.
        load_options: as for `heliodor.load`.

    Raises:
        MissingExtraError: OpenMM is not installed.
        InputError, ModelError: what the model cannot describe, naming the atom; atoms periodic in some directions only.
    """
    import_openmm()
    if bool(atoms.pbc.any()) and not bool(atoms.pbc.all()):
        raise InputError(
            "OpenMM's boxes are periodic in all three directions or in none: set atoms.pbc to one of these"
        )
    force = Force(
        Evaluator(model, atoms, charge=charge, spin=spin, skin=skin, **load_options), load_options=load_options
    )
    return python_force(force, particles, group)


def python_force(force: Force, particles: Sequence[int] | np.ndarray | None, group: int) -> openmm.PythonForce:
    """As OpenMM takes it."""
    openmm = import_openmm()
    made = openmm.PythonForce(force)
    made.setName(f"{NAME} {force.evaluator.potential.name}")
    made.setForceGroup(group)
    made.setUsesPeriodicBoundaryConditions(force._boxed)
    if particles is not None:
        made.setParticles(_indices(particles, force.evaluator.n_atoms))
    return made


def _indices(particles: Sequence[int] | np.ndarray, n_atoms: int) -> list[int]:
    """OpenMM takes what it gets, and reads memory that is not its own."""
    listed = np.asarray(particles)
    if listed.shape != (n_atoms,):
        raise InputError(f"there are {len(listed)} particles for the {n_atoms} atoms that the model is to describe")
    if listed.dtype.kind not in "iu" or listed.min() < 0 or len(np.unique(listed)) < n_atoms:
        raise InputError(
            "particles are the indices of the particles that the model describes, counted from 0, each once: not a "
            "mask, and none negative or twice"
        )
    return [int(k) for k in listed]


def import_openmm() -> Any:
    """The package.

    Raises:
        MissingExtraError: it is not installed, or too old for Python forces.
    """
    try:
        import openmm
    except ImportError:
        raise MissingExtraError("openmm", "openmm") from None
    if not hasattr(openmm, "PythonForce"):
        raise MissingExtraError("openmm>=8.6.1", "openmm")
    return openmm
