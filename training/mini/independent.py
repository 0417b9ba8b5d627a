"""Errors against SO3LR on structures that other people made: MD17, SPICE, SAPT10k, drug molecules, peptides.

    python training/mini/independent.py --model heliodor-mini.safetensors --data DIR --out independent.json

DIR holds the project's collected data (see the PROVENANCE.md of each folder there); only geometries are taken from it.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import warnings
from pathlib import Path

import ase
import numpy as np
import torch
from ase.io import read

import heliodor
from heliodor.potential import ModelWarning

SETS = {
    "aspirin, rMD17, 500 K": ("ef_md17/rmd17_aspirin_split01_training.xyz.gz", 100),
    "ethanol, MD17, 500 K": ("ef_md17/ethanol_so3lr.xyz.gz", 100),
    "dipeptides, SPICE": ("ef_spice_dipeptides/spice_dipep_dipolar_val.xyz.gz", 100),
    "dimers, SAPT10k": ("sapt10k/sapt10k_public.xyz.gz", 200),
    "drug molecules and stachyose, MMFF94 geometries": ("derived_systems/*[eln].xyz", 10),
    "alanine peptides, built by hand": ("derived_systems/AceAla*.xyz", 20),
}


def frames(folder: Path, pattern: str, count: int) -> list[ase.Atoms]:
    """Up to `count` structures of eight elements and closed shells, drawn with a fixed seed."""
    found: list[ase.Atoms] = []
    for path in sorted(folder.glob(pattern)):
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
        found += read(io.StringIO(text), ":", format="extxyz")
    order = np.random.default_rng(0).permutation(len(found))[:count]
    kept = []
    for atoms in (found[k].copy() for k in sorted(order)):
        charge = float(atoms.info.get("charge", atoms.info.get("total_charge", 0.0)))
        atoms.info = {"charge": charge}
        if set(atoms.numbers) <= {1, 6, 7, 8, 9, 15, 16, 17} and (atoms.numbers.sum() - charge) % 2 == 0:
            kept.append(atoms)
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="heliodor-mini")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ModelWarning)
    student, teacher = heliodor.load(args.model), heliodor.load("so3lr")
    result = {}
    for name, (pattern, count) in SETS.items():
        structures = frames(args.data, pattern, count)
        mine, reference = (heliodor.evaluate(p, structures, batch_atoms=600).forces for p in (student, teacher))
        assert mine is not None and reference is not None
        result[name] = {
            "structures": len(structures),
            "force_rmse": 1e3 * float((mine - reference).square().mean().sqrt()),
            "force_mae": 1e3 * float((mine - reference).abs().mean()),
            "force_rms_of_reference": 1e3 * float(reference.square().mean().sqrt()),
        }
        print(name, result[name], flush=True)
    args.out.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
