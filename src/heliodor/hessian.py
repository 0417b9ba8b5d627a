"""Second derivatives of the energy: exact, by differentiating the gradient, for any model that is plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ase
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from heliodor.errors import InputError, ModelError
from heliodor.potential import Potential, check_distances, evaluate_system, warn_about
from heliodor.system import System

ASYMMETRY = {torch.float64: 1e-8, torch.float32: 1e-4}
"""Largest |H - Hᵀ| over the largest |H| that rounding explains; those measured are a thousand times smaller."""

BATCH = {"cpu": 600, "cuda": 20_000}
"""Rows times columns differentiated at once. A CPU gains from batches up to about 40 atoms; GPUs were not measured."""

STEP = 1e-3
"""Å; of the differences of forces that the Hessian is checked against."""

DISAGREEMENT = 0.01
"""Largest error of that check over its largest value; differences of a float32 model's forces are good to 0.001."""

NOISE = {torch.float64: 1e-5, torch.float32: 0.05}
"""eV/Å²; likewise, where nothing is stiff."""

Progress = Callable[[int, int], object]
"""Called with the number of rows done and of all rows."""


@dataclass(frozen=True)
class Curvature:
    """Energy and derivatives of one structure of N atoms, of which n may move (n = N without a subset).

    Attributes:
        energy: eV.
        forces: eV/Å, on all atoms.
        hessian: ∂²E/∂R∂R in eV/Å², symmetric; rows and columns are x, y, z of the first moving atom, then of the next.
        dipole_derivatives: ∂μ/∂R in e, a row for each row of the Hessian; None for periodic structures and models
            without charges.
        asymmetry: largest |H - Hᵀ| before symmetrising, eV/Å²: what rounding did.
    """

    energy: float
    forces: Float[np.ndarray, "N 3"]
    hessian: Float[np.ndarray, "M M"]
    dipole_derivatives: Float[np.ndarray, "M 3"] | None
    asymmetry: float


def hessian(
    potential: Potential,
    atoms: ase.Atoms,
    *,
    charge: float | None = None,
    spin: int | None = None,
    subset: Sequence[int] | np.ndarray | None = None,
    chunk: int | None = None,
    progress: Progress | None = None,
) -> Float[np.ndarray, "M M"]:
    """∂²E/∂R∂R of one structure in eV/Å², [3n, 3n] float64, symmetric.

    Exact up to rounding: no step has to be chosen (differences of forces along one direction only check it). In a
    float64 network the error is about 1e-15 of the largest element; float32 leaves about 1e-6 of it, which blurs
    squared wavenumbers by some 2 cm⁻²: vibrations above 500 cm⁻¹ move by less than 0.002 cm⁻¹, the six modes of a
    molecule that should be zero come out at up to 1.5 cm⁻¹. float64 is recommended, for the relaxation before even
    more. Of periodic structures this is the Γ point: atoms and their images move together.

    Args:
        charge, spin: override ``atoms.info["charge"]``, ``["spin"]`` (unpaired electrons).
        subset: indices of the n atoms that move, in the order of the rows; the others are frozen. None: all.
        chunk: rows at a time; memory grows with it. None: by the size of the structure.

    Raises:
        InputError, ModelError: what cannot be evaluated, naming the atom; a subset that is none; a model that
            cannot be differentiated twice.
    """
    return curvature(potential, atoms, charge=charge, spin=spin, subset=subset, chunk=chunk, progress=progress).hessian


def curvature(
    potential: Potential,
    atoms: ase.Atoms,
    *,
    charge: float | None = None,
    spin: int | None = None,
    subset: Sequence[int] | np.ndarray | None = None,
    chunk: int | None = None,
    progress: Progress | None = None,
) -> Curvature:
    """The Hessian together with energy, forces and derivatives of the dipole; arguments and errors as `hessian`."""
    if chunk is not None and chunk < 1:
        raise InputError(f"chunk must be at least one row, not {chunk}")
    moving = chosen_atoms(subset, len(atoms))
    system = System.from_atoms(atoms, charge=charge, spin=spin, device=potential.device)
    potential.check(system)
    warn_about(potential, system)
    neighbors = potential.neighbors(system)
    check_distances(system, neighbors)

    leaf = system.positions.clone().requires_grad_()
    # without forces the positions stay the leaf that they are, and energy and dipole keep their graph to it
    p = evaluate_system(potential, system.replace(positions=leaf), neighbors, forces=False, create_graph=True)
    columns = torch.as_tensor((3 * moving[:, None] + np.arange(3)).ravel(), device=leaf.device)
    (gradient,) = torch.autograd.grad(p.energy.sum(), leaf, create_graph=True, materialize_grads=True)
    if not bool(gradient.isfinite().all()):
        raise ModelError(f"the forces of {potential.name} are not finite for this structure: look at its distances")
    rows = _rows(gradient.view(-1)[columns], leaf, columns, chunk or _chunk(leaf), progress).cpu().numpy()
    if not np.isfinite(rows).all():
        raise ModelError(f"the second derivatives of {potential.name} are not finite for this structure")
    asymmetry = float(np.abs(rows - rows.T).max())
    if asymmetry > ASYMMETRY.get(potential.dtype, ASYMMETRY[torch.float32]) * float(np.abs(rows).max()):
        raise ModelError(
            f"the second derivatives of {potential.name} are not symmetric (by {asymmetry:.2g} of "
            f"{float(np.abs(rows).max()):.2g} eV/Å²): some part of it cannot be differentiated twice"
        )
    curved = 0.5 * (rows + rows.T)
    _check(potential, system, columns, torch.as_tensor(curved))
    dipole = None
    if p.dipole is not None and not bool(system.pbc.any()):
        dipole = _rows(p.dipole[0].to(leaf.dtype), leaf, columns, 3, None).T.cpu().numpy()
    return Curvature(
        energy=float(p.energy.detach()[0]),
        forces=-gradient.detach().cpu().numpy(),
        hessian=curved,
        dipole_derivatives=dipole,
        asymmetry=asymmetry,
    )


def chosen_atoms(subset: Sequence[int] | np.ndarray | None, n_atoms: int) -> np.ndarray:
    """Indices of the atoms that move, [n].

    Raises:
        InputError: none, one twice, or one that does not exist; something that is no index.
    """
    if subset is None:
        return np.arange(n_atoms)
    index = np.asarray(subset)
    if index.ndim != 1 or index.dtype.kind not in "iu" or len(index) == 0:
        raise InputError("subset must be a list of indices of atoms, at least one")
    if int(index.min()) < 0 or int(index.max()) >= n_atoms:
        raise InputError(f"subset: atoms are counted from 0 to {n_atoms - 1}")
    if len(np.unique(index)) != len(index):
        raise InputError("subset names an atom twice")
    return index.astype(np.int64)


def _check(potential: Potential, system: System, columns: Int[Tensor, "C"], curved: Float[Tensor, "C C"]) -> None:
    """Compare with forces at two displaced places: a part of a model that PyTorch takes for a constant is not noticed
    otherwise (such as a fused kernel whose backward pass has none of its own).
    """
    way = torch.randn(len(columns), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moved = torch.zeros(system.n_atoms * 3, dtype=system.dtype, device=system.device)
    moved[columns] = (STEP * way / way.abs().max()).to(moved)
    sides = []
    for sign in (-1.0, 1.0):
        p = evaluate_system(potential, system.replace(positions=system.positions + sign * moved.view(-1, 3)))
        assert p.forces is not None
        sides.append(p.forces.flatten()[columns])
    found = ((sides[0] - sides[1]) / (2.0 * STEP)).cpu().double()
    expected = curved @ moved[columns].cpu().double() / STEP
    error = float((found - expected).abs().max())
    noise = NOISE.get(potential.dtype, NOISE[torch.float32])
    if not error <= DISAGREEMENT * float(torch.maximum(found.abs(), expected.abs()).max()) + noise:
        raise ModelError(
            f"the second derivatives of {potential.name} disagree with differences of its forces by {error:.2g} eV/Å²: "
            "some part of it cannot be differentiated twice"
        )


def _chunk(leaf: Float[Tensor, "N 3"]) -> int:
    return max(1, min(64, BATCH.get(leaf.device.type, BATCH["cpu"]) // leaf.numel()))


def _rows(
    values: Float[Tensor, "R"],
    leaf: Float[Tensor, "N 3"],
    columns: Int[Tensor, "C"],
    chunk: int,
    progress: Progress | None,
) -> Float[Tensor, "R C"]:
    """∂values/∂leaf, some columns of it: vector-Jacobian products, several at once where the model allows."""
    count = len(values)
    found = torch.zeros(count, len(columns), dtype=leaf.dtype, device=leaf.device)
    if not values.requires_grad:
        return found
    unit = torch.eye(count, dtype=values.dtype, device=values.device)
    first = 0
    while first < count:
        some = unit[first : first + chunk]
        try:
            found[first : first + len(some)] = _products(values, leaf, some)[:, columns]
        except torch.OutOfMemoryError:
            if chunk == 1:
                raise
            chunk = max(1, chunk // 4)
            continue
        except (RuntimeError, NotImplementedError) as error:
            if chunk == 1:
                raise ModelError(f"the model cannot be differentiated twice ({error})") from error
            # some operation of the model cannot be batched: one by one, then
            chunk = 1
            continue
        first += len(some)
        if progress is not None:
            progress(first, count)
    return found


def _products(values: Float[Tensor, "R"], leaf: Float[Tensor, "N 3"], some: Float[Tensor, "K R"]) -> Tensor:
    batched = len(some) > 1
    (products,) = torch.autograd.grad(
        values,
        leaf,
        some if batched else some[0],
        retain_graph=True,
        is_grads_batched=batched,
        materialize_grads=True,
    )
    if batched and products.shape != (len(some), *leaf.shape):
        raise RuntimeError("an operation of the model loses the batch")
    return products.view(len(some), -1)
