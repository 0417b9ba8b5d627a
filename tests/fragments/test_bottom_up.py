"""Enumeration against brute force and closed formulas; molecules whose pieces can be written down."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from rdkit import Chem

from heliodor.errors import InputError
from heliodor.fragments.bottom_up import bottom_up, connected_sets
from heliodor.fragments.graph import ChemicalGraph
from heliodor.fragments.rdkit_graph import graph_from_smiles, mol_from_graph


def brute(edges: set[tuple[int, int]], n: int, largest: int) -> set[tuple[int, ...]]:
    """Every subset, tried."""
    found = set()
    for size in range(1, largest + 1):
        for subset in combinations(range(n), size):
            reached, waiting = {subset[0]}, [subset[0]]
            while waiting:
                at = waiting.pop()
                more = {b for b in subset if ((at, b) in edges or (b, at) in edges) and b not in reached}
                reached |= more
                waiting += more
            if len(reached) == size:
                found.add(subset)
    return found


def enumerated(edges: set[tuple[int, int]], n: int, largest: int) -> list[tuple[int, ...]]:
    masks = [sum(1 << b for b in range(n) if (a, b) in edges or (b, a) in edges) for a in range(n)]
    sets = (s for root in range(n) for s in connected_sets(masks, largest, (root,), (1 << root) - 1))
    return [tuple(sorted(s)) for s in sets]


def test_every_connected_set_comes_once(rng: np.random.Generator) -> None:
    for _ in range(30):
        n = int(rng.integers(2, 10))
        edges = {(a, b) for a, b in combinations(range(n), 2) if rng.random() < 0.35}
        largest = int(rng.integers(1, n + 1))
        found = enumerated(edges, n, largest)
        assert len(found) == len(set(found))
        assert set(found) == brute(edges, n, largest)


def test_sets_around_a_seed(rng: np.random.Generator) -> None:
    for _ in range(20):
        edges = {(a, b) for a, b in combinations(range(8), 2) if rng.random() < 0.3} | {(2, 5)}
        masks = [sum(1 << b for b in range(8) if (a, b) in edges or (b, a) in edges) for a in range(8)]
        found = [tuple(sorted(s)) for s in connected_sets(masks, 5, (5, 2))]
        assert len(found) == len(set(found))
        assert set(found) == {s for s in brute(edges, 8, 5) if 2 in s and 5 in s}


def test_counts_of_chains_rings_and_stars() -> None:
    # a chain of n has n - k + 1 pieces of k, a ring n for k < n and one of n, a star C(n, k - 1) with its centre
    assert {a.n_heavy: a.count for a in bottom_up(graph_from_smiles("CCCCCCC"), 7)} == {k: 8 - k for k in range(1, 8)}
    ring = {a.smiles: a.count for a in bottom_up(graph_from_smiles("C1CCCCC1"), 6)}
    assert ring == {"C" * k: 6 for k in range(1, 6)} | {"C1CCCCC1": 1}
    star = {a.smiles: a.count for a in bottom_up(graph_from_smiles("CC(C)(C)C"), 5)}
    assert star == {"C": 5, "CC": 4, "CCC": 6, "CC(C)C": 4, "CC(C)(C)C": 1}


def test_a_cut_bond_leaves_as_many_hydrogens_as_its_order() -> None:
    found = {a.smiles for a in bottom_up(graph_from_smiles("CC(=O)NC"), 5)}
    assert found == {
        "C", "O", "N", "CC", "C=O", "CN", "CC=O", "CCN", "NC=O", "CNC", "CCNC", "CC(N)=O", "CNC=O", "CNC(C)=O",
    }  # fmt: skip
    assert {a.smiles for a in bottom_up(graph_from_smiles("CC#N"), 2)} == {"C", "N", "CC", "C#N"}


def test_charges_stay_and_large_ones_are_left_out() -> None:
    zwitterion = {a.smiles: a.charge for a in bottom_up(graph_from_smiles("[NH3+]CC(=O)[O-]"), 5)}
    assert zwitterion["[NH4+]"] == 1
    assert zwitterion["[OH-]"] == -1
    assert zwitterion["[NH3+]CC(=O)[O-]"] == 0
    trication = bottom_up(graph_from_smiles("[NH3+]CC([NH3+])C[NH3+]"), 6)
    assert max(a.charge for a in trication) == 2
    assert max(a.n_heavy for a in trication) == 5


def test_kekule_structures() -> None:
    toluene = "Cc1ccccc1"
    given = bottom_up(graph_from_smiles(toluene), 3)
    every = bottom_up(graph_from_smiles(toluene), 3, every_kekule=True)
    # both Kekulé structures of toluene are mirror images; those of o-xylene differ in what lies between the methyls
    assert {a.smiles for a in given} == {a.smiles for a in every}
    xylene = {a.smiles for a in bottom_up(graph_from_smiles("Cc1ccccc1C"), 4, every_kekule=True)}
    assert {"CCCC", "CC=CC"} <= xylene
    drawings = [{a.smiles for a in bottom_up(graph_from_smiles(s), 4)} for s in ("CC1=CC=CC=C1C", "CC1=C(C)C=CC=C1")]
    # RDKit draws both the same way: the graph that it draws otherwise is made by hand
    graph = graph_from_smiles("Cc1ccccc1C")
    ring = [k for k, (i, j) in enumerate(graph.bonds.tolist()) if max(i, j) < 8 and {i, j}.isdisjoint({0, 7})]
    orders = graph.orders.copy()
    orders[ring] = 3 - orders[ring]
    other = ChemicalGraph(graph.numbers, graph.bonds, orders, graph.whole, graph.charges)
    assert {a.smiles for a in bottom_up(other, 4)} != {a.smiles for a in bottom_up(graph, 4)}
    assert {a.smiles for a in bottom_up(other, 4)} | drawings[0] == xylene
    # a whole ring is the same in every drawing
    assert [a.smiles for a in bottom_up(other, 8) if a.n_heavy == 8] == ["Cc1ccccc1C"]


def test_molecules_are_counted_and_named() -> None:
    water, ethanol = graph_from_smiles("O"), graph_from_smiles("CCO")
    amons = {a.smiles: a for a in bottom_up([water, ethanol, water], 2)}
    assert (amons["O"].count, amons["O"].parents) == (3, (0, 1, 2))
    assert (amons["CO"].count, amons["CO"].parents) == (1, (1,))
    assert bottom_up(graph_from_smiles("[H][H]"), 3) == ()
    steps: list[tuple[int, int]] = []
    bottom_up([water, ethanol], 2, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 4), (4, 4)]


def test_graphs_and_molecules_agree() -> None:
    for smiles in (
        "CC(=O)[O-]",
        "NC(=[NH2+])NC",
        "c1c[nH]cn1",
        "C[N+](=O)[O-]",
        "CC#N",
        "CS(=O)(=O)N",
        "c1ccc2ccccc2c1",
    ):
        mol = mol_from_graph(graph_from_smiles(smiles))
        assert Chem.CanonSmiles(Chem.MolToSmiles(Chem.RemoveHs(mol))) == Chem.CanonSmiles(smiles)
    assert graph_from_smiles("CC(=O)[O-]").whole.sum() == 2
    assert graph_from_smiles("c1ccccc1C").whole.sum() == 6


def changed(graph: ChemicalGraph, **changes: np.ndarray) -> ChemicalGraph:
    fields = {name: getattr(graph, name) for name in ("numbers", "bonds", "orders", "whole", "charges")} | changes
    return ChemicalGraph(**fields)


def test_bad_input() -> None:
    graph = graph_from_smiles("CC=O")
    with pytest.raises(InputError, match=r"atom 1 \(C, formal charge \+0\).*add up to 3, not 4"):
        bottom_up(changed(graph, orders=np.ones_like(graph.orders)), 3)
    with pytest.raises(InputError, match=r"structure 1: atom 0 \(C"):
        bottom_up([graph, changed(graph, charges=np.array([1, *[0] * 6]))], 3)
    with pytest.raises(InputError, match=r"atom 0 is Fe: .*metals"):
        bottom_up(changed(graph_from_smiles("[Na+]"), numbers=np.array([26])), 3)
    with pytest.raises(InputError, match="a hydrogen has one bond"):
        bottom_up(changed(graph_from_smiles("[Na+]"), numbers=np.array([1])), 3)
    with pytest.raises(InputError, match="order 0"):
        bottom_up(changed(graph, orders=np.zeros_like(graph.orders)), 3)
    with pytest.raises(InputError, match="at least one heavy atom"):
        bottom_up(graph, 0)
    with pytest.raises(InputError, match="no valid SMILES"):
        graph_from_smiles("C(C")
    with pytest.raises(InputError, match="unpaired electrons"):
        graph_from_smiles("[CH3]")
    assert [a.smiles for a in bottom_up(graph_from_smiles("[Na+]"), 3)] == ["[Na+]"]
