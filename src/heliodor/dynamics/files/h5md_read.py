"""Reading H5MD files: those of heliodor, finished, growing or left by a killed run."""

from __future__ import annotations

from pathlib import Path

import ase
import ase.units
import h5py
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

from heliodor.errors import InputError
from heliodor.units import KJ_PER_MOL


def read(path: Path, structure: int = 0) -> list[ase.Atoms]:
    """All complete frames of one structure of an H5MD file as ase.Atoms; see `trajectory.read_trajectory`."""
    with open_for_reading(path) as file:
        if "particles" not in file:
            raise InputError(f"{path} is not an H5MD trajectory: it has no particles group")
        groups = sorted(file["particles"], key=lambda name: int(name.rpartition("_")[2]) if "_" in name else 0)
        if not 0 <= structure < len(groups):
            raise InputError(f"{path} holds {len(groups)} structure(s); there is no structure {structure}")
        group = file[f"particles/{groups[structure]}"]
        present = {name: group[name] for name in ("position", "velocity", "force", "charge") if name in group}
        if "edges" in group["box"]:
            present["box"] = group["box/edges"]
        shared = len(groups) > 1
        chosen = group["id"][:] if "id" in group else None
        # energy and charge are those of the whole structure
        if "observables/potential_energy" in file and chosen is None:
            present["energy"] = file["observables/potential_energy"]
        step, time = present["position"]["step"][:], present["position"]["time"][:]
        n = min([len(time), *(len(element["value"]) for element in present.values())])
        # steps not written yet hold a negative fill value
        good = np.flatnonzero(step[:n] >= 0)
        n = int(good[-1]) + 1 if len(good) else 0
        arrays = {name: element["value"][:n].astype(np.float64) for name, element in present.items()}
        if "force" in present and str(present["force"]["value"].attrs.get("unit")).startswith("kJ mol-1"):
            arrays["force"] *= KJ_PER_MOL
        numbers, masses = group["species"][:], group["mass"][:] if "mass" in group else None
        pbc = [value == b"periodic" for value in np.asarray(group["box"].attrs["boundary"], dtype="S8")]
        names = {key: group[key][:] for key in ("atom_name", "residue_name", "residue_number", "chain") if key in group}
        names = {key: np.char.decode(a, "utf-8") if a.dtype.kind == "S" else a for key, a in names.items()}
        info = {"charge": float(group.attrs.get("charge", 0.0)), "spin": int(group.attrs.get("spin", 0))}
    if shared and "energy" in arrays:
        arrays["energy"] = arrays["energy"][:, structure]
    frames = []
    for k in range(n):
        atoms = ase.Atoms(numbers, arrays["position"][k], masses=masses, pbc=pbc)
        if "box" in arrays:
            atoms.cell = arrays["box"][k]
        if "velocity" in arrays:
            atoms.set_velocities(arrays["velocity"][k] / ase.units.fs)
        for key, values in names.items():
            atoms.set_array(key, values)
        if chosen is None:
            atoms.info |= info
        else:
            atoms.set_array("id", chosen.astype(np.int64))
        atoms.info |= {"step": int(step[k]), "time_fs": float(time[k])}
        results = {"energy": "energy", "force": "forces", "charge": "charges"}
        known = {result: arrays[name][k] for name, result in results.items() if name in arrays}
        if "energy" in known:
            known["energy"] = float(known["energy"])
        atoms.calc = SinglePointCalculator(atoms, **known) if known else None
        frames.append(atoms)
    return frames


def open_for_reading(path: Path) -> h5py.File:
    """An H5MD file, also one that is being written or whose writer was killed.

    Raises:
        InputError: it is not HDF5, or damaged.
    """
    errors = []
    _check_whole(path)
    # a file whose writer was killed can be opened as one being written only; a foreign one perhaps not so
    for options in ({"libver": "latest", "swmr": True}, {}):
        try:
            return h5py.File(path, "r", locking="best-effort", **options)
        except (OSError, ValueError) as error:
            errors.append(str(error))
    raise InputError(f"{path} cannot be read as HDF5: {errors[-1]}")


def _check_whole(path: Path) -> None:
    """Refuse a file that has lost its end: HDF5 would wait for it for ever when reading as it grows.

    The superblock (version 2 or 3, HDF5 File Format Specification, II.A) says where the file ended when it was last
    closed or flushed.

    Raises:
        InputError: it is shorter than that.
    """
    with path.open("rb") as file:
        head = file.read(48)
    if head[:8] != b"\x89HDF\r\n\x1a\n" or len(head) < 48 or head[8] not in (2, 3) or head[9] != 8:
        return
    end, size = int.from_bytes(head[28:36], "little"), path.stat().st_size
    if size < end:
        raise InputError(f"{path} has lost its end: {size} bytes are left of {end}; put the whole file back")
