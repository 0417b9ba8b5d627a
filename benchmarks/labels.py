"""What labels cost and how far they can be trusted: cost table, MBD and Hirshfeld values, dimers of S66.

    python benchmarks/labels.py [--large] [--shared ../shared] [--only cost|grids|s66] [--output labels.json]

Every label runs in a process of its own with one thread: CPU seconds (start-up not counted, free atoms of the
Hirshfeld partition counted) and the peak of resident memory. Geometries by RDKit's ETKDG and MMFF, seed 1.
``--large`` adds alanine dipeptide in the larger bases (twenty minutes). S66: interaction energies without counterpoise
correction against the CCSD(T)/CBS values of `shared/data/nci_refdata` (Rezac, Riley & Hobza, J. Chem. Theory Comput.
7, 2427 (2011)).
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import resource
import sys
import time
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np

from heliodor.label.methods import find_method
from heliodor.units import KCAL_PER_MOL

MOLECULES = {"water": "O", "ethanol": "CCO", "alanine dipeptide": "CC(=O)NC(C)C(=O)NC"}
SMALL = ["gfn2", "pbe0-mbd/def2-svp", "pbe0-mbd/def2-tzvp", "pbe0-mbd/def2-tzvpp", "wb97m-d3bj/def2-tzvppd"]
DIMERS = ["WaterWater", "EthyneWaterCHO", "MeOHMeOH", "MeNH2MeNH2", "EthyneEthyneTS"]


def build(smiles: str) -> ase.Atoms:
    from rdkit import Chem
    from rdkit.Chem import AllChem

    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(molecule, randomSeed=1)
    AllChem.MMFFOptimizeMolecule(molecule)
    return ase.Atoms([a.GetSymbol() for a in molecule.GetAtoms()], molecule.GetConformer().GetPositions())


def _label(name: str, atoms: ase.Atoms, answer: Any) -> None:
    method = find_method(name)
    start = time.process_time()
    label = method(atoms)
    answer.put(
        {
            "cpu_s": time.process_time() - start,
            "rss_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2,
            "energy": label.energy,
            "terms": label.terms,
            "net_force": None if label.forces is None else float(np.linalg.norm(label.forces.sum(0))),
            "ratios": None if label.hirshfeld_ratios is None else label.hirshfeld_ratios.tolist(),
            "notes": list(label.notes),
        }
    )


def run(name: str, atoms: ase.Atoms) -> dict[str, Any]:
    """The label of one structure and what it cost, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_label, args=(name, atoms, answer))
    process.start()
    result = answer.get(timeout=3600)
    process.join()
    return result


def cost(large: bool) -> list[dict[str, Any]]:
    rows = []
    print("molecule | method | CPU s | peak GB | dispersion meV | net force eV/Å | Hirshfeld ratios H, C, N, O")
    for molecule, smiles in MOLECULES.items():
        atoms = build(smiles)
        for name in SMALL if large or molecule != "alanine dipeptide" else SMALL[:2]:
            result = run(name, atoms)
            ranges = {
                element: (min(found), max(found))
                for element in "HCNO"
                if result["ratios"]
                and (found := [r for r, s in zip(result["ratios"], atoms.symbols, strict=True) if s == element])
            }
            text = ", ".join(f"{e} {low:.3f}-{high:.3f}" for e, (low, high) in ranges.items())
            dispersion = 1e3 * result["terms"].get("dispersion", float("nan"))
            print(
                f"{molecule} | {name} | {result['cpu_s']:.2f} | {result['rss_gb']:.2f} | {dispersion:.1f} | "
                f"{result['net_force']:.1e} | {text}",
                flush=True,
            )
            rows.append({"molecule": molecule, "method": name, **result})
    return rows


def s66(folder: Path, method: str, dimers: list[str]) -> list[dict[str, Any]]:
    reactions = json.loads((folder / "S66.json").read_text())["reactions"]
    with gzip.open(folder / "S66.xyz.gz", "rt") as file:
        frames = {atoms.info["name"]: atoms for atoms in ase.io.iread(file, format="extxyz")}
    rows = []
    print(f"dimer | {method} kcal/mol | CCSD(T)/CBS | of which dispersion")
    for reaction in reactions:
        terms = reaction["terms"]
        if terms[-1][0] not in dimers:
            continue
        found = [(factor, run(method, frames[name])) for name, factor in terms]
        energy = sum(factor * result["energy"] for factor, result in found) / KCAL_PER_MOL
        dispersion = sum(factor * result["terms"]["dispersion"] for factor, result in found) / KCAL_PER_MOL
        print(f"{terms[-1][0]} | {energy:.2f} | {reaction['ref']:.2f} | {dispersion:.2f}", flush=True)
        rows.append({"dimer": terms[-1][0], "energy": energy, "reference": reaction["ref"], "dispersion": dispersion})
    return rows


def grids() -> list[dict[str, Any]]:
    """What PySCF's grids cost, and the error they leave in forces (against the finest with the grid's response)."""
    from pyscf import dft

    from heliodor.label.mole import make_mole
    from heliodor.units import BOHR, HARTREE

    atoms = build(MOLECULES["ethanol"])
    atoms.rattle(0.05, seed=3)
    molecule = make_mole(list(atoms.symbols), atoms.positions, 0, 0, "def2-svp")
    rows, reference = [], None
    print("grid | response | CPU s SCF | CPU s forces | net force eV/Å | largest error eV/Å")
    for level, response in ((6, True), (3, False), (3, True), (4, False), (4, True), (5, False)):
        field = dft.RKS(molecule, xc="pbe0").density_fit()
        field.grids.level, field.chkfile = level, None
        start = time.process_time()
        field.kernel()
        middle = time.process_time()
        gradient = field.nuc_grad_method()
        gradient.grid_response = response
        forces = -gradient.kernel() * HARTREE / BOHR
        end = time.process_time()
        reference = forces if reference is None else reference
        row = [
            level,
            response,
            middle - start,
            end - middle,
            np.linalg.norm(forces.sum(0)),
            abs(forces - reference).max(),
        ]
        print("{} | {} | {:.1f} | {:.1f} | {:.1e} | {:.1e}".format(*row), flush=True)
        rows.append({"row": [float(x) for x in row]})
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--shared", type=Path, default=Path(__file__).resolve().parents[2] / "shared")
    parser.add_argument("--only", choices=("cost", "grids", "s66"))
    parser.add_argument("--method", default="pbe0-mbd/def2-tzvpp", help="of the dimers")
    parser.add_argument("--dimers", nargs="*", default=DIMERS)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(arguments)
    results: dict[str, Any] = {}
    if options.only in (None, "cost"):
        results["cost"] = cost(options.large)
    if options.only in (None, "grids"):
        results["grids"] = grids()
    if options.only in (None, "s66"):
        results["s66"] = s66(options.shared / "data/nci_refdata", options.method, options.dimers)
    if options.output:
        options.output.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    sys.exit(main())
