"""Torsions of proteins (φ, ψ, ω, χ₁ to χ₄) and of any four atoms, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float, Int

from heliodor.analysis.proteins.backbone import Backbone, View, backbone_of, dihedrals, view_of
from heliodor.errors import InputError
from heliodor.topology import Topology
from heliodor.trajectory.block import Block
from heliodor.trajectory.parallel import Progress, over_blocks
from heliodor.trajectory.trajectory import Trajectory

KINDS = ("phi", "psi", "omega", "chi1", "chi2", "chi3", "chi4")

GREEK = {
    "phi": "φ",
    "psi": "ψ",
    "omega": "ω",
    "chi1": "χ₁",
    "chi2": "χ₂",
    "chi3": "χ₃",
    "chi4": "χ₄",
}

_SIDE = (
    ("N", "CA", "CB", "SG"),
    ("N", "CA", "CB", "OG"),
    ("N", "CA", "CB", "OG1"),
    ("N", "CA", "CB", "CG1"),
    ("N", "CA", "CB", "CG"),
)
_NEXT = {
    "chi2": ("CG1 CD1", "CG1 CD", "CG CD", "CG SD", "CG ND1", "CG CD1", "CG OD1"),
    "chi3": ("CG CD NE", "CG CD CE", "CG CD OE1", "CG SD CE"),
    "chi4": ("CD NE CZ", "CD CE NZ"),
}


@dataclass(frozen=True, eq=False)
class Torsions:
    """M torsions of one structure.

    Attributes:
        quads: atoms.
        kinds: one of `KINDS` each, or "atoms".
        labels: ``"ALA 3 φ"``.
        residues: place of the residue in the `Backbone`; -1 of torsions of no residue.
    """

    quads: Int[np.ndarray, "M 4"]
    kinds: tuple[str, ...]
    labels: tuple[str, ...]
    residues: Int[np.ndarray, "M"]

    def __len__(self) -> int:
        return len(self.quads)

    def of(self, *kinds: str) -> Torsions:
        """Those of some kinds."""
        rows = [k for k, kind in enumerate(self.kinds) if kind in kinds]
        return Torsions(
            self.quads[rows],
            tuple(self.kinds[k] for k in rows),
            tuple(self.labels[k] for k in rows),
            self.residues[rows],
        )


def protein_torsions(topology: Topology, backbone: Backbone | None = None) -> Torsions:
    """All of `KINDS` that the residues have; χ after IUPAC (J. Mol. Biol. 52, 1 (1970)), χ₂ of rings by CD1 or ND1.

    ω is that of the bond to the residue before.
    """
    backbone = backbone_of(topology) if backbone is None else backbone
    found: list[tuple[str, list[int], int]] = []
    before, after = backbone.before, backbone.after
    side = _side_atoms(topology, backbone)
    for r in range(len(backbone)):
        p, q = int(before[r]), int(after[r])
        n, ca, c = int(backbone.n[r]), int(backbone.ca[r]), int(backbone.c[r])
        if p >= 0 and n >= 0:
            found.append(("omega", [int(backbone.ca[p]), int(backbone.c[p]), n, ca], r))
        if not backbone.amino[r]:
            continue
        if p >= 0:
            found.append(("phi", [int(backbone.c[p]), n, ca, c], r))
        if q >= 0:
            found.append(("psi", [n, ca, c, int(backbone.n[q])], r))
        atoms = side.get(r, {})
        first = next((names for names in _SIDE if set(names) <= atoms.keys()), None)
        if first is None:
            continue
        found.append(("chi1", [atoms[name] for name in first], r))
        chain = {"chi2": ("CA", "CB"), "chi3": ("CB",), "chi4": ("CG",)}
        for kind, start in chain.items():
            quad = next(
                (
                    [atoms[name] for name in (*start, *words.split())]
                    for words in _NEXT[kind]
                    if {*start, *words.split()} <= atoms.keys()
                ),
                None,
            )
            if quad is not None:
                found.append((kind, quad, r))
    found = [one for one in found if min(one[1]) >= 0]
    found.sort(key=lambda one: (one[2], KINDS.index(one[0])))
    return Torsions(
        quads=np.array([quad for _, quad, _ in found], dtype=np.int64).reshape(-1, 4),
        kinds=tuple(kind for kind, _, _ in found),
        labels=tuple(f"{backbone.label(r)} {GREEK[kind]}" for kind, _, r in found),
        residues=np.array([r for _, _, r in found], dtype=np.int64),
    )


def _side_atoms(topology: Topology, backbone: Backbone) -> dict[int, dict[str, int]]:
    owner = {int(topology.residues[ca]): r for r, ca in enumerate(backbone.ca.tolist()) if backbone.amino[r]}
    found: dict[int, dict[str, int]] = {}
    heavy = np.flatnonzero((topology.numbers > 1) & np.isin(topology.residues, list(owner)))
    for k in heavy.tolist():
        found.setdefault(owner[int(topology.residues[k])], {})[str(topology.names[k])] = k
    return found


def given_torsions(topology: Topology, text: str) -> Torsions:
    """Torsions written as ``"0,1,2,3"``, several separated by semicolons or spaces; atoms from 0.

    Raises:
        InputError: not four atoms each, or atoms there are not.
    """
    quads = []
    for words in text.replace(";", " ").split():
        try:
            quad = [int(word) for word in words.split(",")]
        except ValueError:
            quad = []
        if len(quad) != 4 or len(set(quad)) != 4:
            raise InputError(f"cannot read {words!r} as a torsion: write four different atoms, counted from 0: 0,1,2,3")
        if not 0 <= min(quad) <= max(quad) < len(topology):
            raise InputError(f"the torsion {words} names atoms that are not there: 0 to {len(topology) - 1} are")
        quads.append(quad)
    if not quads:
        raise InputError(f"cannot read {text!r} as torsions: write for example 0,1,2,3;4,5,6,7")
    symbols = topology.symbols
    labels = tuple("-".join(f"{symbols[k]}{k}" for k in quad) for quad in quads)
    return Torsions(np.array(quads, dtype=np.int64), ("atoms",) * len(quads), labels, np.full(len(quads), -1))


def torsion_series(
    trajectory: Trajectory,
    torsions: Torsions,
    *,
    stride: int = 1,
    progress: Progress | None = None,
    processes: int = 1,
) -> Float[np.ndarray, "T M"]:
    """Angles in degrees (-180 to 180), in single precision: all frames are kept, 4 bytes each.

    Raises:
        InputError: frames that cannot be read.
    """
    if not len(torsions):
        return np.zeros((len(trajectory.time[::stride]), 0), dtype=np.float32)
    atoms = np.unique(torsions.quads)
    # neighbours along the chain keep a molecule in one piece
    view = view_of(trajectory, atoms)
    quads = np.searchsorted(atoms, torsions.quads)
    run = partial(over_blocks, trajectory, _angles, quads, view)
    parts = run(stride=stride, atoms=view.read, progress=progress, processes=processes)
    return np.concatenate(list(parts))


def _angles(block: Block, quads: Int[np.ndarray, "M 4"], view: View) -> Float[np.ndarray, "K M"]:
    return dihedrals(view.whole(block), quads).astype(np.float32)


def circular_mean(angles: np.ndarray, axis: int = 0) -> np.ndarray:
    """Mean direction of angles in degrees."""
    radians = np.radians(angles.astype(np.float64))
    return np.asarray(np.degrees(np.arctan2(np.sin(radians).mean(axis), np.cos(radians).mean(axis))))


def within(angles: np.ndarray, low: float, high: float) -> np.ndarray:
    """Whether angles in degrees lie between two, going up from ``low`` and round at 180."""
    # from -180 to 180 is the whole circle
    width = (high - low) % 360.0 or 360.0
    return np.asarray((angles - low) % 360.0 < width)
