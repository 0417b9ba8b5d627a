"""Training of the correction on residual forces alone."""

from __future__ import annotations

from pathlib import Path

from heliodor.pigs.config import CorrectionChoices
from heliodor.train.dataset import Dataset
from heliodor.train.models import new_model
from heliodor.train.progress import Progress
from heliodor.train.references import References
from heliodor.train.settings import TrainSettings
from heliodor.train.state import fingerprint
from heliodor.train.trainer import TrainResult, train


def fit_correction(
    training: Dataset,
    watched: Dataset,
    choices: CorrectionChoices,
    settings: TrainSettings,
    folder: Path,
    progress: Progress | None = None,
) -> TrainResult:
    """Match residual forces: with squared errors the best model is their mean at given centroids.

    Its energies have no zero of their own, and are counted from none. A run of the same inputs in the folder is gone on
    with.

    Raises:
        InputError: a size or settings that cannot be.
    """
    zero = References(dict.fromkeys(training.elements, 0.0), "none: a correction of forces")
    model = new_model(
        choices.architecture, choices.size, training.elements, training, references=zero, seed=settings.seed
    )
    model.name = "correction"
    place = folder / fingerprint(model, training, watched, settings)[:12]
    return train(model, training, watched, place, settings, progress)
