"""Neighbour lists: pairs within a cutoff, every periodic image included, kept by a skin.

The search itself is vesin's cell list (linear in N, compiled); small molecules without periodicity and
lists without a cutoff are enumerated directly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from vesin import NeighborList

from heliodor.errors import InputError
from heliodor.halo import Halo
from heliodor.system import System

_ENUMERATE_BELOW = 128
"""Atoms below which all pairs of a molecule are enumerated rather than binned into cells."""


@dataclass(frozen=True)
class Neighbors:
    """Edges of a batch of structures: atom i receives, atom j sends.

    The edge vector is r_ij = R_j - R_i + shift @ cell. In a half list each pair of atoms (or of an atom and
    an image) stands once; `full` gives both directions.

    Attributes:
        i, j: atom indices over the whole batch.
        shift: lattice translations of atom j.
        cutoff: Å, per structure; infinite where all pairs are listed.
        skin: Å by which the list reaches beyond the cutoff.
        half: whether each pair stands once.
        positions, cell: Å, where the list was built.
        offset: shift @ cell at that cell, Å; None if no structure is periodic.
        long_range: a second, longer list, for models with long-range pair terms.
        halo: in a domain of a divided simulation: where its pairs' atoms lie (`Halo.inner`); None for whole structures.
        given: edge vectors that somebody else has computed, Å: they are what energies are differentiated by.
    """

    i: Int[Tensor, "E"]
    j: Int[Tensor, "E"]
    shift: Int[Tensor, "E 3"]
    cutoff: Float[Tensor, "B"]
    skin: float
    half: bool
    positions: Float[Tensor, "N 3"]
    cell: Float[Tensor, "B 3 3"]
    offset: Float[Tensor, "E 3"] | None = None
    long_range: Neighbors | None = None
    halo: Halo | None = None
    given: Float[Tensor, "E 3"] | None = None

    @property
    def n_edges(self) -> int:
        return self.i.shape[0]

    def vectors(self, system: System) -> Float[Tensor, "E 3"]:
        """Edge vectors r_ij in Å at the system's present positions and cell (differentiable in both)."""
        if self.given is not None:
            return self.given
        r = system.positions.index_select(0, self.j) - system.positions.index_select(0, self.i)
        if self.offset is None:
            return r
        if system.cell is self.cell:
            return r + self.offset
        return r + _offsets(self.shift, system.cell, system.batch, self.i)

    def stale(self, system: System) -> Bool[Tensor, ""]:
        """Whether some pair may have come within a cutoff unlisted: decided on the device, no transfer.

        Displacements are measured against the list's positions carried along with the cell, so that a
        barostat's affine motion counts only as far as it changes distances. Positions that are not numbers are
        stale.
        """
        if system.cell is self.cell:
            moved = _squared(system.positions - self.positions).amax()
            return ~(4.0 * moved <= self.skin**2)
        periodic = system.pbc.all(-1, keepdim=True).unsqueeze(-1)
        identity = torch.eye(3, dtype=system.dtype, device=system.device)
        old = torch.where(periodic, self.cell, identity)
        new = torch.where(periodic, system.cell, identity)
        gradient = torch.linalg.solve(old, new)
        carried = torch.bmm(self.positions.unsqueeze(1), gradient[system.batch]).squeeze(1)
        moved = (system.positions - carried).norm(dim=-1).amax()
        shrink = torch.linalg.matrix_norm(identity - torch.linalg.inv(gradient), ord=2)
        reach = torch.where(self.cutoff.isfinite(), self.cutoff, torch.zeros_like(self.cutoff))
        # a pair now within the cutoff was, before the deformation, within cutoff (1 + shrink) + 2 moved
        partly = (system.pbc.any(-1) & ~system.pbc.all(-1)) & (system.cell != self.cell).flatten(1).any(-1)
        here = ~(2.0 * moved * (1.0 + shrink.amax()) + (reach * shrink).amax() <= self.skin) | partly.any()
        return here if self.long_range is None else here | self.long_range.stale(system)

    def within(self, system: System) -> Neighbors:
        """The edges now inside the cutoff: drops what only the skin holds."""
        if self.skin == 0.0 or self.n_edges == 0:
            return self
        with torch.no_grad():
            squared = _squared(self.vectors(system))
            limit = self.cutoff.square()
            bound = limit[0] if len(limit) == 1 else limit[system.batch[self.i]]
            keep = (squared <= bound).nonzero().squeeze(-1)
        return self.select(keep)

    def select(self, edges: Int[Tensor, "K"] | Bool[Tensor, "E"]) -> Neighbors:
        """The list reduced to some of its edges (the long-range list is kept as it is)."""
        return replace(
            self,
            i=self.i[edges],
            j=self.j[edges],
            shift=self.shift[edges],
            offset=None if self.offset is None else self.offset[edges],
            given=None if self.given is None else self.given[edges],
        )

    def inner(self, system: System) -> System:
        """The atoms that ``i`` and ``j`` count: all, or those of a domain's list."""
        return system if self.halo is None else self.halo.inner(system)

    def home(self, system: System) -> System:
        """The atoms that energies are made of: all, or a domain's own."""
        return system if self.halo is None else self.halo.home(system)

    def own(self, x: Float[Tensor, "N *F"]) -> Float[Tensor, "O *F"]:
        """The rows of the atoms of `home`, which come first."""
        return x if self.halo is None else self.halo.own(x)

    def fill(self, *features: Tensor) -> tuple[Tensor, ...]:
        """From the atoms of `home` to those of `inner`."""
        return features if self.halo is None else self.halo.fill(*features)

    def full(self) -> Neighbors:
        """Both directions of every edge."""
        if not self.half:
            return self
        return replace(
            self,
            i=torch.cat([self.i, self.j]),
            j=torch.cat([self.j, self.i]),
            shift=torch.cat([self.shift, -self.shift]),
            offset=None if self.offset is None else torch.cat([self.offset, -self.offset]),
            given=None if self.given is None else torch.cat([self.given, -self.given]),
            half=False,
        )


def find_neighbors(
    system: System,
    cutoff: float | Float[Tensor, "B"],
    *,
    long_range_cutoff: Float[Tensor, "B"] | None = None,
    half: bool = True,
    skin: float = 0.0,
) -> Neighbors:
    """All pairs closer than the cutoff (plus the skin), including every periodic image and self-images.

    Args:
        cutoff: Å, one for all structures or one each; infinite for all pairs of a molecule.
        long_range_cutoff: Å, one per structure; adds a second list as ``long_range``.
        half: list each pair once.
        skin: Å; the list stays valid until an atom has moved by half of it (`Neighbors.stale`).

    Raises:
        InputError: an infinite cutoff in a periodic structure, or a cutoff that is not positive.
    """
    limits = torch.as_tensor(cutoff, dtype=system.dtype, device=system.device).expand(system.n_structures)
    if not bool((limits > 0).all()):
        raise InputError("a neighbour list needs a positive cutoff")
    counts = system.counts.tolist()
    positions = system.positions.detach().cpu().double().numpy()
    cells = system.cell.detach().cpu().double().numpy()
    periodic = system.pbc.cpu().numpy()
    pieces: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    start = 0
    for b, (count, limit) in enumerate(zip(counts, limits.tolist(), strict=True)):
        i_here, j_here, shift = _search(positions[start : start + count], cells[b], periodic[b], limit + skin)
        i_here += start
        j_here += start
        pieces.append((i_here, j_here, shift))
        start += count
    columns = pieces[0] if len(pieces) == 1 else [np.concatenate(column) for column in zip(*pieces, strict=True)]
    i, j, images = (torch.from_numpy(column).to(system.device) for column in columns)
    with torch.no_grad():
        offset = _offsets(images, system.cell, system.batch, i) if bool(periodic.any()) else None
    # the very tensor, where possible: `vectors` knows by it that the cached offsets hold
    cell = system.cell.detach() if system.cell.requires_grad else system.cell
    half_list = Neighbors(i, j, images, limits, skin, True, system.positions.detach(), cell, offset)
    result = half_list if half else half_list.full()
    if long_range_cutoff is not None:
        result = replace(result, long_range=find_neighbors(system, long_range_cutoff, half=half, skin=skin))
    return result


def _squared(vectors: Float[Tensor, "M 3"]) -> Float[Tensor, "M"]:
    """Squared lengths."""
    if vectors.device.type != "cpu":
        return vectors.square().sum(-1)
    # torch's sum over three columns takes four times as long as this product
    return torch.mv(vectors.square(), vectors.new_ones(3))


def _offsets(
    shift: Int[Tensor, "E 3"], cell: Float[Tensor, "B 3 3"], batch: Int[Tensor, "N"], i: Int[Tensor, "E"]
) -> Float[Tensor, "E 3"]:
    if cell.shape[0] == 1:
        return shift.to(cell.dtype) @ cell[0]
    return torch.bmm(shift.to(cell.dtype).unsqueeze(1), cell[batch[i]]).squeeze(1)


def _search(
    positions: np.ndarray, cell: np.ndarray, periodic: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Half list of one structure: i [E] and j [E] int64, shifts [E, 3] int32, all ours to change."""
    n = len(positions)
    # distances do not depend on the origin, their rounding does
    positions = positions - positions.mean(axis=0)
    if not periodic.any():
        if np.isinf(cutoff) or n <= _ENUMERATE_BELOW:
            i, j = np.triu_indices(n, 1)
            if not np.isinf(cutoff):
                near = np.square(positions[j] - positions[i]).sum(-1) <= cutoff**2
                i, j = i[near], j[near]
            return i.astype(np.int64), j.astype(np.int64), np.zeros((len(i), 3), np.int32)
    elif np.isinf(cutoff):
        raise InputError(
            "a periodic structure has infinitely many pairs: give a finite long_range_cutoff (12 Å is usual)"
        )
    box, wrapped = _complete_cell(positions, cell, periodic, cutoff)
    search = NeighborList(cutoff=cutoff, full_list=False, sorted=True)
    # views into the search's own memory: copied once, column by column
    pairs, shift = search.compute(points=positions, box=box, periodic=wrapped, quantities="PS", copy=False)
    return pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.int64), shift.astype(np.int32)


def _complete_cell(
    positions: np.ndarray, cell: np.ndarray, periodic: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray | bool]:
    """A full-rank cell: directions without periodicity get a normal vector too long for images to be seen."""
    if periodic.all():
        return cell, True
    if not periodic.any():
        return np.eye(3), False
    box = cell.copy()
    _, _, normals = np.linalg.svd(cell[periodic])
    for row, normal in zip(np.flatnonzero(~periodic), normals[periodic.sum() :], strict=True):
        extent = np.ptp(positions @ normal)
        box[row] = normal * (extent + 2.0 * cutoff + 1.0)
    if np.linalg.det(box) < 0:
        box[np.flatnonzero(~periodic)[0]] *= -1.0
    return box, True
