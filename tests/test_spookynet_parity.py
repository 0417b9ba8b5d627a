"""SpookyNet against the original code in float64, term by term; tolerances are a thousand times what is measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from heliodor.physics.tables import BOHR_2014, HARTREE_2014
from heliodor.potential import Prediction, evaluate_system
from heliodor.potentials.favor import Molecules
from heliodor.potentials.spookynet import SpookyNet
from heliodor.system import System
from spookynet_references import TERMS, embedded, everything, frames, model, split
from support import shared

EMBEDDED = embedded()


def compare(values: dict[str, np.ndarray], prediction: Prediction, rows: slice = slice(None), index: int = 0) -> None:
    """Structure `index`, whose atoms are `rows`, of a prediction with its reference values."""

    def close(found: torch.Tensor, quantity: str, tolerance: float) -> None:
        np.testing.assert_allclose(found, values[quantity], rtol=0, atol=tolerance, err_msg=quantity)

    close(prediction.energy[index : index + 1], "energy", 1e-10)
    close(prediction.forces[rows], "forces", 1e-10)
    close(prediction.charges[rows], "qa", 1e-12)
    close(prediction.dipole[index : index + 1], "dipole", 1e-11)
    for ours, theirs in TERMS.items():
        if ours in prediction.node_terms:
            close(prediction.node_terms[ours][rows], theirs, 1e-11)
        else:
            assert not values[theirs].any()


CASES = [(stem, name) for stem, structures in EMBEDDED.items() for name in structures]


@pytest.mark.parametrize(("stem", "name"), CASES, ids=[f"{stem}-{name}" for stem, name in CASES])
def test_embedded_reference(stem, name):
    compare(EMBEDDED[stem][name], evaluate_system(model(*split(stem)), System.from_atoms(frames()[name])))


@pytest.mark.parametrize("stem", EMBEDDED)
def test_embedded_references_in_one_batch(stem):
    structures = EMBEDDED[stem]
    system = System.from_atoms([frames()[name] for name in structures])
    prediction = evaluate_system(model(*split(stem)), system)
    first = 0
    for index, values in enumerate(structures.values()):
        rows = slice(first, first := first + len(values["qa"]))
        compare(values, prediction, rows, index)


def test_all_references_alone_and_in_one_batch():
    structures = frames(shared("reference/spookynet/structures.extxyz"))
    found = everything()
    assert len(found) >= 7 and sum(len(names) for names in found.values()) >= 108
    for stem, names in found.items():
        potential = model(*split(stem))
        together = evaluate_system(potential, System.from_atoms([structures[name] for name in names]))
        first = 0
        for index, (name, values) in enumerate(names.items()):
            compare(values, evaluate_system(potential, System.from_atoms(structures[name])))
            rows = slice(first, first := first + len(values["qa"]))
            compare(values, together, rows, index)


def test_the_batch_of_the_original():
    structures = frames(shared("reference/spookynet/structures.extxyz"))
    with np.load(shared("reference/spookynet/batch_parameters.npz")) as file:
        v = {key: file[key] for key in file.files}
    system = System.from_atoms([structures[name] for name in v["names"]])
    np.testing.assert_array_equal(system.batch, v["batch_seg"])
    prediction = evaluate_system(model("parameters"), system)
    for index, energy in enumerate(v["energy"]):
        rows = slice(*np.flatnonzero(v["batch_seg"] == index)[[0, -1]] + [0, 1])
        one = {key: v[key][rows] for key in ("forces", "qa", *TERMS.values())}
        compare({**one, "energy": energy[None], "dipole": v["dipole"][index : index + 1]}, prediction, rows, index)


@pytest.mark.parametrize("stem", ["parameters__lrNone", "parameters__lr10.583544", "random_legacy_T2F32_rc3.7__lrNone"])
def test_polarizabilities_and_dispersion_coefficients(stem):
    potential = model(*split(stem))
    for name, values in EMBEDDED[stem].items():
        system = System.from_atoms(frames()[name])
        pairs = potential.neighbors(system).long_range
        if not pairs.n_edges:
            # of a lone atom the original gives zeros
            continue
        r = pairs.vectors(system).norm(dim=-1) / BOHR_2014
        charges = torch.from_numpy(values["qa"])
        cn = potential.d4.coordination(r, pairs.i, pairs.j, system.numbers)
        static = potential.d4.static_polarizabilities(cn, system.numbers, charges)
        # the original has a table of its own for these, rounded after the arithmetic
        np.testing.assert_allclose(static, values["pa"], rtol=1e-6, atol=0)
        alpha = potential.d4.polarizabilities(cn, system.numbers, charges)
        c6 = 3.0 / np.pi * alpha.square() @ potential.d4.casimir_polder_weights
        np.testing.assert_allclose(HARTREE_2014 * BOHR_2014**6 * c6, values["c6"], rtol=1e-11, atol=0)


def inside(potential: SpookyNet, system: System) -> dict[str, torch.Tensor]:
    """What the original's intermediate values are called, from our parts."""
    edges = potential.neighbors(system)
    r = edges.vectors(system)
    molecules = Molecules.of(system, potential.config.n_features)
    around = potential.surroundings(edges, r, r.norm(dim=-1), system.n_atoms)
    z = potential.element[system.numbers] + potential.element_electrons(potential.electrons[system.numbers])
    found = {"rbf": around.basis, "z_nuc": z}
    found["x_charge"] = potential.charge_embedding(z, system.charge, molecules)
    found["x_spin"] = potential.spin_embedding(z, system.spin, molecules)
    x = potential.embed(system, molecules)
    for t, part in enumerate(potential.interactions):
        before = part.pre(x.unsqueeze(0)).squeeze(0)
        center, s, p, d, q, k, v = part.readers(before).unbind(0)
        found[f"mod{t}_local"] = part.local(part.messages(center, (s, p, d), around)).squeeze(0)
        found[f"mod{t}_nonlocal"] = part.attention(q, k, v, molecules)
        x, found[f"mod{t}_y"] = part(x, around, molecules)
        found[f"mod{t}_x"] = x
    found["features"] = potential.contributions(system, around, molecules)
    return found


@pytest.mark.parametrize("name", ["h2o", "ethanol", "acetate-", "ch2_triplet"])
def test_what_happens_inside(name):
    """Embeddings, radial functions and each module's parts, where a wrong number would first show."""
    atoms = frames(shared("reference/spookynet/structures.extxyz"))[name]
    for stem, structures in everything().items():
        values = structures[name]
        found = inside(model(*split(stem)), System.from_atoms(atoms))
        n_compared = 0
        for quantity, value in found.items():
            theirs = values[quantity]
            if quantity == "rbf":
                # ours are padded where not all pairs are listed; the order of edges is nobody's business
                value = value[value.abs().sum(1) > 0]
                value, theirs = (v[np.lexsort(v.round(9).T)] for v in (value.numpy(), theirs[theirs.sum(1) > 0]))
            np.testing.assert_allclose(value, theirs, rtol=0, atol=1e-11, err_msg=f"{stem} {quantity}")
            n_compared += 1
        assert n_compared == 5 + 4 * model(*split(stem)).config.n_modules
