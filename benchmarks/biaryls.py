"""Biaryls: torsion drives of the Lahey-Rowley set against B3LYP-D3BJ/DZVP profiles (OpenFF).

    python benchmarks/biaryls.py FOLDER [--models so3lr,heliodor-mini] [--output biaryls] [--minutes 15]

FOLDER holds OpenFF_Rowley_Biaryl_v1-0.sdf; what it is and how profiles are made: heliodor/bench/torsions.py, of which
`heliodor bench accuracy --sets biaryls` gives the barriers. What is done is kept: the same command goes on, also in
the middle of a molecule.

Barrier: highest above lowest point of the interpolated profile. Tops: maxima of the reference against the profile's
nearest one, each above its own lowest point.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

import heliodor
from heliodor.bench.torsions import FILE, Biaryl, against_reference, drive, read_biaryls
from heliodor.errors import HeliodorError
from heliodor.potential import ModelWarning
from heliodor.scan import Axis
from heliodor.units import KCAL_PER_MOL


def profile_row(one: Biaryl, model: str, step: float, record: Path, deadline: float) -> dict[str, Any] | None:
    """The profile of a molecule and how far it is from the reference, kcal/mol; None if time ran out."""
    potential = heliodor.load(model, device="cpu", dtype="float64")
    begun = time.monotonic()
    row: dict[str, Any] = {"molecule": one.name, "smiles": one.smiles, "atoms": len(one.atoms), "model": model}
    try:
        scan = drive(one, potential, step, record, lambda: time.monotonic() > deadline)
    except HeliodorError as error:
        return row | {"failed": str(error)}
    if not scan.complete:
        return None
    if scan.missing:
        return row | {"failed": f"no structure at {scan.missing}"}
    found = against_reference(one, scan, step)
    return row | {
        "barrier": found.height / KCAL_PER_MOL,
        "reference_barrier": found.reference_height / KCAL_PER_MOL,
        "barrier_error": found.error / KCAL_PER_MOL,
        "profile_rmsd": found.rmsd / KCAL_PER_MOL,
        "tops": [[angle, *(e / KCAL_PER_MOL for e in heights)] for angle, *heights in found.tops],
        "angles": Axis.over(0.0, 180.0, step).angles.tolist(),
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
    molecules = read_biaryls(args.folder / FILE)
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
            row = profile_row(one, model, args.step, record, deadline)
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
