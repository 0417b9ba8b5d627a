"""Measured properties of liquid water at atmospheric pressure, to hold simulations against."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from jaxtyping import Float

AMBIENT = (283.0, 313.0)
"""K; within, radial distributions measured at 298 K are shown."""

LIQUID = (273.15, 373.15)
"""K; range of the formulas below (viscosity and diffusion to 1 %)."""

SOPER = "Soper, ISRN Phys. Chem. 2013, 279463: neutron and X-ray diffraction at 298 K"
KELL = "Kell, J. Chem. Eng. Data 20, 97 (1975)"
HOLZ = "Holz, Heil & Sacco, PCCP 2, 4740 (2000); 0.230 Å²/ps at 298 K: Mills, J. Phys. Chem. 77, 685 (1973)"
PATEK = "Pátek, Hrubý, Klomfar, Součková & Harvey, J. Phys. Chem. Ref. Data 38, 21 (2009)"

_KELL = (999.83952, 16.945176, -7.9870401e-3, -46.170461e-6, 105.56302e-9, -280.54253e-12)
_PATEK = ((280.68, -1.9), (511.45, -7.7), (61.131, -19.6), (0.45903, -40.0))


@dataclass(frozen=True, eq=False)
class Measured:
    """A radial distribution function.

    Attributes:
        r: Å.
        g: pure numbers; the peaks within the molecule are left out where there are any.
        error: of them.
        source: where it is from.
    """

    r: Float[np.ndarray, "P"]
    g: Float[np.ndarray, "P"]
    error: Float[np.ndarray, "P"]
    source: str


@cache
def water_rdf(pair: str) -> Measured:
    """Between molecules of water at 298 K, for the pair "O-O", "O-H" or "H-H"."""
    text = (files(__package__) / "data" / "water_rdf_soper2013.csv").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if not line.startswith("#")]
    names = rows[0].split(",")
    table = np.array([[float(word) for word in row.split(",")] for row in rows[1:]])
    column = names.index(f"g_{pair.replace('-', '')}")
    # molecules' own peaks lie at 0.98 Å (O-H) and 1.55 Å (H-H), and have died away before the others begin
    outer = table[:, 0] >= {"O-H": 1.2, "H-H": 1.7}.get(pair, 0.0)
    return Measured(table[outer, 0], table[outer, column], table[outer, column + 1], SOPER)


def water_density(temperature: float) -> float:
    """g/cm³ at ``temperature`` in K, by Kell's formula (1975); good to 1e-5 from 0 to 100 °C."""
    t = temperature - 273.15
    return sum(c * t**power for power, c in enumerate(_KELL)) / (1.0 + 16.879850e-3 * t) / 1000.0


def water_viscosity(temperature: float) -> float:
    """mPa s at ``temperature`` in K: the correlation of IAPWS at 0.1 MPa (Pátek et al. 2009), good to 1 %."""
    return sum(c * (temperature / 300.0) ** power for c, power in _PATEK) / 1000.0


def water_diffusion(temperature: float) -> float:
    """Self-diffusion in Å²/ps at ``temperature`` in K: D₀ (T/Tₛ - 1)^γ of Holz et al. (2000), good to 1 %."""
    return 1.635 * (temperature / 215.05 - 1.0) ** 2.063


def is_liquid(temperature: float | None) -> bool:
    """Whether there are measured values of water at this temperature (K)."""
    return temperature is not None and LIQUID[0] <= temperature <= LIQUID[1]


def is_ambient(temperature: float | None) -> bool:
    """Whether radial distributions measured at 298 K are near enough."""
    return temperature is not None and AMBIENT[0] <= temperature <= AMBIENT[1]
