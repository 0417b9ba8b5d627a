"""Velocity Verlet: order, reversibility, momentum, lists, batches, continuation."""

import copy
import pickle
from functools import partial

import ase
import numpy as np
import pytest
import torch
from toys import LennardJones, Morse, Spring, argon_box, cluster

from heliodor.dynamics import conserved, csvr_step, init, kinetic_energy, langevin_step, nve_step, temperature
from heliodor.system import System
from heliodor.units import KINETIC

STEPPERS = {
    "nve": nve_step,
    "langevin": partial(langevin_step, temperature=300.0, friction=5.0),
    "csvr": partial(csvr_step, temperature=300.0, time_constant=50.0),
}


def advance(state, potential, steps, dt, step=nve_step):
    for _ in range(steps):
        state = step(state, potential, dt)
    return state


def energy_error(potential, state, dt, time):
    energies = [conserved(state)]
    for _ in range(round(time / dt)):
        state = nve_step(state, potential, dt)
        energies.append(conserved(state))
    return float((torch.stack(energies) - energies[0]).std())


def test_energy_error_falls_as_the_square_of_the_timestep():
    potential = Morse()
    state = init(System.from_atoms(cluster(5)), potential, temperature=200.0, seed=3)
    steps = np.array([4.0, 2.0, 1.0])
    errors = np.array([energy_error(potential, state, dt, 400.0) for dt in steps])
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert 1.8 < slope < 2.2


def test_going_back_leads_to_the_start():
    potential = LennardJones()
    start = init(System.from_atoms(argon_box()), potential, temperature=80.0, seed=1)
    state = advance(start, potential, 60, 5.0)
    assert (state.system.positions - start.system.positions).abs().max() > 0.1
    back = advance(state.replace(velocities=-state.velocities), potential, 60, 5.0)
    torch.testing.assert_close(back.system.positions, start.system.positions, atol=1e-9, rtol=0)
    torch.testing.assert_close(-back.velocities, start.velocities, atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", STEPPERS)
def test_no_momentum_is_made(name):
    potential = LennardJones()
    state = init(System.from_atoms(argon_box(2, 4.1)), potential, temperature=80.0, rotating=True)
    state = advance(state, potential, 100, 4.0, STEPPERS[name])
    momentum = (state.masses.unsqueeze(-1) * state.velocities).sum(0).abs().max()
    assert momentum < 1e-12 * float((state.masses * state.velocities.norm(dim=-1)).sum())


@pytest.mark.parametrize("name", ["nve", "csvr"])
def test_no_rotation_is_made_in_gas_phase(name):
    potential = Morse()
    state = init(System.from_atoms(cluster(6)), potential, temperature=300.0)
    state = advance(state, potential, 200, 1.0, STEPPERS[name])
    momentum = torch.linalg.cross(state.system.positions, state.masses.unsqueeze(-1) * state.velocities).sum(0)
    assert momentum.abs().max() < 1e-9


def test_skin_changes_nothing_but_the_number_of_searches(monkeypatch):
    potential = LennardJones(cutoff=5.5)
    searches = []
    original = potential.neighbors
    monkeypatch.setattr(potential, "neighbors", lambda *a, **k: searches.append(1) or original(*a, **k))
    system = System.from_atoms(argon_box())
    ends = []
    for skin in (0.0, 1.0):
        searches.clear()
        state = init(system, potential, temperature=300.0, seed=2, skin=skin)
        ends.append(advance(state, potential, 80, 10.0).system.positions)
        count = len(searches)
        assert count == 81 if skin == 0.0 else 2 <= count < 20
    torch.testing.assert_close(*ends, atol=1e-9, rtol=0)


def test_a_batch_moves_as_its_members_do():
    potential = Morse()
    members = [cluster(4), cluster(7, seed=1), cluster(3, seed=2)]
    batch = init(System.from_atoms(members), potential, temperature=300.0, seed=5)
    together = advance(batch, potential, 50, 1.0)
    start = 0
    for b, atoms in enumerate(members):
        mine = slice(start, start := start + len(atoms))
        state = init(System.from_atoms(atoms), potential, temperature=0.0)
        state = state.replace(velocities=batch.velocities[mine])
        alone = advance(state, potential, 50, 1.0)
        torch.testing.assert_close(together.system.positions[mine], alone.system.positions, atol=1e-12, rtol=0)
        torch.testing.assert_close(conserved(together)[b], conserved(alone)[0], atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda state: pickle.loads(pickle.dumps(state))])
@pytest.mark.parametrize("name", STEPPERS)
def test_a_copied_state_goes_on_bit_for_bit(name, copied):
    potential = LennardJones()
    state = init(System.from_atoms(argon_box(2, 4.1)), potential, temperature=200.0, rotating=True)
    state = advance(state, potential, 20, 4.0, STEPPERS[name])
    other = copied(state)
    ends = [advance(s, potential, 60, 4.0, STEPPERS[name]) for s in (state, other)]
    for field in ("velocities", "forces", "energy", "bath", "rng"):
        assert torch.equal(getattr(ends[0], field), getattr(ends[1], field))
    assert torch.equal(ends[0].system.positions, ends[1].system.positions)
    assert ends[0].step == 80
    assert ends[0].time == 320.0


def test_the_start_is_as_asked():
    frames = [cluster(6), ase.Atoms("OH", [[0, 0, 0], [0, 0, 1.0]]), ase.Atoms("He"), argon_box(2)]
    system = System.from_atoms(frames)
    state = init(system, Spring(), temperature=torch.tensor([100.0, 200.0, 300.0, 400.0]), seed=9)
    assert state.degrees_of_freedom.tolist() == [12.0, 1.0, 0.0, 21.0]
    torch.testing.assert_close(temperature(state), torch.tensor([100.0, 200.0, 0.0, 400.0], dtype=torch.float64))
    p = state.masses.unsqueeze(-1) * state.velocities
    first = slice(0, 6)
    assert p[first].sum(0).abs().max() < 1e-13
    center = np.array(cluster(6).get_center_of_mass())
    r = state.system.positions[first] - torch.as_tensor(center)
    assert torch.linalg.cross(r, p[first]).sum(0).abs().max() < 1e-12
    by_hand = 0.5 * KINETIC * (state.masses * state.velocities.square().sum(-1))[first].sum()
    torch.testing.assert_close(kinetic_energy(state)[0], by_hand)
    spinning = init(system, Spring(), temperature=300.0, rotating=True)
    assert spinning.degrees_of_freedom.tolist() == [15.0, 3.0, 0.0, 21.0]
    free = init(system, Spring(), temperature=300.0, fixed_center=False)
    assert free.degrees_of_freedom.tolist() == [18.0, 6.0, 3.0, 24.0]


def test_drawn_energies_are_canonical():
    system = System.from_atoms([argon_box(1)] * 1500)
    potential = Spring()
    potential.cutoff = 1.0
    state = init(system, potential, temperature=300.0, exact=False, fixed_center=False)
    t = temperature(state) / 300.0
    assert abs(float(t.mean()) - 1.0) < 4 * (2 / 3 / 1500) ** 0.5
    assert abs(float(t.var()) / (2 / 3) - 1.0) < 0.25
