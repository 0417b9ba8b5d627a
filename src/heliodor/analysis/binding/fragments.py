"""The two partners of a complex: which atoms they have, and what charge."""

from __future__ import annotations

from collections.abc import Sequence

import ase
import numpy as np
from jaxtyping import Float, Int

from heliodor.errors import InputError
from heliodor.system import read_charge
from heliodor.topology import Topology, topology_of
from heliodor.trajectory.selection import select


def two_fragments(atoms: ase.Atoms, first: str = "") -> Int[np.ndarray, "N"]:
    """0 for the atoms of one partner, 1 for those of the other.

    Args:
        first: atoms of the first partner in the words of `heliodor.trajectory.selection.select`, such as ``"0-11"`` or
            ``"chain A"``; the rest is the second. Empty: ``atoms.arrays["fragment"]`` if it names two, else the two
            molecules (bonds by distance).

    Raises:
        InputError: a periodic structure; not two molecules; a selection of no or all atoms.
    """
    if atoms.pbc.any():
        raise InputError("binding curves are of molecules: a periodic structure cannot be pulled apart")
    if first:
        index = np.ones(len(atoms), dtype=np.int64)
        index[select(topology_of(atoms), first)] = 0
        if not index.any():
            raise InputError(f"the first fragment {first!r} holds all atoms: nothing is left to pull away")
        return index
    if "fragment" in atoms.arrays:
        names, index = np.unique(atoms.arrays["fragment"], return_inverse=True)
        if len(names) == 2:
            return index.reshape(-1).astype(np.int64)
    topology = topology_of(atoms)
    count = int(topology.molecules.max()) + 1
    if count != 2:
        raise InputError(
            f"the structure is {_listed(topology, count)}, not two molecules: name the atoms of the first partner "
            "(fragments '0-11' or 'chain A'); all others are the second"
        )
    return topology.molecules.astype(np.int64)


def fragment_charges(
    atoms: ase.Atoms, fragments: Int[np.ndarray, "N"], charges: Sequence[float] | Float[np.ndarray, "q"] | None = None
) -> Float[np.ndarray, "2"]:
    """Charges in e of the two partners.

    Args:
        charges: as given; None: ``atoms.info["fragment_charges"]``, or (0, 0) of a complex without charge, or all of
            the charge on the one partner that has an odd number of electrons without it.

    Raises:
        InputError: charges of another number of partners, that do not add up to ``atoms.info["charge"]``, or are
            missing where they cannot be guessed.
    """
    total = read_charge(atoms)
    known = charges if charges is not None else atoms.info.get("fragment_charges")
    if known is not None:
        found = np.atleast_1d(np.asarray(known, dtype=np.float64))
        if found.shape != (2,) or not np.isfinite(found).all():
            raise InputError(f"two fragments need two charges, not {np.size(found)}")
        if "charge" in atoms.info and abs(float(found.sum()) - total) > 1e-6:
            raise InputError(f"fragment charges add up to {float(found.sum()):g}, the total charge is {total:g}")
        return found
    odd = np.array([int(atoms.numbers[fragments == k].sum()) % 2 for k in (0, 1)])
    if total == 0.0 and not odd.any():
        return np.zeros(2)
    if abs(total) == 1.0 and odd.sum() == 1:
        return total * odd
    raise InputError(
        f"the charges of the two fragments cannot be told from the total charge {total:g}: give both (such as 1,0)"
    )


def _listed(topology: Topology, count: int) -> str:
    from ase.formula import Formula

    parts = []
    for k in range(min(count, 4)):
        members = topology.members(k)
        formula = Formula.from_list(topology.symbols[members].tolist()).format("hill")
        ends = f"{members[0]}-{members[-1]}" if np.ptp(members) == len(members) - 1 else f"{members[0]} ..."
        parts.append(f"{formula} (atoms {ends})")
    more = f" and {count - 4} more" if count > 4 else ""
    return f"{count} molecule{'s' if count > 1 else ''}: {', '.join(parts)}{more}"
