"""Put a trained student into the package: checkpoint with its card, registry entry, and the document's tables.

    python training/mini/ship.py --model runs/mini/heliodor-mini.safetensors --how-made "..." \\
        --scores "unseen molecules=unseen.json" "unseen geometries=seen.json" \\
        --independent others.json --dynamics water.json peptide.json

Every figure comes from files that validate.py wrote.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from heliodor.checkpoint import load_checkpoint, save_checkpoint, sha256
from heliodor.registry import weights_folder

ROOT = Path(__file__).parents[2]
KINDS = ("molecule", "ion", "peptide", "water", "dimer")
CITATION = "Kabylda et al., J. Am. Chem. Soc. 147, 33723 (2025), and heliodor"
SUMMARY = "small SO3krates with SO3LR's physical terms, distilled from SO3LR; for demonstrations"
LICENCE = "MIT; distilled from SO3LR, MIT, (c) 2024 Thorben Frank"
FORBIDDEN = [
    "conclusions about nature: it reproduces SO3LR, with the errors given here on top of SO3LR's own",
    "other elements than H C N O F P S Cl",
    "bond breaking, radicals, excited states, metals",
    "absolute energies, or energies of different total charges or spins subtracted (not size-consistent)",
    "chemistry far from its training set (small organic molecules, ions, capped peptides, water)",
]
MARKS = ("<!-- figures, written by training/mini/ship.py -->\n", "<!-- end of figures -->\n")


def tables(
    scores: dict[str, dict[str, Any]], independent: dict[str, dict[str, float]], runs: list[dict[str, Any]]
) -> str:
    """Markdown tables of errors and stability runs."""
    lines = [f"| force RMSE against SO3LR, meV/Å | {' | '.join(scores)} |", f"|---|{'---|' * len(scores)}"]
    for kind in (*KINDS, "force"):
        title = "**all**" if kind == "force" else kind
        cells = []
        for score in scores.values():
            error = score["errors"].get(kind)
            count = sum(score["structures"].values()) if kind == "force" else score["structures"].get(kind, 0)
            cells.append("-" if error is None else f"{error:.0f} ({count})")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    rest = (
        ("force_mae", "force MAE, meV/Å", "{:.0f}"),
        ("force_rms_of_reference", "RMS of the forces themselves, meV/Å", "{:.0f}"),
        ("charges", "partial charge RMSE, e", "{:.3f}"),
        ("hirshfeld", "Hirshfeld ratio RMSE", "{:.3f}"),
    )
    for key, title, form in rest:
        lines.append(f"| {title} | {' | '.join(form.format(s['errors'][key]) for s in scores.values())} |")
    lines += ["", "In brackets: number of structures.", ""]
    lines += [
        "| structures made by others | number | force RMSE | MAE | RMS of the forces, meV/Å |",
        "|---|---|---|---|---|",
    ]
    for name, found in independent.items():
        errors = " | ".join(f"{found[key]:.0f}" for key in ("force_rmse", "force_mae", "force_rms_of_reference"))
        lines.append(f"| {name} | {found['structures']} | {errors} |")
    lines.append("")
    lines += ["| dynamics (NVT, Langevin) | temperature, K | mean, K | timestep, fs | length, ps | broken bonds |"]
    lines += ["|---|---|---|---|---|---|"]
    for run in runs:
        lines.append(
            f"| {run['system']}, {run['atoms']} atoms | {run['temperature_K']:.0f} | {run['mean_temperature_K']:.1f} | "
            f"{run['timestep_fs']:g} | {run['time_ps']:g} | {run['broken_bonds']} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--scores", nargs="+", required=True, metavar="TITLE=FILE")
    parser.add_argument("--independent", type=Path, required=True, help="what independent.py wrote")
    parser.add_argument("--dynamics", nargs="*", type=Path, default=[])
    parser.add_argument("--how-made", required=True, help="one sentence: data, steps, time")
    args = parser.parse_args()
    scores = {title: json.loads(Path(file).read_text()) for title, file in (s.split("=", 1) for s in args.scores)}
    independent = json.loads(args.independent.read_text())
    runs = [json.loads(path.read_text()) for path in args.dynamics]
    card = {
        "name": "heliodor-mini",
        "summary": SUMMARY,
        "licence": LICENCE,
        "citation": CITATION,
        "how_made": args.how_made,
        "errors": {
            f"{title} (forces RMSE in meV/Å, charges in e)": {k: round(v, 4) for k, v in s["errors"].items()}
            for title, s in scores.items()
        },
        "errors_on_structures_made_by_others_in_meV/Å": {
            name: {k: round(v, 1) for k, v in found.items()} for name, found in independent.items()
        },
        "dynamics": {
            run["system"]: {k: round(v, 1) for k, v in run.items() if isinstance(v, (int, float)) and "day" not in k}
            for run in runs
        },
        "must_not_be_used_for": FORBIDDEN,
    }
    potential = load_checkpoint(args.model)
    potential.name = "heliodor-mini"
    target = weights_folder() / "heliodor-mini.safetensors"
    save_checkpoint(potential, target, card)
    target.chmod(0o644)
    registry = weights_folder() / "registry.json"
    entries = json.loads(registry.read_text())
    entries["heliodor-mini"] = {
        "summary": SUMMARY,
        "elements": "H C N O F P S Cl",
        "licence": LICENCE,
        "citation": CITATION,
        "embedded": target.name,
        "sha256": sha256(target),
        "official": None,
    }
    registry.write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n")
    page = ROOT / "docs" / "heliodor-mini.md"
    before, rest = page.read_text().split(MARKS[0])
    page.write_text(before + MARKS[0] + tables(scores, independent, runs) + MARKS[1] + rest.split(MARKS[1])[1])
    print(f"{target} ({target.stat().st_size / 1e6:.2f} MB), {registry}, {page}")


if __name__ == "__main__":
    main()
