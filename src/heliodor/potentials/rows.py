"""Neighbours of atoms side by side, in rows of one width: sums over neighbours become batched matrix products.

Adding up messages edge by edge moves every message through memory several times, forwards and twice backwards; a
product over a row does not form them at all. Rows that are not full end with places that count nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Rows:
    """N rows of W places each, S = N W in all.

    Attributes:
        pair: which listed pair stands in each place.
        sender: the neighbour.
        sign: 1 where the row's atom is the pair's receiver, -1 where it is the other one, 0 where nothing is.
        width: W.
    """

    pair: Int[Tensor, "S"]
    sender: Int[Tensor, "S"]
    sign: Float[Tensor, "S"]
    width: int

    @staticmethod
    def of(
        i: Int[Tensor, "P"], j: Int[Tensor, "P"], n_atoms: int, half: bool, dtype: torch.dtype, partial: bool = False
    ) -> Rows:
        """Rows of a list of pairs i <- j, each standing for both directions if the list is a half one.

        Args:
            n_atoms: N.
            partial: whether there are atoms after these, which send but have no rows.
        """
        n_pairs = len(i)
        receive = torch.cat([i, j]) if half else i
        send = torch.cat([j, i]) if half else j
        counts = torch.bincount(receive, minlength=n_atoms)[:n_atoms]
        width = int(counts.max()) if n_pairs else 0
        # the receivers left out come last
        order = torch.argsort(receive, stable=True)
        if partial:
            order = order[: int(counts.sum())]
        first = counts.cumsum(0) - counts
        place = receive[order] * width + torch.arange(len(order), device=i.device) - first[receive[order]]
        # empty places repeat a pair of the same atom, so that what is not a number stays within its structure
        own = order[first.clamp(max=max(len(order) - 1, 0))] if n_pairs else first
        edge = own.repeat_interleave(width).index_copy(0, place, order)
        sign = torch.zeros(n_atoms * width, dtype=dtype, device=i.device)
        sign = sign.index_copy(0, place, 1.0 - 2.0 * (order >= n_pairs).to(dtype))
        return Rows(edge % max(n_pairs, 1), send[edge], sign, width)
