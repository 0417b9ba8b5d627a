"""Which deformations of the cell a barostat or a relaxation may make: a projection on some of the strains.

Strains, virials and rates are symmetric matrices in the laboratory frame (so the cell never turns: rotation is
removed by construction). A coupling is the subspace of them that is free; the rest of the cell stays as it is.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from heliodor.errors import InputError
from heliodor.system import System

COUPLINGS = ("isotropic", "semi-isotropic", "in-plane", "anisotropic", "triclinic")
"""Isotropic: all lengths by one factor. Semi-isotropic: x and y by one, z by another. In-plane: x and y by one, z
fixed. Anisotropic: x, y, z each by its own. Triclinic: the angles too."""

DIMENSIONS = {"isotropic": 1, "semi-isotropic": 2, "in-plane": 1, "anisotropic": 3, "triclinic": 6}
"""Number of independent strains."""

AXES = {"isotropic": 3, "semi-isotropic": 3, "in-plane": 2, "anisotropic": 3, "triclinic": 3}
"""Number of Cartesian directions that can change their length."""


def project(tensor: Float[Tensor, "B 3 3"], coupling: str) -> Float[Tensor, "B 3 3"]:
    """The part of symmetric matrices that lies in the coupling's subspace (orthogonal projection).

    Raises:
        InputError: unknown coupling.
    """
    if coupling == "triclinic":
        return 0.5 * (tensor + tensor.mT)
    x, y, z = torch.diagonal(tensor, dim1=-2, dim2=-1).unbind(-1)
    if coupling == "isotropic":
        diagonal = ((x + y + z) / 3.0).unsqueeze(-1).expand(-1, 3)
    elif coupling == "semi-isotropic":
        diagonal = torch.stack([0.5 * (x + y), 0.5 * (x + y), z], -1)
    elif coupling == "in-plane":
        diagonal = torch.stack([0.5 * (x + y), 0.5 * (x + y), torch.zeros_like(z)], -1)
    elif coupling == "anisotropic":
        diagonal = torch.stack([x, y, z], -1)
    else:
        raise InputError(f"coupling must be one of {', '.join(COUPLINGS)}, not {coupling!r}")
    return torch.diag_embed(diagonal)


def free_axes(coupling: str) -> Bool[Tensor, "3"]:
    """Which Cartesian directions the coupling can stretch."""
    probe = project(torch.ones(1, 3, 3, dtype=torch.float64), coupling)
    return torch.diagonal(probe[0]) != 0


def check_coupling(system: System, coupling: str) -> None:
    """Refuse structures without a cell along a direction that the coupling would stretch.

    Raises:
        InputError: no cell, or open along a coupled direction, or lattice vectors that do not fit the coupling.
    """
    axes = free_axes(coupling)
    for b in range(system.n_structures):
        where = f"structure {b}: " if system.n_structures > 1 else ""
        pbc, cell = system.pbc[b].cpu(), system.cell[b].cpu()
        if not bool(pbc.any()):
            raise InputError(f"{where}pressure needs a periodic cell and this is a molecule without one")
        if bool(pbc.all()):
            mixed = coupling in ("semi-isotropic", "in-plane") and bool(
                (cell[:2, 2].abs().amax() > 1e-6) | (cell[2, :2].abs().amax() > 1e-6)
            )
            if mixed:
                raise InputError(
                    f"{where}{coupling} coupling needs the third lattice vector along z, the others in the xy plane; "
                    "turn the structure, or choose isotropic, anisotropic or triclinic coupling"
                )
            continue
        # an open direction must be left alone, and the lattice must lie in the rest
        held = cell[pbc][:, ~axes].abs().amax() if bool((~axes).any()) else torch.zeros(())
        if int(pbc.sum()) < int(axes.sum()) or float(held) > 1e-6 or bool((axes & ~pbc).any()):
            raise InputError(
                f"{where}{coupling} coupling would stretch the box along a direction in which it is not periodic "
                f"(pbc {' '.join('TF'[not p] for p in pbc)}); slabs open along z can use in-plane coupling"
            )
