"""Every choice of a training run, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from heliodor.durations import parse_duration
from heliodor.errors import InputError, suggestion
from heliodor.train.weights import STAGE_TWO_WEIGHTS, WEIGHT_FIELDS, WEIGHTS, Ramp, read_ramp

LOSSES = ("robust", "huber", "mse", "so3lr", "mace")
SCHEDULES = ("cosine", "exponential", "plateau", "constant")
OPTIMIZERS = ("adamw", "amsgrad")
PRECISIONS = ("float32", "float64", "tf32", "bf16")
AVERAGES = ("", "labels", "structure")
NOT_OF_THE_RESULT = ("threads", "checkpoint_minutes", "device", "compile", "tensorboard", "plot_every")
"""Settings that a run may change when it is resumed."""


@dataclass(frozen=True)
class TrainSettings:
    """How a model is fitted to a data set. A run ends at the first of `time`, `epochs` and `stop_after`.

    Attributes:
        loss: "robust" (Barron's, shape and scale learned for each property), "huber" or "mse" (both in units of the
            labels' spread), "so3lr" or "mace" (squared errors in eV, Å, e, as these papers have them).
        energy_weight: of the energies' term: a number, or {start, end, shape, begin, until} to change it along the
            run; 0 leaves a property out, as does a set without such labels; empty: the loss's own.
        forces_weight: of the forces' term.
        stress_weight: of the stresses' term, of fully periodic structures.
        dipole_weight: of the dipoles' term.
        hirshfeld_weight: of the Hirshfeld ratios' term.
        charges_weight: of the partial charges' term; 0 by default, as the charges of most methods are no observables.
        node_energies_weight: of the term of a teacher's atomic energies, with which those of the network, without
            physical terms, are compared.
        energy_per: "atom": residuals are divided by the number of atoms; "structure": they are not.
        average: of forces and other labels of atoms: "labels": over all of a batch, so that large structures count
            for more; "structure": over each structure first; empty: the loss's own ("structure" for so3lr).
        huber_width: where the Huber loss turns linear, in mean absolute deviations of the labels.
        batch_size: structures in a batch, on average; batches are cut by atoms, edges and pairs.
        kind_shares: fraction of each kind of structure among what is drawn, such as {"bottom-up": 0.5, "top-down":
            0.5}; empty: as they come.
        optimizer: "amsgrad" (Adam with AMSGrad, decoupled decay) or "adamw".
        accumulate: batches whose gradients are added up to one step of the optimiser.
        precision: of the network's arithmetic: "float32", "float64", or on GPUs "tf32" or "bf16" (matrix products
            alone; sums, geometry and energies stay in float32).
        learning_rate: at the top.
        stage_two: fraction of the run after which stage two begins, with other weights and a constant learning rate
            (MACE's "swa"; 0.75 there); 0 for none.
        stage_two_rate: learning rate of stage two over learning_rate.
        stage_two_weights: weights of stage two by property, such as {energy: 1000, forces: 100}; those not named stay
            as they are; empty: the loss's own (mace: energy 1000, forces 100, stress 10).
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
        stop_after: validations without improvement after which the run ends; 0 for never. Where there is a stage two,
            they are counted from its beginning.
        validate_every: steps between validations; 0: once an epoch.
        validation_structures: how many are used during the run; the final errors are of all.
        checkpoint_minutes: between checkpoints, from which a killed run goes on.
        compile: "yes", "no" or "auto": compile the training step, which costs minutes once (a quarter of an hour and
            more on a busy machine) and halves a step's time; "auto" does so for SpookyNet without dropped modules and
            SO3LR in runs with a `time` of two hours or more. Where it fails, the run goes on without.
        plot_every: validations between pictures of the curves and the parity while the run goes on; 0: at its end.
        tensorboard: also write TensorBoard's event files, into the folder's tensorboard/.
        threads: of torch; 0 leaves them alone.
        device: "cpu", "cuda" or "auto".
        seed: of the order of structures and of everything random.
    """

    loss: str = "robust"
    energy_weight: float | Ramp | None = None
    forces_weight: float | Ramp | None = None
    stress_weight: float | Ramp | None = None
    dipole_weight: float | Ramp | None = None
    hirshfeld_weight: float | Ramp | None = None
    charges_weight: float | Ramp | None = None
    node_energies_weight: float | Ramp | None = None
    energy_per: str = "atom"
    average: str = ""
    huber_width: float = 0.1
    batch_size: int = 16
    kind_shares: Mapping[str, float] = field(default_factory=dict)
    optimizer: str = "amsgrad"
    accumulate: int = 1
    precision: str = "float32"
    learning_rate: float = 1e-3
    stage_two: float = 0.0
    stage_two_rate: float = 0.1
    stage_two_weights: Mapping[str, float] = field(default_factory=dict)
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
    plot_every: int = 5
    tensorboard: bool = False
    threads: int = 0
    device: str = "auto"
    seed: int = 1

    @property
    def seconds(self) -> float:
        """The time limit in s, infinite without one."""
        return parse_duration(self.time) if self.time else float("inf")

    @property
    def weights(self) -> dict[str, float | Ramp]:
        """Weight of each property of a `Dataset`, as given or the loss's own."""
        found: dict[str, float | Ramp] = {}
        for name, setting in WEIGHT_FIELDS.items():
            given = getattr(self, setting)
            found[name] = WEIGHTS.get(self.loss, {}).get(name, 0.0) if given is None else given
        return found

    def weights_at(self, progress: float) -> dict[str, float]:
        """Weight of each property where so much of the run (0 to 1) is over."""
        found = {name: w.at(progress) if isinstance(w, Ramp) else w for name, w in self.weights.items()}
        if self.in_stage_two(progress):
            found |= self.stage_two_weights or STAGE_TWO_WEIGHTS.get(self.loss, {})
        return found

    @property
    def largest_weights(self) -> dict[str, float]:
        """The most each property ever weighs: those with 0 take no part."""
        found = {name: w.largest if isinstance(w, Ramp) else w for name, w in self.weights.items()}
        if self.stage_two:
            for name, weight in (self.stage_two_weights or STAGE_TWO_WEIGHTS.get(self.loss, {})).items():
                found[name] = max(found[name], weight)
        return found

    @property
    def weights_change(self) -> bool:
        """Whether the weights are not the same all along the run."""
        return bool(self.stage_two) or any(isinstance(w, Ramp) for w in self.weights.values())

    def in_stage_two(self, progress: float) -> bool:
        return self.stage_two > 0.0 and progress >= self.stage_two

    @property
    def by_structure(self) -> bool:
        """Whether labels of atoms are averaged over each structure first."""
        return (self.average or ("structure" if self.loss == "so3lr" else "labels")) == "structure"

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
            "average": AVERAGES,
            "compile": ("auto", "yes", "no"),
        }
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value not in allowed:
                words = ", ".join(word for word in allowed if word)
                raise InputError(f"{where}{name} is one of {words}, not {value!r}{suggestion(value, allowed)}")
        positive = ("learning_rate", "batch_size", "accumulate", "huber_width", "final_rate", "checkpoint_minutes")
        for name in (*positive, "stage_two_rate"):
            if not getattr(self, name) > 0:
                raise InputError(f"{where}{name} must be above zero, not {getattr(self, name)}")
        counts = ("weight_decay", "warmup_steps", "clip", "epochs", "stop_after", "validate_every", "threads")
        for name in (*counts, "plot_every"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{where}{name} must not be below zero: {getattr(self, name)}")
        for name, top in (("ema", 1.0), ("plateau_factor", 1.0), ("stage_two", 1.0)):
            if not 0.0 <= getattr(self, name) < top:
                raise InputError(f"{where}{name} must lie between 0 and 1, not {getattr(self, name)}")
        for name in self.stage_two_weights:
            if name not in WEIGHT_FIELDS:
                meant = f"{suggestion(name, WEIGHT_FIELDS)} ({', '.join(WEIGHT_FIELDS)})"
                raise InputError(f"{where}stage_two_weights: there is no property {name!r}{meant}")
        if self.stage_two_weights and not self.stage_two:
            raise InputError(f"{where}stage_two_weights are given, but stage_two, the fraction it begins at, is not")
        ends = [w for v in self.weights.values() for w in ((v.start, v.end) if isinstance(v, Ramp) else (v,))]
        if any(not weight >= 0 for weight in (*ends, *self.stage_two_weights.values())) or not any(ends):
            raise InputError(f"{where}the weights of the properties must be >= 0, and one of them above")
        if not self.time and not self.epochs and not (self.stop_after or self.schedule == "plateau"):
            raise InputError(f"{where}give time (such as '35 min'), epochs or stop_after: the run would never end")
        if self.schedule in ("cosine", "exponential") and not self.time and not self.epochs:
            raise InputError(f"{where}the schedule {self.schedule!r} needs to know the end: give time or epochs")
        if self.weights_change and not self.time and not self.epochs:
            raise InputError(f"{where}weights that change along the run need to know its end: give time or epochs")
        _ = self.seconds


def _as_type(name: str, value: Any, default: Any, where: str) -> Any:
    if name in WEIGHT_FIELDS.values():
        if value is None or value == "":
            return None
        if isinstance(value, (Mapping, Ramp)):
            return read_ramp(value, f"{where}{name}")
        default = 1.0
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise InputError(f"{where}{name} is true or false, not {value!r}")
        return value
    if name == "time":
        return value if isinstance(value, str) else float(value)
    if isinstance(default, Mapping):
        if not isinstance(value, Mapping) or not all(_is_number(v) for v in value.values()):
            example = "{bottom-up: 0.5, top-down: 0.5}" if name == "kind_shares" else "{energy: 1000, forces: 100}"
            raise InputError(f"{where}{name} holds names and numbers, such as {example}")
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
