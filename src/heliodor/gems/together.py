"""Processes that share the work of a stage, and do not outlive who started them."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

LOOK = 1.0
"""Seconds between looks at the parent."""


def pool(workers: int) -> ProcessPoolExecutor:
    """Fresh processes: none inherits threads or locks of this one, and all end when it is killed."""
    return ProcessPoolExecutor(max(1, workers), mp_context=get_context("spawn"), initializer=end_with_parent)


def end_with_parent() -> None:
    """Stop this process once its parent is gone: it would write beside the one that takes up the work."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
