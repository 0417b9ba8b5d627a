"""Path-integral molecular dynamics through i-PI: quantum nuclei as ring polymers of beads."""

from __future__ import annotations

from heliodor.paths.result import PathResult, read_paths
from heliodor.paths.run import run_paths
from heliodor.paths.settings import PathSettings

__all__ = ["PathResult", "PathSettings", "read_paths", "run_paths"]
