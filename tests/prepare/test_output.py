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
