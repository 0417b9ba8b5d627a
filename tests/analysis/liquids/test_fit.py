"""Which analyses of liquids and spectra are offered for what."""

from __future__ import annotations

import ase
import numpy as np
import pytest
from ase.build import molecule

from heliodor.analysis.catalogue import catalogue
from heliodor.analysis.liquids.conditions import kinds_of, temperature_of
from heliodor.trajectory import Trajectory
from heliodor.units import BOLTZMANN, KINETIC
from memory_trajectories import in_memory
from trajectories import waters

NAMES = ("rdf", "density", "diffusion", "dipoles", "charges", "vaporisation", "vdos", "infrared")


def reasons(trajectory: Trajectory) -> dict[str, str | None]:
    return {name: catalogue()[name].unfit(trajectory) for name in NAMES}


def test_a_liquid_with_everything_fits_everything() -> None:
    box = waters(2, 3.2)
    frames = np.tile(box.positions, (60, 1, 1))
    values = {
        "charges": np.zeros((60, 24)),
        "velocities": np.zeros((60, 24, 3)),
        "energy": np.zeros(60),
        "hirshfeld_ratios": np.ones((60, 24)),
    }
    assert set(reasons(in_memory(box, frames, 2.0, values=values)).values()) == {None}


def test_a_single_frame_of_a_liquid() -> None:
    box = waters(2, 3.2)
    found = reasons(in_memory(box, box.positions[None]))
    assert {name for name, reason in found.items() if reason is None} == {"rdf", "density"}
    assert "no velocities either" in str(found["vdos"])
    assert found["infrared"] == "it holds no charges"


def test_a_molecule_in_vacuum() -> None:
    water = molecule("H2O")
    frames = np.tile(water.positions, (60, 1, 1))
    found = reasons(in_memory(water, frames, 2.0, values={"charges": np.zeros((60, 3))}))
    assert {name for name, reason in found.items() if reason is None} == {"dipoles", "charges", "vdos", "infrared"}
    slow = reasons(in_memory(water, frames, 20.0, values={"charges": np.zeros((60, 3))}))
    assert "fold faster ones over" in str(slow["infrared"])


def test_kinds_of_molecules() -> None:
    box = waters(2, 3.2) + molecule("CH3OH")
    box.positions[24:] += 30.0
    box.pbc = False
    kinds = kinds_of(in_memory(box, box.positions[None]).topology)
    assert [(kind.formula, len(kind.molecules), kind.size) for kind in kinds] == [("H2O", 8, 3), ("CH4O", 1, 6)]
    assert kinds[1].label == "CH₄O"


def test_where_the_temperature_comes_from() -> None:
    rng = np.random.default_rng(1)
    argon = ase.Atoms("Ar100")
    spread = np.sqrt(BOLTZMANN * 250.0 / KINETIC / argon.get_masses()[0])
    velocities = rng.normal(scale=spread, size=(80, 100, 3))
    frames = np.zeros((80, 100, 3))
    log = {"temperature_K": np.array([310.0, 330.0])}
    settings = {"ensemble": "nvt", "temperature_K": "300"}
    held = in_memory(argon, frames, values={"velocities": velocities}, settings=settings, log=log)
    assert temperature_of(held) == 300.0
    free = {"ensemble": "nve", "temperature_K": "600"}
    assert temperature_of(in_memory(argon, frames, settings=free, log=log)) == 320.0
    measured = temperature_of(in_memory(argon, frames, values={"velocities": velocities}))
    assert measured == pytest.approx(250.0, rel=0.02)
    assert temperature_of(in_memory(argon, frames)) is None
