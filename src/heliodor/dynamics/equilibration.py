"""Running a protocol: stage after stage into one folder, going on where it was stopped, judging what has settled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
from ase.constraints import FixAtoms
from jaxtyping import Bool
from torch import Tensor

from heliodor.analysis.settling import Settling, settled
from heliodor.dynamics.ensemble import couplings
from heliodor.dynamics.files.restart import load_state
from heliodor.dynamics.progress import Report
from heliodor.dynamics.protocol import Relaxation, Stage, anchored, carried
from heliodor.dynamics.protocol_record import SAME, SHOWN, compared, read_record, settings_of, write_record
from heliodor.dynamics.relax.minimize import minimize
from heliodor.dynamics.restraints.frozen import frozen_from
from heliodor.dynamics.restraints.kinds import read_restraints
from heliodor.dynamics.restraints.restrained import Restrained
from heliodor.dynamics.result import Run, final_atoms
from heliodor.dynamics.run import restart, simulate
from heliodor.dynamics.settings import Settings, from_mapping
from heliodor.dynamics.setup import mask_of
from heliodor.errors import CheckpointError, InputError, SimulationError
from heliodor.potential import Potential
from heliodor.system import System

UNITS = {"density_g_cm3": "g/cm³", "potential_eV": "eV", "volume_A3": "Å³", "temperature_K": "K", "pressure_bar": "bar"}


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
    final structure. Positions, cell and velocities go from stage to stage; masses and fixed atoms are in every stage
    those of the structure handed in, but for what the stage's own settings change.

    Args:
        tell: called with each stage when it is done.
        walltime: of each stage, such as ``"12h"``; wins over those of the stages.

    Raises:
        InputError: the folder holds another protocol, model or structure; fixed atoms or restraints that a stage
            cannot have.
        SimulationError: a stage failed; the folder holds everything up to there.
    """
    folder = Path(folder)
    _check(stages, atoms, potential)
    folder.mkdir(parents=True, exist_ok=True)
    entries = read_record(folder, atoms, potential, stages)
    start = atoms.copy()
    # to the last digit what the first call was given, since references of restraints must be the same ones
    start.positions = np.array(entries["positions"])
    start.set_cell(np.array(entries["cell"]))
    # before anything moves: whoever comes back to a stage that was cut off must come with the same
    write_record(folder, entries)
    now, done = start, []
    for number, stage in enumerate(stages, 1):
        stem = folder / f"{number:02d}-{stage.name}"
        if number <= len(entries["stages"]):
            finished = _read_back(stage, stem, entries["stages"][number - 1])
        else:
            settings = anchored(stage.settings, start, now)
            if stage.relaxation is not None:
                finished = _relaxed(stage, stage.relaxation, settings, now, potential, stem)
            else:
                finished = _moved(stage, settings, now, potential, stem, number, progress, walltime)
            if finished.complete:
                entries["stages"].append(_entry(finished))
                write_record(folder, entries)
        done.append(finished)
        tell(finished)
        if not finished.complete:
            break
        now = carried(start, finished.atoms)
    return done


def _check(stages: Sequence[Stage], atoms: ase.Atoms, potential: Potential) -> None:
    """Refuse fixed atoms and restraints that would end a later stage as it begins."""
    system = System.from_atoms(atoms, device=potential.device)
    for number, stage in enumerate(stages, 1):
        try:
            if stage.relaxation is not None:
                moving_cell = stage.relaxation.cell is not None
            else:
                moving_cell = couplings(stage.settings)[1] is not None
            frozen = _frozen(stage.settings, atoms, system)
            if frozen is not None and bool(frozen.all()):
                raise InputError("every atom is frozen: nothing can move")
            if frozen is not None and moving_cell:
                raise InputError("frozen atoms cannot follow a cell that changes: keep the cell, or restrain positions")
            if stage.settings.restraints:
                Restrained(potential, read_restraints(stage.settings.restraints), system)
        except InputError as error:
            raise InputError(f"stage {number} ({stage.name}): {error}") from None


def _frozen(settings: Settings, atoms: ase.Atoms, system: System) -> Bool[Tensor, "N"] | None:
    """As in dynamics: what the settings name, otherwise what the structure fixes."""
    mask = frozen_from(atoms) if settings.frozen is None else mask_of(settings.frozen, system)
    return mask.to(system.device) if bool(mask.any()) else None


def _relaxed(
    stage: Stage, wishes: Relaxation, settings: Settings, atoms: ase.Atoms, potential: Potential, stem: Path
) -> Finished:
    system = System.from_atoms(atoms, device=potential.device)
    frozen = _frozen(settings, atoms, system)
    if settings.restraints:
        potential = Restrained(potential, read_restraints(settings.restraints), system)
    result = minimize(
        system,
        potential,
        fmax=wishes.fmax,
        max_steps=wishes.steps,
        cell=wishes.cell,
        pressure=wishes.pressure,
        frozen=frozen,
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
    final.set_constraint([] if frozen is None else FixAtoms(mask=frozen.cpu().numpy()))
    _write(final, stem)
    # with the digits of the file, which are all that a protocol stopped here has to go on from
    return Finished(stage, _read(stem), (), words, False, True)


def _moved(
    stage: Stage,
    settings: Settings,
    atoms: ase.Atoms,
    potential: Potential,
    stem: Path,
    number: int,
    progress: bool | Callable[[Report], None],
    walltime: str | None,
) -> Finished:
    output = stem.with_suffix(".h5")
    checkpoint = stem.with_suffix(".restart")
    walltime = walltime if walltime is not None else settings.walltime
    if settings.seed is None:
        settings = settings.replace(seed=number)
    if settings.start_temperature is None and bool(atoms.get_momenta().any()):
        settings = settings.replace(keep_velocities=True)
    elif number > 1:
        # a minimisation before has left none to keep
        settings = settings.replace(keep_velocities=False)
    # at its last step: killed before the note that the stage is done, which is then done once more
    if checkpoint.is_file() and not _at_end(checkpoint, settings, atoms, f"stage {number} ({stage.name})"):
        run = restart(checkpoint, potential, walltime=walltime, progress=progress)
    else:
        run = simulate(
            atoms, potential, settings.replace(walltime=walltime), output=output, overwrite=True, progress=progress
        )
    _write(run.atoms, stem)
    return Finished(stage, run.atoms, judged(run, stage.settle), _words(run), False, run.ended == "finished")


def _at_end(checkpoint: Path, settings: Settings, atoms: ase.Atoms, name: str) -> bool:
    """Whether a stage's checkpoint is at its last step.

    Raises:
        InputError: it is of another molecule, or of other settings than the stage has now.
        CheckpointError: it is damaged.
    """
    state, extra = load_state(checkpoint)
    begun = f"{name} was begun with"
    back = "put the protocol back as it was, or take another folder"
    if state.system.numbers.tolist() != atoms.numbers.tolist():
        raise InputError(f"{begun} another molecule; {back}")
    old = compared(from_mapping(extra["settings"], where=f"{checkpoint}: "))
    changes = []
    for key, value in compared(settings).items():
        if old[key] != value:
            values = f" {old[key]} → {value}"
            changes.append(key + (values if len(values) <= SHOWN else ""))
    if changes:
        raise InputError(f"{begun} other settings: {', '.join(changes)}; {back}")
    return state.step >= int(extra["steps"])


def judged(run: Run, columns: Sequence[str]) -> tuple[Settling, ...]:
    """Whether columns of the log have settled; those that cannot be judged say why, since the stage is done."""
    found = []
    for name in columns:
        unit, short = UNITS.get(name, name.rpartition("_")[2]), name.split("_")[0]
        if name not in run.log:
            words = f"{name} not judged: the log has no such column, only {', '.join(run.log)}"
            found.append(_unjudged(name, "", float("nan"), words))
            continue
        values = run.log[name]
        if values.ndim > 1:
            values = values.mean(axis=1)
        try:
            found.append(settled(run.log["time_fs"] / 1e3, values, short, unit))
        except InputError as error:
            mean = float(values.mean())
            found.append(_unjudged(short, unit, mean, f"{short} {mean:.5g} {unit}, not judged: {error}"))
    return tuple(found)


def _unjudged(name: str, unit: str, mean: float, words: str) -> Settling:
    unknown = float("nan")
    return Settling(name, unit, mean, unknown, unknown, 0.0, 0.0, unknown, unknown, False, words)


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


def _read(stem: Path) -> ase.Atoms:
    atoms = ase.io.read(stem.with_suffix(".xyz"), format="extxyz")
    assert isinstance(atoms, ase.Atoms)
    return atoms


def _exact(atoms: ase.Atoms, checkpoint: Path) -> ase.Atoms:
    """The structure to its last digit, if the checkpoint is of its moment: the text file has eight decimals."""
    if not checkpoint.is_file():
        return atoms
    try:
        found = final_atoms(load_state(checkpoint)[0])[0]
    except CheckpointError:
        return atoms
    same = len(found) == len(atoms) and bool((np.abs(found.positions - atoms.positions) <= SAME).all())
    return found if same else atoms


def _entry(finished: Finished) -> dict[str, Any]:
    return {
        "settings": settings_of(finished.stage),
        "words": finished.words,
        "settled": [asdict(settling) for settling in finished.settlings],
    }


def _read_back(stage: Stage, stem: Path, entry: dict[str, Any]) -> Finished:
    path = stem.with_suffix(".xyz")
    if not path.is_file():
        raise InputError(
            f"stage {stage.name} is noted as done, but its structure {path} is missing; take another folder"
        )
    atoms = _read(stem)
    if stage.relaxation is None:
        atoms = _exact(atoms, stem.with_suffix(".restart"))
    settlings = tuple(Settling(**values) for values in entry["settled"])
    return Finished(stage, atoms, settlings, entry["words"], True, True)
