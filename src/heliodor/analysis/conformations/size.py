"""How large a molecule is: radius of gyration, largest extent, distance between its ends."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from heliodor.analysis.along import mean_error, time_axis
from heliodor.analysis.conformations.solute import Solute, find_solute, in_one_piece
from heliodor.analysis.show import Axis, Curve, Number, Panel, Shown
from heliodor.errors import InputError
from heliodor.topology import Topology
from heliodor.trajectory.block import Block
from heliodor.trajectory.parallel import Progress, over_blocks
from heliodor.trajectory.selection import is_protein, select
from heliodor.trajectory.trajectory import Trajectory

MANY = 200
"""Atoms beyond which the farthest two are looked for among the corners of the convex hull only."""


@dataclass(frozen=True, eq=False)
class Size:
    """Of a molecule along T frames.

    Attributes:
        time: fs.
        gyration: Å, radius of gyration √(Σ m |r - r_cm|² / Σ m).
        extent: Å, distance of the two nuclei farthest apart.
        ends: Å, between two given atoms; None without.
        ends_name: which these are.
    """

    time: Float[np.ndarray, "T"]
    gyration: Float[np.ndarray, "T"]
    extent: Float[np.ndarray, "T"]
    ends: Float[np.ndarray, "T"] | None = None
    ends_name: str = ""


def size(
    trajectory: Trajectory,
    selection: str = "",
    ends: tuple[int, int] | None = None,
    *,
    progress: Progress | None = None,
    processes: int = 1,
) -> Size:
    """Radius of gyration, largest extent and end-to-end distance of the solute, every frame.

    Args:
        selection: atoms, in the words of `select`; empty: the solute.
        ends: two atoms (indices in the trajectory) whose distance is wanted; None: the first and last α carbon of a
            protein's only chain, nothing else.

    Raises:
        InputError: no solute; ends that are not among its atoms.
    """
    solute = find_solute(trajectory, selection)
    pair = _ends_of(solute) if ends is None else _places(solute, ends)
    parts = list(
        over_blocks(trajectory, _of_block, solute, pair, atoms=solute.read, progress=progress, processes=processes)
    )
    gyration, extent, between = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    name = "" if pair is None else " to ".join(solute.topology.label(k) for k in pair)
    return Size(trajectory.time, gyration, extent, None if pair is None else between, name)


def show_size(
    trajectory: Trajectory,
    *,
    progress: Progress | None = None,
    processes: int = 1,
    selection: str = "",
    ends: str = "",
) -> Shown:
    """Radius of gyration, largest extent and end-to-end distance.

    Args:
        selection: atoms it is computed of; empty: the solute.
        ends: two atom indices "i,j" whose distance is drawn; empty: first and last α carbon of a single chain.
    """
    pair = None
    if ends:
        atoms = select(trajectory.topology, ends)
        if len(atoms) != 2:
            raise InputError(f"ends must be two atoms such as '0,41', not {ends!r}")
        pair = (int(atoms[0]), int(atoms[1]))
    found = size(trajectory, selection, pair, progress=progress, processes=processes)
    x, axis = time_axis(found.time)
    series = {"radius of gyration": found.gyration, "largest extent": found.extent}
    if found.ends is not None:
        series[f"distance {found.ends_name}"] = found.ends
    panels, numbers = [], []
    for name, values in series.items():
        panels.append(Panel(name[:1].upper() + name[1:], axis, Axis(name, "Å"), (Curve("", x, values),)))
        mean, error = mean_error(values)
        numbers.append(Number(name, mean, error, "Å", f"spread {values.std():.3g} Å" if len(values) > 1 else ""))
    columns = ("gyration_A", "extent_A", "ends_A")
    table = {"time_ps": found.time / 1e3} | dict(zip(columns, series.values(), strict=False))
    return Shown(
        name="size",
        title="Size of the molecule",
        panels=tuple(panels),
        numbers=tuple(numbers),
        notes=(
            "The radius of gyration is weighted by masses; the largest extent is that of nuclei, hydrogens included.",
            "Errors are standard errors of the mean from the correlation along time.",
        ),
        tables={"size": table},
    )


def _of_block(
    block: Block, solute: Solute, pair: tuple[int, int] | None
) -> tuple[Float[np.ndarray, "K"], Float[np.ndarray, "K"], Float[np.ndarray, "K"]]:
    r = in_one_piece(block, solute)
    weights = solute.masses / solute.masses.sum()
    away = r - np.einsum("n,knc->kc", weights, r)[:, None]
    gyration = np.sqrt(np.einsum("n,knc,knc->k", weights, away, away))
    extent = np.array([_extent(frame) for frame in r])
    between = np.zeros(len(r)) if pair is None else np.linalg.norm(r[:, pair[1]] - r[:, pair[0]], axis=1)
    return gyration, extent, between


def _extent(points: Float[np.ndarray, "n 3"]) -> float:
    from scipy.spatial import ConvexHull, QhullError
    from scipy.spatial.distance import pdist

    if len(points) > MANY:
        # where all lie in one plane every atom is a candidate
        with suppress(QhullError):
            points = points[ConvexHull(points).vertices]
    return float(pdist(points).max())


def _ends_of(solute: Solute) -> tuple[int, int] | None:
    t: Topology = solute.topology
    alpha = np.flatnonzero(is_protein(t) & (t.names == "CA"))
    if len(alpha) < 2 or len(np.unique(t.molecules[alpha])) > 1 or not t.named:
        return None
    return int(alpha[0]), int(alpha[-1])


def _places(solute: Solute, ends: tuple[int, int]) -> tuple[int, int]:
    places = [np.flatnonzero(solute.atoms == atom) for atom in ends]
    if ends[0] == ends[1] or any(len(place) == 0 for place in places):
        raise InputError(f"the ends {ends[0]} and {ends[1]} must be two different atoms of the solute")
    return int(places[0][0]), int(places[1][0])
