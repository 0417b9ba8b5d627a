"""Biaryls: torsion drives of the Lahey-Rowley set against B3LYP-D3BJ/DZVP profiles (OpenFF).

    python benchmarks/biaryls.py FOLDER [--models so3lr,heliodor-mini] [--output biaryls] [--minutes 15]

FOLDER holds OpenFF_Rowley_Biaryl_v1-0.sdf (github.com/Boehringer-Ingelheim/TorsionProfiler, biaryl_set: geometries,
mapped atoms of the torsion, reference profiles in hartree). The CCSD(T) barriers of Lahey, Thien Phuc & Rowley, J.
Chem. Inf. Model. 60, 6258 (2020), are not in it. The molecules have no stereocentres, so E(-x) = E(x): 0 to 180 degrees
are driven, both ways, and mirrored. What is done is kept: the same command goes on, also in the middle of a molecule.

Barrier: highest above lowest point of the interpolated profile. Tops: maxima of the reference against the profile's
nearest one, each above its own lowest point.
"""

from __future__ import annotations

import argparse
import ast
import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import numpy as np
import torch

import heliodor
from heliodor.errors import HeliodorError
from heliodor.potential import ModelWarning
from heliodor.scan import Axis, Profile, compare, torsion_scan
from heliodor.scan.profile import profile_of_points
from heliodor.units import HARTREE, KCAL_PER_MOL


@dataclass(frozen=True)
class Biaryl:
    """One molecule; the reference profile in eV."""

    name: str
    smiles: str
    atoms: ase.Atoms
    dihedral: tuple[int, ...]
    reference: Profile


def read_biaryls(path: Path) -> list[Biaryl]:
    """All molecules of the SDF file; the torsion is that of the atoms mapped 1 to 4."""
    found = []
    for number, text in enumerate(path.read_text().split("$$$$\n")):
        if not text.strip():
            continue
        lines = text.splitlines()
        count = int(lines[3][:3])
        rows = lines[4 : 4 + count]
        positions = [[float(row[k : k + 10]) for k in (0, 10, 20)] for row in rows]
        atoms = ase.Atoms([row[31:34].strip() for row in rows], positions)
        charges = [line.split()[4::2] for line in lines if line.startswith("M  CHG")]
        atoms.info["charge"] = sum(int(q) for line in charges for q in line)
        mapped = {int(row[60:63]): k for k, row in enumerate(rows) if int(row[60:63])}
        tags = {
            line.split("<")[1].split(">")[0]: lines[k + 1] for k, line in enumerate(lines) if line.startswith(">  <")
        }
        angles = np.array(ast.literal_eval(tags["Angles_QCArchive"]), dtype=float)
        energies = np.array(ast.literal_eval(tags["Energy_QCArchive"])) * HARTREE
        reference = profile_of_points((angles + 180.0) % 360.0 - 180.0, energies - energies.min())
        dihedral = tuple(mapped[k] for k in (1, 2, 3, 4))
        found.append(Biaryl(f"{number:02d}", tags["SMILES_QCArchive"], atoms, dihedral, reference))
    return found


def drive(one: Biaryl, model: str, step: float, record: Path, deadline: float) -> dict[str, Any] | None:
    """The profile of a molecule and how far it is from the reference, kcal/mol; None if time ran out."""
    potential = heliodor.load(model, device="cpu", dtype="float64")
    begun = time.monotonic()
    axes = Axis.over(0.0, 180.0, step)
    row: dict[str, Any] = {"molecule": one.name, "smiles": one.smiles, "atoms": len(one.atoms), "model": model}
    try:
        scan = torsion_scan(
            one.atoms,
            potential,
            [one.dihedral],
            axes=axes,
            record=record,
            restart=True,
            stop=lambda: time.monotonic() > deadline,
        )
    except HeliodorError as error:
        return row | {"failed": str(error)}
    if not scan.complete:
        return None
    if scan.missing:
        return row | {"failed": f"no structure at {scan.missing}"}
    inner = slice(1, -1)
    profile = profile_of_points(
        np.append(axes.angles, -axes.angles[inner]), np.append(scan.relative, scan.relative[inner])
    )
    found = compare(profile, one.reference)
    return row | {
        "barrier": found.height / KCAL_PER_MOL,
        "reference_barrier": found.reference_height / KCAL_PER_MOL,
        "barrier_error": found.error / KCAL_PER_MOL,
        "profile_rmsd": found.rmsd / KCAL_PER_MOL,
        "tops": [[angle, *(e / KCAL_PER_MOL for e in heights)] for angle, *heights in found.tops],
        "angles": axes.angles.tolist(),
        "energies": (scan.relative / KCAL_PER_MOL).round(4).tolist(),
        "relaxations": len(scan.relaxations),
        "failed_relaxations": len(scan.failures),
        "force_calls": sum(one.steps for one in scan.relaxations),
        "seconds": round(time.monotonic() - begun, 1),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Errors by model, kcal/mol."""
    titles = f"{'n':>3} {'barrier MAE':>12} {'mean':>7} {'tops MAE':>9} {'profile RMSD':>13} {'failed':>7}"
    lines = [f"{'model':<16} {titles}"]
    for model in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == model]
        good = [row for row in mine if "failed" not in row]
        if not good:
            continue
        errors = np.array([row["barrier_error"] for row in good])
        tops = np.array([own - ref for row in good for _, ref, own in row["tops"]])
        rmsd = np.mean([row["profile_rmsd"] for row in good])
        lines.append(
            f"{model:<16} {len(good):>3} {np.abs(errors).mean():>12.2f} {errors.mean():>+7.2f} "
            f"{np.abs(tops).mean():>9.2f} {rmsd:>13.2f} {len(mine) - len(good):>7}"
        )
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], molecules: dict[str, Biaryl], path: Path) -> None:
    """Profiles of up to twelve molecules with their references."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row["molecule"] for row in rows if "failed" not in row))[:12]
    if not names:
        return
    figure = Figure(figsize=(10.0, 2.4 * -(-len(names) // 3)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(-(-len(names) // 3), 3, squeeze=False, sharex=True).ravel()
    fine = np.linspace(0.0, 180.0, 181)
    for axes, name in zip(panels, names, strict=False):
        reference = molecules[name].reference.at(fine) / KCAL_PER_MOL
        axes.plot(fine, reference - reference.min(), color="0.3", ls="--", lw=1.0, label="B3LYP-D3BJ/DZVP")
        for row in rows:
            if row["molecule"] == name and "failed" not in row:
                axes.plot(row["angles"], row["energies"], "o-", ms=3, lw=0.9, label=row["model"])
        axes.set_title(f"{name}  {molecules[name].atoms.get_chemical_formula()}", fontsize=8)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    panels[0].legend(fontsize=7)
    figure.supxlabel("dihedral (°)")
    figure.supylabel("relative energy (kcal/mol)")
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", default="so3lr,heliodor-mini")
    parser.add_argument("--output", type=Path, default=Path("biaryls"), help="folder for JSON, picture, records")
    parser.add_argument("--step", type=float, default=15.0)
    parser.add_argument("--minutes", type=float, default=np.inf)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore", ModelWarning)
    molecules = read_biaryls(args.folder / "OpenFF_Rowley_Biaryl_v1-0.sdf")
    args.output.mkdir(exist_ok=True)
    result = args.output / "biaryls.json"
    rows: list[dict[str, Any]] = json.loads(result.read_text()) if result.exists() else []
    known = {(row["molecule"], row["model"]) for row in rows}
    deadline = time.monotonic() + 60.0 * args.minutes
    for one in molecules:
        for model in args.models.split(","):
            if (one.name, model) in known or time.monotonic() > deadline:
                continue
            record = args.output / f"{one.name}_{Path(model).stem}_{args.step:g}.xyz"
            row = drive(one, model, args.step, record, deadline)
            if row is None:
                continue
            rows.append(row)
            part = result.with_suffix(".part")
            part.write_text(json.dumps(rows, indent=1))
            part.replace(result)
            told = row.get("failed") or (
                f"barrier {row['barrier']:.2f} (reference {row['reference_barrier']:.2f}), profile RMSD "
                f"{row['profile_rmsd']:.2f} kcal/mol, {row['seconds']:.0f} s"
            )
            print(f"{one.name} {row['atoms']:>3} atoms {model:<16} {told}", flush=True)
    print(table(rows))
    draw(rows, {one.name: one for one in molecules}, args.output / "biaryls.png")


if __name__ == "__main__":
    main()
