"""Backbone angles φ and ψ: their map, populations of its regions, and averages of each residue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from heliodor.analysis.proteins.backbone import backbone_of, dihedrals, missing, require
from heliodor.analysis.proteins.reference import read_reference
from heliodor.analysis.proteins.series import POPULATIONS, memory_of, share_of, thinned
from heliodor.analysis.proteins.torsions import Torsions, circular_mean, protein_torsions, torsion_series, within
from heliodor.analysis.show import Axis, Curve, Heat, Number, Panel, Shown
from heliodor.errors import InputError
from heliodor.trajectory.parallel import Progress
from heliodor.trajectory.trajectory import Trajectory

REGIONS = {
    "α": (((-160.0, -20.0), (-120.0, 50.0)),),
    "β": (((-180.0, -90.0), (50.0, 240.0)), ((160.0, 180.0), (110.0, 180.0))),
    "PPII": (((-90.0, -20.0), (50.0, 240.0)),),
    "φ > 0": (((0.0, 160.0), (-180.0, 180.0)),),
}
"""Degrees: boxes of φ and ψ. The first three of Best, Buchete & Hummer, Biophys. J. 95, L07 (2008)."""

POINTS = {
    "α helix": (-57.0, -47.0),
    "3₁₀ helix": (-49.0, -26.0),
    "π helix": (-57.0, -70.0),
    "PPII": (-78.0, 149.0),
    "β parallel": (-119.0, 113.0),
    "β antiparallel": (-139.0, 135.0),
    "C7eq": (-86.0, 79.0),
    "C7ax": (76.0, -55.0),
}
"""Degrees: regular structures after IUPAC-IUB, J. Mol. Biol. 52, 1 (1970); C7 of the alanine dipeptide after
Head-Gordon et al., J. Am. Chem. Soc. 113, 5989 (1991)."""

MANY = 500
"""Pairs of angles from which on a density is drawn."""

DRAWN = 4000
"""Points drawn at most."""

KEPT = 1_000_000
"""Numbers in the table of angles along time; of longer trajectories every so many frames."""


@dataclass(frozen=True, eq=False)
class Angles:
    """φ and ψ in degrees of the R residues that have both, in T frames.

    Attributes:
        time: fs.
        labels: of residues.
        numbers: of residues, as in the file.
        phi, psi: single precision.
    """

    time: Float[np.ndarray, "T"]
    labels: tuple[str, ...]
    numbers: np.ndarray
    phi: Float[np.ndarray, "T R"]
    psi: Float[np.ndarray, "T R"]

    def region(self, name: str) -> np.ndarray:
        """[T, R] whether residues are in one of `REGIONS`."""
        boxes = [within(self.phi, *phi) & within(self.psi, *psi) for phi, psi in REGIONS[name]]
        inside: np.ndarray = np.any(boxes, axis=0)
        return inside


def unfit(trajectory: Trajectory) -> str | None:
    """Why there is no residue with both angles, in words; None if there is one."""
    reason = missing(trajectory)
    if reason is None and not len(_both(trajectory)[0]):
        reason = "no amino acid has neighbours on both sides, so that there is no pair of φ and ψ"
    return reason


def _both(trajectory: Trajectory) -> tuple[np.ndarray, Torsions]:
    torsions = protein_torsions(trajectory.topology).of("phi", "psi")
    residues, count = np.unique(torsions.residues, return_counts=True)
    return residues[count == 2], torsions


def backbone_angles(
    trajectory: Trajectory, *, stride: int = 1, progress: Progress | None = None, processes: int = 1
) -> Angles:
    """φ and ψ of every residue that has both, in every ``stride``-th frame.

    Raises:
        InputError: no such residue.
    """
    backbone = backbone_of(trajectory.topology)
    require(trajectory, backbone)
    residues, torsions = _both(trajectory)
    if not len(residues):
        raise InputError(f"{trajectory.path}: {unfit(trajectory)}")
    series = torsion_series(trajectory, torsions, stride=stride, progress=progress, processes=processes)
    kept = np.isin(torsions.residues, residues)
    kinds = np.array(torsions.kinds)
    return Angles(
        time=trajectory.time[::stride],
        labels=tuple(backbone.label(int(r)) for r in residues),
        numbers=backbone.residue_numbers[residues],
        phi=series[:, kept & (kinds == "phi")],
        psi=series[:, kept & (kinds == "psi")],
    )


def density(angles: Angles, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Centres of bins (degrees) and [psi, phi] probability per bin of all residues together."""
    edges = np.linspace(-180.0, 180.0, bins + 1)
    counts = np.histogram2d(_folded(angles.psi).ravel(), _folded(angles.phi).ravel(), bins=(edges, edges))[0]
    return 0.5 * (edges[1:] + edges[:-1]), counts / counts.sum()


def _folded(angles: np.ndarray) -> np.ndarray:
    folded: np.ndarray = (angles.astype(np.float64) + 180.0) % 360.0 - 180.0
    return folded


def show(
    trajectory: Trajectory,
    *,
    progress: Progress | None = None,
    processes: int = 1,
    stride: int = 1,
    bins: int = 72,
    reference: str = "",
) -> Shown:
    """Ramachandran map with reference points, populations of its regions and averages of each residue.

    Args:
        stride: every which frame.
        bins: of the map, along each angle.
        reference: a structure file (pdb ...) whose residues are shown as outlined points.
    """
    if stride < 1 or not 4 <= bins <= 720:
        raise InputError("stride must be at least 1 and bins between 4 and 720")
    angles = backbone_angles(trajectory, stride=stride, progress=progress, processes=processes)
    marks = [_points(), *_reference(reference)]
    panels = []
    phi_axis = Axis("φ", "°", -180.0, 180.0)
    psi_axis = Axis("ψ", "°", -180.0, 180.0)
    if angles.phi.size >= MANY:
        centres, probability = density(angles, bins)
        with np.errstate(divide="ignore"):
            depth = np.where(probability > 0.0, -np.log(probability / probability.max()), np.nan)
        heat = Heat(centres, centres, depth, Axis("-ln p", "kT"))
        panels.append(Panel("Ramachandran map, all residues", phi_axis, psi_axis, tuple(marks), heat))
    panels.append(Panel("φ and ψ by residue", phi_axis, psi_axis, (_scatter(angles), *marks)))
    numbers, fractions = _populations(angles)
    residues = {
        "residue": np.array(angles.labels),
        "phi_deg": circular_mean(angles.phi),
        "psi_deg": circular_mean(angles.psi),
        **fractions,
    }
    every, told = thinned(len(angles.time), 2 * len(angles.labels), KEPT)
    series = {"time_ps": angles.time[every] / 1000.0}
    for r, label in enumerate(angles.labels):
        name = label.replace(" ", "_")
        series |= {f"phi_{name}_deg": angles.phi[every, r], f"psi_{name}_deg": angles.psi[every, r]}
    notes = [
        "Regions in degrees: α -160 < φ < -20, -120 < ψ < 50; PPII -90 < φ < -20, 50 < ψ < 240; β -180 < φ < -90, "
        "50 < ψ < 240 or φ > 160, ψ > 110 (Best, Buchete and Hummer, Biophys. J. 95, L07, 2008); φ > 0 up to 160; the "
        "rest is not counted.",
        f"Ideal structures (φ, ψ): {'; '.join(f'{name} {x:g}, {y:g}' for name, (x, y) in POINTS.items())} (IUPAC-IUB, "
        "J. Mol. Biol. 52, 1, 1970; C7eq and C7ax of the alanine dipeptide: Head-Gordon et al., J. Am. Chem. Soc. 113, "
        "5989, 1991).",
        POPULATIONS,
        *told,
    ]
    tables = {"ramachandran_residues": residues, "ramachandran_series": series}
    return Shown("ramachandran", "Backbone angles φ and ψ", tuple(panels), tuple(numbers), tuple(notes), tables)


def _points() -> Curve:
    x, y = np.array(list(POINTS.values())).T
    return Curve("ideal structures", x, y, style="points", reference=True)


def _reference(file: str) -> list[Curve]:
    if not file:
        return []
    topology, positions = read_reference(file)
    torsions = protein_torsions(topology).of("phi", "psi")
    values = dihedrals(positions[None], torsions.quads)[0]
    found: dict[int, dict[str, float]] = {}
    for residue, kind, value in zip(torsions.residues.tolist(), torsions.kinds, values.tolist(), strict=True):
        found.setdefault(residue, {})[kind] = value
    both = [(one["phi"], one["psi"]) for one in found.values() if len(one) == 2]
    if not both:
        raise InputError(f"{file} holds no residue with φ and ψ to compare with")
    x, y = np.array(both).T
    return [Curve(f"in {file}", x, y, style="points", reference=True)]


def _scatter(angles: Angles) -> Curve:
    frames = max(1, DRAWN // len(angles.labels))
    shown = np.unique(np.linspace(0, len(angles.time) - 1, min(frames, len(angles.time))).round().astype(int))
    residues = np.broadcast_to(angles.numbers.astype(float), (len(shown), len(angles.labels)))
    return Curve(
        "frames",
        angles.phi[shown].astype(float).ravel(),
        angles.psi[shown].astype(float).ravel(),
        style="points",
        colours=residues.ravel().copy(),
        colour_axis=Axis("residue"),
    )


def _populations(angles: Angles) -> tuple[list[Number], dict[str, np.ndarray]]:
    numbers, columns = [], {}
    residues = range(len(angles.labels))
    memories = [max(memory_of(angles.phi[:, r]), memory_of(angles.psi[:, r])) for r in residues]
    for name in REGIONS:
        inside = angles.region(name)
        mean, error, few, each = share_of(inside, memories)
        wide = None if error is None else 100.0 * error
        numbers.append(Number(f"residues in {name}", 100.0 * mean, wide, "%", few.strip(", ")))
        word = {"α": "alpha", "β": "beta", "φ > 0": "positive_phi"}.get(name, name)
        columns[f"fraction_{word}"] = np.array([one[0] for one in each])
        columns[f"error_{word}"] = np.array([np.nan if one[1] is None else one[1] for one in each])
    return numbers, columns
