"""X23: lattice energies of 23 molecular crystals against X23b, at reference geometries and relaxed.

    python benchmarks/x23.py shared/data/x23 heliodor-mini so3lr [--relax] [--output docs/figures]

What the folder holds and how energies are taken: heliodor/bench/crystals.py. "reference" rows are single points,
"relaxed" rows relax crystals and molecules with the model; `heliodor bench accuracy --sets x23` does the former. Rows
already in the output's x23.json are kept: delete the file, or a row, to have it computed again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import heliodor
from heliodor.bench.crystals import CUTOFF, Crystal, compute, energy_of, read_crystals
from heliodor.errors import HeliodorError


def row(potential: heliodor.Potential, one: Crystal, relax: str) -> dict[str, Any]:
    """One line of the table; a refusal in words where the model cannot take the crystal."""
    start = time.time()

    def progress(what: str, step: int, energy: float, largest: float) -> None:
        if sys.stderr.isatty():
            print(f"\r\033[K{one.name}: {what} step {step}, {largest:.3f} eV/Å", end="", file=sys.stderr)

    try:
        found = compute(potential, one, relax, progress)
    except HeliodorError as error:
        return {"refused": str(error)}
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    return {
        "reference": one.reference,
        "at_cutoff": found.kcal_per_mol,
        "energy": energy_of(found),
        "long_range_cutoff_A": found.long_range_cutoff,
        "volume_per_molecule_A3": found.final.get_volume() / found.units,
        "volume_experiment_A3": one.volume,
        "volume_change_percent": found.volume_change,
        "rmsd20_A": found.rmsd20,
        "converged": found.converged,
        "steps": found.steps,
        "notes": [note for note in found.notes if not note.startswith("nothing was relaxed")],
        "seconds": time.time() - start,
    }


def errors(rows: dict[str, Any], key: str = "energy") -> np.ndarray:
    """Model minus reference, kcal/mol; positive: too weakly bound."""
    return np.array([r[key] - r["reference"] for r in rows.values() if "refused" not in r])


def table(results: dict[str, dict[str, Any]], names: list[str]) -> str:
    """Markdown: kcal/mol; relaxed rows with the change of volume."""
    runs = list(results)
    lines = ["| crystal | X23b | " + " | ".join(runs) + " |", "|---" * (len(runs) + 2) + "|"]
    for name in names:
        cells, reference = [], float("nan")
        for run in runs:
            r = results[run].get(name)
            if r is None or "refused" in r:
                cells.append("refused" if r else "")
                continue
            reference = r["reference"]
            change = f" ({r['volume_change_percent']:+.0f} %)" if run.endswith("relaxed") else ""
            mark = "" if r["converged"] else "*"
            cells.append(f"{r['energy']:.1f}{mark}{change}")
        lines.append(f"| {name} | {reference:.1f} | " + " | ".join(cells) + " |")
    statistics = {
        "MAE": lambda e: np.abs(e).mean(),
        "mean error": np.mean,
        "median of absolute errors": lambda e: np.median(np.abs(e)),
    }
    for title, function in statistics.items():
        for unit, factor in (("kcal/mol", 1.0), ("kJ/mol", 4.184)):
            values = [function(errors(results[run])) * factor if len(errors(results[run])) else np.nan for run in runs]
            lines.append(f"| **{title}, {unit}** | | " + " | ".join(f"{v:.2f}" for v in values) + " |")
    return "\n".join(lines)


def plot(results: dict[str, dict[str, Any]], names: list[str], path: Path) -> None:
    """Errors of each crystal."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 4.5))
    width = 0.8 / len(results)
    for k, (run, rows) in enumerate(results.items()):
        heights = [
            rows[n]["energy"] - rows[n]["reference"] if n in rows and "refused" not in rows[n] else np.nan
            for n in names
        ]  # fmt: skip
        axes.bar(np.arange(len(names)) + (k + 0.5) * width - 0.4, heights, width, label=run)
    axes.axhspan(-1.0, 1.0, color="0.9", zorder=0)
    axes.axhline(0.0, color="black", lw=0.6)
    axes.set_ylim(-15.0, 25.0)
    axes.set_xticks(np.arange(len(names)), names, rotation=60, ha="right", fontsize=8)
    axes.set_ylabel("error of the lattice energy, kcal/mol\n(positive: too weakly bound)")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--relax", action="store_true", help="relaxed crystals too")
    parser.add_argument("--dtype", default="float64")
    parser.add_argument("--cutoff", type=float, default=CUTOFF, help="Å, long-range, for models that have one")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("."))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    crystals = read_crystals(options.folder)
    kept = options.output / "x23.json"
    results: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else {}
    for relax in ("none", "cell") if options.relax else ("none",):
        for model in options.models:
            potential = heliodor.load(model, dtype=options.dtype, device="cpu")
            if potential.has_long_range:
                potential.long_range_cutoff = options.cutoff
            rows = results.setdefault(f"{model}, {'relaxed' if relax == 'cell' else 'reference'}", {})
            for one in crystals:
                if one.name in rows:
                    continue
                r = row(potential, one, relax)
                rows[one.name] = r
                # a name of its own until it is whole: an interrupted run resumes from the last complete file
                part = kept.with_suffix(".part")
                part.write_text(json.dumps(results, indent=1, ensure_ascii=False))
                part.replace(kept)
                told = r.get("refused") or f"{r['energy']:8.2f} kcal/mol, X23b {r['reference']:.2f}"
                extra = "" if "refused" in r else f"; volume {r['volume_change_percent']:+.1f} %, {r['seconds']:.0f} s"
                print(f"{model} {relax} {one.name}: {told}{extra} {r.get('notes') or ''}", flush=True)
    names = sorted(one.name for one in crystals)
    shown = {run: rows for run, rows in results.items() if rows}
    print("\n" + table(shown, names))
    plot(shown, names, options.output / "x23.png")


if __name__ == "__main__":
    main()
