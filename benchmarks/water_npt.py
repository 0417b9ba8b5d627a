"""Water at constant pressure with a machine-learned potential: density, its error, and whether the ensemble is right.

Boxes run side by side in one batch, at (T, P), (T, P + dP) and, if asked, (T + dT, P). The first gives the density; the
ratio of the distributions of volume between them must be what statistical mechanics says (M. R. Shirts, J. Chem. Theory
Comput. 9, 909 (2013)), which tests barostat and thermostat without knowing anything of the model.

    python benchmarks/water_npt.py --model heliodor-mini --minutes 60 --output water_npt.json

Stopped or killed, the same command goes on where it was. Masses of hydrogen are repartitioned (3 amu): averages over
positions and volumes do not depend on masses, and the timestep can be 1.5 fs.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import ase.io
import numpy as np
import torch

import heliodor
from heliodor.analysis.settling import settled
from heliodor.dynamics.constraints.masses import repartition
from heliodor.dynamics.files.restart import load_state, save_state
from heliodor.dynamics.relax.minimize import minimize
from heliodor.dynamics.state import conserved, init, kinetic_energy, temperature
from heliodor.dynamics.steps.cell_rescaling import cell_rescaling_step
from heliodor.dynamics.steps.mtk import mtk_step
from heliodor.dynamics.steps.pressure import Barostat
from heliodor.system import System
from heliodor.units import BAR, BOLTZMANN, GRAM_PER_CM3

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ("potential_eV", "kinetic_eV", "volume_A3", "temperature_K", "conserved_eV")


def main() -> None:
    options = arguments()
    rows_file, state_file = options.output.with_suffix(".npy"), options.output.with_suffix(".restart")
    points = [(options.temperature, options.pressure), (options.temperature, options.pressure + options.higher)]
    points += [(options.temperature + options.warmer, options.pressure)] if options.warmer else []
    heats = torch.tensor([heat for heat, _ in points]).double()
    pressures = BAR * torch.tensor([[pressure] * 3 for _, pressure in points]).double()
    potential = heliodor.load(options.model)
    barostat = Barostat(pressures, time_constant=options.barostat_time)
    if state_file.exists():
        state, extra = load_state(state_file)
        rows = list(np.load(rows_file)[: extra["rows"]])
    else:
        state, rows = start(options, potential, heats), []

    begin, n = time.perf_counter(), len(rows)
    while time.perf_counter() - begin < 60.0 * options.minutes:
        for _ in range(options.every):
            if options.barostat == "scr":
                state = cell_rescaling_step(
                    state, potential, options.timestep, temperature=heats, barostat=barostat, friction=1.0
                )
            else:
                state = mtk_step(
                    state, potential, options.timestep, temperature=heats, barostat=barostat, time_constant=100.0
                )
        row = (state.energy, kinetic_energy(state), state.system.volume, temperature(state), conserved(state))
        rows.append(torch.stack(row).numpy())
        if len(rows) % 50 == 0:
            np.save(rows_file, np.stack(rows))
            save_state(state_file, state, {"rows": len(rows)})
            each = (time.perf_counter() - begin) / ((len(rows) - n) * options.every)
            density = float(state.masses.sum() / len(points)) / np.stack(rows)[-200:, 2].mean(0) / GRAM_PER_CM3
            print(f"{state.time / 1e3:8.2f} ps  {1e3 * each:6.1f} ms/step  g/cm3 {density.round(4)}", flush=True)
    np.save(rows_file, np.stack(rows))
    save_state(state_file, state, {"rows": len(rows)})
    masses = torch.zeros(len(points), dtype=torch.float64).index_add(0, state.system.batch, state.masses)
    summary(np.stack(rows), points, options, float(masses[0]), int(state.degrees_of_freedom[0]))


def summary(rows: np.ndarray, points: list, options: argparse.Namespace, mass: float, free: int) -> None:
    """Density with its error, the ensemble ratio between the state points, a picture."""
    time_ps = 1e-3 * options.timestep * options.every * np.arange(1, len(rows) + 1)
    density = mass / rows[:, 2] / GRAM_PER_CM3
    found = {"model": options.model, "barostat": options.barostat, "ps": float(time_ps[-1]), "points": []}
    for k, (heat, bar) in enumerate(points):
        judged = settled(time_ps, density[:, k], "density", "g/cm³")
        late = time_ps >= judged.start
        entry = {"temperature_K": heat, "pressure_bar": bar, "density": vars(judged)}
        entry["mean_temperature_K"] = float(rows[late, 3, k].mean())
        slope = np.polyfit(time_ps, 1e3 * rows[:, 4, k] / (free / 3 + 1), 1)[0]
        entry["conserved_drift_meV_per_atom_ps"] = float(slope)
        found["points"].append(entry)
        print(
            f"{heat:g} K, {bar:g} bar: {judged.words}; {entry['mean_temperature_K']:.1f} K, "
            f"drift {slope:+.4f} meV/atom/ps"
        )
    found["ensemble"] = ratios(rows, points, time_ps, found["points"], free)
    for name, deviation in found["ensemble"].items():
        print(f"ensemble ratio {name}: {deviation}")
    options.output.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    picture(time_ps, density, points, options)


def ratios(rows: np.ndarray, points: list, time_ps: np.ndarray, judged: list, free: int) -> dict:
    """Differences of pressure that the volumes themselves tell, bar, with errors, against those that were set.

    At one temperature p2(V)/p1(V) = c exp(-(P2 - P1)V/kT) whatever the model is: the maximum-likelihood estimate of the
    slope (Shirts 2013, equation 21; a logistic regression), its error from resampling blocks of a tenth of the run.
    """
    late = time_ps >= max(entry["density"]["start"] for entry in judged)
    found, random = {}, np.random.default_rng(1)
    for k in range(1, len(points)):
        if points[k][0] != points[0][0]:
            continue
        pair = rows[late, 2, 0], rows[late, 2, k]
        blocks = [np.array_split(volumes, 10) for volumes in pair]
        again = [
            _slope(*(np.concatenate([side[i] for i in random.integers(0, 10, 10)]) for side in blocks))
            for _ in range(200)
        ]
        factor = BOLTZMANN * points[0][0] / BAR
        found[f"{points[k][1]:g} - {points[0][1]:g} bar"] = {
            "told by the volumes": factor * _slope(*pair),
            "error": factor * float(np.std(again)),
            "set": points[k][1] - points[0][1],
        }
    return found


def _slope(first: np.ndarray, second: np.ndarray) -> float:
    """-d/dV of the logarithm of the ratio of densities of two samples, by Newton's method."""
    volumes = np.concatenate([first, second])
    center, spread = volumes.mean(), volumes.std()
    x = np.stack([np.ones_like(volumes), (volumes - center) / spread], 1)
    y = np.concatenate([np.zeros(len(first)), np.ones(len(second))])
    beta = np.zeros(2)
    for _ in range(30):
        p = 1.0 / (1.0 + np.exp(-x @ beta))
        beta = beta + np.linalg.solve((x * (p * (1.0 - p))[:, None]).T @ x, x.T @ (y - p))
    return float(-beta[1] / spread)


def picture(time_ps: np.ndarray, density: np.ndarray, points: list, options: argparse.Namespace) -> None:
    """Density against time, and its distributions."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 1])
    for k, (heat, bar) in enumerate(points):
        left.plot(time_ps, density[:, k], lw=0.7, label=f"{heat:g} K, {bar:g} bar")
        right.hist(density[len(density) // 5 :, k], bins=40, orientation="horizontal", histtype="step", density=True)
    left.set_xlabel("time (ps)")
    left.set_ylabel("density (g/cm³)")
    left.set_title(f"water, {options.model}", fontsize=10)
    right.set_xlabel("probability density")
    left.legend(fontsize=8)
    figure.savefig(options.output.with_suffix(".png"), dpi=130)


def start(options: argparse.Namespace, potential: heliodor.Potential, heats: torch.Tensor):
    """Relaxed copies of the box with velocities."""
    atoms = ase.io.read(options.structure)
    copies = len(heats)
    system = System.from_atoms([atoms] * copies)
    masses = torch.as_tensor(np.tile(atoms.get_masses(), copies))
    masses = repartition(system, masses, 3.0)
    relaxed = minimize(System.from_atoms(atoms), potential, fmax=0.2, max_steps=150).system.positions
    system = system.replace(positions=relaxed.repeat(copies, 1))
    return init(system, potential, temperature=2 * heats, seed=1, masses=masses, rotating=True, virial=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="heliodor-mini")
    parser.add_argument("--structure", default=ROOT / "examples" / "water_64.xyz")
    parser.add_argument("--barostat", choices=("scr", "mtk"), default="scr")
    parser.add_argument("--temperature", type=float, default=300.0, help="K")
    parser.add_argument("--pressure", type=float, default=1.0, help="bar")
    parser.add_argument("--warmer", type=float, default=0.0, help="K")
    parser.add_argument("--higher", type=float, default=1400.0, help="bar")
    parser.add_argument("--barostat-time", type=float, default=500.0, help="fs")
    parser.add_argument("--timestep", type=float, default=1.5, help="fs")
    parser.add_argument("--every", type=int, default=10, help="steps between samples")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--output", type=Path, default=Path("water_npt.json"))
    return parser.parse_args()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
