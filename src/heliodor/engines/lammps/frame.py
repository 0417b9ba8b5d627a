"""The frame that LAMMPS wants a cell in: a along x, b in the plane of x and y."""

from __future__ import annotations

import ase
import numpy as np
from ase.geometry import complete_cell


def lammps_frame(atoms: ase.Atoms) -> ase.Atoms:
    """The structure turned so that its cell is lower triangular, with a positive diagonal.

    A structure that is so already, and a molecule without a cell, come back with the same coordinates. Directions
    without periodicity get a lattice vector at right angles to the others.
    """
    turned: ase.Atoms = atoms.copy()
    if not atoms.pbc.any():
        turned.set_cell(np.eye(3))
        return turned
    cell = np.array(atoms.cell, dtype=np.float64)
    cell[~atoms.pbc] = 0.0
    full = np.asarray(complete_cell(cell), dtype=np.float64)
    if np.allclose(full, np.tril(full), atol=1e-12) and (np.diag(full) > 0).all():
        turned.set_cell(np.tril(full))
        return turned
    # full = lower @ turn, both unique once the diagonal is positive
    orthogonal, upper = np.linalg.qr(full.T)
    signs = np.sign(np.diag(upper))
    turn = (orthogonal * signs).T
    lower = np.tril((upper * signs[:, None]).T)
    turned.set_cell(lower)
    turned.positions = atoms.positions @ turn.T
    turned.set_velocities(atoms.get_velocities() @ turn.T)
    return turned
