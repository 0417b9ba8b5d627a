"""Active selection: the structures on which a committee of students disagrees most are the ones to learn from next.

Query by committee (Seung, Opper & Sompolinsky 1992); for force fields Gastegger, Behler & Marquetand, Chem. Sci. 8,
6924 (2017) and Zhang et al., Phys. Rev. Materials 3, 023804 (2019).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from heliodor.errors import InputError
from heliodor.potential import Potential
from heliodor.train.dataset import Dataset
from heliodor.train.errors import predict


def disagreement(
    members: Sequence[Potential], pool: Dataset, say: Callable[[int, int], None] | None = None
) -> Float[np.ndarray, "S"]:
    """How far the members' forces are apart on the worst atom of each structure, eV/Å.

    The spread of an atom's force is sqrt(Σ|F - F_mean|² / (M - 1)) over M members; structures for which one of them has
    no finite answer have an infinite one.

    Raises:
        InputError: fewer than two members.
    """
    if len(members) < 2:
        raise InputError(f"disagreement takes at least two models, not {len(members)}")
    total = len(members) * len(pool)
    forces = []
    for number, member in enumerate(members):

        def tell(done: int, of: int, base: int = number * len(pool)) -> None:
            if say is not None:
                say(base + done, total)

        forces.append(predict(member, pool, tell).forces)
    stack = np.stack(forces)
    spread = np.sqrt(np.square(stack - stack.mean(0)).sum((0, 2)) / (len(members) - 1))
    worst = np.maximum.reduceat(np.where(np.isfinite(spread), spread, np.inf), pool.offsets[:-1])
    return worst.astype(np.float64)


def choose_by_disagreement(
    spread: Float[np.ndarray, "S"], groups: np.ndarray, number: int, limit: float = np.inf
) -> Int[np.ndarray, "n"]:
    """The structures with the largest spread, groups in turn.

    The worst structure of each group comes before the second worst of any, so that one hard molecule does not fill all
    places.

    Args:
        groups: structures of one group are alike; "" stands alone.
        limit: eV/Å; beyond it, structures are taken for broken and left out.

    Returns:
        Indices, the most wanted first.
    """
    order = np.argsort(-spread, kind="stable")
    order = order[spread[order] <= limit]
    turn = np.zeros(len(spread), dtype=np.int64)
    seen: dict[str, int] = {}
    for k in order:
        name = str(groups[k])
        if name:
            turn[k] = seen.get(name, 0)
            seen[name] = int(turn[k]) + 1
    by_turn = order[np.argsort(turn[order], kind="stable")]
    return by_turn[:number]
