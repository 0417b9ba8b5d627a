"""Neighbour matrices made on the device, against the ordinary search; the kernel interpreted and compiled ahead."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import ase
import numpy as np
import pytest
import torch

from heliodor.errors import InputError
from heliodor.kernels.gpu.lists.geometry import inverse_of, stale, used_skin, used_skin_strained, volume_of
from heliodor.kernels.gpu.lists.lists import build_list, empty_matrix, plan_list, roomier
from heliodor.kernels.gpu.matrix import NeighborMatrix, matrix_of, unpack_shift
from heliodor.neighbors import find_neighbors
from heliodor.system import System

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def edges(matrix: NeighborMatrix) -> set[tuple[int, ...]]:
    """(receiver, sender, translation), each counted once."""
    found = set()
    shift = unpack_shift(matrix.shift).tolist()
    for i, n in enumerate(matrix.count.tolist()):
        row = [(i, j, *t) for j, t in zip(matrix.index[i, :n].tolist(), shift[i][:n], strict=True)]
        assert len(set(row)) == n
        found |= set(row)
    return found


def box(n: int, lengths: object, pbc: object, seed: int, tilt: float = 0.7, spread: float = 1.5) -> System:
    """Atoms in a tilted cell and, unwrapped, in its neighbours."""
    rng = np.random.default_rng(seed)
    cell = np.diag(lengths) + rng.normal(0, tilt, (3, 3))
    return System.from_atoms(
        ase.Atoms(f"C{n}", rng.uniform(-spread, spread, (n, 3)) @ cell, cell=cell, pbc=pbc), device=DEVICE
    )


CASES = {
    "many images": (box(3, (3.4, 4.0, 5.0), True, 0, 0.3), 3.6),
    "one atom, its own neighbour": (box(1, (2.5, 2.8, 3.1), True, 1, 0.2), 2.9),
    "bins": (box(14, (9.0, 8.0, 10.0), True, 2), 2.2),
    "slab": (box(6, (5.0, 6.0, 7.0), (True, True, False), 3), 3.0),
    "slab open along x": (box(6, (7.0, 6.0, 5.0), (False, True, True), 4), 3.0),
    "wire": (box(5, (7.0, 4.0, 6.0), (False, True, False), 5), 3.5),
    "long": (box(2, (9.0, 9.5, 10.0), True, 6), 8.0),
    "molecule": (box(9, (5.0, 4.0, 3.0), False, 7), 3.0),
    "all pairs": (box(6, (5.0, 4.0, 3.0), False, 8), float("inf")),
    "one atom": (box(1, (5.0, 4.0, 3.0), False, 9), 4.5),
    "no edges": (box(3, (90.0, 80.0, 70.0), True, 10), 2.0),
}


@pytest.mark.parametrize("name", CASES)
def test_same_edges_as_the_ordinary_search(name):
    system, cutoff = CASES[name]
    skin = 0.4
    expected = matrix_of(find_neighbors(system, cutoff, skin=skin), system.n_atoms)
    # room measured beforehand would be a second run of the interpreter
    plan = plan_list(system, cutoff, skin, capacity=expected.capacity)
    built = build_list(plan, system.positions, system.cell)
    assert bool(built.fits) and not bool(built.far)
    assert int(built.wanted) == int(expected.count.max())
    assert torch.equal(built.matrix.count, expected.count)
    assert edges(built.matrix) == edges(expected)
    assert built.matrix.cutoff == cutoff and built.matrix.skin == skin


def test_bins_of_a_large_molecule():
    # more atoms than are ever looked at in one bin, without asking the interpreter to find all of their neighbours
    rng = np.random.default_rng(0)
    positions = rng.uniform(0, 1, (300, 3)) * (60.0, 50.0, 70.0)
    system = System.from_atoms(ase.Atoms("C300", positions), device=DEVICE)
    plan = plan_list(system, 4.0, 0.5, capacity=16)
    assert min(plan.bins) > 5
    # a part of the molecule has flown off since
    far = system.positions.cpu() + torch.where(torch.arange(300).unsqueeze(1) < 20, 400.0, 0.0)
    keep = torch.arange(300) % 50 < 3
    moved = System.from_atoms(ase.Atoms(f"C{int(keep.sum())}", far[keep].numpy()), device=DEVICE)
    built = build_list(plan, moved.positions, moved.cell)
    expected = matrix_of(find_neighbors(moved, 4.0, skin=0.5), moved.n_atoms)
    assert edges(built.matrix) == edges(expected)


def test_row_exactly_full_and_one_too_small():
    system, cutoff = CASES["molecule"]
    expected = matrix_of(find_neighbors(system, cutoff, skin=0.4), system.n_atoms)
    longest, n = int(expected.count.max()), system.n_atoms
    for room in (longest, longest - 1):
        plan = plan_list(system, cutoff, 0.4, capacity=room)
        # rows of another before and after: nothing may be written there
        index = torch.full((n + 2, room), -7, dtype=torch.int32, device=DEVICE)
        shift = index.clone()
        into = NeighborMatrix(index[1:-1], shift[1:-1], torch.zeros(n, dtype=torch.int32, device=DEVICE), cutoff, 0.4)
        built = build_list(plan, system.positions, system.cell, into)
        assert int(built.wanted) == longest
        assert bool(built.fits) == (room == longest)
        assert (index[[0, -1]] == -7).all() and (shift[[0, -1]] == -7).all()
        assert torch.equal(built.matrix.count, expected.count.clamp_max(room))
        assert edges(built.matrix) <= edges(expected)
    grown = roomier(plan, longest)
    assert grown.capacity >= longest and grown.capacity % 16 == 0
    assert roomier(grown, 1).capacity == grown.capacity


def test_two_builds_are_bit_equal_and_use_the_same_memory():
    system, cutoff = CASES["slab"]
    plan = plan_list(system, cutoff, 0.4, capacity=64)
    into = empty_matrix(plan, system.n_atoms, system.device)
    first = build_list(plan, system.positions, system.cell, into).matrix
    kept = first.index.clone(), first.shift.clone()
    second = build_list(plan, system.positions, system.cell, into).matrix
    assert second.index is into.index
    assert torch.equal(kept[0], second.index) and torch.equal(kept[1], second.shift)


def test_room_is_measured():
    system, _ = CASES["molecule"]
    plan = plan_list(system, 3.0, 0.4)
    longest = int(matrix_of(find_neighbors(system, 3.0, skin=0.4), system.n_atoms).count.max())
    assert longest < plan.capacity < longest + 32
    assert plan_list(CASES["all pairs"][0], float("inf"), 0.0).capacity == 16


def test_cell_that_shrank_too_far_is_told():
    system = box(2, (9.0, 9.0, 9.0), True, 11, 0.0)
    plan = plan_list(system, 2.0, 0.4, capacity=8, margin=0.05)
    for factor, good in ((0.96, True), (1.3, True), (0.5, False)):
        built = build_list(plan, factor * system.positions, factor * system.cell)
        assert bool(built.fits) == good, factor


def test_atom_that_left_for_good_is_told():
    system = box(2, (3.0, 3.0, 3.0), True, 12, 0.0)
    plan = plan_list(system, 1.0, 0.2, capacity=16)
    away = torch.tensor([[0.0, 0.0, 0.0], [3.0 * 520, 0.0, 0.0]], dtype=torch.float64, device=DEVICE)
    assert bool(build_list(plan, system.positions + away, system.cell).far)
    together = build_list(plan, system.positions + 3.0 * 520, system.cell)
    assert not bool(together.far) and bool(together.fits)


def test_refusals():
    molecule = box(2, (5.0, 4.0, 3.0), False, 0)
    with pytest.raises(InputError, match="infinitely many"):
        plan_list(CASES["bins"][0], float("inf"), 0.5)
    with pytest.raises(InputError, match="positive cutoff"):
        plan_list(molecule, 0.0, 0.5)
    with pytest.raises(InputError, match="flat"):
        plan_list(
            molecule.replace(pbc=torch.ones(1, 3, dtype=torch.bool), cell=torch.ones_like(molecule.cell)), 3.0, 0.5
        )
    two = System.from_atoms([ase.Atoms("C"), ase.Atoms("C")])
    with pytest.raises(InputError, match="one structure"):
        plan_list(two, 3.0, 0.5)


def test_inverse_and_volume():
    cell = CASES["bins"][0].cell
    assert torch.allclose(inverse_of(cell), torch.linalg.inv(cell), rtol=1e-13, atol=1e-15)
    assert torch.allclose(volume_of(cell), torch.linalg.det(cell), rtol=1e-13)


@pytest.mark.parametrize("kind", ["diagonal", "sheared"])
def test_stale_as_the_ordinary_rule(kind):
    rng = np.random.default_rng(5)
    system, skin, cutoff = CASES["bins"][0].to("cpu"), 1.0, 6.0
    lists = find_neighbors(system, cutoff, skin=skin)
    matrix = matrix_of(lists, system.n_atoms)
    cubic = system.replace(cell=torch.diag_embed(torch.tensor([[9.0, 8.0, 10.0]], dtype=torch.float64)))
    lists = replace(lists, cell=cubic.cell)
    answers = []
    for _ in range(200):
        strain = rng.normal(0, 0.05 * rng.uniform(), (3, 3))
        strain = np.diag(np.diag(strain)) if kind == "diagonal" else strain
        moved = cubic.deform(torch.as_tensor(strain).unsqueeze(0))
        noise = torch.as_tensor(rng.normal(0, 0.2 * rng.uniform(), moved.positions.shape))
        moved = moved.replace(positions=moved.positions + noise)
        told = bool(stale(used_skin_strained(moved.positions, moved.cell, lists.positions, lists.cell, matrix)))
        known = bool(lists.stale(moved))
        answers.append((told, known))
        # a general deformation may be called stale too early, never too late
        assert told >= known
    assert len(set(answers)) >= 2
    if kind == "diagonal":
        assert all(told == known for told, known in answers)
    still = system.replace(positions=system.positions + torch.tensor([[0.0, 0.0, 0.499]], dtype=torch.float64))
    further = still.replace(positions=still.positions + 0.01)
    lists = find_neighbors(system, cutoff, skin=skin)
    for now in (still, further):
        assert bool(stale(used_skin(now.positions, lists.positions, matrix))) == bool(lists.stale(now))
    lost = further.positions.clone()
    lost[3, 1] = torch.nan
    assert bool(stale(used_skin(lost, lists.positions, matrix)))


AHEAD = """
from heliodor.kernels.gpu.ahead import compile_ahead
from heliodor.kernels.gpu.lists.scan import BLOCKS, scan_rows
types = dict.fromkeys("atom image bin_of first index shift count wanted".split(), "*i32")
types |= dict.fromkeys("place frame".split(), "*fp64")
types |= dict.fromkeys("n_atoms capacity nx ny nz rx ry rz".split(), "i32")
for block, warps in BLOCKS.values():
    for open in ((False, False, False), (False, False, True), (True, False, True), (True, True, True)):
        constants = dict(zip(("OPEN_X", "OPEN_Y", "OPEN_Z"), open), BLOCK=block)
        used = compile_ahead(scan_rows, types, constants, warps=warps)
        assert used.spilled <= 16 and used.registers <= 96, used
"""


def test_compiles_for_a_gpu_that_is_not_there():
    import os

    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, "-c", AHEAD], check=True, env=environment, timeout=200)
