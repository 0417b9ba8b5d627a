"""LAMMPS's `fix external`: LAMMPS hands the positions of a step to Python and gets forces, energy and virial back.

With several MPI ranks the positions are gathered on the first one, evaluated there, and the forces handed back: that is
right, and does not scale.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ase
import numpy as np

from heliodor.engines.evaluator import Evaluator
from heliodor.engines.first_step import check_positions
from heliodor.engines.lammps.frame import lammps_frame
from heliodor.engines.lammps.together import abort_together, communicator, on_first, set_threads
from heliodor.errors import InputError
from heliodor.potential import ModelWarning, Potential
from heliodor.units import KCAL_PER_MOL

ENERGY = {"metal": 1.0, "real": KCAL_PER_MOL}
"""LAMMPS's unit of energy in eV; lengths are Å and masses amu in both."""

FEMTOSECONDS = {"metal": 1000.0, "real": 1.0}
"""LAMMPS's unit of time in fs."""

MASS_TOLERANCE = 0.01
"""Relative difference from the mass of an element above which a note is made of it."""

LONGEST_STEP = 50.0
"""fs; a longer one is a time step given in the wrong unit."""

_VOIGT = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))


class External:
    """What LAMMPS calls at each step; made by `attach`.

    Attributes:
        evaluator: on the first rank; None on the others.
        calls: number of times LAMMPS has asked.
        error: what went wrong at the last step, the same on every rank; None where nothing did.
    """

    def __init__(self, lmp: Any, name: str, evaluator: Evaluator | None, comm: Any, units: str) -> None:
        self.lmp, self.name, self.evaluator, self.comm = lmp, name, evaluator, comm
        self.units = units
        self.calls = 0
        self.error: BaseException | None = None

    def __call__(self, caller: Any, step: int, count: int, tag: np.ndarray, x: np.ndarray, f: np.ndarray) -> None:
        # an exception that left this function would be printed and forgotten by ctypes
        if self.error is not None:
            f[:] = 0.0
            return
        self.calls += 1
        try:
            self._check_step()
            found = on_first(self.comm, self._evaluate, (tag.copy(), x.copy()))
            energy, virial, forces, atomic = found
            mine = tag - 1
            f[:] = forces[mine]
            self.lmp.fix_external_set_energy_global(self.name, energy)
            self.lmp.fix_external_set_virial_global(self.name, virial)
            self.lmp.fix_external_set_energy_peratom(self.name, atomic[mine].tolist())
        except BaseException as error:
            f[:] = 0.0
            self.error = error
            self.lmp.force_timeout()

    def _check_step(self) -> None:
        unit = FEMTOSECONDS[self.units]
        femtoseconds = self.lmp.extract_global("dt") * unit
        if femtoseconds > LONGEST_STEP:
            raise InputError(
                f"LAMMPS's time step is {femtoseconds:g} fs: in units {self.units} 'timestep' is in "
                f"{'ps' if self.units == 'metal' else 'fs'}, and 0.5 fs is 'timestep {0.5 / unit:g}'"
            )

    def _evaluate(self, parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float, list[float], Any, Any]:
        """Energy, virial, forces and energies of atoms, in LAMMPS's units, from what the ranks have."""
        assert self.evaluator is not None
        unit = ENERGY[self.units]
        ids = np.concatenate([tag for tag, _ in parts])
        count = self.evaluator.n_atoms
        if len(ids) != count or (count and ids.max() > count):
            gone = np.setdiff1d(np.arange(1, count + 1), ids)
            raise InputError(
                f"LAMMPS has {len(ids)} atoms by now, the model was attached to {count}"
                + (f" (the atom with id {gone[0]} is gone)" if len(gone) else "")
                + ": atoms cannot be lost, deleted or created while a model moves them; start anew with the others"
            )
        positions, cell = _together(self.lmp, self.evaluator.atoms, parts)
        prediction = self.evaluator(positions, cell, virial=True)
        assert prediction.forces is not None and prediction.virial is not None and prediction.node_energy is not None
        virial = prediction.virial[0].double().numpy() / unit
        return (
            float(prediction.energy[0]) / unit,
            [float(virial[a, b]) for a, b in _VOIGT],
            prediction.forces.double().numpy() / unit,
            prediction.node_energy.double().numpy() / unit,
        )


def attach(
    lmp: Any,
    model: str | Path | Sequence[str | Path] | Potential,
    atoms: ase.Atoms,
    *,
    name: str = "heliodor",
    charge: float | None = None,
    spin: int | None = None,
    skin: float = 0.5,
    threads: int | None = None,
    **load_options: Any,
) -> External:
    """Let a model move the atoms of a LAMMPS that has its box and atoms already.

    Every rank calls it. Adds ``fix NAME all external pf/callback 1 1`` with its energy (total and of each atom) and
    virial, so that ``pe``, ``press``, ``fix npt`` and ``minimize`` know of them. What goes wrong during a run ends it
    and is raised, on every rank, by the command that ran (``lmp.command``, ``commands_list``, ``commands_string``,
    ``file``).

    Args:
        lmp: lammps.lammps.
        model: name, file, several of these for a committee, or a loaded potential.
        atoms: elements, cell, periodicity, charge, spin; atom k is LAMMPS's atom k + 1. Positions are those that LAMMPS
            has now, and are compared with them.
        name: id of the fix.
        charge, spin: total charge (e) and unpaired electrons; override ``atoms.info``.
        skin: Å, of the neighbour list.
        threads: of the first rank, which evaluates. By default torch's own choice for one rank; for several the cores
            of this machine divided by its ranks, unless OMP_NUM_THREADS is set.
        load_options: as for `heliodor.load`.

    Raises:
        InputError: units other than metal and real, another number or order of atoms, other positions.
        ModelError: what the model cannot describe, naming the atom.
        MissingExtraError: several ranks without mpi4py.
    """
    units = str(lmp.extract_global("units"))
    if units not in ENERGY:
        raise InputError(f"LAMMPS runs in units {units}: start it with 'units metal' or 'units real'")
    if lmp.has_id("fix", name):
        raise InputError(f"LAMMPS has a fix {name!r} already: choose another name for this one")
    comm = communicator(lmp)
    abort_together(comm)
    set_threads(comm, threads)

    def begin(parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Evaluator:
        evaluator = Evaluator(model, lammps_frame(atoms), charge=charge, spin=spin, skin=skin, **load_options)
        _check_atoms(lmp, evaluator, parts)
        return evaluator

    first = comm is None or comm.rank == 0
    kept: list[Evaluator] = []
    on_first(comm, lambda parts: kept.append(begin(parts)), _local(lmp))
    external = External(lmp, name, kept[0] if first else None, comm, units)
    lmp.command(f"fix {name} all external pf/callback 1 1")
    lmp.command(f"fix_modify {name} energy yes virial yes")
    lmp.set_fix_external_callback(name, external, None)
    for word in ("command", "commands_list", "commands_string", "file"):
        setattr(lmp, word, _raising(lmp, getattr(lmp, word), external))
    return external


def _raising(lmp: Any, command: Callable[..., Any], external: External) -> Callable[..., Any]:
    @functools.wraps(command)
    def checked(*arguments: Any, **options: Any) -> Any:
        try:
            result = command(*arguments, **options)
        except Exception:
            # what LAMMPS says of a run that lost its forces is no news
            if external.error is None:
                raise
        error, external.error = external.error, None
        if error is not None:
            lmp.lib.lammps_command(lmp.lmp, b"timer timeout off")
            raise error
        return result

    return checked


def _local(lmp: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, positions and masses of this rank's atoms."""
    count = lmp.extract_setting("nlocal")
    if count == 0:
        return np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros(0)
    types = np.array(lmp.numpy.extract_atom("type")[:count])
    per_type = lmp.numpy.extract_atom("mass")
    masses = np.ravel(per_type)[types] if per_type is not None else np.ravel(lmp.numpy.extract_atom("rmass")[:count])
    return np.array(lmp.numpy.extract_atom("id")[:count]), np.array(lmp.numpy.extract_atom("x")[:count]), masses


def _check_atoms(lmp: Any, evaluator: Evaluator, parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> None:
    """The first comparison: ids, positions, cell, periodicity; a note where masses are not the elements'."""
    atoms = evaluator.atoms
    ids = np.sort(np.concatenate([part[0] for part in parts]))
    if len(ids) != len(atoms):
        raise InputError(
            f"LAMMPS has {len(ids)} atoms, the structure given to heliodor {len(atoms)}: start both from one file"
        )
    if not np.array_equal(ids, np.arange(1, len(ids) + 1)):
        raise InputError(
            "the ids of LAMMPS's atoms do not run from 1 to their number: give 'reset_atoms id' before this, so that "
            "atom k of the structure is LAMMPS's atom k + 1"
        )
    *_, periodicity, _ = lmp.extract_box()
    if not np.array_equal(np.asarray(periodicity, dtype=bool), atoms.pbc):
        raise InputError(
            f"LAMMPS's boundaries are {['periodic' if p else 'open' for p in periodicity]}, the structure's pbc is "
            f"{atoms.pbc.tolist()}: make them the same"
        )
    positions, cell = _together(lmp, atoms, [part[:2] for part in parts])
    wrong = np.abs(cell - np.asarray(atoms.cell))[atoms.pbc] if cell is not None else np.zeros(1)
    if wrong.max() > 1e-3:
        raise InputError(
            f"LAMMPS's box is not the structure's cell (they differ by {wrong.max():.4g} Å): lengths are in Å in units "
            "metal and real; start both from one file"
        )
    check_positions(evaluator, positions, "LAMMPS")
    masses = np.empty(len(ids))
    for tag, _, mass in parts:
        masses[tag - 1] = mass
    expected = atoms.get_masses()
    off = np.flatnonzero(np.abs(masses - expected) > MASS_TOLERANCE * expected)
    if len(off):
        k = int(off[0])
        warnings.warn(
            f"LAMMPS moves atom {k} ({atoms.symbols[k]}) with a mass of {masses[k]:g} amu, the structure has "
            f"{expected[k]:g}: check the masses of its types",
            ModelWarning,
            stacklevel=2,
        )


def _together(
    lmp: Any, atoms: ase.Atoms, parts: Sequence[tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Positions in the order of ids, counted from the box's corner, and the cell; Å."""
    positions = np.full((len(atoms), 3), np.nan)
    for tag, x in parts:
        positions[tag - 1] = x
    if not atoms.pbc.any():
        return positions, None
    low, high, xy, yz, xz, _, _ = lmp.extract_box()
    cell = np.asarray(atoms.cell).copy()
    sides = np.subtract(high, low)
    box = np.array([[sides[0], 0.0, 0.0], [xy, sides[1], 0.0], [xz, yz, sides[2]]])
    cell[atoms.pbc] = box[atoms.pbc]
    # a barostat deforms about a point of its own; seen from the corner atoms move with the cell
    return positions - np.where(atoms.pbc, low, 0.0), cell
