"""What of a force is written into OpenMM's XML: how to load its model again, and its atoms."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np

from heliodor.api import load
from heliodor.dynamics.provenance import fingerprint
from heliodor.engines.evaluator import Evaluator
from heliodor.engines.openmm.molecule import Molecule
from heliodor.errors import InputError

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Saved:
    """A force as it is written.

    Attributes:
        name: of the model.
        sources: names or absolute paths of files that `heliodor.load` takes.
        digest: SHA-256 over all parameters (`heliodor.dynamics.provenance.fingerprint`).
        load_options: for `heliodor.load`.
        numbers, positions, cell, pbc: of the atoms (Å), as they were given.
        charge, spin: e, unpaired electrons.
        placed: whether those positions mean something.
    """

    name: str
    sources: tuple[str, ...]
    digest: str
    load_options: dict[str, Any]
    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    pbc: bool
    charge: float
    spin: int
    skin: float
    placed: bool
    molecule: Molecule | None
    version: int = FORMAT

    def evaluator(self) -> Evaluator:
        """Of the same model and the same atoms.

        Raises:
            CheckpointError: the model's file is gone.
            InputError: it is another model by now.
        """
        potential = load(self.sources[0] if len(self.sources) == 1 else self.sources, **self.load_options)
        if fingerprint(potential) != self.digest:
            raise InputError(
                f"{', '.join(self.sources)} is not the model that this OpenMM system was written with "
                f"({self.name}, SHA-256 of its parameters {self.digest[:12]}...): put that back, or make the force anew"
            )
        atoms = ase.Atoms(numbers=self.numbers, positions=self.positions, cell=self.cell, pbc=self.pbc)
        return Evaluator(potential, atoms, charge=self.charge, spin=self.spin, skin=self.skin, placed=self.placed)


def saved_of(evaluator: Evaluator, molecule: Molecule | None, options: Mapping[str, Any]) -> Saved | None:
    """Of a force; None if its model has no name or file to be loaded from.

    Args:
        options: what the model was loaded with, where that is known.
    """
    potential = evaluator.potential
    members = getattr(potential, "members", (potential,))
    sources = [str(member.source) for member in members if member.source is not None]
    if len(sources) < len(members):
        return None
    here = potential.device.type
    kept: dict[str, Any] = {
        "dtype": str(potential.dtype).removeprefix("torch."),
        "device": options.get("device", "cpu" if here == "cpu" else "auto"),
        # those of one device are not those of another
        "kernels": potential.kernels if here == "cpu" and len(members) == 1 else "auto",
    }
    if options.get("head") is not None:
        kept["head"] = options["head"]
    if potential.has_long_range:
        cutoff = potential.long_range_cutoff
        kept["long_range_cutoff"] = cutoff if cutoff is None or isinstance(cutoff, str) else float(cutoff)
        if hasattr(potential, "dispersion_damping_width"):
            kept["dispersion_damping_width"] = potential.dispersion_damping_width
    atoms = evaluator.atoms
    return Saved(
        name=potential.name,
        sources=tuple(os.path.abspath(source) if os.path.isfile(source) else source for source in sources),
        digest=fingerprint(potential),
        load_options=kept,
        numbers=atoms.numbers.astype(np.uint8),
        positions=atoms.positions.copy() if evaluator.placed else np.zeros((len(atoms), 3), np.float32),
        cell=np.asarray(atoms.cell).copy(),
        pbc=bool(atoms.pbc.any()),
        charge=evaluator.charge,
        spin=evaluator.spin,
        skin=evaluator.skin,
        placed=evaluator.placed,
        molecule=molecule,
    )
