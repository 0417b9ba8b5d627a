"""Which structures come when: seeded, a function of the epoch alone, so that it does not matter where a run resumed."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from heliodor.errors import InputError, suggestion
from heliodor.train.batches import Lists, Shape

LOOK_AHEAD = 24
"""Structures among which a batch's remaining room is filled."""


def kind_shares(kinds: np.ndarray, shares: Mapping[str, float] | None) -> dict[str, float]:
    """The fraction of each kind among what is drawn; by default that among the structures.

    Raises:
        InputError: a kind that does not occur, or shares that are not positive.
    """
    present, counts = np.unique(kinds, return_counts=True)
    if not shares:
        return {str(k): float(c) / len(kinds) for k, c in zip(present, counts, strict=True)}
    for kind, share in shares.items():
        if kind not in present:
            words = ", ".join(repr(str(k)) for k in present)
            raise InputError(
                f"no structure is of the kind {kind!r}{suggestion(kind, map(str, present))} (there are {words})"
            )
        if not 0.0 < share < math.inf:
            raise InputError(f"the share of the kind {kind!r} must be a positive number, not {share}")
    left = [str(k) for k in present if k not in shares]
    if left:
        raise InputError(f"shares are given for some kinds, but not for {', '.join(map(repr, left))}")
    total = sum(shares.values())
    return {str(k): float(shares[k]) / total for k in present}


def draw_epoch(kinds: np.ndarray, shares: Mapping[str, float], seed: int, epoch: int) -> Int[np.ndarray, "D"]:
    """As many structures as there are, mixed by the shares, in random order.

    Each kind is gone through in random order again and again, across epochs: all its structures come equally often,
    up to one, however it is over- or undersampled.
    """
    drawn = []
    for kind, share in shares.items():
        members = np.flatnonzero(kinds == kind)
        amount = share * len(kinds)
        begin, end = round(epoch * amount), round((epoch + 1) * amount)
        key = zlib.crc32(kind.encode())
        for turn in range(begin // len(members), math.ceil(end / len(members))):
            order = np.random.default_rng([seed, key, turn]).permutation(members)
            start = turn * len(members)
            drawn.append(order[max(begin - start, 0) : min(end - start, len(members))])
    return np.random.default_rng([seed, 0, epoch]).permutation(np.concatenate(drawn))


def choose_shape(sizes: Int[np.ndarray, "S 3"], weights: Float[np.ndarray, "S"], structures: int) -> Shape:
    """Room for about so many structures on average, and for the largest one.

    Args:
        sizes: atoms, edges and pairs of each structure.
        weights: probability of each to be drawn.
    """
    mean = weights @ sizes
    spread = np.sqrt(np.maximum(weights @ np.square(sizes.astype(float)) - mean**2, 0.0))
    # by the central limit theorem few batches run out of one kind of room long before the others
    room = structures * mean + 0.5 * math.sqrt(structures) * spread
    most = math.ceil(1.3 * structures) + 1
    # the largest one must fit beside the dummy atoms of all other places
    least = sizes.max(0) + np.array([most - 1, 1, 0])
    room = np.maximum(room + np.array([0.3 * structures + 1, 1, 0]), least)
    atoms, edges, pairs = (int(16 * math.ceil(value / 16)) for value in room)
    return Shape(most, atoms, edges, pairs)


def pack(order: Int[np.ndarray, "D"], sizes: Int[np.ndarray, "S 3"], shape: Shape) -> list[Int[np.ndarray, "b"]]:
    """Cut an order of structures into batches that fit a shape.

    Structures are taken in turn; where the next does not fit, one of those soon after it that does goes first.
    """
    # one edge at least is a dummy: rows of neighbours are filled up with it (`Layout`)
    top = np.array([shape.atoms, shape.edges - 1, shape.pairs])
    waiting: list[int] = []
    batches: list[np.ndarray] = []
    position = 0
    while position < len(order) or waiting:
        chosen: list[int] = []
        total = np.zeros(3, dtype=np.int64)
        # one structure at least is made of dummies: it takes the room that is left
        while len(chosen) < shape.structures - 1:
            while len(waiting) < LOOK_AHEAD and position < len(order):
                waiting.append(int(order[position]))
                position += 1
            # every structure that stays empty takes a dummy atom
            reserve = np.array([shape.structures - len(chosen) - 1, 0, 0])
            fits = next((k for k, s in enumerate(waiting) if (total + sizes[s] + reserve <= top).all()), None)
            if fits is None:
                break
            total += sizes[waiting[fits]]
            chosen.append(waiting.pop(fits))
        if not chosen:
            raise ValueError("a structure is larger than the batch")
        batches.append(np.array(chosen))
    return batches


class Sampler:
    """Batches of structures, epoch after epoch.

    Args:
        structures: in a batch, on average.
        shares: of kinds, as `kind_shares` gives them.
    """

    def __init__(self, lists: Lists, structures: int, shares: Mapping[str, float], seed: int) -> None:
        self.kinds = lists.dataset.kind
        self.sizes, self.shares, self.seed = lists.sizes, shares, seed
        counts = {kind: int((self.kinds == kind).sum()) for kind in shares}
        weights = np.zeros(len(self.kinds))
        for kind, share in shares.items():
            weights[self.kinds == kind] = share / counts[kind]
        self.shape = choose_shape(self.sizes, weights, min(structures, len(lists)))
        self._epoch = -1
        self._batches: list[np.ndarray] = []

    def epoch(self, number: int) -> list[Int[np.ndarray, "b"]]:
        """The batches of one epoch, kept until another is asked for."""
        if number != self._epoch:
            self._epoch, self._batches = number, self.order(number)
        return self._batches

    def order(self, number: int) -> list[Int[np.ndarray, "b"]]:
        """The same, found anew: for other threads."""
        return pack(draw_epoch(self.kinds, self.shares, self.seed, number), self.sizes, self.shape)
