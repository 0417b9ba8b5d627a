"""What force fields leave open in atoms that were built: L amino acids, side chains with two centres, trans bonds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from heliodor.errors import InputError
from heliodor.prepare.chain import dihedral, placed
from heliodor.prepare.output import NUCLEIC, PROTEIN
from heliodor.prepare.prepared import NANOMETRE, label, nanometres, openmm

TRANS = 40.0
"""Degrees; a built peptide bond is further from flat than this only where something is wrong."""

BETA = (1.53, 110.5, -122.5)
"""CB: Å from CA, degrees N-CA-CB, degrees C-N-CA-CB of L amino acids; the middle of crystal structures."""

CENTRES = {"THR": ("CB", "CA", "OG1", "CG2"), "ILE": ("CB", "CA", "CG1", "CG2")}
"""Second centres: the atom and three around it, which span a positive volume."""

VOLUME = 0.0024
"""nm³ spanned by three bonds of a carbon (1.5 Å, tetrahedral)."""

TRIES = 6

_STIFF = 4.0e7
"""kJ/mol/nm⁶; some 1000 kJ/mol between mirror images."""

_BEND = 400.0
"""kJ/mol/rad²; as in force fields for dynamics, which the soft one is not."""

_TURN = 100.0
"""kJ/mol, half the height of a cis peptide bond above the trans one."""


@dataclass(frozen=True)
class Centre:
    """Four atoms (OpenMM's): a centre and three neighbours that span a positive volume, seen from it."""

    atoms: tuple[Any, Any, Any, Any]

    def wrong(self, where: Float[np.ndarray, "N 3"]) -> str:
        """What is wrong in words, or ""."""
        centre, *others = (where[atom.index] for atom in self.atoms)
        a, b, c = (other - centre for other in others)
        if float(np.dot(a, np.cross(b, c))) > 0.0:
            return ""
        middle = self.atoms[0]
        return f"{label(middle.residue)} {'is D' if middle.name == 'CA' else f'has {middle.name} inverted'}"


@dataclass(frozen=True)
class Bond:
    """CA, C, N, CA (OpenMM's) of a peptide bond."""

    atoms: tuple[Any, Any, Any, Any]

    def wrong(self, where: Float[np.ndarray, "N 3"]) -> str:
        """What is wrong in words, or ""."""
        omega = dihedral(where[[atom.index for atom in self.atoms]])
        if abs(omega) > 180.0 - TRANS:
            return ""
        return f"the bond {label(self.atoms[1].residue)} - {label(self.atoms[2].residue)} has omega = {omega:.0f}°"


def centres(topology: Any) -> list[Centre]:
    """CA of all amino acids but glycine, and CB of threonine and isoleucine."""
    found = []
    for residue in topology.residues():
        if residue.name not in PROTEIN:
            continue
        atom = {one.name: one for one in residue.atoms()}
        for names in (("CA", "N", "C", "CB"), CENTRES.get(residue.name, ("",))):
            if all(name in atom for name in names):
                a, b, c, d = (atom[name] for name in names)
                found.append(Centre((a, b, c, d)))
    return found


def peptide_bonds(topology: Any) -> list[Bond]:
    """Between the residues of a chain, caps included."""
    found = []
    for bond in topology.bonds():
        by_name = {atom.name: atom for atom in bond}
        if set(by_name) != {"C", "N"} or bond[0].residue is bond[1].residue:
            continue
        before = _atom(by_name["C"].residue, "CA", "CH3")
        # the methyl of NME is C in Amber's files
        after = _atom(by_name["N"].residue, "CA", "CH3", *["C"] * (by_name["N"].residue.name == "NME"))
        if before is not None and after is not None:
            found.append(Bond((before, by_name["C"], by_name["N"], after)))
    return found


def _atom(residue: Any, *names: str) -> Any:
    return next((atom for name in names for atom in residue.atoms() if atom.name == name), None)


def wrong(topology: Any, positions: Any, given: set[Any]) -> tuple[list[str], list[str]]:
    """What is wrong with the handedness and the peptide bonds: where atoms were built, and where the file has it so.

    Args:
        given: atoms (OpenMM's) of the file; cis bonds of their prolines are nothing unusual.
    """
    where = nanometres(positions)
    checked: list[Centre | Bond] = [*centres(topology), *peptide_bonds(topology)]
    built: list[str] = []
    own: list[str] = []
    for one in checked:
        words = one.wrong(where)
        of_file = given.issuperset(one.atoms)
        if of_file and isinstance(one, Bond) and one.atoms[2].residue.name == "PRO":
            continue
        if words:
            (own if of_file else built).append(words)
    return built, own


def refuse(built: Sequence[str]) -> None:
    """Refuse what was built wrongly.

    Raises:
        InputError: naming the residues.
    """
    if built:
        shown = "; ".join(built[:6]) + (f"; and {len(built) - 6} more" if len(built) > 6 else "")
        raise InputError(
            f"what is missing in the file could not be built properly: {shown}; ways out: another --seed, "
            "--split-at-gaps instead of building loops, or complete the structure in a modelling program"
        )


def with_betas(topology: Any, positions: Any) -> tuple[Any, Any, int]:
    """CB put where L amino acids have it in residues that lack it, and how many those are.

    A template laid on N, CA, C and O alone may put the side chain on the wrong side.
    """
    mm = openmm()
    where = nanometres(positions)
    app = mm.app
    lacking = {}
    for residue in topology.residues():
        atom = {one.name: one.index for one in residue.atoms()}
        if residue.name in PROTEIN and residue.name != "GLY" and {"N", "CA", "C"} <= set(atom) and "CB" not in atom:
            n, ca, c = (where[atom[name]] * NANOMETRE for name in ("N", "CA", "C"))
            lacking[residue] = placed(c, n, ca, *BETA) / NANOMETRE
    if not lacking:
        return topology, positions, 0
    made = app.Topology()
    made.setPeriodicBoxVectors(topology.getPeriodicBoxVectors())
    atoms: dict[Any, Any] = {}
    found: list[Any] = []
    for chain in topology.chains():
        new = made.addChain(chain.id)
        for residue in chain.residues():
            copy = made.addResidue(residue.name, new, residue.id, residue.insertionCode)
            for atom in residue.atoms():
                atoms[atom] = made.addAtom(atom.name, atom.element, copy, atom.id, atom.formalCharge)
                found.append(where[atom.index])
            if residue in lacking:
                beta = made.addAtom("CB", app.element.carbon, copy)
                root = next(atoms[atom] for atom in residue.atoms() if atom.name == "CA")
                made.addBond(root, beta)
                found.append(lacking[residue])
    for bond in topology.bonds():
        made.addBond(atoms[bond[0]], atoms[bond[1]], bond.type, bond.order)
    return made, mm.unit.Quantity([mm.Vec3(*map(float, one)) for one in found], mm.unit.nanometer), len(lacking)


def set_right(
    topology: Any, positions: Any, given: set[Any], seed: int, again: bool = False
) -> Float[np.ndarray, "N 3"]:
    """Move built heavy atoms until their residues are L and their peptide bonds trans, in PDBFixer's soft force field.

    Where the minimum is wrong, short hot dynamics comes between it and the next, with other random numbers each time.

    Args:
        topology: without hydrogens on polymers.
        given: atoms (OpenMM's) that stay where they are.
        again: begin with dynamics, for another result than before.

    Returns:
        nm; unchanged where nothing is wrong. What cannot be set right is left to `refuse`.
    """
    where = nanometres(positions)
    if not wrong(topology, where, given)[0]:
        return where
    mm = openmm()
    system, index, temperature = _system(topology, given)
    start = np.array([where[k] for k in index])
    best, fewest = where, 1 + len(wrong(topology, where, given)[0])
    integrator = mm.LangevinMiddleIntegrator(temperature, 20.0, 0.001)
    integrator.setRandomNumberSeed(seed + 1)
    context = mm.Context(system, integrator, mm.Platform.getPlatform("Reference" if len(index) < 200 else "CPU"))
    context.setPositions(start)
    context.setParameter("C", 0.1)
    mm.LocalEnergyMinimizer.minimize(context)
    for k in range(again, TRIES):
        if k:
            context.setVelocitiesToTemperature(temperature, seed + 10 * k + 1)
            for softness in (0.1, 1.0, 10.0):
                context.setParameter("C", softness)
                try:
                    integrator.step(1000)
                except mm.OpenMMException:  # ran away
                    return best
        for softness in (1.0, 10.0, 100.0):
            context.setParameter("C", softness)
            mm.LocalEnergyMinimizer.minimize(context)
        trial = where.copy()
        trial[index] = nanometres(context.getState(positions=True).getPositions())
        left = len(wrong(topology, trial, given)[0])
        if left < fewest:
            best, fewest = trial, left
        if not left:
            break
    return best


def _system(topology: Any, given: set[Any]) -> tuple[Any, list[int], float]:
    """Bonds, angles, planes and a soft repulsion of the built atoms, handedness and trans bonds with them."""
    import pdbfixer

    mm = openmm()
    modeller = mm.app.Modeller(topology, np.zeros((topology.getNumAtoms(), 3)) * mm.unit.nanometer)
    polymer = {r for r in topology.residues() if r.name in PROTEIN or r.name in NUCLEIC}
    modeller.delete([r for r in topology.residues() if r not in polymer])
    alone = modeller.topology
    own = [atom for atom in topology.atoms() if atom.residue in polymer]
    others = [
        atom.index
        for atom in topology.atoms()
        if atom.residue not in polymer and atom.element is not None and atom.element.atomic_number > 1
    ]
    place = {atom: k for k, atom in enumerate(own)}
    field = mm.app.ForceField(str(Path(pdbfixer.__file__).with_name("soft.xml")))
    system = field.createSystem(alone)
    for atom in own:
        if atom in given:
            system.setParticleMass(place[atom], 0.0)
    bends = next(force for force in system.getForces() if isinstance(force, mm.HarmonicAngleForce))
    for k in range(bends.getNumAngles()):
        a, b, c, angle, _ = bends.getAngleParameters(k)
        bends.setAngleParameters(k, a, b, c, angle, _BEND)
    repulsion = next(force for force in system.getForces() if isinstance(force, mm.CustomNonbondedForce))
    for _ in others:
        system.addParticle(0.0)
        repulsion.addParticle([])
    moving = [k for k, atom in enumerate(own) if atom not in given]
    repulsion.addInteractionGroup(moving, range(system.getNumParticles()))
    hand = mm.CustomCompoundBondForce(
        4,
        f"{_STIFF:g}*step({VOLUME:g}-v)*({VOLUME:g}-v)^2;"
        "v=(x2-x1)*((y3-y1)*(z4-z1)-(z3-z1)*(y4-y1))"
        "+(y2-y1)*((z3-z1)*(x4-x1)-(x3-x1)*(z4-z1))"
        "+(z2-z1)*((x3-x1)*(y4-y1)-(y3-y1)*(x4-x1))",
    )
    turn = mm.CustomTorsionForce(f"{_TURN:g}*(1+cos(theta))")
    for force, items in ((hand, centres(topology)), (turn, peptide_bonds(topology))):
        for one in items:
            if not given.issuperset(one.atoms):
                four = [place[atom] for atom in one.atoms]
                force.addBond(four, []) if force is hand else force.addTorsion(*four, [])
        system.addForce(force)
    return system, [atom.index for atom in own] + others, 600.0
