"""What a model said along a run of the errors of its own forces."""

from __future__ import annotations

import numpy as np

from heliodor.analysis.show import Axis, Curve, Number, Panel, Shown
from heliodor.dynamics.files.log import FORCE_ERROR
from heliodor.report.checks import Check
from heliodor.trajectory.trajectory import Trajectory


def force_error(trajectory: Trajectory) -> tuple[Check, Shown] | None:
    """The half-width of the worst atom's interval with each line of the log; None of models that tell none."""
    values = trajectory.log.get(FORCE_ERROR)
    if values is None or not np.isfinite(values).any():
        return None
    time = trajectory.log["time_fs"] / 1e3
    level, limit = _stated(trajectory)
    name = "90 % interval" if level is None else f"{100 * level:g} % interval"
    curves = [Curve("", time, values)]
    worst = int(np.nanargmax(values))
    words = f"of the worst atom ±{np.nanmean(values):.3g} eV/Å on average, ±{values[worst]:.3g} at most"
    words += f" (at {time[worst]:.4g} ps)"
    numbers = [
        Number("half-width of the worst atom, mean", float(np.nanmean(values)), None, "eV/Å", "over the log"),
        Number("half-width of the worst atom, largest", float(values[worst]), None, "eV/Å", f"at {time[worst]:.4g} ps"),
    ]
    if limit is None:
        check = Check("Errors of forces", "unknown", f"{words}; the record does not say what limit the model has")
    else:
        above = float(np.mean(values[np.isfinite(values)] > limit))
        curves.append(
            Curve(f"limit {limit:.3g} eV/Å", time[[0, -1]], np.full(2, limit), style="dashed", reference=True)
        )
        numbers.append(Number("lines of the log above the limit", 100 * above, None, "%", f"limit {limit:.3g} eV/Å"))
        words += f"; above the model's limit of {limit:.3g} eV/Å in {100 * above:.3g} % of the lines of the log"
        check = Check("Errors of forces", "look" if above > 0.0 else "ok", words)
    panel = Panel("Half-width of the worst atom's interval", Axis("time", "ps"), Axis("error", "eV/Å"), tuple(curves))
    note = (
        f"Half-width of the {name} of |ΔF|, the error of the force on an atom as a vector, of the atom where it is "
        "largest. The level holds for structures like those it was calibrated on; elsewhere a large value still says "
        "that the model is far from its training set."
    )
    tables = {"force_error": {"time_ps": time, FORCE_ERROR: values}}
    return check, Shown(
        "force-error", "Errors of forces, as the model sees them", (panel,), tuple(numbers), (note,), tables
    )


def _stated(trajectory: Trajectory) -> tuple[float | None, float | None]:
    """Level, and eV/Å limit of the run, from its record."""
    model, settings = trajectory.record.get("model"), trajectory.record.get("settings")
    told = model.get("force_error") if isinstance(model, dict) else None
    told = told if isinstance(told, dict) else {}
    above = settings.get("doubt_above") if isinstance(settings, dict) else None
    limit = told.get("limit_eV_per_A") if above is None else above
    level = told.get("level")
    return (
        float(level) if isinstance(level, int | float) else None,
        float(limit) if isinstance(limit, int | float) else None,
    )
