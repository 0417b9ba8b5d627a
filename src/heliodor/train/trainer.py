"""Fitting a model to a data set: one loop for every architecture.

`train` goes on where a killed run was, to the same bits (where the number of steps is given by epochs; a run of so
many minutes takes the steps that its machine manages). What a run leaves in its folder: `model.safetensors`,
`log.csv`, `result.json`, `curves.png`, `parity.png`.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ase.data import chemical_symbols

from heliodor.checkpoint import architectures, load_checkpoint, save_checkpoint
from heliodor.errors import InputError
from heliodor.potential import Potential
from heliodor.train.batches import Lists, find_lists
from heliodor.train.curves import plot_curves, plot_parity
from heliodor.train.dataset import Dataset
from heliodor.train.errors import Errors, compare, errors_of, predict, some_of
from heliodor.train.losses import UNITS, label_spreads, make_loss
from heliodor.train.references import References, fit_references
from heliodor.train.run import Run, advance, new_run
from heliodor.train.sampling import Sampler, kind_shares
from heliodor.train.settings import TrainSettings
from heliodor.train.state import fingerprint, other_run, read_state, write_state, write_text
from heliodor.train.step import StepFunction, functional_step, plain_step, will_compile

Progress = Callable[[float, str], None]
"""Called with the fraction done and a few words: errors, time left."""


@dataclass(frozen=True, eq=False)
class TrainResult:
    """A finished run.

    Attributes:
        model: the running average of the parameters where validation was best, float64, on the CPU.
        path: its checkpoint.
        errors: on all structures of the validation set.
        rows: the log, one mapping for each validation.
        steps, epochs, seconds: how long it took, all its parts together.
        skipped: batches left out because they gave no finite loss: step, and the structures that were to blame.
    """

    model: Potential
    path: Path
    errors: dict[str, Any]
    rows: list[dict[str, float]]
    steps: int
    epochs: float
    seconds: float
    skipped: list[dict[str, Any]]


def train(
    model: Potential,
    training: Dataset,
    validation: Dataset,
    output: str | Path,
    settings: TrainSettings,
    progress: Progress | None = None,
) -> TrainResult:
    """Fit a model; the one handed in stays as it is.

    Reference energies of the model's card are used, or fitted to the training set and kept in the card of the result.
    A folder with an unfinished run of the same inputs is gone on with, a finished one returned at once.

    Args:
        model: from `heliodor.train.models.new_model`, or any with parameters to be trained.
        output: folder of the run.
        progress: called now and then with the fraction done and a few words.

    Raises:
        InputError: data, settings or folder cannot be used, or the disk is full.
        DivergedError: no batch gives a finite loss any more.
    """
    begun = time.perf_counter()
    settings.check()
    _check(model, training, validation)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    key = fingerprint(model, training, validation, settings)
    done = _finished(folder, key)
    if done is not None:
        return done
    state = read_state(folder / "state.pt", key)
    threads = torch.get_num_threads()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    try:
        return _train(model, training, validation, folder, settings, key, state, begun, progress or (lambda *_: None))
    finally:
        torch.set_num_threads(threads)


def _train(
    model: Potential,
    training: Dataset,
    validation: Dataset,
    folder: Path,
    settings: TrainSettings,
    key: str,
    state: dict[str, Any] | None,
    begun: float,
    progress: Progress,
) -> TrainResult:
    progress(0.0, "neighbour lists")
    references = References.from_card(model.card) or fit_references(training)
    torch.manual_seed(settings.seed)
    device = _device(settings.device)
    learner = _ready(model, references).float().to(device).train()
    lists = find_lists(training, learner, references)
    watched = some_of(validation, settings.validation_structures, settings.seed)
    held = find_lists(watched, learner, references)
    loss = make_loss(settings, lists, learner.outputs).to(device)
    sampler = Sampler(lists, settings.batch_size, kind_shares(training.kind, settings.kind_shares), settings.seed)
    run = new_run(learner, loss, settings)
    if settings.epochs:
        run.rate.pace.last = math.ceil(settings.epochs * len(sampler.epoch(0)))
    if state is not None:
        run.restore(state)
    begun -= run.spent
    compiled = will_compile(settings.compile, _architecture(learner), settings.seconds - run.spent)
    step: StepFunction = functional_step(learner, loss, lists) if compiled else plain_step(learner, loss)
    average_model = copy.deepcopy(learner).eval().requires_grad_(False)
    spreads = label_spreads(held) or label_spreads(lists)
    saved = time.perf_counter()
    mark: tuple[int, float] | None = None
    reserve = 0.0
    ended = _ended(run, settings, time.perf_counter() - begun, reserve)
    if compiled:
        progress(run.rate.pace.progress(run.step), "compiling the training step (one to three minutes)")
    while not ended:
        batches = sampler.epoch(run.epoch)
        batch = lists.batch(batches[run.position], sampler.shape if compiled else None).to(device)
        advance(run, step, batch, lists, settings)
        run.position += 1
        if run.position == len(batches):
            run.epoch, run.position = run.epoch + 1, 0
        elapsed = time.perf_counter() - begun
        mark = mark or (run.step, elapsed)
        if settings.time and run.step - mark[0] >= 10 and _time_to_look(run.step, mark[0]):
            run.rate.pace.look(
                run.step, elapsed, (elapsed - mark[1]) / (run.step - mark[0]), settings.seconds - reserve
            )
        ended = _ended(run, settings, elapsed, reserve)
        every = settings.validate_every or len(batches)
        if ended or (run.step % every == 0 if settings.validate_every else run.position == 0):
            before = time.perf_counter()
            _validate(run, average_model, held, spreads, settings, elapsed)
            _write_log(folder / "log.csv", run)
            # the final errors are of the whole set, and plots take seconds
            reserve = 1.3 * (time.perf_counter() - before) * len(validation) / len(held) + 5.0
            ended = ended or _ended(run, settings, time.perf_counter() - begun, reserve)
            saved = -math.inf
        if time.perf_counter() - saved > 60.0 * settings.checkpoint_minutes:
            write_state(folder / "state.pt", run.state(key, time.perf_counter() - begun))
            saved = time.perf_counter()
        _report(run, settings, progress, time.perf_counter() - begun)
    return _finish(model, run, references, training, validation, folder, settings, key, begun, progress)


def _validate(
    run: Run, model: Potential, held: Lists, spreads: dict[str, float], settings: TrainSettings, elapsed: float
) -> None:
    """Errors of the averaged parameters; the best ones are kept."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in run.average:
                parameter.copy_(run.average[name])
    errors = errors_of(model, held)
    score = _score(errors, spreads, settings)
    improved = score < run.best_score
    run.unimproved = 0 if improved else run.unimproved + 1
    if improved:
        run.best_score = score
        for name, value in run.average.items():
            run.best[name].copy_(value)
    run.rate.plateau.note(score, settings)
    row: dict[str, float] = {"step": run.step, "epoch": run.epoch, "minutes": elapsed / 60.0}
    row["learning_rate"] = run.rate.at(run.step)
    for name, (total, count) in run.sums.items():
        row[name if name == "loss" else f"training_{name}_mae"] = total / max(count, 1.0)
    row |= {f"validation_{name}_mae": e.mae for name, e in errors.all.items()}
    row |= {"score": score, "skipped": float(len(run.skipped)), **run.loss.describe()}
    run.rows.append(row)
    run.sums = {}


def _score(errors: Errors, spreads: dict[str, float], settings: TrainSettings) -> float:
    """Mean over energies and forces (or what there is) of the error in units of the labels' spread."""
    found = errors.all
    both: list[str] = [n for n in ("energy", "forces") if n in found and settings.weights[n] > 0]
    wanted = both or list(found)
    parts = [found[n].mae / spreads[n] for n in wanted if n in spreads]
    return sum(parts) / len(parts) if parts and all(map(math.isfinite, parts)) else math.inf


def _finish(
    model: Potential,
    run: Run,
    references: References,
    training: Dataset,
    validation: Dataset,
    folder: Path,
    settings: TrainSettings,
    key: str,
    begun: float,
    progress: Progress,
) -> TrainResult:
    progress(1.0, "errors on the whole validation set")
    final = _ready(model, references).double().cpu()
    with torch.no_grad():
        for name, parameter in final.named_parameters():
            if name in run.best:
                parameter.copy_(run.best[name])
    judge = copy.deepcopy(final).float().to(_device(settings.device))
    predicted = predict(judge, validation)
    errors = compare(predicted, validation)
    seconds = time.perf_counter() - begun
    final.card |= {
        "method": training.method,
        "elements": [chemical_symbols[z] for z in training.elements],
        "training": {
            "structures": len(training),
            "atoms": len(training.numbers),
            "kinds": {k: int((training.kind == k).sum()) for k in sorted(set(training.kind.tolist()))},
            "steps": run.step,
            "minutes": round(seconds / 60.0, 2),
            "settings": settings.to_dict(),
        },
        "validation": errors.to_dict(),
        "skipped_batches": len(run.skipped),
    }
    path = folder / "model.safetensors"
    try:
        save_checkpoint(final, path, final.card)
        plot_curves(run.rows, folder / "curves.png")
        plot_parity(predicted, validation, folder / "parity.png")
    except OSError as error:
        raise InputError(f"{folder} could not be written ({error}): make room and start the same run again") from None
    epochs = run.epoch + run.position / max(1, len(training))
    result = {
        "key": key,
        "errors": errors.to_dict(),
        "rows": run.rows,
        "steps": run.step,
        "epochs": epochs,
        "seconds": seconds,
        "skipped": run.skipped,
    }
    write_text(folder / "result.json", json.dumps(result, indent=1))
    (folder / "state.pt").unlink(missing_ok=True)
    return TrainResult(final, path, errors.to_dict(), run.rows, run.step, epochs, seconds, run.skipped)


def _finished(folder: Path, key: str) -> TrainResult | None:
    path = folder / "result.json"
    if not path.exists():
        return None
    try:
        kept = json.loads(path.read_text())
        same = kept.pop("key") == key
    except (ValueError, KeyError) as error:
        raise InputError(f"{path} is damaged ({error}): delete it") from None
    if not same:
        raise other_run(folder)
    model = folder / "model.safetensors"
    return TrainResult(model=load_checkpoint(model), path=model, **kept)


def _ready(model: Potential, references: References) -> Potential:
    """A copy without kernels, whose card has the references."""
    final = copy.deepcopy(model)
    for part in final.modules():
        if isinstance(part, Potential):
            part.use_kernel(None, "reference")
    final.card = {**model.card, **references.to_card()}
    return final


def _check(model: Potential, training: Dataset, validation: Dataset) -> None:
    for words, dataset in (("training", training), ("validation", validation)):
        if len(dataset) == 0:
            raise InputError(f"the {words} set is empty")
        outside = [chemical_symbols[z] for z in dataset.elements if z not in model.elements]
        if outside:
            raise InputError(f"the {words} set holds {', '.join(outside)}, for which the model was not made")
    if training.method and validation.method and training.method != validation.method:
        raise InputError(f"training set ({training.method}) and validation set ({validation.method}) differ in method")


def _ended(run: Run, settings: TrainSettings, elapsed: float, reserve: float) -> bool:
    over = settings.epochs and run.step >= run.rate.pace.last and not settings.time
    over = over or (settings.epochs and run.epoch >= settings.epochs)
    stalled = settings.stop_after and run.unimproved >= settings.stop_after
    return bool(over or stalled or run.rate.exhausted or elapsed + reserve >= settings.seconds)


def _time_to_look(step: int, first: int) -> bool:
    """Often in the beginning, then every hundred steps."""
    since = step - first
    return since in (10, 20, 40, 70) or since % 100 == 0


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("there is no CUDA device here")
    except RuntimeError as error:
        raise InputError(f"cannot train on the device {name!r}: {str(error).splitlines()[0]}") from None
    return device


def _architecture(model: Potential) -> str:
    return next((name for name, (cls, _) in architectures().items() if type(model) is cls), "")


def _write_log(path: Path, run: Run) -> None:
    names = list(dict.fromkeys(name for row in run.rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.7g}" for k, v in row.items()} for row in run.rows)
    write_text(path, text.getvalue())


def _report(run: Run, settings: TrainSettings, progress: Progress, elapsed: float) -> None:
    fraction = run.rate.pace.progress(run.step)
    words = [f"step {run.step}"]
    if run.rows:
        for name in ("energy_shifted", "forces"):
            mae = run.rows[-1].get(f"validation_{name}_mae")
            unit, factor = UNITS[name.removesuffix("_shifted")]
            words += [] if mae is None else [f"{name.removesuffix('_shifted')} {factor * mae:.3g} {unit}"]
    if settings.time:
        words.append(f"{max(settings.seconds - elapsed, 0.0) / 60.0:.0f} min left")
    elif fraction > 0:
        words.append(f"{elapsed / fraction * (1.0 - fraction) / 60.0:.0f} min left")
    progress(fraction, ", ".join(words))
