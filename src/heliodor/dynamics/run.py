"""simulate: from a structure and a potential to a trajectory, a log, a picture and a `Run`."""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import ase
import ase.data
import numpy as np
import torch

from heliodor.api import load
from heliodor.dynamics.checks import bonded_pairs, broken_bonds
from heliodor.dynamics.integrators import nve_step
from heliodor.dynamics.langevin import langevin_step
from heliodor.dynamics.log import Log
from heliodor.dynamics.loop import Schedule, frozen, interruptible, run_loop
from heliodor.dynamics.minimize import minimize
from heliodor.dynamics.plot import plot_log
from heliodor.dynamics.progress import ProgressLine, Report
from heliodor.dynamics.rescaling import csvr_step
from heliodor.dynamics.result import Run, final_atoms
from heliodor.dynamics.state import SKIN, MDState, init
from heliodor.dynamics.trajectory import kind_of, open_writer, refuse_existing
from heliodor.errors import InputError
from heliodor.potential import ModelWarning, Potential, check_distances, warn_about
from heliodor.system import System
from heliodor.units import parse_time

FRICTION = 2.0
"""1/ps; slow enough to leave vibrations and most of diffusion alone, equilibrates in about a picosecond."""

TIME_CONSTANT = 100.0
"""fs, of stochastic velocity rescaling; Bussi et al. find averages indifferent to it."""

HYDROGEN_TIMESTEP = 1.0
"""fs; above it bonds to unconstrained hydrogen are not integrated well."""


def simulate(
    atoms: ase.Atoms | list[ase.Atoms] | System,
    potential: Potential | str | Path,
    *,
    ensemble: str = "nvt",
    thermostat: str = "langevin",
    temperature: float = 300.0,
    time: str | float | None = None,
    steps: int | None = None,
    timestep: str | float = 0.5,
    friction: float = FRICTION,
    time_constant: str | float = TIME_CONSTANT,
    start_temperature: float | None = None,
    seed: int | None = None,
    minimize_first: bool = False,
    output: str | Path | None = "run.h5",
    log: str | Path | None = "auto",
    plot: str | Path | None = "auto",
    save_every: str | float = 20.0,
    log_every: str | float = 10.0,
    velocities: bool = True,
    forces: bool = False,
    overwrite: bool = False,
    skin: float = SKIN,
    progress: bool | Callable[[Report], None] = True,
) -> Run:
    """Molecular dynamics of one structure, or of several at once that do not see each other.

    Args:
        potential: from `heliodor.load`, or a model's name or file.
        ensemble: ``"nvt"`` or ``"nve"``.
        thermostat: of NVT: ``"langevin"`` (BAOAB) or ``"csvr"`` (stochastic velocity rescaling).
        temperature: K; in NVE that of the start.
        time: such as ``"10 ps"`` (a number is fs); or `steps` instead.
        timestep: fs, or with a unit.
        friction: of Langevin, 1/ps.
        time_constant: of CSVR, fs or with a unit.
        start_temperature: K, of the first velocities if not `temperature`.
        seed: of all random numbers; drawn, and kept in the Run and the file, if not given.
        minimize_first: relax (fmax 0.05 eV/Å, at most 500 steps) before the start.
        output: trajectory, .h5/.h5md/.hdf5 or .xyz/.extxyz; None for none.
        log, plot: CSV and PNG; "auto" puts them beside the trajectory (run.csv, run.png), None writes none.
        save_every, log_every: fs, or with a unit; rounded to whole steps.
        velocities, forces: write them into the trajectory too.
        overwrite: replace files that exist.
        skin: Å, of the neighbour lists.
        progress: show a line on stderr, or a function to call with each `Report`.

    Raises:
        InputError: options or structure that cannot be used; files that exist.
        ModelError: the structure is outside the model.
        SimulationError: the dynamics left physics; files hold everything up to there.
    """
    if not isinstance(potential, Potential):
        potential = load(potential)
    dt = parse_time(timestep)
    if (time is None) == (steps is None):
        raise InputError("give the length of the simulation once: time='10 ps' or steps=20000")
    n_steps = max(1, round(parse_time(time) / dt)) if time is not None else int(steps or 0)
    if n_steps < 1:
        raise InputError(f"steps must be at least 1, not {steps}")
    seed = secrets.randbits(31) if seed is None else int(seed)
    start = temperature if start_temperature is None else start_temperature
    advance = _stepper(potential, ensemble, thermostat, dt, temperature, friction, parse_time(time_constant))
    schedule = Schedule(
        steps=n_steps,
        timestep=dt,
        save_every=max(1, round(parse_time(save_every) / dt)),
        log_every=max(1, round(parse_time(log_every) / dt)),
        temperature=max(temperature, start),
    )
    paths = _paths(output, log, plot, overwrite)
    system, masses = _read(atoms, potential)
    potential.check(system)
    check_distances(system, potential.neighbors(system))
    warn_about(potential, system)
    if dt > HYDROGEN_TIMESTEP and bool((masses < 1.5).any()):
        warnings.warn(
            f"a timestep of {dt:g} fs is long for free hydrogen atoms; 0.5 fs is safe", ModelWarning, stacklevel=2
        )

    table = Log(paths["log"])
    with ExitStack() as stack:
        stack.callback(table.close)
        stop = stack.enter_context(interruptible())
        stack.enter_context(frozen(potential))
        if minimize_first:
            relaxed = minimize(system, potential, fmax=0.05, max_steps=500, skin=skin, callback=lambda *_: stop())
            system = relaxed.system
        state = init(
            system,
            potential,
            temperature=start,
            seed=seed,
            skin=skin,
            masses=masses,
            rotating=ensemble == "nvt" and thermostat == "langevin",
        )
        bonds = bonded_pairs(state.system)
        writer = None
        if paths["output"] is not None:
            settings: dict[str, str | float | int] = {
                "model": potential.name,
                "ensemble": ensemble,
                "thermostat": thermostat if ensemble == "nvt" else "none",
                "temperature_K": temperature,
                "timestep_fs": dt,
                "seed": seed,
            }
            writer = open_writer(
                paths["output"], velocities=velocities, forces=forces, overwrite=overwrite, metadata=settings
            )
            stack.enter_context(writer)
        report = progress if callable(progress) else stack.enter_context(ProgressLine(progress)).show
        state, seconds = run_loop(state, advance, schedule, writer=writer, log=table, report=report, stop=stop)
        interrupted = stop()

    columns = table.arrays()
    if paths["plot"] is not None:
        plot_log(
            columns,
            paths["plot"],
            n_atoms=state.system.counts.cpu().numpy(),
            target=temperature if ensemble == "nvt" else None,
        )
    return Run(
        frames=final_atoms(state),
        state=state,
        output=paths["output"],
        log_path=paths["log"],
        plot_path=paths["plot"],
        log=columns,
        timestep=dt,
        seed=seed,
        seconds=seconds,
        interrupted=interrupted,
        broken_bonds=broken_bonds(state.system, bonds),
    )


def _stepper(
    potential: Potential,
    ensemble: str,
    thermostat: str,
    dt: float,
    temperature: float,
    friction: float,
    time_constant: float,
) -> Callable[[MDState], MDState]:
    if not 0.0 <= temperature < float("inf"):
        raise InputError(f"temperature must be a number of kelvins >= 0, not {temperature}")
    if ensemble == "nve":
        return partial(nve_step, potential=potential, dt=dt)
    if ensemble != "nvt":
        raise InputError(f"ensemble must be 'nvt' or 'nve', not {ensemble!r}")
    if thermostat == "langevin":
        if not 0.0 < friction < float("inf"):
            raise InputError(f"friction must be positive (1/ps), not {friction}")
        return partial(langevin_step, potential=potential, dt=dt, temperature=temperature, friction=friction)
    if thermostat == "csvr":
        return partial(csvr_step, potential=potential, dt=dt, temperature=temperature, time_constant=time_constant)
    raise InputError(f"thermostat must be 'langevin' or 'csvr', not {thermostat!r}")


def _paths(
    output: str | Path | None, log: str | Path | None, plot: str | Path | None, overwrite: bool
) -> dict[str, Path | None]:
    paths: dict[str, Path | None] = {"output": None if output is None else Path(output)}
    if paths["output"] is not None:
        kind_of(paths["output"])
    for name, wish, suffix in (("log", log, ".csv"), ("plot", plot, ".png")):
        if wish == "auto":
            paths[name] = None if paths["output"] is None else paths["output"].with_suffix(suffix)
        else:
            paths[name] = None if wish is None else Path(wish)
    for path in paths.values():
        if path is not None:
            refuse_existing(path, overwrite)
    return paths


def _read(atoms: ase.Atoms | list[ase.Atoms] | System, potential: Potential) -> tuple[System, torch.Tensor]:
    if isinstance(atoms, System):
        masses = torch.as_tensor(ase.data.atomic_masses)[atoms.numbers.cpu()]
        return atoms.to(device=potential.device, dtype=torch.float64), masses
    frames = [atoms] if isinstance(atoms, ase.Atoms) else atoms
    system = System.from_atoms(frames, device=potential.device)
    return system, torch.as_tensor(np.concatenate([frame.get_masses() for frame in frames]))
