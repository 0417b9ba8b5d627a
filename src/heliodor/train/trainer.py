"""Fitting a model to a data set: one loop for every architecture.

`train` goes on where a killed run was, to the same bits (where the number of steps is given by epochs; a run of so
many minutes takes the steps that its machine manages, and a compiled step rounds differently from a plain one). What a
run leaves in its folder: `model.safetensors`, `log.csv`, `result.json`, `curves.png`, `parity.png`. Started by
`torchrun`, the processes share each batch (`heliodor.train.parallel`).
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols

from heliodor.api import choose_device
from heliodor.errors import InputError
from heliodor.potential import Potential
from heliodor.train.ahead import DEPTH, Ahead
from heliodor.train.batches import Batch, Lists, find_lists
from heliodor.train.dataset import Dataset
from heliodor.train.errors import some_of
from heliodor.train.finish import TrainResult, finish, finished, ready
from heliodor.train.lazy_lists import LazyLists, lists_for
from heliodor.train.losses import label_spreads, make_loss
from heliodor.train.parallel import Processes, processes
from heliodor.train.precision import arithmetic, dtype_of
from heliodor.train.progress import Progress, Record, report, silent
from heliodor.train.references import References, references_for
from heliodor.train.run import Run, advance, new_run
from heliodor.train.sampling import Sampler, kind_shares
from heliodor.train.settings import TrainSettings
from heliodor.train.state import fingerprint, read_state, write_state
from heliodor.train.stepper import Stepper, will_compile
from heliodor.train.validation import part_of, validate

__all__ = ["TrainResult", "train"]


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
    will_compile(settings.compile, model, settings.seconds)
    folder = Path(output)
    threads, random = torch.get_num_threads(), torch.get_rng_state()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    try:
        with processes(settings.device) as together:
            say = (progress or silent) if together.first else silent
            say(0.0, "preparing")
            key = fingerprint(model, training, validation, settings)
            if len(set(together.gather(key))) > 1:
                raise InputError("the processes of this run were given different data, settings or models")
            if together.first:
                folder.mkdir(parents=True, exist_ok=True)
            done = finished(folder, key)
            state = None if done is not None else read_state(folder / "state.pt", key)
            # nothing is written before all have read what is there
            found = together.gather(None if state is None else state["step"])
            if len(set(found)) > 1:
                raise InputError(f"the processes of this run do not see the same folder {folder.absolute()}")
            if done is not None:
                return done
            job = _Job(training, validation, folder, settings, key, begun, together)
            with arithmetic(settings.precision, _device(settings.device, together)):
                return _train(model, job, state, say)
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(random)


@dataclass(frozen=True, eq=False)
class _Job:
    """What stays the same along a run; `begun` as if all its parts had been made in one go."""

    training: Dataset
    validation: Dataset
    folder: Path
    settings: TrainSettings
    key: str
    begun: float
    together: Processes

    def clock(self) -> float:
        """Seconds since the run began; where they decide something, those of the first process."""
        elapsed = time.perf_counter() - self.begun
        if self.settings.time and self.together.count > 1:
            own = torch.tensor([elapsed if self.together.first else 0.0], dtype=torch.float64)
            elapsed = float(self.together.add_up(own.to(_device(self.settings.device, self.together))))
        return elapsed


def _train(model: Potential, job: _Job, state: dict[str, Any] | None, progress: Progress) -> TrainResult:
    training, settings, folder, together = job.training, job.settings, job.folder, job.together
    references = References.from_card(model.card) or references_for(training)
    torch.manual_seed(settings.seed)
    device, dtype = _device(settings.device, together), dtype_of(settings.precision)
    learner = ready(model, references).to(dtype=dtype).to(device).train()
    lists = lists_for(
        training,
        learner,
        references,
        dtype,
        progress=lambda n, of: progress(0.0, f"neighbour lists, {n} of {of} structures"),
    )
    watched = some_of(job.validation, settings.validation_structures, settings.seed)
    held = find_lists(watched, learner, references, dtype)
    mine: Lists | None = held
    if together.count > 1:
        part = part_of(watched, together)
        mine = None if part is None else find_lists(part, learner, references, dtype)
    loss = make_loss(settings, lists, learner.outputs).to(device=device, dtype=dtype)
    # the spread of a few watched structures may be nothing
    spreads = label_spreads(held) | label_spreads(lists)
    if not loss.weights.keys() & label_spreads(held).keys():
        raise InputError(
            f"the validation set has no labels of what is trained on ({', '.join(loss.weights)}): the best parameters "
            "could not be told from others"
        )
    sampler = Sampler(lists, settings.batch_size, kind_shares(training.kind, settings.kind_shares), settings.seed)
    run = new_run(learner, loss, settings)
    if settings.epochs:
        steps = math.ceil(len(sampler.epoch(0)) / settings.accumulate)
        run.rate.pace.last = run.rate.pace.most = math.ceil(settings.epochs * steps)
    if state is not None:
        run.restore(state)
    job = dataclasses.replace(job, begun=job.begun - run.spent)
    average_model = copy.deepcopy(learner).eval().requires_grad_(False)
    record = Record(folder, settings) if together.first else None

    def look() -> None:
        before = job.clock()
        predicted = validate(run, average_model, watched, mine, spreads, settings, before, together)
        if record is not None:
            record(run, predicted, watched)
        # the final errors are of the whole set, and plots take seconds
        whole = (job.clock() - before) * len(job.validation) / len(watched)
        run.reserve = 1.3 * whole + min(5.0, 0.1 * settings.seconds)

    if not run.rows:
        progress(0.0, "errors before training")
        look()
    step = Stepper(learner, loss, lists, sampler.shape, settings.precision)
    ended = _ended(run, settings, job.clock())
    if not ended and will_compile(settings.compile, learner, settings.seconds - run.spent):
        if together.count > 1 or settings.precision == "bf16":
            step.note = "not compiled (several processes)" if together.count > 1 else "not compiled (bf16)"
        else:
            progress(run.rate.pace.progress(run.step), "compiling the training step (this takes minutes)")
            loss.set_progress(run.rate.pace.progress(run.step))
            step.compile(sampler.epoch(run.epoch)[run.position])

    def make(rows: list[np.ndarray]) -> list[Batch]:
        shares = [together.share(part, lists.sizes) for part in rows]
        return [step.batch(share) for share in shares if len(share)]

    # a thread of its own pays where the step does not wait for the same processor, and where lists are to be found
    behind = isinstance(lists, LazyLists) or device.type == "cuda"
    ahead = Ahead(_order(sampler, run.epoch, run.position, settings.accumulate), make, DEPTH if behind else 0)
    try:
        _loop(run, step, ahead, sampler, job, look, progress)
    finally:
        ahead.close()
    if run.rows[-1]["step"] != run.step:
        # taken up again with no time left
        look()
    if record is not None:
        record.close()
    epochs = run.epoch + run.position / len(sampler.epoch(run.epoch))
    compiled = step.note or ("yes" if step.compiled else "no")
    return finish(
        *(model, run, references, training, job.validation, folder, settings, job.key, job.begun, epochs, compiled),
        *(progress, together),
    )


def _loop(
    run: Run,
    step: Stepper,
    ahead: Ahead[list[Batch]],
    sampler: Sampler,
    job: _Job,
    look: Callable[[], None],
    progress: Progress,
) -> None:
    """Steps, validations and checkpoints until the run has ended."""
    settings = job.settings
    elapsed = job.clock()
    ended = _ended(run, settings, elapsed)
    saved = time.perf_counter()
    mark: tuple[int, float] | None = None
    while not ended:
        batches = len(sampler.epoch(run.epoch))
        advance(run, step, ahead.take(), step.lists, settings, job.together)
        run.position = min(run.position + settings.accumulate, batches)
        if run.position == batches:
            run.epoch, run.position = run.epoch + 1, 0
        elapsed = job.clock()
        mark = mark or (run.step, elapsed)
        if settings.time and run.step - mark[0] >= 10 and _time_to_look(run.step, mark[0]):
            run.rate.pace.look(
                run.step, elapsed, (elapsed - mark[1]) / (run.step - mark[0]), settings.seconds - run.reserve
            )
        ended = _ended(run, settings, elapsed)
        if ended or (run.step % settings.validate_every == 0 if settings.validate_every else run.position == 0):
            look()
            elapsed = job.clock()
            ended = ended or _ended(run, settings, elapsed)
            saved = -math.inf
        if time.perf_counter() - saved > 60.0 * settings.checkpoint_minutes:
            if job.together.first:
                write_state(job.folder / "state.pt", run.state(job.key, elapsed))
            saved = time.perf_counter()
        report(run, settings, progress, elapsed)


def _order(sampler: Sampler, epoch: int, position: int, together: int) -> Iterator[list[np.ndarray]]:
    """The batches of each step from a place on, without end."""
    while True:
        batches = sampler.order(epoch)
        for begin in range(position, len(batches), together):
            yield batches[begin : begin + together]
        epoch, position = epoch + 1, 0


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
    # one step at least: on a busy machine the errors before training may take longer than a short run
    late = run.step > 0 and elapsed + run.reserve >= settings.seconds
    return bool(over or stalled or run.rate.exhausted or late)


def _time_to_look(step: int, first: int) -> bool:
    """Often in the beginning, then every hundred steps."""
    since = step - first
    return since in (10, 20, 40, 70) or since % 100 == 0


def _device(name: str, together: Processes) -> torch.device:
    device = choose_device(name)
    several = device.type == "cuda" and together.count > 1
    return torch.device("cuda", together.local) if several else device
