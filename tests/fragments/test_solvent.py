"""Waters beside fragments: rigid, at the contacts asked for, everywhere around."""

from __future__ import annotations

import numpy as np
import pytest

from heliodor.errors import InputError
from heliodor.fragments.embed import embed
from heliodor.fragments.solvent import RADII, water, water_clusters, with_waters


def contact(here: np.ndarray, z_here: np.ndarray, there: np.ndarray, z_there: np.ndarray) -> float:
    """Nearest distance over the sum of van der Waals radii, pair by pair."""
    return min(
        float(np.linalg.norm(a - b)) / (RADII[int(m)] + RADII[int(n)])
        for a, m in zip(here, z_here, strict=True)
        for b, n in zip(there, z_there, strict=True)
    )


def test_water_is_at_the_contact_asked_for() -> None:
    fragment = embed("CC(=O)[O-]")[0]
    for wanted in (0.7, 1.2):
        for made in with_waters(fragment, 1, 20, contacts=(wanted, wanted)):
            n = len(fragment)
            np.testing.assert_array_equal(made.positions[:n], fragment.positions)
            found = contact(made.positions[:n], made.numbers[:n], made.positions[n:], made.numbers[n:])
            assert found == pytest.approx(wanted, abs=1e-6)
            oh = np.linalg.norm(made.positions[n + 1 :] - made.positions[n], axis=1)
            assert oh == pytest.approx([0.9572, 0.9572], abs=1e-9)
            assert {k: made.info[k] for k in ("charge", "spin", "kind", "group")} == fragment.info


def test_every_side_and_orientation() -> None:
    made = with_waters(water(), 1, 200, contacts=(1.0, 1.0))
    ways = np.stack([(a.positions[3] - a.positions[0]) / np.linalg.norm(a.positions[3] - a.positions[0]) for a in made])
    dipoles = np.stack([a.positions[4] + a.positions[5] - 2 * a.positions[3] for a in made])
    dipoles /= np.linalg.norm(dipoles, axis=1, keepdims=True)
    # the mean of 200 random directions has a length of 0.07 about
    assert np.linalg.norm(ways.mean(0)) < 0.3
    assert np.linalg.norm(dipoles.mean(0)) < 0.22
    assert (np.abs(ways).max(0) > 0.9).all()


def test_clusters() -> None:
    made = water_clusters(6, 3, seed=1)
    assert [len(a) // 3 for a in made] == [1, *[n for n in range(2, 7) for _ in range(3)]]
    for cluster in made:
        assert cluster.info["group"] == "O"
        for k in range(0, len(cluster), 3):
            others = np.delete(np.arange(len(cluster)), range(k, k + 3))
            if len(others):
                one = slice(k, k + 3)
                found = contact(
                    cluster.positions[one], cluster.numbers[one], cluster.positions[others], cluster.numbers[others]
                )
                assert 0.6 - 1e-6 <= found <= 1.6 + 1e-6
    again = water_clusters(6, 3, seed=1)
    assert all(a.positions.tobytes() == b.positions.tobytes() for a, b in zip(made, again, strict=True))
    assert water_clusters(2, 1, seed=2)[1].positions.tobytes() != made[1].positions.tobytes()


def test_numbers_in_turn_and_bad_input() -> None:
    assert [len(a) for a in with_waters(water(), [1, 3], 4)] == [6, 12, 6, 12]
    with pytest.raises(InputError, match="at least one water"):
        with_waters(water(), 0)
    with pytest.raises(InputError, match=r"at least 0\.3"):
        with_waters(water(), 1, contacts=(0.1, 1.0))
    with pytest.raises(InputError, match="at least one water"):
        water_clusters(0)
