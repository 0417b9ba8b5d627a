"""Split conformal calibration of intervals for atoms, where what is exchangeable are not atoms but structures.

Atoms of one structure, and structures of one molecule, resemble each other: 3000 frames of ten molecules say of an
eleventh as much as ten numbers. An interval calibrated on groups (molecules) drawn at random covers a new group drawn
in the same way, whatever the distribution and however bad the model: Vovk, Gammerman & Shafer, Algorithmic Learning
in a Random World (2005); for values scaled by a predicted width, Romano, Patterson & Candès, NeurIPS 2019; for
several values in each exchangeable unit, Lee, Barber & Willett, arXiv:2306.06342 (2023), eq. 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from heliodor.errors import InputError


@dataclass(frozen=True)
class CoverageRow:
    """How well stated intervals held for one kind of structures.

    Attributes:
        kind: of the structures, "all" for all of them.
        structures, atoms: how many, those without labels left out.
        by_atoms: share of the atoms that were within.
        by_structures: mean over structures of that share; what the calibration aims at.
        error: standard error of `by_structures`, from the scatter between groups.
        rank_correlation: Spearman's, of half-widths and true errors; NaN where either does not vary.
        half_width: eV/Å, mean over structures of the mean over atoms.
        mean_error: eV/Å, of |ΔF| in the same way.
    """

    kind: str
    structures: int
    atoms: int
    by_atoms: float
    by_structures: float
    error: float
    rank_correlation: float
    half_width: float
    mean_error: float


@dataclass(frozen=True)
class Coverage:
    """Coverage of intervals by kind of structure, "all" first.

    Attributes:
        level: what was stated.
    """

    level: float
    rows: tuple[CoverageRow, ...]

    @property
    def all(self) -> CoverageRow:
        return self.rows[0]

    def row(self, kind: str) -> CoverageRow:
        """Of one kind."""
        return next(row for row in self.rows if row.kind == kind)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for a card or JSON."""
        return {"level": self.level, "kinds": {row.kind: {**vars(row)} for row in self.rows}}

    def table(self) -> str:
        """For people, in % and eV/Å."""
        head = f"{'':16s}{'structures':>11s}{'atoms':>9s}{'covered %':>15s}{'of atoms %':>12s}{'ρ':>7s}"
        lines = [head + f"{'half-width':>12s}{'mean |ΔF|':>11s}   ({100 * self.level:g} % intervals, eV/Å)"]
        for r in self.rows:
            covered = f"{100 * r.by_structures:.1f} ± {100 * r.error:.1f}"
            lines.append(
                f"{r.kind:16s}{r.structures:11d}{r.atoms:9d}{covered:>15s}{100 * r.by_atoms:12.1f}"
                f"{r.rank_correlation:7.2f}{r.half_width:12.3f}{r.mean_error:11.3f}"
            )
        return "\n".join(lines)


def conformal_scale(
    scores: Float[np.ndarray, "N"],
    structure: Int[np.ndarray, "N"],
    group: Int[np.ndarray, "N"],
    level: float,
) -> float:
    """The number q for which an atom's score is below q with probability ``level`` or a little more.

    The score of an atom is |ΔF| over its predicted width, and q times the width is the calibrated half-width. Each
    structure counts the same, shared by its atoms; a mass of 1/(K + 1) is put at infinity for the group yet to come,
    where K = (Σ n)²/Σ n² is the number of groups, were all of equal sizes n. For K groups of one size, and so for
    structures without groups, the atom of a new exchangeable group is covered with a probability between ``level`` and
    ``level`` + 1/(K + 1) plus the share of the largest structure in the whole. For groups of very different sizes this
    holds on average over structures as K grows, not for each K.

    Args:
        structure: which structure each atom belongs to.
        group: what each atom's structure must not be separated from; structures without a group are their own.
        level: between 0 and 1.

    Raises:
        InputError: too few groups for such a level.
    """
    check_level(level)
    owner, which = np.unique(structure, return_inverse=True)
    sizes = np.bincount(which)
    per_group = np.unique(group[np.unique(which, return_index=True)[1]], return_counts=True)[1].astype(float)
    independent = float(per_group.sum() ** 2 / np.square(per_group).sum())
    weights = 1.0 / (sizes[which] * len(owner))
    wanted = level * (independent + 1.0) / independent
    if wanted > 1.0 + 1e-12:
        least = int(np.ceil(level / (1.0 - level) - 1e-9))
        raise InputError(
            f"intervals of {100 * level:g} % need at least {least} independent groups of structures to be calibrated "
            f"on, and there are as many as {independent:.1f} of equal size: take more molecules or a lower level"
        )
    order = np.argsort(scores, kind="stable")
    below = np.cumsum(weights[order])
    place = int(np.searchsorted(below, min(wanted, 1.0) - 1e-12))
    return float(scores[order][min(place, len(scores) - 1)])


def coverage_of(
    errors: Float[np.ndarray, "N"],
    half_widths: Float[np.ndarray, "N"],
    structure: Int[np.ndarray, "N"],
    group: Int[np.ndarray, "N"],
    kind: np.ndarray,
    level: float,
) -> Coverage:
    """How often errors were within half-widths, over all atoms given and by their kind.

    Args:
        errors: eV/Å, |ΔF| of each atom.
        kind: a word for each atom; where all are the same there is one row.

    Raises:
        InputError: nothing to compare.
    """
    if not len(errors):
        raise InputError("there are no labelled forces to compare the uncertainty with")
    kinds = [str(k) for k in np.unique(kind)]
    rows = [_row("all", errors, half_widths, structure, group, np.ones(len(errors), dtype=bool))]
    if len(kinds) > 1:
        rows += [_row(k or "no kind", errors, half_widths, structure, group, kind == k) for k in kinds]
    return Coverage(level, tuple(rows))


def check_level(level: float) -> None:
    """Refuse what is no probability."""
    if not 0.0 < level < 1.0:
        raise InputError(f"the level must lie between 0 and 1 (such as 0.9), not {level!r}")


def groups_of(group: np.ndarray) -> Int[np.ndarray, "S"]:
    """A number for each structure's group; structures without a name for it are groups of their own."""
    names = [str(g) or f"\0{k}" for k, g in enumerate(group)]
    found: np.ndarray = np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)
    return found


def rank_correlation(x: Float[np.ndarray, "N"], y: Float[np.ndarray, "N"]) -> float:
    """Spearman's, ties at their mean rank; NaN where one of them does not vary."""
    a, b = _ranks(x), _ranks(y)
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0.0 else float("nan")


def _ranks(x: np.ndarray) -> np.ndarray:
    _, which, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts).astype(float)
    ranks: np.ndarray = (last - 0.5 * (counts - 1))[which]
    return ranks


def _row(
    name: str, errors: np.ndarray, widths: np.ndarray, structure: np.ndarray, group: np.ndarray, mask: np.ndarray
) -> CoverageRow:
    e, h = errors[mask].astype(float), widths[mask].astype(float)
    owner, first, which = np.unique(structure[mask], return_index=True, return_inverse=True)
    counts = np.bincount(which)
    inside = (e <= h).astype(float)
    share = np.bincount(which, inside) / counts
    families, family = np.unique(group[mask][first], return_inverse=True)
    off = np.bincount(family, share - share.mean())
    k = len(families)
    scatter = float(np.sqrt(np.square(off).sum() * k / max(k - 1, 1))) / len(owner) if k > 1 else float("nan")
    return CoverageRow(
        kind=name,
        structures=len(owner),
        atoms=len(e),
        by_atoms=float(inside.mean()),
        by_structures=float(share.mean()),
        error=scatter,
        rank_correlation=rank_correlation(h, e),
        half_width=float((np.bincount(which, h) / counts).mean()),
        mean_error=float((np.bincount(which, e) / counts).mean()),
    )
