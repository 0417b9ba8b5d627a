"""The lists of a captured run: two matrices that stay where they are in memory and are filled again and again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heliodor.kernels.gpu.lists.lists import (
    ListPlan,
    build_list,
    empty_matrix,
    plan_list,
    roomier,
)
from heliodor.kernels.gpu.matrix import NeighborMatrix, matrix_of
from heliodor.neighbors import find_neighbors
from heliodor.system import System

MARGIN = 0.05
"""Of the lengths of a cell that changes: by so much it may shrink before bins are chosen anew."""


@dataclass(frozen=True, eq=False)
class Filled:
    """What the device says of lists that have just been filled.

    Attributes:
        wanted: longest row of each list.
        fits: both are complete.
        far: an atom has moved over more cells than can be told.
    """

    wanted: Int[Tensor, "L"]
    fits: Bool[Tensor, ""]
    far: Bool[Tensor, ""]


@runtime_checkable
class Lists(Protocol):
    """One or two neighbour matrices of one structure."""

    matrices: tuple[NeighborMatrix, ...]

    def fill(self, positions: Float[Tensor, "N 3"], cell: Float[Tensor, "1 3 3"]) -> Filled:
        """Write the neighbours at these positions into the matrices."""
        ...

    def make_room(self, system: System, wanted: list[int]) -> None:
        """New matrices, with room for rows of these lengths and for this cell."""
        ...


class DeviceLists:
    """Made by `heliodor.kernels.gpu.lists.lists`, on the device, without the host."""

    def __init__(self, system: System, cutoffs: tuple[float, ...], skin: float, *, changing: bool = False) -> None:
        """Plan for a structure.

        Args:
            cutoffs: Å; of the network, and of what reaches beyond it.
            changing: whether the cell will change.
        """
        self._cutoffs, self._skin = cutoffs, skin
        self._margin = MARGIN if changing else 0.0
        self._plans = tuple(plan_list(system, cutoff, skin, margin=self._margin) for cutoff in cutoffs)
        self._allocate(system)

    def _allocate(self, system: System) -> None:
        self.matrices = tuple(empty_matrix(plan, system.n_atoms, system.device) for plan in self._plans)
        # a list of all pairs is made once and for all
        self._lasting = {
            k: build_list(plan, system.positions.detach(), system.cell.detach(), self.matrices[k])
            for k, plan in enumerate(self._plans)
            if math.isinf(plan.cutoff)
        }

    @property
    def plans(self) -> tuple[ListPlan, ...]:
        return self._plans

    def fill(self, positions: Float[Tensor, "N 3"], cell: Float[Tensor, "1 3 3"]) -> Filled:
        built = [
            self._lasting.get(k) or build_list(plan, positions, cell, self.matrices[k])
            for k, plan in enumerate(self._plans)
        ]
        return Filled(
            torch.stack([one.wanted for one in built]),
            torch.stack([one.fits for one in built]).all(),
            torch.stack([one.far for one in built]).any(),
        )

    def make_room(self, system: System, wanted: list[int]) -> None:
        old = self._plans
        self._plans = tuple(
            roomier(plan_list(system, plan.cutoff, plan.skin, capacity=plan.capacity, margin=self._margin), most)
            if most > plan.capacity
            else plan_list(system, plan.cutoff, plan.skin, capacity=plan.capacity, margin=self._margin)
            for plan, most in zip(old, wanted, strict=True)
        )
        self._allocate(system)


class HostLists:
    """Made by the search of `heliodor.neighbors`, for machines without a GPU."""

    def __init__(
        self, system: System, cutoffs: tuple[float, ...], skin: float, *, capacities: tuple[int, ...] | None = None
    ) -> None:
        """Room is measured if not given."""
        self._system, self._cutoffs, self._skin = system, cutoffs, skin
        if capacities is None:
            capacities = tuple(self._made(system, cutoff).capacity + 8 for cutoff in cutoffs)
        self._allocate(capacities)

    def _made(self, system: System, cutoff: float) -> NeighborMatrix:
        return matrix_of(find_neighbors(system, cutoff, skin=self._skin), system.n_atoms)

    def _allocate(self, capacities: tuple[int, ...]) -> None:
        n = self._system.n_atoms
        zero = torch.zeros(n, dtype=torch.int32)
        self.matrices = tuple(
            NeighborMatrix(
                torch.zeros(n, room, dtype=torch.int32),
                torch.zeros(n, room, dtype=torch.int32),
                zero.clone(),
                c,
                self._skin,
            )
            for room, c in zip(capacities, self._cutoffs, strict=True)
        )

    def fill(self, positions: Float[Tensor, "N 3"], cell: Float[Tensor, "1 3 3"]) -> Filled:
        system = self._system.replace(positions=positions.clone(), cell=cell.clone())
        wanted = []
        for matrix in self.matrices:
            made = self._made(system, matrix.cutoff)
            room = min(made.capacity, matrix.capacity)
            matrix.index[:, :room] = made.index[:, :room]
            matrix.shift[:, :room] = made.shift[:, :room]
            matrix.count[:] = made.count.clamp_max(matrix.capacity)
            wanted.append(made.count.amax())
        fits = all(int(most) <= matrix.capacity for most, matrix in zip(wanted, self.matrices, strict=True))
        return Filled(torch.stack(wanted), torch.tensor(fits), torch.tensor(False))

    def make_room(self, system: System, wanted: list[int]) -> None:
        rooms = [
            max(matrix.capacity, -(-most // 8) * 8 + 8) for matrix, most in zip(self.matrices, wanted, strict=True)
        ]
        self._allocate(tuple(rooms))
