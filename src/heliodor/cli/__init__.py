"""The command line: one small file per command over the Python API.

Nothing here imports torch before a command runs, so that `heliodor --help` and shell completion answer at once.
"""

from __future__ import annotations

import io
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

from heliodor.cli import (
    analyze,
    bench,
    binding,
    crystal,
    data,
    distil,
    evaluate,
    fragment,
    gems,
    helix,
    label,
    md,
    metad,
    models,
    opt,
    pigs,
    pimd,
    prepare,
    protocol,
    report,
    scan,
    select,
    train,
    vib,
)
from heliodor.cli.common import INTERRUPTED, one_line, warnings_as_notes
from heliodor.cli.runtime import prepare_process
from heliodor.errors import HeliodorError

app = typer.Typer(
    name="heliodor",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    help="Quantum-accurate molecular simulation with machine-learned force fields. "
    "Energies are in eV, lengths in Å, times in fs unless a unit is written.",
    epilog="\b\nExamples:\n"
    "  heliodor md water.xyz --time '10 ps' --temperature 300\n"
    "  heliodor opt molecule.xyz --charge 1\n"
    "  heliodor eval test_set.extxyz --model so3lr\n"
    "  heliodor models list",
)
prepare.register(app)
md.register(app)
analyze.register(app)
report.register(app)
opt.register(app)
vib.register(app)
crystal.register(app)
scan.register(app)
protocol.register(app)
metad.register(app)
pimd.register(app)
binding.register(app)
helix.register(app)
evaluate.register(app)
fragment.register(app)
select.register(app)
label.register(app)
gems.register(app)
data.register(app)
train.register(app)
distil.register(app)
pigs.register(app)
bench.register(app)
app.add_typer(models.app, name="models")


def _version(wanted: bool) -> None:
    if wanted:
        from heliodor import __version__

        print(f"heliodor {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="On an error show the Python traceback too.")] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0, 1 (failed), 2 (cannot be used as given), 130 (Ctrl-C)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # taken out here so that it works at the end of a command line too, where people add it
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # a terminal that cannot show Å is no reason to fail
            stream.reconfigure(errors="replace")
    prepare_process()
    with warnings.catch_warnings():
        warnings_as_notes(debug)
        try:
            return int(app(args=words, prog_name="heliodor", standalone_mode=False) or 0)
        except KeyboardInterrupt:
            return _fail("interrupted", INTERRUPTED, debug)
        except typer.Abort:
            return _fail("stopped", INTERRUPTED, debug)
        except HeliodorError as error:
            return _fail(str(error), error.exit_code, debug)
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            return _fail(f"{place}{error.strerror or error}", 2, debug)
        except Exception as error:
            # Typer carries its own Click or uses the installed one, depending on its version
            if hasattr(error, "format_message"):
                context = getattr(error, "ctx", None)
                where = f" (see '{context.command_path} --help')" if context else ""
                return _fail(error.format_message().rstrip(".") + where, 2, debug)
            told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            return _fail(f"unexpected {told}; run with --debug for the traceback", 1, debug)


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"heliodor: error: {one_line(message)}", file=sys.stderr)
    return code
