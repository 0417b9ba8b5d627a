"""i-PI: any heliodor potential as its driver, all beads of a ring polymer in one batched call.

i-PI (Kapil et al., Comput. Phys. Commun. 236, 214 (2019)) hands positions, and cells with lattice vectors as columns,
in atomic units, and wants energy, forces, virial (-∂E/∂ε, in Hartree) and a string of extras; the dipole goes into that
as JSON, in e·Bohr.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase
import numpy as np
from jaxtyping import Float

from heliodor.engines.evaluator import Evaluator
from heliodor.engines.first_step import check_positions
from heliodor.engines.molecules import molecules_of
from heliodor.potential import Potential
from heliodor.units import ACCELERATION, BOHR, HARTREE, HBAR

ATOMIC_TIME = HBAR / HARTREE
"""fs (0.0241888)."""

ELECTRON_MASS = HBAR**2 / (HARTREE * BOHR**2) * ACCELERATION
"""amu (5.48580e-4)."""

PES_FILE = Path(__file__).with_name("ipi_pes.py")
"""For ``<pes_path>`` of i-PI and ``-P`` of i-pi-py_driver."""

Answer = tuple[float, np.ndarray, np.ndarray, str]
"""Energy (Hartree), forces (Hartree/Bohr), virial (Hartree), extras."""


class Beads:
    """What i-PI asks of a potential: lists of cells and positions in, a list of answers out.

    As many structures as a call brings are evaluated as one batch; the neighbour list is kept between calls with the
    same number of them.

    Args:
        model: name, file, several of these for a committee, or a loaded potential.
        atoms: elements, cell, periodicity, charge and spin, and the positions that i-PI starts from.
        compare: refuse first positions that are not those of ``atoms``; off where i-PI goes on from a restart file.
        charge, spin, skin, load_options: as for `heliodor.engines.evaluator.Evaluator`.

    Raises:
        InputError, ModelError: what the model cannot describe; at the first call: other units, order or number of
            atoms.
    """

    def __init__(
        self,
        model: str | Path | Sequence[str | Path] | Potential,
        atoms: ase.Atoms,
        *,
        charge: float | None = None,
        spin: int | None = None,
        compare: bool = True,
        skin: float = 0.5,
        **load_options: Any,
    ) -> None:
        first = Evaluator(model, atoms, charge=charge, spin=spin, skin=skin, **load_options)
        self._evaluators = {1: first}
        self._compare = compare
        charged = "charges" in first.potential.outputs
        self._molecules = molecules_of(first.atoms) if charged and atoms.pbc.any() else None
        self.has_dipoles = charged and not (self._molecules is not None and self._molecules.endless)
        """Whether the model has charges, and no bonds run through a periodic cell without end."""
        self.dipoles: Float[np.ndarray, "B 3"] | None = None
        """e·Å, of the last call; of periodic structures the sum of the molecules' own (`heliodor.engines.molecules`);
        None unless `has_dipoles`."""
        self.calls = 0

    @property
    def potential(self) -> Potential:
        return self._evaluators[1].potential

    @property
    def atoms(self) -> ase.Atoms:
        return self._evaluators[1].atoms

    def __call__(self, cells: Sequence[np.ndarray], positions: Sequence[np.ndarray]) -> list[Answer]:
        """One answer for each structure, all in atomic units.

        Args:
            cells: [3, 3] each, Bohr, lattice vectors as columns.
            positions: [N, 3] each, Bohr.
        """
        first = self._evaluators[1]
        here = np.stack([np.asarray(p, dtype=np.float64).reshape(-1, 3) for p in positions]) * BOHR
        if self._compare:
            check_positions(first, here[0], "i-PI")
            self._compare = False
        evaluator = self._evaluator(len(here))
        periodic = bool(first.atoms.pbc.any())
        rows = np.stack([np.asarray(h, dtype=np.float64).reshape(3, 3).T for h in cells]) * BOHR if periodic else None
        found = evaluator(here, rows, virial=True)
        assert found.forces is not None and found.virial is not None
        energies = found.energy.double().numpy() / HARTREE
        forces = found.forces.double().numpy().reshape(here.shape) * (BOHR / HARTREE)
        virials = found.virial.double().numpy() / HARTREE
        self.dipoles = None
        if self.has_dipoles:
            assert found.dipole is not None
            self.dipoles = found.dipole.double().numpy()
            if self._molecules is not None:
                assert found.charges is not None and rows is not None
                charges = found.charges.double().numpy().reshape(here.shape[:2])
                self.dipoles = self._molecules.dipoles(here, rows, charges)
        self.calls += 1
        extras = [""] * len(here)
        if self.dipoles is not None:
            extras = [json.dumps({"dipole": (dipole / BOHR).tolist()}) for dipole in self.dipoles]
        return [
            (float(e), np.ascontiguousarray(f), np.ascontiguousarray(v), x)
            for e, f, v, x in zip(energies, forces, virials, extras, strict=True)
        ]

    def _evaluator(self, copies: int) -> Evaluator:
        if copies not in self._evaluators:
            first = self._evaluators[1]
            self._evaluators[copies] = Evaluator(
                first.potential, first.atoms, charge=first.charge, spin=first.spin, copies=copies, skin=first.skin
            )
        return self._evaluators[copies]


def upright(atoms: ase.Atoms) -> ase.Atoms:
    """A copy turned so that the cell's rows are lower triangular, as i-PI wants it; unchanged where they are."""
    turned = atoms.copy()
    turned.set_constraint()
    cell = np.asarray(atoms.cell)
    if atoms.pbc.any() and np.abs(np.triu(cell, 1)).max() > 1e-12:
        standard, _ = atoms.cell.standard_form()
        turned.set_cell(standard, scale_atoms=True)
    return turned
