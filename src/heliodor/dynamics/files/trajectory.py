"""Trajectories: which writer a file name asks for, and one reader for all that can be read without a topology.

Positions are written as they are, never wrapped; boxes beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, runtime_checkable

import ase
from jaxtyping import Int
from torch import Tensor

from heliodor.dynamics.files import extxyz, h5md, h5md_read
from heliodor.dynamics.files.dcd import DCDWriter
from heliodor.dynamics.state import MDState
from heliodor.errors import InputError
from heliodor.topology import Topology

H5MD_SUFFIXES = (".h5", ".h5md", ".hdf5")
EXTXYZ_SUFFIXES = (".xyz", ".extxyz")
DCD_SUFFIXES = (".dcd",)

PRECISIONS = ("single", "double")


@runtime_checkable
class Writer(Protocol):
    """Takes states, one frame each; after `write` the frame is in the file whatever happens to the process.

    `mark` waits until everything is on the disk and says what that is: ``frames``, the ``step`` of the last one (-1 if
    there is none), ``atoms`` and ``species`` to know the file by, for some formats ``bytes``. A checkpoint keeps it,
    and `open_writer` cuts the file back to it.
    """

    path: Path

    def write(self, state: MDState) -> None: ...

    def mark(self) -> dict[str, int]: ...

    def close(self) -> None: ...

    def __enter__(self) -> Writer: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_writer(
    path: str | Path,
    *,
    velocities: bool = True,
    forces: bool = False,
    overwrite: bool = False,
    precision: str = "single",
    atoms: Int[Tensor, "K"] | None = None,
    metadata: dict[str, str | float | int] | None = None,
    topologies: Sequence[Topology] | None = None,
    resume: dict[str, int] | None = None,
) -> Writer:
    """A trajectory writer by suffix: .h5/.h5md/.hdf5 are H5MD, .xyz/.extxyz extended XYZ, .dcd DCD.

    The file appears with the first frame.

    Args:
        velocities, forces: write them too; DCD has no place for them.
        overwrite: replace a file that exists.
        precision: "single" (1e-6 Å at 10 Å; text has 8 decimals) or "double" (not DCD), of vectors and charges.
        atoms: indices within a structure of the atoms to write (`select_atoms`), the same of each if there are several;
            None for all.
        metadata: settings kept in an H5MD file as attributes of ``/heliodor``.
        topologies: of each structure: names of atoms and residues go into an H5MD file where they are known.
        resume: what `Writer.mark` said when the checkpoint was written: go on with the existing file, everything
            after the mark cut off. The other options should be those the file was begun with.

    Raises:
        InputError: unknown suffix or precision, existing file, missing folder; on resuming, a file that is missing,
            shorter than the mark, or of other atoms.
        StorageError: a file to go on with cannot be written.
    """
    path = Path(path)
    kind = kind_of(path)
    if precision not in PRECISIONS:
        raise InputError(f"precision must be 'single' or 'double', not {precision!r}")
    if resume is None:
        refuse_existing(path, overwrite)
    double = precision == "double"
    if kind == "dcd":
        if double:
            raise InputError("DCD files hold single precision only; write to a name in .h5 for double")
        return DCDWriter(path, atoms=atoms, resume=resume)
    if kind == "extxyz":
        return extxyz.ExtXYZWriter(
            path, velocities=velocities, forces=forces, double=double, atoms=atoms, resume=resume
        )
    return h5md.H5MDWriter(
        path,
        velocities=velocities,
        forces=forces,
        double=double,
        atoms=atoms,
        metadata=metadata or {},
        topologies=topologies,
        resume=resume,
    )


def read_trajectory(path: str | Path, structure: int = 0) -> list[ase.Atoms]:
    """All complete frames, of a file being written or left by a killed run as well.

    ``info`` holds step, time_fs, charge and spin; velocities are set in ASE's units; energy, forces and charges,
    where written, are in a SinglePointCalculator. Where a selection of the atoms was written, ``arrays["id"]`` has
    their indices, and total energy, charge and spin are left out.

    Args:
        structure: which one, of a run of several.

    Raises:
        InputError: no such file, unknown suffix, not readable.
    """
    path = Path(path)
    kind = kind_of(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    if kind == "dcd":
        raise InputError(
            f"{path} holds positions but no elements: read it with a topology in MDTraj or MDAnalysis, or write .h5"
        )
    return h5md_read.read(path, structure) if kind == "h5md" else extxyz.read(path, structure)


def kind_of(path: Path) -> str:
    """``"h5md"``, ``"extxyz"`` or ``"dcd"``, by suffix.

    Raises:
        InputError: another suffix.
    """
    suffix = path.suffix.lower()
    for kind, suffixes in (("h5md", H5MD_SUFFIXES), ("extxyz", EXTXYZ_SUFFIXES), ("dcd", DCD_SUFFIXES)):
        if suffix in suffixes:
            return kind
    known = " ".join(H5MD_SUFFIXES + EXTXYZ_SUFFIXES + DCD_SUFFIXES)
    raise InputError(f"cannot tell the trajectory format of {str(path)!r}: the name must end in one of {known}")


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise InputError where writing would destroy a file or has no folder to go to."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; give a file name")
    if path.exists() and not overwrite:
        raise InputError(
            f"{path} exists already; choose another name or allow overwriting (overwrite=True, --overwrite)"
        )
    if not path.absolute().parent.is_dir():
        raise InputError(f"there is no folder {path.absolute().parent} to write {path.name} into")
