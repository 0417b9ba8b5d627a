"""Pictures of scans: a profile of one dihedral, a map of two."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from heliodor.scan.profile import Profile, compare
from heliodor.scan.result import Scan
from heliodor.units import KCAL_PER_MOL


def draw(scan: Scan, path: Path, *, title: str = "", reference: Profile | None = None) -> None:
    """Write a PNG; relative energies in kcal/mol.

    Args:
        reference: drawn beside a profile, shifted to where it fits best.
    """
    # imported here: it takes half a second, and no global state of pyplot is touched
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2) if len(scan.axes) == 1 else (6.2, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    names = [f"dihedral {r.name} (°)" for r in scan.rotors]
    if len(scan.axes) == 1:
        _profile(axes, scan, reference)
        axes.set_ylabel("relative energy (kcal/mol)")
        axes.grid(alpha=0.25)
    else:
        first, second = (axis.angles for axis in scan.axes)
        drawn = axes.pcolormesh(second, first, scan.relative / KCAL_PER_MOL, cmap="viridis", shading="nearest")
        figure.colorbar(drawn, ax=axes, label="relative energy (kcal/mol)")
        axes.set_ylabel(names[0])
    axes.set_xlabel(names[-1])
    axes.set_title(title, fontsize=10)
    figure.savefig(path, dpi=150, format="png")


def _profile(axes: object, scan: Scan, reference: Profile | None) -> None:
    angles, energies = scan.axes[0].angles, scan.relative / KCAL_PER_MOL
    (points,) = axes.plot(angles, energies, "o", ms=4, label="scan")  # type: ignore[attr-defined]
    if np.isfinite(energies).sum() < 4:
        return
    profile = Profile.of(scan)
    low, high = float(angles[0]), float(angles[0] + 360.0 if scan.axes[0].periodic else angles[-1])
    fine = np.linspace(low, high, 721)
    axes.plot(fine, profile.at(fine) / KCAL_PER_MOL, lw=1.0, color=points.get_color())  # type: ignore[attr-defined]
    if reference is not None:
        shift = compare(profile, reference).offset
        shown = (reference.at(fine) - shift) / KCAL_PER_MOL
        axes.plot(fine, shown, lw=1.0, ls="--", color="0.3", label="reference")  # type: ignore[attr-defined]
        axes.legend(fontsize=8)  # type: ignore[attr-defined]
