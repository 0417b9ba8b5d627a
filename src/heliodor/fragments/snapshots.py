"""Structures to cut fragments from: classical dynamics run here with OpenMM, or frames of any trajectory."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
from jaxtyping import Float

from heliodor.dynamics.files.storage import AppendFile, write_durably
from heliodor.dynamics.files.trajectory import refuse_existing
from heliodor.errors import InputError, SimulationError
from heliodor.prepare.prepared import NANOMETRE, Prepared, Progress, nanometres, openmm, to_openmm
from heliodor.prepare.relax import DEFAULT_FORCE_FIELD, SMALL, force_field, parametrised, relaxed
from heliodor.system import read_charge, read_spin
from heliodor.topology import Topology, set_names, topology_of
from heliodor.units import format_time, parse_time

FRICTION = 1.0
"""1/ps, of the Langevin thermostat."""

PIECE = 250
"""Steps between two reports of progress."""

FORMAT = "heliodor-snapshots-1"


@dataclass(frozen=True, eq=False)
class _State:
    """Where a run stands: positions (nm), velocities (nm/ps), box (nm; zeros without one), minimised start (nm)."""

    positions: Float[np.ndarray, "N 3"]
    velocities: Float[np.ndarray, "N 3"]
    box: Float[np.ndarray, "3 3"]
    start: Float[np.ndarray, "N 3"]
    leg: int
    frames: int


@dataclass(frozen=True)
class _Plan:
    """Settings of a run; a run is only continued with the same."""

    temperatures: tuple[float, ...]
    step: float
    settle: int
    every: int
    frames: int
    pressure: float | None
    rigid: bool
    force_field: str
    seed: int
    system: str


def snapshots(
    prepared: Prepared | ase.Atoms,
    output: str | Path,
    *,
    temperatures: float | Sequence[float] = 300.0,
    time: str | float = "100 ps",
    every: str | float = "1 ps",
    settle: str | float = "10 ps",
    pressure: float | None = None,
    step: str | float = "1 fs",
    rigid: bool = False,
    field: str = DEFAULT_FORCE_FIELD,
    name: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Run classical dynamics and write a structure now and then: minimised, then Langevin dynamics at each temperature.

    A run that was stopped, by whatever means, goes on from its last written structure when called again in the same
    way (``<output>.restart`` keeps it exactly), and on the same machine gives the structures it would have given
    anyway: each interval begins with random numbers of its own. A complete run is left as it is.

    Args:
        prepared: from `heliodor.prepare`, or a structure with all hydrogens whose residues are named or can be
            recognised; in a periodic box with PME, without one in gas phase.
        output: extended xyz; each structure has charge, spin, temperature_K, time_fs and a group of its own in
            ``info``, and the names of its atoms.
        temperatures: K, one after the other, each from the minimised structure.
        time: how long at each temperature; fs, or text such as "1 ns".
        every: between structures.
        settle: dynamics at each temperature before the first interval; nothing of it is written.
        pressure: bar, of a Monte Carlo barostat; None: fixed volume.
        step: time step.
        rigid: keep bonds to hydrogen, and water, at fixed lengths. Without it they vibrate, as structures to learn
            from should.
        field: one of `heliodor.prepare.relax.FORCE_FIELDS`.
        name: of the system, for groups; default: that of the file.
        seed: of velocities, thermostat and barostat.
        overwrite: begin anew where there is a file already.
        progress: told what is being done and which part of it is done.

    Returns:
        The path of the output.

    Raises:
        InputError: lengths, temperatures or a pressure that mean nothing; residues the force field does not know; a
            file that is there already and is not of this very run.
        SimulationError: the dynamics left the range of numbers.
        MissingExtraError: OpenMM is not installed.
    """
    path = Path(output)
    if path.suffix.lower() not in (".xyz", ".extxyz"):
        raise InputError(f"snapshots are written as extended xyz: {path.name} must end in .xyz or .extxyz")
    whole = prepared if isinstance(prepared, Prepared) else _named(prepared)
    plan = _plan(whole, temperatures, time, every, settle, pressure, step, rigid, field, seed)
    restart = path.with_name(path.name + ".restart")
    going_on = path.exists() and restart.exists() and not overwrite
    if not going_on:
        refuse_existing(path, overwrite)
    topology, positions = to_openmm(whole)
    forces = force_field(field)
    if going_on:
        state, size = _load(restart, path, plan)
        if state.leg == len(plan.temperatures):
            return path
    else:
        start = relaxed(topology, positions, forces, progress=progress).positions
        vectors = topology.getPeriodicBoxVectors()
        box = np.zeros((3, 3)) if vectors is None else nanometres(vectors)
        state, size = _State(start, np.zeros_like(start), box, start, 0, 0), None
    system = parametrised(topology, forces, rigid=rigid)
    file = AppendFile(path, keep=size)
    try:
        _save(restart, plan, state, file.size)
        for following in _run(system, plan, state, progress):
            if following.frames > state.frames:
                frame = _frame(whole, following, plan, path.stem if name is None else name)
                file.append(_text(frame))
                file.sync()
            _save(restart, plan, following, file.size)
            state = following
    finally:
        file.close()
    return path


def frames_of(
    path: str | Path,
    topology: str | Path | ase.Atoms | None = None,
    *,
    stride: int = 1,
    count: int | None = None,
    seed: int = 0,
) -> Iterator[ase.Atoms]:
    """Structures of any trajectory that `heliodor.trajectory.open_trajectory` reads, each a group of its own.

    Args:
        topology: as `open_trajectory`.
        stride: every so many frames.
        count: so many of those, drawn at random, in the order of the file.
        seed: of the draw.

    Raises:
        InputError: as `open_trajectory`; a stride or count below one.
    """
    from heliodor.trajectory.open import open_trajectory

    if stride < 1 or (count is not None and count < 1):
        raise InputError("a stride, or a count of frames, must be one or more")
    trajectory = open_trajectory(path, topology)
    chosen = np.arange(len(trajectory))[::stride]
    if count is not None and count < len(chosen):
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, count, replace=False))
    for frame in chosen.tolist():
        atoms = trajectory.atoms(frame)
        atoms.info["group"] = f"{Path(path).stem} frame {frame}"
        yield atoms


def _named(atoms: ase.Atoms) -> Prepared:
    topology: Topology | None = topology_of(atoms)
    assert topology is not None
    if not topology.named:
        from heliodor.trajectory.perceive import recognised

        topology = recognised(topology) or topology
    charge = read_charge(atoms)
    made = ase.Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    made.info["spin"] = read_spin(atoms)
    return Prepared(made, topology, round(charge))


def _plan(
    prepared: Prepared,
    temperatures: float | Sequence[float],
    time: str | float,
    every: str | float,
    settle: str | float,
    pressure: float | None,
    step: str | float,
    rigid: bool,
    field: str,
    seed: int,
) -> _Plan:
    wanted = tuple(float(t) for t in np.atleast_1d(np.asarray(temperatures, dtype=np.float64)))
    if not wanted or not all(0.0 < t < float("inf") for t in wanted):
        raise InputError(f"temperatures must be above zero (K), not {temperatures}")
    if pressure is not None and not prepared.atoms.pbc.all():
        raise InputError("a pressure needs a periodic box: leave it out in gas phase, or solvate the system")
    if prepared.atoms.pbc.any() and not prepared.atoms.pbc.all():
        raise InputError("classical dynamics here needs a box that is periodic along all three directions, or none")
    if pressure is not None and not np.isfinite(pressure):
        raise InputError(f"the pressure must be a number of bar, not {pressure}")
    one, between, total = parse_time(step), parse_time(every), parse_time(time)
    if not one <= between <= total:
        raise InputError(
            f"a time step of {format_time(one)}, structures every {format_time(between)} and {format_time(total)} in "
            "all do not fit together: each must be longer than the one before"
        )
    if seed < 0:
        raise InputError(f"the seed must be a whole number from 0, not {seed}")
    digest = hashlib.sha256()
    for part in (prepared.atoms.numbers, prepared.atoms.positions, np.asarray(prepared.atoms.cell)):
        digest.update(np.ascontiguousarray(part).tobytes())
    return _Plan(
        temperatures=wanted,
        step=one,
        settle=round(parse_time(settle) / one),
        every=round(between / one),
        frames=int(total / between + 1e-6),
        pressure=pressure,
        rigid=rigid,
        force_field=field,
        seed=seed,
        system=digest.hexdigest(),
    )


def _run(system: Any, plan: _Plan, state: _State, progress: Progress | None) -> Iterator[_State]:
    """The state after each interval; frames count from 0 in each leg, a leg's first interval is for settling."""
    total = len(plan.temperatures) * plan.frames
    while state.leg < len(plan.temperatures):
        temperature = plan.temperatures[state.leg]
        told = f"dynamics at {temperature:g} K"
        if state.frames == 0:
            fresh = replace(state, positions=state.start)
            state = _advance(system, plan, fresh, plan.settle, 0, progress, f"settling at {temperature:g} K")
        while state.frames < plan.frames:
            done = state.leg * plan.frames + state.frames
            state = _advance(system, plan, state, plan.every, state.frames + 1, progress, told, done, total)
            state = replace(state, frames=state.frames + 1)
            yield state
        state = replace(state, leg=state.leg + 1, frames=0)
        yield state


def _advance(
    system: Any,
    plan: _Plan,
    state: _State,
    steps: int,
    interval: int,
    progress: Progress | None,
    told: str,
    done: int = 0,
    total: int = 1,
) -> _State:
    """Some steps from a state, with random numbers of the interval's own: begun anew, it ends the same."""
    mm = openmm()
    unit = mm.unit
    temperature = plan.temperatures[state.leg]
    seed = _seed(plan.seed, state.leg, interval)
    here = mm.XmlSerializer.clone(system)
    if plan.pressure is not None:
        barostat = mm.MonteCarloBarostat(plan.pressure * unit.bar, temperature * unit.kelvin, 25)
        barostat.setRandomNumberSeed(seed)
        here.addForce(barostat)
    if state.box.any():
        here.setDefaultPeriodicBoxVectors(*(mm.Vec3(*row) for row in state.box.tolist()))
    integrator = mm.LangevinMiddleIntegrator(temperature, FRICTION / unit.picosecond, plan.step * unit.femtosecond)
    integrator.setRandomNumberSeed(seed)
    context = _context(here, integrator)
    context.setPositions(state.positions)
    if interval == 0:
        context.setVelocitiesToTemperature(temperature, seed)
    else:
        context.setVelocities(state.velocities)
    for first in range(0, steps, PIECE):
        try:
            integrator.step(min(PIECE, steps - first))
        except mm.OpenMMException as error:
            raise SimulationError(
                f"the {told} failed: {error}; a clash is left, or the time step is too long"
            ) from error
        if progress is not None:
            progress(told, (done + min(1.0, (first + PIECE) / steps)) / total)
    found = context.getState(getPositions=True, getVelocities=True)
    positions = np.array(found.getPositions(asNumpy=True).value_in_unit(unit.nanometer), dtype=np.float64)
    velocities = np.array(
        found.getVelocities(asNumpy=True).value_in_unit(unit.nanometer / unit.picosecond), dtype=np.float64
    )
    if not (np.isfinite(positions).all() and np.isfinite(velocities).all()):
        raise SimulationError(f"the {told} left the range of numbers: a clash is left, or the time step is too long")
    box = nanometres(found.getPeriodicBoxVectors()) if state.box.any() else state.box
    return replace(state, positions=positions, velocities=velocities, box=box)


def _context(system: Any, integrator: Any) -> Any:
    """On the fastest platform there is, with forces added up in one order."""
    mm = openmm()
    platforms = [mm.Platform.getPlatform(k) for k in range(mm.Platform.getNumPlatforms())]
    fastest = max(platforms, key=lambda platform: float(platform.getSpeed()))
    properties = {}
    if "DeterministicForces" in fastest.getPropertyNames():
        properties["DeterministicForces"] = "true"
    if fastest.getName() == "CPU" and system.getNumParticles() < SMALL:
        properties["Threads"] = "1"
    return mm.Context(system, integrator, fastest, properties)


def _seed(*parts: int) -> int:
    """From 1 to 2^31 - 1: OpenMM takes 0 for any."""
    return 1 + int(np.random.SeedSequence(parts).generate_state(1, np.uint32)[0]) % (2**31 - 2)


def _frame(prepared: Prepared, state: _State, plan: _Plan, name: str) -> ase.Atoms:
    temperature = plan.temperatures[state.leg]
    atoms = ase.Atoms(numbers=prepared.atoms.numbers, positions=state.positions * NANOMETRE)
    if state.box.any():
        atoms.set_cell(state.box * NANOMETRE)
        atoms.pbc = True
    set_names(atoms, prepared.topology)
    atoms.info |= {
        "charge": prepared.charge,
        "spin": int(prepared.atoms.info.get("spin", 0)),
        "temperature_K": temperature,
        "time_fs": (state.leg * plan.frames + state.frames) * plan.every * plan.step,
        "group": f"{name} {temperature:g} K frame {state.frames}",
    }
    return atoms


def _text(atoms: ase.Atoms) -> bytes:
    out = io.StringIO()
    ase.io.write(out, atoms, format="extxyz")
    return out.getvalue().encode()


def _save(path: Path, plan: _Plan, state: _State, size: int) -> None:
    out = io.BytesIO()
    np.savez(
        out,
        format=np.array(FORMAT),
        plan=np.array(json.dumps(vars(plan))),
        positions=state.positions,
        velocities=state.velocities,
        box=state.box,
        start=state.start,
        place=np.array([state.leg, state.frames, size], dtype=np.int64),
    )
    write_durably(path, out.getvalue())


def _load(restart: Path, path: Path, plan: _Plan) -> tuple[_State, int]:
    try:
        with np.load(restart, allow_pickle=False) as file:
            held = {key: file[key] for key in file.files}
        if str(held["format"]) != FORMAT:
            raise InputError(f"{restart} is of another version: write to another file, or allow overwriting")
        before = json.loads(str(held["plan"]))
        leg, frames, size = held["place"].tolist()
        state = _State(held["positions"], held["velocities"], held["box"], held["start"], leg, frames)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{restart} cannot be read ({error}): write to another file, or allow overwriting") from error
    now = json.loads(json.dumps(vars(plan)))
    other = [key.replace("_", " ") for key in now if now[key] != before.get(key)]
    if other:
        raise InputError(
            f"{path} is of a run with another {', '.join(other)}: write to another file, or allow overwriting"
        )
    return state, size
