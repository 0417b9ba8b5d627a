"""Evaluator: energies and forces of the same atoms again and again, as other people's engines ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase
import numpy as np
import torch
from ase.geometry import complete_cell
from jaxtyping import Float

from heliodor.api import load
from heliodor.errors import InputError
from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, Prediction, check_distances, check_energy, evaluate_system, warn_about
from heliodor.system import System


class Evaluator:
    """A model, the atoms it is asked about, and the neighbour list kept between calls.

    An engine hands positions (and a cell, where it changes) in Å and gets a `Prediction` in eV and eV/Å on the CPU.
    Atoms that an engine has put back into its box are followed across it, so that this does not cost a new list.
    Several copies (beads of a path integral) are evaluated as one batch.

    Args:
        model: name, file, several of these for a committee, or a loaded potential.
        atoms: elements, cell and periodicity, charge and spin; positions are those of the first comparison.
        charge, spin: total charge (e) and unpaired electrons; override ``atoms.info``.
        copies: B, structures of these atoms to a call.
        skin: Å; 0 finds the neighbours anew at each call.
        load_options: as for `heliodor.load` (device, dtype, long_range_cutoff, ...).

    Raises:
        InputError, ModelError: what the model cannot describe, naming the atom.
    """

    def __init__(
        self,
        model: str | Path | Sequence[str | Path] | Potential,
        atoms: ase.Atoms,
        *,
        charge: float | None = None,
        spin: int | None = None,
        copies: int = 1,
        skin: float = 0.5,
        **load_options: Any,
    ) -> None:
        if copies < 1:
            raise InputError(f"copies must be at least 1, not {copies}")
        self.potential = model if isinstance(model, Potential) else load(model, **load_options)
        self.skin = skin
        self.copies = copies
        self.n_atoms = len(atoms)
        check_energy(self.potential)
        one = System.from_atoms(atoms, charge=charge, spin=spin)
        self.potential.check(one)
        warn_about(self.potential, one)
        check_distances(one, self.potential.neighbors(one.to(self.potential.device)))
        self.charge, self.spin = float(one.charge[0]), int(one.spin[0])
        self.atoms = atoms.copy()
        self._system = System.from_atoms(
            [atoms] * copies, charge=self.charge, spin=self.spin, device=self.potential.device
        )
        self._periodic = np.asarray(atoms.pbc, dtype=bool)
        self._neighbors: Neighbors | None = None
        self._last: np.ndarray | None = None
        self.lists_built = 0

    def __call__(
        self,
        positions: Float[np.ndarray, "*B N 3"],
        cell: Float[np.ndarray, "*B 3 3"] | None = None,
        *,
        virial: bool = False,
        stress: bool = False,
    ) -> Prediction:
        """Energy and forces, and the virial or the stress where asked for.

        Args:
            positions: Å, of one copy or of each.
            cell: Å, rows are lattice vectors, one for all copies or one each; that of ``atoms`` if not given.

        Raises:
            InputError: positions of other atoms, positions or forces that are not finite, two atoms on one spot.
        """
        system = self._place(positions, cell)
        neighbors = self._neighbors
        if neighbors is not None and torch.equal(system.cell, neighbors.cell):
            # the same tensor tells the list that its cached image offsets hold
            system = system.replace(cell=neighbors.cell)
        if neighbors is None or self.skin == 0.0 or bool(neighbors.stale(system)):
            neighbors = self.potential.neighbors(system, skin=self.skin)
            check_distances(system, neighbors)
            self._neighbors = neighbors
            self.lists_built += 1
        prediction = evaluate_system(self.potential, system, neighbors, virial=virial, stress=stress).detached("cpu")
        assert prediction.forces is not None
        if not bool(torch.isfinite(prediction.energy).all() & torch.isfinite(prediction.forces).all()):
            raise InputError(
                "the forces are no longer finite numbers: the simulation has left what the model can describe; start "
                "from a relaxed structure or take a shorter time step"
            )
        return prediction

    def _place(self, positions: np.ndarray, cell: np.ndarray | None) -> System:
        wanted = (self.copies, self.n_atoms, 3)
        if positions.size != np.prod(wanted) or positions.shape[-2:] != wanted[1:]:
            raise InputError(
                f"positions have shape {tuple(positions.shape)}, but there are {self.n_atoms} atoms"
                + (f" in {self.copies} copies" if self.copies > 1 else "")
            )
        here = np.array(positions, dtype=np.float64).reshape(wanted)
        if not np.isfinite(here).all():
            copy, atom = np.argwhere(~np.isfinite(here).all(-1))[0]
            raise InputError(
                f"the engine's position of atom {atom}{f' of copy {copy}' if self.copies > 1 else ''} is not a finite "
                "number: the simulation has become unstable; take a shorter time step or relax the structure first"
            )
        cells = np.array(self.atoms.cell if cell is None else cell, dtype=np.float64)
        cells = np.ascontiguousarray(np.broadcast_to(cells, (self.copies, 3, 3)))
        if self._periodic.any():
            here = self._follow(here, cells)
        device = self._system.device
        return self._system.replace(
            positions=torch.from_numpy(here.reshape(-1, 3)).to(device), cell=torch.from_numpy(cells.copy()).to(device)
        )

    def _follow(self, positions: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """The image of each atom that is nearest to where it was."""
        full = np.stack([np.asarray(complete_cell(cell)) for cell in cells])
        fractional = positions @ np.linalg.inv(full)
        if self._last is not None:
            jump = np.rint(fractional - self._last) * self._periodic
            if jump.any():
                fractional = fractional - jump
                positions = positions - jump @ full
        self._last = fractional
        return positions
