"""open_trajectory: from a file, and what lies beside it, to a `Trajectory`."""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
from ase.data import atomic_masses
from jaxtyping import Float

from heliodor.dynamics.ensemble import couplings, rotates
from heliodor.dynamics.files.trajectory import EXTXYZ_SUFFIXES, H5MD_SUFFIXES
from heliodor.dynamics.provenance import sha256_of
from heliodor.dynamics.settings import from_mapping
from heliodor.errors import HeliodorError, InputError
from heliodor.topology import Topology, pdb_chains, topology_of
from heliodor.trajectory.formats import extxyz, h5md, other
from heliodor.trajectory.perceive import recognised
from heliodor.trajectory.trajectory import Trajectory
from heliodor.units import parse_time

UNUSUAL = 0.05
"""Share of a mass by which others than the standard ones differ; isotopes and rounded tables aside."""

MASSES_NOTE = "masses are not the standard ones (repartitioned, perhaps): times of motion are not those of nature"


BIAS_NOTE = (
    "the run was under a bias (metadynamics), which no average or distribution here takes out: "
    "heliodor.metadynamics.reweighted_average does"
)


def open_trajectory(
    path: str | Path, topology: str | Path | ase.Atoms | None = None, *, structure: int = 0
) -> Trajectory:
    """A trajectory, without reading more of it than its beginning (of extended xyz: where frames begin).

    H5MD (heliodor's or others'), extended xyz, and what MDTraj reads with a topology: DCD, XTC, TRR, NetCDF ... Files
    of runs that go on or were killed are read up to the last complete frame. Names and residues come from
    ``topology``, from the file itself, or, for molecules that came without, from the bonds: peptides of the standard
    amino acids and waters are recognised. Log and record of the run are read where they lie beside the trajectory.

    Args:
        topology: a structure with the same atoms in the same order, as file (pdb, extxyz ...) or `ase.Atoms`.
        structure: which one, of a run of several.

    Raises:
        InputError: no such file, unknown format, no complete frame, a topology that does not fit or is missing.
        MissingExtraError: a format that needs MDTraj, and it is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty")
    suffix = path.suffix.lower()
    given: dict[str, Any] = {"path": path, "topology": topology, "structure": structure}
    named = None if topology is None else _named(topology)
    if suffix in H5MD_SUFFIXES:
        found = h5md.describe(path, structure)
    elif suffix in EXTXYZ_SUFFIXES:
        found = extxyz.describe(path, structure)
    elif suffix in other.SUFFIXES:
        if named is None:
            raise InputError(
                f"{path} holds positions but no elements: give the structure that was simulated as topology "
                "(--topology FILE, pdb or extxyz)"
            )
        found = other.describe(path, named)
    else:
        known = " ".join((*H5MD_SUFFIXES, *EXTXYZ_SUFFIXES, *other.SUFFIXES))
        raise InputError(f"cannot tell the trajectory format of {str(path)!r}: the name must end in one of {known}")
    found |= {"record": _record(path), "log": _log(path, structure)}
    if found["record"] and not _belongs(found, structure):
        found |= {"record": {}, "log": {}}
        words = f"{path.with_suffix('.json').name} beside it is of another run: neither it nor the log is used"
        found["notes"] = (*found["notes"], words)
    if "bias" in (found.get("settings") or {}) or _biased(path):
        found["notes"] = (*found["notes"], BIAS_NOTE)
    if not found.get("settings"):
        found["settings"] = _settings(found["record"])
    found.setdefault("continuous", suffix in EXTXYZ_SUFFIXES and bool(found["record"]))
    ids = found.pop("ids", None)
    if suffix not in H5MD_SUFFIXES:
        found["masses"] = _masses(found["record"], structure, found["masses"], ids)
    standard = atomic_masses[found["topology"].numbers]
    if (np.abs(found["masses"] - standard) > UNUSUAL * standard).any():
        found["notes"] = (*found["notes"], MASSES_NOTE)
    saved = (found["record"].get("settings") or {}).get("save_atoms", "all")
    found["partial"] = bool(found.get("partial")) or saved != "all"
    trajectory = Trajectory(path=path, structure=structure, given=given, **found)
    if named is not None and suffix not in other.SUFFIXES:
        trajectory = _renamed(trajectory, topology_of(named))
    if not trajectory.topology.named:
        trajectory = _with_names_of_start(trajectory)
    if not trajectory.topology.named:
        known_as = recognised(trajectory.topology)
        if known_as is not None:
            trajectory = replace(
                trajectory, topology=known_as, origin="names recognised from bonds by distance in the first frame"
            )
    return trajectory


def _named(topology: str | Path | ase.Atoms) -> ase.Atoms:
    if isinstance(topology, ase.Atoms):
        return topology
    path = Path(topology)
    if not path.is_file():
        raise InputError(f"there is no file {path} to take the topology from")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = ase.io.read(path, index=0)
    except HeliodorError:
        raise
    except Exception as error:
        raise InputError(f"{path} cannot be read as a structure: {' '.join(str(error).split())[:200]}") from None
    assert isinstance(found, ase.Atoms)
    if path.name.lower().removesuffix(".gz").endswith((".pdb", ".ent")):
        chains = pdb_chains(path)
        if len(chains) == len(found):
            found.set_array("chain", chains)
    return found


def _renamed(trajectory: Trajectory, topology: Topology) -> Trajectory:
    """The trajectory under the names of a topology of all its atoms, in the same order.

    Raises:
        InputError: other atoms.
    """
    if len(topology) != trajectory.n_atoms:
        raise InputError(
            f"the topology has {len(topology)} atoms and {trajectory.path} has {trajectory.n_atoms}: give the "
            "structure that was simulated"
        )
    differs = np.flatnonzero(topology.numbers != trajectory.topology.numbers)
    if len(differs):
        k = int(differs[0])
        raise InputError(
            f"atom {k} is {topology.symbols[k]} in the topology and {trajectory.topology.symbols[k]} in "
            f"{trajectory.path}: give the structure that was simulated, its atoms in the same order"
        )
    bonds = trajectory.topology.bonds
    return replace(
        trajectory,
        topology=replace(topology, bonds=bonds),
        origin="names from the topology, bonds by distance in the first frame",
    )


def _with_names_of_start(trajectory: Trajectory) -> Trajectory:
    """Under the names of the structure the run was begun from, if its file is still what it was."""
    inputs = trajectory.record.get("inputs") or {}
    name, sha256 = inputs.get("structure"), inputs.get("sha256")
    if not isinstance(name, str) or not isinstance(sha256, str):
        return trajectory
    for path in (trajectory.path.parent / name, Path(name)):
        if path.is_file() and sha256_of(path) == sha256:
            try:
                topology = topology_of(_named(path))
                return _renamed(trajectory, topology) if topology.named else trajectory
            except InputError:
                return trajectory
    return trajectory


def _record(path: Path) -> dict[str, Any]:
    beside = path.with_suffix(".json")
    try:
        whole = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return whole if isinstance(whole, dict) and "settings" in whole else {}


def _biased(path: Path) -> bool:
    """Whether the record beside it, of `heliodor.metadynamics`, says so: extended xyz has no place for that."""
    try:
        whole = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(whole, dict) and "metadynamics" in whole


def _masses(
    record: dict[str, Any], structure: int, masses: np.ndarray, ids: np.ndarray | None
) -> Float[np.ndarray, "N"]:
    """amu, of the record where it has them for these atoms (``ids`` if they are some of all), else as given."""
    structures = record.get("structures")
    try:
        recorded = structures[structure]["masses_amu"]  # type: ignore[index]
        known = np.asarray(recorded, dtype=np.float64)
        if ids is not None:
            known = known[ids]
    except (LookupError, TypeError, ValueError):
        return masses
    fits = known.shape == masses.shape and bool((np.isfinite(known) & (known > 0.0)).all())
    return known if fits else masses


def _belongs(found: dict[str, Any], structure: int) -> bool:
    """Whether a record can be of this trajectory: the same atoms, and the seed if the file says its own."""
    record, topology = found["record"], found["topology"]
    seed = (found.get("settings") or {}).get("seed")
    if seed is not None and record["settings"].get("seed") not in (None, seed):
        return False
    try:
        entry = record["structures"][structure]
        formula, count = str(entry["formula"]), int(entry["atoms"])
    except (KeyError, IndexError, TypeError, ValueError):
        return True
    if found.get("partial") or record["settings"].get("save_atoms", "all") != "all":
        return len(topology) <= count
    return len(topology) == count and ase.Atoms(topology.numbers).get_chemical_formula() == formula


def _settings(record: dict[str, Any]) -> dict[str, Any]:
    """What H5MD files of heliodor say of themselves, from the record of a run in another format."""
    if not record:
        return {}
    model = record.get("model")
    name = model.get("name", "unknown") if isinstance(model, dict) else "unknown"
    given = record["settings"]
    try:
        settings = from_mapping(given)
        thermostat, barostat = couplings(settings)
        return {
            "model": name,
            "ensemble": settings.ensemble,
            "thermostat": thermostat or "none",
            "barostat": barostat or "none",
            "temperature_K": _temperature(settings.temperature),
            "pressure_bar": str(settings.pressure) if barostat else "none",
            "rotation": "thermal" if rotates(settings) else "none",
            "timestep_fs": parse_time(settings.timestep),
            "seed": settings.seed,
        }
    except (HeliodorError, TypeError, ValueError):
        # of another version
        kept = {key: given[key] for key in ("ensemble", "seed") if key in given}
        kept |= {"temperature_K": given.get("temperature"), "timestep_fs": given.get("timestep")}
        return {"model": name, **kept}


def _temperature(value: str | float | Sequence[float]) -> str:
    """In the words of H5MD files: "300", "300 to 900", or one number for each structure."""
    if isinstance(value, str):
        return " to ".join(f"{float(part.strip().removesuffix('K')):g}" for part in value.split(":"))
    return " ".join(f"{t:g}" for t in np.atleast_1d(np.asarray(value, dtype=np.float64)).tolist())


def _log(path: Path, structure: int) -> dict[str, np.ndarray]:
    """Columns of the log; rows cut off at the end of the file are left out."""
    beside = path.with_suffix(".csv")
    try:
        with beside.open(encoding="utf-8", newline="") as file:
            # a run that was killed leaves a line without end
            rows = csv.reader(line for line in file if line.endswith("\n"))
            names = next(rows, [])
            if names[:2] != ["step", "time_fs"]:
                return {}
            lines = [[float(x) for x in row] for row in rows if len(row) == len(names)]
    except (OSError, ValueError, csv.Error):
        return {}
    table = np.array(lines).reshape(-1, len(names))
    if "structure" in names:
        table = table[table[:, names.index("structure")] == structure]
    return {name: table[:, k] for k, name in enumerate(names) if name != "structure"}
