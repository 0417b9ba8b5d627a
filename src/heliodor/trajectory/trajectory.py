"""Trajectory: what a file holds, and its frames in blocks of bounded memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import ase
import numpy as np
from jaxtyping import Bool, Float, Int

from heliodor.errors import InputError
from heliodor.topology import Topology, set_names
from heliodor.trajectory.block import Block

BLOCK_BYTES = 32 * 2**20
"""Memory of one block's positions in float64; what is computed of it takes a few times that."""

LEAST_ATOMS = 4
"""Of how many atoms the positions are reckoned for a block's size: cells and times take memory too."""

QUANTITIES = ("velocities", "charges", "hirshfeld_ratios", "energy")
"""What a trajectory may hold beside positions and cells."""


@runtime_checkable
class Source(Protocol):
    """A file's frames; implemented once per format."""

    def read(
        self, frames: Int[np.ndarray, "K"], atoms: Int[np.ndarray, "n"] | None, wanted: Collection[str]
    ) -> dict[str, np.ndarray]:
        """``positions`` [K, n, 3] Å, ``cell`` [K, 3, 3] Å if periodic, and of ``wanted`` what the file holds.

        ``frames`` are ascending. However few atoms are asked for, no more than `BLOCK_BYTES` is held of the others.
        """
        ...


def frames_per_block(n_atoms: int, memory: int = BLOCK_BYTES) -> int:
    """How many frames of so many atoms fit into so many bytes; at least one."""
    return max(1, memory // (24 * max(n_atoms, LEAST_ATOMS)))


@dataclass(frozen=True, eq=False)
class Trajectory:
    """T frames of one structure with N atoms.

    Attributes:
        path: of the file.
        topology: names, residues, bonds.
        masses: amu.
        pbc: periodicity along each lattice vector.
        time: fs, of each frame.
        holds: which of `QUANTITIES` can be read.
        source: reads frames.
        charge, spin: total charge in e and number of unpaired electrons; None where the file does not say.
        settings: what the file says of the run: model, ensemble, temperature_K, timestep_fs, seed ...
        record: ``run.json`` beside it, empty if there is none.
        log: columns of ``run.csv`` beside it [L] (of this structure, if the run had several), empty if there is none.
        origin: where names and bonds came from, in words.
        structure: which of the file's structures this is.
        given: what `open_trajectory` was asked with, so that another process can open the same.
        partial: whether only some of the simulated atoms are in the file; energies, charge and log are of all.
        continuous: whether heliodor wrote it, which folds no atom back into the cell: paths have no jumps.
        notes: what a reader should know of the file, in sentences: frames lost at its end, times made up.
    """

    path: Path
    topology: Topology
    masses: Float[np.ndarray, "N"]
    pbc: Bool[np.ndarray, "3"]
    time: Float[np.ndarray, "T"]
    holds: frozenset[str]
    source: Source
    charge: float | None = None
    spin: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    log: Mapping[str, np.ndarray] = field(default_factory=dict)
    origin: str = "bonds by distance in the first frame"
    structure: int = 0
    given: Mapping[str, Any] = field(default_factory=dict)
    partial: bool = False
    continuous: bool = False
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.time)

    @property
    def n_atoms(self) -> int:
        return len(self.topology)

    @property
    def periodic(self) -> bool:
        """Along all three lattice vectors."""
        return bool(self.pbc.all())

    @property
    def interval(self) -> float:
        """fs between frames.

        Raises:
            InputError: a single frame, or frames that are not evenly spaced (which time correlations need). A last
                frame off the rhythm, as a run that was stopped leaves it, does not count.
        """
        if len(self) < 2:
            raise InputError(f"{self.path} holds {len(self)} frame(s): anything along time needs two and more")
        steps = np.diff(self.time)
        even = steps if len(steps) == 1 else steps[:-1]
        # over many frames, as times in single precision make single steps uneven
        step = float(self.time[len(even)] - self.time[0]) / len(even)
        if not step > 0.0 or np.abs(even - step).max() > max(1e-3 * step, self._rounding):
            raise InputError(
                f"{self.path}: frames are not evenly spaced in time (between {steps.min():g} and {steps.max():g} fs): "
                "correlations along time need a trajectory without gaps"
            )
        return step

    @property
    def even(self) -> int:
        """Number of frames from the start that are `interval` apart: all, or all but the last."""
        steps, step = np.diff(self.time), self.interval
        last_fits = len(steps) < 2 or abs(steps[-1] - step) <= max(1e-3 * step, self._rounding)
        return len(self) if last_fits else len(self) - 1

    @property
    def _rounding(self) -> float:
        """fs by which a step may be off because the file holds times as ps in single precision; 0 if it does not."""
        single = (self.time / 1000.0).astype(np.float32)
        if not (1000.0 * single.astype(np.float64) == self.time).all():
            return 0.0
        return 2000.0 * float(np.spacing(np.abs(single).max()))

    @property
    def temperature(self) -> float | None:
        """K, that the run was to have, if it is one number that the file says."""
        try:
            return float(self.settings.get("temperature_K", ""))
        except (TypeError, ValueError):
            return None

    def blocks(
        self,
        start: int = 0,
        stop: int | None = None,
        stride: int = 1,
        *,
        atoms: Int[np.ndarray, "n"] | None = None,
        wanted: Collection[str] = (),
        memory: int = BLOCK_BYTES,
    ) -> Iterator[Block]:
        """Frames ``range(start, stop, stride)`` in order, as many at a time as fit.

        Args:
            atoms: ascending indices of those to read; None for all.
            wanted: of `QUANTITIES`.
            memory: bytes of a block's positions.

        Raises:
            InputError: a quantity the file does not hold; frames that cannot be read.
        """
        frames = np.arange(len(self))[start:stop:stride]
        size = frames_per_block(self.n_atoms if atoms is None else len(atoms), memory)
        for first in range(0, len(frames), size):
            yield self.read(frames[first : first + size], atoms=atoms, wanted=wanted)

    def read(
        self,
        frames: Int[np.ndarray, "K"],
        *,
        atoms: Int[np.ndarray, "n"] | None = None,
        wanted: Collection[str] = (),
    ) -> Block:
        """Some frames (ascending indices) as one block.

        Raises:
            InputError: as `blocks`.
        """
        missing = [name for name in wanted if name not in self.holds]
        if missing:
            raise InputError(f"{self.path} holds no {' or '.join(missing).replace('_', ' ')}")
        found = self.source.read(frames, atoms, wanted)
        if "cell" in found and not self.pbc.all():
            if self.pbc.any():
                found["cell"] = found["cell"] * self.pbc[:, None]
            else:
                del found["cell"]
        if not np.isfinite(found["positions"]).all():
            bad = frames[~np.isfinite(found["positions"]).all((1, 2))][0]
            raise InputError(f"{self.path}: frame {bad} holds positions that are no numbers")
        return Block(index=frames, time=self.time[frames], **found)

    def atoms(self, frame: int = 0) -> ase.Atoms:
        """One frame as `ase.Atoms`, with names in its arrays, charge and spin in ``info``."""
        index = range(len(self))[frame]
        # with all lattice vectors of the file, also those that lead nowhere
        found = self.source.read(np.array([index]), None, ())
        atoms = ase.Atoms(
            numbers=self.topology.numbers,
            positions=found["positions"][0],
            masses=self.masses,
            cell=found["cell"][0] if "cell" in found else None,
            pbc=self.pbc,
        )
        set_names(atoms, self.topology)
        atoms.info |= {key: value for key, value in (("charge", self.charge), ("spin", self.spin)) if value is not None}
        atoms.info["time_fs"] = float(self.time[index])
        return atoms
