"""System: what comes in comes out, and every unusable input has its one clear error."""

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule
from hypothesis import given
from hypothesis import strategies as st

from heliodor.errors import InputError
from heliodor.system import System


def box(cell, pbc=True, numbers=(8,)) -> ase.Atoms:
    return ase.Atoms(numbers=numbers, positions=np.arange(3.0 * len(numbers)).reshape(-1, 3), cell=cell, pbc=pbc)


def test_round_trip_of_a_batch(atoms, crystal):
    cation = molecule("H2O")
    cation += ase.Atoms("H", [(0, 0, 3)])
    cation.info.update(charge=1)
    radical = ase.Atoms("OH", [(0, 0, 0), (0, 0, 1)], info={"multiplicity": 2})
    slab = box([[5, 0, 0], [1, 5, 0], [0, 0, 0]], pbc=(True, True, False))
    frames = [atoms, crystal, cation, radical, slab]
    system = System.from_atoms(frames)
    assert system.n_structures == 5
    assert system.n_atoms == sum(map(len, frames))
    assert system.counts.tolist() == list(map(len, frames))
    assert system.batch.tolist() == [b for b, frame in enumerate(frames) for _ in frame]
    assert system.dtype == torch.float64
    assert system.charge.tolist() == [0, 0, 1, 0, 0]
    assert system.spin.tolist() == [0, 0, 0, 1, 0]
    for before, after in zip(frames, system.to_atoms(), strict=True):
        np.testing.assert_array_equal(after.positions, before.positions)
        np.testing.assert_array_equal(after.numbers, before.numbers)
        np.testing.assert_array_equal(after.cell.array, before.cell.array)
        np.testing.assert_array_equal(after.pbc, before.pbc)
    assert [a.info for a in system.to_atoms()][2:4] == [{"charge": 1.0, "spin": 0}, {"charge": 0.0, "spin": 1}]


def test_system_keeps_its_own_copy(atoms):
    system = System.from_atoms(atoms)
    before = system.positions.clone()
    atoms.positions += 1.0
    assert torch.equal(system.positions, before)


def test_volume(crystal):
    assert System.from_atoms(crystal).volume.item() == pytest.approx(crystal.get_volume(), rel=1e-14)


def test_to_moves_numbers_nowhere(atoms):
    small = System.from_atoms(atoms).to(dtype=torch.float32)
    assert small.positions.dtype == small.cell.dtype == small.charge.dtype == torch.float32
    assert small.numbers.dtype == small.batch.dtype == torch.int64
    assert small.pbc.dtype == torch.bool


@given(seed=st.integers(0, 2**32 - 1))
def test_deform_keeps_fractional_coordinates(seed):
    rng = np.random.default_rng(seed)
    frames = [box(np.eye(3) * 4 + rng.normal(scale=0.3, size=(3, 3)), numbers=(8, 1)) for _ in range(2)]
    system = System.from_atoms(frames)
    strain = torch.from_numpy(rng.normal(scale=0.05, size=(2, 3, 3)))
    for before, after, e in zip(frames, system.deform(strain).to_atoms(), strain.numpy(), strict=True):
        np.testing.assert_allclose(after.cell.array, before.cell.array @ (np.eye(3) + e), atol=1e-13)
        np.testing.assert_allclose(after.positions, before.positions @ (np.eye(3) + e), atol=1e-13)
        np.testing.assert_allclose(
            after.get_scaled_positions(wrap=False), before.get_scaled_positions(wrap=False), atol=1e-12
        )


@pytest.mark.parametrize(
    ("info", "spin"),
    [
        ({}, 0),
        ({"spin": 2}, 2),
        ({"multiplicity": 3}, 2),
        ({"spin_multiplicity": 1}, 0),
        ({"spin": 1, "multiplicity": 2}, 1),
    ],
)
def test_spin_is_read(info, spin):
    assert System.from_atoms(ase.Atoms("O", info=info)).spin.tolist() == [spin]


def test_explicit_charge_and_spin_win():
    frame = ase.Atoms("O", info={"charge": 1, "spin": 1, "multiplicity": 9})
    system = System.from_atoms([frame, frame], charge=-1.0, spin=3)
    assert system.charge.tolist() == [-1, -1]
    assert system.spin.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"spin": 1, "multiplicity": 1}, "disagree"),
        ({"multiplicity": 2, "spin_multiplicity": 3}, "disagree"),
        ({"spin": -1}, "unpaired electrons"),
        ({"spin": 0.5}, "unpaired electrons"),
        ({"multiplicity": 0}, "unpaired electrons"),
        ({"spin": "two"}, "spin must be a number"),
        ({"multiplicity": None}, "multiplicity must be a number"),
        ({"charge": "plus"}, "charge must be a number"),
        ({"charge": float("nan")}, "charge must be a number"),
        ({"charge": [1, 2]}, "charge must be a number"),
    ],
)
def test_bad_charge_or_spin(info, message):
    with pytest.raises(InputError, match=message):
        System.from_atoms(ase.Atoms("O", info=info))


def with_coordinate(value: float) -> ase.Atoms:
    frame = ase.Atoms("CO", [(0, 0, 0), (0, 0, 1.1)])
    frame.positions[1, 2] = value
    return frame


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "no structures"),
        (ase.Atoms(), "no atoms"),
        ([ase.Atoms("H"), ase.Atoms()], r"structure 1\) has no atoms"),
        (with_coordinate(np.nan), r"atom 1 \(O\) has a coordinate"),
        (with_coordinate(np.inf), r"atom 1 \(O\) has a coordinate"),
        ([ase.Atoms("H"), with_coordinate(np.nan)], r"atom 1 \(O\) \(structure 1\)"),
        (ase.Atoms("HX", [(0, 0, 0), (1, 0, 0)]), "atom 1 has no known element"),
        (ase.Atoms(numbers=[200]), r"no known element \(atomic number 200\)"),
        (box(np.zeros((3, 3))), "zero length"),
        (box([4, 4, 0]), "zero length"),
        (box([4, 0, 4], pbc=(False, True, False)), "zero length"),
        (box([[4, 0, 0], [0, 4, 0], [4, 4, 0]]), "no volume"),
        (box([[0, 4, 0], [4, 0, 0], [0, 0, 4]]), "left-handed"),
        (box([[np.nan, 0, 0], [0, 4, 0], [0, 0, 4]]), "not finite"),
    ],
)
def test_bad_structure(frames, message):
    with pytest.raises(InputError, match=message):
        System.from_atoms(frames)


def test_parallel_lattice_vectors_of_a_slab():
    with pytest.raises(InputError, match=r"plane|parallel|volume|area"):
        System.from_atoms(box([[4, 0, 0], [8, 0, 0], [0, 0, 9]], pbc=(True, True, False)))


@pytest.mark.parametrize(
    ("fragments", "charges", "message"),
    [
        ([0, 0, 1], [0.0, 0.0], r"one index per atom \(4\)"),
        (np.array([[0, 0], [1, 1]]), [0.0, 0.0], "one index per atom"),
        ([0, 0, 2, 2], [0.0, 0.0, 0.0], "none left out"),
        ([-1, 0, 0, 0], [0.0], "none left out"),
        ([0, 0, 1, 1], None, "fragment_charges"),
        ([0, 0, 1, 1], [0.0], "2 fragments need 2 charges"),
        ([0, 0, 1, 1], [1.0, 1.0], "add up to 2, the total charge is 0"),
    ],
)
def test_bad_fragments(fragments, charges, message):
    frame = ase.Atoms("HHHH", np.eye(4, 3))
    with pytest.raises(InputError, match=message):
        System.from_atoms(frame, fragments=fragments, fragment_charges=charges)


def test_fragments_of_several_structures():
    with pytest.raises(InputError, match="one structure at a time"):
        System.from_atoms([ase.Atoms("H")] * 2, fragments=[0], fragment_charges=[0.0])


def test_fragment_charges_without_fragments():
    with pytest.raises(InputError, match="fragments"):
        System.from_atoms(ase.Atoms("H"), fragment_charges=[0.0])
