"""GFN2-xTB: published energies, derivatives by finite differences, and what it refuses."""

from __future__ import annotations

import json

import ase
import numpy as np
import pytest
from ase.build import molecule

from heliodor.errors import MissingExtraError
from heliodor.label.label import LabelError, NotConvergedError
from heliodor.label.xtb import find_xtb
from heliodor.units import BOHR, HARTREE
from support import DATA

pytest.importorskip("tblite")


def _rattled(name: str) -> ase.Atoms:
    atoms = molecule(name)
    atoms.rattle(0.05, seed=1)
    return atoms


def _numerical(energy, atoms: ase.Atoms, atom: int, step: float = 1e-3) -> list[float]:
    found = []
    for axis in range(3):
        ends = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * step
            ends.append(energy(moved))
        found.append(-(ends[0] - ends[1]) / (2 * step))
    return found


def test_silane_has_the_energy_of_the_programs_documentation() -> None:
    d = 1.617683897558
    positions = np.array([[0, 0, 0], [d, d, -d], [-d, -d, -d], [d, -d, d], [-d, d, d]]) * BOHR
    label = find_xtb("gfn2")(ase.Atoms("SiH4", positions))
    assert label.energy / HARTREE == pytest.approx(-3.7632337506837, abs=1e-8)


def test_free_atoms_have_the_energies_of_the_parametrisation() -> None:
    # free atoms of GFN2-xTB, Hartree (shared/specs/gems.md, section 1)
    for symbol, unpaired, energy in (("H", 1, -0.39348), ("C", 2, -1.79330), ("N", 3, -2.60582), ("O", 2, -3.76761)):
        label = find_xtb("gfn2")(ase.Atoms(symbol, info={"spin": unpaired}))
        assert label.energy / HARTREE == pytest.approx(energy, abs=1e-5)
        assert "open shell" in label.notes[0]


@pytest.mark.parametrize("name", ["gfn2", "gfn1"])
def test_forces_are_derivatives_of_the_energy(name: str) -> None:
    method, atoms = find_xtb(name), _rattled("CH3CH2OH")
    forces = method(atoms).forces
    for atom in (0, 2, 5):
        assert forces[atom] == pytest.approx(_numerical(lambda a: method(a).energy, atoms, atom), abs=1e-4)


def test_dipole_is_the_derivative_of_the_energy_in_a_field() -> None:
    from tblite.interface import Calculator

    atoms = _rattled("CH3CH2OH")

    def energy(field: np.ndarray) -> float:
        calculator = Calculator("GFN2-xTB", atoms.numbers, atoms.positions / BOHR, logger=lambda _: None)
        calculator.set("verbosity", 0)
        calculator.set("accuracy", 1e-3)
        calculator.add("electric-field", field.tolist())
        return float(calculator.singlepoint().get("energy"))

    step = 1e-3
    numerical = [-(energy(step * e) - energy(-step * e)) / (2 * step) for e in np.eye(3)]
    assert find_xtb("gfn2")(atoms).dipole / BOHR == pytest.approx(numerical, abs=2e-4)


def test_charges_and_dipole_of_an_ion_refer_to_the_origin() -> None:
    ion = molecule("CH3O")
    ion.info["charge"] = -1
    method = find_xtb("gfn2")
    here = method(ion)
    ion.positions += [1.0, 2.0, 3.0]
    assert here.charges.sum() == pytest.approx(-1.0, abs=1e-8)
    assert method(ion).dipole - here.dipole == pytest.approx([-1.0, -2.0, -3.0], abs=1e-6)


def test_effort_reaches_what_the_quick_way_does_not() -> None:
    record = json.loads((DATA / "labels/stubborn_anion.json").read_text())
    anion = ase.Atoms(record["symbols"], record["positions"], info={"charge": record["charge"]})
    method = find_xtb("gfn2")
    with pytest.raises(NotConvergedError, match="not converged in 250 cycles"):
        method(anion)
    first, second = method(anion, 1), method(anion, 2)
    assert first.energy == pytest.approx(second.energy, abs=1e-6)
    assert first.forces == pytest.approx(second.forces, abs=1e-3)


def test_what_converges_does_not_depend_on_effort() -> None:
    method, atoms = find_xtb("gfn2"), _rattled("CH3CH2OH")
    labels = [method(atoms, effort) for effort in range(method.efforts)]
    for label in labels[1:]:
        assert label.energy == pytest.approx(labels[0].energy, abs=1e-7)
        assert label.forces == pytest.approx(labels[0].forces, abs=1e-4)


def test_crystal_is_its_molecule_where_the_cell_is_large_and_has_right_forces_where_it_is_small() -> None:
    method, water = find_xtb("gfn2"), _rattled("H2O")
    alone = method(water).energy
    water.pbc = True
    water.set_cell([30.0, 30.0, 30.0])
    # dipoles of images at 30 Å: 1e-4 eV
    assert method(water).energy == pytest.approx(alone, abs=5e-4)
    water.set_cell([4.0, 4.5, 5.0])
    label = method(water)
    assert label.dipole is None and "k-points: Γ only" in label.notes
    assert abs(label.energy - alone) > 0.01
    assert label.forces[1] == pytest.approx(_numerical(lambda a: method(a).energy, water, 1), abs=2e-4)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    method = find_xtb("gfn2")
    method(molecule("H2O"))
    with pytest.raises(NotConvergedError):
        method(ase.Atoms("LiF", [[0, 0, 0], [0, 0, 20]]))
    assert capfd.readouterr() == ("", "")


def _at(*heights: float, symbols: str = "H2", **info: float) -> ase.Atoms:
    return ase.Atoms(symbols, [[0, 0, z] for z in heights], info=info)


_SLAB = molecule("H2O")
_SLAB.set_cell([6.0, 6.0, 30.0])
_SLAB.pbc = (True, True, False)


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (ase.Atoms(), "no atoms"),
        (_at(0.0, float("nan")), "atom 1 .H. has a position that is not a number"),
        (_at(0.0, 0.01), "atoms 0 and 1 are 0.010 Å apart"),
        (_at(0.0, 0.74, spin=1), "leaves 2 electrons, which cannot have 1 unpaired"),
        (_at(0.0, 0.74, charge=1), "leaves 1 electrons, which cannot have 0 unpaired"),
        (_at(0.0, 0.74, charge=0.5), "whole number"),
        (_at(0.0, 0.74, charge="?"), "charge must be a number"),
        (_at(0.0, symbols="H", charge=1), "leaves 0 electrons"),
        (_at(0.0, symbols="Am", spin=1), "no parameters for Am"),
        (_at(0.0, symbols="X"), "no known element"),
        (_SLAB, "all three vectors or none"),
        (ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.74]], pbc=True), "no volume"),
    ],
)
def test_refuses(atoms: ase.Atoms, message: str) -> None:
    with pytest.raises(LabelError, match=message) as caught:
        find_xtb("gfn2")(atoms)
    assert not isinstance(caught.value, NotConvergedError)


def test_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"heliodor\[label\]"):
        find_xtb("gfn2")


@pytest.mark.parametrize(
    ("second", "height", "message"),
    [(7.98, 8.0, "atoms 0 and 1 are 0.020 Å apart"), (None, 0.1, "atom 0 and its own image are 0.100 Å apart")],
)
def test_atoms_on_one_spot_across_a_boundary(second: float | None, height: float, message: str) -> None:
    positions = [[1.0, 1.0, 0.0]] + ([] if second is None else [[1.0, 1.0, second]])
    crystal = ase.Atoms(["He"] * len(positions), positions, cell=[20, 20, height], pbc=True)
    with pytest.raises(LabelError, match=message):
        find_xtb("gfn2")(crystal)
