"""Lewis structures from bonds alone: with all hydrogens there, the number of neighbours of an atom says what it is.

Each atom may take one of a few states: how many more bonds it forms than it has neighbours, and its formal charge. The
cheapest choice of states and bond orders that fit together is found by integer programming, one conjugated piece at a
time: neutral where possible, negative charge on oxygen and sulfur, positive on nitrogen.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

State = tuple[int, int, float]
"""Bonds beyond the neighbours, formal charge, cost."""

_FOUR: dict[int, tuple[State, ...]] = {4: ((0, 0, 0.0),)}
_HALOGEN: dict[int, tuple[State, ...]] = {
    1: ((0, 0, 0.0),),
    2: ((1, 0, 0.0),),
    3: ((2, 0, 0.0),),
    4: ((3, 0, 0.0),),
}
_PNICTOGEN: dict[int, tuple[State, ...]] = {
    3: ((0, 0, 0.0),),
    4: ((1, 0, 0.0), (0, 1, 0.5)),
    5: ((0, 0, 0.0),),
    6: ((0, -1, 0.0),),
}
_CHALCOGEN: dict[int, tuple[State, ...]] = {
    1: ((1, 0, 0.0), (0, -1, 1.0)),
    2: ((0, 0, 0.0), (2, 0, 0.5)),
    3: ((1, 0, 0.0), (3, 0, 0.1), (0, 1, 0.5)),
    4: ((2, 0, 0.0), (0, 0, 0.3)),
    5: ((1, 0, 0.0),),
    6: ((0, 0, 0.0),),
}

STATES: dict[int, dict[int, tuple[State, ...]]] = {
    1: {1: ((0, 0, 0.0),)},
    5: {3: ((0, 0, 0.0),), 4: ((0, -1, 0.0),)},
    6: {4: ((0, 0, 0.0),), 3: ((1, 0, 0.0),), 2: ((2, 0, 0.0),), 1: ((2, -1, 2.0),)},
    7: {
        4: ((0, 1, 0.0),),
        3: ((0, 0, 0.0), (1, 1, 1.1)),
        2: ((1, 0, 0.0), (0, -1, 1.5), (2, 1, 2.5)),
        1: ((2, 0, 0.0), (1, -1, 1.0)),
    },
    8: {3: ((0, 1, 0.0),), 2: ((0, 0, 0.0),), 1: ((1, 0, 0.0), (0, -1, 1.0), (2, 1, 3.0))},
    9: {1: ((0, 0, 0.0),)},
    14: _FOUR,
    15: _PNICTOGEN,
    16: _CHALCOGEN,
    17: _HALOGEN,
    32: _FOUR,
    33: _PNICTOGEN,
    34: _CHALCOGEN,
    35: _HALOGEN,
    53: _HALOGEN,
}
"""By atomic number and number of neighbours."""

NITRO: tuple[State, ...] = ((0, 0, 0.0), (1, 1, 0.4))
"""Of a nitrogen with three neighbours, two of which are oxygens with no other."""

CUMULATED: tuple[State, ...] = ((1, 0, 0.0), (0, -1, 1.5), (2, 1, 1.2))
"""Of a nitrogen with two neighbours, one of which is a carbon or nitrogen with no other: azides, diazo, isocyanides."""

PRIMARY: tuple[State, ...] = ((0, 0, 0.0), (1, 1, 1.05))
"""Of a nitrogen with three neighbours, two of which are hydrogens: where a charge is shared, as in arginine, it is
written here, whatever the order of the atoms."""

Pieces = tuple[tuple[tuple[State, ...], ...], tuple[tuple[int, int], ...]]
"""States of the atoms of a conjugated piece, and its bonds as pairs of places among them."""


def lewis(piece: Pieces) -> tuple[Int[np.ndarray, "m"], Int[np.ndarray, "n"]] | None:
    """Orders of the bonds and charges of the atoms of one piece; None where no closed-shell structure exists.

    Of equivalent structures the one with double bonds earliest in the list of bonds is taken.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    states, bonds = piece
    n, m = len(states), len(bonds)
    if m == 0:
        closed = [min((s for s in one if s[0] == 0), key=lambda s: s[2], default=None) for one in states]
        if any(one is None for one in closed):
            return None
        return np.zeros(0, dtype=np.int64), np.array([one[1] for one in closed if one is not None], dtype=np.int64)
    owner = [a for a in range(n) for _ in states[a]]
    flat = [state for one in states for state in one]
    entries = [(a, b, 1.0) for b, pair in enumerate(bonds) for a in pair]
    for k, (a, state) in enumerate(zip(owner, flat, strict=True)):
        entries += [(a, m + k, -float(state[0])), (n + a, m + k, 1.0)]
    rows, columns, values = zip(*entries, strict=True)
    matrix = coo_array((values, (rows, columns)), shape=(2 * n, m + len(flat))).tocsc()
    right = np.concatenate([np.zeros(n), np.ones(n)])
    # far below the costs, whatever the size of the piece
    ranks = 0.05 * np.arange(m) / m / n
    cost = np.concatenate([ranks, [state[2] for state in flat]])
    found = milp(
        cost,
        integrality=np.ones(len(cost)),
        bounds=Bounds(0, np.concatenate([np.full(m, 2.0), np.ones(len(flat))])),
        constraints=LinearConstraint(matrix, right, right),
        options={"mip_rel_gap": 0.0},
    )
    if found.x is None:
        return None
    x = np.round(found.x).astype(np.int64)
    charges = np.zeros(n, dtype=np.int64)
    for k, (a, state) in enumerate(zip(owner, flat, strict=True)):
        charges[a] += state[1] * x[m + k]
    return x[:m] + 1, charges
