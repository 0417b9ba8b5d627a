"""How far a peptide moves from a structure: RMSD of the whole and of segments, RMSF of residues."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from heliodor.analysis.along import time_axis
from heliodor.analysis.proteins import turns
from heliodor.analysis.proteins.backbone import Backbone, View, backbone_of, require, view_of
from heliodor.analysis.proteins.reference import read_reference
from heliodor.analysis.proteins.series import mean_of
from heliodor.analysis.show import Axis, Curve, Number, Panel, Shown
from heliodor.errors import InputError
from heliodor.topology import Topology
from heliodor.trajectory.block import Block
from heliodor.trajectory.parallel import Progress, over_blocks
from heliodor.trajectory.trajectory import Trajectory

CLASSES = ("backbone", "ca", "heavy")
FITS = ("whole", "segment")
SHORTEST = 3
"""Residues of a segment of secondary structure from which on it is followed."""


@dataclass(frozen=True, eq=False)
class Deviation:
    """Of T frames from a reference structure.

    Attributes:
        time: fs.
        names: of S segments, the whole first.
        rmsd: Å.
        residues: labels of R residues.
        numbers: places of the residues, from 1.
        rmsf: Å, root mean square distance from the average position after superposition of the whole, of the atoms
            chosen of each residue together.
    """

    time: Float[np.ndarray, "T"]
    names: tuple[str, ...]
    rmsd: Float[np.ndarray, "T S"]
    residues: tuple[str, ...]
    numbers: Int[np.ndarray, "R"]
    rmsf: Float[np.ndarray, "R"]


def superposition(
    moving: Float[np.ndarray, "K n 3"], fixed: Float[np.ndarray, "n 3"]
) -> tuple[Float[np.ndarray, "K 3 3"], Float[np.ndarray, "K 3"], Float[np.ndarray, "3"]]:
    """Proper rotations and both centres so that ``(moving - centre) @ rotation + fixed's centre`` is nearest to fixed.

    Kabsch, Acta Cryst. A32, 922 (1976), by singular values.
    """
    centre, target = moving.mean(1), fixed.mean(0)
    u, _, vt = np.linalg.svd(np.einsum("kni,nj->kij", moving - centre[:, None], fixed - target))
    signs = np.ones((len(moving), 3))
    signs[:, 2] = np.linalg.det(u) * np.linalg.det(vt)
    return np.einsum("kij,kj,kjl->kil", u, signs, vt), centre, target


def chosen_atoms(topology: Topology, backbone: Backbone, which: str) -> tuple[np.ndarray, np.ndarray]:
    """Indices of atoms (ascending) and the place in the backbone of the residue of each.

    Args:
        which: "backbone" (N, CA, C, O of amino acids), "ca", or "heavy" (all heavy atoms, those of caps too).

    Raises:
        InputError: another word.
    """
    if which not in CLASSES:
        raise InputError(f"atoms must be one of {', '.join(CLASSES)}, not {which!r}")
    if which == "heavy":
        some = np.maximum(np.maximum(backbone.n, backbone.c), backbone.ca)
        owner = {int(topology.residues[atom]): r for r, atom in enumerate(some)}
        atoms = np.flatnonzero(np.isin(topology.residues, list(owner)) & (topology.numbers > 1))
        return atoms, np.array([owner[int(topology.residues[atom])] for atom in atoms])
    columns = (backbone.ca,) if which == "ca" else (backbone.n, backbone.ca, backbone.c, backbone.o)
    amino = np.flatnonzero(backbone.amino)
    pairs = sorted((int(column[r]), int(r)) for column in columns for r in amino if column[r] >= 0)
    return np.array([atom for atom, _ in pairs]), np.array([r for _, r in pairs])


def deviation(
    trajectory: Trajectory,
    *,
    atoms: str = "backbone",
    segments: str = "auto",
    fit: str = "whole",
    reference: str = "",
    stride: int = 1,
    progress: Progress | None = None,
    processes: int = 1,
) -> Deviation:
    """RMSD and RMSF against the first frame or the structure of a file.

    Args:
        atoms: as in `chosen_atoms`.
        segments: "auto" (chains if there are several, and the helices and strands of the reference), "none", or
            residue numbers as in the file: ``"1-10,11-30"``.
        fit: "whole": segments are looked at after superposing the whole; "segment": after superposing each.
        reference: a file with the same residues; empty for the first frame.

    Raises:
        InputError: no amino acids; words unknown; a reference that does not fit; fewer than three atoms.
    """
    if fit not in FITS:
        raise InputError(f"fit must be one of {', '.join(FITS)}, not {fit!r}")
    topology = trajectory.topology
    backbone = backbone_of(topology)
    require(trajectory, backbone)
    chosen, owner = chosen_atoms(topology, backbone, atoms)
    if len(chosen) < 3:
        raise InputError(f"{trajectory.path}: {len(chosen)} atoms cannot be superposed, three are the least")
    every = np.union1d(chosen, backbone.atoms)
    view = view_of(trajectory, every)
    first = view.whole(trajectory.read(np.array([0]), atoms=view.read))[0]
    inside = np.searchsorted(every, chosen)
    fixed = _matched(reference, topology, backbone, chosen, owner) if reference else first[inside]
    parts_of = _segments(segments, backbone, owner, first, backbone.among(every))
    if not reference and len(trajectory) == 1:
        parts_of = parts_of[:1]
    rows = [np.flatnonzero(np.isin(owner, residues)) for _, residues in parts_of]
    kept = [k for k, row in enumerate(rows) if len(row) >= 3]
    pieces = over_blocks(
        trajectory,
        _deviations,
        view,
        inside,
        fixed,
        [rows[k] for k in kept],
        fit == "segment",
        stride=stride,
        atoms=view.read,
        progress=progress,
        processes=processes,
    )
    found = []
    total, squares = np.zeros((len(chosen), 3)), np.zeros(len(chosen))
    for rmsd, shift, square in pieces:
        found.append(rmsd)
        total += shift
        squares += square
    count = sum(map(len, found))
    spread = np.maximum(squares / count - ((total / count) ** 2).sum(1), 0.0)
    residues = np.unique(owner)
    return Deviation(
        time=trajectory.time[::stride],
        names=tuple(parts_of[k][0] for k in kept),
        rmsd=np.concatenate(found),
        residues=tuple(backbone.label(int(r)) for r in residues),
        numbers=residues + 1 - (not backbone.amino[0]),
        rmsf=np.sqrt([spread[owner == r].mean() for r in residues]),
    )


def _deviations(
    block: Block,
    view: View,
    chosen: Int[np.ndarray, "m"],
    fixed: Float[np.ndarray, "m 3"],
    segments: list[np.ndarray],
    each: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """RMSD [K, S]; sums over frames of the shifts from the reference [m, 3] and of their squares [m]."""
    moving = view.whole(block)[:, chosen]

    def placed(rows: np.ndarray) -> np.ndarray:
        rotation, centre, target = superposition(moving[:, rows], fixed[rows])
        found: np.ndarray = (moving - centre[:, None]) @ rotation + target
        return found

    whole = placed(segments[0])
    shifts = whole - fixed
    columns = []
    for rows in segments:
        away = (placed(rows) - fixed if each else shifts)[:, rows]
        columns.append(np.sqrt((away**2).sum(2).mean(1)))
    return np.stack(columns, axis=1), shifts.sum(0), (shifts**2).sum((0, 2))


def _segments(
    text: str, backbone: Backbone, owner: np.ndarray, first: np.ndarray, inside: Backbone
) -> list[tuple[str, np.ndarray]]:
    """Names and residues (places in the backbone); the whole first."""
    found = [("whole", np.unique(owner))]
    if text == "none":
        return found
    if text != "auto":
        return found + _ranges(text, backbone)
    chains = list(dict.fromkeys(backbone.chains.tolist()))
    if len(chains) > 1:
        found += [(f"chain {chain}", np.flatnonzero(backbone.chains == chain)) for chain in chains]
    block = Block(np.array([0]), np.zeros(1), first[None])
    view = View(np.arange(len(first)))
    letters = np.array(list(turns.LETTERS))[turns.letters(block, inside, view)[0]]
    names = {"H": "helix", "G": "3₁₀ helix", "I": "π helix", "E": "strand"}
    start = 0
    for r in range(1, len(letters) + 1):
        ends = r == len(letters) or letters[r] != letters[start] or backbone.before[r] != r - 1
        if ends:
            if letters[start] in names and r - start >= SHORTEST:
                name = f"{names[letters[start]]} {backbone.residue_numbers[start]}-{backbone.residue_numbers[r - 1]}"
                chain = f"{backbone.chains[start]} " if len(chains) > 1 else ""
                found.append((chain + name, np.arange(start, r)))
            start = r
    return found


def _ranges(text: str, backbone: Backbone) -> list[tuple[str, np.ndarray]]:
    found = []
    for word in text.replace(" ", ",").split(","):
        if not word:
            continue
        match = re.fullmatch(r"(-?\d+)-(-?\d+)", word)
        if match is None:
            raise InputError(f"cannot read {word!r} as residues: write auto, none, or ranges such as 1-10,11-30")
        low, high = int(match[1]), int(match[2])
        members = np.flatnonzero((backbone.residue_numbers >= low) & (backbone.residue_numbers <= high))
        if not len(members):
            lowest, highest = backbone.residue_numbers.min(), backbone.residue_numbers.max()
            raise InputError(f"there are no residues {word}: they are numbered {lowest} to {highest}")
        found.append((f"residues {low}-{high}", members))
    return found


def _matched(
    file: str, topology: Topology, backbone: Backbone, chosen: np.ndarray, owner: np.ndarray
) -> Float[np.ndarray, "m 3"]:
    """Positions in the file of the chosen atoms: the same atoms, or those of the same names in residues in order."""
    other, positions = read_reference(file)
    if len(other) == len(topology) and (other.numbers == topology.numbers).all():
        return positions[chosen]
    theirs = backbone_of(other)
    if len(theirs) != len(backbone) or (theirs.amino != backbone.amino).any():
        mine, found = backbone.amino.sum(), theirs.amino.sum()
        raise InputError(
            f"{file} has {found} amino acids where the trajectory has {mine}: give the same chain as reference"
        )
    heavy = chosen_atoms(other, theirs, "heavy")
    place = {(int(r), str(other.names[k])): int(k) for k, r in zip(*heavy, strict=True)}
    rows = []
    for atom, r in zip(chosen.tolist(), owner.tolist(), strict=True):
        key = (r, str(topology.names[atom]))
        if key not in place:
            raise InputError(
                f"{file} has no atom {topology.names[atom]} in residue {theirs.label(r)}: try atoms=backbone"
            )
        rows.append(place[key])
    return positions[rows]


def show(
    trajectory: Trajectory,
    *,
    progress: Progress | None = None,
    processes: int = 1,
    atoms: str = "backbone",
    segments: str = "auto",
    fit: str = "whole",
    reference: str = "",
    stride: int = 1,
) -> Shown:
    """RMSD of the whole and of segments along time, and RMSF of each residue.

    Args:
        atoms: backbone, ca or heavy.
        segments: auto (chains, helices and strands of the first frame), none, or residue numbers: 1-10,11-30.
        fit: whole or segment: what is superposed before a segment is compared.
        reference: a structure file; empty for the first frame.
        stride: every which frame.
    """
    if stride < 1:
        raise InputError("stride must be at least 1")
    found = deviation(
        trajectory,
        atoms=atoms,
        segments=segments,
        fit=fit,
        reference=reference,
        stride=stride,
        progress=progress,
        processes=processes,
    )
    x, axis = time_axis(found.time)
    against = reference or "the first frame"
    curves = tuple(
        Curve(name, x, found.rmsd[:, k], style="line" if len(x) > 1 else "points") for k, name in enumerate(found.names)
    )
    panels = [Panel(f"RMSD from {against}", axis, Axis("RMSD", "Å", low=0.0), curves)]
    numbers = []
    for k, name in enumerate(found.names):
        mean, error, few = mean_of(found.rmsd[:, k])
        numbers.append(Number(f"RMSD {name}", mean, error, "Å", f"last frame {found.rmsd[-1, k]:.2f} Å{few}"))
    places = found.numbers.astype(float)
    if len(x) > 1:
        panels.append(
            Panel("RMSF of residues", Axis("residue"), Axis("RMSF", "Å", low=0.0), (Curve("", places, found.rmsf),))
        )
        numbers.append(Number("RMSF, mean over residues", float(found.rmsf.mean()), None, "Å"))
    how = "the whole" if fit == "whole" else "each segment by itself"
    notes = (
        f"Atoms: {atoms}. Superposed: {how}, without weights (Kabsch, Acta Cryst. A32, 922, 1976). RMSF is about the "
        "average position after superposing the whole.",
    )
    tables = {
        "rmsd": {"time_ps": found.time / 1000.0}
        | {f"rmsd_{name.replace(' ', '_')}_A": found.rmsd[:, k] for k, name in enumerate(found.names)},
        "rmsf": {"residue": np.array(found.residues), "rmsf_A": found.rmsf},
    }
    return Shown("rmsd", "RMSD and RMSF", tuple(panels), tuple(numbers), notes, tables)
