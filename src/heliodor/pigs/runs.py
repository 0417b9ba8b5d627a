"""Classical dynamics for spectra: copies settled by a thermostat, then left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ase

from heliodor.dynamics.files.restart import load_state
from heliodor.dynamics.result import Run
from heliodor.dynamics.run import restart, simulate
from heliodor.errors import CheckpointError, SimulationError
from heliodor.pigs.config import PigsChoices
from heliodor.potential import Potential

FRICTION = 5.0
"""1/ps, while the copies settle."""


def classical_run(
    model: Potential,
    atoms: ase.Atoms,
    choices: PigsChoices,
    folder: Path,
    name: str,
    say: Callable[[str, int, int], None],
) -> Path:
    """Several copies at constant energy, from states of the canonical ensemble; goes on where it was killed.

    Correlation functions of undisturbed dynamics, averaged over such states, are what a classical spectrum is.

    Returns:
        The trajectory.
    """
    d = choices.dynamics
    path = folder / f"{name}.h5"
    kept = path.with_suffix(".restart")
    if kept.is_file() and path.is_file():
        try:
            state, extra = load_state(kept)
            if state.step < int(extra["steps"]):
                _whole(restart(kept, model, progress=lambda r: say(f"{name} dynamics", r.step, r.steps)), name)
            return path
        except CheckpointError:
            # killed while it was written: begun anew
            kept.unlink()
    settled = simulate(
        atoms,
        model,
        output=None,
        log=None,
        plot=None,
        progress=lambda r: say(f"{name} dynamics, settling", r.step, r.steps),
        time=d.settle,
        timestep=d.timestep,
        temperature=choices.temperature,
        friction=FRICTION,
        replicas=d.copies,
        minimize_first=True,
        seed=choices.seed,
        on_bond_change="ignore",
    )
    _whole(settled, name)
    run = simulate(
        settled.frames,
        model,
        output=path,
        plot=None,
        overwrite=True,
        progress=lambda r: say(f"{name} dynamics", r.step, r.steps),
        ensemble="nve",
        keep_velocities=True,
        time=d.time,
        timestep=d.timestep,
        temperature=choices.temperature,
        save_every=d.save_every,
        seed=choices.seed,
    )
    _whole(run, name)
    return path


def _whole(run: Run, name: str) -> None:
    """Refuse a run that was interrupted: half of it is no result.

    Raises:
        SimulationError: it can be taken up again.
    """
    if run.ended != "finished":
        raise SimulationError(f"the {name} dynamics was stopped ({run.ended}): give the same command again to go on")
