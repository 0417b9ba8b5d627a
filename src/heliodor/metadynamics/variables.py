"""Collective variables: torsions and distances, checked, measured, and as forces of OpenMM.

Degrees and Å for people; OpenMM has radians and nm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import ase
import numpy as np
from jaxtyping import Float

from heliodor.errors import InputError
from heliodor.scan.geometry import LINEAR

if TYPE_CHECKING:
    import openmm

    from heliodor.metadynamics.settings import Settings

NM = 10.0
"""Å."""

POINTS = 5
"""Grid points per width of a Gaussian, as OpenMM has it."""

MOST_POINTS = 250_000
"""Of the grid of the bias: OpenMM sets up splines on all of it for each Gaussian, 0.16 s for this many."""

SOFTEST = 10.0
"""kT that a wall has to reach before the grid of the bias ends behind it."""

MARGIN, LEAST = 3.0, 0.3
"""Widths, and Å at the least, by which the grid of a distance goes beyond its walls: there the bias ends."""


@dataclass(frozen=True)
class Variable:
    """A collective variable.

    Attributes:
        kind: "torsion" (degrees, -180 to 180) or "distance" (Å).
        atoms: indices from 0.
        name: for tables and pictures.
        width: standard deviation of the Gaussians, degrees or Å.
        lower, upper: -180 and 180, or the walls of a distance (Å).
    """

    kind: Literal["torsion", "distance"]
    atoms: tuple[int, ...]
    name: str
    width: float
    lower: float
    upper: float

    @property
    def periodic(self) -> bool:
        return self.kind == "torsion"

    @property
    def unit(self) -> str:
        return "°" if self.periodic else "Å"

    @property
    def span(self) -> float:
        """From one end of the grid to the other, ° or Å."""
        if self.periodic:
            return 360.0
        return self.upper + self.margin - max(0.0, self.lower - self.margin)

    @property
    def scale(self) -> float:
        """OpenMM's number for one degree or Å."""
        return math.radians(1.0) if self.periodic else 1.0 / NM

    @property
    def grid(self) -> Float[np.ndarray, "n"]:
        """Points at which the bias is kept, both ends included: of a torsion -180 and 180 are the same."""
        if self.periodic:
            return np.linspace(-180.0, 180.0, math.ceil(POINTS * 360.0 / self.width) + 1)
        low, high = max(0.0, self.lower - self.margin), self.upper + self.margin
        return np.linspace(low, high, math.ceil(POINTS * (high - low) / self.width) + 1)

    @property
    def margin(self) -> float:
        """Å from the walls of a distance to the ends of its grid."""
        return max(LEAST, MARGIN * self.width)

    @property
    def edges(self) -> Float[np.ndarray, "m"]:
        """Of the bins of histograms, half a width each, between the walls."""
        return np.linspace(self.lower, self.upper, math.ceil(2.0 * (self.upper - self.lower) / self.width) + 1)

    def measure(self, atoms: ase.Atoms) -> float:
        """Value in a structure."""
        mic = bool(atoms.pbc.any())
        if self.kind == "distance":
            a, b = self.atoms
            return float(atoms.get_distance(a, b, mic=mic))
        # ASE counts to 360
        a, b, c, d = self.atoms
        return float((atoms.get_dihedral(a, b, c, d, mic=mic) + 180.0) % 360.0 - 180.0)

    def force(self, periodic: bool) -> openmm.Force:
        """The force whose energy is the variable, in OpenMM's units."""
        import openmm

        force: Any
        if self.kind == "torsion":
            force = openmm.CustomTorsionForce("theta")
            force.addTorsion(*self.atoms)
        else:
            force = openmm.CustomBondForce("r")
            force.addBond(*self.atoms)
        force.setUsesPeriodicBoundaryConditions(periodic)
        return force

    def to_dict(self) -> dict[str, Any]:
        """Plain values, of which `from_dict` makes it again."""
        return {
            "kind": self.kind,
            "atoms": list(self.atoms),
            "name": self.name,
            "width": self.width,
            "lower": self.lower,
            "upper": self.upper,
        }

    @staticmethod
    def from_dict(given: dict[str, Any]) -> Variable:
        """The opposite of `to_dict`."""
        return Variable(**{**given, "atoms": tuple(given["atoms"])})


def torsion(atoms: Sequence[int], *, width: float = 20.0, name: str | None = None) -> Variable:
    """A torsion of four atoms.

    Args:
        atoms: a, b, c, d, from 0; b-c is the axis.
        width: of the Gaussians, degrees.

    Raises:
        InputError: not four different atoms; a width of nothing or of more than 60°.
    """
    if not 0.0 < width <= 60.0:
        raise InputError(f"the width of a torsion's Gaussians must be above 0 and at most 60°, not {width!r}")
    found = _different(atoms, 4, "torsion")
    return Variable("torsion", found, name or f"torsion {'-'.join(map(str, found))}", float(width), -180.0, 180.0)


def distance(
    atoms: Sequence[int], lower: float, upper: float, *, width: float = 0.1, name: str | None = None
) -> Variable:
    """A distance of two atoms, held between two walls.

    Args:
        lower, upper: places of the walls, Å: springs that begin there.
        width: of the Gaussians, Å.

    Raises:
        InputError: not two different atoms; walls that leave no room.
    """
    found = _different(atoms, 2, "distance")
    if not 0.0 < width < math.inf:
        raise InputError(f"the width of a distance's Gaussians must be above zero (Å), not {width!r}")
    if not 0.0 <= lower < upper < math.inf or upper - lower < 2.0 * width:
        raise InputError(
            f"the walls of the distance {'-'.join(map(str, found))} must leave room for its Gaussians, "
            f"0 <= lower < upper (Å): not {lower!r} and {upper!r} at a width of {width:g} Å"
        )
    return Variable(
        "distance", found, name or f"distance {'-'.join(map(str, found))}", float(width), float(lower), float(upper)
    )


def check_variables(variables: Sequence[Variable], atoms: ase.Atoms) -> None:
    """Refuse variables that a structure or OpenMM's class cannot have.

    Raises:
        InputError: none or more than two; a torsion with a distance; atoms that are not there or held fixed; an angle
            of a torsion that is straight; a distance that does not begin between its walls, or that reaches over half
            the box; Gaussians too narrow for a grid.
    """
    if len(variables) not in (1, 2):
        raise InputError(
            f"{len(variables) or 'no'} collective variables were given: one or two torsions, or one or two distances"
        )
    if len({v.kind for v in variables}) > 1:
        raise InputError(
            "a torsion and a distance cannot be biased together, for OpenMM keeps their bias on one grid that is "
            "periodic along all variables or none: take two torsions or two distances"
        )
    if len(variables) == 2 and variables[0].atoms in (variables[1].atoms, variables[1].atoms[::-1]):
        raise InputError(f"{variables[0].name} was given twice")
    if atoms.constraints:
        raise InputError(
            "the structure has atoms that are held fixed (ASE constraints), and metadynamics would move them: take the "
            "constraints out (atoms.set_constraint())"
        )
    points = math.prod(math.ceil(v.span / v.width * POINTS) for v in variables)
    if points > MOST_POINTS:
        raise InputError(
            f"Gaussians this narrow need a grid of {points:,} points for the bias, and {MOST_POINTS:,} is the most: "
            "make them wider, or the room between walls smaller"
        )
    for v in variables:
        outside = [k for k in v.atoms if not 0 <= k < len(atoms)]
        if outside:
            raise InputError(
                f"{v.name} names atom {outside[0]}, which is not there: the structure has atoms 0 to {len(atoms) - 1}"
            )
        if v.kind == "torsion":
            for a, b, c in zip(v.atoms, v.atoms[1:], v.atoms[2:], strict=False):
                angle = float(atoms.get_angle(a, b, c, mic=bool(atoms.pbc.any())))
                if not 180.0 - LINEAR < angle < LINEAR:
                    raise InputError(
                        f"atoms {a}-{b}-{c} of {v.name} lie in a line ({angle:.1f}°): a torsion means nothing there"
                    )
        elif not v.lower <= (now := v.measure(atoms)) <= v.upper:
            raise InputError(
                f"{v.name} begins at {now:.3f} Å, outside its walls at {v.lower:g} and {v.upper:g} Å: move them"
            )
        elif atoms.pbc.any() and v.upper + v.margin > (half := 0.5 * _thinnest(atoms)):
            raise InputError(
                f"the upper wall of {v.name}, {v.upper:g} Å, and the {v.margin:.2g} Å in which it stops atoms reach "
                f"over half the box ({half:.2f} Å), where the nearest image becomes another: move it in, or take a "
                "larger box"
            )


def check_walls(variables: Sequence[Variable], settings: Settings) -> None:
    """Refuse walls so soft that atoms get behind the grid of the bias, where it ends with a step.

    Raises:
        InputError: naming the stiffness that is needed.
    """
    for v in variables:
        if not v.periodic:
            least = 2.0 * SOFTEST * settings.kt / v.margin**2
            if settings.wall < least:
                raise InputError(
                    f"walls of {settings.wall:g} eV/Å² do not hold {v.name} at {settings.temperature:g} K: make them "
                    f"{math.ceil(least)} or stiffer"
                )


def _thinnest(atoms: ase.Atoms) -> float:
    """Å, the shortest way through the cell from a face to the one across."""
    inverse = np.linalg.inv(np.asarray(atoms.cell))
    return float(1.0 / np.linalg.norm(inverse, axis=0).max())


def walls(variables: Sequence[Variable], stiffness: float, periodic: bool) -> openmm.CustomBondForce | None:
    """Springs that hold distances between their walls; None where there is no distance.

    Args:
        stiffness: eV/Å².
    """
    import openmm

    from heliodor.units import KJ_PER_MOL

    held = [v for v in variables if v.kind == "distance"]
    if not held:
        return None
    force = openmm.CustomBondForce("0.5*k*(max(0, r-high)^2 + max(0, low-r)^2)")
    force.addGlobalParameter("k", stiffness / KJ_PER_MOL * NM**2)
    for name in ("low", "high"):
        force.addPerBondParameter(name)
    for v in held:
        force.addBond(*v.atoms, [v.lower / NM, v.upper / NM])
    force.setUsesPeriodicBoundaryConditions(periodic)
    return force


def _different(atoms: Sequence[int], count: int, kind: str) -> tuple[int, ...]:
    found = tuple(int(k) for k in atoms)
    if len(found) != count or len(set(found)) != count:
        raise InputError(f"a {kind} has {count} different atoms, not {', '.join(map(str, found)) or 'none'}")
    return found
