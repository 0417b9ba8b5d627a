"""Do energies and forces of a set belong together? Asked of pairs of neighbouring frames of the same molecule.

Between two frames E_b - E_a = -½ (F_a + F_b)·(R_b - R_a), to third order in the step. Over many pairs the slope of the
left side against the right one is 1 if units and signs are right; another slope says which are not.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from heliodor.train.data.distances import nearest_images
from heliodor.train.dataset import Dataset
from heliodor.units import BOHR, HARTREE, KCAL_PER_MOL, KJ_PER_MOL

MOLECULES, ANCHORS, POOL = 40, 120, 600
"""Molecules looked at; frames of each that a neighbour is sought for; frames in which it is sought."""

PAIRS = 2000
"""Distances between atoms by which frames are compared."""

FEWEST = 8
"""Pairs of frames that a verdict needs."""

FAR = 0.6
"""Å, root mean square displacement of an atom beyond which a pair says nothing."""

EXPLAINED: tuple[tuple[float, str, str], ...] = (
    (1.0 / HARTREE, "energies in hartree, where forces are in eV/Å", "--units hartree --force-unit eV/Å"),
    (1.0 / KCAL_PER_MOL, "energies in kcal/mol, where forces are in eV/Å", "--units kcal/mol --force-unit eV/Å"),
    (1.0 / KJ_PER_MOL, "energies in kJ/mol, where forces are in eV/Å", "--units kJ/mol --force-unit eV/Å"),
    (1000.0, "energies in meV, where forces are in eV/Å", "--units meV --force-unit eV/Å"),
    (HARTREE / BOHR, "forces in hartree/bohr, where energies are in eV", "--force-unit hartree/bohr"),
    (HARTREE, "forces in hartree/Å, where energies are in eV", "--force-unit hartree/Å"),
    (KCAL_PER_MOL, "forces in kcal/mol/Å, where energies are in eV", "--force-unit kcal/mol/Å"),
    (KJ_PER_MOL, "forces in kJ/mol/Å, where energies are in eV", "--force-unit kJ/mol/Å"),
    (1.0 / BOHR, "forces per bohr, where energies are of the same unit and positions in Å", "--force-unit ENERGY/bohr"),
    (BOHR, "positions in bohr, where forces are per Å", "--length-unit bohr --force-unit ENERGY/Å"),
    (0.1, "forces per nm, where positions are in Å", "--force-unit ENERGY/nm"),
    (
        HARTREE / BOHR / KCAL_PER_MOL,
        "energies in kcal/mol and forces in hartree/bohr",
        "--units kcal/mol --force-unit hartree/bohr",
    ),
    (
        KCAL_PER_MOL / HARTREE,
        "energies in hartree and forces in kcal/mol/Å",
        "--units hartree --force-unit kcal/mol/Å",
    ),
)
"""Slopes, what makes them, and the options by which a file is read as it is meant."""


@dataclass(frozen=True, eq=False)
class Consistency:
    """Energy differences against work, over P pairs of frames.

    Attributes:
        pairs: structures.
        difference, work: eV, E_b - E_a and -½ (F_a + F_b)·(R_b - R_a).
        step: Å, root mean square displacement of an atom.
        slope: of the difference in the work, through the origin.
        scale: root of the ratio of their mean squares, with the sign of the slope; not lowered by noise, as slopes are.
        correlation: about the origin.
    """

    pairs: Int[np.ndarray, "P 2"]
    difference: Float[np.ndarray, "P"]
    work: Float[np.ndarray, "P"]
    step: Float[np.ndarray, "P"]
    slope: float
    scale: float
    correlation: float

    @property
    def verdict(self) -> str:
        """``"none"`` (nothing to judge by), ``"consistent"``, ``"units"``, or ``"unrelated"``."""
        if len(self.pairs) < FEWEST:
            return "none"
        if abs(self.correlation) < 0.7:
            near = float(np.median(self.step)) < 0.15
            return "unrelated" if near and abs(self.correlation) < 0.4 and len(self.pairs) >= 20 else "none"
        return "consistent" if 0.8 < self.scale < 1.25 else "units"

    @property
    def explanation(self) -> str:
        """In words, what a slope other than 1 comes from."""
        return explain_slope(self.scale)


def explain_slope(slope: float) -> str:
    """What makes the energies differ from the work by a factor, in words; all units that fit within noise."""
    words = []
    if slope < 0.0:
        words.append("the sign of the forces is turned: they are gradients")
    if not 0.8 < abs(slope) < 1.25:
        fitting = [text for text, _ in _fitting(abs(slope))]
        words.append(f"as of {', or of '.join(fitting)}" if fitting else "of no unit that is known")
    return ", and ".join(words) if words else "as it should be"


def options_for_slope(slope: float) -> str:
    """The options by which a file of such a slope is read as it is meant; empty if none is known."""
    sign = ["--gradient"] if slope < 0.0 else []
    units = [] if 0.8 < abs(slope) < 1.25 else [options for _, options in _fitting(abs(slope))]
    return " ".join([*sign, *([" or ".join(units)] if units else [])])


def _fitting(size: float) -> list[tuple[str, str]]:
    off = sorted((abs(math.log(size / factor)), text, options) for factor, text, options in EXPLAINED)
    # a 27th and a 23rd cannot always be told apart
    return [(text, options) for distance, text, options in off if distance < min(0.2, off[0][0] + 0.12)]


def check_consistency(data: Dataset, seed: int = 0) -> Consistency:
    """Sample neighbouring frames and compare energies with forces.

    Frames are of the same molecule if they have the same elements in the same order, the same charge and spin.
    Molecules are laid upon each other (Kabsch) first; frames in a box are taken as they lie, at equal cells.

    Args:
        seed: of the sample.
    """
    rng = np.random.default_rng(seed)
    pairs: list[tuple[int, int]] = []
    groups = list(_same_molecules(data))
    if len(groups) > MOLECULES:
        groups = [groups[k] for k in sorted(rng.choice(len(groups), MOLECULES, replace=False))]
    for members in groups:
        pairs += _neighbours(data, members, rng)
    rows = np.array([_compare(data, a, b) for a, b in pairs]).reshape(-1, 3)
    keep = (rows[:, 2] < FAR) & (rows[:, 2] > 1e-6)
    index = np.array(pairs, dtype=np.int64).reshape(-1, 2)[keep]
    rows = rows[keep]
    if len(rows) > 4 * FEWEST:
        # the nearer half: what is left out of the formula grows with the third power of the step
        nearest = np.argsort(rows[:, 2])[: len(rows) // 2]
        index, rows = index[nearest], rows[nearest]
    difference, work, step = rows.T
    ee, ww, ew = float(difference @ difference), float(work @ work), float(difference @ work)
    slope = ew / ww if ww > 0.0 else math.nan
    scale = math.copysign(math.sqrt(ee / ww), ew) if ww > 0.0 else math.nan
    correlation = ew / math.sqrt(ee * ww) if ee * ww > 0.0 else math.nan
    return Consistency(index, difference, work, step, slope, scale, correlation)


def _same_molecules(data: Dataset) -> list[np.ndarray]:
    known = np.flatnonzero(np.isfinite(data.energy))
    found: dict[tuple[bytes, float, float, bool], list[int]] = defaultdict(list)
    for k in known.tolist():
        span = data.span(k)
        if span.stop - span.start > 1 and np.isfinite(data.forces[span]).all():
            key = (data.numbers[span].tobytes(), float(data.charge[k]), float(data.spin[k]), bool(data.pbc[k].any()))
            found[key].append(k)
    return [np.array(members) for members in found.values() if len(members) > 1]


def _neighbours(data: Dataset, members: np.ndarray, rng: np.random.Generator) -> list[tuple[int, int]]:
    """For some frames the one nearest in shape, out of those around it in the file and a random sample."""
    count = len(members)
    anchors = rng.choice(count, min(ANCHORS, count), replace=False)
    around = (anchors[:, None] + np.arange(-2, 3)).reshape(-1)
    others = rng.choice(count, min(POOL, count), replace=False)
    pool = np.unique(np.concatenate([around[(around >= 0) & (around < count)], others]))
    shapes = _shapes(data, members[pool], rng)
    pairs = set()
    place = {int(k): row for row, k in enumerate(pool)}
    for anchor in anchors.tolist():
        apart = np.sqrt(((shapes - shapes[place[anchor]]) ** 2).mean(1))
        # the same frame again says nothing
        apart[apart < 1e-6] = np.inf
        best = int(np.argmin(apart))
        if np.isfinite(apart[best]):
            a, b = sorted((int(members[anchor]), int(members[pool[best]])))
            pairs.add((a, b))
    return sorted(pairs)


def _shapes(data: Dataset, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    atoms = int(data.counts[chosen[0]])
    i, j = np.triu_indices(atoms, 1)
    if len(i) > PAIRS:
        some = rng.choice(len(i), PAIRS, replace=False)
        i, j = i[some], j[some]
    out = np.empty((len(chosen), len(i)))
    for row, k in enumerate(chosen.tolist()):
        positions = data.positions[data.span(k)]
        difference = positions[j] - positions[i]
        if data.pbc[k].any():
            difference = nearest_images(difference[None], data.cell[k][None], data.pbc[k][None])[0]
        out[row] = np.sqrt((difference**2).sum(1))
    return out


def _compare(data: Dataset, a: int, b: int) -> tuple[float, float, float]:
    """Energy difference, work and step; a step of infinity for pairs that cannot be compared."""
    ra, rb = np.asarray(data.positions[data.span(a)]), np.asarray(data.positions[data.span(b)])
    fa, fb = np.asarray(data.forces[data.span(a)]), np.asarray(data.forces[data.span(b)])
    if data.pbc[a].any():
        if not np.allclose(data.cell[a], data.cell[b], rtol=1e-6, atol=1e-6):
            return 0.0, 0.0, math.inf
        step = nearest_images((rb - ra)[None], data.cell[a][None], data.pbc[a][None])[0]
    else:
        ra, rb = ra - ra.mean(0), rb - rb.mean(0)
        u, _, vt = np.linalg.svd(rb.T @ ra)
        # a rotation, not a reflection
        turn = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
        step, fb = rb @ turn - ra, fb @ turn
    work = -0.5 * float(((fa + fb) * step).sum())
    return float(data.energy[b] - data.energy[a]), work, float(np.sqrt((step**2).sum(1).mean()))
