"""heliodor opt: methods, cells under pressure, atoms that stay."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from ase.constraints import FixAtoms, FixBondLength

import heliodor
from heliodor.units import BAR

MINI = ("--model", "heliodor-mini", "--device", "cpu", "--dtype", "float64", "--long-range-cutoff", 6)


@pytest.fixture
def ice(write) -> Path:
    """Two waters in a small, slightly sheared box."""
    atoms = molecule("H2O")
    other = molecule("H2O")
    other.translate([0.3, 0.4, 2.9])
    atoms += other
    atoms.set_cell([[4.0, 0.0, 0.0], [0.3, 4.0, 0.0], [0.0, 0.0, 5.8]])
    atoms.pbc = True
    return write("ice.extxyz", atoms)


def test_a_cell_under_pressure(cli, ice):
    options = ("--cell", "triclinic", "--pressure", 5000, "--fmax", 0.02, "--smax", 0.02, "--steps", 300)
    answer = cli("opt", ice, *MINI, *options, "--json")
    assert answer.code == 0, answer.err
    assert "L-BFGS to 0.02 eV/Å, at most 300 steps, cell triclinic at 5000 bar to 0.02 GPa" in answer.err
    found = json.loads(answer.out)
    assert found["converged"] is True
    assert found["stress_deviation_GPa"] <= 0.02
    assert found["pressure_bar"] == pytest.approx(5000, abs=200)
    before, after = ase.io.read(ice), ase.io.read("opt.xyz")
    assert found["cell_before"] == pytest.approx(list(before.cell.cellpar()))
    assert found["cell_after"] == pytest.approx(list(after.cell.cellpar()))
    assert found["volume_after_A3"] == pytest.approx(after.get_volume())
    # two waters, in g and cm³
    density = 2 * 18.015 * 1.66054e-24 / (after.get_volume() * 1e-24)
    assert found["density_after_g_per_cm3"] == pytest.approx(density, rel=1e-4)
    change = found["energy_change_eV"] + 5000 * BAR * (after.get_volume() - before.get_volume())
    assert found["enthalpy_change_eV"] == pytest.approx(change, abs=1e-6)
    assert change < 0.0
    # what was written is what was relaxed: the stress of the file is the pressure asked for
    potential = heliodor.load("heliodor-mini", device="cpu", dtype="float64", long_range_cutoff=6.0)
    stress = heliodor.evaluate(potential, after).stress[0].numpy() / BAR
    assert np.abs(stress + 5000 * np.eye(3)).max() <= 201
    words = cli("opt", ice, *MINI, *options[:2], "--fmax", 0.2, "--smax", 0.5, "--output", "again.xyz").out
    for piece in ("cell before  4.000 × 4.011 × 5.800 Å", "Å³ after", "g/cm³ before", "enthalpy", "largest deviation"):
        assert piece in words


def test_a_cell_that_stays_is_written_as_it_was(cli, ice):
    answer = cli("opt", ice, *MINI, "--fmax", 0.1, "--method", "fire")
    assert answer.code == 0, answer.err
    assert "FIRE to 0.1 eV/Å, at most 500 steps, cell fixed" in answer.out
    assert "density" not in answer.out
    np.testing.assert_allclose(ase.io.read("opt.xyz").cell.array, ase.io.read(ice).cell.array)


def test_not_converged_says_how_far_the_stress_is(cli, ice):
    answer = cli("opt", ice, *MINI, "--cell", "isotropic", "--steps", 1)
    assert answer.code == 1
    assert "GPa off, 0.01 and 0.01 were asked for" in answer.error
    assert ase.io.read("opt.xyz").get_volume() > 0


def test_frozen_atoms(cli, write):
    atoms = molecule("CH3OH")
    atoms.rattle(0.05, seed=0)
    atoms.set_constraint(FixAtoms([0, 2]))
    path = write("methanol.extxyz", atoms)
    start = ase.io.read(path)
    answer = cli("opt", path, *MINI[:-2], "--frozen", "--fmax", 0.05)
    assert answer.code == 0, answer.err
    assert ", 2 atoms frozen" in answer.out
    assert "not applied" not in answer.err
    relaxed = ase.io.read("opt.xyz")
    moved = np.linalg.norm(relaxed.positions - start.positions, axis=1)
    assert (moved[[0, 2]] == 0.0).all()
    assert (np.delete(moved, [0, 2]) > 1e-3).all()
    assert relaxed.constraints[0].index.tolist() == [0, 2]
    free = cli("opt", path, *MINI[:-2], "--fmax", 0.05, "--output", "free.xyz")
    assert "not applied: all atoms move" in free.err
    assert np.abs(ase.io.read("free.xyz").positions - start.positions)[0].max() > 1e-3


def test_bad_input_is_refused_in_one_line(cli, ice, water, write):
    fixed = ase.io.read(ice)
    fixed.set_constraint(FixAtoms([0]))
    bonds = molecule("H2O")
    bonds.set_constraint(FixBondLength(0, 1))
    write("bonds.traj", bonds)
    for words, message in (
        ((ice, "--pressure", 1), "--pressure acts through the cell"),
        ((water, "--pressure", 1), "--pressure acts through the cell"),
        ((water, "--cell", "isotropic", "--pressure", 1), "is a molecule without one: leave --cell out"),
        ((water, "--cell", "isotropic"), "is a molecule without one: leave --cell out"),
        ((ice, "--cell", "round"), "coupling must be one of isotropic"),
        ((ice, "--cell", "isotropic", "--pressure", "nan"), "pressure must be a finite number"),
        ((ice, "--cell", "isotropic", "--smax", 0), "--smax must be a positive number of GPa"),
        ((ice, "--method", "newton"), "--method must be one of lbfgs, fire"),
        ((water, "--frozen"), "marks no atom as fixed"),
        (("bonds.traj", "--frozen"), "FixBondLength"),
        ((write("fixed.extxyz", fixed), "--frozen", "--cell", "isotropic"), "release the atoms or keep the cell"),
    ):
        answer = cli("opt", *words, *MINI[:-2])
        assert answer.code == 2
        assert message in answer.error
        assert not Path("opt.xyz").exists()
