"""What a lattice energy at a finite cutoff lacks against the same model without one.

SO3LR's Coulomb pair term at a cutoff R is q_i q_j [V(d) - V(R)] (and force-shifted near R), V(d) = k_e erf(d/σ)/d. In
Wolf's summation (Wolf, Keblinski, Phillpot, Eggebrecht, J. Chem. Phys. 110, 8254 (1999)) V(R) stands for an image on
the cutoff sphere of everything inside it, the atom itself included; that atom's own share, -½ V(R) Σ q_i², is what pair
terms leave out. With it, both a neutral molecule smaller than R and a crystal agree with the sum without cutoff up to
terms that fall off fast. In E_crystal/Z - E_gas the shares cancel but for the change of the charges: at R = 12 Å some
kcal/mol in crystals whose molecules are strongly polarized, falling as 1/R only.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from heliodor.physics.tables import COULOMB
from heliodor.potential import Potential, Prediction
from heliodor.potentials.committee import Committee, evaluate_members
from heliodor.potentials.so3lr import SO3LR
from heliodor.potentials.sum import Sum
from heliodor.system import System


def own_shares(
    potential: Potential, system: System, prediction: Prediction, cutoff: float | None
) -> Float[Tensor, "B"] | None:
    """Wolf's self term -½ V(R) Σ q_i² of each structure, eV; None for models that have no such term.

    That of a committee is the mean over its members, each of which is evaluated for its own charges.

    Args:
        prediction: of that potential for that system, at that cutoff.
        cutoff: R in Å.
    """
    if isinstance(potential, Committee):
        parts = evaluate_members(potential, system, forces=False)
        shares = [own_shares(m, system, p, cutoff) for m, p in zip(potential.members, parts, strict=True)]
        known = [share for share in shares if share is not None]
        return torch.stack(known).mean(0) if len(known) == len(shares) else None
    if isinstance(potential, Sum):
        # charges are the base's
        return own_shares(potential.base, system, prediction, cutoff)
    if not isinstance(potential, SO3LR) or cutoff is None or prediction.charges is None:
        return None
    edge = COULOMB * math.erf(cutoff / potential.config.electrostatic_damping) / cutoff
    squares = prediction.charges.double().square()
    return -0.5 * edge * torch.zeros_like(prediction.energy).index_add(0, system.batch, squares)
