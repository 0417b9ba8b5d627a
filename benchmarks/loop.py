"""What the loop itself costs: overhead per step of each coupling, 100,000 atoms by stage, replicas in one batch.

    python benchmarks/loop.py overhead
    python benchmarks/loop.py large --atoms 100000
    python benchmarks/loop.py replicas --model heliodor-mini

Figures are for the machine it runs on; compare the ratios.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import ase.io
import torch

import heliodor
from heliodor.dynamics import simulate
from heliodor.dynamics.ensemble import couplings, stepper
from heliodor.dynamics.settings import Settings
from heliodor.dynamics.setup import begin, prepare

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "dynamics"))
from toys import LennardJones, argon_box  # noqa: E402

KINDS = {
    "nve": Settings(ensemble="nve"),
    "langevin": Settings(thermostat="langevin"),
    "csvr": Settings(thermostat="csvr"),
    "nose-hoover": Settings(thermostat="nose-hoover"),
    "npt scr": Settings(ensemble="npt"),
    "npt mtk": Settings(ensemble="npt", barostat="mtk"),
}


def overhead(options: argparse.Namespace) -> None:
    """Milliseconds of a step beyond the force call, 27 argon atoms."""
    potential = LennardJones(cutoff=5.5).requires_grad_(False)
    print("kind           step, ms   beyond forces, ms")
    for name, settings in KINDS.items():
        job = prepare(argon_box(), potential, settings.replace(steps=1, timestep=4.0, temperature=90.0, seed=1))
        state = begin(job)
        step = stepper(job.settings, potential, job.system, job.ramp)
        spent = {"forces": 0.0}
        whole = potential.forward

        def timed(system, neighbors, whole=whole, spent=spent):
            start = time.perf_counter()
            terms = whole(system, neighbors)
            spent["forces"] += time.perf_counter() - start
            return terms

        for _ in range(50):
            state = step(state)
        potential.forward = timed
        start = time.perf_counter()
        for _ in range(options.steps):
            state = step(state)
        each = (time.perf_counter() - start) / options.steps
        potential.forward = whole
        print(f"{name:14s} {1e3 * each:8.3f}   {1e3 * (each - spent['forces'] / options.steps):8.3f}", flush=True)
    assert couplings(KINDS["npt mtk"]) == ("nose-hoover", "mtk")


def large(options: argparse.Namespace) -> None:
    """Stages and memory of a run of many atoms, lists, files, watch and checkpoints included."""
    side = round(options.atoms ** (1 / 3))
    atoms = argon_box(side, 3.85)
    potential = LennardJones(cutoff=6.0)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("langevin", "npt scr"):
            start = time.perf_counter()
            run = simulate(
                atoms,
                potential,
                KINDS[name],
                steps=options.steps,
                timestep=4.0,
                temperature=90.0,
                seed=1,
                log_every=20.0,
                save_every=40.0,
                output=Path(folder) / "run.h5",
                overwrite=True,
                progress=False,
            )
            rest = time.perf_counter() - start - run.seconds
            stages = ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in run.timings.items())
            size = sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e6
            print(
                f"{name}: {len(atoms)} atoms, {run.steps} steps in {run.seconds:.1f} s ({stages}), "
                f"set-up {rest:.1f} s, peak memory {run.memory:.2f} GB, files {size:.0f} MB",
                flush=True,
            )


def replicas(options: argparse.Namespace) -> None:
    """Steps times structures per second, of one molecule alone and in batches."""
    potential = heliodor.load(options.model, device=options.device)
    atoms = ase.io.read(ROOT / "examples" / "paracetamol.xyz")
    alone = 0.0
    for count in (1, 4, 16, 64):
        run = simulate(
            atoms, potential, replicas=count, steps=options.steps, seed=1, output=None, plot=None, progress=False
        )
        rate = count * run.steps / run.seconds
        alone = alone or rate
        print(f"{count:3d} replicas: {rate:8.1f} structure-steps/s, {rate / alone:.2f} of one alone", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("overhead", "large", "replicas"))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--atoms", type=int, default=100_000)
    parser.add_argument("--model", default="heliodor-mini")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    options.steps = options.steps or {"overhead": 500, "large": 40, "replicas": 200}[options.what]
    torch.set_num_threads(1)
    {"overhead": overhead, "large": large, "replicas": replicas}[options.what](options)


if __name__ == "__main__":
    main()
