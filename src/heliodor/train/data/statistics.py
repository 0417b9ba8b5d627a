"""What is in a labelled set: sizes, elements, charges, kinds, labels and their spreads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Float

from heliodor.errors import InputError
from heliodor.train.dataset import Dataset
from heliodor.train.references import fit_references

PERCENTILES = (50, 90, 99, 99.9, 100)
LABELS = ("energy", "forces", "stress", "dipole", "hirshfeld_ratios", "charges", "node_energies")
UNITS = {"energy": "eV", "forces": "eV/Å", "stress": "eV/Å³", "dipole": "e·Å", "charges": "e", "node_energies": "eV"}


@dataclass(frozen=True, eq=False)
class SetStatistics:
    """Of S structures, M of which have energies, K of whose atoms have forces.

    Attributes:
        elements: number of atoms, by symbol.
        charges, spins: number of structures, by charge and unpaired electrons.
        kinds: number of structures, by kind.
        groups: number of group words.
        sizes: atoms of each structure.
        labels: structures or atoms that have a label, mean and standard deviation (over components), by label.
        force_percentiles: eV/Å, of the lengths of forces, by percentile.
        residual: eV per atom, energies less what the composition says (least squares).
        force_norms: eV/Å.
    """

    structures: int
    atoms: int
    periodic: int
    method: str
    elements: Mapping[str, int]
    charges: Mapping[str, int]
    spins: Mapping[str, int]
    kinds: Mapping[str, int]
    groups: int
    sizes: np.ndarray
    labels: Mapping[str, tuple[int, float, float]]
    force_percentiles: Mapping[str, float]
    residual: Float[np.ndarray, "M"]
    force_norms: Float[np.ndarray, "K"]

    @property
    def residual_rms(self) -> float:
        """eV per atom; NaN without energies."""
        return float(np.sqrt(np.mean(self.residual**2))) if len(self.residual) else float("nan")

    def lines(self) -> list[tuple[str, str]]:
        """Titles and texts of a table."""
        low, middle, high = np.percentile(self.sizes, [0, 50, 100])
        out = [
            ("structures", f"{self.structures}, {self.periodic} of them periodic, in {self.groups} groups"),
            ("atoms", f"{self.atoms}; {low:g} to {high:g} a structure, median {middle:g}"),
            ("elements", _counts(self.elements)),
            ("charges", _counts(self.charges)),
            ("unpaired", _counts(self.spins)),
            ("kinds", _counts(self.kinds)),
            ("method", self.method or "not stated"),
        ]
        for name, (count, mean, spread) in self.labels.items():
            out.append((name, f"{count} labels, mean {mean:.6g}, spread {spread:.4g} {UNITS.get(name, '')}".rstrip()))
        if self.force_percentiles:
            listed = ", ".join(f"{p}%: {value:.3g}" for p, value in self.force_percentiles.items())
            out.append(("|force|", f"{listed} eV/Å"))
        if len(self.residual):
            out.append(("residual", f"{self.residual_rms * 1000.0:.4g} meV an atom (rms) beyond composition"))
        return out

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "structures": self.structures,
            "atoms": self.atoms,
            "periodic": self.periodic,
            "groups": self.groups,
            "method": self.method,
            "elements": dict(self.elements),
            "charges": dict(self.charges),
            "spins": dict(self.spins),
            "kinds": dict(self.kinds),
            "labels": {n: {"count": c, "mean": m, "spread": s} for n, (c, m, s) in self.labels.items()},
            "force_percentiles": dict(self.force_percentiles),
            "residual_per_atom": self.residual_rms,
        }


def describe_set(data: Dataset) -> SetStatistics:
    """Count and measure.

    Raises:
        InputError: no structures.
    """
    if len(data) == 0:
        raise InputError("the data set is empty")
    z, n = np.unique(data.numbers, return_counts=True)
    labels: dict[str, tuple[int, float, float]] = {}
    for name in LABELS:
        values = np.asarray(getattr(data, name))
        rows = values.reshape(len(values), -1)
        known = np.isfinite(rows).all(1)
        if known.any():
            labels[name] = (int(known.sum()), float(rows[known].mean()), float(rows[known].std()))
    norms = np.empty(0)
    if "forces" in labels:
        norms = np.linalg.norm(data.forces, axis=1)
        norms = norms[np.isfinite(norms)]
    residual = np.empty(0)
    if "energy" in labels:
        known = np.flatnonzero(np.isfinite(data.energy))
        some = data if len(known) == len(data) else data.take(known)
        residual = (some.energy - fit_references(some).sums(some)) / some.counts
    groups = np.unique(np.asarray(data.group).astype(str))
    return SetStatistics(
        structures=len(data),
        atoms=int(data.offsets[-1]),
        periodic=int(data.pbc.any(1).sum()),
        method=data.method,
        elements={chemical_symbols[int(a)]: int(b) for a, b in zip(z, n, strict=True)},
        charges=_table(data.charge),
        spins=_table(data.spin),
        kinds=_table(np.asarray(data.kind).astype(str)),
        groups=int((groups != "").sum()),
        sizes=data.counts,
        labels=labels,
        force_percentiles={f"{p:g}": float(np.percentile(norms, p)) for p in PERCENTILES} if len(norms) else {},
        residual=residual,
        force_norms=norms,
    )


def draw_set(statistics: SetStatistics, path: str | Path) -> None:
    """A PNG with histograms of sizes, elements, forces, and energies beyond composition.

    Raises:
        InputError: it cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 7.0), layout="constrained")
    axes = figure.subplots(2, 2)
    axes[0, 0].hist(statistics.sizes, bins=min(60, max(1, len(np.unique(statistics.sizes)))))
    axes[0, 0].set(xlabel="atoms of a structure", ylabel="structures")
    axes[0, 1].bar(list(statistics.elements), list(statistics.elements.values()))
    axes[0, 1].set(xlabel="element", ylabel="atoms", yscale="log")
    for axis, values, label, what in (
        (axes[1, 0], statistics.force_norms, "|force| (eV/Å)", "atoms"),
        (axes[1, 1], 1000.0 * statistics.residual, "energy beyond composition (meV/atom)", "structures"),
    ):
        if len(values):
            axis.hist(values, bins=80)
            axis.set(xlabel=label, ylabel=what, yscale="log")
        else:
            axis.set_axis_off()
            axis.text(0.5, 0.5, f"no {label.split(' (')[0]}", ha="center")
    try:
        figure.savefig(path, dpi=120, format="png")
    except OSError as error:
        raise InputError(f"{path} could not be written: {error.strerror or error}") from None


def _table(values: np.ndarray) -> dict[str, int]:
    words, counts = np.unique(values, return_counts=True)
    plain = [f"{word:g}" if isinstance(word, float) else str(word) for word in words.tolist()]
    return {word or "(none)": int(count) for word, count in zip(plain, counts, strict=True)}


def _counts(table: Mapping[str, int]) -> str:
    listed = [f"{name} {count}" for name, count in list(table.items())[:20]]
    return ", ".join(listed) + (" ..." if len(table) > 20 else "")
