"""A picture of one frame as SVG: for browsers without WebGL, and without JavaScript."""

from __future__ import annotations

import numpy as np
from ase.data import covalent_radii
from jaxtyping import Float, Int

from heliodor.topology import Topology

ATOMS = 1500
"""Drawn at most; of more the hydrogens, then all but the first, are left out."""

COLOURS = {1: "#c4c8cb", 6: "#858d95", 7: "#4672d0", 8: "#d3473f", 15: "#dd8433", 16: "#d6b335", 17: "#4fae52"}
OTHER = "#4f97a6"
WIDTH = 900.0
HEIGHT = 520.0


def still(positions: Float[np.ndarray, "n 3"], topology: Topology, atoms: Int[np.ndarray, "m"]) -> str:
    """Atoms and bonds seen along the axis of least extent, near ones over far ones."""
    if len(atoms) > ATOMS:
        heavy = atoms[topology.numbers[atoms] > 1]
        atoms = (heavy if len(heavy) else atoms)[:ATOMS]
    x = positions[atoms] - positions[atoms].mean(0)
    axes = np.linalg.svd(x, full_matrices=True)[2] if len(atoms) > 1 else np.eye(3)
    x = x @ axes.T
    half = np.maximum(np.abs(x[:, :2]).max(0) + 1.0, 1.0)
    scale = min(0.5 * WIDTH / half[0], 0.5 * HEIGHT / half[1], 60.0)
    flat = np.stack([0.5 * WIDTH + scale * x[:, 0], 0.5 * HEIGHT - scale * x[:, 1]], axis=1)
    depth = x[:, 2]
    place = np.full(len(topology), -1)
    place[atoms] = np.arange(len(atoms))
    pairs = place[topology.bonds]
    pairs = pairs[(pairs >= 0).all(1)]
    # bonds lie just behind their farther atom
    parts = [(float(depth[[i, j]].min()) - 0.01, _bond(flat[i], flat[j], scale)) for i, j in pairs.tolist()]
    for k, atom in enumerate(atoms.tolist()):
        number = int(topology.numbers[atom])
        radius = 0.45 * float(covalent_radii[number]) * scale
        fill = COLOURS.get(number, OTHER)
        circle = f'<circle cx="{flat[k, 0]:.1f}" cy="{flat[k, 1]:.1f}" r="{radius:.1f}" fill="{fill}"/>'
        parts.append((float(depth[k]), circle))
    drawn = "".join(text for _, text in sorted(parts, key=lambda part: part[0]))
    return (
        f'<svg viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" aria-label="Structure of the first frame" '
        f'stroke="#5a6168" stroke-width="1">{drawn}</svg>'
    )


def _bond(a: np.ndarray, b: np.ndarray, scale: float) -> str:
    width = max(1.5, 0.16 * scale)
    ends = f'x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}"'
    return f'<line {ends} stroke="#8b939a" stroke-width="{width:.1f}" stroke-linecap="round"/>'
