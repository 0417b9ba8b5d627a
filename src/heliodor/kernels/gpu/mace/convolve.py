"""MACE's convolution (Batatia et al., NeurIPS 35, 11423 (2022), eq. 8) and its gradient, one program an atom.

Arrays of atoms are [N, components, K], channels fastest. A program does a block of channels and goes through the
atom's row of edges, sums in registers: no atomics, the same sum in the same order every time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from heliodor.kernels.gpu.mace.edges import harmonics, harmonics_pullback
from heliodor.kernels.gpu.mace.source import kernel, total
from heliodor.potentials.couplings import wigner_3j

Degrees = tuple[int, int, int]

_ARGUMENTS = "table, capacity, SCALE: tl.constexpr, KNOTS: tl.constexpr, K: tl.constexpr, BLOCK: tl.constexpr"

_EDGE = [
    "        y_1, y_2, y_3, y_4, y_5, y_6, y_7, y_8, y_9, y_10, y_11, y_12, y_13, y_14, y_15 = harmonics(x, y, z)",
    "        s = r * SCALE",
    # what is not a number has no knot, and stays what it is
    "        n = tl.minimum(tl.where(s == s, s, 0.0).to(tl.int32), KNOTS - 2)",
    "        t = s - n.to(real)",
    "        u = 1.0 - t",
    "        h_0 = u * u * (1.0 + 2.0 * t)",
    "        h_1 = t * u * u",
    "        h_2 = t * t * (3.0 - 2.0 * t)",
    "        h_3 = -(t * t * u)",
]


@dataclass(frozen=True)
class Path:
    """One coupling of a sender's degree with the edge's to the message's.

    Attributes:
        first: its first component of the messages.
        entries: (m3, m1, q of the harmonic, coupling) of all that do not vanish.
    """

    degrees: Degrees
    first: int
    entries: tuple[tuple[int, int, int, float], ...]


def paths_of(degrees: tuple[Degrees, ...]) -> list[Path]:
    """Components of the messages are in the order of the paths, each with its 2 l3 + 1."""
    paths: list[Path] = []
    first = 0
    for l1, l2, l3 in degrees:
        coupling = math.sqrt(2 * l3 + 1) * wigner_3j(l1, l2, l3)
        entries = tuple(
            (int(m3), int(m1), l2 * l2 + int(m2), float(coupling[m1, m2, m3]))
            for m3, m1, m2 in sorted((c, a, b) for a, b, c in zip(*np.nonzero(np.abs(coupling) > 1e-12), strict=True))
        )
        paths.append(Path((l1, l2, l3), first, entries))
        first += 2 * l3 + 1
    return paths


def _harmonic(q: int) -> str:
    return f"y_{q}" if q else "1.0"


def _turn(path: Path, m3: int) -> dict[int, str]:
    """For a component of the message: what multiplies each component m1 of the sender."""
    found: dict[int, list[str]] = {}
    for c, m1, q, value in path.entries:
        if c == m3:
            found.setdefault(m1, []).append(f"{value!r} * {_harmonic(q)}")
    return {m1: f"({total(parts)})" for m1, parts in found.items()}


def _read(pointer: str) -> str:
    return f"tl.load({pointer}, mask=inside, other=0.0)"


def _knots(path: int, n_paths: int) -> list[str]:
    lines = [f"        f = knot + {path} * K"]
    return lines + [f"        f_{a} = {_read(f'f + {a * n_paths} * K' if a else 'f')}" for a in range(4)]


@cache
def convolve(degrees: tuple[Degrees, ...]) -> Any:
    """Messages [N, C, K] to atom i.

    Args of the kernel:
        g: [rows, Q, K] features of the senders, q = l1² + m1; row [N, C]: which row an edge's sender is.
        vector, number: of `edges`.
        table: [KNOTS, 2, P, K] radial splines, values and slopes; SCALE knots per Å.
        messages: written.
    """
    paths = paths_of(degrees)
    components = (1 + max(l1 for l1, _, _ in degrees)) ** 2
    count = sum(2 * l3 + 1 for _, _, l3 in degrees)
    lines = [
        f"def convolve(g, row, vector, number, messages, {_ARGUMENTS}):",
        "    i = tl.program_id(0).to(tl.int64)",
        "    k = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)",
        "    inside = k < K",
        "    real = g.dtype.element_ty",
    ]
    lines += [f"    m_{c} = tl.zeros([BLOCK], real)" for c in range(count)]
    lines += [
        "    for e in range(tl.load(number + i)):",
        "        at = i * capacity + e",
        "        x = -tl.load(vector + at * 4)",
        "        y = -tl.load(vector + at * 4 + 1)",
        "        z = -tl.load(vector + at * 4 + 2)",
        "        r = tl.load(vector + at * 4 + 3)",
        f"        sent = g + tl.load(row + at).to(tl.int64) * ({components} * K) + k",
        *_EDGE,
        f"        knot = table + n * ({2 * len(paths)} * K) + k",
    ]
    lines += [f"        g_{q} = {_read(f'sent + {q} * K')}" for q in range(components)]
    for p, path in enumerate(paths):
        l1, l2, l3 = path.degrees
        lines += _knots(p, len(paths))
        lines.append("        w = h_0 * f_0 + h_1 * f_1 + h_2 * f_2 + h_3 * f_3")
        if l1 == 0:
            lines.append("        w = w * g_0")
            for m in range(2 * l3 + 1):
                turned = f"y_{l2 * l2 + m} * w" if l2 else "w"
                lines.append(f"        m_{path.first + m} += {turned}")
            continue
        for m in range(2 * l3 + 1):
            parts = [f"{turn} * g_{l1 * l1 + m1}" for m1, turn in _turn(path, m).items()]
            lines.append(f"        m_{path.first + m} += w * ({total(parts)})")
    lines.append(f"    to = messages + i * ({count} * K) + k")
    lines += [f"    tl.store(to + {c} * K, m_{c}, mask=inside)" for c in range(count)]
    return kernel("convolve", lines, harmonics=harmonics)


@cache
def convolve_back(degrees: tuple[Degrees, ...], features: bool, shared: bool) -> Any:
    """Gradients of `convolve` with atom i as the sender of its edges: what its neighbours received is gathered.

    Args:
        features: whether the gradient by the senders' features is wanted, not that by vectors alone.
        shared: whether a lane has several channels (BLOCK > LANES).

    Args of the kernel:
        g: [rows, Q, K]; own [N]: which row atom i is.
        sender, vector, number: of `edges`; an edge and its partner have one length.
        pull: [N, C, K] gradients by the messages.
        g_pull: [N, Q, K], written if `features`.
        slopes: [blocks, N, C, 3], gradients by the vector from i to its neighbour, of a block of channels; written.
    """
    paths = paths_of(degrees)
    components = (1 + max(l1 for l1, _, _ in degrees)) ** 2
    count = sum(2 * l3 + 1 for _, _, l3 in degrees)
    lines = [
        "def convolve_back(g, own, sender, vector, number, pull, g_pull, slopes, n_atoms,",
        f"    {_ARGUMENTS}, LANES: tl.constexpr):",
        "    i = tl.program_id(0).to(tl.int64)",
        "    k = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)",
        "    inside = k < K",
        "    real = g.dtype.element_ty",
        f"    mine = g + tl.load(own + i).to(tl.int64) * ({components} * K) + k",
    ]
    lines += [f"    g_{q} = {_read(f'mine + {q} * K')}" for q in range(components)]
    if features:
        lines += [f"    p_{q} = tl.zeros([BLOCK], real)" for q in range(components)]
    lines += [
        "    for e in range(tl.load(number + i)):",
        "        at = i * capacity + e",
        "        x = tl.load(vector + at * 4)",
        "        y = tl.load(vector + at * 4 + 1)",
        "        z = tl.load(vector + at * 4 + 2)",
        "        r = tl.load(vector + at * 4 + 3)",
        f"        came = pull + tl.load(sender + at).to(tl.int64) * ({count} * K) + k",
        *_EDGE,
        "        e_0 = 6.0 * t * u * SCALE",
        "        e_1 = u * (1.0 - 3.0 * t) * SCALE",
        "        e_3 = t * (3.0 * t - 2.0) * SCALE",
        f"        knot = table + n * ({2 * len(paths)} * K) + k",
        "        along = tl.zeros([LANES], real)",
    ]
    lines += [f"        d_{q} = tl.zeros([LANES], real)" for q in range(1, 16)]
    for p, path in enumerate(paths):
        lines += _knots(p, len(paths))
        lines += [
            "        w = h_0 * f_0 + h_1 * f_1 + h_2 * f_2 + h_3 * f_3",
            "        v = e_0 * (f_2 - f_0) + e_1 * f_1 + e_3 * f_3",
        ]
        lines += [f"        x_{m} = {_read(f'came + {path.first + m} * K')}" for m in range(2 * path.degrees[2] + 1)]
        lines += _path_back(path, features, shared)
    if features:
        lines.append(f"    to = g_pull + i * ({components} * K) + k")
        lines += [f"    tl.store(to + {q} * K, p_{q}, mask=inside)" for q in range(components)]
    # inside the loop, before what is stored after it
    stored = lines.index(f"    to = g_pull + i * ({components} * K) + k") if features else len(lines)
    pulls = ", ".join(f"d_{q}" for q in range(1, 16))
    lines[stored:stored] = [
        f"        gx, gy, gz = harmonics_pullback(x, y, z, {pulls})",
        "        radially = x * gx + y * gy + z * gz",
        "        put = slopes + ((tl.program_id(1) * n_atoms + i) * capacity + e) * 3",
        "        tl.store(put, tl.sum(along * x + (gx - radially * x) / r, 0))",
        "        tl.store(put + 1, tl.sum(along * y + (gy - radially * y) / r, 0))",
        "        tl.store(put + 2, tl.sum(along * z + (gz - radially * z) / r, 0))",
    ]
    return kernel("convolve_back", lines, harmonics=harmonics, harmonics_pullback=harmonics_pullback)


def _lanes(value: str, shared: bool) -> str:
    """Channels of one lane added up: the rest of a sum over channels waits for the edge's end."""
    return value if not shared else f"tl.sum(tl.reshape({value}, [LANES, BLOCK // LANES]), 1)"


def _path_back(path: Path, features: bool, shared: bool) -> list[str]:
    """One path's part of an edge, from w and v (radial function and slope) and x_m (gradient by its messages)."""
    l1, l2, l3 = path.degrees
    lines: list[str] = []
    if l1 == 0:
        turned = total([f"{_harmonic(l2 * l2 + m)} * x_{m}" for m in range(2 * l3 + 1)])
        lines.append(f"        near = {turned}")
        if features:
            lines.append("        p_0 += w * near")
        lines.append(f"        along += {_lanes('v * g_0 * near', shared)}")
        if l2:
            lines.append("        w = w * g_0")
            lines += [f"        d_{l2 * l2 + m} += {_lanes(f'w * x_{m}', shared)}" for m in range(2 * l3 + 1)]
        return lines
    turns = [_turn(path, m3) for m3 in range(2 * l3 + 1)]
    scalar: list[str] = []
    for m1 in range(2 * l1 + 1):
        q = l1 * l1 + m1
        parts = [f"{turn[m1]} * x_{m3}" for m3, turn in enumerate(turns) if m1 in turn]
        lines.append(f"        near_{m1} = {total(parts)}")
        if features:
            lines.append(f"        p_{q} += w * near_{m1}")
        scalar.append(f"g_{q} * near_{m1}")
    lines.append(f"        along += {_lanes(f'v * ({total(scalar)})', shared)}")
    if l2 == 0:
        return lines
    # lane by lane products of the sender with the gradient, then sparse couplings of what is left of them
    lines += [f"        w_{m1} = w * g_{l1 * l1 + m1}" for m1 in range(2 * l1 + 1)]
    for m3, m1 in sorted({(c, a) for c, a, _, _ in path.entries}):
        lines.append(f"        o = {_lanes(f'w_{m1} * x_{m3}', shared)}")
        lines += [f"        d_{q} += {value!r} * o" for c, a, q, value in path.entries if (c, a) == (m3, m1)]
    return lines
