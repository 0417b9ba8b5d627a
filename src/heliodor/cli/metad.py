"""heliodor metad: free energies along torsions or distances by well-tempered metadynamics."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
    import ase

    from heliodor.metadynamics import Result, Variable

EXAMPLES = (
    "\b\nExamples:\n"
    "  heliodor metad alanine.xyz --phi-psi 2 --time '1 ns' --timestep 1\n"
    "  heliodor metad butane.xyz --torsion 0,1,2,3 --time '200 ps'\n"
    "  heliodor metad pair.xyz --distance 0,12 --walls 2.5:8 --time '500 ps'\n"
    "  heliodor metad alanine.xyz --phi-psi 2 --time '2 ns' --timestep 1 --restart\n"
    "\b\nWrites the trajectory (metad.h5), the Gaussians (.hills.csv), the free-energy surface (.surface.csv and .png, "
    "kcal/mol), results with errors (.json) and a restart file (.restart). Ctrl-C and SIGTERM end a run with a restart "
    "file; after a kill the same command with --restart goes on from the last one."
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("metad", epilog=EXAMPLES)(metad)


def metad(
    file: StructureFile,
    torsions: Annotated[
        list[str] | None,
        typer.Option(
            "--torsion",
            metavar="A,B,C,D|NAME",
            help="Four atoms counted from 0, or of a peptide phi2, psi2, omega2, chi1:2 (the residue's number). Up to "
            "twice.",
        ),
    ] = None,
    phi_psi: Annotated[
        int | None, typer.Option("--phi-psi", metavar="RESIDUE", help="φ and ψ of a peptide's residue.")
    ] = None,
    distances: Annotated[
        list[str] | None, typer.Option("--distance", metavar="A,B", help="Two atoms counted from 0. Up to twice.")
    ] = None,
    walls: Annotated[
        list[str] | None,
        typer.Option("--walls", metavar="LOW:HIGH", help="Of distances in Å; once, or once for each distance."),
    ] = None,
    width: Annotated[
        list[float] | None,
        typer.Option(
            "--width",
            help="Of the Gaussians, in degrees or Å; once, or once for each variable. [default: 20° or 0.1 Å]",
        ),
    ] = None,
    model: Model = DEFAULT_MODEL,
    time: Annotated[str, typer.Option("--time", metavar="TIME", help="Length: '500 ps', '2 ns'.")] = "100 ps",
    timestep: Annotated[str, typer.Option("--timestep", metavar="FS", help="Timestep in fs.")] = "0.5",
    temperature: Annotated[float, typer.Option("--temperature", "-T", metavar="K", help="Temperature in K.")] = 300.0,
    friction: Annotated[float, typer.Option("--friction", metavar="1/PS", help="Of the Langevin thermostat.")] = 2.0,
    height: Annotated[
        float, typer.Option("--height", metavar="EV", help="Of the first Gaussians in eV (0.01 eV is 0.23 kcal/mol).")
    ] = 0.01,
    bias_factor: Annotated[
        float, typer.Option("--bias-factor", help="γ: the variables are sampled as if at γ times the temperature.")
    ] = 10.0,
    stride: Annotated[str, typer.Option("--stride", metavar="TIME", help="Time between Gaussians, in fs.")] = "100",
    wall: Annotated[float, typer.Option("--wall", metavar="EV/Å²", help="Stiffness of the walls of distances.")] = 20.0,
    save_every: Annotated[
        str, typer.Option("--save-every", metavar="TIME", help="Time between frames of the trajectory, in fs.")
    ] = "500",
    checkpoint_every: Annotated[
        str, typer.Option("--checkpoint-every", metavar="TIME", help="Simulated time between restart files, in fs.")
    ] = "5000",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of velocities and Langevin noise.")] = 0,
    method: Annotated[
        str, typer.Option("--reweighting", help="tiwary-parrinello (all of the run) or final-bias.")
    ] = "tiwary-parrinello",
    skip: Annotated[
        float, typer.Option("--skip", help="Fraction of the run left out of reweighting, at its start.")
    ] = 0.2,
    blocks: Annotated[int, typer.Option("--blocks", min=2, help="Of time, for errors.")] = 10,
    couplings: Annotated[
        str | None,
        typer.Option(
            "--couplings",
            metavar="SET",
            help="³J couplings of a peptide's φ, reweighted, by Karplus parameters: vogeli, hu-bax, schmidt, case1, "
            "case2.",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Trajectory, .h5 or .xyz; other files beside it.")
    ] = Path("metad.h5"),
    restart: Annotated[
        bool, typer.Option("--restart", help="Go on with the run of these settings; --time may be longer.")
    ] = False,
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
) -> None:
    """Free energy along one or two torsions or distances, by well-tempered metadynamics (OpenMM)."""
    from heliodor.cli.reading import read_structure
    from heliodor.dynamics.loop import interruptible
    from heliodor.dynamics.provenance import sha256_of
    from heliodor.errors import InputError
    from heliodor.metadynamics import Settings, metadynamics, read_result, reweighted_couplings
    from heliodor.metadynamics.averages import check_couplings
    from heliodor.metadynamics.files import files_of
    from heliodor.metadynamics.samples import check_reweighting
    from heliodor.metadynamics.variables import check_variables, check_walls

    if restart and overwrite:
        raise InputError("--restart goes on with files that --overwrite would replace: give one of them")
    # what the end of a long run needs is looked at before it
    check_reweighting(method, skip)
    settings = Settings(
        time=time,
        timestep=timestep,
        temperature=temperature,
        friction=friction,
        height=height,
        bias_factor=bias_factor,
        stride=stride,
        wall=wall,
        save_every=save_every,
        checkpoint_every=checkpoint_every,
        seed=seed,
    )
    files = files_of(output, overwrite=overwrite or restart)
    if any(path.exists() and path.samefile(file) for path in files.to_list() if file.exists()):
        raise InputError(f"{file} is the structure handed in: choose another --output")
    atoms = read_structure(file, frame)
    set_electrons(atoms, charge, spin)
    variables = variables_of(atoms, torsions or [], phi_psi, distances or [], walls or [], width or [])
    check_variables(variables, atoms)
    check_walls(variables, settings)
    if couplings is not None:
        check_couplings(atoms, couplings)
    potential = load_model(
        model, device=device, dtype=dtype, long_range_cutoff=long_range_cutoff, threads=threads, kernels=kernels
    )
    check(atoms, potential)
    screen = sys.stderr if as_json else sys.stdout
    lines = describe(file, atoms, potential)
    lines += [
        (
            v.kind,
            f"{v.name} ({'-'.join(atoms[k].symbol for k in v.atoms)}), now {v.measure(atoms):.4g} {v.unit}, "
            f"Gaussians {v.width:g} {v.unit} wide",
        )
        for v in variables
    ]
    lines += [("bias", _bias_words(settings)), ("files", ", ".join(map(str, files.to_list())))]
    print_lines(lines, screen)
    inputs = {"structure": str(file), "sha256": sha256_of(file), "frame": frame}
    with interruptible() as stop, _bar() as progress:
        result = metadynamics(
            potential,
            atoms,
            variables,
            settings,
            output=output,
            overwrite=overwrite,
            restart=restart,
            inputs=inputs,
            progress=progress,
            stop=stop,
        )
    if (method, skip, blocks) != ("tiwary-parrinello", 0.2, 10):
        result = read_result(output, method=method, skip=skip, blocks=blocks)
    found = result.to_dict()
    constants = {}
    if couplings is not None:
        try:
            constants = reweighted_couplings(result, couplings, method=method, skip=skip, blocks=blocks)
        except InputError as error:
            # the run is not lost for that
            note(f"no couplings: {error}")
        found["couplings_Hz"] = [
            {"residue": residue, "coupling": name, "mean": mean, "error": error}
            for (residue, name), (mean, error) in constants.items()
        ]
    if as_json:
        print_json({**found, "files": files.to_list()})
    else:
        print_lines(_words(result, constants), sys.stdout)
    if result.ended == "interrupted":
        print_lines([("go on", "the same command with --restart")], screen)
        raise typer.Exit(INTERRUPTED)


def variables_of(
    atoms: ase.Atoms,
    torsions: Sequence[str],
    residue: int | None,
    distances: Sequence[str],
    walls: Sequence[str],
    widths: Sequence[float],
) -> list[Variable]:
    """What --torsion, --phi-psi, --distance, --walls and --width name.

    Raises:
        InputError: words that cannot be read; another number of walls or widths.
    """
    from heliodor.cli.scan_input import atoms_of
    from heliodor.errors import InputError
    from heliodor.metadynamics import distance, peptide_torsion, torsion

    names = [*torsions, *([] if residue is None else [f"phi{residue}", f"psi{residue}"])]
    count = len(names) + len(distances)
    if widths and len(widths) not in (1, count):
        raise InputError(f"--width must be given once, or once for each of the {count} variables")
    if distances and len(walls) not in (1, len(distances)):
        raise InputError(
            "a distance needs walls, or its atoms part for good: give --walls LOW:HIGH in Å once, or once for each"
        )
    if walls and not distances:
        raise InputError("--walls are of distances; torsions need none")

    def width(k: int, usual: float) -> float:
        return widths[k % len(widths)] if widths else usual

    found = []
    for k, name in enumerate(names):
        if "," in name:
            found.append(torsion(atoms_of(name, 4, "--torsion"), width=width(k, 20.0)))
        else:
            found.append(peptide_torsion(atoms, name, width=width(k, 20.0)))
    for k, words in enumerate(distances):
        low, high = _two(walls[k % len(walls)])
        found.append(distance(atoms_of(words, 2, "--distance"), low, high, width=width(len(names) + k, 0.1)))
    return found


def _two(words: str) -> tuple[float, float]:
    from heliodor.errors import InputError

    try:
        low, high = (float(word) for word in words.split(":"))
    except ValueError:
        raise InputError(f"--walls must be LOW:HIGH in Å, such as 2.5:8, not {words!r}") from None
    return low, high


def _bias_words(settings: Any) -> str:
    from heliodor.units import KCAL_PER_MOL, format_time

    return (
        f"Gaussians of {settings.height:g} eV ({settings.height / KCAL_PER_MOL:.3g} kcal/mol) every "
        f"{format_time(settings.stride_steps * settings.timestep_fs)}, bias factor {settings.bias_factor:g}, "
        f"{settings.temperature:g} K; {format_time(settings.steps * settings.timestep_fs)} in steps of "
        f"{settings.timestep_fs:g} fs, Langevin {settings.friction:g}/ps, seed {settings.seed}"
    )


@contextmanager
def _bar() -> Iterator[Callable[[int, int, str], None]]:
    from heliodor.cli.bar import frame_bar

    with frame_bar("metadynamics", "Gaussians") as tell:
        yield lambda done, total, words: tell(done, total)


def _words(result: Result, constants: dict[tuple[str, str], tuple[float, float]]) -> list[tuple[str, str]]:
    import numpy as np

    from heliodor.analysis.proteins.couplings import NAMES
    from heliodor.units import KCAL_PER_MOL, format_time

    samples = result.samples
    done = format_time(float(samples.steps[-1]) * samples.settings.timestep_fs)
    last = samples.heights[-len(samples) // 10 :].mean() / samples.settings.height
    lines = [
        (
            "result",
            f"{result.ended} after {done}, {len(samples)} Gaussians, of late {100 * last:.0f} % of the first height",
        )
    ]
    basins = result.basins
    if basins is None:
        return [*lines, ("basins", "the run is too short for free energies with errors")]
    for k in range(len(basins)):
        place = ", ".join(f"{x:.3g} {v.unit}" for v, x in zip(samples.variables, basins.places[k], strict=True))
        words = f"population {_with_error(basins.population[k], basins.population_error[k], 3)}"
        if k:
            over, error, bias = (x[k] / KCAL_PER_MOL for x in (basins.difference, basins.error, basins.from_bias))
            # a basin that only the part left out has seen
            told = f"{_with_error(over, error, 2, '+')} kcal/mol" if np.isfinite(over) else "not reweighted"
            words += f", {told} (from the bias {bias:+.2f} kcal/mol)"
        lines.append((f"basin {k + 1}", f"{place}: {words}"))
    if not np.isfinite(basins.population_error).any():
        lines.append(("errors", "not known with the final bias, which all blocks of time share"))
    for (residue, name), (mean, off) in constants.items():
        lines.append(("coupling", f"{residue} ³J({NAMES[name]}) {_with_error(mean, off, 2)} Hz"))
    written = [path for path in result.files.to_list() if path.exists()]
    return [*lines, ("written", ", ".join(map(str, written)))]


def _with_error(value: float, error: float, digits: int, sign: str = "") -> str:
    return f"{value:{sign}.{digits}f}" + (f" ± {error:.{digits}f}" if error == error else "")
