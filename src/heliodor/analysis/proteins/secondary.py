"""Secondary structure of each residue in each frame: letters of DSSP, STRIDE-like ones, or those of STRIDE itself."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import which

import numpy as np
from jaxtyping import Float

from heliodor.analysis.along import time_axis
from heliodor.analysis.proteins import turns
from heliodor.analysis.proteins.backbone import Backbone, View, backbone_of, require, view_of
from heliodor.analysis.proteins.series import longest_memory, share_of
from heliodor.analysis.show import Axis, Heat, Number, Panel, Shown
from heliodor.errors import InputError
from heliodor.trajectory.block import Block
from heliodor.trajectory.foreign import NANOMETRE, mdtraj
from heliodor.trajectory.parallel import Progress, over_blocks
from heliodor.trajectory.trajectory import Trajectory

KINDS = (
    ("H", "α helix"),
    ("G", "3₁₀ helix"),
    ("I", "π helix"),
    ("E", "strand"),
    ("B", "bridge"),
    ("T", "turn"),
    ("S", "bend"),
    ("C", "coil"),
)
"""Letters in the order of a legend; DSSP's blank is C."""

COLUMNS = 2000
"""Frames drawn in a map; of longer trajectories every so many, the table holds all."""

MEMORY = 4 * 2**20
"""Bytes of a block's positions: what is computed of it is larger."""

METHODS = ("dssp", "stride-like", "stride")


@dataclass(frozen=True, eq=False)
class SecondaryStructure:
    """Letters of R residues in T frames.

    Attributes:
        time: fs.
        labels: of the residues, ``"ALA 3"``.
        letters: one of `KINDS` each.
        method: one of `METHODS`.
    """

    time: Float[np.ndarray, "T"]
    labels: tuple[str, ...]
    letters: np.ndarray
    method: str

    def fraction(self, letter: str) -> Float[np.ndarray, "T"]:
        """Share of the residues with a letter, along time."""
        share: np.ndarray = (self.letters == letter).mean(1)
        return share


def secondary_structure(
    trajectory: Trajectory,
    method: str = "dssp",
    *,
    stride: int = 1,
    progress: Progress | None = None,
    processes: int = 1,
) -> SecondaryStructure:
    """Letters of every ``stride``-th frame.

    Args:
        method: "dssp" (Kabsch & Sander, Biopolymers 22, 2577 (1983), by MDTraj), "stride-like"
            (`heliodor.analysis.proteins.turns`), or "stride": the program of that name, if it is installed.

    Raises:
        InputError: no amino acids; unknown method; the program is not there or fails.
        MissingExtraError: MDTraj is not installed.
    """
    if method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    backbone = backbone_of(trajectory.topology)
    require(trajectory, backbone)
    functions: dict[str, Callable[..., np.ndarray]] = {"dssp": dssp, "stride-like": like_stride, "stride": by_program}
    if method == "dssp":
        mdtraj()
        backbone = _whole_residues(backbone, trajectory)
    if method == "stride" and which("stride") is None:
        raise InputError("the program 'stride' is not on the PATH: take method 'stride-like', or install it")
    view = view_of(trajectory, backbone.atoms)
    inside = backbone.among(view.atoms)
    parts = over_blocks(
        trajectory,
        functions[method],
        inside,
        view,
        stride=stride,
        atoms=view.read,
        memory=MEMORY,
        progress=progress,
        processes=processes,
    )
    letters = np.concatenate(list(parts))
    labels = tuple(backbone.label(int(r)) for r in np.flatnonzero(backbone.amino))
    return SecondaryStructure(trajectory.time[::stride], labels, letters, method)


def _whole_residues(backbone: Backbone, trajectory: Trajectory) -> Backbone:
    if (backbone.o[backbone.amino] < 0).any():
        lacking = backbone.label(int(np.flatnonzero(backbone.amino & (backbone.o < 0))[0]))
        raise InputError(f"{trajectory.path}: {lacking} has no atom O, which DSSP needs")
    return backbone


def dssp(block: Block, backbone: Backbone, view: View) -> np.ndarray:
    """[K, residues] letters by MDTraj, of the amino acids alone."""
    md = mdtraj()
    topology = md.Topology()
    amino = np.flatnonzero(backbone.amino)
    order, piece, chain = [], -1, None
    for r in amino:
        if backbone.piece[r] != piece:
            piece, chain = backbone.piece[r], topology.add_chain()
        residue = topology.add_residue(str(backbone.residue_names[r]), chain)
        for name, atom in (("N", backbone.n), ("CA", backbone.ca), ("C", backbone.c), ("O", backbone.o)):
            topology.add_atom(name, md.element.get_by_symbol(name[0]), residue)
            order.append(atom[r])
    xyz = view.whole(block)[:, order] / NANOMETRE
    # near the origin, where single precision is fine
    xyz = xyz - xyz.mean(1, keepdims=True)
    letters = md.compute_dssp(md.Trajectory(xyz.astype(np.float32), topology), simplified=False).astype("U1")
    letters[letters == " "] = "C"
    found: np.ndarray = letters
    return found


def like_stride(block: Block, backbone: Backbone, view: View) -> np.ndarray:
    """[K, residues] letters of `heliodor.analysis.proteins.turns`, of the amino acids alone."""
    found: np.ndarray = np.array(list(turns.LETTERS))[turns.letters(block, backbone, view)][:, backbone.amino]
    return found


def by_program(block: Block, backbone: Backbone, view: View) -> np.ndarray:
    """[K, residues] letters of the program ``stride`` (its own licence: free for academic use only).

    Raises:
        InputError: it fails.
    """
    positions = view.whole(block)
    amino = np.flatnonzero(backbone.amino)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.pdb"
        for frame in positions - positions.mean(1, keepdims=True):
            path.write_text(_pdb(frame, backbone, amino), encoding="ascii")
            run = subprocess.run(["stride", str(path)], capture_output=True, text=True, check=False)
            lines = [line for line in run.stdout.splitlines() if line.startswith("ASG")]
            if len(lines) != len(amino):
                said = " ".join((run.stderr or run.stdout).split())[:200]
                raise InputError(f"the program 'stride' gave {len(lines)} letters for {len(amino)} residues: {said}")
            rows.append([line[24].replace("b", "B") for line in lines])
    return np.array(rows, dtype="U1")


def _pdb(positions: np.ndarray, backbone: Backbone, residues: np.ndarray) -> str:
    lines = ["HEADER    FRAME"]
    serial = 0
    for place, r in enumerate(residues):
        chain = chr(ord("A") + int(backbone.piece[r]) % 26)
        for name, atom in (("N", backbone.n), ("CA", backbone.ca), ("C", backbone.c), ("O", backbone.o)):
            if atom[r] < 0:
                continue
            serial += 1
            x, y, z = positions[atom[r]]
            residue = str(backbone.residue_names[r])[:3]
            lines.append(
                f"ATOM  {serial:5d}  {name:<3s} {residue:>3s} {chain}{place + 1:4d}    "
                f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           {name[0]}"
            )
    return "\n".join([*lines, "TER", "END", ""])


def show(
    trajectory: Trajectory,
    *,
    progress: Progress | None = None,
    processes: int = 1,
    method: str = "both",
    stride: int = 1,
) -> Shown:
    """Secondary structure along time as a map residue by time, with the share of each kind.

    Args:
        method: dssp, stride-like, stride (the program, if installed), or both for the first two.
        stride: every which frame.
    """
    if stride < 1:
        raise InputError("stride must be at least 1")
    methods = ("dssp", "stride-like") if method == "both" else (method,)
    panels: list[Panel] = []
    numbers: list[Number] = []
    tables: dict[str, dict[str, np.ndarray]] = {}
    notes: list[str] = []
    for way in methods:
        found = secondary_structure(trajectory, way, stride=stride, progress=progress, processes=processes)
        title = {"dssp": "DSSP", "stride-like": "STRIDE-like", "stride": "STRIDE"}[way]
        panels.append(_map(found, f"Secondary structure, {title}"))
        memories = [longest_memory([of == letter for letter in np.unique(of)]) for of in found.letters.T]
        for letter, word in KINDS:
            inside = found.letters == letter
            if inside.any():
                mean, error, few, _ = share_of(inside, memories)
                wide = None if error is None else 100.0 * error
                numbers.append(Number(f"{word} ({letter}), {title}", 100.0 * mean, wide, "%", f"of residues{few}"))
        name = way.replace("-", "_")
        tables[f"secondary_structure_{name}"] = {
            "time_ps": found.time / 1000.0,
            "letters": np.array(["".join(row) for row in found.letters]),
        }
        tables[f"residues_{name}"] = {
            "residue": np.array(found.labels),
            **{f"fraction_{letter}": (found.letters == letter).mean(0) for letter, _ in KINDS},
        }
        notes.append(_NOTES[way])
        if len(found.time) > COLUMNS:
            notes.append(f"The map shows {COLUMNS} of {len(found.time)} frames; table and averages hold all.")
    return Shown(
        "secondary_structure", "Secondary structure", tuple(panels), tuple(numbers), tuple(dict.fromkeys(notes)), tables
    )


_NOTES = {
    "dssp": "DSSP: Kabsch and Sander, Biopolymers 22, 2577 (1983), as MDTraj computes it; C stands for its blank.",
    "stride-like": "STRIDE-like: hydrogen-bond energy of Frishman and Argos, Proteins 23, 566 (1995), below -0.5 "
    "kcal/mol and plain limits of φ and ψ in the place of the program's statistical ones; turns are four residues with "
    "ends within 7 Å, three with a bond i→i+2, or three around a residue with φ and ψ within 30° of 0.",
    "stride": "Letters of the program STRIDE (Frishman and Argos, Proteins 23, 566 (1995)).",
}


def _map(found: SecondaryStructure, title: str) -> Panel:
    n = len(found.time)
    shown = np.unique(np.linspace(0, n - 1, min(n, COLUMNS)).round().astype(int))
    x, axis = time_axis(found.time)
    values = np.full((len(found.labels), len(shown)), np.nan)
    for place, (letter, _) in enumerate(KINDS):
        values[(found.letters[shown] == letter).T] = place
    heat = Heat(x[shown], np.arange(len(found.labels), dtype=float), values, kinds=KINDS, y_names=found.labels)
    return Panel(title, axis, Axis("residue"), heat=heat)
