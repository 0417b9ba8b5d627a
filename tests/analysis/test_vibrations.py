"""Normal modes and thermochemistry: against paper, ASE, and what symmetry and isotopes demand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase
import ase.vibrations
import numpy as np
import pytest
import torch
from ase import units
from ase.build import molecule
from ase.thermochemistry import HarmonicThermo, IdealGasThermo

import heliodor
from heliodor.analysis.spectrum import AMPLITUDE, FRAMES, animation, broadened, mode_rows, plot_spectrum
from heliodor.analysis.thermochemistry import thermochemistry
from heliodor.analysis.vibrations import Vibrations, vibrations
from heliodor.dynamics.relax.minimize import minimize
from heliodor.errors import InputError
from heliodor.hessian import curvature, hessian
from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, Terms
from heliodor.system import System
from heliodor.units import BAR, BOLTZMANN


class Springs(Potential):
    """Bonds k/2 (d - d0)² between neighbours of a list, fixed charges."""

    name, elements, cutoff = "springs", tuple(range(1, 90)), 5.0

    def __init__(self, bonds: list[tuple[int, int, float, float]], charges: list[float]) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.bonds, self.charges = bonds, torch.tensor(charges, dtype=torch.float64)

    def forward(self, system: System, neighbors: Neighbors) -> Terms:
        r = system.positions
        energy = sum(0.5 * k * ((r[i] - r[j]).norm() - d).square() for i, j, k, d in self.bonds)
        return Terms({"springs": energy.expand(len(r)) / len(r)}, charges=self.charges)


def wavenumber(stiffness: float, mass: float) -> float:
    """cm⁻¹ of a spring (eV/Å²) and a mass (amu), by SI units."""
    rate = (stiffness * 16.02176634 / (mass * 1.66053906660e-27)) ** 0.5
    return rate / (2.0 * np.pi * 299792458.0 * 100.0)


@pytest.fixture(scope="module")
def mini() -> Potential:
    return heliodor.load("heliodor-mini", device="cpu", dtype="float64")


@pytest.fixture(scope="module")
def resting(mini: Potential) -> Any:
    """Relaxed molecules and their curvature, each computed once."""
    known: dict[str, tuple[ase.Atoms, Any]] = {}

    def at(name: str) -> tuple[ase.Atoms, Any]:
        if name not in known:
            atoms = molecule(name)
            relaxed = minimize(System.from_atoms(atoms), mini, fmax=1e-6)
            assert bool(relaxed.converged[0])
            atoms.positions = relaxed.system.positions.numpy()
            known[name] = (atoms, curvature(mini, atoms))
        return known[name]

    return at


def modes_of(resting: Any, name: str) -> Vibrations:
    atoms, found = resting(name)
    return vibrations(found.hessian, atoms, dipole_derivatives=found.dipole_derivatives)


def test_a_diatomic() -> None:
    atoms = ase.Atoms("HCl", [(1.0, 2.0, 3.0), (1.0, 2.7, 4.0)])
    d, k, q = float(atoms.get_distance(0, 1)), 30.0, 0.3
    found = curvature(Springs([(0, 1, k, d)], [q, -q]), atoms)
    v = vibrations(found.hessian, atoms, dipole_derivatives=found.dipole_derivatives)
    a, b = atoms.get_masses()
    mass = a * b / (a + b)
    assert v.kind == "linear"
    assert v.frequencies == pytest.approx([wavenumber(k, mass)], rel=1e-8)
    # both atoms move, a displacement of length one stretches the bond by (1/a + 1/b)/√(1/a² + 1/b²)
    stretch = (1 / a + 1 / b) / (1 / a**2 + 1 / b**2) ** 0.5
    assert v.reduced_masses == pytest.approx([mass * stretch**2])
    assert v.force_constants == pytest.approx([k * stretch**2])
    assert v.intensities == pytest.approx([974.880 * q**2 / mass], rel=1e-5)
    assert v.zero_point_energy == pytest.approx(0.5 * wavenumber(k, mass) / 8065.543937, rel=1e-8)
    heavy = atoms.copy()
    heavy.set_masses([2.014, b])
    ratio = vibrations(found.hessian, heavy).frequencies / v.frequencies
    assert ratio == pytest.approx([(mass / (2.014 * b / (2.014 + b))) ** 0.5], rel=1e-12)


def test_a_linear_triatomic() -> None:
    atoms = ase.Atoms("OCO", [(-1.2, 0, 0), (0, 0, 0), (1.2, 0, 0)])
    k, q = 90.0, 0.4
    found = curvature(Springs([(0, 1, k, 1.2), (1, 2, k, 1.2)], [-q, 2 * q, -q]), atoms)
    v = vibrations(found.hessian, atoms, dipole_derivatives=found.dipole_derivatives)
    o, c = atoms.get_masses()[:2]
    assert v.kind == "linear"
    assert len(v.frequencies) == 4
    # springs along the axis do not resist bending
    assert np.abs(v.frequencies[:2]).max() < 1e-3
    assert v.frequencies[2:] == pytest.approx([wavenumber(k, o), wavenumber(k, o * c / (c + 2 * o))], rel=1e-8)
    assert v.reduced_masses[2] == pytest.approx(o)
    # dμ/dQ of the antisymmetric stretch: 2q against the reduced mass of C against both O
    assert v.intensities[2:] == pytest.approx([0.0, 974.880 * (2 * q) ** 2 / (2 * o * c / (c + 2 * o))], abs=1e-3)
    assert thermochemistry(v).left_out == 2


def test_water_as_ase_has_it(mini: Potential, resting: Any, tmp_path: Path) -> None:
    atoms, found = resting("H2O")
    v = modes_of(resting, "H2O")
    assert v.kind == "nonlinear"
    assert v.imaginary == 0
    data = ase.vibrations.VibrationsData(atoms, found.hessian.reshape(3, 3, 3, 3))
    np.testing.assert_allclose(v.frequencies, data.get_frequencies().real[-3:], rtol=1e-6)
    shapes = data.get_modes()[-3:]
    np.testing.assert_allclose(1.0 / np.square(shapes).sum((1, 2)), v.reduced_masses, rtol=1e-6)
    copy = atoms.copy()
    copy.calc = heliodor.Calculator(mini)
    numeric = ase.vibrations.Vibrations(copy, name=str(tmp_path / "vib"), delta=2e-3, nfree=4)
    numeric.run()
    np.testing.assert_allclose(v.frequencies, numeric.get_frequencies().real[-3:], atol=0.01)
    zero_point = numeric.get_zero_point_energy()
    assert v.zero_point_energy == pytest.approx(zero_point, abs=1e-4)
    gas = IdealGasThermo(
        numeric.get_energies()[-3:], "nonlinear", atoms=atoms, symmetrynumber=2, spin=0, vib_selection="exact"
    )
    thermo = thermochemistry(v, temperature=350.0, pressure=2.0, symmetry_number=2)
    assert thermo.enthalpy == pytest.approx(gas.get_enthalpy(350.0, verbose=False), abs=1e-5)
    assert thermo.entropy == pytest.approx(gas.get_entropy(350.0, 2e5, verbose=False), abs=1e-8)
    assert thermo.gibbs_energy == pytest.approx(gas.get_gibbs_energy(350.0, 2e5, verbose=False), abs=1e-5)
    # 188.83 J/(mol K) measured at 298.15 K and 1 bar (NIST)
    entropy = thermochemistry(v, symmetry_number=2).entropy / (units.kJ / units.mol) * 1e3
    assert entropy == pytest.approx(188.8, abs=0.5)


@pytest.mark.parametrize(("name", "kind", "zeros"), [("CH3OH", "nonlinear", 6), ("CO2", "linear", 5)])
def test_zero_modes_before_and_after_projecting(resting: Any, name: str, kind: str, zeros: int) -> None:
    atoms, found = resting(name)
    v = modes_of(resting, name)
    raw = vibrations(found.hessian, atoms, project=False)
    assert (v.kind, raw.kind) == (kind, "all")
    assert len(v.frequencies) == 3 * len(atoms) - zeros == len(raw.frequencies) - zeros
    assert np.abs(raw.frequencies[:zeros]).max() < 1.0
    assert np.abs(v.overall).max() < 1.0
    assert len(v.overall) == zeros
    np.testing.assert_allclose(raw.frequencies[zeros:], v.frequencies, atol=1e-3)


def test_carbon_dioxide(resting: Any) -> None:
    v = modes_of(resting, "CO2")
    bend, other, symmetric, antisymmetric = v.frequencies
    assert bend == pytest.approx(other, abs=1e-3)
    assert 600 < bend < 720
    assert symmetric < antisymmetric
    assert v.intensities[2] == pytest.approx(0.0, abs=1e-3)
    assert v.intensities[3] > 100


def test_modes_are_orthonormal_and_free_of_overall_motion(resting: Any) -> None:
    atoms, _ = resting("CH3OH")
    v = modes_of(resting, "CH3OH")
    np.testing.assert_allclose(np.square(v.modes).sum((1, 2)), 1.0)
    masses = atoms.get_masses()
    weighted = (v.modes * np.sqrt(masses)[:, None] / np.sqrt(v.reduced_masses)[:, None, None]).reshape(len(v.modes), -1)
    np.testing.assert_allclose(weighted @ weighted.T, np.eye(len(v.modes)), atol=1e-12)
    momenta = masses[:, None] * v.modes
    centred = atoms.positions - atoms.get_center_of_mass()
    assert np.abs(momenta.sum(1)).max() < 1e-12
    assert np.abs(np.cross(centred, momenta).sum(1)).max() < 1e-12
    assert (np.diff(v.frequencies) >= 0).all()


def test_turning_the_molecule_changes_nothing(mini: Potential, resting: Any) -> None:
    atoms, _ = resting("CH3OH")
    v = modes_of(resting, "CH3OH")
    turned = atoms.copy()
    turned.rotate(77.0, (1, -1, 2))
    turned.positions += 5.0
    found = curvature(mini, turned)
    again = vibrations(found.hessian, turned, dipole_derivatives=found.dipole_derivatives)
    np.testing.assert_allclose(again.frequencies, v.frequencies, atol=1e-6)
    np.testing.assert_allclose(again.intensities, v.intensities, atol=1e-6)
    np.testing.assert_allclose(again.reduced_masses, v.reduced_masses, atol=1e-8)


def test_isotopes_obey_teller_and_redlich(resting: Any) -> None:
    atoms, found = resting("H2O")
    heavy = atoms.copy()
    heavy.set_masses([15.999, 2.014, 1.008])
    ratio = np.prod(vibrations(found.hessian, heavy).frequencies / vibrations(found.hessian, atoms).frequencies)
    inertia, mass, single = [
        f(heavy) / f(atoms)
        for f in (
            lambda a: np.prod(a.get_moments_of_inertia()),
            lambda a: a.get_masses().sum(),
            lambda a: np.prod(a.get_masses()),
        )
    ]
    assert ratio == pytest.approx((mass**3 * inertia / single**3) ** 0.5, rel=1e-6)


def test_a_transition_state(mini: Potential) -> None:
    flat = molecule("NH3")
    flat.positions[:, 2] = 0.0
    flat.positions = minimize(System.from_atoms(flat), mini, fmax=1e-5).system.positions.numpy()
    v = vibrations(hessian(mini, flat), flat)
    assert v.imaginary == 1
    assert -1200 < v.frequencies[0] < -600
    # the nitrogen against the hydrogens, out of the plane
    assert np.abs(v.modes[0][:, :2]).max() < 1e-6
    assert v.zero_point_energy == pytest.approx(0.5 * v.energies[1:].sum())
    thermo = thermochemistry(v)
    assert thermo.left_out == 1
    assert thermo.zero_point_energy == pytest.approx(v.zero_point_energy)


def test_crystals_and_frozen_atoms(mini: Potential) -> None:
    atoms = molecule("H2O")
    atoms.set_cell([4.0, 4.5, 5.0])
    atoms.pbc = True
    found = hessian(heliodor.load("heliodor-mini", device="cpu", dtype="float64", long_range_cutoff=5.0), atoms)
    whole = vibrations(found, atoms)
    assert whole.kind == "periodic"
    assert len(whole.frequencies) == 6
    assert np.abs(whole.overall).max() < 1e-2
    part = vibrations(found[3:, 3:], atoms, subset=[1, 2])
    assert part.kind == "partial"
    assert len(part.frequencies) == 6
    assert len(part.overall) == 0
    assert (part.modes[:, 0] == 0.0).all()
    for v, volume in ((whole, 90.0), (part, 90.0)):
        thermo = thermochemistry(v, temperature=400.0, pressure=1e4)
        energies = v.energies[v.energies > 0]
        assert thermo.model == "harmonic"
        reduced = energies / (BOLTZMANN * 400.0)
        entropy = BOLTZMANN * (reduced / np.expm1(reduced) - np.log1p(-np.exp(-reduced))).sum()
        assert thermo.entropy == pytest.approx(entropy, rel=1e-5)
        assert thermo.internal_energy == pytest.approx((energies * (0.5 + 1 / np.expm1(reduced))).sum(), rel=1e-5)
        assert thermo.enthalpy - thermo.internal_energy == pytest.approx(1e4 * BAR * volume)
        assert thermo.gibbs_energy == pytest.approx(thermo.enthalpy - 400.0 * thermo.entropy)
        expected = HarmonicThermo(energies).get_helmholtz_energy(400.0, verbose=False) + 1e4 * BAR * volume
        assert thermo.gibbs_energy == pytest.approx(expected)


def test_atoms_and_open_shells() -> None:
    argon = vibrations(np.zeros((3, 3)), ase.Atoms("Ar"))
    assert argon.kind == "atom"
    assert len(argon.frequencies) == 0
    thermo = thermochemistry(argon)
    per_mole = 1e3 / (units.kJ / units.mol)
    # Sackur and Tetrode; measured 154.85 J/(mol K)
    assert thermo.entropy * per_mole == pytest.approx(154.846, abs=0.01)
    assert thermo.internal_energy == pytest.approx(1.5 * BOLTZMANN * 298.15, rel=1e-6)
    triplet = thermochemistry(argon, spin=2)
    assert triplet.entropy - thermo.entropy == pytest.approx(BOLTZMANN * np.log(3), rel=1e-5)
    denser = thermochemistry(argon, pressure=10.0)
    assert denser.entropy - thermo.entropy == pytest.approx(-BOLTZMANN * np.log(10), rel=1e-5)


def test_bad_input(resting: Any) -> None:
    atoms, found = resting("H2O")
    broken = found.hessian.copy()
    broken[0, 0] = np.nan
    weightless = atoms.copy()
    weightless.set_masses([0.0, 1.0, 1.0])
    periodic = atoms.copy()
    periodic.set_cell([9, 9, 9])
    periodic.pbc = True
    for arguments, message in (
        ((found.hessian[:6, :6], atoms), "hessian of 3 atoms must be 9 × 9"),
        ((broken, atoms), "not finite"),
        ((found.hessian, weightless), "positive mass"),
    ):
        with pytest.raises(InputError, match=message):
            vibrations(*arguments)
    with pytest.raises(InputError, match="dipole_derivatives of 3 atoms must be 9 × 3"):
        vibrations(found.hessian, atoms, dipole_derivatives=np.zeros((6, 3)))
    with pytest.raises(InputError, match="a periodic structure has none"):
        vibrations(found.hessian, periodic, dipole_derivatives=np.zeros((9, 3)))
    with pytest.raises(InputError, match="must be 3 × 3"):
        vibrations(found.hessian, atoms, subset=[1])
    v = vibrations(found.hessian, atoms)
    for options, message in (
        ({"temperature": 0.0}, "temperature"),
        ({"pressure": float("inf")}, "pressure"),
        ({"symmetry_number": 0}, "symmetry_number"),
    ):
        with pytest.raises(InputError, match=message):
            thermochemistry(v, **options)


def test_what_is_drawn_and_animated(resting: Any, tmp_path: Path) -> None:
    atoms, _ = resting("H2O")
    v = modes_of(resting, "H2O")
    grid = np.arange(0.0, 20000.0, 0.5)
    total = broadened(v.frequencies, v.intensities, grid).sum() * 0.5
    assert total == pytest.approx(v.intensities.sum(), rel=0.01)
    frames = animation(v)
    assert len(frames) == 3 * FRAMES
    assert [frame.info["mode"] for frame in frames[::FRAMES]] == [1, 2, 3]
    np.testing.assert_array_equal(frames[FRAMES].positions, atoms.positions)
    # a quarter of the period is the turning point
    moved = np.linalg.norm(frames[FRAMES // 4].positions - atoms.positions, axis=1)
    assert moved.max() == pytest.approx(AMPLITUDE)
    plot_spectrum(v, tmp_path / "a.png", "water")
    plot_spectrum(vibrations(-resting("H2O")[1].hessian, atoms), tmp_path / "b.png", "upside down")
    assert (tmp_path / "a.png").stat().st_size > 5000 < (tmp_path / "b.png").stat().st_size
    rows = mode_rows(v)
    assert [row["mode"] for row in rows] == [1, 2, 3]
    assert rows[0]["infrared_km_per_mol"] == pytest.approx(v.intensities[0])
    assert "infrared_km_per_mol" not in mode_rows(vibrations(resting("H2O")[1].hessian, atoms))[0]
