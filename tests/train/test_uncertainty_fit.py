"""Fitted uncertainties: coverage on what was never used, distance, invariances, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import heliodor
from heliodor.errors import InputError, ModelError
from heliodor.potential import evaluate_system
from heliodor.system import System
from heliodor.train.conformal import conformal_scale, groups_of
from heliodor.train.dataset import Dataset
from heliodor.train.ridge import STRENGTHS, ridge
from heliodor.train.uncertainty import coverage, fit_uncertainty
from heliodor.uncertainty import ForceError, ForceErrorConfig
from uncertain import NAMES, calibration, fresh, labelled, mini, shaken


@pytest.fixture(scope="module")
def unused() -> Dataset:
    return labelled(shaken(NAMES, 8, 0.05, 5, "same") + shaken(NAMES, 2, 0.15, 6, "hot"))


def test_exchangeable_structures_are_covered(unused):
    """280 structures made in the same way: within three errors of the 112 it was calibrated on and of these."""
    same = unused.take(np.flatnonzero(unused.kind == "same"))
    row = coverage(mini(), same).all
    calibrated = mini().uncertainty.config.calibration["calibration_structures"]
    error = np.sqrt(row.error**2 + row.error**2 * row.structures / calibrated)
    assert abs(row.by_structures - 0.9) < 3.0 * error < 0.1
    assert row.rank_correlation > 0.4


def test_the_coverage_of_many_random_calibrations_is_the_level(unused, rng):
    """Scores of a real model and its widths, split at random: 90 % and 1/(K + 1) more at the most."""
    same = unused.take(np.flatnonzero(unused.kind == "same"))
    system = System.from_atoms([same.atoms(k) for k in range(len(same))])
    p = evaluate_system(mini(), system)
    scores = np.linalg.norm(p.forces.numpy() - same.forces, axis=1) / p.force_error.double().numpy()
    owner = np.repeat(np.arange(len(same)), same.counts)
    found = []
    for _ in range(300):
        chosen = np.isin(owner, rng.permutation(len(same))[:60])
        scale = conformal_scale(scores[chosen], owner[chosen], owner[chosen], 0.9)
        inside = (scores[~chosen] <= scale).astype(float)
        left = owner[~chosen]
        found.append((np.bincount(left, inside)[np.unique(left)] / same.counts[np.unique(left)]).mean())
    error = np.std(found) / np.sqrt(len(found))
    assert 0.9 - 3.0 * error < np.mean(found) < 0.9 + 1.0 / 61 + 3.0 * error


def test_far_from_what_it_knows_the_error_is_told_to_be_larger(unused):
    found = coverage(mini(), unused)
    assert found.row("hot").half_width > 1.5 * found.row("same").half_width
    assert found.row("hot").mean_error > 1.5 * found.row("same").mean_error


def test_along_a_ray_from_the_training_set_the_width_never_falls_and_grows_with_the_distance():
    error = mini().uncertainty.double()
    try:
        generator = torch.Generator().manual_seed(3)
        f = error.config.n_features
        rays = torch.randn(40, f, generator=generator).double()
        numbers = torch.full((40,), 6)
        at = error.mean[error.row[numbers]]
        unit = rays / (error.distance(at + rays, numbers) / error.radius).unsqueeze(-1)
        widths = torch.stack([error(at + t * unit, numbers) for t in (1.0, 1.5, 3.0, 30.0)])
        assert (widths.diff(dim=0) > 0).all()
        torch.testing.assert_close(widths[3], 30.0 * widths[0])
    finally:
        error.float()


def test_it_turns_and_permutes_with_the_atoms(rng):
    model = mini()
    atoms = shaken(("CH3CONH2",), 1, 0.05, 11)[0]
    first = heliodor.evaluate(model, atoms).force_error
    turned = atoms.copy()
    turned.rotate(77.0, (1, -2, 3))
    turned.positions += 5.0
    order = rng.permutation(len(atoms))
    torch.testing.assert_close(heliodor.evaluate(model, turned).force_error, first, rtol=1e-4, atol=0)
    torch.testing.assert_close(heliodor.evaluate(model, atoms[order]).force_error, first[order], rtol=1e-4, atol=0)


def test_energies_and_forces_stay_to_the_last_bit():
    plain, told = heliodor.load("heliodor-mini", device="cpu", kernels="reference"), mini()
    plain.uncertainty = None
    atoms = shaken(("CH3OH",), 1, 0.05, 12)[0]
    a, b = heliodor.evaluate(plain, atoms), heliodor.evaluate(told, atoms)
    assert torch.equal(a.energy, b.energy) and torch.equal(a.forces, b.forces)
    assert a.force_error is None and b.force_error.shape == (len(atoms),)
    assert bool((b.force_error > 0).all()) and not b.force_error.requires_grad


def test_a_synthetic_model_of_the_error_is_found_again(rng):
    """Errors that are normal with widths known from features: the fitted widths are proportional to the true ones."""
    from heliodor.train.uncertainty import _placed, _regress, _Seen, _widths

    n, f = 6000, 6
    x = torch.from_numpy(rng.normal(size=(n, f)))
    sigma = np.exp(0.5 * x[:, 0].numpy())
    seen = _Seen(
        features=x,
        widths=np.full(n, np.nan),
        errors=sigma * np.linalg.norm(rng.normal(size=(n, 3)), axis=1),
        numbers=np.full(n, 6),
        structure=np.arange(n),
        group=np.arange(n),
        kind=np.full(n, ""),
    )
    error = _placed(mini(), seen, 0.9)
    _regress(error, seen)
    ratio = np.log(_widths(error, seen) / sigma)
    inside = (error.distance(x, torch.full((n,), 6)) < error.radius).numpy()
    assert ratio[inside].std() < 0.06


def test_ridge_is_least_squares_where_there_is_much_to_learn_from(rng):
    x = rng.normal(size=(4000, 3))
    y = x @ [1.0, -2.0, 0.5] + 0.1 * rng.normal(size=4000)
    found, strength = ridge(x, y, np.ones(4000), np.arange(4000))
    assert strength == STRENGTHS[0]
    np.testing.assert_allclose(found, [1.0, -2.0, 0.5], atol=0.01)
    noise, strongest = ridge(x, rng.normal(size=4000), np.ones(4000), np.arange(4000) // 100)
    assert strongest >= 1.0 and np.abs(noise).max() < 0.05


@pytest.mark.parametrize("architecture", ["mace", "spookynet"])
def test_other_architectures_have_it_too(architecture):
    """Shapes with random parameters are as far off as can be, and say so with the right coverage."""
    from heliodor.train.models import new_model

    data = calibration()
    model = new_model(architecture, "small", (1, 6, 7, 8, 16, 17), data).float()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.05 * torch.randn(p.shape, generator=generator)
    fit_uncertainty(model, data, data.take(np.arange(0, len(data), 2)))
    row = coverage(model, data.take(np.arange(1, len(data), 2))).all
    assert abs(row.by_structures - 0.9) < 0.12


def test_what_cannot_be_fitted_is_refused():
    data, model = calibration(), fresh()
    few = data.take(np.arange(12))
    with pytest.raises(InputError, match="12 independent groups"):
        fit_uncertainty(model, data, few)
    with pytest.raises(InputError, match="between 0 and 1"):
        fit_uncertainty(model, data, data, level=90.0)
    with pytest.raises(InputError, match="labelled forces"):
        fit_uncertainty(model, data, Dataset.from_atoms(shaken(NAMES, 1, 0.05, 2)))
    assert model.uncertainty is not None
    model.uncertainty = None
    with pytest.raises(ModelError, match="no uncertainty"):
        coverage(model, data)


def test_features_that_do_not_vary_are_refused():
    """An untrained SpookyNet's do not."""
    from heliodor.train.models import new_model

    data = calibration()
    model = new_model("spookynet", "small", (1, 6, 7, 8, 16, 17), data).float()
    with pytest.raises(ModelError, match="the same for all atoms of an element"):
        fit_uncertainty(model, data, data)
    assert model.uncertainty is None


def test_one_molecule_in_many_frames_is_one_group():
    data = calibration()
    many = Dataset(**{**vars(data), "group": np.full(len(data), "ethanol")})
    with pytest.raises(InputError, match="1 independent groups"):
        fit_uncertainty(fresh(), data, many)


def test_groups_are_kept_apart_when_they_are_split():
    model = fresh()
    data = calibration()
    named = Dataset(**{**vars(data), "group": np.array([f"pair {k // 2}" for k in range(len(data))])})
    notes = fit_uncertainty(model, data, named).uncertainty.config.calibration
    assert notes["calibration_groups"] == len(np.unique(groups_of(named.group))) - round(0.6 * 140)
    assert notes["calibration_structures"] == 2 * notes["calibration_groups"]


def test_an_element_without_examples_is_no_accident():
    error = ForceError(ForceErrorConfig(4, (1, 6), 0.9, 1.0, ""))
    assert ForceErrorConfig.from_dict(error.config.to_dict()) == error.config
    assert error(torch.zeros(2, 4), torch.tensor([1, 6])).shape == (2,)
