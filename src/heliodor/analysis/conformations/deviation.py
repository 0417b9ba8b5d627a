"""How far a molecule has gone from a reference structure, after optimal superposition."""

from __future__ import annotations

from dataclasses import dataclass

import ase
import numpy as np
from jaxtyping import Float

from heliodor.analysis.along import mean_error, time_axis
from heliodor.analysis.conformations.solute import Solute, find_solute, in_one_piece, read_shapes
from heliodor.analysis.conformations.superpose import rmsd_of_pairs
from heliodor.analysis.show import Axis, Curve, Number, Panel, Shown
from heliodor.errors import InputError
from heliodor.trajectory.block import Block
from heliodor.trajectory.parallel import Progress, over_blocks
from heliodor.trajectory.trajectory import Trajectory


@dataclass(frozen=True, eq=False)
class Deviation:
    """RMSD from a reference along T frames.

    Attributes:
        time: fs.
        rmsd: Å.
        count: atoms superposed.
        reference: what it is from, in words.
    """

    time: Float[np.ndarray, "T"]
    rmsd: Float[np.ndarray, "T"]
    count: int
    reference: str


def deviation(
    trajectory: Trajectory,
    selection: str = "",
    reference: ase.Atoms | None = None,
    *,
    progress: Progress | None = None,
    processes: int = 1,
) -> Deviation:
    """RMSD of the solute's heavy atoms from the first frame, or from another structure, superposed optimally.

    Args:
        selection: atoms, in the words of `select`, of which the heavy ones count; empty: the solute.
        reference: all atoms of the trajectory, or those selected, in the same order, molecules in one piece.

    Raises:
        InputError: no solute; a reference with other atoms.
    """
    solute = find_solute(trajectory, selection)
    if reference is None:
        target, words = read_shapes(trajectory, solute, np.array([0])), "the first frame"
    else:
        target, words = _target(trajectory, solute, reference), "the reference structure"
    parts = over_blocks(
        trajectory, _of_block, solute, target, atoms=solute.read, progress=progress, processes=processes
    )
    return Deviation(trajectory.time, np.concatenate(list(parts)), len(solute.shape), words)


def show_deviation(
    trajectory: Trajectory,
    *,
    progress: Progress | None = None,
    processes: int = 1,
    selection: str = "",
    reference: str = "",
) -> Shown:
    """RMSD of the solute from its first frame or another structure.

    Args:
        selection: atoms, of which the heavy ones count; empty: the solute.
        reference: file with the structure to compare with; empty: the first frame.
    """
    structure = None if not reference else _read(reference)
    found = deviation(trajectory, selection, structure, progress=progress, processes=processes)
    x, axis = time_axis(found.time)
    late = found.rmsd[len(found.rmsd) // 2 :]
    mean, error = mean_error(late)
    where = reference or found.reference
    return Shown(
        name="deviation",
        title="RMSD from the first frame" if not reference else "RMSD from a reference",
        panels=(Panel(f"Deviation from {where}", axis, Axis("RMSD", "Å", low=0.0), (Curve("", x, found.rmsd),)),),
        numbers=(
            Number("RMSD, second half", mean, error, "Å", f"{found.count} atoms"),
            Number("largest RMSD", float(found.rmsd.max()), None, "Å"),
        ),
        notes=(
            f"Heavy atoms of the solute ({found.count}), superposed optimally on {where}; equivalent atoms are not "
            "exchanged.",
        ),
        tables={"deviation": {"time_ps": found.time / 1e3, "rmsd_A": found.rmsd}},
    )


def _of_block(block: Block, solute: Solute, target: Float[np.ndarray, "1 h 3"]) -> Float[np.ndarray, "K"]:
    return rmsd_of_pairs(in_one_piece(block, solute)[:, solute.shape], target)


def _target(trajectory: Trajectory, solute: Solute, reference: ase.Atoms) -> Float[np.ndarray, "1 h 3"]:
    if len(reference) == trajectory.n_atoms:
        reference = reference[solute.atoms]
    if len(reference) != len(solute.atoms) or (reference.numbers != solute.topology.numbers).any():
        raise InputError(
            f"the reference ({len(reference)} atoms) must hold the {trajectory.n_atoms} atoms of {trajectory.path} or "
            f"the {len(solute.atoms)} of its solute, in the same order"
        )
    return np.asarray(reference.positions, dtype=np.float64)[None, solute.shape]


def _read(path: str) -> ase.Atoms:
    import ase.io

    try:
        found = ase.io.read(path, index=0)
    except OSError:
        raise InputError(f"there is no file {path} to take the reference from") from None
    except Exception as error:
        raise InputError(f"{path} cannot be read as a structure: {' '.join(str(error).split())[:200]}") from None
    assert isinstance(found, ase.Atoms)
    return found
