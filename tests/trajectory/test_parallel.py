"""Blocks on several processes give what one gives, in order, and pass errors on."""

import numpy as np
import pytest

from heliodor.errors import InputError
from heliodor.trajectory import open_trajectory
from heliodor.trajectory.parallel import over_blocks
from trajectories import waters, write_frames


def totals(block, factor):
    return factor * block.positions.sum((1, 2)) + block.index


def test_two_processes_give_what_one_gives(tmp_path, rng):
    atoms = waters()
    positions = atoms.positions + rng.normal(0, 0.1, (11, len(atoms), 3))
    trajectory = open_trajectory(write_frames(tmp_path / "run.h5", atoms, positions))
    told: list[tuple[int, int]] = []
    one = np.concatenate(list(over_blocks(trajectory, totals, 2.0, start=1, stride=2)))
    two = np.concatenate(
        list(
            over_blocks(
                trajectory, totals, 2.0, start=1, stride=2, processes=2, progress=lambda a, b: told.append((a, b))
            )
        )
    )
    np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(one, 2 * positions[1::2].sum((1, 2)) + np.arange(1, 11, 2), rtol=1e-5)
    assert told[-1] == (5, 5)
    assert len(told) > 1
    with pytest.raises(InputError, match="holds no velocities"):
        list(over_blocks(trajectory, totals, 1.0, wanted=("velocities",), processes=2))
