"""`simulate` with SO3LR's kernels by captured steps, against the ordinary loop with the plain model in float64."""

from __future__ import annotations

import copy

import ase
import numpy as np
import pytest
import torch
from ase import units
from ase.build import molecule
from ase.md.velocitydistribution import Stationary

from heliodor.dynamics import captured, read_trajectory, simulate
from heliodor.dynamics.captured import choose, launch, middle
from heliodor.dynamics.captured.philox import normals
from heliodor.dynamics.captured.run import CapturedRun
from heliodor.dynamics.steps import langevin
from heliodor.kernels import choose_kernels
from heliodor.potentials.so3krates import SO3kratesConfig
from heliodor.potentials.so3lr import SO3LR, SO3LRConfig

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
KEY = torch.tensor([1, 2])


def random_model() -> SO3LR:
    torch.manual_seed(3)
    network = SO3kratesConfig(n_features=16, n_heads=2, degrees=(1, 2), n_layers=2, n_basis=8, cutoff=2.2)
    model = SO3LR(SO3LRConfig(network, n_hirshfeld=16), long_range_cutoff=2.7)
    return model.eval().requires_grad_(False)


def box() -> ase.Atoms:
    """Water that sees its images, at a few hundred K."""
    atoms = ase.Atoms(molecule("H2O"), cell=[3.1, 3.6, 3.7], pbc=True)
    rng = np.random.default_rng(5)
    atoms.positions += rng.normal(0, 0.05, (3, 3))
    atoms.set_momenta(rng.normal(0, 1, (3, 3)) * (units.kB * 300.0 * atoms.get_masses())[:, None] ** 0.5)
    Stationary(atoms)
    return atoms


def same_noise(state, dt, *, temperature, friction):
    """Of the ordinary thermostat: that of the captured one."""
    noise = normals(torch.tensor([state.step]), KEY, state.system.n_atoms, 0)
    return middle.fluctuated(state, dt, noise, temperature=temperature, friction=friction)


@pytest.mark.parametrize("ensemble", ["nve", "nvt"])
def test_a_run_by_captured_steps_is_the_ordinary_one(tmp_path, monkeypatch, ensemble):
    runs = []

    def started(*args):
        runs.append(CapturedRun(*args, ahead=True, fuse=True))
        return runs[-1]

    monkeypatch.setattr(langevin, "fluctuated", same_noise)
    # states of generators differ from device to device
    monkeypatch.setattr(launch, "key_of", lambda rng: KEY)
    monkeypatch.setattr(choose, "CapturedRun", started)
    options = {"ensemble": ensemble, "steps": 3, "temperature": 300.0, "seed": 1, "skin": 0.3, "friction": 50.0}
    options |= {"save_every": 1.0, "log_every": 1.0, "plot": None, "progress": False}
    options |= {"on_bond_change": "ignore", "keep_velocities": True}

    exact = random_model().double()
    plain = simulate(box(), exact, output=tmp_path / "plain.xyz", **options)
    assert not runs
    fast = copy.deepcopy(exact).to(DEVICE, torch.float32)
    assert choose_kernels(fast, DEVICE, "triton") == "triton"
    monkeypatch.setattr(captured, "DEVICES", frozenset({DEVICE.type}))
    launched = simulate(box(), fast, output=tmp_path / "launched.xyz", **options)
    (jobs,) = runs
    assert jobs.launches - jobs.repeated == 2 and launched.ended == "finished"

    a, b = read_trajectory(tmp_path / "plain.xyz"), read_trajectory(tmp_path / "launched.xyz")
    assert [frame.info["step"] for frame in b] == [0, 2, 3] == [frame.info["step"] for frame in a]
    moved = np.abs(a[-1].positions - a[0].positions).max()
    assert moved > 0.01
    for one, other in zip(a, b, strict=True):
        np.testing.assert_allclose(other.positions, one.positions, rtol=0, atol=1e-5 * moved)
        np.testing.assert_allclose(other.get_velocities(), one.get_velocities(), rtol=0, atol=1e-6)
    rows = [np.genfromtxt(tmp_path / f"{name}.csv", delimiter=",", names=True) for name in ("plain", "launched")]
    assert rows[0].dtype.names == rows[1].dtype.names and len(rows[0]) == len(rows[1]) >= 3
    for name in rows[0].dtype.names:
        # a drift is the last digits of an energy over a short time
        close = {"rtol": 2e-6, "atol": 1.0 if "drift" in name else 2e-5}
        np.testing.assert_allclose(rows[1][name], rows[0][name], err_msg=name, **close)
    heat = [float(run.state.bath[0]) for run in (plain, launched)]
    assert heat[1] == pytest.approx(heat[0], abs=1e-6) and (abs(heat[0]) > 1e-3) == (ensemble == "nvt")
