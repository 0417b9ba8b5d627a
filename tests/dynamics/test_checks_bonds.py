"""Bonds by distance: images, list conventions, and what is saved of them."""

import ase
import pytest
import torch

from heliodor.dynamics.watch.bonds import (
    bonded_pairs,
    broken_bonds,
    canonical,
    contains,
    formed_bonds,
    from_table,
    radii_of,
    to_table,
)
from heliodor.neighbors import find_neighbors
from heliodor.system import System


def chain(d=1.3):
    """Two carbons bonded to each other twice: inside the cell and across its boundary."""
    return System.from_atoms(ase.Atoms("C2", [[0.2, 4, 4], [0.2 + d, 4, 4]], cell=[2.6, 8, 8], pbc=True))


def test_two_bonds_between_the_same_atoms_are_told_apart_by_their_images():
    bonds = bonded_pairs(chain())
    assert sorted(to_table(bonds).tolist()) == [[0, 1, -1, 0, 0], [0, 1, 0, 0, 0]]
    for edge in (0, 1):
        one = bonds.select(torch.tensor([edge]))
        assert contains(bonds, one, 2).tolist() == [edge == 0, edge == 1]
        assert len(formed_bonds(chain(), one)) == 1
    assert formed_bonds(chain(), bonds) == []
    wide = System.from_atoms(ase.Atoms("C2", [[0.2, 4, 4], [1.5, 4, 4]], cell=[3.9, 8, 8], pbc=True))
    (broken,) = broken_bonds(wide, bonds)
    assert broken.distance == pytest.approx(2.6)


def test_an_atom_may_be_bonded_to_its_own_image():
    wire = System.from_atoms(ase.Atoms("C", cell=[1.4, 9, 9], pbc=True))
    assert to_table(bonded_pairs(wire)).tolist() == [[0, 0, 1, 0, 0]]


@pytest.mark.parametrize("half", [True, False])
def test_any_kind_of_list_gives_the_same_canonical_pairs(crystal, half):
    system = System.from_atoms(crystal)
    pairs = canonical(find_neighbors(system, 1.3, half=half))
    rows = {tuple(row) for row in to_table(pairs).tolist()}
    assert len(rows) == pairs.n_edges > 5
    assert all(i < j or (i == j and shift > [0, 0, 0]) for i, j, *shift in rows)
    assert rows == {tuple(row) for row in to_table(canonical(find_neighbors(system, 1.3))).tolist()}
    torch.testing.assert_close(
        pairs.vectors(system), from_table(to_table(pairs), system).vectors(system), rtol=0, atol=1e-12
    )


def test_no_bonds_at_all():
    argon = System.from_atoms(ase.Atoms("Ar2", [[0, 0, 0], [0, 0, 2.5]]))
    bonds = bonded_pairs(argon)
    assert bonds.n_edges == 0 and broken_bonds(argon, bonds) == [] and formed_bonds(argon, bonds) == []
    assert radii_of(argon).tolist() == pytest.approx([1.06, 1.06])
