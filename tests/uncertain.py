"""heliodor-mini with an uncertainty fitted within seconds to what SO3LR says of shaken molecules."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import ase
import numpy as np
from ase.build import molecule

import heliodor
from heliodor.potential import evaluate_system
from heliodor.system import System
from heliodor.train.dataset import Dataset
from heliodor.train.uncertainty import fit_uncertainty

NAMES = (
    *("CH4", "NH3", "H2O", "C2H6", "C2H4", "C2H2", "CH3OH", "CH3CHO", "HCOOH", "H2CO", "CH3CN", "H3CNH2", "CH3SH"),
    *("CH3Cl", "CH3CONH2", "CH3COOH", "CH3OCH3", "C3H8", "C3H6_D3h", "H2O2", "N2H4", "CH3CH2OH", "C3H4_C3v", "HCN"),
    *("CH3COCH3", "C4H4O", "C4H4NH", "C6H6", "C5H5N", "CH3CH2NH2", "CH3CH2Cl", "H2CCO", "C2H6SO", "HOCl", "C2H6NH"),
)


def shaken(names: tuple[str, ...], copies: int, scale: float, seed: int, kind: str = "") -> list[ase.Atoms]:
    """Molecules out of their minima by normal noise (Å), turned and moved."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(copies):
        for name in names:
            frame = molecule(name)
            frame.rotate(float(rng.uniform(0, 360)), rng.normal(size=3))
            frame.positions += rng.normal(scale=scale, size=frame.positions.shape) + rng.normal(size=3)
            frame.info |= {"kind": kind}
            frames.append(frame)
    return frames


def labelled(frames: list[ase.Atoms]) -> Dataset:
    """With SO3LR's forces."""
    teacher = heliodor.load("so3lr", device="cpu")
    system = System.from_atoms(frames)
    forces = evaluate_system(teacher, system).forces.double().split(system.counts.tolist())
    return Dataset.from_atoms(frames, [SimpleNamespace(forces=f.numpy()) for f in forces], "so3lr")


@functools.cache
def calibration() -> Dataset:
    """280 structures that heliodor-mini was not trained on."""
    return labelled(shaken(NAMES, 8, 0.05, 1))


def fresh() -> heliodor.Potential:
    """heliodor-mini with its uncertainty, in float32."""
    model = heliodor.load("heliodor-mini", device="cpu")
    model.uncertainty = None
    return fit_uncertainty(model, Dataset.from_atoms(shaken(NAMES, 6, 0.05, 2)), calibration())


@functools.cache
def mini() -> heliodor.Potential:
    """The same, made once: not to be changed."""
    return fresh()
