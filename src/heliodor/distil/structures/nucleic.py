"""Families of nucleic acids: bases, nucleosides and nucleotides; base pairs, edge to edge and stacked."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import ase
import numpy as np
from jaxtyping import Float

from heliodor.distil.structures.molecules import geometries
from heliodor.distil.structures.thermal import Monomer, Places, monomer, temperature
from heliodor.distil.structures.together import combined, moved_together, structure

BASES = {
    "A": "Cn1cnc2c(N)ncnc21",
    "G": "Cn1cnc2c(=O)[nH]c(N)nc21",
    "C": "Cn1ccc(N)nc1=O",
    "T": "Cn1cc(C)c(=O)[nH]c1=O",
    "U": "Cn1ccc(=O)[nH]c1=O",
    "I": "Cn1cnc2c(=O)[nH]cnc21",
    "A+": "Cn1cnc2c(N)[nH+]cnc21",
    "C+": "Cn1ccc(N)[nH+]c1=O",
    "G-": "Cn1cnc2c(=O)[n-]c(N)nc21",
    "T-": "Cn1cc(C)c(=O)[n-]c1=O",
}
"""Bases with a methyl group where the sugar would be; protonated and deprotonated ones."""

FREE = """Nc1ncnc2nc[nH]c12 Nc1ncnc2[nH]cnc12 Nc1nc2nc[nH]c2c(=O)[nH]1
Nc1nc2[nH]cnc2c(=O)[nH]1 Nc1cc[nH]c(=O)n1 Cc1c[nH]c(=O)[nH]c1=O O=c1cc[nH]c(=O)[nH]1
Cc1c[nH]c(=O)nc1N Oc1nc(N)nc2nc[nH]c12 Oc1ccnc(O)n1 Nc1ccnc(O)n1 O=c1nc[nH]c2nc[nH]c12
O=c1[nH]c(=O)c2nc[nH]c2[nH]1""".split()  # noqa: SIM905
"""Bases with hydrogen where the sugar would be, some in other tautomers."""

LINKED = {"A": "n2cnc3c(N)ncnc32", "G": "n2cnc3c(=O)[nH]c(N)nc32", "C": "n2ccc(N)nc2=O", "U": "n2ccc(=O)[nH]c2=O",
          "T": "n2cc(C)c(=O)[nH]c2=O"}  # fmt: skip
"""Bases as substituents."""

PAIRS = (
    ("A", "T"), ("A", "U"), ("G", "C"), ("G", "U"), ("G", "T"), ("A", "A"), ("G", "G"), ("C", "C+"), ("A", "G"),
    ("A+", "C"), ("T", "T"), ("U", "U"), ("I", "C"), ("A", "C"), ("C", "C"), ("G", "G-"), ("T", "C"),
)  # fmt: skip
"""Watson-Crick, wobble, mismatches, i-motif; each by whatever edges meet."""

WATSON_CRICK = {("A", "T"): 2, ("A", "U"): 2, ("G", "C"): 3}
"""Hydrogen bonds of the pairs of the double helix."""

TRIES = 40


def nucleosides(ring: str = "ribose") -> tuple[str, ...]:
    """SMILES of the nucleosides of one sugar, and of their methyl phosphates (charge -1)."""
    oxygen = "[C@H](O)" if ring == "ribose" else "C"
    heads = ("OC", "COP(=O)([O-])OC")
    return tuple(
        f"{head}[C@H]1O[C@@H]({base}){oxygen}[C@@H]1O"
        for head in heads
        for name, base in LINKED.items()
        if name != ("T" if ring == "ribose" else "U")
    )


def nucleic(rng: np.random.Generator, item: int, count: int) -> list[ase.Atoms]:
    """Bases and nucleosides, each in turn."""
    names = (*BASES.values(), *FREE, *nucleosides("ribose"), *nucleosides("deoxyribose"))
    return geometries(names[item * 7 % len(names)], rng, count, "nucleic")


def base_pairs(rng: np.random.Generator, item: int, count: int) -> list[ase.Atoms]:
    """Pairs in turn: Watson-Crick where there is one (half), any edges that meet by two hydrogen bonds, or stacked."""
    names = PAIRS[item % len(PAIRS)]
    one, two = monomer(BASES[names[0]]), monomer(BASES[names[1]])
    if one is None or two is None:
        return []
    found: list[ase.Atoms] = []
    mol = combined([one, two])
    for _ in range(TRIES):
        if len(found) == count:
            break
        draw = rng.random()
        known = WATSON_CRICK.get(names)
        if draw < 0.3:
            x, how = _stacked(one, two, rng), "stacked"
        else:
            paired = _edge_to_edge(one, two, rng, known if known and draw < 0.75 else None)
            if paired is None:
                continue
            x, how = paired, "Watson-Crick" if known and draw < 0.75 else "edge to edge"
        if rng.random() < 0.6:
            kelvin = min(temperature(rng), 500.0)
            end = moved_together(mol, x, kelvin, rng, int(rng.integers(60, 200)), relax=30)
            if end is None:
                continue
            x, how = end, f"{how}, MMFF dynamics at {kelvin:g} K"
        between = np.linalg.norm(x[: len(one.shape.numbers), None] - x[None, len(one.shape.numbers) :], axis=-1)
        made = structure([one, two], x, "base pair", how, mol) if between.min() > 1.4 else None
        found += [made] if made is not None else []
    return found


def _normal(x: Places) -> Float[np.ndarray, "3"]:
    return np.linalg.svd(x - x.mean(0))[2][2]


def _sites(one: Monomer, x: Places) -> Iterator[tuple[int, bool, Float[np.ndarray, "3"]]]:
    """(heavy atom, whether it gives a proton, unit vector outwards in Å) of every place a hydrogen bond can begin."""
    for atom in one.mol.GetAtoms():
        here = x[atom.GetIdx()]
        if atom.GetSymbol() not in "NO":
            continue
        near = [other.GetIdx() for other in atom.GetNeighbors()]
        protons = [k for k in near if one.shape.numbers[k] == 1]
        for k in protons:
            yield atom.GetIdx(), True, (x[k] - here) / np.linalg.norm(x[k] - here)
        if protons or len(near) > 2:
            continue
        away = here - x[near].mean(0)
        away /= np.linalg.norm(away)
        if len(near) == 2:
            yield atom.GetIdx(), False, away
            continue
        # a carbonyl oxygen: two lone pairs in the plane, 60° from the bond
        side = np.cross(_normal(x), away)
        for sign in (-1.0, 1.0):
            yield atom.GetIdx(), False, 0.5 * away + sign * 0.866 * side


def _edge_to_edge(one: Monomer, two: Monomer, rng: np.random.Generator, bonds: int | None) -> Places | None:
    """Two coplanar bases joined by two hydrogen bonds of 2.7 to 3.1 Å drawn at random; with `bonds`, by so many."""
    x, y = one.draw(rng, 100.0), two.draw(rng, 100.0)
    first, second = list(_sites(one, x)), list(_sites(two, y))
    joints = [(a, b) for a, b in product(first, second) if a[1] != b[1]]
    for _ in range(60 if bonds is None else 400):
        chosen = [joints[k] for k in rng.choice(len(joints), size=2, replace=False)]
        (a, b), (c, d) = chosen
        if a[0] == c[0] or b[0] == d[0] or a[1] == c[1]:
            continue
        length = rng.uniform(2.75, 3.1) if bonds is None else 2.9
        best = None
        for sign in (-1.0, 1.0):
            targets = np.stack([p for s, _ in chosen for p in (x[s[0]] + length * s[2], x[s[0]] + (length - 1) * s[2])])
            points = np.stack([p for _, s in chosen for p in (y[s[0]], y[s[0]] + s[2])])
            targets = np.concatenate([targets, [targets[0] + 2.0 * sign * _normal(x)]])
            points = np.concatenate([points, [points[0] + 2.0 * _normal(y)]])
            turn, error = _superposed(points, targets)
            if best is None or error < best[0]:
                best = (error, (y - points.mean(0)) @ turn.T + targets.mean(0))
        assert best is not None
        between = np.linalg.norm(x[:, None] - best[1][None], axis=-1)
        if best[0] > 0.6 or between.min() < 1.6:
            continue
        if bonds is None or _formed(one, two, between) >= bonds:
            return np.concatenate([x, best[1]])
    return None


def _formed(one: Monomer, two: Monomer, between: Float[np.ndarray, "N M"]) -> int:
    """Hydrogen bonds: protons of N or O within 2.4 Å of a N or O of the other base."""
    count = 0
    for mine, other, table in ((one, two, between), (two, one, between.T)):
        takers = np.flatnonzero(np.isin(other.shape.numbers, (7, 8)))
        for i, j in mine.shape.bonds.tolist():
            proton, heavy = (i, j) if mine.shape.numbers[i] == 1 else (j, i)
            if mine.shape.numbers[proton] == 1 and mine.shape.numbers[heavy] in (7, 8):
                count += bool((table[proton, takers] < 2.4).any())
    return count


def _superposed(
    points: Float[np.ndarray, "K 3"], targets: Float[np.ndarray, "K 3"]
) -> tuple[Float[np.ndarray, "3 3"], float]:
    """The rotation of points onto targets about their centres (Kabsch 1976), and the root mean square error, Å."""
    p, q = points - points.mean(0), targets - targets.mean(0)
    u, _, vt = np.linalg.svd(p.T @ q)
    flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(vt.T @ u.T))])
    turn = vt.T @ flip @ u.T
    return turn, float(np.sqrt(((p @ turn.T - q) ** 2).sum(1).mean()))


def _stacked(one: Monomer, two: Monomer, rng: np.random.Generator) -> Places:
    """Parallel planes 3.1 to 4.2 Å apart, turned and shifted at random."""
    x, y = one.draw(rng, 200.0), two.draw(rng, 200.0)
    n, m = _normal(x), _normal(y)
    axes = np.stack([np.linalg.svd(x - x.mean(0))[2][k] for k in range(2)])
    angle, side = rng.uniform(0.0, 2.0 * np.pi), rng.choice((-1.0, 1.0))
    frame = np.stack([np.linalg.svd(y - y.mean(0))[2][k] for k in range(2)])
    c, s = np.cos(angle), np.sin(angle)
    # coordinates of the second base in its own plane, written in the plane of the first
    flat = (y - y.mean(0)) @ frame.T @ np.array([[c, s], [-s, c]])
    # a proper turn: the third axis keeps the hand of the molecule
    hand = np.sign(np.linalg.det(np.stack([*frame, m]))) * np.sign(np.linalg.det(np.stack([*axes, n])))
    height = ((y - y.mean(0)) @ m) * hand
    offset = axes.T @ rng.normal(0.0, 1.2, 2) + side * n * rng.uniform(3.1, 4.2)
    return np.concatenate([x, x.mean(0) + flat @ axes + height[:, None] * n + offset])
