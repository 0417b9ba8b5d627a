"""Density functionals: Psi4's numbers, derivatives by finite differences, and failures with words."""

from __future__ import annotations

import json

import ase
import numpy as np
import pytest

from heliodor.errors import MissingExtraError
from heliodor.label.label import LabelError, NotConvergedError
from heliodor.units import BOHR, DEBYE, HARTREE
from support import DATA

pytest.importorskip("pyscf")

from heliodor.label import dft, scf
from heliodor.label.dft import find_dft

PSI4 = json.loads((DATA / "labels/psi4_pbe0_svp.json").read_text())
HYDROGEN = ase.Atoms("H2", [[0, 0, 0], [0.3, 0.4, 0.6]])
FLUORIDE = ase.Atoms("HF", [[0.1, -0.2, 0.9], [0.0, 0.1, 0.0]])


@pytest.mark.parametrize("name", PSI4)
def test_pbe0_is_psi4s(name: str) -> None:
    record = PSI4[name]
    label = find_dft("pbe0", "def2-svp")(ase.Atoms(record["numbers"], record["positions"]))
    assert label.energy / HARTREE == pytest.approx(record["energy_df"], abs=2e-7)
    assert label.energy / HARTREE == pytest.approx(record["energy_exact"], abs=5e-5)
    assert label.forces == pytest.approx(-np.array(record["gradient_df"]) * HARTREE / BOHR, abs=2e-4)
    assert label.dipole / DEBYE == pytest.approx(record["dipole_debye"], abs=2e-4)
    assert label.charges.sum() == pytest.approx(0.0, abs=1e-5)
    assert label.terms == {"scf": label.energy}


@pytest.mark.parametrize("functional", ["pbe0-d3bj", "wb97m-d3bj"])
def test_forces_are_derivatives_of_the_energy(functional: str) -> None:
    method = find_dft(functional, "def2-svp")
    direction = np.array([[0.5, 0.2, -0.7], [-0.1, 0.6, 0.3]])
    label, step = method(FLUORIDE), 2e-3
    ends = []
    for sign in (1, -1):
        moved = FLUORIDE.copy()
        moved.positions += sign * step * direction
        ends.append(method(moved).energy)
    assert -(ends[0] - ends[1]) / (2 * step) == pytest.approx(float((label.forces * direction).sum()), abs=3e-4)
    assert label.terms["dispersion"] < 0.0
    assert sum(label.terms.values()) == pytest.approx(label.energy, abs=1e-9)


def test_pbe0_mbd_is_pbe0_and_mbd() -> None:
    from heliodor.physics.mbd import mbd_energy_forces

    bare, label = (find_dft(name, "def2-svp")(HYDROGEN) for name in ("pbe0", "pbe0-mbd"))
    energy, forces = mbd_energy_forces(HYDROGEN.positions, [1, 1], label.hirshfeld_ratios)
    assert label.terms["dispersion"] == energy < 0.0
    assert label.energy == pytest.approx(bare.energy + energy, abs=1e-9)
    assert label.forces == pytest.approx(bare.forces + forces, abs=1e-7)


def test_radical_is_unrestricted_and_ion_has_its_charge() -> None:
    method = find_dft("pbe0", "def2-svp")
    radical = ase.Atoms("OH", [[0, 0, 0], [0, 0, 0.97]], info={"spin": 1})
    ion = ase.Atoms("OH", [[0, 0, 0], [0, 0, 0.97]], info={"charge": -1})
    first, second = method(radical), method(ion)
    # electron affinity of OH is 1.83 eV; a small basis without diffuse functions holds no anion well
    assert abs(first.energy - second.energy) < 1.9
    assert second.charges.sum() == pytest.approx(-1.0, abs=1e-5)
    ion.positions += [1.0, 2.0, 3.0]
    assert method(ion).dipole - second.dipole == pytest.approx([-1.0, -2.0, -3.0], abs=1e-4)


def test_hydrogen_atom() -> None:
    # PBE0's hydrogen atom at its basis limit: -13.64 eV (QM7-X: -13.6414, FHI-aims)
    label = find_dft("pbe0", "def2-qzvpp")(ase.Atoms("H", info={"spin": 1}))
    assert label.energy == pytest.approx(-13.6414, abs=0.005)
    assert label.forces == pytest.approx(np.zeros((1, 3)), abs=1e-6)


def test_every_effort_ends_in_the_same_place() -> None:
    method = find_dft("pbe0", "def2-svp")
    labels = [method(HYDROGEN, effort) for effort in range(method.efforts)]
    for effort, label in enumerate(labels[1:], start=1):
        assert label.energy == pytest.approx(labels[0].energy, abs=1e-6)
        assert label.forces == pytest.approx(labels[0].forces, abs=1e-4)
        assert label.notes == (f"SCF effort {effort}",)


def test_never_converging_is_said_at_every_effort(monkeypatch: pytest.MonkeyPatch) -> None:
    # below rounding: no field is ever that self-consistent
    monkeypatch.setattr(scf, "ENERGY_THRESHOLD", 1e-30)
    monkeypatch.setattr(scf, "GRADIENT_THRESHOLD", 1e-30)
    monkeypatch.setattr(scf, "CYCLES", (5, 5))
    method = find_dft("pbe0", "def2-svp")
    for effort in range(method.efforts):
        with pytest.raises(NotConvergedError, match=f"did not converge with effort {effort}"):
            method(HYDROGEN, effort)


def test_net_force_asks_for_a_finer_grid_and_then_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    method = find_dft("pbe0", "def2-svp")
    monkeypatch.setattr(dft, "GRID_LEVEL", 0)
    label = method(FLUORIDE)
    assert "net force" in label.notes[0] and "grid 6 taken" in label.notes[0]
    assert np.linalg.norm(label.forces.sum(0)) < 1e-4
    monkeypatch.setattr(dft, "NET_FORCE_LIMIT", 1e-12)
    with pytest.raises(LabelError, match="not to be used"):
        method(FLUORIDE)


def test_instability_is_noted() -> None:
    method = find_dft("pbe0", "def2-svp")
    method.check_stability = True
    assert method(HYDROGEN).notes == ()
    stretched = ase.Atoms("H2", [[0, 0, 0], [0, 0, 3.0]])
    assert any("open-shell solution lies lower" in note for note in method(stretched).notes)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    find_dft("pbe0-mbd", "def2-svp")(HYDROGEN)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.7]], cell=[9, 9, 9], pbc=True), "molecules only"),
        (ase.Atoms("OH", [[0, 0, 0], [0, 0, 1.0]]), "9 electrons, which cannot have 0 unpaired"),
        (ase.Atoms("H2", [[0, 0, 0], [0, np.inf, 0.7]]), "not a number"),
        (ase.Atoms("UH", [[0, 0, 0], [0, 0, 2.0]], info={"spin": 1}), "basis def2-svp: .*not found for U"),
    ],
)
def test_refuses(atoms: ase.Atoms, message: str) -> None:
    with pytest.raises(LabelError, match=message) as caught:
        find_dft("pbe0-mbd", "def2-svp")(atoms)
    assert not isinstance(caught.value, NotConvergedError)


@pytest.mark.parametrize("missing", ["pyscf", "pyscf.dispersion"])
def test_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.util import find_spec

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else find_spec(name))
    with pytest.raises(MissingExtraError, match=missing.replace(".", "-")):
        find_dft("wb97m-d3bj", "def2-svp")
