"""GFN2-xTB and GFN1-xTB through tblite: energies and forces in milliseconds, for all elements up to radon.

Bannwarth, Ehlert & Grimme, J. Chem. Theory Comput. 15, 1652 (2019); Grimme, Bannwarth & Shushkov, ibid. 13, 1989
(2017). Electrons are at 300 K, as both were parametrised, at every effort: another temperature would be another method.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass, field
from typing import Any

import ase
import numpy as np

from heliodor.errors import MissingExtraError
from heliodor.label.electrons import Electrons, read_electrons
from heliodor.label.label import Label, LabelError, NotConvergedError
from heliodor.units import BOHR, HARTREE

_HAMILTONIANS = {"gfn2": "GFN2-xTB", "gfn1": "GFN1-xTB"}
_LAST_ELEMENT = 86
_ACCURACY = 0.1
"""tblite's scale of thresholds, a tenth of its default: forces then are their energies' derivatives to 1e-4 eV/Å."""

_EFFORTS: tuple[dict[str, float], ...] = (
    {"max-iter": 250},
    {"max-iter": 1000, "mixer-damping": 0.1, "mixer-memory": 50},
    {"max-iter": 4000, "mixer-damping": 0.02, "mixer-memory": 50, "guess": 1},
)

_OPEN_SHELL = "open shell without spin polarisation: states of different spin are not on one scale"


def find_xtb(name: str) -> Xtb:
    """The method ``"gfn2"`` or ``"gfn1"``.

    Raises:
        MissingExtraError: tblite is not installed.
    """
    if importlib.util.find_spec("tblite") is None:
        raise MissingExtraError("tblite", "label")
    return Xtb(name, {"tblite": importlib.metadata.version("tblite")})


@dataclass
class Xtb:
    """A tight-binding method; molecules, and crystals at the Γ point.

    Labels hold energy (electronic free energy at 300 K), forces, Mulliken charges, and the dipole of molecules.

    Attributes:
        name: "gfn2" or "gfn1".
        versions: of tblite.
        efforts: more iterations, smaller steps and at last another guess; converged results do not depend on it.
    """

    name: str
    versions: dict[str, str] = field(default_factory=dict)
    efforts: int = len(_EFFORTS)

    def __call__(self, atoms: ase.Atoms, effort: int = 0) -> Label:
        """Label one structure.

        Raises:
            NotConvergedError: not self-consistent with this effort.
            LabelError: the structure is outside the method.
        """
        electrons = read_electrons(atoms, self.name, periodic=True)
        if electrons.numbers.max() > _LAST_ELEMENT:
            atom = int(electrons.numbers.argmax())
            raise LabelError(f"{self.name} has no parameters for {electrons.symbols[atom]} (atom {atom})")
        return self._label(electrons, _run(self.name, electrons, _EFFORTS[effort]))

    def _label(self, electrons: Electrons, result: dict[str, Any]) -> Label:
        energy, gradient = float(result["energy"]) * HARTREE, np.asarray(result["gradient"])
        if not (np.isfinite(energy) and np.isfinite(gradient).all()):
            raise NotConvergedError(f"{self.name}: the result is not a number")
        notes = (_OPEN_SHELL,) if electrons.unpaired else ()
        dipole = None if electrons.cell is not None else np.asarray(result["dipole"]) * BOHR
        return Label(
            energy=energy,
            forces=-gradient * (HARTREE / BOHR),
            dipole=dipole,
            charges=np.asarray(result["charges"]),
            notes=notes + (("k-points: Γ only",) if electrons.cell is not None else ()),
        )


def _run(name: str, electrons: Electrons, settings: dict[str, float]) -> dict[str, Any]:
    """Energies and derivatives in atomic units, by tblite's names."""
    from tblite.exceptions import TBLiteRuntimeError
    from tblite.interface import Calculator

    cell: dict[str, Any] = {}
    if electrons.cell is not None:
        cell = {"lattice": electrons.cell / BOHR, "periodic": np.ones(3, dtype=bool)}
    try:
        calculator = Calculator(
            _HAMILTONIANS[name],
            electrons.numbers,
            electrons.positions / BOHR,
            charge=float(electrons.charge),
            uhf=electrons.unpaired,
            logger=_silence,
            color=False,
            **cell,
        )
        calculator.set("verbosity", 0)
        calculator.set("accuracy", _ACCURACY)
        for key, value in settings.items():
            calculator.set(key, value)
        result = calculator.singlepoint()
        return {key: result.get(key) for key in ("energy", "gradient", "charges", "dipole")}
    except TBLiteRuntimeError as error:
        # diagonalisation fails where charges have run away, which smaller steps may prevent
        if "not converged" in str(error) or "eigenvalue" in str(error):
            raise NotConvergedError(f"{name}: {error}") from None
        raise LabelError(f"{name}: {error}") from None


def _silence(message: str) -> None:
    pass
