"""Settings of well-tempered metadynamics: how long, how hot, which Gaussians."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from heliodor.errors import InputError
from heliodor.units import BOLTZMANN, parse_time


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Choices of a run; times also as text such as ``"10 ps"``.

    Attributes:
        time: length of the run (fs).
        timestep: fs.
        temperature: K.
        friction: of the Langevin thermostat, 1/ps.
        height: of the first Gaussians, eV (0.01 eV is 0.23 kcal/mol).
        bias_factor: γ > 1; the variables are sampled as if at γ times the temperature.
        stride: time between Gaussians (fs).
        wall: stiffness of the walls of distances, eV/Å².
        save_every: time between frames of the trajectory (fs), made a multiple of ``stride``.
        checkpoint_every: simulated time between restart files (fs), likewise.
        seed: of velocities and Langevin noise.
    """

    time: str | float = "100 ps"
    timestep: str | float = 0.5
    temperature: float = 300.0
    friction: float = 2.0
    height: float = 0.01
    bias_factor: float = 10.0
    stride: str | float = 100.0
    wall: float = 20.0
    save_every: str | float = 500.0
    checkpoint_every: str | float = 5000.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("temperature", self.temperature), ("height", self.height), ("wall", self.wall)):
            if not 0.0 < value < math.inf:
                raise InputError(f"{name} must be a number above zero, not {value!r}")
        if not 0.0 < self.friction < math.inf:
            raise InputError(f"friction must be above zero (1/ps), not {self.friction!r}: bias is heat to be taken out")
        if not 1.0 < self.bias_factor < math.inf:
            raise InputError(
                f"the bias factor must be above 1, not {self.bias_factor!r}: 5 to 20 for barriers of 5 to 15 kcal/mol"
            )
        if self.seed < 0:
            raise InputError(f"the seed must not be negative, but is {self.seed}")
        if self.stride_steps < 1:
            raise InputError("the stride between Gaussians is shorter than a timestep")
        if self.hills < 1:
            raise InputError("the run is shorter than the stride between two Gaussians: make time longer")

    @property
    def timestep_fs(self) -> float:
        return parse_time(self.timestep)

    @property
    def stride_steps(self) -> int:
        """Steps between Gaussians."""
        return round(parse_time(self.stride) / self.timestep_fs)

    @property
    def hills(self) -> int:
        """Gaussians of the whole run."""
        return math.ceil(parse_time(self.time) / (self.stride_steps * self.timestep_fs) - 1e-9)

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.hills * self.stride_steps

    def hills_per(self, time: str | float) -> int:
        """Gaussians in a time, at least one."""
        return max(1, round(parse_time(time) / (self.stride_steps * self.timestep_fs)))

    @property
    def kt(self) -> float:
        """eV."""
        return BOLTZMANN * self.temperature

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same when a run goes on; it may be made longer."""
        kept = {k: v for k, v in self.to_dict().items() if k not in ("time", "checkpoint_every", "stride", "timestep")}
        kept["save_every"] = self.hills_per(self.save_every)
        return kept | {"timestep": self.timestep_fs, "stride": self.stride_steps}
