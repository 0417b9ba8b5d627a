"""PDB and mmCIF files: what is added, decided, left out and refused, against what is known of these molecules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

import heliodor
from heliodor.errors import InputError, ModelError
from heliodor.prepare.pdb import Choices, prepare_file
from heliodor.prepare.relax import Equilibration
from heliodor.prepare.solvate import Solvent
from heliodor.topology import bonds_by_distance
from support import DATA, shared

CRAMBIN = DATA / "prepare" / "1crn.pdb"
TEN = DATA / "prepare" / "crambin_1-10.pdb"
LINES = [line for line in TEN.read_text().splitlines() if line.startswith("ATOM")]


def number(line: str) -> int:
    return int(line[22:26])


@pytest.fixture
def file(tmp_path: Path) -> Callable[[Sequence[str]], Path]:
    def write(lines: Sequence[str], name: str = "made.pdb") -> Path:
        path = tmp_path / name
        path.write_text("\n".join([*lines, "END", ""]))
        return path

    return write


@pytest.fixture(scope="module")
def crambin():
    return prepare_file(CRAMBIN, model="heliodor-mini")


def said(prepared, words: str) -> bool:
    return any(words in note for note in prepared.notes)


def test_crambin_as_it_is_known(crambin) -> None:
    """642 atoms, neutral (Arg 10, Arg 17, N end against Glu 23, Asp 43, C end), three disulfides."""
    assert crambin.atoms.get_chemical_formula() == "C202H315N55O64S6"
    assert crambin.charge == 0
    assert [q for _, q in crambin.charged] == [1, 1, 1, -1, -1, -1]
    topology = crambin.topology
    bridges = {
        tuple(sorted(topology.residue_numbers[[i, j]].tolist()))
        for i, j in topology.bonds
        if (topology.numbers[[i, j]] == 16).all()
    }
    assert bridges == {(3, 40), (4, 32), (16, 26)}
    # bonds by chemistry are those by distance
    assert topology.bonds.tolist() == bonds_by_distance(crambin.atoms).tolist()
    assert not crambin.atoms.pbc.any()


def test_the_model_finds_crambin_relaxed(crambin) -> None:
    found = heliodor.evaluate("heliodor-mini", crambin.atoms)
    forces = np.linalg.norm(found.forces.numpy(), axis=1)
    assert np.isfinite(forces).all()
    assert forces.max() < 5.0


def test_the_crystal_is_held(crambin) -> None:
    wanted = {
        (int(line[22:26]), line[12:16].strip()): np.array([float(line[k : k + 8]) for k in (30, 38, 46)])
        for line in CRAMBIN.read_text().splitlines()
        if line.startswith("ATOM")
    }
    topology = crambin.topology
    heavy = np.flatnonzero(topology.numbers > 1)
    keys = [(int(topology.residue_numbers[k]), str(topology.names[k])) for k in heavy]
    assert set(keys) == set(wanted)
    moved = np.linalg.norm(crambin.atoms.positions[heavy] - np.array([wanted[key] for key in keys]), axis=1)
    assert 0.0 < moved.max() < 0.5


@pytest.mark.parametrize(
    ("name", "charge", "atoms"),
    [
        ("ubiquitin_1d3z_model1.pdb", 0, 1231),
        ("bpti_1pit_model1.pdb", 6, 892),
        ("chignolin_ai2bmd.pdb", -2, 175),
        ("trpcage_ai2bmd.pdb", -1, 281),
    ],
)
def test_charges_of_known_proteins(name: str, charge: int, atoms: int) -> None:
    """By counting the side chains of their sequences at pH 7 (the last two are capped; Trp-cage with Lys 8 to Ala)."""
    made = prepare_file(shared(f"data/structures/proteins/{name}"), Choices(minimise=False))
    assert (made.charge, len(made.atoms)) == (charge, atoms)


def test_dna_carries_one_charge_a_phosphate() -> None:
    made = prepare_file(shared("data/structures/nucleic/1bna_biotite.pdb"), Choices(minimise=False))
    assert made.charge == -22 == -int((made.topology.numbers == 15).sum())
    assert said(made, "80 waters of the file left out")


def test_mmcif_gives_the_same(tmp_path: Path, crambin) -> None:
    from openmm.app import PDBFile, PDBxFile

    read = PDBFile(str(CRAMBIN))
    path = tmp_path / "1crn.cif"
    with path.open("w") as file:
        PDBxFile.writeFile(read.topology, read.positions, file, keepIds=True)
    made = prepare_file(path, Choices(minimise=False))
    assert made.topology.names.tolist() == crambin.topology.names.tolist()
    assert made.topology.residue_numbers.tolist() == crambin.topology.residue_numbers.tolist()


def test_the_best_occupied_conformer_is_kept(file) -> None:
    lines = []
    for line in LINES:
        if number(line) == 7 and line[12:16].strip() in ("CB", "CG1", "CG2", "CD1"):
            other = f"{line[:16]}A{line[17:30]}{float(line[30:38]) + 1.0:8.3f}{line[38:54]}  0.40{line[60:]}"
            lines += [other, f"{line[:16]}B{line[17:54]}  0.60{line[60:]}"]
        else:
            lines.append(line)
    made = prepare_file(file(lines), Choices(minimise=False))
    plain = prepare_file(TEN, Choices(minimise=False))
    heavy = plain.topology.numbers > 1
    np.testing.assert_allclose(made.atoms.positions[heavy], plain.atoms.positions[heavy], atol=1e-3)
    assert said(made, "alternate locations in 1 residues: the best occupied is kept, 4 atoms left out")


def test_missing_atoms_are_built(file) -> None:
    left = [line for line in LINES if not (number(line) == 7 and line[12:16].strip() in ("CG1", "CD1"))]
    made = prepare_file(file(left))
    assert made.atoms.get_chemical_formula() == prepare_file(TEN, Choices(minimise=False)).atoms.get_chemical_formula()
    assert said(made, "2 missing heavy atoms built: A ILE 7 (CG1 CD1)")


def test_models_placeholders_and_metals_are_told(file) -> None:
    zinc = "HETATM  900 ZN    ZN A 900      30.000  20.000   5.000  1.00  0.00          ZN"
    cell = "CRYST1    1.000    1.000    1.000  90.00  90.00  90.00 P 1           1"
    other = [f"{line[:30]}{float(line[30:38]) + 50.0:8.3f}{line[38:]}" for line in LINES]
    lines = [cell, "MODEL        1", *LINES, zinc, "ENDMDL", "MODEL        2", *other, zinc, "ENDMDL"]
    path = file(lines)
    first = prepare_file(path, Choices(minimise=False))
    second = prepare_file(path, Choices(minimise=False, model_number=2))
    assert said(first, "2 models in the file: model 1")
    assert said(first, "placeholder")
    assert said(first, "ions left out: A ZN 900")
    assert not first.atoms.pbc.any()
    heavy = first.topology.numbers > 1
    shift = (second.atoms.positions - first.atoms.positions)[heavy]
    np.testing.assert_allclose(shift, np.tile([50.0, 0.0, 0.0], (len(shift), 1)), atol=0.3)
    with pytest.raises(ModelError, match=r"1 Zn in ZN; ways out: \(1\) leave --keep-ions out"):
        prepare_file(path, Choices(ions=True), model="heliodor-mini")
    with pytest.raises(InputError, match="there is no model 7"):
        prepare_file(path, Choices(model_number=7))


def test_broken_chains(file) -> None:
    broken = [line for line in CRAMBIN.read_text().splitlines() if line.startswith("SEQRES")]
    atoms = [line for line in CRAMBIN.read_text().splitlines() if line.startswith("ATOM")]
    broken += [line for line in atoms if not 21 <= number(line) <= 22]
    path = file(broken)
    with pytest.raises(InputError, match=r"A GLY 20 to A GLU 23 .*2 residues missing.*--split-at-gaps"):
        prepare_file(path)
    built = prepare_file(path, Choices(build=2))
    assert built.atoms.get_chemical_formula() == "C202H315N55O64S6"
    split = prepare_file(path, Choices(split=True, minimise=False))
    assert len(np.unique(split.topology.chains)) == 2
    # two more ends, without Thr 21 and Pro 22: nothing is bonded across the gap
    longest = split.atoms.positions[split.topology.bonds[:, 0]] - split.atoms.positions[split.topology.bonds[:, 1]]
    assert np.linalg.norm(longest, axis=1).max() < 2.2
    assert split.charge == 0


def test_states_and_caps(file) -> None:
    capped = prepare_file(TEN, Choices(caps=True))
    assert capped.charge == 1  # Arg 10 alone
    assert {"ACE", "NME"} <= set(capped.topology.residue_names.tolist())
    asked = prepare_file(CRAMBIN, Choices(protonation="A:GLU 23=GLH, 43=ASH", minimise=False))
    assert asked.charge == 2
    acid = prepare_file(CRAMBIN, Choices(ph=2.0, minimise=False))
    assert acid.charge == 2  # Glu 23 and Asp 43; ends of chains stay charged
    for text, words in (("A:HIS 15=HIE", "no residue A:HIS 15"), ("ARG 10=ASH", "cannot be ASH"), ("x", "cannot read")):
        with pytest.raises(InputError, match=words):
            prepare_file(TEN, Choices(protonation=text))
    named = [line.replace("GLU", "GLH") for line in CRAMBIN.read_text().splitlines() if line.startswith("ATOM")]
    assert prepare_file(file(named), Choices(minimise=False)).charge == 1


PHENOL = """\
C1 -0.94 -1.07 C2 0.45 -1.31 C3 1.33 -0.24 C4 0.83 1.06 C5 -0.55 1.31 C6 -1.43 0.24 O1 -2.79 0.46"""


def test_ligands(file) -> None:
    words = PHENOL.split()
    ligand = [
        f"HETATM{900 + k:5d}  {name:<3s} LIG A 900    {float(x):8.3f}{float(y) - 9.0:8.3f}{-8.0:8.3f}  1.00  0.00"
        f"          {name[0]:>2s}"
        for k, (name, x, y) in enumerate(zip(words[::3], words[1::3], words[2::3], strict=True))
    ]
    path = file([*LINES, *ligand])
    assert said(prepare_file(path, Choices(minimise=False)), "other residues left out: A LIG 900")
    for smiles, charge in (("Oc1ccccc1", 0), ("[O-]c1ccccc1", -1)):
        made = prepare_file(path, Choices(smiles={"LIG": smiles}))
        place = made.topology.residue_names == "LIG"
        assert made.charge == 1 + charge
        assert int(place.sum()) == 13 + charge
        own = made.topology.take(np.flatnonzero(place))
        assert len(own.bonds) == 13 + charge
        found = made.atoms[np.flatnonzero(place & (made.topology.numbers > 1))].positions[:, :2]
        wanted = np.array([[float(x), float(y) - 9.0] for x, y in zip(words[1::3], words[2::3], strict=True)])
        np.testing.assert_allclose(found, wanted, atol=1e-3)
    with pytest.raises(InputError, match=r"no hydrogens.*--ligand 'LIG=SMILES'"):
        prepare_file(path, Choices(ligands=True))
    with pytest.raises(InputError, match="the SMILES has 2 heavy atoms"):
        prepare_file(path, Choices(smiles={"LIG": "CC"}))
    with pytest.raises(InputError, match="--ligand: there is no residue XYZ"):
        prepare_file(path, Choices(smiles={"XYZ": "CC"}))


def test_charges_the_model_or_its_ions_cannot_have(mace_model: heliodor.Potential) -> None:
    with pytest.raises(ModelError, match=r"no notion of charge.*A GLU 23 \(-1\).*--caps both"):
        prepare_file(CRAMBIN, model=mace_model)
    with pytest.raises(ModelError, match=r"would need Na\+.*--no-neutralise"):
        prepare_file(TEN, Choices(solvent=Solvent(margin=3.0, salt=0.2)), model="heliodor-mini")


@pytest.fixture(scope="module")
def mace_model(tmp_path_factory: pytest.TempPathFactory) -> heliodor.Potential:
    import lzma

    path = tmp_path_factory.mktemp("mace") / "small.model"
    path.write_bytes(lzma.decompress((DATA / "mace" / "vector.model.xz").read_bytes()))
    return heliodor.load(path, device="cpu")


def test_an_equilibration_moves_everything_and_the_box() -> None:
    short = Equilibration(heating=0.1, pressing=0.3, releasing=0.1)
    choices = Choices(caps=True, solvent=Solvent(margin=2.0), equilibration=short, seed=3)
    told: list[str] = []
    made = prepare_file(TEN, choices, progress=lambda what, part: told.append(what))
    assert list(dict.fromkeys(told)) == ["adding water", "minimising", "heating", "finding the volume", "releasing"]
    filled = made.details["solvent"]["box_A"]
    assert made.charge == 0
    # the barostat has moved the box, and by no more than a fraction of a picosecond can
    assert 1e-3 < abs(made.atoms.cell.lengths().max() - filled[0]) < 1.0
    bonds = made.atoms.positions[made.topology.bonds[:, 0]] - made.atoms.positions[made.topology.bonds[:, 1]]
    assert np.linalg.norm(bonds, axis=1).max() < 2.2
