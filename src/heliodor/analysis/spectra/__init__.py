"""Spectra: vibrations from velocities, infrared from dipoles along a trajectory."""

from __future__ import annotations

from heliodor.analysis.liquids.conditions import PARTIAL
from heliodor.analysis.show import Analysis
from heliodor.analysis.spectra.infrared import show as show_infrared
from heliodor.analysis.spectra.sampling import too_coarse
from heliodor.analysis.spectra.velocities_show import show as show_vdos
from heliodor.trajectory.trajectory import Trajectory


def _no_velocities(trajectory: Trajectory) -> str | None:
    reason = too_coarse(trajectory)
    if reason is not None and "velocities" not in trajectory.holds:
        return f"{reason}; it holds no velocities either"
    return reason


def _no_dipole(trajectory: Trajectory) -> str | None:
    if trajectory.partial:
        return f"{PARTIAL}, and the dipole is that of all"
    return too_coarse(trajectory) if "charges" in trajectory.holds else "it holds no charges"


ANALYSES: tuple[Analysis, ...] = (
    Analysis(
        name="vdos",
        title="Power spectrum of the velocities",
        about="Vibrational density of states from velocity autocorrelation, with the shares of elements or groups.",
        unfit=_no_velocities,
        show=show_vdos,
    ),
    Analysis(
        name="infrared",
        title="Infrared spectrum",
        about="Infrared spectrum from the dipole along the run (the model's charges), quantum corrected.",
        unfit=_no_dipole,
        show=show_infrared,
    ),
)
