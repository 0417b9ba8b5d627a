"""heliodor crystal: reports, files, refusals of structures that are no ordered molecular crystals."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk

import heliodor
from heliodor.crystal import find_molecules, lattice_energy
from heliodor.units import BOLTZMANN, KJ_PER_MOL

MINI = ("--model", "heliodor-mini", "--device", "cpu")
UREA = Path(__file__).resolve().parents[2] / "examples" / "urea.cif"
"""Swaminathan, Craven, McMullan, Acta Cryst. B40, 300 (1984)."""


@pytest.fixture
def urea() -> Path:
    path = Path("urea.cif")
    path.write_text(UREA.read_text())
    return path


@pytest.fixture
def dry_ice(write) -> Path:
    """CO2 in a cubic cell, one molecule per lattice point of Pa-3."""
    from ase.spacegroup import crystal

    atoms = crystal(["C", "O"], [(0, 0, 0), (0.12, 0.12, 0.12)], spacegroup=205, cellpar=[5.6, 5.6, 5.6, 90, 90, 90])
    return write("co2.extxyz", ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True))


def test_single_points_are_those_of_the_library(cli, urea):
    answer = cli("crystal", urea, *MINI, "--relax", "none", "--temperature", 298.15, "--json")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    potential = heliodor.load("heliodor-mini", device="cpu", dtype="float64")
    found = lattice_energy(potential, ase.io.read(urea), relax="none")
    assert told["lattice_energy_eV"] == pytest.approx(found.energy, abs=1e-9)
    assert told["lattice_energy_kJ_per_mol"] == pytest.approx(found.energy / KJ_PER_MOL)
    assert told["lattice_energy_without_cutoff_eV"] == pytest.approx(found.energy_without_cutoff)
    expected = -found.energy_without_cutoff - 2 * BOLTZMANN * 298.15
    assert told["sublimation_enthalpy_eV"] == pytest.approx(expected)
    assert told["formula_unit"] == "CH4N2O"
    assert told["formula_units_in_cell"] == 2
    assert told["long_range_cutoff_A"] == 12.0
    assert told["molecules"][0]["source"] == "crystal"
    assert told["files"] == {}
    assert "molecules    2 CH4N2O" in answer.err
    assert "nothing was relaxed" in answer.err
    assert list(Path().iterdir()) == [urea]


def test_a_relaxed_crystal_is_told_and_written(cli, dry_ice):
    options = ("--fmax", 0.05, "--smax", 0.1, "--pressure", 3000, "--temperature", 100)
    answer = cli("crystal", dry_ice, *MINI, *options, "--output", "relaxed.cif")
    assert answer.code == 0, answer.err
    for piece in (
        "cell and positions at 3000 bar to 0.05 eV/Å and 0.1 GPa, molecules alone too",
        "formula unit CO2, 4 in the cell",
        "alone        CO2 from the crystal, relaxed",
        "cell after",
        "g/cm³ after",
        "RMSD20",
        "per formula unit at a long-range cutoff of 12 Å",
        "no cutoff",
        "P V",
        "-1.5 RT",
        "written      relaxed.cif",
    ):
        assert piece in answer.out
    relaxed = ase.io.read("relaxed.cif")
    assert len(relaxed) == 12
    # what was written is relaxed: not better than asked for
    forces = heliodor.evaluate("heliodor-mini", relaxed).forces
    assert float(forces.norm(dim=1).max()) < 0.06
    again = cli("crystal", dry_ice, *MINI, *options, "--output", "relaxed.cif")
    assert again.code == 2
    assert "relaxed.cif" in again.error
    assert "--overwrite" in again.error


def test_positions_only_with_a_molecule_given(cli, urea, write):
    path = write("alone.extxyz", find_molecules(ase.io.read(urea))[0].atoms)
    answer = cli("crystal", urea, *MINI, "--relax", "positions", "--molecule", path, "--fmax", 0.2, "--json")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    assert told["molecules"][0]["source"] == "given"
    assert told["cell_after"] == pytest.approx(told["cell_before"])
    assert told["rmsd_A"] > 0.0
    assert told["files"] == {"crystal": "crystal.xyz"}
    written = ase.io.read("crystal.xyz")
    assert written.get_potential_energy() == pytest.approx(told["relative_crystal_energy_eV"])
    np.testing.assert_allclose(written.cell.cellpar(), told["cell_after"], atol=1e-6)


def test_not_converged_is_an_error_after_the_report(cli, urea):
    answer = cli("crystal", urea, *MINI, "--steps", 1)
    assert answer.code == 1
    assert "not converged to 0.01 eV/Å" in answer.error
    assert "E_latt" in answer.out
    assert Path("crystal.xyz").exists()


def test_interrupted(cli, urea, monkeypatch):
    """Ctrl-C at the second step: the crystal so far is written, no energy is claimed."""
    from heliodor.dynamics.relax import minimize as module

    look, calls = module.look, []

    def press(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return look(*arguments, **options)

    monkeypatch.setattr(module, "look", press)
    answer = cli("crystal", urea, *MINI)
    assert answer.code == 130
    assert "interrupted before the lattice energy was known: crystal.xyz holds the best structure so far" in answer.err
    assert "E_latt" not in answer.out
    assert len(ase.io.read("crystal.xyz")) == 16


def test_disordered_structures_are_refused(cli, urea, write):
    text = urea.read_text()
    partial = text.replace("_atom_site_fract_z\n", "_atom_site_fract_z\n_atom_site_occupancy\n")
    lines = []
    for line in partial.splitlines():
        atom = line[:3] in ("C1 ", "O1 ", "N1 ", "H1 ", "H2 ")
        lines.append(f"{line} {'0.5' if line.startswith('H2') else '1.0'}" if atom else line)
    grouped = [
        f"{line} {'1' if line.startswith('O1') else '.'}" if line[:3] in ("C1 ", "O1 ", "N1 ", "H1 ", "H2 ") else line
        for line in text.replace("_atom_site_fract_z\n", "_atom_site_fract_z\n_atom_site_disorder_group\n").splitlines()
    ]
    ordered = "\n".join(lines).replace(" 0.5\n", " 1.0\n").removesuffix(" 0.5") + " 1.0\n"
    for name, content, message in (
        ("partial.cif", "\n".join(lines) + "\n", "is disordered: site H2 is occupied in part"),
        ("groups.cif", "\n".join(grouped) + "\n", "is disordered: site O1 belongs to a disordered group"),
    ):
        answer = cli("crystal", write(name, content), *MINI)
        assert answer.code == 2
        assert message in answer.error
    assert cli("crystal", write("ordered.cif", ordered), *MINI, "--relax", "none").code == 0


def test_bad_input_is_refused_in_one_line(cli, urea, dry_ice, water, write):
    bare = ase.io.read(urea)
    del bare[bare.numbers == 1]
    salt = bulk("NaCl", "rocksalt", a=5.64)
    for words, message in (
        ((water,), "periodic in three directions"),
        ((write("copper.extxyz", bulk("Cu")),), "go on without end"),
        ((write("salt.cif", salt),), "go on without end"),
        ((write("bare.extxyz", bare),), "the crystal has no hydrogens"),
        ((urea, "--relax", "everything"), "--relax must be one of cell, positions, none"),
        ((urea, "--relax", "none", "--output", "x.cif"), "nothing to write"),
        ((urea, "--relax", "positions", "--pressure", 10), "--pressure acts through the cell"),
        ((urea, "--fmax", -1), "--fmax must be a positive number of eV/Å"),
        ((urea, "--temperature", 0), "--temperature must be a positive number of K"),
        ((urea, "--molecule", water), "is H2O, and the crystal consists of CH4N2O"),
        ((urea, "--molecule", "none.xyz"), "there is no file none.xyz"),
        ((urea, "--bond-factor", 5), "bond factor must lie between"),
        ((urea, "--long-range-cutoff", "none"), "infinitely many pairs"),
        ((urea, "--output", "x.unknown"), "cannot tell from the name"),
        (("none.cif",), "there is no file"),
    ):
        answer = cli("crystal", *words, *MINI)
        assert answer.code == 2, words
        assert message in answer.error
        assert not Path("crystal.xyz").exists()
