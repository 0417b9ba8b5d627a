"""Everything that the card of heliodor-s says in numbers, measured: one JSON file, part by part, resumable.

    python training/heliodor-s/figures.py --model student.safetensors --test test.h5 --data DIR --out figures.json

DIR holds the project's collected data, of which only geometries are taken.

Parts that are in the file are not measured again. `--parts` chooses; dynamics takes hours at full length (`--ps`).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch

import heliodor
from heliodor.potential import ModelWarning, Potential, evaluate_system
from heliodor.system import System
from heliodor.train.dataset import Dataset
from heliodor.train.errors import compare, predict
from heliodor.units import DEBYE

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "training" / "mini"))

from independent import SETS, frames  # noqa: E402

TEACHER = "so3lr"
PERIODIC_CUTOFF = 6.0
"""Å, of the long-range terms in periodic boxes of the held-out set, as its labels were made."""


def held_out(args: argparse.Namespace) -> dict[str, Any]:
    """Errors by kind on structures of groups that the student never saw."""
    student = heliodor.load(str(args.model), dtype="float32")
    student.periodic_long_range_cutoff = PERIODIC_CUTOFF
    test = Dataset.read(args.test)
    predicted = predict(student, test)
    errors = compare(predicted, test).to_dict()
    kinds = np.repeat(test.kind, test.counts)
    off = np.linalg.norm(predicted.dipole - test.dipole, axis=1) / DEBYE
    for kind, found in errors.items():
        atoms = np.ones(len(kinds), dtype=bool) if kind == "all" else kinds == kind
        mine = np.ones(len(test), dtype=bool) if kind == "all" else test.kind == kind
        found["force_rms_of_reference"] = float(np.sqrt(np.square(test.forces[atoms]).mean()))
        known = mine & np.isfinite(off)
        found["dipole_error_debye"] = float(off[known].mean()) if known.any() else None
    return errors


def independent(args: argparse.Namespace) -> dict[str, Any]:
    """Errors against the teacher on structures that other people made."""
    student, teacher = (heliodor.load(str(name), dtype="float32") for name in (args.model, TEACHER))
    found = {}
    for name, (pattern, count) in SETS.items():
        structures = frames(args.data, pattern, count)
        mine, reference = (heliodor.evaluate(p, structures, batch_atoms=600) for p in (student, teacher))
        assert mine.forces is not None and reference.forces is not None
        assert mine.dipole is not None and reference.dipole is not None
        off = (mine.dipole - reference.dipole).norm(dim=1) / DEBYE
        found[name] = {
            "structures": len(structures),
            "force_rmse": float((mine.forces - reference.forces).square().mean().sqrt()),
            "force_mae": float((mine.forces - reference.forces).abs().mean()),
            "force_rms_of_reference": float(reference.forces.square().mean().sqrt()),
            "dipole_error_debye": float(off.mean()),
        }
    return found


def cost(args: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of energy and forces with lists at hand, teacher and student in turn, one thread."""
    water = ase.io.read(ROOT / "examples" / "water_64.xyz")
    peptide = ase.io.read(ROOT / "examples" / "ace-ala3-nme.xyz")
    found = {}
    models = {name: heliodor.load(str(name), dtype="float32") for name in (args.model, TEACHER)}
    for what, atoms in (("peptide", peptide), ("water", water), ("water 2x2x2", water.repeat((2, 2, 2)))):
        taken: dict[str, list[float]] = {str(name): [] for name in models}
        ready: list[tuple[str, Potential, System, Any]] = []
        for name, model in models.items():
            system = System.from_atoms([atoms])
            ready.append((str(name), model, system, model.neighbors(system)))
        for _ in range(8):
            for name, model, system, lists in ready:
                begun = time.perf_counter()
                evaluate_system(model, system, lists)
                taken[name].append(1e3 * (time.perf_counter() - begun))
        mine, theirs = (min(values[1:]) for values in taken.values())
        found[what] = {"atoms": len(atoms), "student_ms": mine, "teacher_ms": theirs, "ratio": theirs / mine}
    return found


def dynamics(args: argparse.Namespace) -> dict[str, Any]:
    """NVT of water and of a peptide, and NVE of the peptide: temperature, bonds, drift."""
    runs = {
        "water, NVT": ("water_64.xyz", "nvt", 300.0, 0.5, 0.5 * args.ps),
        "peptide, NVT": ("ace-ala3-nme.xyz", "nvt", 300.0, 0.5, args.ps),
        "peptide, NVE": ("ace-ala3-nme.xyz", "nve", 300.0, 0.5, args.ps),
    }
    found = {}
    for name, (file, ensemble, temperature, timestep, length) in runs.items():
        atoms = ase.io.read(ROOT / "examples" / file)
        output = args.out.parent / f"{file.removesuffix('.xyz')}-{ensemble}.h5"
        run = heliodor.simulate(
            atoms,
            heliodor.load(str(args.model), dtype="float32"),
            ensemble=ensemble,
            temperature=temperature,
            time=f"{length:g} ps",
            timestep=timestep,
            minimize_first=True,
            seed=7,
            output=output,
            overwrite=True,
            save_every=100.0,
            log_every=20.0,
        )
        found[name] = {
            "file": file,
            "atoms": len(atoms),
            "ps": run.time * 1e-3,
            "timestep_fs": timestep,
            "mean_temperature_K": run.mean_temperature,
            "broken_bonds": len(run.broken_bonds),
            "ns_per_day_1_thread": run.ns_per_day,
        }
        log = np.genfromtxt(output.with_suffix(".csv"), delimiter=",", names=True)
        column = next(name for name in log.dtype.names if name.startswith("conserved"))
        clock = next(name for name in log.dtype.names if name.startswith("time"))
        slope = np.polyfit(log[clock], log[column], 1)[0]
        per_ps = slope if clock.endswith("ps") else 1e3 * slope
        found[name]["drift_meV_per_atom_per_ns"] = float(1e6 * per_ps / len(atoms))
    return found


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "held_out": held_out,
    "independent": independent,
    "cost": cost,
    "dynamics": dynamics,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ps", type=float, default=100.0, help="length of the gas-phase runs; water takes half of it")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ModelWarning)
    kept = json.loads(args.out.read_text()) if args.out.exists() else {}
    for name in args.parts:
        if name not in kept:
            kept[name] = PARTS[name](args)
            args.out.write_text(json.dumps(kept, indent=1))
            print(name, json.dumps(kept[name], indent=1), flush=True)


if __name__ == "__main__":
    main()
