"""Conformations as points in a plane: similar ones lie together; several trajectories in one map.

UMAP: McInnes, Healy & Melville, arXiv:1802.03426 (2018). Distances between groups mean little in such a map, groups do.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from jaxtyping import Float, Int

from heliodor.analysis.along import even_frames, time_axis
from heliodor.analysis.conformations.features import features
from heliodor.analysis.conformations.solute import find_solute, read_shapes
from heliodor.analysis.show import Axis, Curve, Number, Panel, Shown
from heliodor.errors import InputError, MissingExtraError
from heliodor.trajectory.parallel import Progress
from heliodor.trajectory.trajectory import Trajectory

METHODS = ("auto", "umap", "pca")

NEIGHBORS, CLOSENESS = 15, 0.1
"""UMAP's n_neighbors and min_dist: its authors' defaults."""

FEWEST = 10
"""Frames in all that make a map."""


@dataclass(frozen=True, eq=False)
class Embedding:
    """A map of the conformations of S trajectories of one molecule.

    Attributes:
        places: [F, 2] of each trajectory's frames; without unit.
        frames: [F] which frames these are, for each trajectory.
        time: [F] fs, for each trajectory.
        method: "UMAP" or "PCA".
        kind: of features.
        dimensions: how many features.
        captured: fraction of the features' variance that two principal components hold.
    """

    places: tuple[Float[np.ndarray, "_ 2"], ...]
    frames: tuple[Int[np.ndarray, "_"], ...]
    time: tuple[Float[np.ndarray, "_"], ...]
    method: str
    kind: str
    dimensions: int
    captured: float


def embed(
    trajectories: Sequence[Trajectory],
    selection: str = "",
    *,
    kind: str = "distances",
    method: str = "auto",
    frames: int = 2000,
    seed: int = 1,
    progress: Progress | None = None,
) -> Embedding:
    """One two-dimensional map of the conformations of all trajectories.

    Args:
        trajectories: of the same molecule, whatever surrounds it.
        selection: atoms, of which the heavy ones count; empty: the solute.
        kind: of features: "distances" between heavy atoms, "dihedrals" (sine, cosine), "coordinates" (superposed).
        method: "umap"; "pca", the two largest principal components; "auto": UMAP if it is installed.
        frames: how many in all, at most; each trajectory gives evenly spaced ones.
        seed: of UMAP.

    Raises:
        InputError: no trajectory, different molecules, fewer than `FEWEST` frames, an unknown word.
        MissingExtraError: method "umap", and umap-learn is not installed.
    """
    if method not in METHODS:
        raise InputError(f"the method must be one of {', '.join(METHODS)}, not {method!r}")
    if not trajectories:
        raise InputError("a map of conformations needs a trajectory")
    solutes = [find_solute(trajectory, selection) for trajectory in trajectories]
    first = solutes[0]
    for trajectory, other in zip(trajectories, solutes, strict=True):
        if not np.array_equal(first.topology.numbers, other.topology.numbers):
            raise InputError(
                f"{trajectory.path} is of {other.formula}, {trajectories[0].path} of {first.formula}: one map holds "
                "conformations of one molecule, its atoms in one order"
            )
    chosen = [even_frames(len(t), max(1, frames // len(trajectories))) for t in trajectories]
    total = sum(map(len, chosen))
    if total < FEWEST:
        raise InputError(f"{total} frames make no map of conformations: {FEWEST} are the least")
    tables, done = [], 0
    reference = read_shapes(trajectories[0], first, np.array([0]))[0]
    for trajectory, solute, picked in zip(trajectories, solutes, chosen, strict=True):
        shapes = read_shapes(trajectory, solute, picked)
        tables.append(features(shapes, first, kind, reference))
        done += len(picked)
        if progress is not None:
            progress(done, total)
    table = np.concatenate(tables)
    flat, captured = principal(table)
    used = "PCA"
    if method == "umap" or (method == "auto" and find_spec("umap") is not None):
        flat, used = _umap(table, flat, seed), "UMAP"
    ends = np.cumsum([len(picked) for picked in chosen])[:-1]
    return Embedding(
        places=tuple(np.split(flat, ends)),
        frames=tuple(chosen),
        time=tuple(t.time[picked] for t, picked in zip(trajectories, chosen, strict=True)),
        method=used,
        kind=kind,
        dimensions=table.shape[1],
        captured=captured,
    )


def principal(table: Float[np.ndarray, "F D"]) -> tuple[Float[np.ndarray, "F 2"], float]:
    """The two largest principal components, signs fixed, and the fraction of the variance they hold."""
    centred = table - table.mean(0)
    u, s, vt = np.linalg.svd(centred, full_matrices=False)
    total = float(np.square(s).sum())
    signs = np.sign(vt[np.arange(len(vt)), np.abs(vt).argmax(1)])
    flat = np.zeros((len(table), 2))
    rank = min(2, len(s))
    flat[:, :rank] = u[:, :rank] * s[:rank] * np.where(signs[:rank] == 0.0, 1.0, signs[:rank])
    return flat, float(np.square(s[:rank]).sum()) / total if total > 0.0 else 1.0


def show_embedding(
    trajectory: Trajectory,
    *,
    progress: Progress | None = None,
    processes: int = 1,
    selection: str = "",
    features: str = "distances",
    method: str = "auto",
    frames: int = 2000,
    seed: int = 1,
) -> Shown:
    """Two-dimensional map of the conformations, coloured by time.

    Args:
        selection: atoms, of which the heavy ones count; empty: the solute.
        features: distances (between heavy atoms), dihedrals (sine and cosine) or coordinates (superposed).
        method: umap, pca, or auto (UMAP if it is installed).
        frames: how many, at most, evenly spaced.
        seed: of UMAP.
    """
    found = embed([trajectory], selection, kind=features, method=method, frames=frames, seed=seed, progress=progress)
    colours, axis = time_axis(found.time[0])
    x, y = found.places[0].T
    curve = Curve("", x, y, style="points", colours=colours, colour_axis=axis)
    return _shown(found, (curve,), [trajectory], frames, seed, ("",))


def show_embeddings(
    trajectories: Sequence[Trajectory],
    names: Sequence[str],
    *,
    progress: Progress | None = None,
    selection: str = "",
    features: str = "distances",
    method: str = "auto",
    frames: int = 2000,
    seed: int = 1,
) -> Shown:
    """Several trajectories of one molecule in one map, each in its own colour.

    Args:
        names: of the trajectories, for the legend; the rest as `show_embedding`.

    Raises:
        InputError: as `embed`.
    """
    found = embed(trajectories, selection, kind=features, method=method, frames=frames, seed=seed, progress=progress)
    curves = tuple(
        Curve(name, place[:, 0], place[:, 1], style="points") for name, place in zip(names, found.places, strict=True)
    )
    return _shown(found, curves, trajectories, frames, seed, names)


def _shown(
    found: Embedding,
    curves: tuple[Curve, ...],
    trajectories: Sequence[Trajectory],
    limit: int,
    seed: int,
    names: Sequence[str],
) -> Shown:
    words = {
        "distances": f"{found.dimensions} distances between heavy atoms",
        "dihedrals": f"sine and cosine of {found.dimensions // 2} dihedrals of heavy atoms",
        "coordinates": f"{found.dimensions} coordinates of heavy atoms, superposed on the first frame",
    }[found.kind]
    notes = [f"{found.method} of {words}; {sum(map(len, found.frames))} frames, evenly spaced (limit {limit})."]
    if found.method == "UMAP":
        notes.append(
            f"UMAP with {NEIGHBORS} neighbours, min_dist {CLOSENESS:g}, seed {seed}, started from the principal "
            "components: what lies together is alike; distances between groups mean little."
        )
    elif find_spec("umap") is None:
        notes.append("umap-learn is not installed (pip install 'heliodor[analysis]'): principal components instead.")
    names = [name or "conformations" for name in names]
    tables = {
        (f"map_{k + 1}" if len(names) > 1 else "map"): {
            "time_ps": found.time[k] / 1e3,
            "frame": found.frames[k],
            "x": found.places[k][:, 0],
            "y": found.places[k][:, 1],
        }
        for k in range(len(found.places))
    }
    axes = ("UMAP 1", "UMAP 2") if found.method == "UMAP" else ("component 1", "component 2")
    return Shown(
        name="map",
        title="Map of conformations",
        panels=(Panel(f"Conformations by {found.method}", Axis(axes[0]), Axis(axes[1]), curves),),
        numbers=(Number("variance in two principal components", 100.0 * found.captured, None, "%"),),
        notes=tuple(notes),
        tables=tables,
    )


def _umap(table: Float[np.ndarray, "F D"], start: Float[np.ndarray, "F 2"], seed: int) -> Float[np.ndarray, "F 2"]:
    with warnings.catch_warnings():
        # numba's and umap's notes to programmers, at import and while compiling
        warnings.filterwarnings("ignore", module=r"(umap|numba|pynndescent|llvmlite|sklearn)(\.|$)")
        warnings.filterwarnings("ignore", category=ImportWarning)
        try:
            import umap
        except ImportError:
            raise MissingExtraError("umap-learn", "analysis") from None
        spread = float(start.std(0).max()) or 1.0
        # a little noise parts frames that are equal, as UMAP's own starts do
        begin = 10.0 * start / spread + np.random.default_rng(seed).normal(scale=1e-4, size=start.shape)
        made = umap.UMAP(
            n_neighbors=min(NEIGHBORS, len(table) - 1),
            min_dist=CLOSENESS,
            init=begin.astype(np.float32),
            random_state=seed,
            n_jobs=1,
        )
        return np.asarray(made.fit_transform(table), dtype=np.float64)
