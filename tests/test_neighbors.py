"""Neighbour lists against two independent searches, on boxes nobody would draw on purpose."""

from __future__ import annotations

from collections import Counter
from itertools import product

import ase
import numpy as np
import pytest
import torch
from ase.neighborlist import neighbor_list
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from heliodor.errors import InputError
from heliodor.neighbors import Neighbors, find_neighbors
from heliodor.system import System

EDGE = 1e-7
"""Å; pairs this close to the cutoff may be counted either way: no test draws them."""


def brute_force(frame: ase.Atoms, cutoff: float) -> Counter:
    """Full list as {(i, j, S): 1}, from every image that could reach: no cells, no wrapping, O(N² images)."""
    cell, pbc = frame.cell.array, frame.pbc
    spread = np.ptp(frame.positions, axis=0)
    reach = cutoff + np.linalg.norm(spread)
    axes: list[range] = [range(1)] * 3
    if pbc.any():
        # |S_a| b_a is a lower bound of the translation's length for the distance b_a between lattice planes
        dual = np.linalg.pinv(cell[pbc])
        for axis, column in zip(np.flatnonzero(pbc), dual.T, strict=True):
            n = int(np.ceil(reach * np.linalg.norm(column)))
            axes[axis] = range(-n, n + 1)
    found: Counter = Counter()
    difference = frame.positions[None] - frame.positions[:, None]
    for s in product(*axes):
        d = np.linalg.norm(difference + np.array(s) @ cell, axis=-1)
        # dividing the same positions by another route, rounding differs: nobody looks at pairs that close
        assume(not ((d > cutoff - EDGE) & (d < cutoff + EDGE)).any())
        if not any(s):
            np.fill_diagonal(d, np.inf)
        found.update((int(i), int(j), *s) for i, j in np.argwhere(d < cutoff))
    return found


def edges(list_: Neighbors) -> Counter:
    """What a list holds, each edge with its multiplicity."""
    rows = torch.cat([list_.i[:, None], list_.j[:, None], list_.shift.long()], dim=1)
    return Counter(map(tuple, rows.tolist()))


def mirror(found: Counter) -> Counter:
    return Counter({(j, i, -a, -b, -c): n for (i, j, a, b, c), n in found.items()})


@st.composite
def structures(draw) -> ase.Atoms:
    """One structure: any periodicity, skewed cells from tiny to large, atoms anywhere, some in clumps."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pbc = draw(st.sampled_from(list(product((False, True), repeat=3))))
    length = draw(st.sampled_from((2.0, 4.0, 9.0)))
    cell = np.diag(rng.uniform(0.8, 1.5, 3)) * length + np.tril(rng.uniform(-0.6, 0.6, (3, 3)), -1) * length
    if draw(st.booleans()):
        cell = cell @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    if np.linalg.det(cell) < 0:
        cell[0] *= -1
    n = draw(st.integers(1, 6 if length < 5 else 12))
    positions = rng.uniform(-0.2, 1.2, (n, 3)) @ cell
    if draw(st.booleans()):  # wandered out of the cell, as in a trajectory never wrapped
        positions += rng.integers(-3, 4, (n, 3)) * np.array(pbc) @ cell
    frame = ase.Atoms(numbers=[8] * n, positions=positions, cell=cell, pbc=pbc)
    if draw(st.booleans()):  # lattice vectors that mean nothing may be anything
        for axis in np.flatnonzero(~np.array(pbc)):
            frame.cell[axis] = 0.0
    return frame


@settings(max_examples=3 * settings.default.max_examples)
@given(frame=structures(), cutoff=st.floats(1.0, 7.0))
def test_against_brute_force(frame, cutoff):
    expected = brute_force(frame, cutoff)
    system = System.from_atoms(frame)
    full = find_neighbors(system, cutoff, half=False)
    assert edges(full) == expected
    half = find_neighbors(system, cutoff)
    assert half.half
    assert not full.half
    assert edges(half) + mirror(edges(half)) == expected
    d = full.vectors(system).norm(dim=-1)
    assert bool((d <= cutoff + 1e-12).all())


@given(frame=structures(), cutoff=st.floats(1.0, 6.0))
def test_against_ase(frame, cutoff):
    system = System.from_atoms(frame)
    full = find_neighbors(system, cutoff, half=False)
    i, j, vectors = neighbor_list("ijD", frame, cutoff)
    d = np.linalg.norm(vectors, axis=1)
    assume(not (abs(d - cutoff) < EDGE).any())
    ours = np.column_stack([full.i, full.j, full.vectors(system)])
    theirs = np.column_stack([i, j, vectors])
    assert ours.shape == theirs.shape
    ours, theirs = (x[np.lexsort(np.round(x, 6).T)] for x in (ours, theirs))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


@given(data=st.data(), cutoff=st.floats(1.0, 5.0))
def test_batch_is_the_sum_of_its_members(data, cutoff):
    frames = data.draw(st.lists(structures(), min_size=2, max_size=4))
    cutoffs = torch.tensor([cutoff + 0.5 * k for k in range(len(frames))], dtype=torch.float64)
    together = find_neighbors(System.from_atoms(frames), cutoffs)
    expected: Counter = Counter()
    first = 0
    for frame, limit in zip(frames, cutoffs.tolist(), strict=True):
        alone = edges(find_neighbors(System.from_atoms(frame), limit))
        expected.update({(i + first, j + first, *s): n for (i, j, *s), n in alone.items()})
        first += len(frame)
    assert edges(together) == expected


@pytest.mark.parametrize("pbc", [False, True, (True, False, True), (False, False, True)])
@pytest.mark.parametrize("offset", [1e2, 1e5])
def test_far_from_the_origin(pbc, offset, rng):
    """The same list wherever the structure lies; coordinates on a grid, so that moving them is exact."""
    cell = np.diag([7.0, 8.0, 9.0])
    cell[1, 0] = 2.0
    positions = np.round(rng.uniform(0, 1, (20, 3)) @ cell * 2**16) / 2**16
    frame = ase.Atoms(numbers=[8] * 20, positions=positions, cell=cell, pbc=pbc)
    near = find_neighbors(System.from_atoms(frame), 4.51234)
    frame.positions += offset * np.array([1.0, -1.0, 0.5])
    system = System.from_atoms(frame)
    far = find_neighbors(system, 4.51234)
    assert near.n_edges > 50
    assert edges(far) == edges(near)
    assert far.vectors(system).norm(dim=-1).max() <= 4.51234


@pytest.mark.parametrize("n", [40, 400])
def test_large_molecules_are_searched_like_small_ones(n, rng):
    """Enumeration below 128 atoms, cells above; two clusters 10 µm apart must not need a grid between them."""
    positions = rng.uniform(0, n ** (1 / 3) * 2, (n, 3))
    positions[n // 2 :] += (1e5, 0, 0)
    frame = ase.Atoms(numbers=[8] * n, positions=positions)
    i, j = find_neighbors(System.from_atoms(frame), 4.0).i, find_neighbors(System.from_atoms(frame), 4.0).j
    d = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    assert {*zip(i.tolist(), j.tolist(), strict=True)} | {*zip(j.tolist(), i.tolist(), strict=True)} == {
        (a, b) for a, b in np.argwhere(d <= 4.0).tolist() if a != b
    }
    assert 2 * len(i) == (d <= 4.0).sum() - n


def test_self_images():
    """One atom in a cube of 3 Å: 6 + 12 + 8 neighbours within 5.9 Å, all of them itself."""
    system = System.from_atoms(ase.Atoms("O", cell=[3, 3, 3], pbc=True))
    assert [find_neighbors(system, r, half=False).n_edges for r in (2.9, 3.1, 4.3, 5.3)] == [0, 6, 18, 26]
    half = find_neighbors(system, 5.3)
    assert half.n_edges == 13
    assert half.i.tolist() == half.j.tolist() == [0] * 13


@pytest.mark.parametrize("cutoff", [1.5, float("inf")])
@pytest.mark.parametrize("half", [True, False])
def test_nothing_to_list(cutoff, half):
    lone = System.from_atoms([ase.Atoms("O"), ase.Atoms("H")])
    empty = find_neighbors(lone, cutoff, half=half)
    assert empty.n_edges == 0
    assert empty.shift.shape == (0, 3)
    assert empty.vectors(lone).shape == (0, 3)
    assert empty.within(lone).n_edges == 0
    assert empty.full().n_edges == 0
    assert not empty.stale(lone)


def test_all_pairs_of_a_molecule(atoms):
    n = len(atoms)
    system = System.from_atoms([atoms, atoms])
    everything = find_neighbors(system, float("inf"))
    assert everything.n_edges == n * (n - 1)
    assert torch.equal(system.batch[everything.i], system.batch[everything.j])
    assert everything.full().n_edges == 2 * n * (n - 1)


@pytest.mark.parametrize("cutoff", [0.0, -1.0, float("nan")])
def test_bad_cutoff(cutoff, atoms):
    with pytest.raises(InputError, match="positive cutoff"):
        find_neighbors(System.from_atoms(atoms), cutoff)


@pytest.mark.parametrize("pbc", [True, (False, True, False)])
def test_infinite_cutoff_and_periodicity(pbc):
    with pytest.raises(InputError, match="infinitely many pairs"):
        find_neighbors(System.from_atoms(ase.Atoms("O", cell=[5, 5, 5], pbc=pbc)), float("inf"))


def test_long_range_list_rides_along(crystal, atoms):
    system = System.from_atoms([crystal, atoms])
    limits = torch.tensor([7.0, torch.inf], dtype=torch.float64)
    both = find_neighbors(system, 4.5, long_range_cutoff=limits, skin=0.3)
    assert edges(both) == edges(find_neighbors(system, 4.5, skin=0.3))
    assert edges(both.long_range) == edges(find_neighbors(system, limits, skin=0.3))
    assert both.within(system).long_range is both.long_range


@given(frame=structures(), skin=st.floats(0.05, 1.5), size=st.floats(0.0, 2.0), seed=st.integers(0, 2**32 - 1))
def test_within_equals_a_fresh_list_while_fresh_enough(frame, skin, size, seed):
    """The list with a skin, moved less than allowed, gives exactly the pairs of a new list."""
    system = System.from_atoms(frame)
    kept = find_neighbors(system, 3.0, skin=skin)
    step = torch.from_numpy(np.random.default_rng(seed).normal(size=system.positions.shape))
    step *= 0.5 * skin * min(size, 0.999) / step.norm(dim=-1).max()
    later = system.replace(positions=system.positions + step)
    assert not kept.stale(later)
    fresh = find_neighbors(later, 3.0)
    d = find_neighbors(later, 3.0 + 1e-3).vectors(later).norm(dim=-1)
    assume(not ((d - 3.0).abs() < EDGE).any())
    kept, fresh = kept.within(later).full(), fresh.full()
    assert edges(kept) == edges(fresh)


def missed(kept: Neighbors, system: System, cutoff: float) -> bool:
    """Whether a fresh list has a pair within the cutoff that the kept one lacks."""
    fresh = find_neighbors(system, cutoff, half=False)
    inside = fresh.select(fresh.vectors(system).norm(dim=-1) < cutoff - EDGE)
    return bool(edges(inside) - edges(kept.full()))


@st.composite
def movements(draw):
    """A structure and where it went: displacements of single or of all atoms, with or without deformation.

    Plain arrays: what runs inside a strategy must not touch `random`, and the type checker does.
    """
    frame = draw(structures())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    gradient = np.eye(3)
    affine = draw(st.booleans())
    if draw(st.booleans()):
        strain = rng.normal(scale=draw(st.floats(1e-3, 0.2)), size=(3, 3))
        gradient = gradient + (strain if draw(st.booleans()) else -np.diag(abs(strain[0])))
    step = rng.normal(scale=draw(st.sampled_from((0.0, 0.05, 0.2, 1.0))), size=frame.positions.shape)
    if draw(st.booleans()):
        step[1:] = 0.0
    positions = frame.positions @ gradient if affine else frame.positions
    return frame, positions + step, frame.cell.array @ gradient


@settings(max_examples=10 * settings.default.max_examples)
@given(movement=movements(), skin=st.sampled_from((0.0, 0.1, 0.4, 1.0)), cutoff=st.sampled_from((1.5, 3.0, 6.0)))
def test_stale_never_misses(movement, skin, cutoff):
    """Whenever a pair has come within the cutoff unlisted, the list says that it is stale."""
    frame, positions, cell = movement
    assume(not frame.pbc.all() or np.linalg.det(cell) > 0.1)
    before = System.from_atoms(frame)
    kept = find_neighbors(before, cutoff, skin=skin)
    after = before.replace(positions=torch.from_numpy(positions))
    if not np.array_equal(cell, frame.cell.array):
        after = after.replace(cell=torch.from_numpy(cell).unsqueeze(0))
    if missed(kept, after, cutoff):
        assert kept.stale(after)


def test_stale_can_miss_nothing_even_at_its_limit():
    """Two atoms approaching by exactly the skin, and a hair more."""
    start = System.from_atoms(ase.Atoms("OO", [(0, 0, 0), (0, 0, 4.9)]))
    kept = find_neighbors(start, 4.0, skin=0.5)
    assert kept.n_edges == 0

    def approach(by: float) -> System:
        return start.replace(positions=start.positions + torch.tensor([[0, 0, by / 2], [0, 0, -by / 2]]).double())

    assert not kept.stale(approach(0.4999))
    assert kept.stale(approach(0.5001))


@pytest.mark.parametrize(("strain", "stale"), [(0.0, False), (-0.01, False), (0.05, False), (-0.11, True)])
def test_barostat_steps_do_not_waste_the_skin(strain, stale, crystal):
    """Isotropic scaling moves far atoms a lot and distances little: what counts is cutoff · strain against the skin."""
    crystal.positions += 1000.0
    system = System.from_atoms(crystal)
    kept = find_neighbors(system, 4.5, skin=0.5)
    scaled = system.deform(strain * torch.eye(3, dtype=torch.float64).unsqueeze(0))
    assert bool(kept.stale(scaled)) is stale


def test_stale_of_one_structure_marks_the_batch(crystal, atoms):
    system = System.from_atoms([crystal, atoms, crystal])
    kept = find_neighbors(system, 4.5, skin=0.5)
    step = torch.zeros_like(system.positions)
    assert not kept.stale(system.replace(positions=system.positions + step))
    step[len(crystal) + 1, 0] = 0.26
    assert kept.stale(system.replace(positions=system.positions + step))
    strain = torch.zeros_like(system.cell)
    strain[2] = -0.2 * torch.eye(3)
    assert kept.stale(system.deform(strain))
    slab = System.from_atoms(ase.Atoms("O", cell=[3, 3, 0], pbc=(True, True, False)))
    assert find_neighbors(slab, 3.5, skin=1.0).stale(slab.replace(cell=slab.cell * 1.0001))


def test_stale_knows_the_long_range_list(crystal):
    """Under compression the reach of the long list counts: -3 % of 12 Å is more than a skin of 0.3 Å."""
    system = System.from_atoms(crystal)
    kept = find_neighbors(system, 4.5, long_range_cutoff=torch.tensor([12.0], dtype=torch.float64), skin=0.3)
    squeezed = system.deform(-0.03 * torch.eye(3, dtype=torch.float64).unsqueeze(0))
    assert missed(kept.long_range, squeezed, 12.0)
    assert kept.long_range.stale(squeezed)
    assert kept.stale(squeezed)


@pytest.mark.parametrize("deformed", [False, True])
def test_positions_gone_wrong_are_stale(deformed, crystal):
    system = System.from_atoms(crystal)
    kept = find_neighbors(system, 4.5, skin=0.5)
    positions = system.positions.clone()
    positions[0, 0] = torch.nan
    assert kept.stale(system.replace(positions=positions, cell=system.cell * 1.0 if deformed else system.cell))


def test_vectors_follow_positions_and_cell(crystal):
    """Through the cached offset and without it, with the same gradient."""
    system = System.from_atoms(crystal)
    list_ = find_neighbors(system, 6.0)
    direct = list_.vectors(system)
    np.testing.assert_array_equal(direct, list_.vectors(system.replace(cell=system.cell.clone())))
    strain = torch.full((1, 3, 3), 0.01, dtype=torch.float64, requires_grad=True)
    deformed = list_.vectors(system.deform(strain))
    torch.testing.assert_close(deformed, direct @ (torch.eye(3, dtype=torch.float64) + 0.01), rtol=0, atol=1e-12)
    (gradient,) = torch.autograd.grad(deformed.sum(), strain)
    torch.testing.assert_close(gradient[0], direct.sum(0).unsqueeze(1).expand(3, 3), rtol=0, atol=1e-9)


def test_work_grows_linearly():
    """Edges per atom are those of the density, whatever the size; twice the atoms, about twice the time."""
    per_atom = []
    for n in (22, 28):
        rng = np.random.default_rng(n)
        frame = ase.Atoms(
            numbers=[8] * n**3, positions=rng.uniform(0, 2.2 * n, (n**3, 3)), cell=[2.2 * n] * 3, pbc=True
        )
        list_ = find_neighbors(System.from_atoms(frame), 4.5)
        per_atom.append(2 * list_.n_edges / n**3)
    expected = 4 / 3 * np.pi * 4.5**3 / 2.2**3
    assert per_atom == pytest.approx([expected] * 2, rel=0.01)
