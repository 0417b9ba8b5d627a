"""Training steps a second of one CPU thread: heliodor against mace-torch and So3krates-torch, on the same structures.

    OMP_NUM_THREADS=1 python benchmarks/training.py FILE --mace PYTHON --so3 PYTHON [--seconds S] [--out JSON]

FILE holds structures with energies and forces (extxyz). PYTHON are interpreters with mace-torch and So3krates-torch;
a peer that is not given is left out. Structures per second of processor time; the trainers of one case take turns,
round by round, so that a busy machine disturbs all of them alike; medians over the rounds. heliodor's MACE begins with
the peer's own parameters and must give its forces before anything is timed. Loss on energies and forces (mean squares),
AMSGrad, averaged parameters, clipping.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import ase.io
import numpy as np

HERE = Path(__file__).resolve().parent
CASES: dict[str, dict[str, Any]] = {
    "MACE 32 channels, L=0, batch 5": {"architecture": "mace", "channels": 32, "degree": 0, "batch": 5},
    "MACE 32 channels, L=1, batch 5": {"architecture": "mace", "channels": 32, "degree": 1, "batch": 5},
    "MACE 64 channels, L=1, batch 10": {"architecture": "mace", "channels": 64, "degree": 1, "batch": 10},
    "SO3LR small, batch 10": {
        "architecture": "so3lr",
        "size": {"n_features": 64, "n_layers": 2, "n_basis": 16, "n_hirshfeld": 64},
        "batch": 10,
    },
    "SO3LR as released, batch 5": {
        "architecture": "so3lr",
        "size": {"n_features": 128, "n_layers": 3, "n_basis": 32, "n_hirshfeld": 128},
        "batch": 5,
    },
    "SpookyNet small, batch 10": {"architecture": "spookynet", "size": "small", "batch": 10},
}


class Trainer:
    """A process of trainers.py."""

    def __init__(self, python: str, name: str, settings: Path) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        self.process = subprocess.Popen(
            [python, str(HERE / "trainers.py"), name, str(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.forces = np.array(self._answer()["forces"])

    def rate(self, seconds: float) -> float:
        """Structures a second."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return float(self._answer()["structures_per_second"])

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a trainer ended with {self.process.wait()}")
        return json.loads(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--mace", default="")
    parser.add_argument("--so3", default="")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", default="")
    given = parser.parse_args()
    frames = ase.io.read(given.file, index=":100")
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        structures = Path(folder) / "structures.xyz"
        ase.io.write(structures, frames, format="extxyz")
        for case, values in CASES.items():
            if given.only in case:
                results[case] = compare(values, structures, Path(folder), given)
                print(case, {k: round(v, 2) for k, v in results[case].items()}, flush=True)
    if given.out:
        Path(given.out).write_text(json.dumps({"file": Path(given.file).name, "structures/s": results}, indent=1))


def compare(values: dict[str, Any], structures: Path, folder: Path, given: argparse.Namespace) -> dict[str, float]:
    settings = folder / "settings.json"
    model = folder / "mace.model"
    settings.write_text(json.dumps({**values, "structures": str(structures), "model": str(model)}))
    peers = {"mace": ("mace-torch", given.mace), "so3lr": ("so3krates-torch", given.so3)}
    name, python = peers.get(values["architecture"], ("", ""))
    trainers: dict[str, Trainer] = {}
    if python:
        trainers[name] = Trainer(python, name, settings)
    elif values["architecture"] == "mace":
        raise SystemExit("heliodor's MACE begins with mace-torch's parameters: give --mace")
    trainers["heliodor"] = Trainer(sys.executable, "heliodor", settings)
    if values["architecture"] == "mace":
        np.testing.assert_allclose(trainers["heliodor"].forces, trainers[name].forces, atol=2e-4)
    rates: dict[str, list[float]] = {key: [] for key in trainers}
    for _ in range(given.rounds):
        for key, trainer in trainers.items():
            rates[key].append(trainer.rate(given.seconds))
    for trainer in trainers.values():
        trainer.close()
    found = {key: statistics.median(value) for key, value in rates.items()}
    if name in found:
        found["ratio"] = found["heliodor"] / found[name]
    return found


if __name__ == "__main__":
    main()
