"""Symmetric products of atoms' vectors, channel by channel, as sums over distinct monomials; one program an atom.

B_M = Σ c_n[species, channel] a_q a_s a_t over the monomials n of orders 1 to 3 (Batatia et al., NeurIPS 35, 11423
(2022), eq. 10, couplings and weights folded). Monomials share pairs a_s a_t: each pair is made once, and what
multiplies it is summed up first. A kernel makes one component of the result: all at once would do too, but Triton's
compiler takes time as the square of the number of loads, minutes for degree 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from heliodor.kernels.gpu.mace.source import kernel, total

_HEAD = [
    "    i = tl.program_id(0).to(tl.int64)",
    "    k = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)",
    "    inside = k < K",
]


@dataclass(frozen=True)
class Monomials:
    """Those of one component of the result.

    Attributes:
        size: components of a.
        result, results: which component, of how many.
        count: coefficients of an element, of all components of the result.
        singles: (q, number of the coefficient) of order 1.
        pairs: (s, t, its factors) of orders 2 and 3.
    """

    size: int
    result: int
    results: int
    count: int
    singles: tuple[tuple[int, int], ...]
    pairs: tuple[tuple[int, int, tuple[tuple[int, int], ...]], ...]


def monomials(size: int, results: int, pairs: np.ndarray, terms: np.ndarray) -> list[Monomials]:
    """For each component of the result; `pairs` and `terms` as in `heliodor.kernels.cpu.mace.products`."""
    made = []
    for result in range(results):
        singles: list[tuple[int, int]] = []
        shared: dict[int, list[tuple[int, int]]] = {}
        for n, (m, q, two) in enumerate(terms.tolist()):
            if m == result:
                (singles if two < 0 else shared.setdefault(two, [])).append((q, n))
        of_pairs = tuple((*pairs[two].tolist(), tuple(factors)) for two, factors in shared.items())
        made.append(Monomials(size, result, results, len(terms), tuple(singles), of_pairs))
    return made


def _read(pointer: str) -> str:
    return f"tl.load({pointer}, mask=inside, other=0.0)"


def _weight(n: int) -> str:
    return _read(f"weight + {n} * K")


def _atom(of: Monomials) -> list[str]:
    lines = [f"    weight = coefficients + tl.load(species + i).to(tl.int64) * ({of.count} * K) + k"]
    lines.append(f"    own = a + i * ({of.size} * K) + k")
    return lines + [f"    a_{q} = {_read(f'own + {q} * K')}" for q in range(of.size)]


@cache
def multiply(of: Monomials) -> Any:
    """One component of the products b [N, M, K] of a [N, S, K].

    Args of the kernel:
        species: [N]; coefficients [Z, terms, K].
    """
    lines = ["def multiply(a, species, coefficients, b, K: tl.constexpr, BLOCK: tl.constexpr):", *_HEAD, *_atom(of)]
    lines.append("    sums = tl.zeros([BLOCK], a.dtype.element_ty)")
    lines += [f"    sums += {_weight(n)} * a_{q}" for q, n in of.singles]
    for s, t, factors in of.pairs:
        parts = [f"{_weight(n)} * a_{q}" if q >= 0 else _weight(n) for q, n in factors]
        lines.append(f"    sums += a_{s} * a_{t} * ({total(parts)})")
    lines.append(f"    tl.store(b + (i * {of.results} + {of.result}) * K + k, sums, mask=inside)")
    return kernel("multiply", lines)


@cache
def multiply_back(of: Monomials) -> Any:
    """Gradient of `multiply` by a, a_pull [N, S, K], from that by b, pull [N, M, K].

    The first component writes, all others add to what they find.
    """
    lines = ["def multiply_back(a, species, coefficients, pull, a_pull, K: tl.constexpr, BLOCK: tl.constexpr):"]
    lines += [*_HEAD, *_atom(of), f"    p = {_read(f'pull + (i * {of.results} + {of.result}) * K + k')}"]
    lines += [f"    t_{q} = tl.zeros([BLOCK], a.dtype.element_ty)" for q in range(of.size)]
    lines += [f"    t_{q} += {_weight(n)}" for q, n in of.singles]
    for s, t, factors in of.pairs:
        lines += [f"    two = a_{s} * a_{t}", "    slope = tl.zeros([BLOCK], a.dtype.element_ty)"]
        for q, n in factors:
            lines.append(f"    w = {_weight(n)}")
            lines += [f"    t_{q} += w * two", f"    slope += w * a_{q}"] if q >= 0 else ["    slope += w"]
        lines += [f"    t_{s} += slope * a_{t}", f"    t_{t} += slope * a_{s}"]
    lines.append(f"    to = a_pull + i * ({of.size} * K) + k")
    for q in range(of.size):
        was = f"{_read(f'to + {q} * K')} + " if of.result else ""
        lines.append(f"    tl.store(to + {q} * K, {was}p * t_{q}, mask=inside)")
    return kernel("multiply_back", lines)
