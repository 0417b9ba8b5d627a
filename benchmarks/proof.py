"""Does training work? MACE on 3BPA and acetylacetone, SO3krates on rMD17 aspirin, against published errors.

    python benchmarks/proof.py acac --data DIR --out runs/acac [--size small|paper] [--time '25 min'] [--device cuda]
    python benchmarks/proof.py acac --data DIR --out runs/curve --curve 50 100 200 450 --time '' --epochs 60

DIR holds the files of github.com/davkovacs/BOTNet-datasets (folders dataset_3BPA, dataset_acac) or collected data
(3bpa, acac, rmd17_aspirin_split01_training.xyz.gz). Run again, it goes on where it was. Errors are those of the
papers: RMSE over all force components, and of energies per structure, in meV. The size "paper" is that of the published
model (a GPU's work); "small" is for two cores.
"""

from __future__ import annotations

import argparse
import json
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ase
import numpy as np
import torch
from ase.io import read

from heliodor.label.label import Label
from heliodor.train.dataset import Dataset
from heliodor.train.errors import predict
from heliodor.train.learning import learning_curve
from heliodor.train.models import new_model
from heliodor.train.references import isolated_atoms
from heliodor.train.settings import TrainSettings
from heliodor.train.trainer import train


@dataclass(frozen=True)
class Task:
    """One benchmark.

    Attributes:
        training: names the file may have, the first that is there counts.
        tests: name to file names; missing ones are left out and said.
        isolated: file of the isolated atoms.
        published: RMSE of energies (meV) and forces (meV/Å) by test, and who says so.
    """

    training: tuple[str, ...]
    tests: dict[str, tuple[str, ...]]
    isolated: tuple[str, ...]
    published: dict[str, tuple[float, float]]
    source: str
    architecture: str
    sizes: dict[str, dict[str, Any]]


PAPER = {"channels": 256, "degrees": (2, 0), "correlation": 3, "cutoff": 5.0}
SMALL = {"channels": 32, "degrees": (1, 0), "correlation": 3, "cutoff": 5.0}
TASKS = {
    "acac": Task(
        ("dataset_acac/train_300K.xyz", "acac/train_300K.xyz.gz"),
        {
            "300 K": ("dataset_acac/test_MD_300K.xyz", "acac/test_MD_300K.xyz.gz"),
            "600 K": ("dataset_acac/test_MD_600K.xyz",),
        },
        ("dataset_acac/isolated_atoms.xyz", "acac/isolated_atoms.xyz.gz"),
        {"300 K": (0.9, 5.1), "600 K": (4.6, 22.4)},
        "MACE, Batatia et al., NeurIPS 2022",
        "mace",
        {"small": SMALL, "paper": PAPER},
    ),
    "3bpa": Task(
        ("dataset_3BPA/train_300K.xyz", "3bpa/train_300K.xyz.gz"),
        {
            **{f"{t} K": (f"dataset_3BPA/test_{t}K.xyz",) for t in (300, 600, 1200)},
            "300, 600 and 1200 K mixed": ("dataset_3BPA/train_mixedT.xyz",),
        },
        ("dataset_3BPA/iso_atoms.xyz", "3bpa/iso_atoms.xyz.gz"),
        {"300 K": (3.0, 8.8), "600 K": (9.7, 21.8), "1200 K": (29.8, 62.0)},
        "MACE at L = 2, Batatia et al., NeurIPS 2022",
        "mace",
        {"small": SMALL, "paper": PAPER},
    ),
    "aspirin": Task(
        ("rmd17_aspirin_split01_training.xyz.gz", "ef_md17/rmd17_aspirin_split01_training.xyz.gz"),
        {},
        (),
        {},
        "none for this split: 200 of the 1000 structures of rMD17's first training split are kept for the test",
        "so3lr",
        {"small": {"preset": "small"}, "paper": {"preset": "large"}},
    ),
}
HELD = 50
"""Structures of the training file that are watched."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", choices=("small", "paper"), default="small")
    parser.add_argument("--time", default="25 min")
    parser.add_argument("--epochs", type=float, default=0.0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--curve", type=int, nargs="+", help="a learning curve over so many structures")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    task = TASKS[args.task]
    frames = open_frames(args.data, task.training)
    frames = [frames[k] for k in np.random.default_rng(args.seed).permutation(len(frames))]
    tests = {name: found for name, files in task.tests.items() if (found := open_frames(args.data, files, False))}
    missing = [name for name in task.tests if name not in tests]
    if not task.tests:
        tests, frames = {"held out": frames[:200]}, frames[200:]
    if "300, 600 and 1200 K mixed" in tests:
        # some of its structures are in the training file too
        known = {round(frame.get_potential_energy(), 7) for frame in frames}
        mixed = tests["300, 600 and 1200 K mixed"]
        tests["300, 600 and 1200 K mixed"] = [f for f in mixed if round(f.get_potential_energy(), 7) not in known]
    watched, learned = dataset(frames[:HELD]), dataset(frames[HELD:])
    references = None
    atoms = [f for f in open_frames(args.data, task.isolated, False) if len(f) == 1] if task.isolated else []
    if atoms:
        references = isolated_atoms({f.get_chemical_symbols()[0]: float(f.get_potential_energy()) for f in atoms})

    def fresh(part: Dataset) -> Any:
        shape = task.sizes[args.size]
        return new_model(task.architecture, shape, learned.elements, part, references=references, seed=args.seed)

    settings = TrainSettings(
        loss="mace",
        batch_size=5,
        learning_rate=1e-2 if task.architecture == "mace" else 2e-3,
        weight_decay=5e-7,
        energy_per="atom",
        ema=0.99,
        schedule="cosine",
        stage_two=0.75 if task.architecture == "mace" else 0.0,
        time=args.time,
        epochs=args.epochs,
        validate_every=400,
        compile="no",
        threads=1,
        device=args.device,
        seed=args.seed,
    )
    if args.curve:
        test = dataset(next(iter(tests.values())))
        curve = learning_curve(fresh, learned, watched, test, args.curve, args.out, replace(settings, time=""), say)
        print("\n" + curve.table())
        return
    result = train(fresh(learned), learned, watched, args.out, settings, say)
    print()
    rows = {}
    for name, found in tests.items():
        rows[name] = score(result.model.float(), dataset(found))
        published = task.published.get(name)
        words = f"   published {published[0]:g} meV, {published[1]:g} meV/Å" if published else ""
        energy, forces = (rows[name][key] for key in ("energy_meV", "forces_meV_per_A"))
        print(f"{name} ({len(found)} structures): energy {energy:.2f} meV, forces {forces:.2f} meV/Å{words}")
    if missing:
        print(f"not there: {', '.join(missing)}")
    print(f"published: {task.source}")
    kept = {"task": args.task, "size": task.sizes[args.size], "steps": result.steps, "minutes": result.seconds / 60}
    (args.out / "proof.json").write_text(json.dumps({**kept, "rmse": rows, "published": task.published}, indent=1))


def open_frames(folder: Path, names: tuple[str, ...], must: bool = True) -> list[ase.Atoms]:
    """The frames of the first file that is there."""
    import gzip
    import io

    for name in names:
        path = folder / name
        if path.exists():
            text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
            return list(read(io.StringIO(text), ":", format="extxyz"))
    if must:
        raise SystemExit(f"{folder} has none of {', '.join(names)}")
    return []


def dataset(frames: list[ase.Atoms]) -> Dataset:
    """With energies and forces; the cells of these files mean nothing."""
    bare = [ase.Atoms(f.numbers, f.positions, info={"kind": "molecule"}) for f in frames]
    labels = [Label(float(f.get_potential_energy()), np.asarray(f.get_forces(), dtype=float)) for f in frames]
    return Dataset.from_atoms(bare, labels)


def score(model: Any, data: Dataset) -> dict[str, float]:
    """RMSE as the papers have them."""
    found = predict(model, data)
    energy = found.energy - data.energy
    forces = found.forces - data.forces
    return {
        "energy_meV": 1e3 * float(np.sqrt(np.square(energy).mean())),
        "energy_mean_removed_meV": 1e3 * float(energy.std()),
        "forces_meV_per_A": 1e3 * float(np.sqrt(np.square(forces).mean())),
    }


def say(share: float, words: str) -> None:
    print(f"\r{100 * share:5.1f} % {words:100s}", end="", flush=True)


if __name__ == "__main__":
    main()
