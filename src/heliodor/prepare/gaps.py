"""Chains that are broken: where residues are missing, which, and what can be done about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heliodor.errors import InputError
from heliodor.prepare.prepared import NANOMETRE, label, nanometres

PEPTIDE_BOND = 2.0
"""Å; C and N further apart than this are not bonded (1.33 Å at rest)."""

PHOSPHATE_BOND = 2.5
"""Å; likewise O3' and P (1.6 Å)."""


@dataclass(frozen=True)
class Gap:
    """A chain that is broken between two residues.

    Attributes:
        before, after: the residues on its sides (OpenMM's).
        distance: between the atoms that should be bonded, Å.
        missing: residue names by the file's own sequence; empty where it does not say.
    """

    before: Any
    after: Any
    distance: float
    missing: tuple[str, ...]

    def __str__(self) -> str:
        size = f"{len(self.missing)} residues missing" if self.missing else "sequence not in the file"
        return f"{label(self.before)} to {label(self.after)} ({self.distance:.1f} Å, {size})"


def find_gaps(topology: Any, positions: Any, missing: dict[tuple[int, int], list[str]]) -> list[Gap]:
    """Where consecutive residues of a chain are too far apart to be bonded.

    Args:
        missing: as PDBFixer has it: residue names by (chain, position).
    """
    where = nanometres(positions) * NANOMETRE
    found = []
    for chain in topology.chains():
        residues = list(chain.residues())
        for k in range(1, len(residues)):
            distance = _distance(residues[k - 1], residues[k], where)
            limit = PHOSPHATE_BOND if _atom(residues[k - 1], "O3'") is not None else PEPTIDE_BOND
            if distance is not None and distance > limit:
                found.append(Gap(residues[k - 1], residues[k], distance, tuple(missing.get((chain.index, k), ()))))
    return found


def refuse_gaps(gaps: Sequence[Gap], longest: int, split: bool) -> None:
    """Refuse gaps that nothing was asked to be done about.

    Args:
        longest: loops of up to so many residues are to be built.
        split: whether chains are to be split at the others.

    Raises:
        InputError: with the list and the ways out.
    """
    left = [gap for gap in gaps if not 0 < len(gap.missing) <= longest]
    if split or not left:
        return
    shown = "; ".join(map(str, left[:8])) + (f"; and {len(left) - 8} more" if len(left) > 8 else "")
    known = max((len(gap.missing) for gap in left), default=0)
    build = (
        f"--build-missing-residues {known} models loops the file has the sequence of (poor beyond some ten), "
        * bool(known)
    )
    raise InputError(
        f"chains are broken at {len(left)} place{'s' * (len(left) > 1)}: {shown}; ways out: {build}--split-at-gaps "
        "makes each piece a chain of its own (with --caps both the cuts get neutral ends), --chains takes whole chains "
        "only, or complete the structure in a modelling program"
    )


def end_notes(topology: Any, missing: dict[tuple[int, int], list[str]], sequences: Sequence[Any]) -> list[str]:
    """Residues missing at ends, which are never built, and chains of the file's sequence without any atom."""
    notes = []
    chains = list(topology.chains())
    ends: list[str] = []
    for (chain, position), names in sorted(missing.items()):
        count = len(list(chains[chain].residues()))
        if position in (0, count):
            ends.append(
                f"{len(names)} before the first of chain {chains[chain].id}"
                if position == 0
                else f"{len(names)} after the last of chain {chains[chain].id}"
            )
    if ends:
        notes.append(f"residues of the sequence missing at ends are not built: {', '.join(ends)}")
    there = {chain.id for chain in chains}
    absent = [sequence.chainId for sequence in sequences if sequence.chainId not in there]
    if absent:
        notes.append(
            f"chains {', '.join(dict.fromkeys(absent))} of the file's sequence have no atoms (or were left out)"
        )
    return notes


def _distance(before: Any, after: Any, where: np.ndarray) -> float | None:
    for first, second in (("C", "N"), ("O3'", "P"), ("C", "C")):
        a, b = _atom(before, first), _atom(after, second)
        if a is not None and b is not None:
            return float(np.linalg.norm(where[a.index] - where[b.index]))
    # without these atoms: neighbours along a chain have their first atoms within some Å of each other
    a, b = _atom(before, "CA") or next(before.atoms(), None), _atom(after, "CA") or next(after.atoms(), None)
    if a is None or b is None:
        return None
    distance = float(np.linalg.norm(where[a.index] - where[b.index]))
    return distance if distance > 8.0 else None


def _atom(residue: Any, name: str) -> Any:
    return next((atom for atom in residue.atoms() if atom.name == name), None)
