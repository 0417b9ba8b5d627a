"""Density functionals with dispersion through PySCF: PBE0+MBD (the level of GEMS), ωB97M-D3(BJ) (that of SPICE).

Adamo & Barone, J. Chem. Phys. 110, 6158 (1999), with MBD@rsSCS by `heliodor.physics.mbd`; Mardirossian &
Head-Gordon, J. Chem. Phys. 144, 214110 (2016), with D3(BJ) of Najibi & Goerigk, J. Chem. Theory Comput. 14, 5725
(2018). Coulomb and exchange are density-fitted with the auxiliary basis that belongs to the basis.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass, field
from typing import Any

import ase
import numpy as np
from jaxtyping import Float

from heliodor.errors import MissingExtraError, ModelError
from heliodor.label.electrons import Electrons, read_electrons
from heliodor.label.hirshfeld import Partition, partition_density
from heliodor.label.label import Label, LabelError, NotConvergedError
from heliodor.label.mole import make_mole, quiet
from heliodor.label.scf import converge
from heliodor.units import BOHR, HARTREE

GRID_LEVEL = 4
"""PySCF's; with it the error of forces is 2e-4 eV/Å, five times less than with 3 (docs/labels.md)."""

FINER_GRID_LEVEL = 6

NET_FORCE_LIMIT = 1e-3
"""eV/Å; the sum of all forces, which only the grid makes other than zero."""


@dataclass(frozen=True)
class Functional:
    """A functional by PySCF's name (dispersion D3 included), the same without, and whether MBD is added."""

    xc: str
    bare: str
    mbd: bool = False


FUNCTIONALS = {
    "pbe0-mbd": Functional("pbe0", "pbe0", mbd=True),
    "pbe0": Functional("pbe0", "pbe0"),
    "pbe0-d3bj": Functional("pbe0-d3bj", "pbe0"),
    "wb97m-d3bj": Functional("wb97m-d3bj", "wb97m-v"),
}


def find_dft(functional: str, basis: str, *, threads: int = 1, memory: int = 4000, device: str = "auto") -> Dft:
    """The method ``functional/basis``.

    Args:
        functional: a key of `FUNCTIONALS`.
        basis: PySCF's name of it.
        threads: of PySCF.
        memory: MB that PySCF tries to stay under (integrals beyond it go to disk).
        device: "cpu", or "auto": gpu4pyscf where it is installed and sees a GPU.

    Raises:
        MissingExtraError: PySCF or its dispersion package is not installed.
    """
    needed = ["pyscf"] + (["pyscf.dispersion"] if "d3" in functional else [])
    for package in needed:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package.replace(".", "-"), "label")
    from heliodor import __version__

    versions = {"heliodor": __version__, "pyscf": importlib.metadata.version("pyscf")}
    if "d3" in functional:
        versions["pyscf-dispersion"] = importlib.metadata.version("pyscf-dispersion")
    on_gpu = device == "auto" and _has_gpu()
    if on_gpu:
        versions["gpu4pyscf"] = importlib.import_module("gpu4pyscf").__version__
    return Dft(f"{functional}/{basis}", FUNCTIONALS[functional], basis, versions, threads, memory, on_gpu)


@dataclass
class Dft:
    """A density functional in a basis, restricted for closed shells and unrestricted for open ones.

    Labels hold energy, forces, dipole, Hirshfeld ratios and charges, and the terms "scf" and "dispersion". MBD
    forces are at fixed Hirshfeld ratios, so that energies and forces differ by up to 2e-3 eV/Å (docs/labels.md).

    Attributes:
        threads: of PySCF.
        memory: MB that PySCF tries to stay under.
        on_gpu: the first effort runs on the GPU.
        check_stability: say in the notes if the solution is not a minimum (costs about another SCF).
    """

    name: str
    functional: Functional
    basis: str
    versions: dict[str, str] = field(default_factory=dict)
    threads: int = 1
    memory: int = 4000
    on_gpu: bool = False
    check_stability: bool = False
    efforts: int = 4

    def __call__(self, atoms: ase.Atoms, effort: int = 0) -> Label:
        """Label one structure.

        Raises:
            NotConvergedError: not self-consistent with this effort.
            LabelError: the structure is outside the method, or the forces do not add up to zero even on a finer grid.
        """
        electrons = read_electrons(atoms, self.name)
        with quiet(self.threads):
            try:
                return self._label(electrons, effort)
            except NotConvergedError as error:
                raise NotConvergedError(f"{self.name}: {error}") from None
            except (LabelError, ModelError) as error:
                raise LabelError(f"{self.name}: {error}") from None

    def _label(self, electrons: Electrons, effort: int) -> Label:
        molecule = make_mole(
            electrons.symbols, electrons.positions, electrons.charge, electrons.unpaired, self.basis, self.memory
        )

        def make(level: int) -> Any:
            return self._field(molecule, electrons.unpaired, level, gpu=self.on_gpu and effort == 0)

        mean_field = converge(make, GRID_LEVEL, effort)
        forces = _forces(mean_field)
        notes: list[str] = [f"SCF effort {effort}"] if effort else []
        if _net(forces) > NET_FORCE_LIMIT:
            notes.append(f"net force {_net(forces):.1e} eV/Å on grid {GRID_LEVEL}: grid {FINER_GRID_LEVEL} taken")
            finer = make(FINER_GRID_LEVEL)
            mean_field = _refine(mean_field, finer)
            forces = _forces(mean_field)
            if _net(forces) > NET_FORCE_LIMIT:
                raise LabelError(
                    f"forces add up to {_net(forces):.1e} eV/Å on the finest grid: the label is not to be used"
                )
        if self.check_stability:
            notes += _instability(mean_field, restricted=not electrons.unpaired)
        partition = _partition(mean_field, molecule, self.functional.bare)
        energy = float(mean_field.e_tot) * HARTREE
        terms = {"scf": energy}
        if self.functional.mbd:
            from heliodor.physics.mbd import mbd_energy_forces

            extra, push = mbd_energy_forces(electrons.positions, electrons.numbers.tolist(), partition.ratios)
            terms["dispersion"] = extra
            energy, forces = energy + extra, forces + push
        elif self.functional.xc != self.functional.bare:
            terms["dispersion"] = float(mean_field.get_dispersion()) * HARTREE
            terms["scf"] = energy - terms["dispersion"]
        return Label(
            energy=energy,
            forces=forces,
            dipole=_host(mean_field.dip_moment(unit="AU", verbose=0)) * BOHR,
            hirshfeld_ratios=partition.ratios,
            charges=partition.charges,
            terms=terms,
            notes=tuple(notes),
        )

    def _field(self, molecule: Any, unpaired: int, level: int, *, gpu: bool) -> Any:
        from pyscf import dft

        mean_field = (dft.UKS if unpaired else dft.RKS)(molecule, xc=self.functional.xc).density_fit()
        if gpu:
            mean_field = mean_field.to_gpu()
        mean_field.verbose, mean_field.chkfile = 0, None
        mean_field.grids.level = level
        return mean_field


def _refine(mean_field: Any, finer: Any) -> Any:
    """The same solution on another grid."""
    finer.conv_tol, finer.conv_tol_grad, finer.max_cycle = mean_field.conv_tol, mean_field.conv_tol_grad, 60
    finer.kernel(dm0=mean_field.make_rdm1())
    if not finer.converged:
        raise NotConvergedError("the self-consistent field did not converge on a finer grid")
    return finer


def _forces(mean_field: Any) -> Float[np.ndarray, "N 3"]:
    gradient = mean_field.nuc_grad_method()
    gradient.verbose = 0
    forces = -_host(gradient.kernel()) * (HARTREE / BOHR)
    if not np.isfinite(forces).all():
        raise NotConvergedError("a force is not a number")
    return forces


def _net(forces: Float[np.ndarray, "N 3"]) -> float:
    return float(np.linalg.norm(forces.sum(0)))


def _partition(mean_field: Any, molecule: Any, functional: str) -> Partition:
    grids = mean_field.grids
    return partition_density(
        molecule, _host(mean_field.make_rdm1()), _host(grids.coords), _host(grids.weights), functional
    )


def _instability(mean_field: Any, *, restricted: bool) -> list[str]:
    _, _, internal, external = mean_field.stability(return_status=True, external=restricted, verbose=0)
    found = [] if internal else ["the SCF solution is not a minimum (internal instability)"]
    return (
        [*found, "an open-shell solution lies lower (external instability)"] if restricted and not external else found
    )


def _host(array: Any) -> Float[np.ndarray, "..."]:
    """In numpy, wherever it lies, as a plain array."""
    return np.array(array.get() if hasattr(array, "get") else array, dtype=float)


def _has_gpu() -> bool:
    if importlib.util.find_spec("gpu4pyscf") is None or importlib.util.find_spec("cupy") is None:
        return False
    try:
        return bool(importlib.import_module("cupy").cuda.runtime.getDeviceCount())
    except Exception:
        # cupy's own error classes need a CUDA library to import
        return False
