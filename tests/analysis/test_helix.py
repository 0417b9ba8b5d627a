"""Double differences of helix stabilisation, with potentials whose energies can be summed by hand."""

from __future__ import annotations

from pathlib import Path

import ase
import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from torch import Tensor

from heliodor.analysis.helix import HelixPair, draw, read_pairs, stabilisation
from heliodor.errors import InputError
from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, Terms
from heliodor.system import System
from heliodor.topology import topology_of
from support import shared


class Attraction(Potential):
    """-0.01 eV exp(-d/2 Å) of all pairs: prefers what is compact."""

    name = "attraction"
    elements = tuple(range(1, 90))
    cutoff = 60.0

    def __init__(self) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, system: System, neighbors: Neighbors) -> Terms:
        edges = neighbors.within(system)
        d: Tensor = edges.vectors(system).square().sum(-1).sqrt()
        node = torch.zeros(system.n_atoms, dtype=d.dtype)
        return Terms({"pair": node.index_add(0, edges.i, -0.01 * (-0.5 * d).exp())})


def by_hand(atoms: ase.Atoms) -> float:
    return float(-0.01 * np.exp(-0.5 * pdist(atoms.positions)).sum())


@pytest.fixture
def series() -> tuple[str, tuple[HelixPair, ...]]:
    return read_pairs(shared("data/derived_systems"), "AceAla{n}LysH")


def test_series_of_a_folder(series: tuple[str, tuple[HelixPair, ...]]) -> None:
    title, pairs = series
    assert title == "AceAla{n}LysH"
    assert [pair.n for pair in pairs] == [3, 5, 8, 10, 15]
    for pair in pairs:
        topology = topology_of(pair.alpha)
        alanines = np.unique(topology.residues[topology.residue_names == "ALA"])
        assert len(alanines) == pair.n and pair.alpha.info["charge"] == 1


def test_energies_without_relaxation(series: tuple[str, tuple[HelixPair, ...]], tmp_path: Path) -> None:
    pairs = series[1]
    found = stabilisation(pairs[::-1], Attraction(), relax=False)
    assert found.n.tolist() == [3, 5, 8, 10, 15]
    difference = np.array([by_hand(pair.alpha) - by_hand(pair.extended) for pair in pairs])
    assert found.difference == pytest.approx(difference, abs=1e-9)
    # between lengths that do not follow each other: per residue
    expected = [(difference[k] - difference[k - 1]) / (found.n[k] - found.n[k - 1]) for k in range(1, 5)]
    assert np.isnan(found.double_difference[0])
    assert found.double_difference[1:] == pytest.approx(expected, abs=1e-9)
    # a cap and n + 1 amino acids: an α helix has n - 2 bonds i -> i+4, and one i -> i+3 more at its end
    assert found.bonds_before.tolist() == found.bonds_after.tolist()
    assert ((found.n - 2 <= found.bonds_before) & (found.bonds_before <= found.n)).all()
    assert found.bonds_extended.tolist() == [0] * 5 and found.kept.all()
    draw(found, tmp_path / "a.png", "test")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_relaxation_lowers_both_and_says_what_became_of_the_helix(
    series: tuple[str, tuple[HelixPair, ...]],
) -> None:
    """Under an attraction of all pairs nothing holds: everything collapses, and the report says so."""
    pairs = series[1][:2]
    seen = set()
    found = stabilisation(
        pairs, Attraction(), max_steps=3, told=lambda n, form, step, largest: seen.add((n, form)) is not None
    )
    for k, pair in enumerate(pairs):
        assert found.alpha[k] < by_hand(pair.alpha) and found.extended[k] < by_hand(pair.extended)
        assert found.alpha[k] == pytest.approx(by_hand(found.structures[k].alpha), abs=1e-9)
    assert not found.converged.any()
    assert seen == {(n, form) for n in (3, 5) for form in ("alpha", "extended")}


def test_names_are_not_needed(series: tuple[str, tuple[HelixPair, ...]]) -> None:
    def bare(atoms: ase.Atoms) -> ase.Atoms:
        return ase.Atoms(numbers=atoms.numbers, positions=atoms.positions, info={"charge": 1})

    plain = [HelixPair(pair.n, bare(pair.alpha), bare(pair.extended)) for pair in series[1][:2]]
    assert not topology_of(plain[0].alpha).named
    named = stabilisation(series[1][:2], Attraction(), relax=False)
    found = stabilisation(plain, Attraction(), relax=False)
    assert found.bonds_before.tolist() == named.bonds_before.tolist()


def test_what_does_not_go_together(series: tuple[str, tuple[HelixPair, ...]], tmp_path: Path) -> None:
    three, five = series[1][:2]
    with pytest.raises(InputError, match="two chain lengths"):
        stabilisation([three], Attraction())
    with pytest.raises(InputError, match="two peptides with n = 3"):
        stabilisation([three, three], Attraction())
    with pytest.raises(InputError, match="different molecules"):
        stabilisation([three, HelixPair(5, five.alpha, three.extended)], Attraction())
    neutral = five.extended.copy()
    neutral.info["charge"] = 0
    with pytest.raises(InputError, match="charges 1 and 0"):
        stabilisation([three, HelixPair(5, five.alpha, neutral)], Attraction())
    with pytest.raises(InputError, match="holds no series"):
        read_pairs(shared("data/derived_systems"), "AceGly{n}Nme")
    with pytest.raises(InputError, match="names must be like"):
        read_pairs(tmp_path)
    with pytest.raises(InputError, match="no folder"):
        read_pairs(tmp_path / "nowhere")
