"""Neighbour matrices made on the device: cells, a sort and one kernel; the host waits for nothing.

A plan is made once, on the host: numbers of bins and how many of them a search reaches over, room of a row. With it
`build_list` turns positions and a cell into a `NeighborMatrix` by operations whose shapes do not depend on values, so
that a CUDA graph can hold them. What did not fit is told by numbers on the device, never written beyond a row.

Bins are slices of the cell along its lattice vectors (of open directions: along a normal, with the outermost bins
reaching to infinity, so that a molecule may move and grow). In the last direction they are thin, and the atoms of
neighbouring bins stand together after the sort: the kernel reads runs of atoms, one for each column of bins and image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heliodor.errors import InputError
from heliodor.kernels.gpu.lists.geometry import inverse_of
from heliodor.kernels.gpu.matrix import SHIFT_BITS, SHIFT_ZERO, NeighborMatrix
from heliodor.system import System

LONG = 8.0
"""Å; searches farther than this use columns of half their reach, and blocks of 128 atoms rather than 64."""

THIN = 4
"""Bins of the last direction in one reach."""

ROUND = 16
"""Rows have room for a multiple of this."""

SPARE = 1.15
"""Room of a row over the longest row at the time it was chosen."""

SLACK = 1.0 + 1e-9
"""Bins reach this much farther than asked for, so that rounding leaves no pair out."""


@dataclass(frozen=True, eq=False)
class ListPlan:
    """How one structure's neighbours are searched for.

    Attributes:
        cutoff, skin: Å; the cutoff may be infinite in a structure that is not periodic.
        capacity: room of a row.
        bins: along each lattice vector.
        reach: bins that the search goes over on either side.
        width: of a bin along open directions, Å; zero along periodic ones, which are cut evenly.
        pbc: periodicity along each lattice vector.
        normals: unit vectors in the place of the lattice vectors of open directions, zero elsewhere.
        thinnest: Å, distance of faces along periodic directions below which `reach` is not enough any more.
    """

    cutoff: float
    skin: float
    capacity: int
    bins: tuple[int, int, int]
    reach: tuple[int, int, int]
    width: tuple[float, float, float]
    pbc: tuple[bool, bool, bool]
    normals: Float[Tensor, "3 3"]
    thinnest: tuple[float, float, float]

    @property
    def radius(self) -> float:
        """Å, cutoff and skin."""
        return self.cutoff + self.skin


@dataclass(frozen=True, eq=False)
class Built:
    """A list and what the device has to say about it; the matrix is right if `fits` is true.

    Attributes:
        matrix: rows cut off at the capacity.
        wanted: neighbours of the atom with the most.
        fits: every row fits, the cell is one that the plan is good for, and every lattice translation can be packed.
        far: some translation cannot be packed (an atom has moved over 511 cells).
    """

    matrix: NeighborMatrix
    wanted: Int[Tensor, ""]
    fits: Bool[Tensor, ""]
    far: Bool[Tensor, ""]


@dataclass(frozen=True, eq=False)
class _Binned:
    """Atoms in the order of their bins: where they are inside the cell, and which image of it they came from.

    ``frame``: the lattice vectors and the square of the reach.
    """

    atom: Int[Tensor, "N"]
    place: Float[Tensor, "3 N"]
    image: Int[Tensor, "N"]
    bin: Int[Tensor, "N"]
    first: Int[Tensor, "M"]
    frame: Float[Tensor, "10"]
    fits: Bool[Tensor, ""]
    far: Bool[Tensor, ""]


def plan_list(
    system: System, cutoff: float, skin: float, *, capacity: int | None = None, margin: float = 0.0
) -> ListPlan:
    """A plan for one structure and what it will become.

    Args:
        cutoff: Å; infinite for all pairs of a molecule.
        skin: Å.
        capacity: room of a row; measured here, with room to spare, if not given.
        margin: fraction by which periodic cells may shrink before a new plan is needed.

    Raises:
        InputError: several structures, an infinite cutoff in a periodic one, a cell that is flat.
    """
    if system.n_structures != 1:
        raise InputError("neighbour lists on the device are made for one structure at a time")
    pbc = np.asarray(system.pbc[0].cpu())
    cell = system.cell[0].detach().cpu().double().numpy()
    positions = system.positions.detach().cpu().double().numpy()
    if np.isinf(cutoff) and pbc.any():
        raise InputError("a periodic structure has infinitely many pairs: give a finite cutoff")
    if not cutoff > 0.0 or not skin >= 0.0:
        raise InputError(f"a neighbour list needs a positive cutoff and a skin of 0 or more, not {cutoff} and {skin}")
    normals = _normals(cell, pbc)
    box = np.where(pbc[:, None], cell, normals)
    if not abs(np.linalg.det(box)) > 1e-9:
        raise InputError("the cell is flat: its periodic lattice vectors do not span a volume")
    bins, reach, width, thinnest = _cut(positions @ np.linalg.inv(box), box, pbc, cutoff + skin, margin)
    plan = ListPlan(
        cutoff=float(cutoff),
        skin=float(skin),
        capacity=8 if capacity is None else capacity,
        bins=bins,
        reach=reach,
        width=width,
        pbc=(bool(pbc[0]), bool(pbc[1]), bool(pbc[2])),
        normals=torch.as_tensor(normals).to(system.device),
        thinnest=thinnest,
    )
    if capacity is not None:
        return plan
    if np.isinf(cutoff):
        return replace(plan, capacity=_rounded(system.n_atoms - 1))
    built = build_list(plan, system.positions.detach(), system.cell.detach())
    return roomier(plan, int(built.wanted))


def roomier(plan: ListPlan, wanted: int) -> ListPlan:
    """The plan with room for rows of this length and some to spare; never with less room than before."""
    return replace(plan, capacity=max(plan.capacity, _rounded(int(np.ceil(SPARE * wanted)))))


def empty_matrix(plan: ListPlan, n_atoms: int, device: torch.device) -> NeighborMatrix:
    """A matrix of the plan's shape that lists nothing, for `build_list` to write into."""
    index = torch.zeros(n_atoms, plan.capacity, dtype=torch.int32, device=device)
    zero = SHIFT_ZERO * (1 + (1 << SHIFT_BITS) + (1 << 2 * SHIFT_BITS))
    count = torch.zeros(n_atoms, dtype=torch.int32, device=device)
    return NeighborMatrix(index, torch.full_like(index, zero), count, plan.cutoff, plan.skin)


def build_list(
    plan: ListPlan,
    positions: Float[Tensor, "N 3"],
    cell: Float[Tensor, "1 3 3"],
    into: NeighborMatrix | None = None,
) -> Built:
    """All neighbours within cutoff and skin, in an order that depends on positions and cell only.

    Runs on a GPU, or on a CPU under Triton's interpreter. Reads and writes no number on the host.

    Args:
        positions: Å, anywhere: they need not be wrapped.
        cell: Å.
        into: written over, if given; of the plan's shape.
    """
    from heliodor.kernels.gpu.lists.scan import BLOCKS, scan_rows

    n_atoms = positions.shape[0]
    binned = _bin(plan, positions, cell[0])
    matrix = empty_matrix(plan, n_atoms, positions.device) if into is None else into
    wanted = torch.empty(n_atoms, dtype=torch.int32, device=positions.device)
    block, warps = BLOCKS[plan.radius > LONG]
    scan_rows[(n_atoms,)](
        binned.atom,
        binned.place,
        binned.image,
        binned.bin,
        binned.first,
        binned.frame,
        matrix.index,
        matrix.shift,
        matrix.count,
        wanted,
        n_atoms,
        plan.capacity,
        *plan.bins,
        *plan.reach,
        OPEN_X=not plan.pbc[0],
        OPEN_Y=not plan.pbc[1],
        OPEN_Z=not plan.pbc[2],
        BLOCK=block,
        num_warps=warps,
    )
    longest = wanted.amax()
    return Built(matrix, longest, binned.fits & (longest <= plan.capacity), binned.far)


def _bin(plan: ListPlan, positions: Float[Tensor, "N 3"], cell: Float[Tensor, "3 3"]) -> _Binned:
    device = positions.device
    periodic = _constant(plan.pbc, device)
    box = torch.where(periodic.unsqueeze(-1), cell, plan.normals)
    inverse = inverse_of(box)
    # a sum of three products in a fixed order, whatever the library does with matrices
    s = (positions.unsqueeze(-1) * inverse).sum(1)
    image = torch.where(periodic, s.floor(), 0.0)
    inside = s - image
    bins = _constant([float(n) for n in plan.bins], device)
    from_end = (inside - inside.amin(0)) * _constant([0.0 if w == 0.0 else 1.0 / w for w in plan.width], device)
    place = torch.where(periodic, inside * bins, from_end)
    each = torch.minimum(place.floor().clamp_min(0.0), bins - 1.0).to(torch.int32)
    key = (each[:, 0] * plan.bins[1] + each[:, 1]) * plan.bins[2] + each[:, 2]
    key, order = torch.sort(key, stable=True)
    total = plan.bins[0] * plan.bins[1] * plan.bins[2]
    first = torch.searchsorted(key, torch.arange(total + 1, dtype=torch.int32, device=device), out_int32=True)
    image = image.to(torch.int32)
    wrapped = positions - (image.to(positions.dtype).unsqueeze(-1) * box).sum(1)
    packed = image[:, 0] + (image[:, 1] << SHIFT_BITS) + (image[:, 2] << 2 * SHIFT_BITS)
    # translations of a list are differences of images, and what the search adds
    most = _constant([float(1 + -(-r // n)) for r, n in zip(plan.reach, plan.bins, strict=True)], device)
    span = (s.floor().amax(0) - s.floor().amin(0)) + most
    far = (periodic & ~(span < SHIFT_ZERO)).any()
    heights = inverse.square().sum(0).rsqrt()
    fits = (~periodic | (heights >= _constant(plan.thinnest, device))).all() & ~far
    return _Binned(
        atom=order.to(torch.int32),
        place=wrapped[order].T.contiguous(),
        image=packed[order],
        bin=key,
        first=first,
        frame=torch.cat([box.flatten(), _constant([plan.radius**2], device)]),
        fits=fits,
        far=far,
    )


_CONSTANTS: dict[tuple[tuple[float, ...], str], Tensor] = {}


def _constant(values: tuple[float, ...] | tuple[bool, ...] | list[float], device: torch.device) -> Tensor:
    """A small tensor on a device, made once: copies from the host have no place in a CUDA graph."""
    key = (tuple(values), f"{device}{type(values[0]).__name__}")
    if key not in _CONSTANTS:
        dtype = torch.bool if isinstance(values[0], bool) else torch.float64
        _CONSTANTS[key] = torch.tensor(values, dtype=dtype, device=device)
    return _CONSTANTS[key]


def _normals(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Unit vectors along open directions, at right angles to the periodic ones and to one another."""
    normals = np.zeros((3, 3))
    if pbc.all():
        return normals
    others = np.eye(3) if not pbc.any() else np.linalg.svd(cell[pbc])[2][pbc.sum() :]
    normals[~pbc] = others
    return normals


def _cut(
    s: np.ndarray, box: np.ndarray, pbc: np.ndarray, radius: float, margin: float
) -> tuple[tuple[int, int, int], tuple[int, int, int], tuple[float, float, float], tuple[float, float, float]]:
    """Bins, reach, width and thinnest of `ListPlan`."""
    if np.isinf(radius):
        return (1, 1, 1), (0, 0, 0), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
    # heights of the cell between opposite faces; 1 Å for a unit of an open direction
    heights = 1.0 / np.linalg.norm(np.linalg.inv(box), axis=0)
    extent = np.where(pbc, heights * (1.0 - margin), np.ptp(s, axis=0))
    parts = np.array([2.0, 2.0, THIN] if radius > LONG else [1.0, 1.0, THIN])
    bins = np.maximum(np.floor(extent / (radius * SLACK) * parts), 1.0).astype(int)
    if not pbc.any() and len(s) <= 256:
        bins[:] = 1
    # a little matter in much vacuum: wider bins do
    most = max(64, 8 * len(s))
    while bins.prod() > most:
        k = int(np.argmax(bins / parts))
        bins[k] = (bins[k] + 1) // 2
    size = np.where(pbc, extent / bins, np.where(bins > 1, np.maximum(extent / bins, radius / parts), 1.0))
    reach = np.where(~pbc & (bins == 1), 0, np.ceil(radius * SLACK / size)).astype(int)
    width = np.where(pbc, 0.0, size)
    thinnest = np.where(pbc, radius * SLACK * bins / np.maximum(reach, 1), 0.0)
    x, y, z = (tuple(v.tolist()) for v in (bins, reach, width))
    return x, y, z, tuple(thinnest.tolist())


def _rounded(room: int) -> int:
    return max(ROUND, -(-room // ROUND) * ROUND)
