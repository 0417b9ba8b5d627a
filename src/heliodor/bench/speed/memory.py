"""Most memory a process or a GPU has held at once."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from heliodor.dynamics.memory import peak_memory


def peak_megabytes(device: torch.device) -> float:
    """MB, of the GPU, or of this process alone.

    On Linux not by `getrusage`, which hands a child the peak of the process that started it.
    """
    told = Path("/proc/self/status")
    if device.type != "cuda" and told.exists():
        found = re.search(r"^VmHWM:\s+(\d+) kB", told.read_text(), re.MULTILINE)
        if found:
            return int(found.group(1)) * 1024 / 1e6
    return 1e3 * peak_memory(device)
