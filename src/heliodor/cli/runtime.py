"""What the command line asks of the C library and of OpenMP; to be called before torch is loaded."""

from __future__ import annotations

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_INT = 2**31 - 1


def prepare_process() -> None:
    """Settings of this process that only an application, not a library, may choose."""
    keep_freed_memory()
    # OpenMP threads that wait spin for long by default: on a machine shared with other jobs they are in the way of
    # what they wait for. Never spinning (OMP_WAIT_POLICY=PASSIVE) costs more than it saves: 42 atoms on two idle
    # cores then take three times as long. A short spin is as fast as either at its best; a user's own choice stands
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def keep_freed_memory() -> bool:
    """Let glibc keep the memory of freed tensors for the next ones; True where that could be arranged.

    By default every block above 32 MB goes back to the kernel when freed and is faulted in, page by page, when
    next asked for. A step of dynamics allocates and frees the same large tensors each time: at 1,500 atoms that
    costs up to half of the CPU time.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    # before 2.35 glibc refuses more than 32 MB
    raised = any(mallopt(M_MMAP_THRESHOLD, size) == 1 for size in (2**30, 2**25))
    return bool(mallopt(M_TRIM_THRESHOLD, LARGEST_INT) == 1) and raised
