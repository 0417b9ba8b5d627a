"""Writing one structure in whatever type its name asks for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from heliodor.errors import InputError

if TYPE_CHECKING:
    import ase
    import numpy as np


def check_writable(path: Path, overwrite: bool) -> str:
    """ASE's name of the type that ``path`` asks for.

    Raises:
        InputError: unknown type, existing file, missing folder.
    """
    from ase.io.formats import UnknownFileTypeError, filetype, ioformats

    from heliodor.dynamics.files.trajectory import refuse_existing

    refuse_existing(path, overwrite)
    try:
        kind = filetype(str(path), read=False, guess=False)
    except UnknownFileTypeError:
        kind = ""
    if kind not in ioformats or not ioformats[kind].can_write:
        raise InputError(
            f"cannot tell from the name {path} what to write: end it in .xyz, .extxyz, .pdb, .cif or .traj"
        )
    # plain xyz would drop energy, forces, charge and cell
    return "extxyz" if kind == "xyz" else str(kind)


def write_structure(
    path: Path,
    atoms: ase.Atoms,
    positions: np.ndarray,
    *,
    energy: float,
    forces: np.ndarray,
    cell: np.ndarray | None = None,
) -> None:
    """Write ``atoms`` at new positions (Å) with energy (eV) and forces (eV/Å), where the type has room for them.

    The file gets its name when it is complete.

    Args:
        cell: [3, 3] Å, rows are lattice vectors; None: as it was.
    """
    import ase.io
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms = atoms.copy()
    atoms.positions = positions
    if cell is not None:
        atoms.cell[:] = cell
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    kind = check_writable(path, overwrite=True)
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        ase.io.write(part, atoms, format=kind)
        part.replace(path)
    except (ValueError, KeyError, NotImplementedError) as error:
        raise InputError(f"{path} cannot be written as {kind}: {error}; use .xyz") from error
    finally:
        part.unlink(missing_ok=True)
