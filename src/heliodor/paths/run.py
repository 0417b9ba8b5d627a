"""run_paths: path-integral dynamics through i-PI, into a folder, going on after any kind of end."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np

from heliodor.dynamics.files.storage import write_durably
from heliodor.engines.ipi import Beads, upright
from heliodor.errors import InputError
from heliodor.paths.input import input_xml
from heliodor.paths.quantum import centroid_virial
from heliodor.paths.records import Records
from heliodor.paths.result import INPUT, PROPERTIES, SETTINGS, STATE, STRUCTURE, PathResult, read_paths
from heliodor.paths.settings import PathSettings
from heliodor.paths.simulation import Ring
from heliodor.potential import Potential
from heliodor.system import read_charge, read_spin

SAVE = 20.0
"""Seconds between saves: what a kill costs at most."""

Tell = Callable[[int, int], None]
"""Called with steps done and steps of the whole run."""


def run_paths(
    model: str | Path | Sequence[str | Path] | Potential,
    atoms: ase.Atoms,
    folder: str | Path,
    settings: PathSettings,
    *,
    charge: float | None = None,
    spin: int | None = None,
    restart: bool = False,
    tell: Tell | None = None,
    save: float = SAVE,
    **load_options: Any,
) -> PathResult:
    """Path-integral molecular dynamics of one structure; to be called from the main thread, one at a time.

    The folder gets i-PI's input (input.xml, which ``i-pi`` itself runs too), frames, and a state from which the run
    goes on with ``restart``, also to a longer time.

    Args:
        model: name, file, several of these for a committee, or a loaded potential.
        atoms: start structure; masses as it has them (isotopes). Constraints are not applied.
        charge, spin: total charge (e) and unpaired electrons; override ``atoms.info``.
        restart: go on with what the folder holds; begins where it holds nothing.
        save: seconds between saves.
        load_options: as for `heliodor.load`.

    Raises:
        InputError, ModelError: what the model cannot describe; a folder in use or that cannot be written to; other
            settings than those of the run; forces that are not finite.
        StorageError: the disk is full.
        MissingExtraError: i-PI is not installed.
    """
    folder = Path(folder)
    begun = (folder / STATE).is_file()
    if (folder / SETTINGS).is_file() and not restart:
        raise InputError(f"{folder} holds a run already: go on with it (restart), or choose another folder")
    turned = upright(atoms)
    turned.calc = None
    turned.info = {
        "charge": read_charge(atoms) if charge is None else float(charge),
        "spin": read_spin(atoms) if spin is None else int(spin),
    }
    named = _name(model)
    parameters = {"structure": STRUCTURE, "model": named}
    xml = input_xml(turned, settings, parameters)
    if begun:
        _check_same(folder, turned, settings, named)
        if json.loads((folder / STATE).read_text())["step"] >= settings.steps:
            return read_paths(folder)
    beads = Beads(model, turned, compare=not begun, **load_options)
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if begun:
            state = json.loads((folder / STATE).read_text())
            ring, marks = Ring(state["xml"], beads), state["marks"]
        else:
            ase.io.write(folder / STRUCTURE, turned, format="extxyz")
            (folder / INPUT).write_text(xml)
            ring, marks = Ring(input_xml(turned, settings, parameters, outputs=False), beads), {"frames": 0, "beads": 0}
        about = {"settings": asdict(settings), "model": named}
        write_durably(folder / SETTINGS, json.dumps(about, indent=2).encode())
        _go_on(ring, folder, settings, marks, tell, save, bool(turned.pbc.any()))
    return read_paths(folder)


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written to ({error.strerror or error}): choose another folder or make room; a run "
            "that was saved goes on with restart"
        ) from error


def _go_on(
    ring: Ring,
    folder: Path,
    settings: PathSettings,
    marks: dict[str, int],
    tell: Tell | None,
    save: float,
    periodic: bool,
) -> None:
    files = _files(folder, len(ring.pes.atoms), settings, ring.pes.has_dipoles, periodic)
    for name, file in files.items():
        file.cut(marks["beads" if name.startswith("bead") else "frames"])
    saved = time.monotonic()
    while ring.step < settings.steps:
        ring.advance()
        done = ring.step == settings.steps
        if ring.step % settings.stride == 0:
            _store(ring, settings, files, periodic)
            marks["frames"] += 1
        if settings.every_bead and ring.step % settings.every_bead == 0:
            files["beads"].append(ring.positions)
            files["bead_cells"].append(ring.cell)
            marks["beads"] += 1
        if done or time.monotonic() - saved >= save:
            for file in files.values():
                file.sync()
            state = {"step": ring.step, "marks": marks, "xml": ring.state()}
            write_durably(folder / STATE, json.dumps(state).encode())
            saved = time.monotonic()
        if tell is not None:
            tell(ring.step, settings.steps)


def _files(folder: Path, n: int, settings: PathSettings, has_dipoles: bool, periodic: bool) -> dict[str, Records]:
    shapes: dict[str, tuple[int, ...]] = {"properties": (len(PROPERTIES),), "kinetic": (n,)}
    if has_dipoles:
        shapes["dipole"] = (3,)
    if settings.centroid:
        shapes |= {"centroids": (n, 3), "centroid_forces": (n, 3)}
    if periodic:
        shapes["cells"] = (3, 3)
    files = {name: Records(folder / f"{name}.f64", shape) for name, shape in shapes.items()}
    if settings.every_bead:
        files["beads"] = Records(folder / "beads.f32", (settings.beads, n, 3), "<f4")
        files["bead_cells"] = Records(folder / "bead_cells.f64", (3, 3))
    return files


def _store(ring: Ring, settings: PathSettings, files: dict[str, Records], periodic: bool) -> None:
    positions, forces = ring.positions, ring.forces
    values = ring.measured(bool(ring.pes.atoms.pbc.all()))
    files["properties"].append(np.array([values[name] for name in PROPERTIES]))
    files["kinetic"].append(centroid_virial(positions, forces, settings.temperature))
    if "dipole" in files:
        assert ring.pes.dipoles is not None
        files["dipole"].append(ring.pes.dipoles.mean(0))
    if "centroids" in files:
        files["centroids"].append(positions.mean(0))
        files["centroid_forces"].append(forces.mean(0))
    if periodic:
        files["cells"].append(ring.cell)


def _name(model: str | Path | Sequence[str | Path] | Potential) -> str:
    if isinstance(model, Potential):
        return model.source or f"{model.name} made in Python"
    return str(model) if isinstance(model, (str, Path)) else " + ".join(map(str, model))


def _check_same(folder: Path, atoms: ase.Atoms, settings: PathSettings, named: str) -> None:
    before = json.loads((folder / SETTINGS).read_text())
    now = {"model": named} | asdict(settings)
    for name, value in ({"model": before["model"]} | before["settings"]).items():
        if name != "time" and now[name] != value:
            raise InputError(f"{folder} was run with {name} {value!r}, not {now[name]!r}: only the time may change")
    stored = ase.io.read(folder / STRUCTURE)
    assert isinstance(stored, ase.Atoms)
    same = len(stored) == len(atoms) and bool((stored.numbers == atoms.numbers).all())
    if not same or np.abs(stored.positions - atoms.positions).max() > 1e-6:
        raise InputError(f"{folder} was run from another structure: choose another folder")
    for what, then, present in (
        ("cell", np.array(stored.cell), np.array(atoms.cell)),
        ("periodicity", stored.pbc, atoms.pbc),
        ("set of masses", stored.get_masses(), atoms.get_masses()),
        ("charge", stored.info.get("charge", 0.0), atoms.info["charge"]),
        ("spin", stored.info.get("spin", 0), atoms.info["spin"]),
    ):
        if not np.allclose(np.asarray(then, dtype=float), np.asarray(present, dtype=float), rtol=0.0, atol=1e-6):
            raise InputError(f"{folder} was run with a different {what}: choose another folder")
