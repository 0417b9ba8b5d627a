"""Conformations of a molecule: how large, how far from where it began, which shapes, which bonds."""

from __future__ import annotations

from heliodor.analysis.conformations.bonds import show_bonds
from heliodor.analysis.conformations.bonds import unfit as no_bonds
from heliodor.analysis.conformations.clusters import show_clusters
from heliodor.analysis.conformations.deviation import show_deviation
from heliodor.analysis.conformations.embedding import show_embedding
from heliodor.analysis.conformations.size import show_size
from heliodor.analysis.conformations.solute import solute_atoms, unfit, unfit_moving
from heliodor.analysis.conformations.wandering import show_wandering
from heliodor.analysis.show import Analysis
from heliodor.trajectory.selection import is_protein
from heliodor.trajectory.trajectory import Trajectory


def _few_lags(trajectory: Trajectory) -> str | None:
    reason = unfit_moving(trajectory)
    return reason or ("it holds fewer than four frames" if len(trajectory) < 4 else None)


def _few_points(trajectory: Trajectory) -> str | None:
    reason = unfit_moving(trajectory)
    return reason or ("it holds fewer than ten frames" if len(trajectory) < 10 else None)


def _no_map(trajectory: Trajectory) -> str | None:
    reason = unfit_moving(trajectory)
    return reason or (
        f"a map of {len(trajectory)} frames says nothing: 50 are the least" if len(trajectory) < 50 else None
    )


def _protein(trajectory: Trajectory) -> str | None:
    reason = unfit_moving(trajectory)
    if reason is None and is_protein(trajectory.topology)[solute_atoms(trajectory.topology)].all():
        reason = "its solute is a protein, of which rmsd tells more"
    return reason


ANALYSES: tuple[Analysis, ...] = (
    Analysis(
        name="size",
        title="Size of the molecule",
        about="Radius of gyration, largest extent and end-to-end distance of the solute along time.",
        unfit=unfit,
        show=show_size,
    ),
    Analysis(
        name="deviation",
        title="RMSD from the first frame",
        about="RMSD of the solute's heavy atoms from the first frame or a reference structure; of proteins see rmsd.",
        unfit=_protein,
        show=show_deviation,
    ),
    Analysis(
        name="wandering",
        title="RMSD(t, t+Δt)",
        about="Distribution of the RMSD between frames against the time between them, with quartiles.",
        unfit=_few_lags,
        show=show_wandering,
    ),
    Analysis(
        name="map",
        title="Map of conformations",
        about="Two-dimensional map (UMAP or principal components) of the conformations, coloured by time.",
        unfit=_no_map,
        show=show_embedding,
    ),
    Analysis(
        name="clusters",
        title="Groups of conformations",
        about="Groups of similar conformations, their populations and representative frames.",
        unfit=_few_points,
        show=show_clusters,
    ),
    Analysis(
        name="bonds",
        title="Bonds broken and formed",
        about="Covalent bonds that broke or formed since the first frame, with the atoms and times.",
        unfit=no_bonds,
        show=show_bonds,
    ),
)
