"""A run from its configuration: data read and divided, model made or loaded, fitted, tested."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ase.data import atomic_numbers, chemical_symbols

from heliodor.api import choose_device, load
from heliodor.checkpoint import architectures
from heliodor.errors import InputError, suggestion
from heliodor.potential import Potential
from heliodor.potentials.sum import Sum
from heliodor.train.curves import plot_parity
from heliodor.train.dataset import Dataset
from heliodor.train.errors import Errors, compare, predict
from heliodor.train.events import need_tensorboard
from heliodor.train.files.config import TrainConfig
from heliodor.train.files.sources import Sets, Tell, load_sets
from heliodor.train.models import new_model
from heliodor.train.progress import Progress, silent
from heliodor.train.references import References, fit_references, references_for
from heliodor.train.settings import TrainSettings
from heliodor.train.state import write_text
from heliodor.train.trainer import TrainResult, train

if TYPE_CHECKING:
    from heliodor.train.finetuning.settings import FineTune


@dataclass(frozen=True, eq=False)
class Job:
    """A run that can begin.

    Attributes:
        how: of fine-tuning; None for an ordinary run.
    """

    config: TrainConfig
    sets: Sets
    model: Potential
    settings: TrainSettings
    how: FineTune | None = None


@dataclass(frozen=True, eq=False)
class Done:
    """A finished run.

    Attributes:
        errors: on the validation set.
        test: on the test set, None without one.
        report: of fine-tuning, in words: what was won and what was forgotten.
    """

    result: TrainResult
    errors: Errors
    test: Errors | None
    report: str = ""


def first_process() -> bool:
    """Whether this is the only process of a run, or the one of several (`torchrun`) that speaks and writes."""
    return os.environ.get("RANK", "0") == "0"


def prepare(config: TrainConfig, tell: Tell | None = None) -> Job:
    """Read the data and make the model.

    Args:
        tell: called with what is being done, how much of it is done, and of how much.

    Raises:
        InputError: whatever of the configuration cannot be, in one sentence.
    """
    tell = tell or (lambda what, done, of: None)
    settings = config.settings
    if settings.tensorboard:
        need_tensorboard()
    how = None
    if config.finetune is not None:
        from heliodor.train.finetuning.settings import FineTune

        how = FineTune.from_mapping(config.tuning)
    # a checkpoint that cannot be used is known before hours of reading
    trained = _trained(config, how)
    sets = load_sets(config, tell)
    tell("making the model", 0, 1)
    model = _new(config, sets.training, settings) if trained is None else trained
    if trained is not None and how is None and config.references.kind:
        model.card |= _references(config, sets.training).to_card()
    outside = [z for z in sets.training.elements if z not in model.elements]
    if outside:
        raise InputError(
            f"the training structures hold {', '.join(chemical_symbols[z] for z in outside)}, which {model.name} does "
            "not know"
        )
    return Job(config, sets, model, settings, how)


def run(job: Job, progress: Progress | None = None) -> Done:
    """Fit and test; an unfinished run of the same configuration is gone on with, a finished one returned."""
    say, folder = progress or silent, job.config.folder
    written = False

    def watch(fraction: float, words: str) -> None:
        nonlocal written
        # by now it is known that the folder is this run's
        if not written and words != "preparing" and first_process():
            written = True
            write_text(folder / "config.yaml", as_yaml(job.config))
        say(fraction, words)

    report = ""
    data = (job.sets.training, job.sets.validation)
    if job.how is None:
        result = train(job.model, *data, folder, job.settings, watch)
    else:
        from heliodor.train.finetuning.finetune import fine_tune

        tuned = fine_tune(job.model, *data, folder, job.settings, job.how, watch)
        # adapters are merged in its model, not in the run's
        result = dataclasses.replace(tuned.run, model=tuned.model, path=tuned.path)
        report = tuned.forgetting.table()
    test = _test(job, result, say) if job.sets.test is not None and first_process() else None
    return Done(result, Errors.from_dict(result.errors), test, report)


def _test(job: Job, result: TrainResult, say: Progress) -> Errors:
    """Errors on the test set, in the precision that the run had; also as test.json and parity_test.png."""
    held, folder = job.sets.test, job.config.folder
    assert held is not None
    judge = copy.deepcopy(result.model).to(choose_device(job.settings.device))
    judge = judge if job.settings.precision == "float64" else judge.float()
    predicted = predict(judge, held, lambda done, of: say(1.0, f"test set, {done} of {of} structures"))
    errors = compare(predicted, held)
    write_text(folder / "test.json", json.dumps(errors.to_dict(), indent=1))
    plot_parity(predicted, held, folder / "parity_test.png")
    return errors


def _trained(config: TrainConfig, how: FineTune | None) -> Potential | None:
    """The model to go on from, of the architecture that the configuration says."""
    if how is None and config.model.checkpoint is None:
        return None
    if config.model.size != "medium" or config.model.elements:
        raise InputError("model.size and model.elements are for new models: a trained one keeps its own")
    name = how.model if how is not None else config.model_path(str(config.model.checkpoint))
    model = how.load() if how is not None else load(name, device="cpu", dtype="float64", kernels="reference")
    if isinstance(model, Sum):
        raise InputError(
            f"{name} is a sum of a model and a correction, which is not trained as a whole: train its base, and learn "
            "a correction to that"
        )
    said = config.model.architecture
    found = next((key for key, (cls, _) in architectures().items() if cls is type(model)), type(model).__name__)
    if said is not None and said != found:
        raise InputError(
            f"model.checkpoint {name} is of the architecture {found}, but model.architecture says {said}: correct one "
            "of them"
        )
    return model


def _new(config: TrainConfig, training: Dataset, settings: TrainSettings) -> Potential:
    extra = []
    for symbol in config.model.elements:
        if symbol not in atomic_numbers:
            raise InputError(f"model.elements: {symbol!r} is no element{suggestion(symbol, atomic_numbers)}")
        extra.append(atomic_numbers[symbol])
    references = _references(config, training)
    assert config.model.architecture is not None
    elements = {*training.elements, *extra}
    return new_model(
        config.model.architecture, config.model.size, elements, training, references=references, seed=settings.seed
    )


def _references(config: TrainConfig, training: Dataset) -> References:
    kind, given = config.references.kind, config.given_references()
    if given is not None:
        # missing elements are an error of this file, not of the run
        try:
            given.sums(training.take([0]))
            missing = [z for z in training.elements if z not in given.energies]
            if missing:
                given.sums(training)
        except InputError as error:
            raise InputError(f"references.energies: {error}") from None
        return given
    if kind == "none":
        return References(dict.fromkeys(training.elements, 0.0), "none: total energies are learned")
    return fit_references(training) if kind == "fitted" else references_for(training)


def as_yaml(config: TrainConfig) -> str:
    """The configuration as it was used, with all defaults of its own sections."""
    import yaml

    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.name != "base"}
    plain = {k: dataclasses.asdict(v) if dataclasses.is_dataclass(v) else v for k, v in values.items()}  # type: ignore[arg-type]
    plain = {k: v for k, v in plain.items() if v is not None}
    text = yaml.safe_dump(json.loads(json.dumps(plain, default=dict)), sort_keys=False, allow_unicode=True)
    return f"# paths are relative to {config.base.absolute()}\n{text}"
