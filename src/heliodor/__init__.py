"""heliodor: quantum-accurate molecular simulation with machine-learned force fields."""

from heliodor.api import evaluate, load
from heliodor.errors import HeliodorError
from heliodor.potential import Potential, Prediction
from heliodor.registry import models
from heliodor.system import System

__version__ = "0.1.0"

__all__ = [
    "HeliodorError",
    "Potential",
    "Prediction",
    "System",
    "evaluate",
    "load",
    "models",
]
