"""The equilibrated patches of lipid bilayers that come with OpenMM, as molecules."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers
from jaxtyping import Float, Int

from heliodor.errors import InputError, suggestion
from heliodor.prepare.prepared import openmm
from heliodor.topology import Topology

LIPIDS = ("POPC", "POPE", "DLPC", "DLPE", "DMPC", "DOPC", "DPPC")
"""Patches of OpenMM, 64 lipids a leaflet with 30 or 40 waters a lipid, Amber Lipid17 and TIP3P."""

PATCH = 128
"""Lipids of each patch."""

GEL = {"DPPC": 49.7}
"""Lipids whose patch is in the gel phase, with its area per lipid in Å² (fluid DPPC at 323 K: 63)."""


@dataclass(frozen=True, eq=False)
class Patch:
    """A periodic bilayer, its normal along z, its middle at z = 0.

    Attributes:
        lipid: name.
        numbers: [n] atomic numbers of one lipid.
        names: [n] of its atoms, CHARMM's: tails C21 ... C218 (sn-2) and C31 ... C316 (sn-1).
        bonds: [k 2] of one lipid.
        lipids: [L n 3] Å, each in one piece.
        waters: [W 3 3] Å, O H H, each in one piece.
        box: [3] Å.
    """

    lipid: str
    numbers: Int[np.ndarray, "n"]
    names: np.ndarray
    bonds: Int[np.ndarray, "k 2"]
    lipids: Float[np.ndarray, "L n 3"]
    waters: Float[np.ndarray, "W 3 3"]
    box: Float[np.ndarray, "3"]

    @property
    def upper(self) -> np.ndarray:
        """[L] whether a lipid belongs to the leaflet above the middle."""
        return self.lipids[:, :, 2].mean(1) > 0.0

    @property
    def inverted(self) -> Int[np.ndarray, "m"]:
        """Lipids whose glycerol (C2) has the other hand: one in the patch of POPC, two in that of DPPC."""
        place = {str(name): k for k, name in enumerate(self.names)}
        a, b, c = (self.lipids[:, place[name]] - self.lipids[:, place["C2"]] for name in ("O21", "C1", "C3"))
        # natural sn-glycero-3-phospholipids are R at C2: below zero with this order
        return np.flatnonzero(np.einsum("li,li->l", a, np.cross(b, c)) > 0.0)

    @property
    def area(self) -> float:
        """Å² a lipid and leaflet."""
        return float(self.box[0] * self.box[1]) / (len(self.lipids) / 2)


def read_patch(lipid: str) -> Patch:
    """The patch of a lipid.

    Raises:
        InputError: there is none.
        MissingExtraError: OpenMM is not installed.
    """
    name = lipid.strip().upper()
    if name not in LIPIDS:
        raise InputError(
            f"there is no membrane of {lipid!r}{suggestion(name, LIPIDS)} (lipids with an equilibrated patch: "
            f"{', '.join(LIPIDS)})"
        )
    text = (Path(openmm().app.__file__).parent / "data" / f"{name}.pdb").read_text().splitlines()
    rows = [line for line in text if line.startswith(("ATOM", "HETATM"))]
    x = np.array([[float(line[k : k + 8]) for k in (30, 38, 46)] for line in rows])
    water = np.array([line[17:20] == "HOH" for line in rows])
    lipids = np.flatnonzero(~water).reshape(PATCH, -1)
    first = lipids[0]
    inside = {int(rows[k][6:11]): n for n, k in enumerate(first)}
    bonds = set()
    for line in text:
        if line.startswith("CONECT") and int(line[6:11]) in inside:
            others = [int(line[k : k + 5]) for k in range(11, len(line.rstrip()), 5)]
            i = inside[int(line[6:11])]
            bonds |= {(min(i, inside[other]), max(i, inside[other])) for other in others}
    edges = next(line for line in text if line.startswith("CRYST1"))
    box = np.array([float(edges[k : k + 9]) for k in (6, 15, 24)])
    here = x - [0.0, 0.0, x[~water, 2].mean()]
    return Patch(
        lipid=name,
        numbers=np.array([atomic_numbers[rows[k][76:78].strip().title()] for k in first], dtype=np.int64),
        names=np.array([_unwrapped(rows[k][12:16].strip()) for k in first]),
        bonds=np.array(sorted(bonds), dtype=np.int64),
        lipids=here[lipids],
        waters=_about(here[np.flatnonzero(water).reshape(-1, 3)], box),
        box=box,
    )


def one_lipid(patch: Patch) -> Topology:
    """Names, elements and bonds of a single lipid."""
    n = len(patch.numbers)
    return Topology(
        numbers=patch.numbers,
        names=patch.names,
        residue_names=np.full(n, patch.lipid),
        residue_numbers=np.ones(n, dtype=np.int64),
        chains=np.full(n, "A"),
        bonds=patch.bonds,
        named=True,
    )


def tiled(patch: Patch, nx: int, ny: int) -> Patch:
    """Copies side by side."""
    moves = [np.array([x * patch.box[0], y * patch.box[1], 0.0]) for x in range(nx) for y in range(ny)]
    return Patch(
        patch.lipid,
        patch.numbers,
        patch.names,
        patch.bonds,
        np.concatenate([patch.lipids + move for move in moves]),
        np.concatenate([patch.waters + move for move in moves]),
        patch.box * [nx, ny, 1],
    )


def _about(waters: Float[np.ndarray, "W 3 3"], box: Float[np.ndarray, "3"]) -> Float[np.ndarray, "W 3 3"]:
    """Waters moved by whole boxes along z so that they lie around the bilayer in the middle."""
    moved = waters.copy()
    moved[:, :, 2] -= (box[2] * np.round(waters[:, 0, 2] / box[2]))[:, None]
    return moved


def _unwrapped(name: str) -> str:
    """``"0C21"``, as old PDB files wrote names of four letters, is ``"C210"``."""
    found = re.fullmatch(r"(\d+)([A-Z]\w*)", name)
    return found[2] + found[1] if found else name
