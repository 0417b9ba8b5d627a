"""Dataset: many labelled structures, as flat arrays in one HDF5 file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ase
import numpy as np
from jaxtyping import Bool, Float, Int

from heliodor.errors import InputError
from heliodor.system import read_charge, read_spin

FORMAT = "heliodor-dataset-1"

PER_ATOM = ("numbers", "positions", "forces", "hirshfeld_ratios", "charges", "node_energies")
PER_STRUCTURE = ("cell", "pbc", "charge", "spin", "energy", "stress", "dipole", "kind", "group", "origin")
TEXT = ("kind", "group", "origin")
ADDED = ("node_energies", "stress", "origin")


@dataclass(frozen=True, eq=False)
class Dataset:
    """S structures of N atoms in all; a label that a structure does not have is NaN.

    Attributes:
        offsets: atoms of structure s are ``offsets[s]`` to ``offsets[s + 1]``.
        numbers: atomic numbers.
        positions: Å.
        cell: Å, zeros where there is none.
        pbc: periodicity.
        charge: total charge, e.
        spin: unpaired electrons.
        energy: eV, the method's own total energy.
        forces: eV/Å.
        dipole: e·Å, about the origin of the coordinates.
        hirshfeld_ratios: effective over free atomic volume.
        charges: partial charges of the method, e.
        node_energies: eV, energies of the atoms by a teacher's network, without its physical terms.
        stress: eV/Å³, of periodic structures; ASE's sign.
        kind: a word for where a structure comes from, such as "bottom-up".
        group: structures that must not be split between training and test, such as conformers of one molecule.
        origin: where a structure was read from, such as a file's name.
        method: level of theory of all labels; empty without labels.
    """

    offsets: Int[np.ndarray, "S1"]
    numbers: Int[np.ndarray, "N"]
    positions: Float[np.ndarray, "N 3"]
    cell: Float[np.ndarray, "S 3 3"]
    pbc: Bool[np.ndarray, "S 3"]
    charge: Float[np.ndarray, "S"]
    spin: Float[np.ndarray, "S"]
    energy: Float[np.ndarray, "S"]
    forces: Float[np.ndarray, "N 3"]
    dipole: Float[np.ndarray, "S 3"]
    hirshfeld_ratios: Float[np.ndarray, "N"]
    charges: Float[np.ndarray, "N"]
    node_energies: Float[np.ndarray, "N"]
    stress: Float[np.ndarray, "S 3 3"]
    kind: np.ndarray
    group: np.ndarray
    origin: np.ndarray
    method: str = ""
    notes: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> Int[np.ndarray, "S"]:
        """Atoms of each structure."""
        return np.diff(self.offsets)

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that occur, ascending."""
        return tuple(int(z) for z in np.unique(self.numbers))

    def span(self, index: int) -> slice:
        """Where the atoms of a structure lie in the flat arrays."""
        return slice(int(self.offsets[index]), int(self.offsets[index + 1]))

    def atoms(self, index: int) -> ase.Atoms:
        """One structure with its charge, spin, kind and group in ``info``, without labels."""
        span = self.span(index)
        info = {
            "charge": float(self.charge[index]),
            "spin": int(self.spin[index]),
            "kind": str(self.kind[index]),
            "group": str(self.group[index]),
        }
        return ase.Atoms(
            self.numbers[span], self.positions[span], cell=self.cell[index], pbc=self.pbc[index], info=info
        )

    def take(self, indices: Sequence[int] | Int[np.ndarray, "s"]) -> Dataset:
        """Some of the structures, in the order given."""
        chosen = np.asarray(indices, dtype=np.int64)
        chosen = np.where(chosen < 0, chosen + len(self), chosen)
        # only of those, as there may be millions of others
        counts = self.offsets[chosen + 1] - self.offsets[chosen]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        # the position of each atom within its structure, plus where that structure begins
        rows = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts) + np.repeat(self.offsets[chosen], counts)
        arrays = {name: getattr(self, name)[rows] for name in PER_ATOM}
        arrays |= {name: getattr(self, name)[chosen] for name in PER_STRUCTURE}
        return replace(self, offsets=offsets, **arrays)

    def write(self, path: str | Path) -> None:
        """Write to HDF5: to a temporary name, flushed, then renamed."""
        import h5py

        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".part")
        try:
            with h5py.File(temporary, "w") as file:
                file.attrs["format"] = FORMAT
                file.attrs["method"] = self.method
                file.attrs["units"] = "eV, Å, e"
                for name in ("offsets", *PER_ATOM, *PER_STRUCTURE):
                    values = getattr(self, name)
                    text = name in TEXT
                    file.create_dataset(name, data=values.astype(object) if text else values, dtype=_stored(name, text))
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
        except (OSError, RuntimeError) as error:
            # h5py finds a full disk when it closes the file, and says so by either
            temporary.unlink(missing_ok=True)
            raise InputError(f"{path} could not be written: {error}") from None

    @staticmethod
    def read(path: str | Path) -> Dataset:
        """Read what `write` wrote.

        Raises:
            InputError: missing, damaged, or not such a file.
        """
        import h5py

        path = Path(path)
        if not path.is_file():
            raise InputError(f"there is no data set {path}")
        try:
            with h5py.File(path, "r") as file:
                if file.attrs.get("format") != FORMAT:
                    raise InputError(f"{path} is not a data set of heliodor (format {FORMAT})")
                # files of earlier versions lack what was added since
                names = [name for name in ("offsets", *PER_ATOM, *PER_STRUCTURE) if name in file or name not in ADDED]
                arrays = {name: file[name][()] for name in names}
                method = str(file.attrs["method"])
        except (OSError, KeyError) as error:
            raise InputError(f"{path} is not a data set of heliodor, or is damaged: {error}") from None
        atoms, structures = int(arrays["offsets"][-1]), len(arrays["offsets"]) - 1
        arrays.setdefault("node_energies", np.full(atoms, np.nan))
        arrays.setdefault("stress", np.full((structures, 3, 3), np.nan))
        arrays.setdefault("origin", np.full(structures, b"", dtype=object))
        for name in TEXT:
            arrays[name] = np.array([word.decode() for word in arrays[name]], dtype=object).astype(str)
        for name in ("positions", "forces"):
            arrays[name] = arrays[name].reshape(-1, 3)
        return Dataset(**arrays, method=method)

    @staticmethod
    def from_atoms(frames: Sequence[ase.Atoms], labels: Sequence[Any] | None = None, method: str = "") -> Dataset:
        """Structures with charge, spin, kind and group from ``info``, and optionally their `heliodor.label` labels.

        Raises:
            InputError: no structures.
        """
        frames = list(frames)
        if not frames:
            raise InputError("a data set needs at least one structure")
        counts = np.array([len(frame) for frame in frames])
        offsets = np.concatenate([[0], np.cumsum(counts)])
        given = list(labels) if labels is not None else [None] * len(frames)

        def per_atom(name: str, *shape: int) -> np.ndarray:
            parts = []
            for frame, label in zip(frames, given, strict=True):
                value = getattr(label, name, None)
                parts.append(np.full((len(frame), *shape), np.nan) if value is None else np.asarray(value, dtype=float))
            return np.concatenate(parts)

        def per_structure(name: str, *shape: int) -> np.ndarray:
            found = [getattr(label, name, None) for label in given]
            return np.stack([np.full(shape, np.nan) if v is None else np.asarray(v, dtype=float) for v in found])

        return Dataset(
            offsets=offsets,
            numbers=np.concatenate([frame.numbers for frame in frames]).astype(np.int64),
            positions=np.concatenate([frame.positions for frame in frames]).astype(np.float64),
            cell=np.stack([np.asarray(frame.cell, dtype=np.float64) for frame in frames]),
            pbc=np.stack([frame.pbc for frame in frames]),
            charge=np.array([read_charge(frame) for frame in frames], dtype=np.float64),
            spin=np.array([read_spin(frame) for frame in frames], dtype=np.float64),
            energy=np.array([getattr(label, "energy", np.nan) for label in given], dtype=np.float64),
            forces=per_atom("forces", 3),
            dipole=per_structure("dipole", 3),
            hirshfeld_ratios=per_atom("hirshfeld_ratios"),
            charges=per_atom("charges"),
            node_energies=per_atom("node_energies"),
            stress=per_structure("stress", 3, 3),
            kind=np.array([str(frame.info.get("kind", "")) for frame in frames]),
            group=np.array([str(frame.info.get("group", "")) for frame in frames]),
            origin=np.array([str(frame.info.get("origin", "")) for frame in frames]),
            method=method,
        )


def open_dataset(path: str | Path) -> Dataset:
    """A data set of heliodor by its path: a shelf (a folder, which stays on the disk) or an HDF5 file (loaded).

    Raises:
        InputError: there is none, or it is damaged.
    """
    from heliodor.train.shelf import open_shelf

    return open_shelf(path) if Path(path).is_dir() else Dataset.read(path)


def join(parts: Sequence[Dataset]) -> Dataset:
    """Several data sets, one after the other.

    Raises:
        InputError: none, or labels of different methods.
    """
    if not parts:
        raise InputError("no data sets given")
    methods = sorted({part.method for part in parts if part.method})
    if len(methods) > 1:
        raise InputError(f"labels of different methods cannot be joined: {', '.join(methods)}")
    counts = np.concatenate([part.counts for part in parts])
    names = (*PER_ATOM, *PER_STRUCTURE)
    arrays: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Dataset(offsets=np.concatenate([[0], np.cumsum(counts)]), **arrays, method=methods[0] if methods else "")


def _stored(name: str, text: bool) -> Any:
    import h5py

    if text:
        return h5py.string_dtype()
    return {"pbc": bool, "numbers": np.int32, "offsets": np.int64}.get(name, np.float64)
