"""Trajectories: which writer a file name asks for, and one reader for all of them.

Positions are written as they are, never wrapped; boxes beside them.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Protocol, runtime_checkable

import ase

from heliodor.dynamics import extxyz, h5md
from heliodor.dynamics.state import MDState
from heliodor.errors import InputError

H5MD_SUFFIXES = (".h5", ".h5md", ".hdf5")
EXTXYZ_SUFFIXES = (".xyz", ".extxyz")


@runtime_checkable
class Writer(Protocol):
    """Takes states, one frame each; after `write` the frame is in the file whatever happens next."""

    path: Path

    def write(self, state: MDState) -> None: ...

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
    double: bool = False,
    metadata: dict[str, str | float | int] | None = None,
) -> Writer:
    """A trajectory writer by suffix: .h5/.h5md/.hdf5 are H5MD, .xyz/.extxyz extended XYZ.

    The file appears with the first frame.

    Args:
        velocities, forces: write them too.
        overwrite: replace a file that exists.
        double: keep H5MD vectors in float64 rather than float32 (1e-6 Å at 10 Å).
        metadata: settings kept in an H5MD file as attributes of ``/heliodor``.

    Raises:
        InputError: unknown suffix, existing file, missing folder.
    """
    path = Path(path)
    if kind_of(path) == "h5md":
        refuse_existing(path, overwrite)
        return h5md.H5MDWriter(path, velocities=velocities, forces=forces, double=double, metadata=metadata or {})
    refuse_existing(path, overwrite)
    return extxyz.ExtXYZWriter(path, velocities=velocities, forces=forces)


def read_trajectory(path: str | Path, structure: int = 0) -> list[ase.Atoms]:
    """All complete frames, of a file being written or left by a killed run as well.

    ``info`` holds step, time_fs, charge and spin; velocities are set in ASE's units; energy, forces and charges,
    where written, are in a SinglePointCalculator.

    Args:
        structure: which one, of a run of several.

    Raises:
        InputError: no such file, unknown suffix, not readable.
    """
    path = Path(path)
    kind = kind_of(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    return h5md.read(path, structure) if kind == "h5md" else extxyz.read(path, structure)


def kind_of(path: Path) -> str:
    """``"h5md"`` or ``"extxyz"``, by suffix.

    Raises:
        InputError: another suffix.
    """
    suffix = path.suffix.lower()
    if suffix in H5MD_SUFFIXES:
        return "h5md"
    if suffix in EXTXYZ_SUFFIXES:
        return "extxyz"
    known = " ".join(H5MD_SUFFIXES + EXTXYZ_SUFFIXES)
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
