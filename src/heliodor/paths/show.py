"""What runs are shown as: one after the other in the same panels, such as quantum and classical ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from heliodor.analysis.show import Axis, Curve, Panel, Shown
from heliodor.analysis.spectra.welch import HANN_WIDTH, LIGHT, Spectrum
from heliodor.paths.distances import bead_radial, bond_lengths
from heliodor.paths.quantum import by_element
from heliodor.paths.result import PathResult
from heliodor.paths.spectra import infrared
from heliodor.paths.summary import SKIP, settled
from heliodor.units import BOLTZMANN

Runs = Mapping[str, PathResult]

HIGHEST = 4500.0
"""cm⁻¹, end of the axis."""

SEVERAL_BLOCKS = 10
"""Fewer than these, and strengths of lines (whose energies have a standard deviation of kT) are off by a third."""

PANELS = 6
"""Kinds of bonds or pairs drawn at most."""


def show_course(runs: Runs) -> Shown:
    """Temperature, kinetic energies and conserved quantity against time."""
    panels = []
    for name, label, unit in (
        ("temperature", "temperature", "K"),
        ("kinetic_virial", "quantum kinetic energy, centroid virial", "eV"),
        ("conserved", "conserved quantity, less its first value", "eV"),
    ):
        curves = []
        for run, result in runs.items():
            values = result.properties[name]
            curves.append(Curve(run, 1e-3 * result.time, values - values[0] if name == "conserved" else values))
        panels.append(Panel(label, Axis("time", "ps"), Axis(label, unit), tuple(curves)))
    return Shown("course", "Course of the run", tuple(panels))


def show_kinetic(runs: Runs, skip: float = SKIP) -> Shown:
    """Mean kinetic energy of an atom of each element."""
    curves, tables = [], {}
    first = next(iter(runs.values()))
    symbols = list(dict.fromkeys(first.atoms.get_chemical_symbols()))
    for run, result in runs.items():
        found = by_element(result.atoms, result.kinetic_atoms[settled(result, skip)])
        mean = 1e3 * np.array([found[s][0] for s in symbols])
        error = 1e3 * np.array([found[s][1] or 0.0 for s in symbols])
        x = np.array([result.atoms.get_masses()[result.atoms.symbols == s].mean() for s in symbols])
        curves.append(Curve(run, x, mean, mean - error, mean + error, "points"))
        tables[run] = {"element": np.array(symbols), "kinetic_meV": mean, "error_meV": error}
    limit = 1.5e3 * BOLTZMANN * first.settings.temperature
    ends = np.array([0.5, 1.1 * float(first.atoms.get_masses().max())])
    curves.append(Curve("3/2 kT", ends, np.full(2, limit), style="dashed"))
    title = f"elements {', '.join(symbols)}, by their mass"
    panel = Panel(title, Axis("mass", "amu", log=True), Axis("kinetic energy of an atom", "meV", 0.0), tuple(curves))
    note = "Centroid-virial estimator, by atom; bars are standard errors."
    return Shown("kinetic", "Kinetic energies of nuclei", (panel,), notes=(note,), tables=tables)


def show_bonds(runs: Runs, skip: float = SKIP) -> Shown:
    """How lengths of bonds are spread, over all beads."""
    lengths = {run: bond_lengths(result, skip) for run, result in runs.items()}
    panels, tables = [], {}
    for name in list(next(iter(lengths.values())))[:PANELS]:
        both = np.concatenate([found[name] for found in lengths.values()])
        edges = np.linspace(both.min(), both.max() + 1e-9, 81)
        middle = 0.5 * (edges[1:] + edges[:-1])
        heights = {run: np.histogram(found[name], edges, density=True)[0] for run, found in lengths.items()}
        curves = tuple(Curve(run, middle, height, style="steps") for run, height in heights.items())
        panels.append(Panel(name, Axis("bond length", "Å"), Axis("probability density", "1/Å", 0.0), curves))
        tables[name] = {"r_A": middle} | {f"{run}_per_A": height for run, height in heights.items()}
    return Shown("bonds", "Bond lengths over all beads", tuple(panels), tables=tables)


def show_radial(runs: Runs, folder: Path, pairs: str | None = None, skip: float = SKIP) -> Shown:
    """Radial distribution functions over all beads, pairs within molecules included."""
    found = {run: bead_radial(r, folder / f"beads-{run}.xyz", pairs, skip) for run, r in runs.items()}
    panels, tables = [], {}
    for k, first in enumerate(next(iter(found.values()))):
        curves = []
        for run, radial in found.items():
            g = radial[k]
            curves.append(Curve(run, g.r, g.g, g.g - g.error, g.g + g.error))
            tables[f"{first.name}-{run}"] = {"r_A": g.r, "g": g.g, "error": g.error}
        # the peaks within molecules would hide all else
        beyond = np.concatenate([c.y[c.x > 1.9] for c in curves]) if first.r[-1] > 2.0 else first.g
        panels.append(
            Panel(first.name, Axis("r", "Å"), Axis("g(r)", "", 0.0, 2.0 * float(beyond.max())), tuple(curves))
        )
    return Shown("rdf", "Radial distribution functions over all beads", tuple(panels), tables=tables)


def show_infrared(runs: Runs, resolution: float | None = None, skip: float = SKIP) -> Shown:
    """Absorption, at one resolution for all runs."""
    if resolution is None:
        spectra = {run: infrared(result, None, skip) for run, result in runs.items()}
        widest = max(found.resolution for found in spectra.values())
        resolution = widest * (1.0 + 1e-9)
    spectra = {run: infrared(result, resolution, skip) for run, result in runs.items()}
    curves, tables = [], {}
    for run, found in spectra.items():
        low, high = found.intensity - found.error, found.intensity + found.error
        curves.append(Curve(run, found.wavenumber, found.intensity, low, high))
        tables[run] = {"wavenumber_per_cm": found.wavenumber, "absorption_km_per_mol_cm": found.intensity}
    top = min(HIGHEST, *(float(found.wavenumber[-1]) for found in spectra.values()))
    title = f"from the dipole along the run; lines {resolution:.3g} cm⁻¹ wide"
    axes = (Axis("wavenumber", "cm⁻¹", 0.0, top), Axis("absorption", "km/mol per cm⁻¹", 0.0))
    panel = Panel(title, *axes, tuple(curves))
    notes = tuple(
        f"infrared, {run}: {found.blocks} block{'s' if found.blocks > 1 else ''} of {1e-3 * _span(found):.2g} ps, in "
        "which a vibration has any energy from none to several kT: trust positions of lines, not their strengths"
        for run, found in spectra.items()
        if found.blocks < SEVERAL_BLOCKS
    )
    return Shown("infrared", "Infrared spectrum", (panel,), notes=notes, tables=tables)


def _span(spectrum: Spectrum) -> float:
    """fs, of a block."""
    return HANN_WIDTH / (LIGHT * spectrum.resolution)
