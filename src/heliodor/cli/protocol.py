"""heliodor protocol: several stages (minimise, heat, settle the density, produce) as one command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from heliodor.cli.common import (
    DEFAULT_MODEL,
    INTERRUPTED,
    Charge,
    Device,
    Dtype,
    Frame,
    Json,
    Kernels,
    LongRangeCutoff,
    Model,
    Spin,
    Threads,
    check,
    describe,
    load_model,
    print_json,
    print_lines,
    set_electrons,
)

EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor protocol box.xyz --folder water --temperature 300 --long '50 ps'\n"
    "  heliodor protocol box.xyz --show > steps.yaml      (a protocol to change)\n"
    "  heliodor protocol box.xyz --steps steps.yaml --folder water\n"
    "\b\nThe same command goes on where it was stopped or killed. Each stage leaves a trajectory, a log, a picture, a "
    "restart file and its final structure in the folder; protocol.json says what has settled."
)


def register(app: typer.Typer) -> None:
    app.command("protocol", epilog=EXAMPLES)(protocol)


def protocol(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Structure: xyz, extxyz, pdb, cif, gro, ...", show_default=False)
    ],
    model: Model = DEFAULT_MODEL,
    steps: Annotated[
        Path | None,
        typer.Option(
            "--steps", metavar="FILE", help="The stages, YAML. [default: those of --show]", show_default=False
        ),
    ] = None,
    folder: Annotated[Path, typer.Option("--folder", "-o", metavar="FOLDER", help="Where everything goes.")] = Path(
        "protocol"
    ),
    temperature: Annotated[
        float, typer.Option("--temperature", "-T", metavar="K", help="Of all stages, in K.")
    ] = 300.0,
    pressure: Annotated[float, typer.Option("--pressure", metavar="BAR", help="Of stages under pressure.")] = 1.0,
    short: Annotated[str, typer.Option("--short", metavar="TIME", help="Length of heating and NVT.")] = "2 ps",
    long: Annotated[str, typer.Option("--long", metavar="TIME", help="Length of NPT and production.")] = "10 ps",
    walltime: Annotated[
        str | None,
        typer.Option("--walltime", metavar="TIME", help="Of each stage: '12h'. [default: what the stages say]"),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the stages as YAML and stop.")] = False,
    frame: Frame = None,
    charge: Charge = None,
    spin: Spin = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    long_range_cutoff: LongRangeCutoff = "auto",
    threads: Threads = None,
    kernels: Kernels = "auto",
    as_json: Json = False,
) -> None:
    """Equilibrate a structure in stages, and say whether density and energy have settled."""
    import yaml

    from heliodor.cli.reading import read_structure
    from heliodor.cli.yaml import read_yaml
    from heliodor.dynamics.equilibration import Finished, run_protocol
    from heliodor.dynamics.protocol import DEFAULT, read_protocol

    atoms = read_structure(file, frame)
    set_electrons(atoms, charge, spin)
    text = DEFAULT["periodic" if atoms.pbc.all() else "molecule"]
    for name, value in (("temperature", f"{temperature:g}"), ("short", short), ("long", long)):
        text = text.replace("{" + name + "}", value)
    if show:
        print(text, end="")
        return
    common = {"temperature": temperature, "pressure": pressure}
    stages = read_protocol(read_yaml(steps, dict) if steps is not None else yaml.safe_load(text), common)
    potential = load_model(
        model, device=device, dtype=dtype, long_range_cutoff=long_range_cutoff, threads=threads, kernels=kernels
    )
    check(atoms, potential, fixed=True)
    screen = sys.stderr if as_json else sys.stdout
    print_lines([*describe(file, atoms, potential), ("folder", str(folder))], screen)

    def tell(finished: Finished) -> None:
        before = "already done: " if finished.skipped else ""
        lines = [(finished.stage.name, before + finished.words)]
        print_lines([*lines, *(("", settling.words) for settling in finished.settlings)], screen)

    done = run_protocol(atoms, potential, stages, folder, tell=tell, walltime=walltime)
    if as_json:
        print_json(
            {
                finished.stage.name: {
                    "words": finished.words,
                    "complete": finished.complete,
                    "settled": {s.name: vars(s) for s in finished.settlings},
                }
                for finished in done
            }
        )
    if not done[-1].complete:
        print_lines([("go on", "the same command goes on from here")], screen)
        raise typer.Exit(INTERRUPTED)
