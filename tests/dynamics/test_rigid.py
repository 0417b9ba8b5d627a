"""Rigid bonds: found, held, and what they do to motion and pressure."""

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.data import atomic_masses
from toys import Morse

from heliodor.dynamics.constraints.rigid import (
    constrain_positions,
    constrain_velocities,
    find_rigid,
    group_centers,
    group_kinetic_tensor,
    group_virial,
    scale_groups,
)
from heliodor.dynamics.constraints.shake import shake
from heliodor.errors import InputError, SimulationError
from heliodor.potential import evaluate_system
from heliodor.system import System
from heliodor.units import ACCELERATION, BOLTZMANN, KINETIC


def turned(name, seed, place=(0.0, 0.0, 0.0), noise=0.02):
    rng = np.random.default_rng(seed)
    atoms = molecule(name)
    atoms.rotate(float(rng.uniform(0, 360)), rng.normal(size=3), center="COM")
    atoms.positions += np.asarray(place) - atoms.get_center_of_mass() + rng.normal(0, noise, atoms.positions.shape)
    return atoms


def mixture(noise=0.02):
    """Three waters and a methanol, 3.4 Å and more apart."""
    parts = [turned("H2O", k, (3.4 * k, 0.5 * k, 0.0), noise) for k in range(3)]
    return sum([*parts, turned("CH3OH", 7, (1.5, 4.2, 1.0), noise)], ase.Atoms())


def masses_of(system):
    return torch.as_tensor(atomic_masses)[system.numbers]


def thermal(masses, temperature, seed=0):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(masses), 3, dtype=torch.float64, generator=generator)
    return noise * (BOLTZMANN * temperature / (KINETIC * masses)).sqrt().unsqueeze(-1)


def prepared(frames, kind="h-bonds", **options):
    system = System.from_atoms(frames)
    masses = masses_of(system)
    return (*find_rigid(system, masses, kind, **options), masses)


def relative_error(rigid, positions):
    d = (positions[rigid.pairs[:, 0]] - positions[rigid.pairs[:, 1]]).norm(dim=-1)
    return float((d / rigid.lengths - 1.0).abs().max())


def stretching(rigid, positions, velocities):
    i, j = rigid.pairs.T
    return float(((positions[i] - positions[j]) * (velocities[i] - velocities[j])).sum(-1).abs().max())


def rattle(potential, system, rigid, masses, velocities, dt, steps):
    """Velocity Verlet with rigid bonds; yields positions, velocities and total energy."""
    per_force = dt * ACCELERATION / masses.unsqueeze(-1)
    prediction = evaluate_system(potential, system)
    for _ in range(steps):
        velocities = velocities + 0.5 * per_force * prediction.forces
        free = system.positions + dt * velocities
        positions = constrain_positions(rigid, system.positions, free)
        velocities = velocities + (positions - free) / dt
        system = system.replace(positions=positions)
        prediction = evaluate_system(potential, system)
        velocities = constrain_velocities(rigid, positions, velocities + 0.5 * per_force * prediction.forces)
        kinetic = 0.5 * KINETIC * (masses * velocities.square().sum(-1)).sum()
        yield positions, velocities, float(prediction.energy.sum() + kinetic)


# finding


def test_water_is_rigid_altogether_and_the_rest_in_its_bonds_to_hydrogen():
    system, rigid, _ = prepared([mixture(), molecule("CH4"), molecule("H2"), molecule("NH3")])
    assert rigid.count.tolist() == [3 * 3 + 4, 4, 1, 3]
    assert rigid.triangles.atoms.shape == (3, 3)
    # methanol's carbon and oxygen are two groups
    assert rigid.group[:15].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, *rigid.group[9:15].tolist()]
    assert len(set(rigid.group[9:15].tolist())) == 2
    assert relative_error(rigid, system.positions) < 1e-12
    _, only, _ = prepared([mixture(), molecule("CH4")], "water")
    assert only.count.tolist() == [9, 0]
    assert only.members.shape[1] == 3
    assert only.present.sum() == 15 + 5


def test_lengths_are_means_over_bonds_of_a_kind():
    atoms = mixture()
    _, rigid, _ = prepared(atoms)
    waters = [[atoms.get_distance(3 * k, 3 * k + h) for h in (1, 2)] for k in range(3)]
    base = [atoms.get_distance(3 * k + 1, 3 * k + 2) for k in range(3)]
    by_pair = {tuple(sorted(p)): d for p, d in zip(rigid.pairs.tolist(), rigid.lengths.tolist(), strict=True)}
    assert by_pair[0, 1] == pytest.approx(np.mean(waters), rel=1e-12)
    assert by_pair[4, 5] == pytest.approx(np.mean(base), rel=1e-12)
    _, given, _ = prepared(atoms, lengths={"C-H": 1.1, "water O-H": 0.9572, "water H-H": 1.5139})
    assert (given.lengths == 1.1).sum() == 3
    assert (given.lengths == 0.9572).sum() == 6
    assert (given.lengths == 1.5139).sum() == 3
    # the alcohol's own bond is none of them
    assert len(given.lengths.unique()) == 4


def test_lengths_found_before_are_kept():
    system, rigid, masses = prepared(mixture())
    relaxed = system.replace(positions=system.positions * 1.03)
    back, same = find_rigid(relaxed, masses, "h-bonds", lengths_of=rigid)
    assert same is rigid
    assert relative_error(rigid, relaxed.positions) > 0.02
    assert relative_error(rigid, back.positions) < 1e-12


def test_molecules_cut_by_the_boundary_are_made_whole(crystal):
    whole, rigid, _ = prepared(crystal)
    wrapped = crystal.copy()
    wrapped.positions += np.array([0.9, 0.8, 0.7]) @ crystal.cell.array
    wrapped.wrap()
    system, again, _ = prepared(wrapped)
    assert torch.equal(again.pairs, rigid.pairs)
    cut = wrapped.positions[rigid.pairs[:, 0]] - wrapped.positions[rigid.pairs[:, 1]]
    assert np.linalg.norm(cut, axis=-1).max() > 3.0, "the test needs a molecule that is cut"
    assert relative_error(again, system.positions) < 1e-12
    # the same crystal, only shifted: by lattice vectors, but for the small corrections of both
    shift = np.array([0.9, 0.8, 0.7]) @ crystal.cell.array
    images = np.linalg.solve(crystal.cell.array.T, (system.positions.numpy() - shift - whole.positions.numpy()).T)
    np.testing.assert_allclose(images, np.round(images), atol=1e-9)
    assert torch.equal(system.cell, System.from_atoms(crystal).cell)


def test_ions_and_hydrogen_bonds_do_not_confuse():
    # potassium 2.55 Å from a water's hydrogen, within covalent radii
    water = turned("H2O", 0, noise=0.0)
    atoms = water + ase.Atoms("K", [water.positions[1] + 2.55 * (water.positions[1] - water.positions[0]) / 0.9686])
    _, rigid, _ = prepared(atoms)
    assert rigid.count.tolist() == [3]
    assert rigid.group.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("atoms", "kind", "options", "words"),
    [
        (ase.Atoms("OHO", [[0, 0, 0], [1.19, 0, 0], [2.4, 0, 0]]), "h-bonds", {}, "H 1 is shared by O 0 and O 2"),
        (ase.Atoms("H3", [[0, 0, 0], [0.66, 0, 0], [1.46, 0, 0]]), "h-bonds", {}, "H 2 is bonded to H 1"),
        (molecule("CO2"), "h-bonds", {}, "no bond to hydrogen"),
        (molecule("CH4"), "water", {}, "no water"),
        (molecule("CH4"), "hbonds", {}, "h-bonds or water"),
        (molecule("CH4"), "h-bonds", {"lengths": {"C-h": 1.1}}, "did you mean 'C-H'"),
        (molecule("CH4"), "h-bonds", {"lengths": {"C-H": 0.11}}, "0.11 Å"),
        (molecule("H2O"), "water", {"lengths": {"water H-H": 2.0}}, "triangle"),
        (molecule("H2O"), "water", {"frozen": torch.tensor([True, False, False])}, "freeze the whole group"),
        (molecule("CH4"), "h-bonds", {"frozen": torch.tensor([False, True, False, False, False])}, "H 1 and C 0"),
        (molecule("CH4"), "h-bonds", {"frozen": torch.ones(5, dtype=torch.bool)}, "no bond to hydrogen"),
    ],
)
def test_refused_in_words(atoms, kind, options, words):
    with pytest.raises(InputError, match=words):
        prepared(atoms, kind, **options)


# holding


def displaced(rigid, system, masses, dt=2.0, temperature=600.0, seed=3):
    velocities = constrain_velocities(rigid, system.positions, thermal(masses, temperature, seed))
    return system.positions + dt * velocities + 0.3 * thermal(masses, 1e4, seed + 1)


def test_settle_is_shake():
    system, rigid, masses = prepared([turned("H2O", k) for k in range(40)], "water")
    positions = displaced(rigid, system, masses)
    by_settle = constrain_positions(rigid, system.positions, positions)
    by_shake, error = shake(rigid.waters, system.positions, positions)
    assert (by_settle - positions).norm(dim=-1).max() > 0.01
    assert float(error.max()) < 1e-12
    torch.testing.assert_close(by_settle, by_shake, atol=1e-11, rtol=0)


@pytest.mark.parametrize("heavy", [3.024, 2.014])
def test_water_with_unequal_hydrogens_is_held_too(heavy):
    system = System.from_atoms(turned("H2O", 4))
    masses = masses_of(system)
    masses[1] = heavy
    system, rigid = find_rigid(system, masses, "water")
    assert rigid.triangles is None
    positions = displaced(rigid, system, masses)
    held = constrain_positions(rigid, system.positions, positions)
    assert relative_error(rigid, held) < 1e-10
    center = (masses.unsqueeze(-1) * (held - positions)).sum(0)
    assert center.abs().max() < 1e-12


def test_corrections_leave_momentum_and_angular_momentum():
    system, rigid, masses = prepared(mixture())
    positions = displaced(rigid, system, masses)
    held = constrain_positions(rigid, system.positions, positions)
    push = masses.unsqueeze(-1) * (held - positions)
    assert push.abs().max() > 1e-2
    assert push.sum(0).abs().max() < 1e-12
    assert torch.linalg.cross(system.positions, push).sum(0).abs().max() < 1e-11
    velocities = thermal(masses, 300.0)
    kick = masses.unsqueeze(-1) * (constrain_velocities(rigid, held, velocities) - velocities)
    assert kick.abs().max() > 1e-3
    assert kick.sum(0).abs().max() < 1e-14
    assert torch.linalg.cross(held, kick).sum(0).abs().max() < 1e-13


def test_the_velocity_stage_is_the_projection_in_the_mass_metric():
    system, rigid, masses = prepared(mixture())
    velocities = thermal(masses, 300.0)
    held = constrain_velocities(rigid, system.positions, velocities)
    # dense linear algebra over all constraints at once
    rows = torch.zeros(len(rigid.pairs), system.n_atoms, 3, dtype=torch.float64)
    bonds = system.positions[rigid.pairs[:, 0]] - system.positions[rigid.pairs[:, 1]]
    for k, (i, j) in enumerate(rigid.pairs.tolist()):
        rows[k, i], rows[k, j] = bonds[k], -bonds[k]
    rows = rows.flatten(1)
    weighted = rows / masses.repeat_interleave(3)
    multipliers = torch.linalg.solve(weighted @ rows.T, rows @ velocities.flatten())
    expected = (velocities.flatten() - weighted.T @ multipliers).view(-1, 3)
    torch.testing.assert_close(held, expected, atol=1e-15, rtol=1e-12)
    assert stretching(rigid, system.positions, held) < 1e-14


def test_a_batch_is_held_as_its_members_are():
    frames = [mixture(), turned("CH4", 1), turned("H2O", 2), turned("H2", 3), turned("C2H6", 4)]
    system, rigid, masses = prepared(frames)
    positions = displaced(rigid, system, masses)
    together = constrain_positions(rigid, system.positions, positions)
    velocities = constrain_velocities(rigid, together, thermal(masses, 300.0))
    for b, frame in enumerate(frames):
        mine = system.batch == b
        own, alone, _ = prepared(frame)
        torch.testing.assert_close(own.positions, system.positions[mine], atol=1e-14, rtol=0)
        held = constrain_positions(alone, own.positions, positions[mine])
        torch.testing.assert_close(held, together[mine], atol=1e-13, rtol=0)
        slow = constrain_velocities(alone, held, thermal(masses, 300.0)[mine])
        torch.testing.assert_close(slow, velocities[mine], atol=1e-14, rtol=0)


def test_looking_seldom_at_the_error_changes_nothing():
    system, rigid, masses = prepared(mixture())
    positions = displaced(rigid, system, masses)
    often, _ = shake(rigid.clusters, system.positions, positions, every=1)
    seldom, error = shake(rigid.clusters, system.positions, positions, every=6)
    assert float(error.max()) < 1e-13
    torch.testing.assert_close(often, seldom, atol=1e-13, rtol=0)


@pytest.mark.parametrize(("name", "words"), [("CH4", "C 0, H 1"), ("H2O", "O 0, H 1, H 2")])
def test_a_step_far_too_long_is_refused(name, words):
    system, rigid, _ = prepared([turned("NH3", 1), turned(name, 2)])
    positions = system.positions.clone()
    positions[4:] += 3.0 * torch.tensor(np.random.default_rng(2).normal(size=(len(positions) - 4, 3)))
    with pytest.raises(SimulationError, match=f"{words}.* of structure 1.*smaller timestep".replace(", ", ".*, ")):
        constrain_positions(rigid, system.positions, positions, system)
    with pytest.raises(SimulationError, match=r"atoms \[4, 5, 6"):
        constrain_positions(rigid, system.positions, positions)


def test_a_frozen_heavy_atom_holds_its_hydrogens():
    frozen = torch.tensor([True, False, False, False, False])
    system, rigid, masses = prepared(turned("CH4", 5), frozen=frozen)
    positions = displaced(rigid, system, masses)
    positions[0] = system.positions[0]
    held = constrain_positions(rigid, system.positions, positions)
    assert torch.equal(held[0], positions[0])
    assert relative_error(rigid, held) < 1e-12
    # with its centre fixed, each bond only shrinks along the reference: one quadratic equation
    bond, free = system.positions[1] - system.positions[0], positions[1] - positions[0]
    a, b, c = bond.dot(bond), 2.0 * bond.dot(free), free.dot(free) - rigid.lengths[0] ** 2
    factor = (-b + (b * b - 4.0 * a * c).sqrt()) / (2.0 * a)
    torch.testing.assert_close(held[1] - held[0], free + factor * bond, atol=1e-12, rtol=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_openmm_drifts_to_the_same_place():
    openmm = pytest.importorskip("openmm")
    # OpenMM keeps the lengths of waters in nm as float32
    exact = {f"water {name}": 10.0 * float(np.float32(d)) for name, d in (("O-H", 0.09572), ("H-H", 0.15139))}
    system, rigid, masses = prepared([turned("H2O", 1) + turned("CH4", 2, (4, 0, 0))], lengths=exact)
    velocities = constrain_velocities(rigid, system.positions, thermal(masses, 900.0))
    other = openmm.System()
    for mass in masses.tolist():
        other.addParticle(mass)
    for (i, j), d in zip(rigid.pairs.tolist(), rigid.lengths.tolist(), strict=True):
        other.addConstraint(i, j, 0.1 * d)
    dt = 3.0
    integrator = openmm.VerletIntegrator(1e-3 * dt)
    integrator.setConstraintTolerance(1e-12)
    context = openmm.Context(other, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(0.1 * system.positions.numpy())
    context.setVelocities(100.0 * velocities.numpy())
    integrator.step(1)
    there = 10.0 * context.getState(getPositions=True).getPositions(asNumpy=True)._value
    here = constrain_positions(rigid, system.positions, system.positions + dt * velocities)
    assert (here - system.positions - dt * velocities).abs().max() > 1e-3
    np.testing.assert_allclose(here.numpy(), there, atol=1e-9)


# moving


def test_energy_error_falls_as_the_square_of_the_timestep():
    potential = Morse(0.03, 1.2, 3.0)
    system, rigid, masses = prepared(mixture())
    velocities = constrain_velocities(rigid, system.positions, thermal(masses, 150.0))
    steps = np.array([2.0, 1.0, 0.5])
    errors = []
    for dt in steps:
        path = list(rattle(potential, system, rigid, masses, velocities, dt, round(100 / dt)))
        assert relative_error(rigid, path[-1][0]) < 1e-10
        assert stretching(rigid, *path[-1][:2]) < 1e-12
        errors.append(np.std([energy for *_, energy in path]))
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert 1.8 < slope < 2.2


def test_going_back_leads_to_the_start():
    potential = Morse(0.03, 1.2, 3.0)
    system, rigid, masses = prepared(mixture())
    start = constrain_velocities(rigid, system.positions, thermal(masses, 150.0))
    *_, (positions, velocities, _) = rattle(potential, system, rigid, masses, start, 1.0, 50)
    assert (positions - system.positions).abs().max() > 0.1
    back = rattle(potential, system.replace(positions=positions), rigid, masses, -velocities, 1.0, 50)
    *_, (positions, velocities, _) = back
    torch.testing.assert_close(positions, system.positions, atol=1e-9, rtol=0)
    torch.testing.assert_close(-velocities, start, atol=1e-9, rtol=0)


# pressure


def fluid():
    """Waters and a methanol in a triclinic box, with forces between all atoms."""
    frame = mixture()
    frame.set_cell([[11.0, 0.0, 0.0], [1.0, 10.5, 0.0], [-0.8, 1.3, 9.8]])
    frame.pbc = True
    return prepared([frame, frame[:6]])


def test_group_virial_is_the_derivative_under_strains_of_the_centres():
    system, rigid, masses = fluid()
    potential = Morse(0.03, 1.2, 3.0, cutoff=15.0)
    prediction = evaluate_system(potential, system, virial=True)
    virial = group_virial(rigid, prediction.virial, system.positions, prediction.forces, masses, system)
    assert (virial - prediction.virial).abs().max() > 1e-2
    step, numeric = 1e-5, torch.zeros(2, 3, 3, dtype=torch.float64)
    for a in range(3):
        for b in range(3):
            energies = []
            for sign in (1.0, -1.0):
                gradient = torch.eye(3, dtype=torch.float64).repeat(2, 1, 1)
                gradient[:, a, b] += sign * step
                moved = scale_groups(rigid, system.positions, masses, gradient, system)
                assert relative_error(rigid, moved) < 1e-12
                strained = system.replace(positions=moved, cell=system.cell @ gradient)
                energies.append(evaluate_system(potential, strained, forces=False).energy)
            numeric[:, a, b] = -(energies[0] - energies[1]) / (2.0 * step)
    torch.testing.assert_close(virial, 0.5 * (numeric + numeric.mT), atol=1e-7, rtol=1e-6)


def test_groups_have_the_momentum_of_their_atoms():
    system, rigid, masses = fluid()
    velocities = thermal(masses, 300.0)
    tensor = group_kinetic_tensor(rigid, velocities, masses, system.batch, 2)
    by_hand = torch.zeros(2, 3, 3, dtype=torch.float64)
    for g in range(len(rigid.members)):
        mine = rigid.group == g
        momentum = (masses[mine].unsqueeze(-1) * velocities[mine]).sum(0)
        by_hand[system.batch[mine][0]] += KINETIC * torch.outer(momentum, momentum) / masses[mine].sum()
    torch.testing.assert_close(tensor, by_hand, atol=1e-14, rtol=1e-12)
    alone = group_kinetic_tensor(rigid, velocities, masses, torch.zeros_like(system.batch), 1)
    torch.testing.assert_close(alone[0], by_hand.sum(0), atol=1e-14, rtol=1e-12)
    centers = group_centers(rigid, system.positions, masses)
    numpy_center = System.to_atoms(system)[0][:3].get_center_of_mass()
    np.testing.assert_allclose(centers[rigid.group[0]].numpy(), numpy_center, atol=1e-9)
