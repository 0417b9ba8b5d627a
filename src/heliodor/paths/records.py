"""Records: frames of one shape, one after the other in a file, that a kill cannot spoil."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from heliodor.errors import SimulationError


class Records:
    """Little-endian numbers without a header; whole records are found by their length.

    Args:
        path: the file.
        shape: of one record.
        dtype: numpy's name.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: str = "<f8") -> None:
        self.path, self.shape, self.dtype = path, shape, np.dtype(dtype)
        self.size = int(np.prod(shape)) * self.dtype.itemsize

    def cut(self, count: int) -> None:
        """Forget all records after the first ``count``, which a run that goes on will write again.

        Raises:
            SimulationError: there are fewer.
        """
        with self.path.open("ab") as file:
            if file.tell() < count * self.size:
                raise SimulationError(f"{self.path} is shorter than the saved state says: start the run anew")
            file.truncate(count * self.size)

    def append(self, values: np.ndarray) -> None:
        """One record, or several."""
        with self.path.open("ab") as file:
            file.write(np.ascontiguousarray(values, dtype=self.dtype).tobytes())

    def sync(self) -> None:
        """On the disk when this returns."""
        with self.path.open("ab") as file:
            os.fsync(file.fileno())

    def read(self, count: int) -> np.ndarray:
        """The first ``count`` records, as float64."""
        if count == 0 or not self.path.is_file():
            return np.zeros((0, *self.shape))
        found = np.fromfile(self.path, dtype=self.dtype, count=count * int(np.prod(self.shape)))
        return found.reshape(-1, *self.shape).astype(np.float64)
