"""Processes that share the work of a stage, and do not outlive who started them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process

LOOK = 1.0
"""Seconds between looks at the parent."""

THREADS = "OMP_NUM_THREADS"


@contextmanager
def pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes of one thread each: none inherits threads or locks of this one, and all end when it is killed.

    An error, or Ctrl-C, ends them at once: what is left is not done first.
    """
    before = os.environ.get(THREADS)
    # read by libraries when they are loaded, in each process before anything of ours can run there
    os.environ[THREADS] = "1"
    try:
        processes = ProcessPoolExecutor(max(1, workers), mp_context=get_context("spawn"), initializer=_begin)
        try:
            yield processes
        except BaseException:
            for process in list((processes._processes or {}).values()):
                process.kill()
            processes.shutdown(cancel_futures=True)
            raise
        processes.shutdown()
    finally:
        if before is None:
            del os.environ[THREADS]
        else:
            os.environ[THREADS] = before


def _begin() -> None:
    # Ctrl-C is for the master; a worker would take it for the failure of one piece of work
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def end_with_parent() -> None:
    """Stop this process once its parent is gone: it would write beside the one that takes up the work."""
    master = parent_process()
    parent = os.getppid() if master is None else master.pid

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
