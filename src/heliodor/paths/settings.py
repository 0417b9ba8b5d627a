"""PathSettings: every choice of a path-integral run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from heliodor.errors import InputError, suggestion
from heliodor.units import parse_time

THERMOSTATS = ("pile", "gle", "trpmd")

SPECTRA_TIME = 1000.0
"""fs, of the velocity rescaling that keeps centroids warm in TRPMD without disturbing spectra."""


@dataclass(frozen=True)
class PathSettings:
    """Of a run of i-PI.

    Attributes:
        temperature: K.
        beads: of each ring polymer; 1 is classical dynamics.
        time: fs, or text with a unit ("10 ps").
        timestep: fs.
        thermostat: "pile": white noise on each normal mode of the ring polymer, critically damped (PILE-L; Ceriotti et
            al., J. Chem. Phys. 133, 124104 (2010)). "gle": coloured noise whose friction grows with frequency
            (`heliodor.paths.gle`), the same for all beads. "trpmd": thermostatted ring-polymer dynamics for spectra,
            half of the critical friction on the internal modes (Rossi et al., J. Chem. Phys. 140, 234116 (2014))
            and a weak velocity rescaling of the centroids (1 ps).
        pressure: bar; None at constant volume.
        seed: of i-PI's random numbers, not negative.
        stride: steps between stored frames.
        bead_stride: steps between stored positions of all beads; None: ten strides; 0: never.
        centroid: store centroids, and the mean of the forces over the beads, in each frame.
        friction_time: fs, of the centroids' thermostat ("pile"), or the slowest of "gle".
        fixed_center: hold the centre of mass still; off for particles in an external field.
    """

    temperature: float
    beads: int
    time: float | str
    timestep: float = 0.25
    thermostat: str = "pile"
    pressure: float | None = None
    seed: int = 0
    stride: int = 10
    bead_stride: int | None = None
    centroid: bool = False
    friction_time: float = 100.0
    fixed_center: bool = True

    def __post_init__(self) -> None:
        if not 0.0 < self.temperature < math.inf:
            raise InputError(f"the temperature must be positive (K), not {self.temperature!r}")
        if self.beads < 1:
            raise InputError(f"a ring polymer has at least one bead, not {self.beads}")
        if self.thermostat not in THERMOSTATS:
            raise InputError(
                f"the thermostat must be one of {', '.join(THERMOSTATS)}, not {self.thermostat!r}"
                f"{suggestion(self.thermostat, THERMOSTATS)}"
            )
        for name, value in (("time step", self.timestep), ("friction time", self.friction_time)):
            if not 0.0 < value < math.inf:
                raise InputError(f"the {name} must be positive (fs), not {value!r}")
        if self.pressure is not None and not math.isfinite(self.pressure):
            raise InputError(f"the pressure must be a number of bar, not {self.pressure!r}")
        if self.pressure is not None and self.thermostat == "trpmd":
            raise InputError("spectra (trpmd) are of constant volume: leave the pressure out, or take 'pile'")
        if self.stride < 1 or (self.bead_stride or 0) < 0 or self.seed < 0:
            raise InputError("stride must be at least 1, bead_stride and seed not negative")
        if self.steps < 1:
            raise InputError(f"{self.time!r} is shorter than one step of {self.timestep:g} fs")
        if self.steps < self.stride:
            raise InputError(
                f"{self.time!r} is {self.steps} steps of {self.timestep:g} fs, fewer than the {self.stride} between "
                "stored frames (stride): nothing would be stored"
            )

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return round(parse_time(self.time) / self.timestep)

    @property
    def centroid_time(self) -> float:
        """fs, in which the thermostat warms centroids."""
        return SPECTRA_TIME if self.thermostat == "trpmd" else self.friction_time

    @property
    def every_bead(self) -> int:
        """`bead_stride` with its default worked out; 0: never."""
        return 10 * self.stride if self.bead_stride is None else self.bead_stride
