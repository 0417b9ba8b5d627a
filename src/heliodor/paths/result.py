"""PathResult: what a path-integral run left in its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import ase
import ase.io
import numpy as np
from jaxtyping import Float

from heliodor.errors import InputError
from heliodor.paths.records import Records
from heliodor.paths.settings import PathSettings

STRUCTURE, SETTINGS, STATE, INPUT = "structure.xyz", "settings.json", "state.json", "input.xml"

PROPERTIES = {
    "step": "",
    "temperature": "K",
    "conserved": "eV",
    "potential": "eV",
    "kinetic_primitive": "eV",
    "kinetic_virial": "eV",
    "pressure": "bar",
    "volume": "Å³",
}
"""Columns of each frame and their units. `potential` is the mean over the beads; `kinetic_primitive` and
`kinetic_virial` (centroid virial) are two estimators of the quantum kinetic energy, with the centre of mass at its
classical 3/2 kT; `pressure` is the centroid-virial one; it and `volume` are no numbers unless all directions are
periodic. `temperature` is that of the momenta, which the splitting of steps leaves cold by about (ω dt)²/4 in a mode of
frequency ω; positions, and so all else, are sampled better."""


@dataclass(frozen=True, eq=False)
class PathResult:
    """Of T frames of N atoms in P beads; frames are ``settings.stride`` steps apart, the first after the first stride.

    Attributes:
        folder: of the run.
        settings: it was run with.
        atoms: structure at the start, turned as i-PI wants its cell.
        time: fs.
        properties: [T] each, see `PROPERTIES`.
        kinetic_atoms: eV, centroid-virial kinetic energy of each atom.
        dipole: e·Å, mean over the beads, of periodic structures the sum of the molecules' own; None for models without
            charges, and where bonds run through the cell without end.
        centroids: Å, not put back into the cell; None unless ``settings.centroid``.
        centroid_forces: eV/Å, mean over the beads; likewise.
        cells: Å, rows are lattice vectors; None without periodicity.
    """

    folder: Path
    settings: PathSettings
    atoms: ase.Atoms
    time: Float[np.ndarray, "T"]
    properties: dict[str, np.ndarray]
    kinetic_atoms: Float[np.ndarray, "T N"]
    dipole: Float[np.ndarray, "T 3"] | None
    centroids: Float[np.ndarray, "T N 3"] | None
    centroid_forces: Float[np.ndarray, "T N 3"] | None
    cells: Float[np.ndarray, "T 3 3"] | None

    def beads(self) -> Float[np.ndarray, "S P N 3"]:
        """Positions of all beads, Å, every ``settings.every_bead`` steps; none where that is 0."""
        shape = (self.settings.beads, len(self.atoms), 3)
        return Records(self.folder / "beads.f32", shape, "<f4").read(self.marks()["beads"])

    def bead_cells(self) -> Float[np.ndarray, "S 3 3"]:
        """Cells that go with `beads`, Å."""
        return Records(self.folder / "bead_cells.f64", (3, 3)).read(self.marks()["beads"])

    def marks(self) -> dict[str, int]:
        """Whole frames on the disk."""
        found: dict[str, int] = json.loads((self.folder / STATE).read_text())["marks"]
        return found


def read_paths(folder: str | Path) -> PathResult:
    """What a run, finished or not, has stored up to its last save.

    Raises:
        InputError: no run in the folder.
    """
    folder = Path(folder)
    if not (folder / STATE).is_file():
        raise InputError(f"{folder} holds no path-integral run (or one that was stopped before its first save)")
    settings = PathSettings(**json.loads((folder / SETTINGS).read_text())["settings"])
    atoms = ase.io.read(folder / STRUCTURE)
    assert isinstance(atoms, ase.Atoms)
    count = json.loads((folder / STATE).read_text())["marks"]["frames"]
    n = len(atoms)

    def stored(name: str, *shape: int) -> np.ndarray | None:
        path = folder / f"{name}.f64"
        return Records(path, shape).read(count) if path.is_file() else None

    table = stored("properties", len(PROPERTIES))
    kinetic = stored("kinetic", n)
    assert table is not None and kinetic is not None
    return PathResult(
        folder=folder,
        settings=settings,
        atoms=atoms,
        time=table[:, 0] * settings.timestep,
        properties={name: table[:, k].copy() for k, name in enumerate(PROPERTIES)},
        kinetic_atoms=kinetic,
        dipole=stored("dipole", 3),
        centroids=stored("centroids", n, 3),
        centroid_forces=stored("centroid_forces", n, 3),
        cells=stored("cells", 3, 3),
    )
