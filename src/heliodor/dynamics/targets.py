"""What a run aims at, read from the words of its settings: temperatures along time, pressures, wall time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from heliodor.dynamics.settings import Settings
from heliodor.dynamics.steps.coupling import check_coupling
from heliodor.dynamics.steps.pressure import Barostat
from heliodor.errors import InputError
from heliodor.system import System
from heliodor.units import BAR, MILLINEWTON_PER_M, parse_time

HIGHEST_PRESSURE = 1e7
"""bar; 1 TPa, more than the centre of Jupiter: a mistake of units."""


@dataclass(frozen=True)
class Ramp:
    """Temperatures passed at even distances in time between the first and the last step, linear in between.

    Attributes:
        knots: K; one for a constant temperature. One row per structure where they differ: [K] or [K, B].
        steps: of the whole run.
    """

    knots: Float[Tensor, "K *B"]
    steps: int

    def at(self, step: int) -> float | Float[Tensor, "B"]:
        """K, at a step; beyond the last one it stays."""
        if len(self.knots) == 1:
            value = self.knots[0]
        else:
            place = min(max(step / self.steps, 0.0), 1.0) * (len(self.knots) - 1)
            low = min(int(place), len(self.knots) - 2)
            value = torch.lerp(self.knots[low], self.knots[low + 1], place - low)
        return float(value) if value.ndim == 0 else value

    @property
    def constant(self) -> bool:
        return len(self.knots) == 1

    @property
    def highest(self) -> float:
        return float(self.knots.max())

    def words(self) -> str:
        """``"300 K"`` or ``"300 to 900 K"``."""
        if self.knots.ndim == 2:
            return " ".join(f"{t:g}" for t in self.knots[0].tolist()) + " K"
        return " to ".join(f"{t:g}" for t in self.knots.tolist()) + " K"


def read_temperature(value: str | float | Sequence[float], steps: int, system: System) -> Ramp:
    """From a number, a text such as ``"300:900"`` or one number for each structure.

    Raises:
        InputError: not temperatures, or not one for each structure.
    """
    if isinstance(value, str):
        rows = [_number(part, "temperature", "K") for part in value.split(":")]
        knots = torch.tensor(rows, dtype=torch.float64)
    elif isinstance(value, Sequence):
        if len(value) != system.n_structures:
            raise InputError(
                f"{len(value)} temperatures for {system.n_structures} structure(s); write a ramp as '300:900'"
            )
        knots = torch.tensor([[float(t) for t in value]], dtype=torch.float64, device=system.device)
    else:
        knots = torch.tensor([float(value)], dtype=torch.float64)
    if not bool((knots.isfinite() & (knots > 0)).all()):
        raise InputError(f"temperature must be above 0 K, not {value}")
    return Ramp(knots, steps)


def read_barostat(settings: Settings, system: System) -> Barostat:
    """The barostat of the settings for these structures.

    Raises:
        InputError: structures without a cell, couplings and targets that do not fit.
    """
    coupling = settings.coupling
    check_coupling(system, coupling)
    value = settings.pressure
    if isinstance(value, str):
        axes = [_number(part, "pressure", "bar") for part in value.split(",")]
        if len(axes) == 2:
            axes = [axes[0], axes[0], axes[1]]
        rows = [axes * 3 if len(axes) == 1 else axes]
        if len(rows[0]) != 3:
            raise InputError(f"pressure {value!r}: give one, two (in-plane, normal) or three (x, y, z) numbers of bar")
    elif isinstance(value, Sequence):
        if len(value) != system.n_structures:
            raise InputError(
                f"{len(value)} pressures for {system.n_structures} structure(s); write axes as text: '1,1,0'"
            )
        rows = [[float(p)] * 3 for p in value]
    else:
        rows = [[float(value)] * 3]
    pressure = torch.tensor(rows, dtype=torch.float64, device=system.device)
    if not bool((pressure.abs() < HIGHEST_PRESSURE).all()):
        raise InputError(f"pressure {value!r} is not a pressure in bar (1 GPa = 10000 bar)")
    equal = bool((pressure == pressure[:, :1]).all())
    planar = coupling in ("semi-isotropic", "in-plane")
    if coupling == "isotropic" and not equal:
        raise InputError("isotropic coupling has one pressure; for different ones choose semi-isotropic or anisotropic")
    if planar and bool((pressure[:, 0] != pressure[:, 1]).any()):
        raise InputError(f"{coupling} coupling has one pressure for x and y; choose anisotropic coupling")
    if settings.surface_tension and not planar:
        raise InputError("a surface tension needs semi-isotropic or in-plane coupling")
    if settings.surface_tension and bool((pressure[:, 0] != pressure[:, 2]).any()):
        raise InputError("give a surface tension or different pressures in-plane and normal, not both")
    if not 0.0 < settings.compressibility < 1.0:
        raise InputError(f"compressibility must be positive, in 1/bar (water: 4.5e-5), not {settings.compressibility}")
    return Barostat(
        pressure=BAR * pressure,
        coupling=coupling,
        time_constant=parse_time(settings.barostat_time_constant),
        surface_tension=MILLINEWTON_PER_M * settings.surface_tension,
        compressibility=settings.compressibility / BAR,
    )


def read_walltime(text: str | float | None) -> float | None:
    """Seconds, from ``"24h"``, ``"30m"``, ``"90s"``, ``"1d"``, ``"12:00:00"`` or a number of seconds.

    Raises:
        InputError: none of these.
    """
    if text is None:
        return None
    written = str(text).strip().lower()
    clock = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", written)
    if clock:
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        return 86400.0 * days + 3600.0 * hours + 60.0 * minutes + seconds
    match = re.fullmatch(r"([0-9.]+)\s*(d|h|m|min|s|)", written)
    scale = {"d": 86400.0, "h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0, "": 1.0}
    value = _number(match.group(1), "walltime", "hours") * scale[match.group(2)] if match else 0.0
    if value <= 0.0:
        raise InputError(f"cannot read {text!r} as a wall time; write for example '24h', '30m' or '12:00:00'")
    return value


def _number(text: str, name: str, unit: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"cannot read {text.strip()!r} as a {name} in {unit}") from None
