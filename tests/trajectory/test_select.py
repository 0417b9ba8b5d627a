"""Selections of atoms agree with MDAnalysis on a solvated peptide; words without meaning are refused."""

import ase
import MDAnalysis
import numpy as np
import pytest

from heliodor.errors import InputError
from heliodor.topology import topology_of
from heliodor.trajectory.selection import is_ion, is_water, select, solute
from trajectories import waters


@pytest.fixture
def mixed() -> ase.Atoms:
    """Glycine without names, waters, a chloride."""
    from ase.build import molecule

    glycine = molecule("C2H6NH")
    glycine.positions += 20.0
    box = waters() + glycine
    box += ase.Atoms("Cl", positions=[(30.0, 30.0, 30.0)])
    box.pbc = False
    return box


def test_waters_ions_and_the_rest(mixed):
    topology = topology_of(mixed)
    assert is_water(topology).sum() == 24
    assert np.flatnonzero(is_ion(topology)).tolist() == [len(mixed) - 1]
    assert solute(topology).tolist() == list(range(24, len(mixed) - 1))
    assert (
        select(topology, "solute and heavy").tolist()
        == np.flatnonzero((mixed.numbers > 1) & np.isin(np.arange(len(mixed)), np.arange(24, len(mixed) - 1))).tolist()
    )
    assert select(topology, "water and O").tolist() == list(range(0, 24, 3))
    assert select(topology, "not water").tolist() == list(range(24, len(mixed)))
    assert select(topology, "molecule 1-2").tolist() == [3, 4, 5, 6, 7, 8]
    assert select(topology, "0-2, 7").tolist() == [0, 1, 2, 7]


def test_names_and_residues_as_mdanalysis_has_them():
    n = 6
    atoms = ase.Atoms("NCCOCH", positions=np.arange(18).reshape(6, 3) * 3.0)
    names, residues = ["N", "CA", "C", "O", "CB", "HA"], ["ALA"] * 3 + ["GLY"] * 3
    for key, values in (("atom_name", names), ("residue_name", residues), ("chain", ["A", "A", "A", "B", "B", "B"])):
        atoms.set_array(key, np.array(values))
    atoms.set_array("residue_number", np.array([3, 3, 3, 9, 9, 9]))
    topology = topology_of(atoms)
    other = MDAnalysis.Universe.empty(n, n_residues=2, n_segments=2, atom_resindex=[0] * 3 + [1] * 3,
                                      residue_segindex=[0, 1], trajectory=True)  # fmt: skip
    other.add_TopologyAttr("name", names)
    other.add_TopologyAttr("resname", ["ALA", "GLY"])
    other.add_TopologyAttr("resid", [3, 9])
    other.add_TopologyAttr("segid", ["A", "B"])
    for mine, theirs in (
        ("name CA CB", "name CA CB"),
        ("resname GLY and not name O", "resname GLY and not name O"),
        ("residue 1-5 and chain A", "resid 1:5 and segid A"),
        ("backbone", "name N CA C O"),
        ("protein", "protein"),
    ):
        assert select(topology, mine).tolist() == other.select_atoms(theirs).indices.tolist(), mine


@pytest.mark.parametrize("text", ["", "foo", "0-99", "name", "name XX", "resname HOH and name CA", "residue a"])
def test_selections_that_mean_nothing(text, mixed):
    with pytest.raises(InputError, match="select"):
        select(topology_of(mixed), text)
