"""Protocols: several stages from a few lines of YAML, such as minimise, heat, settle the density, produce."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heliodor.dynamics.settings import Settings, from_mapping, suggestion
from heliodor.dynamics.steps.coupling import COUPLINGS
from heliodor.errors import InputError

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
"""Columns of the log judged after a stage that does not say otherwise; the density too under pressure."""


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
        settle: columns of the log to judge at its end.
    """

    name: str
    relaxation: Relaxation | None
    settings: Settings | None
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
        if values or settle is not None:
            extra = ", ".join(values) or "settle"
            raise InputError(f"{where}a minimisation takes no {extra}")
        return Stage(name, _relaxation(wishes, where), None, ())
    settings = from_mapping(values, base=base, where=where)
    if (settings.time is None) == (settings.steps is None):
        raise InputError(f"{where}give its length once: time: 10 ps, or steps: 20000")
    if settle is None:
        settle = [*SETTLE, *(["density_g_cm3"] if settings.ensemble in ("npt", "nph") else [])]
    return Stage(name, None, settings, tuple(str(column) for column in settle))


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
