"""Bilayers of lipids: area, thickness, order of the tails."""

from __future__ import annotations

from heliodor.analysis.membranes.area import show_area
from heliodor.analysis.membranes.density import show_density, unfit_density
from heliodor.analysis.membranes.lipids import unfit
from heliodor.analysis.membranes.order import show_order
from heliodor.analysis.show import Analysis

ANALYSES: tuple[Analysis, ...] = (
    Analysis(
        name="area",
        title="Area per lipid",
        about="Area per lipid of a bilayer along time, lipids by leaflet and their changes of it.",
        unfit=unfit,
        show=show_area,
    ),
    Analysis(
        name="density_profile",
        title="Densities across the bilayer",
        about="Electron density along the bilayer's normal, its components, and the thickness D_HH.",
        unfit=unfit_density,
        show=show_density,
    ),
    Analysis(
        name="order",
        title="Order parameters of the tails",
        about="Order parameters S_CD of the C-H bonds along both tails of the lipids.",
        unfit=unfit,
        show=show_order,
    ),
)
