"""heliodor pigs: quantum nuclei in classical dynamics, by path-integral coarse graining."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from heliodor.cli.common import (
    Charge,
    Device,
    Dtype,
    Json,
    Kernels,
    LongRangeCutoff,
    Spin,
    Threads,
    read_long_range_cutoff,
)
from heliodor.cli.stage_bar import Stages, print_stages, read_choices
from heliodor.errors import InputError

EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor pigs water.xyz -m so3lr --elevated 500 --temperature 300 --beads 32 -o water\n"
    "  heliodor pigs ice.extxyz -m MACE-OFF23_small.model --set paths.time='50 ps' --set dynamics.trpmd='5 ps'\n"
    "  heliodor md other.xyz -m water/corrected.safetensors --temperature 300\n"
    "  heliodor pigs --explain > pigs.yaml\n"
    "\b\nStages whose inputs have not changed are skipped, and one that was killed goes on where it was: give the same "
    "command again.\nThe folder holds the corrected model (corrected.safetensors), how it does on unseen forces "
    "(judgement.json), and the spectra (spectrum.png)."
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("pigs", epilog=EXAMPLES)(pigs)


def pigs(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A structure: xyz, cif, pdb ...", show_default=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="MODEL", help="What is corrected: a name or a file.")
    ] = None,
    elevated: Annotated[
        float | None, typer.Option("--elevated", metavar="K", help="Temperature of the path integrals. [default: 500]")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", "-T", metavar="K", help="Of the classical dynamics. [default: 300]")
    ] = None,
    beads: Annotated[int | None, typer.Option("--beads", help="Of each ring polymer. [default: 32]")] = None,
    time: Annotated[
        str | None, typer.Option("--time", metavar="TIME", help="Of the path integrals. [default: 10 ps]")
    ] = None,
    charge: Charge = None,
    spin: Spin = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of everything random. [default: 0]")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="YAML; see --explain. [default: all defaults]")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="One choice, such as train.epochs=100; wins over the file."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="[default: pigs-, and the file's name]")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="STAGE", help="Stop after this stage.")] = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    long_range_cutoff: LongRangeCutoff = "auto",
    threads: Threads = None,
    kernels: Kernels = "auto",
    explain: Annotated[bool, typer.Option("--explain", help="Print all choices with their defaults.")] = False,
    as_json: Json = False,
) -> None:
    """Quantum nuclei in classical dynamics: learn the centroids' mean force at an elevated temperature (Te PIGS)."""
    from heliodor.pigs.config import explain as explained
    from heliodor.pigs.config import read_pigs_choices

    if explain:
        print(explained())
        return
    if file is None or model is None:
        raise InputError("which structure, and which model? Give a FILE and --model, such as -m so3lr")
    from heliodor.cli.reading import read_structure
    from heliodor.pigs.pipeline import coarse_grain

    values = read_choices(config, change or [])
    given: list[tuple[str, str, Any]] = [
        ("", "temperature", temperature),
        ("", "charge", charge),
        ("", "spin", spin),
        ("", "seed", seed),
        ("paths", "temperature", elevated),
        ("paths", "beads", beads),
        ("paths", "time", time),
    ]
    for room, name, value in given:
        if value is not None:
            place = values.setdefault(room, {}) if room else values
            place[name] = value
    choices = read_pigs_choices(values)
    atoms = read_structure(file)
    load_options: dict[str, Any] = {"device": device, "dtype": dtype, "kernels": kernels}
    load_options["long_range_cutoff"] = read_long_range_cutoff(long_range_cutoff)
    folder = output or Path(f"pigs-{file.name.split('.')[0]}")
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    progress = Stages()
    with progress:
        result = coarse_grain(model, atoms, folder, choices, until=until, tell=progress.tell, **load_options)
    made = {"corrected model": "corrected.safetensors", "judgement": "judgement.json", "spectra": "spectrum.png"}
    print_stages(folder, result, made, as_json)
