"""Secondary structure letters in the manner of STRIDE: hydrogen-bond energies and backbone angles together.

Written from the article (Frishman & Argos, Proteins 23, 566 (1995)), not from the program. Its hydrogen-bond energy is
taken as published; its statistical propensities of φ and ψ and the weights fitted to them are replaced by plain limits
(`ALPHA`), so that letters at the ends of helices and strands may differ from the program's by a residue. What
matters here and DSSP lacks: turns by geometry without any hydrogen bond, as in the "wavy" intermediate with φ, ψ
around 0.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from heliodor.analysis.proteins.backbone import Backbone, View, dihedrals, hydrogens
from heliodor.trajectory.block import Block

LETTERS = " CTGIHBE"
"""In ascending priority of what overwrites what; blank for caps."""

DEPTH, OPTIMUM = -2.8, 3.0
"""kcal/mol and Å (N···O) of the 8-6 potential of a perfect hydrogen bond."""

BOUND = -0.5
"""kcal/mol, below which there is a bond."""

REACH = 6.0
"""Å between N and O beyond which no bond is looked for; the 8-6 potential is weaker than 0.2 kcal/mol there."""

ALPHA = ((-160.0, -20.0), (-100.0, 45.0))
"""Degrees: φ and ψ of residues that may be in helices."""

TURN = 7.0
"""Å between CA of residues 0 and 3 of a β turn (Wilmot & Thornton, Protein Eng. 3, 479 (1990))."""

FLAT = 30.0
"""Degrees: a residue whose φ and ψ both lie within this of 0 makes a turn of three residues, the "wavy" form."""


def bond_energy(
    n: Float[np.ndarray, "P 3"],
    h: Float[np.ndarray, "P 3"],
    ca: Float[np.ndarray, "P 3"],
    c: Float[np.ndarray, "P 3"],
    o: Float[np.ndarray, "P 3"],
) -> Float[np.ndarray, "P"]:
    """Energy of N-H···O=C in kcal/mol: an 8-6 potential of the distance N···O times two factors of the angles.

    The factor of the donor is cos² of how far N-H···O is from straight. That of the acceptor depends on where H lies
    seen from O: at t_i from the axis of C=O within the plane of its lone pairs and t_o out of it: (0.9 + 0.1 sin 2t_i)
    cos t_o up to 90°, falling to zero at 110° as K₁ (K₂ - cos² t_i)³ cos t_o.
    """
    distance = np.linalg.norm(o - n, axis=-1)
    ratio = OPTIMUM / np.maximum(distance, 1.0)
    # nearer than the optimum the full depth is kept: thermal motion is no reason to lose a bond
    radial = np.where(distance < OPTIMUM, DEPTH, DEPTH * (4.0 * ratio**6 - 3.0 * ratio**8))
    to_n, to_o = n - h, o - h
    bend = -(to_n * to_o).sum(-1) / (np.linalg.norm(to_n, axis=-1) * np.linalg.norm(to_o, axis=-1))
    donor = np.where(bend > 0.0, bend**2, 0.0)

    axis = _unit(o - c)
    normal = _unit(np.cross(ca - c, axis))
    toward = _unit(h - o)
    out = (toward * normal).sum(-1)
    within = np.cos(np.arcsin(np.clip(out, -1.0, 1.0)))
    inner = np.arccos(np.clip((toward * axis).sum(-1) / np.maximum(within, 1e-9), -1.0, 1.0))
    limit = np.cos(np.radians(110.0)) ** 2
    beyond = 0.9 / limit**3 * (limit - np.cos(inner) ** 2) ** 3
    acceptor = np.where(inner < 0.5 * np.pi, 0.9 + 0.1 * np.sin(2.0 * inner), beyond)
    acceptor = np.where(inner < np.radians(110.0), acceptor * within, 0.0)
    found: np.ndarray = radial * donor * acceptor
    return found


def letters(block: Block, backbone: Backbone, view: View) -> Int[np.ndarray, "K R"]:
    """Places in `LETTERS` of each residue in each frame of a block."""
    positions = view.whole(block)
    h = hydrogens(positions, backbone)
    phi, psi = angles(positions, backbone)
    found = np.where(backbone.amino, LETTERS.index("C"), 0) * np.ones((len(positions), 1), dtype=np.int64)
    bonded = [_bonds(positions[k], h[k], backbone) for k in range(len(positions))]
    in_alpha = _within(phi, ALPHA[0]) & _within(psi, ALPHA[1])
    helical = np.zeros(found.shape, dtype=bool)
    for letter, step in (("I", 5), ("G", 3), ("H", 4)):
        members = _helix(bonded, in_alpha, backbone, step)
        found[members] = LETTERS.index(letter)
        helical |= members
    for k, bonds in enumerate(bonded):
        ladders, bridges = _strands(bonds, backbone)
        free = ~helical[k] & backbone.amino
        found[k, bridges & free] = LETTERS.index("B")
        found[k, ladders & free] = LETTERS.index("E")
    coil = found == LETTERS.index("C")
    found[coil & _turns(positions, bonded, phi, psi, helical, backbone)] = LETTERS.index("T")
    return found


def angles(
    positions: Float[np.ndarray, "K n 3"], backbone: Backbone
) -> tuple[Float[np.ndarray, "K R"], Float[np.ndarray, "K R"]]:
    """φ and ψ of each residue in degrees; NaN where there is none."""
    before, after = backbone.before, backbone.after
    phi, psi = (np.full((len(positions), len(backbone)), np.nan) for _ in range(2))
    there = np.flatnonzero(backbone.amino & (before >= 0) & (backbone.c[before] >= 0))
    quads = [backbone.c[before[there]], backbone.n[there], backbone.ca[there], backbone.c[there]]
    phi[:, there] = dihedrals(positions, np.stack(quads, axis=1))
    there = np.flatnonzero(backbone.amino & (after >= 0) & (backbone.n[after] >= 0))
    quads = [backbone.n[there], backbone.ca[there], backbone.c[there], backbone.n[after[there]]]
    psi[:, there] = dihedrals(positions, np.stack(quads, axis=1))
    return phi, psi


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _within(angle: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    return (angle > limits[0]) & (angle < limits[1])


def _bonds(
    positions: Float[np.ndarray, "n 3"], h: Float[np.ndarray, "R 3"], backbone: Backbone
) -> Bool[np.ndarray, "S S"]:
    """Whether C=O of a residue (row) and N-H of another (column) are bonded; a last row and column of False."""
    from scipy.spatial import cKDTree

    found = np.zeros((len(backbone) + 1, len(backbone) + 1), dtype=bool)
    acceptors = np.flatnonzero((backbone.o >= 0) & (backbone.c >= 0) & (backbone.ca >= 0))
    donors = np.flatnonzero((backbone.n >= 0) & np.isfinite(h).all(1))
    if not len(acceptors) or not len(donors):
        return found
    near = cKDTree(positions[backbone.o[acceptors]]).sparse_distance_matrix(
        cKDTree(positions[backbone.n[donors]]), REACH, output_type="coo_matrix"
    )
    i, j = acceptors[near.row], donors[near.col]
    # the amide's own oxygen and the one across its peptide bond
    apart = (i != j) & (backbone.after[i] != j)
    i, j = i[apart], j[apart]
    x = positions
    energy = bond_energy(x[backbone.n[j]], h[j], x[backbone.ca[i]], x[backbone.c[i]], x[backbone.o[i]])
    found[i, j] = energy < BOUND
    return found


def _helix(
    bonded: list[np.ndarray], in_alpha: Bool[np.ndarray, "K R"], backbone: Backbone, step: int
) -> Bool[np.ndarray, "K R"]:
    """Residues between two consecutive bonds i -> i+step and i+1 -> i+1+step; of α helices one more at each end."""
    ahead = backbone.further(step)
    residues = np.arange(len(backbone))
    single = np.stack([bonds[residues, ahead] for bonds in bonded])
    following = backbone.after
    twice = single & np.where(following >= 0, single[:, following], False)
    members = np.zeros_like(in_alpha)
    for k in range(1, step + 1):
        place = backbone.further(k)
        for i in np.flatnonzero(twice.any(0)):
            # a bond to a cap's N-H holds the helix, but a cap has no letter
            if place[i] >= 0 and backbone.amino[place[i]]:
                members[:, place[i]] |= twice[:, i]
    if step == 4:
        before = backbone.before
        edge = np.zeros_like(members)
        for r in np.flatnonzero(backbone.amino):
            for neighbour in (before[r], following[r]):
                if neighbour >= 0:
                    edge[:, r] |= members[:, neighbour]
        members = (members & in_alpha) | (edge & in_alpha)
        return members
    return members & in_alpha


def _strands(bonds: Bool[np.ndarray, "S S"], backbone: Backbone) -> tuple[Bool[np.ndarray, "R"], Bool[np.ndarray, "R"]]:
    """Residues in ladders of two bridges and more, and in lone bridges, by the patterns of Kabsch & Sander."""
    size = len(backbone)
    # the last row and column of the bonds stand for what is beyond the ends
    before = np.where(backbone.before < 0, size, backbone.before)
    after = np.where(backbone.after < 0, size, backbone.after)
    rows = np.arange(size)

    def at(i: np.ndarray, j: np.ndarray) -> np.ndarray:
        return bonds[np.ix_(i, j)]

    # C=O of i-1 with N-H of j, and C=O of j with N-H of i+1
    one = at(before, rows) & at(rows, after).T
    parallel = one | one.T
    anti = (at(rows, rows) & at(rows, rows).T) | (at(before, after) & at(before, after).T)
    near = (np.abs(rows[:, None] - rows) < 3) & (backbone.piece[:, None] == backbone.piece)
    parallel, anti = parallel & ~near, anti & ~near
    ladders, bridges = np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
    for pattern, direction in ((parallel, after), (anti, before)):
        wide = np.zeros((size + 1, size + 1), dtype=bool)
        wide[:size, :size] = pattern
        i, j = np.nonzero(pattern)
        bridges[i] = True
        continues = wide[after[i], direction[j]]
        ladders[i[continues]] = True
        ladders[after[i[continues]]] = True
    return ladders, bridges & ~ladders


def _turns(
    positions: Float[np.ndarray, "K n 3"],
    bonded: list[np.ndarray],
    phi: Float[np.ndarray, "K R"],
    psi: Float[np.ndarray, "K R"],
    helical: Bool[np.ndarray, "K R"],
    backbone: Backbone,
) -> Bool[np.ndarray, "K R"]:
    """Residues of β turns (four, ends within 7 Å, middle ones not both helical) and of γ turns.

    γ turns are three residues with a bond i -> i+2 or a flat one in the middle.
    """
    found = np.zeros_like(helical)
    first, second, third = (backbone.further(k) for k in (1, 2, 3))
    for i in np.flatnonzero(third >= 0):
        four = (i, first[i], second[i], third[i])
        if all(backbone.amino[r] for r in four):
            ends = positions[:, backbone.ca[four[0]]] - positions[:, backbone.ca[four[3]]]
            turn = (np.linalg.norm(ends, axis=-1) < TURN) & ~(helical[:, four[1]] & helical[:, four[2]])
            for r in four:
                found[:, r] |= turn
    for i in np.flatnonzero(second >= 0):
        middle = first[i]
        flat = (np.abs(phi[:, middle]) < FLAT) & (np.abs(psi[:, middle]) < FLAT)
        turn = flat | np.array([bonds[i, second[i]] for bonds in bonded])
        for r in (i, middle, second[i]):
            found[:, r] |= turn & backbone.amino[r]
    return found
