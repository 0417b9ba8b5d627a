"""Atoms that do not move, as ASE structures name them."""

from __future__ import annotations

import ase
import torch
from ase.constraints import FixAtoms
from jaxtyping import Bool
from torch import Tensor

from heliodor.errors import InputError


def frozen_from(atoms: ase.Atoms) -> Bool[Tensor, "N"]:
    """The atoms held by ``FixAtoms`` constraints of an ASE structure; none are where there are no constraints.

    Raises:
        InputError: constraints of another kind, which would otherwise be lost silently.
    """
    mask = torch.zeros(len(atoms), dtype=torch.bool)
    for constraint in atoms.constraints:
        if not isinstance(constraint, FixAtoms):
            raise InputError(
                f"the structure has an ASE constraint {type(constraint).__name__}, and only FixAtoms is known here: "
                "use restraints or rigid bonds instead, or remove it with atoms.set_constraint()"
            )
        mask[torch.as_tensor(constraint.get_indices(), dtype=torch.int64)] = True
    return mask
