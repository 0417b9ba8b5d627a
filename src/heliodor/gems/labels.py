"""Labels for the chosen pieces, by a campaign that can be killed at any time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.durations import parse_duration
from heliodor.errors import InputError
from heliodor.gems.config import LabelChoices
from heliodor.label.amounts import parse_memory
from heliodor.label.campaign import refuse_other_weights, run_campaign
from heliodor.label.drive import Progress, reap
from heliodor.label.export import export
from heliodor.label.methods import find_method
from heliodor.label.parsl_pool import read_cluster
from heliodor.label.shard import Limits
from heliodor.label.store import LEASE, Store
from heliodor.train.dataset import Dataset

LOST = 0.2
"""Share of failed labels beyond which there is something wrong."""


def label(
    chosen: Dataset, store: Path, choices: LabelChoices, workers: int, tell: Callable[[str, int, int], None]
) -> tuple[Dataset, dict[str, Any]]:
    """Label structures; those in the store already are not labelled again.

    Returns:
        The labelled ones, in the order given, and facts.

    Raises:
        InputError: more than `LOST` of the labels failed.
    """
    method = find_method(choices.method)
    frames = [chosen.atoms(k) for k in range(len(chosen))]
    tell(f"{len(frames)} structures go to {store.name}", 0, 0)
    with Store(store) as opened:
        refuse_other_weights(opened, method)
        # what waits of other choices, made before this run, is wanted no more; limits may be higher now
        reap(opened, LEASE)
        opened.retry_limited(limits(choices))
        opened.keep_waiting(frames, method)
        opened.add(frames, method)

        def said(now: Progress) -> None:
            left = "" if now.remaining is None else f", {now.remaining / 60.0:.0f} min left"
            done = now.counts.total - now.counts.left
            tell(f"{method.name}: {now.rate:.1f} labels/s{left}", done, now.counts.total)

        summary = run_campaign(
            opened,
            workers,
            choices.executor,
            cluster=None if choices.cluster is None else read_cluster(Path(choices.cluster)),
            limits=limits(choices),
            progress=said,
        )
        labelled = export(opened, frames, method.name)
    failed = len(frames) - len(labelled)
    if failed > LOST * len(frames):
        reasons = "; ".join(f"{count} times {why}" for why, count in list(summary.failures.items())[:3])
        raise InputError(f"{failed} of {len(frames)} labels failed ({reasons}): see 'heliodor label status {store}'")
    net = np.linalg.norm(np.add.reduceat(labelled.forces, labelled.offsets[:-1]), axis=1)
    return labelled, {
        "labelled": len(labelled),
        "failed": failed,
        "method": method.name,
        "cpu_hours": round(summary.cpu / 3600.0, 3),
        "largest_net_force_eV_per_A": float(np.round(np.nanmax(net), 6)),
    }


def limits(choices: LabelChoices) -> Limits:
    """As a campaign wants them.

    Raises:
        InputError: no amount of memory, no length of time.
    """
    return Limits(
        seconds=None if choices.time_limit is None else parse_duration(choices.time_limit),
        memory=None if choices.memory is None else parse_memory(choices.memory),
    )
