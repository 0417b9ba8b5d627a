"""What is learned against what is known: harmonic wells, and a Morse bond with its mean force by matrix products."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import ase
import numpy as np
import pytest
import torch
from rings import centroid_mean_force, ring_polymers

from heliodor.analysis.spectra.welch import LIGHT
from heliodor.errors import InputError
from heliodor.neighbors import Neighbors
from heliodor.pigs.config import CorrectionChoices, read_pigs_choices
from heliodor.pigs.fit import fit_correction
from heliodor.pigs.residuals import centroid_frames, explained, residuals, split_in_time
from heliodor.potential import Potential, Terms, evaluate_system
from heliodor.system import System
from heliodor.units import ACCELERATION, BOLTZMANN, HBAR, INVERSE_CM

DEPTH, WIDTH, LENGTH = 5.03, 2.287, 0.96
"""eV, 1/Å, Å: an O-H bond (Habershon, Markland & Manolopoulos, J. Chem. Phys. 131, 024501 (2009))."""
MASS = 0.9481
"""amu, reduced."""
HOT, COLD = 500.0, 300.0
BEADS = 32


class OneBond(Potential):
    """Morse between the two atoms of each molecule."""

    name = "one bond"
    elements = (1, 8)
    cutoff = 4.0

    def __init__(self) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, system: System, neighbors: Neighbors) -> Terms:
        edges = neighbors.within(system)
        d = edges.vectors(system).norm(dim=-1)
        half = 0.5 * DEPTH * (1.0 - (-WIDTH * (d - LENGTH)).exp()).square()
        node = torch.zeros(system.n_atoms, dtype=half.dtype)
        return Terms({"bond": node.index_add(0, edges.i, half).index_add(0, edges.j, half)})


def morse(x: np.ndarray) -> np.ndarray:
    return DEPTH * np.square(1.0 - np.exp(-WIDTH * (x - LENGTH)))


def morse_force(x: np.ndarray) -> np.ndarray:
    e = np.exp(-WIDTH * (x - LENGTH))
    return -2.0 * DEPTH * WIDTH * e * (1.0 - e)


def along_x(x: np.ndarray) -> np.ndarray:
    """Positions of O and H, [T, 2, 3]."""
    found = np.zeros((len(x), 2, 3))
    found[:, 1, 0] = x
    return found


@cache
def learned() -> tuple:
    """Fourteen hundred independent frames of ring polymers that move along x, and the correction from them."""
    rng = np.random.default_rng(5)
    copies = 140
    centroids, forces = ring_polymers(
        *(morse_force, np.full(copies, LENGTH), np.full(copies, MASS), HOT, BEADS, 1000, 0.2, 100, rng),
        friction=0.05,
        settle=400,
    )
    x, f = centroids.ravel(), forces.ravel()
    pull = np.zeros((len(x), 2, 3))
    pull[:, 0, 0], pull[:, 1, 0] = -f, f
    frames = centroid_frames(ase.Atoms("OH", info={"charge": 0, "spin": 1}), along_x(x), pull, None, "toy")
    left = residuals(OneBond(), frames)
    parts = split_in_time(left, 0.1, 0.2)
    train = {"epochs": 14, "batch_size": 98, "learning_rate": 0.02, "ema": 0.95}
    choices = read_pigs_choices({"train": {**train, "plot_every": 0, "validate_every": 70}})
    size = {"channels": 8, "degrees": (0, 0), "correlation": 1, "radial_hidden": (16, 16), "bessel": 6, "cutoff": 4.0}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for plot in ("plot_curves", "plot_parity"):
            patch.setattr(f"heliodor.train.finish.{plot}", lambda *drawn: None)
        result = fit_correction(*parts[:2], CorrectionChoices(size=size), choices.train_settings(), Path(folder))
    return result.model.double(), left, parts


def learned_force(x: np.ndarray) -> np.ndarray:
    """Along the bond, eV/Å."""
    model, _, _ = learned()
    frames = [ase.Atoms("OH", p, info={"charge": 0, "spin": 1}) for p in along_x(x)]
    forces = evaluate_system(model, System.from_atoms(frames)).forces
    return forces.numpy().reshape(-1, 2, 3)[:, 1, 0]


@cache
def exact() -> tuple[np.ndarray, np.ndarray]:
    """Bond lengths, and the mean force on the centroid there less the classical force."""
    x = np.linspace(0.86, 1.08, 23)
    return x, centroid_mean_force(morse, MASS, HOT, BEADS, np.linspace(0.55, 1.75, 140), x) - morse_force(x)


def test_centroids_in_a_harmonic_well_feel_the_classical_force():
    """Linear forces: their mean over the beads is the force at the mean, in every frame."""
    rng = np.random.default_rng(1)
    start = np.array([[0.0, 0.0, 0.0], [1.0, 0.5, 0.0]])
    k = np.array([[30.0], [8.0]])
    centroids, forces = ring_polymers(
        *(lambda q: -k * (q - start), start, np.array([[16.0], [1.0]]), HOT, 8, 2000, 0.5, 20, rng)
    )
    np.testing.assert_allclose(forces, -k * (centroids - start), atol=1e-12)
    # and the centroids are classical: <k x²> = kT
    spread = (k * np.square(centroids - start)).mean()
    assert spread == pytest.approx(BOLTZMANN * HOT, rel=0.25)


def test_ipi_hands_out_the_mean_of_the_beads_forces(tmp_path):
    """Of a bond that is no spring, where a factor of P or √P, or the force at the centroid, would be seen."""
    pytest.importorskip("ipi")
    from heliodor.paths import PathSettings, run_paths

    settings = PathSettings(temperature=HOT, beads=3, time=8.0, timestep=0.5, stride=1, bead_stride=1, centroid=True)
    atoms = ase.Atoms("OH", along_x(np.array([LENGTH]))[0], info={"charge": 0, "spin": 1})
    found = run_paths(OneBond(), atoms, tmp_path / "run", settings)
    beads = found.beads()[-8:]
    bond = beads[:, :, 1] - beads[:, :, 0]
    length = np.linalg.norm(bond, axis=-1, keepdims=True)
    on_hydrogen = (morse_force(length) * bond / length).mean(1)
    # single precision of the stored beads, times the curvature
    np.testing.assert_allclose(found.centroid_forces[-8:, 1], on_hydrogen, atol=2e-5)
    np.testing.assert_allclose(found.centroid_forces[-8:, 0], -on_hydrogen, atol=2e-5)
    np.testing.assert_allclose(found.centroids[-8:], beads.mean(1), atol=1e-6)
    middle = bond.mean(1)
    apart = np.linalg.norm(middle, axis=-1, keepdims=True)
    assert np.abs(on_hydrogen - morse_force(apart) * middle / apart).max() > 1e-3


def test_matrices_give_the_known_mean_force_of_a_harmonic_well():
    k, x = 50.0, np.linspace(0.9, 1.05, 7)
    found = centroid_mean_force(lambda r: 0.5 * k * (r - LENGTH) ** 2, MASS, HOT, BEADS, np.linspace(0.55, 1.4, 140), x)
    np.testing.assert_allclose(found, -k * (x - LENGTH), atol=1e-3)


def test_residuals_are_the_exact_mean_force_within_errors():
    _, left, _ = learned()
    x = left.positions.reshape(-1, 2, 3)[:, 1, 0]
    f = left.forces.reshape(-1, 2, 3)[:, 1, 0]
    np.testing.assert_allclose(left.forces.reshape(-1, 2, 3).sum(1), 0.0, atol=1e-12)
    difference = f - np.interp(x, *exact())
    error = difference.std() / np.sqrt(len(f))
    assert error < 0.01
    assert abs(difference.mean()) < 4.0 * error
    assert f.mean() > 0.5, "quantum nuclei lengthen the bond"


def test_the_correction_is_the_exact_mean_force_within_errors():
    _, left, parts = learned()
    x, truth = exact()
    reach = np.abs(x - 0.975) < 0.06
    along = left.forces.reshape(-1, 2, 3)[:, 1, 0]
    noise = (along - np.interp(left.positions.reshape(-1, 2, 3)[:, 1, 0], x, truth)).std()
    # a smooth function with two or three numbers in it, from so many noisy forces
    error = noise * np.sqrt(3.0 / len(parts[0]))
    assert np.sqrt(np.square(learned_force(x) - truth)[reach].mean()) < 2.5 * error
    found = explained(learned()[0], parts[2])
    assert found.slope == pytest.approx(1.0, abs=max(0.03, 4.0 * found.slope_error))
    assert found.after < 0.6 * found.before
    assert set(found.by_element) == {"H", "O"}
    assert found.before == pytest.approx(np.sqrt(np.square(parts[2].forces).mean()))


def frequency(force, rng: np.random.Generator) -> float:
    """Mean classical frequency of the bond at the lower temperature, cm⁻¹, by zero crossings."""
    x = np.full(400, LENGTH + 0.02)
    v = np.zeros(400)
    dt, found = 0.1, []
    warm = BOLTZMANN * COLD * ACCELERATION / MASS
    keep = np.exp(-0.02 * dt)
    grid = np.linspace(0.8, 1.2, 401)
    table = force(grid)
    f = np.interp(x, grid, table)
    for step in range(9000):
        v += 0.5 * dt * ACCELERATION / MASS * f
        x = x + dt * v
        f = np.interp(x, grid, table)
        v += 0.5 * dt * ACCELERATION / MASS * f
        if step < 3000:
            v = keep * v + np.sqrt((1.0 - keep**2) * warm) * rng.normal(size=400)
        else:
            found.append(np.sign(v))
    turns = (np.diff(np.stack(found), axis=0) != 0).sum(0)
    return float(0.5 * turns.mean() / (6000 * dt) / LIGHT)


def test_the_corrected_bond_vibrates_as_by_the_exact_mean_force():
    quantum = HBAR * np.sqrt(2.0 * DEPTH * WIDTH**2 * ACCELERATION / MASS)
    # levels of a Morse oscillator: ħω (n + 1/2) - (ħω (n + 1/2))² / 4D
    fundamental = (quantum - quantum**2 / (2.0 * DEPTH)) / INVERSE_CM
    rng = np.random.default_rng(3)
    plain = frequency(morse_force, rng)
    corrected = frequency(lambda r: morse_force(r) + learned_force(r), rng)
    truth = exact()
    reference = frequency(lambda r: morse_force(r) + np.interp(r, *truth), rng)
    # the exact mean force of 500 K takes the bond 60 % of the way from 3874 to 3699 cm⁻¹, and so must what was learned
    assert reference == pytest.approx(3769.5, abs=3.0)
    assert plain - fundamental == pytest.approx(175.0, abs=3.0)
    assert abs(corrected - reference) < 0.1 * (plain - fundamental)


def test_refusals():
    frames = along_x(np.linspace(0.9, 1.0, 30))
    atoms = ase.Atoms("OH", info={"charge": 0, "spin": 1})
    with pytest.raises(InputError, match="19 frames of centroids are too few"):
        centroid_frames(atoms, frames[:19], frames[:19], None, "")
    broken = frames.copy()
    broken[3, 1, 0] = np.nan
    with pytest.raises(InputError, match="are no numbers"):
        centroid_frames(atoms, frames, broken, None, "")


def test_held_out_frames_are_the_end_of_the_run():
    frames = along_x(np.linspace(0.9, 1.0, 100))
    data = centroid_frames(ase.Atoms("OH", info={"charge": 0, "spin": 1}), frames, 0.0 * frames, None, "")
    parts = split_in_time(data, 0.1, 0.2)
    assert [len(part) for part in parts] == [70, 10, 20]
    lengths = [part.positions.reshape(-1, 2, 3)[:, 1, 0] for part in parts]
    assert lengths[0].max() < lengths[1].min() and lengths[1].max() < lengths[2].min()
