"""Water and ions around a solute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from heliodor.errors import InputError
from heliodor.prepare.prepared import NANOMETRE, WATERS, nanometres, openmm
from heliodor.prepare.relax import random_numbers
from heliodor.prepare.seam import closed

LITRE = 1e27
"""Å³."""

AVOGADRO = 6.02214076e23

LARGEST_BOX = 500.0
"""Å."""


@dataclass(frozen=True)
class Solvent:
    """What to put around a solute.

    Attributes:
        margin: Å between the solute and the faces of a cubic box: its edge is the solute's largest diameter plus twice
            this, so the solute fits whichever way it turns (as GROMACS' ``editconf -bt cubic -d``; OpenMM's "padding"
            is the distance between images and makes far smaller boxes).
        box: Å, edges of the box instead.
        neutralise: add Na+ or Cl- until the charge is zero.
        salt: mol/l of NaCl beyond that.
    """

    margin: float | None = None
    box: tuple[float, float, float] | None = None
    neutralise: bool = True
    salt: float = 0.0

    def __post_init__(self) -> None:
        if (self.margin is None) == (self.box is None):
            raise InputError("give either a margin (--solvate) or a box (--box) for the water, not both")
        if self.margin is not None and not 0.0 <= self.margin < LARGEST_BOX:
            raise InputError(f"the margin of water must be between 0 and {LARGEST_BOX:g} Å, not {self.margin:g}")
        if self.box is not None and not all(0.0 < edge <= LARGEST_BOX for edge in self.box):
            raise InputError(f"box edges must be between 0 and {LARGEST_BOX:g} Å")
        if not 0.0 <= self.salt <= 6.0:
            raise InputError(f"salt must be between 0 and 6 mol/l, not {self.salt:g}")


def parse_box(text: str) -> tuple[float, float, float]:
    """Read ``"60"`` or ``"60,50,70"`` as edges in Å.

    Raises:
        InputError: no numbers, or two of them.
    """
    try:
        edges = [float(word) for word in text.replace("x", ",").split(",")]
    except ValueError:
        edges = []
    if len(edges) not in (1, 3) or not np.isfinite(edges).all():
        raise InputError(f"cannot read {text!r} as a box: write one edge or three in Å, '60' or '60,50,70'")
    return (edges[0], edges[0], edges[0]) if len(edges) == 1 else (edges[0], edges[1], edges[2])


def diameter(positions: Float[np.ndarray, "N 3"]) -> float:
    """Largest distance between two atoms, in the unit of the positions."""
    if len(positions) < 2:
        return 0.0
    from scipy.spatial import ConvexHull, QhullError
    from scipy.spatial.distance import pdist

    corners = positions
    if len(positions) > 1000:
        try:
            corners = positions[ConvexHull(positions).vertices]
        except QhullError:
            corners = positions
    return float(pdist(corners).max())


def box_for(positions: Float[np.ndarray, "N 3"], solvent: Solvent) -> tuple[float, float, float]:
    """Edges of the box in Å.

    Args:
        positions: Å.

    Raises:
        InputError: the solute does not fit.
    """
    if solvent.margin is not None:
        edge = diameter(positions) + 2.0 * solvent.margin
        if edge > LARGEST_BOX:
            raise InputError(
                f"the box would be {edge:.0f} Å wide, more than {LARGEST_BOX:g} Å: choose a smaller margin"
            )
        return (edge, edge, edge)
    assert solvent.box is not None
    extent = np.ptp(positions, axis=0)
    for axis, size, edge in zip("xyz", extent, solvent.box, strict=True):
        # below this its own images would touch it
        if edge < size + 3.0:
            raise InputError(
                f"the box of {edge:g} Å along {axis} is too small for a solute of {size:.1f} Å and a layer of water: "
                "choose a larger --box, or --solvate with a margin"
            )
    return solvent.box


def counter_ions(charge: int, solvent: Solvent) -> tuple[str, ...]:
    """Elements that solvating a solute of this charge brings in beside water's."""
    needed = []
    if (solvent.neutralise and charge < 0) or solvent.salt > 0.0:
        needed.append("Na")
    if (solvent.neutralise and charge > 0) or solvent.salt > 0.0:
        needed.append("Cl")
    return tuple(needed)


def solvated(
    topology: Any, positions: Any, field: Any, solvent: Solvent, charge: int, seed: int = 0
) -> tuple[Any, Any, dict[str, Any], list[str]]:
    """Fill a box with TIP3P water, and ions in the place of some, by OpenMM's Modeller, and
    the layer along the faces by PACKMOL (`seam`).

    Args:
        positions: nm, or a quantity.
        charge: of the solute, e.

    Returns:
        Topology, positions, numbers for the record, notes.

    Raises:
        InputError: the solute does not fit into the box.
    """
    mm = openmm()
    edges = box_for(nanometres(positions) * NANOMETRE, solvent)
    modeller = mm.app.Modeller(topology, positions)
    before = _counts(modeller.topology)
    first = topology.getNumResidues()
    with random_numbers(seed):
        try:
            modeller.addSolvent(
                field,
                model="tip3p",
                boxSize=mm.Vec3(*(edge / NANOMETRE for edge in edges)) * mm.unit.nanometer,
                neutralize=solvent.neutralise,
                ionicStrength=solvent.salt * mm.unit.molar,
            )
        except ValueError as error:
            raise InputError(f"the box cannot be filled with water: {error}") from error
    filled, filled_positions, seam = modeller.topology, modeller.positions, False
    mended = closed(filled, filled_positions, first, seed)
    if mended is not None:
        filled, filled_positions, _ = mended
    else:
        seam = True
    added = {name: n - before.get(name, 0) for name, n in _counts(filled).items()}
    waters, sodium, chloride = (added.get(name, 0) for name in ("water", "NA", "CL"))
    numbers = {"box_A": list(edges), "waters_added": waters, "sodium_added": sodium, "chloride_added": chloride}
    notes = [f"{waters} waters added in a box of {' × '.join(f'{edge:.2f}' for edge in edges)} Å"]
    if seam:
        notes.append("a seam of less water is left along the faces of the box: --equilibrate, or a barostat, closes it")
    if sodium or chloride:
        volume = edges[0] * edges[1] * edges[2]
        salt = min(sodium, chloride) / AVOGADRO * LITRE / volume
        notes.append(f"{sodium} Na+ and {chloride} Cl- added ({salt:.3f} mol/l of salt in the whole box)")
    return filled, filled_positions, numbers, notes


def density(topology: Any, box: Float[np.ndarray, "3 3"]) -> float:
    """g/cm³ of everything in a box (rows are vectors, Å)."""
    from heliodor.units import GRAM_PER_CM3

    mass = sum(atom.element.mass.value_in_unit(openmm().unit.dalton) for atom in topology.atoms())
    return float(mass / abs(np.linalg.det(box)) / GRAM_PER_CM3)


def _counts(topology: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for residue in topology.residues():
        name = "water" if residue.name in WATERS else residue.name
        counts[name] = counts.get(name, 0) + 1
    return counts
