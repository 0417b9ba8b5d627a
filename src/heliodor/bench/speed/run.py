"""Sizes that grow until time or memory is over, each in a process of its own; what is done is kept."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import heliodor
from heliodor.api import load
from heliodor.bench.record import model_key
from heliodor.bench.speed.measure import Task, Timing
from heliodor.bench.speed.systems import SIZES, subject
from heliodor.errors import InputError

VERSION = 1
"""Raised when what is measured changes, so that older rows are not taken for new."""

FULL = 0.8
"""Part of the free memory that a size is expected to take at most."""

GRACE = 120.0
"""Seconds beyond the limit after which a process is ended: for imports, models to be read, kernels to be compiled."""

ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "2147483647", "GOMP_SPINCOUNT": "10000"}
"""What the command line asks of glibc and OpenMP for its own process (docs/architecture.md, "Truth and speed")."""


@dataclass(frozen=True)
class Outcome:
    """What came of one size.

    Attributes:
        task: what was asked.
        atoms: of the structure.
        timing: None where there is none.
        why: one sentence, where there is none.
        kept: whether the timing was there from before.
    """

    task: Task
    atoms: int
    timing: Timing | None = None
    why: str = ""
    kept: bool = False


def grow(
    task: Task,
    sizes: Sequence[int],
    folder: Path,
    *,
    weights: str | None = None,
    limit: float = 120.0,
    told: Callable[[str], None] = lambda stage: None,
) -> Iterator[Outcome]:
    """Measure one system under one model at growing sizes; after the first that does not fit no larger one is tried.

    Args:
        task: its number of atoms is replaced.
        sizes: atoms aimed at.
        folder: ``rows.jsonl`` and the exact forces are kept in it.
        weights: of the model, from `identity`, where it is known already.
        limit: seconds that the steps of one size may take, as far as can be told from the size before.
        told: is called with what is being done.
    """
    weights = weights or identity(task.model, task.long_range_cutoff)
    folder.mkdir(parents=True, exist_ok=True)
    rows = _read(folder / "rows.jsonl")
    seen: list[Timing] = []
    over = ""
    known: set[int] = set()
    for size in sorted(sizes):
        now = replace(task, atoms=size)
        atoms = len(subject(now.system, size).atoms)
        if atoms in known:
            continue
        known.add(atoms)
        key = _key(now, weights, atoms)
        timing = rows.get(key)
        if timing is not None:
            seen.append(timing)
            yield Outcome(now, atoms, timing, kept=True)
            continue
        over = over or _foreseen(now, seen, atoms, limit)
        if over:
            yield Outcome(now, atoms, why=over)
            continue
        found = _one(now, weights, folder, seen, atoms, limit, told)
        if found.timing is None:
            over = f"not tried: the smaller size of {atoms} atoms did not do" if not _refused(found) else found.why
        else:
            seen.append(found.timing)
            _write(folder / "rows.jsonl", key, found.timing)
        yield found


def identity(model: str, long_range_cutoff: float | str | None = "auto") -> str:
    """SHA-256 of all that decides a model's numbers.

    Raises:
        ModelError, CheckpointError: there is no such model.
    """
    return model_key(load(model, device="cpu", long_range_cutoff=long_range_cutoff, kernels="reference"))


def default_sizes(system: str) -> tuple[int, ...]:
    """Atoms."""
    if system not in SIZES:
        raise InputError(f"no system called {system!r}; there are {', '.join(SIZES)}")
    return SIZES[system]


def _one(
    task: Task,
    weights: str,
    folder: Path,
    seen: list[Timing],
    atoms: int,
    limit: float,
    told: Callable[[str], None],
) -> Outcome:
    """One size, in one process or two."""
    patience = limit + GRACE
    if seen:
        patience += 5.0 * seen[-1].setup_s * atoms / seen[-1].atoms
    cell = len(subject(task.system, task.atoms).cell)
    words = f"{VERSION} {weights} {task.system} {cell} {task.long_range_cutoff}"
    exact = folder / f"exact-{sha256(words.encode()).hexdigest()[:16]}.npy"
    for do in ("time",) if exact.exists() else ("exact", "time"):
        answer = ask({"do": do, "task": asdict(task), "exact": str(exact)}, task.threads, patience, told)
        if "done" not in answer:
            return Outcome(task, atoms, why=answer["why"])
    return Outcome(task, atoms, Timing(**answer["done"]))


def ask(
    request: dict[str, Any], threads: int | None, patience: float, told: Callable[[str], None] = lambda stage: None
) -> dict[str, Any]:
    """What a process of its own answers: ``"done"``, or under ``"why"`` one sentence on why not.

    Args:
        patience: seconds until it is ended.
    """
    environment = {**ALLOCATOR, **os.environ}
    source = str(Path(heliodor.__file__).resolve().parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(p for p in (source, os.environ.get("PYTHONPATH", "")) if p)
    if threads is not None:
        environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    process = subprocess.Popen(
        [sys.executable, "-m", "heliodor.bench.speed.worker"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    late = threading.Event()

    def end() -> None:
        late.set()
        process.kill()

    clock = threading.Timer(patience, end)
    clock.start()
    errors: list[str] = []
    # read beside the answers: a full pipe would hold the process up
    listener = threading.Thread(target=lambda: errors.extend(process.stderr.read().splitlines()))  # type: ignore[union-attr]
    listener.start()
    last: dict[str, Any] = {}
    try:
        # one that died at once has something to say all the same
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(request))
            process.stdin.close()
        for line in process.stdout:
            last = json.loads(line)
            if "stage" in last:
                told(last["stage"])
    except BaseException:
        process.kill()
        raise
    finally:
        status = process.wait()
        clock.cancel()
        listener.join()
        process.stdout.close()
        process.stderr.close()
    if "done" in last and status == 0:
        return last
    stage = last.get("stage", "starting")
    if "refused" in last:
        return {"why": last["refused"]}
    if "memory" in last:
        return {"why": f"does not fit: {last['memory']}"}
    if late.is_set():
        return {"why": f"took longer than {patience:.0f} s ({stage}) and was ended"}
    if status < 0:
        return {"why": f"was ended by signal {-status} ({stage}): most likely out of memory"}
    return {"why": f"failed with exit status {status} ({stage}): {(errors or ['no message'])[-1]}"}


def _refused(found: Outcome) -> bool:
    """Whether no size would do."""
    return not any(word in found.why for word in ("does not fit", "longer than", "signal", "failed with"))


def _foreseen(task: Task, seen: list[Timing], atoms: int, limit: float) -> str:
    """Why a size need not be tried, judged from the one before it: time and memory grow with the atoms, of molecules
    with all pairs with their square."""
    if not seen:
        return ""
    ratio = atoms / seen[-1].atoms
    ratio = ratio if task.system == "water" else ratio**2
    seconds = 1e-3 * seen[-1].ms_per_step * ratio * (task.steps + task.warmup)
    if seconds > limit:
        return (
            f"would take about {seconds:.0f} s for {task.steps + task.warmup} steps, more than the limit of {limit:g} s"
        )
    # what a model and its libraries take does not grow: the difference of two sizes tells what does
    more = seen[-1].memory_MB * ratio
    if len(seen) > 1 and seen[-1].atoms > seen[-2].atoms:
        slope = (seen[-1].memory_MB - seen[-2].memory_MB) / (seen[-1].atoms - seen[-2].atoms)
        more = seen[-1].memory_MB + max(slope, 0.0) * (atoms - seen[-1].atoms)
    free = free_memory(task.device)
    if more > FULL * free:
        return f"would take about {more / 1e3:.1f} GB, and {free / 1e3:.1f} GB are free"
    return ""


def free_memory(device: str) -> float:
    """MB that can still be had, of the GPU where one is used; infinite where it is not told."""
    import torch

    if device != "cpu" and torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0] / 1e6
    told = Path("/proc/meminfo")
    if told.exists():
        for line in told.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024 / 1e6
    return float("inf")


def _key(task: Task, weights: str, atoms: int) -> str:
    """All that decides a timing, the machine included."""
    choices = asdict(task) | {"model": weights, "atoms": atoms}
    machine = [platform.node(), platform.machine(), platform.processor(), heliodor.__version__]
    return sha256(json.dumps([VERSION, machine, choices], sort_keys=True).encode()).hexdigest()[:24]


def _read(path: Path) -> dict[str, Timing]:
    """Rows by key; lines cut off by a kill, or of another version, are left out."""
    names = {field.name for field in fields(Timing)}
    rows = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            values = json.loads(line)
            rows[values.pop("key")] = Timing(**{k: v for k, v in values.items() if k in names})
        except (AttributeError, KeyError, TypeError, ValueError):
            continue
    return rows


def _write(path: Path, key: str, timing: Timing) -> None:
    """Append a row; it is on disk when this returns."""
    broken = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    with path.open("a") as file:
        file.write(("\n" if broken else "") + json.dumps({"key": key} | asdict(timing), ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
