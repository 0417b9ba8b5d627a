"""Evaluator: energies and forces of the same atoms again and again, as other people's engines ask for them."""

from __future__ import annotations

import math
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
        placed: whether the positions of ``atoms`` mean something; if not, the first call's are the first looked at.
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
        placed: bool = True,
        **load_options: Any,
    ) -> None:
        if not 0.0 <= skin < np.inf:
            raise InputError(f"skin must be a length in Å, 0 or more, not {skin!r}")
        if copies < 1:
            raise InputError(f"copies must be at least 1, not {copies}")
        self.potential = model if isinstance(model, Potential) else load(model, **load_options)
        self.skin = skin
        self.copies = copies
        self.placed = placed
        self.n_atoms = len(atoms)
        check_energy(self.potential)
        one = System.from_atoms(atoms, charge=charge, spin=spin)
        self.potential.check(one)
        warn_about(self.potential, one)
        if placed:
            here = one.to(self.potential.device)
            check_distances(here, self.potential.neighbors(here))
        self.charge, self.spin = float(one.charge[0]), int(one.spin[0])
        self.atoms = atoms.copy()
        self._system = System.from_atoms(
            [atoms] * copies, charge=self.charge, spin=self.spin, device=self.potential.device
        )
        self._periodic = np.asarray(atoms.pbc, dtype=bool)
        self._cells = np.tile(np.array(atoms.cell, dtype=np.float64), (copies, 1, 1))
        self._neighbors: Neighbors | None = None
        self._last: tuple[np.ndarray, np.ndarray] | None = None
        self._listed: tuple[np.ndarray, np.ndarray] | None = None
        self._width = 0.0
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
        here, cells = self._place(positions, cell)
        device = self._system.device
        neighbors = self._neighbors
        known, fresh = False, False
        if self._listed is not None:
            before, cells_then = self._listed
            known = np.array_equal(cells, cells_then)
            # a bound that costs less than the list's own test, which decides where this one cannot
            fresh = known and 2.0 * math.sqrt(3.0) * float(np.abs(here - before).max()) <= self.skin
        system = self._system.replace(
            positions=torch.from_numpy(here.reshape(-1, 3)).to(device),
            # the same tensor tells the list that its cached image offsets hold
            cell=neighbors.cell if neighbors is not None and known else torch.from_numpy(cells.copy()).to(device),
        )
        if neighbors is None or self.skin == 0.0 or not (fresh or not bool(neighbors.stale(system))):
            neighbors = self.potential.neighbors(system, skin=self.skin)
            check_distances(system, neighbors)
            self._neighbors, self._listed = neighbors, (here, cells)
            self.lists_built += 1
        prediction = evaluate_system(self.potential, system, neighbors, virial=virial, stress=stress)
        if prediction.energy.device.type != "cpu":
            prediction = prediction.detached("cpu")
        assert prediction.forces is not None
        # a sum is finite if all of its terms are
        if not math.isfinite(float(prediction.energy.sum()) + float(prediction.forces.sum())):
            raise InputError(
                "the forces are no longer finite numbers: the simulation has left what the model can describe; start "
                "from a relaxed structure or take a shorter time step"
            )
        return prediction

    def _place(self, positions: np.ndarray, cell: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Checked copies of positions [B, N, 3], followed across the box, and cells [B, 3, 3]."""
        wanted = (self.copies, self.n_atoms, 3)
        if positions.size != np.prod(wanted) or positions.shape[-2:] != wanted[1:]:
            raise InputError(
                f"positions have shape {tuple(positions.shape)}, but there are {self.n_atoms} atoms"
                + (f" in {self.copies} copies" if self.copies > 1 else "")
            )
        here = np.array(positions, dtype=np.float64).reshape(wanted)
        if not math.isfinite(float(here.sum())) and not np.isfinite(here).all():
            copy, atom = np.argwhere(~np.isfinite(here).all(-1))[0]
            raise InputError(
                f"the engine's position of atom {atom}{f' of copy {copy}' if self.copies > 1 else ''} is not a finite "
                "number: the simulation has become unstable; take a shorter time step or relax the structure first"
            )
        cells = self._cells
        if cell is not None:
            cells = np.empty((self.copies, 3, 3))
            cells[:] = cell
        if self._periodic.any():
            here = self._follow(here, cells)
        return here, cells

    def _follow(self, positions: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """The image of each atom that is nearest to where it was, in fractions of the cell then and now."""
        if self._last is not None:
            before, old = self._last
            moved = np.abs(positions - before).max()
            if not (np.array_equal(cells, old) and moved < 0.1 * self._width):
                full = _full(cells)
                fractional = positions @ np.linalg.inv(full)
                jump = np.rint(fractional - before @ np.linalg.inv(_full(old))) * self._periodic
                if jump.any():
                    positions = positions - jump @ full
        if self._last is None or not np.array_equal(cells, self._last[1]):
            # of a thin cell the shortest way from face to face
            self._width = float(1.0 / np.linalg.norm(np.linalg.inv(_full(cells)), axis=1).max())
        self._last = positions, cells
        return positions


def _full(cells: np.ndarray) -> np.ndarray:
    """Cells with a vector along each direction without periodicity."""
    return np.stack([np.asarray(complete_cell(cell)) for cell in cells])
