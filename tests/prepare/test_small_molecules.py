"""Molecules against what RDKit perceives in their bare coordinates, and against known conformer energies."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

pytest.importorskip("rdkit")

from heliodor.errors import InputError
from heliodor.prepare.molecules import atom_names, molecule, read_molecule
from heliodor.topology import NO_RESIDUE


def inchi_of_coordinates(prepared) -> str:
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDetermineBonds

    rows = [f"{a.symbol} {a.x:.5f} {a.y:.5f} {a.z:.5f}" for a in prepared.atoms]
    with rdBase.BlockLogs():
        mol = Chem.MolFromXYZBlock("\n".join([str(len(rows)), "", *rows]) + "\n")
        rdDetermineBonds.DetermineBonds(mol, charge=prepared.charge)
        return Chem.MolToInchi(mol)


def inchi(smiles: str) -> str:
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        return Chem.MolToInchi(Chem.MolFromSmiles(smiles))


@pytest.mark.parametrize(
    "smiles",
    [
        "CC(=O)Nc1ccc(O)cc1",
        "O",
        "C[N+](C)(C)C",
        "CC(=O)[O-]",
        "C[C@H](F)Cl",
        "C[C@@H](F)Cl",
        "C/C=C/C",
        r"C/C=C\C",
        "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
        "OC[C@H]1O[C@@H](O)[C@H](O)[C@@H](O)[C@@H]1O",
        "CS(C)=O",
        "[Cl-]",
    ],
)
def test_the_coordinates_hold_the_molecule(smiles):
    from rdkit import Chem

    made = molecule(smiles)[0]
    assert made.charge == Chem.GetFormalCharge(Chem.MolFromSmiles(smiles)) == made.atoms.info["charge"]
    if len(made.atoms) > 1:
        assert inchi_of_coordinates(made) == inchi(smiles)
    assert len(set(made.topology.names.tolist())) == len(made.atoms)
    assert set(made.topology.residue_names.tolist()) == {NO_RESIDUE}


@pytest.mark.parametrize(("smiles", "spin"), [("[CH3]", 1), ("[O][O]", 2), ("CC[O]", 1), ("C", 0)])
def test_radicals(smiles, spin):
    made = molecule(smiles)[0]
    assert made.atoms.info["spin"] == spin
    assert (int(made.atoms.numbers.sum()) - spin) % 2 == 0
    assert any("unpaired" in note for note in made.notes) == (spin > 0)


def test_conformers_of_butane():
    """Anti, and gauche twice (mirror images): 0.78 kcal/mol apart in MMFF94 (Halgren, J. Comput. Chem. 17, 490)."""
    made = molecule("CCCC", conformers=5)
    energies = [one.details["relative_energy_kcal_per_mol"] for one in made]
    # mirror images of four carbons are too close to count as two
    assert len(made) in (2, 3)
    assert energies[0] == 0.0
    assert energies[1:] == pytest.approx([0.78] * (len(made) - 1), abs=0.03)
    turns = [abs(one.atoms.get_dihedral(0, 1, 2, 3, mic=False)) for one in made]
    assert turns[0] == pytest.approx(180.0, abs=1.0)
    assert all(min(turn, 360.0 - turn) == pytest.approx(65.0, abs=3.0) for turn in turns[1:])
    assert any("only" in note for note in made[0].notes)


def test_conformers_are_distinct_and_sorted():
    from rdkit import Chem
    from rdkit.Chem import rdMolAlign

    made = molecule("CCCCCC", conformers=4)
    assert len(made) == 4
    energies = [one.details["relative_energy_kcal_per_mol"] for one in made]
    assert energies == sorted(energies)
    mols = []
    for one in made:
        mol = Chem.AddHs(Chem.MolFromSmiles("CCCCCC"))
        conformer = Chem.Conformer(mol.GetNumAtoms())
        conformer.SetPositions(one.atoms.positions)
        mol.AddConformer(conformer)
        mols.append(Chem.RemoveHs(mol))
    for i in range(4):
        for j in range(i):
            assert rdMolAlign.GetBestRMS(Chem.Mol(mols[i]), mols[j]) > 0.5


def test_the_lowest_is_lower_than_a_single_try():
    from rdkit import Chem
    from rdkit.Chem import AllChem

    smiles = "OCC(O)CO"
    made = molecule(smiles)[0]
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    energies = []
    for seed in range(1, 6):
        AllChem.EmbedMolecule(mol, randomSeed=seed)
        AllChem.MMFFOptimizeMolecule(mol, maxIters=5000, mmffVariant="MMFF94s")
        properties = AllChem.MMFFGetMoleculeProperties(mol, mmffVariant="MMFF94s")
        energies.append(AllChem.MMFFGetMoleculeForceField(mol, properties).CalcEnergy())
    mol.GetConformer().SetPositions(made.atoms.positions)
    assert AllChem.MMFFGetMoleculeForceField(mol, properties).CalcEnergy() <= min(energies) + 0.01


def test_open_stereochemistry_is_told():
    assert any("left open at atom C2" in note for note in molecule("CC(F)Cl")[0].notes)
    assert any("left open at the bond C2-C3" in note for note in molecule("CC=CC")[0].notes)
    assert not any("left open" in note for note in molecule("C[C@H](F)Cl")[0].notes)


def test_mdl_files(tmp_path):
    from rdkit import Chem
    from rdkit.Chem import AllChem

    mol = Chem.AddHs(Chem.MolFromSmiles("C[C@H](N)C(=O)O"))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    path = tmp_path / "alanine.sdf"
    path.write_text(Chem.MolToMolBlock(mol) + "$$$$\n" + Chem.MolToMolBlock(Chem.MolFromSmiles("C")) + "$$$$\n")
    made = molecule(path, name="ala")[0]
    # coordinates of a file in space stay as they are
    assert np.allclose(made.atoms.positions, mol.GetConformer().GetPositions(), atol=1e-4)
    assert any("holds 2 molecules" in note for note in made.notes)
    assert inchi_of_coordinates(made) == inchi("C[C@H](N)C(=O)O")
    assert set(made.topology.residue_names.tolist()) == {"ALA"}
    flat = tmp_path / "flat.mol"
    AllChem.Compute2DCoords(bare := Chem.MolFromSmiles("C[C@H](N)C(=O)O"))
    flat.write_text(Chem.MolToMolBlock(bare))
    assert inchi_of_coordinates(molecule(flat)[0]) == inchi("C[C@H](N)C(=O)O")


def test_atom_names_are_unique():
    assert atom_names(["C", "C", "Cl", "H", "H", "H"]) == ["C1", "C2", "CL", "H1", "H2", "H3"]


def test_the_same_seed_gives_the_same_structure():
    first, again = (molecule("CCCO", seed=5)[0] for _ in range(2))
    assert np.array_equal(first.atoms.positions, again.atoms.positions)
    assert Counter(first.topology.symbols.tolist()) == Counter({"C": 3, "O": 1, "H": 8})


@pytest.mark.parametrize(
    ("smiles", "said"),
    [
        ("", "empty SMILES"),
        ("CC(", "no valid SMILES"),
        ("c1ccccc", "no valid SMILES"),
        ("C(C)(C)(C)(C)C", "no valid SMILES"),
        ("C.C", "holds 2 molecules"),
        ("[Na+].[Cl-]", "holds 2 molecules"),
        ("C[Fe]", "metal Fe"),
        ("C[Zn]C", "metal Zn"),
        ("C*", "no element"),
        ("C" * 150, "at most 300"),
        ("missing.sdf", "cannot read missing.sdf"),
    ],
)
def test_what_cannot_be_built(smiles, said):
    with pytest.raises(InputError, match=said):
        read_molecule(smiles)


def test_broken_files_and_names(tmp_path):
    path = tmp_path / "broken.mol"
    path.write_text("nothing\n")
    with pytest.raises(InputError, match="holds no molecule"):
        molecule(path)
    path.write_text("")
    with pytest.raises(InputError, match="holds no molecule"):
        molecule(path)
    with pytest.raises(InputError, match="residue name"):
        molecule("C", name="too long")
    with pytest.raises(InputError, match="at least one conformer"):
        molecule("C", conformers=0)


@pytest.mark.parametrize(
    ("smiles", "name"),
    [("N#N", "N2"), ("O=C=O", "CO2"), ("S=C=S", "CS2"), ("O=S=O", "SO2"), ("O=C=S", "OCS"), ("[N-]=[N+]=O", "N2O"),
     ("[O][N]=O", "NO2"), ("[N]=O", "NO"), ("[C-]#[O+]", "CO"), ("C#N", "HCN"), ("[O][O]", "O2"), ("ClCl", "Cl2"),
     ("Cl", "HCl"), ("[O-][O+]=O", "O3"), ("OO", "H2O2"), ("[O-][S+](C)C", "C2H6SO"), ("C=C=C", "C3H4_D2d")],
)  # fmt: skip
def test_small_molecules_have_the_distances_of_quantum_chemistry(smiles, name):
    """MP2/6-31G* geometries of the G2 set (Curtiss et al. 1997), within 0.05 Å for all pairs of bonded atoms."""
    import ase.build

    from heliodor.topology import bonds_by_distance

    def lengths(atoms):
        found = [
            (tuple(sorted(atoms.numbers[[i, j]].tolist())), atoms.get_distance(i, j))
            for i, j in bonds_by_distance(atoms).tolist()
        ]
        return sorted(found)

    own, known = lengths(molecule(smiles)[0].atoms), lengths(ase.build.molecule(name))
    assert [pair for pair, _ in own] == [pair for pair, _ in known]
    assert [d for _, d in own] == pytest.approx([d for _, d in known], abs=0.05)


@pytest.mark.parametrize(("smiles", "length"), [("[N-]=[N+]=[N-]", 1.19), ("[C-]#N", 1.18), ("FS(F)(F)(F)(F)F", 1.56)])
def test_ions_and_octahedra(smiles, length):
    made = molecule(smiles)[0]
    assert [made.atoms.get_distance(i, j) for i, j in made.topology.bonds] == pytest.approx(
        [length] * len(made.topology.bonds), abs=0.02
    )


@pytest.mark.parametrize("smiles", ["IC(I)I", "F[C@](Cl)(Br)I", "ClP(Cl)(Cl)(Cl)Cl", "BrC(Br)(Br)Br"])
def test_large_atoms_on_a_small_one_are_not_bonded(smiles):
    made = molecule(smiles)[0]
    assert len(made.topology.bonds) == len(made.atoms) - 1


@pytest.mark.parametrize(
    "smiles", ["COP(=O)([O-])OCC", "COS(=O)(=O)[O-]", "CCN=[N+]=[N-]", "CC=[N+]=[N-]", "CC=C=C", "FS(F)(F)(F)(F)F"]
)
def test_where_there_is_one_form_only(smiles):
    assert not any("left open" in note for note in read_molecule(smiles).notes)


def test_sulfoxides_and_thiophosphates_have_two():
    assert any("left open at atom S" in note for note in read_molecule("CS(=O)CC").notes)
    assert any("left open at atom P" in note for note in read_molecule("COP(=O)([S-])OCC").notes)


def test_isotopes_are_told():
    made = molecule("[2H]O[2H]")[0]
    assert any("isotopes are not kept: 2 × 2H" in note for note in made.notes)
    assert made.atoms.get_masses().sum() == pytest.approx(18.015, abs=0.01)
