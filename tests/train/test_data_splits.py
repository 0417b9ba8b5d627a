"""Splits leave nothing in two parts, keep molecules together, and refuse what cannot be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule
from labelled_springs import spring_set

from heliodor.errors import InputError
from heliodor.train.data.splits import molecule_of, split_dataset
from heliodor.train.data.statistics import describe_set
from heliodor.train.dataset import Dataset, join

SHARES = {"train": 0.8, "valid": 0.1, "test": 0.1}


@pytest.fixture(scope="module")
def mixed() -> Dataset:
    return join([spring_set(name, 20, seed=k) for k, name in enumerate(("CH3OH", "H2O", "NH3", "CH3CH2OH", "C2H6"))])


def test_frames(mixed: Dataset) -> None:
    found = split_dataset(mixed, SHARES, seed=3)
    assert [len(part) for part in found.parts.values()] == [80, 10, 10]
    assert sorted(np.concatenate(list(found.parts.values())).tolist()) == list(range(100))
    again = split_dataset(mixed, SHARES, seed=3)
    assert all(np.array_equal(found.parts[name], again.parts[name]) for name in SHARES)
    other = split_dataset(mixed, SHARES, seed=4)
    assert not np.array_equal(found.parts["test"], other.parts["test"])
    some = split_dataset(mixed, {"train": 50, "valid": 7})
    assert [len(part) for part in some.parts.values()] == [50, 7]
    assert not set(some.parts["train"]) & set(some.parts["valid"])


def test_molecules_stay_together(mixed: Dataset) -> None:
    found = split_dataset(mixed, {"train": 0.6, "test": 0.4}, by="molecule", seed=1)
    assert [len(part) for part in found.parts.values()] == [60, 40]
    names = np.repeat(np.arange(5), 20)
    assert not set(names[found.parts["train"]]) & set(names[found.parts["test"]])
    grouped = replace(mixed, group=np.array([f"g{k % 10}" for k in range(100)]))
    found = split_dataset(grouped, {"train": 0.7, "test": 0.3}, by="group")
    assert not {k % 10 for k in found.parts["train"]} & {k % 10 for k in found.parts["test"]}
    assert found.units == {"train": 7, "test": 3}


def test_kinds_are_shared_out(mixed: Dataset) -> None:
    rare = replace(mixed, kind=np.array(["rare"] * 10 + ["common"] * 90))
    for seed in range(5):
        found = split_dataset(rare, {"train": 0.8, "test": 0.2}, stratify=True, seed=seed)
        assert (found.parts["test"] < 10).sum() == 2 and (found.parts["train"] < 10).sum() == 8


def test_isomers_and_conformers(rng: np.random.Generator) -> None:
    """Ethanol and dimethyl ether have one formula; conformers and other orders of atoms are one molecule."""
    ethanol, ether = molecule("CH3CH2OH"), molecule("CH3OCH3")
    turned = ethanol[rng.permutation(9)]
    turned.positions += rng.normal(scale=0.05, size=(9, 3))
    data = Dataset.from_atoms([ethanol, ether, turned])
    words = [molecule_of(data, k) for k in range(3)]
    assert words[0] == words[2] != words[1]


@pytest.mark.parametrize(
    ("shares", "by", "message"),
    [
        ({"train": 0.999, "test": 0.001}, "frame", "the part 'test' would be empty"),
        (
            {"a": 0.3, "b": 0.3, "c": 0.2, "d": 0.1, "e": 0.05, "f": 0.05},
            "molecule",
            "would be empty: 100 .* in 5 groups",
        ),
        ({"train": 0.9, "test": 0.2}, "frame", "add up to 1.1"),
        ({"train": 90, "test": 20}, "frame", "there are 100 structures, not 110"),
        ({"train": 90, "test": 0.1}, "frame", "either fractions or numbers"),
        ({"train": 0.0}, "frame", "above zero"),
        (SHARES, "molecul", "did you mean 'molecule'"),
        (SHARES, "group", "100 structures have no group word"),
    ],
)
def test_refusals(mixed: Dataset, shares: dict[str, float], by: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_dataset(mixed, shares, by=by)


def test_statistics(mixed: Dataset) -> None:
    found = describe_set(mixed)
    assert (found.structures, found.atoms) == (100, 20 * (6 + 3 + 4 + 9 + 8))
    assert dict(found.elements) == {"H": 20 * (4 + 2 + 3 + 6 + 6), "C": 100, "N": 20, "O": 60}
    norms = np.linalg.norm(mixed.forces, axis=1)
    assert found.force_percentiles["50"] == pytest.approx(np.median(norms))
    # energies are sums over atoms plus springs, of which composition explains the means
    springs = mixed.energy - describe_free(mixed)
    spread = np.concatenate([springs[k : k + 20] - springs[k : k + 20].mean() for k in range(0, 100, 20)])
    assert found.residual_rms == pytest.approx(np.sqrt(np.mean((spread / mixed.counts) ** 2)), rel=0.3)
    assert set(found.labels) == {"energy", "forces"}


def describe_free(data: Dataset) -> np.ndarray:
    table = np.zeros(9)
    table[[1, 6, 7, 8]] = -13.6, -1030.0, -1486.0, -2043.0
    return np.add.reduceat(table[data.numbers], data.offsets[:-1])
