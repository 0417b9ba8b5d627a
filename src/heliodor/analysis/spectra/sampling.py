"""Whether frames are near enough in time for the vibrations of a system, and how finely a run resolves them."""

from __future__ import annotations

import numpy as np

from heliodor.analysis.liquids.conditions import only_water
from heliodor.analysis.liquids.freedom import constraints_of
from heliodor.analysis.spectra.welch import LIGHT, reached
from heliodor.errors import InputError
from heliodor.trajectory.trajectory import Trajectory

STRETCHES = 4000.0
"""cm⁻¹; above the fastest vibrations of bonds to hydrogen: 3756 in water as measured, 3950 without anharmonicity."""

BONDS = 2400.0
"""cm⁻¹; above the fastest of other bonds (triple ones), and of bends."""

LOOSE = 1100.0
"""cm⁻¹; above librations of rigid molecules and motions of atoms without bonds."""

FINE = 10.0
"""cm⁻¹; resolution where the run is long enough."""

COARSE = 40.0
"""cm⁻¹; not made coarser than this for the sake of several blocks."""

SEVERAL = 4
"""Blocks that are wanted for an error."""

FEWEST = 50
"""Frames below which there is no spectrum."""


def nyquist(interval: float) -> float:
    """cm⁻¹ of the fastest motion that frames ``interval`` fs apart can show."""
    return 0.5 / (LIGHT * interval)


def fastest(trajectory: Trajectory) -> float:
    """cm⁻¹ above which the system has no vibrations, by its bonds and the constraints of the run."""
    topology = trajectory.topology
    rigid = constraints_of(trajectory)
    if len(topology.bonds) == 0 or (rigid in ("h-bonds", "water") and only_water(topology)):
        return LOOSE
    hydrogens = bool((topology.numbers[topology.bonds] == 1).any())
    return STRETCHES if hydrogens and rigid != "h-bonds" else BONDS


def too_coarse(trajectory: Trajectory) -> str | None:
    """Why a trajectory gives no spectrum: few or uneven frames, or more than half of the spectrum folded over."""
    if len(trajectory) < FEWEST:
        return f"it holds {len(trajectory)} frame(s), and {FEWEST} are the least"
    try:
        interval = trajectory.interval
    except InputError as error:
        return str(error)
    highest, wanted = nyquist(interval), fastest(trajectory)
    if highest < 0.5 * wanted:
        needed = 0.5 / (LIGHT * wanted)
        return (
            f"frames {interval:g} fs apart show motions up to {highest:.0f} cm⁻¹ and fold faster ones over, and its "
            f"vibrations reach {wanted:.0f} cm⁻¹: save every {needed:.1f} fs or more often (--save-every)"
        )
    return None


def folding(trajectory: Trajectory) -> list[str]:
    """A sentence about what is folded over, if anything is."""
    highest, wanted = nyquist(trajectory.interval), fastest(trajectory)
    if highest >= wanted:
        return []
    return [
        f"Frames {trajectory.interval:g} fs apart show motions up to {highest:.0f} cm⁻¹; faster ones (to {wanted:.0f} "
        f"cm⁻¹ here) are folded over and appear at 2 × {highest:.0f} cm⁻¹ less their own wavenumber."
    ]


def usual_resolution(count: int, interval: float) -> float:
    """cm⁻¹ for ``count`` velocities: 10, or as coarse as four blocks make it up to 40, or what the run allows."""
    best = reached(count, interval) * (1.0 + 1e-9)
    return float(max(best, np.clip(SEVERAL * best, FINE, COARSE)))
