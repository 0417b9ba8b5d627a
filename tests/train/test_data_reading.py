"""Files of other people: values against those that were written, by other programs' writers and literal factors."""

from __future__ import annotations

import gzip
from pathlib import Path

import ase
import ase.db
import ase.io
import h5py
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from labelled_springs import spring_set

from heliodor.errors import InputError
from heliodor.train.data.reading import Wanted, open_source
from heliodor.train.data.reading.grouped_hdf5 import formal_charge
from heliodor.train.data.reading.units import unit_factor
from heliodor.train.dataset import Dataset, join
from support import shared

KCAL, HARTREE, BOHR = 0.0433641042, 27.2113862, 0.529177211
"""eV, eV, Å."""


def read(path: Path | str, wanted: Wanted | None = None) -> Dataset:
    return join(list(open_source(path, wanted).blocks(0)))


def frames() -> list[ase.Atoms]:
    out = []
    rng = np.random.default_rng(3)
    for k, (name, cell) in enumerate((("CH3OH", None), ("H2O", [[5.0, 0, 0], [1, 6, 0], [0, -1, 7]]), ("NH3", None))):
        atoms = ase.Atoms(ase.build.molecule(name), cell=cell, pbc=cell is not None)
        atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
        atoms.info |= {"charge": k - 1, "spin": k, "config_type": f"kind {k}", "smiles": 'C#"x y'}
        results = {"energy": -10.0 - k, "forces": rng.normal(size=atoms.positions.shape), "dipole": rng.normal(size=3)}
        if cell is not None:
            results["stress"] = rng.normal(size=6)
        atoms.calc = SinglePointCalculator(atoms, **results)
        out.append(atoms)
    return out


def compare(data: Dataset, made: list[ase.Atoms]) -> None:
    for k, atoms in enumerate(made):
        span = data.span(k)
        np.testing.assert_array_equal(data.numbers[span], atoms.numbers)
        np.testing.assert_allclose(data.positions[span], atoms.positions, atol=1e-8)
        np.testing.assert_allclose(data.cell[k], atoms.cell.array, atol=1e-8)
        np.testing.assert_array_equal(data.pbc[k], atoms.pbc)
        np.testing.assert_allclose(data.energy[k], atoms.get_potential_energy(), atol=1e-8)
        np.testing.assert_allclose(data.forces[span], atoms.get_forces(), atol=1e-7)
        np.testing.assert_allclose(data.dipole[k], atoms.get_dipole_moment(), atol=1e-7)
        if atoms.pbc.any():
            np.testing.assert_allclose(data.stress[k], atoms.get_stress(voigt=False), atol=1e-7)


@pytest.mark.parametrize("suffix", [".extxyz", ".xyz.gz", ".extxyz.xz"])
def test_extxyz(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"set{suffix}"
    ase.io.write(path, frames(), format="extxyz")
    data = read(path)
    compare(data, frames())
    np.testing.assert_array_equal(data.charge, [-1, 0, 1])
    np.testing.assert_array_equal(data.spin, [0, 1, 2])
    assert list(data.kind) == ["kind 0", "kind 1", "kind 2"]
    assert set(data.origin) == {path.name}


def test_ase_files(tmp_path: Path) -> None:
    with ase.db.connect(tmp_path / "set.db") as database:
        for atoms in frames():
            database.write(atoms, data={"total_charge": atoms.info["charge"]})
    data = read(tmp_path / "set.db")
    compare(data, frames())
    np.testing.assert_array_equal(data.charge, [-1, 0, 1])
    ase.io.write(tmp_path / "set.traj", frames())
    compare(read(tmp_path / "set.traj"), frames())


@pytest.mark.parametrize("names", ["RzEF", ("coords", "nuclear_charges", "energies", "forces")])
def test_npz(tmp_path: Path, names: tuple[str, ...]) -> None:
    made = spring_set("CH3OH", 600)
    arrays = (made.positions.reshape(600, 6, 3), made.numbers[:6].astype(np.uint8), made.energy / KCAL)
    forces = made.forces.reshape(600, 6, 3) / KCAL
    energies = arrays[2][:, None] if names == "RzEF" else arrays[2]
    values = dict(zip(names, (arrays[0], arrays[1], energies, forces), strict=True))
    np.savez_compressed(tmp_path / "m.npz", name="methanol", theory=np.array([b"springs"]), **values)
    with pytest.raises(InputError, match="--units eV, kcal/mol"):
        open_source(tmp_path / "m.npz")
    data = read(tmp_path / "m.npz", Wanted(energy_unit="kcal/mol"))
    np.testing.assert_allclose(data.energy, made.energy, rtol=1e-8)
    np.testing.assert_allclose(data.forces, made.forces, atol=1e-7)
    np.testing.assert_array_equal(data.positions, made.positions)
    assert data.method == "springs"
    tail = next(open_source(tmp_path / "m.npz", Wanted(energy_unit="kcal/mol")).blocks(590))
    np.testing.assert_array_equal(tail.energy, data.energy[590:])


def test_npz_of_several_sizes(tmp_path: Path) -> None:
    z = np.array([[8, 1, 1, 0], [7, 1, 1, 1]])
    forces = np.arange(24.0).reshape(2, 4, 3)
    np.savez(tmp_path / "m.npz", R=forces + 1.0, Z=z, E=[1.0, 2.0], F=forces, Q=[0.0, 1.0])
    data = read(tmp_path / "m.npz", Wanted(energy_unit="eV"))
    assert list(data.counts) == [3, 4] and list(data.charge) == [0, 1]
    np.testing.assert_array_equal(data.forces, forces.reshape(-1, 3)[[0, 1, 2, 4, 5, 6, 7]])


def test_hdf5_of_molecules(tmp_path: Path) -> None:
    sets = {"methanol": spring_set("CH3OH", 7), "ammonia": spring_set("NH3", 3)}
    with h5py.File(tmp_path / "spice.hdf5", "w") as file:
        for name, made in sets.items():
            n = int(made.counts[0])
            group = file.create_group(name)
            group["atomic_numbers"] = made.numbers[:n]
            group["conformations"] = made.positions.reshape(-1, n, 3) / BOHR
            group["dft_total_energy"] = made.energy / HARTREE
            group["dft_total_gradient"] = -made.forces.reshape(-1, n, 3) / HARTREE * BOHR
            group["mbis_charges"] = np.full((len(made), n, 1), 0.25)
            group["scf_dipole"] = np.ones((len(made), 3))
            group["smiles"] = np.array([b"[NH3+]C" if name == "methanol" else b"[O-]C"], dtype=object)
            group["subset"] = np.array([name.encode()], dtype=object)
    source = open_source(tmp_path / "spice.hdf5")
    assert source.total == 10
    data = join(list(source.blocks(0)))
    order = [*range(3, 10), *range(3)]
    data = data.take(order)
    made = join(list(sets.values()))
    np.testing.assert_array_equal(data.numbers, made.numbers)
    np.testing.assert_allclose(data.positions, made.positions, rtol=1e-8)
    np.testing.assert_allclose(data.energy, made.energy, rtol=1e-8)
    np.testing.assert_allclose(data.forces, made.forces, atol=1e-7)
    np.testing.assert_allclose(data.dipole, BOHR, rtol=1e-8)
    assert list(data.charge) == [1.0] * 7 + [-1.0] * 3
    assert list(data.group) == ["methanol"] * 7 + ["ammonia"] * 3 == list(data.kind)
    assert any("gradients" in sentence for sentence in source.said)
    np.testing.assert_array_equal(next(source.blocks(5)).energy, join(list(source.blocks(0))).energy[5:])


def test_units() -> None:
    # NIST, CODATA 2018: atomic unit of force 8.2387234983e-8 N, 1 eV/Å = 1.602176634e-9 N
    assert unit_factor("forces", "hartree/bohr") == pytest.approx(82.387234983 / 1.602176634, rel=1e-9)
    assert unit_factor("forces", "kcal/mol/Å") == pytest.approx(KCAL, rel=1e-8)
    assert unit_factor("stress", "GPa") == pytest.approx(1.0 / 160.2176634, rel=1e-9)
    assert unit_factor("stress", "kJ/mol/nm^3") == pytest.approx(KCAL / 4.184 / 1000.0, rel=1e-8)
    assert unit_factor("dipole", "debye") == pytest.approx(0.20819434, rel=1e-6)
    with pytest.raises(InputError, match="did you mean 'hartree'"):
        unit_factor("energy", "hartre")


def test_formal_charges() -> None:
    known = {"[NH3+:9][C@@H:1]C([O-:2])=O": 0, "[Na+].[Cl-]": 0, "[Ca+2]": 2, "[Fe+++]": 3, "[O-2]": -2, "CC=O": 0}
    assert {smiles: formal_charge(smiles) for smiles in known} == known


def text(comment: str = 'Properties=species:S:1:pos:R:3:forces:R:3 E0=1.0 energy=2.0 pbc="F F F"') -> str:
    return f"2\n{comment}\nH 0 0 0 0 0 1\nH 0 0 0.74 0 0 -1\n"


@pytest.mark.parametrize(
    ("content", "wanted", "message"),
    [
        (
            text(),
            Wanted(keys={"energy": "enrgy"}),
            "no key 'enrgy' for energy; did you mean 'energy'.*: energy, forces, E0, pos",
        ),
        (text("Properties=species:S:1:pos:R:3:grd:R:3 E0=1"), None, "no energies or forces.*its keys are: E0, grd"),
        (text().replace("2.0", "nan"), None, "structure 1 of .* is not a finite number"),
        (text().replace("0 0 -1", "0 0 inf"), None, "'forces' of structure 1 .* is not a finite number"),
        (text().replace("0 0 0.74", "0 0 nan"), None, "coordinate"),
        (text()[:-20], None, "cut off: structure 1 has 2 atoms"),
        (text().replace("H 0 0 0.74 0 0 -1", "H 0 0 0.74 0 0"), None, "atom 1 of structure 1 .* has 6 of 7 values"),
        (text().replace("H 0 0 0.74", "Hx 0 0 0.74"), None, "'Hx', which is no element"),
        (text() + "nonsense\n", None, "should begin with its number of atoms"),
        (
            text().replace("E0", "REF_energy"),
            None,
            "several keys that could be energy: energy, REF_energy.*--energy-key",
        ),
        (text().replace("E0", "multiplicity").replace("1.0", "0"), None, "-1 unpaired"),
        (text(), Wanted(energy_unit="kcal"), "no unit of energy that is known; did you mean 'kcal/mol'"),
        (
            text("Properties=species:S:1:pos:R:3:charge:R:3 energy=1"),
            None,
            "'charge' of structure 1 .* shape .2, 3., not one number.*--charge-key",
        ),
        (text().replace("E0", "stress"), None, "stress, expecting special 3x3"),
    ],
)
def test_refusals(tmp_path: Path, content: str, wanted: Wanted | None, message: str) -> None:
    path = tmp_path / "bad.xyz"
    path.write_text(content if "grd" in content else text().replace("E0=1.0", "") + content)
    with pytest.raises(InputError, match=message):
        read(path, wanted)


def test_damaged_archive(tmp_path: Path) -> None:
    whole = gzip.compress((text() * 2000).encode())
    (tmp_path / "bad.xyz.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="damaged"):
        read(tmp_path / "bad.xyz.gz")
    (tmp_path / "bad.npz").write_bytes(b"PK nothing")
    (tmp_path / "bad.h5").write_bytes(b"nothing")
    for name in ("bad.npz", "bad.h5"):
        with pytest.raises(InputError, match="cannot be read"):
            open_source(tmp_path / name)


def test_labels_that_are_kept_as_missing(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text(text() + text().replace("2.0", "nan"))
    block = next(open_source(tmp_path / "a.xyz", Wanted(keep_nan=True)).blocks(0))
    assert block.notes["not_numbers"] == {"energy": [1]}
    np.testing.assert_array_equal(np.isnan(block.energy), [False, True])


def test_against_ase_on_real_sets() -> None:
    path = shared("data/ef_spice_dipeptides/spice_dipep_dipolar_val.xyz.gz")
    data = read(path)
    with gzip.open(path, "rt") as file:
        compare(data, list(ase.io.iread(file, ":", format="extxyz")))
    # what its PROVENANCE.md says: partial charges give the dipole, and they add up to nothing
    moments = np.add.reduceat(data.positions * data.charges[:, None], data.offsets[:-1])
    assert np.corrcoef(moments.ravel(), data.dipole.ravel())[0, 1] > 0.99
    np.testing.assert_allclose(np.add.reduceat(data.charges, data.offsets[:-1]), 0.0, atol=1e-3)
