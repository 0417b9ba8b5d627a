"""Liquids: densities from masses and volumes, contacts by all periodic images, numbers, refusals."""

from __future__ import annotations

import csv
import itertools

import numpy as np
import pytest

from support import shared

pytest.importorskip("rdkit")
pytest.importorskip("packmol")

from heliodor.errors import InputError
from heliodor.prepare.compounds import COMPOUNDS, known
from heliodor.prepare.liquids import counts_of, in_water, liquid, parse_component
from heliodor.prepare.molecules import molecule
from heliodor.topology import bonds_by_distance
from heliodor.trajectory.selection import is_ion, is_water


def grams_per_cm3(atoms) -> float:
    # 1 u = 1.66053906660e-24 g, 1 Å³ = 1e-24 cm³
    return float(atoms.get_masses().sum()) * 1.66053906660 / atoms.get_volume()


def closest(prepared) -> float:
    """Smallest distance between molecules over 27 images, without a neighbour list."""
    x, cell, molecules = prepared.atoms.positions, prepared.atoms.cell.array, prepared.topology.molecules
    best = np.inf
    for shift in itertools.product((-1, 0, 1), repeat=3):
        d = np.linalg.norm(x[:, None] - x[None] - np.array(shift) @ cell, axis=2)
        if shift == (0, 0, 0):
            d[molecules[:, None] == molecules[None]] = np.inf
        best = min(best, float(d.min()))
    return best


def test_water_and_ethanol_at_a_density():
    made = liquid(["water:64", "ethanol:10"], density=0.95)
    assert grams_per_cm3(made.atoms) == pytest.approx(0.95, abs=1e-4)
    assert made.atoms.get_chemical_formula("hill") == "C20H188O74"
    assert made.topology.molecules[-1] + 1 == 74
    assert is_water(made.topology).sum() == 192
    assert closest(made) > 1.5
    assert closest(made) == pytest.approx(made.details["closest_contact_A"], abs=1e-6)
    # each molecule in one piece, with its own bonds
    assert {tuple(b) for b in made.topology.bonds.tolist()} == {
        tuple(b) for b in bonds_by_distance(made.atoms).tolist()
    }
    assert len(np.unique(made.topology.residues)) == 74
    assert made.charge == 0


def test_pure_water_has_its_density():
    made = liquid(["water:64"])
    assert grams_per_cm3(made.atoms) == pytest.approx(0.99705, abs=5e-4)  # Kell 1975, 298.15 K
    assert made.atoms.cell.lengths() == pytest.approx([12.43] * 3, abs=0.01)


def test_a_box_and_ions():
    made = liquid(["water:60", "[Cl-]:2", "C[N+](C)(C)C:1"], box=[14.0, 14.0, 15.0])
    assert made.atoms.cell.lengths() == pytest.approx([14.0, 14.0, 15.0])
    assert made.charge == -1 == made.atoms.info["charge"]
    assert is_ion(made.topology).sum() == 2
    assert set(made.topology.residue_names.tolist()) == {"HOH", "CL", "MOL"}
    assert closest(made) > 1.5


def test_densities_are_those_measured():
    """Against the values OpenFF collected (Sage training set), at 298.15 K."""
    from rdkit import Chem

    path = shared("data/experimental/organic_liquids/openff_sage_train_v1.csv")
    ours = {Chem.CanonSmiles(c.smiles): c.density for c in COMPOUNDS.values()}
    compared = 0
    with path.open() as file:
        for row in csv.DictReader(file):
            at_room = row["Temperature (K)"] and abs(float(row["Temperature (K)"]) - 298.15) < 0.1
            if row["N Components"] == "1" and row["Density Value (g / ml)"] and at_room:
                smiles = Chem.CanonSmiles(row["Component 1"])
                if smiles in ours:
                    assert ours[smiles] == pytest.approx(float(row["Density Value (g / ml)"]), rel=0.006), smiles
                    compared += 1
    assert compared >= 5


def test_numbers_from_fractions():
    parts = [parse_component(c) for c in ("water:0.8", "ethanol:0.2")]
    assert counts_of(parts, molecules=100) == [80, 20]
    assert sum(counts_of(parts, molecules=33)) == 33
    # 0.8 x 3 + 0.2 x 9 = 4.2 atoms a molecule
    assert counts_of(parts, atoms=420, sizes=[3, 9]) == [80, 20]
    assert counts_of([parse_component("water")], molecules=7) == [7]


def test_names():
    assert known("Ethanol") == "ethanol"
    assert known("DMSO") == "dmso"
    assert known("ethylene_glycol") == "ethylene glycol"
    assert known("wather") is None
    # SMILES of a liquid known by name has its residue and density
    assert parse_component("CCO:3").residue == "EOH"
    assert parse_component("[CH3:1][OH:2]").amount == 1.0
    assert parse_component("[OH2]:5").residue == "HOH"


def test_seeds():
    first, again, other = (liquid(["water:10"], seed=seed).atoms.positions for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_a_molecule_in_water():
    solute = molecule("CC(=O)Nc1ccc(O)cc1", name="PCM")[0]
    made = in_water(solute, margin=4.0)
    n = len(solute.atoms)
    # the solute as it was, in the middle
    moved = made.atoms.positions[:n] - solute.atoms.positions
    assert np.ptp(moved, axis=0) == pytest.approx([0.0] * 3, abs=1e-4)
    middle = 0.5 * (made.atoms.positions[:n].max(0) + made.atoms.positions[:n].min(0))
    assert middle == pytest.approx(0.5 * made.atoms.cell.lengths(), abs=1e-3)
    assert is_water(made.topology).sum() == 3 * made.details["waters_added"]
    assert closest(made) > 1.5
    # solutions of organic molecules are about as dense as water
    assert 0.94 < grams_per_cm3(made.atoms) < 1.08
    assert set(made.topology.residue_names.tolist()) == {"PCM", "HOH"}
    with pytest.raises(InputError, match="either a margin"):
        in_water(solute)
    with pytest.raises(InputError, match="too small for a solute"):
        in_water(solute, box=[5.0])


@pytest.mark.parametrize(
    ("components", "options", "said"),
    [
        (["wather:64"], {}, "did you mean 'water'"),
        (["water:0"], {}, "cannot read"),
        (["water:-3"], {}, "cannot read"),
        (["water:many"], {}, "cannot read|neither"),
        ([":5"], {}, "cannot read"),
        ([], {}, "without components"),
        (["water:64"], {"density": 1.6}, "too dense"),
        (["water:64"], {"box": [5.0]}, "too dense"),
        (["hexane:1"], {"density": 0.655}, "too short for a molecule of"),
        (["water:64"], {"density": -1.0}, "above zero"),
        (["water:64"], {"density": float("nan")}, "above zero"),
        (["water:64"], {"density": 1.0, "box": [20.0]}, "not both"),
        (["water:64"], {"box": [20.0, 20.0]}, "one edge or three"),
        (["CCN:3"], {}, "density of CCN is not known"),
        (["water:1.5"], {}, "no whole number"),
        (["water:0.999", "ethanol:0.001"], {"molecules": 20}, "nothing is left of ethanol"),
        (["water:1"], {"molecules": 5, "atoms": 15}, "not both"),
        (["water:100000"], {}, "more than the 200000"),
        (["[Na+].[Cl-]:2"], {"density": 1.0}, "holds 2 molecules"),
    ],
)
def test_what_cannot_be_packed(components, options, said):
    with pytest.raises(InputError, match=said):
        liquid(components, **options)
