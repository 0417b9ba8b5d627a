"""heliodor: quantum-accurate molecular simulation with machine-learned force fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heliodor.lazy import attach

if TYPE_CHECKING:
    from heliodor.api import evaluate, load
    from heliodor.descriptor import descriptors
    from heliodor.dynamics.run import simulate
    from heliodor.engines.ase import Calculator
    from heliodor.errors import HeliodorError
    from heliodor.interaction import interaction_energy
    from heliodor.potential import Potential, Prediction
    from heliodor.potentials.committee import Committee, committee_spread
    from heliodor.registry import models
    from heliodor.system import System

__version__ = "0.1.0"

__all__ = [
    "Calculator",
    "Committee",
    "HeliodorError",
    "Potential",
    "Prediction",
    "System",
    "committee_spread",
    "descriptors",
    "evaluate",
    "interaction_energy",
    "load",
    "models",
    "simulate",
]

_HOMES = {
    "Calculator": "heliodor.engines.ase",
    "Committee": "heliodor.potentials.committee",
    "HeliodorError": "heliodor.errors",
    "Potential": "heliodor.potential",
    "Prediction": "heliodor.potential",
    "System": "heliodor.system",
    "committee_spread": "heliodor.potentials.committee",
    "descriptors": "heliodor.descriptor",
    "evaluate": "heliodor.api",
    "interaction_energy": "heliodor.interaction",
    "load": "heliodor.api",
    "models": "heliodor.registry",
    "simulate": "heliodor.dynamics.run",
}


__getattr__, __dir__ = attach(__name__, _HOMES)
