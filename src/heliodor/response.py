"""What models say of dipole moments and polarizabilities, and how these change with the positions."""

from __future__ import annotations

from dataclasses import dataclass

import ase
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from heliodor.errors import ModelError
from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, Prediction, check_distances, total_dipole, warn_about, without_kernels
from heliodor.system import System


@dataclass(frozen=True)
class ResponseDerivatives:
    """Dipole and polarizability of one structure of N atoms, and their derivatives.

    Attributes:
        dipole: e·Å.
        born_charges: ∂μ_a/∂R_ib in e as [i, a, b]: the atomic polar tensor (Born effective charges). Summed over the
            atoms it is the total charge times the unit matrix.
        polarizability: e²Å²/eV; None of models without.
        raman_tensor: ∂α_ab/∂R_ic in e²Å/eV as [i, a, b, c]; sums to zero over the atoms. None of models without.
    """

    dipole: Float[np.ndarray, "3"]
    born_charges: Float[np.ndarray, "N 3 3"]
    polarizability: Float[np.ndarray, "3 3"] | None
    raman_tensor: Float[np.ndarray, "N 3 3 3"] | None


def evaluate_response(potential: Potential, system: System, neighbors: Neighbors | None = None) -> Prediction:
    """Dipole, polarizability, charges and Hirshfeld ratios, as far as the model has them; keeps the graph, if any.

    Returns:
        A prediction without energies: those are not a number.

    Raises:
        ModelError: the model has none of dipole and polarizability.
    """
    terms = potential(system, potential.neighbors(system) if neighbors is None else neighbors)
    dipole = total_dipole(terms, system)
    polarizability = None
    if terms.polarizabilities is not None:
        atomic = terms.polarizabilities.to(system.dtype)
        polarizability = torch.zeros_like(system.cell).index_add(0, system.batch, atomic)
    if dipole is None and polarizability is None:
        raise ModelError(f"{potential.name} predicts neither dipoles nor polarizabilities")
    return Prediction(
        energy=torch.full_like(system.charge, torch.nan),
        charges=terms.charges,
        hirshfeld_ratios=terms.hirshfeld_ratios,
        dipole=dipole,
        polarizability=polarizability,
    )


def response_derivatives(
    potential: Potential, atoms: ase.Atoms, *, charge: float | None = None, spin: int | None = None
) -> ResponseDerivatives:
    """Derivatives of dipole and polarizability with respect to the positions of one structure, exact up to rounding.

    Infrared intensities come from the one, Raman activities from the other. Of a periodic structure atoms and their
    images move together; as the dipole does, the charges' part depends on which image of each atom is given.

    Args:
        charge, spin: override ``atoms.info["charge"]``, ``["spin"]``.

    Raises:
        InputError, ModelError: what cannot be evaluated, naming the atom; a model without dipoles.
    """
    system = System.from_atoms(atoms, charge=charge, spin=spin, device=potential.device)
    potential.check(system)
    warn_about(potential, system)
    neighbors = potential.neighbors(system)
    check_distances(system, neighbors)
    leaf = system.positions.clone().requires_grad_()
    with torch.enable_grad(), without_kernels(potential):
        p = evaluate_response(potential, system.replace(positions=leaf), neighbors)
    if p.dipole is None:
        raise ModelError(f"{potential.name} predicts no dipoles")
    raman = None
    if p.polarizability is not None:
        raman = _rows(p.polarizability[0].flatten(), leaf).view(len(leaf), 3, 3, 3).cpu().numpy()
    return ResponseDerivatives(
        dipole=p.dipole[0].detach().cpu().numpy(),
        born_charges=_rows(p.dipole[0], leaf).cpu().numpy(),
        polarizability=None if p.polarizability is None else p.polarizability[0].detach().cpu().numpy(),
        raman_tensor=raman,
    )


def _rows(values: Float[Tensor, "R"], leaf: Float[Tensor, "N 3"]) -> Float[Tensor, "N R 3"]:
    """∂values/∂leaf, one value after the other."""
    rows = [torch.autograd.grad(value, leaf, retain_graph=True, materialize_grads=True)[0] for value in values]
    return torch.stack(rows, dim=1)
