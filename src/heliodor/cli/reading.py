"""Reading structure files with ASE, one clear error for each thing that can be wrong with them."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from heliodor.cli.common import note, one_line
from heliodor.cli.traps import HOW_TO_FIX_ELEMENTS, check_gro, check_ipi, check_pdb, drop_dummy_cell
from heliodor.errors import InputError
from heliodor.topology import pdb_chains

if TYPE_CHECKING:
    import ase

TRAJECTORIES = (".h5", ".h5md", ".hdf5")
MDL = ("sdf", "mol")
"""Read here: ASE knows neither their charges nor more than one molecule of a file."""
OLD_CHARGES = {1: 3, 2: 2, 3: 1, 5: -1, 6: -2, 7: -3}
"""Codes of the seventh number of an atom's line; superseded by lines "M  CHG"."""
UNSAFE = ("mysql", "postgresql")
"""ASE formats that are no files."""


def read_structure(path: Path, frame: int | None = None) -> ase.Atoms:
    """One structure of a file.

    Args:
        frame: which one; the first, with a note, if the file has several and none is asked for.

    Raises:
        InputError: the file is missing, empty, of an unknown type or damaged, or its elements cannot be trusted.
    """
    frames = read_structures(path)
    if frame is None:
        if len(frames) > 1:
            note(f"{path} holds {len(frames)} structures: using the first (choose with --frame; -1 is the last)")
        return frames[0]
    if not -len(frames) <= frame < len(frames):
        raise InputError(f"{path} holds {len(frames)} structure(s), numbered from 0: there is no frame {frame}")
    return frames[frame]


def read_structures(path: Path) -> list[ase.Atoms]:
    """All structures of a file.

    Raises:
        InputError: as `read_structure`.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a structure file")
    if not path.exists():
        raise InputError(f"there is no file {path}")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty")
    kind = _kind(path)
    if kind in ("xyz", "extxyz"):
        check_ipi(path)
    frames = _read(path, kind)
    if not frames or any(len(frame) == 0 for frame in frames):
        raise InputError(f"{path} holds no atoms (read as {kind})")
    if kind == "proteindatabank":
        check_pdb(path)
        chains = pdb_chains(path)
        for frame in frames:
            drop_dummy_cell(frame)
            if len(chains) == len(frame):
                frame.set_array("chain", chains)
    elif kind == "gromacs":
        check_gro(path, frames)
    return frames


def _kind(path: Path) -> str:
    if path.suffix.lower() in TRAJECTORIES:
        return "H5MD"
    from ase.io.formats import UnknownFileTypeError, filetype, ioformats

    try:
        kind: str = filetype(str(path), guess=True)
    except UnknownFileTypeError:
        kind = ""
    except Exception as error:
        raise InputError(f"{path} cannot be read: {_words(error)}") from error
    # for a suffix it does not know ASE answers with the suffix
    if kind not in ioformats or kind in UNSAFE or not ioformats[kind].can_read:
        raise InputError(
            f"{path} is of no type that can be read: hand in xyz, extxyz, pdb, cif, gro, POSCAR, mol or sdf"
        )
    return kind


def _read(path: Path, kind: str) -> list[ase.Atoms]:
    if kind == "H5MD":
        from heliodor.dynamics.files.trajectory import read_trajectory

        return read_trajectory(path)
    import ase.io

    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            # a name such as "box@300K.xyz" is a name, not ASE's syntax for frames
            read: ase.Atoms | list[ase.Atoms]
            if kind in MDL:
                read = _read_mdl(path)
            else:
                read = ase.io.read(path, index=":", format=kind, do_not_split_by_at_sign=True)
    except Exception as error:
        fix = f"; {HOW_TO_FIX_ELEMENTS}" if kind == "proteindatabank" and "species" in str(error) else ""
        raise InputError(
            f"{path} cannot be read as {kind}: {_words(error)}{fix or '; is it of that type, and whole?'}"
        ) from error
    for text in dict.fromkeys(one_line(str(w.message)) for w in caught if issubclass(w.category, UserWarning)):
        note(f"{path}: {text}")
    return read if isinstance(read, list) else [read]


def _read_mdl(path: Path) -> list[ase.Atoms]:
    """Every molecule of an sdf or mol file, with the total charge where one is stated."""
    first, *others = path.read_text(encoding="utf-8", errors="replace").split("$$$$")
    # what follows $$$$ on its line is not yet the next molecule, whose first line, its name, is often empty
    blocks = [block for block in (first, *(other.partition("\n")[2] for other in others)) if block.strip()]
    frames = [_mdl(block) for block in blocks]
    if any(len(frame) > 3 and not frame.positions[:, 2].any() for frame in frames):
        note(f"{path}: all atoms of a molecule lie in one plane: a drawing is no geometry, relax it first")
    return frames


def _mdl(block: str) -> ase.Atoms:
    from ase.io.sdf import read_sdf

    lines = block.splitlines()
    if "V3000" in lines[3]:
        raise ValueError("V3000 is not read, convert it to V2000")
    atoms: ase.Atoms = read_sdf(io.StringIO(block))
    # ASE takes what is there of a file cut off
    if len(atoms) != int(lines[3][:3]):
        raise ValueError(f"it announces {int(lines[3][:3])} atoms and holds {len(atoms)}")
    charges = [int(q) for line in lines if line.startswith("M  CHG") for q in line.split()[4::2]]
    if not charges and not any(line.startswith("M  RAD") for line in lines):
        charges = [OLD_CHARGES.get(int(line[36:39].strip() or 0), 0) for line in lines[4 : 4 + len(atoms)]]
    if any(charges):
        atoms.info["charge"] = float(sum(charges))
    return atoms


def _words(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not a text file"
    text = one_line(str(error))
    return f"{text[:160]}{'...' if len(text) > 160 else ''}" or type(error).__name__
