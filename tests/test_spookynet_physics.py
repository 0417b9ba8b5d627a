"""What must hold for SpookyNet whatever its parameters are, and what is known not to hold."""

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
from spookynet_references import at_cutoff, frames, model

STRUCTURES = frames()
BOHR = 0.5291772105638411


def close(a, b, tolerance: float) -> None:
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=0, atol=tolerance)


def bent(rng: np.random.Generator, name: str, **info) -> ase.Atoms:
    """A molecule out of its symmetry."""
    atoms = molecule(name)
    atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
    atoms.info |= info
    return atoms


@pytest.mark.parametrize("name", ["parameters", "random_legacy_T2F32_rc3.7"])
@pytest.mark.parametrize("improper", [1, -1])
def test_rotation_translation_and_permutation(name, improper, rng):
    potential = model(name)
    for atoms in (STRUCTURES["acetate-"], STRUCTURES["ch2_triplet"], bent(rng, "CH3CONH2")):
        turn, order = improper * Rotation.random(rng=rng).as_matrix(), rng.permutation(len(atoms))
        other = atoms[order]
        other.positions = other.positions @ turn + rng.normal(scale=10, size=3)
        a, b = (evaluate_system(potential, System.from_atoms(x)) for x in (atoms, other))
        for term in a.terms:
            close(b.terms[term], a.terms[term], 1e-10)
        close(b.forces, a.forces[order].numpy() @ turn, 1e-10)
        close(b.charges, a.charges[order], 1e-11)


@pytest.mark.parametrize("name", ["random_legacy_T2F32_rc3.7", "random_ssp_noD4_T2F32_rc4.5", "parameters"])
def test_forces_are_the_derivative(name, rng):
    potential, atoms = model(name), STRUCTURES["acetate-"]
    system = System.from_atoms(atoms)
    direction, step = torch.from_numpy(rng.normal(size=atoms.positions.shape)), 1e-4
    up, down = (
        evaluate_system(potential, system.replace(positions=system.positions + s * direction), forces=False).energy
        for s in (step, -step)
    )
    forces = evaluate_system(potential, system).forces
    close((down - up) / (2 * step), (forces * direction).sum(), 2e-6)


def test_stress_is_the_derivative(rng):
    """A triclinic box smaller than the long-range cutoff."""
    potential = model("random_legacy_T2F32_rc3.7", 7.5)
    system = System.from_atoms(STRUCTURES["water12_triclinic"])
    strain, step = torch.from_numpy(rng.normal(size=(1, 3, 3))), 1e-5
    strain = strain + strain.mT
    up, down = (evaluate_system(potential, system.deform(s * strain), forces=False).energy for s in (step, -step))
    found = evaluate_system(potential, system, stress=True)
    close((up - down) / (2 * step), (found.stress * strain).sum() * system.volume, 1e-5)
    close(found.forces.sum(0), 0, 1e-10)
    assert abs(found.stress).max() > 1e-3


def test_a_supercell_is_extensive():
    """Copies of a cell share the attention of all atoms, whose normalisation makes up for their number."""
    potential = model("parameters", 20 * BOHR)
    cell = STRUCTURES["water12_triclinic"]
    one = evaluate_system(potential, System.from_atoms(cell), stress=True)
    two = evaluate_system(potential, System.from_atoms(cell.repeat((2, 1, 1))), stress=True)
    for term in one.terms:
        close(two.terms[term], 2 * one.terms[term], 1e-6)
    close(two.forces, one.forces.repeat(2, 1), 1e-6)
    close(two.stress, one.stress, 1e-8)


def test_a_batch_of_mixed_sizes_is_its_members(rng):
    names = [
        "ala_dipeptide",
        "h2o",
        "o_atom",
        "acetate-",
        "ch2_triplet",
        "zn_h2o6_2+",
        "mesSme",
        "o_atom",
        "benzene_cation",
    ]
    atoms = [STRUCTURES[name] for name in names]
    for potential in (model("parameters"), model("random_legacy_T2F32_rc3.7")):
        together = evaluate_system(potential, System.from_atoms(atoms))
        alone = [evaluate_system(potential, System.from_atoms(x)) for x in atoms]
        close(together.energy, torch.cat([p.energy for p in alone]), 1e-11)
        close(together.forces, torch.cat([p.forces for p in alone]), 1e-11)
        close(together.charges, torch.cat([p.charges for p in alone]), 1e-13)


def test_float32_is_float64_within_its_precision():
    exact, rough = model("parameters"), heliodor.load("spookynet-gfn2", device="cpu", dtype="float32")
    for name in ("h2o", "acetate-", "zn_h2o6_2+", "ala_dipeptide"):
        a, b = (evaluate_system(p, System.from_atoms(STRUCTURES[name])) for p in (exact, rough))
        close(b.energy, a.energy, 3e-5)
        close(b.forces, a.forces, 3e-5)
    # here two exponents of the attention are nearly the largest, 1e-4 of their size apart
    exact, system = at_cutoff(model("parameters"), 20 * BOHR), System.from_atoms(STRUCTURES["water12_triclinic"])
    a, b = (evaluate_system(at_cutoff(exact, 20 * BOHR).to(dtype), system) for dtype in (torch.float64, torch.float32))
    close(b.forces, a.forces, 3e-5)


def test_forces_have_the_symmetry_of_the_molecule():
    """The attention's largest exponent is shared by equivalent atoms: no one of them is singled out."""
    benzene = evaluate_system(model("random_ssp_noD4_T2F32_rc4.5"), System.from_atoms(molecule("C6H6"))).forces
    sizes = benzene.norm(dim=1)
    close(sizes[:6], sizes[0].expand(6), 1e-4 * float(sizes[0]))
    close(benzene[:, 2], 0, 1e-10)
    methane = evaluate_system(model("parameters"), System.from_atoms(molecule("CH4"))).forces
    close(methane[0], [0, 0, 0], 1e-9)


# where the model is not size-consistent ------------------------------------------------------------------------


def apart(first: str, second: str, distance: float) -> tuple[ase.Atoms, ase.Atoms, ase.Atoms]:
    a, b = STRUCTURES[first].copy(), STRUCTURES[second].copy()
    far = b.copy()
    far.positions += distance / np.sqrt(3.0)
    whole = a + far
    whole.info = {"charge": a.info["charge"] + b.info["charge"], "spin": 0}
    return a, b, whole


@pytest.mark.parametrize(
    ("pair", "gap"), [(("h2o", "h2o"), 0.0), (("h2o", "ethanol"), 6.8e-3), (("h2o", "ala_dipeptide"), 43e-3)]
)
def test_molecules_far_apart_still_share_their_attention(pair, gap):
    """Like molecules do not notice; unlike ones do, by as much as the original model says (spec 1.1)."""
    a, b, whole = apart(*pair, 200.0)
    separate = evaluate_system(model("parameters"), System.from_atoms([a, b]), forces=False).energy.sum()
    together = evaluate_system(model("parameters"), System.from_atoms(whole), forces=False).energy[0]
    assert float(together - separate) == pytest.approx(gap, abs=2e-6 if gap == 0 else 0.02 * gap)


def test_what_is_doubtful_is_said():
    potential = model("parameters")
    assert potential.advice(System.from_atoms(STRUCTURES["h2o"])) == []
    (line,) = potential.advice(System.from_atoms(STRUCTURES["ch2_triplet"]))
    assert line.startswith("charged or open-shell structure") and "far apart" in line


def test_identical_molecules_share_a_charge_evenly():
    """Total charge 1 on two waters 300 Å apart: half on each, as the even correction must give."""
    _, _, whole = apart("h2o", "h2o", 300.0)
    whole.info["charge"], whole.info["spin"] = 1.0, 1
    charges = evaluate_system(model("parameters"), System.from_atoms(whole), forces=False).charges
    close([charges[:3].sum(), charges[3:].sum()], [0.5, 0.5], 1e-9)


# derivatives for training --------------------------------------------------------------------------------------


def force_loss(potential: heliodor.Potential, system: System) -> torch.Tensor:
    found = evaluate_system(potential, system, create_graph=True)
    return found.energy.square().sum() * 1e-4 + found.forces.square().sum() + found.charges.square().sum()


@pytest.mark.parametrize(
    ("name", "cutoff"), [("parameters", None), ("parameters", 6.0), ("random_legacy_T2F32_rc3.7", 7.5)]
)
def test_the_gradient_of_a_force_loss_is_right(name, cutoff, rng):
    """By all parameters at once, along a random direction, against finite differences."""
    potential = at_cutoff(model(name), cutoff).requires_grad_(True)
    system = System.from_atoms([STRUCTURES[n] for n in ("h2o", "acetate-", "ch2_triplet")])
    parameters = list(potential.parameters())
    gradients = torch.autograd.grad(force_loss(potential, system), parameters, allow_unused=True)
    directions = [
        torch.from_numpy(rng.normal(size=tuple(p.shape))) * p.detach().abs().clamp(min=1e-2) for p in parameters
    ]
    expected = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True) if g is not None)
    values = []
    for step in (1e-5, -1e-5):
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p += step * d
        values.append(force_loss(potential, system).item())
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p -= step * d
    assert (values[0] - values[1]) / 2e-5 == pytest.approx(float(expected), rel=2e-5)


@pytest.mark.parametrize("cutoff", [None, 8.0])
def test_no_guard_makes_a_gradient_that_is_not_a_number(cutoff):
    """Lone atoms, identical atoms in exact symmetry, a pair at the cutoff, elements without references, no charge."""
    potential = at_cutoff(model("parameters"), cutoff).requires_grad_(True)
    short = potential.cutoff
    pairs = [
        ase.Atoms("He"),
        ase.Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.7414]]),
        *(ase.Atoms("Ar2", positions=[[0, 0, 0], [0, 0, d]]) for d in (short, np.nextafter(short, 0), short - 1e-7)),
        *(ase.Atoms("NaCl", positions=[[0, 0, 0], [0, 0, d]]) for d in (0.3, 7.9999999, 8.0, 300.0)),
        ase.Atoms("Rn"),
        molecule("C6H6"),
        molecule("CH4"),
        STRUCTURES["zn_h2o6_2+"],
    ]
    for dtype in (torch.float64, torch.float32):
        potential.to(dtype)
        for atoms in (pairs, pairs[:1], pairs[1:2], [ase.Atoms("Li", info={"charge": 1})]):
            loss = force_loss(potential, System.from_atoms(list(atoms)))
            assert bool(loss.isfinite())
            for g in torch.autograd.grad(loss, list(potential.parameters()), allow_unused=True):
                assert g is None or bool(g.isfinite().all())


def test_every_parameter_of_the_dispersion_has_a_gradient():
    """The original loses that of the charge scale through the reference polarizabilities."""
    potential = at_cutoff(model("parameters"), None).requires_grad_(True)
    system = System.from_atoms(STRUCTURES["ala_dipeptide"])

    def dispersion() -> torch.Tensor:
        return evaluate_system(potential, system, create_graph=True).terms["dispersion"].sum()

    for name in ("s8", "a1", "a2", "charge_scale"):
        parameter = getattr(potential.d4, name)
        (gradient,) = torch.autograd.grad(dispersion(), parameter)
        with torch.no_grad():
            values = []
            for step in (1e-5, -2e-5):
                parameter += step
                values.append(potential(system, potential.neighbors(system)).energies["dispersion"].sum())
            parameter += 1e-5
        assert float(gradient) == pytest.approx(float(values[0] - values[1]) / 2e-5, rel=1e-6)
        assert abs(float(gradient)) > 1e-4


def test_memory_grows_with_the_number_of_atoms_only():
    """What is kept for the way back, of n copies of a batch and of a molecule of n times the size."""
    potential = at_cutoff(model("random_ssp_noD4_T2F32_rc4.5"), None)
    unit = [STRUCTURES["mesSme"], STRUCTURES["h2o"]]

    def kept(atoms: list[ase.Atoms]) -> int:
        seen: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        system = System.from_atoms(atoms)
        neighbors = potential.neighbors(system)
        # beyond each other's cutoff: all else than the attention is linear already
        moving = system.replace(positions=system.positions.detach().requires_grad_())
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            terms = potential(moving, neighbors)
        assert terms.energies["spookynet"].requires_grad
        return sum(seen.values())

    small, large = kept(unit * 10), kept(unit * 80)
    assert large < 8.2 * small
