"""Selection of structures: pairs superposed a second, and memory and time of affinity propagation.

    python benchmarks/affinity.py distances --atoms 80 --structures 2000
    python benchmarks/affinity.py affinity --structures 5000 --iterations 10
    python benchmarks/affinity.py affinity --structures 25249 --iterations 3
    python benchmarks/affinity.py roots

Structures are random walks of a chain; times are those of one thread unless --threads says otherwise, wall and CPU.
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from heliodor.fragments import aligned
from heliodor.fragments.affinity import SelectionWarning, affinity_propagation, memory_needed
from heliodor.fragments.aligned import Shapes, shapes
from heliodor.fragments.distance_file import distance_matrix


def walk(count: int, n_atoms: int, seed: int = 0) -> Shapes:
    """Conformations of a chain that slowly change."""
    random = np.random.default_rng(seed)
    x = np.cumsum(random.normal(scale=1.0, size=(n_atoms, 3)), axis=0)
    frames = np.empty((count, n_atoms, 3))
    for k in range(count):
        x = 0.98 * x + random.normal(scale=0.4, size=x.shape)
        frames[k] = x
    return shapes(frames)


def timed(function: Callable[[], Any]) -> tuple[Any, float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    found = function()
    return found, time.perf_counter() - wall, time.process_time() - cpu


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def distances(count: int, n_atoms: int) -> None:
    points = walk(count, n_atoms)
    points.take(np.arange(10)).squared(points.take(np.arange(10)))
    for name, filler in (("default", aligned._filler), ("numpy", lambda: aligned._distances)):
        aligned._filler = filler
        _, wall, cpu = timed(lambda: points.squared(points))
        print(f"{name:<8} {count**2 / wall:.3g} pairs/s of {n_atoms} atoms (CPU time: {count**2 / cpu:.3g})")
    print(f"25,249 structures, each pair once: {25249**2 / 2 * wall / count**2:.0f} s at the last of these rates")


def roots(count: int = 400, n_atoms: int = 80) -> None:
    """Ways to λ of 3x3 correlation matrices, the matrix product aside."""
    a = walk(count, n_atoms)
    m = np.einsum("fni,gnj->fgij", a.positions[: count // 2], a.positions[count // 2 :]).reshape(-1, 3, 3)
    key = np.zeros((len(m), 4, 4))
    xx, yy, zz = m[:, 0, 0], m[:, 1, 1], m[:, 2, 2]
    key[:, 0, 0], key[:, 1, 1], key[:, 2, 2], key[:, 3, 3] = xx + yy + zz, xx - yy - zz, yy - xx - zz, zz - xx - yy
    t, k = torch.from_numpy(m), torch.from_numpy(key)
    planes = np.ascontiguousarray(m.reshape(count // 2, -1, 3, 3).transpose(2, 0, 3, 1))
    size_a, size_b = a.size[: count // 2], a.size[count // 2 :]
    out = np.empty((len(size_a), len(size_b)), np.float32)
    ways: dict[str, Callable[[], Any]] = {
        "numpy svd + det": lambda: (np.linalg.svd(m, compute_uv=False), np.linalg.det(m)),
        "torch svdvals + det": lambda: (torch.linalg.svdvals(t), torch.linalg.det(t)),
        "numpy eigvalsh 4x4": lambda: np.linalg.eigvalsh(key),
        "torch eigvalsh 4x4": lambda: torch.linalg.eigvalsh(k),
        "numpy Newton": lambda: aligned._distances(planes, size_a, size_b, out),
        "numba Newton": lambda: aligned._filler()(planes, size_a, size_b, out),
    }
    for name, way in ways.items():
        way()
        _, wall, cpu = timed(way)
        print(f"{name:<20} {len(m) / wall:.3g} pairs/s (CPU time: {len(m) / cpu:.3g})")


def affinity(count: int, n_atoms: int, iterations: int, real: bool) -> None:
    if real:
        found, wall, cpu = timed(lambda: distance_matrix(walk(count, n_atoms)))
        print(f"distances: {wall:.1f} s ({cpu:.1f} s CPU), peak {peak():.2f} GB")
        similarity = np.negative(found, out=found)
    else:
        # blocks of rows of a symmetric matrix from one coordinate: the time of an iteration is the same
        x = np.random.default_rng(0).normal(scale=20.0, size=count).astype(np.float32)
        similarity = np.empty((count, count), np.float32)
        for first in range(0, count, 256):
            similarity[first : first + 256] = -np.square(x[first : first + 256, None] - x)
    ticks: list[tuple[float, float]] = []
    began = (time.perf_counter(), time.process_time())

    def tell(what: str, done: int, total: int) -> None:
        ticks.append((time.perf_counter(), time.process_time()))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SelectionWarning)
        result = affinity_propagation(similarity, -20.0 * n_atoms, most=iterations, progress=tell)
    done = (time.perf_counter(), time.process_time())
    # the first iteration compiles and touches the memory
    steps = max(len(ticks) - 1, 1)
    wall, cpu = ((ticks[-1][k] - ticks[0][k]) / steps for k in (0, 1))
    print(f"{count} structures: {result.iterations} iterations, {len(result.exemplars)} clusters, {result.converged=}")
    print(f"noise and first iteration {ticks[0][0] - began[0]:.1f} s, labels {done[0] - ticks[-1][0]:.1f} s")
    print(f"{wall:.2f} s an iteration ({cpu:.2f} s CPU); {memory_needed(count) / 1e9:.2f} GB of matrices; ", end="")
    print(f"peak resident {peak():.2f} GB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("distances", "roots", "affinity"))
    parser.add_argument("--structures", type=int, default=2000)
    parser.add_argument("--atoms", type=int, default=80)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--real", action="store_true", help="distances of walks rather than made-up similarities")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.what == "distances":
        distances(given.structures, given.atoms)
    elif given.what == "roots":
        roots()
    else:
        affinity(given.structures, given.atoms, given.iterations, given.real)


if __name__ == "__main__":
    main()
