"""Parsl's interchange, which ends with its master.

Parsl's own outlives a master that was killed with -9, for ever, and with it the workers and the blocks of a cluster
that are paid for. Started as ``python -m heliodor.label.interchange``.
"""

from __future__ import annotations

import os
import runpy
import signal
import threading
import time


def main() -> None:
    """Be the interchange; workers that miss it end after some of their heartbeats."""
    # Ctrl-C in a terminal is for the master, who ends the others in order
    os.setsid()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    runpy.run_module("parsl.executors.high_throughput.interchange", run_name="__main__")


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
