"""Quantum against classical nuclei in liquid water and paracetamol: kinetic energies, distances, infrared spectra.

    python benchmarks/quantum_water.py --output results --model heliodor-s

Goes on where it was stopped when called again. Writes results.json (numbers with errors) and, for each system, the
pictures and tables of `heliodor pimd`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import ase.io
import torch

import heliodor
from heliodor.paths import PathSettings, run_paths
from heliodor.paths.report import write_report
from heliodor.paths.summary import summary

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

SYSTEMS = {"paracetamol": ("paracetamol.xyz", 2.0, 4.0), "water": ("water_64.xyz", 1.0, 2.0)}
"""File, and ps of the quantum and of the classical run: together half an hour to an hour on one core."""


def told(title: str) -> Callable[[int, int], None]:
    """A line a minute."""
    last = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal last
        if done == total or time.monotonic() - last > 60.0:
            last = time.monotonic()
            print(f"{title}: {done} of {total} steps", flush=True)

    return tell


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("quantum_water"))
    parser.add_argument("--model", default="heliodor-s")
    parser.add_argument("--beads", type=int, default=16)
    parser.add_argument("--length", type=float, default=1.0, help="factor on the length of all runs")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = heliodor.load(given.model, device="cpu", dtype="float32")
    given.output.mkdir(parents=True, exist_ok=True)
    record = {}
    for name, (file, quantum, classical) in SYSTEMS.items():
        atoms = ase.io.read(EXAMPLES / file)
        warm = PathSettings(300.0, 1, 1000.0 * given.length, timestep=0.5, friction_time=50.0, bead_stride=10)
        warmed = run_paths(model, atoms, given.output / name / "equilibration", warm, restart=True, tell=told(name))
        # rings and classical nuclei both start from the last structure; spectra need a weak thermostat, this does not
        atoms = warmed.atoms.copy()
        atoms.positions = warmed.beads()[-1, 0]
        runs = {}
        for kind, beads, length in (("quantum", given.beads, quantum), ("classical", 1, classical)):
            settings = PathSettings(
                temperature=300.0,
                beads=beads,
                time=1000.0 * length * given.length,
                timestep=0.5,
                thermostat="trpmd",
                stride=6,
                bead_stride=60,
            )
            folder = given.output / name / kind
            runs[kind] = run_paths(model, atoms, folder, settings, restart=True, tell=told(f"{name}, {kind}"))
        files, notes = write_report(runs, given.output / name, skip=0.25)
        numbers = {
            kind: {n.name: [n.value, n.error, n.unit] for n in summary(result, 0.25)} for kind, result in runs.items()
        }
        record[name] = {"numbers": numbers, "files": [str(path) for path in files], "notes": notes}
        (given.output / "results.json").write_text(json.dumps({"model": model.name, "systems": record}, indent=2))


if __name__ == "__main__":
    main()
