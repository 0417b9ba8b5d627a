"""Reading labelled structures of other people's files, block by block."""

from __future__ import annotations

from pathlib import Path

from heliodor.errors import InputError
from heliodor.train.data.reading.source import Source
from heliodor.train.data.reading.wanted import Wanted

__all__ = ["Source", "Wanted", "open_source"]

COMPRESSED = (".gz", ".bz2", ".xz")


def open_source(path: str | Path, wanted: Wanted | None = None) -> Source:
    """Find out what a file holds: its format, which of its keys are labels, and in which units.

    Formats: extxyz (also .gz, .bz2, .xz), ASE databases (.db, .json) and .traj, npz as of MD17, HDF5 with a group for
    each molecule as of SPICE, and heliodor's own.

    Raises:
        InputError: no such file, an unknown format, a key that was asked for is not there (those that are get listed),
            several keys that could be meant, units that are not known.
    """
    path, wanted = Path(path), wanted or Wanted()
    if not path.exists():
        raise InputError(f"there is no file {path}")
    if path.is_dir():
        from heliodor.train.data.reading.own import open_own

        return open_own(path, wanted)
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    suffix = next((s for s in reversed(suffixes) if s not in COMPRESSED), "")
    if suffix in (".xyz", ".extxyz"):
        from heliodor.train.data.reading.extxyz import open_extxyz

        return open_extxyz(path, wanted)
    if suffix in (".db", ".json", ".aselmdb", ".traj"):
        from heliodor.train.data.reading.ase_files import open_ase

        return open_ase(path, wanted)
    if suffix == ".npz":
        from heliodor.train.data.reading.npz import open_npz

        return open_npz(path, wanted)
    if suffix in (".h5", ".hdf5", ".hdf", ".h5py"):
        from heliodor.train.data.reading.grouped_hdf5 import open_hdf5
        from heliodor.train.data.reading.own import is_own, open_own

        return open_own(path, wanted) if is_own(path) else open_hdf5(path, wanted)
    raise InputError(
        f"cannot tell from the name {path} what it holds: hand in .extxyz (.gz), .db, .traj, .npz, .h5 or a shelf"
    )
