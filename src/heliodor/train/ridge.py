"""Ridge regression whose strength is chosen by leaving out whole groups."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

FOLDS = 8

STRENGTHS = tuple(float(s) for s in 10.0 ** np.arange(-3.0, 2.1, 0.5))
"""Per group, in the place of so many observations."""


def ridge(
    columns: Float[np.ndarray, "N C"],
    target: Float[np.ndarray, "N"],
    weights: Float[np.ndarray, "N"],
    group: Int[np.ndarray, "N"],
) -> tuple[Float[np.ndarray, "C"], float]:
    """Coefficients c that minimise Σ w (y - X c)² + λ K |c|², and λ, for K groups.

    λ is the one of `STRENGTHS` with the smallest squared error in groups left out, an eighth of them at a time. The
    groups fall into folds by their order, which is the same each time.
    """
    names, which = np.unique(group, return_inverse=True)
    fold = np.random.default_rng(8).permutation(len(names))[which] % min(FOLDS, len(names))
    weights = weights / weights.mean()
    parts = [fold == k for k in range(int(fold.max()) + 1)]
    squares = [(columns[p] * weights[p, None]).T @ columns[p] for p in parts]
    products = [(columns[p] * weights[p, None]).T @ target[p] for p in parts]
    whole, right = sum(squares[1:], squares[0]), sum(products[1:], products[0])
    identity = len(names) * np.eye(len(whole))
    missed = []
    for strength in STRENGTHS:
        wrong = 0.0
        for p, square, product in zip(parts, squares, products, strict=True):
            found = np.linalg.solve(whole - square + strength * identity, right - product)
            wrong += float(weights[p] @ np.square(target[p] - columns[p] @ found))
        missed.append(wrong)
    best = STRENGTHS[int(np.argmin(missed))]
    coefficients: np.ndarray = np.linalg.solve(whole + best * identity, right)
    return coefficients, best
