"""What heliodor select reads: trajectories of one molecule, or structures of many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase
import numpy as np
from jaxtyping import Float, Int

from heliodor.errors import InputError
from heliodor.topology import set_names

if TYPE_CHECKING:
    from heliodor.trajectory.trajectory import Trajectory

Told = Callable[[str, int, int], object]


@dataclass(frozen=True, eq=False)
class Pool:
    """F structures and where they are from.

    Attributes:
        first: the first of them, with names.
        files: file of each, as number into ``names``.
        frame: number in its file.
        names: of the files.
        words: what there is, for people.
        notes: what they should know.
        positions: Å, of conformations of one molecule (float32, as they fill the memory).
        masses: amu, of its atoms.
        structures: of a set of different ones.
    """

    first: ase.Atoms
    files: Int[np.ndarray, "F"]
    frame: Int[np.ndarray, "F"]
    names: tuple[str, ...]
    words: str
    notes: tuple[str, ...] = ()
    positions: Float[np.ndarray, "F n 3"] | None = None
    masses: Float[np.ndarray, "n"] | None = None
    structures: list[ase.Atoms] = field(default_factory=list)

    def structure(self, index: int) -> ase.Atoms:
        """One of them, with ``source`` and ``frame`` in ``info``."""
        if self.positions is None:
            atoms = self.structures[index].copy()
            # energies and forces are of another level of theory, soon
            atoms.calc = None
        else:
            atoms = self.first.copy()
            atoms.positions = self.positions[index]
        atoms.info |= {"source": self.names[self.files[index]], "frame": int(self.frame[index])}
        return atoms


def read_conformations(files: list[Path], topology: Path | None, atoms: str, told: Told) -> Pool:
    """All frames of some trajectories of the same molecule, whole, without solvent.

    Raises:
        InputError: files that cannot be read, other atoms in one of them, no solute.
    """
    from heliodor.analysis.conformations.solute import find_solute, in_one_piece
    from heliodor.trajectory import open_trajectory
    from heliodor.trajectory.trajectory import frames_per_block

    parts: list[np.ndarray] = []
    counts: list[int] = []
    notes: list[str] = []
    first: ase.Atoms | None = None
    masses = np.zeros(0)
    for file in files:
        try:
            trajectory = open_trajectory(file, topology)
            solute = find_solute(trajectory, atoms)
        except InputError as error:
            raise _with_advice(error, file) from None
        notes += [f"{file}: {text}" for text in trajectory.notes]
        if first is None:
            first, masses = _template(trajectory, solute, notes), solute.masses
        elif not np.array_equal(first.numbers, solute.topology.numbers):
            raise InputError(
                f"{file} holds {solute.formula} and {files[0]} {first.get_chemical_formula('hill')}, or their atoms in "
                "another order: conformations are of one molecule (presets groups and mixed take different ones)"
            )
        size = frames_per_block(len(solute.read))
        for begin in range(0, len(trajectory), size):
            frames = np.arange(begin, min(begin + size, len(trajectory)))
            block = trajectory.read(frames, atoms=solute.read)
            whole = in_one_piece(block, solute)
            # float32 near the origin: 1e-6 Å
            parts.append((whole - whole.mean(axis=1, keepdims=True)).astype(np.float32))
            told(f"reading {file}", int(frames[-1]) + 1, len(trajectory))
        counts.append(len(trajectory))
    assert first is not None
    positions = np.concatenate(parts)
    return Pool(
        first=first,
        files=np.repeat(np.arange(len(files)), counts),
        frame=np.concatenate([np.arange(count) for count in counts]),
        names=tuple(str(file) for file in files),
        words=f"{len(positions)} frames of {first.get_chemical_formula('hill')} ({len(first)} atoms)",
        notes=tuple(notes),
        positions=positions,
        masses=masses,
    )


def read_set(files: list[Path], kind: str, told: Told) -> Pool:
    """All structures of some files.

    Raises:
        InputError: files that cannot be read.
    """
    from heliodor.cli.reading import read_structures

    structures: list[ase.Atoms] = []
    counts = []
    for k, file in enumerate(files):
        found = _of_data_set(file) or read_structures(file)
        structures += found
        counts.append(len(found))
        told("reading files", k + 1, len(files))
    formulas = {atoms.get_chemical_formula() for atoms in structures}
    return Pool(
        first=structures[0],
        files=np.repeat(np.arange(len(files)), counts),
        frame=np.concatenate([np.arange(count) for count in counts]),
        names=tuple(str(file) for file in files),
        words=f"{len(structures)} structures of {len(formulas)} formula{'s' * (len(formulas) > 1)}",
        structures=structures,
    )


def _of_data_set(path: Path) -> list[ase.Atoms]:
    """Structures of a data set of heliodor's; none of any other file."""
    import h5py

    from heliodor.train.dataset import FORMAT, Dataset

    if path.suffix.lower() != ".h5" or not path.is_file():
        return []
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                return []
    except OSError:
        return []
    data = Dataset.read(path)
    return [data.atoms(k) for k in range(len(data))]


def _template(trajectory: Trajectory, solute: Any, notes: list[str]) -> ase.Atoms:
    whole = trajectory.atoms(0)
    first = whole[solute.atoms]
    first.info.clear()
    first.pbc = False
    first.cell = None
    # masses may have been repartitioned for the run: they are no property of what is written
    for name in ("momenta", "masses"):
        first.arrays.pop(name, None)
    set_names(first, solute.topology)
    if len(solute.atoms) == trajectory.n_atoms:
        first.info |= {key: whole.info[key] for key in ("charge", "spin") if key in whole.info}
    elif trajectory.charge or trajectory.spin:
        notes.append(
            f"{trajectory.path}: charge and spin are of all its atoms: they are left out of what is written, set those "
            "of the solute before labelling"
        )
    return first


def _with_advice(error: InputError, file: Path) -> InputError:
    text = str(error)
    if not file.is_file() or not file.stat().st_size:
        return error
    words = text if str(file) in text else f"{file}: {text}"
    return InputError(f"{words} (a file of different molecules: use --preset groups or mixed)")
