"""Order parameters of the tails: S_CD = <3 cos²θ - 1>/2 with θ between a C-H bond and the bilayer's normal.

What deuterium NMR and its ¹³C-¹H kin measure: negative in a bilayer, -1/2 for chains straight along the normal, 0 for
bonds in all directions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from heliodor.analysis.membranes.density import PARTS
from heliodor.analysis.membranes.experiment import OLEOYL, ORDER_ERROR, PALMITOYL
from heliodor.analysis.membranes.frame import axis_of, placed
from heliodor.analysis.membranes.lipids import Kind, Tails, comparison_note, kinds_of, unlike_measured
from heliodor.analysis.show import Axis, Curve, Number, Panel, Shown
from heliodor.errors import InputError
from heliodor.trajectory.block import Block
from heliodor.trajectory.images import minimum_image
from heliodor.trajectory.parallel import Progress, over_blocks
from heliodor.trajectory.trajectory import Trajectory


@dataclass(frozen=True, eq=False)
class TailOrder:
    """Order along one tail of one kind of lipid.

    Attributes:
        lipid, tail: "POPC", "sn-1".
        carbon: numbers; the ester carbon would be 1.
        order: S_CD, mean over hydrogens, lipids and time.
        error: standard error: the larger of the one from the spread between lipids' own means and the one from ten
            parts of the trajectory (whose frames share the fluctuations of the whole bilayer).
        lipids: how many.
        popc: whether it is a tail of POPC that can be held against measurements: no other molecules but water and
            ions, near 300 K if that is known.
    """

    lipid: str
    tail: str
    carbon: Int[np.ndarray, "C"]
    order: Float[np.ndarray, "C"]
    error: Float[np.ndarray, "C"]
    lipids: int
    popc: bool


def order_parameters(
    trajectory: Trajectory, axis: str = "c", *, progress: Progress | None = None, processes: int = 1
) -> tuple[TailOrder, ...]:
    """S_CD of each carbon of each tail, hydrogens and carbons found by the bonds.

    Args:
        axis: lattice vector that leads out of the bilayer; its normal is that of the other two.

    Raises:
        InputError: no tails bound as esters, or no hydrogens on them.
    """
    across = axis_of(axis)
    tails = [(kind, tail) for kind in kinds_of(trajectory.topology) for tail in kind.tails]
    if not tails:
        raise InputError(f"{trajectory.path}: no tails were found: fatty acids are recognised by their ester bonds")
    tails = [(kind, tail) for kind, tail in tails if tail.carbon.size]
    if not tails:
        raise InputError(
            f"{trajectory.path}: the tails have no hydrogens, and order parameters are of C-H bonds: a united-atom or "
            "coarse-grained model"
        )
    atoms = np.unique(np.concatenate([np.union1d(tail.carbon, tail.hydrogen) for _, tail in tails]))
    pairs = [
        (np.searchsorted(atoms, tail.carbon), np.searchsorted(atoms, tail.hydrogen), tail.number) for _, tail in tails
    ]
    total = len(trajectory)
    sums: list[np.ndarray] | None = None
    frames = np.zeros(PARTS)
    for some, count in over_blocks(
        trajectory, _of_block, across, pairs, total, atoms=atoms, progress=progress, processes=processes
    ):
        sums = some if sums is None else [a + b for a, b in zip(sums, some, strict=True)]
        frames += count
    assert sums is not None
    measured = unlike_measured(trajectory) is None
    return tuple(_reduced(kind, tail, part, frames, measured) for (kind, tail), part in zip(tails, sums, strict=True))


def show_order(
    trajectory: Trajectory, *, progress: Progress | None = None, processes: int = 1, axis: str = "c"
) -> Shown:
    """Order parameters S_CD of the tails.

    Args:
        axis: lattice vector that leads out of the bilayer: a, b or c.
    """
    found = order_parameters(trajectory, axis, progress=progress, processes=processes)
    panels, numbers = [], []
    tables: dict[str, dict[str, np.ndarray]] = {}
    compared = False
    for item in found:
        curves = [
            Curve("trajectory", item.carbon.astype(float), item.order, item.order - item.error, item.order + item.error)
        ]
        if item.popc:
            compared = True
            measured = PALMITOYL if item.tail == "sn-1" else OLEOYL
            x = np.array([float(n) for n, values in measured.items() for _ in values])
            y = np.array([v for values in measured.values() for v in values])
            curves.append(
                Curve("Ferreira 2013, 300 K", x, y, y - ORDER_ERROR, y + ORDER_ERROR, style="points", reference=True)
            )
            common = [n for n in item.carbon.tolist() if n in measured]
            away = np.array([item.order[item.carbon == n][0] - np.mean(measured[n]) for n in common])
            note = f"root mean square distance from experiment (Ferreira 2013): {np.sqrt(np.square(away).mean()):.3f}"
        else:
            note = f"{item.lipids} lipids"
        panels.append(Panel(f"{item.lipid}, {item.tail}", Axis("carbon"), Axis("S_CD"), tuple(curves)))
        plateau = (item.carbon >= 4) & (item.carbon <= 8)
        if plateau.any():
            mean = float(item.order[plateau].mean())
            error = float(np.sqrt(np.square(item.error[plateau]).mean()))
            numbers.append(Number(f"S_CD, {item.lipid} {item.tail}, carbons 4 to 8", mean, error, "", note))
        key = f"order_{item.lipid}_{item.tail}".replace("/", "_").replace("-", "")
        # two kinds may go by one name, and a lipid may have two tails of one kind
        same = sum(name.startswith(key) for name in tables)
        key += f"_{same + 1}" if same else ""
        tables[key] = {"carbon": item.carbon, "S_CD": item.order, "error": item.error}
    notes = [
        "S_CD = <3 cos²θ - 1>/2, θ between C-H and the normal of the box; mean over hydrogens of a carbon, lipids and "
        "time. Carbons are counted along the tail from the ester carbon, number 1.",
        f"Errors: the larger of that from the spread between lipids and that from {PARTS} parts of the trajectory.",
    ]
    if compared:
        notes.append(
            "Experiment: Ferreira et al., Phys. Chem. Chem. Phys. 15, 1976 (2013), POPC at 300 K, ±0.02; it does not "
            "see signs, which are drawn as negative."
        )
    notes += comparison_note(trajectory)
    return Shown(
        name="order",
        title="Order parameters of the tails",
        panels=tuple(panels),
        numbers=tuple(numbers),
        notes=tuple(notes),
        tables=tables,
    )


def _of_block(
    block: Block, across: int, pairs: list[tuple[np.ndarray, np.ndarray, np.ndarray]], total: int
) -> tuple[list[Float[np.ndarray, "P L C"]], Float[np.ndarray, "P"]]:
    """Sums over frames of S_CD of each lipid and carbon, in parts of the trajectory; frames of each part."""
    # only the normal is wanted: any atom does for the middle
    normal = placed(block, across, np.array([0])).normal
    part = block.index * PARTS // total
    sums = []
    for carbon, hydrogen, number in pairs:
        bonds = minimum_image(block.positions[:, hydrogen.ravel()] - block.positions[:, carbon.ravel()], block.cell)
        cosine = np.einsum("kbc,kc->kb", bonds, normal) / np.linalg.norm(bonds, axis=2)
        order = (1.5 * np.square(cosine) - 0.5).reshape(len(block), *carbon.shape)
        _, first, counts = np.unique(number, return_index=True, return_counts=True)
        of_carbon = np.add.reduceat(order, first, axis=2) / counts
        some = np.zeros((PARTS, *of_carbon.shape[1:]))
        np.add.at(some, part, of_carbon)
        sums.append(some)
    return sums, np.bincount(part, minlength=PARTS).astype(np.float64)


def _reduced(
    kind: Kind, tail: Tails, sums: Float[np.ndarray, "P L C"], frames: Float[np.ndarray, "P"], measured: bool
) -> TailOrder:
    of_lipid = sums.sum(0) / frames.sum()
    lipids = len(of_lipid)
    error = of_lipid.std(0, ddof=1) / np.sqrt(lipids) if lipids > 1 else np.full(of_lipid.shape[1], np.nan)
    if (frames > 0).all():
        parts = sums.mean(1) / frames[:, None]
        error = np.fmax(error, parts.std(0, ddof=1) / np.sqrt(PARTS))
    return TailOrder(
        kind.name,
        tail.name,
        np.unique(tail.number),
        of_lipid.mean(0),
        error,
        lipids,
        measured and kind.palmitoyl_oleoyl_choline,
    )
