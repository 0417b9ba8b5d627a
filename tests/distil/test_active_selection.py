"""Query by committee: spreads as they are defined, groups in turn."""

import numpy as np
import pytest
import torch
from ase.build import molecule

import heliodor
from heliodor.distil.active import choose_by_disagreement, disagreement
from heliodor.errors import InputError
from heliodor.potentials.committee import Committee
from heliodor.train.dataset import Dataset
from heliodor.train.models import new_model


def test_spread_is_the_committees_own():
    random = np.random.default_rng(1)
    frames = []
    for name in ("H2O", "CH3OH", "H2CO"):
        frame = molecule(name)
        frame.positions += 0.1 * random.normal(size=frame.positions.shape)
        frames.append(frame)
    pool = Dataset.from_atoms(frames)
    members = [new_model("so3lr", "small", (1, 6, 8), pool, seed=seed) for seed in (1, 2, 3)]
    found = disagreement(members, pool)
    for member in members:
        member.eval()
    spread = heliodor.evaluate(Committee(members), frames).spread
    norms = torch.as_tensor(spread.force_norms).numpy()
    worst = np.maximum.reduceat(norms, pool.offsets[:-1])
    np.testing.assert_allclose(found, worst, rtol=1e-9)
    with pytest.raises(InputError, match="two models"):
        disagreement(members[:1], pool)


def test_groups_take_turns():
    spread = np.array([9.0, 8.0, 7.0, 1.0, 0.5, np.inf])
    groups = np.array(["a", "a", "a", "b", "", "c"])
    assert choose_by_disagreement(spread, groups, 3, limit=100.0).tolist() == [0, 3, 4]
    assert choose_by_disagreement(spread, groups, 4, limit=100.0).tolist() == [0, 3, 4, 1]
    assert choose_by_disagreement(spread, groups, 9).tolist() == [5, 0, 3, 4, 1, 2]
