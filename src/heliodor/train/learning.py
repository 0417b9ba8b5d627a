"""Learning curves: the error on held-out structures against the number of structures learned from.

Errors fall as a power of the number of structures, ε = a N^(-b) (Cortes et al. 1993); the slope b on double logarithmic
axes tells what more data would bring, and a curve that bends up that they would not (Faber et al., J. Chem. Phys. 148,
241717 (2018)).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from heliodor.errors import InputError
from heliodor.potential import Potential
from heliodor.train.dataset import Dataset
from heliodor.train.errors import compare, predict
from heliodor.train.progress import Progress, silent
from heliodor.train.settings import TrainSettings
from heliodor.train.state import write_text
from heliodor.train.trainer import train

SHOWN = {"energy_shifted": ("energy", "meV/atom"), "forces": ("forces", "meV/Å")}


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """Errors of models trained on more and more of one set.

    Attributes:
        sizes: structures learned from.
        rmse: by property, eV per atom (mean error removed) and eV/Å.
        mae: likewise.
        slopes: b of rmse = a N^(-b) and its standard error (NaN of two sizes), by property.
    """

    sizes: tuple[int, ...]
    rmse: dict[str, Float[np.ndarray, "n"]]
    mae: dict[str, Float[np.ndarray, "n"]]
    slopes: dict[str, tuple[float, float]]

    def table(self) -> str:
        """For people."""
        lines = [f"{'structures':>10s}" + "".join(f"{w + ' RMSE ' + u:>26s}" for w, u in self._words())]
        for k, size in enumerate(self.sizes):
            lines.append(f"{size:10d}" + "".join(f"{1e3 * self.rmse[name][k]:26.2f}" for name in self.rmse))
        slopes = "".join(f"{f'{b:.2f} ± {error:.2f}':>26s}" for b, error in self.slopes.values())
        return "\n".join([*lines, f"{'slope':>10s}{slopes}"])

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return {
            "sizes": list(self.sizes),
            "rmse": {name: values.tolist() for name, values in self.rmse.items()},
            "mae": {name: values.tolist() for name, values in self.mae.items()},
            "slopes": {name: {"slope": b, "error": error} for name, (b, error) in self.slopes.items()},
        }

    def plot(self, path: str | Path) -> None:
        """Both errors on double logarithmic axes, with their slopes."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4.0 * len(self.rmse), 3.6), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, len(self.rmse), squeeze=False)[0]
        for ax, (name, values), (word, unit) in zip(axes, self.rmse.items(), self._words(), strict=True):
            b, error = self.slopes[name]
            fit = np.polyfit(np.log(self.sizes), np.log(values), 1)
            ax.loglog(self.sizes, 1e3 * values, "o", color="C0")
            label = f"slope -{b:.2f}" + (f" ± {error:.2f}" if np.isfinite(error) else "")
            ax.loglog(self.sizes, 1e3 * np.exp(np.polyval(fit, np.log(self.sizes))), "-", color="C0", label=label)
            ax.set(xlabel="structures learned from", ylabel=f"RMSE {unit}", title=f"{word}, held-out structures")
            ax.legend()
        figure.savefig(path, dpi=130)

    def _words(self) -> list[tuple[str, str]]:
        return [SHOWN[name] for name in self.rmse]


def learning_curve(
    make: Callable[[Dataset], Potential],
    training: Dataset,
    validation: Dataset,
    test: Dataset,
    sizes: Sequence[int],
    output: str | Path,
    settings: TrainSettings,
    progress: Progress | None = None,
) -> LearningCurve:
    """Train on more and more of a set, each time from the beginning and for as many steps.

    The smaller sets are parts of the larger ones. `settings.epochs` counts for the largest set; the others see their
    structures more often. Trainings that are done are not repeated; a killed one goes on.

    Args:
        make: a new model for a training set.
        sizes: structures, at least two different numbers.
        output: folder; a folder for each size, `learning.json` and `learning.png` are put there.

    Raises:
        InputError: fewer than two sizes, or one above what there is.
    """
    wanted = sorted(set(sizes))
    if len(wanted) < 2 or wanted[0] < 2 or wanted[-1] > len(training):
        raise InputError(
            f"a learning curve takes two or more sizes from 2 to the {len(training)} structures there are, not "
            f"{', '.join(map(str, sizes))}"
        )
    order = np.random.default_rng([settings.seed, 13]).permutation(len(training))
    tell, found = progress or silent, []
    for k, size in enumerate(wanted):
        part = training.take(np.sort(order[:size]))
        same = replace(settings, epochs=settings.epochs * wanted[-1] / size)

        def say(share: float, words: str, k: int = k, size: int = size) -> None:
            tell((k + share) / len(wanted), f"{size} structures: {words}")

        result = train(make(part), part, validation, Path(output) / f"{size:06d}", same, say)
        errors = compare(predict(result.model.float(), test), test).all
        found.append({name: errors[name] for name in SHOWN if name in errors})
    names = list(found[0])
    rmse = {name: np.array([e[name].rmse for e in found]) for name in names}
    mae = {name: np.array([e[name].mae for e in found]) for name in names}
    curve = LearningCurve(tuple(wanted), rmse, mae, {name: slope_of(wanted, rmse[name]) for name in names})
    write_text(Path(output) / "learning.json", json.dumps(curve.to_dict(), indent=1))
    curve.plot(Path(output) / "learning.png")
    return curve


def slope_of(sizes: Sequence[int] | Int[np.ndarray, "n"], errors: Float[np.ndarray, "n"]) -> tuple[float, float]:
    """b of ε = a N^(-b) by least squares of the logarithms, and its standard error (NaN of two sizes)."""
    x, y = np.log(np.asarray(sizes, dtype=float)), np.log(errors)
    design = np.stack([x, np.ones_like(x)], axis=1)
    (slope, _), residual, _, _ = np.linalg.lstsq(design, y, rcond=None)
    free = len(x) - 2
    variance = float(residual[0]) / free if free > 0 and len(residual) else np.nan
    error = float(np.sqrt(variance / np.square(x - x.mean()).sum())) if free > 0 else float("nan")
    return -float(slope), error
