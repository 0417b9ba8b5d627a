"""Running well-tempered metadynamics: the loop that owns files, progress and going on after a kill."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import ase
import numpy as np
import torch

from heliodor.api import load
from heliodor.dynamics.files.storage import AppendFile
from heliodor.dynamics.files.trajectory import Writer, open_writer
from heliodor.dynamics.provenance import identity, record
from heliodor.dynamics.state import MDState, init
from heliodor.metadynamics.files import Checkpoint, Files, check_same, files_of, header, hill_line
from heliodor.metadynamics.result import Result, analyse
from heliodor.metadynamics.settings import Settings
from heliodor.metadynamics.variables import Variable, check_variables, check_walls
from heliodor.metadynamics.walker import Walker
from heliodor.potential import ModelWarning, Potential, check_energy
from heliodor.system import System, read_charge, read_spin
from heliodor.topology import topology_of

Progress = Callable[[int, int, str], None]
"""Called with Gaussians done, Gaussians in all, and words."""


def metadynamics(
    model: str | Path | Sequence[str | Path] | Potential,
    atoms: ase.Atoms,
    variables: Sequence[Variable],
    settings: Settings | None = None,
    *,
    output: str | Path = "metad.h5",
    overwrite: bool = False,
    restart: bool = False,
    inputs: dict[str, Any] | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
    **load_options: Any,
) -> Result:
    """Well-tempered metadynamics (Barducci, Bussi & Parrinello, Phys. Rev. Lett. 100, 020603 (2008)) by OpenMM.

    Langevin dynamics (LangevinMiddleIntegrator) at constant volume. A killed run goes on with ``restart=True`` and the
    same arguments, ``time`` excepted: bias, positions, velocities and random numbers are those of the last restart
    file, what was written after it is cut off. (The neighbour list is built anew, so that sums in float32 may round
    differently: the path is another one then, of the same statistics.)

    Args:
        model: name, file, several of these for a committee, or a loaded potential.
        atoms: the structure to begin with; charge and spin in ``info``.
        variables: one or two, from `torsion`, `distance`, `peptide_torsion`, `phi_psi`.
        output: trajectory, .h5 or .xyz; other files beside it (`Files`).
        inputs: where the structure came from, for the record.
        stop: asked after each Gaussian; true ends the run with a restart file.
        load_options: as for `heliodor.load`.

    Returns:
        Free energies so far, also written beside the trajectory.

    Raises:
        MissingExtraError: OpenMM is not installed.
        InputError, ModelError: variables, settings or structure that cannot be; files that exist; a restart with
            other settings.
        SimulationError: the run became unstable, or files cannot be written.
    """
    settings = Settings() if settings is None else settings
    variables = tuple(variables)
    potential = model if isinstance(model, Potential) else load(model, **load_options)
    check_energy(potential)
    check_variables(variables, atoms)
    check_walls(variables, settings)
    files = files_of(output, overwrite=overwrite or restart)
    same = settings.identity | {
        "variables": [v.to_dict() for v in variables],
        "model": {
            k: v for k, v in identity(potential).items() if k in ("name", "sha256", "dtype", "long_range_cutoff")
        },
        "atoms": atoms.numbers.tolist(),
        "masses": atoms.get_masses().tolist(),
        "cell": np.asarray(atoms.cell).tolist() if atoms.pbc.any() else None,
        "charge": read_charge(atoms),
        "unpaired_electrons": read_spin(atoms),
    }
    before = None
    if restart:
        before = Checkpoint.read(files.checkpoint)
        check_same(before.identity, same, files.checkpoint)
        atoms = atoms.copy()
        atoms.positions = before.positions
    walker = Walker(potential, atoms, variables, settings, None if before is None else before.bias)
    if before is not None:
        _go_on(walker, before)
    else:
        for path in files.to_list():
            path.unlink(missing_ok=True)
    with ExitStack() as stack:
        ended = _loop(stack, walker, potential, atoms, files, same, before, progress, stop)
    entry = record(
        potential, {}, variables=[v.to_dict() for v in variables], metadynamics=settings.to_dict(), inputs=inputs or {}
    )
    # "settings" of a record are those of heliodor md, which other readers take them for
    entry.pop("settings")
    return analyse(files, variables, settings, ended=ended, entry=entry)


def _go_on(walker: Walker, before: Checkpoint) -> None:
    if not walker.load(before.engine):
        warnings.warn(
            "OpenMM cannot read its own checkpoint (another version?): going on from positions and velocities, with "
            "new random numbers",
            ModelWarning,
            stacklevel=3,
        )
        walker.place(before.positions, before.velocities, before.step)


def _loop(
    stack: ExitStack,
    walker: Walker,
    potential: Potential,
    atoms: ase.Atoms,
    files: Files,
    same: dict[str, Any],
    before: Checkpoint | None,
    progress: Progress | None,
    stop: Callable[[], bool] | None,
) -> str:
    """Until the end or until asked to stop; how it ended."""
    settings = walker.settings
    state = _template(potential, atoms, settings)
    writer = stack.enter_context(_writer(files, atoms, potential, settings, before))
    table = AppendFile(files.hills, None if before is None else before.hills_bytes)
    stack.callback(table.close)
    if before is None:
        table.append(header(walker.variables).encode())

    def keep() -> None:
        mark = writer.mark()
        table.sync()
        positions, velocities = walker.motion()
        now = Checkpoint(walker.currentStep, table.size, mark, same, walker.bias, walker.save(), positions, velocities)
        now.write(files.checkpoint)

    done = walker.currentStep // settings.stride_steps
    frames, checkpoints = settings.hills_per(settings.save_every), settings.hills_per(settings.checkpoint_every)
    if before is None:
        keep()
    while done < settings.hills:
        if stop is not None and stop():
            keep()
            return "interrupted"
        values, bias, height = walker.advance()
        done += 1
        step = walker.currentStep
        table.append(hill_line(step, step * settings.timestep_fs, values, bias, height).encode())
        if done % frames == 0:
            writer.write(_state(state, walker))
        if done % checkpoints == 0:
            keep()
        if progress is not None:
            words = ", ".join(
                f"{x:.0f}°" if v.periodic else f"{x:.2f} Å" for v, x in zip(walker.variables, values, strict=True)
            )
            progress(done, settings.hills, words)
    keep()
    return "finished"


def _writer(
    files: Files, atoms: ase.Atoms, potential: Potential, settings: Settings, before: Checkpoint | None
) -> Writer:
    metadata: dict[str, str | float | int] = {
        "model": potential.name,
        "ensemble": "nvt",
        "thermostat": "langevin",
        "barostat": "none",
        "temperature_K": f"{settings.temperature:g}",
        "pressure_bar": "none",
        "rotation": "thermal",
        "timestep_fs": settings.timestep_fs,
        "seed": settings.seed,
        "bias": "well-tempered metadynamics: averages need weights (heliodor.metadynamics)",
    }
    begun = before is not None and before.trajectory["frames"] > 0
    return open_writer(
        files.trajectory,
        overwrite=True,
        metadata=metadata,
        topologies=[topology_of(atoms)],
        resume=before.trajectory if begun and before is not None else None,
    )


def _template(potential: Potential, atoms: ase.Atoms, settings: Settings) -> MDState:
    """A state to write frames by; Langevin noise moves the centre of mass, 3N degrees of freedom."""
    state = init(
        System.from_atoms(atoms), potential, temperature=settings.temperature, rotating=True, fixed_center=False
    )
    return state.replace(prediction=None)


def _state(template: MDState, walker: Walker) -> MDState:
    positions, velocities, energy = walker.frame()
    device = template.system.device

    def tensor(values: np.ndarray | list[float]) -> torch.Tensor:
        return torch.as_tensor(np.array(values, dtype=np.float64), device=device)

    step = walker.currentStep
    return template.replace(
        system=template.system.replace(positions=tensor(positions)),
        velocities=tensor(velocities),
        energy=tensor([energy]),
        step=step,
        time=step * walker.settings.timestep_fs,
    )
