"""Programs of quantum chemistry that QCEngine drives, Psi4 above all, where they are installed.

Numbers, basis sets, grids and what "method" means are the program's own; see its manual for the names.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import warnings
from dataclasses import dataclass, field
from typing import Any

import ase
import numpy as np
from jaxtyping import Float

from heliodor.errors import MissingExtraError, suggestion
from heliodor.label.electrons import Electrons, read_electrons
from heliodor.label.label import Label, LabelError, NotConvergedError
from heliodor.units import BOHR, HARTREE

_PSI4 = {"e_convergence": 1e-9, "d_convergence": 1e-8, "dft_spherical_points": 590, "dft_radial_points": 99}
_EFFORTS: dict[str, tuple[dict[str, Any], ...]] = {
    "psi4": (
        _PSI4,
        {**_PSI4, "maxiter": 300, "damping_percentage": 40.0},
        {**_PSI4, "maxiter": 300, "soscf": True, "guess": "sad"},
    ),
}
_NO_CONVERGENCE = ("could not converge", "not converge", "convergence failed", "failed to converge")


def find_qcengine(program: str, method: str, basis: str, *, threads: int = 1, memory: int = 4000) -> QCEngineMethod:
    """The method ``qcengine:program:method/basis``.

    Args:
        program: QCEngine's name of it.
        method, basis: the program's names of them.
        threads: of the program.
        memory: MB the program is told to stay under.

    Raises:
        MissingExtraError: QCEngine is not installed.
        LabelError: QCEngine does not know the program, or the program is not installed.
    """
    if importlib.util.find_spec("qcengine") is None:
        raise MissingExtraError("qcengine", "label")
    import qcengine

    version = importlib.metadata.version("qcengine")
    known = qcengine.list_all_programs()
    if program not in known:
        raise LabelError(f"QCEngine {version} has no way to run {program!r}{suggestion(program, known)}")
    harness = qcengine.get_program(program, check=False)
    if not harness.found():
        raise LabelError(f"{program} is not installed where this process can see it (QCEngine {version} looked for it)")
    versions = {"qcengine": version, program: _version(harness)}
    efforts = len(_EFFORTS.get(program, ({},)))
    return QCEngineMethod(
        f"qcengine:{program}:{method}/{basis}", program, method, basis, versions, threads, memory, efforts
    )


@dataclass
class QCEngineMethod:
    """A method of another program; molecules only.

    Labels hold energy and forces, and the dipole where the program reports it. The molecule is neither shifted nor
    turned.

    Attributes:
        efforts: for Psi4 three: its own settings, damping, second order; one for other programs.
    """

    name: str
    program: str
    method: str
    basis: str
    versions: dict[str, str] = field(default_factory=dict)
    threads: int = 1
    memory: int = 4000
    efforts: int = 1

    def __call__(self, atoms: ase.Atoms, effort: int = 0) -> Label:
        """Label one structure.

        Raises:
            NotConvergedError: the program says so, with this effort.
            LabelError: the structure is outside the method, or the program fails; with the end of what it said.
        """
        electrons = read_electrons(atoms, self.name)
        keywords = dict(_EFFORTS.get(self.program, ({},))[effort])
        if self.program == "psi4" and electrons.unpaired:
            keywords["reference"] = "uks"
        result = self._compute(electrons, keywords)
        if not result.get("success"):
            message = str((result.get("error") or {}).get("error_message", "no reason given")).strip()
            failure = NotConvergedError if any(words in message.lower() for words in _NO_CONVERGENCE) else LabelError
            raise failure(f"{self.name}: {message[-300:]}")
        properties = result.get("properties") or {}
        forces = -np.asarray(result["return_result"], dtype=float).reshape(-1, 3) * (HARTREE / BOHR)
        return Label(energy=float(properties["return_energy"]) * HARTREE, forces=forces, dipole=_dipole(properties))

    def _compute(self, electrons: Electrons, keywords: dict[str, Any]) -> dict[str, Any]:
        import qcengine

        task = {
            "schema_name": "qcschema_input",
            "schema_version": 1,
            "molecule": {
                "schema_name": "qcschema_molecule",
                "schema_version": 2,
                "symbols": electrons.symbols,
                "geometry": (electrons.positions / BOHR).ravel().tolist(),
                "molecular_charge": electrons.charge,
                "molecular_multiplicity": electrons.unpaired + 1,
                "fix_com": True,
                "fix_orientation": True,
            },
            "driver": "gradient",
            "model": {"method": self.method, "basis": self.basis},
            "keywords": keywords,
        }
        resources = {"ncores": self.threads, "memory": self.memory / 1024.0, "retries": 0}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: Any = qcengine.compute(task, self.program, task_config=resources, return_dict=True)
        return dict(found)


def _dipole(properties: dict[str, Any]) -> Float[np.ndarray, "3"] | None:
    value = properties.get("scf_dipole_moment")
    return None if value is None else np.asarray(value, dtype=float).reshape(3) * BOHR


def _version(harness: Any) -> str:
    try:
        return str(harness.get_version())
    except Exception:
        # each program fails in its own way when asked
        return "unknown"
