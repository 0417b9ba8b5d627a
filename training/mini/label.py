"""Label structures with the released SO3LR: forces, per-atom energies, charges, Hirshfeld ratios, dipoles.

    python training/mini/label.py structures_train.npz labelled_train.npz

Units: eV, Å, e. Energies are total and, per atom, of the network alone (the teacher's own decomposition).
Structures with a force above --max-force are dropped: they teach nothing that dynamics visits.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

import heliodor
from heliodor.potential import Potential, evaluate_system
from heliodor.system import System

PERIODIC_CUTOFF = 6.0
"""Å for electrostatics and dispersion in periodic boxes, for teacher and student alike: the physical terms are
the same function in both, so the shorter sum loses nothing that has to be learned, and costs an eighth."""

PER_ATOM = ("positions", "numbers", "forces", "node_energy", "charges", "hirshfeld")


def batches(offsets: np.ndarray, max_atoms: int) -> list[range]:
    """Consecutive structures of about max_atoms atoms."""
    groups, first = [], 0
    for s in range(len(offsets) - 1):
        if offsets[s + 1] - offsets[first] > max_atoms and s > first:
            groups.append(range(first, s))
            first = s
    return [*groups, range(first, len(offsets) - 1)]


def system_of(data: dict[str, np.ndarray], group: range) -> System:
    """The structures of a group as one System."""
    atoms = slice(data["offsets"][group.start], data["offsets"][group.stop])
    rows = slice(group.start, group.stop)
    counts = np.diff(data["offsets"][group.start : group.stop + 1])
    return System(
        positions=torch.from_numpy(data["positions"][atoms]),
        numbers=torch.from_numpy(data["numbers"][atoms].astype(np.int64)),
        cell=torch.from_numpy(data["cell"][rows]),
        pbc=torch.from_numpy(data["pbc"][rows]),
        batch=torch.from_numpy(np.repeat(np.arange(len(group)), counts)),
        charge=torch.from_numpy(data["charge"][rows].astype(np.float64)),
        spin=torch.from_numpy(data["spin"][rows].astype(np.float64)),
    )


def label(potential: Potential, data: dict[str, np.ndarray], max_atoms: int) -> Iterator[dict[str, np.ndarray]]:
    """Predictions, batch after batch."""
    for group in track(batches(data["offsets"], max_atoms), description="labelling"):
        system = system_of(data, group)
        potential.check(system)
        periodic = system.pbc.any(-1)
        assert bool(periodic.all()) or not bool(periodic.any())
        potential.long_range_cutoff = PERIODIC_CUTOFF if bool(periodic.any()) else None
        p = evaluate_system(potential, system)
        network = p.node_terms["so3krates"]
        assert (
            p.forces is not None and p.charges is not None and p.hirshfeld_ratios is not None and p.dipole is not None
        )
        yield {
            "forces": p.forces.float().numpy(),
            "node_energy": network.float().numpy(),
            "charges": p.charges.float().numpy(),
            "hirshfeld": p.hirshfeld_ratios.float().numpy(),
            "energy": p.energy.numpy(),
            "dipole": p.dipole.float().numpy(),
        }


def keep_only(data: dict[str, np.ndarray], keep: np.ndarray) -> dict[str, np.ndarray]:
    """Reduce a flat data set to the structures of a boolean mask."""
    counts = np.diff(data["offsets"])
    atom_mask = np.repeat(keep, counts)
    out = {k: v[atom_mask] if k in PER_ATOM else v[keep] for k, v in data.items() if k != "offsets"}
    out["offsets"] = np.concatenate([[0], np.cumsum(counts[keep])])
    return out


def with_labels(potential: Potential, data: dict[str, np.ndarray], max_atoms: int) -> dict[str, np.ndarray]:
    """The data set with its labels."""
    parts = list(label(potential, data, max_atoms))
    return {**data, **{key: np.concatenate([part[key] for part in parts]) for key in parts[0]}}


def join(sets: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Data sets one after another."""
    out = {key: np.concatenate([data[key] for data in sets]) for key in sets[0] if key != "offsets"}
    counts = np.concatenate([np.diff(data["offsets"]) for data in sets])
    out["offsets"] = np.concatenate([[0], np.cumsum(counts)])
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("structures", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--teacher", default="so3lr")
    parser.add_argument("--batch-atoms", type=int, default=1500)
    parser.add_argument("--max-force", type=float, default=15.0, help="eV/Å")
    args = parser.parse_args()
    potential = heliodor.load(args.teacher, dtype="float32")
    data = dict(np.load(args.structures))
    periodic = data["pbc"].any(axis=1)
    data = join(
        [
            with_labels(potential, keep_only(data, mask), args.batch_atoms)
            for mask in (~periodic, periodic)
            if mask.any()
        ]
    )
    largest = np.maximum.reduceat(np.linalg.norm(data["forces"], axis=1), data["offsets"][:-1])
    data = keep_only(data, largest <= args.max_force)
    np.savez(args.output, **data)
    rms = float(np.sqrt(np.square(data["forces"]).mean()))
    print(f"{len(data['energy'])} of {len(largest)} structures kept, force RMS {rms:.3f} eV/Å -> {args.output}")


if __name__ == "__main__":
    main()
