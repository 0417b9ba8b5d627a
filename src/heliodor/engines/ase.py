"""ASE calculator: any heliodor potential inside ASE's optimisers, dynamics, vibrations, NEB and cell filters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from jaxtyping import Float

from heliodor.api import load
from heliodor.descriptor import descriptors
from heliodor.engines.evaluator import Evaluator
from heliodor.hessian import hessian
from heliodor.potential import Potential
from heliodor.system import read_charge, read_spin


class Calculator(AseCalculator):
    """Energy (eV), forces (eV/Å), stress (eV/Å³, Voigt, ASE's sign), partial charges (e) and dipole (e·Å).

    Of a model with an uncertainty ``results`` also has ``force_error`` (`heliodor.potential.Prediction`, eV/Å).
    With a committee ``results`` also has ``energy_std``, ``forces_std`` and, with the stress, ``stress_std``: standard
    deviations over its models in the same units.

    One calculator serves structures of any size one after another. Neighbour lists are kept by a skin between
    calls on the same atoms. Changing ``atoms.info["charge"]`` or ``["spin"]`` invalidates ASE's cache.

    Args:
        model: name, file, several of these for a committee, or a loaded potential.
        charge, spin: total charge (e) and unpaired electrons; override ``atoms.info``.
        skin: Å; 0 finds the neighbours anew at each call.
        load_options: as for `heliodor.load` (device, dtype, long_range_cutoff, ...).
    """

    implemented_properties = [  # noqa: RUF012 (as ASE declares it)
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
        "charges",
        "dipole",
    ]

    def __init__(
        self,
        model: str | Path | Sequence[str | Path] | Potential = "heliodor-s",
        *,
        charge: float | None = None,
        spin: int | None = None,
        skin: float = 0.5,
        **load_options: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.potential = model if isinstance(model, Potential) else load(model, **load_options)
        self.charge = charge
        self.spin = spin
        self.skin = skin
        self._electrons: tuple[float, int] | None = None
        self._evaluator: Evaluator | None = None

    def check_state(self, atoms: ase.Atoms, tol: float = 1e-15) -> list[str]:
        """What changed since the last calculation; charge and spin count."""
        changes: list[str] = super().check_state(atoms, tol=tol)  # type: ignore[no-untyped-call]
        if self._electrons is not None and self._electrons != self._read_electrons(atoms):
            changes.append("initial_charges")
        return changes

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Fill ``results``; called by ASE."""
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        assert self.atoms is not None
        electrons = self._read_electrons(self.atoms)
        if self._evaluator is None or not self._same_atoms(self.atoms, electrons):
            self._evaluator = None  # what follows may refuse these atoms
            self._evaluator = Evaluator(
                self.potential, self.atoms, charge=electrons[0], spin=electrons[1], skin=self.skin
            )
        self._electrons = electrons
        wants_stress = bool(self.atoms.pbc.all()) and "stress" in (properties or [])
        p = self._evaluator(self.atoms.positions, np.asarray(self.atoms.cell), stress=wants_stress)
        assert p.forces is not None and p.node_energy is not None
        self.results = {
            "energy": float(p.energy[0]),
            "free_energy": float(p.energy[0]),
            "energies": p.node_energy.double().numpy(),
            "forces": p.forces.double().numpy(),
            "terms": {name: float(value[0]) for name, value in p.terms.items()},
        }
        if p.stress is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(p.stress[0].double().numpy())
        if p.charges is not None:
            self.results["charges"] = p.charges.double().numpy()
        if p.dipole is not None:
            self.results["dipole"] = p.dipole[0].double().numpy()
        if p.hirshfeld_ratios is not None:
            self.results["hirshfeld_ratios"] = p.hirshfeld_ratios.double().numpy()
        if p.force_error is not None:
            self.results["force_error"] = p.force_error.double().numpy()
        if p.spread is not None and p.spread.forces is not None:
            self.results["energy_std"] = float(p.spread.energy[0])
            self.results["forces_std"] = p.spread.forces.double().numpy()
            if p.spread.stress is not None:
                self.results["stress_std"] = full_3x3_to_voigt_6_stress(p.spread.stress[0].double().numpy())

    def get_hessian(
        self, atoms: ase.Atoms, subset: Sequence[int] | np.ndarray | None = None
    ) -> Float[np.ndarray, "M M"]:
        """∂²E/∂R∂R in eV/Å², [3n, 3n], of all atoms or of a subset; as `heliodor.hessian.hessian`, errors too."""
        return hessian(self.potential, atoms, charge=self.charge, spin=self.spin, subset=subset)

    def get_descriptors(
        self, atoms: ase.Atoms, *, invariant: bool = True, layers: int | Sequence[int] | None = None
    ) -> Float[np.ndarray, "N D"]:
        """The network's features of each atom; as `heliodor.descriptor.descriptors`, errors too."""
        found = descriptors(
            self.potential, atoms, invariant=invariant, layers=layers, charge=self.charge, spin=self.spin
        )
        assert isinstance(found, np.ndarray)
        return found

    def _read_electrons(self, atoms: ase.Atoms) -> tuple[float, int]:
        return read_charge(atoms, self.charge), read_spin(atoms, self.spin)

    def _same_atoms(self, atoms: ase.Atoms, electrons: tuple[float, int]) -> bool:
        assert self._evaluator is not None
        old = self._evaluator.atoms
        return (
            electrons == self._electrons
            and np.array_equal(old.numbers, atoms.numbers)
            and np.array_equal(old.pbc, atoms.pbc)
        )
