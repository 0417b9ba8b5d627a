"""What is missing in a file is built as nature has it; what a file leaves open is not misread."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from heliodor.errors import InputError
from heliodor.prepare.alternates import Alternate, best_conformers
from heliodor.prepare.pdb import Choices, prepare_file
from heliodor.prepare.peptides import handedness
from support import DATA

CRAMBIN = DATA / "prepare" / "1crn.pdb"
TEXT = CRAMBIN.read_text().splitlines()
ATOMS = [line for line in TEXT if line.startswith("ATOM")]
SEQUENCE = [line for line in TEXT if line.startswith("SEQRES")]
BACKBONE = ("N", "CA", "C", "O")


def number(line: str) -> int:
    return int(line[22:26])


def written(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join([*lines, "END", ""]))
    return path


def omegas(prepared) -> list[float]:
    import mdtraj

    names = ("CA", "C", "N", "CA")
    topology, found = prepared.topology, []
    x = prepared.atoms.positions
    at = {(int(r), str(n)): k for k, (r, n) in enumerate(zip(topology.residues, topology.names, strict=True))}
    for r in range(int(topology.residues.max())):
        keys = [(r + (k > 1), name) for k, name in enumerate(names)]
        if all(key in at for key in keys):
            found.append([at[key] for key in keys])
    frame = mdtraj.Trajectory(x[None] / 10.0, None)
    return np.degrees(mdtraj.compute_dihedrals(frame, np.array(found)))[0].tolist()


def test_built_side_chains_are_those_of_l_amino_acids(tmp_path: Path) -> None:
    kinds = ("THR", "ILE", "PHE", "ARG", "GLU")
    left = [line for line in ATOMS if line[17:20] not in kinds or line[12:16].strip() in BACKBONE]
    made = prepare_file(written(tmp_path / "side.pdb", left), model=None)
    volumes = handedness(made)
    assert (volumes[np.isfinite(volumes)] > 1.0).all()
    whole = prepare_file(CRAMBIN, Choices(minimise=False), model=None)
    for residue, names in (("THR", ("CA", "OG1", "CG2")), ("ILE", ("CA", "CG1", "CG2"))):
        signs = [_signs(one, residue, names) for one in (made, whole)]
        assert signs[0] == signs[1]
        assert len(signs[0]) > 3


def _signs(prepared, residue: str, names: tuple[str, ...]) -> list[bool]:
    topology, x = prepared.topology, prepared.atoms.positions
    found = []
    for r in np.unique(topology.residues[topology.residue_names == residue]):
        at = {str(topology.names[k]): k for k in np.flatnonzero(topology.residues == r)}
        a, b, c = (x[at[name]] - x[at["CB"]] for name in names)
        found.append(bool(np.dot(a, np.cross(b, c)) > 0.0))
    return found


def test_built_loops_are_l_and_trans(tmp_path: Path) -> None:
    lines = [*SEQUENCE, *(line for line in ATOMS if number(line) not in (35, 36, 37, 38))]
    made = prepare_file(written(tmp_path / "loop.pdb", lines), Choices(build=4), model=None)
    volumes = handedness(made)
    assert (volumes[np.isfinite(volumes)] > 1.0).all()
    assert min(abs(omega) for omega in omegas(made)) > 140.0


def test_loops_are_built_in_their_own_chain(tmp_path: Path) -> None:
    """Two equal chains; A has a short gap to be built and a longer one to be split at, B has none."""
    gaps = (21, 22, *range(34, 40))
    lines = [*SEQUENCE, *(line.replace(" A ", " B ", 1) for line in SEQUENCE)]
    lines += [line for line in ATOMS if number(line) not in gaps]
    lines += [f"{line[:21]}B{line[22:30]}{float(line[30:38]) + 60.0:8.3f}{line[38:]}" for line in ATOMS]
    made = prepare_file(written(tmp_path / "two.pdb", lines), Choices(build=2, split=True), model=None)
    assert len(np.unique(made.topology.residues)) == 46 - 6 + 46
    counts = {str(c): len(np.unique(made.topology.residues[made.topology.chains == c])) for c in "AB"}
    assert counts == {"A": 33, "B": 46}


def _alternates(*occupancies: tuple[str, float]) -> list[Alternate]:
    return [Alternate(name, occupancy, np.zeros(3)) for name, occupancy in occupancies]


def test_occupancy_decides_and_not_the_number_of_atoms() -> None:
    small = _alternates(*((name, 0.6) for name in ("N", "CA", "C", "O", "CB")))
    large = _alternates(*((name, 0.4) for name in ("N", "CA", "C", "O", "CB", "CG", "CD1", "CD2", "CE1", "CE2", "CZ")))
    place = ("A", "45")
    assert best_conformers({place: {("A", "PHE"): large, ("B", "ALA"): small}})[place] == ("B", "ALA")
    same = {("B", "SER"): _alternates(("OG", 0.5)), ("A", "SER"): _alternates(("OG", 0.5))}
    assert best_conformers({place: same})[place] == ("A", "SER")


def test_both_cysteines_of_a_disulfide_take_one_letter() -> None:
    def cysteine(x: float, occupancy: float) -> list[Alternate]:
        return [Alternate("SG", occupancy, np.array([x, 0.0, 0.0]))]

    places = {
        ("A", "3"): {("A", "CYS"): cysteine(0.0, 0.7), ("B", "CYS"): cysteine(10.0, 0.3)},
        ("A", "40"): {("A", "CYS"): cysteine(2.0, 0.45), ("B", "CYS"): cysteine(12.0, 0.55)},
    }
    assert {letter for letter, _ in best_conformers(places).values()} == {"A"}


def test_rings_are_refused(tmp_path: Path) -> None:
    """The last C of an extended chain moved to where the first N is bonded to it."""
    first = next(np.array([float(line[k : k + 8]) for k in (30, 38, 46)]) for line in ATOMS if line[12:16] == " N  ")
    moved = []
    for line in ATOMS:
        if number(line) == 46 and line[12:16] == " C  ":
            line = f"{line[:30]}{first[0] + 1.33:8.3f}{first[1]:8.3f}{first[2]:8.3f}{line[54:]}"
        moved.append(line)
    path = written(tmp_path / "ring.pdb", moved)
    for caps in (False, True):
        with pytest.raises(InputError, match=r"A THR 1 N and A ASN 46 C are bonded \(1.33 Å\): cyclic"):
            prepare_file(path, Choices(caps=caps), model=None)


def test_states_the_force_field_has_not(tmp_path: Path) -> None:
    reduced = [line for line in ATOMS if number(line) in range(1, 4)]
    basic = prepare_file(written(tmp_path / "cys.pdb", reduced), Choices(ph=9.0, minimise=False), model=None)
    assert any("1 CYS keep their thiol proton" in note for note in basic.notes)
    assert any("1 amino ends stay NH3+" in note for note in basic.notes)
    acid = prepare_file(
        written(tmp_path / "glu.pdb", [line for line in ATOMS if 23 <= number(line) <= 25]),
        Choices(ph=2.0, minimise=False),
        model=None,
    )
    assert acid.charge == -1
    assert any("A GLU 23 (not GLH)" in note for note in acid.notes)
    assert any("1 carboxyl ends stay COO-" in note for note in acid.notes)
    with pytest.raises(InputError, match="A GLU 23 is a free end of its chain"):
        prepare_file(tmp_path / "glu.pdb", Choices(protonation="GLU 23=GLH"), model=None)


def test_glycosylated_asparagine_is_no_leucine(tmp_path: Path) -> None:
    lines = [line.replace("ASN", "NLN") if number(line) == 14 else line for line in ATOMS]
    made = prepare_file(written(tmp_path / "nln.pdb", lines), Choices(replace=True, minimise=False), model=None)
    assert set(made.topology.residue_names[made.topology.residue_numbers == 14].tolist()) == {"ASN"}
