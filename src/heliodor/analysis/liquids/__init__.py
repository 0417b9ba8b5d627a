"""Liquids: structure, density, diffusion, dipoles and charges, heats of vaporisation."""

from __future__ import annotations

from heliodor.analysis.liquids.charges import show as show_charges
from heliodor.analysis.liquids.conditions import PARTIAL
from heliodor.analysis.liquids.density import show as show_density
from heliodor.analysis.liquids.diffusion_show import show as show_diffusion
from heliodor.analysis.liquids.dipoles_show import show as show_dipoles
from heliodor.analysis.liquids.rdf_show import show as show_rdf
from heliodor.analysis.liquids.vaporisation import show as show_vaporisation
from heliodor.analysis.show import Analysis
from heliodor.errors import InputError
from heliodor.trajectory.trajectory import Trajectory

LEAST = 40
"""Frames from which a diffusion coefficient can be had."""


def _molecules(trajectory: Trajectory) -> int:
    return int(trajectory.topology.molecules.max()) + 1


def _unfit_rdf(trajectory: Trajectory) -> str | None:
    if not trajectory.periodic:
        return "it is not periodic in all directions"
    if _molecules(trajectory) < 2:
        return "it holds a single molecule"
    return None


def _unfit_density(trajectory: Trajectory) -> str | None:
    if not trajectory.periodic:
        return "it is not periodic in all directions"
    if trajectory.partial:
        return f"{PARTIAL}; the log says the density"
    return None


def _unfit_diffusion(trajectory: Trajectory) -> str | None:
    if not trajectory.periodic:
        return "it is not periodic in all directions"
    if _molecules(trajectory) < 2:
        return "it holds a single molecule"
    if len(trajectory) < LEAST:
        return f"it holds {len(trajectory)} frames, and {LEAST} are the least"
    try:
        trajectory.interval  # noqa: B018
    except InputError as error:
        return str(error)
    return None


def _unfit_dipoles(trajectory: Trajectory) -> str | None:
    if trajectory.partial:
        return f"{PARTIAL}, and its molecules may be pieces"
    return None if "charges" in trajectory.holds else "it holds no charges"


def _unfit_charges(trajectory: Trajectory) -> str | None:
    held = {"charges", "hirshfeld_ratios"} & trajectory.holds
    return None if held else "it holds neither charges nor Hirshfeld ratios"


def _unfit_vaporisation(trajectory: Trajectory) -> str | None:
    if not trajectory.periodic:
        return "it is not periodic in all directions: give the liquid, and the gas as an option"
    if trajectory.partial:
        return f"{PARTIAL}, and the log has the energy of all"
    if _molecules(trajectory) < 2:
        return "it holds a single molecule"
    if "energy" not in trajectory.holds and "potential_eV" not in trajectory.log:
        return "neither it nor a log beside it holds energies"
    return None


ANALYSES: tuple[Analysis, ...] = (
    Analysis(
        name="rdf",
        title="Radial distribution functions",
        about="Radial distribution functions and coordination numbers; for water beside what is measured.",
        unfit=_unfit_rdf,
        show=show_rdf,
    ),
    Analysis(
        name="density",
        title="Density",
        about="Mass density along time, its mean with error, and whether it has settled.",
        unfit=_unfit_density,
        show=show_density,
    ),
    Analysis(
        name="diffusion",
        title="Self-diffusion",
        about="Self-diffusion of molecules from the mean square displacement, corrected for the size of the cell.",
        unfit=_unfit_diffusion,
        show=show_diffusion,
    ),
    Analysis(
        name="dipoles",
        title="Dipole moments",
        about="Dipole moments of molecules from the charges of each frame: means, distributions, along time.",
        unfit=_unfit_dipoles,
        show=show_dipoles,
    ),
    Analysis(
        name="charges",
        title="Charges and Hirshfeld ratios",
        about="Partial charges and Hirshfeld ratios by element and atom: means and distributions.",
        unfit=_unfit_charges,
        show=show_charges,
    ),
    Analysis(
        name="vaporisation",
        title="Heat of vaporisation",
        about="Heat of vaporisation from the energies of a liquid and of one molecule alone (gas=FILE).",
        unfit=_unfit_vaporisation,
        show=show_vaporisation,
        usual=False,
    ),
)
