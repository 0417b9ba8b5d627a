"""Lattice energies against sums on paper; what they must not depend on; what is refused."""

import copy

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from scipy.optimize import minimize_scalar
from solids import (
    SIGMA,
    PairSum,
    argon,
    carbon_dioxide,
    diatomic,
    direct_sum,
    lennard_jones,
    nitrogen,
    plain,
    scrambled,
    urea,
)

import heliodor
from heliodor.crystal import find_molecules, lattice_energy
from heliodor.errors import InputError, ModelError
from heliodor.potentials.committee import Committee
from heliodor.units import BAR, BOLTZMANN, KCAL_PER_MOL, KJ_PER_MOL

TIGHT = {"fmax": 1e-4, "smax": 1e-4, "max_steps": 3000}


@pytest.fixture(scope="module")
def mini():
    return heliodor.load("heliodor-mini", device="cpu", dtype="float64")


def test_the_lennard_jones_crystal():
    """fcc at 1.0902 σ: -8.6102 ε an atom (Ashcroft & Mermin, table 20.4 and eq. 20.15)."""
    cutoff = 10.05 * SIGMA
    crystal = argon(1.0902)
    found = lattice_energy(PairSum(lennard_jones, cutoff), crystal, relax="none")
    assert found.energy == pytest.approx(direct_sum(crystal, lennard_jones, cutoff), abs=1e-10)
    density = 2**0.5 / 1.0902**3
    tail = 8.0 * np.pi * density * (10.05**-9 / 9.0 - 10.05**-3 / 3.0)
    assert found.energy + tail == pytest.approx(-8.6102, abs=5e-4)
    assert found.formula == "Ar"
    assert found.components[0].energy == 0.0
    assert found.sublimation_enthalpy(100.0) == pytest.approx(-found.energy - 0.5 * BOLTZMANN * 100.0)


def test_a_lennard_jones_crystal_relaxes_to_its_lattice_constant():
    def smooth(d):
        # zero with zero slope and curvature at the cutoff: what minimizers need
        return lennard_jones(d) * (1.0 - (d / (4.0 * SIGMA)) ** 8).clamp_min(0.0) ** 3

    best = minimize_scalar(
        lambda r: direct_sum(argon(r), smooth, 4.0 * SIGMA),
        bounds=(1.05, 1.15),
        method="bounded",
        options={"xatol": 1e-8},
    )
    crystal = argon(1.14) * (2, 1, 1)
    strain = np.array([[0.0, 0.01, 0.0], [0.01, 0.0, 0.0], [0.0, 0.0, 0.02]])
    crystal.set_cell(crystal.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    found = lattice_energy(PairSum(smooth, 4.0 * SIGMA), crystal, **TIGHT)
    assert found.converged
    assert found.units == 2
    assert found.energy == pytest.approx(best.fun, abs=1e-6)
    assert found.final.get_volume() / 2 == pytest.approx((best.x * SIGMA) ** 3 / 2**0.5, rel=1e-4)
    assert found.volume_change == pytest.approx(100 * (found.final.get_volume() / crystal.get_volume() - 1))
    assert "thermal expansion" in found.notes[0]
    assert found.densities[1] > found.densities[0]
    assert found.final.get_potential_energy() == pytest.approx(found.crystal_energy)


def test_a_crystal_of_diatomics():
    """The gas phase is the bottom of the bond's well, whatever the bond length in the crystal."""
    crystal, cutoff = nitrogen(bond=1.13), 7.5
    potential = PairSum(diatomic, cutoff)
    well = minimize_scalar(lambda d: float(diatomic(torch.tensor(d))), bounds=(1.0, 1.2), method="bounded").fun
    for relax in ("none", "positions", "cell"):
        found = lattice_energy(potential, crystal, relax=relax, **TIGHT)
        gas = float(diatomic(torch.tensor(1.13, dtype=torch.float64))) if relax == "none" else well
        expected = direct_sum(found.final, diatomic, cutoff) / 4 - gas
        assert found.energy == pytest.approx(expected, abs=1e-6)
        assert found.units == 4
        assert found.components[0].external == 5
        assert found.cutoff_correction is None
        assert found.long_range_cutoff is None
        if relax != "cell":
            np.testing.assert_allclose(found.final.cell.array, crystal.cell.array)
    assert found.energy < 0.0
    assert found.kj_per_mol == pytest.approx(found.energy / KJ_PER_MOL)
    assert found.kcal_per_mol == pytest.approx(found.energy / KCAL_PER_MOL)
    # RT less 3/2 for a linear molecule
    assert found.sublimation_enthalpy(300.0) == pytest.approx(-found.energy - 1.5 * BOLTZMANN * 300.0)
    with pytest.raises(InputError, match="positive number of kelvins"):
        found.sublimation_enthalpy(0.0)


def test_pressure_compresses():
    potential = PairSum(diatomic, 7.5)
    free = lattice_energy(potential, nitrogen(), **TIGHT)
    pressed = lattice_energy(potential, nitrogen(), pressure=5e3, **TIGHT)
    assert pressed.final.get_volume() < free.final.get_volume()
    assert pressed.energy > free.energy
    assert pressed.pressure_work == pytest.approx(5e3 * BAR * pressed.final.get_volume() / 4)
    assert free.pressure_work == 0.0


@pytest.mark.parametrize("relax", ["none", "cell"])
def test_cells_order_and_origin_do_not_matter(relax):
    potential = PairSum(diatomic, 7.5)
    expected = lattice_energy(potential, nitrogen(), relax=relax, **TIGHT).energy
    for seed, repeat in enumerate([(1, 1, 1), (2, 1, 1), (1, 2, 2)]):
        found = lattice_energy(potential, scrambled(nitrogen() * repeat, seed), relax=relax, **TIGHT)
        assert found.energy == pytest.approx(expected, abs=1e-9 if relax == "none" else 1e-5)
        assert found.units == 4 * np.prod(repeat)


def test_a_models_supercell(mini):
    one = lattice_energy(mini, urea(), relax="none")
    more = lattice_energy(mini, scrambled(urea() * (1, 2, 1)), relax="none")
    at_12 = heliodor.load("heliodor-mini", device="cpu", dtype="float64", long_range_cutoff=12.0)
    whole, alone = (
        float(heliodor.evaluate(at_12, a).energy[0]) for a in (urea(), find_molecules(urea())[0].atoms)
    )  # fmt: skip
    assert one.energy == pytest.approx(whole / 2 - alone, abs=1e-9)
    assert one.formula == more.formula == "CH4N2O"
    assert (one.units, more.units) == (2, 4)
    assert more.energy == pytest.approx(one.energy, abs=1e-8)
    assert more.cutoff_correction == pytest.approx(one.cutoff_correction, abs=1e-8)
    assert one.sublimation_enthalpy(298.15) == pytest.approx(-one.energy_without_cutoff - 2 * BOLTZMANN * 298.15)


@pytest.mark.parametrize("cutoff", ["auto", 8.0])
def test_a_crystal_diluted_to_nothing_is_not_bound(so3lr_at, cutoff):
    """To the last digits at the crystal's own cutoff; against the molecule without one it is off by a part of an eV."""
    alone = molecule("CH3CONH2")
    crystal = ase.Atoms(alone.numbers, alone.positions, cell=[[30, 0, 0], [3, 29, 0], [-4, 6, 28]], pbc=True)
    crystal.positions += [14.0, 28.0, 1.0]
    crystal.wrap()
    potential = so3lr_at(cutoff)
    found = lattice_energy(potential, crystal, relax="none")
    assert found.energy == pytest.approx(0.0, abs=1e-9)
    assert found.cutoff_correction == pytest.approx(0.0, abs=1e-9)
    assert found.long_range_cutoff == (12.0 if cutoff == "auto" else 8.0)
    # the model handed in is as it was
    assert potential.long_range_cutoff == cutoff
    unlike = float(heliodor.evaluate(so3lr_at("auto"), alone).energy[0])
    assert abs(found.crystal_energy - unlike) > 0.2


def test_the_cutoff_correction_leads_to_the_sum_without_cutoff(so3lr_at):
    """For a molecule it is exact (all pairs lie where the potential is only shifted); in crystals it converges fast."""
    alone = molecule("CH3CONH2")
    crystal = ase.Atoms(alone.numbers, alone.positions, cell=[40, 40, 40], pbc=True)
    found = lattice_energy(so3lr_at(16.0), crystal, relax="none")
    own = found.components[0].own_share
    without = heliodor.evaluate(so3lr_at("auto"), alone, forces=False)
    with_cutoff = heliodor.evaluate(so3lr_at(16.0), alone, forces=False)
    shift = float(without.terms["electrostatics"][0] - with_cutoff.terms["electrostatics"][0])
    assert own == pytest.approx(shift, abs=1e-9)

    at = {cutoff: lattice_energy(so3lr_at(cutoff), urea(), relax="none") for cutoff in (10.0, 16.0, 20.0)}
    assert abs(at[10.0].energy - at[20.0].energy) > 2 * KCAL_PER_MOL
    for cutoff in (10.0, 16.0):
        assert at[cutoff].energy_without_cutoff == pytest.approx(at[20.0].energy_without_cutoff, abs=0.5 * KCAL_PER_MOL)


def test_a_cocrystal():
    crystal, cutoff = nitrogen(a=6.4), 7.5
    holes = crystal.cell.array.sum(0) / 2 + np.array([[0, 0, 0], [3.2, 3.2, 0], [3.2, 0, 3.2], [0, 3.2, 3.2]])
    crystal = plain(crystal) + ase.Atoms("Ar4", holes)
    found = lattice_energy(PairSum(diatomic, cutoff), scrambled(crystal), relax="none")
    gas = float(diatomic(torch.tensor(1.1, dtype=torch.float64)))
    assert found.units == 4
    assert sorted(c.formula for c in found.components) == ["Ar", "N2"]
    assert found.energy == pytest.approx(direct_sum(crystal, diatomic, cutoff) / 4 - gas, abs=1e-10)
    half = crystal[:-2]
    found = lattice_energy(PairSum(diatomic, cutoff), half, relax="none")
    assert found.units == 2
    assert found.formula == "2 N2 + Ar"
    assert found.energy == pytest.approx(direct_sum(half, diatomic, cutoff) / 2 - 2 * gas, abs=1e-10)
    # 2 (1 - 5/2) + (1 - 3/2)
    assert found.sublimation_enthalpy(100.0) == pytest.approx(-found.energy - 3.5 * BOLTZMANN * 100.0)


def test_the_lowest_conformer_is_the_gas_phase(mini):
    crystal = ase.Atoms(cell=[18, 9, 9], pbc=True)
    flat, twisted = molecule("H2O2"), molecule("H2O2")
    flat.set_dihedral(2, 0, 1, 3, 1.0)
    for k, part in enumerate((flat, twisted)):
        part.positions += [9.0 * k, 0.0, 0.0]
        crystal += part
    found = lattice_energy(mini, crystal, relax="none")
    (component,) = found.components
    energies = heliodor.evaluate(
        heliodor.load("heliodor-mini", device="cpu", dtype="float64", long_range_cutoff=12.0), [flat, twisted]
    ).energy
    assert component.conformers == 2
    assert component.energy == pytest.approx(float(energies.min()))
    assert component.energies == pytest.approx(energies.tolist())
    given = lattice_energy(mini, crystal, relax="none", molecules=[flat])
    assert given.components[0].source == "given"
    assert given.energy - found.energy == pytest.approx(float(energies.min() - energies[0]))


def test_molecules_that_react_are_told():
    """Two O2 at 1.9 Å roll into one well; so does a given molecule with another bond pattern into a note."""

    def sticky(d):
        return (1.0 - (-1.5 * (d - 1.3)).exp()) ** 2 - 1.0

    oxygen = ase.Atoms("O4", [[0, 0, 0], [1.3, 0, 0], [0, 1.9, 0], [1.3, 1.9, 0]], cell=[12, 12, 12], pbc=True)
    found = lattice_energy(PairSum(sticky, 5.0), oxygen, relax="positions")
    assert any("reacted" in note for note in found.notes)
    assert found.units == 2


def test_an_isomer_given_as_the_molecule_is_told(mini):
    ethanol, ether = molecule("CH3CH2OH"), molecule("CH3OCH3")
    crystal = ase.Atoms(ethanol.numbers, ethanol.positions, cell=[8, 8, 8], pbc=True)
    found = lattice_energy(mini, crystal, relax="none", molecules=[ether])
    assert any("tautomer or another isomer" in note for note in found.notes)


def test_relaxation_can_be_stopped_and_is_told_of():
    calls = []

    def progress(what, step, energy, largest):
        calls.append((what, step))
        return step >= 2

    crystal = nitrogen(a=6.0)
    found = lattice_energy(PairSum(diatomic, 7.5), crystal, progress=progress)
    assert not found.converged
    assert calls[:3] == [("crystal", 0), ("crystal", 1), ("crystal", 2)]
    assert ("N2", 0) in calls


def test_a_committee_is_taken_at_one_cutoff_too(mini):
    twins = Committee([heliodor.load("heliodor-mini", device="cpu", dtype="float64") for _ in range(2)])
    found = lattice_energy(twins, urea(), relax="none")
    assert found.energy == pytest.approx(lattice_energy(mini, urea(), relax="none").energy, abs=1e-9)
    assert found.long_range_cutoff == 12.0


def test_a_committee_has_its_members_mean_without_cutoff(mini):
    other = copy.deepcopy(mini)
    with torch.no_grad():
        other.charge_offset += torch.linspace(-0.05, 0.05, len(other.charge_offset), dtype=torch.float64)
    first, second, both = (lattice_energy(p, urea(), relax="none") for p in (mini, other, Committee([mini, other])))
    assert first.cutoff_correction != pytest.approx(second.cutoff_correction, abs=1e-3)
    assert both.energy == pytest.approx(0.5 * (first.energy + second.energy), abs=1e-9)
    assert both.cutoff_correction == pytest.approx(0.5 * (first.cutoff_correction + second.cutoff_correction), abs=1e-9)


def test_hopeless_input_is_refused(mini, so3lr_at):
    water = molecule("H2O")
    ok = carbon_dioxide()
    for crystal, options, message in (
        (bulk("Cu"), {}, "go on without end"),
        (water, {}, "periodic in three directions"),
        (ok, {"relax": "all"}, "relax must be one of"),
        (ok, {"fmax": 0.0}, "fmax must be a positive number"),
        (ok, {"max_steps": 0}, "max_steps must be at least 1"),
        (ok, {"pressure": 1.0, "relax": "positions"}, "pressure acts through the cell"),
        (ok, {"pressure": float("nan")}, "pressure must be a finite number"),
        (ok, {"molecules": [water]}, "the molecule given is H2O, and the crystal consists of CO2"),
        (ok, {"molecules": [molecule("CO2")] * 2}, "is not clear"),
    ):
        with pytest.raises(InputError, match=message):
            lattice_energy(mini, crystal, **options)
    charged = ok.copy()
    charged.info["charge"] = 1.0
    with pytest.raises(InputError, match="charge and spin must be 0"):
        lattice_energy(mini, charged)
    ion = molecule("CO2")
    ion.info["charge"] = -1
    with pytest.raises(InputError, match="must be neutral"):
        lattice_energy(mini, ok, molecules=[ion])
    with pytest.raises(InputError, match="infinitely many pairs"):
        lattice_energy(so3lr_at(None), ok, relax="none")
    with pytest.raises(ModelError, match="is Ar"):
        lattice_energy(mini, argon())
