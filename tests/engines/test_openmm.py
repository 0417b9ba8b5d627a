"""OpenMM against heliodor's own evaluation, its own integrator, and distributions known on paper."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import ase
import jaxtyping
import numpy as np
import openmm
import pytest
import torch
from ase.build import molecule
from openmm import app, unit
from torch import Tensor

import heliodor
from heliodor.checkpoint import save_checkpoint
from heliodor.dynamics import conserved, init, nve_step
from heliodor.engines.evaluator import Evaluator
from heliodor.engines.openmm import Force, check_simulation, openmm_force, openmm_system, openmm_topology
from heliodor.engines.openmm.force import python_force
from heliodor.engines.openmm.system import add_molecules, openmm_box
from heliodor.errors import InputError, MissingExtraError, ModelError
from heliodor.kernels.derived import Derived
from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, Terms
from heliodor.system import System
from heliodor.units import BAR, BOLTZMANN, KJ_PER_MOL, MILLINEWTON_PER_M

PLATFORMS = ("Reference", "CPU")
NM = 0.1
WEIGHTS = Path(heliodor.__file__).parent / "weights"


@pytest.fixture(scope="module")
def mini() -> Potential:
    return heliodor.load("heliodor-mini", device="cpu", dtype="float64", kernels="reference")


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Shapes unchecked: statistics need thousands of calls."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def context_of(
    system: openmm.System, atoms: ase.Atoms, platform: str = "Reference", integrator: openmm.Integrator | None = None
) -> openmm.Context:
    options = {"Threads": "1"} if platform == "CPU" else {}
    made = openmm.Context(
        system,
        integrator or openmm.VerletIntegrator(0.0005),
        openmm.Platform.getPlatformByName(platform),
        options,
    )
    made.setPositions(atoms.positions * NM)
    return made


def read_back(context: openmm.Context) -> tuple[float, np.ndarray]:
    """Energy in eV, forces in eV/Å."""
    state = context.getState(getEnergy=True, getForces=True)
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
    return state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) * KJ_PER_MOL, forces * KJ_PER_MOL * NM


def now(context: openmm.Context, atoms: ase.Atoms) -> ase.Atoms:
    """The structure as the context has it."""
    state = context.getState(getPositions=True)
    there = atoms.copy()
    if atoms.pbc.any():
        there.set_cell(np.array(state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.angstrom)))
    there.positions = state.getPositions(asNumpy=True).value_in_unit(unit.angstrom)
    return there


def displaced(atoms: ase.Atoms, positions: np.ndarray) -> ase.Atoms:
    there = atoms.copy()
    there.positions = positions
    return there


def waters(skewed: bool = True) -> ase.Atoms:
    """Three waters in a small box, already as OpenMM wants its boxes."""
    atoms = ase.Atoms()
    for k, place in enumerate(([0.1, 0.2, 0.3], [2.9, 2.4, 1.1], [1.3, 3.2, 4.1])):
        water = molecule("H2O")
        water.rotate(70 * k, (1, 0.4 * k, 0.2))
        water.positions += place
        atoms += water
    atoms.set_cell([[5.6, 0, 0], [1.2 * skewed, 5.8, 0], [-0.9 * skewed, 1.1 * skewed, 6.0]])
    atoms.pbc = True
    return atoms


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("periodic", [False, True])
def test_energy_and_forces_are_the_models(mini: Potential, platform: str, periodic: bool) -> None:
    atoms = waters() if periodic else molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=1)
    energy, forces = read_back(context_of(openmm_system(mini, atoms), atoms, platform))
    expected = heliodor.evaluate(mini, atoms)
    assert energy == pytest.approx(float(expected.energy[0]), abs=1e-9)
    np.testing.assert_allclose(forces, expected.forces.numpy(), atol=1e-9)


def test_a_charged_radical_has_its_electrons() -> None:
    spooky = heliodor.load("spookynet-gfn2", device="cpu", dtype="float64", kernels="reference")
    atoms = molecule("CH3")
    energies = {}
    for charge, spin in ((0, 1), (1, 0), (-1, 0)):
        energies[charge], forces = read_back(context_of(openmm_system(spooky, atoms, charge=charge, spin=spin), atoms))
        expected = heliodor.evaluate(spooky, atoms, charge=charge, spin=spin)
        assert energies[charge] == pytest.approx(float(expected.energy[0]), abs=1e-9)
        np.testing.assert_allclose(forces, expected.forces.numpy(), atol=1e-9)
    assert len({round(energy, 3) for energy in energies.values()}) == 3


def test_a_part_of_the_particles_in_any_order(mini: Potential) -> None:
    atoms = molecule("CH3OH")
    particles = np.array([7, 3, 1, 9, 4, 0])
    system = openmm.System()
    for _ in range(11):
        system.addParticle(12.0)
    system.addForce(openmm_force(mini, atoms, particles=particles))
    everything = ase.Atoms("C11", np.random.default_rng(1).uniform(0, 9, (11, 3)))
    everything.positions[particles] = atoms.positions
    energy, forces = read_back(context_of(system, everything))
    expected = heliodor.evaluate(mini, atoms)
    assert energy == pytest.approx(float(expected.energy[0]), abs=1e-9)
    np.testing.assert_allclose(forces[particles], expected.forces.numpy(), atol=1e-9)
    assert not forces[[k for k in range(11) if k not in particles]].any()
    with pytest.raises(InputError, match="5 particles for the 6 atoms"):
        openmm_force(mini, atoms, particles=[0, 1, 2, 3, 4])
    for wrong in (np.ones(6, bool), [0, 1, 2, 3, 4, 4], [0, 1, 2, 3, 4, -1], np.arange(6) + 0.5):
        with pytest.raises(InputError, match="each once: not a mask"):
            openmm_force(mini, atoms, particles=wrong)
    beyond = openmm.System()
    for _ in range(7):
        beyond.addParticle(12.0)
    beyond.addForce(openmm_force(mini, atoms, particles=[0, 1, 2, 3, 4, 99]))
    with pytest.raises(InputError, match="acts on particle 99, but the OpenMM system has only 7"):
        check_simulation(context_of(beyond, everything[:7]), mini, atoms)


def test_wrapped_molecules_are_the_same_and_cost_no_new_list(mini: Potential) -> None:
    atoms = waters()
    evaluator = Evaluator(mini, atoms)
    system = openmm.System()
    for mass in atoms.get_masses():
        system.addParticle(mass)
    system.setDefaultPeriodicBoxVectors(*(np.asarray(atoms.cell) * NM))
    system.addForce(python_force(Force(evaluator), None, 0))
    context = context_of(system, atoms)
    energy, forces = read_back(context)
    moved = atoms.copy()
    moved.positions += np.random.default_rng(4).integers(-2, 3, (9, 3)) @ np.asarray(atoms.cell)
    context.setPositions(moved.positions * NM)
    assert read_back(context)[0] == pytest.approx(energy, abs=1e-9)
    np.testing.assert_allclose(read_back(context)[1], forces, atol=1e-9)
    assert evaluator.lists_built == 1


@pytest.mark.parametrize("periodic", [False, True])
def test_verlet_goes_the_way_of_our_own_and_keeps_the_energy(mini: Potential, periodic: bool) -> None:
    """Leapfrog is velocity Verlet if its velocities begin half a step earlier; so is its kinetic energy."""
    atoms = waters() if periodic else molecule("CH3OH")
    atoms.rattle(0.03, seed=5)
    dt, steps = 0.5, 16
    state = init(System.from_atoms(atoms), mini, temperature=300.0, seed=2)
    masses = state.masses.numpy()[:, None]
    integrator = openmm.VerletIntegrator(dt * 1e-3)
    context = context_of(openmm_system(mini, atoms, remove_cm_motion=False), atoms, integrator=integrator)
    for k, mass in enumerate(masses[:, 0]):
        context.getSystem().setParticleMass(k, float(mass))
    context.reinitialize(preserveState=True)
    # nm/ps; kJ/mol/nm over amu is nm/ps²
    start = state.velocities.numpy() * 100.0
    kick = heliodor.evaluate(mini, atoms).forces.numpy() / KJ_PER_MOL * 10.0 / masses * (0.5e-3 * dt)
    context.setVelocities(start - kick)
    ours, theirs = [], []
    for _ in range(steps):
        state = nve_step(state, mini, dt)
        integrator.step(1)
        ours.append(float(conserved(state)))
        energies = context.getState(getEnergy=True)
        total = energies.getPotentialEnergy() + energies.getKineticEnergy()
        theirs.append(total.value_in_unit(unit.kilojoule_per_mole) * KJ_PER_MOL)
    np.testing.assert_allclose(now(context, atoms).positions, state.system.positions.numpy(), atol=1e-6)
    np.testing.assert_allclose(np.array(theirs) - theirs[0], np.array(ours) - ours[0], atol=1e-6)
    assert np.ptp(theirs) / len(atoms) < 2e-3


class Morse(Potential):
    """D (1 - exp(-a (d - d0)))² between all atoms."""

    name = "morse"
    elements = tuple(range(1, 90))
    cutoff = 12.0

    def __init__(self) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, system: System, neighbors: Neighbors) -> Terms:
        edges = neighbors.within(system)
        energy = 0.4 * (1.0 - (-1.5 * (edges.vectors(system).norm(dim=-1) - 2.0)).exp()).square()
        return Terms({"pair": torch.zeros(system.n_atoms, dtype=energy.dtype).index_add(0, edges.i, energy)})


class Busy(Morse):
    """Takes its time, and counts how many are inside."""

    inside = most = 0

    def forward(self, system: System, neighbors: Neighbors) -> Terms:
        self.inside += 1
        self.most = max(self.most, self.inside)
        time.sleep(0.003)
        self.inside -= 1
        return super().forward(system, neighbors)


def test_contexts_in_threads_take_turns_at_a_force() -> None:
    """As replicas do: a force has one neighbour list, and a kernel one workspace."""
    potential = Busy()
    potential.cutoff = 4.0
    atoms = ase.Atoms("C8", 2.5 * np.array(list(np.ndindex(2, 2, 2)), dtype=float))
    system = openmm_system(potential, atoms, molecules=False)
    rng = np.random.default_rng(0)
    structures = [ase.Atoms(atoms.numbers, atoms.positions + rng.normal(0, 0.5, (8, 3))) for _ in range(2)]
    expected = [float(heliodor.evaluate(potential, structure).energy[0]) for structure in structures]
    contexts = [context_of(system, structure) for structure in structures]
    found: list[list[float]] = [[], []]

    def work(k: int) -> None:
        for _ in range(12):
            contexts[k].setPositions(structures[k].positions * NM)
            found[k].append(read_back(contexts[k])[0])

    threads = [threading.Thread(target=work, args=(k,)) for k in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    np.testing.assert_allclose(found, np.repeat(expected, 12).reshape(2, 12), rtol=0, atol=1e-9)
    assert potential.most == 1


def test_the_energy_does_not_drift(unchecked: None) -> None:
    """Over 0.9 ps: less than a hundredth of what goes back and forth between kinetic and potential energy."""
    atoms = ase.Atoms("C4", 1.4 * np.array([[0, 0, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1]], dtype=float))
    integrator = openmm.VerletIntegrator(0.002)
    context = context_of(openmm_system(Morse(), atoms), atoms, integrator=integrator)
    context.setVelocitiesToTemperature(300.0, 7)
    totals, potentials = [], []
    for _ in range(450):
        integrator.step(1)
        state = context.getState(getEnergy=True)
        potentials.append(state.getPotentialEnergy()._value)
        totals.append(potentials[-1] + state.getKineticEnergy()._value)
    thirds = [part.mean() for part in np.array_split(np.array(totals), 3)]
    assert np.std(totals) < 0.05 * np.std(potentials)
    assert np.ptp(thirds) < 0.01 * np.std(potentials)


class Balloon(Potential):
    """An ideal gas in a box that resists: ½K (V - V0)²/V0 + ½S (A - A0)²/A0, A the area normal to z."""

    name = "balloon"
    elements = tuple(range(1, 90))
    cutoff = 1.0

    def __init__(self, K: float, V0: float, S: float = 0.0, A0: float = 1.0) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.K, self.V0, self.S, self.A0 = K, V0, S, A0
        self.use_kernel(Walls(self), "walls")

    def neighbors(self, system: System, skin: float = 0.0) -> Neighbors:
        none = torch.zeros(0, dtype=torch.int64)
        limits = torch.ones(system.n_structures, dtype=torch.float64)
        return Neighbors(none, none, none.view(0, 1).expand(0, 3), limits, 1e30, True, system.positions, system.cell)

    def energy(self, volume: Tensor | np.ndarray, area: Tensor | np.ndarray | float) -> Tensor | np.ndarray:
        return 0.5 * self.K * (volume - self.V0) ** 2 / self.V0 + 0.5 * self.S * (area - self.A0) ** 2 / self.A0


class Walls:
    """Its kernel: no force on any atom."""

    def __init__(self, balloon: Balloon) -> None:
        self.energy = balloon.energy

    def derive(self, system: System, neighbors: Neighbors, *, gradient: bool, strain: bool) -> Derived:
        energy = self.energy(system.volume, system.cell[:, 0, 0] * system.cell[:, 1, 1])
        share = (energy / system.n_atoms).expand(system.n_atoms)
        return Derived(Terms({"wall": share}), torch.zeros_like(system.positions), None)


PRESSURE, KT, GAS = 250.0, BOLTZMANN * 300.0, 8


def gas(edge: float = 10.0) -> ase.Atoms:
    rng = np.random.default_rng(0)
    return ase.Atoms(f"He{GAS}", rng.uniform(0, edge, (GAS, 3)), cell=[edge] * 3, pbc=True)


def boxes(potential: Potential, barostat: openmm.Force, steps: int) -> np.ndarray:
    """[steps, 3] Å, the edges of the box after each trial of the barostat."""
    atoms = gas()
    system = openmm_system(potential, atoms, remove_cm_motion=False)
    barostat.setRandomNumberSeed(11)
    system.addForce(barostat)
    integrator = openmm.VerletIntegrator(1e-6)
    context = context_of(system, atoms, integrator=integrator)
    edges = []
    for step in range(steps + 100):
        integrator.step(1)
        vectors = context.getState().getPeriodicBoxVectors(asNumpy=True)._value
        if step >= 100:
            edges.append(np.diag(vectors) / NM)
    return np.array(edges)


def within_errors(samples: np.ndarray, expected: float) -> None:
    """A mean against what it should be, by its error from sixteen blocks, which must itself be small."""
    blocks = np.array([block.mean() for block in np.array_split(samples, 16)])
    error = blocks.std(ddof=1) / 4.0
    assert error < 0.03 * expected
    assert abs(samples.mean() - expected) < 4.0 * error, f"{samples.mean()} ± {error}, expected {expected}"


def test_the_monte_carlo_barostat_samples_the_isobaric_distribution(unchecked: None) -> None:
    """p(V) ∝ V^N exp(-(E(V) + PV)/kT)."""
    balloon = Balloon(K=4e-4, V0=800.0)
    volumes = boxes(balloon, openmm.MonteCarloBarostat(PRESSURE, 300.0, 1), 700).prod(1)
    v = np.linspace(1.0, 4000.0, 40000)
    log = GAS * np.log(v) - (balloon.energy(v, 1.0) + PRESSURE * BAR * v) / KT
    weights = np.exp(log - log.max())
    within_errors(volumes, float((weights * v).sum() / weights.sum()))


def test_the_membrane_barostat_samples_area_and_height(unchecked: None) -> None:
    """p(A, L) ∝ (AL)^N exp(-(E + P A L - γA)/kT), with a surface tension of γ = 20 mN/m (200 bar nm)."""
    balloon = Balloon(K=4e-4, V0=800.0, S=8e-3, A0=100.0)
    kinds = openmm.MonteCarloMembraneBarostat
    edges = boxes(balloon, kinds(PRESSURE, 200.0, 300.0, kinds.XYIsotropic, kinds.ZFree, 1), 700)
    np.testing.assert_allclose(edges[:, 0], edges[:, 1], rtol=1e-12)
    area, height = np.meshgrid(np.linspace(10.0, 300.0, 900), np.linspace(0.5, 60.0, 1200), indexing="ij")
    volume = area * height
    enthalpy = balloon.energy(volume, area) + PRESSURE * BAR * volume - 20.0 * MILLINEWTON_PER_M * area
    log = GAS * np.log(volume) - enthalpy / KT
    weights = np.exp(log - log.max())
    within_errors(edges[:, 0] * edges[:, 1], float((weights * area).sum() / weights.sum()))
    within_errors(edges.prod(1), float((weights * volume).sum() / weights.sum()))


class Spy(Force):
    """Remembers what it was asked and what it said."""

    seen: list[tuple[np.ndarray, np.ndarray, float]]

    def __call__(self, state: openmm.State) -> tuple[float, np.ndarray]:
        energy, forces = super().__call__(state)
        box = np.array(state.getPeriodicBoxVectors(asNumpy=True)._value)
        self.seen.append((np.array(state.getPositions(asNumpy=True)._value), box, energy))
        return energy, forces


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("membrane", [False, True])
def test_trial_moves_scale_molecules_and_get_the_energy_of_the_new_box(
    mini: Potential, whole: bool, membrane: bool
) -> None:
    atoms = waters(skewed=False)
    spy = Spy(Evaluator(mini, atoms))
    spy.seen = []
    system = openmm.System()
    for mass in atoms.get_masses():
        system.addParticle(mass)
    system.setDefaultPeriodicBoxVectors(*(np.asarray(atoms.cell) * NM))
    system.addForce(python_force(spy, None, 0))
    if whole:
        add_molecules(system, [(0, 1), (0, 2), (3, 4), (3, 5), (6, 7), (6, 8)])
    kinds = openmm.MonteCarloMembraneBarostat
    barostat = (
        kinds(1.0, 0.0, 300.0, kinds.XYIsotropic, kinds.ZFree, 1)
        if membrane
        else openmm.MonteCarloBarostat(1.0, 300.0, 1)
    )
    barostat.setRandomNumberSeed(3)
    system.addForce(barostat)
    integrator = openmm.VerletIntegrator(1e-7)
    context = context_of(system, atoms, integrator=integrator)
    integrator.step(6)
    changed = [shot for shot in spy.seen if not np.allclose(shot[1], spy.seen[0][1], atol=1e-6)]
    assert len(changed) >= 3
    stretched = []
    for positions, box, energy in changed:
        there = ase.Atoms(atoms.numbers, positions / NM, cell=box / NM, pbc=True)
        assert energy * KJ_PER_MOL == pytest.approx(float(heliodor.evaluate(mini, there).energy[0]), abs=1e-9)
        bonds = there.get_distances(0, [1, 2], mic=True) - atoms.get_distances(0, [1, 2])
        stretched.append(np.abs(bonds).max())
    assert max(stretched) < 1e-5 if whole else max(stretched) > 1e-4
    there = now(context, atoms)
    energy, forces = read_back(context)
    expected = heliodor.evaluate(mini, there)
    assert energy == pytest.approx(float(expected.energy[0]), abs=1e-9)
    np.testing.assert_allclose(forces, expected.forces.numpy(), atol=1e-9)


def test_a_system_survives_being_written(tmp_path: Path) -> None:
    atoms = waters()
    atoms.info["charge"] = 0
    options = {"device": "cpu", "dtype": "float64", "kernels": "reference", "long_range_cutoff": 8.0}
    system = openmm_system("so3lr", atoms, skin=0.2, **options)
    expected = read_back(context_of(system, atoms))
    text = openmm.XmlSerializer.serialize(system)
    assert len(text) < 10_000
    again = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(openmm.XmlSerializer.deserialize(text)))
    context = context_of(again, atoms)
    found = read_back(context)
    assert found[0] == pytest.approx(expected[0], abs=1e-12)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-12)
    check_simulation(context, "so3lr", atoms, **options)


def test_a_model_file_is_read_again_by_its_place_and_refused_if_changed_or_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mini: Potential
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(WEIGHTS / "heliodor-mini.safetensors", "mine.safetensors")
    atoms = molecule("H2O")
    system = openmm_system("mine.safetensors", atoms, device="cpu", dtype="float64", kernels="reference")
    energy = read_back(context_of(system, atoms))[0]
    text = openmm.XmlSerializer.serialize(system)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert read_back(context_of(openmm.XmlSerializer.deserialize(text), atoms))[0] == energy

    other = heliodor.load(tmp_path / "mine.safetensors", device="cpu")
    with torch.no_grad():
        next(other.parameters()).mul_(1.001)
    save_checkpoint(other, tmp_path / "mine.safetensors")
    with pytest.raises(openmm.OpenMMException, match="is not the model that this OpenMM system was written with"):
        read_back(context_of(openmm.XmlSerializer.deserialize(text), atoms))
    (tmp_path / "mine.safetensors").unlink()
    refused = openmm.XmlSerializer.deserialize(text)
    with pytest.raises(openmm.OpenMMException, match="no such model file"):
        read_back(context_of(refused, atoms))
    # what could not be read is not lost by being written
    shutil.copy(WEIGHTS / "heliodor-mini.safetensors", tmp_path / "mine.safetensors")
    kept = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(refused))
    assert read_back(context_of(kept, atoms))[0] == energy


def test_a_model_made_in_python_cannot_be_written() -> None:
    import pickle

    atoms = gas()
    system = openmm_system(Balloon(1.0, 1.0), atoms)
    with pytest.raises(openmm.OpenMMException, match="could not be pickled"):
        openmm.XmlSerializer.serialize(system)
    with pytest.raises(InputError, match="'balloon' was made in Python and has no file"):
        pickle.dumps(Force(Evaluator(Balloon(1.0, 1.0), atoms)))


def test_topology_has_elements_bonds_box_and_names(mini: Potential) -> None:
    atoms = waters()
    topology = openmm_topology(atoms)
    assert [atom.element.symbol for atom in topology.atoms()] == list(atoms.symbols)
    assert sorted((b[0].index, b[1].index) for b in topology.bonds()) == [(k, k + j) for k in (0, 3, 6) for j in (1, 2)]
    box = np.array([list(v) for v in topology.getPeriodicBoxVectors()._value])
    np.testing.assert_allclose(box, np.asarray(atoms.cell) * NM)
    assert [residue.name for residue in topology.residues()] == ["HOH"] * 3
    system = openmm_system(mini, atoms)
    masses = [system.getParticleMass(k).value_in_unit(unit.dalton) for k in range(9)]
    np.testing.assert_allclose(masses, atoms.get_masses())
    molecules = context_of(system, atoms).getMolecules()
    assert [tuple(m) for m in molecules] == [(0, 1, 2), (3, 4, 5), (6, 7, 8)]


def test_boxes_openmm_cannot_hold() -> None:
    atoms = waters()
    atoms.set_cell(np.asarray(atoms.cell)[:, ::-1])
    with pytest.raises(InputError, match="standard_form"):
        openmm_box(atoms)
    slab = waters()
    slab.pbc = [True, True, False]
    with pytest.raises(InputError, match="all three directions or in none"):
        openmm_force("heliodor-mini", slab)
    # reduced to angles OpenMM takes, the same lattice
    skew = ase.Atoms("He", cell=[[4, 0, 0], [3.1, 5, 0], [-2.5, 4.4, 6]], pbc=True)
    box = openmm_box(skew)
    assert box is not None
    openmm.System().setDefaultPeriodicBoxVectors(*(box * NM))
    combination = box @ np.linalg.inv(np.asarray(skew.cell))
    np.testing.assert_allclose(combination, np.rint(combination), atol=1e-12)
    assert np.linalg.det(box) == pytest.approx(skew.get_volume())


def test_openmm_is_missing(monkeypatch: pytest.MonkeyPatch, mini: Potential) -> None:
    monkeypatch.setitem(sys.modules, "openmm", None)
    for make in (openmm_force, openmm_system):
        with pytest.raises(MissingExtraError, match=r"heliodor\[openmm\]"):
            make(mini, molecule("H2O"))
    with pytest.raises(MissingExtraError, match=r"heliodor\[openmm\]"):
        openmm_topology(molecule("H2O"))


def test_what_the_model_cannot_describe_is_named(mini: Potential) -> None:
    with pytest.raises(ModelError, match=r"atom 1 is Na: .*knows only"):
        openmm_force(mini, ase.Atoms("ClNa", [[0, 0, 0], [0, 0, 2.4]]))
    with pytest.raises(InputError, match=r"charge \+1 leaves 9 electrons"):
        openmm_force(mini, molecule("H2O"), charge=1)
    with pytest.raises(InputError, match="two atoms on one spot"):
        openmm_force(mini, ase.Atoms("H2", [[0, 0, 0], [0, 0, 0]]))


def simulation_of(mini: Potential, atoms: ase.Atoms) -> app.Simulation:
    simulation = app.Simulation(
        openmm_topology(atoms),
        openmm_system(mini, atoms),
        openmm.VerletIntegrator(0.0005),
        openmm.Platform.getPlatformByName("Reference"),
    )
    simulation.context.setPositions(atoms.positions * NM)
    return simulation


def test_the_first_step_is_compared(mini: Potential) -> None:
    atoms = molecule("CH3OH")
    simulation = simulation_of(mini, atoms)
    check_simulation(simulation, mini, atoms)
    check_simulation(simulation, Evaluator(mini, atoms))
    simulation.context.setPositions(atoms.positions)
    with pytest.raises(InputError, match="10 times those of the structure: it was given Å where it takes nm"):
        check_simulation(simulation, mini, atoms)
    order = [1, 0, 2, 3, 4, 5]
    simulation.context.setPositions(atoms.positions[order] * NM)
    with pytest.raises(InputError, match="the same atoms in another order"):
        check_simulation(simulation, mini, atoms)
    simulation.context.setPositions(atoms.positions[order] * NM)
    with pytest.raises(InputError, match="atom 0 is C in OpenMM's topology, but O"):
        check_simulation(simulation, mini, atoms[order])
    simulation.context.setPositions(atoms.positions * NM)
    charged = ase.Atoms(atoms, info={"charge": 1})
    spooky = heliodor.load("spookynet-gfn2", device="cpu", kernels="reference")
    with pytest.raises(InputError, match="forces that are not the model's"):
        check_simulation(simulation, spooky, charged, spin=1)


def test_the_box_and_foreign_forces_are_compared(mini: Potential) -> None:
    atoms = waters()
    context = context_of(openmm_system(mini, atoms), atoms)
    check_simulation(context, mini, atoms)
    context.setPeriodicBoxVectors(*(np.asarray(atoms.cell) * NM * 1.1))
    with pytest.raises(InputError, match=r"OpenMM's box has the edges 6\.160 "):
        check_simulation(context, mini, atoms)

    def with_spring(group: int) -> openmm.Context:
        system = openmm_system(mini, atoms, group=group)
        spring = openmm.HarmonicBondForce()
        spring.addBond(0, 3, 0.2, 1000.0)
        system.addForce(spring)
        return context_of(system, atoms)

    with pytest.raises(InputError, match="HarmonicBondForce is in the same force group"):
        check_simulation(with_spring(0), mini, atoms)
    check_simulation(with_spring(1), mini, atoms)
    nothing = openmm.System()
    nothing.addParticle(1.0)
    with pytest.raises(InputError, match="no forces of heliodor"):
        check_simulation(context_of(nothing, ase.Atoms("H")), mini, atoms)


def test_an_exploding_run_ends_with_one_line(mini: Potential) -> None:
    atoms = molecule("H2O")
    simulation = simulation_of(mini, atoms)
    simulation.context.setPositions(np.full((3, 3), np.nan))
    with pytest.raises(openmm.OpenMMException, match="position of atom 0 is not a finite number"):
        simulation.context.getState(getEnergy=True)
