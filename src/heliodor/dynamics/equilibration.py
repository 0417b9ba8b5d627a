"""Running a protocol: stage after stage into one folder, going on where it was stopped, judging what has settled."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np

from heliodor.analysis.settling import Settling, settled
from heliodor.dynamics.files.restart import load_state
from heliodor.dynamics.files.storage import write_durably
from heliodor.dynamics.progress import Report
from heliodor.dynamics.protocol import Relaxation, Stage
from heliodor.dynamics.provenance import identity
from heliodor.dynamics.relax.minimize import minimize
from heliodor.dynamics.result import Run
from heliodor.dynamics.run import restart, simulate
from heliodor.errors import InputError, SimulationError
from heliodor.potential import Potential
from heliodor.system import System

UNITS = {"density_g_cm3": "g/cm³", "potential_eV": "eV", "volume_A3": "Å³", "temperature_K": "K", "pressure_bar": "bar"}

RECORD = "protocol.json"
"""What has been done, in the folder: one entry per stage with its settings and results."""


@dataclass(frozen=True)
class Finished:
    """A stage that is done.

    Attributes:
        stage: what it was.
        atoms: its final structure, with velocities.
        settlings: of the columns asked for.
        words: one line for people.
        skipped: whether it had been done before.
        complete: False if it was interrupted.
    """

    stage: Stage
    atoms: ase.Atoms
    settlings: tuple[Settling, ...]
    words: str
    skipped: bool
    complete: bool


def run_protocol(
    atoms: ase.Atoms,
    potential: Potential,
    stages: Sequence[Stage],
    folder: str | Path,
    *,
    progress: bool | Callable[[Report], None] = True,
    tell: Callable[[Finished], None] = lambda finished: None,
    walltime: str | None = None,
) -> list[Finished]:
    """Run the stages; those that the folder holds already are skipped, one that was cut off is gone on with.

    Files are ``01-heat.h5`` and so on, with everything beside them that `simulate` writes, and ``01-heat.xyz``, the
    final structure. Positions, cell and velocities go from stage to stage.

    Args:
        tell: called with each stage when it is done.
        walltime: of each stage, such as ``"12h"``.

    Raises:
        InputError: the folder holds another protocol, model or structure.
        SimulationError: a stage failed; the folder holds everything up to there.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    entries = _entries(folder, atoms, potential, stages)
    done: list[Finished] = []
    for number, stage in enumerate(stages, 1):
        stem = folder / f"{number:02d}-{stage.name}"
        if number <= len(entries["stages"]):
            finished = _read_back(stage, stem, entries["stages"][number - 1])
        else:
            if stage.relaxation is not None:
                finished = _relaxed(stage, stage.relaxation, atoms, potential, stem)
            else:
                finished = _moved(stage, atoms, potential, stem, number, progress, walltime)
            if finished.complete:
                entries["stages"].append(_entry(finished))
                write_durably(folder / RECORD, (json.dumps(entries, indent=2, ensure_ascii=False) + "\n").encode())
        done.append(finished)
        tell(finished)
        if not finished.complete:
            break
        atoms = finished.atoms
    return done


def _relaxed(stage: Stage, wishes: Relaxation, atoms: ase.Atoms, potential: Potential, stem: Path) -> Finished:
    system = System.from_atoms(atoms, device=potential.device)
    result = minimize(
        system, potential, fmax=wishes.fmax, max_steps=wishes.steps, cell=wishes.cell, pressure=wishes.pressure
    )
    converged = bool(result.converged[0])
    fallen = float(result.energy[0] - result.energies[0, 0])
    words = (
        f"largest force {float(result.fmax[0]):.3g} eV/Å after {result.steps} steps "
        f"({'converged' if converged else 'not converged'}), energy {fallen:+.3f} eV"
    )
    if wishes.required and not converged:
        raise SimulationError(f"stage {stage.name}: {words}; allow more steps or look at the structure")
    final = atoms.copy()
    final.positions = result.system.positions.cpu().numpy()
    final.cell = result.system.cell[0].cpu().numpy()
    final.set_velocities(np.zeros((len(final), 3)))
    _write(final, stem)
    return Finished(stage, final, (), words, False, True)


def _moved(
    stage: Stage,
    atoms: ase.Atoms,
    potential: Potential,
    stem: Path,
    number: int,
    progress: bool | Callable[[Report], None],
    walltime: str | None,
) -> Finished:
    assert stage.settings is not None
    output = stem.with_suffix(".h5")
    checkpoint = stem.with_suffix(".restart")
    begun = checkpoint.is_file()
    if begun:
        try:
            run = restart(checkpoint, potential, walltime=walltime, progress=progress)
        except InputError:
            # killed between the last step and the note that the stage is done
            state, extra = load_state(checkpoint)
            if state.step < int(extra["steps"]):
                raise
            begun = False
    if not begun:
        settings = stage.settings
        if settings.seed is None:
            settings = settings.replace(seed=number)
        moving = bool(np.abs(atoms.get_velocities()).any())
        if moving:
            settings = settings.replace(keep_velocities=True)
        run = simulate(
            atoms, potential, settings.replace(walltime=walltime), output=output, overwrite=True, progress=progress
        )
    _write(run.atoms, stem)
    return Finished(stage, run.atoms, judged(run, stage.settle), _words(run), False, run.ended == "finished")


def judged(run: Run, columns: Sequence[str]) -> tuple[Settling, ...]:
    """Whether columns of the log have settled.

    Raises:
        InputError: a column that the log does not have.
    """
    found = []
    for name in columns:
        if name not in run.log:
            raise InputError(f"settle: the log has no column {name!r}; it has {', '.join(run.log)}")
        values = run.log[name]
        if values.ndim > 1:
            values = values.mean(axis=1)
        unit, short = UNITS.get(name, name.rpartition("_")[2]), name.split("_")[0]
        try:
            found.append(settled(run.log["time_fs"] / 1e3, values, short, unit))
        except InputError as error:
            # a stage too short to judge is a stage all the same
            mean = float(values.mean())
            unknown = float("nan")
            words = f"{short} {mean:.5g} {unit}, not judged: {error}"
            found.append(Settling(short, unit, mean, unknown, unknown, 0.0, 0.0, unknown, unknown, False, words))
    return tuple(found)


def _words(run: Run) -> str:
    means = run.averages
    words = f"{run.steps} steps, {run.time / 1e3:.4g} ps, {means['temperature_K']:.1f} K"
    if "density_g_cm3" in means:
        words += f", {means['pressure_bar']:.0f} bar, {means['density_g_cm3']:.4f} g/cm³"
    return words + ("" if run.ended == "finished" else f" ({run.ended} before its end)")


def _write(atoms: ase.Atoms, stem: Path) -> None:
    plain = atoms.copy()
    part = stem.with_name(stem.name + ".part.xyz")
    ase.io.write(part, plain, format="extxyz")
    part.replace(stem.with_suffix(".xyz"))


def _entries(folder: Path, atoms: ase.Atoms, potential: Potential, stages: Sequence[Stage]) -> dict[str, Any]:
    """What the folder says has been done, if it is of this protocol."""
    begun = {
        "model": identity(potential)["sha256"],
        "numbers": atoms.numbers.tolist(),
        "positions": np.round(atoms.positions, 6).tolist(),
    }
    path = folder / RECORD
    if not path.exists():
        return {**begun, "stages": []}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        same = {name: found[name] == begun[name] for name in begun}
        kept = [entry["settings"] for entry in found["stages"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}); take another folder") from None
    for name, words in (
        ("model", "another model"),
        ("numbers", "another molecule"),
        ("positions", "another structure"),
    ):
        if not same[name]:
            raise InputError(f"{folder} holds a protocol begun with {words}; take another folder")
    for number, (stage, settings) in enumerate(zip(stages, kept, strict=False), 1):
        if _settings_of(stage) != settings:
            raise InputError(
                f"{folder} holds stage {number} ({stage.name}) done with other settings; take another folder, or put "
                "the protocol back as it was"
            )
    return found


def _settings_of(stage: Stage) -> dict[str, Any]:
    chosen = asdict(stage.relaxation) if stage.relaxation is not None else {}
    if stage.settings is not None:
        chosen = stage.settings.to_dict()
    # through JSON, so that what is compared with a file went the same way
    return json.loads(json.dumps({"name": stage.name, **chosen}))


def _entry(finished: Finished) -> dict[str, Any]:
    return {
        "settings": _settings_of(finished.stage),
        "words": finished.words,
        "settled": [asdict(settling) for settling in finished.settlings],
    }


def _read_back(stage: Stage, stem: Path, entry: dict[str, Any]) -> Finished:
    path = stem.with_suffix(".xyz")
    if not path.is_file():
        raise InputError(
            f"stage {stage.name} is noted as done, but its structure {path} is missing; take another folder"
        )
    atoms = ase.io.read(path, format="extxyz")
    assert isinstance(atoms, ase.Atoms)
    settlings = tuple(Settling(**values) for values in entry["settled"])
    return Finished(stage, atoms, settlings, entry["words"], True, True)
