"""openmmml's MLPotential with heliodor's models: alone, and for a part of what a force field moves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ase
import numpy as np
import openmm
import pytest
from ase.build import molecule
from openmm import app, unit
from openmmml import MLPotential

import heliodor
from heliodor.engines.openmm import check_simulation, openmm_topology
from heliodor.errors import InputError, ModelError
from heliodor.potential import Potential
from heliodor.units import KJ_PER_MOL

NM = 0.1
EXACT = {"device": "cpu", "precision": "double", "kernels": "reference"}
WEIGHTS = Path(heliodor.__file__).parent / "weights"


@pytest.fixture(scope="module")
def mini() -> Potential:
    return heliodor.load("heliodor-mini", device="cpu", dtype="float64", kernels="reference")


def context_of(system: openmm.System, positions: np.ndarray) -> openmm.Context:
    made = openmm.Context(system, openmm.VerletIntegrator(0.0005), openmm.Platform.getPlatformByName("Reference"))
    full = np.zeros((system.getNumParticles(), 3))
    full[: len(positions)] = positions * NM
    made.setPositions(full)
    made.computeVirtualSites()
    return made


def energy_of(system: openmm.System | openmm.Context, positions: np.ndarray, **select: object) -> float:
    """eV."""
    context = context_of(system, positions) if isinstance(system, openmm.System) else system
    state = context.getState(getEnergy=True, **select)
    return state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) * KJ_PER_MOL


def forces_of(context: openmm.Context) -> np.ndarray:
    """eV/Å."""
    forces = context.getState(getForces=True).getForces(asNumpy=True)
    return forces.value_in_unit(unit.kilojoule_per_mole / unit.nanometer) * KJ_PER_MOL * NM


def waters(count: int, edge: float | None = None) -> ase.Atoms:
    """Waters on a lattice, turned at random; flexible."""
    rng = np.random.default_rng(count)
    atoms = ase.Atoms()
    side = int(np.ceil(count ** (1 / 3)))
    for k in range(count):
        water = molecule("H2O")
        water.rotate(rng.uniform(0, 360), rng.normal(size=3))
        water.positions += 3.1 * np.array([k % side, k // side % side, k // side**2]) - water.positions[0]
        atoms += water
    atoms.rattle(0.03, seed=1)
    if edge:
        atoms.set_cell([edge] * 3)
        atoms.pbc = True
    return atoms


def by_force_field(topology: app.Topology, method: object = app.NoCutoff) -> openmm.System:
    return app.ForceField("tip3p.xml").createSystem(
        topology, nonbondedMethod=method, nonbondedCutoff=0.6, rigidWater=False, removeCMMotion=False
    )


@pytest.mark.parametrize("name", ["so3lr", "spookynet"])
def test_names_stand_for_models(name: str) -> None:
    atoms = molecule("CH3OH")
    system = MLPotential(name).createSystem(openmm_topology(atoms), **EXACT)
    model = {"so3lr": "so3lr", "spookynet": "spookynet-gfn2"}[name]
    reference = heliodor.load(model, device="cpu", dtype="float64", kernels="reference")
    expected = heliodor.evaluate(reference, atoms)
    context = context_of(system, atoms.positions)
    assert energy_of(context, atoms.positions) == pytest.approx(float(expected.energy[0]), abs=1e-9)
    np.testing.assert_allclose(forces_of(context), expected.forces.numpy(), atol=1e-9)
    masses = [system.getParticleMass(k).value_in_unit(unit.dalton) for k in range(6)]
    np.testing.assert_allclose(masses, atoms.get_masses(), atol=2e-3)


def test_files_and_loaded_potentials_under_our_own_name(mini: Potential) -> None:
    atoms = waters(4, 6.4)
    topology = openmm_topology(atoms)
    expected = float(heliodor.evaluate(mini, atoms).energy[0])
    file = WEIGHTS / "heliodor-mini.safetensors"
    for model in (mini, str(file), "heliodor-mini"):
        options = {} if isinstance(model, Potential) else EXACT
        system = MLPotential("heliodor", model=model, **options).createSystem(topology)
        assert energy_of(system, atoms.positions) == pytest.approx(expected, abs=1e-9)
        again = [tuple(m) for m in context_of(system, atoms.positions).getMolecules()]
        assert again == [(0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11)]


def test_a_mace_file_by_its_path(tmp_path: Path) -> None:
    import lzma

    packed = Path(__file__).resolve().parents[1] / "data" / "mace" / "vector.model.xz"
    (tmp_path / "some.model").write_bytes(lzma.decompress(packed.read_bytes()))
    atoms = molecule("CH3OH")
    potential = MLPotential("heliodor", model=str(tmp_path / "some.model"))
    system = potential.createSystem(openmm_topology(atoms), **EXACT)
    mace = heliodor.load(tmp_path / "some.model", device="cpu", dtype="float64", kernels="reference")
    expected = float(heliodor.evaluate(mace, atoms).energy[0])
    assert energy_of(system, atoms.positions) == pytest.approx(expected, abs=1e-9)
    text = openmm.XmlSerializer.serialize(system)
    assert len(text) < 10_000
    again = openmm.XmlSerializer.deserialize(text)
    assert energy_of(again, atoms.positions) == pytest.approx(expected, abs=1e-9)


def test_charge_spin_and_cutoff_are_passed() -> None:
    atoms = molecule("CH3")
    topology = openmm_topology(atoms)
    spooky = heliodor.load("spookynet-gfn2", device="cpu", dtype="float64", kernels="reference")
    for options, charge, spin in (
        ({"multiplicity": 2}, 0, 1),
        ({"spin": 1, "charge": 0}, 0, 1),
        ({"charge": -1}, -1, 0),
        ({"charge": 1.0, "spin": 0, "multiplicity": 1}, 1, 0),
    ):
        system = MLPotential("spookynet", **EXACT).createSystem(topology, **options)
        expected = float(heliodor.evaluate(spooky, atoms, charge=charge, spin=spin).energy[0])
        assert energy_of(system, atoms.positions) == pytest.approx(expected, abs=1e-9)
    box = waters(2, 6.0)
    near = heliodor.load("so3lr", device="cpu", dtype="float64", kernels="reference", long_range_cutoff=7.0)
    system = MLPotential("so3lr", long_range_cutoff=9.0).createSystem(
        openmm_topology(box), long_range_cutoff=7.0, skin=0.0, **EXACT
    )
    expected = float(heliodor.evaluate(near, box).energy[0])
    assert energy_of(system, box.positions) == pytest.approx(expected, abs=1e-9)


def test_a_mixed_system_term_by_term(mini: Potential) -> None:
    """All by the force field, less what it says inside the solute, plus the model there."""
    atoms = waters(5)
    solute = [3, 4, 5, 9, 10, 11]
    topology, inner = openmm_topology(atoms), openmm_topology(atoms[solute])
    everything = by_force_field(topology)
    mixed = MLPotential("heliodor", model=mini).createMixedSystem(topology, everything, solute, forceGroup=1)
    model = float(heliodor.evaluate(mini, atoms[solute]).energy[0])
    inside = energy_of(by_force_field(inner), atoms.positions[solute])
    whole = energy_of(everything, atoms.positions)
    assert abs(inside) > 0.01
    assert energy_of(mixed, atoms.positions, groups={1}) == pytest.approx(model, abs=1e-9)
    assert energy_of(mixed, atoms.positions) == pytest.approx(whole - inside + model, abs=1e-6)
    context = context_of(mixed, atoms.positions)
    check_simulation(context, mini, atoms[solute])
    forces = forces_of(context)
    for atom, axis in ((3, 0), (4, 2), (10, 1), (0, 0), (7, 2)):
        sides = []
        for step in (1e-3, -1e-3):
            moved = atoms.positions.copy()
            moved[atom, axis] += step
            context.setPositions(moved * NM)
            sides.append(energy_of(context, moved))
        assert forces[atom, axis] == pytest.approx((sides[1] - sides[0]) / 2e-3, abs=2e-5)
    assert [tuple(m) for m in context.getMolecules()] == [tuple(range(k, k + 3)) for k in range(0, 15, 3)]


@pytest.mark.parametrize("method", [app.CutoffPeriodic, app.PME])
def test_a_solute_in_a_box_is_seen_whole_and_without_its_images(method: object) -> None:
    """SpookyNet's pairs have no cutoff: in a periodic box it can only describe a molecule by itself."""
    atoms = waters(27, 12.5)
    solute = [12, 13, 14]
    topology = openmm_topology(atoms)
    everything = by_force_field(topology, method)
    mixed = MLPotential("spookynet", **EXACT).createMixedSystem(topology, everything, solute, forceGroup=1)
    spooky = heliodor.load("spookynet-gfn2", device="cpu", dtype="float64", kernels="reference")
    alone = ase.Atoms("OH2", atoms.positions[solute])
    model = float(heliodor.evaluate(spooky, alone).energy[0])
    inside = energy_of(by_force_field(openmm_topology(alone)), alone.positions)
    total = energy_of(everything, atoms.positions) - inside + model
    assert energy_of(mixed, atoms.positions) == pytest.approx(total, abs=2e-5)
    cut = atoms.positions.copy()
    cut[13] += [12.5, 0, -12.5]
    cut[12] -= [0, 25.0, 0]
    context = context_of(mixed, cut)
    assert energy_of(context, cut, groups={1}) == pytest.approx(model, abs=1e-9)
    assert energy_of(context, cut) == pytest.approx(total, abs=2e-5)
    check_simulation(context, spooky, alone)
    again = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(mixed))
    assert energy_of(again, cut, groups={1}) == pytest.approx(model, abs=1e-9)


def test_a_region_of_several_molecules_in_a_box_is_periodic(mini: Potential) -> None:
    atoms = waters(27, 12.5)
    region = [0, 1, 2, 6, 7, 8]
    # neighbours through the face of the box
    topology = openmm_topology(atoms)
    mixed = MLPotential("heliodor", model=mini).createMixedSystem(
        topology, by_force_field(topology, app.PME), region, forceGroup=1
    )
    expected = float(heliodor.evaluate(mini, atoms[region]).energy[0])
    assert energy_of(mixed, atoms.positions, groups={1}) == pytest.approx(expected, abs=1e-9)


def ethane(mini: Potential, edge: float | None = None) -> tuple[ase.Atoms, app.Topology, openmm.System]:
    """With springs as its force field."""
    atoms = molecule("C2H6")
    atoms.rattle(0.03, seed=2)
    if edge:
        atoms.set_cell([edge] * 3)
        atoms.pbc = True
    topology = openmm_topology(atoms)
    system = openmm.System()
    springs = openmm.HarmonicBondForce()
    for mass in atoms.get_masses():
        system.addParticle(mass)
    for bond in topology.bonds():
        springs.addBond(bond[0].index, bond[1].index, 0.12, 2e4)
    springs.setUsesPeriodicBoundaryConditions(edge is not None)
    system.addForce(springs)
    if edge:
        system.setDefaultPeriodicBoxVectors(*(np.asarray(atoms.cell) * NM))
    return atoms, topology, system


@pytest.mark.parametrize("edge", [None, 9.0])
def test_a_cut_bond_is_closed_by_a_link_atom(mini: Potential, edge: float | None) -> None:
    atoms, topology, springs = ethane(mini, edge)
    methyl = [0, *[k for k in range(2, 8) if atoms.get_distance(0, k, mic=True) < 1.3]]
    assert len(methyl) == 4
    info = MLPotential("heliodor", model=mini).createMixedSystem(
        topology, springs, methyl, forceGroup=1, returnInfo=True, charge=0
    )
    mixed = info["system"]
    assert mixed.getNumParticles() == 9
    cut = atoms.positions.copy()
    if edge:
        cut[methyl[2]] += [0.0, edge, 0.0]
    context = context_of(mixed, cut)
    there = context.getState(getPositions=True).getPositions(asNumpy=True).value_in_unit(unit.angstrom)
    capped = ase.Atoms("CH4", np.vstack([atoms.positions[methyl], there[8]]))
    assert atoms.get_distance(0, 1) - np.linalg.norm(there[8] - atoms.positions[1]) == pytest.approx(1.07, abs=1e-6)
    expected = heliodor.evaluate(mini, capped)
    assert energy_of(context, cut, groups={1}) == pytest.approx(float(expected.energy[0]), abs=1e-9)
    check_simulation(context, mini, capped)
    forces = context.getState(getForces=True, groups={1}).getForces(asNumpy=True)._value * KJ_PER_MOL * NM
    np.testing.assert_allclose(forces[:8].sum(0), 0.0, atol=1e-8)
    np.testing.assert_allclose(forces[methyl[1:]], expected.forces.numpy()[1:4], atol=1e-9)
    assert np.abs(forces[1]).max() > 1e-3


def test_between_force_field_and_model(mini: Potential) -> None:
    """openmmml's interpolation copies the force, which a model with a file survives."""
    atoms = waters(3)
    topology = openmm_topology(atoms)
    everything = by_force_field(topology)
    potential = MLPotential("heliodor", model="heliodor-mini", **EXACT)
    mixed = potential.createMixedSystem(topology, everything, [0, 1, 2], interpolate=True, charge=0)
    context = context_of(mixed, atoms.positions)
    whole = energy_of(everything, atoms.positions)
    inside = energy_of(by_force_field(openmm_topology(atoms[:3])), atoms.positions[:3])
    model = float(heliodor.evaluate(mini, atoms[:3]).energy[0])
    for weight in (0.0, 0.3, 1.0):
        context.setParameter("lambda_interpolate", weight)
        expected = whole + weight * (model - inside)
        assert energy_of(context, atoms.positions) == pytest.approx(expected, abs=1e-5)
    with pytest.raises(InputError, match="say charge"):
        potential.createMixedSystem(topology, everything, [0, 1, 2], interpolate=True)


def hydroxide() -> tuple[ase.Atoms, app.Topology, openmm.System]:
    """OH⁻ and a water, as a force field has them."""
    atoms = ase.Atoms("OH", [[0, 0, 0], [0.96, 0, 0]]) + molecule("H2O")
    atoms.positions[2:] += [-2.8, 0.3, 0]
    topology = openmm_topology(atoms)
    system = openmm.System()
    force = openmm.NonbondedForce()
    for mass, charge in zip(atoms.get_masses(), (-1.3, 0.3, -0.8, 0.4, 0.4), strict=True):
        system.addParticle(mass)
        force.addParticle(charge, 0.3, 0.1)
    for i, j in ((0, 1), (2, 3), (2, 4), (3, 4)):
        force.addException(i, j, 0, 1, 0)
    system.addForce(force)
    return atoms, topology, system


def test_the_charge_of_a_part_is_the_force_fields(mini: Potential) -> None:
    atoms, topology, system = hydroxide()
    potential = MLPotential("heliodor", model=mini)
    mixed = potential.createMixedSystem(topology, system, [0, 1], forceGroup=1)
    expected = float(heliodor.evaluate(mini, atoms[:2], charge=-1).energy[0])
    assert energy_of(mixed, atoms.positions, groups={1}) == pytest.approx(expected, abs=1e-9)
    with pytest.raises(InputError, match=r"charge \+0 leaves 9 electrons"):
        potential.createMixedSystem(topology, system, [0, 1], charge=0)
    system.getForce(0).setParticleParameters(0, -1.1, 0.3, 0.1)
    with pytest.raises(InputError, match=r"gives this region a charge of -0\.800.*say what its charge is"):
        potential.createMixedSystem(topology, system, [0, 1])


def test_a_wrong_total_charge_is_refused(mini: Potential) -> None:
    topology = openmm_topology(ase.Atoms("OH", [[0, 0, 0], [0.96, 0, 0]]))
    with pytest.raises(InputError, match=r"charge \+0 leaves 9 electrons, which cannot have 0 unpaired"):
        MLPotential("heliodor", model=mini).createSystem(topology)


def test_bad_input_is_one_clear_error(mini: Potential) -> None:
    topology = openmm_topology(molecule("H2O"))
    ours = MLPotential("heliodor", model=mini)
    with pytest.raises(InputError, match=r"no option 'chrage'; did you mean 'charge'"):
        ours.createSystem(topology, chrage=1)
    with pytest.raises(InputError, match=r"no option 'cutof'"):
        MLPotential("so3lr", cutof=3)
    with pytest.raises(InputError, match=r"spin=2 .* and multiplicity=2 .* disagree"):
        ours.createSystem(topology, spin=2, multiplicity=2)
    with pytest.raises(InputError, match="precision must be 'single' or 'double'"):
        ours.createSystem(topology, precision="half")
    with pytest.raises(InputError, match="one model: write MLPotential\\('heliodor'"):
        MLPotential("so3lr", model="heliodor-s")
    with pytest.raises(ModelError, match=r"no model called 'heliodor-xl'"):
        MLPotential("heliodor", model="heliodor-xl").createSystem(topology)
    with pytest.raises(ModelError, match=r"atom 1 is Na"):
        ours.createSystem(openmm_topology(ase.Atoms("ClNa", [[0, 0, 0], [0, 0, 2.4]])))
    two = openmm_topology(waters(2, 6.0))
    with pytest.raises(ModelError, match="without a long-range cutoff"):
        MLPotential("spookynet").createSystem(two)
    box = waters(8, 8.0)
    topology = openmm_topology(box)
    with pytest.raises(InputError, match="periodic=False takes one molecule"):
        ours.createMixedSystem(topology, by_force_field(topology, app.CutoffNonPeriodic), [0, 1, 3], periodic=False)


def test_sites_without_an_element_are_refused(mini: Potential) -> None:
    atoms = molecule("H2O")
    modeller = app.Modeller(openmm_topology(atoms), atoms.positions * NM)
    modeller.addExtraParticles(app.ForceField("tip4pew.xml"))
    with pytest.raises(InputError, match=r"atom 3 \(M of residue HOH 1\) has no element"):
        MLPotential("heliodor", model=mini).createSystem(modeller.topology)


@pytest.mark.parametrize("first", ["openmmml", "heliodor.engines.openmmml"])
def test_names_are_found_whichever_is_imported_first(first: str) -> None:
    code = f"import {first}; from openmmml import MLPotential; MLPotential('so3lr'); MLPotential('spookynet')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
