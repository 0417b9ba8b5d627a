"""Whether a run can go by captured steps, and with what."""

from __future__ import annotations

import copy
from typing import Any

from heliodor.dynamics.captured import captures_on
from heliodor.dynamics.captured.lists import DeviceLists
from heliodor.dynamics.captured.motion import Motion
from heliodor.dynamics.captured.run import CapturedRun
from heliodor.dynamics.ensemble import couplings
from heliodor.dynamics.settings import Settings
from heliodor.dynamics.state import MDState
from heliodor.dynamics.targets import Ramp, read_barostat
from heliodor.potential import Potential
from heliodor.units import parse_time

THINNEST = 0.2
"""Å; lists with a thinner skin would be made at almost every step, and the ordinary loop does that as well."""


def obstacle(settings: Settings, potential: Potential, state: MDState) -> str | None:
    """Why a run goes by ordinary steps; None if it can be captured."""
    thermostat, barostat = couplings(settings)
    if not hasattr(potential.kernel, "evaluate"):
        return "the model runs without a kernel for GPUs"
    if state.system.n_structures != 1:
        return "several structures"
    if state.rigid is not None:
        return "rigid bonds"
    if settings.skin < THINNEST:
        return f"a skin below {THINNEST} Å"
    if barostat == "mtk":
        return "the mtk barostat"
    if barostat is not None and (settings.coupling == "triclinic" or not bool(state.system.pbc.all())):
        return "a barostat that turns the cell's axes, or a slab under one"
    if thermostat == "csvr" and float(state.degrees_of_freedom[0]) < 1.0:
        return "nothing to thermostat"
    return None


def captured_run(settings: Settings, potential: Potential, state: MDState, ramp: Ramp) -> CapturedRun | None:
    """The captured steps of a run on a CUDA device, or None where `obstacle` has something against it."""
    if not captures_on(state.system.device.type) or obstacle(settings, potential, state) is not None:
        return None
    thermostat, barostat = couplings(settings)
    motion = Motion(
        timestep=parse_time(settings.timestep),
        thermostat=thermostat,
        ramp=ramp,
        friction=settings.friction,
        time_constant=parse_time(settings.time_constant),
        barostat=None if barostat is None else read_barostat(settings, state.system),
    )
    cutoffs: tuple[float, ...] = (potential.cutoff,)
    if potential.has_long_range:
        cutoffs += (float(potential.long_range_limits(state.system)[0]),)
    # of its own: what it keeps of a system is written into graphs, and another system must not take its place
    kernel: Any = copy.copy(potential.kernel)
    lists = DeviceLists(state.system, cutoffs, settings.skin, changing=barostat is not None)
    return CapturedRun(state, motion, kernel.evaluate, lists)
