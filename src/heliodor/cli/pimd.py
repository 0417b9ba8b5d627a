"""heliodor pimd: path-integral dynamics through i-PI, and a driver for i-PI's sockets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliodor.cli.common import (
    DEFAULT_MODEL,
    Charge,
    Device,
    Dtype,
    Frame,
    Json,
    Kernels,
    LongRangeCutoff,
    Model,
    Spin,
    StructureFile,
    Threads,
    check,
    describe,
    load_model,
    note,
    print_json,
    print_lines,
    set_electrons,
)

if TYPE_CHECKING:
    from heliodor.analysis.show import Number
    from heliodor.paths import PathResult, PathSettings

EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor pimd water.xyz --beads 32 --temperature 300 --time '10 ps'\n"
    "  heliodor pimd water.xyz --thermostat trpmd --stride 4 --classical --model so3lr\n"
    "  heliodor pimd water.xyz --time '20 ps' --restart\n"
    "  heliodor pimd water.xyz --driver node17:31415\n"
    "\b\nWrites a folder: i-PI's input.xml, frames, the state to go on from, tables (.csv), pictures (.png), and "
    "structures of beads (.xyz) for heliodor analyze or ASE. Ctrl-C or a kill costs at most the last 20 seconds; "
    "--restart goes on. Needs heliodor[ipi]."
)


def register(app: typer.Typer) -> None:
    app.command("pimd", epilog=EXAMPLES)(pimd)


def pimd(
    file: StructureFile,
    beads: Annotated[int, typer.Option("--beads", min=1, metavar="P", help="Of each ring polymer.")] = 32,
    temperature: Annotated[float, typer.Option("--temperature", "-T", metavar="K", help="In K.")] = 300.0,
    time: Annotated[str, typer.Option("--time", "-t", help="Of the whole run: '10 ps', '500 fs'.")] = "10 ps",
    timestep: Annotated[float, typer.Option("--timestep", metavar="FS", help="In fs.")] = 0.25,
    thermostat: Annotated[
        str,
        typer.Option(
            "--thermostat",
            help="pile (white noise on normal modes), gle (coloured noise), trpmd (for spectra).",
        ),
    ] = "pile",
    pressure: Annotated[
        float | None, typer.Option("--pressure", metavar="BAR", help="Of the box. [default: constant volume]")
    ] = None,
    classical: Annotated[
        bool, typer.Option("--classical", help="The same with one bead too, to compare with, in FOLDER/classical.")
    ] = False,
    stride: Annotated[int, typer.Option("--stride", min=1, metavar="N", help="Steps between stored frames.")] = 10,
    bead_stride: Annotated[
        int | None,
        typer.Option(
            "--bead-stride", min=0, metavar="N", help="Steps between positions of all beads. [default: ten strides]"
        ),
    ] = None,
    centroid: Annotated[
        bool, typer.Option("--centroid", help="Store centroids (an .xyz file too) and the forces on them.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the random numbers.")] = 0,
    skip: Annotated[
        float, typer.Option("--skip", min=0.0, max=0.99, metavar="SHARE", help="Of the run, left out of the means.")
    ] = 0.2,
    resolution: Annotated[
        float | None, typer.Option("--resolution", metavar="CM", help="Of the spectrum, cm⁻¹. [default: 10 or more]")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="[default: FILE-pimd]")
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Go on with what the folder holds.")] = False,
    driver: Annotated[
        str | None,
        typer.Option("--driver", metavar="ADDRESS", help="Answer i-PI's socket at host:port or unix:NAME instead."),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="S", help="Of the driver: silence after which i-PI counts as lost.")
    ] = 600.0,
    compare: Annotated[
        bool, typer.Option("--compare/--no-compare", help="Driver: refuse first positions other than those of FILE.")
    ] = True,
    model: Model = DEFAULT_MODEL,
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
    """Nuclei as quantum particles: path-integral molecular dynamics through i-PI."""
    from dataclasses import replace
    from importlib.util import find_spec

    from heliodor.cli.reading import read_structure
    from heliodor.errors import MissingExtraError
    from heliodor.paths import PathSettings

    settings = PathSettings(
        temperature=temperature,
        beads=beads,
        time=time,
        timestep=timestep,
        thermostat=thermostat,
        pressure=pressure,
        seed=seed,
        stride=stride,
        bead_stride=bead_stride,
        centroid=centroid,
    )
    if driver is None and find_spec("ipi") is None:
        raise MissingExtraError("ipi", "ipi")
    atoms = read_structure(file, frame)
    set_electrons(atoms, charge, spin)
    potential = load_model(
        model, device=device, dtype=dtype, long_range_cutoff=long_range_cutoff, threads=threads, kernels=kernels
    )
    check(atoms, potential)
    screen = sys.stderr if as_json else sys.stdout
    print_lines(describe(file, atoms, potential), screen)
    if driver is not None:
        _serve(driver, potential, atoms, timeout, compare)
        return
    folder = file.with_name(f"{file.stem}-pimd") if output is None else output
    print_lines([("path", _words(settings)), ("folder", str(folder))], screen)
    runs = {"quantum": _run(potential, atoms, folder, settings, restart, "beads" if beads > 1 else "steps")}
    if classical and beads > 1:
        single = replace(settings, beads=1)
        runs["classical"] = _run(potential, atoms, folder / "classical", single, restart, "classical")
    _report(runs, folder, skip, resolution, as_json)


def _run(potential: Any, atoms: Any, folder: Path, settings: PathSettings, restart: bool, title: str) -> PathResult:
    from heliodor.cli.bar import frame_bar
    from heliodor.paths import run_paths

    with frame_bar(title, "steps") as tell:
        return run_paths(potential, atoms, folder, settings, restart=restart, tell=tell)


def _report(runs: dict[str, PathResult], folder: Path, skip: float, resolution: float | None, as_json: bool) -> None:
    from heliodor.paths.report import write_report
    from heliodor.paths.summary import summary

    numbers = {name: summary(result, skip) for name, result in runs.items()}
    files, notes = write_report(runs, folder, skip=skip, resolution=resolution)
    for words in notes:
        note(words)
    if as_json:
        found = {
            run: {n.name: {"value": n.value, "error": n.error, "unit": n.unit} for n in some}
            for run, some in numbers.items()
        }
        print_json({"folder": folder, "numbers": found, "files": files})
        return
    for run, some in numbers.items():
        if len(runs) > 1:
            print(f"\n{run}")
        for number in some:
            print(f"{number.name:<34} {_value(number)}")
    print_lines([("written", ", ".join(path.name for path in files))], sys.stdout)


def _value(number: Number) -> str:
    error = "" if number.error is None else f" ± {number.error:.2g}"
    extra = f"  ({number.note})" if number.note else ""
    return f"{number.value:.6g}{error} {number.unit}{extra}"


def _words(settings: PathSettings) -> str:
    box = "constant volume" if settings.pressure is None else f"{settings.pressure:g} bar"
    return (
        f"{settings.beads} bead{'s' if settings.beads > 1 else ''}, {settings.temperature:g} K, {settings.time}, steps "
        f"of {settings.timestep:g} fs, {settings.thermostat}, {box}"
    )


def _serve(address: str, potential: Any, atoms: Any, timeout: float, compare: bool) -> None:
    from time import monotonic

    from heliodor.cli.bar import EVERY
    from heliodor.engines.ipi import Beads, upright
    from heliodor.engines.ipi_socket import serve

    told = monotonic()

    def tell(done: int) -> None:
        nonlocal told
        if monotonic() - told >= EVERY:
            told = monotonic()
            print(f"{done} calls of the model", file=sys.stderr, flush=True)

    calls = serve(address, Beads(potential, upright(atoms), compare=compare), timeout=timeout, tell=tell)
    print(f"i-PI is done after {calls} calls", file=sys.stderr)
