"""The embedded model: what is shipped is what its card says, and it behaves like the model it was distilled from."""

from __future__ import annotations

import ase
import ase.io
import numpy as np
import pytest
from ase.build import molecule

import heliodor
from heliodor.checkpoint import read_header, sha256
from heliodor.registry import models
from support import DATA

EXAMPLES = DATA.parents[1] / "examples"


@pytest.fixture(scope="module")
def mini() -> heliodor.Potential:
    return heliodor.load("heliodor-mini", device="cpu", dtype="float64")


def test_it_ships_small_and_with_a_card():
    entry = models()["heliodor-mini"]
    assert entry.path.stat().st_size < 5e6
    assert sha256(entry.path) == entry.sha256
    card = read_header(entry.path)["card"]
    for key in ("how_made", "errors", "must_not_be_used_for", "licence", "citation", "summary"):
        assert card[key], f"the card says nothing about {key}"
    assert "Thorben Frank" in card["licence"], "SO3LR's MIT licence asks for its notice"


@pytest.mark.parametrize("file", ["ace-ala3-nme.xyz", "paracetamol.xyz", "water_64.xyz"])
def test_it_resembles_its_teacher(file, mini, so3lr):
    """Forces of the examples, none of whose geometries was in the training set, within 0.12 eV/Å RMSE of SO3LR's."""
    atoms = ase.io.read(EXAMPLES / file)
    mine, teacher = (heliodor.evaluate(model, atoms) for model in (mini, so3lr))
    assert float((mine.forces - teacher.forces).square().mean().sqrt()) < 0.12
    assert float((mine.charges - teacher.charges).abs().max()) < 0.1


def test_it_keeps_the_symmetries(mini, rng):
    atoms = molecule("CH3CONH2")
    atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
    turned = atoms.copy()
    turned.rotate(50, (1, 2, 3))
    first, second = heliodor.evaluate(mini, atoms), heliodor.evaluate(mini, turned)
    assert float(first.energy[0]) == pytest.approx(float(second.energy[0]), abs=1e-10)
    back = ase.Atoms(atoms.symbols, second.forces.numpy())
    back.rotate(-50, (1, 2, 3))
    np.testing.assert_allclose(back.positions, first.forces, atol=1e-9)


def test_a_hydrogen_bond_binds(mini, so3lr):
    """The water dimer at its equilibrium distance: bound by 0.15 to 0.30 eV, as SO3LR has it to 0.05 eV."""
    dimer = molecule("H2O") + molecule("H2O")
    dimer.set_positions(
        [(0, 0, 0), (0.96, 0, 0), (-0.24, 0.93, 0), (2.9, 0, 0), (3.25, 0.45, 0.76), (3.25, 0.45, -0.76)]
    )
    mine, teacher = (heliodor.interaction_energy(model, dimer, [0, 0, 0, 1, 1, 1], [0, 0]) for model in (mini, so3lr))
    assert -0.30 < teacher < -0.10
    assert mine == pytest.approx(teacher, abs=0.05)


def test_short_dynamics_conserves_energy(mini, tmp_path):
    atoms = ase.io.read(EXAMPLES / "paracetamol.xyz")
    run = heliodor.simulate(
        atoms,
        mini,
        ensemble="nve",
        temperature=300,
        steps=100,
        minimize_first=True,
        seed=1,
        output=None,
        progress=False,
    )
    drift = run.log["conserved_eV"] - run.log["conserved_eV"][0]
    assert np.abs(drift).max() < 1e-3 * len(atoms)
    assert not run.broken_bonds
