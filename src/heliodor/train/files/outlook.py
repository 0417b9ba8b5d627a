"""What a run would do, before it does it: for `heliodor train --dry-run`."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.train.dataset import Dataset
from heliodor.train.estimate import estimate
from heliodor.train.files.job import Job
from heliodor.train.progress import duration
from heliodor.train.references import References
from heliodor.train.settings import TrainSettings
from heliodor.train.weights import WEIGHT_FIELDS


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        lines: titles and texts for people.
        numbers: the same for programs.
    """

    lines: list[tuple[str, str]]
    numbers: dict[str, Any]


def plan(job: Job) -> Plan:
    """What is said before a run, and memory and time where they can be measured, and the files."""
    settings = job.settings
    head = describe(job)
    lines, numbers = list(head.lines), dict(head.numbers)
    cost = estimate(job.model, job.sets.training, settings)
    seconds, speed = cost.seconds_per_epoch, cost.structures_per_second
    numbers |= {"bytes_peak": cost.bytes_peak, "seconds_per_epoch": seconds, "structures_per_second": speed}
    lines.append(("memory", f"{cost.bytes_peak / 2**20:,.0f} MiB beside the program and the data set"))
    whole = f", {duration(seconds * settings.epochs)} in all" if settings.epochs else ""
    lines.append(("time", f"{duration(seconds)} an epoch ({speed:.3g} structures/s here){whole}"))
    names = ["model.safetensors", "log.csv", "result.json", "curves.png", "parity.png", "config.yaml"]
    names += ["test.json", "parity_test.png"] if job.sets.test is not None else []
    names += ["forgetting.json", "forgetting.txt", "forgetting.png"] if job.how is not None else []
    names += ["tensorboard/"] if settings.tensorboard else []
    folder = job.config.folder
    there = " (holds a run already)" if _is_run(folder) else ""
    lines.append(("would write", f"{folder}{there}: {', '.join(names)}"))
    return Plan(lines, numbers | {"folder": folder, "files": names})


def describe(job: Job) -> Plan:
    """Structures, kinds, labels, parameters, loss, batches and steps."""
    settings, sets, model = job.settings, job.sets, job.model
    lines: list[tuple[str, str]] = []
    numbers: dict[str, Any] = {}
    for name in ("training", "validation", "test"):
        part: Dataset | None = getattr(sets, name)
        if part is not None:
            text, numbers[name] = _describe(part)
            lines.append((name, text))
    lines += [("", note) for note in sets.notes]
    total = sum(p.numel() for p in model.parameters())
    begins = "fine-tuned" if job.how is not None else "gone on with" if job.config.model.checkpoint else "new"
    lines += [
        ("model", f"{model.name} ({type(model).__name__}), {begins}, {total:,} parameters"),
        ("references", _references_in_words(job)),
        ("loss", _loss_in_words(settings, numbers["training"]["labels"])),
    ]
    batches = math.ceil(len(sets.training) / settings.batch_size)
    steps = math.ceil(batches / settings.accumulate)
    ends = [f"{settings.epochs:g} epochs (about {math.ceil(settings.epochs * steps)} steps)"] * bool(settings.epochs)
    ends += [duration(settings.seconds)] * bool(settings.time)
    ends += [f"{settings.stop_after} validations without improvement"] * bool(settings.stop_after)
    lines.append(("length", f"about {batches} batches an epoch; ends after {' or '.join(ends) or 'the last plateau'}"))
    numbers |= {
        "parameters": total,
        "architecture": type(model).__name__,
        "batches_per_epoch": batches,
        "steps_per_epoch": steps,
    }
    return Plan(lines, numbers)


def _loss_in_words(settings: TrainSettings, labelled: Collection[str]) -> str:
    def words(progress: float) -> str:
        now = settings.weights_at(progress)
        return ", ".join(f"{name} {weight:g}" for name, weight in now.items() if weight > 0 and name in labelled)

    text = f"{settings.loss}: {words(0.0)}"
    if not settings.stage_two:
        return text + (f"; at the end {words(1.0)}" if settings.weights_change else "")
    rate = settings.learning_rate * settings.stage_two_rate
    return f"{text}; stage two after {100 * settings.stage_two:g} %, learning rate {rate:g}: {words(1.0)}"


def _is_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("state.pt", "result.json"))


def _describe(data: Dataset) -> tuple[str, dict[str, Any]]:
    labels = {}
    for name in WEIGHT_FIELDS:
        values = getattr(data, name)
        owners = len(data) if len(values) == len(data) and name in ("energy", "stress", "dipole") else len(data.numbers)
        known = int(np.isfinite(np.asarray(values).reshape(owners, -1)).all(1).sum()) if owners else 0
        if known:
            labels[name] = (known, owners)
    kinds = {str(k): int(n) for k, n in zip(*np.unique(data.kind, return_counts=True), strict=True)}
    words = [name if n == of else f"{name} ({n} of {of})" for name, (n, of) in labels.items()]
    text = f"{len(data)} structures, {len(data.numbers)} atoms; labels: {', '.join(words) or 'none'}"
    if len(kinds) > 1:
        text += "; kinds: " + ", ".join(f"{kind or 'none'} {n}" for kind, n in kinds.items())
    if data.method:
        text += f"; {data.method}"
    counts = {name: n for name, (n, _) in labels.items()}
    return text, {"structures": len(data), "atoms": len(data.numbers), "labels": counts, "kinds": kinds}


def _references_in_words(job: Job) -> str:
    if job.how is not None:
        return f"finetune.references: {job.how.references}"
    kept = References.from_card(job.model.card)
    if kept is None:
        return "of the checkpoint: none in its card, fitted when the run begins"
    numbers = ", ".join(f"{s} {kept.energies[z]:.3f}" for s, z in zip(kept.symbols, sorted(kept.energies), strict=True))
    return f"{kept.origin or 'of the checkpoint'}: {numbers} eV"
