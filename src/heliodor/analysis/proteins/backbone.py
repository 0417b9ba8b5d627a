"""Backbones of peptides and proteins: which atoms they are, in chain order, and what is measured along them.

Amino acids are found by the names N, CA, C of bonded atoms, whatever the residue is called; what is bonded before the
first nitrogen and after the last carbon (ACE, NME ...) comes along as a cap: it lends its C=O or N-H to hydrogen
bonds and its atoms to dihedral angles, and has no φ and ψ of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from heliodor.errors import InputError
from heliodor.topology import Topology
from heliodor.trajectory.block import Block
from heliodor.trajectory.pieces import Pieces, pieces_of
from heliodor.trajectory.trajectory import Trajectory

OXYGENS = ("O", "OT1", "OC1", "O1", "OT", "OXT")
"""Names of the carbonyl oxygen, the first one there counts."""

NH = 1.0
"""Å of the N-H bond of a hydrogen placed opposite to the C=O before it (Kabsch & Sander 1983)."""


@dataclass(frozen=True, eq=False)
class Backbone:
    """R residues and caps, each chain from its N terminus on.

    Attributes:
        n, h, ca, c, o: indices of atoms; -1 where there is none. ``h`` is -1 beside amides N-H; ``ca`` of a cap is the
            carbon next to its C or N.
        amino: amino acids, which have N, CA and C; the others are caps.
        residue_names, residue_numbers, chains: as in the topology.
        after: residue that follows along the chain (bonded), -1 at its end.
    """

    n: Int[np.ndarray, "R"]
    h: Int[np.ndarray, "R"]
    ca: Int[np.ndarray, "R"]
    c: Int[np.ndarray, "R"]
    o: Int[np.ndarray, "R"]
    amino: Bool[np.ndarray, "R"]
    residue_names: np.ndarray
    residue_numbers: Int[np.ndarray, "R"]
    chains: np.ndarray
    after: Int[np.ndarray, "R"]

    def __len__(self) -> int:
        return len(self.n)

    @cached_property
    def before(self) -> Int[np.ndarray, "R"]:
        """Residue before along the chain, -1 at its start."""
        found = np.full(len(self), -1)
        there = np.flatnonzero(self.after >= 0)
        found[self.after[there]] = there
        return found

    @cached_property
    def piece(self) -> Int[np.ndarray, "R"]:
        """Index of the unbroken chain of each residue."""
        return np.cumsum(self.before < 0) - 1

    @cached_property
    def atoms(self) -> Int[np.ndarray, "n"]:
        """All its atoms, ascending: what has to be read."""
        every = np.unique(np.concatenate([self.n, self.h, self.ca, self.c, self.o]))
        return every[every >= 0]

    def further(self, k: int) -> Int[np.ndarray, "R"]:
        """The residue k places on along the chain, -1 beyond its end."""
        found = np.arange(len(self))
        for _ in range(k):
            found = np.where(found >= 0, self.after[found], -1)
        return found

    def label(self, residue: int) -> str:
        """``"ALA 3"``, with the chain in front if there are several."""
        chain = f"{self.chains[residue]} " if len(np.unique(self.chains)) > 1 else ""
        return f"{chain}{self.residue_names[residue]} {self.residue_numbers[residue]}"

    def among(self, atoms: Int[np.ndarray, "n"]) -> Backbone:
        """The same with indices into those atoms (ascending), which hold all of its own."""

        def place(index: np.ndarray) -> np.ndarray:
            return np.where(index >= 0, np.searchsorted(atoms, index), -1)

        moved = {name: place(getattr(self, name)) for name in ("n", "h", "ca", "c", "o")}
        return replace(self, **moved)


def missing(trajectory: Trajectory) -> str | None:
    """Why there is no backbone to look at, in words; None if there is one."""
    topology = trajectory.topology
    if {"N", "CA", "C"} <= set(topology.names[topology.numbers > 1].tolist()) and len(backbone_of(topology)):
        return None
    if not topology.named:
        return "it holds no peptide that could be recognised by its bonds, and no names of residues: give a topology"
    return "it holds no amino acids with atoms named N, CA and C"


def backbone_of(topology: Topology) -> Backbone:
    """The backbone of all peptides of a structure; empty if it has none."""
    wanted = np.isin(topology.names, ["N", "CA", "C", *OXYGENS])
    held: dict[int, dict[str, int]] = {}
    residues = topology.residues
    for k in np.flatnonzero(wanted).tolist():
        held.setdefault(int(residues[k]), {}).setdefault(str(topology.names[k]), k)
    bonded = _partners(topology, np.flatnonzero(wanted))
    amino = {
        r: found
        for r, found in held.items()
        if {"N", "CA", "C"} <= found.keys() and found["CA"] in bonded[found["N"]] and found["C"] in bonded[found["CA"]]
    }
    nitrogen = {found["N"]: r for r, found in amino.items()}
    carbon = {found["C"]: r for r, found in amino.items()}
    rows: dict[int, tuple[int, int, int, int, int]] = {}
    after: dict[int, int] = {}
    for r, found in amino.items():
        oxygen = next((found[name] for name in OXYGENS if name in found), -1)
        rows[r] = (found["N"], _hydrogen(found["N"], bonded, topology), found["CA"], found["C"], oxygen)
        for k in bonded[found["C"]]:
            if k in nitrogen and nitrogen[k] != r:
                after[r] = nitrogen[k]
            elif topology.numbers[k] == 7 and int(residues[k]) not in amino:
                rows[int(residues[k])] = _back_cap(k, found["C"], bonded, topology)
                after[r] = int(residues[k])
        for k in bonded[found["N"]]:
            if topology.numbers[k] == 6 and k not in carbon and int(residues[k]) not in amino:
                rows[int(residues[k])] = _front_cap(k, found["N"], bonded, topology)
                after[int(residues[k])] = r
    return _ordered(rows, after, set(amino), topology)


def _partners(topology: Topology, atoms: Int[np.ndarray, "n"]) -> dict[int, list[int]]:
    """Bonded atoms of some atoms and of their neighbours."""
    near = np.zeros(len(topology), dtype=bool)
    near[atoms] = True
    for _ in range(2):
        touched = near[topology.bonds].any(1)
        near[topology.bonds[touched]] = True
    found: dict[int, list[int]] = {int(k): [] for k in np.flatnonzero(near)}
    for i, j in topology.bonds[near[topology.bonds].all(1)].tolist():
        found[i].append(j)
        found[j].append(i)
    return found


def _hydrogen(nitrogen: int, bonded: dict[int, list[int]], topology: Topology) -> int:
    hydrogens = [k for k in bonded[nitrogen] if topology.numbers[k] == 1]
    return hydrogens[0] if len(hydrogens) == 1 else -1


def _front_cap(c: int, n: int, bonded: dict[int, list[int]], topology: Topology) -> tuple[int, int, int, int, int]:
    oxygens = [k for k in bonded[c] if topology.numbers[k] == 8]
    carbons = [k for k in bonded[c] if topology.numbers[k] == 6]
    return -1, -1, carbons[0] if carbons else -1, c, oxygens[0] if oxygens else -1


def _back_cap(n: int, c: int, bonded: dict[int, list[int]], topology: Topology) -> tuple[int, int, int, int, int]:
    carbons = [k for k in bonded[n] if topology.numbers[k] == 6 and k != c]
    return n, _hydrogen(n, bonded, topology), carbons[0] if carbons else -1, -1, -1


def _ordered(
    rows: dict[int, tuple[int, int, int, int, int]], after: dict[int, int], amino: set[int], topology: Topology
) -> Backbone:
    following = set(after.values())
    order: list[int] = []
    seen: set[int] = set()
    # what is left after the open chains are rings
    for start in [*sorted(set(rows) - following), *sorted(rows)]:
        at: int | None = start
        while at is not None and at not in seen:
            seen.add(at)
            order.append(at)
            at = after.get(at)
    place = {r: k for k, r in enumerate(order)}
    table = np.array([rows[r] for r in order], dtype=np.int64).reshape(-1, 5)
    _, first = np.unique(topology.residues, return_index=True)
    atom = first[np.array(order, dtype=np.int64)]
    n, h, ca, c, o = table.T
    return Backbone(
        n=n,
        h=h,
        ca=ca,
        c=c,
        o=o,
        amino=np.array([r in amino for r in order], dtype=bool),
        residue_names=topology.residue_names[atom],
        residue_numbers=topology.residue_numbers[atom],
        chains=topology.chains[atom],
        after=np.array([place[after[r]] if r in after else -1 for r in order], dtype=np.int64),
    )


@dataclass(frozen=True, eq=False)
class View:
    """What a function over blocks needs to have molecules in one piece.

    Attributes:
        atoms: that are looked at, ascending.
        pieces: puts them together; None where they are as they should be.
    """

    atoms: Int[np.ndarray, "n"]
    pieces: Pieces | None = None

    @property
    def read(self) -> Int[np.ndarray, "r"]:
        """Atoms that have to be read, ascending: those looked at and what joins them."""
        return self.atoms if self.pieces is None else self.pieces.read

    def whole(self, block: Block) -> Float[np.ndarray, "K n 3"]:
        """Positions of ``atoms``, chains in one piece and beside each other as in the first frame.

        Args:
            block: of the atoms to ``read``.
        """
        return block.positions if self.pieces is None else self.pieces.placed(block)


def view_of(trajectory: Trajectory, atoms: Int[np.ndarray, "n"]) -> View:
    """The `View` of some atoms (ascending); reads the first frame.

    Raises:
        InputError: a frame that cannot be read.
    """
    return View(atoms, pieces_of(trajectory, atoms))


def require(trajectory: Trajectory, backbone: Backbone) -> None:
    """Refuse where there is no amino acid.

    Raises:
        InputError: there is none.
    """
    if not backbone.amino.any():
        raise InputError(f"{trajectory.path}: {missing(trajectory)}")


def dihedrals(positions: Float[np.ndarray, "K n 3"], quads: Int[np.ndarray, "M 4"]) -> Float[np.ndarray, "K M"]:
    """Dihedral angles in degrees, -180 to 180, by the IUPAC sign (clockwise seen along the middle bond is positive)."""
    a, b, c, d = (positions[:, quads[:, k]] for k in range(4))
    axis = c - b
    left, right = np.cross(b - a, axis), np.cross(axis, d - c)
    sine = (np.cross(left, right) * axis).sum(-1) / np.maximum(np.linalg.norm(axis, axis=-1), 1e-12)
    angles: np.ndarray = np.degrees(np.arctan2(sine, (left * right).sum(-1)))
    return angles


def placed_hydrogens(positions: Float[np.ndarray, "K n 3"], backbone: Backbone) -> Float[np.ndarray, "K R 3"]:
    """Amide hydrogens 1 Å from N, antiparallel to the C=O before; NaN at starts of chains and in prolines."""
    before = backbone.before
    there = np.flatnonzero(
        (before >= 0) & (backbone.n >= 0) & (backbone.residue_names != "PRO") & (backbone.o[before] >= 0)
    )
    found = np.full((len(positions), len(backbone), 3), np.nan)
    direction = positions[:, backbone.c[before[there]]] - positions[:, backbone.o[before[there]]]
    length = np.linalg.norm(direction, axis=-1, keepdims=True)
    found[:, there] = positions[:, backbone.n[there]] + NH * direction / length
    return found


def hydrogens(positions: Float[np.ndarray, "K n 3"], backbone: Backbone) -> Float[np.ndarray, "K R 3"]:
    """Amide hydrogens where the structure has them, else placed; NaN where there is no N-H."""
    found = placed_hydrogens(positions, backbone)
    there = np.flatnonzero((backbone.h >= 0) & (backbone.residue_names != "PRO"))
    found[:, there] = positions[:, backbone.h[there]]
    return found
