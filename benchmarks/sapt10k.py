"""SAPT10k: interaction energies of dimers by both protocols, and by the subtraction one should not make.

    python benchmarks/sapt10k.py sapt10k.xyz [--model so3lr]

The file is extended xyz with info keys charge_a, charge_b, benchmark_Eint (kcal/mol) and either an array `fragment` or,
as in the SO3LR authors' examples/data/sapt10k.zip, each dimer a second time with its monomers far apart. Published MAE
of SO3LR: 0.90 kcal/mol.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import ase
import numpy as np

import heliodor
from heliodor.bench.sapt10k import read_dimers
from heliodor.potential import ModelWarning
from heliodor.units import KCAL_PER_MOL


def part(atoms: ase.Atoms, mask: np.ndarray, charge: float) -> ase.Atoms:
    """Some of the atoms, with a charge of their own."""
    piece = atoms[mask]
    piece.info = {"charge": float(charge)}
    return piece


def subtracted(potential: heliodor.Potential, dimers: list[ase.Atoms], fragments: list[np.ndarray]) -> np.ndarray:
    """E(AB) - E(A) - E(B), each with its own total charge, eV."""
    energies = []
    for pick in (lambda f: f >= 0, lambda f: f == f.min(), lambda f: f == f.max()):
        pieces = []
        for atoms, fragment in zip(dimers, fragments, strict=True):
            mask = pick(fragment)
            a, b = fragment[mask].min() == fragment.min(), fragment[mask].max() == fragment.max()
            pieces.append(part(atoms, mask, a * atoms.info["charge_a"] + b * atoms.info["charge_b"]))
        energies.append(heliodor.evaluate(potential, pieces, forces=False).energy.numpy())
    return energies[0] - energies[1] - energies[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", default="so3lr")
    parser.add_argument("--long-range-cutoff", type=float, default=1000.0)
    args = parser.parse_args()
    dimers, fragments = read_dimers(args.file)
    order = np.argsort([len(atoms) for atoms in dimers], kind="stable")
    dimers, fragments = [dimers[k] for k in order], [fragments[k] for k in order]
    charges = [[atoms.info["charge_a"], atoms.info["charge_b"]] for atoms in dimers]
    reference = np.array([atoms.info["benchmark_Eint"] for atoms in dimers])
    charged = np.array([any(pair) for pair in charges])
    potential = heliodor.load(args.model, long_range_cutoff=args.long_range_cutoff)
    print(f"{len(dimers)} dimers, {charged.sum()} with a charged monomer; kcal/mol")
    print(f"{'protocol':<12} {'MAE':>8} {'neutral':>8} {'charged':>8} {'RMSE':>8} {'max':>8}")
    for name in ("fragments", "relaxed", "subtracted"):
        if name == "subtracted":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ModelWarning)
                energy = subtracted(potential, dimers, fragments)
        else:
            energy = heliodor.interaction_energy(potential, dimers, fragments, charges, protocol=name, batch_atoms=500)
        error = np.abs(np.asarray(energy) / KCAL_PER_MOL - reference)
        groups = [error.mean(), *(error[m].mean() if m.any() else np.nan for m in (~charged, charged))]
        print(f"{name:<12} " + " ".join(f"{x:8.3f}" for x in (*groups, np.sqrt((error**2).mean()), error.max())))


if __name__ == "__main__":
    main()
