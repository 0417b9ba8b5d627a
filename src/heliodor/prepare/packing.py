"""Molecules packed at random into a periodic box without overlap, by PACKMOL."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ase
import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Float, Int

from heliodor.errors import InputError, MissingExtraError

GAPS = (2.0, 1.8, 1.6)
"""Å; atoms of different molecules are at least so far apart, the first that can be had."""

CLOSEST = 1.5
"""Å; below this two molecules touch, and nothing is handed out."""

SECONDS = 600.0
"""A packing that takes longer is given up."""


@dataclass(frozen=True, eq=False)
class Kind:
    """Molecules of one kind to be packed.

    Attributes:
        numbers: atomic numbers of one molecule.
        positions: Å, of one molecule.
        count: how many.
        fixed: whether the (only) molecule stays where it is.
        outside: Å; not deeper than this below the faces of the box. 0: anywhere.
    """

    numbers: Int[np.ndarray, "n"]
    positions: Float[np.ndarray, "n 3"]
    count: int
    fixed: bool = False
    outside: float = 0.0


def pack(kinds: Sequence[Kind], box: Float[np.ndarray, "3"], seed: int = 0) -> tuple[Float[np.ndarray, "N 3"], float]:
    """Place molecules with random positions and directions in a periodic rectangular box.

    Martínez, Andrade, Birgin and Martínez, J. Comput. Chem. 30, 2157 (2009).

    Args:
        box: edges, Å, from the origin.

    Returns:
        Positions (Å), molecule after molecule in the order of ``kinds``, each in one piece, and the smallest distance
        between atoms of different molecules or images (Å).

    Raises:
        InputError: no room.
        MissingExtraError: PACKMOL is not installed.
    """
    binary = packmol_path()
    for gap in GAPS:
        found = packed_once(binary, kinds, box, gap, seed)
        if found is None:
            continue
        closest = closest_contact(kinds, found, box)
        if closest > CLOSEST:
            return found, closest
    size = " × ".join(f"{edge:.2f}" for edge in box)
    total = sum(kind.count for kind in kinds)
    raise InputError(
        f"{total} molecules cannot be packed into a box of {size} Å without overlap: take fewer, a lower density, or a "
        "larger box"
    )


def closest_contact(kinds: Sequence[Kind], positions: Float[np.ndarray, "N 3"], box: Float[np.ndarray, "3"]) -> float:
    """Smallest distance (Å, up to 5) between atoms of different molecules, and of a molecule and its own images."""
    sizes = [len(kind.numbers) for kind in kinds for _ in range(kind.count)]
    return closest_of(np.repeat(np.arange(len(sizes)), sizes), positions, box)


def closest_of(
    molecules: Int[np.ndarray, "N"], positions: Float[np.ndarray, "N 3"], box: Float[np.ndarray, "3"]
) -> float:
    """`closest_contact` for atoms labelled with their molecules, which are in one piece."""
    from vesin import NeighborList

    i, j, shift, d = NeighborList(cutoff=5.0, full_list=False).compute(
        points=positions, box=np.diag(box), periodic=True, quantities="ijSd"
    )
    apart = (molecules[i.astype(np.int64)] != molecules[j.astype(np.int64)]) | (shift != 0).any(1)
    return float(d[apart].min()) if apart.any() else 5.0


def packed_once(
    binary: Path, kinds: Sequence[Kind], box: Float[np.ndarray, "3"], gap: float, seed: int
) -> Float[np.ndarray, "N 3"] | None:
    """Positions (Å) of one run of PACKMOL that keeps molecules ``gap`` Å apart; None where it finds no room."""
    with tempfile.TemporaryDirectory(prefix="heliodor-") as folder:
        lines = [f"tolerance {gap}", "filetype xyz", "output packed.xyz", f"seed {seed % 2**30 + 1}", "nloop 200"]
        lines.append("pbc " + " ".join(f"{edge:.6f}" for edge in box))
        for k, kind in enumerate(kinds):
            _write_xyz(Path(folder, f"{k}.xyz"), kind)
            place = ["  fixed 0. 0. 0. 0. 0. 0."] if kind.fixed else []
            if kind.outside:
                inner = " ".join(f"{edge - kind.outside:.4f}" for edge in box)
                place.append(f"  outside box {' '.join([str(kind.outside)] * 3)} {inner}")
            lines += [f"structure {k}.xyz", f"  number {kind.count}", *place, "end structure"]
        # PACKMOL rewinds its input, which only a file allows
        Path(folder, "in.inp").write_text("\n".join(lines) + "\n")
        try:
            done = subprocess.run(
                [str(binary), "-i", "in.inp"], cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return None
        out = Path(folder, "packed.xyz")
        if done.returncode or "Success!" not in done.stdout or not out.exists():
            return None
        return np.loadtxt(out, skiprows=2, usecols=(1, 2, 3), ndmin=2, dtype=np.float64)


def _write_xyz(path: Path, kind: Kind) -> None:
    rows = [
        f"{chemical_symbols[z]} {x:.6f} {y:.6f} {w:.6f}"
        for z, (x, y, w) in zip(kind.numbers.tolist(), kind.positions.tolist(), strict=True)
    ]
    path.write_text("\n".join([str(len(rows)), "", *rows]) + "\n")


def packmol_path() -> Path:
    try:
        from packmol.cli import get_binary_path

        return Path(get_binary_path())
    except (ImportError, FileNotFoundError):
        raise MissingExtraError("packmol", "prepare") from None


def occupied(kind: Kind) -> float:
    """Van der Waals volume of one molecule, Å³ (Bondi radii, on a grid of 0.25 Å)."""
    from ase.data.vdw import vdw_radii
    from ase.data.vdw_alvarez import vdw_radii as wider

    known = vdw_radii[kind.numbers] if kind.numbers.max() < len(vdw_radii) else np.full(len(kind.numbers), np.nan)
    radii = np.where(np.isfinite(known), known, wider[kind.numbers])
    low = kind.positions.min(0) - 3.0
    counts = np.ceil((kind.positions.max(0) + 3.0 - low) / 0.25).astype(int)
    grid = np.stack(np.meshgrid(*(low[a] + 0.25 * np.arange(counts[a]) for a in range(3)), indexing="ij"), axis=-1)
    inside = np.zeros(grid.shape[:3], dtype=bool)
    for position, radius in zip(kind.positions, radii, strict=True):
        inside |= ((grid - position) ** 2).sum(-1) < radius**2
    return float(inside.sum()) * 0.25**3


def cell_of(box: Float[np.ndarray, "3"]) -> ase.cell.Cell:
    """The cell of a rectangular box."""
    return ase.cell.Cell(np.diag(box))
