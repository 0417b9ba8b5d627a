"""Secondary structure against reference strings and structures built to measure."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest
from protein_parts import alanines, from_mdtraj, written

from heliodor.analysis.proteins.secondary import secondary_structure, show
from heliodor.analysis.proteins.turns import bond_energy
from heliodor.errors import InputError
from support import DATA, shared

CLASS = {"H": "H", "G": "H", "I": "H", "E": "E", "B": "E"}
CRAMBIN = " EE SSHHHHHHHHHHHTTT  HHHHHHHHS EE SSS   GGG  "
"""1CRN by mkdssp 4.2.2."""


def three(row: np.ndarray) -> str:
    return "".join(CLASS.get(letter, "-") for letter in row)


def agreement(folder: Path, name: str, method: str, scratch: Path) -> tuple[int, int]:
    """Residues that agree with the reference in three classes, and all."""
    mdtraj = pytest.importorskip("mdtraj")
    loaded = mdtraj.load_pdb(str(folder / f"{name}.pdb.gz"))
    loaded = loaded.atom_slice(loaded.top.select("protein"))
    found = secondary_structure(from_mdtraj(loaded, scratch / f"{name}.xyz"), method)
    reference = (folder / f"{name}.pdb.dssp").read_text().split()[0]
    mine = three(found.letters[0])
    assert len(mine) == len(reference)
    return sum(a == b for a, b in zip(mine, reference, strict=True)), len(reference)


def test_crambin_letter_by_letter(tmp_path: Path) -> None:
    mdtraj = pytest.importorskip("mdtraj")
    loaded = mdtraj.load(str(shared("data/structures/proteins/1crn.pdb")))
    found = secondary_structure(from_mdtraj(loaded, tmp_path / "a.xyz"))
    assert "".join(found.letters[0]) == CRAMBIN.replace(" ", "C")
    like = secondary_structure(from_mdtraj(loaded, tmp_path / "a.xyz"), "stride-like")
    helix = np.array(list(CRAMBIN)) == "H"
    # the same helices, but for a residue at their ends
    assert ((like.letters[0] == "H") != helix).sum() <= 2


def test_stored_chains(tmp_path: Path) -> None:
    assert agreement(DATA / "dssp", "1i8nA", "dssp", tmp_path) == (89, 89)
    same, size = agreement(DATA / "dssp", "2xcjA", "dssp", tmp_path)
    assert same >= size - 2
    for name in ("1i8nA", "2xcjA"):
        same, size = agreement(DATA / "dssp", name, "stride-like", tmp_path)
        # DSSP and STRIDE agree in about 95 of 100 residues (Frishman & Argos 1995)
        assert same / size > 0.95


def test_reference_set(tmp_path: Path) -> None:
    folder = shared("data/dssp_reference")
    names = [path.name.split(".")[0] for path in sorted(folder.glob("*.pdb.dssp"))][::8]
    for method, least in (("dssp", 0.96), ("stride-like", 0.94)):
        counts = np.array([agreement(folder, name, method, tmp_path) for name in names])
        assert counts[:, 0].sum() / counts[:, 1].sum() > least


@pytest.mark.parametrize(
    ("phi", "psi", "dssp", "like"),
    [
        (-57.8, -47.0, "C" + "H" * 13 + "C", "C" + "H" * 13 + "C"),
        (-49.0, -26.0, "C" + "G" * 13 + "C", "C" + "G" * 13 + "C"),
        (-120.0, 120.0, "C" * 15, "C" * 15),
    ],
)
def test_regular_chains(phi: float, psi: float, dssp: str, like: str, tmp_path: Path) -> None:
    trajectory = written([alanines(np.full(15, phi), np.full(15, psi))] * 2, tmp_path / "a.xyz")
    assert ["".join(row) for row in secondary_structure(trajectory).letters] == [dssp] * 2
    assert ["".join(row) for row in secondary_structure(trajectory, "stride-like").letters] == [like] * 2


def test_the_wavy_form_is_turns_only_to_the_stride_like_letters(tmp_path: Path) -> None:
    """φ, ψ around 0 is between extended and helix in GEMS' folding; STRIDE calls it turn and DSSP nothing."""
    rng = np.random.default_rng(4)
    frames = [alanines(rng.uniform(-25, 25, 15), rng.uniform(-25, 25, 15)) for _ in range(2)]
    start = alanines(np.full(15, -57.8), np.full(15, -47.0))
    trajectory = written([start, *frames], tmp_path / "a.xyz")
    like = secondary_structure(trajectory, "stride-like").letters
    assert (like[1:, 1:-1] == "T").all()
    assert not np.isin(secondary_structure(trajectory).letters[1:], ["T", "H", "G", "E"]).any()


def test_energy_of_a_hydrogen_bond_along_its_coordinates() -> None:
    """C=O along x, N-H···O straight; the published function at marked points."""

    def energy(distance: float, angle: float = 0.0, out: float = 0.0, bend: float = 0.0) -> float:
        """H at ``angle`` from the axis C=O in the plane of CA, ``out`` of it; N-H bent by ``bend`` degrees."""
        a, b = np.radians(angle), np.radians(out)
        toward = np.array([np.cos(a) * np.cos(b), np.sin(a) * np.cos(b), np.sin(b)])
        side = np.cross(toward, [0.3, -0.5, 0.8])
        side /= np.linalg.norm(side)
        # N at the distance asked for from O, H on the line O-N or off it
        h = 0.66 * distance * toward
        n = distance * toward
        if bend:
            c = np.radians(bend)
            n = h + (distance - 0.66 * distance) * (np.cos(c) * toward + np.sin(c) * side)
        points = (n, h, np.array([-1.6, 1.4, 0.0]), np.array([-1.23, 0.0, 0.0]), np.zeros(3))
        return float(bond_energy(*(point[None] for point in points))[0])

    assert energy(3.0) == pytest.approx(-2.8 * 0.9)
    assert energy(3.0, angle=45.0) == pytest.approx(-2.8)
    assert energy(3.0, angle=45.0, out=60.0) == pytest.approx(-2.8 * 0.5, rel=0.02)
    assert energy(3.0, angle=111.0) == 0.0
    # continuous where the two forms of the angle meet
    assert energy(3.0, angle=89.99) == pytest.approx(energy(3.0, angle=90.01), rel=1e-3)
    assert energy(3.5, angle=45.0) == pytest.approx(-2.8 * (4 * (6 / 7) ** 6 - 3 * (6 / 7) ** 8))
    # no bond from an N-H that points away
    assert energy(3.0, bend=95.0) == 0.0


def test_show_and_its_words(tmp_path: Path) -> None:
    frames = [alanines(np.full(8, -57.8), np.full(8, -47.0)), alanines(np.full(8, -120.0), np.full(8, 120.0))]
    shown = show(written(frames * 10, tmp_path / "a.xyz"))
    assert [panel.heat is not None for panel in shown.panels] == [True, True]
    heat = shown.panels[0].heat
    assert heat is not None and heat.values.shape == (8, 20)
    assert heat.kinds[int(heat.values[3, 0])][0] == "H" and heat.kinds[int(heat.values[3, 1])][0] == "C"
    helix = next(number for number in shown.numbers if "DSSP" in number.name and "(H)" in number.name)
    assert helix.value == pytest.approx(100.0 * 6 / 8 / 2)
    assert shown.tables["secondary_structure_dssp"]["letters"][0] == "CHHHHHHC"
    with pytest.raises(InputError, match="method"):
        show(written(frames, tmp_path / "b.xyz"), method="strde")


def test_the_stride_program_is_asked_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in that writes STRIDE's lines; the real one cannot be shipped."""
    trajectory = written([alanines(np.full(4, -57.8), np.full(4, -47.0))], tmp_path / "a.xyz")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="not on the PATH"):
        secondary_structure(trajectory, "stride")
    program = tmp_path / "stride"
    line = "ASG  ALA A    1    1    T          Turn    360.00    -47.00      92.0      ~~~~"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    program.write_text(f'#!/bin/sh\nfor k in $(grep -c " CA " "$1" | xargs seq); do echo "{line}"; done\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    assert "".join(secondary_structure(trajectory, "stride").letters[0]) == "TTTT"
    program.write_text("#!/bin/sh\necho broken >&2\n")
    with pytest.raises(InputError, match="broken"):
        secondary_structure(trajectory, "stride")
