"""Alanine dipeptide in vacuum: φ, ψ by well-tempered metadynamics against umbrella sampling with MBAR.

    python benchmarks/alanine_metad.py --output alanine --metad 400 --umbrella 12

Both are gone on with where they were killed: the same command again. The umbrellas know nothing of OpenMM or of
metadynamics: a batch of 144 windows (30° apart in φ and ψ) in heliodor's own Langevin dynamics, analysed by pymbar
(Shirts & Chodera, J. Chem. Phys. 129, 124105 (2008)). Results: alanine_metad.json and .png in the folder, and on the
screen: free energies of basins both ways with standard errors, and how far the surfaces are apart.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch

import heliodor
from heliodor.analysis.proteins.backbone import dihedrals
from heliodor.analysis.proteins.couplings import coupling
from heliodor.cli import main as command
from heliodor.dynamics import MDState, Restrained, init, langevin_step, minimize
from heliodor.dynamics.files.restart import load_state, save_state
from heliodor.dynamics.restraints.kinds import DihedralRestraint
from heliodor.metadynamics import Result, Settings, Variable, metadynamics, phi_psi, reweighted_couplings
from heliodor.metadynamics.averages import jackknife
from heliodor.metadynamics.grids import between, inside
from heliodor.scan.geometry import bonds_of, changed_bond
from heliodor.system import System
from heliodor.units import BOLTZMANN, KCAL_PER_MOL

TEMPERATURE = 300.0
KT = BOLTZMANN * TEMPERATURE
WINDOWS = 12
"""Along each angle."""
STIFFNESS = 0.6
"""eV/rad²."""
EVERY, EQUILIBRATION, BLOCKS = 100, 2.0, 5
"""fs between samples; ps left out of each window; blocks of time for errors."""
PULLS, PULL_STEPS = 40, 1200
"""Places of the springs on the way to their windows, and steps in all."""


def structure(folder: Path) -> ase.Atoms:
    path = folder / "alanine.xyz"
    if not path.exists():
        assert command(["prepare", "peptide", "ACE-ALA-NME", "--output", str(folder / "alanine")]) == 0
    atoms = ase.io.read(path)
    assert isinstance(atoms, ase.Atoms)
    return atoms


def biased(folder: Path, atoms: ase.Atoms, potential: heliodor.Potential, picoseconds: float) -> Result:
    settings = Settings(
        time=picoseconds * 1000.0,
        timestep=1.0,
        temperature=TEMPERATURE,
        friction=5.0,
        height=0.02,
        bias_factor=10.0,
        stride=100.0,
        save_every=100.0,
        checkpoint_every=2000.0,
        seed=1,
    )
    told = time.monotonic()

    def tell(done: int, total: int, words: str) -> None:
        nonlocal told
        if time.monotonic() - told > 60.0:
            told = time.monotonic()
            print(f"metadynamics: {done} of {total} Gaussians, {words}", flush=True)

    restart = (folder / "metad.restart").exists()
    variables = phi_psi(atoms, 1, width=20.0)
    return metadynamics(
        potential, atoms, variables, settings, output=folder / "metad.h5", restart=restart, progress=tell
    )


def pulled(
    atoms: ase.Atoms, potential: heliodor.Potential, variables: tuple[Variable, ...], centers: np.ndarray
) -> MDState:
    """A copy for each window, its angles pulled the short way from those of the structure: turned rigidly, atoms would
    sit in each other."""
    frames = [atoms] * len(centers)
    system = System.from_atoms(frames)
    start = np.array([v.measure(atoms) for v in variables])
    way = (centers - start + 180.0) % 360.0 - 180.0
    state: MDState | None = None
    for k in range(1, PULLS + 1):
        restrained = Restrained(potential, springs_at(variables, start + way * k / PULLS), system)
        if state is None:
            system = minimize(system, restrained, fmax=0.3, max_steps=100).system
            state = init(system, restrained, temperature=TEMPERATURE, seed=2, rotating=True)
        for _ in range(PULL_STEPS // PULLS):
            state = langevin_step(state, restrained, 1.0, temperature=TEMPERATURE, friction=10.0)
    assert state is not None
    return state.replace(step=0, time=0.0)


def springs_at(variables: tuple[Variable, ...], centers: np.ndarray) -> list[DihedralRestraint]:
    return [
        DihedralRestraint(v.atoms, float(center[k]), STIFFNESS, structure=w)
        for w, center in enumerate((centers + 180.0) % 360.0 - 180.0)
        for k, v in enumerate(variables)
    ]


def umbrellas(
    folder: Path, atoms: ase.Atoms, potential: heliodor.Potential, variables: tuple[Variable, ...], picoseconds: float
) -> tuple[np.ndarray, np.ndarray]:
    """Samples [T, W, 2] in degrees after equilibration, and centres [W, 2], of windows whose molecule stayed whole."""
    angles = -180.0 + 360.0 / WINDOWS * np.arange(WINDOWS)
    centers = np.array([(a, b) for a in angles for b in angles])
    system = System.from_atoms([atoms] * len(centers))
    restrained = Restrained(potential, springs_at(variables, centers), system)
    kept, table = folder / "umbrella.restart", folder / "umbrella.npz"
    if kept.exists():
        state, _ = load_state(kept)
        samples = list(np.load(table)["samples"][: state.step // EVERY]) if table.exists() else []
    else:
        state = pulled(atoms, potential, variables, centers)
        samples = []
        save_state(kept, state, {})
    quads = np.array([v.atoms for v in variables])
    began, first, told = time.monotonic(), state.step, 0.0
    steps = round(picoseconds * 1000.0)
    while state.step < steps:
        state = langevin_step(state, restrained, 1.0, temperature=TEMPERATURE, friction=5.0)
        if state.step % EVERY == 0:
            positions = state.system.positions.numpy().reshape(len(centers), len(atoms), 3)
            samples.append(dihedrals(positions, quads))
        if state.step % (5 * EVERY) == 0 or state.step == steps:
            # samples first: those beyond the state are cut off when they are read
            np.savez(folder / "umbrella.part.npz", samples=np.array(samples))
            (folder / "umbrella.part.npz").replace(table)
            save_state(kept, state, {})
        if time.monotonic() - told > 60.0:
            told = time.monotonic()
            each = (told - began) / max(1, state.step - first)
            print(f"umbrellas: {state.step} of {steps} steps, {1e3 * each:.0f} ms each", flush=True)
    bonds = bonds_of(atoms)
    whole = []
    for w, frame in enumerate(state.system.to_atoms()):
        said = changed_bond(frame, bonds)
        if said is None:
            whole.append(w)
        else:
            print(f"window {centers[w]} is left out: {said}", flush=True)
    late = np.array(samples)[round(min(EQUILIBRATION, 0.3 * picoseconds) * 1000.0 / EVERY) :]
    return late[:, whole], centers[whole]


def log_weights(samples: np.ndarray, centers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By MBAR: samples of all windows [N, 2] and the logarithms of their weights without springs."""
    from pymbar import MBAR

    steps, count = samples.shape[:2]
    values = samples.transpose(1, 0, 2).reshape(-1, 2)
    apart = np.radians((values[None] - centers[:, None] + 180.0) % 360.0 - 180.0)
    reduced = 0.5 * STIFFNESS / KT * (apart**2).sum(-1)
    mbar = MBAR(reduced, np.full(count, steps), relative_tolerance=1e-7, solver_protocol="robust")
    exponents = mbar.f_k[:, None] - reduced + np.log(steps)
    most = exponents.max(0)
    found = -(most + np.log(np.exp(exponents - most).sum(0)))
    return values, found - found.max()


def basin_energies(labels: np.ndarray, result: Result, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Free energies of the metadynamics' basins over the first, eV."""
    index = []
    for k, v in enumerate(result.samples.variables):
        grid = v.grid
        along = np.rint((values[:, k] - grid[0]) / (grid[1] - grid[0])).astype(int)
        index.append(along % (len(grid) - 1))
    inner = np.bincount(labels[tuple(index)], np.exp(weights), labels.max() + 1)
    with np.errstate(divide="ignore"):
        return -KT * np.log(inner / inner[0])


def histogram(values: np.ndarray, weights: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """F in eV on the bins of the metadynamics' surface; NaN where nothing is."""
    inner, _, _ = np.histogram2d(values[:, 0], values[:, 1], bins=[edges, edges], weights=np.exp(weights))
    with np.errstate(divide="ignore"):
        found = -KT * np.log(inner / inner.sum())
    found[~np.isfinite(found)] = np.nan
    return found


def compared(result: Result, samples: np.ndarray, centers: np.ndarray) -> dict[str, Any]:
    assert result.surface is not None and result.basins is not None
    surface, basins = result.surface, result.basins
    values, weights = log_weights(samples, centers)
    parts = np.array_split(np.arange(len(samples)), BLOCKS)
    of_rest = [log_weights(np.delete(samples, part, axis=0), centers) for part in parts]
    umbrella = basin_energies(basins.labels, result, values, weights)
    umbrella_error = jackknife(np.array([basin_energies(basins.labels, result, *one) for one in of_rest]))
    edges = result.samples.variables[0].edges
    reference = histogram(values, weights, edges)
    errors = jackknife(np.array([histogram(*one, edges) for one in of_rest]))
    rows = []
    for k in range(len(basins)):
        gap = basins.difference[k] - umbrella[k]
        both = float(np.hypot(basins.error[k], umbrella_error[k]))
        rows.append(
            {
                "phi_psi": basins.places[k].tolist(),
                "metadynamics": basins.difference[k] / KCAL_PER_MOL,
                "metadynamics_error": basins.error[k] / KCAL_PER_MOL,
                "from_bias": basins.from_bias[k] / KCAL_PER_MOL,
                "umbrella": umbrella[k] / KCAL_PER_MOL,
                "umbrella_error": umbrella_error[k] / KCAL_PER_MOL,
                "sigmas": gap / both if both > 0.0 else 0.0,
            }
        )
    low = (reference - np.nanmin(reference) < 5.0 * KCAL_PER_MOL) & np.isfinite(surface.reweighted)
    found: dict[str, Any] = {"basins": rows}
    for name, other in (("from_bias", surface.from_bias), ("reweighted", surface.reweighted)):
        apart = (other - reference)[low] / KCAL_PER_MOL
        apart -= apart.mean()
        found[f"surface_rmsd_{name}"] = float(np.sqrt((apart**2).mean()))
    sigma = np.hypot(surface.error, errors)[low] / KCAL_PER_MOL
    found["surface_expected_rmsd"] = float(np.sqrt(np.nanmean(sigma**2)))
    found["bins_below_5_kcal"] = int(low.sum())
    weight = np.exp(weights)
    found["J_hn_ha_umbrella"] = float((coupling("hn_ha", values[:, 0]) * weight).sum() / weight.sum())
    found["J_hn_ha_metadynamics"] = reweighted_couplings(result).get(("ALA 1", "hn_ha"))
    draw(result, reference, found, surface)
    return found


def draw(result: Result, reference: np.ndarray, found: dict[str, Any], surface: Any) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    there = inside(result.samples.variables)
    grid = result.samples.variables[0].grid[there[0]]
    fine = np.stack([a.ravel() for a in np.meshgrid(grid, grid, indexing="ij")], -1)
    smooth = between(result.samples.variables, result.samples.free_energy(), fine).reshape(len(grid), -1)
    x = surface.centers[0]
    for axes, centers, values, title in zip(
        figure.subplots(1, 2),
        (grid, x),
        (smooth, reference - np.nanmin(reference)),
        ("metadynamics, from the bias", "umbrella sampling, MBAR"),
        strict=True,
    ):
        drawn = axes.contourf(centers, centers, values.T / KCAL_PER_MOL, levels=np.arange(0.0, 13.0), cmap="viridis")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("φ (°)")
        axes.set_ylabel("ψ (°)")
        for k, row in enumerate(found["basins"]):
            axes.annotate(str(k + 1), row["phi_psi"], color="white", ha="center", va="center")
    figure.colorbar(drawn, label="kcal/mol")
    figure.savefig(result.files.trajectory.with_name("alanine_metad.png"), dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("alanine_metad"))
    parser.add_argument("--model", default="heliodor-s")
    parser.add_argument("--metad", type=float, default=400.0, help="ps of metadynamics")
    parser.add_argument("--umbrella", type=float, default=12.0, help="ps of each of the 144 windows")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(args.threads)
    args.output.mkdir(parents=True, exist_ok=True)
    atoms = structure(args.output)
    potential = heliodor.load(args.model, device="cpu")
    began = time.monotonic()
    result = biased(args.output, atoms, potential, args.metad)
    between_stages = time.monotonic()
    samples, centers = umbrellas(args.output, atoms, potential, result.samples.variables, args.umbrella)
    if result.basins is None:
        raise SystemExit("the metadynamics is too short for errors")
    found = compared(result, samples, centers)
    found |= {
        "model": args.model,
        "metadynamics_ps": args.metad,
        "umbrella_ps": args.umbrella * len(centers),
        "seconds": [between_stages - began, time.monotonic() - between_stages],
    }
    (args.output / "alanine_metad.json").write_text(json.dumps(found, indent=1))
    print("basin    φ     ψ    metadynamics       from bias  umbrella          σ apart   (kcal/mol)")
    for k, row in enumerate(found["basins"]):
        phi, psi = row["phi_psi"]
        print(
            f"{k + 1:>3} {phi:>7.0f} {psi:>5.0f}   {row['metadynamics']:6.2f} ± {row['metadynamics_error']:4.2f}   "
            f"{row['from_bias']:8.2f}   {row['umbrella']:6.2f} ± {row['umbrella_error']:4.2f}   {row['sigmas']:+5.1f}"
        )
    for key, value in found.items():
        if key != "basins":
            print(f"{key}: {value}")


if __name__ == "__main__":
    main()
