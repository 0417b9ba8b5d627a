"""Any model that heliodor loads as a method: to label what a smaller or another model is to learn."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ase
import numpy as np

from heliodor.api import evaluate, load
from heliodor.errors import HeliodorError, InputError, ModelError
from heliodor.label.label import Label, LabelError
from heliodor.potential import Potential, Prediction
from heliodor.potentials.committee import expand
from heliodor.registry import checkpoint_path, find_model, imported


def find_teacher(model: str, *, device: str = "auto") -> Teacher:
    """The method ``teacher:model``, with the network in float64.

    Args:
        model: what `heliodor.load` takes: a name or a file.

    Raises:
        LabelError: no such model, or one without energies.
    """
    from heliodor import __version__

    try:
        potential = load(model, device=device, dtype="float64")
    except HeliodorError as error:
        raise LabelError(f"teacher:{model}: {error}") from None
    if not potential.has_energy:
        raise LabelError(f"teacher:{model}: this model predicts no energies")
    return Teacher(f"teacher:{model}", {"heliodor": __version__, "model": weights_of(model)}, potential)


@dataclass
class Teacher:
    """A model as a method.

    Labels hold energy, forces, the energy by terms, and charges, dipole (of molecules) and Hirshfeld ratios where the
    model has them.

    Attributes:
        versions: of heliodor, and "model": the first digits of the SHA-256 of the model's file (`weights_of`).
        potential: the model.
    """

    name: str
    versions: dict[str, str]
    potential: Potential = field(repr=False)
    efforts: int = 1

    def __call__(self, atoms: ase.Atoms, effort: int = 0) -> Label:
        """Label one structure.

        Raises:
            LabelError: the structure is outside the model.
        """
        return self.label_many([atoms])[0]

    def label_many(self, structures: Sequence[ase.Atoms], *, batch_atoms: int = 2000) -> list[Label]:
        """Label many structures at once, which on small ones is many times quicker.

        Args:
            batch_atoms: about how many atoms are evaluated together.

        Raises:
            LabelError: one of them is outside the model.
        """
        if not structures:
            return []
        try:
            prediction = evaluate(self.potential, structures, batch_atoms=batch_atoms)
        except (InputError, ModelError) as error:
            raise LabelError(f"{self.name}: {error}") from None
        starts = np.cumsum([0, *(len(atoms) for atoms in structures)])
        return [
            self._pick(prediction, k, slice(int(starts[k]), int(starts[k + 1])), periodic=bool(atoms.pbc.any()))
            for k, atoms in enumerate(structures)
        ]

    def _pick(self, prediction: Prediction, index: int, span: slice, *, periodic: bool) -> Label:
        energy, forces = float(prediction.energy[index]), np.asarray(prediction.forces, dtype=float)[span]
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise LabelError(f"{self.name}: the result for structure {index} is not a number")

        def per_atom(values: object) -> np.ndarray | None:
            return None if values is None else np.asarray(values, dtype=float)[span]

        dipole = None if periodic or prediction.dipole is None else np.asarray(prediction.dipole, dtype=float)[index]
        return Label(
            energy=energy,
            forces=forces,
            dipole=dipole,
            hirshfeld_ratios=per_atom(prediction.hirshfeld_ratios),
            charges=per_atom(prediction.charges),
            terms={name: float(values[index]) for name, values in prediction.terms.items()},
        )


def weights_of(model: str) -> str:
    """The first digits of the SHA-256 of what `heliodor.load` takes: a model's file, or all files of a committee."""
    try:
        files = [_file(source) for source in expand(model)]
    except HeliodorError:
        return "unknown"
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    return (digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest())[:16]


def _file(source: str) -> Path:
    path = Path(source)
    return path if path.is_file() else imported().get(source) or checkpoint_path(find_model(source))
