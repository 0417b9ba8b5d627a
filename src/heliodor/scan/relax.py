"""Relaxation with dihedrals held, by geomeTRIC.

Translation-rotation internal coordinates (TRIC): Wang & Song, J. Chem. Phys. 144, 214108 (2016). The optimiser runs in
this process and asks for energies and gradients through an engine in memory; it writes nothing.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np
import torch

from heliodor.errors import HeliodorError, InputError, MissingExtraError
from heliodor.potential import Potential, evaluate_system
from heliodor.scan.geometry import Rotor, changed_bond, turned
from heliodor.system import System
from heliodor.units import BOHR, HARTREE

CRITERIA = {"gau": "GAU", "tight": "GAU_TIGHT"}
"""geomeTRIC's sets. gau: change of energy 1e-6 Eh, RMS and largest gradient (that along the held dihedrals left out)
3.0e-4 and 4.5e-4 Eh/bohr (0.015 and 0.023 eV/Å), RMS and largest displacement 1.2e-3 and 1.8e-3 Å, all at once.
tight: 1e-6 Eh, 1.0e-5 and 1.5e-5 Eh/bohr, 4e-5 and 6e-5 Å."""

HELD = 1e-3
"""Degrees by which geomeTRIC may miss a held dihedral; afterwards it is set."""

ENFORCE = 0.1
"""Radians from the target within which geomeTRIC keeps a held dihedral exactly: starts are at the target, so always."""

DECIMALS = 8
"""Of positions in Å: as many as an extended xyz file keeps, so that a resumed scan goes on from the same bits."""


class Interrupted(Exception):
    """The caller's question whether to stop was answered with yes."""


@dataclass(frozen=True)
class Relaxed:
    """Where one relaxation ended.

    Attributes:
        atoms: relaxed; where it failed, as far as it came.
        energy: eV, model's own zero; None where there is none.
        forces: [N, 3] eV/Å, the part along the held dihedrals included; None likewise.
        steps: energies asked for.
        failure: why this is not a relaxed structure of the same molecule; None if it is one.
    """

    atoms: ase.Atoms
    energy: float | None
    forces: np.ndarray | None
    steps: int
    failure: str | None


def relax_held(
    atoms: ase.Atoms,
    potential: Potential,
    rotors: Sequence[Rotor],
    angles: Sequence[float],
    bonds: np.ndarray,
    *,
    criteria: str = "gau",
    max_steps: int = 300,
    stop: Callable[[], bool] | None = None,
) -> Relaxed:
    """Turn dihedrals to given values and relax all else.

    Args:
        angles: target of each dihedral, degrees.
        bonds: from `heliodor.scan.geometry.bonds_of`; coordinates are built on these, however crowded the start is.
        criteria: one of `CRITERIA`.
        stop: asked before each energy.

    Returns:
        Relaxed; an optimiser that gave up is told there, not raised.

    Raises:
        InputError: unknown criteria.
        MissingExtraError: geomeTRIC is not installed.
        Interrupted: ``stop`` said so.
    """
    if criteria not in CRITERIA:
        raise InputError(f"criteria must be one of {', '.join(CRITERIA)}, not {criteria!r}")
    start = turned(atoms, rotors, angles)
    try:
        optimizer, engine = _prepare(start, potential, rotors, angles, bonds, criteria, max_steps)
    except HeliodorError:
        raise
    except Exception as error:
        return Relaxed(start, None, None, 0, _words(error, max_steps))
    engine.stop = stop
    failure = None
    with _quiet(), tempfile.TemporaryDirectory(prefix="heliodor-scan-") as folder:
        # geomeTRIC asks for a folder, makes and removes none itself
        optimizer.dirname = folder
        try:
            optimizer.checkStructure()
            optimizer.optimizeGeometry()
        except (HeliodorError, Interrupted):
            raise
        except Exception as error:
            failure = _words(error, max_steps)
    last = optimizer.X.reshape(-1, 3) * BOHR
    if not np.isfinite(last).all():
        return Relaxed(atoms.copy(), None, None, engine.calls, failure or "coordinates were not finite")
    relaxed = atoms.copy()
    relaxed.positions = last
    relaxed = turned(relaxed, rotors, angles)
    relaxed.positions = [[float(f"{x:.{DECIMALS}f}") for x in row] for row in relaxed.positions]
    energy, forces = engine.evaluate(relaxed.positions)
    if not np.isfinite(energy):
        return Relaxed(relaxed, None, None, engine.calls, "the energy was not finite")
    return Relaxed(relaxed, energy, forces, engine.calls, failure or changed_bond(relaxed, bonds))


def need_geometric() -> None:
    """Raise MissingExtraError, before any work is done, where geomeTRIC is not installed."""
    try:
        import geometric.engine  # noqa: F401
    except ImportError:
        raise MissingExtraError("geometric", "scan") from None


def _prepare(
    atoms: ase.Atoms,
    potential: Potential,
    rotors: Sequence[Rotor],
    angles: Sequence[float],
    bonds: np.ndarray,
    criteria: str,
    max_steps: int,
) -> tuple[Any, Any]:
    """geomeTRIC's optimiser and its engine."""
    need_geometric()
    from geometric.engine import Engine
    from geometric.internal import DelocalizedInternalCoordinates, Dihedral
    from geometric.molecule import Molecule
    from geometric.optimize import Optimizer
    from geometric.params import OptParams

    class InMemory(Engine):  # type: ignore[misc]
        """Energies and gradients in atomic units of a potential in this process."""

        def __init__(self, molecule: Any) -> None:
            super().__init__(molecule)
            self.system = System.from_atoms(atoms, device=potential.device)
            self.calls = 0
            self.stop: Callable[[], bool] | None = None

        def evaluate(self, positions: np.ndarray) -> tuple[float, np.ndarray]:
            """Energy in eV and forces [N, 3] in eV/Å at positions in Å."""
            place = torch.as_tensor(np.asarray(positions), dtype=self.system.dtype, device=self.system.device)
            found = evaluate_system(potential, self.system.replace(positions=place)).detached("cpu")
            assert found.forces is not None
            return float(found.energy[0]), found.forces.double().numpy()

        def calc_new(self, coords: np.ndarray, dirname: str) -> dict[str, Any]:
            if self.stop is not None and self.stop():
                raise Interrupted
            self.calls += 1
            energy, forces = self.evaluate(coords.reshape(-1, 3) * BOHR)
            return {"energy": energy / HARTREE, "gradient": (-forces * BOHR / HARTREE).ravel()}

    with _quiet():
        molecule = Molecule()
        molecule.elem = atoms.get_chemical_symbols()
        molecule.xyzs = [atoms.positions.copy()]
        molecule.bonds = [tuple(bond) for bond in np.argwhere(np.triu(bonds)).tolist()]
        molecule.top_settings["read_bonds"] = True
        molecule.build_topology(force_bonds=False)
        internal = DelocalizedInternalCoordinates(
            molecule,
            build=True,
            connect=False,
            addcart=False,
            constraints=[Dihedral(*r.atoms) for r in rotors],
            cvals=[float(np.radians(angle)) for angle in angles],
            conmethod=1,
        )
        settings = OptParams(
            convergence_set=CRITERIA[criteria], maxiter=max_steps, enforce=ENFORCE, convergence_cmax=HELD
        )
        engine = InMemory(molecule)
        start = molecule.xyzs[0].ravel() / BOHR
        optimizer = Optimizer(start, molecule, internal, engine, "", settings, print_info=False)
    return optimizer, engine


@contextmanager
def _quiet() -> Iterator[None]:
    """geomeTRIC's log and the warnings of its arithmetic, kept from the user."""
    logger = logging.getLogger("geometric.nifty")
    before = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


def _words(error: Exception, max_steps: int) -> str:
    kind = type(error).__name__
    if kind == "GeomOptNotConvergedError":
        return f"not converged after {max_steps} steps"
    if kind == "LinearTorsionError":
        return "three atoms of a held dihedral came into a line"
    return f"geomeTRIC gave up ({kind}: {' '.join(str(error).split())[:120]})"
