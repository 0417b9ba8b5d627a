"""heliodor eval: a model against labelled structures."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliodor.cli.common import (
    DEFAULT_MODEL,
    Charge,
    Device,
    Dtype,
    Json,
    Kernels,
    LongRangeCutoff,
    Model,
    Overwrite,
    Spin,
    Threads,
    load_model,
    note,
    plain,
    print_json,
    print_lines,
)

if TYPE_CHECKING:
    from heliodor.analysis.parity import Parity
    from heliodor.potential import Potential
    from heliodor.train.conformal import Coverage

EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor eval test_set.extxyz --model so3lr\n"
    "  heliodor eval a.extxyz b.extxyz --forces-key ref_forces --energy-key ref_energy --output scores\n"
    "\b\nEnergies are compared relative to the mean over structures of the same formula, charge and spin: a model\n"
    "trained on forces has no zero of its own. Forces in eV/Å per component, dipoles in e·Å, charges in e,\n"
    "polarizabilities in e²Å²/eV.\n"
    "Writes errors.json, errors.csv, structures.csv (error of each structure) and parity_*.png into a folder."
)


TABLES = 3
"""Files written beside the plots."""


def _key(name: str, what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        f"--{name}-key", metavar="NAME", help=f"Name of the {what} in the file.", show_default="usual names"
    )
    return option


def register(app: typer.Typer) -> None:
    app.command("eval", epilog=EXAMPLES)(evaluate)


def evaluate(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Labelled structures, one or more files (extxyz).", show_default=False),
    ],
    model: Model = DEFAULT_MODEL,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Folder for tables and plots. [default: eval-MODEL-FILE]"),
    ] = None,
    plots: Annotated[bool, typer.Option("--plots/--no-plots", help="Draw parity plots.")] = True,
    energy_key: Annotated[str | None, _key("energy", "energies (eV)")] = None,
    forces_key: Annotated[str | None, _key("forces", "forces (eV/Å)")] = None,
    dipole_key: Annotated[str | None, _key("dipole", "dipoles (e·Å)")] = None,
    polarizability_key: Annotated[str | None, _key("polarizability", "polarizabilities (e²Å²/eV)")] = None,
    charges_key: Annotated[str | None, _key("charges", "partial charges (e)")] = None,
    ratios_key: Annotated[str | None, _key("ratios", "Hirshfeld ratios")] = None,
    absolute_energies: Annotated[
        bool,
        typer.Option("--absolute-energies", help="Compare energies as they are (two implementations of one model)."),
    ] = False,
    overwrite: Overwrite = False,
    charge: Charge = None,
    spin: Spin = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    long_range_cutoff: LongRangeCutoff = "auto",
    threads: Threads = None,
    kernels: Kernels = "auto",
    as_json: Json = False,
) -> None:
    """Score a model on labelled structures: errors by quantity and element, tables, parity plots."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from heliodor.analysis.parity import compare
    from heliodor.cli.reading import read_structures

    # neither commas nor stars belong in the name of a folder
    short = "committee" if set(model) & set(",*?[]") else Path(model).stem
    folder = output or Path(f"eval-{short}-{files[0].stem}")
    _check_folder(folder, overwrite)
    frames = [frame for file in files for frame in read_structures(file)]
    potential = load_model(
        model, device=device, dtype=dtype, long_range_cutoff=long_range_cutoff, threads=threads, kernels=kernels
    )
    screen = sys.stderr if as_json else sys.stdout
    atoms = sum(len(frame) for frame in frames)
    names = ", ".join(str(file) for file in files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
    print_lines(
        [
            ("structures", f"{len(frames)} with {atoms} atoms in {names}"),
            ("model", f"{potential.name}; {str(potential.dtype).removeprefix('torch.')} on {potential.device}"),
            ("licence", str(potential.card.get("licence", "not stated"))),
        ],
        screen,
    )
    keys = {
        "energy": energy_key,
        "forces": forces_key,
        "dipole": dipole_key,
        "polarizability": polarizability_key,
        "charges": charges_key,
        "hirshfeld_ratios": ratios_key,
    }
    columns = (TextColumn("atoms"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("atoms", total=atoms)
        parity = compare(
            potential,
            frames,
            keys=keys,
            charge=charge,
            spin=spin,
            absolute_energies=absolute_energies,
            progress=lambda done: bar.advance(task, done),
        )
    for line in parity.notes:
        note(line)
    result = summary(parity, potential, files)
    written = _write(parity, result, folder, potential.name, plots)
    if as_json:
        print_json({**result, "files": written})
    else:
        _print_table(parity)
        if "spread" in result:
            found = result["spread"]
            text = (
                f"of the {found['models']} models' forces: {found['forces_mean_eV_per_A']:.3g} eV/Å on average, "
                f"{found['forces_max_eV_per_A']:.3g} at most (structure {found['forces_max_structure']})"
            )
            print_lines([("spread", text)], screen)
        if parity.coverage is not None:
            print_lines(_covered(parity.coverage), screen)
        drawn = f" and {len(written) - TABLES} parity plots" if len(written) > TABLES else ""
        print_lines([("written", f"{folder}/: {', '.join(path.name for path in written[:TABLES])}{drawn}")], screen)


def summary(parity: Parity, potential: Potential, files: list[Path]) -> dict[str, Any]:
    """What --json prints and errors.json holds."""
    quantities: dict[str, Any] = {}
    keys = {item.name: item.key for item in parity.compared}
    for row in parity.rows():
        name = row["quantity"]
        entry = quantities.setdefault(name, {"unit": row["unit"], "key": keys[name], "elements": {}})
        numbers = {key: row[key] for key in ("count", "mae", "rmse", "max", "r2")}
        if row["element"] == "all":
            entry |= numbers
        else:
            entry["elements"][row["element"]] = numbers
    return {
        "model": potential.name,
        **_spread(parity),
        **({} if parity.coverage is None else {"force_error": parity.coverage.to_dict()}),
        "inputs": [str(file) for file in files],
        "structures": len(parity.structures),
        "atoms": sum(row["atoms"] for row in parity.structures),
        "long_range_cutoff_A": potential.long_range_cutoff if potential.has_long_range else None,
        "dtype": str(potential.dtype).removeprefix("torch."),
        "quantities": quantities,
        "notes": parity.notes,
    }


def _spread(parity: Parity) -> dict[str, Any]:
    """How far the models of a committee are apart: standard deviation of each atom's force as a vector."""
    norms = None if parity.spread is None else parity.spread.force_norms
    if parity.spread is None or norms is None:
        return {}
    worst = max(parity.structures, key=lambda row: row["forces_std_max_eV_per_A"])
    return {
        "spread": {
            "models": parity.spread.energies.shape[1],
            "forces_mean_eV_per_A": float(norms.mean()),
            "forces_max_eV_per_A": float(norms.max()),
            "forces_max_structure": worst["structure"],
        }
    }


def _covered(found: Coverage) -> list[tuple[str, str]]:
    """Whether what the model states of its own errors held: in all, and by kind."""
    lines = []
    for row in found.rows:
        name = "" if row.kind == "all" else f"{row.kind}: "
        lines.append(
            (
                "force error" if row.kind == "all" else "",
                f"{name}|ΔF| of {100 * row.by_structures:.1f} % of the atoms (mean over {row.structures} structures) "
                f"is within the {100 * found.level:g} % intervals, ±{row.half_width:.3g} eV/Å on average; rank "
                f"correlation with the true errors {row.rank_correlation:.2f}",
            )
        )
    return lines


def _check_folder(folder: Path, overwrite: bool) -> None:
    from heliodor.errors import InputError

    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; --output is a folder")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise InputError(f"the folder {folder} is not empty: choose another --output, or --overwrite")
    if not folder.absolute().parent.is_dir():
        raise InputError(f"there is no folder {folder.absolute().parent} to make {folder.name} in")


def _write(parity: Parity, result: dict[str, Any], folder: Path, model: str, plots: bool) -> list[Path]:
    from heliodor.analysis.draw import plot_parity, write_table

    folder.mkdir(exist_ok=True)
    written = [folder / "errors.json", folder / "errors.csv", folder / "structures.csv"]
    written[0].write_text(json.dumps(plain(result), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    write_table(parity.rows(), written[1])
    write_table(parity.structures, written[2])
    if plots:
        for item in parity.compared:
            written.append(folder / f"parity_{item.name}.png")
            plot_parity(item, written[-1], model)
    return written


def _print_table(parity: Parity) -> None:
    print(f"\n{'quantity':<18} {'':<4} {'count':>8} {'MAE':>11} {'RMSE':>11} {'max':>11} {'R²':>9}  unit")
    for row in parity.rows():
        overall = row["element"] == "all"
        name, r2 = (row["quantity"].replace("_", " ") if overall else ""), row["r2"]
        explained = f"{r2:9.5f}" if r2 == r2 else f"{'-':>9}"
        numbers = " ".join(f"{row[key]:11.4g}" for key in ("mae", "rmse", "max"))
        print(f"{name:<18} {row['element']:<4} {row['count']:>8} {numbers} {explained}  {row['unit']}")
    print()
