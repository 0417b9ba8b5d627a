"""Neighbour lists of liquid water on the CPU: time and memory against the number of atoms.

    python benchmarks/neighbors.py [--atoms 3000 30000 100000] [--cutoffs 4.5 12]

Each case runs in a process of its own, so that its peak memory is its own. Before timing, the number of pairs is
compared with what the density says.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time

DENSITY = 0.1003
"""Atoms per Å³ of water at 1.0 g/cm³."""


def measure(n_atoms: int, cutoff: float) -> dict[str, float]:
    """Time (s) of one half list, pairs, and resident memory (MB) above that of the imports."""
    import numpy as np
    import torch

    from heliodor.neighbors import find_neighbors
    from heliodor.system import System

    box = (n_atoms / DENSITY) ** (1 / 3)
    positions = np.random.default_rng(0).uniform(0.0, box, (n_atoms, 3))
    system = System(
        positions=torch.from_numpy(positions),
        numbers=torch.ones(n_atoms, dtype=torch.int64),
        cell=box * torch.eye(3, dtype=torch.float64).unsqueeze(0),
        pbc=torch.ones(1, 3, dtype=torch.bool),
        batch=torch.zeros(n_atoms, dtype=torch.int64),
        charge=torch.zeros(1, dtype=torch.float64),
        spin=torch.zeros(1, dtype=torch.float64),
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.perf_counter()
    pairs = find_neighbors(system, cutoff).n_edges
    seconds = time.perf_counter() - begun
    expected = 0.5 * n_atoms * DENSITY * 4.0 / 3.0 * math.pi * cutoff**3
    if abs(pairs / expected - 1.0) > 0.02:
        raise SystemExit(f"{pairs} pairs found, {expected:.0f} expected from the density")
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"atoms": n_atoms, "cutoff_A": cutoff, "pairs": pairs, "seconds": seconds, "peak_MB": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atoms", type=int, nargs="+", default=[3000, 30000, 100000])
    parser.add_argument("--cutoffs", type=float, nargs="+", default=[4.5, 12.0])
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.atoms[0], args.cutoffs[0])))
        return
    print(f"{'atoms':>8} {'cutoff/Å':>8} {'pairs':>12} {'s':>8} {'µs/atom':>8} {'peak MB':>8} {'bytes/pair':>10}")
    for cutoff in args.cutoffs:
        for n_atoms in args.atoms:
            command = [sys.executable, __file__, "--one", "--atoms", str(n_atoms), "--cutoffs", str(cutoff)]
            row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            per_atom, per_pair = 1e6 * row["seconds"] / n_atoms, row["peak_MB"] * 2**20 / row["pairs"]
            print(
                f"{n_atoms:8d} {cutoff:8.1f} {row['pairs']:12d} {row['seconds']:8.2f} "
                f"{per_atom:8.1f} {row['peak_MB']:8.0f} {per_pair:10.0f}"
            )


if __name__ == "__main__":
    main()
