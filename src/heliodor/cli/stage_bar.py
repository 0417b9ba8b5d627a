"""What commands that run stages share: the bar, and choices from a file and from --set."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliodor.choices import override
from heliodor.cli.common import print_json, print_lines
from heliodor.cli.prepare.common import ProgressBar
from heliodor.cli.yaml import read_yaml

if TYPE_CHECKING:
    from heliodor.stages import Record


class Stages(ProgressBar):
    """One line for each stage that is done, and a bar for the one at work."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = time.perf_counter()
        self._said = 0.0

    def tell(self, stage: str, what: str, done: int, of: int) -> None:
        """As `heliodor.stages.Tell`."""
        if done == of == 1:
            self.line(f"{stage:<12} {what}")
        elif self._live is not None:
            self(f"{stage}: {what}"[:90], done / of if of else 0.0)
        elif done == of == 0 or time.perf_counter() - self._said > 20.0:
            self._said = time.perf_counter()
            share = f" ({100 * done // of} %)" if of else ""
            print(f"{stage}: {what}{share} ...", file=sys.stderr, flush=True)

    def line(self, text: str) -> None:
        """Something that stays on the screen."""
        if self._live is not None:
            self._live.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)


def print_stages(folder: Path, result: Mapping[str, Record], made: Mapping[str, str], as_json: bool) -> None:
    """What was done: as JSON, or the folder and those of its files that are there.

    Args:
        made: names of files by what they are.
    """
    if as_json:
        print_json({"folder": folder, "stages": {n: {"seconds": r.seconds, **r.facts} for n, r in result.items()}})
        return
    there = [(what, str(folder / name)) for what, name in made.items() if (folder / name).is_file()]
    print_lines([("folder", str(folder)), *there], sys.stdout)


def read_choices(path: Path | None, changes: list[str]) -> dict[str, Any]:
    """What a YAML file holds, with changes of the form a.b=value made to it.

    Raises:
        InputError: no YAML, or a change that is none.
    """
    return override({} if path is None else read_yaml(path, dict), changes)
