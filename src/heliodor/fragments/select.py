"""Selection: few structures that stand for many, before they are labelled.

Conformations of one molecule (`select_conformations`): the presets "s3" and "s4" follow the supplement of GEMS (Unke et
al., Sci. Adv. 10, eadn4397 (2024)). Sets of different molecules (`select_structures`): "groups" selects among the
conformers of each molecule by the same distance, counted per atom so that size does not matter; "mixed" compares
molecules with each other by descriptors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import ase
import numpy as np
from jaxtyping import Float, Int, Shaped

from heliodor.errors import InputError, suggestion
from heliodor.fragments.affinity import affinity_propagation, memory_available, memory_needed
from heliodor.fragments.aligned import Points, Progress, shapes
from heliodor.fragments.distance_file import distance_matrix
from heliodor.fragments.farthest import Nearest, add_farthest, nearest
from heliodor.fragments.thinning import PARTITION, thin
from heliodor.fragments.vectors import vectors
from heliodor.potential import Potential
from heliodor.system import read_charge

SQUARE_NANOMETRE = 100.0
"""Å²."""


@dataclass(frozen=True)
class Criteria:
    """How structures are selected. Squared distances are Å² of whole structures, or Å² per atom if ``per_atom``.

    Attributes:
        kind: "conformations", "groups" or "mixed".
        atoms: "heavy" or "all", those that are superposed and compared.
        centre: "mass" or "mean": what of each structure is laid at the origin.
        stride: every how manieth structure is looked at.
        thin: squared distance below which structures are duplicates; None: nothing is taken out before.
        rounds, partition: of `thin`.
        preference: minus a squared distance; None: the median similarity.
        count: so many structures (of each group) as farthest points in the place of affinity propagation.
        farthest: farthest points added at the end.
        per_atom: whether squared distances are divided by the number of atoms compared.
        damping, patience, iterations: of affinity propagation.
    """

    kind: str = "conformations"
    atoms: str = "heavy"
    centre: str = "mean"
    stride: int = 1
    thin: float | None = None
    rounds: int = 4
    partition: int = PARTITION
    preference: float | None = None
    count: int | None = None
    farthest: int = 0
    per_atom: bool = False
    damping: float = 0.9
    patience: int = 15
    iterations: int = 1000

    def __post_init__(self) -> None:
        if self.kind not in ("conformations", "groups", "mixed"):
            raise InputError(f"selection is of conformations, groups or mixed, not {self.kind!r}")
        if self.atoms not in ("heavy", "all") or self.centre not in ("mass", "mean"):
            raise InputError("selection compares 'heavy' or 'all' atoms about their centre of 'mass' or 'mean'")
        if self.stride < 1 or self.farthest < 0 or (self.count is not None and self.count < 1):
            raise InputError("stride and count must be 1 or more, farthest points 0 or more")
        if not 0.5 <= self.damping < 1.0:
            raise InputError(f"damping must be from 0.5 to below 1, not {self.damping:g}")
        if self.thin is not None and not 0.0 < self.thin < np.inf:
            raise InputError(f"near-duplicates need a threshold above zero, not {self.thin:g}")
        if self.preference is not None and not -np.inf < self.preference <= 0.0:
            raise InputError(f"a preference is minus a squared distance: 0 or below, not {self.preference:g}")


PRESETS = {
    # the paper writes -50 without a unit; median similarities of -14 to -31 are possible in nm² (GROMACS) only
    "s3": Criteria(atoms="all", centre="mass", preference=-50.0 * SQUARE_NANOMETRE),
    "s4": Criteria(stride=2, thin=9.0, preference=-1500.0, farthest=1000),
    # 9 Å² over the 80 heavy atoms of the paper's peptide, whatever the size
    "groups": Criteria(kind="groups", thin=9.0 / 80.0, per_atom=True),
    "mixed": Criteria(kind="mixed", atoms="all"),
}
"""By name; of "s3" the preference's unit is an inference."""


@dataclass(frozen=True, eq=False)
class Selected:
    """K representatives of F structures.

    Attributes:
        index: of the representatives in what was handed in: exemplars of clusters, ascending within a group, then
            farthest points in the order they were added.
        origin: "cluster" or "farthest" (or "alone", of groups of one), of each.
        size: structures nearest to each, itself included.
        looked: indices of the F structures looked at, ascending.
        place: which representative each of them is nearest to, 0..K-1.
        squared: squared distance to it: Å² summed over the atoms compared; of "mixed" without unit.
        n_atoms: atoms compared, of each of the F; 1 in "mixed".
        group: word for the group of each of the F, empty where there are none.
        counts: what was left after each step, in words.
        converged: whether affinity propagation did, everywhere.
    """

    index: Int[np.ndarray, "K"]
    origin: np.ndarray
    size: Int[np.ndarray, "K"]
    looked: Int[np.ndarray, "F"]
    place: Int[np.ndarray, "F"]
    squared: Float[np.ndarray, "F"]
    n_atoms: Int[np.ndarray, "F"]
    group: np.ndarray
    counts: dict[str, int] = field(default_factory=dict)
    converged: bool = True

    def __len__(self) -> int:
        return len(self.index)

    @property
    def distance(self) -> Float[np.ndarray, "F"]:
        """To the nearest representative: RMSD in Å over the atoms compared; of "mixed" without unit."""
        result: np.ndarray = np.sqrt(self.squared.astype(np.float64) / self.n_atoms)
        return result


def criteria(preset: str, **changes: object) -> Criteria:
    """A preset, with changes.

    Raises:
        InputError: unknown preset, values that mean nothing.
    """
    known = PRESETS.get(preset.lower())
    if known is None:
        raise InputError(f"there is no preset {preset!r}: s3, s4, groups or mixed{suggestion(preset, PRESETS)}")
    return replace(known, **changes)  # type: ignore[arg-type]


def select_conformations(
    positions: Shaped[np.ndarray, "T n 3"],
    numbers: Int[np.ndarray, "n"],
    how: Criteria,
    *,
    masses: Float[np.ndarray, "n"] | None = None,
    seed: int = 0,
    distances: str | Path | None = None,
    scratch: str | Path | None = None,
    progress: Progress | None = None,
) -> Selected:
    """Representatives among conformations of one molecule.

    Args:
        positions: Å.
        masses: amu, for ``centre="mass"``; None: standard ones.
        seed: of shuffling and of the noise of affinity propagation.
        distances: ``.npy`` file that keeps the distances; a call that was stopped goes on with it.
        scratch: folder for matrices that do not fit the memory.
        progress: called with what is done, how far it is, and of how much.

    Raises:
        InputError: no structures, too many for the memory, settings that mean nothing, coordinates that are no numbers.

    Warns:
        SelectionWarning: affinity propagation that did not converge.
    """
    if len(positions) == 0:
        raise InputError("no structures to select from")
    looked = np.arange(len(positions))[:: how.stride]
    compared = compared_atoms(numbers, how)
    weights = None
    if how.centre == "mass":
        weights = (ase.Atoms(numbers).get_masses() if masses is None else masses)[compared]
    points = shapes(positions[looked][:, compared], weights)
    scale = len(compared) if how.per_atom else 1
    near, n_cluster, counts, converged = _select(points, how, scale, seed, distances, scratch, progress)
    return _gathered(
        looked,
        [(np.arange(len(looked)), near, n_cluster)],
        np.full(len(looked), len(compared)),
        np.full(len(looked), ""),
        {"structures": len(positions), "looked at": len(looked)} | counts,
        converged,
    )


def select_structures(
    structures: Sequence[ase.Atoms],
    how: Criteria,
    *,
    potential: Potential | None = None,
    seed: int = 0,
    distances: str | Path | None = None,
    scratch: str | Path | None = None,
    progress: Progress | None = None,
) -> Selected:
    """Representatives of a set of structures, which may be of different molecules.

    "groups": structures of the same ``info["group"]`` (without one, of the same formula), charge and order of elements
    are compared with each other; every group keeps at least one. "mixed": all with all, by `vectors`.

    Args:
        potential: whose descriptors are compared in "mixed"; None: pairs of elements by distance.
        seed, distances, scratch, progress: as `select_conformations`; ``distances`` not in "groups".

    Raises:
        InputError: as `select_conformations`; conformations of different molecules.
    """
    if not structures:
        raise InputError("no structures to select from")
    if how.kind == "conformations":
        first = structures[0].numbers
        for k, atoms in enumerate(structures):
            if not np.array_equal(atoms.numbers, first):
                raise InputError(f"structure {k} has other atoms than the first: use the preset 'groups' or 'mixed'")
        positions = np.array([atoms.positions for atoms in structures])
        masses = structures[0].get_masses()
        return select_conformations(
            positions, first, how, masses=masses, seed=seed, distances=distances, scratch=scratch, progress=progress
        )
    looked = np.arange(len(structures))[:: how.stride]
    counts = {"structures": len(structures), "looked at": len(looked)}
    if how.kind == "mixed":
        points = vectors([structures[k] for k in looked], potential, progress)
        near, n_cluster, more, converged = _select(points, how, 1, seed, distances, scratch, progress)
        parts = [(np.arange(len(looked)), near, n_cluster)]
        one = np.ones(len(looked), dtype=np.int64)
        return _gathered(looked, parts, one, np.full(len(looked), ""), counts | more, converged)
    if distances is not None:
        raise InputError("distances of groups are not kept in a file: they are few")
    keys = [group_of(structures[k]) for k in looked]
    order: dict[tuple[str, ...], list[int]] = {}
    for place, key in enumerate(keys):
        order.setdefault(key, []).append(place)
    parts, n_atoms, converged, thinned = [], np.ones(len(looked), dtype=np.int64), True, 0
    for done, members in enumerate(order.values()):
        mine = np.array(members)
        frames = [structures[looked[k]] for k in members]
        compared = compared_atoms(frames[0].numbers, how)
        weights = frames[0].get_masses()[compared] if how.centre == "mass" else None
        points_here = shapes(np.array([atoms.positions[compared] for atoms in frames]), weights)
        near, n_cluster, more, good = _select(points_here, how, len(compared), seed, None, scratch, None)
        parts.append((mine, near, n_cluster))
        n_atoms[mine] = len(compared)
        converged &= good
        thinned += more.get("after thinning", len(mine))
        if progress is not None:
            progress("groups", done + 1, len(order))
    counts |= {"groups": len(order)} | ({"after thinning": thinned} if how.thin is not None else {})
    return _gathered(looked, parts, n_atoms, np.array([key[0] for key in keys]), counts, converged)


def _select(
    points: Points,
    how: Criteria,
    scale: float,
    seed: int,
    distances: str | Path | None,
    scratch: str | Path | None,
    progress: Progress | None,
) -> tuple[Nearest, int, dict[str, int], bool]:
    """Representatives among the points, how many of them stand for clusters, counts, and whether it converged."""
    counts: dict[str, int] = {}
    pool = np.arange(len(points))
    if how.thin is not None and len(points) > 1:
        random = np.random.default_rng(seed)
        pool, _ = thin(
            points,
            how.thin * scale,
            rounds=how.rounds,
            partition=how.partition,
            random=random,
            progress=progress,
        )
        counts["after thinning"] = len(pool)
    converged = True
    if how.count is not None:
        central = _central(points, pool)
        start = nearest(points.take(pool), np.array([central]), progress)
        chosen = pool[add_farthest(points.take(pool), start, how.count - 1, progress).chosen]
        n_cluster = 0
    elif len(pool) <= 2:
        # too few for a cluster to mean anything
        chosen, n_cluster = pool, len(pool)
    else:
        _check_memory(len(pool), scratch)
        found = distance_matrix(points.take(pool), distances, progress)
        similarity = _negative(found)
        del found
        preference = _median(similarity) if how.preference is None else how.preference * scale
        clusters = affinity_propagation(
            similarity,
            preference,
            damping=how.damping,
            patience=how.patience,
            most=how.iterations,
            seed=seed,
            scratch=scratch,
            progress=progress,
        )
        if len(clusters.exemplars) == 0:
            raise InputError(
                f"affinity propagation found no representatives among {len(pool)} structures: use a larger damping, "
                "more iterations, or a preference nearer to zero"
            )
        chosen, n_cluster, converged = pool[clusters.exemplars], len(clusters.exemplars), clusters.converged
        counts["clusters"] = n_cluster
        counts["iterations"] = clusters.iterations
    near = nearest(points, chosen, progress)
    return add_farthest(points, near, how.farthest, progress), n_cluster, counts, converged


def _gathered(
    looked: np.ndarray,
    parts: list[tuple[np.ndarray, Nearest, int]],
    n_atoms: np.ndarray,
    group: np.ndarray,
    counts: dict[str, int],
    converged: bool,
) -> Selected:
    """One answer of the groups' answers: members, nearest representatives, how many of them stand for clusters."""
    place = np.empty(len(looked), np.int64)
    squared = np.empty(len(looked), np.float32)
    index: list[np.ndarray] = []
    origin: list[str] = []
    begin = 0
    for members, near, n_cluster in parts:
        place[members] = near.place + begin
        squared[members] = near.squared
        index.append(looked[members[near.chosen]])
        word = "alone" if len(members) == 1 else "cluster"
        origin += [word if k < n_cluster or word == "alone" else "farthest" for k in range(len(near.chosen))]
        begin += len(near.chosen)
    return Selected(
        index=np.concatenate(index),
        origin=np.array(origin),
        size=np.bincount(place, minlength=begin),
        looked=looked,
        place=place,
        squared=squared,
        n_atoms=n_atoms,
        group=group,
        counts=counts | {"representatives": begin},
        converged=converged,
    )


def compared_atoms(numbers: np.ndarray, how: Criteria) -> Int[np.ndarray, "n"]:
    """Atoms that are superposed; all where no heavier ones than hydrogen are there."""
    heavy = np.flatnonzero(numbers > 1)
    return heavy if how.atoms == "heavy" and len(heavy) else np.arange(len(numbers))


def group_of(atoms: ase.Atoms) -> tuple[str, ...]:
    """What structures that "groups" compares have in common: group or formula, charge, order of elements."""
    word = str(atoms.info.get("group") or atoms.get_chemical_formula())
    return word, str(read_charge(atoms)), atoms.numbers.tobytes().hex()


def _central(points: Points, pool: np.ndarray) -> int:
    """Place in the pool of the point with the smallest mean distance to some of it."""
    some = pool[np.linspace(0, len(pool) - 1, min(len(pool), 200)).astype(int)]
    return int(np.sqrt(points.take(pool).squared(points.take(some))).mean(axis=1).argmin())


def _negative(found: np.ndarray) -> Float[np.ndarray, "N N"]:
    """Similarities of distances, in their place unless they lie in a file."""
    if found.flags.writeable:
        np.negative(found, out=found)
        return found
    result = np.empty(found.shape, found.dtype)
    for first in range(0, len(found), 256):
        np.negative(found[first : first + 256], out=result[first : first + 256])
    return result


def _median(similarity: np.ndarray) -> float:
    """Off the diagonal, of at most a thousand rows."""
    rows = np.linspace(0, len(similarity) - 1, min(len(similarity), 1000)).astype(int)
    some = similarity[rows]
    off = np.ones(some.shape, dtype=bool)
    off[np.arange(len(rows)), rows] = False
    return float(np.median(some[off]))


def _check_memory(count: int, scratch: str | Path | None) -> None:
    needed = memory_needed(count) // (1 if scratch is None else 3)
    there = memory_available()
    if there is not None and needed > there:
        way = "thin more, or use a larger stride" + ("" if scratch is not None else ", or name a scratch folder")
        raise InputError(
            f"affinity propagation of {count} structures needs {needed / 1e9:.1f} GB of memory, and "
            f"{there / 1e9:.1f} GB are free: {way}"
        )
