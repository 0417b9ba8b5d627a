"""A label method as an ASE calculator, for relaxations."""

from __future__ import annotations

from typing import Any

import ase
from ase.calculators.calculator import Calculator, all_changes

from heliodor.label.label import Label, LabelError, Method, NotConvergedError


class MethodCalculator(Calculator):
    """Energy and forces of a method; one that does not converge is asked again with its next effort."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (as ASE declares it)

    def __init__(self, method: Method) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.method = method

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Any = ("energy",),
        system_changes: Any = all_changes,
    ) -> None:
        """As ASE asks.

        Raises:
            LabelError: not converged with the largest effort, or outside the method.
        """
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        assert self.atoms is not None
        label = labelled(self.method, self.atoms)
        self.results = {"energy": label.energy, "forces": label.forces}


def labelled(method: Method, atoms: ase.Atoms) -> Label:
    """A label, with as much effort as it takes.

    Raises:
        LabelError: not converged with the largest effort, or outside the method.
    """
    last = LabelError(f"{method.name} has no settings to try")
    for effort in range(method.efforts):
        try:
            return method(atoms, effort)
        except NotConvergedError as error:
            last = error
    raise last


def relax(atoms: ase.Atoms, method: Method, fmax: float = 0.03, steps: int = 300) -> tuple[ase.Atoms, bool]:
    """Walk downhill by L-BFGS.

    Args:
        fmax: eV/Å.

    Returns:
        The relaxed structure, and whether the largest force came below ``fmax``.
    """
    from ase.optimize import LBFGS

    moved = atoms.copy()
    moved.calc = MethodCalculator(method)
    optimiser = LBFGS(moved, logfile=None)  # type: ignore[arg-type]
    converged = bool(optimiser.run(fmax=fmax, steps=steps))
    result = moved.copy()
    result.calc = None
    return result, converged
