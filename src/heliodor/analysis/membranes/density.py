"""Densities across a bilayer and its thickness.

Electrons are placed at the nuclei: Z of each, less the model's partial charge where the trajectory holds charges. The
thickness D_HH is the distance between the two maxima of the electron density, near the phosphates: what the first
minima and maxima of X-ray form factors tell of (Kučerka et al., Biophys. J. 95, 2356 (2008)).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from heliodor.analysis.membranes.experiment import THICKNESS, THICKNESS_NOTE
from heliodor.analysis.membranes.frame import axis_of, placed, tail_ends
from heliodor.analysis.membranes.lipids import comparison_note, kinds_of, phospholipids, unfit, unlike_measured
from heliodor.analysis.show import Axis, Curve, Number, Panel, Shown
from heliodor.errors import InputError
from heliodor.topology import Topology
from heliodor.trajectory.block import Block
from heliodor.trajectory.parallel import Progress, over_blocks
from heliodor.trajectory.selection import is_water
from heliodor.trajectory.trajectory import Trajectory

PARTS = 10
"""Consecutive parts of a trajectory, from whose spread errors are taken."""

COMPONENTS = ("all", "lipid", "water", "phosphorus", "other")

PART = "the file holds a part of the atoms that were simulated, and the density is that of all"

CORE = 5.0
"""Å from the midplane within which no headgroup is looked for."""


@dataclass(frozen=True, eq=False)
class Profile:
    """Densities of electrons at heights above the middle of the bilayer.

    Attributes:
        z: Å, centres of bins, symmetric about 0.
        density: e/Å³, by component: "all", "lipid" (phospholipids), "water", "phosphorus", "other".
        error: e/Å³ of the total, from ten parts of the trajectory; NaN if it has fewer than ten frames.
        symmetric: e/Å³, total averaged over both leaflets.
        volume: Å³, mean volume of each bin: density times volume, summed, is the number of electrons.
        thickness: Å, D_HH of the symmetric profile.
        thickness_error: Å, from the parts; None without.
        charges: whether partial charges were taken off.
        skipped: frames that were left out because their charges are no numbers.
        width, smoothing: Å, of bins and of the Gaussian (standard deviation) under which maxima are looked for.
    """

    z: Float[np.ndarray, "Z"]
    density: dict[str, Float[np.ndarray, "Z"]]
    error: Float[np.ndarray, "Z"]
    symmetric: Float[np.ndarray, "Z"]
    volume: Float[np.ndarray, "Z"]
    thickness: float
    thickness_error: float | None
    charges: bool
    width: float
    smoothing: float
    skipped: int = 0


def unfit_density(trajectory: Trajectory) -> str | None:
    """Why there is no profile of it."""
    return PART if trajectory.partial else unfit(trajectory)


def density_profile(
    trajectory: Trajectory,
    axis: str = "c",
    *,
    width: float = 0.5,
    smoothing: float = 1.0,
    charges: bool = True,
    progress: Progress | None = None,
    processes: int = 1,
) -> Profile:
    """Electron density along the normal, each frame about its own midplane (circular mean of the tails' last carbons).

    Args:
        axis: lattice vector that leads out of the bilayer.
        width: Å, of bins.
        smoothing: Å, standard deviation of the Gaussian the profile is smoothed with before its maxima are sought.
        charges: take the model's partial charges into account, where the trajectory holds them.

    Raises:
        InputError: no bilayer, a part of the atoms; widths that are none; charges that are no numbers in all frames
            (frames where they are none are left out).
    """
    if trajectory.partial:
        raise InputError(f"{trajectory.path}: {PART}")
    if not (0.0 < width < 10.0 and 0.0 <= smoothing < 10.0):
        raise InputError(f"bins and smoothing must be widths of up to 10 Å, not {width!r} and {smoothing!r}")
    across = axis_of(axis)
    topology = trajectory.topology
    ends = tail_ends(kinds_of(topology))
    component = _components(topology)
    used = charges and "charges" in trajectory.holds
    total = len(trajectory)
    counts, volumes = np.zeros((PARTS, 0, len(COMPONENTS))), np.zeros((PARTS, 0))
    frames = np.zeros(PARTS, dtype=np.int64)
    for some, volume, here in over_blocks(
        trajectory,
        _of_block,
        across,
        ends,
        topology.numbers.astype(np.float64),
        component,
        width,
        total,
        wanted=("charges",) if used else (),
        progress=progress,
        processes=processes,
    ):
        counts, volumes, frames = _added(counts, some), _added(volumes, volume), frames + here
    good = int(frames.sum())
    if not good:
        raise InputError(f"{trajectory.path} holds charges that are no numbers in all frames: use charges=false")
    volume = volumes.sum(0)
    whole = counts.sum(0) / np.maximum(volume, 1e-300)[:, None]
    half = len(volume) // 2
    z = width * (np.arange(2 * half) - half + 0.5)
    density = {name: whole[:, k] for k, name in enumerate(COMPONENTS)}
    thickness = d_hh(z, whole[:, 0], smoothing)
    error, thickness_error = np.full(len(z), np.nan), None
    if (frames > 0).all():
        parts = counts[:, :, 0] / np.maximum(volumes, 1e-300)
        error = parts.std(0, ddof=1) / np.sqrt(PARTS)
        thick = np.array([d_hh(z, part, smoothing) for part in parts])
        thickness_error = float(thick.std(ddof=1) / np.sqrt(PARTS))
    symmetric = 0.5 * (whole[:, 0] + whole[::-1, 0])
    return Profile(
        z, density, error, symmetric, volume / good, thickness, thickness_error, used, width, smoothing, total - good
    )


def d_hh(z: Float[np.ndarray, "Z"], density: Float[np.ndarray, "Z"], smoothing: float) -> float:
    """Twice the height of the maximum of the symmetrised, smoothed profile beyond the core, by a parabola (Å).

    Raises:
        InputError: densities that are no numbers, a box too thin.
    """
    if not np.isfinite(density).all():
        raise InputError("the density is not a finite number everywhere: there is no thickness to be had")
    width = float(z[1] - z[0])
    even = 0.5 * (density + density[::-1])
    if smoothing > 0.0:
        reach = int(np.ceil(4.0 * smoothing / width))
        steps = width * np.arange(-reach, reach + 1)
        kernel = np.exp(-0.5 * (steps / smoothing) ** 2)
        # the bilayer repeats: what lies beyond one end is what lies at the other
        even = np.convolve(np.pad(even, reach, mode="wrap"), kernel / kernel.sum(), mode="valid")
    outer = np.flatnonzero(z > CORE)
    if len(outer) < 3:
        raise InputError("the box is too thin along the normal for a bilayer")
    k = int(outer[even[outer].argmax()])
    if not 0 < k < len(z) - 1:
        return float(2.0 * z[k])
    before, here, after = even[k - 1 : k + 2]
    curvature = before - 2.0 * here + after
    shift = 0.5 * (before - after) / curvature if curvature < 0.0 else 0.0
    return float(2.0 * (z[k] + width * shift))


def show_density(
    trajectory: Trajectory,
    *,
    progress: Progress | None = None,
    processes: int = 1,
    axis: str = "c",
    width: float = 0.5,
    smoothing: float = 1.0,
    charges: bool = True,
    symmetric: bool = False,
) -> Shown:
    """Electron density across the bilayer and its thickness D_HH.

    Args:
        axis: lattice vector that leads out of the bilayer: a, b or c.
        width: of bins, Å.
        smoothing: standard deviation in Å of the Gaussian under which the maxima are sought; 0: none.
        charges: whether partial charges of the trajectory are taken off the electrons.
        symmetric: whether both leaflets are averaged in the picture.
    """
    found = density_profile(
        trajectory, axis, width=width, smoothing=smoothing, charges=charges, progress=progress, processes=processes
    )
    popc = unlike_measured(trajectory) is None

    def drawn(values: Float[np.ndarray, "Z"]) -> Float[np.ndarray, "Z"]:
        return 0.5 * (values + values[::-1]) if symmetric else values

    # beyond the smallest box a bin is not in every frame
    shown = {name: drawn(values) for name, values in found.density.items() if values.any()}
    total, error = shown["all"], found.error
    band = (None, None) if np.isnan(error).any() else (total - error, total + error)
    curves = [Curve("all", found.z, total, *band)]
    curves += [Curve(name, found.z, values) for name, values in shown.items() if name != "all"]
    electrons = float((found.density["all"] * found.volume).sum())
    return Shown(
        name="density_profile",
        title="Densities across the bilayer",
        panels=(
            Panel(
                "Electron density",
                Axis("height above the midplane", "Å"),
                Axis("electron density", "e/Å³", low=0.0),
                tuple(curves),
            ),
        ),
        numbers=(
            Number(
                "thickness D_HH",
                found.thickness,
                found.thickness_error,
                "Å",
                THICKNESS_NOTE if popc else "distance of the maxima of the electron density",
                THICKNESS if popc else None,
            ),
            Number("electron density of the midplane", float(np.interp(0.0, found.z, found.symmetric)), None, "e/Å³"),
            Number("electrons in the box", electrons, None, "", "the integral of the profile"),
        ),
        notes=(
            "Electrons at the nuclei: atomic number"
            + (", less the model's partial charge." if found.charges else " (no partial charges taken off).")
            + " The phosphorus is a part of the lipid."
            + f" Bins of {width:g} Å; each frame about its own midplane, the mean height of the tails' last carbons.",
            f"D_HH: distance of the maxima, both leaflets averaged, smoothed by a Gaussian of {smoothing:g} Å; its "
            f"error is from {PARTS} consecutive parts of the trajectory.",
            *([f"{found.skipped} frame(s) with charges that are no numbers are left out."] if found.skipped else []),
            *comparison_note(trajectory),
        ),
        tables={
            "density_profile": {"z_A": found.z}
            | {f"{name}_e_per_A3": values for name, values in found.density.items()}
            | {"error_e_per_A3": found.error, "symmetric_e_per_A3": found.symmetric, "bin_volume_A3": found.volume}
        },
    )


def _components(topology: Topology) -> Int[np.ndarray, "N"]:
    """Index into `COMPONENTS` of each atom; phosphorus of lipids counts as lipid too."""
    kind = np.full(len(topology), COMPONENTS.index("other"))
    kind[is_water(topology)] = COMPONENTS.index("water")
    lipid = np.isin(topology.molecules, phospholipids(topology))
    kind[lipid] = COMPONENTS.index("lipid")
    kind[lipid & (topology.numbers == 15)] = COMPONENTS.index("phosphorus")
    return kind


def _of_block(
    block: Block,
    across: int,
    ends: Int[np.ndarray, "e"],
    numbers: Float[np.ndarray, "N"],
    component: Int[np.ndarray, "N"],
    width: float,
    total: int,
) -> tuple[Float[np.ndarray, "P Z C"], Float[np.ndarray, "P Z"], Int[np.ndarray, "P"]]:
    """Electrons and volumes (Å³) in bins, summed over the frames of each part, and how many these are."""
    frame = placed(block, across, ends)
    half = int(np.ceil(0.5 * float(frame.period.max()) / width - 1e-9))
    counts = np.zeros((PARTS, 2 * half, len(COMPONENTS)))
    volumes = np.zeros((PARTS, 2 * half))
    edges = width * (np.arange(2 * half + 1) - half)
    heights = frame.heights(block.positions)
    bins = np.clip(np.floor(heights / width).astype(np.int64) + half, 0, 2 * half - 1)
    frames = np.zeros(PARTS, dtype=np.int64)
    for k, index in enumerate(block.index.tolist()):
        if block.charges is not None and not np.isfinite(block.charges[k]).all():
            # as the first frame of a run that was continued
            continue
        part = index * PARTS // total
        frames[part] += 1
        electrons = numbers if block.charges is None else numbers - block.charges[k]
        place = bins[k] * len(COMPONENTS) + component
        table = np.bincount(place, weights=electrons, minlength=counts[part].size).reshape(2 * half, -1)
        table[:, 0] = table[:, 1:].sum(1)
        # phosphorus belongs to the lipids
        table[:, COMPONENTS.index("lipid")] += table[:, COMPONENTS.index("phosphorus")]
        counts[part] += table
        # the outermost bins are in the box in part only
        limit = 0.5 * float(frame.period[k])
        inside = np.clip(edges[1:], -limit, limit) - np.clip(edges[:-1], -limit, limit)
        volumes[part] += inside * float(frame.area[k])
    return counts, volumes, frames


def _added(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum of two profiles [P, Z, ...] about the same middle, of which one may be longer."""
    size = max(a.shape[1], b.shape[1])

    def padded(x: np.ndarray) -> np.ndarray:
        side = (size - x.shape[1]) // 2
        return np.pad(x, [(0, 0), (side, side)] + [(0, 0)] * (x.ndim - 2))

    result: np.ndarray = padded(a) + padded(b)
    return result
