"""Lipid bilayers in water with exact numbers of lipids and waters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ase
import numpy as np
from jaxtyping import Float

from heliodor.errors import InputError, SimulationError
from heliodor.prepare.membrane_patch import GEL, Patch, read_patch, tiled
from heliodor.prepare.packing import Kind, closest_of, pack
from heliodor.prepare.prepared import NANOMETRE, Prepared, Progress, nanometres, openmm, to_openmm
from heliodor.prepare.relax import force_field
from heliodor.topology import Topology

FEWEST, MOST = 8, 2048
"""Lipids."""

SHRINK = 0.94
"""A step of the compression: box and centres of molecules along x and y."""

APART = 0.9
"""Å; a trimmed bilayer is first blown up until no atoms of different molecules are closer."""

SEAM = 1.8
"""Å left free where water was cut, so that hydrogens do not lie on each other."""

CLOSEST = 1.35
"""Å; water's hydrogens come within 1.45 Å of phosphate's oxygens in Lipid17 and TIP3P, in the patches too."""

WATER_NUMBER = 0.0334
"""Molecules of water in Å³ at 298 K."""


def membrane(
    lipid: str,
    *,
    lipids: int = 128,
    waters: int | None = None,
    waters_per_lipid: float | None = None,
    water_thickness: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Prepared:
    """A bilayer with its normal along z, cut from or tiled of an equilibrated patch of OpenMM.

    Multiples of 128 lipids with the patch's own water are its frame, untouched. Other numbers: the lipids nearest to a
    point of the patch, as many in each leaflet, are moved apart along x and y until they do not overlap across the new
    periodic boundary, and brought back to the patch's area per lipid in steps of 6%, each minimised with Amber Lipid17
    (the idea of InflateGRO: Kandt, Ash and Tieleman, Methods 41, 475, 2007). Water beyond the patch's is packed by
    PACKMOL, less of it leaves the middle of the water layer. There are no ions: these lipids are neutral.

    Args:
        lipid: one of `LIPIDS`.
        lipids: in both leaflets, even.
        waters, waters_per_lipid, water_thickness: how much water: molecules in all, molecules a lipid, or the layer's
            thickness in Å; the patch's 30 or 40 a lipid if none is given.
        seed: of packed water.

    Raises:
        InputError: an unknown lipid, numbers that cannot be, more than one of the amounts of water.
        MissingExtraError: OpenMM (or PACKMOL, for more water) is not installed.
        SimulationError: the trimmed bilayer could not be brought to its area without overlap.
    """
    if lipids % 2 or not FEWEST <= lipids <= MOST:
        raise InputError(f"a bilayer has an even number of lipids from {FEWEST} to {MOST}, not {lipids}")
    patch = read_patch(lipid)
    wanted = _waters(patch, lipids, waters, waters_per_lipid, water_thickness)
    whole = lipids % len(patch.lipids) == 0
    made = tiled(patch, *_tiles(patch, lipids // len(patch.lipids))) if whole else _trimmed(patch, lipids // 2)
    told = []
    if whole:
        copies = lipids // len(patch.lipids)
        told.append(
            f"the equilibrated patch of {patch.lipid} that comes with OpenMM"
            + (f", {copies} times" if copies > 1 else "")
        )
    had = len(made.waters)
    made = _with_water(made, wanted, seed)
    touched = not whole or had != wanted
    if touched:
        made = _settled(made, 1.0 if whole else _inflation(made), progress)
        told.append(
            f"{lipids} of {patch.lipid} cut from the patch, compressed to its area per lipid, minimised"
            if not whole
            else "water added or taken away, then minimised"
        )
    wrong = len(made.inverted)
    if wrong:
        told.append(
            f"{wrong} of the lipids in OpenMM's patch ha{'s' if wrong == 1 else 've'} the unnatural hand at C2 of "
            "glycerol; bilayers of other than multiples of 128 lipids are free of it"
        )
    if patch.lipid in GEL:
        told.append(
            f"the patch of {patch.lipid} is in the gel phase ({GEL[patch.lipid]} Å² a lipid): heat it well above 314 K"
        )
    return _assembled(made, told, seed)


def _waters(patch: Patch, lipids: int, waters: int | None, per_lipid: float | None, thickness: float | None) -> int:
    if sum(value is not None for value in (waters, per_lipid, thickness)) > 1:
        raise InputError("give one of: the number of waters, waters per lipid, the thickness of the water layer")
    if waters is not None:
        count = float(waters)
    elif per_lipid is not None:
        count = per_lipid * lipids
    elif thickness is not None:
        count = thickness * patch.area * lipids / 2 * WATER_NUMBER
    else:
        count = len(patch.waters) / len(patch.lipids) * lipids
    if not 5 * lipids <= count <= 500 * lipids:
        raise InputError(f"{count:g} waters for {lipids} lipids: bilayers are built with 5 to 500 waters a lipid")
    return round(count)


def _tiles(patch: Patch, copies: int) -> tuple[int, int]:
    """Copies along x and y that make the squarest bilayer."""
    pairs = [(n, copies // n) for n in range(1, copies + 1) if copies % n == 0]
    return min(pairs, key=lambda p: abs(np.log(p[0] * patch.box[0] / (p[1] * patch.box[1]))))


def _trimmed(patch: Patch, leaflet: int) -> Patch:
    """``leaflet`` lipids of each leaflet around one point, and the water above and below them."""
    edge = float(np.sqrt(leaflet * patch.area))
    copies = [int(np.ceil(1.3 * edge / patch.box[a])) for a in (0, 1)]
    wide = tiled(patch, *copies)
    middle = 0.5 * wide.box[:2]

    def around(molecules: Float[np.ndarray, "M n 3"], centres: Float[np.ndarray, "M 2"]) -> Float[np.ndarray, "M n 3"]:
        moved = molecules.copy()
        moved[:, :, :2] -= (middle + wide.box[:2] * np.round((centres - middle) / wide.box[:2]))[:, None]
        return moved

    natural = wide.lipids.copy()
    for k in wide.inverted.tolist():
        # mirrored about its middle; what overlaps then is taken apart with the rest
        natural[k, :, 0] = 2.0 * natural[k, :, 0].mean() - natural[k, :, 0]
    lipids = around(natural, natural[:, :, :2].mean(1))
    far = np.abs(lipids[:, :, :2].mean(1)).max(1)
    chosen = np.concatenate(
        [
            side[np.argsort(far[side], kind="stable")[:leaflet]]
            for side in (np.flatnonzero(~wide.upper), np.flatnonzero(wide.upper))
        ]
    )
    waters = around(wide.waters, wide.waters[:, 0, :2])
    # as much water a lipid as the patch has
    count = round(len(patch.waters) / len(patch.lipids) * 2 * leaflet)
    inside = np.sort(np.argsort(np.abs(waters[:, 0, :2]).max(1), kind="stable")[:count])
    return replace(wide, lipids=lipids[chosen], waters=waters[inside], box=np.array([edge, edge, patch.box[2]]))


def _with_water(patch: Patch, wanted: int, seed: int) -> Patch:
    """Exactly so many waters: those farthest from the bilayer go, or a layer is packed beyond them."""
    order = np.argsort(np.abs(patch.waters[:, 0, 2]), kind="stable")
    if wanted == len(order):
        return patch
    if wanted < len(order):
        kept = np.sort(order[:wanted])
        waters = patch.waters[kept]
        reach = max(float(np.abs(waters[:, 0, 2]).max()), float(np.abs(patch.lipids[:, :, 2]).max()))
        height = min(2.0 * reach + SEAM, float(patch.box[2]))
        return replace(patch, waters=waters, box=np.array([*patch.box[:2], height]))
    more = wanted - len(order)
    layer = np.array([*patch.box[:2], max(more / (WATER_NUMBER * patch.box[0] * patch.box[1]), 3.2)])
    one = patch.waters[0] - patch.waters[0, 0]
    packed, _ = pack([Kind(np.array([8, 1, 1]), one, more)], layer, seed)
    added = packed.reshape(-1, 3, 3) + np.array([*(-0.5 * layer[:2]), 0.5 * (patch.box[2] + SEAM)])
    # the patch's own coordinates begin at a corner, those of a trimmed one in the middle
    added[:, :, :2] += patch.lipids[:, :, :2].mean((0, 1))
    height = float(patch.box[2] + layer[2] + SEAM)
    waters = np.concatenate([patch.waters, added])
    waters[:, :, 2] -= (height * np.round(waters[:, 0, 2] / height))[:, None]
    return replace(patch, waters=waters, box=np.array([*patch.box[:2], height]))


def _molecules(patch: Patch) -> tuple[Float[np.ndarray, "N 3"], np.ndarray]:
    """Positions of all atoms, and the molecule each belongs to."""
    n = len(patch.numbers)
    owner = np.concatenate(
        [np.repeat(np.arange(len(patch.lipids)), n), len(patch.lipids) + np.repeat(np.arange(len(patch.waters)), 3)]
    )
    return np.concatenate([patch.lipids.reshape(-1, 3), patch.waters.reshape(-1, 3)]), owner


def _scaled(x: Float[np.ndarray, "N 3"], owner: np.ndarray, factor: float) -> Float[np.ndarray, "N 3"]:
    """Molecules moved as they are, their centres scaled along x and y about the origin."""
    size = np.bincount(owner)
    moved = x.copy()
    for a in (0, 1):
        centre = np.bincount(owner, weights=x[:, a]) / size
        moved[:, a] += ((factor - 1.0) * centre)[owner]
    return moved


def _inflation(patch: Patch) -> float:
    """By how much centres must be scaled until nothing overlaps."""
    x, owner = _molecules(patch)
    factor = 1.0
    while factor < 6.0:
        box = patch.box * [factor, factor, 1.0]
        if closest_of(owner, _scaled(x, owner, factor), box) > APART:
            break
        factor /= SHRINK
    return factor


def _settled(patch: Patch, factor: float, progress: Progress | None) -> Patch:
    """The patch blown up by ``factor``, compressed again in steps, minimised at each."""
    mm = openmm()
    x, owner = _molecules(patch)
    topology, _ = to_openmm(_assembled(patch, [], 0))
    box = patch.box * [factor, factor, 1.0]
    system = _system(topology, patch.box)
    integrator = mm.VerletIntegrator(0.001)
    context = mm.Context(system, integrator)
    x = _scaled(x, owner, factor)
    steps = max(1, int(np.ceil(np.log(factor) / -np.log(SHRINK))))
    for k in range(steps + 1):
        if k:
            x = _scaled(x, owner, SHRINK if k < steps else patch.box[0] / box[0])
            box = box * [SHRINK, SHRINK, 1.0] if k < steps else patch.box
        context.setPeriodicBoxVectors(*(mm.Vec3(*row) for row in np.diag(box / NANOMETRE).tolist()))
        context.setPositions(x / NANOMETRE)
        mm.LocalEnergyMinimizer.minimize(context, 50.0 if k < steps else 20.0, 60 if k < steps else 500)
        x = nanometres(context.getState(getPositions=True).getPositions()) * NANOMETRE
        if not np.isfinite(x).all():
            raise SimulationError(
                f"the bilayer of {len(patch.lipids)} {patch.lipid} could not be minimised: try another number"
            )
        if progress is not None:
            progress("compressing the bilayer" if steps > 1 else "minimising", (k + 1) / (steps + 1))
    closest = closest_of(owner, x, box)
    if closest < CLOSEST:
        raise SimulationError(
            f"the bilayer of {len(patch.lipids)} {patch.lipid} still has molecules {closest:.2f} Å apart: try "
            "another number of lipids or waters"
        )
    n = patch.lipids.size // 3
    return replace(patch, lipids=x[:n].reshape(patch.lipids.shape), waters=x[n:].reshape(patch.waters.shape))


def _system(topology: Any, box: Float[np.ndarray, "3"]) -> Any:
    """Lipid17 and TIP3P with cut electrostatics, which is enough to take overlaps away."""
    mm = openmm()
    app = mm.app
    cutoff = min(1.0, 0.49 * float(box.min()) / NANOMETRE) * mm.unit.nanometer
    return force_field("ff14sb").createSystem(
        topology, nonbondedMethod=app.CutoffPeriodic, nonbondedCutoff=cutoff, rigidWater=False
    )


def _assembled(patch: Patch, told: list[str], seed: int) -> Prepared:
    """Lipids as chain A, water as chain W; the bilayer in the middle of the box."""
    many, n, water = len(patch.lipids), len(patch.numbers), len(patch.waters)
    starts = np.arange(many)[:, None, None] * n
    first = many * n + 3 * np.arange(water)[:, None, None]
    topology = Topology(
        numbers=np.concatenate([np.tile(patch.numbers, many), np.tile([8, 1, 1], water)]),
        names=np.concatenate([np.tile(patch.names, many), np.tile(["O", "H1", "H2"], water)]),
        residue_names=np.concatenate([np.full(many * n, patch.lipid), np.full(3 * water, "HOH")]),
        residue_numbers=np.concatenate([np.repeat(np.arange(many), n), np.repeat(np.arange(water), 3)]) + 1,
        chains=np.concatenate([np.full(many * n, "A"), np.full(3 * water, "W")]),
        bonds=np.concatenate(
            [(patch.bonds[None] + starts).reshape(-1, 2), (np.array([[[0, 1], [0, 2]]]) + first).reshape(-1, 2)]
        ),
        named=True,
    )
    x, _ = _molecules(patch)
    middle = [*(0.5 * patch.box[:2] - patch.lipids[:, :, :2].mean((0, 1))), 0.5 * patch.box[2]]
    atoms = ase.Atoms(numbers=topology.numbers, positions=x + middle, cell=np.diag(patch.box), pbc=True)
    area = patch.area
    notes = (
        *told,
        f"{many // 2} {patch.lipid} in each leaflet, {water} waters ({water / many:g} a lipid), {area:.1f} Å² a "
        "lipid; normal along z",
    )
    details = {
        "lipid": patch.lipid,
        "lipids": many,
        "waters": water,
        "area_per_lipid_A2": area,
        "box_A": patch.box.tolist(),
        "seed": seed,
    }
    return Prepared(atoms, topology, 0, (), notes, details)
