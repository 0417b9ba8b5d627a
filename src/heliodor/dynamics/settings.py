"""Settings: every choice of a simulation in one frozen dataclass; Python, command line, YAML and restart files use it.

The help text of each field is what ``heliodor md --help`` and the docs print.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from heliodor.errors import InputError, suggestion


def option(default: Any, text: str, *, metavar: str = "", cli: bool = True) -> Any:
    """A field with its help text."""
    return field(default=default, metadata={"help": text, "metavar": metavar, "cli": cli})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Choices of a simulation; units are eV, Å, fs, K, bar, with times also as text such as ``"10 ps"``."""

    time: str | float | None = option(None, "Length: '10 ps', '500 fs', '1 ns'.", metavar="TIME")
    steps: int | None = option(None, "Length in steps, instead of the time.")
    timestep: str | float = option(0.5, "Timestep in fs.", metavar="FS")

    ensemble: str = option(
        "nvt",
        "nve: constant energy; nvt: constant temperature; npt: constant temperature and pressure; nph: constant "
        "enthalpy and pressure.",
    )
    temperature: str | float | Sequence[float] = option(
        300.0,
        "Temperature in K (nve, nph: of the start); '300:900' heats evenly over the run, '300:900:300' cools again.",
        metavar="K",
    )
    thermostat: str | None = option(
        None,
        "langevin (BAOAB), csvr (stochastic velocity rescaling) or nose-hoover (chains). [default: langevin, or "
        "nose-hoover with the mtk barostat]",
    )
    friction: float = option(2.0, "Of the Langevin thermostat, in 1/ps.", metavar="1/PS")
    time_constant: str | float = option(100.0, "Of csvr and nose-hoover, in fs.", metavar="TIME")
    pressure: str | float | Sequence[float] = option(
        1.0,
        "Target in bar; 'P,Pz' in-plane and normal, 'Px,Py,Pz' along each axis.",
        metavar="BAR",
    )
    barostat: str | None = option(
        None,
        "scr (stochastic cell rescaling) or mtk (Martyna-Tobias-Klein). [default: scr; mtk with nose-hoover or nph]",
    )
    coupling: str = option(
        "isotropic",
        "How the cell may change: isotropic, semi-isotropic (x and y together, z by itself), in-plane (z fixed), "
        "anisotropic (x, y, z), triclinic (angles too).",
    )
    barostat_time_constant: str | float = option(1000.0, "Of the barostat, in fs.", metavar="TIME")
    compressibility: float = option(
        4.5e-5, "1/bar, for scr: sets its speed, not the average; the default is water's.", metavar="1/BAR"
    )
    surface_tension: float = option(
        0.0, "Target in mN/m for all interfaces of the box together, with semi-isotropic or in-plane.", metavar="MN/M"
    )

    constraints: str = option(
        "none", "none; h-bonds: bonds to hydrogen keep their length and waters are rigid; water: rigid waters only."
    )
    hydrogen_mass: float | None = option(
        None, "Repartition masses: hydrogens get this one in amu, from the atoms they are bonded to.", metavar="AMU"
    )
    restraints: tuple[Mapping[str, Any], ...] = option(
        (), "Restraints, see heliodor.dynamics.read_restraints.", cli=False
    )
    frozen: str | Sequence[int] | None = option(
        None, "Atoms that do not move: indices '0-99,120' or elements 'C N'. [default: as fixed in the file]"
    )

    minimize_first: bool = option(False, "Relax the structure first (to 0.05 eV/Å).", cli=False)
    start_temperature: float | None = option(
        None, "Of the first velocities in K, if not the temperature; twice it after a minimisation.", metavar="K"
    )
    keep_velocities: bool = option(False, "Start with the velocities of the structure instead of drawing them.")
    seed: int | None = option(None, "Of all random numbers. [default: drawn, and reported]")
    replicas: int = option(1, "Copies of the structure run at once, with different velocities.")
    skin: float = option(1.0, "Of the neighbour lists in Å.", metavar="Å")

    save_every: str | float = option(20.0, "Time between frames of the trajectory, in fs.", metavar="TIME")
    log_every: str | float = option(10.0, "Time between lines of the log, in fs.", metavar="TIME")
    velocities: bool = option(True, "Write velocities into the trajectory.")
    forces: bool = option(False, "Write forces into the trajectory.")
    precision: str = option("single", "single or double, of the numbers in the trajectory.")
    save_atoms: str = option("all", "Which atoms go into the trajectory: 'all', 'heavy', '0-99', 'C N O', 'not H'.")
    checkpoint_every: str | float = option(
        1000.0, "Simulated time between restart files, in fs; one is written at the end in any case.", metavar="TIME"
    )
    walltime: str | None = option(
        None, "Stop in good time before this much wall time is over: '24h', '30m'.", metavar="TIME"
    )

    on_bond_change: str = option("warn", "When a bond breaks or forms: stop, warn or ignore.")
    on_doubt: str = option("warn", "When the model says it is outside what it knows: stop, warn or ignore.")
    doubt_above: float | None = option(
        None,
        "The model doubts itself where the force on an atom may be off by more than this (of a committee: where its "
        "models' forces are further apart), in eV/Å. [default: the model's own limit]",
        metavar="EV/Å",
    )

    def replace(self, **changes: Any) -> Settings:
        """A copy with some fields exchanged; unknown names are refused."""
        return from_mapping(changes, base=self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON and YAML know."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


def from_mapping(values: Mapping[str, Any], *, base: Settings | None = None, where: str = "") -> Settings:
    """Settings from names and values.

    Args:
        base: where the other values come from.
        where: what to call the place in an error.

    Raises:
        InputError: a name that no field has, with the one that was probably meant; a value of the wrong kind.
    """
    names = [f.name for f in fields(Settings)]
    for name in values:
        if name not in names:
            raise InputError(f"{where}unknown setting {name!r}{suggestion(name, names)}")
    known = {name: _ordinary(value) for name, value in values.items()}
    for name, value in known.items():
        _check_kind(name, value, where)
    if "restraints" in known:
        known["restraints"] = tuple(known["restraints"])
    return dataclasses.replace(base or Settings(), **known)


def _ordinary(value: Any) -> Any:
    """Numbers and lists for what numpy or torch hold; mappings for restraints."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(name): _ordinary(part) for name, part in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # a restraint as an object; imported here for the sake of a light command line
        from heliodor.dynamics.restraints.kinds import to_dict

        return to_dict(value)  # type: ignore[arg-type]
    if isinstance(value, (list, tuple)):
        return type(value)(_ordinary(part) for part in value)
    return value


def _check_kind(name: str, value: Any, where: str) -> None:
    kind = next(f.type for f in fields(Settings) if f.name == name)
    words = str(kind).replace("Sequence[float]", "list").replace("Sequence[int]", "list").replace(" ", "").split("|")
    if value is None:
        good = "None" in words
    elif isinstance(value, bool):
        good = "bool" in words
    elif isinstance(value, int):
        good = "int" in words or "float" in words
    elif isinstance(value, float):
        good = "float" in words
    elif isinstance(value, (str, Path)):
        good = "str" in words
    else:
        good = "list" in words or words[0].startswith("tuple")
    if not good:
        raise InputError(f"{where}{name} cannot be {value!r}; it is: {describe(name)}")


def describe(name: str) -> str:
    """The help text of a field."""
    return str(next(f.metadata["help"] for f in fields(Settings) if f.name == name))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(v) for key, v in value.items()}
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if isinstance(value, Path):
        return str(value)
    return [_plain(v) for v in value]
