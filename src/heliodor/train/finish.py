"""The end of a run: errors on the whole validation set, the model's card, the files that are left."""

from __future__ import annotations

import copy
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ase.data import chemical_symbols
from safetensors import SafetensorError

from heliodor.checkpoint import load_checkpoint, save_checkpoint
from heliodor.errors import InputError
from heliodor.potential import Potential
from heliodor.train.curves import plot_curves, plot_parity
from heliodor.train.dataset import Dataset
from heliodor.train.errors import Predicted, compare
from heliodor.train.parallel import Processes
from heliodor.train.precision import dtype_of
from heliodor.train.progress import Progress
from heliodor.train.references import References
from heliodor.train.run import DivergedError, Run
from heliodor.train.settings import TrainSettings
from heliodor.train.state import other_run, write_text
from heliodor.train.validation import answers, part_of


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


def finish(
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
    together: Processes,
) -> TrainResult:
    """Errors, card and files; the state of the run is no longer needed and goes.

    Raises:
        InputError: the files cannot be written.
        DivergedError: no validation gave finite errors.
    """
    if not math.isfinite(run.best_score):
        raise DivergedError(
            f"in {run.step} steps no errors on the validation set were finite: see {folder / 'log.csv'}, and lower "
            "learning_rate"
        )
    from heliodor import __version__

    progress(1.0, "errors on the whole validation set")
    final = ready(model, references).double().cpu()
    with torch.no_grad():
        for name, parameter in final.named_parameters():
            if name in run.best:
                parameter.copy_(run.best[name])
    judge = copy.deepcopy(final).to(dtype=dtype_of(settings.precision)).to(run.model.device)
    predicted = answers(judge, part_of(validation, together), together)
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
    found = TrainResult(final, path, errors.to_dict(), run.rows, run.step, epochs, seconds, run.skipped, compiled)
    if together.first:
        _write(found, key, predicted, validation, folder)
    # no process says that the files are there before they are
    together.gather(None)
    return found


def _write(found: TrainResult, key: str, predicted: Predicted, validation: Dataset, folder: Path) -> None:
    try:
        save_checkpoint(found.model, found.path, found.model.card)
        plot_curves(found.rows, folder / "curves.png")
        plot_parity(predicted, validation, folder / "parity.png")
    except (OSError, SafetensorError) as error:
        for left in folder.glob("*.part"):
            left.unlink(missing_ok=True)
        raise InputError(f"{folder} could not be written ({error}): make room and start the same run again") from None
    kept = ("errors", "rows", "steps", "epochs", "seconds", "skipped", "compiled")
    result = {"key": key, **{name: getattr(found, name) for name in kept}}
    write_text(folder / "result.json", json.dumps(result, indent=1))
    (folder / "state.pt").unlink(missing_ok=True)


def finished(folder: Path, key: str) -> TrainResult | None:
    """The result of a run that is over, or nothing.

    Raises:
        InputError: damaged, or of another run.
    """
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


def ready(model: Potential, references: References) -> Potential:
    """A copy without kernels and without an uncertainty, which holds for the weights as they were, whose card has the
    references."""
    final = copy.deepcopy(model)
    for part in final.modules():
        if isinstance(part, Potential):
            part.use_kernel(None, "reference")
            part.uncertainty = None
    final.card = {**model.card, **references.to_card()}
    return final
