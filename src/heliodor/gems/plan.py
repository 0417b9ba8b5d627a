"""What a pipeline would make, before it makes it: counts, hours, disk."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase
import numpy as np

from heliodor.fragments.embed import embed, seed_of
from heliodor.fragments.graph_of import graph_of
from heliodor.fragments.snapshots import frames_of
from heliodor.fragments.top_down import top_down
from heliodor.gems import fit, pieces, snapshots
from heliodor.gems.config import Config
from heliodor.gems.molecule import build_system, read_source
from heliodor.label.amounts import format_duration, format_memory
from heliodor.label.cost import disk, fit_cost, try_some
from heliodor.stages import Tell
from heliodor.train.settings import TrainSettings
from heliodor.units import parse_time

CUTS = 30
"""Centres that the starting structure is cut around to learn how large fragments are."""

TIMED = 8
"""Small pieces that labelling is timed on."""


@dataclass(frozen=True)
class Line:
    """Of a plan.

    Attributes:
        name: what it is about.
        text: for people.
        numbers: the same for machines.
    """

    name: str
    text: str
    numbers: dict[str, Any] = field(default_factory=dict)


def plan(source: str | Path | ase.Atoms, config: Config, tell: Tell = lambda stage, what, done, of: None) -> list[Line]:
    """Build and cut the starting structure, time a few labels, and work out the rest.

    Raises:
        InputError: as `heliodor.gems.pipeline.make_force_field` would.
    """
    handed = read_source(source)
    systems = build_system(handed, config.system, config.seed, lambda what, done, of: tell("plan", what, done, of))
    first = systems[0]
    lines = [
        Line(
            "molecule",
            f"{handed.words}: {len(first)} atoms, {first.get_chemical_formula('hill')}, "
            f"charge {first.info.get('charge', 0):+g}",
            {"atoms": len(first)},
        )
    ]
    learned, kept = _shots(config, systems)
    shots = learned + kept
    lines.append(Line("snapshots", f"{shots}, {kept} of them held out", {"snapshots": shots, "held_out": kept}))
    sizes: list[int] = []
    small, count, graphs = _bottom_up(config, first)
    if count:
        lines.append(
            Line(
                "bottom-up",
                f"{graphs} graphs of up to {config.bottom_up.max_heavy} heavy atoms; at most {count} structures, "
                f"{np.mean([len(frame) for frame in small]):.0f} atoms on average",
                {"graphs": graphs, "structures": count},
            )
        )
        sizes += [len(small[k % len(small)]) for k in range(count)]
    large: list[ase.Atoms] = []
    if config.top_down.structures:
        large, learned, held = _top_down(config, first, shots, kept)
        atoms = [len(frame) for frame in large]
        lines.append(
            Line(
                "top-down",
                f"{learned} fragments to learn from and {held} held out, {np.mean(atoms):.0f} atoms on average "
                f"({min(atoms)} to {max(atoms)} in the starting structure)",
                {"structures": learned, "held_out": held, "mean_atoms": float(np.mean(atoms))},
            )
        )
        sizes += [atoms[k % len(atoms)] for k in range(learned + held)]
    if config.validate.whole and len(first) <= config.validate.whole_atoms and not first.pbc.any():
        whole = min(config.validate.whole, kept)
        lines.append(Line("whole", f"{whole} snapshots of the whole molecule", {"structures": whole}))
        sizes += [len(first)] * whole
    lines.append(_labels(config, sizes, small, large, tell))
    lines.append(_training(config))
    if config.validate.helix is not None:
        lines.append(Line("helix", f"{config.validate.helix} with n = {', '.join(map(str, config.validate.lengths))}"))
    return lines


def _shots(config: Config, systems: list[ase.Atoms]) -> tuple[int, int]:
    """Snapshots to learn from, and held out."""
    choices = config.snapshots
    if choices.trajectory is not None:
        return snapshots.divided(sum(1 for _ in frames_of(choices.trajectory, systems[0])))
    learned, kept = snapshots.divided(int(parse_time(choices.time) / parse_time(choices.every) + 1e-9))
    runs = len(choices.temperatures) * len(systems)
    return learned * runs, kept * runs


def _bottom_up(config: Config, system: ase.Atoms) -> tuple[list[ase.Atoms], int, int]:
    """A sample of the pieces, the number of structures at most, and that of the graphs."""
    choices = config.bottom_up
    amons = pieces.amons_of(system, choices)
    if not amons:
        return [], 0, 0
    each = 1 + choices.modes * len(choices.mode_temperatures) + choices.dynamics * len(choices.dynamics_temperatures)
    count = len(amons) * (choices.conformers * each + choices.waters)
    picked = np.unique(np.linspace(0, len(amons) - 1, 4 * TIMED).round().astype(int))
    sample = [embed(amons[k], 1, seed_of(config.seed, k))[0] for k in picked.tolist()]
    return sample, min(count, choices.structures), len(amons)


def _top_down(config: Config, system: ase.Atoms, shots: int, kept: int) -> tuple[list[ase.Atoms], int, int]:
    """A sample of the pieces, and the numbers to learn from and held out."""
    choices = config.top_down
    refused: list[str] = []
    found = top_down(
        system,
        graph_of(system),
        radius=choices.radius,
        count=CUTS,
        seed=config.seed,
        largest_charge=choices.max_charge,
        refused=refused,
        distinct=False,
    )
    learned = min(choices.structures, (shots - kept) * choices.centres)
    return [piece.atoms for piece in found], learned, min(choices.held_out, kept * choices.centres)


def _labels(config: Config, sizes: list[int], small: list[ase.Atoms], large: list[ase.Atoms], tell: Tell) -> Line:
    timed = small[:: max(1, len(small) // TIMED)] or large
    # fragments of hundreds of atoms would take hours with most methods: only where pieces of tens take less than a tick
    times, _ = try_some(
        timed, config.label.method, count=TIMED, progress=lambda done, of: tell("plan", "timing labels", done, of)
    )
    if times and large and max(wall for _, wall, _ in times) < 0.2:
        more, _ = try_some([min(large, key=len), max(large, key=len)], config.label.method, count=2)
        times = [*times, *more]
    cost, bytes_ = fit_cost(times), disk(sizes)
    room = f"{format_memory(bytes_)} of disk"
    if cost is None:
        return Line("labels", f"{len(sizes)} with {config.label.method}: none of those tried went well; {room}")
    hours = cost.seconds(sizes) * cost.cores / 3600.0
    wall = hours / max(config.workers, 1)
    seen = max(atoms for atoms, _, _ in times)
    far = f"; times are carried on from {seen} atoms" if seen < max(sizes) else ""
    return Line(
        "labels",
        f"{len(sizes)} with {config.label.method}: {hours:.2g} CPU hours, {format_duration(3600.0 * wall)} with "
        f"{config.workers} workers, {room} (time grows as N^{cost.power:.1f}{far})",
        {"labels": len(sizes), "cpu_hours": hours, "hours": wall, "bytes": bytes_},
    )


def _training(config: Config) -> Line:
    wanted = fit.fits(config)
    settings: TrainSettings = fit.train_settings(config, wanted[0])
    at_once = min(len(wanted), config.workers)
    rounds = -(-len(wanted) // at_once)
    long = format_duration(rounds * settings.seconds) if np.isfinite(settings.seconds) else "as many epochs as asked"
    cores = max(1, (os.cpu_count() or 1) // at_once)
    names = " and ".join(one.name for one in wanted)
    return Line("training", f"{names} ({config.model.architecture}), {at_once} at once on {cores} core(s) each: {long}")
