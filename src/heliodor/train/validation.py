"""Validation of a run: shared among its processes, each of which answers for some of the structures."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from heliodor.errors import InputError
from heliodor.potential import Potential
from heliodor.train.batches import Lists
from heliodor.train.dataset import Dataset
from heliodor.train.errors import Errors, Predicted, compare, predict, unanswered
from heliodor.train.parallel import Processes
from heliodor.train.precision import full_precision
from heliodor.train.run import Run
from heliodor.train.settings import TrainSettings

SMALLEST_SPREAD = 1e-3
"""eV, Å, e: labels that hardly differ do not decide which parameters are best."""


def part_of(data: Dataset, together: Processes) -> Dataset | None:
    """This process's structures, none if they are fewer than processes."""
    if together.count == 1:
        return data
    span = together.span(len(data))
    return data.take(range(span.start, span.stop)) if span.stop > span.start else None


def answers(model: Potential, mine: Dataset | Lists | None, together: Processes) -> Predicted:
    """A model's answers for all structures from those of the processes."""
    with full_precision():
        found = None if mine is None else predict(model, mine)
    return together.join(found)


def validate(
    run: Run,
    model: Potential,
    held: Dataset,
    mine: Lists | None,
    spreads: dict[str, float],
    settings: TrainSettings,
    elapsed: float,
    together: Processes,
) -> Predicted:
    """Errors of the averaged parameters, as a row of the log; the best ones are kept.

    Args:
        model: a copy, which gets the averaged parameters.
        mine: this process's part of the structures `held` (`part_of`, with their lists).
        elapsed: s, for the log.

    Raises:
        InputError: the model as it comes has no finite answer for some structures.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in run.average:
                parameter.copy_(run.average[name])
    predicted = answers(model, mine, together)
    bad = unanswered(predicted, held)
    if bad and not run.rows:
        raise InputError(
            f"the model gives no finite energy and forces for the validation set's {', '.join(bad[:5])}"
            f"{' and others' if len(bad) > 5 else ''}: look for atoms on one spot, and leave these structures out"
        )
    errors = compare(predicted, held)
    score = _score(errors, spreads, run.loss.weights)
    improved = score < run.best_score
    if run.step == 0:
        # energies that the references alone explain would make the untrained model hard to beat
        pass
    elif improved:
        run.best_score, run.unimproved = score, 0
        for name, value in run.average.items():
            run.best[name].copy_(value)
    elif not settings.stage_two or settings.in_stage_two(run.rate.pace.progress(run.step)):
        # stage two is still to come otherwise, and improves what stage one no longer does
        run.unimproved += 1
    if run.step > 0:
        run.rate.plateau.note(score, settings)
    row: dict[str, float] = {"step": run.step, "epoch": run.epoch, "minutes": elapsed / 60.0}
    row["learning_rate"] = run.rate.at(run.step)
    for name, (total, count) in run.sums.items():
        row[name if name == "loss" else f"training_{name}_mae"] = total / max(count, 1.0)
    row |= {f"validation_{name}_mae": e.mae for name, e in errors.all.items()}
    row |= {"score": score, "skipped": float(len(run.skipped)), **run.loss.describe()}
    run.rows.append(row)
    run.sums = {}
    return predicted


def _score(errors: Errors, spreads: dict[str, float], trained: Mapping[str, float]) -> float:
    """Mean over energies and forces (or what else is trained on) of the error in units of the labels' spread."""
    found = [n for n in errors.all if n in trained and n in spreads]
    both = [n for n in ("energy", "forces") if n in found]
    parts = [errors.all[n].mae / max(spreads[n], SMALLEST_SPREAD) for n in both or found]
    return sum(parts) / len(parts) if parts and all(map(math.isfinite, parts)) else math.inf
