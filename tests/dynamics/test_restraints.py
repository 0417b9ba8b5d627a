"""Restraints: energies against ASE's geometry, derivatives against differences, and what cannot be meant."""

import math

import ase
import numpy as np
import pytest
import torch
import yaml
from ase.build import molecule
from ase.constraints import FixAtoms, FixBondLength
from toys import Morse, Spring, cluster

from heliodor.dynamics import init, langevin_step
from heliodor.dynamics.restraints.restrained import (
    TERM,
    AngleRestraint,
    DihedralRestraint,
    DistanceRestraint,
    PositionRestraint,
    Restrained,
    frozen_from,
    read_restraints,
    to_dict,
)
from heliodor.dynamics.restraints.springs import angle, dihedral, isotropic_spring, nearest, spring
from heliodor.errors import InputError
from heliodor.potential import evaluate_system
from heliodor.system import System
from heliodor.units import BOLTZMANN


def energies(atoms, *restraints, start=None):
    system = System.from_atoms(atoms)
    potential = Restrained(Morse(), restraints, System.from_atoms(start) if start is not None else system)
    return evaluate_system(potential, system, forces=False).terms[TERM].tolist()


def sheared(rng):
    """Eight atoms in a triclinic cell."""
    cell = np.array([[6.0, 0.0, 0.0], [2.0, 5.5, 0.0], [-1.4, 1.9, 5.0]])
    return ase.Atoms("C8", rng.random((8, 3)) @ cell, cell=cell, pbc=True)


# energies


def test_energies_are_those_of_ase_geometry(rng):
    atoms = molecule("CH3CH2OH")
    atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
    rad = math.pi / 180
    assert energies(atoms, DistanceRestraint((0, 5), 2.0, 3.0)) == pytest.approx(
        [1.5 * (atoms.get_distance(0, 5) - 2.0) ** 2]
    )
    assert energies(atoms, AngleRestraint((0, 1, 2), 90.0, 3.0)) == pytest.approx(
        [1.5 * (rad * (atoms.get_angle(0, 1, 2) - 90.0)) ** 2]
    )
    for value in (-170.0, 10.0, 190.0):
        off = (atoms.get_dihedral(0, 1, 2, 3) - value + 180) % 360 - 180
        assert energies(atoms, DihedralRestraint((0, 1, 2, 3), value, 3.0)) == pytest.approx([1.5 * (rad * off) ** 2])
    places = rng.normal(size=(2, 3))
    far = np.square(atoms.positions[[4, 1]] - places).sum()
    reference = tuple(tuple(row) for row in places.tolist())
    assert energies(atoms, PositionRestraint((4, 1), 3.0, reference)) == pytest.approx([1.5 * far])


def test_the_bottom_is_flat_inside_and_harmonic_outside():
    atoms = ase.Atoms("N2", [[0, 0, 0], [2.0, 0, 0]])
    for value, expected in ((1.95, 0.0), (2.05, 0.0), (1.7, 0.5 * 8 * 0.2**2), (2.5, 0.5 * 8 * 0.4**2)):
        found = energies(atoms, DistanceRestraint((0, 1), value, 8.0, flat=0.1))
        assert found == pytest.approx([expected], abs=1e-14)
    place = PositionRestraint((1,), 8.0, ((0.0, 0.0, 0.0),), flat=1.5)
    assert energies(atoms, place) == pytest.approx([0.5 * 8 * 0.5**2])


def test_dihedrals_differ_modulo_a_turn():
    def twisted(degrees):
        a = math.radians(degrees)
        places = [[0, 1, 0], [0, 0, 0], [0, 0, 1.5], [-math.sin(a), math.cos(a), 1.5]]
        return ase.Atoms("C4", places)

    assert twisted(50).get_dihedral(0, 1, 2, 3) == pytest.approx(50)
    for degrees, value, off in ((179, -179, 2), (-179, 179, 2), (350, 10, 20), (-60, 300, 0), (0, 180, 180)):
        found = energies(twisted(degrees), DihedralRestraint((0, 1, 2, 3), float(value), 2.0))
        assert found == pytest.approx([math.radians(off) ** 2], abs=1e-12)


# derivatives


def every_kind(flat=0.0):
    return [
        DistanceRestraint((0, 6), 1.0, 2.0, flat=0.3 * flat),
        AngleRestraint((0, 2, 4), 15.0, 3.0, flat=5.0 * flat),
        DihedralRestraint((5, 1, 2, 3), 100.0, 1.5, flat=5.0 * flat),
        PositionRestraint((1, 7), 0.7, ((0.5, 0.5, 0.4), (3.0, 3.3, 9.0)), flat=0.2 * flat),
    ]


@pytest.mark.parametrize("flat", [0.0, 1.0])
@pytest.mark.parametrize("kind", range(4))
def test_forces_and_virial_are_the_derivatives(rng, kind, flat):
    atoms = sheared(rng)
    system = System.from_atoms(atoms)
    potential = Restrained(Spring(), [every_kind(flat)[kind]], system)

    def term(system):
        return evaluate_system(potential, system, forces=False).terms[TERM]

    def energy_at(positions):
        return potential.energies(system.replace(positions=positions)).sum()

    assert float(term(system)) > 1e-3
    assert torch.autograd.gradcheck(energy_at, system.positions.clone().requires_grad_(), eps=1e-6, atol=1e-6)
    strain = torch.zeros(1, 3, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(potential.energies(system.deform(strain)).sum(), strain)
    numeric = torch.zeros(3, 3, dtype=torch.float64)
    for a in range(3):
        for b in range(3):
            step = torch.zeros(1, 3, 3, dtype=torch.float64)
            step[0, a, b] = 1e-5
            numeric[a, b] = (term(system.deform(step)) - term(system.deform(-step)))[0] / 2e-5
    torch.testing.assert_close(gradient[0], numeric, atol=1e-7, rtol=1e-6)


def test_restraints_between_atoms_push_nothing_else(rng):
    system = System.from_atoms(sheared(rng))
    potential = Restrained(Spring(), every_kind()[:3], system)
    moving = system.positions.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(potential.energies(system.replace(positions=moving)).sum(), moving)
    assert gradient.abs().max() > 0.1
    assert gradient.sum(0).abs().max() < 1e-12
    assert not potential.holds_places
    assert Restrained(Spring(), every_kind(), system).holds_places


def bent(theta):
    """Three bonds in a zigzag with a dihedral of theta."""
    one = torch.ones_like(theta)
    a = torch.stack([0 * one, one, 0 * one])
    c = torch.stack([-theta.sin(), theta.cos(), 0 * one])
    return a, torch.tensor([0.0, 0.0, 1.4], dtype=torch.float64), c


@pytest.mark.parametrize("degrees", [0.0, 180.0])
def test_planar_dihedrals_have_smooth_energies(degrees):
    # E = k/2 (φ - φ0)² with φ0 = 0 or 180°: its derivatives along φ are 0 and k
    def energy(theta):
        a, b, c = bent(theta)
        x = torch.remainder(dihedral(-a, b, c) - math.radians(degrees) + math.pi, 2 * math.pi) - math.pi
        return spring(x, torch.tensor(3.0, dtype=torch.float64), torch.zeros((), dtype=torch.float64))

    theta = torch.tensor(math.radians(degrees), dtype=torch.float64)
    assert float(torch.func.grad(energy)(theta)) == pytest.approx(0.0, abs=1e-12)
    assert float(torch.func.grad(torch.func.grad(energy))(theta)) == pytest.approx(3.0, rel=1e-9)


def test_straight_lines_have_finite_gradients():
    line = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    for function, others in ((angle, [line]), (angle, [-line]), (dihedral, [line, line])):
        moving = line.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(function(moving, *others).sum(), moving)
        assert gradient.isfinite().all()
    moving = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    one = torch.ones(1, dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(lambda r: isotropic_spring(r, 2.0 * one, 0.0 * one).sum(), moving)
    torch.testing.assert_close(hessian.view(3, 3), 2.0 * torch.eye(3, dtype=torch.float64))


# periodicity


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (True, False, False)])
def test_vectors_go_to_the_nearest_of_many_images(rng, pbc):
    cell = np.array([[6.0, 0.0, 0.0], [2.9, 5.5, 0.0], [-2.4, 2.6, 5.0]]) * np.array(pbc)[:, None]
    vectors = rng.normal(0, 12.0, (200, 3))
    found = nearest(torch.tensor(vectors), torch.tensor(cell).expand(200, 3, 3)).numpy()
    reach = np.stack(np.meshgrid(*[np.arange(-15, 16) if p else [0] for p in pbc], indexing="ij"), -1).reshape(-1, 3)
    lengths = np.stack([np.linalg.norm(v + reach @ cell, axis=-1).min() for v in vectors])
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), lengths, atol=1e-10)
    shifts = (found - vectors) @ np.linalg.pinv(cell)
    np.testing.assert_allclose(shifts, np.round(shifts), atol=1e-9)


def test_wrapping_atoms_changes_nothing(rng):
    atoms = sheared(rng)
    elsewhere = atoms.copy()
    elsewhere.positions += rng.integers(-3, 4, (8, 3)) @ atoms.cell.array
    for restraint in every_kind():
        assert energies(elsewhere, restraint) == pytest.approx(energies(atoms, restraint), rel=1e-9)
    held = PositionRestraint(tuple(range(8)), 1.0)
    assert energies(elsewhere, held, start=atoms) == pytest.approx([0.0], abs=1e-20)


def test_places_move_with_the_cell_and_in_molecules_do_not(rng):
    atoms = sheared(rng)
    held = PositionRestraint((2, 5), 1.0)
    larger = atoms.copy()
    larger.set_cell(atoms.cell.array * [1.1, 0.9, 1.2], scale_atoms=True)
    assert energies(larger, held, start=atoms) == pytest.approx([0.0], abs=1e-20)
    free = ase.Atoms("C8", atoms.positions)
    moved = free.copy()
    moved.positions[2] += [0.0, 3.0, 4.0]
    assert energies(moved, held, start=free) == pytest.approx([12.5])
    # a slab: its places follow the two lattice vectors and keep their height
    slab = ase.Atoms("C8", atoms.positions, cell=[[6.0, 0, 0], [2.0, 5.5, 0], [0, 0, 0]], pbc=(True, True, False))
    higher = slab.copy()
    higher.positions[:, :2] *= 1.1
    higher.set_cell(slab.cell.array * 1.1)
    higher.positions[2, 2] += 2.0
    assert energies(higher, held, start=slab) == pytest.approx([2.0])


def test_places_are_kept_for_going_on(rng):
    atoms = sheared(rng)
    start = System.from_atoms([atoms, ase.Atoms("C8", atoms.positions)])
    restraints = [PositionRestraint((2, 5), 1.5), DistanceRestraint((0, 1), 2.0, 1.0)]
    first = Restrained(Morse(), restraints, start)
    later = start.replace(positions=start.positions + 0.3, cell=1.1 * start.cell)
    again = Restrained(Morse(), restraints, later, places=first.places)
    assert torch.equal(again.energies(later), first.energies(later))
    forgetful = Restrained(Morse(), restraints, later)
    assert (forgetful.energies(later) - first.energies(later)).abs().max() > 0.01
    assert Restrained(Morse(), restraints[1:], start).places.shape == (0, 6)
    with pytest.raises(InputError, match=r"4 places .* kept, and 0 are needed"):
        Restrained(Morse(), restraints[1:], start, places=first.places)


# batches and delegation


def test_one_restraint_for_all_structures_or_for_one():
    frames = [cluster(4, seed=k) for k in range(3)]
    restraint = DistanceRestraint((0, 3), 1.0, 5.0)
    alone = [energies(frame, restraint)[0] for frame in frames]
    assert energies(frames, restraint) == pytest.approx(alone)
    assert energies(frames, DistanceRestraint((0, 3), 1.0, 5.0, structure=1)) == pytest.approx([0.0, alone[1], 0.0])
    both = energies(frames, restraint, DistanceRestraint((0, 3), 1.0, 5.0, structure=1))
    assert both == pytest.approx([alone[0], 2 * alone[1], alone[2]])


def test_the_rest_is_the_other_potential():
    inner = Morse()
    system = System.from_atoms(cluster(5))
    potential = Restrained(inner, [DistanceRestraint((0, 3), 1.0, 5.0)], system)
    mine, other = evaluate_system(potential, system), evaluate_system(inner, system)
    torch.testing.assert_close(mine.terms["pair"], other.terms["pair"], atol=0, rtol=0)
    torch.testing.assert_close(mine.energy, other.energy + mine.terms[TERM], atol=1e-12, rtol=0)
    # shares: half at each of the two atoms
    assert mine.node_terms[TERM].tolist() == pytest.approx(
        [float(mine.terms[TERM]) / 2 * (k in (0, 3)) for k in range(5)]
    )
    assert (potential.name, potential.cutoff, potential.elements) == (inner.name, inner.cutoff, inner.elements)
    assert potential.device == inner.device
    twice = Restrained(potential, [DistanceRestraint((0, 3), 1.0, 5.0)], system)
    torch.testing.assert_close(evaluate_system(twice, system).terms[TERM], 2.0 * mine.terms[TERM])
    with pytest.raises(InputError, match="1 structures with 5 atoms"):
        evaluate_system(potential, System.from_atoms(cluster(4)))


def test_it_answers_as_the_model_inside(so3lr):
    system = System.from_atoms(molecule("H2O"))
    potential = Restrained(so3lr, [DistanceRestraint((1, 2), 1.5, 5.0)], system)
    potential.check(system)
    mine, other = evaluate_system(potential, system), evaluate_system(so3lr, system)
    torch.testing.assert_close(mine.energy, other.energy + mine.terms[TERM], atol=1e-12, rtol=0)
    torch.testing.assert_close(mine.charges, other.charges)
    assert potential.outputs == so3lr.outputs
    assert potential.long_range_limits(system).tolist() == so3lr.long_range_limits(system).tolist()


def test_a_harmonic_distance_has_its_canonical_spread():
    count, k, d, temperature = 300, 20.0, 2.0, 300.0
    system = System.from_atoms([ase.Atoms("Ar2", [[0, 0, 0], [d, 0, 0]])] * count)
    potential = Restrained(Morse(depth=0.0), [DistanceRestraint((0, 1), d, k)], system)
    state = init(system, potential, temperature=temperature, seed=1, rotating=True)
    found = []
    for step in range(300):
        state = langevin_step(state, potential, 8.0, temperature=temperature, friction=20.0)
        if step >= 60 and step % 10 == 0:
            found.append((state.system.positions[1::2] - state.system.positions[::2]).norm(dim=-1))
    assert float(torch.cat(found).var()) == pytest.approx(BOLTZMANN * temperature / k, rel=0.06)


# reading


def test_what_yaml_gives_is_read_and_written_back():
    text = """
    restraints:
      - {kind: distance, atoms: [0, 5], value: 3, k: 10.0}
      - {kind: angle, atoms: [0, 1, 2], value: 109.5, k: 2.0, flat: 5.0}
      - {kind: dihedral, atoms: [0, 1, 2, 3], value: -60.0, k: 1.0, structure: 1}
      - {kind: position, atoms: [4, 7], k: 0.5}
      - {kind: position, atoms: [4], k: 0.5, reference: [[1, 2, 3.5]], flat: 0.2}
    """
    data = yaml.safe_load(text)
    found = read_restraints(data)
    assert found == (
        DistanceRestraint((0, 5), 3.0, 10.0),
        AngleRestraint((0, 1, 2), 109.5, 2.0, 5.0),
        DihedralRestraint((0, 1, 2, 3), -60.0, 1.0, structure=1),
        PositionRestraint((4, 7), 0.5),
        PositionRestraint((4,), 0.5, ((1.0, 2.0, 3.5),), 0.2),
    )
    assert [to_dict(r) for r in found] == data["restraints"]
    assert read_restraints(yaml.safe_load(yaml.safe_dump([to_dict(r) for r in found]))) == found
    assert read_restraints(data["restraints"][0]) == found[:1]


GOOD = {"kind": "distance", "atoms": [0, 5], "value": 3.0, "k": 10.0}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "distanse"}, "restraint 1: .*'distanse'; did you mean 'distance'"),
        ({"kind": None}, "restraint 1: no restraint|kind None"),
        ({"valeu": 3.0}, "has no 'valeu'; did you mean 'value'"),
        ({"reference": None}, "a distance restraint has no 'reference'"),
        ({"value": "3.0"}, "value must be a number"),
        ({"value": -1.0}, "value of -1 is not possible"),
        ({"k": 0}, "k must be positive"),
        ({"flat": -0.1}, "flat must not be negative"),
        ({"atoms": [0, 0]}, "distance restraint of atoms 0, 0: the same atom stands twice"),
        ({"atoms": [0, 1, 2]}, "needs 2 atoms, not 3"),
        ({"atoms": [0, -1]}, "counted from 0"),
        ({"atoms": [0, 1.5]}, "list of indices"),
        ({"atoms": "0 5"}, "list of indices"),
        ({"structure": "a"}, "index of a structure"),
        ({"kind": "angle", "atoms": [0, 1, 2], "value": 200.0}, "value of 200 is not possible"),
    ],
)
def test_what_cannot_be_meant_is_refused(change, words):
    with pytest.raises(InputError, match=words):
        read_restraints([GOOD, {**GOOD, **change}])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("distance", "must be a list"),
        ([["distance"]], "restraint 0: write a mapping"),
        ([{"kind": "distance", "atoms": [0, 1]}], "needs value and k"),
        ([{"kind": "position", "atoms": [], "k": 1.0}], "needs some atoms"),
        ([{"kind": "position", "atoms": [0], "k": 1.0, "reference": [[0, 1]]}], "reference must be x, y, z"),
        ([{"kind": "position", "atoms": [0], "k": 1.0, "reference": [0, 1, 2]}], "reference must be a list of x, y, z"),
    ],
)
def test_what_is_no_restraint_is_refused(data, words):
    with pytest.raises(InputError, match=words):
        read_restraints(data)


def test_atoms_that_are_not_there_are_refused():
    system = System.from_atoms([cluster(4), cluster(3)])
    with pytest.raises(InputError, match="distance restraint of atoms 0, 3: there is no atom 3, structure 1 has 3"):
        Restrained(Morse(), [DistanceRestraint((0, 3), 2.0, 1.0)], system)
    with pytest.raises(InputError, match="there is no structure 2"):
        Restrained(Morse(), [DistanceRestraint((0, 1), 2.0, 1.0, structure=2)], system)
    with pytest.raises(InputError, match="no restraints"):
        Restrained(Morse(), [], system)


# frozen atoms


def test_fixed_atoms_of_ase_are_read():
    atoms = molecule("CH3OH")
    assert frozen_from(atoms).tolist() == [False] * 6
    atoms.set_constraint([FixAtoms(indices=[1]), FixAtoms(mask=[k == 4 for k in range(6)])])
    assert frozen_from(atoms).tolist() == [False, True, False, False, True, False]
    atoms.set_constraint(FixBondLength(0, 1))
    with pytest.raises(InputError, match=r"FixBondLength.*only FixAtoms"):
        frozen_from(atoms)
