"""What was run: model, system, settings, machine, citation; whatever of it is known."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from heliodor.report.words import count, size
from heliodor.topology import NO_RESIDUE
from heliodor.trajectory.selection import AMINO_ACIDS, is_ion, is_lipid, is_water
from heliodor.trajectory.trajectory import Trajectory
from heliodor.units import format_time

MORE = 6
"""Kinds of residues named."""

FOREIGN = (
    "The trajectory comes without a record (.json) of heliodor: what is known of the run is what the file itself says."
)

PRODUCED = {"timestep": "fs", "temperature": "K", "pressure": "bar", "friction": "1/ps", "skin": "Å"}
"""Units of settings that are bare numbers."""


@dataclass(frozen=True)
class Facts:
    """Of one run.

    Attributes:
        name: what it is called on the page.
        headline: in one line: what, how, how long.
        groups: title, and rows of (label, text).
        settings: every setting, as text.
        citation: to paste.
        foreign: no record of heliodor was found.
    """

    name: str
    headline: str
    groups: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    settings: Mapping[str, str]
    citation: str
    foreign: bool


def facts(trajectory: Trajectory, name: str) -> Facts:
    """Gather them; what is unknown is left out."""
    record, settings = trajectory.record, trajectory.settings
    groups = (
        ("System", _system(trajectory)),
        ("Model", _model(record, settings)),
        ("Run", _run(trajectory)),
        ("Software and machine", _machine(record)),
    )
    stored = record.get("settings") or settings
    told = {str(key).replace("_", " "): _value(str(key), value) for key, value in _mapping(stored).items()}
    return Facts(
        name=name,
        headline=_headline(trajectory),
        groups=tuple((title, rows) for title, rows in groups if rows),
        settings=told,
        citation=_citation(record),
        foreign=not record and not settings.get("model"),
    )


def formula(numbers: np.ndarray) -> str:
    """Hill's order, with small figures: ``"C₁₂H₂₂N₄O₄"``."""
    from ase.formula import Formula
    from ase.symbols import Symbols

    text = str(Formula(str(Symbols(numbers))).convert("hill")) if len(numbers) <= 20_000 else _long(numbers)
    return text.translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def _long(numbers: np.ndarray) -> str:
    from ase.data import chemical_symbols

    kinds, counts = np.unique(numbers, return_counts=True)
    found = {chemical_symbols[int(z)]: int(n) for z, n in zip(kinds, counts, strict=True)}
    order = sorted(found, key=lambda s: (s != "C", s != "H", s))
    return "".join(f"{s}{found[s]}" for s in order)


def _headline(trajectory: Trajectory) -> str:
    dynamics = trajectory.record.get("dynamics")
    settings = trajectory.settings
    if not dynamics:
        temperature = trajectory.temperature
        ensemble = str(settings.get("ensemble", "")).upper()
        at = f" at {temperature:g} K" if temperature is not None else ""
        dynamics = f"{ensemble}{at}".strip()
    model = settings.get("model")
    span = float(trajectory.time[-1] - trajectory.time[0])
    words = [
        f"{formula(trajectory.topology.numbers)}, {count(trajectory.n_atoms)} atoms",
        str(dynamics),
        f"{format_time(span)} in {count(len(trajectory))} frames" if len(trajectory) > 1 else "a single frame",
        str(model) if model else "",
    ]
    return " · ".join(word for word in words if word)


def _system(trajectory: Trajectory) -> tuple[tuple[str, str], ...]:
    topology = trajectory.topology
    molecules = topology.molecules
    rows = [("formula", formula(topology.numbers)), ("atoms", count(len(topology)))]
    n_molecules = int(molecules.max()) + 1
    rows.append(("molecules", count(n_molecules)))
    # of each molecule its first atom
    first = np.unique(molecules, return_index=True)[1]
    kinds = [("water", is_water(topology)), ("ions", is_ion(topology)), ("lipids", is_lipid(topology))]
    rows += [(word, count(int(mask[first].sum()))) for word, mask in kinds if mask[first].any()]
    if topology.named:
        begins = np.unique(topology.residues, return_index=True)[1]
        names = topology.residue_names[begins]
        n_amino = int(np.isin(names, list(AMINO_ACIDS)).sum())
        if n_amino:
            rows.append(("amino acids", count(n_amino)))
        found, counts = np.unique(names[names != NO_RESIDUE], return_counts=True)
        order = np.argsort(-counts, kind="stable")
        listed = [f"{counts[k]} {found[k]}" for k in order[:MORE].tolist()]
        more = f" and {len(found) - MORE} more kinds" if len(found) > MORE else ""
        if listed:
            rows.append(("residues", ", ".join(listed) + more))
    if trajectory.charge is not None:
        rows.append(("charge", f"{trajectory.charge:+g} e" if trajectory.charge else "0"))
    if trajectory.spin is not None:
        rows.append(("unpaired electrons", str(trajectory.spin)))
    rows.append(("cell", _cell(trajectory)))
    rows.append(("names and bonds", trajectory.origin))
    return tuple(rows)


def _cell(trajectory: Trajectory) -> str:
    if not trajectory.pbc.any():
        return "none (gas phase)"
    a, b, c, alpha, beta, gamma = trajectory.atoms().cell.cellpar()
    lengths = f"{a:.3f} × {b:.3f} × {c:.3f} Å"
    angles = "" if np.allclose((alpha, beta, gamma), 90.0) else f", {alpha:.1f}° {beta:.1f}° {gamma:.1f}°"
    along = "" if trajectory.pbc.all() else ", periodic along " + "".join(np.array(list("xyz"))[trajectory.pbc])
    return lengths + angles + along + (" (first frame)" if len(trajectory) > 1 else "")


def _model(record: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    model = _mapping(record.get("model"))
    rows = [("name", model.get("name") or settings.get("model"))]
    if model.get("source") != model.get("name"):
        rows.append(("loaded from", model.get("source")))
    rows += [
        ("SHA-256 of its parameters", model.get("sha256")),
        ("licence", model.get("licence")),
        ("network in", model.get("dtype")),
        ("long-range cutoff", _cutoff(model)),
        ("kernels", model.get("kernels")),
    ]
    return tuple((label, str(text)) for label, text in rows if text)


def _cutoff(model: Mapping[str, Any]) -> str | None:
    cutoff = model.get("long_range_cutoff")
    if isinstance(cutoff, (int, float)):
        return f"{cutoff:g} Å"
    return None if cutoff is None else str(cutoff)


def _run(trajectory: Trajectory) -> tuple[tuple[str, str], ...]:
    record = trajectory.record
    step = _mapping(record.get("settings")).get("timestep", trajectory.settings.get("timestep_fs"))
    span = float(trajectory.time[-1] - trajectory.time[0])
    inputs = _mapping(record.get("inputs"))
    restarts = record.get("restarts", [])
    rows: list[tuple[str, Any]] = [
        ("trajectory", trajectory.path.name + _bytes(trajectory)),
        ("dynamics", record.get("dynamics") or str(trajectory.settings.get("ensemble", "")).upper()),
        ("length", f"{format_time(span)} in {count(len(trajectory))} frames" if span > 0 else "a single frame"),
        ("timestep", f"{step} fs" if isinstance(step, (int, float, np.number)) else step),
        ("seed", _mapping(record.get("settings")).get("seed", trajectory.settings.get("seed"))),
        ("begun", record.get("date")),
        ("command", record.get("command")),
        ("structure", inputs.get("structure")),
        ("SHA-256 of the structure", inputs.get("sha256")),
    ]
    if isinstance(restarts, list) and restarts:
        listed = ", ".join(f"step {_mapping(r).get('step', '?')} ({_mapping(r).get('date', '?')})" for r in restarts)
        rows.append(("restarted", listed))
    return tuple((label, str(text)) for label, text in rows if text not in (None, ""))


def _machine(record: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    from heliodor import __version__

    versions, machine = _mapping(record.get("versions")), _mapping(record.get("machine"))
    rows = [
        ("heliodor of the run", versions.get("heliodor")),
        ("with", ", ".join(f"{name} {v}" for name, v in versions.items() if name != "heliodor")),
        ("machine", ", ".join(str(machine[key]) for key in ("device", "host", "system") if machine.get(key))),
        ("threads", machine.get("threads")),
        ("this report", f"heliodor {__version__}, {time.strftime('%Y-%m-%d %H:%M')}"),
    ]
    return tuple((label, str(text)) for label, text in rows if text)


def _citation(record: Mapping[str, Any]) -> str:
    model, versions = _mapping(record.get("model")), _mapping(record.get("versions"))
    if not model.get("name"):
        return ""
    of = f" ({model['citation']})" if model.get("citation") else ""
    digest = f", parameters SHA-256 {str(model['sha256'])[:12]}" if model.get("sha256") else ""
    dynamics = f" The dynamics were {record['dynamics']}." if record.get("dynamics") else ""
    return (
        f"Simulated with heliodor {versions.get('heliodor', '')} and the model {model['name']}{of}{digest}.{dynamics}"
        f" Software: PyTorch {versions.get('torch', '?')}, NumPy {versions.get('numpy', '?')}, ASE "
        f"{versions.get('ase', '?')}."
    )


def _bytes(trajectory: Trajectory) -> str:
    try:
        return f" ({size(trajectory.path.stat().st_size)})"
    except OSError:
        return ""


def _value(key: str, value: Any) -> str:
    if value is None or value == [] or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        value = f"{value:g}"
    return f"{value} {PRODUCED[key]}" if key in PRODUCED and _number(value) else str(value)


def _number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
