"""Torsion drives: profiles known on paper, symmetric molecules, hysteresis, going on after an interruption."""

from __future__ import annotations

import os
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase.build import molecule
from torsion_toys import Chain, chain

import heliodor
from heliodor.errors import InputError, SimulationError
from heliodor.scan import Axis, Profile, torsion_scan
from heliodor.scan.geometry import angles_of
from heliodor.units import KCAL_PER_MOL

TURN = Axis.over(-170.0, 190.0, 60.0)
FINE = Axis.over(-180.0, 180.0, 45.0)
DIHEDRAL = [(0, 1, 2, 3)]
TILTED = Chain(v=0.02, g=0.9, h=0.05, w=0.1)
"""Two lengths of the middle bond; the less stable one lasts beyond 90° before it slides into the other."""


@pytest.fixture(scope="module")
def mini() -> heliodor.Potential:
    return heliodor.load("heliodor-mini", device="cpu", dtype="float64")


@pytest.mark.parametrize("method", ["wavefront", "sweeps", "forward"])
def test_a_profile_known_on_paper(method):
    potential = Chain()
    scan = torsion_scan(chain(), potential, DIHEDRAL, axes=TURN, method=method, criteria="tight")
    known = potential.relaxed(TURN.angles)
    assert scan.complete
    assert not scan.failures
    np.testing.assert_allclose(scan.energies, known, atol=1e-7)
    np.testing.assert_allclose(scan.relative, known - known.min(), atol=1e-7)
    for angle, atoms in zip(TURN.angles, scan.structures, strict=True):
        stretch = -potential.g * np.cos(np.radians(angle)) / potential.k
        assert atoms.get_distance(1, 2) == pytest.approx(1.5 + stretch, abs=1e-4)
        assert (angles_of(atoms, scan.rotors)[0] - angle + 180.0) % 360.0 == pytest.approx(180.0, abs=1e-5)
    number = {"wavefront": 13, "sweeps": 13, "forward": 6}[method]
    assert len(scan.relaxations) == number


def test_an_open_range_is_walked_to_both_ends():
    axis = Axis.over(30.0, 150.0, 30.0)
    potential = Chain()
    for method, number in (("wavefront", 9), ("sweeps", 9), ("forward", 5)):
        scan = torsion_scan(chain(100.0), potential, DIHEDRAL, axes=axis, method=method)
        assert len(scan.relaxations) == number
        assert scan.relaxations[0].angles == (90.0,)
        assert not scan.missing
        known = potential.relaxed(axis.angles)
        np.testing.assert_allclose(scan.relative, known - known.min(), atol=1e-4)


def test_hysteresis_of_one_direction_is_removed_by_two():
    known = TILTED.relaxed(FINE.angles)
    one_way = torsion_scan(chain(), TILTED, DIHEDRAL, axes=FINE, method="forward")
    assert (one_way.energies - known).max() > 0.02
    for method in ("wavefront", "sweeps"):
        scan = torsion_scan(chain(), TILTED, DIHEDRAL, axes=FINE, method=method)
        np.testing.assert_allclose(scan.energies, known, atol=1e-4)


def test_two_dihedrals(mini):
    atoms = molecule("CH3OCH3")
    oxygen = int(atoms.symbols.search("O")[0])
    first, second = (int(c) for c in atoms.symbols.search("C"))
    ends = [min(int(h) for h in atoms.symbols.search("H") if atoms.get_distance(c, h) < 1.3) for c in (first, second)]
    dihedrals = [(ends[0], first, oxygen, second), (first, oxygen, second, ends[1])]
    axis = Axis.over(60.0, 180.0, 60.0)
    answers = iter([False] * 30)
    scan = torsion_scan(atoms, mini, dihedrals, axes=axis, stop=lambda: next(answers, True))
    assert not scan.complete
    assert scan.energies.shape == (3, 3)
    assert scan.angles[:4].tolist() == [[60.0, 60.0], [60.0, 120.0], [60.0, 180.0], [120.0, 60.0]]
    assert len(scan.relaxations) >= 2
    for one in scan.relaxations:
        off = (angles_of(one.atoms, scan.rotors) - one.angles + 180.0) % 360.0 - 180.0
        assert np.abs(off).max() < 1e-3
    for one in scan.relaxations[1:]:
        assert np.abs(np.subtract(one.point, scan.relaxations[one.source].point)).sum() == 1


def test_ethane_has_three_equal_barriers(mini, tmp_path):
    axis = Axis.over(-180.0, 180.0, 60.0)
    scan = torsion_scan(molecule("C2H6"), mini, [(2, 0, 1, 5)], axes=axis)
    barriers = Profile.of(scan).barriers()
    assert len(barriers) == 3
    heights = np.array([[b.forward, b.backward] for b in barriers]) / KCAL_PER_MOL
    assert np.ptp(heights) < 1e-3
    assert 1.0 < heights.mean() < 4.0
    assert [round(b.top.angle) % 120 for b in barriers] == [0, 0, 0]
    scan.write_structures(tmp_path / "ethane.xyz")
    frames = ase.io.read(tmp_path / "ethane.xyz", ":")
    again = heliodor.evaluate(mini, frames)
    np.testing.assert_allclose(again.energy.numpy(), scan.energies, atol=1e-9)
    stored = np.concatenate([frame.get_forces() for frame in frames])
    np.testing.assert_allclose(again.forces.numpy(), stored, atol=1e-6)
    for frame, angle in zip(frames, axis.angles, strict=True):
        assert frame.info["dihedral_deg"] == angle
        off = (frame.get_dihedral(2, 0, 1, 5) - angle + 180.0) % 360.0 - 180.0
        assert abs(off) < 1e-3


def test_the_profile_of_an_achiral_molecule_is_its_own_mirror_image(mini):
    atoms = molecule("CH3SH")
    sulphur = int(atoms.symbols.search("S")[0])
    carbon = int(atoms.symbols.search("C")[0])
    near = [h for h in atoms.symbols.search("H") if atoms.get_distance(h, sulphur) < 1.5]
    far = min(h for h in atoms.symbols.search("H") if atoms.get_distance(h, carbon) < 1.3)
    axis = Axis.over(-90.0, 90.0, 45.0)
    scan = torsion_scan(atoms, mini, [(int(far), carbon, sulphur, int(near[0]))], axes=axis)
    assert np.ptp(scan.relative) > 0.005
    np.testing.assert_allclose(scan.energies, scan.energies[::-1], atol=2e-5)


def test_a_killed_scan_goes_on_to_the_same_result(tmp_path):
    axis = Axis.over(-180.0, 180.0, 90.0)
    start = chain()
    start.info |= {"charge": -2.0, "comment": "not for the files"}
    whole = torsion_scan(start, Chain(), DIHEDRAL, axes=axis, record=tmp_path / "whole.xyz")
    record = tmp_path / "scan.xyz"
    asked = iter([False] * 12)
    part = torsion_scan(
        start, Chain(), DIHEDRAL, axes=axis, record=record, stop=lambda: next(asked, True), restart=False
    )
    assert not part.complete
    assert 0 < len(part.relaxations) < len(whole.relaxations)
    assert len(part.missing) > 0
    assert np.isnan(part.relative).sum() == len(part.missing)
    finished = record.read_bytes()
    assert (tmp_path / "whole.xyz").read_bytes().startswith(finished)
    # killed in the middle of a frame
    record.write_bytes(finished + b"4\nProperties=species:S:1:pos:R:3 scan=k0\nC 0.0 0.")
    told = []
    on = torsion_scan(
        start, Chain(), DIHEDRAL, axes=axis, record=record, restart=True, progress=lambda one, n: told.append(one)
    )
    assert on.complete
    assert len(told) == len(on.relaxations)
    np.testing.assert_array_equal(on.energies, whole.energies)
    assert record.read_bytes() == (tmp_path / "whole.xyz").read_bytes()
    assert [frame.info for frame in on.structures] == [frame.info for frame in whole.structures]
    assert on.structures[0].info == {"charge": -2.0, "dihedral_deg": -180.0}


def test_a_record_of_another_scan_is_refused(tmp_path):
    record = tmp_path / "scan.xyz"
    axis = Axis.over(150.0, 180.0, 30.0)
    torsion_scan(chain(), Chain(), DIHEDRAL, axes=axis, record=record)
    before = record.read_bytes()
    for potential, atoms, axes, method in (
        (Chain(v=0.3), chain(150.0), axis, "wavefront"),
        (Chain(), chain(), Axis.over(120.0, 180.0, 30.0), "wavefront"),
        (Chain(), chain(), axis, "sweeps"),
    ):
        with pytest.raises(InputError, match="belongs to another scan"):
            torsion_scan(atoms, potential, DIHEDRAL, axes=axes, method=method, record=record, restart=True)
        assert record.read_bytes() == before
    (tmp_path / "prose.xyz").write_text("1\nnothing of the kind\nC 0 0 0\n")
    with pytest.raises(InputError, match="is no record of a scan"):
        torsion_scan(chain(), Chain(), DIHEDRAL, axes=axis, record=tmp_path / "prose.xyz", restart=True)


def test_failed_relaxations_do_not_count(tmp_path):
    scan = torsion_scan(chain(), Chain(), DIHEDRAL, axes=TURN, criteria="tight", max_steps=6, method="forward")
    assert scan.complete
    for one in scan.failures:
        assert one.failure == "not converged after 6 steps"
    assert len(scan.missing) == len(scan.failures)
    with pytest.raises(SimulationError, match=r"the first relaxation, at -170°, failed: not converged after 1 steps"):
        torsion_scan(chain(175.0), Chain(), DIHEDRAL, axes=TURN, max_steps=1, record=tmp_path / "a.xyz")
    assert "failure=" in (tmp_path / "a.xyz").read_text()


def test_nothing_is_written_but_the_record(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    torsion_scan(chain(), Chain(), DIHEDRAL, axes=Axis.over(150.0, 180.0, 30.0))
    assert os.listdir(tmp_path) == []
    assert capfd.readouterr() == ("", "")


def test_what_cannot_be_scanned():
    atoms, potential = chain(), Chain()
    boxed = atoms.copy()
    boxed.set_cell([9.0, 9.0, 9.0])
    boxed.pbc = True
    for start, dihedrals, options, message in (
        (boxed, DIHEDRAL, {}, "is periodic"),
        (atoms, [], {}, "one or two dihedrals"),
        (atoms, [(0, 1, 2)], {}, "has four atoms"),
        (atoms, [(0, 1, 2, 4)], {}, "there is no atom 4; 4 atoms are counted from 0 to 3"),
        (atoms, [(-1, 0, 1, 2)], {}, "there is no atom -1"),
        (atoms, [(0, 1, 2, 1)], {}, "names an atom twice"),
        (atoms, [(0, 2, 1, 3)], {}, "atoms 0 and 2 are not bonded"),
        (atoms, [(0, 1, 2, 3), (3, 2, 1, 0)], {}, "turn the same bond"),
        (atoms, DIHEDRAL, {"method": "random"}, "method must be one of"),
        (atoms, DIHEDRAL, {"criteria": "loose"}, "criteria must be one of"),
        (atoms, DIHEDRAL, {"axes": [TURN, TURN]}, "as many grids"),
        (molecule("C6H6"), [(0, 1, 2, 3)], {}, "is in a ring"),
        (molecule("CH3CN"), [line_of(molecule("CH3CN"))], {}, "lie in a line"),
    ):
        with pytest.raises(InputError, match=message):
            torsion_scan(start, potential, dihedrals, **options)
    for low, high, step in ((0, 360, 50), (10, 0, 5), (0, 720, 15), (0, 90, 0), (0, 90, float("nan"))):
        with pytest.raises(InputError, match=r"do not divide|cannot scan"):
            Axis.over(low, high, step)


def line_of(atoms: ase.Atoms) -> tuple[int, ...]:
    """H-C-C-N of acetonitrile."""
    nitrogen = int(atoms.symbols.search("N")[0])
    middle, methyl = sorted((int(c) for c in atoms.symbols.search("C")), key=lambda c: atoms.get_distance(c, nitrogen))
    return int(atoms.symbols.search("H")[0]), methyl, middle, nitrogen


def test_a_record_is_written_by_one_process_at_a_time(tmp_path: Path):
    from heliodor.scan.record import Record

    with (
        Record(tmp_path / "a.xyz", "key", restart=False),
        pytest.raises(InputError, match="written by another process"),
    ):
        Record(tmp_path / "a.xyz", "key", restart=True)


def test_gains_too_small_to_pass_on_lose_nothing(monkeypatch):
    from heliodor.scan import drive
    from heliodor.scan.relax import Relaxed

    calls = []

    def slightly_lower_each_time(atoms, potential, rotors, angles, bonds, **options):
        calls.append(angles)
        energy = float(np.cos(np.radians(angles)).sum()) - 1e-6 * len(calls)
        return Relaxed(atoms.copy(), energy, np.zeros((len(atoms), 3)), 1, None)

    monkeypatch.setattr(drive, "relax_held", slightly_lower_each_time)
    axis = Axis.over(-180.0, 180.0, 30.0)
    scan = torsion_scan(chain(), Chain(), DIHEDRAL, axes=axis)
    assert scan.complete
    assert not scan.missing
    # each point once from either neighbour, the first also from the input
    assert len(calls) == 25
    five = ase.Atoms("C5", [[0, 0, 0], [1.5, 0, 0], [2.0, 1.4, 0], [3.5, 1.5, 0.3], [4.0, 2.9, 0.1]])
    calls.clear()
    map_ = torsion_scan(five, Chain(), [(0, 1, 2, 3), (1, 2, 3, 4)], axes=axis)
    assert not map_.missing
    assert len(calls) == 1 + 4 * 144
    assert map_.energies.shape == (12, 12)
