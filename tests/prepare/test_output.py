"""What is written is what other programs read: names, elements, residues, bonds and box."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest

from heliodor.errors import InputError
from heliodor.prepare.output import output_paths, write_prepared
from heliodor.prepare.prepared import Prepared, from_openmm, to_openmm
from heliodor.topology import Topology, topology_of


def waters(n: int, residue: str = "HOH") -> Prepared:
    """Water molecules on a grid, all in one chain and numbered from 1, whatever a PDB file can hold."""
    edge = int(np.ceil(n ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(edge)] * 3, indexing="ij"), -1).reshape(-1, 3)[:n] * 3.0
    shape = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    positions = (grid[:, None] + shape).reshape(-1, 3)
    first = 3 * np.arange(n)
    bonds = np.stack([np.repeat(first, 2), np.stack([first + 1, first + 2], 1).ravel()], 1)
    topology = Topology(
        numbers=np.tile([8, 1, 1], n),
        names=np.tile(["O", "H1", "H2"], n),
        residue_names=np.full(3 * n, residue),
        residue_numbers=np.repeat(np.arange(1, n + 1), 3),
        chains=np.full(3 * n, "A"),
        bonds=bonds,
        named=True,
    )
    box = 3.0 * edge * np.eye(3)
    return Prepared(ase.Atoms(numbers=topology.numbers, positions=positions, cell=box, pbc=True), topology, 0)


@pytest.mark.parametrize("n", [40, 34_000])
def test_other_programs_read_the_same(n: int, tmp_path: Path) -> None:
    """Beyond 9,999 residues and 99,999 atoms too."""
    import MDAnalysis
    import mdtraj
    from openmm.app import PDBFile

    xyz, pdb = write_prepared(waters(n), tmp_path / "box")
    written = ase.io.read(xyz)
    with warnings.catch_warnings():
        # MDAnalysis' own remarks, on its use of numpy and on columns of charges that are empty
        warnings.simplefilter("ignore")
        of_mdanalysis = MDAnalysis.Universe(str(pdb)).atoms
        of_mdtraj = mdtraj.load(str(pdb))
    of_openmm = PDBFile(str(pdb))
    names, numbers, chains = (written.arrays[key] for key in ("atom_name", "residue_number", "chain"))
    assert len(written) == 3 * n
    assert numbers.max() <= 9999
    # one residue a molecule: no two neighbours became one
    assert len(np.unique(topology_of(written).residues)) == n
    for residues in (of_mdtraj.topology.n_residues, of_openmm.topology.getNumResidues(), of_mdanalysis.n_residues):
        assert residues == n
    assert [atom.name for atom in of_openmm.topology.atoms()] == names.tolist()
    assert [int(atom.residue.id) for atom in of_openmm.topology.atoms()] == numbers.tolist()
    assert [atom.residue.chain.id for atom in of_openmm.topology.atoms()] == chains.tolist()
    assert of_mdanalysis.names.tolist() == names.tolist()
    assert of_mdanalysis.resids.tolist() == numbers.tolist()
    assert of_mdanalysis.chainIDs.tolist() == chains.tolist()
    assert [atom.residue.resSeq for atom in of_mdtraj.topology.atoms] == numbers.tolist()
    assert of_mdtraj.topology.n_bonds == of_openmm.topology.getNumBonds() == 2 * n
    np.testing.assert_allclose(of_mdtraj.xyz[0] * 10.0, written.positions, atol=6e-4)
    np.testing.assert_allclose(of_mdanalysis.positions, written.positions, atol=6e-4)
    np.testing.assert_allclose(10.0 * of_mdtraj.unitcell_lengths[0], written.cell.lengths(), atol=1e-3)


def test_bonds_of_unknown_residues_are_written(tmp_path: Path) -> None:
    from openmm.app import PDBFile

    pdb = write_prepared(waters(20, "XYZ"), tmp_path / "box")[1]
    bonds = {(bond[0].index, bond[1].index) for bond in PDBFile(str(pdb)).topology.bonds()}
    assert {tuple(sorted(bond)) for bond in bonds} == {tuple(bond) for bond in waters(20).topology.bonds.tolist()}


def bonds_read(pdb: Path) -> list[set[tuple[int, int]]]:
    """By MDTraj, MDAnalysis (nothing guessed) and OpenMM."""
    import MDAnalysis
    import mdtraj
    from openmm.app import PDBFile

    with warnings.catch_warnings():
        # MDAnalysis' own remarks, on its use of numpy and on columns of charges that are empty
        warnings.simplefilter("ignore")
        bonds = getattr(MDAnalysis.Universe(str(pdb)), "bonds", ())
        of_mdanalysis = {tuple(sorted(bond.indices.tolist())) for bond in bonds}
        of_mdtraj = {tuple(sorted((a.index, b.index))) for a, b in mdtraj.load(str(pdb)).topology.bonds}
    of_openmm = {tuple(sorted((a.index, b.index))) for a, b in PDBFile(str(pdb)).topology.bonds()}
    return [of_mdtraj, of_mdanalysis, of_openmm]


def polymers() -> Prepared:
    """Every amino acid and nucleotide of the force field at both ends of a chain and within one, in no shape at all."""
    from openmm.app import Topology as Made
    from openmm.app.element import Element

    from heliodor.prepare.relax import force_field

    field = force_field("amber99sb-ildn")
    middle = "ALA ARG ASH ASN ASP CYM CYX GLH GLN GLU GLY HID HIE HIP ILE LEU LYN LYS MET PHE PRO SER THR TRP TYR VAL"
    chains = [["NPRO", *middle.split(), "CPRO"], ["NALA", "CALA"], ["ACE", "ALA", "NME"]]
    chains += [["DA5", "DC", "DG", "DT", "DA3"], ["A5", "C", "G", "U", "A3"]] if "DA5" in field._templates else []
    assert len(chains) == 5
    made, atoms = Made(), []
    for names in chains:
        chain, last = made.addChain(), None
        for number, name in enumerate(names, 1):
            template = field._templates.get(name) or field._templates["R" + name]
            plain = name[1:] if len(name) == 4 else name.rstrip("35")
            residue = made.addResidue(plain, chain, str(number))
            own = {a.name: made.addAtom(a.name, Element.getBySymbol(a.element.symbol), residue) for a in template.atoms}
            atoms += own.values()
            for i, j in template.bonds:
                made.addBond(own[template.atoms[i].name], own[template.atoms[j].name])
            if last is not None:
                made.addBond(last["C" if "C" in last and "C1'" not in last else "O3'"], own["N" if "N" in own else "P"])
            last = own
    positions = 0.5 * np.stack(np.meshgrid(*[np.arange(14.0)] * 3, indexing="ij"), -1).reshape(-1, 3)[: len(atoms)]
    return from_openmm(made, positions, charge=0)


def test_all_bonds_of_polymers_are_read(tmp_path: Path) -> None:
    """Of hydrogens at the ends, of neutral acids and lysine, from one nucleotide to the next."""
    made = polymers()
    bonds = {tuple(bond) for bond in made.topology.bonds.tolist()}
    assert bonds_read(write_prepared(made, tmp_path / "polymers")[1]) == [bonds] * 3


def test_bonds_below_99_999_atoms_are_read_from_larger_files(tmp_path: Path) -> None:
    """Three hundred molecules no reader knows before 34,000 waters, and as many behind them, which is told."""
    solvent, unknown = waters(34_000), waters(300, "XYZ")
    first = Prepared(unknown.atoms + solvent.atoms, joined(unknown.topology, solvent.topology), 0)
    pdb = write_prepared(first, tmp_path / "first")[1]
    own = {tuple(bond) for bond in unknown.topology.bonds.tolist()}
    everything = {tuple(bond) for bond in first.topology.bonds.tolist()}
    assert bonds_read(pdb) == [everything, own, everything]
    assert "no CONECT" not in output_paths(tmp_path / "first")[2].read_text()
    last = Prepared(solvent.atoms + unknown.atoms, joined(solvent.topology, unknown.topology), 0)
    pdb = write_prepared(last, tmp_path / "last")[1]
    known = {tuple(bond) for bond in solvent.topology.bonds.tolist()}
    assert bonds_read(pdb) == [known, set(), known]
    assert "600 bonds have no CONECT record" in output_paths(tmp_path / "last")[2].read_text()


def joined(first: Topology, second: Topology) -> Topology:
    return Topology(
        numbers=np.concatenate([first.numbers, second.numbers]),
        names=np.concatenate([first.names, second.names]),
        residue_names=np.concatenate([first.residue_names, second.residue_names]),
        residue_numbers=np.concatenate([first.residue_numbers, second.residue_numbers]),
        chains=np.concatenate([np.full(len(first), "B"), np.full(len(second), "C")]),
        bonds=np.concatenate([first.bonds, second.bonds + len(first)]),
        named=True,
    )


def test_there_and_back_by_openmm() -> None:
    made = waters(5)
    topology, positions = to_openmm(made)
    again = from_openmm(topology, positions, charge=0)
    np.testing.assert_allclose(again.atoms.positions, made.atoms.positions, atol=1e-9)
    np.testing.assert_allclose(again.atoms.cell.array, made.atoms.cell.array, atol=1e-9)
    assert again.topology.names.tolist() == made.topology.names.tolist()
    assert again.topology.bonds.tolist() == made.topology.bonds.tolist()


def test_files_are_not_overwritten_and_nothing_is_half_written(tmp_path: Path) -> None:
    made = waters(2)
    stem = tmp_path / "a.b"
    assert [path.name for path in output_paths(stem)] == ["a.b.xyz", "a.b.pdb", "a.b.prepare.json"]
    write_prepared(made, stem)
    record = json.loads(output_paths(stem)[2].read_text())
    assert record["atoms"] == 6
    assert record["residues"] == {"HOH": 2}
    with pytest.raises(InputError, match="exists already"):
        write_prepared(made, stem)
    made.atoms.positions[0, 0] = np.nan
    with pytest.raises(InputError, match="not finite"):
        write_prepared(made, stem, overwrite=True)
    assert ase.io.read(output_paths(stem)[0]).positions[0, 0] == 0.0
    assert len(list(tmp_path.iterdir())) == 3
