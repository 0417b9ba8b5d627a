"""Hydrogen mass repartitioning."""

import ase
import pytest
import torch
from ase.build import molecule
from ase.data import atomic_masses

from heliodor.dynamics.constraints.masses import repartition
from heliodor.errors import InputError
from heliodor.system import System


def standard(system):
    return torch.as_tensor(atomic_masses)[system.numbers]


def test_hydrogens_take_mass_from_the_atom_they_are_on(crystal):
    far = ase.Atoms("H", [[50.0, 0, 0]])
    system = System.from_atoms([molecule("CH3OH"), molecule("H2O") + far, molecule("H2"), crystal])
    before = standard(system)
    after = repartition(system, before)
    changed = after - before
    per_structure = torch.zeros(4, dtype=torch.float64).index_add(0, system.batch, changed)
    assert per_structure.abs().max() < 1e-12
    water = slice(6, 9)
    assert after[water].tolist() == pytest.approx([15.999 - 2 * (3.024 - 1.008), 3.024, 3.024])
    # a lone proton and H2 have nothing to take from
    assert after[9:12].tolist() == before[9:12].tolist()
    methanol = dict(zip(molecule("CH3OH").symbols, after[:6].tolist(), strict=True))
    assert methanol["C"] == pytest.approx(12.011 - 3 * 2.016)
    assert methanol["O"] == pytest.approx(15.999 - 2.016)


def test_twice_is_once():
    system = System.from_atoms(molecule("CH3CONH2"))
    once = repartition(system, standard(system), 2.5)
    torch.testing.assert_close(repartition(system, once, 2.5), once, atol=0, rtol=1e-14)


@pytest.mark.parametrize(("mass", "words"), [(0.5, "1 to 4"), (4.5, "1 to 4"), (3.9, "C 0 would be left with 0.4")])
def test_refused_in_words(mass, words):
    system = System.from_atoms(molecule("CH4"))
    with pytest.raises(InputError, match=words):
        repartition(system, standard(system), mass)
