"""How torsions are distributed: histograms, and populations of rotamers with errors."""

from __future__ import annotations

import numpy as np

from heliodor.analysis.proteins.series import POPULATIONS, memory_of, share_of, thinned, trust
from heliodor.analysis.proteins.torsions import (
    GREEK,
    KINDS,
    Torsions,
    circular_mean,
    given_torsions,
    protein_torsions,
    torsion_series,
    within,
)
from heliodor.analysis.show import Axis, Curve, Number, Panel, Shown
from heliodor.errors import InputError, suggestion
from heliodor.trajectory.parallel import Progress
from heliodor.trajectory.trajectory import Trajectory

ROTAMERS = {"g+": (0.0, 120.0), "t": (120.0, 240.0), "g-": (-120.0, 0.0)}
"""Degrees."""

BONDS = {"trans": (90.0, 270.0), "cis": (-90.0, 90.0)}
"""Degrees, of ω."""

FEW = 8
"""Torsions of a kind up to which each is drawn and listed by itself."""

KEPT = 1_000_000


def show(
    trajectory: Trajectory,
    *,
    progress: Progress | None = None,
    processes: int = 1,
    kinds: str = "phi,psi,omega,chi1,chi2",
    bins: int = 72,
    stride: int = 1,
) -> Shown:
    """Distributions of the torsions of a protein, and populations of their rotamers.

    Args:
        kinds: which of phi, psi, omega, chi1, chi2, chi3, chi4.
        bins: of the histograms.
        stride: every which frame.
    """
    asked = kinds.replace(",", " ").split()
    for word in asked:
        if word not in KINDS:
            raise InputError(f"there is no torsion {word!r}{suggestion(word, KINDS)}; known: {', '.join(KINDS)}")
    torsions = protein_torsions(trajectory.topology).of(*asked)
    if not len(torsions):
        raise InputError(f"{trajectory.path} has no torsions {kinds}")
    return _shown("torsions", "Torsions", trajectory, torsions, bins, stride, progress, processes)


def show_given(
    trajectory: Trajectory,
    *,
    progress: Progress | None = None,
    processes: int = 1,
    atoms: str = "",
    bins: int = 72,
    stride: int = 1,
) -> Shown:
    """Distributions of torsions of any four atoms, and populations of gauche and trans.

    Args:
        atoms: four atoms counted from 0, "0,1,2,3"; several torsions separated by semicolons.
        bins: of the histograms.
        stride: every which frame.
    """
    if not atoms:
        raise InputError("say which torsion, by four atoms counted from 0: atoms=0,1,2,3")
    torsions = given_torsions(trajectory.topology, atoms)
    return _shown("dihedral", "Torsions of given atoms", trajectory, torsions, bins, stride, progress, processes)


def _shown(
    name: str,
    title: str,
    trajectory: Trajectory,
    torsions: Torsions,
    bins: int,
    stride: int,
    progress: Progress | None,
    processes: int,
) -> Shown:
    if stride < 1 or not 4 <= bins <= 720:
        raise InputError("stride must be at least 1 and bins between 4 and 720")
    series = torsion_series(trajectory, torsions, stride=stride, progress=progress, processes=processes)
    kinds = np.array(torsions.kinds)
    panels, numbers = [], []
    rows: dict[str, list[object]] = {"torsion": [], "mean_deg": [], "state": [], "fraction": [], "error": []}
    for kind in dict.fromkeys(torsions.kinds):
        columns = np.flatnonzero(kinds == kind)
        word = GREEK.get(kind, "torsion")
        panels.append(_histogram(series, columns, torsions, word, bins))
        if kind in ("phi", "psi"):
            continue
        memories = [memory_of(series[:, column]) for column in columns]
        states = BONDS if kind == "omega" else ROTAMERS
        for state, (low, high) in states.items():
            inside = within(series[:, columns], low, high)
            mean, doubt, few, each = share_of(inside, memories)
            for column, (fraction, error), memory in zip(columns, each, memories, strict=True):
                label = torsions.labels[column]
                rows["torsion"].append(label)
                rows["mean_deg"].append(float(circular_mean(series[:, column])))
                rows["state"].append(state)
                rows["fraction"].append(fraction)
                rows["error"].append(np.nan if error is None else error)
                if len(columns) <= FEW:
                    wide = None if error is None else 100.0 * error
                    said = "never seen" if fraction == 0.0 else trust(len(series) / memory)
                    numbers.append(Number(f"{label}, {state}", 100.0 * fraction, wide, "%", said))
            if len(columns) > FEW:
                wide = None if doubt is None else 100.0 * doubt
                numbers.append(Number(f"{word} {state}, all residues", 100.0 * mean, wide, "%", few.strip(", ")))
    every, told = thinned(len(series), len(torsions), KEPT)
    along = {"time_ps": trajectory.time[::stride][every] / 1000.0}
    along |= {f"{label.replace(' ', '_')}_deg": series[every, k] for k, label in enumerate(torsions.labels)}
    notes = (
        "Rotamers: g+ 0° to 120°, t 120° to 240°, g- -120° to 0°; ω is trans beyond 90° and cis within, and belongs to "
        "the bond before its residue; χ after IUPAC-IUB, J. Mol. Biol. 52, 1 (1970).",
        POPULATIONS,
        *told,
    )
    tables: dict[str, dict[str, np.ndarray]] = {f"{name}_series": along}
    if rows["torsion"]:
        tables[f"{name}_populations"] = {key: np.array(values) for key, values in rows.items()}
    return Shown(name, title, tuple(panels), tuple(numbers), notes, tables)


def _histogram(series: np.ndarray, columns: np.ndarray, torsions: Torsions, word: str, bins: int) -> Panel:
    edges = np.linspace(-180.0, 180.0, bins + 1)
    centres = 0.5 * (edges[1:] + edges[:-1])

    def of(values: np.ndarray) -> np.ndarray:
        folded = (values.astype(np.float64) + 180.0) % 360.0 - 180.0
        counts: np.ndarray = np.histogram(folded, bins=edges, density=True)[0]
        return counts

    if len(columns) <= FEW:
        curves = tuple(Curve(torsions.labels[k], centres, of(series[:, k]), style="steps") for k in columns)
    else:
        curves = (Curve(f"{word}, {len(columns)} residues", centres, of(series[:, columns].ravel()), style="steps"),)
    return Panel(f"Distribution of {word}", Axis(word, "°", -180.0, 180.0), Axis("probability", "1/°", low=0.0), curves)
