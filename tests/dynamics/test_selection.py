"""What a user may say about which atoms to write."""

import pytest
from ase.build import molecule
from toys import cluster

from heliodor.dynamics.files.selection import select_atoms
from heliodor.errors import InputError
from heliodor.system import System

# C O H H H H
METHANOL = System.from_atoms(molecule("CH3OH"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", None),
        (" ALL ", None),
        ("heavy", [0, 1]),
        ("not H", [0, 1]),
        ("not heavy", [2, 3, 4, 5]),
        ("C O", [0, 1]),
        ("O,H", [1, 2, 3, 4, 5]),
        ("0-2,4", [0, 1, 2, 4]),
        ("5, 0", [0, 5]),
        ("O 3-4", [1, 3, 4]),
        ("not O 3-4", [0, 2, 5]),
        ("0-5", None),
        ("C H O", None),
    ],
)
def test_selections(text, expected):
    found = select_atoms(text, METHANOL)
    assert (None if found is None else found.tolist()) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("N", "there is no N in the structure"),
        ("0-6", "counted from 0 to 5"),
        ("6", "counted from 0 to 5"),
        ("3-1", "cannot select '3-1'"),
        ("-1", "cannot select '-1': write all, heavy"),
        ("protein", "cannot select 'protein'"),
        ("c", "cannot select 'c'"),
        ("", "leaves no atom"),
        ("not", "leaves no atom"),
        ("not all", "leaves no atom"),
    ],
)
def test_refusals(text, message):
    with pytest.raises(InputError, match=message):
        select_atoms(text, METHANOL)


def test_several_structures_have_to_be_alike():
    alike = System.from_atoms([molecule("CH3OH"), molecule("CH3OH")])
    assert select_atoms("heavy", alike).tolist() == [0, 1]
    with pytest.raises(InputError, match="same composition"):
        select_atoms("heavy", System.from_atoms([molecule("CH3OH"), cluster(6)]))
    assert select_atoms("all", System.from_atoms([molecule("CH3OH"), cluster(6)])) is None
