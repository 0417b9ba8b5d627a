"""What fine-tuning won on new data and lost on old: errors before and after, by property and kind."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heliodor.potential import Potential
from heliodor.train.dataset import Dataset
from heliodor.train.errors import Errors, errors_of
from heliodor.train.state import write_text

SHOWN: dict[str, tuple[str, str, float]] = {
    "forces": ("forces", "meV/Å", 1e3),
    "energy_shifted": ("energies", "meV/atom", 1e3),
    "dipole": ("dipoles", "me·Å", 1e3),
    "hirshfeld_ratios": ("Hirshfeld ratios", "10⁻³", 1e3),
}
"""Words, unit and factor of each property; energies per atom, their mean error over the structures taken off."""


NOTHING = 1e-3
"""In the units of `SHOWN`."""


@dataclass(frozen=True)
class Change:
    """Mean absolute errors of one property before and after, in the property's unit of `SHOWN`."""

    where: str
    kind: str
    name: str
    before: float
    after: float

    @property
    def words(self) -> str:
        """Such as "forces on the old data 41 -> 95 meV/Å"."""
        word, unit, _ = SHOWN[self.name]
        kind = "" if self.kind == "all" else f", {self.kind}"
        return f"{word} on the {self.where} data{kind} {_short(self.before)} -> {_short(self.after)} {unit}".rstrip()


@dataclass(frozen=True, eq=False)
class Forgetting:
    """Errors before and after, on "old" data (where there are any) and "new" data that were not trained on.

    Attributes:
        methods: whose labels these are, by the same words.
        notes: what else there is to say, one sentence each.
    """

    before: dict[str, Errors]
    after: dict[str, Errors]
    methods: dict[str, str]
    notes: list[str] = field(default_factory=list)

    @property
    def changes(self) -> list[Change]:
        """Every property of every kind, "all" first, old data before new."""
        found = []
        for where, before in self.before.items():
            for kind, errors in before.by_kind.items():
                later = self.after[where].by_kind[kind]
                for name, (_, _, factor) in SHOWN.items():
                    if name in errors and name in later:
                        found.append(Change(where, kind, name, factor * errors[name].mae, factor * later[name].mae))
        return found

    @property
    def words(self) -> list[str]:
        """One line for each property over all structures of a set."""
        return [change.words for change in self.changes if change.kind == "all"]

    def table(self) -> str:
        """For people: mean absolute errors."""
        lines = [f"{'mean absolute errors':44s}{'before':>10s}{'after':>10s}"]
        last = ("", "")
        for c in self.changes:
            if (c.where, c.kind) != last:
                number = self.before[c.where].structures[c.kind]
                method = f", {self.methods[c.where]}" if self.methods.get(c.where) else ""
                kind = f", {c.kind}" if c.kind != "all" else method
                lines.append(f"{c.where} data{kind} ({number} structures)")
                last = (c.where, c.kind)
            word, unit, _ = SHOWN[c.name]
            lines.append(f"  {word + ' ' + unit:42s}{_short(c.before):>10s}{_short(c.after):>10s}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers: eV, Å, e."""
        return {
            "before": {where: errors.to_dict() for where, errors in self.before.items()},
            "after": {where: errors.to_dict() for where, errors in self.after.items()},
            "methods": self.methods,
            "words": self.words,
            "notes": self.notes,
        }

    def write(self, folder: str | Path) -> None:
        """``forgetting.json``, ``.txt`` and ``.png``.

        Raises:
            InputError: the folder cannot be written.
            MissingExtraError: matplotlib is missing.
        """
        folder = Path(folder)
        write_text(folder / "forgetting.json", json.dumps(_plain(self.to_dict()), indent=1))
        write_text(folder / "forgetting.txt", "\n".join([self.table(), "", *self.words, *self.notes, ""]))
        plot_forgetting(self, folder / "forgetting.png")


def measure_forgetting(
    before: Potential, after: Potential, sets: dict[str, Dataset], notes: list[str] | None = None
) -> Forgetting:
    """Errors of two models on labelled structures.

    Args:
        sets: by "old" and "new".
    """
    first, second = ({where: errors_of(model, data) for where, data in sets.items()} for model in (before, after))
    return Forgetting(first, second, {where: data.method for where, data in sets.items()}, list(notes or []))


def plot_forgetting(forgetting: Forgetting, path: str | Path) -> None:
    """Bars before and after: one panel for each property, one pair for each set and kind.

    Raises:
        MissingExtraError: matplotlib is missing.
    """
    from heliodor.train.curves import _axes, _save

    changes = forgetting.changes
    names = [name for name in SHOWN if any(c.name == name for c in changes)]
    figure, axes = _axes(len(names))
    for ax, name in zip(axes, names, strict=True):
        rows = [c for c in changes if c.name == name]
        places = range(len(rows), 0, -1)
        for shift, color, label, values in (
            (0.2, "0.65", "before", [c.before for c in rows]),
            (-0.2, "C0", "after", [c.after for c in rows]),
        ):
            bars = ax.barh([p + shift for p in places], values, 0.38, color=color, label=label)
            ax.bar_label(bars, [_short(v) for v in values], fontsize=7, padding=2)
        labels = [c.where if c.kind == "all" else f"{c.where}: {c.kind}" for c in rows]
        ax.set_yticks(list(places), labels, fontsize=8)
        word, unit, _ = SHOWN[name]
        ax.set(xlabel=f"mean absolute error {unit}".strip(), title=word)
        ax.margins(x=0.18)
        # room for the legend above the bars
        ax.set_ylim(0.4, len(rows) + 0.6 + 0.35 * len(rows))
        ax.legend(fontsize=7)
    _save(figure, path)


def _short(value: float) -> str:
    """Three digits; nothing for rounding, which is all that a model's own labels differ by from its answers."""
    return "0" if abs(value) < NOTHING else f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"


def _plain(value: Any) -> Any:
    """NaN is no JSON."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
