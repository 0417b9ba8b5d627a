"""heliodor models: what can be loaded, what it is, where it comes from."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliodor.cli.common import Dtype, Json, LongRangeCutoff, Overwrite, print_json, print_lines
from heliodor.errors import InputError

if TYPE_CHECKING:
    from heliodor.registry import ModelEntry
    from heliodor.verify import KnownAnswer

app = typer.Typer(
    rich_markup_mode=None,
    invoke_without_command=True,
    help="Models: list, describe, fetch, import, verify.",
    epilog="\b\nExamples:\n"
    "  heliodor models list\n"
    "  heliodor models info so3lr\n"
    "  heliodor models import params.pkl --name mine",
)

TITLES = {
    "summary": "summary",
    "made": "how made",
    "how": "how made",
    "how_made": "how made",
    "training": "training",
    "data": "data",
    "errors": "errors",
    "not_for": "must not be used for",
    "must_not_be_used_for": "must not be used for",
    "licence": "licence",
    "citation": "citation",
    "origin": "origin",
}


@app.callback()
def _root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """Every model that --model knows by name."""
    from heliodor.registry import imported, models

    rows = [
        {
            "name": entry.name,
            "where": _where(entry),
            "licence": entry.licence,
            "elements": list(entry.elements),
            "summary": entry.summary,
            "restricted": entry.restricted,
            "sha256": entry.sha256,
        }
        for entry in models().values()
    ]
    rows += [
        {
            "name": name,
            "where": "imported",
            "licence": None,
            "elements": None,
            "summary": str(path),
            "restricted": None,
            "sha256": None,
        }
        for name, path in imported().items()
    ]
    if as_json:
        print_json(rows)
        return
    width = max(len(str(row["name"])) for row in rows)
    for row in rows:
        print(f"{row['name']:<{width}}  {row['where']:<9}  {row['summary']}")
        elements = row["elements"]
        if isinstance(elements, list):
            licence = str(row["licence"]).split(", ")[0] + (", restricts use" if row["restricted"] else "")
            print(f"{'':<{width}}  {'':<9}  {' '.join(map(str, elements))}; licence {licence}")
    print("\n'heliodor models info NAME' tells more; 'heliodor models fetch NAME' brings one that is not here.")


@app.command("info")
def info(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="Model name or file.", show_default=False)],
    as_json: Json = False,
) -> None:
    """The card of a model: what it is, how it was made, what it must not be used for, licence, citation."""
    card = describe_model(name)
    if as_json:
        print_json(card)
        return
    lines = []
    for key, value in card.items():
        if value is not None:
            lines += _words(TITLES.get(key, key.replace("_", " ")), value)
    width = max(len(title) for title, _ in lines)
    for title, text in lines:
        print(f"{title:<{width}}  {text}")


@app.command("fetch")
def fetch_model(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Model name.", show_default=False)],
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept a licence that restricts use (shown first).")
    ] = False,
) -> None:
    """Download a model's official file, check it and convert it; needs internet once."""
    from heliodor.fetch import fetch
    from heliodor.registry import find_model

    entry = find_model(name)
    here = entry.path is not None
    accepted = here or _accepted(entry, accept_licence)
    path = fetch(name, accept_licence=accepted, progress=sys.stderr.isatty())
    print_lines(
        [
            ("model", f"{name}, {'was here already' if here else 'fetched'}: {path}"),
            ("licence", entry.licence),
            ("cite", entry.citation),
        ],
        sys.stdout,
    )


@app.command("verify")
def verify_model(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="Model name or file.", show_default=False)],
    known_as: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Whose known answers to expect. [default: by its hash]")
    ] = None,
    structures: Annotated[
        Path | None, typer.Option("--structures", metavar="FOLDER", help="Structures too large for the package.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Recompute published energies of a model, and say whether this file reproduces them."""
    from heliodor.verify import verify

    result = verify(name, known_as, structures)
    if as_json:
        answers = [{**asdict(a), "difference": a.difference, "passed": a.passed} for a in result.answers]
        print_json({**asdict(result), "answers": answers, "passed": result.passed})
    else:
        print_lines([("model", result.model), ("file", result.identity)], sys.stdout)
        for answer in result.answers:
            print(_answer_line(answer))
            print(f"      {answer.source}\n      tolerance: {answer.tolerance_from}")
        print("reproduced" if result.passed else "NOT reproduced")
    if not result.passed:
        raise typer.Exit(1)


def _answer_line(answer: KnownAnswer) -> str:
    verdict = {True: "ok", False: "FAILED", None: "skipped"}[answer.passed]
    if answer.value is None:
        return f"{verdict:<8}{answer.structure}: needs {answer.missing} (--structures FOLDER)"
    return (
        f"{verdict:<8}{answer.structure}: {answer.value:.8f} {answer.unit}, expected {answer.expected:.8f}, "
        f"difference {answer.difference:.1e}, tolerance {answer.tolerance:g}"
    )


def _accepted(entry: ModelEntry, beforehand: bool) -> bool:
    """Show a licence that restricts use, and ask where it is not accepted beforehand and somebody can answer."""
    if not entry.restricted:
        return True
    print(f"licence of {entry.name}: {entry.licence}", file=sys.stderr)
    if beforehand:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print("Type yes to accept it: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() == "yes"


@app.command("import")
def import_file(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Official file (params.pkl, .model) or checkpoint.", show_default=False),
    ],
    name: Annotated[str | None, typer.Option("--name", help="Name to load it by. [default: the file's]")] = None,
    head: Annotated[
        str | None, typer.Option("--head", help="Level of theory, of MACE files that hold several.", show_default=False)
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Convert a model file and keep it under a name. Nothing in the file is executed."""
    from heliodor.fetch import import_model
    from heliodor.registry import cache_folder, imported, models

    chosen = name or file.stem
    if Path(chosen).name != chosen:
        raise InputError(f"{chosen!r} cannot be a model's name: leave out slashes")
    entry = models().get(chosen)
    if entry is not None and entry.embedded:
        raise InputError(f"{chosen} is a model that comes with heliodor: choose another --name")
    if chosen in imported() and not overwrite:
        raise InputError(
            f"there is a model {chosen} in {cache_folder()} already: choose another --name, or --overwrite"
        )
    path = import_model(file, chosen, head=head)
    print_lines([("model", f"{chosen}: {path}"), ("use", f"heliodor md FILE --model {chosen}")], sys.stdout)


@app.command("to-lammps")
def to_lammps(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="Model name or file.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="[default: NAME.pt]", show_default=False)
    ] = None,
    charge: Annotated[float, typer.Option("--charge", metavar="E", help="Total charge of all atoms, e.")] = 0.0,
    spin: Annotated[int, typer.Option("--spin", metavar="N", help="Unpaired electrons of all atoms.")] = 0,
    units: Annotated[str, typer.Option("--units", help="LAMMPS's: metal or real.")] = "metal",
    dtype: Dtype = "float32",
    long_range_cutoff: LongRangeCutoff = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Write the file that LAMMPS's 'pair_style mliap unified' reads, for many processes (docs/scaling.md)."""
    from heliodor.cli.common import load_model
    from heliodor.engines.lammps.mliap import write_mliap

    path = output or Path(f"{Path(name).stem}.pt")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists: choose another --output, or --overwrite")
    model = load_model(name, device="cpu", dtype=dtype, long_range_cutoff=long_range_cutoff, kernels="reference")
    unified = write_mliap(model, path, charge=charge, spin=spin, units=units)
    lines = [
        ("model", f"{path}, units {units}, cutoff {unified.cutoff:g} Å, charge {charge:g} e"),
        ("use", f"pair_style mliap unified {path} 0"),
        ("", f"pair_coeff * * ELEMENT ...     (of {' '.join(unified.element_types)})"),
    ]
    print_lines(lines, sys.stdout)


def describe_model(name: str) -> dict[str, Any]:
    """Everything that is known about a model by name or file; what is in its card wins over the registry."""
    from heliodor.registry import imported, models

    entry = models().get(name)
    result: dict[str, Any] = {"name": name}
    if entry is not None:
        result |= {
            "where": _where(entry),
            "summary": entry.summary,
            "elements": list(entry.elements),
            "licence": entry.licence,
            "citation": entry.citation,
            "restricted": entry.restricted,
            "sha256": entry.sha256,
        }
        path = entry.path
        if path is None:
            return {**result, "file": None, "official": entry.official}
    else:
        path = imported().get(name, Path(name))
    from ase.data import chemical_symbols

    from heliodor.api import load
    from heliodor.checkpoint import sha256

    # loaded by name, so that an unknown name, a damaged file or a wrong hash is told as it is everywhere
    potential = load(name, device="cpu")
    result |= {key: value for key, value in potential.card.items() if key != "name"}
    return result | {
        "elements": [chemical_symbols[z] for z in potential.elements],
        "cutoff_A": potential.cutoff,
        "outputs": [*(["energy", "forces"] if potential.has_energy else []), *sorted(potential.outputs)],
        "parameters": sum(p.numel() for p in potential.parameters()),
        "bytes": path.stat().st_size,
        "sha256": sha256(path),
        "file": path,
    }


def _where(entry: ModelEntry) -> str:
    if entry.embedded:
        return "built in"
    return "fetched" if entry.path is not None else "not here"


def _words(title: str, value: Any) -> list[tuple[str, str]]:
    """A card's entry as lines; lists of words in one, dictionaries one line each."""
    if isinstance(value, dict):
        return [(title, ""), *(line for key, v in value.items() for line in _words(f"  {key.replace('_', ' ')}", v))]
    if isinstance(value, (list, tuple)):
        if all(len(str(v)) < 20 for v in value):
            return [(title, " ".join(str(v) for v in value))]
        return [(title if n == 0 else "", f"- {v}") for n, v in enumerate(value)]
    if title == "bytes":
        return [("size", f"{value / 1e6:.2f} MB")]
    if title == "parameters":
        return [(title, f"{value:,}".replace(",", " "))]
    return [("cutoff", f"{value:g} Å")] if title == "cutoff A" else [(title, str(value))]
