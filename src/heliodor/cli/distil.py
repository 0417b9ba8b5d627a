"""heliodor distil: from a large model to a small, fast one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heliodor.cli.common import Json
from heliodor.cli.stage_bar import Stages, print_stages, read_choices
from heliodor.errors import InputError

EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor distil --teacher so3lr --structures generated --set structures.recipe=tiny --set train.time='5 min'\n"
    "  heliodor distil --teacher so3lr --student student.yaml --structures frames.h5 -o small\n"
    "  heliodor distil --explain > student.yaml\n"
    "\b\nStages whose inputs have not changed are skipped, and one that was killed goes on where it was: give the same "
    "command again.\nThe folder holds the student (student.safetensors) and how far it is from its teacher "
    "(judgement.json, parity.png)."
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("distil", epilog=EXAMPLES)(distil)


def distil(
    teacher: Annotated[
        str | None, typer.Option("--teacher", metavar="MODEL", help="The model that labels: a name or a file.")
    ] = None,
    student: Annotated[
        Path | None,
        typer.Option("--student", metavar="FILE", help="YAML; see --explain. [default: all defaults]"),
    ] = None,
    structures: Annotated[
        str,
        typer.Option("--structures", metavar="FILE|generated", help="A data set of structures, or 'generated'."),
    ] = "generated",
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER")] = Path("distilled"),
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="One choice, such as train.time='2 h'; wins over the file."),
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="STAGE", help="Stop after this stage.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Print all choices with their defaults.")] = False,
    as_json: Json = False,
) -> None:
    """A small, fast model that says what a large one says: structures, the teacher's labels, training, judgement."""
    from heliodor.distil.config import explain as explained
    from heliodor.distil.config import read_distil_choices

    if explain:
        print(explained())
        return
    if teacher is None:
        raise InputError("which model teaches? Give --teacher, such as --teacher so3lr")
    from heliodor.distil.pipeline import distil as run

    choices = read_distil_choices(read_choices(student, change or []))
    progress = Stages()
    with progress:
        result = run(teacher, choices, output, structures, until=until, tell=progress.tell)
    made = {"student": "student.safetensors", "judgement": "judgement.json", "plot": "parity.png"}
    print_stages(output, result, made, as_json)
