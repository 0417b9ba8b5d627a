"""Topology and system of OpenMM from a structure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase
import numpy as np
from jaxtyping import Float

from heliodor.engines.openmm.force import NM, import_openmm, openmm_force
from heliodor.errors import InputError
from heliodor.potential import Potential
from heliodor.topology import topology_of
from heliodor.trajectory.perceive import recognised

if TYPE_CHECKING:
    import openmm
    from openmm import app

MOLECULES = "heliodor: which atoms are one molecule (no energy)"
"""Name of the force that says so."""


def openmm_topology(atoms: ase.Atoms) -> app.Topology:
    """Elements, names, residues, chains, bonds (by distance) and box of a structure.

    Waters and peptides without names get theirs from their bonds.

    Raises:
        MissingExtraError: OpenMM is not installed.
        InputError: a cell that OpenMM cannot hold (`openmm_box`).
    """
    import_openmm()
    from openmm import app

    given = topology_of(atoms)
    named = given if given.named else recognised(given) or given
    topology = app.Topology()
    chains = {name: topology.addChain(name) for name in dict.fromkeys(named.chains.tolist())}
    residues: dict[tuple[str, int], app.Residue] = {}
    made = []
    for k, piece in enumerate(named.residues.tolist()):
        chain = str(named.chains[k])
        if (chain, piece) not in residues:
            residues[chain, piece] = topology.addResidue(
                str(named.residue_names[k]), chains[chain], str(int(named.residue_numbers[k]))
            )
        element = app.Element.getByAtomicNumber(int(named.numbers[k]))
        made.append(topology.addAtom(str(named.names[k]), element, residues[chain, piece]))
    order = [atom.index for atom in topology.atoms()]
    if order != list(range(len(atoms))):
        # OpenMM counts along its residues
        raise InputError("residues or chains of this structure are not contiguous: sort its atoms by chain and residue")
    for i, j in named.bonds.tolist():
        topology.addBond(made[i], made[j])
    box = openmm_box(atoms)
    if box is not None:
        topology.setPeriodicBoxVectors([openmm_vector(row) for row in box])
    return topology


def openmm_system(
    model: str | Path | Sequence[str | Path] | Potential,
    atoms: ase.Atoms,
    *,
    charge: float | None = None,
    spin: int | None = None,
    skin: float = 0.5,
    remove_cm_motion: bool = True,
    molecules: bool = True,
    group: int = 0,
    **load_options: Any,
) -> openmm.System:
    """A system that moves by a model alone: masses, box, and the model's force.

    Args:
        model, charge, spin, skin, group, load_options: as for `heliodor.engines.openmm.openmm_force`.
        atoms: with their masses.
        remove_cm_motion: keep the centre of mass at rest.
        molecules: tell OpenMM, by bonds without a force constant, which atoms are one molecule, so that barostats move
            molecules as wholes and trajectories wrap them as such.

    Raises:
        MissingExtraError: OpenMM is not installed.
        InputError, ModelError: what the model cannot describe; a cell that OpenMM cannot hold.
    """
    openmm = import_openmm()
    force = openmm_force(model, atoms, charge=charge, spin=spin, skin=skin, group=group, **load_options)
    system = openmm.System()
    for mass in atoms.get_masses().tolist():
        system.addParticle(mass)
    box = openmm_box(atoms)
    if box is not None:
        system.setDefaultPeriodicBoxVectors(*[openmm_vector(row) for row in box])
    system.addForce(force)
    if molecules:
        add_molecules(system, topology_of(atoms).bonds.tolist())
    if remove_cm_motion:
        system.addForce(openmm.CMMotionRemover())
    return system


def openmm_box(atoms: ase.Atoms) -> Float[np.ndarray, "3 3"] | None:
    """The cell as OpenMM wants it, Å: a along x, b in the xy plane, angles reduced; None without periodicity.

    Raises:
        InputError: periodic in some directions only, or a cell turned another way.
    """
    if not atoms.pbc.any():
        return None
    if not atoms.pbc.all():
        raise InputError(
            "OpenMM's boxes are periodic in all three directions or in none: set atoms.pbc to one of these"
        )
    cell = np.array(atoms.cell, dtype=np.float64)
    if np.abs(cell[np.triu_indices(3, 1)]).max() > 1e-6 or (np.diag(cell) <= 0.0).any():
        raise InputError(
            "OpenMM wants the first lattice vector along x and the second in the xy plane: turn the structure first, "
            "lower, _ = atoms.cell.standard_form(); atoms.set_cell(lower, scale_atoms=True)"
        )
    cell[np.triu_indices(3, 1)] = 0.0
    cell[2] -= cell[1] * np.rint(cell[2, 1] / cell[1, 1])
    cell[2] -= cell[0] * np.rint(cell[2, 0] / cell[0, 0])
    cell[1] -= cell[0] * np.rint(cell[1, 0] / cell[0, 0])
    return cell


def openmm_vector(row: Float[np.ndarray, "3"]) -> Any:
    """A length in Å as OpenMM's vector in nm."""
    return import_openmm().Vec3(*(row / NM).tolist())


def add_molecules(system: openmm.System, bonds: Iterable[Sequence[int]]) -> None:
    """Bonds without a force constant: OpenMM takes atoms joined by any force's bonds for one molecule."""
    openmm = import_openmm()
    joined = openmm.HarmonicBondForce()
    joined.setName(MOLECULES)
    for i, j in bonds:
        joined.addBond(int(i), int(j), 0.1, 0.0)
    if joined.getNumBonds():
        system.addForce(joined)
