"""Minima, maxima and barriers of profiles; comparison with references; bonds, dihedrals and pictures."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from ase.build import molecule
from torsion_toys import Chain, chain

from heliodor.errors import InputError
from heliodor.scan import Axis, Profile, compare, read_profile, torsion_scan
from heliodor.scan.draw import draw
from heliodor.scan.geometry import (
    angles_of,
    bonds_of,
    changed_bond,
    dihedral_around,
    dihedral_of_smarts,
    rmsd,
    rotor,
    turned,
)
from heliodor.scan.profile import profile_of_points
from heliodor.units import KCAL_PER_MOL, KJ_PER_MOL

ANGLES = np.arange(-180.0, 180.0, 15.0)


def wave(degrees: np.ndarray, shift: float = 0.0, fold: int = 2, scale: float = 0.1) -> np.ndarray:
    """scale eV from top to bottom, maxima at ``shift``."""
    return 0.5 * scale * (1.0 + np.cos(fold * np.radians(degrees - shift)))


def test_extrema_and_barriers_of_a_periodic_profile():
    # a two-fold wave, one minimum deeper than the other
    energies = wave(ANGLES, shift=5.0) + wave(ANGLES, shift=95.0, fold=1, scale=0.02)
    profile = Profile(ANGLES, energies, True)
    fine = np.arange(-180.0, 180.0, 0.01)
    exact = wave(fine, shift=5.0) + wave(fine, shift=95.0, fold=1, scale=0.02)
    minima, maxima = profile.extrema()
    assert len(minima) == len(maxima) == 2
    np.testing.assert_allclose(profile.at(fine), exact, atol=1e-4)
    assert min(e.energy for e in minima) == pytest.approx(exact.min(), abs=1e-4)
    assert max(e.energy for e in maxima) == pytest.approx(exact.max(), abs=1e-4)
    first, second = profile.barriers()
    assert first.forward == pytest.approx(second.backward, abs=2e-4) or first.start is second.end
    assert {first.top.angle, second.top.angle} == {top.angle for top in maxima}
    assert first.end is second.start
    assert profile.height == pytest.approx(np.ptp(exact), abs=2e-4)
    # turning the zero of the angle changes nothing
    moved = profile_of_points((ANGLES + 77.0 + 180.0) % 360.0 - 180.0, energies)
    assert moved.periodic
    assert sorted(b.forward for b in moved.barriers()) == pytest.approx(sorted(b.forward for b in profile.barriers()))


def test_one_minimum_no_minimum_ripples_and_open_ends():
    single = Profile(ANGLES, wave(ANGLES, fold=1), True).barriers()
    assert len(single) == 1
    assert single[0].forward == single[0].backward == pytest.approx(0.1, abs=1e-5)
    assert Profile(ANGLES, np.zeros_like(ANGLES), True).barriers() == []
    rippled = wave(ANGLES, fold=1) + wave(ANGLES, fold=7, scale=1e-3)
    assert len(Profile(ANGLES, rippled, True).barriers()) == 1
    # extrema exactly on the points, and nothing between
    coarse = np.arange(-180.0, 180.0, 60.0)
    barriers = Profile(coarse, wave(coarse, fold=3), True).barriers()
    assert sorted(round(b.top.angle) for b in barriers) == [-120, 0, 120]
    assert [b.forward for b in barriers] == pytest.approx([0.1] * 3)
    half = np.arange(-90.0, 91.0, 15.0)
    open_ended = Profile(half, wave(half, fold=3), False)
    minima, maxima = open_ended.extrema()
    assert [round(e.angle) for e in minima] == [-60, 60]
    assert [round(e.angle) for e in maxima] == [0]
    assert len(open_ended.barriers()) == 1
    assert np.isnan(open_ended.at(np.array([120.0])))[0]
    across = profile_of_points(np.array([150.0, 165.0, -180.0, -165.0, -150.0]), np.array([0.0, 1.0, 2.0, 1.0, 0.0]))
    assert not across.periodic
    assert across.angles.tolist() == [150.0, 165.0, 180.0, 195.0, 210.0]
    assert float(across.at(np.array([-180.0]))[0]) == pytest.approx(2.0)
    with pytest.raises(InputError, match="at least four"):
        profile_of_points(np.arange(3.0), np.arange(3.0))


def test_comparison_with_a_reference(tmp_path):
    reference = Profile(ANGLES, wave(ANGLES), True)
    own = Profile(ANGLES[::2], wave(ANGLES[::2], scale=0.12) + 3.0, True)
    found = compare(own, reference)
    assert found.error == pytest.approx(0.02, abs=1e-4)
    difference = wave(ANGLES[::2]) - wave(ANGLES[::2], scale=0.12)
    assert found.rmsd == pytest.approx(difference.std(), abs=1e-5)
    assert found.offset == pytest.approx(difference.mean() - 3.0, abs=1e-5)
    assert len(found.tops) == 2
    for _, theirs, ours in found.tops:
        assert ours - theirs == pytest.approx(0.02, abs=1e-4)
    path = tmp_path / "reference.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("angle", "energy"), *zip(ANGLES + 360, wave(ANGLES) / KJ_PER_MOL, strict=True)])
    read = read_profile(path, "kJ/mol")
    np.testing.assert_allclose(read.energies, reference.energies)
    np.testing.assert_allclose(read.angles, reference.angles)
    for text, unit, message in (
        ("0,1\n10,2\n", "eV", "at least four"),
        ("0,1\n10,two\n", "eV", "line 2: not an angle"),
        ("0,1\n", "furlong", "must be one of"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_profile(path, unit)
    with pytest.raises(InputError, match="there is no file"):
        read_profile(tmp_path / "none.csv")


def test_turning_keeps_the_parts_rigid():
    atoms = molecule("CH3CH2OH")
    bonds = bonds_of(atoms)
    dihedral = dihedral_around(atoms, (0, 1), bonds)
    assert [atoms[k].symbol for k in dihedral] == ["H", "C", "C", "O"] or atoms[dihedral[0]].symbol == "O"
    one = rotor(atoms, dihedral, bonds)
    for angle in (-170.0, 10.0, 179.0):
        new = turned(atoms, [one], [angle])
        assert angles_of(new, [one])[0] == pytest.approx(angle, abs=1e-9)
        assert changed_bond(new, bonds) is None
        still = [k for k in range(len(atoms)) if k not in one.moving]
        np.testing.assert_array_equal(new.positions[still], atoms.positions[still])
        part = list(one.moving)
        before, after = (a.get_all_distances()[np.ix_(part, part)] for a in (atoms, new))
        np.testing.assert_allclose(before, after, atol=1e-12)
    broken = atoms.copy()
    broken.positions[list(one.moving)] += 5.0
    assert changed_bond(broken, bonds).startswith("a bond broke between atoms")
    with pytest.raises(InputError, match="there is no bond"):
        dihedral_around(atoms, (2, 8), bonds)


def test_smarts():
    pytest.importorskip("rdkit")
    atoms = molecule("CH3CH2OH")
    a, b, c, d = dihedral_of_smarts(atoms, "[H]OCC")
    assert [atoms[k].symbol for k in (a, b, c, d)] == ["H", "O", "C", "C"]
    assert dihedral_of_smarts(atoms, "[#1:4][O:3][C:2][C:1]") == (d, c, b, a)
    for pattern, message in (("CCCC", "matches nothing"), ("CC(", "is no SMARTS"), ("CCO", "must have four atoms")):
        with pytest.raises(InputError, match=message):
            dihedral_of_smarts(atoms, pattern)


def test_rmsd():
    atoms = molecule("CH3CH2OH")
    other = atoms.copy()
    other.rotate(77.0, (1.0, 2.0, 3.0))
    other.translate([1.0, -5.0, 2.0])
    assert rmsd(atoms, other) == pytest.approx(0.0, abs=1e-7)
    chiral = molecule("CH3CH2OH")
    chiral.positions += np.random.default_rng(1).normal(scale=0.2, size=chiral.positions.shape)
    mirrored = chiral.copy()
    mirrored.positions[:, 0] *= -1.0
    assert rmsd(chiral, mirrored) > 0.05
    with pytest.raises(InputError, match="same atoms"):
        rmsd(atoms, molecule("CH3OH"))


def test_tables_pictures_and_reference_geometries(tmp_path):
    axis = Axis.over(0.0, 180.0, 45.0)
    scan = torsion_scan(chain(), Chain(), [(0, 1, 2, 3)], axes=axis)
    scan.write_table(tmp_path / "a.csv")
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["dihedral_0-1-2-3_deg"]) for row in rows] == axis.angles.tolist()
    read = [float(row["relative_energy_kcal_per_mol"]) for row in rows]
    np.testing.assert_allclose(read, scan.relative / KCAL_PER_MOL, atol=1e-6)
    draw(scan, tmp_path / "a.png", reference=Profile.of(scan))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    structures = [frame for frame in scan.structures if frame is not None]
    moved = structures[1].copy()
    moved.rotate(30.0, "x")
    away = scan.rmsd([moved, structures[4]])
    np.testing.assert_allclose(away[[1, 4]], 0.0, atol=1e-6)
    assert np.isnan(away[[0, 2, 3]]).all()
    with pytest.raises(InputError, match="no reference geometry"):
        scan.rmsd([chain(20.0)])
