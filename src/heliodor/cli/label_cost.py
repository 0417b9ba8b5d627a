"""What `heliodor label --dry-run` says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from heliodor.cli.common import print_json, print_lines

if TYPE_CHECKING:
    import ase

    from heliodor.label.shard import Limits


def say_cost(
    frames: list[ase.Atoms], name: str, path: Path, workers: int, threads: int, limits: Limits, as_json: bool
) -> None:
    """Print jobs, hours and disk, from the history of a store or a few jobs done for the purpose.

    Raises:
        InputError: none of the jobs that were tried succeeded.
    """
    from heliodor.errors import InputError
    from heliodor.label.amounts import format_duration, format_memory
    from heliodor.label.cost import disk, fit_cost, try_some
    from heliodor.label.packing import content_hash
    from heliodor.label.store import open_store

    distinct = {content_hash(frame, name): frame for frame in frames}
    done, history = 0, []
    sizes: list[int] = []
    if path.exists():
        with open_store(path) as opened:
            history = opened.history(method=name)
            known = {key for key in distinct if opened.knows(key)}
            done = opened.counts(name).done
            sizes = [atoms for atoms, number in opened.sizes() for _ in range(number)]
        distinct = {key: frame for key, frame in distinct.items() if key not in known}
    new = list(distinct.values())
    sizes += [len(frame) for frame in new]
    failed: list[str] = []
    source = f"{len(history)} jobs of {path}"
    if len(history) < 5 and new:
        history, outcomes = try_some(new, name, threads=threads, limits=limits)
        failed = [outcome.attempts[-1].message for outcome in outcomes if outcome.label is None]
        source = f"{len(history)} jobs done for the purpose"
    cost = fit_cost(history)
    if sizes and cost is None:
        raise InputError(f"the jobs that were tried all failed; the first: {failed[0] if failed else 'no time left'}")
    seconds = 0.0 if cost is None else cost.seconds(sizes)
    record = {
        "method": name,
        "structures": len(frames),
        "new": len(new),
        "done": done,
        "to_do": len(sizes),
        "atoms": sum(sizes),
        "estimated_from": source,
        "seconds_per_job": seconds / max(len(sizes), 1),
        "power_of_atoms": None if cost is None else cost.power,
        "cpu_hours": 0.0 if cost is None else seconds * cost.cores / 3600.0,
        "hours": seconds / workers / 3600.0,
        "disk_bytes": disk(sizes),
        "failed_when_tried": failed,
    }
    if as_json:
        print_json(record)
        return
    lines = [
        ("structures", f"{len(frames)}, of which {len(new)} are new to {path}; {done} done with {name}"),
        ("to do", f"{len(sizes)} jobs, {sum(sizes)} atoms"),
    ]
    if cost is not None and sizes:
        lines += [
            (
                "time",
                f"{format_duration(seconds / len(sizes))} a job, {record['cpu_hours']:.3g} CPU hours; "
                f"{format_duration(seconds / workers)} with {workers} workers "
                f"(from {source}, ~ atoms^{cost.power:.1f})",
            ),
            ("disk", f"{format_memory(disk(sizes))} for the store"),
        ]
    if failed:
        lines.append(("failed", f"{len(failed)} of those tried, the first: {failed[0][:160]}"))
    print_lines(lines, sys.stdout)
