"""Every choice of a fine-tuning, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from heliodor.api import load
from heliodor.errors import InputError, suggestion
from heliodor.potential import Potential
from heliodor.train.finetuning.new_zero import Zero
from heliodor.train.finetuning.replay import Replay
from heliodor.train.settings import TrainSettings

WAYS = ("all", "heads", "low-rank")

DEFAULTS: dict[str, dict[str, Any]] = {
    "all": {"learning_rate": 3e-4},
    "heads": {"learning_rate": 1e-3},
    "low-rank": {"learning_rate": 1e-3},
    "names": {"learning_rate": 3e-4},
}
"""Settings of the trainer that differ from its own where they are not given, by what is trained."""

SHORT: dict[str, Any] = {"loss": "huber", "weight_decay": 0.0, "warmup_steps": 30, "ema": 0.99}
"""Such settings whatever is trained: runs are too short to learn the scales of the robust loss or to average over a
thousand steps, and the weights are not to be drawn to zero."""


@dataclass(frozen=True)
class FineTune:
    """How a trained model is fitted to new data.

    Attributes:
        model: what to begin with, as `heliodor.load` takes it.
        train: "all" weights, "heads" (what turns features into energies, charges and ratios), "low-rank" adapters
            (Hu et al. 2021), or names of weights and parts ("network.layers.2.*", "energy_head").
        rank: r of the adapters.
        scale: factor of the adapters' product (α/r in the paper).
        adapt: names of the weights that get adapters; empty: every linear map between features for which the adapter
            has fewer numbers than the map.
        also: names of weights trained as they are beside adapters, such as "energy_offset".
        references: "refit" shifts the reference energy of each element to the new level of theory, "keep" leaves them;
            or the new level's energies of isolated atoms, eV, by element.
        layer_decay: learning rate of each layer over that of the next (1: all the same); heads have the full one.
        replay: old data beside the new, None for none.
    """

    model: str = ""
    train: str | tuple[str, ...] = "all"
    rank: int = 8
    scale: float = 1.0
    adapt: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    references: Zero = "refit"
    layer_decay: float = 1.0
    replay: Replay | None = None

    @staticmethod
    def from_mapping(values: Mapping[str, Any]) -> FineTune:
        """From a mapping such as YAML gives.

        Raises:
            InputError: an unknown name, or a value that cannot be.
        """
        known = {f.name: f for f in fields(FineTune)}
        for key in values:
            if key not in known:
                raise InputError(f"finetune has no setting {key!r}{suggestion(key, known)} ({', '.join(known)})")
        given = {key: value for key, value in values.items() if value is not None}
        found: dict[str, Any] = {}
        for key, value in given.items():
            if key in ("adapt", "also"):
                found[key] = _names(key, value)
            elif key == "train":
                found[key] = value if isinstance(value, str) and value in WAYS else _names(key, value)
            elif key == "replay":
                if not isinstance(value, Mapping):
                    raise InputError(
                        "finetune: replay is a section of its own, such as {structures: old.xyz, share: 0.3}"
                    )
                found[key] = Replay.from_mapping(value)
            elif key == "references":
                found[key] = dict(value) if isinstance(value, Mapping) else str(value)
            else:
                try:
                    found[key] = type(getattr(FineTune(), key))(value)
                except (TypeError, ValueError):
                    raise InputError(f"finetune: {key} cannot be {value!r}") from None
        how = FineTune(**found)
        how.check()
        return how

    def check(self) -> None:
        """Refuse what cannot be.

        Raises:
            InputError: naming the setting.
        """
        if isinstance(self.train, str) and self.train not in WAYS:
            raise InputError(
                f"finetune: train is one of {', '.join(WAYS)} or a list of names of weights, not {self.train!r}"
                f"{suggestion(self.train, WAYS)}"
            )
        if isinstance(self.references, str) and self.references not in ("keep", "refit"):
            raise InputError(
                f"finetune: references is 'keep', 'refit' or energies by element (eV), not {self.references!r}"
            )
        if self.rank < 1 or not np.isfinite(self.scale) or self.scale == 0.0:
            raise InputError(f"finetune: rank must be 1 or more and scale not zero ({self.rank}, {self.scale:g})")
        if not 0.0 < self.layer_decay <= 1.0:
            raise InputError(f"finetune: layer_decay lies above 0 and is 1 at most, not {self.layer_decay:g}")
        if self.train != "low-rank" and (self.adapt or self.also):
            raise InputError("finetune: adapt and also go with train: low-rank; otherwise name the weights in train")
        if self.train == "low-rank" and self.layer_decay != 1.0:
            raise InputError("finetune: layer_decay goes with whole weights, not with train: low-rank")
        if self.replay is not None:
            self.replay.check()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load(self) -> Potential:
        """The model to begin with, float64, on the CPU.

        Raises:
            InputError: none is named.
        """
        if not self.model:
            raise InputError("finetune: model says what to begin with: a name such as so3lr, or a file")
        return load(self.model, device="cpu", dtype="float64", kernels="reference")

    def settings(self, values: Mapping[str, Any]) -> TrainSettings:
        """Settings of the trainer, smaller learning rates and what else fine-tuning wants where they are not given.

        Raises:
            InputError: as `TrainSettings.from_mapping`.
        """
        way = self.train if isinstance(self.train, str) else "names"
        return TrainSettings.from_mapping({**SHORT, **DEFAULTS[way], **values})


def _names(key: str, value: Any) -> tuple[str, ...]:
    found = (value,) if isinstance(value, str) else value
    if not isinstance(found, (list, tuple)) or not found or not all(isinstance(v, str) for v in found):
        words = f"one of {', '.join(WAYS)} or " if key == "train" else ""
        raise InputError(f"finetune: {key} is {words}a list of names such as network.layers.2.*, not {value!r}")
    return tuple(found)
