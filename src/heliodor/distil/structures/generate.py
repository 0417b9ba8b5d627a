"""Structures by a recipe and a seed: every item of every family depends on nothing but these and its number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import ase
import numpy as np

from heliodor.distil.structures.recipe import Recipe, families, find_recipe
from heliodor.fragments.embed import seed_of

Progress = Callable[[int, int], object]
"""Called with the number of structures done and of all that are wanted."""


@dataclass(frozen=True)
class Item:
    """A piece of work: a molecule with its conformers, or a trajectory with its frames.

    Attributes:
        family: its name, one of `Recipe`'s.
        number: from 0.
        count: structures wanted.
    """

    family: str
    number: int
    count: int


def items(recipe: Recipe) -> list[Item]:
    """The work of a recipe, families after one another in the order of `Recipe`."""
    known = families()
    found = []
    for name, wanted in asdict(recipe).items():
        size = known[name].per_item
        found += [Item(name, k, min(size, wanted - k * size)) for k in range(-(-wanted // size))]
    return found


def make(item: Item, seed: int) -> list[ase.Atoms]:
    """The structures of one item; the same whatever was made before, and wherever.

    Returns:
        Structures with ``info`` "charge" (e), "spin" (unpaired electrons, 0), "kind" (in words), "group" (what must not
        be split between training and test, see `group_of`), "sampling" and "origin" (how and by which item made).

    Raises:
        MissingExtraError: RDKit or OpenMM is not installed.
    """
    rng = np.random.default_rng([seed, seed_of(item.family), item.number])
    family = families()[item.family]
    # always all of them, so that fewer are the first of more
    found = family.make(rng, item.number, family.per_item)[: item.count]
    for atoms in found:
        atoms.info["origin"] = f"{item.family} {item.number} of seed {seed}: {atoms.info['sampling']}"
    return found


def generate(recipe: Recipe | str, seed: int = 0, progress: Progress | None = None) -> Iterator[ase.Atoms]:
    """All structures of a recipe, one after another; see `make`.

    Args:
        recipe: or the name of one of `PRESETS`.
        seed: with the same recipe and seed the structures are the same to the last bit (on one machine).

    Raises:
        InputError: an unknown name.
        MissingExtraError: RDKit or OpenMM is not installed.
    """
    chosen = find_recipe(recipe) if isinstance(recipe, str) else recipe
    done = 0
    for item in items(chosen):
        yield from make(item, seed)
        done += item.count
        if progress is not None:
            progress(done, chosen.total)
