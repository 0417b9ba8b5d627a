"""Errors of a student against its teacher on held-out structures, and stability of its dynamics.

python training/mini/validate.py --model heliodor-mini.safetensors --test labelled_test.npz --out validation.json
python training/mini/validate.py --model heliodor-mini.safetensors --dynamics water --time "50 ps" --out water.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from ase.io import read

import heliodor
from train import errors, load_data

EXAMPLES = Path(__file__).parents[2] / "examples"
RUNS = {"water": ("water_64.xyz", 300.0), "peptide": ("ace-ala3-nme.xyz", 500.0)}
"""Structure and temperature (K) of the stability runs."""


def score(model: str, test: list[Path]) -> dict[str, dict[str, float]]:
    """Force RMSE by kind (meV/Å), charge (e) and Hirshfeld ratio RMSE; counts beside them."""
    potential = heliodor.load(model)
    data = load_data(test)
    kinds, counts = np.unique(data.kind, return_counts=True)
    found = errors(potential, data)
    found["force_rms_of_reference"] = 1e3 * float(data.labels["forces"].square().mean().sqrt())
    return {"errors": found, "structures": dict(zip(kinds.tolist(), counts.tolist(), strict=True))}


def stability(model: str, name: str, time: str, timestep: float, output: Path) -> dict[str, float | str | int]:
    """Run NVT and count the bonds that broke."""
    file, temperature = RUNS[name]
    atoms = read(EXAMPLES / file)
    potential = heliodor.load(model)
    run = heliodor.simulate(
        atoms,
        potential,
        temperature=temperature,
        time=time,
        timestep=timestep,
        minimize_first=True,
        seed=7,
        output=output,
        overwrite=True,
        save_every=100.0,
        log_every=50.0,
    )
    return {
        "system": file,
        "atoms": len(atoms),
        "temperature_K": temperature,
        "mean_temperature_K": run.mean_temperature,
        "time_ps": run.time * 1e-3,
        "timestep_fs": timestep,
        "broken_bonds": len(run.broken_bonds),
        "ns_per_day_1_thread": run.ns_per_day,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="heliodor-mini")
    parser.add_argument("--test", type=Path, nargs="+")
    parser.add_argument("--dynamics", choices=RUNS)
    parser.add_argument("--time", default="50 ps")
    parser.add_argument("--timestep", type=float, default=0.5, help="fs")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.dynamics:
        result = stability(args.model, args.dynamics, args.time, args.timestep, args.out.with_suffix(".h5"))
    else:
        result = score(args.model, args.test)
    args.out.write_text(json.dumps(result, indent=2))
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
