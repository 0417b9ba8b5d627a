"""Fragments with water around them, and clusters of water: contacts at many distances and orientations."""

from __future__ import annotations

from collections.abc import Sequence

import ase
import numpy as np
from jaxtyping import Float

from heliodor.errors import InputError
from heliodor.fragments.embed import KIND, seed_of_structure

LARGEST_CLUSTER = 6

CONTACTS = (0.6, 1.6)
"""Nearest contact over the sum of Bondi's van der Waals radii: hydrogen bonds have 0.65 to 0.75, 1.6 is about 4.4 Å."""

RADII = {1: 1.20, 6: 1.70, 7: 1.55, 8: 1.52, 9: 1.47, 11: 2.27, 15: 1.80, 16: 1.80, 17: 1.75, 35: 1.85, 53: 1.98}
"""Å; Bondi, J. Phys. Chem. 68, 441 (1964)."""

OTHER_RADIUS = 1.8
"""Å; of all other elements."""

_OH, _ANGLE = 0.9572, np.deg2rad(104.52)
"""Of a water molecule in gas phase, Å."""

_TURNS = 60
"""Bisections for the distance of a contact."""


def water() -> ase.Atoms:
    """One water molecule in its gas-phase geometry (0.9572 Å, 104.52°), oxygen at the origin."""
    x, y = _OH * np.sin(_ANGLE / 2.0), _OH * np.cos(_ANGLE / 2.0)
    info = {"charge": 0, "spin": 0, "kind": KIND, "group": "O"}
    return ase.Atoms("OH2", positions=[[0.0, 0.0, 0.0], [x, y, 0.0], [-x, y, 0.0]], info=info)


def water_clusters(
    largest: int = LARGEST_CLUSTER, count: int = 100, *, contacts: tuple[float, float] = CONTACTS, seed: int = 0
) -> list[ase.Atoms]:
    """Clusters (H₂O)n of rigid waters, n = 1 to `largest`; each grown water by water as by `with_waters`.

    They are starting geometries: distort or relax them with `heliodor.fragments.sample`.

    Args:
        count: clusters of each size above one; of one water there is one.
        contacts: see `CONTACTS`.

    Returns:
        Ordered by size; "group" is ``"O"`` for all, as of the amon that water is.

    Raises:
        InputError: settings that are none.
    """
    if largest < 1 or count < 0:
        raise InputError("clusters have at least one water, and there are none or more of them")
    one = water()
    found = [one]
    for size in range(2, largest + 1):
        found += with_waters(one, size - 1, count, contacts=contacts, seed=seed)
    return found


def with_waters(
    atoms: ase.Atoms,
    waters: int | Sequence[int] = 1,
    count: int = 10,
    *,
    contacts: tuple[float, float] = CONTACTS,
    seed: int = 0,
) -> list[ase.Atoms]:
    """A fragment with rigid waters beside it, each in a random direction and orientation.

    A water is pushed towards what is there until its nearest contact is a random multiple, within `contacts`, of the
    sum of the van der Waals radii; small multiples, hydrogen bonds, are drawn most often.

    Args:
        waters: how many, or several numbers taken in turn.
        count: structures.
        seed: with the same structure, settings and seed the result is the same to the last bit.

    Returns:
        Structures whose first atoms are the fragment's, unmoved, and whose ``info`` is the fragment's: the same
        "group", so that a fragment and its hydrates stay together.

    Raises:
        InputError: settings that are none; a periodic structure.
    """
    numbers = [waters] if isinstance(waters, int) else list(waters)
    low, high = contacts
    if count < 0 or not numbers or min(numbers) < 1 or not 0.3 <= low <= high < float("inf"):
        raise InputError("at least one water must be asked for, and contacts of at least 0.3 van der Waals distances")
    if atoms.pbc.any():
        raise InputError("water is put beside molecules: the structure is periodic")
    rng = np.random.default_rng(seed_of_structure(atoms, "waters", seed, numbers, low, high))
    one = water()
    found = []
    for k in range(count):
        made = atoms.copy()
        for _ in range(numbers[k % len(numbers)]):
            contact = low + (high - low) * rng.random() ** 2
            made += ase.Atoms(one.numbers, _beside(made, one, contact, rng))
        made.info = {**atoms.info, "sampling": f"with {numbers[k % len(numbers)]} H2O"}
        found.append(made)
    return found


def _beside(here: ase.Atoms, one: ase.Atoms, contact: float, rng: np.random.Generator) -> Float[np.ndarray, "3 3"]:
    """Positions of a water whose nearest contact is so many van der Waals distances."""
    sums = _radii(one)[:, None] + _radii(here)[None]
    shape = one.positions @ _rotation(rng).T
    way = rng.standard_normal(3)
    way /= np.linalg.norm(way)
    # aimed at an atom rather than the middle, so that every side of a long molecule is met
    aim = here.positions[rng.integers(len(here))]

    def nearest(distance: float) -> float:
        apart = (aim + distance * way + shape)[:, None] - here.positions[None]
        return float((np.linalg.norm(apart, axis=-1) / sums).min())

    reach = float(np.linalg.norm(here.positions - aim, axis=1).max())
    outside = reach + 2.0 + contact * float(sums.max())
    # the outermost place with this contact: walk inwards until it is passed, then bisect
    inside = outside
    while nearest(inside) > contact:
        outside, inside = inside, inside - 0.1
    for _ in range(_TURNS):
        middle = 0.5 * (inside + outside)
        inside, outside = (inside, middle) if nearest(middle) > contact else (middle, outside)
    return aim + outside * way + shape


def _radii(atoms: ase.Atoms) -> Float[np.ndarray, "N"]:
    return np.array([RADII.get(z, OTHER_RADIUS) for z in atoms.numbers.tolist()])


def _rotation(rng: np.random.Generator) -> Float[np.ndarray, "3 3"]:
    """Uniform over all rotations, from a random unit quaternion (Shoemake 1992)."""
    a, b, c, d = (lambda q: q / np.linalg.norm(q))(rng.standard_normal(4))
    return np.array(
        [
            [1 - 2 * (c * c + d * d), 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), 1 - 2 * (b * b + d * d), 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), 1 - 2 * (b * b + c * c)],
        ]
    )
