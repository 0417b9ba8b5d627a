"""Matching features: principal components as scikit-learn has them, and a student that can match does."""

import copy

import numpy as np
import pytest
import torch
from ase.build import molecule

import heliodor
from heliodor.distil.features import _Edges, last_features, match_features, principal_components
from heliodor.errors import InputError
from heliodor.train.batches import find_lists
from heliodor.train.dataset import Dataset
from heliodor.train.models import new_model


@pytest.fixture(scope="module")
def teacher():
    return heliodor.load("heliodor-mini", dtype="float32")


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(4)
    frames = []
    for k in range(40):
        frame = molecule(("H2O", "CH3OH", "NH3", "C2H6", "CH3CHO")[k % 5])
        frame.positions += 0.05 * random.normal(size=frame.positions.shape)
        frames.append(frame)
    return Dataset.from_atoms(frames)


def test_components_are_whitened_principal_components(teacher, data):
    decomposition = pytest.importorskip("sklearn.decomposition")
    lists = find_lists(data, _Edges(teacher.cutoff), None)
    found = principal_components(teacher, lists, 6)
    with torch.no_grad():
        features = last_features(teacher, lists, np.arange(len(data)))
    mine = found.of(features).numpy()
    pca = decomposition.PCA(6, whiten=True, svd_solver="full").fit(features.double().numpy())
    theirs = pca.transform(features.double().numpy())[:, ::-1] * np.sqrt(len(mine) / (len(mine) - 1))
    np.testing.assert_allclose(np.abs(mine), np.abs(theirs), atol=2e-3)
    assert found.share == pytest.approx(pca.explained_variance_ratio_.sum(), rel=1e-5)


def test_the_teacher_itself_tells_its_features(teacher, data):
    twin = copy.deepcopy(teacher).requires_grad_(True)
    hint = match_features(twin, teacher, data, 4, 40.0, batch_size=8)
    assert hint.explained > 0.9


def test_a_stranger_learns_them_and_keeps_its_dtype(teacher, data):
    student = new_model("so3lr", {"preset": "small", "n_features": 32, "n_layers": 1}, (1, 6, 7, 8), data)
    short = match_features(copy.deepcopy(student), teacher, data, 8, 1.0, batch_size=8)
    long = match_features(student, teacher, data, 8, 30.0, batch_size=8)
    assert student.dtype == torch.float64
    assert long.explained > max(short.explained, 0.0) + 0.2


def test_what_cannot_be_matched(teacher, data):
    mace = new_model("mace", "small", (1, 6, 7, 8), data)
    with pytest.raises(InputError, match="SO3LR's form"):
        match_features(mace, teacher, data, 4, 1.0)
    with pytest.raises(InputError, match="components can be matched"):
        match_features(copy.deepcopy(teacher), teacher, data, 999, 1.0)
