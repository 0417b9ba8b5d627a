"""Self-consistent fields that converge: from the quick to the stubborn, all to the same solution and threshold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from heliodor.label.label import NotConvergedError

ENERGY_THRESHOLD = 1e-9
"""Hartree."""

GRADIENT_THRESHOLD = 1e-5
"""Of the orbitals, Hartree; the error of forces is of its order."""

CYCLES = (60, 150)
"""Iterations on the fine grid, of effort 0 and of the others."""

_COARSE_LEVEL = 1
_COARSE_THRESHOLD = 1e-5
_LEVEL_SHIFT = 0.3
_DAMPING = 0.5
_SMEARING = 0.02

Field = Callable[[int], Any]
"""Makes a new mean field with a grid of a level."""


def converge(make: Field, level: int, effort: int) -> Any:
    """A converged mean field on the grid ``level``.

    Effort 0: DIIS, first on a coarse grid, where most of the way costs little. 1: the coarse part with a level shift
    and damping. 2: a second-order solver. 3: the same from a density with smeared occupations. What helps on the way is
    gone at the end: shift, damping and smearing act on the coarse part only.

    Raises:
        NotConvergedError: not with this effort.
    """
    coarse = _coarse(make, effort)
    field = make(level)
    _set_thresholds(field, ENERGY_THRESHOLD, GRADIENT_THRESHOLD)
    field.max_cycle = CYCLES[min(effort, 1)]
    try:
        if effort < 2:
            field.kernel(dm0=coarse)
        else:
            field = _second_order(field, coarse)
    except (np.linalg.LinAlgError, ValueError) as error:
        raise NotConvergedError(f"the self-consistent field broke down: {error}") from None
    if not field.converged or not np.isfinite(float(field.e_tot)):
        raise NotConvergedError(f"the self-consistent field did not converge with effort {effort}")
    return field


def _coarse(make: Field, effort: int) -> Any:
    """Density matrix to start from; converged or not, better than free atoms."""
    field = make(_COARSE_LEVEL)
    _set_thresholds(field, _COARSE_THRESHOLD, None)
    field.max_cycle = 30
    if effort:
        field.level_shift, field.damp, field.max_cycle = _LEVEL_SHIFT, _DAMPING, 80
    if effort == 3:
        from pyscf.scf.addons import smearing

        field = smearing(field, sigma=_SMEARING, method="fermi")
    try:
        field.kernel()
    except (np.linalg.LinAlgError, ValueError):
        return None
    if not np.isfinite(float(field.e_tot)):
        return None
    return field.make_rdm1()


def _second_order(field: Any, start: Any) -> Any:
    solver = field.newton()
    solver.verbose, solver.max_cycle = 0, field.max_cycle
    _set_thresholds(solver, ENERGY_THRESHOLD, GRADIENT_THRESHOLD)
    solver.kernel(dm0=start)
    # gradients and properties want the plain field
    for key in ("converged", "e_tot", "mo_energy", "mo_coeff", "mo_occ"):
        setattr(field, key, getattr(solver, key))
    return field


def _set_thresholds(field: Any, energy: float, gradient: float | None) -> None:
    field.conv_tol, field.conv_tol_grad = energy, gradient
