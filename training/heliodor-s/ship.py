"""Put a trained student into the package as heliodor-s: checkpoint with its card, registry entry, tables of its page.

    python training/heliodor-s/ship.py --model calibrated.safetensors --figures figures.json --coverage coverage.json \\
        --history history.txt

Every figure comes from files that figures.py and calibrate.py wrote.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import heliodor
from heliodor.checkpoint import load_checkpoint, save_checkpoint, sha256
from heliodor.registry import weights_folder
from heliodor.verify import _structure

ROOT = Path(__file__).resolve().parents[2]
NAME = "heliodor-s"
CITATION = "Kabylda et al., J. Am. Chem. Soc. 147, 33723 (2025), and heliodor"
SUMMARY = "small SO3krates with SO3LR's physical terms and a calibrated uncertainty, distilled from SO3LR"
LICENCE = "MIT; distilled from SO3LR, MIT, (c) 2024 Thorben Frank"
FORBIDDEN = [
    "conclusions about nature: it reproduces SO3LR, with the errors given here on top of SO3LR's own",
    "other elements than H C N O F P S Cl",
    "bond breaking, radicals, excited states, metals",
    "absolute energies, or energies of different total charges or spins subtracted (not size-consistent)",
    "chemistry far from its training set; its uncertainty tells where that begins",
]
MARKS = ("<!-- figures, written by training/heliodor-s/ship.py -->\n", "<!-- end of figures -->\n")


def tables(figures: dict[str, Any]) -> str:
    """Markdown."""
    lines = ["| held-out, molecules unseen | structures | force RMSE | MAE | RMS of the forces, meV/Å | dipole, D |"]
    lines += ["|---|---|---|---|---|---|"]
    for kind, found in figures["held_out"].items():
        forces, dipole = found["forces"], found["dipole_error_debye"]
        row = [kind.replace("_", " "), found["structures"], *(f"{1e3 * forces[k]:.0f}" for k in ("rmse", "mae"))]
        row += [f"{1e3 * found['force_rms_of_reference']:.0f}", "-" if dipole is None else f"{dipole:.2f}"]
        lines.append("| " + " | ".join(map(str, row)) + " |")
    lines += ["", "| structures made by others | number | force RMSE | MAE | RMS of the forces, meV/Å | dipole, D |"]
    lines += ["|---|---|---|---|---|---|"]
    for name, found in figures["independent"].items():
        values = (f"{1e3 * found[k]:.0f}" for k in ("force_rmse", "force_mae", "force_rms_of_reference"))
        lines.append(f"| {name} | {found['structures']} | {' | '.join(values)} | {found['dipole_error_debye']:.2f} |")
    lines += ["", "| energy and forces, one thread, plain PyTorch | atoms | SO3LR, ms | heliodor-s, ms | ratio |"]
    lines += ["|---|---|---|---|---|"]
    for name, found in figures["cost"].items():
        times = f"{found['teacher_ms']:.1f} | {found['student_ms']:.1f} | {found['ratio']:.2f}"
        lines.append(f"| {name} | {found['atoms']} | {times} |")
    if figures.get("dynamics"):
        lines += [
            "",
            "| dynamics | timestep, fs | length, ps | mean temperature, K | broken bonds | drift, meV/atom/ns |",
        ]
        lines += ["|---|---|---|---|---|---|"]
    for name, run in figures.get("dynamics", {}).items():
        drift = f"{run['drift_meV_per_atom_per_ns']:.2f}"
        lines.append(
            f"| {name}, {run['file']} | {run['timestep_fs']:g} | {run['ps']:g} | {run['mean_temperature_K']:.1f} | "
            f"{run['broken_bonds']} | {drift} |"
        )
    return "\n".join(lines) + "\n"


def covering(found: dict[str, Any]) -> str:
    """Markdown: how often the interval of the force covers the truth, by kind."""
    head = (
        "| 90 % interval of a force, molecules unseen | structures | covered, % | mean half-width, meV/Å | mean error |"
    )
    lines = ["", head, "|---|---|---|---|---|"]
    for kind, row in found["kinds"].items():
        scatter = f" ± {100 * row['error']:.1f}" if math.isfinite(row["error"]) else ""
        share = f"{100 * row['by_structures']:.1f}{scatter}"
        widths = f"{1e3 * row['half_width']:.0f} | {1e3 * row['mean_error']:.0f}"
        lines.append(f"| {kind} | {row['structures']} | {share} | {widths} |")
    return "\n".join(lines) + "\n"


def known(target: Path) -> None:
    """Its own energies of the structures by which `heliodor models verify` knows models."""
    path = weights_folder() / "known" / "known_answers.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    answers = []
    for item in table["answers"]["heliodor-mini"]:
        atoms = _structure(table["structures"][item["structure"]], [])
        value = float(heliodor.evaluate(heliodor.load(str(target), dtype="float64"), atoms).energy[0])
        answers.append({**item, "value": value})
    table["answers"][NAME] = answers
    path.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--figures", type=Path, required=True)
    parser.add_argument("--coverage", type=Path, required=True)
    parser.add_argument("--history", type=Path, required=True, help="how it was made, in words")
    args = parser.parse_args()
    figures, covered = (json.loads(path.read_text()) for path in (args.figures, args.coverage))
    potential = load_checkpoint(args.model)
    card = {
        "name": NAME,
        "summary": SUMMARY,
        "licence": LICENCE,
        "citation": CITATION,
        "how_made": " ".join(args.history.read_text().split()),
        "errors": figures["held_out"],
        "errors_on_structures_made_by_others": figures["independent"],
        "cost": figures["cost"],
        "dynamics": figures.get("dynamics", {}),
        "coverage_of_its_90_percent_interval": covered,
        "must_not_be_used_for": FORBIDDEN,
    }
    potential.name = NAME
    target = weights_folder() / f"{NAME}.safetensors"
    save_checkpoint(potential, target, card)
    target.chmod(0o644)
    registry = weights_folder() / "registry.json"
    entries = json.loads(registry.read_text())
    entries[NAME] = {
        "summary": SUMMARY,
        "elements": "H C N O F P S Cl",
        "licence": LICENCE,
        "citation": CITATION,
        "embedded": target.name,
        "sha256": sha256(target),
        "official": None,
    }
    registry.write_text(json.dumps(entries, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    page = ROOT / "docs" / f"{NAME}.md"
    before, rest = page.read_text().split(MARKS[0])
    page.write_text(before + MARKS[0] + tables(figures) + covering(covered) + MARKS[1] + rest.split(MARKS[1])[1])
    known(target)
    print(f"{target} ({target.stat().st_size / 1e6:.2f} MB), {registry}, {page}")


if __name__ == "__main__":
    main()
