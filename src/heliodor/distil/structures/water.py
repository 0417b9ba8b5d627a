"""Families of water: clusters, periodic boxes of the liquid, and ions and molecules in small boxes of water."""

from __future__ import annotations

from collections.abc import Sequence

import ase
import numpy as np
from jaxtyping import Float

from heliodor.distil.structures.classical import sampled
from heliodor.distil.structures.groups import BUCKETS, SHARED, TRAJECTORY, group_of
from heliodor.distil.structures.library_ions import ANIONS, CATIONS
from heliodor.distil.structures.pairs import partners
from heliodor.distil.structures.thermal import Monomer, Places, monomer
from heliodor.distil.structures.together import rotation
from heliodor.topology import bonds_by_distance
from heliodor.units import GRAM_PER_CM3

MASS = 18.015
"""amu, of a water."""

DENSITIES = (0.9, 1.1)
"""g/cm³."""

KELVIN = (260.0, 400.0)

SIZES = (12, 14, 16, 18, 20, 24, 27, 32, 32, 40, 48, 64)
"""Waters in boxes, in turn."""

CLUSTER_KELVIN = (100.0, 200.0, 250.0, 300.0, 350.0, 400.0, 500.0)

ROOM = 11.0
"""Å³ for each atom of a solute other than hydrogen, beside its bonds; 5 Å³ for a hydrogen."""

TRIES = 3


def water_boxes(rng: np.random.Generator, item: int, count: int) -> list[ase.Atoms]:
    """One trajectory of a box of 12 to 64 waters; half of the boxes are mildly triclinic."""
    return _box([], SIZES[item % len(SIZES)], rng, count, "water box")


def ion_boxes(rng: np.random.Generator, item: int, count: int) -> list[ase.Atoms]:
    """A cation and an anion (two times in three), or a neutral molecule, in a box of 14 to 36 waters."""
    waters = int(rng.integers(14, 37))
    for _ in range(TRIES):
        if item % 3 < 2:
            names = [str(rng.choice(CATIONS)), str(rng.choice(ANIONS))]
        else:
            names = [str(rng.choice(partners()[item % BUCKETS]))]
        solutes = [one for one in map(monomer, names) if one is not None]
        if len(solutes) == len(names) and sum(one.shape.charge for one in solutes) == 0:
            found = _box(solutes, waters, rng, count, "ion box")
            if found:
                return found
    return []


def water_clusters(rng: np.random.Generator, item: int, count: int) -> list[ase.Atoms]:
    """One trajectory of 1 to 12 waters at 100 to 500 K, dense to loose."""
    waters = item % 12 + 1
    edge = float(rng.uniform(3.0, 4.4)) * waters ** (1 / 3)
    kelvin = float(rng.choice(CLUSTER_KELVIN))
    start = packed([], waters, np.eye(3) * edge, rng) - 0.5 * edge
    frames = sampled(
        [], waters, start, rng, kelvin=kelvin, frames=count, first=1500, every=400, wall=max(2.0, 0.62 * edge)
    )
    name = group_of(["O"]) if waters == 1 else f"{TRAJECTORY}water cluster {waters} {_word(rng)}"
    return _kept(frames, [], waters, None, "water cluster", name, f"classical dynamics at {kelvin:g} K")


def _box(solutes: Sequence[Monomer], waters: int, rng: np.random.Generator, count: int, kind: str) -> list[ase.Atoms]:
    density, kelvin = float(rng.uniform(*DENSITIES)), float(rng.uniform(*KELVIN))
    volume = waters * MASS / (density * GRAM_PER_CM3)
    volume += sum(ROOM if z > 1 else 5.0 for one in solutes for z in one.shape.numbers.tolist())
    shape = np.eye(3)
    if rng.random() < 0.5:
        shape = shape + np.tril(rng.uniform(-0.15, 0.15, (3, 3)), -1) + np.diag(rng.uniform(-0.06, 0.06, 3))
    cell = shape * (volume / np.linalg.det(shape)) ** (1 / 3)
    how = f"classical dynamics at {kelvin:.0f} K, {density:.3f} g/cm3"
    names = [one.smiles for one in solutes]
    name = group_of(names) if any(word not in SHARED for word in names) else f"{TRAJECTORY}{kind} {waters} {_word(rng)}"
    for _ in range(TRIES):
        start = packed(solutes, waters, cell, rng)
        frames = sampled(solutes, waters, start, rng, kelvin=kelvin, frames=count, first=2000, every=300, cell=cell)
        found = _kept(frames, solutes, waters, cell, kind, name, how)
        if found:
            return found
    return []


def packed(solutes: Sequence[Monomer], waters: int, cell: Float[np.ndarray, "3 3"], rng: np.random.Generator) -> Places:
    """Solutes apart from one another, then waters turned at random on places of a grid away from them; Å."""
    parts: list[Places] = []
    for k, one in enumerate(solutes):
        x = one.draw(rng, 200.0) @ rotation(rng).T
        parts.append(x + (0.25 + 0.5 * k / max(1, len(solutes) - 1) if len(solutes) > 1 else 0.5) * cell.sum(0))
    side = int(np.ceil(waters ** (1 / 3) - 1e-9))
    while True:
        grid = (np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3) + 0.5) / side
        places = (grid + rng.uniform(-0.1, 0.1, grid.shape) / side) @ cell
        if parts:
            away = places[:, None] - np.concatenate(parts)[None]
            away -= np.round(away @ np.linalg.inv(cell)) @ cell
            # water is moved out of the way by relaxation
            order = np.argsort(-np.linalg.norm(away, axis=-1).min(1), kind="stable")
            room = int((np.linalg.norm(away, axis=-1).min(1) > 2.0).sum())
        else:
            order, room = rng.permutation(len(places)), len(places)
        if room >= waters:
            break
        side += 1
    chosen = places[order[:room]][rng.permutation(room)[:waters]]
    return np.concatenate([*parts, *(_water() @ rotation(rng).T + place for place in chosen)])


def _water() -> Float[np.ndarray, "3 3"]:
    half = np.deg2rad(104.5) / 2.0
    x, z = 0.965 * np.sin(half), 0.965 * np.cos(half)
    return np.array([[0.0, 0.0, 0.0], [x, 0.0, z], [-x, 0.0, z]])


def _word(rng: np.random.Generator) -> str:
    return f"{int(rng.integers(2**40)):010x}"


def _kept(
    frames: Sequence[Places],
    solutes: Sequence[Monomer],
    waters: int,
    cell: Float[np.ndarray, "3 3"] | None,
    kind: str,
    group: str,
    how: str,
) -> list[ase.Atoms]:
    """Frames whose bonds, by distances, are those of the molecules; whole molecules inside the cell."""
    sizes = [*(len(one.shape.numbers) for one in solutes), *[3] * waters]
    starts = np.cumsum([0, *sizes])
    numbers = np.concatenate([*(one.shape.numbers for one in solutes), np.tile([8, 1, 1], waters)])
    wanted = [one.shape.bonds + start for one, start in zip(solutes, starts.tolist(), strict=False)]
    wanted += [np.array([[s, s + 1], [s, s + 2]]) for s in starts[len(solutes) : -1].tolist()]
    bonds = np.unique(np.sort(np.concatenate(wanted), axis=1), axis=0)
    info = {"charge": sum(one.shape.charge for one in solutes), "spin": 0, "kind": kind, "group": group}
    found = []
    for x in frames:
        if cell is not None:
            inverse = np.linalg.inv(cell)
            for first, size in zip(starts.tolist(), sizes, strict=False):
                x[first : first + size] -= np.floor(x[first] @ inverse) @ cell
        else:
            x = x - x.mean(0)
        atoms = ase.Atoms(numbers, x, info={**info, "sampling": how})
        if cell is not None:
            atoms.set_cell(cell)
            atoms.set_pbc(True)
        if np.array_equal(bonds_by_distance(atoms), bonds):
            found.append(atoms)
    return found
