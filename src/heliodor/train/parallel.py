"""Several processes that train one model together, as `torchrun` starts them.

Each takes its share of every batch; gradients are added up in one flat buffer. Losses are means over labels, so each
share is divided by the number of labels of the whole batch (`Loss.label_counts`), and the sum is the gradient that one
process would have found. torch's DistributedDataParallel is not used: it averages shares as if all had the same number
of labels, and does not go with forces, which are derivatives inside the model's own evaluation.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Int
from torch import Tensor

from heliodor.errors import HeliodorError, InputError
from heliodor.train.errors import Predicted

PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others, who may be writing files or compiling."""


_MADE: set[int] = set()
"""Process ids that made a group, as opposed to having found one."""


class LostProcessError(HeliodorError):
    """Another process of the same run has ended."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run: this is number `rank` of `count`. Each must call the same methods in the same order."""

    rank: int = 0
    count: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this one writes files and speaks."""
        return self.rank == 0

    def add_up(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place, the same bits on all."""
        if self.count > 1:
            with self._together():
                dist.all_reduce(values)
        return values

    def gather(self, value: Any) -> list[Any]:
        """One value of each process, in their order."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        with self._together():
            dist.all_gather_object(found, value)
        return found

    def share(self, rows: Int[np.ndarray, "b"], sizes: Int[np.ndarray, "S 3"]) -> Int[np.ndarray, "s"]:
        """This process's structures of a batch, so that all have about as many edges and pairs; perhaps none."""
        if self.count == 1:
            return rows
        cost = sizes[rows].sum(1)
        load = np.zeros(self.count, dtype=np.int64)
        mine = []
        for k in np.argsort(-cost, kind="stable"):
            owner = int(load.argmin())
            load[owner] += cost[k]
            if owner == self.rank:
                mine.append(k)
        return rows[np.sort(np.array(mine, dtype=np.int64))]

    def span(self, number: int) -> slice:
        """This process's part of so many things in a row."""
        return slice(number * self.rank // self.count, number * (self.rank + 1) // self.count)

    def join(self, mine: Predicted | None) -> Predicted:
        """Answers for consecutive parts of a data set as one; None of a process whose part is empty."""
        parts = [part for part in self.gather(mine) if part is not None]
        if len(parts) == 1:
            return parts[0]
        found: dict[str, Any] = {}
        for name in (field.name for field in fields(Predicted)):
            values = [getattr(part, name) for part in parts]
            found[name] = None if any(value is None for value in values) else np.concatenate(values)
        return Predicted(**found)

    @contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            words = (str(error).strip().splitlines() or [""])[0][:200]
            raise LostProcessError(
                f"process {self.rank} of {self.count} lost another one of this run ({words}): see what that one said, "
                "and start the same run again; it goes on from its last checkpoint"
            ) from None


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """The processes of this run, from the environment that `torchrun` makes; this one alone without it.

    They talk by NCCL where each has a GPU, else by gloo. A process group that is there already is used; one made here
    is kept for what the same processes train next, and left when this one ends or fails.

    Args:
        device: "cpu", "cuda" or "auto".

    Raises:
        InputError: an environment that is not complete.
    """
    count = _number("WORLD_SIZE", 1)
    if count == 1 and not (dist.is_available() and dist.is_initialized()):
        yield Processes()
        return
    local = _number("LOCAL_RANK", 0)
    if not dist.is_initialized():
        missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if missing:
            raise InputError(
                f"WORLD_SIZE is {count}, but {', '.join(missing)} is not set: start several processes with torchrun"
            )
        cuda = device != "cpu" and torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(local)
        try:
            dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
        except (RuntimeError, ValueError) as error:
            words = (str(error).strip().splitlines() or [""])[0]
            raise InputError(f"the {count} processes did not find each other: {words}") from None
        # a second group at the same address: who comes first meets the store of the one that is about to end, and waits
        _MADE.add(os.getpid())
        atexit.register(_leave)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), local)
    except BaseException:
        # the others find out at once, whatever ended this one
        _leave()
        raise


def _leave() -> None:
    """Leave the process group if it was made here."""
    if os.getpid() in _MADE and dist.is_initialized():
        dist.destroy_process_group()
    _MADE.discard(os.getpid())


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise InputError(f"the environment's {name} must be a whole number, not {text!r}") from None
