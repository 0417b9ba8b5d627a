"""What must hold for SO3LR whatever its parameters are: symmetries, derivatives, smoothness, additivity."""

from __future__ import annotations

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule
from scipy.spatial.transform import Rotation

import heliodor
from heliodor.potential import evaluate_system
from heliodor.system import System
from support import TERMS, embedded_references

NAMES = tuple(TERMS)


def water_box() -> ase.Atoms:
    (reference,) = (r for r in embedded_references() if r.name == "water64_lr12_allimages")
    return reference.atoms


def close(a, b, tolerance: float) -> None:
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=0, atol=tolerance)


# symmetries -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("improper", [1, -1])
def test_rotation_of_a_molecule(so3lr, atoms, rng, improper):
    turn = improper * Rotation.random(rng=rng).as_matrix()
    turned = atoms.copy()
    turned.positions = atoms.positions @ turn
    a, b = heliodor.evaluate(so3lr, atoms), heliodor.evaluate(so3lr, turned)
    for name in NAMES:
        close(b.terms[name], a.terms[name], 1e-10)
    close(b.forces, a.forces.numpy() @ turn, 1e-10)
    close(b.dipole, a.dipole.numpy() @ turn, 1e-10)
    close(b.charges, a.charges, 1e-11)
    close(b.hirshfeld_ratios, a.hirshfeld_ratios, 1e-11)


def test_rotation_of_a_crystal(so3lr_at, crystal, rng):
    potential = so3lr_at(8.0)
    turn = Rotation.random(rng=rng).as_matrix()
    turned = crystal.copy()
    turned.set_cell(crystal.cell.array @ turn)
    turned.positions = crystal.positions @ turn
    a, b = heliodor.evaluate(potential, crystal), heliodor.evaluate(potential, turned)
    close(b.energy, a.energy, 1e-10)
    close(b.forces, a.forces.numpy() @ turn, 1e-10)
    close(b.stress[0], turn.T @ a.stress[0].numpy() @ turn, 1e-12)
    assert abs(a.stress).max() > 1e-3


def test_translation_and_permutation(so3lr, atoms, rng):
    order = rng.permutation(len(atoms))
    other = atoms[order]
    other.positions += rng.normal(scale=10, size=3)
    a, b = heliodor.evaluate(so3lr, atoms), heliodor.evaluate(so3lr, other)
    for name in NAMES:
        close(b.terms[name], a.terms[name], 1e-10)
    close(b.forces, a.forces[order], 1e-10)
    close(b.charges, a.charges[order], 1e-11)
    close(b.dipole, a.dipole, 1e-10)


def test_total_force_and_torque_vanish(so3lr, atoms):
    forces = heliodor.evaluate(so3lr, atoms).forces.numpy()
    close(forces.sum(0), np.zeros(3), 1e-11)
    close(np.cross(atoms.positions, forces).sum(0), np.zeros(3), 1e-10)
    assert abs(forces).max() > 0.1


def test_lattice_translations(so3lr_at, crystal, rng):
    """Atoms moved by lattice vectors, and another basis of the same lattice: the same crystal."""
    potential = so3lr_at(8.0)
    other = crystal.copy()
    other.positions += rng.integers(-3, 4, (len(crystal), 3)) @ crystal.cell.array
    other.set_cell(np.array([[1, 0, 0], [1, 1, 0], [-1, 2, 1]]) @ crystal.cell.array)
    a, b = heliodor.evaluate(potential, crystal), heliodor.evaluate(potential, other)
    for name in NAMES:
        close(b.terms[name], a.terms[name], 1e-10)
    close(b.forces, a.forces, 1e-10)
    close(b.stress, a.stress, 1e-12)


@pytest.mark.parametrize("repeat", [(2, 1, 1), (1, 2, 2)])
def test_supercell_of_a_crystal(so3lr_at, crystal, repeat):
    potential = so3lr_at(8.0)
    n = int(np.prod(repeat))
    a, b = heliodor.evaluate(potential, crystal), heliodor.evaluate(potential, crystal.repeat(repeat))
    for name in NAMES:
        close(b.terms[name], n * a.terms[name], 1e-9)
    close(b.forces, np.tile(a.forces, (n, 1)), 1e-10)
    close(b.stress, a.stress, 1e-12)


def test_a_small_water_box_is_an_eighth_of_the_large_one(so3lr_at):
    """12.4 Å box, 12 Å cutoff: self-images and several images of each pair, no minimum image."""
    potential, box = so3lr_at(12.0), water_box()
    small = heliodor.evaluate(potential, box, forces=False)
    large = heliodor.evaluate(potential, box.repeat(2), forces=False)
    for name in NAMES:
        close(large.terms[name], 8 * small.terms[name], 1e-8)
    close(large.node_energy[:192], small.node_energy, 1e-10)


def test_a_huge_box_is_vacuum(so3lr_at, atoms):
    boxed = atoms.copy()
    boxed.set_cell([60, 61, 62])
    boxed.pbc = True
    a, b = heliodor.evaluate(so3lr_at(12.0), atoms), heliodor.evaluate(so3lr_at(12.0), boxed)
    close(b.energy, a.energy, 1e-11)
    close(b.forces, a.forces, 1e-11)


def test_a_cell_without_periodicity_means_nothing(so3lr_at, atoms):
    celled = atoms.copy()
    celled.set_cell([3, 3, 3])
    assert torch.equal(
        heliodor.evaluate(so3lr_at(12.0), celled).energy, heliodor.evaluate(so3lr_at(12.0), atoms).energy
    )


def test_slab_and_wire(so3lr_at, crystal):
    """Periodic in some directions: the crystal stretched until it has no neighbours there."""
    potential = so3lr_at(8.0)
    crystal.wrap()
    for free in ((2,), (0, 1)):
        cell = crystal.cell.array.copy()
        for axis in free:
            normal = np.cross(cell[(axis + 1) % 3], cell[(axis + 2) % 3])
            cell[axis] = normal / np.linalg.norm(normal) * 60.0
        stretched = ase.Atoms(crystal.numbers, crystal.positions, cell=cell, pbc=True)
        partly = stretched.copy()
        partly.pbc = [axis not in free for axis in range(3)]
        a, b = heliodor.evaluate(potential, stretched), heliodor.evaluate(potential, partly)
        close(b.energy, a.energy, 1e-10)
        close(b.forces, a.forces, 1e-10)
        assert b.stress is None


# derivatives ------------------------------------------------------------------------------------------------


def term_energies(potential, system: System) -> torch.Tensor:
    """[T, B] eV."""
    terms = potential(system, potential.neighbors(system)).energies
    return torch.stack([torch.zeros_like(system.charge).index_add(0, system.batch, terms[name]) for name in NAMES])


def test_forces_are_the_gradient(so3lr, atoms):
    """Central differences of every coordinate, all displaced copies in one batch; each term by itself."""
    step, n = 1e-3, len(atoms)
    copies = []
    for k in range(3 * n):
        for factor in (2, 1, -1, -2):
            copy = atoms.copy()
            copy.positions[divmod(k, 3)] += factor * step
            copies.append(copy)
    with torch.no_grad():
        energies = term_energies(so3lr, System.from_atoms(copies)).view(len(NAMES), n, 3, 4)
    weights = torch.tensor([-1.0, 8.0, -8.0, 1.0], dtype=torch.float64) / (12 * step)
    numerical = energies @ weights
    system = System.from_atoms(atoms)
    moving = system.replace(positions=system.positions.requires_grad_())
    by_term = term_energies(so3lr, moving).squeeze(1)
    for index, name in enumerate(NAMES):
        (gradient,) = torch.autograd.grad(by_term[index], moving.positions, retain_graph=True)
        np.testing.assert_allclose(gradient, numerical[index], rtol=0, atol=2e-7, err_msg=name)
    close(heliodor.evaluate(so3lr, atoms).forces, -numerical.sum(0), 5e-7)


def test_stress_is_the_strain_derivative(so3lr_at, crystal):
    """All nine components for every term: σ = (1/V) ∂E/∂ε, symmetric because energies are rotation invariant."""
    potential, step = so3lr_at(7.0), 2e-4
    system = System.from_atoms(crystal)
    numerical = torch.zeros(len(NAMES), 3, 3, dtype=torch.float64)
    for a in range(3):
        for b in range(3):
            for factor, weight in ((2, -1), (1, 8), (-1, -8), (-2, 1)):
                strain = torch.zeros(1, 3, 3, dtype=torch.float64)
                strain[0, a, b] = factor * step
                with torch.no_grad():
                    numerical[:, a, b] += weight * term_energies(potential, system.deform(strain))[:, 0] / (12 * step)
    strain = torch.zeros(1, 3, 3, dtype=torch.float64, requires_grad=True)
    by_term = term_energies(potential, system.deform(strain))[:, 0]
    for index, name in enumerate(NAMES):
        (gradient,) = torch.autograd.grad(by_term[index], strain, retain_graph=True)
        assert gradient.abs().max() > 1e-2
        np.testing.assert_allclose(gradient[0], numerical[index], rtol=0, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(gradient[0], gradient[0].T, rtol=0, atol=1e-9, err_msg=name)
    stress = heliodor.evaluate(potential, crystal).stress[0]
    close(stress, numerical.sum(0) / crystal.get_volume(), 1e-7)


def test_stress_is_negative_under_compression(so3lr_at):
    """ASE's sign."""
    box = water_box()
    box.set_cell(box.cell.array * 0.8, scale_atoms=True)
    pressure = -torch.diagonal(heliodor.evaluate(so3lr_at(6.0), box).stress[0]).mean()
    assert pressure > 0.05


def test_forces_of_forces(so3lr, atoms):
    """Second derivatives by autograd against differences of forces: losses on forces and Hessians can be trusted."""
    system = System.from_atoms(atoms)
    positions = system.positions.requires_grad_()
    moving = system.replace(positions=positions)
    energy = term_energies(so3lr, moving).sum()
    (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)
    direction = torch.from_numpy(np.random.default_rng(7).normal(size=positions.shape))
    (product,) = torch.autograd.grad((gradient * direction).sum(), positions)
    step = 1e-4
    frames = [atoms.copy(), atoms.copy()]
    frames[0].positions += step * direction.numpy()
    frames[1].positions -= step * direction.numpy()
    forces = heliodor.evaluate(so3lr, frames).forces.view(2, -1, 3)
    close(product, -(forces[0] - forces[1]) / (2 * step), 1e-4)


def test_gradient_of_a_force_loss(crystal):
    """d(loss on forces)/d(parameter) of `evaluate_system(create_graph=True)` against differences."""
    potential = heliodor.load("so3lr", device="cpu", dtype="float64", long_range_cutoff=6.0)
    system = System.from_atoms(crystal)
    neighbors = potential.neighbors(system)
    chosen = [potential.network.layers[0].project_x, potential.charge_head.hidden.weight, potential.zbl.power]

    def loss(create_graph: bool) -> torch.Tensor:
        prediction = evaluate_system(potential, system, neighbors, stress=True, create_graph=create_graph)
        return prediction.forces.square().mean() + 100 * prediction.stress.square().sum()

    for parameter in chosen:
        parameter.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(True), parameter)
        assert gradient.abs().max() > 0
        direction = gradient.detach().sign()
        step = 1e-5 / direction.abs().sum()
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter += sign * step * direction
            values.append(float(loss(False)))
            with torch.no_grad():
                parameter -= sign * step * direction
        assert (values[0] - values[1]) / (2 * step) == pytest.approx((gradient * direction).sum().item(), rel=1e-4)
        parameter.requires_grad_(False)


# smoothness -------------------------------------------------------------------------------------------------

CUTOFF = 10.0


@pytest.mark.parametrize(
    "distance", [1.5, 4.5, 0.45 * CUTOFF, CUTOFF - 2.0, CUTOFF], ids=["zbl", "network", "0.45R", "R-2", "R"]
)
@pytest.mark.parametrize("charge", [0.0, -2.0])
def test_smooth_across_every_cutoff(so3lr_at, distance, charge):
    """Energy and slope of each term run through the places where something is switched, along O···S."""
    potential = so3lr_at(CUTOFF)
    h = 1e-5
    places = distance + h * np.arange(-3, 4).astype(float)
    places[3] += 1e-9  # exactly at the cutoff a pair may count or not
    frames = [ase.Atoms("OS", [(0, 0, 0), (0, 0, d)], info={"charge": charge}) for d in places]
    system = System.from_atoms(frames)
    moving = system.replace(positions=system.positions.requires_grad_())
    energies = term_energies(potential, moving)
    for index, name in enumerate(NAMES):
        (gradient,) = torch.autograd.grad(energies[index].sum(), moving.positions, retain_graph=True)
        slope = gradient[1::2, 2].numpy()
        energy = energies[index].detach().numpy()
        # a step in the energy: what the slopes do not explain
        unexplained = np.diff(energy) - 0.5 * (slope[1:] + slope[:-1]) * np.diff(places)
        assert abs(unexplained).max() < 1e-12, name
        # a step in the slope: at most a curvature of 20 eV/Å² (1.5 Å is a bond), or 0.5 elsewhere
        assert abs(np.diff(slope)).max() < (200 if distance < 2 else 0.5) * h, name


def test_nothing_reaches_beyond_the_cutoff(so3lr_at):
    apart = [ase.Atoms("O2", [(0, 0, 0), (0, 0, d)], info={"spin": 2}) for d in (CUTOFF + 1e-6, 15.0, 500.0)]
    prediction = heliodor.evaluate(so3lr_at(CUTOFF), apart)
    close(prediction.forces, torch.zeros(6, 3), 1e-14)
    close(prediction.energy, prediction.energy[:1].expand(3), 1e-12)


# additivity -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cutoff", [None, 12.0])
def test_two_far_copies(so3lr_at, atoms, cutoff):
    """The same neutral molecule twice: the charge correction is the same in both, so energies just add.

    So far apart because the potential of a dipole (k_e μ/r², felt through ∂q/∂R) is 1e-6 V at 2000 Å.
    """
    pair = atoms + atoms
    pair.positions[len(atoms) :] += (1e5, 5e4, 0.0)
    one, two = (heliodor.evaluate(so3lr_at(cutoff), a) for a in (atoms, pair))
    for name in NAMES:
        close(two.terms[name], 2 * one.terms[name], 2e-9)
    close(two.forces, np.tile(one.forces, (2, 1)), 5e-9)


@pytest.mark.parametrize("cutoff", [None, 12.0])
def test_two_different_far_molecules(so3lr_at, cutoff):
    """Charges are equilibrated over the whole structure, so unlike neutral fragments exchange some 0.003 e."""
    a, b = molecule("CH3OH"), molecule("CH3SH")
    b.positions += (2000.0, 0.0, 0.0)
    apart = heliodor.evaluate(so3lr_at(cutoff), [a, b])
    together = heliodor.evaluate(so3lr_at(cutoff), a + b)
    for name in ("so3krates", "zbl", "dispersion"):
        close(together.terms[name][0], apart.terms[name].sum(), 1e-9)
    gap = abs(float(together.energy[0] - apart.energy.sum()))
    transfer = abs(float(together.charges[: len(a)].sum()))
    assert 1e-7 < gap < 1e-2
    assert 1e-5 < transfer < 2e-2

    own = heliodor.evaluate(so3lr_at(cutoff), a + b, fragments=[0] * len(a) + [1] * len(b), fragment_charges=[0.0, 0.0])
    close(own.energy[0], apart.energy.sum(), 2e-9)
    close(own.charges, apart.charges, 1e-11)


def test_fragments_keep_their_charge(so3lr):
    (reference,) = (r for r in embedded_references() if r.name == "sapt_01533_cat")
    dimer = reference.atoms
    index = np.array([0] * 13 + [1] * 16)
    free = heliodor.evaluate(so3lr, dimer)
    own = heliodor.evaluate(so3lr, dimer, fragments=index, fragment_charges=[1.0, 0.0])
    assert free.charges.sum().item() == pytest.approx(1.0, abs=1e-12)
    assert own.charges[:13].sum().item() == pytest.approx(1.0, abs=1e-12)
    assert own.charges[13:].sum().item() == pytest.approx(0.0, abs=1e-12)
    assert abs(free.charges[13:].sum().item()) > 1e-3
    close(own.terms["so3krates"], free.terms["so3krates"], 0)
    assert abs(own.terms["electrostatics"] - free.terms["electrostatics"]).item() > 1e-4

    whole = heliodor.evaluate(so3lr, dimer, fragments=np.zeros(29, dtype=int), fragment_charges=[1.0])
    close(whole.energy, free.energy, 1e-12)
    close(whole.forces, free.forces, 1e-12)


def test_forces_with_fragments(so3lr):
    """The correction differs, the gradient has to run through it all the same."""
    pair = molecule("H2O") + molecule("CH3OH")
    pair.positions[3:] += (0.3, 0.2, 3.1)
    arguments = {"fragments": [0] * 3 + [1] * 6, "fragment_charges": [0.0, 0.0]}
    forces = heliodor.evaluate(so3lr, pair, **arguments).forces
    for k in (0, 4, 13, 25):
        energies = []
        for step in (1e-4, -1e-4):
            moved = pair.copy()
            moved.positions[divmod(k, 3)] += step
            energies.append(float(heliodor.evaluate(so3lr, moved, forces=False, **arguments).energy[0]))
        assert forces.flatten()[k].item() == pytest.approx(-(energies[0] - energies[1]) / 2e-4, abs=1e-6)


def test_charges_add_up(so3lr_at, crystal, atoms):
    ion = molecule("H2O") + ase.Atoms("H", [(0.0, 0.0, 1.2)])
    ion.info["charge"] = 1
    system = System.from_atoms([atoms, ion, crystal])
    potential = so3lr_at(6.0)
    charges = potential(system, potential.neighbors(system)).charges
    sums = torch.zeros(3, dtype=torch.float64).index_add(0, system.batch, charges)
    close(sums, [0.0, 1.0, 0.0], 1e-12)


# lists with a skin, lower precision -------------------------------------------------------------------------


def test_a_skin_changes_nothing(so3lr_at, crystal, atoms):
    potential = so3lr_at(7.0)
    system = System.from_atoms([crystal, atoms])
    plain = evaluate_system(potential, system)
    for skin in (0.3, 1.0):
        skinned = evaluate_system(potential, system, potential.neighbors(system, skin))
        for name in NAMES:
            close(skinned.terms[name], plain.terms[name], 1e-11)
        close(skinned.forces, plain.forces, 1e-11)


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_float32(so3lr_at, crystal, offset):
    """Within 1e-4 eV/Å of float64, wherever the structure lies: edge vectors are formed in float64."""
    single = heliodor.load("so3lr", device="cpu", dtype="float32", long_range_cutoff=12.0)
    for frame in (molecule("CH3CONH2"), molecule("CH3SH"), crystal, water_box()):
        frame.positions += offset * np.array([1.0, -0.7, 0.3])
        a, b = heliodor.evaluate(single, frame), heliodor.evaluate(so3lr_at(12.0), frame)
        close(a.forces, b.forces, 1e-4)
        close(a.energy / len(frame), b.energy / len(frame), 1e-5)
        if b.stress is not None:
            close(a.stress, b.stress, 1e-5)


def test_same_bits_twice(so3lr, atoms, crystal):
    a, b = (heliodor.evaluate(so3lr, [atoms, crystal]) for _ in range(2))
    assert torch.equal(a.forces, b.forces)
    assert torch.equal(a.energy, b.energy)
