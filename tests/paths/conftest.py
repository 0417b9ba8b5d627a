"""Path integrals need i-PI; toys of the dynamics tests serve here too."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("ipi")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "dynamics"))
