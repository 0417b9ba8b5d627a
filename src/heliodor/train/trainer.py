"""Fitting a model to a data set: one loop for every architecture.

`train` goes on where a killed run was, to the same bits (where the number of steps is given by epochs; a run of so
many minutes takes the steps that its machine manages, and a compiled step rounds differently from a plain one). What a
run leaves in its folder: `model.safetensors`, `log.csv`, `result.json`, `curves.png`, `parity.png`.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ase.data import chemical_symbols
from safetensors import SafetensorError

from heliodor.checkpoint import load_checkpoint, save_checkpoint
from heliodor.errors import InputError
from heliodor.potential import Potential
from heliodor.train.batches import Lists, find_lists
from heliodor.train.curves import plot_curves, plot_parity
from heliodor.train.dataset import Dataset
from heliodor.train.errors import Errors, compare, predict, some_of, unanswered
from heliodor.train.losses import label_spreads, make_loss
from heliodor.train.progress import Progress, report, silent, write_log
from heliodor.train.references import References, references_for
from heliodor.train.run import DivergedError, Run, advance, new_run
from heliodor.train.sampling import Sampler, kind_shares
from heliodor.train.settings import TrainSettings
from heliodor.train.state import fingerprint, other_run, read_state, write_state, write_text
from heliodor.train.stepper import Stepper, will_compile

SMALLEST_SPREAD = 1e-3
"""eV, Å, e: labels that hardly differ do not decide which parameters are best."""


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
        compiled: "yes", "no", or why it could not be.
    """

    model: Potential
    path: Path
    errors: dict[str, Any]
    rows: list[dict[str, float]]
    steps: int
    epochs: float
    seconds: float
    skipped: list[dict[str, Any]]
    compiled: str = "no"


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
    The errors of the model as it comes are the first row of the log. A folder with an unfinished run of the same inputs
    is gone on with, a finished one returned at once.

    Args:
        model: from `heliodor.train.models.new_model`, or any with parameters to be trained.
        output: folder of the run.
        progress: called now and then with the fraction done and a few words.

    Raises:
        InputError: data, settings or folder cannot be used, or the disk is full.
        DivergedError: no batch gives a finite loss any more, or no validation did.
    """
    begun = time.perf_counter()
    settings.check()
    _check(model, training, validation)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    (progress or silent)(0.0, "preparing")
    key = fingerprint(model, training, validation, settings)
    done = _finished(folder, key)
    if done is not None:
        return done
    will_compile(settings.compile, model, settings.seconds)
    state = read_state(folder / "state.pt", key)
    threads, random = torch.get_num_threads(), torch.get_rng_state()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    try:
        return _train(model, training, validation, folder, settings, key, state, begun, progress or silent)
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(random)


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
    references = References.from_card(model.card) or references_for(training)
    torch.manual_seed(settings.seed)
    device = _device(settings.device)
    learner = _ready(model, references).float().to(device).train()
    lists = find_lists(
        training, learner, references, progress=lambda n, of: progress(0.0, f"neighbour lists, {n} of {of} structures")
    )
    watched = some_of(validation, settings.validation_structures, settings.seed)
    held = find_lists(watched, learner, references)
    loss = make_loss(settings, lists, learner.outputs).to(device)
    if not loss.weights.keys() & label_spreads(held).keys():
        raise InputError(
            f"the validation set has no labels of what is trained on ({', '.join(loss.weights)}): the best parameters "
            "could not be told from others"
        )
    sampler = Sampler(lists, settings.batch_size, kind_shares(training.kind, settings.kind_shares), settings.seed)
    run = new_run(learner, loss, settings)
    if settings.epochs:
        run.rate.pace.last = run.rate.pace.most = math.ceil(settings.epochs * len(sampler.epoch(0)))
    if state is not None:
        run.restore(state)
    begun -= run.spent
    average_model = copy.deepcopy(learner).eval().requires_grad_(False)
    # the spread of a few watched structures may be nothing
    spreads = label_spreads(held) | label_spreads(lists)

    def validate() -> None:
        before = time.perf_counter()
        _validate(run, average_model, held, spreads, settings, before - begun)
        write_log(folder / "log.csv", run)
        # the final errors are of the whole set, and plots take seconds
        whole = (time.perf_counter() - before) * len(validation) / len(held)
        run.reserve = 1.3 * whole + min(5.0, 0.1 * settings.seconds)

    if not run.rows:
        progress(0.0, "errors before training")
        validate()
    step = Stepper(learner, loss, lists, sampler.shape)
    ended = _ended(run, settings, time.perf_counter() - begun)
    if not ended and will_compile(settings.compile, learner, settings.seconds - run.spent):
        progress(run.rate.pace.progress(run.step), "compiling the training step (this takes minutes)")
        step.compile(sampler.epoch(run.epoch)[run.position])
    saved = time.perf_counter()
    mark: tuple[int, float] | None = None
    while not ended:
        batches = sampler.epoch(run.epoch)
        advance(run, step, step.batch(batches[run.position]), lists, settings)
        run.position += 1
        if run.position == len(batches):
            run.epoch, run.position = run.epoch + 1, 0
        elapsed = time.perf_counter() - begun
        mark = mark or (run.step, elapsed)
        if settings.time and run.step - mark[0] >= 10 and _time_to_look(run.step, mark[0]):
            run.rate.pace.look(
                run.step, elapsed, (elapsed - mark[1]) / (run.step - mark[0]), settings.seconds - run.reserve
            )
        ended = _ended(run, settings, elapsed)
        every = settings.validate_every or len(batches)
        if ended or (run.step % every == 0 if settings.validate_every else run.position == 0):
            validate()
            ended = ended or _ended(run, settings, time.perf_counter() - begun)
            saved = -math.inf
        if time.perf_counter() - saved > 60.0 * settings.checkpoint_minutes:
            write_state(folder / "state.pt", run.state(key, time.perf_counter() - begun))
            saved = time.perf_counter()
        report(run, settings, progress, time.perf_counter() - begun)
    if run.rows[-1]["step"] != run.step:
        # taken up again with no time left
        validate()
    epochs = run.epoch + run.position / len(sampler.epoch(run.epoch))
    compiled = step.note or ("yes" if step.compiled else "no")
    return _finish(
        model, run, references, training, validation, folder, settings, key, begun, epochs, compiled, progress
    )


def _validate(
    run: Run, model: Potential, held: Lists, spreads: dict[str, float], settings: TrainSettings, elapsed: float
) -> None:
    """Errors of the averaged parameters; the best ones are kept.

    Raises:
        InputError: the model as it comes has no finite answer for some structures.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in run.average:
                parameter.copy_(run.average[name])
    predicted = predict(model, held)
    bad = unanswered(predicted, held.dataset)
    if bad and not run.rows:
        raise InputError(
            f"the model gives no finite energy and forces for the validation set's {', '.join(bad[:5])}"
            f"{' and others' if len(bad) > 5 else ''}: look for atoms on one spot, and leave these structures out"
        )
    errors = compare(predicted, held.dataset)
    score = _score(errors, spreads, run.loss.weights)
    improved = score < run.best_score
    if run.step == 0:
        # energies that the references alone explain would make the untrained model hard to beat
        pass
    elif improved:
        run.best_score, run.unimproved = score, 0
        for name, value in run.average.items():
            run.best[name].copy_(value)
    else:
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


def _score(errors: Errors, spreads: dict[str, float], trained: Mapping[str, float]) -> float:
    """Mean over energies and forces (or what else is trained on) of the error in units of the labels' spread."""
    found = [n for n in errors.all if n in trained and n in spreads]
    both = [n for n in ("energy", "forces") if n in found]
    parts = [errors.all[n].mae / max(spreads[n], SMALLEST_SPREAD) for n in both or found]
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
    epochs: float,
    compiled: str,
    progress: Progress,
) -> TrainResult:
    if run.step == 0:
        raise InputError(f"time: {settings.time} was over before the first step: give more")
    if not math.isfinite(run.best_score):
        raise DivergedError(
            f"in {run.step} steps no errors on the validation set were finite: see {folder / 'log.csv'}, and lower "
            "learning_rate"
        )
    from heliodor import __version__

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
        "heliodor": __version__,
        "training": {
            "structures": len(training),
            "atoms": len(training.numbers),
            "kinds": {k: int((training.kind == k).sum()) for k in sorted(set(training.kind.tolist()))},
            "steps": run.step,
            "epochs": round(epochs, 2),
            "seed": settings.seed,
            "compiled": compiled,
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
    except (OSError, SafetensorError) as error:
        for left in folder.glob("*.part"):
            left.unlink(missing_ok=True)
        raise InputError(f"{folder} could not be written ({error}): make room and start the same run again") from None
    result = {
        "key": key,
        "errors": errors.to_dict(),
        "rows": run.rows,
        "steps": run.step,
        "epochs": epochs,
        "seconds": seconds,
        "skipped": run.skipped,
        "compiled": compiled,
    }
    write_text(folder / "result.json", json.dumps(result, indent=1))
    (folder / "state.pt").unlink(missing_ok=True)
    return TrainResult(final, path, errors.to_dict(), run.rows, run.step, epochs, seconds, run.skipped, compiled)


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


def _ended(run: Run, settings: TrainSettings, elapsed: float) -> bool:
    over = run.step >= run.rate.pace.most or (settings.epochs and run.epoch >= settings.epochs)
    stalled = settings.stop_after and run.unimproved >= settings.stop_after
    return bool(over or stalled or run.rate.exhausted or elapsed + run.reserve >= settings.seconds)


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
