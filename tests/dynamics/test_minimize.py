"""Both methods find known minima, in batches, and never hand back something higher than they got."""

from itertools import pairwise

import ase
import numpy as np
import pytest
import torch
from toys import LennardJones, Morse, cluster

from heliodor.dynamics import minimize
from heliodor.dynamics.relax.minimize import METHODS
from heliodor.system import System

pytestmark = pytest.mark.parametrize("method", METHODS)


def icosahedron():
    golden = (1 + 5**0.5) / 2
    ring = [[0, s, t * golden] for s in (1, -1) for t in (1, -1)]
    corners = np.array([np.roll(point, k) for point in ring for k in range(3)])
    rng = np.random.default_rng(1)
    positions = np.vstack([np.zeros(3), 1.1 * 3.4 / 1.9 * corners])
    return ase.Atoms("Ar13", positions + rng.normal(0, 0.15, (13, 3)))


def test_lennard_jones_icosahedron(method):
    epsilon = 0.0104
    potential = LennardJones(epsilon, cutoff=500.0)
    result = minimize(System.from_atoms(icosahedron()), potential, method=method, fmax=1e-4)
    assert result.converged.all()
    assert result.fmax[0] <= 1e-4
    # the global minimum of 13 atoms, Hoare & Pal 1971
    assert float(result.energy[0]) / epsilon == pytest.approx(-44.326801, abs=1e-4)
    assert result.steps < 400


def test_a_batch_of_different_structures(method):
    depth = 0.4
    tetrahedron = 2.0 / 2**0.5 * np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]])
    frames = [
        ase.Atoms("C4", tetrahedron * 1.15 + np.random.default_rng(0).normal(0, 0.1, (4, 3))),
        ase.Atoms("C2", [[0, 0, 0], [0, 0, 1.4]]),
        ase.Atoms("C2", [[0, 0, 0], [0, 0, 2.0]]),
        ase.Atoms("C3", [[0, 0, 0], [2.6, 0, 0], [1.0, 1.5, 0]]),
    ]
    start = System.from_atoms(frames)
    result = minimize(start, Morse(depth), method=method, fmax=1e-3)
    assert result.converged.tolist() == [True] * 4
    expected = -depth * torch.tensor([6.0, 1.0, 1.0, 3.0], dtype=torch.float64)
    torch.testing.assert_close(result.energy, expected, atol=1e-4, rtol=0)
    # what is converged from the start is not touched
    assert torch.equal(result.system.positions[6:8], start.positions[6:8])
    assert result.energies.shape == (result.steps + 1, 4)
    assert (result.energies[0] >= result.energy).all()


@pytest.mark.parametrize("steps", [0, 1, 3, 10, 40])
def test_never_higher_than_the_start_and_no_long_moves(steps, method):
    potential = Morse()
    start = System.from_atoms([cluster(8, 1.2), cluster(8, 2.6)])
    seen = []
    original = potential.forward
    potential.forward = lambda system, lists: seen.append(system.positions.detach()) or original(system, lists)
    result = minimize(start, potential, method=method, fmax=1e-6, max_steps=steps, max_displacement=0.1)
    assert result.steps == steps
    assert not result.converged.any()
    assert (result.energy <= result.energies[0]).all()
    torch.testing.assert_close(result.energy, result.energies.amin(0))
    for before, after in pairwise(seen):
        assert float((after - before).norm(dim=-1).max()) < 0.1 + 1e-9


def test_the_callback_sees_and_stops(method):
    calls = []

    def watch(step, energy, fmax):
        calls.append((step, float(energy[0]), float(fmax[0])))
        return step == 5

    result = minimize(System.from_atoms(cluster(8, 2.4)), Morse(), method=method, fmax=1e-6, callback=watch)
    assert [call[0] for call in calls] == [0, 1, 2, 3, 4, 5]
    assert result.steps == 5
