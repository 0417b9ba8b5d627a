"""heliodor gems: from a large molecule to its force field."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heliodor.cli.common import Json, print_json, print_lines
from heliodor.cli.stage_bar import Stages, print_stages, read_choices
from heliodor.errors import InputError

if TYPE_CHECKING:
    import ase

EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor gems AceAla3Nme --config gems.yaml --dry-run\n"
    "  heliodor gems AceAla3Nme --config gems.yaml -o ala3\n"
    "  heliodor gems crambin.pdb --set label.method=pbe0-mbd/def2-svp --until select\n"
    "  heliodor gems --explain > gems.yaml\n"
    "\b\nStages whose inputs have not changed are skipped, and one that was killed goes on where it was: give the same "
    "command again.\nThe folder holds the force field (model.safetensors), the page about it (report.html), and all "
    "that lies between."
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("gems", epilog=EXAMPLES)(gems)


def gems(
    molecule: Annotated[
        str | None,
        typer.Argument(
            metavar="MOLECULE", help="A sequence (AceAla15Nme), a PDB or mmCIF file, or a structure with hydrogens."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="YAML; see --explain. [default: all defaults]")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="[default: the molecule's name, gems-...]")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="One choice, such as label.method=gfn2; wins over the file."),
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="STAGE", help="Stop after this stage.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be made: counts, hours, disk; make nothing.")
    ] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Print all choices with their defaults.")] = False,
    as_json: Json = False,
) -> None:
    """A force field for a large molecule from quantum chemistry of its pieces: fragments, labels, training, report."""
    from heliodor.gems.config import explain as explained
    from heliodor.gems.config import read_config
    from heliodor.gems.pipeline import make_force_field
    from heliodor.gems.plan import plan

    if explain:
        print(explained())
        return
    if molecule is None:
        raise InputError("which molecule? Give a sequence such as AceAla3Nme, a PDB file, or a structure")
    choices = read_config(read_choices(config, change or []))
    folder = output or Path(f"gems-{_stem(molecule)}")
    source = _source(molecule)
    progress = Stages()
    with progress:
        if dry_run:
            lines = plan(source, choices, progress.tell)
        else:
            result = make_force_field(source, folder, choices, until=until, tell=progress.tell)
    if dry_run:
        if as_json:
            print_json({line.name: {"text": line.text, **line.numbers} for line in lines})
        else:
            print_lines([(line.name, line.text) for line in lines], sys.stdout)
        return
    made = {"force field": "model.safetensors", "page": "report.html", "labels": "labels.db"}
    print_stages(folder, result, made, as_json)


def _source(molecule: str) -> str | Path | ase.Atoms:
    from heliodor.cli.reading import read_structure
    from heliodor.gems.molecule import PDB

    path = Path(molecule)
    if not path.is_file() or path.name.lower().removesuffix(".gz").endswith(PDB):
        return molecule
    return read_structure(path)


def _stem(molecule: str) -> str:
    from heliodor.cli.prepare.peptide import slug

    path = Path(molecule)
    return path.name.split(".")[0] if path.suffix or path.is_file() else slug(molecule)
