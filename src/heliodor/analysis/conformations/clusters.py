"""Groups of similar conformations, how often each is visited, and the frame that stands for it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import ase
import numpy as np
from jaxtyping import Float, Int

from heliodor.analysis.along import even_frames, time_axis
from heliodor.analysis.conformations.solute import Solute, find_solute, in_one_piece, read_shapes
from heliodor.analysis.conformations.superpose import rmsd_matrix
from heliodor.analysis.show import Axis, Curve, Number, Panel, Shown
from heliodor.analysis.statistics import SHORTEST, inefficiency, population
from heliodor.errors import InputError, MissingExtraError
from heliodor.topology import set_names
from heliodor.trajectory.parallel import Progress
from heliodor.trajectory.trajectory import Trajectory

METHODS = ("linkage", "affinity")

MOST = 12
"""Groups among which the number is chosen."""

ALIKE = 0.25
"""Mean silhouette below which groups are no better than one (Kaufman & Rousseeuw 1990: no structure found)."""

WEAK = 0.5
"""Mean silhouette below which groups are weak or artificial (same source)."""

MOST_FRAMES = 2000
"""Frames whose distances fit the memory and the patience of people."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """C groups of F conformations, the largest first.

    Attributes:
        frames: which frames were compared.
        time: fs.
        label: group of each of these frames, from 0.
        population: fraction of these frames in each group.
        error: standard errors of the populations (`heliodor.analysis.statistics.population`, with the memory of the
            group that remembers longest); NaN with fewer than ten frames.
        representative: frame of the trajectory with the smallest mean RMSD to its group.
        radius: Å, that mean RMSD.
        structures: the solute in these frames, whole.
        silhouette: mean over frames, between -1 and 1; NaN of one group.
        method: in words.
    """

    frames: Int[np.ndarray, "F"]
    time: Float[np.ndarray, "F"]
    label: Int[np.ndarray, "F"]
    population: Float[np.ndarray, "C"]
    error: Float[np.ndarray, "C"]
    representative: Int[np.ndarray, "C"]
    radius: Float[np.ndarray, "C"]
    structures: tuple[ase.Atoms, ...]
    silhouette: float
    method: str


def clusters(
    trajectory: Trajectory,
    selection: str = "",
    *,
    method: str = "linkage",
    cutoff: float = 0.0,
    frames: int = 1000,
    progress: Progress | None = None,
) -> Clusters:
    """Groups by the RMSD of heavy atoms between all pairs of frames, each pair superposed optimally.

    Args:
        selection: atoms, of which the heavy ones count; empty: the solute.
        method: "linkage": hierarchical, average linkage; "affinity": affinity propagation (Frey & Dueck, Science 315,
            972 (2007)) of negative squared RMSDs with their median as preference, as GEMS.
        cutoff: Å, mean RMSD up to which groups are joined (linkage); 0: the number of groups, 2 to 12, with the
            largest mean silhouette (Rousseeuw, J. Comput. Appl. Math. 20, 53 (1987)), or one if that is below 0.25.
        frames: how many, at most 2000; evenly spaced.

    Raises:
        InputError: fewer than three frames; options that mean nothing.
        MissingExtraError: "affinity" without scikit-learn.
    """
    if method not in METHODS:
        raise InputError(f"the method must be one of {', '.join(METHODS)}, not {method!r}")
    if not 0.0 <= cutoff < np.inf or not 3 <= frames <= MOST_FRAMES:
        raise InputError(
            f"the cutoff must be a length in Å or 0, frames between 3 and {MOST_FRAMES}, not {cutoff} and {frames}"
        )
    solute = find_solute(trajectory, selection)
    chosen = even_frames(len(trajectory), frames)
    if len(chosen) < 3:
        raise InputError(f"{trajectory.path} holds {len(chosen)} frame(s): groups need three and more")
    shapes = read_shapes(trajectory, solute, chosen)
    if progress is not None:
        progress(len(chosen), len(chosen))
    distance = rmsd_matrix(shapes, shapes)
    distance = 0.5 * (distance + distance.T)
    np.fill_diagonal(distance, 0.0)
    found, words = _affinity(distance) if method == "affinity" else _linkage(distance, cutoff)
    # names in the order of size, the first seen first among equals
    names, first, counts = np.unique(found, return_index=True, return_counts=True)
    order = np.lexsort((first, -counts))
    rank = np.empty(len(names), dtype=np.int64)
    rank[order] = np.arange(len(names))
    label = rank[np.searchsorted(names, found)]
    long = len(label) >= SHORTEST
    memory = max(inefficiency((label == c).astype(np.float64)) for c in range(len(names))) if long else 1.0
    middle, radius, shares, error = [], [], [], []
    for c in range(len(names)):
        members = np.flatnonzero(label == c)
        mean = distance[np.ix_(members, members)].mean(1)
        middle.append(int(members[mean.argmin()]))
        radius.append(float(mean.min()))
        share, doubt = population(label == c, memory)
        shares.append(share)
        error.append(float("nan") if doubt is None else doubt)
    representative = chosen[np.array(middle)]
    return Clusters(
        frames=chosen,
        time=trajectory.time[chosen],
        label=label,
        population=np.array(shares),
        error=np.array(error),
        representative=representative,
        radius=np.array(radius),
        structures=tuple(_structure(trajectory, solute, int(frame)) for frame in representative),
        silhouette=silhouette(distance, label),
        method=words,
    )


def silhouette(distance: Float[np.ndarray, "F F"], label: Int[np.ndarray, "F"]) -> float:
    """Mean over frames of (b - a)/max(a, b): a is the mean distance to the own group, b to the nearest other.

    Frames alone in their group count 0; NaN where all frames are one group.
    """
    members = np.eye(int(label.max()) + 1)[label]
    counts = members.sum(0)
    if len(counts) < 2:
        return float("nan")
    sums = distance @ members
    own = counts[label]
    a = sums[np.arange(len(label)), label] / np.maximum(own - 1, 1)
    others = sums / counts
    others[np.arange(len(label)), label] = np.inf
    b = others.min(1)
    larger = np.maximum(np.maximum(a, b), 1e-300)
    return float(np.where(own > 1, (b - a) / larger, 0.0).mean())


def show_clusters(
    trajectory: Trajectory,
    *,
    progress: Progress | None = None,
    processes: int = 1,
    selection: str = "",
    method: str = "linkage",
    cutoff: float = 0.0,
    frames: int = 1000,
    write: str = "",
) -> Shown:
    """Groups of similar conformations along time.

    Args:
        selection: atoms, of which the heavy ones count; empty: the solute.
        method: linkage (hierarchical, average linkage) or affinity (affinity propagation).
        cutoff: RMSD in Å up to which groups are joined; 0: chosen by the silhouette.
        frames: how many are compared, at most 2000.
        write: file (.xyz, .extxyz or .pdb) for the representative structures; empty: none.
    """
    found = clusters(trajectory, selection, method=method, cutoff=cutoff, frames=frames, progress=progress)
    notes = [
        f"{len(found.frames)} frames, evenly spaced; RMSD of heavy atoms, each pair superposed optimally; "
        f"{found.method}.",
        "The representative of a group is the frame with the smallest mean RMSD to it. Groups are numbered by size, "
        "in each run by itself: the same number is another group in another run.",
        "Errors of populations: the larger of that from the correlation along time and the binomial one of as many "
        "independent frames as there are (by the correlation along time, and by the number of visits), two visits and "
        "two absences added (Agresti and Coull, Am. Stat. 52, 119, 1998).",
    ]
    if found.silhouette < WEAK:
        notes.append(
            f"The mean silhouette is below {WEAK:g}: conformations change gradually, and groups are pieces of that."
        )
    if write:
        write_representatives(found, write)
        notes.append(f"Representatives, in the order of the groups, are in {write}.")
    x, axis = time_axis(found.time)
    shown = min(len(found.population), 20)
    numbers = [Number("groups", float(len(found.population)), None, "", _quality(found.silhouette), comparable=False)]
    numbers += [
        Number(
            f"population of group {c + 1}",
            100.0 * float(found.population[c]),
            None if np.isnan(found.error[c]) else 100.0 * float(found.error[c]),
            "%",
            f"representative: frame {int(found.representative[c])}; mean RMSD to it {found.radius[c]:.2f} Å",
            comparable=False,
        )
        for c in range(shown)
    ]
    return Shown(
        name="clusters",
        title="Groups of conformations",
        panels=(
            Panel(
                "Group along time",
                axis,
                Axis("group", low=0.5, high=len(found.population) + 0.5),
                (Curve("", x, found.label + 1.0, style="points"),),
            ),
        ),
        numbers=tuple(numbers),
        notes=tuple(notes),
        tables={
            "clusters_time": {"time_ps": found.time / 1e3, "frame": found.frames, "group": found.label + 1},
            "clusters": {
                "group": np.arange(1, len(found.population) + 1),
                "population": found.population,
                "error": found.error,
                "representative_frame": found.representative,
                "mean_rmsd_A": found.radius,
            },
        },
    )


def write_representatives(found: Clusters, path: str | Path) -> None:
    """All representatives into one extended xyz or PDB file, the largest group first.

    Raises:
        InputError: another type of file.
    """
    import ase.io

    kinds = {".xyz": "extxyz", ".extxyz": "extxyz", ".pdb": "proteindatabank"}
    kind = kinds.get(Path(path).suffix.lower())
    if kind is None:
        raise InputError(f"representatives are written as .xyz, .extxyz or .pdb, not as {Path(path).name!r}")
    frames = [atoms.copy() for atoms in found.structures]
    if kind == "proteindatabank":
        for atoms in frames:
            _pdb_names(atoms)
    ase.io.write(path, frames, format=kind)


def _pdb_names(atoms: ase.Atoms) -> None:
    """ASE's PDB writer knows names by the words of its own reader."""
    for ours, theirs in (
        ("atom_name", "atomtypes"),
        ("residue_name", "residuenames"),
        ("residue_number", "residuenumbers"),
    ):
        if ours in atoms.arrays:
            atoms.set_array(theirs, atoms.arrays[ours])


def _quality(value: float) -> str:
    return "" if np.isnan(value) else f"mean silhouette {value:.2f}"


def _linkage(distance: Float[np.ndarray, "F F"], cutoff: float) -> tuple[Int[np.ndarray, "F"], str]:
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    tree = linkage(squareform(distance, checks=False), method="average")
    if cutoff > 0.0:
        label = fcluster(tree, cutoff, criterion="distance").astype(np.int64) - 1
        return label, f"average linkage, groups joined up to a mean RMSD of {cutoff:g} Å"
    best, quality = np.zeros(len(distance), dtype=np.int64), ALIKE
    for count in range(2, min(MOST, len(distance) - 1) + 1):
        label = fcluster(tree, count, criterion="maxclust").astype(np.int64) - 1
        score = silhouette(distance, label) if label.max() > 0 else -1.0
        if score > quality:
            best, quality = label, score
    return best, f"average linkage, number of groups by the silhouette (one if no division reaches {ALIKE:g})"


def _affinity(distance: Float[np.ndarray, "F F"]) -> tuple[Int[np.ndarray, "F"], str]:
    try:
        from sklearn.cluster import AffinityPropagation
        from sklearn.exceptions import ConvergenceWarning
    except ImportError:
        raise MissingExtraError("scikit-learn", "analysis") from None
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            made = AffinityPropagation(affinity="precomputed", damping=0.9, max_iter=2000, random_state=0).fit(
                -np.square(distance)
            )
        except ConvergenceWarning:
            raise InputError("affinity propagation did not settle: use method 'linkage' or fewer frames") from None
    return np.asarray(made.labels_, dtype=np.int64), "affinity propagation, damping 0.9, preference the median"


def _structure(trajectory: Trajectory, solute: Solute, frame: int) -> ase.Atoms:
    block = trajectory.read(np.array([frame]), atoms=solute.read)
    atoms = ase.Atoms(numbers=solute.topology.numbers, positions=in_one_piece(block, solute)[0])
    set_names(atoms, solute.topology)
    atoms.info |= {"frame": frame, "time_fs": float(block.time[0])}
    return atoms
