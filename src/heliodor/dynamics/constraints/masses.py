"""Hydrogen mass repartitioning: slower hydrogens, longer timesteps."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from heliodor.dynamics.constraints.hydrogens import find_bonds, find_hydrogens
from heliodor.dynamics.naming import atom_name
from heliodor.errors import InputError
from heliodor.system import System

HYDROGEN_MASS = 3.024
"""amu; three times hydrogen, as in the paper."""


def repartition(system: System, masses: Float[Tensor, "N"], hydrogen_mass: float = HYDROGEN_MASS) -> Float[Tensor, "N"]:
    """Masses, amu, with every hydrogen at ``hydrogen_mass`` and as much less on the atom it is bonded to.

    Structures and thermodynamics do not depend on masses; fast vibrations get slower, with rigid bonds to hydrogen
    steps of 4 fs are possible. Diffusion and spectra are no longer those of nature. The mass of each molecule stays,
    waters take part, hydrogens without a heavy atom (H2, H+) are left as they are.

    Hopkins, Le Grand, Walker & Roitberg, J. Chem. Theory Comput. 11, 1864 (2015).

    Args:
        masses: amu.
        hydrogen_mass: amu, 1 to 4.

    Raises:
        InputError: mass outside that range, or a heavy atom that would become lighter than its hydrogens.
    """
    if not 1.0 <= hydrogen_mass <= 4.0:
        raise InputError(f"hydrogens can get a mass of 1 to 4 amu, not {hydrogen_mass:g}; 3.024 is usual")
    found = find_hydrogens(system, find_bonds(system))
    heavy = system.numbers[found.partner] != 1
    atom, partner = found.atom[heavy], found.partner[heavy]
    taken = hydrogen_mass - masses[atom]
    result = masses.index_add(0, partner, -taken)
    result = result.index_copy(0, atom, torch.full_like(taken, hydrogen_mass))
    light = partner[(result[partner] < hydrogen_mass)]
    if len(light):
        k = int(light[0])
        raise InputError(
            f"{atom_name(system, k)} would be left with {float(result[k]):.3f} amu, less than its hydrogens: "
            f"choose a hydrogen mass below {hydrogen_mass:g} amu"
        )
    return result
