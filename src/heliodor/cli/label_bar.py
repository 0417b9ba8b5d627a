"""The progress of a campaign: one line that renews itself on a terminal, a line now and then in a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from heliodor.cli.bar import EVERY

if TYPE_CHECKING:
    from heliodor.label.drive import Progress


@contextmanager
def campaign_bar(title: str) -> Iterator[Callable[[Progress], None]]:
    """A function to call with how far a campaign is."""
    if not sys.stderr.isatty():
        told = time.monotonic()

        def tell(now: Progress) -> None:
            nonlocal told
            if time.monotonic() - told >= EVERY:
                told = time.monotonic()
                print(f"{title}: {words(now)}", file=sys.stderr, flush=True)

        yield tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[words]}"))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, words="starting workers")

        def show(now: Progress) -> None:
            ended = now.counts.done + now.counts.failed
            bar.update(task, completed=ended, total=now.counts.total, words=words(now))

        yield show


def words(now: Progress) -> str:
    """``"120 of 200 done, 1 failed, 14 jobs/s, 6 s to come, 0.01 CPU hours"``."""
    from heliodor.label.amounts import format_duration

    parts = [f"{now.counts.done} of {now.counts.total} done"]
    if now.counts.failed:
        parts.append(f"{now.counts.failed} failed")
    if now.done + now.failed:
        parts.append(f"{now.rate:.3g} jobs/s")
    if now.remaining is not None and now.counts.left:
        parts.append(f"{format_duration(now.remaining)} to come")
    return ", ".join([*parts, f"{now.cpu / 3600.0:.3g} CPU hours"])
