"""simulate and restart: from a structure and a potential to a trajectory, a log, a picture and a `Run`."""

from __future__ import annotations

import inspect
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

import ase
import torch

from heliodor.api import choose_device, load
from heliodor.dynamics.captured import captures_on
from heliodor.dynamics.captured.run import CapturedRun
from heliodor.dynamics.describe import described
from heliodor.dynamics.ensemble import couplings, rotates, stepper, words
from heliodor.dynamics.files.log import Log
from heliodor.dynamics.files.names import Files, named
from heliodor.dynamics.files.restart import load_state, save_state
from heliodor.dynamics.files.selection import select_atoms
from heliodor.dynamics.files.trajectory import kind_of, open_writer
from heliodor.dynamics.loop import Schedule, frozen, interruptible, run_loop
from heliodor.dynamics.memory import peak_memory
from heliodor.dynamics.plot import plot_log
from heliodor.dynamics.progress import ProgressLine, Report
from heliodor.dynamics.provenance import identity, record, write_record
from heliodor.dynamics.restraints.kinds import read_restraints
from heliodor.dynamics.restraints.restrained import Restrained
from heliodor.dynamics.result import Run, final_atoms
from heliodor.dynamics.settings import Settings, from_mapping
from heliodor.dynamics.setup import Job, begin, prepare
from heliodor.dynamics.state import MDState
from heliodor.dynamics.targets import read_temperature, read_walltime
from heliodor.dynamics.watch.bonds import broken_bonds, formed_bonds
from heliodor.dynamics.watch.watchdog import Watch
from heliodor.errors import InputError
from heliodor.potential import Potential
from heliodor.system import System
from heliodor.units import parse_time

Progress = bool | Callable[[Report], None]


def simulate(
    atoms: ase.Atoms | Sequence[ase.Atoms] | System,
    potential: Potential | str | Path,
    settings: Settings | None = None,
    *,
    output: str | Path | None = "run.h5",
    log: str | Path | None = "auto",
    plot: str | Path | None = "auto",
    overwrite: bool = False,
    progress: Progress = True,
    inputs: Mapping[str, Any] | None = None,
    tell: Callable[[Sequence[tuple[str, str]]], None] = lambda lines: None,
    **options: Any,
) -> Run:
    """Molecular dynamics of one structure, or of several at once that do not see each other.

    Beside the trajectory ``run.h5`` come a log ``run.csv``, a picture of it ``run.png``, ``run.restart``, from which
    `restart` goes on, ``run.json`` with everything needed to repeat the run, and, if something went wrong,
    ``run.trouble.xyz`` with the frames around it.

    Args:
        potential: from `heliodor.load`, or a model's name or file.
        settings: all choices of the simulation; ``options`` given by name win over them.
        output: trajectory, .h5/.h5md/.hdf5, .xyz/.extxyz or .dcd; None for no files but those named.
        log, plot: CSV and PNG under other names; None writes none.
        overwrite: replace files that exist.
        progress: show a line on stderr, or a function to call with each `Report`.
        inputs: kept in ``run.json``: files and their hashes.
        tell: called with lines (title, text) that say what is about to happen, when all has been checked, and what
            the relaxation came to.
        options: any field of `heliodor.dynamics.Settings`, such as ``ensemble="npt", pressure=1.0, time="1 ns"``.

    Raises:
        InputError: options or structure that cannot be used; files that exist.
        ModelError: the structure is outside the model.
        SimulationError: the dynamics left physics; files hold everything up to there.
        StorageError: a file cannot be written; what was written before is intact.
    """
    begun = time.perf_counter()
    settings = from_mapping(options, base=settings)
    if not isinstance(potential, Potential):
        potential = load(potential)
    if settings.seed is None:
        settings = settings.replace(seed=secrets.randbits(31))
    walltime = read_walltime(settings.walltime)
    job = prepare(atoms, potential, settings)
    if output is not None and kind_of(Path(output)) == "dcd" and job.system.n_structures > 1:
        raise InputError(f"{output}: a DCD file holds one structure; write several to a name in .h5")
    files = named(output, log=log, plot=plot, overwrite=overwrite)
    with ExitStack() as stack:
        stop = stack.enter_context(interruptible())
        stack.enter_context(frozen(job.potential))
        tell(described(job))
        state = begin(job, stop, tell)
        watch = _watch(job, state, files)
        if files.trouble is not None:
            # an older run's: frames are appended to it
            files.trouble.unlink(missing_ok=True)
        if files.record is not None:
            write_record(
                files.record,
                record(
                    job.potential,
                    settings.to_dict(),
                    dynamics=words(settings, job.ramp),
                    structures=_described(job),
                    inputs=dict(inputs or {}),
                ),
            )
        if walltime is not None:
            walltime -= time.perf_counter() - begun
        return _go(stack, job, state, files, watch, {}, stop, progress, walltime)


def restart(
    checkpoint: str | Path,
    potential: Potential | str | Path | None = None,
    *,
    extend: str | float | None = None,
    walltime: str | None = None,
    device: str = "auto",
    progress: Progress = True,
) -> Run:
    """Go on with a run where its checkpoint was written, with the same bits (on the same machine), into its files.

    Args:
        checkpoint: the ``.restart`` file beside the trajectory.
        potential: the model, if it was made in Python or its file has moved.
        extend: simulated time to add to what was planned, such as ``"10 ps"``.
        walltime: for this part of the run, such as ``"24h"``.
        device: as in `heliodor.load`.

    Raises:
        CheckpointError: the file is missing, damaged or of another version.
        InputError: nothing left to do, another model, files that are not those of the run.
    """
    path = Path(checkpoint)
    if not path.is_file():
        raise InputError(f"there is no restart file {path}")
    state, extra = load_state(path)
    settings = from_mapping(extra["settings"], where=f"{path}: ")
    potential = _same_model(extra["model"], potential, device, path)
    if potential.device != state.system.device:
        state, extra = load_state(path, potential.device)
    timestep = parse_time(settings.timestep)
    steps = int(extra["steps"])
    ramp = read_temperature(settings.temperature, steps, state.system)
    if extend is not None:
        if not ramp.constant:
            raise InputError("a run along a temperature ramp cannot be extended; start a new one from its last frame")
        steps += max(1, round(parse_time(extend) / timestep))
    if state.step >= steps:
        raise InputError(
            f"{path}: the run is finished ({state.time:g} fs); to go on with it give the time to add (--extend '10 ps')"
        )
    if settings.restraints:
        places = torch.tensor(extra["places"], dtype=torch.float64).reshape(-1, 6)
        potential = Restrained(potential, read_restraints(settings.restraints), state.system, places)
    job = Job(
        system=state.system,
        potential=potential,
        settings=settings,
        masses=state.masses,
        steps=steps,
        timestep=timestep,
        ramp=ramp,
        frozen=state.frozen,
        rigid=state.rigid,
    )
    files = Files.from_dict(extra["files"], path.absolute().parent)
    with ExitStack() as stack:
        stop = stack.enter_context(interruptible())
        stack.enter_context(frozen(job.potential))
        watch = _watch(job, state, files)
        watch.restore(extra["watch"], state)
        if files.record is not None:
            entry = record(job.potential, settings.to_dict(), step=state.step, last_step=steps)
            write_record(files.record, entry, go_on=True)
        launches = extra.get("captured")
        return _go(stack, job, state, files, watch, extra["marks"], stop, progress, read_walltime(walltime), launches)


def _go(
    stack: ExitStack,
    job: Job,
    state: MDState,
    files: Files,
    watch: Watch,
    marks: Mapping[str, Any],
    stop: Callable[[], bool],
    progress: Progress,
    walltime: float | None,
    launches: Mapping[str, Any] | None = None,
) -> Run:
    """Open the files, run the loop, draw the picture."""
    settings, first = job.settings, state.step
    captured = _captured(job, state)
    if captured is not None and launches:
        captured.restore(dict(launches))
    table = Log(files.log, marks.get("log"), timestep=job.timestep)
    stack.callback(table.close)
    writer = None
    if files.output is not None:
        writer = open_writer(
            files.output,
            velocities=settings.velocities,
            forces=settings.forces,
            overwrite=True,
            precision=settings.precision,
            atoms=select_atoms(settings.save_atoms, state.system),
            metadata=_metadata(job),
            topologies=job.topologies,
            resume=marks.get("trajectory"),
        )
        stack.enter_context(writer)

    model = identity(job.potential)

    def keep(state: MDState, marks: dict[str, Any]) -> None:
        assert files.checkpoint is not None
        extra = {
            "settings": settings.to_dict(),
            "steps": job.steps,
            "model": model,
            "files": files.to_dict(files.checkpoint.absolute().parent),
            "watch": watch.to_dict(),
            "marks": marks,
            "places": job.potential.places.tolist() if isinstance(job.potential, Restrained) else None,
            "captured": None if captured is None else captured.to_dict(),
        }
        save_state(files.checkpoint, state, extra)

    report = progress if callable(progress) else stack.enter_context(ProgressLine(progress)).show
    ended = run_loop(
        state,
        stepper(settings, job.potential, state.system, job.ramp),
        Schedule(
            last_step=job.steps,
            timestep=job.timestep,
            save_every=_steps(settings.save_every, job.timestep),
            log_every=_steps(settings.log_every, job.timestep),
            temperature=_hottest(job),
            checkpoint_steps=_steps(settings.checkpoint_every, job.timestep),
        ),
        writer=writer,
        log=table,
        report=report,
        stop=stop,
        watch=watch,
        checkpoint=keep if files.checkpoint is not None else None,
        walltime=walltime,
        launches=captured,
    )
    state = ended.state
    columns = table.arrays()
    if files.plot is not None:
        target = job.ramp.at(0) if couplings(settings)[0] is not None and job.ramp.constant else None
        counts = state.system.counts.cpu().numpy()
        plot_log(columns, files.plot, n_atoms=counts, target=target if isinstance(target, float) else None)
    assert settings.seed is not None
    return Run(
        frames=final_atoms(state),
        state=state,
        output=files.output,
        log_path=files.log,
        plot_path=files.plot,
        checkpoint=files.checkpoint,
        trouble=watch.path,
        log=columns,
        timestep=job.timestep,
        seed=settings.seed,
        seconds=ended.seconds,
        ended=ended.ended,
        broken_bonds=broken_bonds(state.system, watch.bonds),
        formed_bonds=formed_bonds(state.system, watch.bonds),
        events=watch.events,
        reason=watch.reason,
        timings=ended.timings,
        memory=peak_memory(state.system.device),
        first_step=first,
    )


def _captured(job: Job, state: MDState) -> CapturedRun | None:
    """Steps by launches of many, on a GPU with kernels for it."""
    if not captures_on(state.system.device.type):
        return None
    from heliodor.dynamics.captured.choose import captured_run

    return captured_run(job.settings, job.potential, state, job.ramp)


def _watch(job: Job, state: MDState, files: Files) -> Watch:
    return Watch(
        state,
        job.potential,
        temperature=_hottest(job),
        timestep=job.timestep,
        path=files.trouble,
        on_bond_change=job.settings.on_bond_change,
        on_doubt=job.settings.on_doubt,
        doubt_above=job.settings.doubt_above,
    )


def _hottest(job: Job) -> float:
    start = job.settings.start_temperature
    return max(job.ramp.highest, start if start is not None else 0.0)


def _steps(span: str | float, timestep: float) -> int:
    return max(1, round(parse_time(span) / timestep))


def _same_model(saved: dict[str, Any], given: Potential | str | Path | None, device: str, path: Path) -> Potential:
    """The model of the run, loaded as it was.

    Raises:
        InputError: it cannot be loaded, or is another one.
    """
    if not isinstance(given, Potential):
        source = given if given is not None else saved["source"]
        if source is None:
            raise InputError(f"{path} was made with a model from Python ({saved['name']}): hand it over as `potential`")
        cutoff = saved["long_range_cutoff"]
        given = load(
            source,
            device=device,
            dtype=saved["dtype"],
            long_range_cutoff="auto" if cutoff is None else cutoff,
            # those of one device are not those of another
            kernels=saved.get("kernels", "auto") if choose_device(device).type == "cpu" else "auto",
        )
        if given.has_long_range:
            given.long_range_cutoff = cutoff
    found = identity(given)
    for key, name in (("dtype", "precision"), ("long_range_cutoff", "long-range cutoff"), ("sha256", "model")):
        if found[key] != saved[key]:
            raise InputError(
                f"{path} belongs to a run with another {name} ({saved['name']}, {saved[key]}; now {found['name']}, "
                f"{found[key]}): go on with the model it was begun with"
            )
    return given


def _metadata(job: Job) -> dict[str, str | float | int]:
    settings = job.settings
    thermostat, barostat = couplings(settings)
    assert settings.seed is not None
    return {
        "model": job.potential.name,
        "ensemble": settings.ensemble,
        "thermostat": thermostat or "none",
        "barostat": barostat or "none",
        "temperature_K": job.ramp.words().removesuffix(" K"),
        "pressure_bar": str(settings.pressure) if barostat else "none",
        "rotation": "thermal" if rotates(settings) else "none",
        "timestep_fs": job.timestep,
        "seed": settings.seed,
    }


def _described(job: Job) -> list[dict[str, Any]]:
    """Composition, charge and spin of each structure; masses where they are not the standard ones."""
    found, start = [], 0
    for frame in job.system.to_atoms():
        masses = job.masses[start : start + len(frame)].tolist()
        start += len(frame)
        entry = {"formula": frame.get_chemical_formula(), "atoms": len(frame), **frame.info}
        entry["pbc"] = frame.pbc.tolist()
        if any(abs(a - b) > 1e-6 for a, b in zip(masses, frame.get_masses(), strict=True)):
            entry["masses_amu"] = masses
        found.append(entry)
    return found


def _with_all_options(function: Callable[..., Run]) -> None:
    """Let help() and completion show the settings by name."""
    own = inspect.signature(function)
    parameters = [p for p in own.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters += [inspect.Parameter(f.name, keyword, default=f.default, annotation=f.type) for f in fields(Settings)]
    function.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]


_with_all_options(simulate)
