"""A run in parts, at the level of run_loop: begins, or goes on from the checkpoint in its folder."""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from toys import LennardJones, argon_box

from heliodor.dynamics import csvr_step, init, langevin_step, nve_step, open_writer
from heliodor.dynamics.files.log import Log
from heliodor.dynamics.files.restart import load_state, save_state
from heliodor.dynamics.loop import Ended, Schedule, run_loop
from heliodor.potential import evaluate_system
from heliodor.system import System

STEPPERS = {
    "nve": nve_step,
    "langevin": partial(langevin_step, temperature=90.0, friction=5.0),
    "csvr": partial(csvr_step, temperature=90.0, time_constant=50.0),
}

EVERY = {"save_every": 4, "log_every": 6, "checkpoint_steps": 10}


class Charged(LennardJones):
    """With charges, which a state from a checkpoint has not; a short cutoff, so that lists are rebuilt."""

    def __init__(self):
        super().__init__(cutoff=6.0)

    def forward(self, system, neighbors):
        terms = super().forward(system, neighbors)
        return type(terms)(terms.energies, charges=system.positions[:, 0])


def begin(kind: str):
    atoms = argon_box(2, 3.9)
    atoms.set_cell([[8.0, 0, 0], [1.0, 8.0, 0], [0.5, -0.7, 8.0]])
    return init(
        System.from_atoms(atoms),
        Charged(),
        temperature=90.0,
        seed=3,
        rotating=kind == "langevin",
        skin=0.1,
        virial=True,
    )


def go(
    folder: Path,
    *,
    last_step: int,
    kind: str = "nve",
    name: str = "run.h5",
    stop=lambda: False,
    schedule=None,
    pause: float = 0.0,
    **options,
) -> Ended:
    """Up to an absolute step, with checkpoints in the folder; ``pause`` (s) makes steps slow enough to be hit."""
    potential = Charged()
    restart = folder / "run.restart"
    marks = {"trajectory": None, "log": None}
    if restart.exists():
        state, extra = load_state(restart)
        marks = extra["marks"]
        state = state.replace(prediction=evaluate_system(potential, state.system, state.neighbors, virial=True))
    else:
        state = begin(kind)

    def advance(state):
        if pause:
            time.sleep(pause)
        return STEPPERS[kind](state, potential, 4.0)

    with ExitStack() as stack:
        log = Log(folder / "run.csv", resume=marks["log"])
        stack.callback(log.close)
        writer = stack.enter_context(
            open_writer(folder / name, overwrite=True, forces=True, resume=marks["trajectory"])
        )
        return run_loop(
            state,
            advance,
            Schedule(last_step=last_step, timestep=4.0, temperature=90.0, **(EVERY | (schedule or {}))),
            writer=writer,
            log=log,
            report=lambda report: None,
            stop=stop,
            checkpoint=lambda state, marks: save_state(restart, state, {"marks": marks}),
            **options,
        )
