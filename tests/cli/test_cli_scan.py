"""heliodor scan: files written, going on, choice of the dihedral, refusals."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule

SHORT = ("--device", "cpu", "--range", "60:120", "--step", 30)
MOL2 = """@<TRIPOS>MOLECULE
water
 3 2 0 0 0
SMALL
NO_CHARGES

@<TRIPOS>ATOM
 1 O1 0.0000 0.0000 0.1193 O.3 1 WAT 0.0
 2 H1 0.0000 0.7632 -0.4770 H 1 WAT 0.0
 3 H2 0.0000 -0.7632 -0.4770 H 1 WAT 0.0
@<TRIPOS>BOND
 1 1 2 1
 2 1 3 1
"""


@pytest.fixture
def ethane(write) -> Path:
    return write("ethane.xyz", molecule("C2H6"))


def test_files_json_and_restart(cli, ethane):
    Path("reference.csv").write_text("angle,energy\n60,0.0\n80,0.4\n100,1.5\n120,2.0\n")
    answer = cli("scan", ethane, "--bond", "0,1", *SHORT, "--json")
    assert answer.code == 0, answer.err
    assert "dihedral     2-0-1-5 (H-C-C-H, now -180.0°), 60° to 120°, 3 points" in answer.err
    found = json.loads(answer.out)
    assert found["complete"] is True
    assert found["dihedrals"] == [[2, 0, 1, 5]]
    assert found["angles_deg"] == [[60.0], [90.0], [120.0]]
    assert found["missing_deg"] == []
    energies = found["relative_energy_kcal_per_mol"]
    assert energies[0] == 0.0
    assert 0.0 < energies[1] < energies[2] < 5.0
    assert sorted(p.name for p in Path().iterdir()) == sorted(
        ["ethane.xyz", "reference.csv", "scan.all.xyz", "scan.csv", "scan.png", "scan.xyz"]
    )
    frames = ase.io.read("scan.xyz", ":")
    assert [frame.info["dihedral_deg"] for frame in frames] == [60.0, 90.0, 120.0]
    # a restart of a finished scan relaxes nothing and says the same
    record = Path("scan.all.xyz").read_bytes()
    table = Path("scan.csv").read_bytes()
    again = cli("scan", ethane, "--bond", "0,1", *SHORT, "--restart")
    assert again.code == 0, again.err
    assert Path("scan.all.xyz").read_bytes() == record
    assert Path("scan.csv").read_bytes() == table
    assert "3 of 3" in again.out
    # without --restart nothing is touched
    refused = cli("scan", ethane, "--bond", "0,1", *SHORT)
    assert refused.code == 2
    assert "scan.all.xyz exists already: go on with --restart" in refused.error
    other = cli("scan", ethane, "--bond", "0,1", "--device", "cpu", "--range", "60:90", "--step", 30, "--restart")
    assert other.code == 2
    assert "belongs to another scan" in other.error
    assert Path("scan.all.xyz").read_bytes() == record


def test_a_profile_is_compared_with_a_reference(cli, ethane, write):
    write("reference.csv", "angle,energy\n60,0.0\n80,1.0\n100,6.0\n120,8.0\n")
    words = ("scan", ethane, "--dihedral", "2,0,1,5", "--device", "cpu", "--range", "60:120", "--step", 20)
    answer = cli(*words, "--sweeps", "--reference", "reference.csv", "--reference-unit", "kJ/mol")
    assert answer.code == 0, answer.err
    for piece in (
        "along and back",
        "height",
        "kcal/mol = ",
        "reference    height 2.084 kcal/mol: error",
        "profile RMSD",
    ):
        assert piece in answer.out
    with Path("scan.csv").open() as file:
        rows = list(csv.DictReader(file))
    units = ("kcal_per_mol", "kJ_per_mol")
    kcal, kj = (np.array([float(row[f"relative_energy_{unit}"]) for row in rows]) for unit in units)
    np.testing.assert_allclose(4.184 * kcal, kj, atol=1e-5)
    Path("scan.xyz").rename("geometries.xyz")
    answer = cli(*words, "--sweeps", "--restart", "--json", "--reference-geometries", "geometries.xyz")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["mean_rmsd_A"] == pytest.approx(0.0, abs=1e-6)


def test_interrupted(cli, ethane, monkeypatch):
    import heliodor.scan.drive

    whole, calls = heliodor.scan.drive.relax_held, []

    def three(*args, **options):
        calls.append(1)
        if len(calls) > 2:
            raise heliodor.scan.drive.Interrupted
        return whole(*args, **options)

    monkeypatch.setattr(heliodor.scan.drive, "relax_held", three)
    answer = cli("scan", ethane, "--bond", "0,1", *SHORT)
    assert answer.code == 130
    assert "go on        the same command with --restart" in answer.out
    assert "2 of 3" in answer.out
    assert len(ase.io.read("scan.all.xyz", ":")) == len(ase.io.read("scan.xyz", ":")) == 2
    monkeypatch.undo()


def test_points_without_structure_are_an_error(cli, ethane, monkeypatch):
    import heliodor.scan.drive

    whole = heliodor.scan.drive.relax_held

    def fails_at_60(atoms, potential, rotors, angles, bonds, **options):
        if angles == (60.0,):
            options["max_steps"] = 1
        return whole(atoms, potential, rotors, angles, bonds, **options)

    monkeypatch.setattr(heliodor.scan.drive, "relax_held", fails_at_60)
    answer = cli("scan", ethane, "--bond", "0,1", *SHORT)
    assert answer.code == 1
    assert "1 of 3 points have no relaxed structure (60°): not converged after 1 steps" in answer.error
    assert Path("scan.csv").read_text().splitlines()[1] == "60,,,"


def test_mol2_and_sdf(cli, write):
    from heliodor.cli.scan_input import read_molecule

    assert read_molecule(write("water.mol2", MOL2)).get_chemical_symbols() == ["O", "H", "H"]
    block = "\n  RDKit  3D\n\n  2  1  0  0  0  0  0  0  0  0999 V2000\n"
    block += "".join(f"{x:10.4f}{0:10.4f}{1:10.4f} {s:<3} 0  0\n" for x, s in ((0.0, "O"), (0.97, "H")))
    block += "  1  2  1  0\nM  CHG  1   1  -1\nM  END\n$$$$\n"
    path = write("two.sdf", block + block.replace("CHG  1   1  -1", "CHG  1   1   1").replace("0.9700", "1.1000"))
    first, last = read_molecule(path), read_molecule(path, -1)
    assert (first.info["charge"], last.info["charge"]) == (-1.0, 1.0)
    assert last.get_distance(0, 1) == pytest.approx(1.1)
    for name, content in (("bad.sdf", "nothing\n"), ("bad.mol2", "@<TRIPOS>MOLECULE\nx\n")):
        answer = cli("scan", write(name, content), "--dihedral", "0,1,2,3")
        assert answer.code == 2
        assert f"{name} cannot be read as" in answer.error


def test_bad_input_is_refused_in_one_line(cli, ethane, write):
    benzene = write("benzene.xyz", molecule("C6H6"))
    box = molecule("C2H6", vacuum=4.0)
    box.pbc = True
    boxed = write("box.extxyz", box)
    before = sorted(Path().iterdir())
    good = ("--dihedral", "2,0,1,5")
    for words, message in (
        ((ethane,), "no dihedrals were named"),
        ((ethane, *good, *good, *good), "3 dihedrals were named"),
        ((ethane, *good, "--bond", "0,1"), "turn the same bond"),
        ((ethane, "--dihedral", "2,0,1"), "--dihedral must be 4 atoms a,b,c,d"),
        ((ethane, "--dihedral", "2,0,1,9"), "there is no atom 9"),
        ((ethane, "--dihedral", "2,0,1,2"), "names an atom twice"),
        ((ethane, "--dihedral", "2,0,5,1"), "are not bonded"),
        ((ethane, "--bond", "2,3"), "there is no bond between atoms 2 and 3"),
        ((ethane, "--bond", "0,2"), "nothing but atom 0 is bonded to atom 2"),
        ((benzene, "--dihedral", "0,1,2,3"), "is in a ring and cannot be turned"),
        ((boxed, *good), "is periodic"),
        ((ethane, *good, "--step", 50), "do not divide"),
        ((ethane, *good, "--range", "0-90"), "--range must be LOW:HIGH"),
        ((ethane, *good, "--step", 10, "--step", 20), "--step must be given once"),
        ((ethane, *good, "--convergence", "loose"), "--convergence must be one of gau, tight"),
        ((ethane, *good, "--output", "scan.h5"), "end the name scan.h5 in .xyz"),
        ((ethane, *good, "--output", "ethane.xyz"), "exists already"),
        ((ethane, *good, "--output", "ethane.xyz", "--overwrite"), "is a file handed in"),
        ((ethane, *good, "--restart"), "which is not there"),
        ((ethane, *good, "--reference", "none.csv"), "there is no file none.csv"),
        ((ethane, *good, "--reference-geometries", benzene), "the atoms are not those of"),
        ((ethane, *good, "--charge", 1), "which cannot have 0 unpaired"),
    ):
        answer = cli("scan", *words, "--device", "cpu")
        assert answer.code == 2
        assert message in answer.error
        assert sorted(Path().iterdir()) == before


def test_geometric_is_named_where_it_is_missing(cli, ethane, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "geometric.engine", None)
    answer = cli("scan", ethane, "--bond", "0,1", *SHORT)
    assert answer.code == 2
    assert "pip install 'heliodor[scan]'" in answer.error
    assert [p.name for p in Path().iterdir()] == ["ethane.xyz"]
