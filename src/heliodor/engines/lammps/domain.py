"""A domain of LAMMPS as models take it, and what they find as LAMMPS takes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heliodor.engines.lammps.ranks import Ranks
from heliodor.errors import InputError
from heliodor.halo import Halo
from heliodor.neighbors import Neighbors
from heliodor.potential import Potential
from heliodor.system import System


@dataclass(frozen=True, eq=False)
class Domain:
    """What one process of LAMMPS knows: its atoms, copies of others, and pairs i <- j with i its own.

    Attributes:
        numbers: atomic numbers, of copies too.
        kept: of LAMMPS's list, in which pairs of own atoms stand twice, those that make a half list.
        i, j, vectors: of these; R_j - R_i in Å.
    """

    data: Any
    n_local: int
    numbers: Int[Tensor, "R"]
    kept: Int[Tensor, "P"]
    i: Int[Tensor, "P"]
    j: Int[Tensor, "P"]
    vectors: Float[Tensor, "P 3"]

    @staticmethod
    def of(data: Any, potential: Potential) -> Domain:
        if not hasattr(data, "forward_exchange"):
            raise InputError(
                "this LAMMPS has no exchange of features between domains: it needs LAMMPS of 2025 or later, built with "
                "KOKKOS, and run as 'lmp -k on g 1 -sf kk -pk kokkos newton on neigh half' (docs/scaling.md)"
            )
        n_local, n_rows, n_pairs = int(data.nlocal), int(data.ntotal), int(data.npairs)
        # arrays without elements cannot be asked for: LAMMPS has no memory behind them
        if n_rows == 0:
            none = torch.zeros(0, dtype=torch.int64, device=potential.device)
            return Domain(data, 0, none, none, none, none, none.double().view(0, 3))
        elements = torch.as_tensor(data.elems).long()
        if bool((elements < 0).any()):
            raise InputError(
                "there are atoms whose type is NULL in pair_coeff: name the element of every type, as all atoms are "
                f"described by {potential.name}"
            )
        numbers = torch.tensor(potential.elements, device=elements.device)[elements]
        if n_pairs == 0:
            none = numbers[:0]
            return Domain(data, n_local, numbers, none, none, none, none.double().view(0, 3))
        i, j = (torch.as_tensor(array).long() for array in (data.pair_i, data.pair_j))
        kept = ((i < n_local) & ((j >= n_local) | (i < j))).nonzero().squeeze(-1)
        vectors = torch.as_tensor(data.rij).double()
        return Domain(data, n_local, numbers, kept, i[kept], j[kept], vectors[kept])

    @property
    def n_rows(self) -> int:
        return len(self.numbers)

    @property
    def device(self) -> torch.device:
        return self.numbers.device

    def system(self, charge: float, spin: int) -> System:
        """All rows; where they are is in the vectors."""
        real = {"dtype": torch.float64, "device": self.device}
        return System(
            positions=torch.zeros(self.n_rows, 3, **real),  # type: ignore[call-overload]
            numbers=self.numbers,
            cell=torch.zeros(1, 3, 3, **real),  # type: ignore[call-overload]
            pbc=torch.zeros(1, 3, dtype=torch.bool, device=self.device),
            batch=torch.zeros_like(self.numbers),
            charge=torch.tensor([charge], **real),  # type: ignore[arg-type]
            spin=torch.tensor([spin], **real),  # type: ignore[arg-type]
        )

    def neighbors(
        self, vectors: Float[Tensor, "P 3"], cutoff: float, long_range_cutoff: float | None, ranks: Ranks
    ) -> Neighbors:
        """Half lists within each cutoff."""
        squared = vectors.detach().square().sum(-1)
        short = (squared <= cutoff**2).nonzero().squeeze(-1)
        near = self._list(vectors[short], self.i[short], self.j[short], cutoff, ranks)
        if long_range_cutoff is None:
            return near
        far = (squared <= long_range_cutoff**2).nonzero().squeeze(-1)
        long = self._list(vectors[far], self.i[far], self.j[far], long_range_cutoff, ranks)
        return replace(near, long_range=long)

    def _list(
        self, vectors: Float[Tensor, "E 3"], i: Int[Tensor, "E"], j: Int[Tensor, "E"], cutoff: float, ranks: Ranks
    ) -> Neighbors:
        """Atoms are counted anew: own ones, then those copies that the pairs reach."""
        reached = torch.zeros(self.n_rows, dtype=torch.bool, device=self.device)
        reached[: self.n_local] = True
        reached[j] = True
        rows = reached.nonzero().squeeze(-1)
        place = reached.cumsum(0) - 1
        # without own atoms there are no pairs either, and nothing to be reached
        halo = Halo(self.n_local, self.n_rows, rows, Synchronized(self.data), ranks)
        limit = torch.tensor([cutoff], dtype=torch.float64, device=self.device)
        origin = vectors.new_zeros(1, 3)
        return Neighbors(
            i=place[i],
            j=place[j],
            shift=i.new_zeros(1, 3).expand(len(i), 3),
            cutoff=limit,
            skin=0.0,
            half=True,
            positions=origin.expand(halo.n_atoms, 3),
            cell=origin.new_zeros(1, 3, 3),
            halo=halo,
            given=vectors,
        )

    def hand_back(self, node: Float[Tensor, "L"], gradient: Float[Tensor, "P 3"], scale: float) -> None:
        """LAMMPS adds the force of a pair to i, takes it from j, and sends copies' forces home."""
        data, n_pairs, n_listed = self.data, int(self.data.npairs), int(self.data.nlistatoms)
        node = scale * node
        data.energy = float(node.sum())
        if n_listed:
            order = torch.as_tensor(data.iatoms)[:n_listed].long()
            torch.as_tensor(data.eatoms).copy_(node[order])
        if n_pairs:
            forces = torch.zeros(n_pairs, 3, dtype=torch.float64, device=self.device)
            forces[self.kept] = scale * gradient
            _finish(forces)
            data.update_pair_forces(forces)


class Synchronized:
    """LAMMPS's exchanges; on a GPU it and torch wait for each other, as they work in streams of their own."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def forward_exchange(self, copy_from: Tensor, copy_to: Tensor, vec_len: int) -> None:
        _finish(copy_from)
        self._data.forward_exchange(copy_from, copy_to, vec_len)
        _finish(copy_to)

    def reverse_exchange(self, copy_from: Tensor, copy_to: Tensor, vec_len: int) -> None:
        _finish(copy_from)
        self._data.reverse_exchange(copy_from, copy_to, vec_len)
        _finish(copy_to)


def _finish(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
