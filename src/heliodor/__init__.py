"""heliodor: quantum-accurate molecular simulation with machine-learned force fields."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heliodor.api import evaluate, load
    from heliodor.dynamics.run import simulate
    from heliodor.engines.ase import Calculator
    from heliodor.errors import HeliodorError
    from heliodor.interaction import interaction_energy
    from heliodor.potential import Potential, Prediction
    from heliodor.registry import models
    from heliodor.system import System

__version__ = "0.1.0"

__all__ = [
    "Calculator",
    "HeliodorError",
    "Potential",
    "Prediction",
    "System",
    "evaluate",
    "interaction_energy",
    "load",
    "models",
    "simulate",
]

_HOMES = {
    "Calculator": "heliodor.engines.ase",
    "HeliodorError": "heliodor.errors",
    "Potential": "heliodor.potential",
    "Prediction": "heliodor.potential",
    "System": "heliodor.system",
    "evaluate": "heliodor.api",
    "interaction_energy": "heliodor.interaction",
    "load": "heliodor.api",
    "models": "heliodor.registry",
    "simulate": "heliodor.dynamics.run",
}


def __getattr__(name: str) -> Any:
    # torch takes a second to import: only when something is used that needs it, not for `heliodor --help`
    if name not in _HOMES:
        raise AttributeError(f"module 'heliodor' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
