"""Going on with an H5MD file: cut back to what a checkpoint knows of it, ready for the next frame.

A file that was closed in order is reopened where it lies. HDF5 refuses that for one whose writer was killed; its
good frames are copied, block by block, into a new file that takes the old one's place when it is complete.
"""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
from h5py import h5f

from heliodor.dynamics.files.h5md_read import open_for_reading
from heliodor.dynamics.files.storage import cannot_write, check_length, not_the_one, put_in_place

BLOCK_BYTES = 2**24
"""What is held in memory while frames are copied."""


def reopen(path: Path, mark: dict[str, int]) -> tuple[h5py.File, dict[str, h5py.Dataset]]:
    """The file, cut to the frames of the mark, in SWMR mode, and its growing datasets by path.

    Raises:
        InputError: missing, shorter than the mark says, another trajectory, or not readable.
        StorageError: it cannot be written.
    """
    check_length(path, 1)
    with open_for_reading(path) as file:
        _compare(path, file, mark)
    try:
        opened = _open_for_writing(path)
        if opened is None:
            _copy(path, mark["frames"])
            opened = _open_for_writing(path)
        if opened is None:
            raise OSError("HDF5 cannot open it for writing")
        data = growing(opened)
        # the steps first: frames without a step do not count
        for key in sorted(data, key=lambda key: key != "step"):
            if len(data[key]) > mark["frames"]:
                data[key].resize(mark["frames"], axis=0)
                data[key].flush()
    except (OSError, RuntimeError) as error:
        raise cannot_write(path, error) from error
    return opened, data


def growing(file: h5py.File) -> dict[str, h5py.Dataset]:
    """What grows by a frame at a time: ``step``, ``time``, and the value of each element by the element's path."""
    found = {"step": file["heliodor/step"], "time": file["heliodor/time"]}
    # the order of writing is that of creation, which HDF5 does not keep: any will do, steps come last
    for top in ("particles", "observables"):
        file[top].visititems(
            lambda name, item, top=top: (
                found.__setitem__(f"{top}/{name}", item["value"])
                if isinstance(item, h5py.Group) and "value" in item
                else None
            )
        )
    return found


def _compare(path: Path, file: h5py.File, mark: dict[str, int]) -> None:
    """Refuse a file that is not the one, or has lost frames since the mark was taken."""
    frames = mark["frames"]
    if "heliodor/step" not in file or "particles" not in file:
        raise not_the_one(path, "heliodor did not write it")
    groups = sorted(file["particles"], key=lambda name: int(name.rpartition("_")[2]) if "_" in name else 0)
    species = np.concatenate([file[f"particles/{name}/species"][:] for name in groups])
    if len(species) != mark["atoms"] or zlib.crc32(species.astype("<i4").tobytes()) != mark["species"]:
        raise not_the_one(path, "its atoms are others")
    have = min(len(dataset) for dataset in growing(file).values())
    if have < frames or bool((file["heliodor/step"][:frames] < 0).any()):
        raise not_the_one(path, f"it has {have} frames where {frames} were written")
    if int(file["heliodor/step"][frames - 1]) != mark["step"]:
        raise not_the_one(path, f"frame {frames - 1} is not that of step {mark['step']}")


def _open_for_writing(path: Path) -> h5py.File | None:
    """In SWMR mode from the start: killed at any moment after, the file can be read. None if HDF5 will not have it."""
    with open_for_reading(path) as file:
        # as this h5py opens files: a process cannot have one open in two ways
        access = file.id.get_access_plist()
    access.set_libver_bounds(h5f.LIBVER_LATEST, h5f.LIBVER_LATEST)
    try:
        return h5py.File(h5f.open(bytes(path), h5f.ACC_RDWR | h5f.ACC_SWMR_WRITE, access))
    except OSError as error:
        if isinstance(error, PermissionError) or not path.exists():
            raise
        return None


def _copy(path: Path, frames: int) -> None:
    """Replace the file by a copy that ends after so many frames."""
    path = path.resolve()
    temporary = path.with_name(path.name + ".part")
    try:
        with open_for_reading(path) as old, h5py.File(temporary, "w", libver="latest", locking="best-effort") as new:
            made: dict[h5py.Dataset, h5py.Dataset] = {}
            _copy_group(old, new, frames, made)
            new.flush()
            os.fsync(new.id.get_vfd_handle())
        put_in_place(temporary, path)
    except (OSError, RuntimeError):
        with suppress(OSError):
            temporary.unlink()
        raise


def _copy_group(old: h5py.Group, new: h5py.Group, frames: int, made: dict[h5py.Dataset, h5py.Dataset]) -> None:
    new.attrs.update(old.attrs)
    for name, item in old.items():
        if isinstance(item, h5py.Group):
            _copy_group(item, new.require_group(name), frames, made)
        elif item in made:
            new[name] = made[item]
        else:
            made[item] = _copied(item, new, name, frames)


def _copied(old: h5py.Dataset, parent: h5py.Group, name: str, frames: int) -> h5py.Dataset:
    if old.maxshape[:1] != (None,):
        new = parent.create_dataset(name, data=old[()], dtype=old.dtype)
    else:
        new = parent.create_dataset(
            name,
            (frames, *old.shape[1:]),
            maxshape=old.maxshape,
            chunks=old.chunks,
            dtype=old.dtype,
            fillvalue=old.fillvalue,
        )
        size = max(1, BLOCK_BYTES // max(1, old.dtype.itemsize * int(np.prod(old.shape[1:]))))
        for start in range(0, frames, size):
            new[start : min(start + size, frames)] = old[start : min(start + size, frames)]
    new.attrs.update(old.attrs)
    return new
