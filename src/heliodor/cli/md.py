"""heliodor md: molecular dynamics."""

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
    LongRangeCutoff,
    Model,
    Overwrite,
    Spin,
    StructureFile,
    Threads,
    check,
    describe,
    load_model,
    print_json,
    print_lines,
    set_electrons,
)

if TYPE_CHECKING:
    from heliodor.dynamics.result import Run

DEFAULT_TIME = "10 ps"
INTERRUPTED = 130
EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor md water.xyz --time '10 ps' --temperature 300\n"
    "  heliodor md cation.xyz --charge 1 --steps 2000 --output cation.h5\n"
    "  heliodor md box.pdb --minimize --thermostat csvr --time '1 ns' --save-every '1 ps'\n"
    "  heliodor md run.h5 --frame -1 --ensemble nve --output go_on.h5\n"
    "\b\nWrites the trajectory (H5MD, or extended xyz), a log (.csv) and a picture of it (.png) of the same name.\n"
    "Ctrl-C ends a run after the current step; what has been written stays readable."
)


def register(app: typer.Typer) -> None:
    app.command("md", epilog=EXAMPLES)(md)


def md(
    file: StructureFile,
    model: Model = DEFAULT_MODEL,
    time: Annotated[
        str | None,
        typer.Option("--time", metavar="TIME", help=f"Length: '10 ps', '500 fs', '1 ns'. [default: {DEFAULT_TIME}]"),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Length in steps, instead of --time.")] = None,
    timestep: Annotated[str, typer.Option("--timestep", metavar="FS", help="Timestep in fs.")] = "0.5",
    temperature: Annotated[
        float, typer.Option("--temperature", "-T", metavar="K", help="Temperature in K (nve: of the start).")
    ] = 300.0,
    ensemble: Annotated[
        str, typer.Option("--ensemble", help="nvt: constant temperature; nve: constant energy.")
    ] = "nvt",
    thermostat: Annotated[
        str, typer.Option("--thermostat", help="Of nvt: langevin, or csvr (stochastic velocity rescaling).")
    ] = "langevin",
    friction: Annotated[
        float, typer.Option("--friction", metavar="1/PS", help="Friction of the Langevin thermostat in 1/ps.")
    ] = 2.0,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Seed of all random numbers. [default: drawn, and reported]")
    ] = None,
    minimize: Annotated[
        bool, typer.Option("--minimize/--no-minimize", help="Relax the structure first (to 0.05 eV/Å).")
    ] = False,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Trajectory: .h5 (H5MD) or .xyz (extended xyz).")
    ] = Path("run.h5"),
    save_every: Annotated[
        str, typer.Option("--save-every", metavar="TIME", help="Time between frames of the trajectory.")
    ] = "20 fs",
    log_every: Annotated[
        str, typer.Option("--log-every", metavar="TIME", help="Time between lines of the log.")
    ] = "10 fs",
    overwrite: Overwrite = False,
    frame: Frame = None,
    charge: Charge = None,
    spin: Spin = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    long_range_cutoff: LongRangeCutoff = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Molecular dynamics of a structure: trajectory, log and picture."""
    from heliodor.cli.reading import read_structure
    from heliodor.dynamics.run import simulate
    from heliodor.dynamics.trajectory import kind_of, refuse_existing
    from heliodor.errors import InputError
    from heliodor.units import format_time, parse_time

    if time is not None and steps is not None:
        raise InputError("give --time or --steps, not both")
    if time is None and steps is None:
        time = DEFAULT_TIME
    kind_of(output)
    files = (output, output.with_suffix(".csv"), output.with_suffix(".png"))
    for path in files:
        refuse_existing(path, overwrite)
        if path.exists() and path.samefile(file):
            raise InputError(f"{path} is the structure handed in: choose another --output")
    atoms = read_structure(file, frame)
    set_electrons(atoms, charge, spin)
    potential = load_model(model, device=device, dtype=dtype, long_range_cutoff=long_range_cutoff, threads=threads)
    check(atoms, potential)

    dt = parse_time(timestep)
    n_steps = steps if steps is not None else max(1, round(parse_time(time or DEFAULT_TIME) / dt))
    frames = 1 + -(-n_steps // max(1, round(parse_time(save_every) / dt)))
    bath = f"Langevin thermostat, {friction:g} 1/ps" if thermostat == "langevin" else f"{thermostat} thermostat"
    how = f"NVT at {temperature:g} K ({bath})" if ensemble == "nvt" else f"{ensemble.upper()} from {temperature:g} K"
    first = "relaxed first, then " if minimize else ""
    lines = [
        *describe(file, atoms, potential),
        ("dynamics", f"{first}{how}, {n_steps} steps of {dt:g} fs = {format_time(n_steps * dt)}"),
        ("files", f"{output} ({frames} frames), {files[1]}, {files[2]}"),
    ]
    screen = sys.stderr if as_json else sys.stdout
    print_lines(lines, screen)
    run = simulate(
        atoms,
        potential,
        ensemble=ensemble,
        thermostat=thermostat,
        temperature=temperature,
        time=time,
        steps=steps,
        timestep=timestep,
        friction=friction,
        seed=seed,
        minimize_first=minimize,
        output=output,
        save_every=save_every,
        log_every=log_every,
        overwrite=overwrite,
    )
    result = summary(run)
    if as_json:
        print_json(result)
    else:
        print_lines(_words(run, result), sys.stdout)
    if run.interrupted:
        raise typer.Exit(INTERRUPTED)


def summary(run: Run) -> dict[str, Any]:
    """What --json prints; units are in the names."""
    from heliodor.dynamics.result import EQUILIBRATION

    late = run.log["temperature_K"][int(EQUILIBRATION * len(run.log["time_fs"])) :]
    return {
        "steps": run.steps,
        "time_fs": run.time,
        "mean_temperature_K": run.mean_temperature,
        "temperature_fluctuation_K": float(late.std()),
        "drift_meV_per_atom_ps": run.drift,
        "seconds": run.seconds,
        "ns_per_day": run.ns_per_day,
        "seed": run.seed,
        "interrupted": run.interrupted,
        "broken_bonds": [bond.name for bond in run.broken_bonds],
        "files": {"trajectory": run.output, "log": run.log_path, "picture": run.plot_path},
    }


def _words(run: Run, result: dict[str, Any]) -> list[tuple[str, str]]:
    from heliodor.units import format_time

    ended = "interrupted after" if run.interrupted else "done:"
    lines = [
        (
            "result",
            f"{ended} {run.steps} steps, {format_time(run.time)} in {run.seconds:.1f} s ({run.ns_per_day:.3g} ns/day), "
            f"seed {run.seed}",
        ),
        (
            "temperature",
            f"{run.mean_temperature:.1f} ± {result['temperature_fluctuation_K']:.1f} K "
            "(mean and fluctuation, first fifth left out)",
        ),
        ("conserved", f"drift {run.drift:+.3g} meV/atom/ps"),
    ]
    if run.broken_bonds:
        shown = ", ".join(bond.name for bond in run.broken_bonds[:4])
        more = f" and {len(run.broken_bonds) - 4} more" if len(run.broken_bonds) > 4 else ""
        lines.append(("bonds", f"{len(run.broken_bonds)} broken since the start: {shown}{more}"))
    written = [str(path) for path in (run.output, run.log_path, run.plot_path) if path is not None]
    return [*lines, ("written", ", ".join(written))]
