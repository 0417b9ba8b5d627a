"""Structures that the student itself visits: short Langevin runs, to be labelled by the teacher and trained on.

    python training/mini/sample.py --model heliodor-mini.safetensors --start structures_train.npz --out own.npz

A model's errors push its dynamics to where its training data are thin; labelling what it does there is the cheapest
way to make it stable (active learning without an uncertainty estimate).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

import heliodor
from heliodor.dynamics import init, langevin_step
from heliodor.potential import Potential
from heliodor.system import System
from label import batches, join, keep_only, system_of

TEMPERATURES = (300.0, 500.0, 700.0)


def run(
    potential: Potential, system: System, temperature: float, steps: int, every: int, seed: int
) -> list[np.ndarray]:
    """Positions [N, 3] in Å each `every` steps of 1 fs."""
    state = init(system, potential, temperature=temperature, seed=seed, rotating=True)
    frames = []
    for step in range(1, steps + 1):
        state = langevin_step(state, potential, 1.0, temperature=temperature, friction=5.0)
        if step % every == 0:
            frames.append(state.system.positions.numpy().copy())
    return frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--start", type=Path, required=True, help="structures to start from")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--steps", type=int, default=200, help="of 1 fs")
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--kinds", nargs="+", help="only these kinds of structures")
    parser.add_argument("--seed", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    potential = heliodor.load(args.model)
    potential.long_range_cutoff = "auto"
    rng = np.random.default_rng(args.seed)
    data = dict(np.load(args.start))
    names = ("positions", "numbers", "offsets", "cell", "pbc", "charge", "spin", "kind", "molecule")
    data = {name: data[name] for name in names}
    pool = np.flatnonzero(np.isin(data["kind"], args.kinds)) if args.kinds else np.arange(len(data["kind"]))
    chosen = np.zeros(len(data["kind"]), dtype=bool)
    chosen[rng.choice(pool, min(args.count, len(pool)), replace=False)] = True
    data = keep_only(data, chosen)
    out = []
    for index, group in enumerate(track(batches(data["offsets"], 300), description="dynamics")):
        rows = np.zeros(len(data["kind"]), dtype=bool)
        rows[group.start : group.stop] = True
        part = keep_only(data, rows)
        temperature = TEMPERATURES[index % len(TEMPERATURES)]
        frames = run(potential, system_of(data, group), temperature, args.steps, args.every, args.seed + index)
        out += [{**part, "positions": frame} for frame in frames if np.isfinite(frame).all()]
    np.savez(args.out, **join(out))
    print(f"{sum(len(part['kind']) for part in out)} structures -> {args.out}")


if __name__ == "__main__":
    main()
