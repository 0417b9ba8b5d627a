"""The layer along the faces of a box of water, filled anew: tiles of water cut at the faces leave a seam there."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from heliodor.errors import MissingExtraError
from heliodor.prepare import packing
from heliodor.prepare.packing import Kind
from heliodor.prepare.prepared import NANOMETRE, WATERS, nanometres, openmm

MOST = 4000
"""Waters that are packed at most: a box of 80 Å has so many, and they take minutes."""

DEPTH = 3.0
"""Å from each face; so far the seam reaches."""

NEAR = 5.0
"""Å; what is farther from the layer does not touch it."""

OWN = 2.0
"""Å around heavy atoms of the solute, ions and kept waters that no new water's volume counts in (30 Å³ of a water)."""

WATER_NUMBER = 0.0334
"""Molecules of water in Å³ at 298 K (0.997 g/cm³)."""

_WATER = np.array([[0.0, 0.0, 0.0], [0.9572, 0.0, 0.0], [-0.23999, 0.92663, 0.0]])
"""Å, O H H of TIP3P."""


def closed(topology: Any, positions: Any, solute: int, seed: int = 0) -> tuple[Any, Any, int] | None:
    """Take the waters within `DEPTH` of the faces out and pack as many as belong there (PACKMOL).

    Args:
        topology: of OpenMM with a rectangular box; waters of three atoms.
        positions: nm, or a quantity.
        solute: the first so many residues stay, and all that is no water.

    Returns:
        Topology, positions, and how many waters there are more than before; None where PACKMOL finds no room or is not
        installed, the box is all seam, or the layer holds more than `MOST`.
    """
    app = openmm().app
    where = nanometres(positions) * NANOMETRE
    edges = np.diag(nanometres(topology.getPeriodicBoxVectors())) * NANOMETRE
    if edges.min() < 4.0 * DEPTH:
        return None
    inside = where - edges * np.floor(where / edges)
    layer: Bool[np.ndarray, "N"] = np.asarray(((inside < DEPTH) | (inside > edges - DEPTH)).any(1))
    out = [
        residue
        for residue in topology.residues()
        if residue.index >= solute and residue.name in WATERS and layer[next(residue.atoms()).index]
    ]
    gone = np.zeros(len(where), dtype=bool)
    gone[[atom.index for residue in out for atom in residue.atoms()]] = True
    guests = [
        atom.index
        for residue in topology.residues()
        if residue.index < solute or residue.name not in WATERS
        for atom in residue.atoms()
        if atom.element.atomic_number > 1
    ]
    wanted = round(WATER_NUMBER * _free(inside[guests], edges, seed))
    if not 1 <= wanted <= MOST:
        return None
    numbers = np.array([atom.element.atomic_number for atom in topology.atoms()], dtype=np.int64)
    deep = DEPTH + NEAR
    kept = ~gone & ((inside < deep) | (inside > edges - deep)).any(1)
    found = _packed(Kind(numbers[kept], inside[kept], 1, fixed=True), wanted, edges, seed)
    if found is None:
        return None
    new = app.Topology()
    chain = new.addChain()
    oxygen, hydrogen = (app.Element.getByAtomicNumber(z) for z in (8, 1))
    for _ in range(wanted):
        residue = new.addResidue("HOH", chain)
        first = new.addAtom("O", oxygen, residue)
        for name in ("H1", "H2"):
            new.addBond(first, new.addAtom(name, hydrogen, residue))
    unit = openmm().unit
    modeller = app.Modeller(topology, unit.Quantity((where / NANOMETRE).tolist(), unit.nanometer))
    modeller.delete(out)
    modeller.add(new, unit.Quantity((found / NANOMETRE).tolist(), unit.nanometer))
    return modeller.topology, modeller.positions, wanted - len(out)


def _free(guests: Float[np.ndarray, "n 3"], edges: Float[np.ndarray, "3"], seed: int) -> float:
    """Å³ of the layer that nothing but water fills."""
    points = np.random.default_rng(seed).uniform(size=(200_000, 3)) * edges
    points = points[((points < DEPTH) | (points > edges - DEPTH)).any(1)]
    volume = float(np.prod(edges) - np.prod(edges - 2.0 * DEPTH))
    if not len(guests):
        return volume
    from scipy.spatial import KDTree

    near, _ = KDTree(np.minimum(guests, edges * (1.0 - 1e-9)), boxsize=edges).query(points, distance_upper_bound=OWN)
    return volume * float(np.isinf(near).mean())


def _packed(kept: Kind, wanted: int, edges: Float[np.ndarray, "3"], seed: int) -> Float[np.ndarray, "M 3"] | None:
    """Positions of new waters, Å."""
    from scipy.spatial import KDTree

    try:
        binary = packing.packmol_path()
    except MissingExtraError:
        return None
    kinds = [kept, Kind(np.array([8, 1, 1]), _WATER, wanted, outside=DEPTH)]
    for gap in packing.GAPS[1:]:
        found = packing.packed_once(binary, kinds, edges, gap, seed)
        if found is None:
            continue
        new = found[len(kept.numbers) :]
        wrapped = (new - edges * np.floor(new / edges)) % edges
        old = np.minimum(kept.positions, edges * (1.0 - 1e-9))
        tree = KDTree(wrapped, boxsize=edges)
        pairs = tree.query_pairs(packing.CLOSEST, output_type="ndarray")
        touching = (pairs[:, 0] // 3 != pairs[:, 1] // 3).any()
        if not touching and KDTree(old, boxsize=edges).query(wrapped)[0].min() > packing.CLOSEST:
            return new
    return None
