"""SO3LR against the original code in float64, term by term; tolerances are about a thousand times what is measured."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
import torch

import heliodor
from heliodor.potential import evaluate_system
from heliodor.potentials.angular import spherical_harmonics
from heliodor.potentials.radial import polynomial_cutoff
from heliodor.system import System
from support import TERMS, Reference, embedded_references, shared, shared_references

EMBEDDED = embedded_references()


def compare(reference: Reference, index: int, rows: slice, prediction: heliodor.Prediction) -> None:
    """Structure `index`, whose atoms are `rows`, of a prediction with its reference values."""
    v = reference.values
    assert set(prediction.terms) == set(TERMS)
    for ours, theirs in TERMS.items():
        np.testing.assert_allclose(prediction.terms[ours][index], v[theirs], rtol=0, atol=1e-8, err_msg=ours)
    np.testing.assert_allclose(prediction.energy[index], v["energy"], rtol=0, atol=1e-8)
    forces = prediction.forces[rows]
    np.testing.assert_allclose(forces[v.get("force_rows", slice(None))], v["forces"], rtol=0, atol=1e-8)
    np.testing.assert_allclose(prediction.charges[rows], v["partial_charges"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(prediction.hirshfeld_ratios[rows], v["hirshfeld_ratios"], rtol=0, atol=1e-9)
    if "dipole" in v:
        # the reference coordinates lie up to 500 Å from the origin
        np.testing.assert_allclose(prediction.dipole[index], v["dipole"], rtol=0, atol=1e-8)
    for ours, theirs in (("zbl", "zbl_atomic"), ("electrostatics", "elec_atomic"), ("dispersion", "disp_atomic")):
        if theirs in v:
            np.testing.assert_allclose(prediction.node_terms[ours][rows], v[theirs], rtol=0, atol=1e-8)


@pytest.mark.parametrize("reference", EMBEDDED, ids=[r.name for r in EMBEDDED])
def test_embedded_reference(reference, so3lr_at):
    prediction = heliodor.evaluate(so3lr_at(reference.cutoff), reference.atoms)
    compare(reference, 0, slice(None), prediction)
    if "stress" in reference.values:
        np.testing.assert_allclose(prediction.stress[0], reference.values["stress"], rtol=0, atol=1e-10)
    else:
        assert prediction.stress is None


def test_the_embedded_references_are_what_their_readme_says():
    assert len(EMBEDDED) == 16
    assert {r.cutoff for r in EMBEDDED} == {None, 12.0, 1000.0}
    assert {float(r.values["total_charge"]) for r in EMBEDDED} == {-2.0, -1.0, 0.0, 1.0}
    assert {z for r in EMBEDDED for z in r.values["numbers"].tolist()} == {1, 6, 7, 8, 9, 15, 16, 17}


def test_all_references_in_batches(so3lr_at):
    """The whole set, structures of equal cutoff in one System; stress where the batch is periodic."""
    references = shared_references()
    assert len(references) >= 50

    def kind(r: Reference) -> tuple[float, bool]:
        return (np.inf if r.cutoff is None else r.cutoff, "cell" in r.values)

    for (_, periodic), group in groupby(sorted(references, key=kind), key=kind):
        members = list(group)
        system = System.from_atoms([r.atoms for r in members])
        potential = so3lr_at(members[0].cutoff)
        prediction = evaluate_system(potential, system, stress=periodic)
        first = 0
        for index, reference in enumerate(members):
            rows = slice(first, first := first + len(reference.values["numbers"]))
            compare(reference, index, rows, prediction)
            if periodic:
                np.testing.assert_allclose(prediction.stress[index], reference.values["stress"], rtol=0, atol=1e-10)


def test_all_references_one_by_one(so3lr_at):
    """The whole set again, alone: a batch must not lend anything to its members."""
    for reference in shared_references():
        if reference.name not in {r.name for r in EMBEDDED}:
            compare(reference, 0, slice(None), heliodor.evaluate(so3lr_at(reference.cutoff), reference.atoms))


@pytest.mark.parametrize("name", ["two_waters_11A", "sapt_01533_cat"])
def test_intermediates(name, so3lr_at):
    """Radial functions, harmonics and features after each layer, where a wrong number would first show."""
    with np.load(shared(f"reference/so3lr/intermediates_{name}.npz"), allow_pickle=False) as file:
        v = {key: torch.from_numpy(file[key]) for key in file.files}
    (reference,) = (r for r in EMBEDDED if r.name == name)
    network = so3lr_at(reference.cutoff).network
    d = v["d_ij"]
    torch.testing.assert_close(network.basis(d), v["rbf"], rtol=0, atol=1e-13)
    torch.testing.assert_close(polynomial_cutoff(d, 4.5), v["f_cut"], rtol=0, atol=1e-13)
    ours = spherical_harmonics(v["r_ij"] / d.unsqueeze(-1), (1, 2, 3, 4))
    torch.testing.assert_close(ours, v["Y"], rtol=0, atol=1e-13)
    system = System.from_atoms(reference.atoms)
    x = network.embed(system.numbers, system.charge, system.spin, system.batch)
    torch.testing.assert_close(x, v["x_embed"], rtol=0, atol=1e-12)
    half = v["i"] < v["j"]
    edges = network.geometry(v["i"][half], v["j"][half], v["r_ij"][half], d[half])
    ev = None
    for index, layer in enumerate(network.layers):
        x, ev = layer(x, ev, edges)
        torch.testing.assert_close(x, v[f"x_layer{index}"], rtol=0, atol=1e-11)
        torch.testing.assert_close(ev, v[f"ev_layer{index}"], rtol=0, atol=1e-11)


def test_reference_code_is_size_consistent_only_when_neutral(so3lr):
    """A known property of the published model, kept: a far charge changes everybody's embedding."""
    (reference,) = (r for r in EMBEDDED if r.name == "sapt_01533_cat")
    cation = reference.atoms
    water = next(r for r in EMBEDDED if r.name == "two_waters_11A").atoms[:3]
    water.positions += cation.positions.mean(0) + 2000.0
    alone = heliodor.evaluate(so3lr, [cation, water])
    together = heliodor.evaluate(so3lr, cation + water, charge=1)
    gap = float(together.terms["so3krates"][0] - alone.terms["so3krates"].sum())
    assert abs(gap) > 1e-3
