"""A short run with the finished force field, and the page about it all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ase
import numpy as np

from heliodor.analysis.show import Shown
from heliodor.dynamics.run import simulate
from heliodor.errors import SimulationError
from heliodor.gems.config import TrialChoices
from heliodor.potential import Potential
from heliodor.units import parse_time


def trial(
    atoms: ase.Atoms,
    potential: Potential,
    choices: TrialChoices,
    output: Path,
    seed: int,
    tell: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """Dynamics of the whole molecule. A run that leaves physics is a result, not an error: it is written down.

    Returns:
        How it ended, its mean temperature (K), the drift of its conserved quantity (meV/atom/ps), broken bonds.
    """
    steps = round(parse_time(choices.time) / choices.timestep)
    try:
        run = simulate(
            atoms,
            potential,
            output=output,
            overwrite=True,
            progress=lambda report: tell("dynamics", report.step, report.steps),
            time=choices.time,
            timestep=choices.timestep,
            temperature=choices.temperature,
            ensemble=choices.ensemble,
            save_every=max(1, steps // 500) * choices.timestep,
            seed=seed,
        )
    except SimulationError as error:
        return {"ended": f"left physics: {error}"}
    log = run.log
    half = len(log["temperature_K"]) // 2
    return {
        "ended": run.ended if run.reason is None else f"{run.ended}: {run.reason}",
        "temperature_K": round(float(np.mean(log["temperature_K"][half:])), 1),
        "bonds_broken": len(run.broken_bonds),
        "ns_per_day": round(86400.0 * parse_time(choices.time) * 1e-6 / max(run.seconds, 1e-9), 3),
    }


def write_page(
    trajectory: Path, page: Path, title: str, sections: Sequence[Shown], tell: Callable[[str, int, int], None]
) -> int:
    """The report of the run with the sections about the force field in front.

    Returns:
        Bytes written.
    """
    from heliodor.report.write import write_report

    def said(what: str, how: str) -> None:
        if not how:
            tell(what, 0, 0)

    # the map of conformations costs a minute at its first call, and a trial run shows little of them
    return write_report(
        trajectory, page, first=sections, title=title, without=("map",), overwrite=True, tell=said
    ).bytes
