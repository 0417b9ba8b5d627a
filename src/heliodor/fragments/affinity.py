"""Affinity propagation (Frey & Dueck, Science 315, 972 (2007)) for tens of thousands of structures.

scikit-learn holds similarities and three more matrices in float64, 20 GB for 25,249 structures. Here there are three in
the precision of the similarities (float32: 7.7 GB), nothing else grows with n², and an iteration reads and writes each
row once: a row's availabilities of the iteration before are made just before its new responsibilities, whose column
sums are all that the next pass needs. Updates, tie-breaking noise, the test for convergence and the refinement of
exemplars are those of scikit-learn, whose answers are reproduced.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from heliodor.errors import InputError
from heliodor.fragments.aligned import Progress
from heliodor.fragments.distance_file import reserve
from heliodor.kernels.cpu.threads import run
from heliodor.potential import ModelWarning

ROWS = 256
"""Rows of a piece of work. Sums are taken piece by piece, so that results do not depend on the number of threads."""


class SelectionWarning(ModelWarning):
    """What was selected may not be what was meant."""


@dataclass(frozen=True, eq=False)
class Clustering:
    """K clusters of N structures.

    Attributes:
        exemplars: index of the structure that stands for each cluster, ascending.
        label: cluster of each structure; -1 where there are no clusters.
        iterations: done.
        converged: whether the exemplars stayed the same over the last iterations.
    """

    exemplars: Int[np.ndarray, "K"]
    label: Int[np.ndarray, "N"]
    iterations: int
    converged: bool


def memory_needed(count: int, bytes_each: int = 4) -> int:
    """Bytes of the three matrices."""
    return 3 * bytes_each * count * count


def memory_available() -> int | None:
    """Bytes that can be taken without swapping, where Linux says so."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return 1024 * found[0] if found else None


def affinity_propagation(
    similarity: Float[np.ndarray, "N M"],
    preference: float,
    *,
    damping: float = 0.9,
    patience: int = 15,
    most: int = 1000,
    seed: int = 0,
    scratch: str | Path | None = None,
    progress: Progress | None = None,
) -> Clustering:
    """Exemplars among N = M structures; ``similarity`` is overwritten (noise, and the preference on its diagonal).

    Args:
        similarity: of row to column, such as minus a squared distance; float32 for many, or float64; may be a
            memory-mapped file.
        preference: similarity of each to itself, in the same unit; the lower, the fewer clusters.
        damping: share of the old messages, 0.5 to below 1. Small ones oscillate.
        patience: iterations without a change of exemplars after which it has converged.
        most: iterations.
        seed: of the noise that breaks ties (relative size: machine precision); as ``random_state`` of scikit-learn.
        scratch: folder for the other two matrices where memory is short; they are removed at the end.
        progress: called after each iteration.

    Raises:
        InputError: a similarity that is not square or not finite, settings outside their range, no room.

    Warns:
        SelectionWarning: not converged within ``most`` iterations.
    """
    n = len(similarity)
    _check(similarity, preference, damping, patience, most)
    alike = _all_alike(similarity)
    if n == 1 or alike:
        value = float(similarity[0, -1])
        every = np.arange(n)
        if n == 1 or preference > value:
            return Clustering(every, every.copy(), 0, True)
        return Clustering(np.array([0]), np.zeros(n, dtype=np.int64), 0, True)
    _prepare(similarity, preference, seed)
    with ExitStack() as stack:
        available, responsible = _matrices(similarity, scratch, stack)
        marks, iterations, converged = _iterate(
            similarity, available, responsible, damping, patience, most, progress or (lambda *_: None)
        )
        exemplars = np.flatnonzero(marks)
        del available, responsible
    if not converged:
        what = f"{len(exemplars)} clusters as they were left" if len(exemplars) else "no clusters at all"
        warnings.warn(
            f"affinity propagation of {n} structures did not converge in {iterations} iterations: {what}; use a larger "
            f"damping than {damping:g} (0.9, 0.95) or more iterations",
            SelectionWarning,
            stacklevel=2,
        )
    if len(exemplars) == 0:
        return Clustering(exemplars, np.full(n, -1), iterations, False)
    refined = _refined(similarity, exemplars)
    found, label = np.unique(refined[_assigned(similarity, refined)], return_inverse=True)
    return Clustering(found, label.reshape(-1), iterations, converged)


def _check(similarity: np.ndarray, preference: float, damping: float, patience: int, most: int) -> None:
    if similarity.shape[0] != similarity.shape[1] or len(similarity) == 0:
        raise InputError(f"similarities must be a square matrix, not of shape {similarity.shape}")
    if not np.isfinite(preference):
        raise InputError(f"the preference must be a finite number, not {preference!r}")
    if not 0.5 <= damping < 1.0:
        raise InputError(f"damping must be from 0.5 to below 1, not {damping:g}")
    if patience < 1 or most < 1:
        raise InputError("affinity propagation needs at least one iteration")
    for first in range(0, len(similarity), ROWS):
        if not np.isfinite(similarity[first : first + ROWS]).all():
            raise InputError("a similarity is not a finite number: two structures have no distance")


def _all_alike(similarity: np.ndarray) -> bool:
    n = len(similarity)
    value = similarity[0, -1]
    for first in range(0, n, ROWS):
        rows = similarity[first : first + ROWS] != value
        rows[np.arange(len(rows)), np.arange(first, first + len(rows))] = False
        if rows.any():
            return False
    return True


def _prepare(similarity: np.ndarray, preference: float, seed: int) -> None:
    """Preference on the diagonal, and noise at the level of rounding."""
    n = len(similarity)
    info = np.finfo(similarity.dtype)
    # the stream of scikit-learn, whose results are reproduced
    random = np.random.RandomState(seed)
    similarity[np.arange(n), np.arange(n)] = preference
    for first in range(0, n, ROWS):
        rows = similarity[first : first + ROWS]
        rows += (info.eps * rows + info.tiny * 100) * random.standard_normal(rows.shape)


def _matrices(similarity: np.ndarray, scratch: str | Path | None, stack: ExitStack) -> tuple[np.ndarray, np.ndarray]:
    if scratch is None:
        return np.zeros_like(similarity, subok=False), np.zeros_like(similarity, subok=False)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="affinity-", dir=scratch)))
    made = []
    for name in ("availability", "responsibility"):
        reserve(folder / name, similarity.nbytes)
        made.append(np.memmap(folder / name, similarity.dtype, "r+", shape=similarity.shape))
    return made[0], made[1]


def _iterate(
    s: np.ndarray,
    a: np.ndarray,
    r: np.ndarray,
    damping: float,
    patience: int,
    most: int,
    progress: Progress,
) -> tuple[np.ndarray, int, bool]:
    """Which structures are exemplars, after how many iterations, and whether they had settled."""
    n = len(s)
    every = np.arange(n)
    total = np.zeros(n)
    marks = np.zeros(n, dtype=bool)
    steady = 0
    for iteration in range(most):
        total = _pass(s, a, r, total, damping, iteration > 0)
        # the diagonal of the availabilities that the next pass will write
        own = damping * a[every, every] - (1.0 - damping) * (r[every, every] - total)
        new = own + r[every, every] > 0.0
        steady = steady + 1 if (new == marks).all() and iteration else 1
        marks = new
        progress("affinity propagation", iteration + 1, most)
        if iteration >= patience and steady >= patience and marks.any():
            return marks, iteration + 1, True
    return marks, most, False


def _pass(
    s: np.ndarray, a: np.ndarray, r: np.ndarray, total: np.ndarray, damping: float, begun: bool
) -> Float[np.ndarray, "N"]:
    """One iteration over all rows; the column sums of positive responsibilities (of the diagonal, all)."""
    sweep = _sweeper()
    starts = list(range(0, len(s), ROWS))
    made = np.zeros_like(total)
    given, share = total.astype(s.dtype), s.dtype.type(damping)
    threads = torch.get_num_threads()
    for group in range(0, len(starts), threads):
        some = starts[group : group + threads]
        parts = [np.zeros_like(total) for _ in some]
        ranges = [(k, k + 1) for k in range(len(some))]

        def piece(first: int, last: int, some: list[int] = some, parts: list[np.ndarray] = parts) -> None:
            for k in range(first, last):
                sweep(some[k], min(some[k] + ROWS, len(s)), s, a, r, given, share, begun, parts[k])

        run(piece, ranges)
        for part in parts:
            made += part
    return made


def _sweeper() -> Callable[..., Any]:
    """Numba's loop where it is installed."""
    try:
        from heliodor.fragments.selection_loops import sweep_rows
    except ImportError:
        return _sweep
    return sweep_rows


def _sweep(
    first: int,
    last: int,
    s: np.ndarray,
    a: np.ndarray,
    r: np.ndarray,
    total: np.ndarray,
    damping: Any,
    begun: bool,
    made: np.ndarray,
) -> None:
    """Availabilities of the iteration before and responsibilities of this one, of some rows.

    Args:
        total: column sums after the iteration before; these and ``damping`` in the type of the matrices.
        begun: whether there was one.
        made: column sums, to which those of these rows are added.
    """
    rows, column = np.arange(last - first), np.arange(first, last)
    s, a, r = s[first:last], a[first:last], r[first:last]
    if begun:
        sent = np.maximum(r, 0.0) - total
        np.maximum(sent, 0.0, out=sent)
        sent[rows, column] = r[rows, column] - total[column]
        a *= damping
        a -= (1.0 - damping) * sent
    both = a + s
    where = both.argmax(axis=1)
    best = both[rows, where].copy()
    both[rows, where] = -np.inf
    second = both.max(axis=1)
    new = s - best[:, None]
    new[rows, where] = s[rows, where] - second
    r *= damping
    r += (1.0 - damping) * new
    made += np.maximum(r, 0.0).sum(axis=0, dtype=np.float64)
    made[column] += np.minimum(r[rows, column], 0.0)


def _assigned(s: np.ndarray, exemplars: np.ndarray) -> Int[np.ndarray, "N"]:
    """Place among the exemplars of the most similar one of each structure; its own of an exemplar."""
    closest = [s[first : first + ROWS][:, exemplars].argmax(axis=1) for first in range(0, len(s), ROWS)]
    found = np.concatenate(closest)
    found[exemplars] = np.arange(len(exemplars))
    return found


def _refined(s: np.ndarray, exemplars: np.ndarray) -> Int[np.ndarray, "K"]:
    """The member of each cluster that is most similar to all of it."""
    label = _assigned(s, exemplars)
    best = exemplars.copy()
    for k in range(len(exemplars)):
        members = np.flatnonzero(label == k)
        sums = np.zeros(len(members))
        for first in range(0, len(members), ROWS):
            sums += s[members[first : first + ROWS]][:, members].sum(axis=0, dtype=np.float64)
        best[k] = members[sums.argmax()]
    return best
