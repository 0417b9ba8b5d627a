"""Power spectra of oscillators whose frequencies, masses and energies are known."""

from __future__ import annotations

import ase
import numpy as np
import pytest
from ase.build import molecule

from heliodor.analysis.spectra import velocities as velocities_module
from heliodor.analysis.spectra.sampling import fastest, folding, nyquist, too_coarse
from heliodor.analysis.spectra.velocities import Group, read_groups, velocity_power
from heliodor.analysis.spectra.velocities_show import show
from heliodor.analysis.spectra.welch import LIGHT
from heliodor.errors import InputError
from heliodor.trajectory import Trajectory
from heliodor.units import ACCELERATION, BOLTZMANN
from memory_trajectories import in_memory
from trajectories import waters

TEMPERATURE = 300.0


def diatomic(nu: float, interval: float = 2.0, frames: int = 6000, with_velocities: bool = True) -> Trajectory:
    """HCl whose bond vibrates at ``nu`` cm⁻¹ with an energy of k_BT, its centre of mass at rest."""
    pair = ase.Atoms("ClH", [[0.0, 0.0, 0.0], [0.0, 0.0, 1.3]])
    heavy, light = pair.get_masses()
    reduced = heavy * light / (heavy + light)
    omega = 2.0 * np.pi * LIGHT * nu
    size = np.sqrt(2.0 * BOLTZMANN * TEMPERATURE * ACCELERATION / reduced) / omega
    phase = omega * interval * np.arange(frames) + 0.3
    share = np.array([-light, heavy]) / (heavy + light)
    positions = np.tile(pair.positions, (frames, 1, 1))
    positions[:, :, 2] += size * np.cos(phase)[:, None] * share
    moving = np.zeros_like(positions)
    moving[:, :, 2] = -omega * size * np.sin(phase)[:, None] * share
    values = {"velocities": moving} if with_velocities else {}
    return in_memory(pair, positions, interval, values=values)


def einstein_crystal(frames: int = 12_000) -> tuple[Trajectory, np.ndarray]:
    """Argon and neon atoms on springs, three frequencies each, every oscillator with an energy of k_BT."""
    rng = np.random.default_rng(1)
    atoms = ase.Atoms("Ar10Ne20", rng.uniform(0, 20, size=(30, 3)), cell=[20.0] * 3, pbc=True)
    nu = rng.choice([150.0, 420.0, 900.0], size=(30, 3))
    omega = 2.0 * np.pi * LIGHT * nu
    speed = np.sqrt(2.0 * BOLTZMANN * TEMPERATURE * ACCELERATION / atoms.get_masses())[:, None]
    phase = omega * 2.0 * np.arange(frames)[:, None, None] + rng.uniform(0, 2 * np.pi, size=(30, 3))
    positions = atoms.positions + speed / omega * np.sin(phase)
    return in_memory(atoms, positions, 2.0, values={"velocities": speed * np.cos(phase)}), nu


@pytest.mark.parametrize("with_velocities", [True, False])
@pytest.mark.parametrize("nu", [800.0, 2990.0])
def test_a_diatomic_has_one_line_at_its_frequency(nu: float, with_velocities: bool) -> None:
    found = velocity_power(diatomic(nu, with_velocities=with_velocities), resolution=10.0)
    assert found.differences is not with_velocities
    total = found.weighted.sum(0)
    step = found.wavenumber[1]
    assert found.wavenumber[total.argmax()] == pytest.approx(nu, abs=step)
    near = np.abs(found.wavenumber - nu) < 60.0
    assert total[near].sum() * step == pytest.approx(6.0, rel=1e-4)
    # the width of the line is the resolution that is stated
    fine = np.linspace(nu - 40.0, nu + 40.0, 4001)
    high = np.interp(fine, found.wavenumber, total) > 0.5 * total.max()
    assert np.ptp(fine[high]) == pytest.approx(found.resolution, rel=0.05) == pytest.approx(10.0, rel=0.05)
    # the vibration alone: k_BT in it, of six degrees of freedom
    assert found.temperature == pytest.approx(TEMPERATURE / 6.0, rel=2e-3)
    hydrogen, chlorine = found.weighted.sum(1) / total.sum()
    assert found.groups == ("H", "Cl")
    assert hydrogen == pytest.approx(35.45 / (35.45 + 1.008), rel=1e-3)
    # without masses the lighter atom has the square of that
    light, heavy = found.plain.sum(1)
    assert light / heavy == pytest.approx((35.45 / 1.008) ** 2, rel=1e-3)
    assert chlorine == pytest.approx(1.0 - hydrogen)


def test_an_einstein_crystal_has_as_many_modes_as_it_has() -> None:
    trajectory, nu = einstein_crystal()
    found = velocity_power(trajectory)
    assert found.blocks == 4 and found.temperature == pytest.approx(TEMPERATURE, rel=5e-3)
    step = found.wavenumber[1]
    for line in (150.0, 420.0, 900.0):
        near = np.abs(found.wavenumber - line) < 40.0
        for k, some in enumerate((slice(10, 30), slice(0, 10))):
            assert found.weighted[k][near].sum() * step == pytest.approx((nu[some] == line).sum(), rel=5e-3)
    # neon is lighter by 39.95/20.18, and so are its squares of velocities heavier
    area = found.plain.sum(1) * step
    assert area[0] / area[1] == pytest.approx(2.0 * 39.95 / 20.18, rel=5e-3)
    assert area.sum() == pytest.approx(90.0, rel=1e-3)


def test_passes_blocks_and_processes_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    trajectory, _ = einstein_crystal(3000)
    told: list[tuple[int, int]] = []
    one = velocity_power(trajectory, resolution=20.0)
    monkeypatch.setattr(velocities_module, "MEMORY", 24 * 1500 * 7)
    monkeypatch.setattr(velocities_module, "TOGETHER", 3)
    # two processes would need four blocks: one does the work
    two = velocity_power(trajectory, resolution=20.0, processes=2, progress=lambda a, b: told.append((a, b)))
    assert one.blocks == two.blocks == 2
    np.testing.assert_allclose(one.weighted, two.weighted, atol=1e-12)
    np.testing.assert_allclose(one.plain_error, two.plain_error, atol=1e-12)
    assert told[-1][0] == told[-1][1] and len(told) > 5


def test_some_atoms_stand_for_all() -> None:
    rng = np.random.default_rng(2)
    atoms = ase.Atoms("Ar200", cell=[30.0] * 3, pbc=True)
    velocities = rng.normal(size=(1600, 200, 3))
    trajectory = in_memory(atoms, np.cumsum(velocities, axis=0), 4.0, values={"velocities": velocities})
    every = velocity_power(trajectory, resolution=40.0)
    some = velocity_power(trajectory, resolution=40.0, atoms=50)
    assert (every.used, some.used, some.atoms) == (200, 50, 200)
    area = some.weighted.sum() * some.wavenumber[1]
    assert area == pytest.approx(600.0, rel=0.01)
    assert some.temperature == pytest.approx(every.temperature, rel=0.02)
    # white noise is flat: 600 modes up to the Nyquist limit
    inner = every.weighted[0, 20:-20]
    assert inner.mean() == pytest.approx(600.0 / nyquist(4.0), rel=0.01)
    deviation = (inner - inner.mean()) / every.weighted_error[0, 20:-20]
    assert 0.5 < np.square(deviation).mean() < 2.5


def test_positions_across_the_faces_of_the_cell_give_the_same() -> None:
    rng = np.random.default_rng(3)
    atoms = ase.Atoms("Ar8", cell=[9.0] * 3, pbc=True)
    positions = np.cumsum(rng.normal(scale=0.05, size=(900, 8, 3)), axis=0)
    plain = velocity_power(in_memory(atoms, positions, 5.0), resolution=40.0)
    wrapped = velocity_power(in_memory(atoms, positions % 9.0, 5.0), resolution=40.0)
    np.testing.assert_allclose(plain.weighted, wrapped.weighted, rtol=1e-8)


def test_groups() -> None:
    box = waters(2, 3.2)
    velocities = np.random.default_rng(4).normal(size=(400, 24, 3))
    trajectory = in_memory(box, np.tile(box.positions, (400, 1, 1)), 2.0, values={"velocities": velocities})
    groups = read_groups(trajectory.topology, "molecule 0-3; molecule 4-7 and H")
    assert [len(group.atoms) for group in groups] == [12, 8]
    found = velocity_power(trajectory, groups, resolution=80.0)
    assert found.weighted.sum() * found.wavenumber[1] == pytest.approx(60.0, rel=0.02)
    oxygens = velocity_power(trajectory, [Group("O", np.flatnonzero(box.numbers == 8))], resolution=80.0)
    everything = velocity_power(trajectory, resolution=80.0)
    ratio = everything.weighted[1] / oxygens.weighted[0]
    assert np.ptp(ratio) < 1e-9 * ratio.mean()
    with pytest.raises(InputError, match="one group only"):
        read_groups(trajectory.topology, "water; H")
    with pytest.raises(InputError, match="no groups are given"):
        read_groups(trajectory.topology, ";")


def test_fast_motion_folds_over_where_it_is_said() -> None:
    trajectory = diatomic(2990.0, interval=6.0, frames=2500)
    (said,) = folding(trajectory)
    highest = nyquist(6.0)
    assert f"up to {highest:.0f} cm⁻¹" in said
    found = velocity_power(trajectory)
    peak = found.wavenumber[found.weighted.sum(0).argmax()]
    assert peak == pytest.approx(2.0 * highest - 2990.0, abs=found.wavenumber[1])
    assert folding(diatomic(2990.0)) == []


def test_what_is_too_coarse_is_told() -> None:
    assert too_coarse(diatomic(2000.0)) is None
    assert "save every 4.2 fs or more often" in (too_coarse(diatomic(2000.0, interval=10.0)) or "")
    assert too_coarse(diatomic(2000.0, frames=1)) == "it holds 1 frame(s), and 50 are the least"
    uneven = diatomic(2000.0, frames=60)
    uneven.time[30] += 1.0
    assert "not evenly spaced" in (too_coarse(uneven) or "")
    rigid = {"settings": {"constraints": "h-bonds"}}
    box = waters(2, 3.2)
    water = in_memory(box, box.positions[None], record=rigid)
    ethanol = in_memory(molecule("CH3CH2OH"), molecule("CH3CH2OH").positions[None], record=rigid)
    assert (fastest(water), fastest(ethanol), fastest(diatomic(500.0))) == (1100.0, 2400.0, 4000.0)
    argon = ase.Atoms("Ar2", [[0, 0, 0], [0, 0, 4.0]])
    assert fastest(in_memory(argon, argon.positions[None])) == 1100.0


def test_what_has_no_spectrum_is_refused() -> None:
    trajectory = diatomic(2000.0, frames=400)
    with pytest.raises(
        InputError, match=r"400 frames 2 fs apart are too few for a resolution of 10 cm⁻¹: ask for 60.1 cm"
    ):
        velocity_power(trajectory, resolution=10.0)
    still = in_memory(ase.Atoms("Ar2"), np.zeros((400, 2, 3)), values={"velocities": np.zeros((400, 2, 3))})
    with pytest.raises(InputError, match="nothing moves"):
        velocity_power(still)
    broken = in_memory(ase.Atoms("Ar2"), np.zeros((400, 2, 3)), values={"velocities": np.full((400, 2, 3), np.nan)})
    with pytest.raises(InputError, match="velocities that are no numbers"):
        velocity_power(broken)
    with pytest.raises(InputError, match="must be mass or none"):
        show(trajectory, weighting="charge")
    with pytest.raises(InputError, match="at least one atom of each"):
        velocity_power(trajectory, atoms=1)


def test_what_is_shown() -> None:
    shown = show(diatomic(2000.0, with_velocities=False), weighting="none")
    assert shown.panels[0].title.startswith("plain")
    assert {len(column) for column in shown.tables["vdos"].values()} == {len(shown.tables["vdos"]["wavenumber_per_cm"])}
    assert any("differences of positions" in note for note in shown.notes)
    shares = [number.value for number in shown.numbers if number.name.startswith("share")]
    assert sum(shares) == pytest.approx(1.0)
