"""heliodor: quantum-accurate molecular simulation with machine-learned force fields."""

from heliodor.api import evaluate, load
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
]
