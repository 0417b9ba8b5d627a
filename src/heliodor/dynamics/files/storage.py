"""Writing that fails cleanly: whole pieces or nothing, space taken before it is needed, one error in words."""

from __future__ import annotations

import errno
import os
import re
import sys
from contextlib import suppress
from pathlib import Path

from heliodor.errors import InputError, SimulationError

AHEAD = 2**20
"""Bytes; space is taken in pieces of this, so that it costs a system call only now and then."""


class StorageError(SimulationError):
    """A file of a running simulation cannot be written: disk full, folder gone, no permission."""


def cannot_write(path: Path, error: Exception) -> StorageError:
    """The error to raise when writing ``path`` failed with ``error``."""
    code = error.errno if isinstance(error, OSError) else None
    if code is None and (named := re.search(r"errno = (\d+)", str(error))):
        # HDF5 hides the system's error in its message
        code = int(named.group(1))
    cause = os.strerror(code).lower() if code else str(error).splitlines()[0]
    return StorageError(
        f"cannot write {path}: {cause}; what was written before is intact: make room or set the folder right, then "
        "go on from the run's .restart file, if it has come to one, or begin anew"
    )


def write_durably(path: Path, content: bytes) -> None:
    """Put a whole file in place, surviving power cuts: the old content stays until the new one is on the disk.

    Raises:
        StorageError: it cannot be written; the old file is as it was.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        put_in_place(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise cannot_write(path, error) from error


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename a finished file over another of the same folder, and make the folder remember."""
    temporary.replace(path)
    # some network file systems cannot sync a folder; there the rename is as safe as they make it
    with suppress(OSError):
        folder = os.open(path.absolute().parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def reserve(descriptor: int, start: int, end: int) -> None:
    """Take the space between two offsets of an open file (its size grows), where the system can.

    Raises:
        OSError: there is no room.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(descriptor, start, end - start)
    except OSError as error:
        # anything else means that this file system cannot reserve
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise


class AppendFile:
    """A file that grows by whole pieces: after a failed write it ends where it ended before.

    Args:
        keep: None for a new file (an old one is emptied); else bytes of an existing file to keep, the rest is cut.

    Raises:
        StorageError: it cannot be opened or written.
        InputError: the file to go on with is missing or shorter than ``keep``.
    """

    def __init__(self, path: Path, keep: int | None = None) -> None:
        self.path = path
        self.size = keep or 0
        if keep is not None:
            check_length(path, keep)
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if keep is None else 0)
        self._descriptor: int | None = None
        try:
            self._descriptor = os.open(path, flags, 0o666)
            # before anything is cut: it may be another process's
            claim(self._descriptor, path)
            os.ftruncate(self._descriptor, self.size)
        except OSError as error:
            self.close()
            raise cannot_write(path, error) from error
        except InputError:
            self.close()
            raise

    def append(self, data: bytes) -> None:
        self._put(data, self.size)
        self.size += len(data)

    def patch(self, offset: int, data: bytes) -> None:
        """Replace bytes that are there already."""
        self._put(data, offset)

    def sync(self) -> None:
        """Wait until the disk has it all; notice if the file was taken away from under its name."""
        assert self._descriptor is not None
        try:
            os.fsync(self._descriptor)
            check_still_there(self.path, self._descriptor)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _put(self, data: bytes, offset: int) -> None:
        assert self._descriptor is not None
        done = 0
        try:
            while done < len(data):
                done += os.pwrite(self._descriptor, data[done:], offset + done)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self.size)
            raise cannot_write(self.path, error) from error


def claim(descriptor: int, path: Path) -> None:
    """Take an open file for this process alone, among those that ask; readers do not, and are not hindered.

    Raises:
        InputError: another process writes it.
    """
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(
            f"{path} is being written by another process: has this run been started or restarted twice?"
        ) from None
    except OSError:
        # a file system without locks
        return


def check_length(path: Path, needed: int) -> None:
    """Raise InputError if a file that a checkpoint goes on with is missing or has lost its end."""
    if not path.is_file():
        raise InputError(f"the checkpoint goes on with {path}, which is not there; put it back, or start a new run")
    if path.stat().st_size < needed:
        raise not_the_one(path, f"it has {path.stat().st_size} bytes where {needed} were written")


def not_the_one(path: Path, why: str) -> InputError:
    """The error for a file that is not the one a checkpoint goes on with."""
    return InputError(
        f"{path} is not the file the checkpoint belongs to: {why}; put the right file back, or restart into new files"
    )


def check_still_there(path: Path, descriptor: int) -> None:
    """Raise OSError if the name no longer leads to the open file: what is written would be lost."""
    found, ours = os.stat(path), os.fstat(descriptor)
    if (found.st_dev, found.st_ino) != (ours.st_dev, ours.st_ino):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
