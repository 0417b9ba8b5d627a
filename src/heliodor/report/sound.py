"""Is a run sound: its log held against what its ensemble should show, its files against what was planned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from heliodor.analysis.settling import settled
from heliodor.analysis.show import Axis, Curve, Number, Panel, Shown
from heliodor.analysis.statistics import SHORTEST, correlated_mean, equilibrated, inefficiency
from heliodor.errors import InputError
from heliodor.report.checks import Check, Verdict
from heliodor.report.events import noticed
from heliodor.report.force_error import force_error
from heliodor.report.words import count, measured
from heliodor.trajectory.trajectory import Trajectory
from heliodor.units import BOLTZMANN, format_time, parse_time

DRIFT = (0.1, 1.0)
"""meV/atom/ps beyond which a drift of the conserved quantity is to be looked at, and is bad: if nothing took it out,
1 meV/atom/ps would heat a molecule by about 4 K each ps."""

COLD = (0.01, 0.05)
"""Of the target temperature; a mean that is off by more, and by more than three errors, is to be looked at, is bad."""

ERRORS = 3.0
"""Standard errors that a difference must exceed to be called one."""

LONG = 20.0
"""Times of the thermostat that a run must last before the width of its temperature is held against a canonical one."""

TOLD = 5
"""Events told in words."""


@dataclass(frozen=True, eq=False)
class Soundness:
    """Checks, and what there is to see of them; nothing is shown of a trajectory without a log."""

    checks: tuple[Check, ...]
    shown: tuple[Shown, ...]


def soundness(trajectory: Trajectory) -> Soundness:
    """Judge a run by its log, its record and what its watch noticed."""
    checks, shown = list(_files(trajectory)), []
    log = trajectory.log
    if len(log.get("time_fs", ())) < 2:
        checks.append(
            Check("Log", "unknown", "no log (.csv) beside the trajectory: energies and temperature cannot be judged")
        )
    else:
        for judge in (_conserved, _temperature, _pressure, _density, _potential, force_error):
            found = judge(trajectory)
            if found is not None:
                checks.append(found[0])
                shown.append(found[1])
    checks += _watch(trajectory)
    return Soundness(tuple(checks), tuple(shown))


def _files(trajectory: Trajectory) -> list[Check]:
    frames = len(trajectory)
    found = []
    if frames == 1:
        found.append(Check("Frames", "look", "a single frame: nothing along time can be said"))
    else:
        try:
            every = f"every {format_time(trajectory.interval)}"
            span = format_time(float(trajectory.time[-1] - trajectory.time[0]))
            found.append(Check("Frames", "ok", f"{count(frames)} frames, {every}, over {span}"))
        except InputError as error:
            found.append(Check("Frames", "look", str(error)))
    found += [Check("File", "look", note) for note in trajectory.notes]
    planned = noticed(trajectory).planned
    last = trajectory.log.get("step")
    if planned is not None and last is not None and len(last):
        done = int(last[-1])
        if done < planned:
            words = f"ended after {count(done)} of {count(planned)} steps; heliodor md --restart goes on with it"
            found.append(Check("Length", "look", words))
        else:
            found.append(Check("Length", "ok", f"all {count(planned)} steps were taken"))
    return found


def _conserved(trajectory: Trajectory) -> tuple[Check, Shown] | None:
    log = trajectory.log
    if "conserved_eV" not in log:
        return None
    atoms = _simulated(trajectory)
    if atoms is None:
        return None
    time = log["time_fs"] / 1e3
    change = 1e3 * (log["conserved_eV"] - log["conserved_eV"][0]) / atoms
    slope, error = _slope(time, change)
    known = "" if np.isnan(error) else " (error from the scatter about a straight line, correlation included)"
    verdict: Verdict = "ok"
    if abs(slope) > DRIFT[0] and abs(slope) > 2.0 * error:
        verdict = "bad" if abs(slope) > DRIFT[1] else "look"
    drift = measured(slope, error, "meV/atom/ps")
    words = f"the conserved quantity drifts by {drift}"
    if verdict == "ok" and error > abs(slope):
        words += ", which is none within its error"
    if np.isnan(error):
        verdict, words = "unknown", f"{words}; {len(change)} values are too few to tell"
    if verdict == "ok" and error > DRIFT[1]:
        verdict, words = "unknown", f"{words}; the run is too short to tell"
    if verdict != "ok" and verdict != "unknown":
        words += f", more than {DRIFT[verdict == 'bad']:g}: the timestep may be too long for this model and system"
    check = Check("Conserved quantity", verdict, words)
    panel = Panel(
        "Conserved quantity",
        Axis("time", "ps"),
        Axis("change", "meV/atom"),
        (Curve("", time, change), Curve("fit", time, _fit(time, change), style="dashed")),
    )
    shown = Shown(
        "conserved",
        "Conserved quantity",
        (panel,),
        (Number("drift of the conserved quantity", slope, _or_none(error), "meV/atom/ps", f"ok below {DRIFT[0]:g}"),),
        (f"Slope of a straight line through the whole log{known}.",),
        {"conserved": {"time_ps": time, "change_meV_per_atom": change}},
    )
    return check, shown


def _simulated(trajectory: Trajectory) -> int | None:
    """Atoms that the log speaks of; None where a file with some of them does not say."""
    structures = trajectory.record.get("structures")
    try:
        return int(structures[trajectory.structure]["atoms"])  # type: ignore[index]
    except (TypeError, KeyError, IndexError, ValueError):
        return None if trajectory.partial else trajectory.n_atoms


def _temperature(trajectory: Trajectory) -> tuple[Check, Shown] | None:
    log = trajectory.log
    if "temperature_K" not in log:
        return None
    time, values = log["time_fs"] / 1e3, log["temperature_K"]
    held = str(trajectory.settings.get("ensemble", "")).lower() in ("nvt", "npt")
    target = trajectory.temperature if held else None
    curves = [Curve("", time, values)]
    if target is not None:
        curves.append(Curve(f"target {target:g} K", time[[0, -1]], np.full(2, target), style="dashed", reference=True))
    panel = Panel("Temperature", Axis("time", "ps"), Axis("temperature", "K"), tuple(curves))
    tables = {"temperature": {"time_ps": time, "temperature_K": values}}
    if len(values) < SHORTEST or not np.isfinite(values).all():
        check = Check("Temperature", "unknown", f"{len(values)} values in the log are too few to judge")
        return check, Shown("temperature", "Temperature", (panel,), (), (), tables)
    start = equilibrated(values, 0.5).start
    late = values[start:]
    mean = correlated_mean(late)
    numbers = [Number("mean temperature", mean.mean, mean.error, "K", _after(time, start), target)]
    words = f"{measured(mean.mean, mean.error, 'K')}"
    verdict: Verdict = "ok"
    notes = []
    if target is None:
        words += ", without a thermostat that aims at one temperature"
    else:
        off = abs(mean.mean - target)
        free = _freedom(log)
        error = mean.error
        slow = _bath(trajectory)
        if free is not None and slow is not None:
            # of the kinetic energy about half follows the total energy, which only the bath changes
            unseen = target * np.sqrt(2.0 / free) * np.sqrt(slow / max(float(time[-1] - time[start]), 1e-12))
            if unseen > error:
                error = float(unseen)
                numbers[0] = replace(numbers[0], error=error)
                words = f"{measured(mean.mean, error, 'K')}"
                notes.append(
                    f"The thermostat exchanges energy within τ = {slow:.3g} ps; a mean over a length L cannot be known "
                    "better than to about √(2/N_f) T √(τ/L), which is the error given."
                )
        if off > ERRORS * error and off > COLD[0] * target:
            verdict = "bad" if off > COLD[1] * target else "look"
        words += f" against {target:g} K"
        if free is not None:
            expected = target * np.sqrt(2.0 / free)
            observed = float(late.std())
            chi = observed / expected
            chi_error = chi * np.sqrt(max(1.0, inefficiency((late - late.mean()) ** 2)) / (2.0 * len(late)))
            numbers += [
                Number("fluctuation of the temperature", observed, chi_error * expected, "K", "", float(expected)),
                Number("χ, fluctuation over expected", chi, chi_error, "", f"{free:.0f} degrees of freedom", 1.0),
            ]
            notes.append(
                "A canonical ensemble of N_f degrees of freedom at T fluctuates by √(2/N_f) T; χ is the observed "
                "fluctuation over that and should be 1 within its error."
            )
            words += f", fluctuating by {observed:.3g} K where {expected:.3g} K are expected (χ = "
            words += f"{measured(float(chi), float(chi_error))})"
            enough = slow is None or time[-1] - time[start] > LONG * slow
            if not enough:
                verdict = "unknown" if verdict == "ok" else verdict
                words += f"; {LONG:g} times the thermostat's {slow:.3g} ps are needed to tell"
            elif abs(chi - 1.0) > max(ERRORS * chi_error, 0.1):
                verdict = "look" if verdict == "ok" else verdict
    check = Check("Temperature", verdict, words)
    return check, Shown("temperature", "Temperature", (panel,), tuple(numbers), tuple(notes), tables)


def _pressure(trajectory: Trajectory) -> tuple[Check, Shown] | None:
    log = trajectory.log
    if "pressure_bar" not in log:
        return None
    held = str(trajectory.settings.get("barostat", "none")) not in ("none", "None", "")
    wish = trajectory.settings.get("pressure_bar", "none")
    try:
        target = float(wish) if held else None
    except (TypeError, ValueError):
        target = None
    time, values = log["time_fs"] / 1e3, log["pressure_bar"]

    def against(mean: float, error: float) -> tuple[Verdict, str]:
        if target is not None:
            return ("look" if abs(mean - target) > ERRORS * error else "ok"), f"; the target is {target:g} bar"
        if held:
            return "unknown", f"; the targets of the axes are {wish} bar, and their mean is not judged"
        return "ok", "; the volume is kept" if _constant_volume(log) else ""

    return _settling("Pressure", "pressure", "bar", "pressure_bar", time, values, target, against)


def _constant_volume(log: Mapping[str, np.ndarray]) -> bool:
    volume = log.get("volume_A3")
    return volume is not None and not np.ptp(volume) > 0.0


def _density(trajectory: Trajectory) -> tuple[Check, Shown] | None:
    log = trajectory.log
    if "density_g_cm3" not in log or not np.ptp(log["density_g_cm3"]) > 0.0:
        return None
    return _settling("Density", "density", "g/cm³", "density_g_cm3", log["time_fs"] / 1e3, log["density_g_cm3"])


def _potential(trajectory: Trajectory) -> tuple[Check, Shown] | None:
    log = trajectory.log
    if "potential_eV" not in log:
        return None
    atoms = _simulated(trajectory)
    if atoms is None:
        return None
    # from the start: absolute energies of models mean nothing
    values = 1e3 * (log["potential_eV"] - log["potential_eV"][0]) / atoms
    name, unit = "potential energy", "meV/atom"
    check, shown = _settling("Potential energy", name, unit, "potential_meV_per_atom", log["time_fs"] / 1e3, values)
    # each run counts from its own first value
    mean = tuple(replace(number, comparable=False) for number in shown.numbers[:1])
    return check, replace(shown, numbers=mean + shown.numbers[1:])


def _settling(
    title: str,
    name: str,
    unit: str,
    column: str,
    time: np.ndarray,
    values: np.ndarray,
    target: float | None = None,
    against: Callable[[float, float], tuple[Verdict, str]] | None = None,
) -> tuple[Check, Shown]:
    curves = [Curve("", time, values)]
    if target is not None:
        curves.append(
            Curve(f"target {target:g} {unit}", time[[0, -1]], np.full(2, target), style="dashed", reference=True)
        )
    panel = Panel(title, Axis("time", "ps"), Axis(name, unit), tuple(curves))
    tables = {column.partition("_")[0]: {"time_ps": time, column: values}}
    key = title.lower().replace(" ", "-")
    try:
        judged = settled(time, values, name, unit)
    except InputError as error:
        return Check(title, "unknown", str(error)), Shown(key, title, (panel,), (), (), tables)
    verdict: Verdict = "ok" if judged.settled else "look"
    words = judged.words
    if against is not None:
        other, more = against(judged.mean, judged.error)
        verdict = other if verdict == "ok" else verdict
        words += more
    numbers = (
        Number(f"mean {name}", judged.mean, judged.error, unit, f"{judged.effective:.0f} independent samples", target),
        Number(f"drift of {name}", judged.drift, judged.drift_error, unit, "of the part that was judged"),
    )
    return Check(title, verdict, words), Shown(key, title, (panel,), numbers, (), tables)


def _watch(trajectory: Trajectory) -> list[Check]:
    found = noticed(trajectory)
    if not found.known:
        if found.trouble is not None:
            words = f"{found.trouble.name} lies beside the trajectory: the watch saved frames around something"
            return [Check("Events", "look", words)]
        return [Check("Events", "unknown", "no restart file beside the trajectory that says what the watch noticed")]
    bonds = [event for event in found.events if str(event.get("kind", "")).startswith("bond")]
    doubts = [event for event in found.events if event.get("kind") == "doubt"]
    failed = [event for event in found.events if event not in bonds and event not in doubts]
    saved = f" (frames in {found.trouble.name})" if found.trouble is not None and found.events else ""
    checks = [
        _told("Bonds", bonds, "look", "no bond broke or formed while the run was watched", saved),
        _told("Doubts of the model", doubts, "look", "the model saw nothing outside what it knows", saved),
    ]
    if str(trajectory.record.get("settings", {}).get("on_bond_change", "")) == "ignore":
        checks[0] = Check("Bonds", "unknown", "the run did not look for them (--on-bond-change ignore)")
    if failed:
        checks.append(_told("Breakdown", failed, "bad", "", saved))
    return checks


def _told(name: str, events: list[Mapping[str, Any]], verdict: Verdict, none: str, saved: str) -> Check:
    if not events:
        return Check(name, "ok", none)
    more = f"; and {len(events) - TOLD} more" if len(events) > TOLD else ""
    return Check(name, verdict, "; ".join(str(e.get("text", e.get("kind"))) for e in events[:TOLD]) + more + saved)


def _bath(trajectory: Trajectory) -> float | None:
    """Time in which the thermostat exchanges energy, ps; None where the record does not say."""
    settings = trajectory.record.get("settings", {})
    # what the file says has defaults filled in
    kind = trajectory.settings.get("thermostat") or settings.get("thermostat")
    if kind == "none":
        return None
    try:
        if kind in (None, "langevin"):
            return 1.0 / float(settings["friction"])
        return parse_time(settings["time_constant"]) / 1e3
    except (KeyError, TypeError, ValueError, ZeroDivisionError, InputError):
        return None


def _freedom(log: Mapping[str, np.ndarray]) -> float | None:
    """Degrees of freedom, from kinetic energy and temperature."""
    kinetic, temperature = log.get("kinetic_eV"), log["temperature_K"]
    if kinetic is None or not np.any(temperature > 1.0):
        return None
    warm = temperature > 1.0
    return float(np.round(np.median(2.0 * kinetic[warm] / (BOLTZMANN * temperature[warm]))))


def _fit(t: np.ndarray, x: np.ndarray) -> np.ndarray:
    slope = (t - t.mean()) @ (x - x.mean()) / max(float((t - t.mean()) @ (t - t.mean())), 1e-300)
    line: np.ndarray = x.mean() + slope * (t - t.mean())
    return line


def _slope(t: np.ndarray, x: np.ndarray) -> tuple[float, float]:
    """Of a straight line, with the standard error that the correlation of the residuals leaves; NaN if unknown."""
    centred = t - t.mean()
    square = float(centred @ centred)
    if square <= 0.0 or not np.isfinite(x).all():
        return float("nan"), float("nan")
    slope = float(centred @ (x - x.mean())) / square
    rest = x - x.mean() - slope * centred
    if len(x) < SHORTEST:
        return slope, float("nan")
    g = inefficiency(rest)
    free = max(len(x) - 2.0 * g, len(x) / 3.0)
    return slope, float(np.sqrt(g * (rest @ rest) / free / square))


def _after(time: np.ndarray, start: int) -> str:
    return f"the first {time[start] - time[0]:.3g} ps left out" if start else ""


def _or_none(error: float) -> float | None:
    return None if np.isnan(error) else error
