"""Infrared spectra from the dipole of ring polymers."""

from __future__ import annotations

from heliodor.analysis.spectra.sampling import FEWEST, usual_resolution
from heliodor.analysis.spectra.welch import Spectrum, absorption
from heliodor.errors import InputError
from heliodor.paths.result import PathResult
from heliodor.paths.summary import SKIP, settled


def infrared(result: PathResult, resolution: float | None = None, skip: float = SKIP) -> Spectrum:
    """Absorption of the whole structure, km/mol per cm⁻¹, from the mean of the beads' dipoles along the run.

    Of periodic structures the dipole is the sum of the molecules', each about its centre of mass: charge that flows
    from molecule to molecule and the motion of ions are not in it.

    With one bead it is the classical spectrum with the harmonic quantum correction. The autocorrelation of ring-polymer
    dynamics stands for the Kubo-transformed one (Craig & Manolopoulos, J. Chem. Phys. 121, 3368 (2004)), from which
    absorption follows by the same formula without an approximation. The thermostats "pile" and "gle" broaden lines.

    Args:
        resolution: cm⁻¹; None: 10, coarser for short runs.

    Raises:
        InputError: no dipoles, too few frames.
    """
    if result.dipole is None:
        raise InputError(
            f"{result.folder} holds no dipoles (a model without charges, or bonds that run through the cell without "
            "end), and without them there is no spectrum"
        )
    dipole = result.dipole[settled(result, skip)]
    if len(dipole) < FEWEST:
        raise InputError(f"{result.folder} holds {len(dipole)} frames, and {FEWEST} are the least for a spectrum")
    interval = result.settings.stride * result.settings.timestep
    width = usual_resolution(len(dipole) - 1, interval) if resolution is None else resolution
    return absorption(dipole, interval, result.settings.temperature, width)
