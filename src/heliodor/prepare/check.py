"""What a model cannot describe, found before anything expensive runs: which atoms, how many, and the ways out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import ase
import numpy as np
from ase.data import chemical_symbols

from heliodor.errors import ModelError
from heliodor.potential import Potential
from heliodor.prepare.prepared import Prepared
from heliodor.topology import Topology

SHOWN = 8
"""So many residues are named before the rest is counted."""

NO_MODEL = "none"


def refuse_unfit(prepared: Prepared, model: str | Path | Potential | None, ways: Sequence[str] = ()) -> None:
    """Refuse elements outside the model's table, and charges where it knows none.

    Args:
        model: name, file or potential; None or "none": nothing is refused.
        ways: what else the user can do, in words that complete "you can: ...".

    Raises:
        ModelError: with the residues and the ways out.
    """
    potential = model_for(model)
    if potential is None:
        return
    refuse_elements(prepared.topology, potential, ways)
    refuse_charges(prepared.charge, prepared.charged, potential, ways)


def model_for(model: str | Path | Potential | None) -> Potential | None:
    """The potential to check against, on the CPU; None for "none"."""
    if model is None or isinstance(model, Potential):
        return model
    if str(model).strip().lower() == NO_MODEL:
        return None
    from heliodor.api import load

    return load(str(model), device="cpu", kernels="reference")


def refuse_elements(topology: Topology, potential: Potential, ways: Sequence[str] = ()) -> None:
    """Refuse elements outside the model's table.

    Raises:
        ModelError: which elements in which residues, and the ways out.
    """
    outside = ~np.isin(topology.numbers, potential.elements)
    if not outside.any():
        return
    symbols = topology.symbols[outside]
    counts = Counter(zip(symbols.tolist(), topology.residue_names[outside].tolist(), strict=True))
    what = _shortened([f"{n} {symbol} in {residue}" for (symbol, residue), n in counts.items()])
    others = [f"a model that knows {' '.join(dict.fromkeys(symbols.tolist()))}{_models_with(set(symbols.tolist()))}"]
    known = " ".join(chemical_symbols[z] for z in potential.elements)
    raise ModelError(
        f"{potential.name} knows only {known}, and the system would hold {what}; ways out: {_list([*ways, *others])}"
    )


def refuse_charges(
    charge: int, charged: Sequence[tuple[str, int]], potential: Potential, ways: Sequence[str] = ()
) -> None:
    """Refuse charged residues, balanced or not, where the model has no notion of charge.

    Raises:
        ModelError: the charged residues and the ways out.
    """
    if (charge == 0 and not charged) or not neutral_only(potential):
        return
    named = _shortened([f"{name} ({q:+d})" for name, q in charged]) if charged else f"a total charge of {charge:+d}"
    together = f" (total charge {charge:+d})" if charged else ""
    raise ModelError(
        f"{potential.name} has no notion of charge, it was trained on neutral molecules, and the system holds "
        f"{named}{together}; ways out: {_list([*ways, 'a model that takes charges, such as heliodor-s or so3lr'])}"
    )


def neutral_only(potential: Potential) -> bool:
    """Whether the model refuses charges, tried on an atom of its own table that has electrons to lose."""
    from heliodor.errors import HeliodorError
    from heliodor.system import System

    atom = ase.Atoms(numbers=[max(z for z in potential.elements if z % 2 == 0)], positions=[(0.0, 0.0, 0.0)])
    try:
        potential.check(System.from_atoms(atom, charge=2.0, spin=0, device=potential.device))
    except HeliodorError:
        return True
    return False


def _models_with(symbols: set[str]) -> str:
    from heliodor.registry import models

    names = [entry.name for entry in models().values() if symbols <= set(entry.elements)]
    return f" ({', '.join(names)})" if names else " (none of those that come by name does)"


def _shortened(items: Sequence[str]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more


def _list(ways: Sequence[str]) -> str:
    return "; ".join(f"({k}) {way}" for k, way in enumerate(ways, start=1))
