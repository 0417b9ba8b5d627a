"""How well each kind of dynamics keeps its conserved quantity, over a long run: drift and noise against the timestep.

    python benchmarks/conserved.py --time 1000 --output conserved.json       (1 ns of liquid argon, some minutes a row)

Argon because a nanosecond of it is affordable anywhere; what is tested are the integrators, not the potential. The
drift is the slope of a straight line through the conserved quantity, with the error that its correlation leaves.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from heliodor.dynamics.state import conserved, init
from heliodor.dynamics.steps.cell_rescaling import cell_rescaling_step
from heliodor.dynamics.steps.integrators import nve_step
from heliodor.dynamics.steps.langevin import langevin_step
from heliodor.dynamics.steps.mtk import mtk_step
from heliodor.dynamics.steps.nose_hoover import nose_hoover_step
from heliodor.dynamics.steps.pressure import Barostat
from heliodor.dynamics.steps.rescaling import csvr_step
from heliodor.system import System
from heliodor.units import BAR

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "dynamics"))
from toys import LennardJones, argon_box

TEMPERATURE = 90.0


def kinds() -> dict:
    """Step functions by name."""
    barostat = Barostat(torch.full((1, 3), 100 * BAR, dtype=torch.float64), time_constant=1000.0)
    hot = {"temperature": TEMPERATURE}
    return {
        "nve": lambda s, p, dt: nve_step(s, p, dt),
        "langevin": lambda s, p, dt: langevin_step(s, p, dt, friction=1.0, **hot),
        "csvr": lambda s, p, dt: csvr_step(s, p, dt, time_constant=200.0, **hot),
        "nose-hoover": lambda s, p, dt: nose_hoover_step(s, p, dt, time_constant=200.0, **hot),
        "scr": lambda s, p, dt: cell_rescaling_step(s, p, dt, barostat=barostat, friction=1.0, **hot),
        "mtk": lambda s, p, dt: mtk_step(s, p, dt, barostat=barostat, time_constant=200.0, **hot),
        "nph": lambda s, p, dt: mtk_step(s, p, dt, barostat=barostat, time_constant=None, **hot),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", type=float, default=1000.0, help="ps")
    parser.add_argument("--timesteps", type=float, nargs="+", default=[4.0], help="fs")
    parser.add_argument("--kinds", nargs="+", default=list(kinds()))
    parser.add_argument("--output", type=Path, default=Path("conserved.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    potential = LennardJones(cutoff=6.0).requires_grad_(False)
    found = []
    for name in options.kinds:
        for dt in options.timesteps:
            step = kinds()[name]
            state = init(
                System.from_atoms(argon_box(4, 3.85)),
                potential,
                temperature=TEMPERATURE,
                seed=1,
                virial=True,
                rotating=name in ("langevin", "scr"),
            )
            begin, values = time.perf_counter(), []
            steps = round(1e3 * options.time / dt)
            for n in range(steps):
                state = step(state, potential, dt)
                if n % 25 == 24:
                    values.append(float(conserved(state)))
            series = 1e3 * np.array(values) / state.system.n_atoms
            t = np.arange(len(series)) * 25e-6 * dt
            slope, offset = np.polyfit(t, series, 1)
            noise = float((series - slope * t - offset).std())
            # blocks of a twentieth of the run
            blocks = np.array([part.mean() for part in np.array_split(series - slope * t - offset, 20)])
            error = float(blocks.std(ddof=1) * (12 / 20) ** 0.5 / t[-1])
            row = {
                "kind": name,
                "timestep_fs": dt,
                "ps": options.time,
                "drift_meV_per_atom_ns": float(slope),
                "error": error,
                "noise_meV_per_atom": noise,
                "seconds": time.perf_counter() - begin,
            }
            found.append(row)
            print(
                f"{name:12s} {dt:4.1f} fs  drift {slope:+.5f} ± {error:.5f} meV/atom/ns, noise {noise:.6f} meV/atom",
                flush=True,
            )
            options.output.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
