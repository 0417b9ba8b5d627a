"""Area per lipid of a bilayer, lipids by leaflet, and those that change it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from heliodor.analysis.along import mean_error, time_axis
from heliodor.analysis.membranes.experiment import AREA, AREA_NOTE
from heliodor.analysis.membranes.frame import axis_of, placed, tail_ends
from heliodor.analysis.membranes.lipids import comparison_note, kinds_of, unlike_measured
from heliodor.analysis.show import Axis, Curve, Number, Panel, Shown
from heliodor.errors import InputError
from heliodor.trajectory.block import Block
from heliodor.trajectory.parallel import Progress, over_blocks
from heliodor.trajectory.trajectory import Trajectory


@dataclass(frozen=True, eq=False)
class Area:
    """Of T frames.

    Attributes:
        time: fs.
        box: Å², of the box in the plane of the bilayer.
        upper, lower: phospholipids with the phosphorus above and below the middle.
        per_lipid: Å², box area over the mean number of phospholipids of a leaflet, 2 A/L.
        flips: how often a phosphorus changed sides between two frames.
        lipids: names and numbers: "128 POPC".
        popc: whether it can be held against measurements: POPC, water and ions alone, near 303 K if that is known.
    """

    time: Float[np.ndarray, "T"]
    box: Float[np.ndarray, "T"]
    upper: Int[np.ndarray, "T"]
    lower: Int[np.ndarray, "T"]
    per_lipid: Float[np.ndarray, "T"]
    flips: int
    lipids: str
    popc: bool


def area_per_lipid(
    trajectory: Trajectory, axis: str = "c", *, progress: Progress | None = None, processes: int = 1
) -> Area:
    """Area of the box in the plane of the bilayer, shared by the phospholipids of a leaflet.

    Cholesterol and others without phosphorus are not counted as lipids; the area they take is shared by the rest.

    Args:
        axis: lattice vector that leads out of the bilayer.

    Raises:
        InputError: no bilayer: no tails, or all phosphorus on one side.
    """
    across = axis_of(axis)
    kinds = kinds_of(trajectory.topology)
    ends = tail_ends(kinds)
    phosphorus = np.sort(np.concatenate([kind.phosphorus for kind in kinds]))
    atoms = np.union1d(ends, phosphorus)
    places = np.searchsorted(atoms, ends), np.searchsorted(atoms, phosphorus)
    boxes, ups = [], []
    before: np.ndarray | None = None
    flips = 0
    for box, above in over_blocks(
        trajectory, _of_block, across, *places, atoms=atoms, progress=progress, processes=processes
    ):
        chain = above if before is None else np.concatenate([before[None], above])
        flips += int((chain[1:] != chain[:-1]).sum())
        before = above[-1]
        boxes.append(box)
        ups.append(above.sum(1))
    box, upper = np.concatenate(boxes), np.concatenate(ups).astype(np.int64)
    lower = len(phosphorus) - upper
    if not (upper[0] and lower[0]):
        raise InputError(
            f"{trajectory.path}: all phosphorus atoms lie on one side of the tails along {axis}: this is no bilayer, "
            "or another lattice vector leads out of it (axis a or b)"
        )
    names = ", ".join(f"{len(kind.molecules)} {kind.name}" for kind in kinds)
    popc = unlike_measured(trajectory) is None
    return Area(trajectory.time, box, upper, lower, 2.0 * box / len(phosphorus), flips, names, popc)


def show_area(
    trajectory: Trajectory, *, progress: Progress | None = None, processes: int = 1, axis: str = "c"
) -> Shown:
    """Area per lipid along time.

    Args:
        axis: lattice vector that leads out of the bilayer: a, b or c.
    """
    found = area_per_lipid(trajectory, axis, progress=progress, processes=processes)
    x, time = time_axis(found.time)
    mean, error = mean_error(found.per_lipid)
    curves = [Curve("trajectory", x, found.per_lipid)]
    value, doubt = AREA
    if found.popc:
        ends = np.array([x[0], x[-1]])
        level = np.full(2, value)
        curves.append(Curve("experiment, POPC at 303 K", ends, level, level - doubt, level + doubt, reference=True))
    return Shown(
        name="area",
        title="Area per lipid",
        panels=(Panel("Area per lipid", time, Axis("area per lipid", "Å²"), tuple(curves)),),
        numbers=(
            Number(
                "area per lipid",
                mean,
                error,
                "Å²",
                AREA_NOTE if found.popc else found.lipids,
                value if found.popc else None,
            ),
            Number("upper leaflet", float(found.upper.mean()), None, "lipids"),
            Number("lower leaflet", float(found.lower.mean()), None, "lipids"),
            Number("changes of leaflet", float(found.flips)),
        ),
        notes=(
            f"{found.lipids}. Box area in the plane of the bilayer over the mean number of phospholipids of its two "
            "leaflets; a lipid belongs to the side of the midplane on which its phosphorus is.",
            "Errors are standard errors of the mean from the correlation along time.",
            *comparison_note(trajectory),
            *(
                ["The file holds a part of the atoms: the area is right if all lipids are."]
                if trajectory.partial
                else []
            ),
        ),
        tables={
            "area": {
                "time_ps": found.time / 1e3,
                "area_per_lipid_A2": found.per_lipid,
                "box_area_A2": found.box,
                "upper": found.upper,
                "lower": found.lower,
            }
        },
    )


def _of_block(block: Block, across: int, ends: np.ndarray, phosphorus: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    frame = placed(block, across, ends)
    return frame.area, frame.heights(block.positions[:, phosphorus]) > 0.0
