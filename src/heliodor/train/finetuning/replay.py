"""Old data beside new data, so that fine-tuning does not forget what a model knew.

Rehearsal of a sample of the old data (Robins, Connection Science 7, 123 (1995)); where nobody has these, the model
labels structures itself before it is changed (Li & Hoiem, "Learning without forgetting", arXiv:1606.09282).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.errors import InputError, suggestion
from heliodor.potential import Potential
from heliodor.train.dataset import Dataset, join, open_dataset
from heliodor.train.errors import predict, some_of
from heliodor.train.finetuning.new_zero import residual_shift
from heliodor.train.sampling import kind_shares

OLD, NEW = "old", "new"


@dataclass(frozen=True)
class Replay:
    """A sample of old data: a share of it in every batch, and a part kept out to see what is forgotten.

    Attributes:
        data: a labelled data set of heliodor.
        structures: or a file of structures (what ASE reads, or a data set whose labels are not used), which the model
            labels itself.
        by: who labels: "labels" of the file, or "itself", the model before it is fine-tuned; by default the first for
            `data` and the second for `structures`.
        share: of old structures among those drawn; 0: none is trained on, they only show what is forgotten.
        sample: structures used at most, drawn once.
        held: part of the sample that is not trained on and that the report is about, whole groups at a time.
        energies: of labels of another level of theory than the new data: "move", shifted element by element to the
            zero of the new data, or "drop".
    """

    data: str = ""
    structures: str = ""
    by: str = ""
    share: float = 0.3
    sample: int = 1000
    held: float = 0.2
    energies: str = "move"

    @property
    def labelled_by(self) -> str:
        """`by`, its default worked out."""
        return self.by or ("itself" if self.structures else "labels")

    @staticmethod
    def from_mapping(values: Mapping[str, Any]) -> Replay:
        """From a mapping such as YAML gives.

        Raises:
            InputError: an unknown name, or a value that cannot be.
        """
        known = {f.name: f for f in fields(Replay)}
        for key in values:
            if key not in known:
                raise InputError(f"replay has no setting {key!r}{suggestion(key, known)} ({', '.join(known)})")
        try:
            given = {k: type(getattr(Replay(), k))(v) for k, v in values.items()}
        except (TypeError, ValueError) as error:
            raise InputError(f"replay: {error}") from None
        replay = Replay(**given)
        replay.check()
        return replay

    def check(self) -> None:
        """Refuse what cannot be.

        Raises:
            InputError: naming the setting.
        """
        if self.data and self.structures:
            raise InputError("replay: give data (labelled) or structures (labelled by the model itself), not both")
        if self.by not in ("", "labels", "itself"):
            raise InputError(f"replay: by is 'labels' or 'itself', not {self.by!r}{suggestion(self.by, ['itself'])}")
        if self.structures and self.by == "labels":
            raise InputError("replay: structures have no labels: give a labelled file as data, or by: itself")
        if self.energies not in ("move", "drop"):
            raise InputError(f"replay: energies is 'move' or 'drop', not {self.energies!r}")
        if not 0.0 <= self.share < 1.0:
            raise InputError(f"replay: share lies between 0 and 1 (the rest is new data), not {self.share:g}")
        if not 0.0 < self.held < 1.0:
            raise InputError(
                f"replay: held lies between 0 and 1, not {self.held:g}: without it nobody sees what is lost"
            )
        if self.sample < 2:
            raise InputError(f"replay: sample must be at least 2 structures, not {self.sample}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_old(replay: Replay, seed: int) -> Dataset:
    """The sample, with the labels of its file (those that are not wanted included).

    Raises:
        InputError: no such file, or not one of structures.
    """
    path = Path(replay.data or replay.structures)
    if not replay.data and not replay.structures:
        raise InputError("replay: give data (a labelled data set) or structures (labelled by the model itself)")
    if path.suffix in (".h5", ".hdf5") or path.is_dir() or replay.data:
        return some_of(open_dataset(path), replay.sample, seed)
    import ase.io

    if not path.is_file():
        raise InputError(f"replay: there is no file {path}")
    try:
        frames = ase.io.read(path, ":")
    except Exception as error:  # readers of many formats fail in many ways
        raise InputError(f"replay: {path} cannot be read as structures: {error}") from None
    assert isinstance(frames, list)
    return some_of(Dataset.from_atoms(frames), replay.sample, seed)


def label_by_itself(model: Potential, data: Dataset, progress: Callable[[int, int], None] | None = None) -> Dataset:
    """The same structures with a model's own answers; energies include the references of its card."""
    p = predict(model, data, progress)
    return replace(
        data,
        energy=p.energy,
        forces=p.forces,
        dipole=p.dipole,
        hirshfeld_ratios=p.hirshfeld_ratios,
        charges=p.charges,
        node_energies=np.full(len(data.numbers), np.nan),
        stress=np.full((len(data), 3, 3), np.nan),
        method=f"{model.name}, before fine-tuning",
    )


def to_zero_of(model: Potential, data: Dataset, method: str, energies: str) -> tuple[Dataset, str]:
    """Old labels beside new ones of some method, and a sentence on what was done about their energies.

    Args:
        model: whose card has the references for the new method.
        energies: "move" or "drop", for another method.
    """
    known = np.isfinite(data.energy).any()
    if data.method == method:
        return data, f"labels of the same level of theory ({method or 'not named'}), taken as they are"
    differ = (
        f"labels of another level of theory ({data.method or 'not named'}) than the new data ({method or 'not named'})"
    )
    if not known:
        return data, f"{differ}, without energies"
    if energies == "drop":
        return replace(data, energy=np.full(len(data), np.nan)), f"{differ}: energies left out, forces as they are"
    moved = data.energy - residual_shift(model, data).sums(data)
    return replace(data, energy=moved), f"{differ}: energies shifted by element to the new zero, forces as they are"


def split_old(data: Dataset, held: float, seed: int) -> tuple[Dataset, Dataset]:
    """What is trained on and what is kept out, structures of one group on one side.

    Raises:
        InputError: too few structures or groups for two parts.
    """
    groups = np.array([str(g) or f"\0{k}" for k, g in enumerate(data.group)])
    names, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng([seed, 17]).permutation(len(names))
    wanted = max(1, round(held * len(data)))
    taken = int(np.searchsorted(np.cumsum(sizes[order]), wanted)) + 1
    out = np.isin(inverse, order[:taken])
    if out.all():
        raise InputError(
            f"replay: the {len(data)} old structures are of {len(names)} groups, which cannot be divided into a part "
            "to train on and one kept out: give more, or a smaller held"
        )
    return data.take(np.flatnonzero(~out)), data.take(np.flatnonzero(out))


def mix(
    new: Dataset, old: Dataset, share: float, shares: Mapping[str, float] | None = None
) -> tuple[Dataset, dict[str, float]]:
    """New and old data as one set, and the shares of its kinds for which `share` of what is drawn is old.

    Kinds of the old data are called "old: KIND" (or "old"), those of the new data without a kind "new".

    Args:
        shares: of the kinds among the new data (`TrainSettings.kind_shares`).

    Raises:
        InputError: shares of kinds that do not occur.
    """
    wanted = kind_shares(new.kind, shares)
    old_shares = kind_shares(old.kind, None)
    new_kind = np.array([str(k) or NEW for k in new.kind])
    old_kind = np.array([f"{OLD}: {k}" if str(k) else OLD for k in old.kind])
    both = set(new_kind) & set(old_kind)
    if both:
        raise InputError(f"replay: the kind {sorted(both)[0]!r} of the new data is what old data are called: rename it")
    joined = join([replace(new, kind=new_kind), replace(old, kind=old_kind, method=new.method)])
    found = {(k or NEW): (1.0 - share) * s for k, s in wanted.items()}
    found |= {(f"{OLD}: {k}" if k else OLD): share * s for k, s in old_shares.items()}
    return replace(joined, method=new.method), found
