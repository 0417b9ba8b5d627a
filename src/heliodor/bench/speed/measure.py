"""One structure under one model: forces checked against the plain model in float64, then steps of dynamics timed.

The exact forces are made in another process than the one that is timed: its memory would hide that of the steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import ase
import numpy as np
import torch
from jaxtyping import Float

from heliodor.api import load
from heliodor.bench.speed.floor import around, count
from heliodor.bench.speed.memory import peak_megabytes
from heliodor.bench.speed.rates import synchronize
from heliodor.bench.speed.systems import Subject, subject
from heliodor.dynamics.ensemble import stepper
from heliodor.dynamics.settings import Settings
from heliodor.dynamics.setup import Job, begin, prepare
from heliodor.dynamics.state import MDState
from heliodor.errors import InputError, ModelError
from heliodor.potential import Potential, check_energy, evaluate_system
from heliodor.system import System

if TYPE_CHECKING:
    from heliodor.dynamics.captured.run import CapturedRun

ENSEMBLES = ("nvt", "nve", "npt")
AGREEING = 1e-3
"""Largest root mean square deviation of forces from the plain model in float64, over that of the forces."""

CHECKED = 3000
"""Atoms up to which the plain model is asked in float64; larger boxes of water are compared cell by cell."""

BLOCKS = 5
"""Parts the timed steps are divided into, to tell how much their times differ."""


@dataclass(frozen=True)
class Task:
    """What to measure.

    Attributes:
        model: name or file.
        system: one of `heliodor.bench.speed.systems.SYSTEMS`.
        atoms: the size aimed at.
        ensemble: nvt (Langevin), nve, npt (stochastic cell rescaling).
        steps, warmup: timed, and taken before.
        timestep: fs.
        skin: Å.
        threads: of torch on the CPU; None for its own choice.
        long_range_cutoff: as for `heliodor.load`.
    """

    model: str
    system: str
    atoms: int
    ensemble: str = "nvt"
    steps: int = 100
    warmup: int = 10
    timestep: float = 0.5
    skin: float = 1.0
    device: str = "auto"
    dtype: str = "float32"
    kernels: str = "auto"
    threads: int | None = None
    long_range_cutoff: float | str | None = "auto"

    def __post_init__(self) -> None:
        if self.ensemble not in ENSEMBLES:
            raise InputError(f"ensemble must be one of {', '.join(ENSEMBLES)}, not {self.ensemble!r}")
        if self.steps < 1 or self.warmup < 0:
            raise InputError(f"steps must be at least 1, not {self.steps}")


@dataclass(frozen=True)
class Timing:
    """What a structure takes.

    Attributes:
        model: the model's own name.
        system: what was timed.
        atoms: its size.
        kernel: what ran.
        device, threads, dtype: where and how.
        ensemble, timestep: the latter in fs.
        deviation: of forces from the plain model in float64, root mean square over that of the forces.
        checked_atoms: on how many atoms that was found.
        steps: timed.
        ms_per_step: mean over all of them, new neighbour lists included.
        spread: largest less smallest mean of `BLOCKS` parts, over the mean.
        rebuilds: new neighbour lists in these steps.
        ms_list: one such list.
        setup_s: from loading the model to the first timed step, compilation and the check included.
        memory_MB: at most held at once beyond what was held before the model was loaded.
        edges, pairs: neighbours of an atom within the network's and the long-range cutoff, both directions counted.
        operations, bytes: of an atom and step, by `heliodor.bench.speed.floor`; None where not counted.
    """

    model: str
    system: str
    atoms: int
    kernel: str
    device: str
    threads: int
    dtype: str
    ensemble: str
    timestep: float
    deviation: float
    checked_atoms: int
    steps: int
    ms_per_step: float
    spread: float
    rebuilds: int
    ms_list: float
    setup_s: float
    memory_MB: float
    edges: float
    pairs: float
    operations: float | None = None
    bytes: float | None = None
    parts: list[dict[str, Any]] = field(default_factory=list)

    @property
    def us_per_atom(self) -> float:
        """µs for each atom and step."""
        return 1e3 * self.ms_per_step / self.atoms

    @property
    def ns_per_day(self) -> float:
        """Simulated time in a day."""
        return 86400.0 * 1e-6 * self.timestep / (1e-3 * self.ms_per_step)


def exact_forces(task: Task) -> Float[np.ndarray, "N 3"]:
    """Forces of the plain model in float64 on what a structure is made of, eV/Å (see `deviation`).

    Raises:
        InputError, ModelError: what the model cannot take.
    """
    if task.threads is not None:
        torch.set_num_threads(task.threads)
    exact = _load(task, "float64", "reference")
    check_energy(exact)
    return forces(exact, checked(task).cell)


def measure(task: Task, exact: Float[np.ndarray, "M 3"], told: Callable[[str], None] = lambda stage: None) -> Timing:
    """Check, then time.

    Args:
        exact: from `exact_forces`.
        told: is called with what is being done.

    Raises:
        InputError, ModelError: what the model cannot take; forces that deviate by more than `AGREEING`.
    """
    if task.threads is not None:
        torch.set_num_threads(task.threads)
    whole = subject(task.system, task.atoms)
    before = peak_megabytes(torch.device("cpu"))
    told("loading")
    began = time.perf_counter()
    potential = _load(task, task.dtype, task.kernels)
    check_energy(potential)
    device = potential.device
    told("checking forces")
    small = checked(task)
    off = deviation(potential, small, exact)
    if not off <= AGREEING:
        raise ModelError(
            f"forces of the kernel {potential.kernels!r} deviate from the plain model in float64 by {off:.1e} of "
            f"their root mean square ({AGREEING:g} is allowed) and are not timed; take --kernels reference"
        )
    told("preparing")
    settings = Settings(
        ensemble=task.ensemble,
        timestep=task.timestep,
        temperature=300.0,
        steps=task.steps + task.warmup,
        skin=task.skin,
        seed=1,
    )
    if task.ensemble == "npt" and not whole.atoms.pbc.all():
        raise InputError(f"{task.system} has no box: constant pressure (npt) is for water")
    job = prepare(whole.atoms, potential, settings)
    state = begin(job)
    near = around(potential, state.system, state.neighbors)
    walk = _Walk(job, state)
    told("warming up")
    walk.to(task.warmup)
    setup = time.perf_counter() - began
    told("timing")
    lists, seconds = walk.lists, []
    blocks = min(BLOCKS, task.steps)
    for block in range(blocks):
        before_step = walk.state.step
        started = time.perf_counter()
        walk.to(task.warmup + task.steps * (block + 1) // blocks)
        seconds.append((time.perf_counter() - started, walk.state.step - before_step))
    rebuilds = walk.lists - lists
    state = walk.state
    memory = peak_megabytes(device) - (0.0 if device.type == "cuda" else before)
    started = time.perf_counter()
    potential.neighbors(state.system, task.skin)
    synchronize(device)
    ms_list = 1e3 * (time.perf_counter() - started)
    parts = count(potential, near)
    each = 1e3 * sum(total for total, _ in seconds) / task.steps
    means = [1e3 * total / steps for total, steps in seconds]
    return Timing(
        model=potential.name,
        system=task.system,
        atoms=len(whole.atoms),
        kernel=potential.kernels,
        device=device_name(device),
        threads=torch.get_num_threads(),
        dtype=task.dtype,
        ensemble=task.ensemble,
        timestep=task.timestep,
        deviation=off,
        checked_atoms=len(small.atoms),
        steps=task.steps,
        ms_per_step=each,
        spread=(max(means) - min(means)) / each,
        rebuilds=rebuilds,
        ms_list=ms_list,
        setup_s=setup,
        memory_MB=memory,
        edges=near.edges,
        pairs=near.pairs,
        operations=None if parts is None else sum(part.operations for part in parts),
        bytes=None if parts is None else sum(part.bytes for part in parts),
        parts=[] if parts is None else [asdict(part) for part in parts],
    )


def checked(task: Task) -> Subject:
    """The structure whose forces are checked: the one that is timed, or a smaller one of its kind that the plain model
    has memory for."""
    whole = subject(task.system, task.atoms)
    return whole if len(whole.cell) <= CHECKED else subject(task.system, CHECKED)


def deviation(potential: Potential, whole: Subject, exact: Float[np.ndarray, "M 3"]) -> float:
    """Root mean square deviation of forces from exact ones, over that of the forces.

    Every copy of a repeated cell has the forces of the cell with its images, so that the largest box is checked against
    the plain model on the smallest.

    Args:
        exact: forces on ``whole.cell``.
    """
    true = np.tile(exact, (whole.tiles, 1))
    return float(np.linalg.norm(forces(potential, whole.atoms) - true) / np.linalg.norm(true))


def forces(potential: Potential, atoms: ase.Atoms) -> Float[np.ndarray, "N 3"]:
    """eV/Å, in float64."""
    system = System.from_atoms(atoms, device=potential.device)
    potential.check(system)
    found = evaluate_system(potential, system, potential.neighbors(system)).forces
    assert found is not None
    return found.double().cpu().numpy()


def device_name(device: torch.device) -> str:
    """``"cpu"``, or the name of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


class _Walk:
    """Steps as `heliodor md` takes them: one by one, or on a GPU with kernels many at a launch."""

    def __init__(self, job: Job, state: MDState) -> None:
        self.state = state
        self.lists = 0
        self._advance = stepper(job.settings, job.potential, job.system, job.ramp)
        self._captured: CapturedRun | None = None
        if state.system.device.type == "cuda":
            from heliodor.dynamics.captured.choose import captured_run

            self._captured = captured_run(job.settings, job.potential, state, job.ramp)

    def to(self, last: int) -> None:
        """Go on to a step, and wait for the device; ``lists`` counts neighbour lists made on the way."""
        while self.state.step < last:
            if self._captured is None:
                before = self.state.neighbors
                self.state = self._advance(self.state)
                self.lists += self.state.neighbors is not before
            else:
                before_launches = self._captured.launches
                self.state = self._captured.advance(self.state, lambda step: last)
                self.lists += self._captured.launches - before_launches
        synchronize(self.state.system.device)


def _load(task: Task, dtype: str, kernels: str) -> Potential:
    return load(task.model, device=task.device, dtype=dtype, long_range_cutoff=task.long_range_cutoff, kernels=kernels)
