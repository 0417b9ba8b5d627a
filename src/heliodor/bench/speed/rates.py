"""What a device can do at best, measured in a second: operations of a large matrix product, bytes of a large copy."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

SIDE = {"cpu": 1536, "cuda": 8192}
"""Rows of the square matrices that are multiplied: 7 and 1100 GFLOP a product."""

COPIED = {"cpu": 2**25, "cuda": 2**30}
"""float32 numbers that are copied: 128 MiB and 4 GiB, far more than caches hold."""


@dataclass(frozen=True)
class Rates:
    """Ceilings of a device, with the threads torch has there.

    Attributes:
        operations: floating point operations a second, of a matrix product in float32 (without tf32).
        bandwidth: bytes a second of a copy, those read and those written.
    """

    operations: float
    bandwidth: float


def measure_rates(device: torch.device, *, seconds: float = 0.5) -> Rates:
    """Both ceilings, each the best of what fits into the time (three calls at least).

    The same units do all of a step's arithmetic no faster than they do a matrix product, and nothing moves data faster
    than a copy: what comes of these rates is a bound from below, on an idle machine. Matrices and numbers are random:
    products of zeros run faster.
    """
    kind = device.type if device.type in SIDE else "cpu"
    side, count = SIDE[kind], COPIED[kind]
    with torch.no_grad():
        a, b = torch.randn(2, side, side, device=device)
        out = torch.empty_like(a)
        product = best_seconds(lambda: torch.matmul(a, b, out=out), device, seconds)
        del a, b, out
        source = torch.rand(count, device=device)
        target = torch.empty_like(source)
        copy = best_seconds(lambda: target.copy_(source), device, seconds)
    return Rates(2.0 * side**3 / product, 8.0 * count / copy)


def best_rates(path: Path, name: str, now: Rates) -> Rates:
    """The highest rates seen of a device so far, kept in a file: what else ran on the machine only lowers them.

    Args:
        name: of the device, with all that rates depend on.
    """
    try:
        kept: dict[str, list[float]] = json.loads(path.read_text())
        old = Rates(*(float(rate) for rate in kept.get(name, (0.0, 0.0))))
    except (AttributeError, OSError, TypeError, ValueError):
        kept, old = {}, Rates(0.0, 0.0)
    best = Rates(max(now.operations, old.operations), max(now.bandwidth, old.bandwidth))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept | {name: [best.operations, best.bandwidth]}))
    return best


def best_seconds(call: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Shortest duration of a call; one is made before."""
    call()
    synchronize(device)
    best, begun, calls = float("inf"), time.perf_counter(), 0
    while calls < 3 or time.perf_counter() - begun < seconds:
        start = time.perf_counter()
        call()
        synchronize(device)
        best = min(best, time.perf_counter() - start)
        calls += 1
    return best


def synchronize(device: torch.device) -> None:
    """Wait for a GPU; nothing to wait for on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
