"""Peptide backbones of given dihedral angles, and trajectories of what is at hand."""

from __future__ import annotations

from pathlib import Path

import ase
import ase.io
import numpy as np

from heliodor.topology import Topology, set_names, topology_of
from heliodor.trajectory import Trajectory, open_trajectory


def place(a: np.ndarray, b: np.ndarray, c: np.ndarray, length: float, angle: float, dihedral: float) -> np.ndarray:
    """The atom after a-b-c (natural extension reference frame; degrees)."""
    angle, dihedral = np.radians(angle), np.radians(dihedral)
    along = (c - b) / np.linalg.norm(c - b)
    normal = np.cross(b - a, along)
    normal /= np.linalg.norm(normal)
    local = length * np.array([-np.cos(angle), np.sin(angle) * np.cos(dihedral), np.sin(angle) * np.sin(dihedral)])
    return c + local @ np.stack([along, np.cross(normal, along), normal])


def alanines(phi: np.ndarray, psi: np.ndarray) -> ase.Atoms:
    """N, CA, C, O, CB and amide H of alanines with these dihedral angles in degrees; ω = 180°."""
    n, ca = np.zeros(3), np.array([1.458, 0.0, 0.0])
    c = place(np.array([0.0, 1.0, 0.0]), n, ca, 1.525, 111.0, phi[0])
    atoms: list[tuple[tuple[str, int], np.ndarray]] = []
    before = n
    for k in range(len(phi)):
        next_n = place(n, ca, c, 1.329, 116.6, psi[k])
        oxygen, beta = place(n, ca, c, 1.231, 120.1, psi[k] + 180.0), place(n, c, ca, 1.53, 110.1, -122.6)
        atoms += [
            ((name, k + 1), x) for name, x in zip(("N", "CA", "C", "O", "CB"), (n, ca, c, oxygen, beta), strict=True)
        ]
        if k:
            atoms.append((("H", k + 1), _amide_hydrogen(n, before, ca)))
        if k + 1 < len(phi):
            next_ca = place(ca, c, next_n, 1.458, 121.7, 180.0)
            before = c
            n, ca, c = next_n, next_ca, place(c, next_n, next_ca, 1.525, 111.0, phi[k + 1])
    frame = ase.Atoms([name[0] for (name, _), _ in atoms], [x for _, x in atoms])
    frame.set_array("atom_name", np.array([name for (name, _), _ in atoms]))
    frame.set_array("residue_name", np.array(["ALA"] * len(atoms)))
    frame.set_array("residue_number", np.array([number for (_, number), _ in atoms]))
    frame.set_array("chain", np.array(["A"] * len(atoms)))
    return frame


def _amide_hydrogen(n: np.ndarray, c: np.ndarray, ca: np.ndarray) -> np.ndarray:
    """In the plane of the peptide bond, on the line that halves the outer angle."""
    outward = -((c - n) / np.linalg.norm(c - n) + (ca - n) / np.linalg.norm(ca - n))
    return n + 1.01 * outward / np.linalg.norm(outward)


def written(frames: list[ase.Atoms], path: Path, interval: float = 100.0) -> Trajectory:
    """A trajectory of these frames, fs apart."""
    for k, frame in enumerate(frames):
        frame.info["time_fs"] = k * interval
    ase.io.write(path, frames, format="extxyz")
    return open_trajectory(path)


def from_mdtraj(loaded: object, path: Path) -> Trajectory:
    """All frames of an MDTraj trajectory, with its names."""
    numbers = [atom.element.number for atom in loaded.top.atoms]  # type: ignore[attr-defined]
    frames = []
    for xyz in loaded.xyz:  # type: ignore[attr-defined]
        frame = ase.Atoms(numbers=numbers, positions=10.0 * xyz.astype(float))
        frame.set_array("atom_name", np.array([atom.name for atom in loaded.top.atoms]))  # type: ignore[attr-defined]
        frame.set_array("residue_name", np.array([atom.residue.name for atom in loaded.top.atoms]))  # type: ignore[attr-defined]
        frame.set_array("residue_number", np.array([atom.residue.resSeq for atom in loaded.top.atoms]))  # type: ignore[attr-defined]
        frame.set_array("chain", np.array(["ABCDEFG"[atom.residue.chain.index] for atom in loaded.top.atoms]))  # type: ignore[attr-defined]
        frames.append(frame)
    return written(frames, path)


def topology(atoms: ase.Atoms) -> Topology:
    found = topology_of(atoms)
    set_names(atoms, found)
    return found
