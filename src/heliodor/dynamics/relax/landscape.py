"""What a relaxation goes downhill on: the enthalpy over atoms and, if asked, the strain of the cell.

A batch of structures is M rows of three numbers: first the atoms, then, with a cell, three rows per structure. The
structure at those rows is ``positions = X·F``, ``cell = cell_at_start·F`` with ``F = exp(U)`` (row vectors): the
atoms' rows are X, positions in the reference frame (Å); the strain's rows are the matrix c·U. U is symmetric and
lies in the coupling's subspace, so the cell stretches and shears but never turns, and no step can turn it inside
out. ``c = √N·(V/N)^⅓`` (Å, fixed at the start) makes the strain about as stiff as an atom, whatever the size of the
cell: the energy of a strain grows with N, that of moving one atom does not. The enthalpy is ``E + P·V``, and

    -∂H/∂X = f·F,    -∂H/∂(c·U) = L[F⁻¹·(W - P·V·1)] / c,

with f the forces, W the virial and L the derivative of the exponential at U. As ASE's FrechetCellFilter, but for c
and the projection on the coupling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from ase.geometry import complete_cell
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from heliodor.dynamics.state import evaluate_moved
from heliodor.dynamics.steps.coupling import check_coupling, project
from heliodor.errors import InputError
from heliodor.neighbors import Neighbors
from heliodor.potential import Potential
from heliodor.system import System

SLAB_MARGIN = 3.0
"""Å added to the extent of a slab's atoms to give it the thickness, and so the volume, that its stress refers to."""

LARGEST_CHANGE = 10.0
"""Factor by which a volume may grow or shrink: what goes beyond is no relaxation any more."""

THINNEST = 1.0
"""Å; no lattice is thinner than this, or than half of what it started from."""


@dataclass(frozen=True)
class Landscape:
    """The frame of reference: what the rows of B structures (N atoms, M rows in all) mean.

    Attributes:
        start: the structures handed in.
        coupling: strains that are free; None: the cell stays.
        pressure: eV/Å³.
        frozen: atoms that stay where they are.
        owner: structure of each row.
        full: cells at the start, Å; an open direction of a slab has a normal as long as the slab is thick.
        scale: the strain's length c, Å.
        reach: distance that atoms may move (Å) per length of a row: 1 for an atom.
    """

    start: System
    coupling: str | None
    pressure: float
    frozen: Bool[Tensor, "N"] | None
    owner: Int[Tensor, "M"]
    full: Float[Tensor, "B 3 3"]
    scale: Float[Tensor, "B"]
    reach: Float[Tensor, "M"]

    def system(self, rows: Float[Tensor, "M 3"]) -> System:
        """The structures at these rows."""
        if self.coupling is None:
            return self.start.replace(positions=rows)
        stretch = _exponential(self._strain(rows))
        positions = torch.bmm(rows[: self.start.n_atoms].unsqueeze(1), stretch[self.start.batch]).squeeze(1)
        return self.start.replace(positions=positions, cell=self.start.cell @ stretch)

    def volume(self, rows: Float[Tensor, "M 3"]) -> Float[Tensor, "B"]:
        """Å³; of a slab: its area times its thickness at the start."""
        return (torch.linalg.det(self.full) * self._strain(rows).diagonal(dim1=-2, dim2=-1).sum(-1).exp()).abs()

    def outside(self, rows: Float[Tensor, "M 3"]) -> Bool[Tensor, "B"]:
        """Structures whose cell has left what a relaxation can mean (see `LARGEST_CHANGE`, `THINNEST`)."""
        strain = self._strain(rows)
        change = strain.diagonal(dim1=-2, dim2=-1).sum(-1).abs().exp()
        thin = _thickness(self.full @ _exponential(strain)) < (0.5 * _thickness(self.full)).clamp_max(THINNEST)
        return (change > LARGEST_CHANGE) | thin

    def _strain(self, rows: Float[Tensor, "M 3"]) -> Float[Tensor, "B 3 3"]:
        return rows[self.start.n_atoms :].view(-1, 3, 3) / self.scale.view(-1, 1, 1)


@dataclass(frozen=True)
class Point:
    """A place in the landscape and what it is like there.

    Attributes:
        rows: see `Landscape`.
        pull: -∂H/∂rows, eV/Å; zero for frozen atoms.
        enthalpy: eV.
        energy: eV.
        forces: eV/Å, on frozen atoms too.
        largest: force on the atoms that may move, eV/Å.
        virial: eV; None if the cell stays.
        misfit: largest component, among the free ones, of stress plus pressure, eV/Å³; zero if the cell stays.
    """

    rows: Float[Tensor, "M 3"]
    pull: Float[Tensor, "M 3"]
    enthalpy: Float[Tensor, "B"]
    energy: Float[Tensor, "B"]
    forces: Float[Tensor, "N 3"]
    largest: Float[Tensor, "B"]
    virial: Float[Tensor, "B 3 3"] | None
    misfit: Float[Tensor, "B"]


def landscape(
    system: System, *, coupling: str | None = None, pressure: float = 0.0, frozen: Bool[Tensor, "N"] | None = None
) -> tuple[Landscape, Float[Tensor, "M 3"]]:
    """The landscape around structures, and where in it they are.

    Args:
        pressure: eV/Å³.

    Raises:
        InputError: no cell, or one that the coupling cannot stretch; pressure that is not finite, on a slab or on
            a cell that stays; frozen atoms in a cell that moves.
    """
    if not math.isfinite(pressure):
        raise InputError("pressure must be a finite number")
    if coupling is None:
        if pressure != 0.0:
            raise InputError("pressure acts through the cell: say which way the cell may relax (cell='isotropic')")
        one = system.positions.new_ones(())
        each, atoms = one.expand(system.n_structures), one.expand(system.n_atoms)
        shape = Landscape(system, None, 0.0, frozen, system.batch, system.cell, each, atoms)
        return shape, system.positions
    if not bool(system.pbc.any(-1).all()):
        raise InputError("a molecule has no cell that could relax: leave the choice of a cell out")
    check_coupling(system, coupling)
    if frozen is not None and bool(frozen.any()):
        raise InputError("frozen atoms do not fit a cell that relaxes: release the atoms or keep the cell")
    if pressure != 0.0 and not bool(system.pbc.all()):
        raise InputError("pressure needs a volume to act on, which a slab has not: leave the pressure at 0")
    full = torch.stack([_full_cell(system, b) for b in range(system.n_structures)])
    counts = system.counts.to(full.dtype)
    scale = counts.sqrt() * (torch.linalg.det(full).abs() / counts).pow(1.0 / 3.0)
    strains = torch.arange(system.n_structures, device=system.device).repeat_interleave(3)
    owner = torch.cat([system.batch, strains])
    # a strain row of this length moves nearest neighbours by a whole Å against each other
    reach = torch.cat([torch.ones_like(system.positions[:, 0]), counts.rsqrt().repeat_interleave(3)])
    rows = torch.cat([system.positions, system.positions.new_zeros(3 * system.n_structures, 3)])
    return Landscape(system, coupling, pressure, None, owner, full, scale, reach), rows


def look(
    land: Landscape, rows: Float[Tensor, "M 3"], potential: Potential, neighbors: Neighbors
) -> tuple[Point, Neighbors]:
    """Evaluate the structures at these rows, with these neighbour lists or, if they are worn, new ones."""
    system = land.system(rows)
    prediction, neighbors = evaluate_moved(potential, system, neighbors, virial=land.coupling is not None)
    forces, energy, virial = prediction.forces, prediction.energy, prediction.virial
    assert forces is not None
    pull = forces if land.frozen is None else torch.where(land.frozen.unsqueeze(-1), 0.0, forces)
    largest = longest(pull, system.batch, system.n_structures)
    if land.coupling is None:
        return Point(rows, pull, energy, energy, forces, largest, None, torch.zeros_like(energy)), neighbors
    assert virial is not None
    volume = land.volume(rows)
    work = (land.pressure * volume).view(-1, 1, 1) * torch.eye(3, dtype=volume.dtype, device=volume.device)
    misfit = project(virial - work, land.coupling).abs().amax((-2, -1)) / volume
    strain = land._strain(rows)
    stretch = _exponential(strain)
    on_atoms = torch.bmm(pull.unsqueeze(1), stretch[system.batch]).squeeze(1)
    on_strain = _derivative(strain, torch.linalg.solve(stretch, virial - work))
    on_strain = project(0.5 * (on_strain + on_strain.mT), land.coupling) / land.scale.view(-1, 1, 1)
    pull = torch.cat([on_atoms, on_strain.reshape(-1, 3)])
    return Point(rows, pull, energy + land.pressure * volume, energy, forces, largest, virial, misfit), neighbors


def chosen(which: Bool[Tensor, "B"], one: Point, other: Point, land: Landscape) -> Point:
    """``one`` for the structures told, ``other`` for the rest."""
    rows, atoms = spread(which, land.owner).unsqueeze(-1), spread(which, land.start.batch).unsqueeze(-1)
    virial = other.virial
    if one.virial is not None and other.virial is not None:
        virial = torch.where(which.view(-1, 1, 1), one.virial, other.virial)
    return replace(
        other,
        rows=torch.where(rows, one.rows, other.rows),
        pull=torch.where(rows, one.pull, other.pull),
        enthalpy=torch.where(which, one.enthalpy, other.enthalpy),
        energy=torch.where(which, one.energy, other.energy),
        forces=torch.where(atoms, one.forces, other.forces),
        largest=torch.where(which, one.largest, other.largest),
        virial=virial,
        misfit=torch.where(which, one.misfit, other.misfit),
    )


def spread(values: Shaped[Tensor, "B"], owner: Int[Tensor, "M"]) -> Shaped[Tensor, "..."]:
    """Each structure's value at each of its rows; one structure's is left to broadcast."""
    return values if len(values) == 1 else values.index_select(0, owner)


def dot(a: Float[Tensor, "M 3"], b: Float[Tensor, "M 3"], land: Landscape) -> Float[Tensor, "B"]:
    """Scalar product over the rows of each structure."""
    product, count = (a * b).sum(-1), land.start.n_structures
    if count == 1:
        return product.sum(0, keepdim=True)
    return product.new_zeros(count).index_add(0, land.owner, product)


def longest(vectors: Float[Tensor, "R 3"], owner: Int[Tensor, "R"], count: int) -> Float[Tensor, "B"]:
    """Longest row of each of ``count`` structures."""
    length: Tensor = vectors.norm(dim=-1)
    if count == 1:
        return length.amax(0, keepdim=True)
    return length.new_zeros(count).scatter_reduce(0, owner, length, "amax", include_self=False)


def limited(move: Float[Tensor, "M 3"], limit: float, land: Landscape) -> Float[Tensor, "M 3"]:
    """The move shortened, structure by structure, until no atom goes further than the limit (Å)."""
    reach = longest(move * land.reach.unsqueeze(-1), land.owner, land.start.n_structures).clamp_min(1e-300)
    return move * spread((limit / reach).clamp_max(1.0), land.owner).unsqueeze(-1)


def _exponential(strain: Float[Tensor, "B 3 3"]) -> Float[Tensor, "B 3 3"]:
    values, vectors = torch.linalg.eigh(strain)
    return (vectors * values.exp().unsqueeze(-2)) @ vectors.mT


def _derivative(strain: Float[Tensor, "B 3 3"], direction: Float[Tensor, "B 3 3"]) -> Float[Tensor, "B 3 3"]:
    """Fréchet derivative of the exponential at a symmetric matrix (Higham, Functions of Matrices, theorem 3.11)."""
    values, vectors = torch.linalg.eigh(strain)
    mean = 0.5 * (values.unsqueeze(-1) + values.unsqueeze(-2))
    half = 0.5 * (values.unsqueeze(-1) - values.unsqueeze(-2))
    small = half.abs() < 1e-4
    # sinh(x)/x; the series is exact to rounding where the quotient is not
    ratio = torch.where(small, 1.0 + half.square() / 6.0, half.sinh() / torch.where(small, 1.0, half))
    return vectors @ ((vectors.mT @ direction @ vectors) * (mean.exp() * ratio)) @ vectors.mT


def _thickness(cell: Float[Tensor, "B 3 3"]) -> Float[Tensor, "B"]:
    """Least distance between opposite faces, Å."""
    # columns of the inverse are the reciprocal vectors
    return 1.0 / torch.linalg.inv(cell).norm(dim=-2).amax(-1)


def _full_cell(system: System, structure: int) -> Float[Tensor, "3 3"]:
    cell, pbc = system.cell[structure], system.pbc[structure]
    if bool(pbc.all()):
        return cell
    only = torch.where(pbc.unsqueeze(-1), cell, 0.0)
    full = torch.as_tensor(complete_cell(only.cpu().numpy())).to(cell)
    extent = system.positions[system.batch == structure] @ full[~pbc].mT
    thickness = extent.amax(0) - extent.amin(0) + SLAB_MARGIN
    full[~pbc] = full[~pbc] * thickness.unsqueeze(-1)
    return full
