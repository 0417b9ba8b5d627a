"""All distances of many structures in a file mapped into memory, which knows what of it is done.

Beside ``distances.npy`` (float32, [N, N], Å²) lies ``distances.json``: of which structures, and how many rows are
complete. A stage that was killed goes on with the next strip of rows.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from heliodor.errors import InputError
from heliodor.fragments.aligned import TILE, Points, Progress, fill_strip

FORMAT = "heliodor-distances-1"

SEVERAL = 8
"""Strips of `TILE` rows between two marks on the disk."""


def reserve(path: Path, size: int) -> None:
    """A file of that many bytes of zeros, whose room on the disk is taken: a full disk is met here, not in a crash.

    Raises:
        InputError: no room.
    """
    with path.open("wb") as file:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        except OSError as error:
            path.unlink(missing_ok=True)
            if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
                raise InputError(f"no room for {path}: it needs {size / 1e9:.1f} GB on that disk") from None
            raise


def distance_matrix(
    points: Points, file: str | Path | None = None, progress: Progress | None = None
) -> Float[np.ndarray, "N N"]:
    """Squared distances between all points, float32; in memory, or in a file that a later call goes on with.

    Args:
        file: ``.npy``, made if it is not there. What it holds of other structures is replaced.
        progress: called after each strip of rows.

    Returns:
        An array; a read-only memory map of the file if one was given.

    Raises:
        InputError: no room on the disk, a file that is something else.
    """
    told = progress or (lambda *_: None)
    n = len(points)
    if file is None:
        out = np.empty((n, n), np.float32)
        for first in range(0, n, TILE):
            fill_strip(points, out, first, min(first + TILE, n))
            told("distances", min(first + TILE, n), n)
        return out
    path = Path(file)
    if path.suffix != ".npy":
        raise InputError(f"distances are kept in a NumPy file: end the name {path} in .npy")
    key = hashlib.sha256(points.fingerprint()).hexdigest()
    done = _done(path, key, n)
    if done == 0:
        _make(path, key, n)
    matrix = np.load(path, mmap_mode="r+")
    told("distances", done, n)
    for first in range(done, n, TILE):
        last = min(first + TILE, n)
        fill_strip(points, matrix, first, last)
        if last == n or (first // TILE) % SEVERAL == SEVERAL - 1:
            matrix.flush()
            _mark(path, key, n, last)
        told("distances", last, n)
    del matrix
    return np.load(path, mmap_mode="r")


def _done(path: Path, key: str, n: int) -> int:
    """Rows that are complete of these structures."""
    mark = path.with_suffix(".json")
    if not path.exists():
        return 0
    try:
        found: Any = json.loads(mark.read_text(encoding="utf-8"))
        ours = found["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise InputError(f"{path} is there and is no file of distances of heliodor: choose another name or remove it")
    if found.get("sha256") != key or found.get("structures") != n:
        return 0
    try:
        whole = np.load(path, mmap_mode="r").shape == (n, n)
    except (OSError, ValueError):
        whole = False
    return int(found.get("rows_done", 0)) if whole else 0


def _make(path: Path, key: str, n: int) -> None:
    # marked first: a file without its mark would be taken for somebody else's
    _mark(path, key, n, 0)
    path.unlink(missing_ok=True)
    part = path.with_name(f".{path.name}.part")
    header = {"descr": "<f4", "fortran_order": False, "shape": (n, n)}
    with part.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        begin = file.tell()
    head = part.read_bytes()
    reserve(part, begin + 4 * n * n)
    with part.open("r+b") as file:
        file.write(head)
    part.replace(path)


def _mark(path: Path, key: str, n: int, done: int) -> None:
    mark = path.with_suffix(".json")
    part = mark.with_name(f".{mark.name}.part")
    words = {"format": FORMAT, "structures": n, "rows_done": done, "sha256": key, "unit": "Å²"}
    with part.open("w", encoding="utf-8") as file:
        json.dump(words, file, indent=1, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    part.replace(mark)
