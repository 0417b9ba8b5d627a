"""The watch over a run: breakdowns stop it, changed bonds and a model's doubts are told, frames around them saved."""

from __future__ import annotations

import re
import warnings
from dataclasses import asdict, replace
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heliodor.doubt import Doubt
from heliodor.dynamics.state import SKIN, MDState
from heliodor.dynamics.watch.bonds import BROKEN, FORMED, bonded_pairs, from_table, lengths, newly_formed, to_table
from heliodor.dynamics.watch.checks import Breakdown, Cells, breakdown, cells_of, suspicious
from heliodor.dynamics.watch.events import Event, event_at, names_of, within_structure
from heliodor.dynamics.watch.nearest import Nearest, nearest, reach
from heliodor.dynamics.watch.trouble import Trouble
from heliodor.errors import InputError, SimulationError
from heliodor.neighbors import Neighbors, find_neighbors
from heliodor.potential import ModelWarning, Potential

TOLD = 10
"""Warnings of one kind; what follows is counted and collected only."""

COLLECTED = 10_000
"""Events kept in memory and in checkpoints."""

CHOICES = ("stop", "warn", "ignore")


class WatchWarning(ModelWarning):
    """Something happened in a run that its user should look at."""


class Watch:
    """What the loop remembers of a run; `look` at each state in turn.

    Bonds are those of nonmetals by distance at the start (`bonds.py` has the limits and why), followed by the lists
    the forces were computed with: no look searches for neighbours unless the model sees less far than a bond.

    Attributes:
        bonds: the pairs bonded at the very start of the run, restarts included.
        events: noticed so far, restarts included; the first `COLLECTED`.
        reason: why the last look asked for a stop, else None.
    """

    def __init__(
        self,
        start: MDState,
        potential: Potential | None = None,
        *,
        temperature: float,
        timestep: float,
        path: str | Path | None = None,
        on_bond_change: str = "warn",
        on_doubt: str = "warn",
        doubt_above: float | None = None,
        stride: int = 10,
    ) -> None:
        """Begin a watch.

        Args:
            start: the state whose bonds and cells later ones are compared with.
            potential: asked for its doubts, if it has any to tell (a method ``doubts(system, prediction)``).
            temperature: K, the highest aimed at.
            timestep: fs, for the advice in messages.
            path: of the file for frames around events, extended XYZ; frames are appended to it. None for none.
            on_bond_change, on_doubt: ``"stop"`` the run in order, ``"warn"``, or ``"ignore"`` (not even looked for).
            doubt_above: eV/Å, limit handed to the potential's ``doubts``; None for its own.
            stride: steps between the frames kept for that file.

        Raises:
            InputError: an unknown choice, a limit that is no positive number, or a stride below 1.
        """
        for name, choice in (("on_bond_change", on_bond_change), ("on_doubt", on_doubt)):
            if choice not in CHOICES:
                raise InputError(f"{name} must be 'stop', 'warn' or 'ignore', not {choice!r}")
        if doubt_above is not None and not doubt_above > 0.0:
            raise InputError(f"doubt_above must be a positive force (eV/Å), not {doubt_above!r}")
        if stride < 1:
            raise InputError(f"the stride of saved frames must be at least 1 step, not {stride}")
        self._temperature, self._timestep = temperature, timestep
        self._on_bond_change, self._on_doubt = on_bond_change, on_doubt
        self._doubts = getattr(potential, "doubts", None)
        self._limit = {} if doubt_above is None else {"limit": doubt_above}
        self._trouble = Trouble(None if path is None else Path(path), start.system.n_atoms, stride)
        self._cells = cells_of(start.system)
        self.bonds = bonded_pairs(start.system)
        self._known = self.bonds
        self._torn = torch.zeros(self.bonds.n_edges, dtype=torch.bool, device=start.system.device)
        self._doubted: dict[str, set[int]] = {}
        self._told: dict[str, int] = {}
        self._reach = reach(start.system)
        self._near: Nearest | None = None
        self._own: Neighbors | None = None
        self._failure: SimulationError | None = None
        self.events: list[Event] = []
        self.reason: str | None = None

    @property
    def path(self) -> Path | None:
        """The file with frames around events, None as long as there is none."""
        return self._trouble.path if self._trouble.episodes and self._trouble.problem is None else None

    def look(self, state: MDState, thorough: bool) -> bool:
        """Look at a state; whether the run should end here, in order.

        Args:
            thorough: look at everything. Otherwise only at whether forces are large, which costs one pass over them
                (and, on a GPU, waits for it).

        Raises:
            SimulationError: the dynamics left physics: step, time, atoms, what to do, the file with the last frames.
        """
        if thorough or suspicious(state):
            near = self._nearest(state).pairs
            found = breakdown(state, self._temperature, self._timestep, near, self._cells)
            if found is not None:
                raise self._stopped(state, found)
        self._trouble.keep(state)
        if not thorough:
            return False
        fresh = [] if self._on_bond_change == "ignore" else self._changed_bonds(state)
        stops = bool(fresh) and self._on_bond_change == "stop"
        doubts = self._new_doubts(state)
        stops |= bool(doubts) and self._on_doubt == "stop"
        if fresh or doubts:
            self._tell([*fresh, *doubts], stops)
        return stops

    def failed(self, state: MDState, error: SimulationError) -> SimulationError:
        """The error to raise for one that a step raised: noted as an event, with the file of the last frames.

        An error from `look` comes back as it is.

        Args:
            state: the last one before the failure.
        """
        if error is self._failure:
            return error
        text = f"step {state.step + 1} ({state.time + self._timestep:g} fs): {error}"
        return self._ended(Event("failure", state.step + 1, state.time + self._timestep, 0, (), None, None, text))

    def to_dict(self) -> dict[str, Any]:
        """What a restart needs, for JSON; ``"bonds"`` (rows i, j, three translations; as many as bonds) is the bulk.

        It may be kept as an integer tensor [M, 5] instead: `restore` takes either.
        """
        return {
            "bonds": to_table(self._known).tolist(),
            "at_start": self.bonds.n_edges,
            "torn": self._torn.nonzero()[:, 0].tolist(),
            "volume": self._cells.volume.tolist(),
            "height": [h if h != float("inf") else None for h in self._cells.height.tolist()],
            "doubted": {text: sorted(atoms) for text, atoms in self._doubted.items()},
            "told": self._told,
            "episodes": self._trouble.episodes,
            "events": [asdict(event) for event in self.events],
        }

    def restore(self, saved: dict[str, Any], state: MDState) -> None:
        """Go on where the watch of an earlier part of the run ended.

        Args:
            saved: from `to_dict`, of a run of the same atoms.
            state: the one the run goes on from.

        Raises:
            InputError: not of this run.
        """
        system = state.system
        try:
            table = torch.as_tensor(saved["bonds"], dtype=torch.int64).reshape(-1, 5)
            first = int(saved["at_start"])
            self._torn = torch.zeros(first, dtype=torch.bool)
            self._torn[torch.as_tensor(saved["torn"], dtype=torch.int64)] = True
            volume, height = (_numbers(saved[name]) for name in ("volume", "height"))
            self._doubted = {text: set(atoms) for text, atoms in saved["doubted"].items()}
            self._told = dict(saved["told"])
            self.events = [Event(**event | {"atoms": tuple(event["atoms"])}) for event in saved["events"]]
            self._trouble.episodes = int(saved["episodes"])
        except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
            raise InputError(f"what the checkpoint keeps of the watch is damaged ({error}): start anew") from None
        if len(volume) != system.n_structures or (len(table) and int(table[:, :2].max()) >= system.n_atoms):
            raise InputError("what the checkpoint keeps of the watch is of other atoms: start anew")
        self._torn = self._torn.to(system.device)
        self._cells = Cells(volume.to(system.device), height.to(system.device))
        self._known = from_table(table, system)
        self.bonds = from_table(table[:first], system)
        self._near = None

    def _nearest(self, state: MDState) -> Nearest:
        lists = state.neighbors
        if float(lists.cutoff.amin()) < self._reach:
            # a list of our own cannot be made of positions that are not numbers; the checks find these without
            finite = bool(state.system.positions.isfinite().all())
            if finite and (self._own is None or bool(self._own.stale(state.system))):
                self._own = find_neighbors(state.system, self._reach, skin=SKIN)
            lists = self._own or lists
        if self._near is None or self._near.lists is not lists:
            self._near = nearest(state.system, lists, self._known)
        return self._near

    def _changed_bonds(self, state: MDState) -> list[Event]:
        system, near = state.system, self._nearest(state)
        d, limit = lengths(system, self.bonds, BROKEN)
        torn = (d > limit) & ~self._torn
        new = newly_formed(system, near.pairs, near.candidate, self._known)
        if not bool(torn.any() | new.any()):
            return []
        self._torn = self._torn | torn
        advice = (
            f"; if no reaction is expected: a timestep smaller than {self._timestep:g} fs, minimize first, equilibrate "
            "at a lower temperature, or doubt the model here"
        )
        events = []
        for edge in torn.nonzero()[:, 0].tolist():
            pair, length, most = (int(self.bonds.i[edge]), int(self.bonds.j[edge])), float(d[edge]), float(limit[edge])
            text = f"the bond between {names_of(system, pair)} broke ({length:.2f} Å, limit {most:.2f} Å)"
            events.append(event_at(state, "bond broken", pair, length, most, text + advice))
        d, limit = lengths(system, near.pairs, FORMED)
        for edge in new.nonzero()[:, 0].tolist():
            pair, length, most = (int(near.pairs.i[edge]), int(near.pairs.j[edge])), float(d[edge]), float(limit[edge])
            text = f"{names_of(system, pair)} formed a bond not there at the start ({length:.2f} Å, limit {most:.2f} Å)"
            events.append(event_at(state, "bond formed", pair, length, most, text + advice))
        self._known = from_table(torch.cat([to_table(self._known), to_table(near.pairs.select(new))]), system)
        self._near = replace(near, candidate=near.candidate & ~new)
        return events

    def _new_doubts(self, state: MDState) -> list[Event]:
        if self._on_doubt == "ignore" or self._doubts is None or state.prediction is None:
            return []
        events = []
        found: list[Doubt] = self._doubts(state.system, state.prediction, **self._limit)
        for doubt in found:
            # -1 stands for a doubt about no atom in particular
            atoms = set(doubt.atoms) or {-1}
            known = self._doubted.setdefault(re.sub(r"[-+]?\d+(\.\d*)?", "#", doubt.text), set())
            if atoms <= known:
                continue
            known |= atoms
            at = f" at {names_of(state.system, doubt.atoms)}" if doubt.atoms else ""
            advice = "; compare with a reference calculation of this frame before trusting what follows"
            events.append(
                event_at(state, "doubt", doubt.atoms, None, None, f"the model doubts itself{at}: {doubt.text}{advice}")
            )
        return events

    def _tell(self, fresh: list[Event], stops: bool) -> None:
        path = self._trouble.save(after=not stops)
        frames = f"; frames around it: {path}" if path else self._not_written()
        for event in fresh:
            self._collect(event)
            told = self._told[event.kind] = self._told.get(event.kind, 0) + 1
            if told <= TOLD:
                warnings.warn(event.text + frames, WatchWarning, stacklevel=4)
            elif told == TOLD + 1:
                warnings.warn(
                    f"step {event.step}: {event.kind}, for the {told}th time; more of these are not told",
                    WatchWarning,
                    stacklevel=4,
                )
        if stops:
            self.reason = fresh[0].text + (f" (and {len(fresh) - 1} more)" if len(fresh) > 1 else "") + frames

    def _stopped(self, state: MDState, found: Breakdown) -> SimulationError:
        if found.kind != "not finite" and bool(state.velocities.isfinite().all()):
            self._trouble.keep(state)
        atoms = within_structure(state.system, found.atoms)
        # JSON has no other numbers
        value, limit = (x if isfinite(x) else None for x in (found.value, found.limit))
        return self._ended(Event(found.kind, state.step, state.time, found.structure, atoms, value, limit, found.text))

    def _ended(self, event: Event) -> SimulationError:
        self._collect(event)
        path = self._trouble.save(after=False, always=True)
        frames = self._not_written() if path is None else f"; the last frames are in {path}"
        self._failure = SimulationError(event.text + frames)
        return self._failure

    def _not_written(self) -> str:
        problem = self._trouble.problem
        return "" if problem is None else f"; the frames around it could not be written ({problem})"

    def _collect(self, event: Event) -> None:
        if len(self.events) < COLLECTED:
            self.events.append(event)


def _numbers(saved: list[float | None]) -> Tensor:
    return torch.tensor([float("inf") if x is None else x for x in saved], dtype=torch.float64)
