"""Hydrogen bonds along helices: i -> i+2 (C7), i+3 (3-10 helix), i+4 (α helix), i+5 (π helix), frame by frame.

A bond i -> i+k is between the C=O of residue i and the N-H of residue i+k; caps count as residues. Two definitions,
side by side:

- energy: Kabsch & Sander, Biopolymers 22, 2577 (1983): 0.42 · 0.20 · 332 kcal/mol Å (1/ON + 1/CH - 1/OH - 1/CN) below
  -0.5 kcal/mol, with the hydrogen 1 Å from N opposite to the C=O before it, as DSSP places it;
- geometry: O···H below 2.5 Å and N-H···O above 120°, with the hydrogens of the simulation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from heliodor.analysis.along import time_axis
from heliodor.analysis.proteins.backbone import (
    Backbone,
    View,
    backbone_of,
    hydrogens,
    missing,
    placed_hydrogens,
    require,
    view_of,
)
from heliodor.analysis.proteins.series import mean_of, running_mean
from heliodor.analysis.show import Axis, Curve, Number, Panel, Shown
from heliodor.errors import InputError
from heliodor.topology import Topology
from heliodor.trajectory.block import Block
from heliodor.trajectory.parallel import Progress, over_blocks
from heliodor.trajectory.trajectory import Trajectory

COULOMB = 0.42 * 0.20 * 332.0
"""kcal/mol Å."""

BOUND = -0.5
"""kcal/mol, below which there is a bond."""

DISTANCE, ANGLE = 2.5, 120.0
"""Å between O and H, degrees at H."""

STEPS = (2, 3, 4, 5)
NAMES = {2: "i→i+2 (C7)", 3: "i→i+3 (3₁₀)", 4: "i→i+4 (α)", 5: "i→i+5 (π)"}


@dataclass(frozen=True, eq=False)
class HelixBonds:
    """Numbers of hydrogen bonds in T frames; columns are `STEPS`.

    Attributes:
        time: fs.
        energy: by energy.
        geometry: by distance and angle.
        possible: pairs of C=O and N-H that there are.
    """

    time: Float[np.ndarray, "T"]
    energy: Int[np.ndarray, "T 4"]
    geometry: Int[np.ndarray, "T 4"]
    possible: Int[np.ndarray, "4"]


def helix_bonds(
    trajectory: Trajectory, *, stride: int = 1, progress: Progress | None = None, processes: int = 1
) -> HelixBonds:
    """Count them in every ``stride``-th frame.

    Raises:
        InputError: no amino acids.
    """
    backbone = backbone_of(trajectory.topology)
    require(trajectory, backbone)
    view = view_of(trajectory, backbone.atoms)
    inside = backbone.among(view.atoms)
    parts = list(
        over_blocks(
            trajectory, _count, inside, view, stride=stride, atoms=view.read, progress=progress, processes=processes
        )
    )
    return HelixBonds(
        time=trajectory.time[::stride],
        energy=np.concatenate([part[0] for part in parts]),
        geometry=np.concatenate([part[1] for part in parts]),
        possible=np.array([len(pairs(inside, k)) for k in STEPS]),
    )


def unfit(trajectory: Trajectory) -> str | None:
    """Why there is nothing to count, in words; None if there is something."""
    reason = missing(trajectory)
    if reason is not None:
        return reason
    backbone = backbone_of(trajectory.topology)
    return None if any(len(pairs(backbone, k)) for k in STEPS) else "its peptide is too short for any of these bonds"


def pairs(backbone: Backbone, k: int) -> Int[np.ndarray, "P 2"]:
    """Acceptor and donor residues k apart that have a C=O and an N-H."""
    donor = backbone.further(k)
    nh = (backbone.n >= 0) & (backbone.residue_names != "PRO") & ((backbone.before >= 0) | (backbone.h >= 0))
    good = (donor >= 0) & (backbone.o >= 0) & (backbone.c >= 0) & nh[donor]
    acceptor = np.flatnonzero(good)
    return np.stack([acceptor, donor[acceptor]], axis=1)


def energies(
    positions: Float[np.ndarray, "K n 3"],
    h: Float[np.ndarray, "K R 3"],
    backbone: Backbone,
    couples: Int[np.ndarray, "P 2"],
) -> Float[np.ndarray, "K P"]:
    """Kabsch-Sander energy of each pair (acceptor, donor) of residues, kcal/mol."""
    i, j = couples.T
    o, c, n, hydrogen = positions[:, backbone.o[i]], positions[:, backbone.c[i]], positions[:, backbone.n[j]], h[:, j]

    def inverse(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return 1.0 / np.maximum(np.linalg.norm(a - b, axis=-1), 0.5)

    found: np.ndarray = COULOMB * (inverse(o, n) + inverse(c, hydrogen) - inverse(o, hydrogen) - inverse(c, n))
    return found


def by_geometry(
    positions: Float[np.ndarray, "K n 3"],
    h: Float[np.ndarray, "K R 3"],
    backbone: Backbone,
    couples: Int[np.ndarray, "P 2"],
    distance: float = DISTANCE,
    angle: float = ANGLE,
) -> Bool[np.ndarray, "K P"]:
    """Whether each pair is bonded by O···H distance (Å) and N-H···O angle (degrees)."""
    i, j = couples.T
    to_oxygen = positions[:, backbone.o[i]] - h[:, j]
    to_nitrogen = positions[:, backbone.n[j]] - h[:, j]
    lengths = np.linalg.norm(to_oxygen, axis=-1), np.linalg.norm(to_nitrogen, axis=-1)
    cosine = (to_oxygen * to_nitrogen).sum(-1) / np.maximum(lengths[0] * lengths[1], 1e-12)
    found: np.ndarray = (lengths[0] < distance) & (cosine < np.cos(np.radians(angle)))
    return found


def bonds_of(topology: Topology, positions: Float[np.ndarray, "N 3"]) -> Int[np.ndarray, "4"]:
    """Numbers of hydrogen bonds by energy in one structure (one of whole molecules); columns are `STEPS`."""
    backbone, x = backbone_of(topology), positions[None]
    placed = placed_hydrogens(x, backbone)
    return np.array([(energies(x, placed, backbone, pairs(backbone, k)) < BOUND).sum() for k in STEPS])


def _count(block: Block, backbone: Backbone, view: View) -> tuple[np.ndarray, np.ndarray]:
    positions = view.whole(block)
    placed, real = placed_hydrogens(positions, backbone), hydrogens(positions, backbone)
    by_energy, geometric = [], []
    for k in STEPS:
        couples = pairs(backbone, k)
        by_energy.append((energies(positions, placed, backbone, couples) < BOUND).sum(1))
        geometric.append(by_geometry(positions, real, backbone, couples).sum(1))
    return np.stack(by_energy, axis=1), np.stack(geometric, axis=1)


def show(
    trajectory: Trajectory,
    *,
    progress: Progress | None = None,
    processes: int = 1,
    window_ps: float = 0.0,
    stride: int = 1,
) -> Shown:
    """Counts of helical hydrogen bonds along time, with running means, and their averages.

    Args:
        window_ps: width of the running mean in ps; 0 for a fiftieth of the trajectory.
        stride: every which frame.
    """
    if window_ps < 0.0 or stride < 1:
        raise InputError("window_ps must not be negative and stride at least 1")
    found = helix_bonds(trajectory, stride=stride, progress=progress, processes=processes)
    x, axis = time_axis(found.time)
    panels, numbers, table = [], [], {"time_ps": found.time / 1000.0}
    width = 1
    for way, counts in (("energy", found.energy), ("geometry", found.geometry)):
        curves = []
        for column, k in enumerate(STEPS):
            series = counts[:, column].astype(float)
            smooth, width = running_mean(series, found.time, 1000.0 * window_ps)
            curves.append(Curve(NAMES[k], x, smooth, style="line" if len(x) > 1 else "points"))
            mean, error, note = mean_of(series)
            of = f"of {found.possible[column]} possible"
            numbers.append(Number(f"hydrogen bonds {NAMES[k]}, by {way}", mean, error, "", f"{of}{note}"))
            table[f"bonds_i{k}_{way}"] = counts[:, column]
        both = counts[:, 1] + counts[:, 2]
        if both.sum():
            share = 100.0 * counts[:, 2].sum() / both.sum()
            error = _ratio_error(counts[:, 2], both)
            numbers.append(Number(f"α of α and 3₁₀, by {way}", share, error, "%"))
        panels.append(Panel(f"Helical hydrogen bonds, by {way}", axis, Axis("number", low=0.0), tuple(curves)))
    notes = [
        "A bond i→i+k joins the C=O of residue i and the N-H of residue i+k along one chain; caps count as residues.",
        f"By energy: Kabsch and Sander (Biopolymers 22, 2577, 1983), below {BOUND:g} kcal/mol, hydrogens placed as "
        f"DSSP does. By geometry: O···H below {DISTANCE:g} Å and N-H···O above {ANGLE:g}°, hydrogens of the frames.",
        "One N-H may count in two columns where it is shared between two C=O.",
    ]
    if width > 1:
        notes.append(f"Lines are running means over {width} frames; the table holds every frame.")
    return Shown(
        "helix_bonds", "Helical hydrogen bonds", tuple(panels), tuple(numbers), tuple(notes), {"helix_bonds": table}
    )


def _ratio_error(part: np.ndarray, whole: np.ndarray) -> float | None:
    """Standard error of sum(part)/sum(whole) in per cent, by the mean of part - ratio · whole."""
    ratio = part.sum() / whole.sum()
    _, error, _ = mean_of(part - ratio * whole)
    return None if error is None else float(100.0 * error / whole.mean())
