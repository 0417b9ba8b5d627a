"""A LAMMPS that has a structure in it: box, types, masses, positions, velocities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase
import ase.units
import numpy as np

from heliodor.engines.lammps.external import FEMTOSECONDS, attach
from heliodor.engines.lammps.frame import lammps_frame
from heliodor.engines.lammps.library import import_lammps
from heliodor.errors import InputError
from heliodor.potential import Potential

MARGIN = 1.0
"""Å between a molecule and the walls of the box it is made in; LAMMPS draws these in afterwards."""

GHOSTS = 1.0
"""Å beyond its domain in which a rank sees other ranks' atoms; nothing here needs them."""


def new_lammps(
    atoms: ase.Atoms,
    model: str | Path | Sequence[str | Path] | Potential,
    *,
    units: str = "metal",
    charge: float | None = None,
    spin: int | None = None,
    skin: float = 0.5,
    comm: Any = None,
    threads: int | None = None,
    arguments: Sequence[str] = ("-log", "none"),
    **load_options: Any,
) -> Any:
    """A LAMMPS with these atoms, moved by this model: what is left to give are fixes, computes and ``run``.

    Atom k has the id k + 1; types are numbered by rising atomic number (and mass, where isotopes are mixed). A cell
    that LAMMPS does not take as it is is turned, and the atoms with it (`lammps_frame`). Velocities are those of
    ``atoms``, zero where there are none.

    Args:
        model: name, file, several of these for a committee, or a loaded potential.
        units: of LAMMPS, "metal" or "real".
        charge, spin: total charge (e) and unpaired electrons; override ``atoms.info``.
        skin: Å, of the model's neighbour list.
        comm: of mpi4py; all ranks that ``mpiexec`` started if not given.
        threads: of the rank that evaluates (see `attach`).
        arguments: LAMMPS's own of the command line; ``("-log", "none", "-screen", "none")`` is silent.
        load_options: as for `heliodor.load`.

    Returns:
        lammps.lammps

    Raises:
        MissingExtraError: LAMMPS is not installed.
        InputError, ModelError: what the model or LAMMPS cannot describe.
    """
    if units not in FEMTOSECONDS:
        raise InputError(f"units of LAMMPS must be 'metal' or 'real', not {units!r}")
    turned = lammps_frame(atoms)
    lmp = import_lammps().lammps(cmdargs=list(arguments), comm=comm)
    try:
        _fill(lmp, turned, units)
        attach(lmp, model, atoms, charge=charge, spin=spin, skin=skin, threads=threads, **load_options)
    except BaseException:
        lmp.close()
        raise
    return lmp


def _fill(lmp: Any, atoms: ase.Atoms, units: str) -> None:
    """Box, types and atoms, in LAMMPS's frame."""
    periodic = np.asarray(atoms.pbc, dtype=bool)
    cell = np.asarray(atoms.cell)
    low = np.where(periodic, 0.0, atoms.positions.min(0) - MARGIN)
    high = np.where(periodic, np.diag(cell), atoms.positions.max(0) + MARGIN)
    skewed = (cell[1, 0], cell[2, 0], cell[2, 1])
    kinds = sorted({(int(z), float(mass)) for z, mass in zip(atoms.numbers, atoms.get_masses(), strict=True)})
    types = [kinds.index((int(z), float(m))) + 1 for z, m in zip(atoms.numbers, atoms.get_masses(), strict=True)]
    bounds = " ".join(f"{lo:.16g} {hi:.16g}" for lo, hi in zip(low, high, strict=True))
    tilts = " ".join(f"{tilt:.16g}" for tilt in skewed)
    lmp.commands_list(
        [
            f"units {units}",
            "boundary " + " ".join("p" if p else "s" for p in periodic),
            "atom_style atomic",
            "atom_modify map yes sort 0 0",
            f"region box prism {bounds} {tilts}" if any(skewed) else f"region box block {bounds}",
            f"create_box {len(kinds)} box",
            # with no ghost atoms at all LAMMPS warns of wrong forces, which are none of its business here
            f"comm_modify cutoff {GHOSTS}",
            *(f"mass {k} {mass:.12g}" for k, (_, mass) in enumerate(kinds, 1)),
        ]
    )
    velocities = atoms.get_velocities() * (ase.units.fs * FEMTOSECONDS[units])
    ids = list(range(1, len(atoms) + 1))
    made = lmp.create_atoms(
        len(atoms), ids, types, atoms.positions.ravel().tolist(), velocities.ravel().tolist(), None, True
    )
    if made != len(atoms) or int(lmp.get_natoms()) != len(atoms):
        raise InputError(
            f"LAMMPS took only {int(lmp.get_natoms())} of {len(atoms)} atoms: wrap them into their cell first"
        )
