"""heliodor gems: from a large molecule to its force field."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliodor.cli.common import Json, print_json, print_lines
from heliodor.cli.prepare.common import ProgressBar
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
    choices = read_config(_choices(config, change or []))
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
    if as_json:
        print_json({"folder": folder, "stages": {n: {"seconds": r.seconds, **r.facts} for n, r in result.items()}})
        return
    told = [("folder", str(folder))]
    told += [
        (what, str(folder / name))
        for what, name in (("force field", "model.safetensors"), ("page", "report.html"), ("labels", "labels.db"))
        if (folder / name).is_file()
    ]
    print_lines(told, sys.stdout)


class Stages(ProgressBar):
    """One line for each stage that is done, and a bar for the one at work."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = time.perf_counter()
        self._said = 0.0

    def tell(self, stage: str, what: str, done: int, of: int) -> None:
        """As `heliodor.stages.Tell`."""
        if done == of == 1:
            self.line(f"{stage:<12} {what}")
        elif self._live is not None:
            self(f"{stage}: {what}"[:90], done / of if of else 0.0)
        elif done == of == 0 or time.perf_counter() - self._said > 20.0:
            self._said = time.perf_counter()
            share = f" ({100 * done // of} %)" if of else ""
            print(f"{stage}: {what}{share} ...", file=sys.stderr, flush=True)

    def line(self, text: str) -> None:
        """Something that stays on the screen."""
        if self._live is not None:
            self._live.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)


def _choices(path: Path | None, changes: list[str]) -> dict[str, Any]:
    import yaml

    from heliodor.cli.yaml import read_yaml

    values: dict[str, Any] = {} if path is None else read_yaml(path, dict)
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals or not name:
            raise InputError(f"--set wants NAME=VALUE such as label.method=gfn2, not {change!r}")
        place = values
        *rooms, last = name.strip().split(".")
        for room in rooms:
            place = place.setdefault(room, {})
            if not isinstance(place, dict):
                raise InputError(f"--set {name}: {room} holds no further names")
        try:
            place[last] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise InputError(f"--set {name}: {text!r} is not a value") from None
    return values


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
