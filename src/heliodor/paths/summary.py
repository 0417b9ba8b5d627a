"""Numbers of a path-integral run, with errors, its first part left out."""

from __future__ import annotations

import numpy as np

from heliodor.analysis.show import Number
from heliodor.analysis.statistics import mean_with_error
from heliodor.errors import InputError
from heliodor.paths.quantum import by_element
from heliodor.paths.result import PathResult
from heliodor.units import BOLTZMANN

SKIP = 0.2
"""Share of a run left out as equilibration: ring polymers start from one spot."""

LONG = 20.0
"""Times of the centroids' thermostat below which errors cannot be told from the run itself."""

NAMES = {
    "temperature": "temperature",
    "potential": "potential energy",
    "kinetic_virial": "kinetic energy, centroid virial",
    "kinetic_primitive": "kinetic energy, primitive",
    "pressure": "pressure",
    "volume": "volume",
}
UNITS = {"temperature": "K", "pressure": "bar", "volume": "Å³"}


def settled(result: PathResult, skip: float = SKIP) -> slice:
    """Frames that count.

    Raises:
        InputError: a share that is none, or no frame left.
    """
    if not 0.0 <= skip < 1.0:
        raise InputError(f"the share left out must be from 0 to below 1, not {skip!r}")
    start = int(skip * len(result.time))
    if len(result.time) - start < 1:
        raise InputError(f"{result.folder} holds no frame yet: run longer, or store more often (stride)")
    return slice(start, None)


def summary(result: PathResult, skip: float = SKIP) -> tuple[Number, ...]:
    """Means of what each frame holds, the drift of what should be conserved, and kinetic energies by element."""
    kept = settled(result, skip)
    numbers = []
    for name, words in NAMES.items():
        values = result.properties[name][kept]
        if np.isfinite(values).all():
            numbers.append(Number(words, *mean_with_error(values), UNITS.get(name, "eV")))
    numbers.append(Number("drift of the conserved quantity", drift(result, skip), None, "meV/atom/ps"))
    classical = 1.5e3 * BOLTZMANN * result.settings.temperature
    for symbol, (mean, error) in by_element(result.atoms, result.kinetic_atoms[kept]).items():
        spread = None if error is None else 1e3 * error
        numbers.append(
            Number(f"kinetic energy of {symbol}", 1e3 * mean, spread, "meV", f"classical nuclei: {classical:.2f} meV")
        )
    return tuple(numbers)


def limits(result: PathResult, skip: float = SKIP) -> str | None:
    """A sentence where what counts of a run is too short for its own thermostat; then its errors are too small too."""
    kept = settled(result, skip)
    length = result.settings.stride * result.settings.timestep * len(result.time[kept])
    memory = result.settings.centroid_time
    if length >= LONG * memory:
        return None
    return (
        f"{1e-3 * length:.3g} ps count, and centroids forget their temperature in {1e-3 * memory:.3g} ps: of fewer "
        f"than {LONG:g} such times the means say little, and their errors are too small"
    )


def drift(result: PathResult, skip: float = SKIP) -> float:
    """Slope of the conserved quantity, meV per atom and ps; not a number with fewer than three frames.

    i-PI's conserved quantity is of all beads together, so it is divided by their number too.
    """
    kept = settled(result, skip)
    time, values = 1e-3 * result.time[kept], result.properties["conserved"][kept]
    if len(time) < 3:
        return float("nan")
    slope = np.polyfit(time - time[0], values, 1)[0]
    return float(1e3 * slope / len(result.atoms) / result.settings.beads)
