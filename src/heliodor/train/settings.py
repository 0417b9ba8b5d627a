"""Every choice of a training run, once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from heliodor.errors import InputError, suggestion

LOSSES = ("robust", "huber", "mse")
SCHEDULES = ("cosine", "exponential", "plateau", "constant")
OPTIMIZERS = ("adamw", "amsgrad")
PRECISIONS = ("float32", "float64", "tf32", "bf16")
NOT_OF_THE_RESULT = ("threads", "checkpoint_minutes", "device", "compile")
"""Settings that a run may change when it is resumed."""


@dataclass(frozen=True)
class TrainSettings:
    """How a model is fitted to a data set. A run ends at the first of `time`, `epochs` and `stop_after`.

    Attributes:
        loss: "robust" (Barron's, shape and scale learned for each property), "huber" or "mse".
        energy_weight: of the energies' term; 0 leaves a property out, as does a set without such labels.
        forces_weight: of the forces' term (mean over all components of all atoms).
        dipole_weight: of the dipoles' term (mean over all components).
        hirshfeld_weight: of the Hirshfeld ratios' term.
        charges_weight: of the partial charges' term; 0 by default, as the charges of most methods are no observables.
        energy_per: "atom": residuals are divided by the number of atoms; "structure": they are not.
        huber_width: where the Huber loss turns linear, in mean absolute deviations of the labels.
        batch_size: structures in a batch, on average; batches are cut by atoms, edges and pairs.
        kind_shares: fraction of each kind of structure among what is drawn, such as {"bottom-up": 0.5, "top-down":
            0.5}; empty: as they come.
        optimizer: "amsgrad" (Adam with AMSGrad, decoupled decay) or "adamw".
        accumulate: batches whose gradients are added up to one step of the optimiser.
        precision: of the network's arithmetic: "float32", "float64", or on GPUs "tf32" or "bf16" (matrix products
            alone; sums, geometry and energies stay in float32).
        learning_rate: at the top.
        weight_decay: decoupled, per step and learning rate; not of biases and single numbers.
        warmup_steps: over which the learning rate rises.
        schedule: "cosine" to the end of the run, "exponential" to the same end, "plateau" or "constant".
        final_rate: last learning rate over the first; "plateau" stops there.
        plateau_patience: validations without improvement before the rate falls.
        plateau_factor: by which it falls.
        ema: decay of the running average of the parameters, which is what is validated and kept.
        clip: largest gradient norm, in multiples of its own running average; 0 for no clipping.
        time: length of the run as "35 min", "2 h" or seconds; empty for no limit. Set-up and compilation count.
        epochs: number of epochs (as many structures as there are); 0 for no limit.
        stop_after: validations without improvement after which the run ends; 0 for never.
        validate_every: steps between validations; 0: once an epoch.
        validation_structures: how many are used during the run; the final errors are of all.
        checkpoint_minutes: between checkpoints, from which a killed run goes on.
        compile: "yes", "no" or "auto": compile the training step, which costs minutes once (a quarter of an hour and
            more on a busy machine) and halves a step's time; "auto" does so for SpookyNet without dropped modules and
            SO3LR in runs with a `time` of two hours or more. Where it fails, the run goes on without.
        threads: of torch; 0 leaves them alone.
        device: "cpu", "cuda" or "auto".
        seed: of the order of structures and of everything random.
    """

    loss: str = "robust"
    energy_weight: float = 1.0
    forces_weight: float = 1.0
    dipole_weight: float = 1.0
    hirshfeld_weight: float = 0.1
    charges_weight: float = 0.0
    energy_per: str = "atom"
    huber_width: float = 0.1
    batch_size: int = 16
    kind_shares: Mapping[str, float] = field(default_factory=dict)
    optimizer: str = "amsgrad"
    accumulate: int = 1
    precision: str = "float32"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    warmup_steps: int = 100
    schedule: str = "cosine"
    final_rate: float = 0.01
    plateau_patience: int = 5
    plateau_factor: float = 0.5
    ema: float = 0.999
    clip: float = 3.0
    time: str | float = ""
    epochs: float = 0.0
    stop_after: int = 0
    validate_every: int = 0
    validation_structures: int = 500
    checkpoint_minutes: float = 1.0
    compile: str = "auto"
    threads: int = 0
    device: str = "auto"
    seed: int = 1

    @property
    def seconds(self) -> float:
        """The time limit in s, infinite without one."""
        return parse_duration(self.time) if self.time else float("inf")

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each property of a `Dataset`."""
        return {
            "energy": self.energy_weight,
            "forces": self.forces_weight,
            "dipole": self.dipole_weight,
            "hirshfeld_ratios": self.hirshfeld_weight,
            "charges": self.charges_weight,
        }

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_mapping(values: Mapping[str, Any], where: str = "") -> TrainSettings:
        """Settings from a mapping such as YAML gives.

        Args:
            where: what the values belong to, for messages.

        Raises:
            InputError: an unknown name, or a value of the wrong type or out of range.
        """
        known = {f.name: f for f in fields(TrainSettings)}
        defaults = TrainSettings()
        found: dict[str, Any] = {}
        for key, value in values.items():
            if key not in known:
                raise InputError(f"{where}training has no setting {key!r}{suggestion(key, known)}")
            found[key] = _as_type(key, value, getattr(defaults, key), where)
        settings = TrainSettings(**found)
        settings.check(where)
        return settings

    def check(self, where: str = "") -> None:
        """Refuse what cannot work.

        Raises:
            InputError: naming the setting.
        """
        choices = {
            "loss": LOSSES,
            "schedule": SCHEDULES,
            "optimizer": OPTIMIZERS,
            "precision": PRECISIONS,
            "energy_per": ("atom", "structure"),
            "compile": ("auto", "yes", "no"),
        }
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value not in allowed:
                raise InputError(
                    f"{where}{name} is one of {', '.join(allowed)}, not {value!r}{suggestion(value, allowed)}"
                )
        for name in ("learning_rate", "batch_size", "accumulate", "huber_width", "final_rate", "checkpoint_minutes"):
            if not getattr(self, name) > 0:
                raise InputError(f"{where}{name} must be above zero, not {getattr(self, name)}")
        for name in ("weight_decay", "warmup_steps", "clip", "epochs", "stop_after", "validate_every", "threads"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{where}{name} must not be below zero: {getattr(self, name)}")
        for name, top in (("ema", 1.0), ("plateau_factor", 1.0)):
            if not 0.0 <= getattr(self, name) < top:
                raise InputError(f"{where}{name} must lie between 0 and 1, not {getattr(self, name)}")
        if any(weight < 0 for weight in self.weights.values()) or not any(self.weights.values()):
            raise InputError(f"{where}the weights of the properties must be >= 0, and one of them above")
        if not self.time and not self.epochs and not (self.stop_after or self.schedule == "plateau"):
            raise InputError(f"{where}give time (such as '35 min'), epochs or stop_after: the run would never end")
        if self.schedule in ("cosine", "exponential") and not self.time and not self.epochs:
            raise InputError(f"{where}the schedule {self.schedule!r} needs to know the end: give time or epochs")
        _ = self.seconds


def parse_duration(text: str | float) -> float:
    """Wall-clock time such as "35 min", "1.5 h", "90 s" or a number of seconds, in s.

    Raises:
        InputError: not a time above zero.
    """
    match = re.fullmatch(r"\s*([0-9.eE+]+)\s*(s|sec|min|m|h|hours?|minutes?|seconds?|d|days?)?\s*", str(text))
    try:
        value = float(match.group(1)) if match else float("nan")
    except ValueError:
        value = float("nan")
    unit = ((match.group(2) if match else "") or "s")[0]
    if not 0.0 < value < float("inf"):
        raise InputError(f"cannot read {text!r} as a time; write for example '35 min' or '2 h'")
    return value * {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}[unit]


def _as_type(name: str, value: Any, default: Any, where: str) -> Any:
    if name == "time":
        return value if isinstance(value, str) else float(value)
    if isinstance(default, Mapping):
        if not isinstance(value, Mapping) or not all(_is_number(v) for v in value.values()):
            raise InputError(f"{where}{name} maps kinds to numbers, such as {{bottom-up: 0.5, top-down: 0.5}}")
        return {str(k): float(v) for k, v in value.items()}
    if isinstance(default, str):
        if isinstance(value, bool) and name == "compile":
            # YAML reads yes and no as truth values
            return "yes" if value else "no"
        if not isinstance(value, str):
            raise InputError(f"{where}{name} must be a word, not {value!r}")
        return value
    if isinstance(value, str):
        # YAML reads 1e-3 as text
        try:
            value = float(value)
        except ValueError:
            raise InputError(f"{where}{name} must be a number, not {value!r}") from None
    if not _is_number(value):
        raise InputError(f"{where}{name} must be a number, not {value!r}")
    if isinstance(default, int):
        if value != int(value):
            raise InputError(f"{where}{name} must be a whole number, not {value!r}")
        return int(value)
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
