"""heliodor md: molecular dynamics, and going on with it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    Overwrite,
    Spin,
    Threads,
    describe,
    load_model,
    print_json,
    print_lines,
    set_electrons,
)
from heliodor.cli.options import with_settings

if TYPE_CHECKING:
    from heliodor.dynamics.result import Run

DEFAULT_TIME = "10 ps"

DEFAULT_OUTPUT = Path("run.h5")
EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor md water.xyz --time '10 ps' --temperature 300\n"
    "  heliodor md box.pdb --minimize --ensemble npt --pressure 1 --time '1 ns' --save-every '1 ps'\n"
    "  heliodor md bilayer.xyz --ensemble npt --coupling semi-isotropic --walltime 24h\n"
    "  heliodor md --restart run.restart\n"
    "  heliodor md --restart run.restart --extend '1 ns'\n"
    "\b\nWrites the trajectory (H5MD, extended xyz or DCD); beside it a log (.csv), a picture (.png), a restart "
    "file (.restart) and everything needed to repeat the run (.json).\n"
    "Ctrl-C, SIGTERM and --walltime end a run after the current step, with a restart file."
)


def register(app: typer.Typer) -> None:
    app.command("md", epilog=EXAMPLES)(with_settings(md))


def md(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="Structure: xyz, extxyz, pdb, cif, gro, POSCAR, .h5 of a run, ...", show_default=False
        ),
    ] = None,
    model: Model = DEFAULT_MODEL,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="Trajectory: .h5 (H5MD), .xyz (extended xyz) or .dcd."),
    ] = DEFAULT_OUTPUT,
    minimize: Annotated[
        bool, typer.Option("--minimize/--no-minimize", help="Relax the structure first (to 0.05 eV/Å).")
    ] = False,
    restraints: Annotated[
        Path | None, typer.Option("--restraints", metavar="FILE", help="YAML list of restraints, see docs/dynamics.md.")
    ] = None,
    restart: Annotated[
        Path | None,
        typer.Option("--restart", metavar="FILE", help="Go on with a run from its .restart file, into its files."),
    ] = None,
    extend: Annotated[
        str | None, typer.Option("--extend", metavar="TIME", help="With --restart: add this much to the planned time.")
    ] = None,
    overwrite: Overwrite = False,
    frame: Frame = None,
    charge: Charge = None,
    spin: Spin = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    long_range_cutoff: LongRangeCutoff = "auto",
    threads: Threads = None,
    kernels: Kernels = "auto",
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Molecular dynamics of a structure: trajectory, log and picture."""
    from heliodor.errors import InputError

    if restart is not None:
        given = {
            "FILE": file is not None,
            "output": output != DEFAULT_OUTPUT,
            "minimize": minimize,
            "restraints": restraints is not None,
            "frame": frame is not None,
            "charge": charge is not None,
            "spin": spin is not None,
            "dtype": dtype != "float32",
            "long_range_cutoff": long_range_cutoff != "auto",
            "kernels": kernels != "auto",
        }
        refused = [*settings.keys() - {"walltime"}, *(name for name, there in given.items() if there)]
        if refused:
            named = ", ".join(name if name == "FILE" else f"--{name.replace('_', '-')}" for name in sorted(refused))
            raise InputError(f"--restart goes on with the run as it was begun; leave out {named}")
        run = _go_on(restart, model, extend, settings.get("walltime"), device, threads, as_json)
    else:
        if extend is not None:
            raise InputError("--extend needs --restart FILE")
        if file is None:
            raise InputError("give a structure FILE, or --restart FILE to go on with a run")
        settings["minimize_first"] = minimize
        if restraints is not None:
            from heliodor.cli.yaml import read_yaml

            settings["restraints"] = read_yaml(restraints, list)
        options: dict[str, Any] = {"device": device, "dtype": dtype, "long_range_cutoff": long_range_cutoff}
        options |= {"threads": threads, "kernels": kernels}
        run = _begin(file, model, settings, output, overwrite, (frame, charge, spin), options, as_json)
    result = summary(run)
    if as_json:
        print_json(result)
    else:
        print_lines(_words(run, result), sys.stdout)
    if run.ended in ("interrupted", "asked"):
        raise typer.Exit(INTERRUPTED if run.ended == "interrupted" else 1)


def _begin(
    file: Path,
    model: str,
    settings: dict[str, Any],
    output: Path,
    overwrite: bool,
    structure: tuple[int | None, float | None, int | None],
    options: dict[str, Any],
    as_json: bool,
) -> Run:
    from heliodor.cli.reading import read_structure
    from heliodor.dynamics.files.names import named
    from heliodor.dynamics.provenance import sha256_of
    from heliodor.dynamics.run import simulate
    from heliodor.dynamics.settings import from_mapping
    from heliodor.errors import InputError
    from heliodor.potential import check_energy

    if settings.get("time") is not None and settings.get("steps") is not None:
        raise InputError("give --time or --steps, not both")
    if settings.get("time") is None and settings.get("steps") is None:
        settings["time"] = DEFAULT_TIME
    chosen = from_mapping(settings)
    files = named(output, overwrite=overwrite)
    for path in vars(files).values():
        if path is not None and path.exists() and path.samefile(file):
            raise InputError(f"{path} is the structure handed in: choose another --output")
    frame, charge, spin = structure
    atoms = read_structure(file, frame)
    set_electrons(atoms, charge, spin)
    potential = load_model(model, **options)
    check_energy(potential)
    screen = sys.stderr if as_json else sys.stdout
    written = ", ".join(str(path) for path in (output, files.log, files.plot, files.checkpoint, files.record))
    before = [*describe(file, atoms, potential), ("files", written)]

    def tell(lines: Sequence[tuple[str, str]]) -> None:
        print_lines([*before, *lines], screen)
        before.clear()

    inputs = {"structure": str(file), "sha256": sha256_of(file), "frame": frame}
    return simulate(atoms, potential, chosen, output=output, overwrite=overwrite, inputs=inputs, tell=tell)


def _go_on(
    checkpoint: Path,
    model: str,
    extend: str | None,
    walltime: str | None,
    device: str,
    threads: int | None,
    as_json: bool,
) -> Run:
    import torch

    from heliodor.dynamics.run import restart

    if threads is not None:
        torch.set_num_threads(threads)
    print_lines([("restart", f"{checkpoint}")], sys.stderr if as_json else sys.stdout)
    other = None if model == DEFAULT_MODEL else model
    return restart(checkpoint, other, extend=extend, walltime=walltime, device=device)


def summary(run: Run) -> dict[str, Any]:
    """What --json prints; units are in the names."""
    from heliodor.dynamics.result import EQUILIBRATION

    late = run.log["temperature_K"][int(EQUILIBRATION * len(run.log["time_fs"])) :]
    averages = run.averages
    pressed = {f"mean_{name}": averages[name] for name in ("pressure_bar", "density_g_cm3") if name in averages}
    return {
        "steps": run.steps,
        "time_fs": run.time,
        "mean_temperature_K": run.mean_temperature,
        "temperature_fluctuation_K": float(late.std()),
        **pressed,
        "drift_meV_per_atom_ps": run.drift,
        **_force_error(run),
        "seconds": run.seconds,
        "seconds_by_stage": run.timings,
        "peak_memory_GB": run.memory,
        "ns_per_day": run.ns_per_day,
        "seed": run.seed,
        "ended": run.ended,
        "interrupted": run.interrupted,
        "broken_bonds": [bond.name for bond in run.broken_bonds],
        "formed_bonds": [bond.name for bond in run.formed_bonds],
        "events": [event.text for event in run.events],
        "files": {
            "trajectory": run.output,
            "log": run.log_path,
            "picture": run.plot_path,
            "restart": run.checkpoint,
            "trouble": run.trouble,
        },
    }


def _force_error(run: Run) -> dict[str, Any]:
    """Half-width of the worst atom's interval along the run, of models that tell it."""
    import numpy as np

    from heliodor.dynamics.files.log import FORCE_ERROR

    found = run.log.get(FORCE_ERROR)
    if found is None or not np.isfinite(found).any():
        return {}
    return {FORCE_ERROR: {"mean": float(np.nanmean(found)), "max": float(np.nanmax(found))}}


def _words(run: Run, result: dict[str, Any]) -> list[tuple[str, str]]:
    from heliodor.units import format_time

    ended = {
        "finished": "done:",
        "interrupted": "interrupted after",
        "walltime": "wall time used up after",
        "asked": "stopped after",
    }[run.ended]
    part = f" (this part {format_time(run.simulated)})" if run.first_step else ""
    lines = [
        (
            "result",
            f"{ended} {run.steps} steps, {format_time(run.time)}{part} in {run.seconds:.1f} s "
            f"({run.ns_per_day:.3g} ns/day), seed {run.seed}",
        ),
        (
            "temperature",
            f"{run.mean_temperature:.1f} ± {result['temperature_fluctuation_K']:.1f} K "
            "(mean and fluctuation, first fifth left out)",
        ),
    ]
    if "mean_density_g_cm3" in result:
        lines.append(
            (
                "pressure",
                f"{result['mean_pressure_bar']:.0f} bar, density {result['mean_density_g_cm3']:.4f} g/cm³ (means)",
            )
        )
    lines.append(("conserved", f"drift {run.drift:+.3g} meV/atom/ps"))
    if "force_error_max_eV_per_A" in result:
        most = result["force_error_max_eV_per_A"]
        lines.append(
            ("force error", f"of the worst atom ±{most['mean']:.3g} eV/Å on average, ±{most['max']:.3g} at most")
        )
    for name, bonds in (("broken", run.broken_bonds), ("formed", run.formed_bonds)):
        if bonds:
            shown = ", ".join(bond.name for bond in bonds[:4])
            more = f" and {len(bonds) - 4} more" if len(bonds) > 4 else ""
            lines.append(("bonds", f"{len(bonds)} {name} since the start: {shown}{more}"))
    if run.reason is not None:
        lines.append(("stopped", run.reason))
    spent = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in run.timings.items() if seconds >= 0.05)
    lines.append(("spent", f"{spent}; peak memory {run.memory:.2f} GB"))
    written = [run.output, run.log_path, run.plot_path, run.checkpoint, run.trouble]
    lines.append(("written", ", ".join(str(path) for path in written if path is not None)))
    if run.interrupted and run.checkpoint is not None:
        lines.append(("go on", f"heliodor md --restart {run.checkpoint}"))
    return lines
