"""Captured steps with lists, noise and integrator by kernels: the same motion as torch's; compiled ahead."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import ase
import numpy as np
import pytest
import torch

from heliodor.dynamics import init, nve_step
from heliodor.dynamics.captured import chain_kernel, fused, philox_kernel
from heliodor.dynamics.captured.lists import DeviceLists
from heliodor.dynamics.captured.motion import Motion, moved
from heliodor.dynamics.captured.philox import key_of, normals
from heliodor.dynamics.captured.run import CapturedRun
from heliodor.dynamics.state import MDState
from heliodor.dynamics.steps import nose_hoover
from heliodor.dynamics.steps.nose_hoover import with_chain
from heliodor.dynamics.targets import Ramp
from heliodor.kernels.derived import Derived
from heliodor.kernels.gpu.lists.lists import empty_matrix, plan_list
from heliodor.kernels.gpu.matrix import NeighborMatrix, matrix_of, unpack_shift
from heliodor.neighbors import Neighbors, find_neighbors
from heliodor.potential import Potential, Terms
from heliodor.system import System

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DT = 4.0


class Soft(Potential):
    """k/2 (c - d)² for pairs closer than c: forces are continuous; plain, and with the interface of kernels."""

    name = "soft"
    elements = tuple(range(1, 90))
    cutoff, k = 4.0, 0.5

    def __init__(self) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros((), dtype=torch.float64, device=DEVICE))

    def forward(self, system: System, neighbors: Neighbors) -> Terms:
        edges = neighbors.within(system)
        half = 0.25 * self.k * (self.cutoff - edges.vectors(system).square().sum(-1).sqrt()).square()
        node = torch.zeros_like(system.positions[:, 0])
        return Terms({"soft": node.index_add(0, edges.i, half).index_add(0, edges.j, half)})

    def evaluate(
        self, system: System, short: NeighborMatrix, long: NeighborMatrix | None, *, gradient: bool, strain: bool
    ) -> Derived:
        place = system.positions
        shift = (unpack_shift(short.shift).to(place.dtype).unsqueeze(-1) * system.cell[0]).sum(-2)
        r = place[short.index.long()] - place.unsqueeze(1) + shift
        d2 = r.square().sum(-1)
        inside = (torch.arange(short.capacity, device=place.device) < short.count.unsqueeze(1)) & (d2 <= self.cutoff**2)
        d = torch.where(inside, d2, 1.0).sqrt()
        gap = torch.where(inside, self.cutoff - d, 0.0)
        pull = (-self.k * gap / d).unsqueeze(-1) * r
        bend = 0.5 * (r.unsqueeze(-1) * pull.unsqueeze(-2)).sum((0, 1)).unsqueeze(0) if strain else None
        return Derived(Terms({"soft": 0.25 * self.k * gap.square().sum(1)}), -pull.sum(1), bend)


def start(skin: float = 0.3, pbc: bool = True) -> tuple[Soft, MDState]:
    rng = np.random.default_rng(1)
    grid = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), -1).reshape(-1, 3)[:6] * 3.3
    atoms = ase.Atoms("Ar6", grid + rng.normal(0, 0.1, (6, 3)), cell=[6.6, 6.7, 6.8], pbc=pbc)
    soft = Soft()
    state = init(System.from_atoms(atoms), soft, temperature=200.0, seed=2, skin=skin, virial=True, rotating=True)
    return soft, state


def ramp(*kelvin: float) -> Ramp:
    return Ramp(torch.tensor(kelvin, dtype=torch.float64), 20)


@pytest.fixture
def small(monkeypatch):
    """Several blocks and several rounds of sums, of few atoms."""
    monkeypatch.setattr(fused, "BLOCK", 4)
    monkeypatch.setattr(fused, "LANES", 2)
    monkeypatch.setattr(philox_kernel, "BLOCK", 4)


def test_noise_of_the_kernel_is_that_of_torch(small):
    key = key_of(torch.Generator().manual_seed(3).get_state()).to(DEVICE)
    for step in (0, 7, 2**32 + 5):
        at = torch.tensor([step], device=DEVICE)
        for stream in (0, 2):
            torch.testing.assert_close(
                philox_kernel.normals(at, key, 10, stream), normals(at, key, 10, stream), rtol=1e-12, atol=1e-14
            )


@pytest.mark.parametrize("thermostat", [None, "langevin", "csvr"])
@pytest.mark.parametrize("held", ["free", "frozen"])
def test_kernels_move_as_torch_does(small, thermostat, held):
    soft, state = start(1.5)
    # lists are not what is tested here
    matrix = empty_matrix(plan_list(state.system, soft.cutoff, 1.5, capacity=8), 6, state.system.device)
    if held == "frozen":
        frozen = torch.arange(6, device=DEVICE) == 2
        velocities = torch.where(frozen.unsqueeze(1), 0.0, state.velocities)
        state = state.replace(frozen=frozen, velocities=velocities, fixed_center=False)

    def forces(state):
        derived = soft.evaluate(state.system, matrix, None, gradient=True, strain=False)
        pull = -derived.gradient + 0.1 * torch.sin(state.system.positions)
        return replace(state, forces=pull)

    motion = Motion(DT, thermostat, ramp(100.0, 300.0), friction=50.0, time_constant=20.0)
    key = key_of(state.rng).to(DEVICE)
    constants = fused.constants_of(state, motion)
    a = b = state
    at = torch.tensor([5], device=DEVICE)
    then = state.system.positions
    for step in (5, 6):
        now = torch.tensor([step], device=DEVICE)
        a, _ = moved(a, motion, now, forces, lambda count, stream, now=now: normals(now, key, count, stream))
        b, at, furthest = fused.moved_fused(b, motion, constants, then, at, key, forces)
        assert int(at) == step + 1
        torch.testing.assert_close(b.velocities, a.velocities, rtol=1e-12, atol=1e-16)
        torch.testing.assert_close(b.system.positions, a.system.positions, rtol=1e-14, atol=0)
        torch.testing.assert_close(b.bath, a.bath, rtol=1e-9, atol=1e-14)
        way = (a.system.positions - then).square().sum(1).amax()
        torch.testing.assert_close(furthest[0], way, rtol=1e-12, atol=0)
    if held == "frozen":
        assert torch.equal(b.system.positions[2], then[2])


def test_chain_of_the_kernel_is_the_ordinary_one():
    _, state = start(1.5)
    for free in (15.0, 0.0):
        state = state.replace(degrees_of_freedom=torch.full_like(state.energy, free))
        a = b = with_chain(state)
        numbers = chain_kernel.chain_numbers(25.0, 0.5 * DT, state.system.device)
        kelvin = torch.full_like(state.energy, 90.0)
        for _ in range(20):
            a = nose_hoover.thermostatted(a, 0.5 * DT, temperature=90.0, time_constant=25.0)
            b = chain_kernel.thermostatted(b, kelvin, numbers)
        torch.testing.assert_close(b.velocities, a.velocities, rtol=1e-12, atol=0)
        torch.testing.assert_close(b.chain.velocities, a.chain.velocities, rtol=1e-12, atol=1e-16)
        torch.testing.assert_close(b.chain.heat, a.chain.heat, rtol=1e-12, atol=1e-15)
        torch.testing.assert_close(b.bath, a.bath, rtol=1e-9, atol=1e-13)
    assert float(b.chain.velocities.abs().min()) > 1e-6


def test_lost_atoms_are_infinitely_far(small):
    _, state = start(1.5)
    motion = Motion(DT, None, ramp(100.0))
    lost = state.forces.clone()
    lost[4, 1] = torch.nan
    state = state.replace(forces=lost)
    args = (torch.tensor([0], device=DEVICE), torch.zeros(2, dtype=torch.int64, device=DEVICE))
    _, _, furthest = fused.moved_fused(
        state, motion, fused.constants_of(state, motion), state.system.positions, *args, lambda state: state
    )
    assert float(furthest) == float("inf")


def test_a_run_by_kernels_is_the_ordinary_one(small):
    soft, state = start(0.06, pbc=False)
    lists = DeviceLists(state.system, (soft.cutoff,), 0.06)
    jobs = CapturedRun(state, Motion(DT, None, ramp(100.0)), soft.evaluate, lists, first=4, fuse=True)
    ref = state
    while state.step < 8:
        state = jobs.advance(state, lambda step: 8)
    while ref.step < 8:
        ref = nve_step(ref, soft, DT)
    assert jobs.repeated > 0
    for name in ("velocities", "forces", "energy", "virial"):
        torch.testing.assert_close(getattr(state, name), getattr(ref, name), rtol=0, atol=1e-11)
    torch.testing.assert_close(state.system.positions, ref.system.positions, rtol=0, atol=1e-12)


def test_two_lists_of_which_all_pairs_stay():
    _, state = start(0.5, pbc=False)
    lists = DeviceLists(state.system, (3.5, float("inf")), 0.5)
    moved = state.system.positions * 1.2
    before = lists.matrices[1].index.clone()
    filled = lists.fill(moved, state.system.cell)
    assert bool(filled.fits) and filled.wanted.tolist()[1] == 5
    short = matrix_of(find_neighbors(state.system.replace(positions=moved), 3.5, skin=0.5), 6)
    assert torch.equal(lists.matrices[0].count, short.count)
    assert (lists.matrices[1].count == 5).all()
    assert torch.equal(before, lists.matrices[1].index)
    lists.make_room(state.system, [20, 5])
    assert lists.matrices[0].capacity >= 20 and (lists.matrices[1].count == 5).all()


@pytest.mark.skipif(DEVICE == "cpu", reason="no GPU: CUDA graphs cannot be recorded")
@pytest.mark.parametrize("thermostat", [None, "langevin", "csvr", "nose-hoover"])
def test_graphs_play_what_was_recorded(thermostat):
    """On a GPU: launches as graphs against the same run without any, staleness and repeats included."""
    soft, begun = start(0.1)
    motion = Motion(DT, thermostat, ramp(200.0), friction=5.0)
    ends = []
    for graphs in (True, False):
        lists = DeviceLists(begun.system, (soft.cutoff,), 0.1)
        jobs = CapturedRun(begun, motion, soft.evaluate, lists, first=16)
        if not graphs:
            jobs._launch._play = lambda name, body: body()
        state = begun
        while state.step < 100:
            state = jobs.advance(state, lambda step: min(100, (step // 20 + 1) * 20))
        ends.append(state)
    for name in ("velocities", "forces", "energy", "bath", "virial"):
        assert torch.equal(getattr(ends[0], name), getattr(ends[1], name)), name
    assert torch.equal(ends[0].system.positions, ends[1].system.positions)


AHEAD = """
from heliodor.dynamics.captured import chain_kernel as h, fused_kernels as f, philox_kernel as p
from heliodor.kernels.gpu.ahead import compile_ahead
def types(kernel, **others):
    named = dict.fromkeys(kernel.arg_names, "*fp64") | {"n_atoms": "i32", "step": "*i64", "key": "*i64"} | others
    return {name: named[name] for name in kernel.arg_names if not name.isupper()}
def check(kernel, others=None, **constants):
    used = compile_ahead(kernel, types(kernel, **(others or {})), constants)
    print(kernel.__name__, constants, used)
    # sine and cosine in double precision keep a table of 56 bytes
    assert used.spilled <= 56, used
for on in (False, True):
    check(f.push, LANGEVIN=on, BLOCK=128)
    check(f.settle, CENTER=on, LANES=128, BLOCK=128)
    check(f.kick, {"new_step": "*i64"}, LANGEVIN=on, RESCALED=not on, LANES=128, BLOCK=128)
check(f.kick, {"new_step": "*i64"}, LANGEVIN=False, RESCALED=False, LANES=128, BLOCK=128)
check(f.rescale, LANES=128, BLOCK=128)
check(h.propagate)
check(p.draw, {"count": "i32"}, STREAM=0, BLOCK=128)
"""


def test_compiles_for_a_gpu_that_is_not_there():
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, "-c", AHEAD], check=True, env=environment, timeout=200)
