"""Protocols: several stages from a few lines of YAML, such as minimise, heat, settle the density, produce."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import ase
import numpy as np

from heliodor.dynamics.restraints.kinds import PositionRestraint, read_restraints, to_dict
from heliodor.dynamics.settings import Settings, from_mapping
from heliodor.dynamics.steps.coupling import COUPLINGS
from heliodor.errors import InputError, suggestion

DEFAULT = {
    "periodic": """\
settings:
  timestep: 0.5 fs
  save_every: 0.1 ps
stages:
  - name: minimize
    minimize: {fmax: 0.1, steps: 500}
  - name: heat
    ensemble: nvt
    temperature: "50:{temperature}"
    friction: 5.0
    time: {short}
  - name: nvt
    ensemble: nvt
    time: {short}
  - name: npt
    ensemble: npt
    time: {long}
    settle: [density_g_cm3, potential_eV]
  - name: production
    ensemble: npt
    time: {long}
    settle: [density_g_cm3, potential_eV]
""",
    "molecule": """\
settings:
  timestep: 0.5 fs
  save_every: 0.1 ps
stages:
  - name: minimize
    minimize: {fmax: 0.02, steps: 1000}
  - name: heat
    ensemble: nvt
    temperature: "50:{temperature}"
    friction: 5.0
    time: {short}
  - name: production
    ensemble: nvt
    time: {long}
    settle: [potential_eV]
""",
}
"""Protocols to begin from; {temperature}, {short} and {long} are filled in."""

SETTLE = ("potential_eV",)
"""Columns of the log judged after a stage that does not say otherwise; the density too where the whole cell gives."""

BESIDE_MINIMIZE = ("frozen", "restraints")
"""Settings that a minimisation knows."""


@dataclass(frozen=True)
class Relaxation:
    """A minimisation.

    Attributes:
        fmax: eV/Å.
        steps: at most.
        cell: coupling of the cell, None to keep it.
        pressure: bar.
        required: whether the protocol ends if it does not converge.
    """

    fmax: float = 0.1
    steps: int = 500
    cell: str | None = None
    pressure: float = 0.0
    required: bool = False


@dataclass(frozen=True)
class Stage:
    """One stage: a relaxation or dynamics.

    Attributes:
        name: of the stage and of its files.
        relaxation: None for dynamics.
        settings: of the dynamics; a relaxation takes frozen atoms and restraints from them.
        settle: columns of the log to judge at its end.
    """

    name: str
    relaxation: Relaxation | None
    settings: Settings
    settle: tuple[str, ...]


def read_protocol(mapping: Mapping[str, Any], common: Mapping[str, Any] | None = None) -> tuple[Stage, ...]:
    """Stages from what a YAML file holds.

    Args:
        common: settings for all stages, which those of the file win over.

    Raises:
        InputError: unknown or missing names, values of the wrong kind; with the stage and what was probably meant.
    """
    for name in mapping:
        if name not in ("settings", "stages"):
            raise InputError(f"protocol: unknown entry {name!r}{suggestion(name, ['settings', 'stages'])}")
    entries = mapping.get("stages")
    if not isinstance(entries, list) or not entries:
        raise InputError("protocol: 'stages' must be a list of at least one stage")
    shared = mapping.get("settings") or {}
    if not isinstance(shared, Mapping):
        raise InputError("protocol: 'settings' must hold names and values")
    base = from_mapping({**(common or {}), **shared}, where="protocol, settings: ")
    _check(base, "protocol, settings: ")
    stages = tuple(_stage(entry, number, base) for number, entry in enumerate(entries, 1))
    names = [stage.name for stage in stages]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"protocol: two stages are called {name!r}; each needs a name of its own")
    return stages


def _stage(entry: Any, number: int, base: Settings) -> Stage:
    where = f"protocol, stage {number}: "
    if not isinstance(entry, Mapping):
        raise InputError(f"{where}a stage holds names and values, not {entry!r}")
    values = dict(entry)
    name = str(values.pop("name", "minimize" if "minimize" in values else f"stage{number}"))
    if not name.replace("-", "").replace("_", "").isalnum():
        raise InputError(f"{where}the name {name!r} is part of file names: use letters, digits, - and _")
    where = f"protocol, stage {number} ({name}): "
    settle = values.pop("settle", None)
    if settle is not None and not isinstance(settle, list):
        raise InputError(f"{where}settle must be a list of columns of the log, such as [density_g_cm3]")
    if "minimize" in values:
        wishes = values.pop("minimize") or {}
        extra = [key for key in values if key not in BESIDE_MINIMIZE] + ["settle"] * (settle is not None)
        if extra:
            raise InputError(f"{where}a minimisation takes no {', '.join(extra)}")
        settings = from_mapping(values, base=base, where=where)
        _check(settings, where)
        return Stage(name, _relaxation(wishes, where), settings, ())
    settings = from_mapping(values, base=base, where=where)
    _check(settings, where)
    if (settings.time is None) == (settings.steps is None):
        raise InputError(f"{where}give its length once: time: 10 ps, or steps: 20000")
    if settle is None:
        # in-plane is for slabs, which have no density
        dense = settings.ensemble in ("npt", "nph") and settings.coupling != "in-plane"
        settle = [*SETTLE, *(["density_g_cm3"] if dense else [])]
    return Stage(name, None, settings, tuple(str(column) for column in settle))


def _check(settings: Settings, where: str) -> None:
    """Refuse what cannot go from stage to stage, before the first one has cost an hour."""
    if settings.replicas != 1:
        raise InputError(
            f"{where}a protocol moves one structure, without replicas: run it several times, with another seed and "
            "into another folder"
        )
    if settings.minimize_first:
        raise InputError(
            f"{where}minimize_first has no place in a protocol: put a stage before, such as - minimize: {{fmax: 0.05}}"
        )
    if settings.keep_velocities and settings.start_temperature is not None:
        raise InputError(
            f"{where}keep_velocities and start_temperature exclude each other; velocities go from stage to stage "
            "where there is no start_temperature"
        )
    try:
        read_restraints(settings.restraints)
    except InputError as error:
        raise InputError(f"{where}{error}") from None


def anchored(settings: Settings, start: ase.Atoms, now: ase.Atoms) -> Settings:
    """Position restraints with the places they had at the start of the protocol, carried along with the cell.

    A stage by itself would take the places its atoms have drifted to, and measure places given in Å in a cell that
    they were not meant for.

    Args:
        start: structure that the protocol began with.
        now: that a stage begins with.

    Raises:
        InputError: a restraint of an atom that does not exist.
    """
    held = []
    for restraint in read_restraints(settings.restraints):
        if isinstance(restraint, PositionRestraint):
            if max(restraint.atoms) >= len(start):
                raise InputError(f"restraints: there is no atom {max(restraint.atoms)}, only {len(start)}, from 0")
            given = restraint.reference
            places = start.positions[list(restraint.atoms)] if given is None else np.array(given)
            before, after = (frame.cell.array * frame.pbc[:, None] for frame in (start, now))
            # in this form places in a cell that has not changed keep all their digits
            places = places + places @ np.linalg.pinv(before) @ (after - before)
            restraint = replace(restraint, reference=tuple(tuple(float(x) for x in row) for row in places))
        held.append(to_dict(restraint))
    return settings.replace(restraints=held) if held else settings


def carried(start: ase.Atoms, last: ase.Atoms) -> ase.Atoms:
    """The structure of the start, with its masses and fixed atoms, where the last stage has brought it.

    A stage with a hydrogen mass leaves other masses: velocities are scaled so that each atom keeps its kinetic energy.
    """
    atoms = start.copy()
    atoms.positions = last.positions
    atoms.set_cell(last.cell.array)
    scale = np.sqrt(last.get_masses() / atoms.get_masses())
    velocities = last.get_velocities() * scale[:, None]
    # a stage may move atoms that the structure fixes
    atoms.set_momenta(atoms.get_masses()[:, None] * velocities, apply_constraint=False)
    return atoms


def _relaxation(wishes: Any, where: str) -> Relaxation:
    if not isinstance(wishes, Mapping):
        raise InputError(f"{where}minimize holds names and values, such as {{fmax: 0.05, steps: 500}}")
    known = {"fmax": float, "steps": int, "cell": str, "pressure": float, "required": bool}
    given: dict[str, Any] = {}
    for name, value in wishes.items():
        if name not in known:
            raise InputError(f"{where}unknown entry {name!r} of minimize{suggestion(name, list(known))}")
        if name == "cell" and value in (None, "none"):
            continue
        try:
            given[name] = known[name](value)
        except (TypeError, ValueError):
            raise InputError(f"{where}{name} of minimize cannot be {value!r}") from None
    if given.get("cell") is not None and given["cell"] not in COUPLINGS:
        raise InputError(f"{where}cell must be one of {', '.join(COUPLINGS)}, not {given['cell']!r}")
    return Relaxation(**given)
