"""Dividing a set into training, validation and test, so that nothing of one is in another."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Int

from heliodor.errors import InputError, suggestion
from heliodor.topology import bonds_by_distance
from heliodor.train.dataset import Dataset

BY = ("frame", "group", "molecule", "formula")
ROUNDS = 5
"""How many bonds far the surroundings of an atom are looked at to tell molecules apart."""


@dataclass(frozen=True, eq=False)
class Split:
    """Which structures go where.

    Attributes:
        parts: indices, ascending, by name.
        units: number of groups that were not to be divided, by name of the part.
    """

    parts: dict[str, Int[np.ndarray, "k"]]
    units: dict[str, int]


def split_dataset(
    data: Dataset, shares: Mapping[str, float], *, by: str = "frame", stratify: bool = False, seed: int = 0
) -> Split:
    """Divide at random.

    Args:
        shares: by name of the part, fractions (adding up to 1 or less), or whole numbers of structures; with groups
            the numbers are met as nearly as the sizes of groups allow.
        by: "frame": every structure on its own; "group": structures of the same group word stay together; "molecule":
            those of the same group word, or, without one, of the same molecule (`molecule_of`); "formula": those of
            the same elements and charge.
        stratify: divide each kind on its own.
        seed: the same seed and set give the same split.

    Raises:
        InputError: a part would be empty, the shares cannot be, or "group" is asked of a set without group words.
    """
    if by not in BY:
        raise InputError(f"a split is by {', '.join(BY)}, not by {by!r}{suggestion(by, BY)}")
    if len(data) == 0:
        raise InputError("the data set is empty: there is nothing to divide")
    sizes = _sizes(shares, len(data))
    _, unit = np.unique(group_of(data, by), return_inverse=True)
    unit = unit.reshape(-1)
    rng = np.random.default_rng(seed)
    kinds = np.asarray(data.kind).astype(str) if stratify else np.full(len(data), "")
    n_units = int(unit.max()) + 1
    # a unit with structures of several kinds goes with its first one
    begins = np.full(n_units, len(data))
    np.minimum.at(begins, unit, np.arange(len(data)))
    weight = np.bincount(unit, minlength=n_units)
    part = np.full(n_units, -1)
    names = list(sizes)
    for kind in np.unique(kinds[begins]):
        members = rng.permutation(np.flatnonzero(kinds[begins] == kind))
        share = weight[members].sum() / len(data)
        wanted = np.array([sizes[name] * share for name in names])
        _deal(members, weight, wanted, part, float(len(data) - sum(sizes.values())) * share)
    chosen = part[unit]
    parts = {name: np.flatnonzero(chosen == k) for k, name in enumerate(names)}
    for name in names:
        if not len(parts[name]):
            raise InputError(
                f"the part {name!r} would be empty: {len(data)} structures in {n_units} "
                f"{'groups' if by != 'frame' else 'frames'} cannot be divided into {_words(shares)}"
            )
    return Split(parts, {name: len(np.unique(unit[parts[name]])) for name in names})


def group_of(data: Dataset, by: str) -> np.ndarray:
    """A word for each structure; structures with the same one stay together.

    Raises:
        InputError: "group" is asked of a set in which structures have no group word.
    """
    if by == "frame":
        return np.arange(len(data))
    words = np.asarray(data.group).astype(str)
    if by == "group":
        if (words == "").any():
            raise InputError(f"{int((words == '').sum())} structures have no group word; split by molecule instead")
        return words
    if by == "formula":
        return np.array([formula_of(data, k) for k in range(len(data))])
    return np.array([word or molecule_of(data, k) for k, word in enumerate(words)])


def formula_of(data: Dataset, index: int) -> str:
    """Elements and charge, such as ``"C2H6O 0"``."""
    z, n = np.unique(data.numbers[data.span(index)], return_counts=True)
    return (
        "".join(f"{chemical_symbols[int(a)]}{int(b)}" for a, b in zip(z, n, strict=True)) + f" {data.charge[index]:g}"
    )


def molecule_of(data: Dataset, index: int) -> str:
    """A word that is the same for all conformers of a molecule (or of several together), whatever the order of atoms.

    Formula and charge, and a hash of the bonded graph by elements (Weisfeiler and Lehman's refinement; bonds from
    distances). Stereoisomers get the same word. A bond on the verge of breaking makes a molecule another one.
    """
    atoms = data.atoms(index)
    numbers = atoms.numbers
    bonds = bonds_by_distance(atoms)
    neighbours: list[list[int]] = [[] for _ in numbers]
    for i, j in bonds.tolist():
        neighbours[i].append(j)
        neighbours[j].append(i)
    marks = [str(z) for z in numbers]
    for _ in range(ROUNDS):
        marks = [_hash(marks[k] + "|" + ",".join(sorted(marks[j] for j in near))) for k, near in enumerate(neighbours)]
    return f"{formula_of(data, index)} {_hash(','.join(sorted(marks)))}"


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _deal(members: np.ndarray, weight: np.ndarray, wanted: np.ndarray, part: np.ndarray, rest: float) -> None:
    """Give units, large ones first, to the part that lacks most; what no part wants stays out."""
    order = members[np.argsort(-weight[members], kind="stable")]
    lack = np.append(wanted, rest)
    for unit in order.tolist():
        where = int(np.argmax(lack))
        if where < len(wanted):
            part[unit] = where
        lack[where] -= weight[unit]


def _sizes(shares: Mapping[str, float], count: int) -> dict[str, float]:
    values = list(shares.values())
    if not values or not all(np.isfinite(v) and v > 0 for v in values):
        raise InputError(f"the parts of a split need sizes above zero, not {_words(shares)}")
    if all(value < 1.0 for value in values) or values == [1.0]:
        if sum(values) > 1.0 + 1e-9:
            raise InputError(f"the fractions of a split add up to {sum(values):g}, more than 1: {_words(shares)}")
        return {name: value * count for name, value in shares.items()}
    if any(value != round(value) for value in values):
        raise InputError(f"give either fractions or numbers of structures, not both: {_words(shares)}")
    if sum(values) > count:
        raise InputError(f"there are {count} structures, not {sum(values):g}: {_words(shares)}")
    return dict(shares)


def _words(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name}={value:g}" for name, value in shares.items())
