"""Which step function a run takes: ensemble, thermostat and barostat of the settings made into ``state -> state``."""

from __future__ import annotations

from collections.abc import Callable

from heliodor.dynamics.settings import Settings
from heliodor.dynamics.state import MDState
from heliodor.dynamics.steps.cell_rescaling import cell_rescaling_step
from heliodor.dynamics.steps.integrators import nve_step
from heliodor.dynamics.steps.langevin import langevin_step
from heliodor.dynamics.steps.mtk import mtk_step
from heliodor.dynamics.steps.nose_hoover import nose_hoover_step
from heliodor.dynamics.steps.rescaling import csvr_step
from heliodor.dynamics.targets import Ramp, read_barostat
from heliodor.errors import InputError
from heliodor.potential import Potential
from heliodor.system import System
from heliodor.units import parse_time

ENSEMBLES = ("nve", "nvt", "npt", "nph")
THERMOSTATS = ("langevin", "csvr", "nose-hoover")
BAROSTATS = ("scr", "mtk")


def couplings(settings: Settings) -> tuple[str | None, str | None]:
    """Thermostat and barostat, those chosen or those that go with the ensemble; None for none.

    Raises:
        InputError: unknown, or not made for each other.
    """
    ensemble, thermostat, barostat = settings.ensemble, settings.thermostat, settings.barostat
    for name, value, known in (
        ("ensemble", ensemble, ENSEMBLES),
        ("thermostat", thermostat, THERMOSTATS),
        ("barostat", barostat, BAROSTATS),
    ):
        if value is not None and value not in known:
            raise InputError(f"{name} must be one of {', '.join(known)}, not {value!r}")
    if ensemble in ("nve", "nph") and thermostat is not None:
        raise InputError(f"{ensemble} has no thermostat; choose nvt or npt")
    if ensemble in ("nve", "nvt") and barostat is not None:
        raise InputError(f"{ensemble} has no barostat; choose npt")
    if ensemble == "nve":
        return None, None
    if ensemble == "nvt":
        return thermostat or "langevin", None
    if ensemble == "nph":
        if barostat == "scr":
            raise InputError("stochastic cell rescaling exchanges heat: constant enthalpy needs the mtk barostat")
        return None, "mtk"
    barostat = barostat or ("mtk" if thermostat == "nose-hoover" else "scr")
    thermostat = thermostat or ("nose-hoover" if barostat == "mtk" else "langevin")
    if (barostat == "mtk") != (thermostat == "nose-hoover"):
        raise InputError(
            f"the {barostat} barostat does not go with the {thermostat} thermostat: mtk needs nose-hoover, "
            "scr needs langevin or csvr"
        )
    return thermostat, barostat


def rotates(settings: Settings) -> bool:
    """Whether isolated structures rotate: Langevin noise makes them, the other couplings keep zero momenta."""
    return couplings(settings)[0] == "langevin"


def stepper(settings: Settings, potential: Potential, system: System, ramp: Ramp) -> Callable[[MDState], MDState]:
    """The step function of a run.

    Raises:
        InputError: settings that do not fit each other or the structures.
    """
    dt, tau = parse_time(settings.timestep), parse_time(settings.time_constant)
    thermostat, name = couplings(settings)
    friction = settings.friction
    if thermostat == "langevin" and not 0.0 < friction < float("inf"):
        raise InputError(f"friction must be positive (1/ps), not {friction}")
    if thermostat is None and not ramp.constant:
        raise InputError(f"{settings.ensemble} has no thermostat to change the temperature: give one temperature")
    if name is None:
        if thermostat is None:
            return lambda state: nve_step(state, potential, dt)
        if thermostat == "langevin":
            return lambda state: langevin_step(state, potential, dt, temperature=ramp.at(state.step), friction=friction)
        if thermostat == "csvr":
            return lambda state: csvr_step(state, potential, dt, temperature=ramp.at(state.step), time_constant=tau)
        return lambda state: nose_hoover_step(state, potential, dt, temperature=ramp.at(state.step), time_constant=tau)

    barostat = read_barostat(settings, system)
    if name == "mtk":
        chain = tau if thermostat is not None else None
        return lambda state: mtk_step(
            state, potential, dt, temperature=ramp.at(state.step), barostat=barostat, time_constant=chain
        )
    bath = {"friction": friction} if thermostat == "langevin" else {"time_constant": tau}
    return lambda state: cell_rescaling_step(
        state, potential, dt, temperature=ramp.at(state.step), barostat=barostat, **bath
    )


def words(settings: Settings, ramp: Ramp) -> str:
    """The ensemble for people: ``"NPT at 300 K and 1 bar (Langevin thermostat 2 1/ps, ...)"``."""
    thermostat, barostat = couplings(settings)
    tau = parse_time(settings.time_constant)
    heat = {
        "langevin": f"Langevin thermostat {settings.friction:g} 1/ps",
        "csvr": f"stochastic velocity rescaling {tau:g} fs",
        "nose-hoover": f"Nosé-Hoover chains {tau:g} fs",
    }
    press = {"scr": "stochastic cell rescaling", "mtk": "Martyna-Tobias-Klein barostat"}
    parts = [] if thermostat is None else [heat[thermostat]]
    goal = f"from {ramp.words()}" if thermostat is None else f"at {ramp.words()}"
    if barostat is not None:
        goal += f", {settings.pressure} bar"
        if settings.surface_tension:
            goal += f", {settings.surface_tension:g} mN/m"
        span = parse_time(settings.barostat_time_constant)
        parts.append(f"{press[barostat]} {span:g} fs, {settings.coupling}")
    return f"{settings.ensemble.upper()} {goal}" + (f" ({'; '.join(parts)})" if parts else "")
