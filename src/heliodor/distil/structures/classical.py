"""Flexible waters with solutes in OpenMM: a classical model that only has to give liquids and clusters to label.

Waters are SPC/Fw (Wu, Tepper & Voth, J. Chem. Phys. 124, 024503 (2006)) with a shorter rest length, so that bonds come
out as the teacher has them; solutes are networks of springs about a relaxed conformer with MMFF94's partial charges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from heliodor.distil.structures.thermal import Monomer, Places
from heliodor.prepare.prepared import openmm

BOND, BOND_SPRING = 0.0965, 443000.0
"""nm, kJ/mol/nm²; of O-H."""

ANGLE, ANGLE_SPRING = np.deg2rad(107.0), 317.6
"""rad, kJ/mol/rad²."""

CHARGE = 0.41
"""e, of hydrogen."""

OXYGEN = (0.31655, 0.650)
"""nm, kJ/mol; Lennard-Jones of water's oxygen."""

SOLUTE = {
    1: (0.12, 0.06),
    6: (0.34, 0.36),
    7: (0.325, 0.71),
    8: (0.30, 0.80),
    9: (0.33, 0.40),
    15: (0.374, 0.84),
    16: (0.36, 1.05),
    17: (0.41, 0.60),
}
"""nm, kJ/mol; Lennard-Jones of solutes by element."""

SPRINGS = (250000.0, 40000.0, 3000.0)
"""kJ/mol/nm²; between atoms of a solute one, two and three bonds apart."""

CUTOFF = 0.7
"""nm, or just under half the box."""

WALL = 1000.0
"""kJ/mol/nm²; keeps clusters together."""


def sampled(
    solutes: Sequence[Monomer],
    waters: int,
    positions: Places,
    rng: np.random.Generator,
    *,
    kelvin: float,
    frames: int,
    first: int,
    every: int,
    cell: Float[np.ndarray, "3 3"] | None = None,
    wall: float = 0.0,
) -> list[Places]:
    """Frames in Å of Langevin dynamics at 1 fs, 10/ps: solutes first, then waters as O H H.

    Hot (500 K) for the first half of the steps before the first frame.

    Args:
        cell: Å, lower triangular; None for a cluster.
        wall: Å from the middle, beyond which atoms are pushed back.

    Raises:
        MissingExtraError: OpenMM is not installed.
    """
    mm = openmm()
    system = _system(mm, solutes, waters, cell, wall)
    integrator = mm.LangevinMiddleIntegrator(500.0, 10.0, 0.001)
    integrator.setRandomNumberSeed(int(rng.integers(1, 2**30)))
    name = "Reference" if cell is None else "CPU"
    # one thread: sums in one order, and no fight with whoever else is at work
    options = {} if cell is None else {"Threads": "1", "DeterministicForces": "true"}
    context = mm.Context(system, integrator, mm.Platform.getPlatformByName(name), options)
    context.setPositions(0.1 * positions)
    found: list[Places] = []
    try:
        mm.LocalEnergyMinimizer.minimize(context, 10.0, 200)
        context.setVelocitiesToTemperature(500.0, int(rng.integers(1, 2**30)))
        integrator.step(first // 2)
        integrator.setTemperature(kelvin)
        integrator.step(first - first // 2)
        for number in range(frames):
            if number:
                integrator.step(every)
            state = context.getState(getPositions=True)
            found.append(10.0 * np.asarray(state.getPositions(asNumpy=True)._value, dtype=np.float64))
    except mm.OpenMMException:
        # a start that blew up: the caller packs anew
        pass
    return [x for x in found if np.isfinite(x).all()]


def _system(
    mm: Any, solutes: Sequence[Monomer], waters: int, cell: Float[np.ndarray, "3 3"] | None, wall: float
) -> Any:
    system = mm.System()
    bonds, angles, pairs = mm.HarmonicBondForce(), mm.HarmonicAngleForce(), mm.NonbondedForce()
    for one in solutes:
        _add_solute(one, system, bonds, pairs)
    for _ in range(waters):
        o = system.addParticle(15.999)
        pairs.addParticle(-2.0 * CHARGE, *OXYGEN)
        for _ in range(2):
            h = system.addParticle(1.008)
            pairs.addParticle(CHARGE, 0.1, 0.0)
            bonds.addBond(o, h, BOND, BOND_SPRING)
            pairs.addException(o, h, 0.0, 0.1, 0.0)
        angles.addAngle(o + 1, o, o + 2, ANGLE, ANGLE_SPRING)
        pairs.addException(o + 1, o + 2, 0.0, 0.1, 0.0)
    if cell is not None:
        system.setDefaultPeriodicBoxVectors(*(0.1 * cell))
        pairs.setNonbondedMethod(pairs.CutoffPeriodic)
        pairs.setCutoffDistance(min(CUTOFF, 0.049 * float(np.diag(cell).min())))
    elif wall:
        back = mm.CustomExternalForce("0.5*k*max(0, sqrt(x*x+y*y+z*z)-r)^2")
        back.addGlobalParameter("k", WALL)
        back.addGlobalParameter("r", 0.1 * wall)
        for k in range(system.getNumParticles()):
            back.addParticle(k, [])
        system.addForce(back)
    for force in (bonds, angles, pairs):
        system.addForce(force)
    return system


def _add_solute(one: Monomer, system: Any, bonds: Any, pairs: Any) -> None:
    from rdkit import Chem

    start, size = system.getNumParticles(), len(one.shape.numbers)
    for atom, charge in zip(one.mol.GetAtoms(), partial_charges(one), strict=True):
        system.addParticle(atom.GetMass())
        pairs.addParticle(charge, *SOLUTE[atom.GetAtomicNum()])
    steps, rest = Chem.GetDistanceMatrix(one.mol), one.rests[0]
    for i in range(size):
        for j in range(i + 1, size):
            if steps[i, j] < 3.5:
                length = 0.1 * float(np.linalg.norm(rest[i] - rest[j]))
                bonds.addBond(start + i, start + j, length, SPRINGS[round(steps[i, j]) - 1])
            pairs.addException(start + i, start + j, 0.0, 0.1, 0.0)


def partial_charges(one: Monomer) -> list[float]:
    """e, by MMFF94; the formal charges where it has none."""
    from rdkit.Chem import rdForceFieldHelpers as helpers

    from heliodor.fragments.rdkit_graph import quiet

    with quiet():
        properties = helpers.MMFFGetMoleculeProperties(one.mol)
    if properties is None or len(one.shape.numbers) == 1:
        return [float(atom.GetFormalCharge()) for atom in one.mol.GetAtoms()]
    return [float(properties.GetMMFFPartialCharge(k)) for k in range(len(one.shape.numbers))]
