"""The process one structure is measured in: a task as JSON on standard input, lines of JSON on standard output."""

from __future__ import annotations

import json
import os
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.errors import HeliodorError


def serve() -> int:
    """Do what is asked: ``{"task": ..., "exact": path, "do": "exact" or "time"}``.

    Answers with ``{"stage": ...}`` as it goes, and at the end ``{"done": ...}`` or ``{"refused": why}``.
    """
    # whatever models and libraries print goes to standard error
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")

    def answer(**found: Any) -> None:
        answers.write(json.dumps(found) + "\n")
        answers.flush()

    asked = json.loads(sys.stdin.read())
    path = Path(asked["exact"])
    try:
        from heliodor.bench.speed.measure import Task, exact_forces, measure

        task = Task(**asked["task"])
        if asked["do"] == "exact":
            answer(stage="exact forces")
            # renamed when complete, so that a kill leaves no half of it
            unfinished = path.with_suffix(".unfinished.npy")
            np.save(unfinished, exact_forces(task))
            unfinished.replace(path)
            answer(done=None)
        else:
            answer(done=asdict(measure(task, np.load(path), lambda stage: answer(stage=stage))))
    except HeliodorError as error:
        answer(refused=str(error))
    except MemoryError:
        answer(memory="out of memory")
    except RuntimeError as error:
        # torch on either kind of device; everything else is a fault of ours, and shows
        if "out of memory" not in str(error) and "can't allocate memory" not in str(error):
            raise
        answer(memory=str(error).splitlines()[0])
    return 0


if __name__ == "__main__":
    sys.exit(serve())
