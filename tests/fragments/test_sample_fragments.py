"""Distortions of a molecule of springs, whose vibrations and averages are known, and of water with GFN2."""

from __future__ import annotations

import ase
import numpy as np
import pytest
from springs import TRIANGLE, SpringMethod, SpringPotential, triangle

from heliodor.errors import InputError
from heliodor.fragments.distorted import closest
from heliodor.fragments.sample import normal_modes, sample_displacements, sample_dynamics, sample_normal_modes
from heliodor.units import BOLTZMANN

COLD = 0.5
"""K; so cold that springs are harmonic."""


def wavenumber(stiffness: float, mass: float) -> float:
    """1/cm of a spring (eV/Å²) and a mass (amu), by SI units."""
    rate = (stiffness * 16.02176634 / (mass * 1.66053906660e-27)) ** 0.5
    return rate / (2.0 * np.pi * 299792458.0 * 100.0)


def energies(frames: tuple[ase.Atoms, ...], method: SpringMethod) -> np.ndarray:
    return np.array([method(frame).energy for frame in frames])


def test_modes_of_two_and_three_atoms() -> None:
    pair = ase.Atoms("HCl", positions=[[0, 0, 0], [0.3, 1.1, 0.4]])
    h, cl = pair.get_masses()
    modes = normal_modes(pair, SpringMethod([(0, 1, 30.0, 1.27)]))
    assert modes.wavenumbers == pytest.approx([wavenumber(30.0, h * cl / (h + cl))], rel=1e-3)
    # O=C=O: five rigid motions; without bending springs two modes of zero beside both stretches
    line = ase.Atoms("OCO", positions=[[0, 0, -1.16], [0, 0, 0], [0, 0, 1.16]])
    o, c = line.get_masses()[:2]
    modes = normal_modes(line, SpringMethod([(0, 1, 90.0, 1.16), (1, 2, 90.0, 1.16)]), relax=False)
    assert len(modes.wavenumbers) == 4
    # the bends: 7/cm are the cubic term of differences over 0.005 Å, k h²/2r² for each spring
    assert np.abs(modes.wavenumbers[:2]).max() < 10.0
    expected = [wavenumber(90.0, o), wavenumber(90.0, 1.0 / (1.0 / o + 2.0 / c))]
    assert modes.wavenumbers[2:] == pytest.approx(expected, rel=1e-4)
    # a Potential's exact second derivatives say the same
    exact = normal_modes(triangle(), SpringPotential(TRIANGLE, 3)).wavenumbers
    assert normal_modes(triangle(), SpringMethod(TRIANGLE)).wavenumbers == pytest.approx(exact, rel=1e-3)


def test_thermal_modes_have_half_kt_each() -> None:
    method = SpringMethod(TRIANGLE)
    count = 3000
    drawn = sample_normal_modes(triangle(), method, count, temperatures=(COLD,), relax=False)
    assert len(drawn.frames) == count
    modes = normal_modes(triangle(), method, relax=False)
    moved = np.stack([frame.positions for frame in drawn.frames]) - triangle().positions
    weighted = np.einsum("sij,kij,i->sk", moved, modes.vectors, triangle().get_masses())
    harmonic = 0.5 * modes.curvatures * weighted**2
    kt = BOLTZMANN * COLD
    # the variance of each is (kT)²/2
    assert harmonic.mean(0) == pytest.approx(np.full(3, kt / 2), abs=4.0 * kt * np.sqrt(0.5 / count))
    # and the energy of the springs themselves, which know nothing of modes, is 3/2 kT, its variance 3/2 (kT)²
    assert energies(drawn.frames, method).mean() == pytest.approx(1.5 * kt, abs=4.0 * kt * np.sqrt(1.5 / count))


def test_ani_energies() -> None:
    method, count = SpringMethod(TRIANGLE), 2000
    drawn = sample_normal_modes(triangle(), method, count, temperatures=(COLD,), recipe="ani", relax=False)
    found = energies(drawn.frames, method) / (1.5 * 3 * BOLTZMANN * COLD)
    # the sum of three of four gaps between uniform numbers: Beta(3, 1), mean 3/4, variance 3/80
    assert found.max() < 1.01
    assert found.mean() == pytest.approx(0.75, abs=4.0 * np.sqrt(3.0 / 80.0 / count))
    assert np.mean(found < 0.5) == pytest.approx(0.125, abs=4.0 * np.sqrt(0.125 * 0.875 / count))


def test_soft_and_negative_modes() -> None:
    line = ase.Atoms("OCO", positions=[[0, 0, -1.16], [0, 0, 0], [0, 0, 1.16]])
    # compressed, so that bending lowers the energy
    method = SpringMethod([(0, 1, 90.0, 1.2), (1, 2, 90.0, 1.2)])
    assert (normal_modes(line, method, relax=False).wavenumbers[:2] < -50.0).all()
    drawn = sample_normal_modes(line, method, 50, relax=False)
    assert len(drawn.frames) == 50
    assert "2 of 4 modes are softer than 300 1/cm" in drawn.notes[0]
    # two bends of 300/cm at 300 K: carbon, the lightest, moves by less than 0.5 Å
    assert max(np.abs(frame.positions - line.positions).max() for frame in drawn.frames) < 0.5
    assert sample_normal_modes(ase.Atoms("Na"), method, 5).frames == ()


def test_dynamics_has_the_temperature_and_is_one_for_both_sources() -> None:
    kt = BOLTZMANN * 20.0
    starts = []
    for k in range(20):
        starts.append(triangle())
        starts[-1].rotate(17.0 * k, (1, 2, 3))
    potential = SpringPotential(TRIANGLE, 3)
    settings = {"temperatures": (20.0,), "friction": 50.0, "every": 40.0, "step": 1.0}
    drawn = sample_dynamics(starts, potential, frames=20, **settings)
    method = SpringMethod(TRIANGLE)
    # the first frames remember that each began at rest
    found = energies(drawn.frames, method).reshape(20, 20)[:, 8:].mean(1)
    assert found.mean() == pytest.approx(1.5 * kt, abs=4.0 * found.std() / np.sqrt(19))
    assert found.std() / np.sqrt(19) < 0.15 * kt
    other = sample_dynamics(starts[:2], method, frames=2, **settings)
    for mine, its in zip(other.frames, (*drawn.frames[:2], *drawn.frames[20:22]), strict=True):
        np.testing.assert_allclose(mine.positions, its.positions, atol=1e-9)
    assert drawn.frames[0].info == {**triangle().info, "sampling": "dynamics at 20 K"}
    np.testing.assert_allclose(drawn.frames[5].get_center_of_mass(), starts[0].get_center_of_mass(), atol=1e-9)


def test_seeds() -> None:
    method = SpringMethod(TRIANGLE)
    ways = (
        lambda seed: sample_normal_modes(triangle(), method, 3, seed=seed),
        lambda seed: sample_dynamics(triangle(), method, frames=2, every=3.0, seed=seed),
        lambda seed: sample_displacements(triangle(), 3, seed=seed),
    )
    for way in ways:
        one, same, other = (np.concatenate([f.positions for f in way(seed).frames]).tobytes() for seed in (4, 4, 5))
        assert one == same != other


def test_what_is_left_out() -> None:
    wild = sample_displacements(triangle(), 60, amplitudes=(0.5,))
    assert len(wild.frames) == 60
    assert wild.clashes > 0 < wild.reconnected
    assert min(closest(frame.positions) for frame in wild.frames) >= 0.6
    tame = sample_displacements(triangle(), 20, amplitudes=(0.3,), reject_reconnected=True)
    assert len(tame.frames) == 20 and tame.reconnected > 0
    assert sample_dynamics(triangle(), SpringMethod(TRIANGLE, fails=True), frames=2).failed == 3
    # springs that push everything apart: the trajectories end, nothing hangs
    apart = sample_dynamics(triangle(), SpringMethod([(0, 1, 500.0, 60.0)]), frames=2)
    assert apart.failed == 3 and apart.frames == ()


def test_displacements_have_their_amplitude() -> None:
    drawn = sample_displacements(triangle(), 600, amplitudes=(0.02,))
    moved = np.stack([f.positions for f in drawn.frames]) - triangle().positions
    assert moved.std() == pytest.approx(0.02, rel=4.0 / np.sqrt(2 * moved.size))


def test_gfn2_moves_water() -> None:
    pytest.importorskip("tblite")
    from heliodor.fragments.embed import embed
    from heliodor.label.xtb import find_xtb

    water = embed("O")[0]
    modes = normal_modes(water, find_xtb("gfn2"))
    # GFN2-xTB of the specification's SpookyNet fit, itself good to some per cent: 1542, 3666, 3706 1/cm
    assert modes.wavenumbers == pytest.approx([1542.0, 3666.0, 3706.0], rel=0.03)
    drawn = sample_dynamics(water, find_xtb("gfn2"), temperatures=(300.0,), frames=2, every=5.0)
    assert len(drawn.frames) == 2 and drawn.failed == drawn.reconnected == 0


def test_bad_input() -> None:
    method = SpringMethod(TRIANGLE)
    with pytest.raises(InputError, match="no recipe 'boltzmann'"):
        sample_normal_modes(triangle(), method, 1, recipe="boltzmann")
    with pytest.raises(InputError, match="temperatures must be above 0"):
        sample_dynamics(triangle(), method, temperatures=(-3.0,))
    with pytest.raises(InputError, match="the step must be"):
        sample_dynamics(triangle(), method, step=50.0)
    with pytest.raises(InputError, match=r"closer than 0\.6"):
        sample_displacements(ase.Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.3]]), 1)
    with pytest.raises(InputError, match="no energy or forces"):
        sample_normal_modes(triangle(), SpringMethod(TRIANGLE, fails=True), 1)
    with pytest.raises(InputError, match="periodic"):
        sample_displacements(ase.Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.8]], cell=[9, 9, 9], pbc=True), 1)
