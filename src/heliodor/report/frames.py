"""Frames for the viewer: molecules whole and centred, numbers of 16 bits, differences from frame to frame, deflated."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from heliodor.report.words import count
from heliodor.topology import Topology
from heliodor.trajectory.images import Tree, inverse, made_whole, tree_of
from heliodor.trajectory.pieces import pieces_of
from heliodor.trajectory.selection import AMINO_ACIDS, is_water, solute
from heliodor.trajectory.trajectory import Trajectory

FRAMES = 1000
"""At most."""

VALUES = 1_200_000
"""Atoms times frames of all runs on a page: about 5 MB in the file."""

GRAIN = 0.005
"""Å; to which positions are kept, unless the system is so large that 16 bits need a coarser one."""


@dataclass(frozen=True, eq=False)
class Film:
    """What the viewer shows of one run.

    Attributes:
        data: for JSON.
        words: what was left out, in sentences.
        first: [n, 3] Å of the first frame, for a still picture.
        topology: of the n atoms shown.
        main: [m] of them, those that are no solvent.
    """

    data: dict[str, Any]
    words: tuple[str, ...]
    first: Float[np.ndarray, "n 3"]
    topology: Topology
    main: Int[np.ndarray, "m"]


def film(trajectory: Trajectory, values: int = VALUES) -> Film:
    """Choose frames and atoms within a budget, and pack them.

    The solute (what is neither water nor ions) comes first: as many frames as fit, evenly chosen. Of the solvent those
    molecules are taken that fit, nearest to the solute in the first frame.

    Args:
        values: atoms times frames that may be kept.

    Raises:
        InputError: frames that cannot be read.
    """
    topology = trajectory.topology
    main = solute(topology)
    total = len(trajectory)
    n_frames = int(max(1, min(total, FRAMES, values // len(main))))
    frames = np.unique(np.linspace(0, total - 1, n_frames).astype(int))
    tree = tree_of(topology)
    room = max(0, values // len(frames) - len(main))
    atoms, left = _with_solvent(trajectory, tree, main, room)
    shown = topology.take(atoms)
    place = np.searchsorted(atoms, main)
    positions, cells = _centred(trajectory, frames, atoms, place)
    words = []
    if len(frames) < total:
        words.append(f"{count(len(frames))} of {count(total)} frames are shown, evenly chosen.")
    if left:
        words.append(f"Of the solvent {count(left)} atoms farther from the solute are not shown.")
    grain = max(GRAIN, float(np.abs(positions).max()) / 32000.0)
    data: dict[str, Any] = {
        "atoms": len(atoms),
        "frames": len(frames),
        "grain": grain,
        "positions": pack(positions, grain),
        "times": [float(f"{t / 1e3:.7g}") for t in trajectory.time[frames].tolist()],
        "indices": frames.tolist(),
        "numbers": shown.numbers.tolist(),
        "labels": [shown.label(k) for k in range(len(atoms))],
        "residues": shown.residues.tolist(),
        "molecules": shown.molecules.tolist(),
        "bonds": shown.bonds.reshape(-1).tolist(),
        "solvent": np.setdiff1d(np.arange(len(atoms)), place).tolist(),
        "traces": traces(shown),
        "turns": _turns(positions, place[shown.numbers[place] > 1] if (shown.numbers[place] > 1).sum() > 2 else place),
        "start": _start(positions[0], place, boxed=trajectory.periodic),
        "cell": None,
    }
    if cells is not None and trajectory.periodic:
        fixed = bool(np.ptp(cells, axis=0).max() < 1e-6)
        kept = cells[:1] if fixed else cells
        data["cell"] = [float(f"{x:.5g}") for x in kept.reshape(-1).tolist()]
    return Film(data, tuple(words), positions[0], shown, place)


def pack(positions: Float[np.ndarray, "F n 3"], grain: float) -> str:
    """Base64 of deflated differences between frames, low bytes of all numbers before the high ones."""
    whole = np.round(positions / grain).astype(np.int16)
    # differences wrap around in 16 bits and back
    steps = np.diff(whole, axis=0, prepend=np.zeros_like(whole[:1])).astype("<i2")
    split = np.frombuffer(steps.tobytes(), dtype=np.uint8).reshape(-1, 2).T
    return base64.b64encode(zlib.compress(split.tobytes(), 7)).decode()


def unpack(text: str, n_frames: int, grain: float) -> Float[np.ndarray, "F n 3"]:
    """The opposite of `pack`, as the page does it."""
    split = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8).reshape(2, -1)
    steps = np.ascontiguousarray(split.T).view("<i2").reshape(n_frames, -1, 3)
    positions: np.ndarray = np.cumsum(steps, axis=0, dtype=np.int16).astype(np.float64) * grain
    return positions


def traces(topology: Topology) -> list[list[int]]:
    """Runs of Cα atoms along chains without gaps, four and more, for the ribbon."""
    alpha = np.flatnonzero((topology.names == "CA") & np.isin(topology.residue_names, list(AMINO_ACIDS)))
    if not topology.named or len(alpha) < 4:
        return []
    found: list[list[int]] = [[int(alpha[0])]]
    residues, molecules = topology.residues, topology.molecules
    for before, here in zip(alpha[:-1].tolist(), alpha[1:].tolist(), strict=True):
        if molecules[here] == molecules[before] and residues[here] == residues[before] + 1:
            found[-1].append(here)
        else:
            found.append([here])
    return [piece for piece in found if len(piece) >= 4]


def _with_solvent(trajectory: Trajectory, tree: Tree, main: np.ndarray, room: int) -> tuple[Int[np.ndarray, "n"], int]:
    """The solute and as many solvent atoms as fit, by whole molecules; how many were left out."""
    topology = trajectory.topology
    rest = np.setdiff1d(np.arange(len(topology)), main)
    if len(rest) <= room:
        return np.arange(len(topology)), 0
    block = trajectory.read(np.array([0]))
    positions = made_whole(block.positions, block.cell, tree)[0]
    centre = positions[main].mean(0)
    offset = positions[rest] - centre
    if block.cell is not None:
        offset = offset - np.round(offset @ inverse(block.cell)[0]) @ block.cell[0]
    molecules = topology.molecules[rest]
    near = np.full(int(molecules.max()) + 1, np.inf)
    np.minimum.at(near, molecules, np.linalg.norm(offset, axis=1))
    order = np.argsort(near[molecules], kind="stable")
    cut = room
    # no molecule in parts
    while 0 < cut < len(order) and molecules[order[cut]] == molecules[order[cut - 1]]:
        cut -= 1
    kept = np.sort(np.concatenate([main, rest[order[:cut]]]))
    return kept, len(topology) - len(kept)


def _centred(
    trajectory: Trajectory, frames: np.ndarray, atoms: np.ndarray, main: np.ndarray
) -> tuple[Float[np.ndarray, "F n 3"], Float[np.ndarray, "F 3 3"] | None]:
    """Positions about the middle of the solute, molecules whole and in the cell around it."""
    topology = trajectory.topology.take(atoms)
    tree = tree_of(topology)
    molecules = topology.molecules
    sizes = np.bincount(molecules)
    main_sizes = np.bincount(molecules[main], minlength=len(sizes))
    # of a pure liquid no molecule is the middle
    single = main_sizes.max() > 0.5 * main_sizes.sum() and not is_water(topology)[main].all()
    anchor = np.flatnonzero(molecules == int(np.argmax(main_sizes))) if single else None
    # molecules of the solute keep the images they have of each other in the first frame
    pieces = pieces_of(trajectory, atoms[main]) if anchor is not None else None
    positions, cells = [], []
    held: np.ndarray | None = None
    step = max(1, 2_000_000 // max(1, len(atoms)))
    for begin in range(0, len(frames), step):
        block = trajectory.read(frames[begin : begin + step], atoms=atoms)
        whole = made_whole(block.positions, block.cell, tree)
        if block.cell is None:
            centre = whole[:, main].mean(1, keepdims=True)
            positions.append(whole - centre)
            continue
        cells.append(block.cell)
        if anchor is not None:
            centre = whole[:, anchor].mean(1, keepdims=True)
        else:
            held = whole[:1].mean(1, keepdims=True) if held is None else held
            centre = held
        whole = whole - centre
        middles = np.stack([_mean(whole[:, :, k], molecules, sizes) for k in range(3)], axis=2)
        shifts = np.round(middles @ inverse(block.cell)) @ block.cell
        placed = whole - shifts[:, molecules]
        if pieces is not None and anchor is not None:
            together = pieces.placed(trajectory.read(block.index, atoms=pieces.read))
            middle = together[:, np.searchsorted(main, anchor)].mean(1, keepdims=True)
            placed[:, main] = together - middle
        positions.append(placed)
    return np.concatenate(positions), np.concatenate(cells) if cells else None


def _mean(values: np.ndarray, groups: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    sums = np.zeros((len(sizes), len(values)))
    np.add.at(sums, groups, values.T)
    means: np.ndarray = (sums / sizes[:, None]).T
    return means


def _start(positions: np.ndarray, atoms: np.ndarray, *, boxed: bool) -> list[float]:
    """Rows of the rotation that the viewer begins with: longest axis across, shortest towards the eye."""
    if boxed or len(atoms) < 4:
        return []
    picked = positions[atoms] - positions[atoms].mean(0)
    axes = np.linalg.svd(picked, full_matrices=False)[2]
    axes[2] = np.cross(axes[0], axes[1])
    return [float(f"{x:.5f}") for x in axes.reshape(-1).tolist()]


def _turns(positions: np.ndarray, atoms: np.ndarray) -> list[float]:
    """[F · 9] rotations (rows) that lay each frame's atoms on those of the first, about the origin (Kabsch 1976)."""
    picked = positions[:, atoms] - positions[:, atoms].mean(1, keepdims=True)
    if len(atoms) < 3:
        turns = np.tile(np.eye(3), (len(positions), 1, 1))
    else:
        u, _, vt = np.linalg.svd(np.einsum("fni,nj->fij", picked, picked[0]))
        sign = np.sign(np.linalg.det(u) * np.linalg.det(vt))
        u[:, :, 2] *= sign[:, None]
        # rows x of a frame go to x @ (u vt)
        turns = np.transpose(u @ vt, (0, 2, 1))
    return [float(f"{x:.5f}") for x in turns.reshape(-1).tolist()]
