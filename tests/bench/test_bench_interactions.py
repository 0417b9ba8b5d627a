"""Arithmetic of reactions on a pair potential; protocols for ions; matching of monomers; SO3LR on the water dimer."""

from __future__ import annotations

import ase
import numpy as np
import pytest
from ase.build import molecule
from bench_toys import SpoiledPairs, between, within, write_set

import heliodor
from heliodor.bench.complexes import binding_of
from heliodor.bench.interactions import Evaluator, energies_of
from heliodor.bench.reactions import Reaction, ReactionSet, read_set
from heliodor.units import KCAL_PER_MOL
from support import DATA

A = ase.Atoms("He2", [[0.0, 0.0, 0.0], [0.0, 0.0, 0.5]])
B = ase.Atoms("Ne", [[0.0, 2.0, 0.1]])
C = ase.Atoms("Ar", [[2.5, 1.0, 0.0]])


def with_charge(atoms: ase.Atoms, charge: float) -> ase.Atoms:
    atoms = atoms.copy()
    atoms.info["charge"] = charge
    return atoms


def evaluator(potential, structures, *reactions, protocol="fragments"):
    terms = tuple(Reaction(f"r{k}", tuple(t), 0.25 * k - 1.0) for k, t in enumerate(reactions))
    data = ReactionSet("toy", "", "", structures, terms, "0")
    return Evaluator(potential, data, lambda r, d: "", lambda r: float("nan"), protocol)


def rows(potential, structures, *reactions, **options):
    made = evaluator(potential, structures, *reactions, **options)
    return list(made.rows([r.name for r in made.data.reactions]))


AB = [("AB", 1.0), ("A", -1.0), ("B", -1.0)]


@pytest.mark.parametrize("charges", [(0.0, 0.0), (1.0, 0.0), (1.0, -1.0), (2.0, 1.0)])
@pytest.mark.parametrize("protocol", ["fragments", "relaxed"])
def test_a_rigid_complex_is_the_pairs_between_its_monomers(charges, protocol):
    structures = {
        "AB": with_charge(A + B, sum(charges)),
        "A": with_charge(A, charges[0]),
        "B": with_charge(B, charges[1]),
    }
    (row,) = rows(SpoiledPairs(), structures, AB, protocol=protocol)
    assert row.how == protocol
    assert row.value == pytest.approx(between(A, B) / KCAL_PER_MOL, abs=1e-9)
    assert row.reference == -1.0


def test_the_other_sign_of_a_set_is_turned():
    """S66 has positive energies for what is bound; rows of either kind are interaction energies."""
    structures = {"AB": A + B, "A": A, "B": B}
    (row,) = rows(SpoiledPairs(), structures, [(name, -c) for name, c in AB])
    assert row.value == pytest.approx(between(A, B) / KCAL_PER_MOL, abs=1e-9)
    assert row.reference == 1.0


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("charges", [(0.0, 0.0), (1.0, 0.0), (1.0, -1.0)])
def test_relaxed_monomers_pay_their_deformation(charges, keeps):
    """He2 at 0.5 Å alone, at 0.6 Å in the complex."""
    bent = A.copy()
    bent.positions[1, 2] = 0.6
    structures = {
        "AB": with_charge(bent + B, sum(charges)),
        "A": with_charge(A, charges[0]),
        "B": with_charge(B, charges[1]),
    }
    (row,) = rows(SpoiledPairs(keeps), structures, AB)
    exact = between(bent, B) + within(bent) - within(A)
    assert row.value == pytest.approx(exact / KCAL_PER_MOL, rel=1e-9)
    assert row.how == ("sum" if charges == (0.0, 0.0) else "fragments" if keeps else "pulled apart")


@pytest.mark.parametrize("charge", [0.0, 1.0])
def test_a_model_that_cannot_keep_fragments_apart(charge):
    """Neutral ones are subtracted; ions are compared with the same complex pulled apart."""
    structures = {"AB": with_charge(A + B, charge), "A": with_charge(A, charge), "B": B}
    potential = SpoiledPairs(keeps_fragments=False)
    (row,) = rows(potential, structures, AB)
    assert row.how == ("pulled apart" if charge else "sum")
    assert row.value == pytest.approx(between(A, B) / KCAL_PER_MOL, abs=1e-9)
    subtracted = energies_of(potential, [structures["AB"], structures["A"], structures["B"]])
    wrong = abs(subtracted[0] - subtracted[1] - subtracted[2] - between(A, B))
    assert wrong == pytest.approx(0.7 * charge, abs=1e-9)


def test_three_body_energies_of_a_pair_potential_vanish():
    structures = {
        "ABC": A + B + C, "AB": A + B, "AC": A + C, "BC": B + C, "A": A, "B": B, "C": C,
    }  # fmt: skip
    signs = {"ABC": 1.0, "AB": -1.0, "AC": -1.0, "BC": -1.0, "A": 1.0, "B": 1.0, "C": 1.0}
    three, pair = rows(SpoiledPairs(), structures, list(signs.items()), [("ABC", 1.0), ("AB", -1.0), ("C", -1.0)])
    assert three.how == "sum"
    assert three.value == pytest.approx(0.0, abs=1e-9)
    assert pair.value == pytest.approx(between(A + B, C) / KCAL_PER_MOL, abs=1e-9)


def test_conformers_of_ions_are_compared_and_charge_transfer_is_not():
    bent = A.copy()
    bent.positions[1, 2] = 0.6
    ions = {
        "1": with_charge(A, 1.0), "2": with_charge(bent, 1.0), "B+": with_charge(B, 1.0), "A": A, "B": B,
    }  # fmt: skip
    shape, transfer = rows(
        SpoiledPairs(), ions, [("2", 1.0), ("1", -1.0)], [("1", 1.0), ("B", 1.0), ("A", -1.0), ("B+", -1.0)]
    )
    assert shape.value == pytest.approx((within(bent) - within(A)) / KCAL_PER_MOL, rel=1e-9)
    assert "no common zero" in transfer.skipped
    assert np.isnan(transfer.value)


def test_what_a_model_cannot_take_is_named_and_the_rest_computed():
    xenon = ase.Atoms("Xe", [[0.0, 3.0, 0.0]])
    spot = ase.Atoms("Ne", [[0.0, 0.0, 0.51]])
    structures = {"AB": A + B, "A": A, "B": B, "AX": A + xenon, "X": xenon, "AS": A + spot, "S": spot}
    found = rows(
        SpoiledPairs(), structures, AB, [("AX", 1.0), ("A", -1.0), ("X", -1.0)], [("AS", 1.0), ("A", -1.0), ("S", -1.0)]
    )
    assert found[0].value == pytest.approx(between(A, B) / KCAL_PER_MOL, abs=1e-9)
    assert found[1].skipped == "elements unknown to the model: Xe"
    assert "two atoms on one spot" in found[2].skipped


# which atoms are which ---------------------------------------------------------------------------------------


def waters(count: int) -> ase.Atoms:
    found = ase.Atoms()
    for k in range(count):
        one = molecule("H2O")
        one.positions += (0.0, 0.0, 2.9 * k)
        found += one
    return found


def binding(whole, *parts):
    structures = {"whole": whole} | {f"{k}": one for k, one in enumerate(parts)}
    terms = (("whole", 1.0), *((f"{k}", -1.0) for k in range(len(parts))))
    return binding_of(Reaction("r", terms, 0.0), structures)


def test_monomers_are_found_in_any_order_of_atoms(rng):
    alcohol = molecule("CH3OH")
    alcohol.positions += (0.0, 0.0, 4.0)
    whole = molecule("H2O") + alcohol
    truth = np.repeat([0, 1], [3, 6])
    for _ in range(5):
        order = rng.permutation(9)
        turned = alcohol.copy()
        turned.rotate(50.0, (1, 2, 3))
        found = binding(whole[order], molecule("H2O"), turned)
        np.testing.assert_array_equal(found.fragments, truth[order])
        assert found.deformed == (False, False)


def test_two_conformers_of_one_formula_go_where_they_fit():
    long = ase.Atoms("He2", [[0.0, 0.0, 0.0], [0.0, 0.0, 0.6]])
    whole = long.copy()
    whole.positions += (0.0, 5.0, 0.0)
    found = binding(whole[[0]] + A + whole[[1]], A, long)
    np.testing.assert_array_equal(found.fragments, [1, 0, 0, 1])
    assert found.deformed == (False, False)


def test_a_shared_proton_belongs_to_the_nearer_water():
    """H5O2+ with its proton 1.15 Å from one oxygen and 1.25 Å from the other."""
    ion = ase.Atoms("O2H5", [[0, 0, 0], [0, 0, 2.4], [0, 0, 1.15], [0.8, 0.5, -0.3], [-0.8, 0.5, -0.3],
                             [0.8, -0.5, 2.7], [-0.8, -0.5, 2.7]])  # fmt: skip
    ion.info["charge"] = 1.0
    hydronium = with_charge(ase.Atoms("OH3", [[0, 0, 0], [0.9, 0, 0.3], [-0.5, 0.8, 0.3], [-0.5, -0.8, 0.3]]), 1.0)
    found = binding(ion, molecule("H2O"), hydronium)
    np.testing.assert_array_equal(found.fragments, [1, 0, 1, 1, 1, 0, 0])
    np.testing.assert_array_equal(found.charges, [0.0, 1.0])


def test_a_cluster_of_many_waters():
    cluster = waters(9)
    cluster.positions[1] += (0.0, 0.05, 0.0)
    found = binding(cluster, *[molecule("H2O")] * 9)
    for k in range(9):
        assert len(set(found.fragments[3 * k : 3 * k + 3])) == 1
    assert sum(found.deformed) == 1


# SO3LR -------------------------------------------------------------------------------------------------------


def test_water_dimer_of_s66x8(so3lr):
    """Against CCSD(T) of S66x8, and against fragments written by hand."""
    data = read_set(DATA / "bench" / "S66x8_part.json")
    dimers = [r for r in data.reactions if r.name.startswith("Water-Water")]
    made = Evaluator(so3lr, data, lambda r, d: "", lambda r: float("nan"))
    found = list(made.rows([r.name for r in dimers]))
    assert [row.name for row in found] == [
        f"Water-Water_{x}" for x in ["0.90", "0.95", "1.00", "1.05", "1.10", "1.25", "1.50", "2.00"]
    ]
    assert found[2].reference == -4.951
    # what SO3LR learned from, PBE0+MBD, binds water by some tenths of kcal/mol more than CCSD(T)
    assert max(abs(row.error) for row in found) < 1.2
    assert int(np.argmin([row.value for row in found])) in (1, 2)
    for row in found[::3]:
        atoms = data.structures[row.name]
        atoms.info.pop("spin_multiplicity", None)
        by_hand = heliodor.interaction_energy(so3lr, atoms, [0, 0, 0, 1, 1, 1], [0.0, 0.0])
        assert row.value == pytest.approx(by_hand / KCAL_PER_MOL, abs=1e-7)


def test_neutral_fragments_far_apart_do_not_interact(so3lr):
    """Size consistency. In a plain sum the charges of both are made neutral together: 0.0016 kcal/mol are left."""
    far = molecule("CH3OH")
    far.positions += (0.0, 0.0, 500.0)
    structures = {"AB": molecule("H2O") + far, "A": molecule("H2O"), "B": far}
    (row,) = rows(so3lr, structures, AB)
    assert row.how == "fragments"
    assert abs(row.value) < 1e-6
    energy = energies_of(so3lr, [structures[name] for name in ("AB", "A", "B")])
    assert energy[0] - energy[1] - energy[2] == pytest.approx(0.0, abs=5e-3 * KCAL_PER_MOL)


def test_a_shared_set_matches_everywhere():
    """Every complex of IONICHB and SSI500 is a rigid one, whatever the order of its atoms."""
    from support import shared

    for name, count in (("IONICHB", 120), ("SSI500", 500)):
        data = read_set(shared(f"data/nci_refdata/{name}.json"))
        found = [binding_of(r, data.structures) for r in data.reactions[::7]]
        assert all(b is not None and not any(b.deformed) for b in found)
        assert len(data.reactions) == count
        for b in found:
            assert b.charges.sum() == data.structures[b.complex].info["charge"]


def test_many_at_once_give_what_each_gives_alone(tmp_path):
    """Batches: many reactions at once give what each gives alone."""
    structures, reactions = {"A": A, "B": B}, []
    for k in range(40):
        moved = B.copy()
        moved.positions += (0.0, 0.1 * k, 0.0)
        structures[f"AB{k}"] = A + moved
        reactions.append({"terms": [[f"AB{k}", 1], ["A", -1], ["B", -1]], "ref": 0.0})
    data = read_set(write_set(tmp_path, structures, reactions))
    potential = SpoiledPairs()
    made = Evaluator(potential, data, lambda r, d: "", lambda r: float("nan"))
    many = [row.value for row in made.rows([r.name for r in data.reactions])]
    assert potential.calls == 2
    moved = [between(A, structures[f"AB{k}"][2:]) / KCAL_PER_MOL for k in range(40)]
    np.testing.assert_allclose(many, moved, rtol=1e-6, atol=1e-6)
