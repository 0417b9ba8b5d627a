"""What a watch over a run notices, in words and numbers."""

from __future__ import annotations

from dataclasses import dataclass

from heliodor.dynamics.naming import atom_name
from heliodor.dynamics.state import MDState
from heliodor.system import System


@dataclass(frozen=True)
class Event:
    """Something noticed.

    Attributes:
        kind: "bond broken", "bond formed", "doubt", or what broke down (see `heliodor.dynamics.watch.checks.Breakdown`;
            "failure" for errors raised outside the checks).
        step, time: when it was seen; fs.
        structure: index in the batch.
        atoms: indices within their structure.
        value, limit: what was compared (Å, eV/Å, K or a fraction of the start); None for doubts and failures.
        text: all in words, atoms by name.
    """

    kind: str
    step: int
    time: float
    structure: int
    atoms: tuple[int, ...]
    value: float | None
    limit: float | None
    text: str


def event_at(
    state: MDState, kind: str, atoms: tuple[int, ...], value: float | None, limit: float | None, text: str
) -> Event:
    """An event of a state; atoms are indices over the whole batch."""
    structure = int(state.system.batch[atoms[0]]) if atoms else 0
    where = f"step {state.step} ({state.time:g} fs): "
    return Event(
        kind, state.step, state.time, structure, within_structure(state.system, atoms), value, limit, where + text
    )


def within_structure(system: System, atoms: tuple[int, ...]) -> tuple[int, ...]:
    """Indices over the whole batch as indices within their structures."""
    return tuple(a - int((system.batch < system.batch[a]).sum()) for a in atoms)


def names_of(system: System, atoms: tuple[int, ...]) -> str:
    """Atoms by name, four at most."""
    names = [atom_name(system, a) for a in atoms[:4]]
    if len(atoms) > 4:
        return ", ".join(names) + f" and {len(atoms) - 4} more atoms"
    return " and ".join(names) if len(names) < 3 else ", ".join(names)
