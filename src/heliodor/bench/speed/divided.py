"""What a simulation divided among processes has to send, and computes more than once (docs/scaling.md).

For cubic domains of a uniform density, each with an own piece of space and copies of what is around it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heliodor.errors import ModelError
from heliodor.potential import Potential
from heliodor.potentials.mace import MACE
from heliodor.potentials.so3lr import SO3LR
from heliodor.potentials.spookynet import SpookyNet

NUMBER = 8
"""Bytes of a number that LAMMPS sends; float32 too travels as double."""


@dataclass(frozen=True)
class Sent:
    """Of one evaluation of energy and forces.

    Attributes:
        forward, backward: numbers for each copy of an atom in each exchange, in order.
        sums: sums over all processes, forward and backward.
    """

    forward: tuple[int, ...]
    backward: tuple[int, ...]
    sums: int

    @property
    def bytes(self) -> int:
        """For each copy of an atom and step; positions and forces, which LAMMPS sends anyway, are left out."""
        return NUMBER * (sum(self.forward) + sum(self.backward))


def sent(potential: Potential) -> Sent:
    """What a model sends (counted on the stand-in of the tests too).

    Raises:
        ModelError: a model that cannot be divided.
    """
    if isinstance(potential, SO3LR):
        c = potential.config.network
        layer = c.n_features + sum(2 * degree + 1 for degree in c.degrees)
        layers = (layer,) * (c.n_layers - 1)
        # charges and Hirshfeld ratios; sums for the embeddings of charge and spin, the total charge and its gradient
        return Sent((*layers, 2), (2, *layers), 4)
    if isinstance(potential, MACE):
        m = potential.config
        widths = tuple(m.channels * (degree + 1) ** 2 for degree in m.degrees[:-1])
        return Sent(widths, widths[::-1], 0)
    if isinstance(potential, SpookyNet):
        s = potential.config
        modules = (3 * s.n_features,) * s.n_modules
        # charges, and coordination numbers for D4
        far = (2,) if s.dispersion else (1,) if s.electrostatics else ()
        # of a neutral closed shell; each attention: largest exponent, how many have it and its value, memory
        sums = 4 * s.n_modules + 2 * (s.n_modules - 1) + 3
        return Sent((*modules, *far), (*far, *modules[1:]), sums)
    raise ModelError(f"{potential.name} cannot be divided among processes")


def copies(atoms: float, density: float, reach: float) -> float:
    """Copies that a domain keeps for each of its own atoms.

    Args:
        atoms: own atoms of the domain.
        density: atoms/Å³.
        reach: Å; cutoff and skin.
    """
    side = (atoms / density) ** (1.0 / 3.0)
    return (1.0 + 2.0 * reach / side) ** 3 - 1.0


def crossing(atoms: float, density: float, cutoff: float, points: int = 64) -> float:
    """Share of an atom's neighbours that belong to other domains, on average over a domain.

    Args:
        atoms: own atoms of the domain.
        density: atoms/Å³.
        cutoff: Å.
    """
    side = (atoms / density) ** (1.0 / 3.0)
    nodes, weights = np.polynomial.legendre.leggauss(points)
    # one octant of the sphere: radius, cosine of the polar angle, azimuth
    r, c = 0.5 * (nodes + 1.0) * cutoff, 0.5 * (nodes + 1.0)
    phi = 0.25 * np.pi * (nodes + 1.0)
    r, c, phi = np.meshgrid(r, c, phi, indexing="ij")
    weight = weights[:, None, None] * weights[None, :, None] * weights[None, None, :] * r**2
    s = np.sqrt(1.0 - c**2)
    inside = np.ones_like(r)
    for d in (r * s * np.cos(phi), r * s * np.sin(phi), r * c):
        inside = inside * np.clip(1.0 - d / side, 0.0, None)
    return float(1.0 - (weight * inside).sum() / weight.sum())
