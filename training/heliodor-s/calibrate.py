"""Give heliodor-s its uncertainty, and hold it against structures that neither training nor calibration saw.

    python training/heliodor-s/calibrate.py --model student.safetensors --training training.h5 --unseen unseen.h5 \\
        --out calibrated.safetensors --coverage coverage.json

Structures of --unseen with a molecule of the training set are left out. Half of the groups that remain calibrate, the
other half are the test of it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from heliodor.checkpoint import load_checkpoint, save_checkpoint
from heliodor.distil.structures.groups import SHARED, name_of
from heliodor.errors import HeliodorError
from heliodor.train.dataset import Dataset, join, open_dataset
from heliodor.train.uncertainty import coverage, fit_uncertainty

PERIODIC_CUTOFF = 6.0
"""Å, of the long-range terms in boxes, as their labels were made."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--training", type=Path, required=True)
    parser.add_argument("--unseen", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--coverage", type=Path, required=True)
    parser.add_argument("--test", type=Path, help="also write the structures of the test")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    training = open_dataset(args.training)
    known = {name for group in np.unique(training.group) for name in molecules(group)}
    fresh = join([unseen(open_dataset(path), known) for path in args.unseen])
    names, inverse = np.unique(fresh.group, return_inverse=True)
    half = np.random.default_rng([args.seed, 31]).permutation(len(names)) < len(names) // 2
    calibration, test = (fresh.take(np.flatnonzero(half[inverse] == side)) for side in (True, False))
    model = load_checkpoint(args.model).float()
    model.periodic_long_range_cutoff = PERIODIC_CUTOFF
    fit_uncertainty(model, training, calibration, level=0.9, seed=args.seed)
    found = coverage(model, test)
    print(found.table())
    kept = {"groups": len(names), "calibration": len(calibration), "test": len(test), **found.to_dict()}
    args.coverage.write_text(json.dumps(kept, indent=1))
    save_checkpoint(model.double(), args.out, model.card)
    if args.test is not None:
        test.write(args.test)


def unseen(data: Dataset, known: set[str]) -> Dataset:
    """Structures none of whose molecules is known, water and the smallest ions aside."""
    keep = [not known & set(molecules(group)) for group in data.group]
    print(f"{sum(keep)} of {len(keep)} structures are of molecules that were not learned from")
    return data.take(np.flatnonzero(keep))


def molecules(group: str) -> list[str]:
    """The molecules of a group by canonical SMILES, without those that stand beside any other."""
    found = []
    for word in str(group).split("."):
        try:
            name = name_of(word)
        except (HeliodorError, ValueError):
            # trajectories of water
            name = word
        if name not in SHARED:
            found.append(name)
    return found


if __name__ == "__main__":
    main()
