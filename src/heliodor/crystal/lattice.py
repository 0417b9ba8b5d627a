"""Lattice energies: a crystal against its molecules alone, at one and the same Hamiltonian.

The shift of a finite long-range cutoff belongs to the energy: SO3LR's Coulomb term subtracts q_i q_j/R for every pair
within R. Over a neutral molecule smaller than R these add up to +½ Σ q²/R, against the same model without cutoff: 0.4
eV for water at 12 Å. In the crystal every atom has such a term too, since the cutoff sphere with the atom itself is
about neutral (Wolf's summation). The two cancel in E_crystal/Z - E_gas only at equal cutoffs, and then but for what the
charges differ between crystal and gas, which `heliodor.crystal.cutoff` estimates. The molecules alone are therefore
always evaluated at the crystal's cutoff, "auto" included.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence

import ase
import torch
from ase.calculators.singlepoint import SinglePointCalculator

from heliodor.crystal.cutoff import own_shares
from heliodor.crystal.doubts import check_electrons, check_hydrogens
from heliodor.crystal.geometry import independent_molecules, rmsd_cluster, rmsd_positions, space_group
from heliodor.crystal.molecules import (
    BOND_FACTOR,
    Molecule,
    conformers,
    find_molecules,
    formula_unit,
    graph_key,
    is_linear,
)
from heliodor.crystal.result import Component, LatticeEnergy
from heliodor.dynamics.relax.minimize import Minimized, minimize
from heliodor.errors import InputError
from heliodor.potential import ModelWarning, Potential, check_distances, evaluate_system
from heliodor.system import System, read_charge, read_spin

RELAX = ("cell", "positions", "none")

LARGE_CHANGE = 5.0
"""Per cent of volume (or of a cell length, or degrees of an angle) that are worth a note."""

Progress = Callable[[str, int, float, float], bool | None]
"""Called with what is being relaxed ("crystal", or a formula), step, energy in eV and largest force in eV/Å; True stops
all relaxations."""


def lattice_energy(
    potential: Potential,
    crystal: ase.Atoms,
    *,
    relax: str = "cell",
    fmax: float = 0.01,
    smax: float = 0.01,
    max_steps: int = 1000,
    pressure: float = 0.0,
    molecules: Sequence[ase.Atoms] = (),
    bond_factor: float = BOND_FACTOR,
    progress: Progress | None = None,
) -> LatticeEnergy:
    """E_crystal/Z - Σ E_gas per formula unit of a crystal of neutral closed-shell molecules.

    With ``relax`` "cell" or "positions" the gas phase is the lowest relaxed conformer of those in the crystal, or the
    given molecule, relaxed. With "none" all energies are at the geometries handed in: the molecule is then that of the
    crystal (lowest conformer), unrelaxed, unless one is given. Symmetry is not imposed.

    Args:
        crystal: periodic in three directions; atoms of a molecule may lie in different cells.
        relax: "cell" (lattice vectors and positions), "positions", "none".
        fmax: eV/Å, of crystal and molecules.
        smax: GPa, of the crystal with ``relax="cell"``.
        max_steps: of each relaxation.
        pressure: bar, on the crystal; with ``relax="cell"`` only.
        molecules: gas-phase structures, at most one for each kind in the crystal; without cell.
        bond_factor: bonds are shorter than this times the sum of covalent radii.
        progress: see `Progress`.

    Raises:
        InputError: no molecular crystal; ions or radicals; missing hydrogens; a given molecule that is not of the
            crystal; numbers out of range; an infinite long-range cutoff.
        ModelError: elements that the model does not know.
    """
    _check(crystal, relax, fmax, smax, max_steps, pressure)
    found = find_molecules(crystal, bond_factor)
    notes = check_hydrogens(found, bond_factor)
    check_electrons(found)
    z, per_unit = formula_unit(Counter(m.key for m in found))
    given = _match(molecules, found, bond_factor, notes)
    system = System.from_atoms(crystal, charge=0.0, spin=0, device=potential.device)
    potential.check(system)
    potential, cutoff = _at_one_cutoff(potential, system)
    neighbors = potential.neighbors(system)
    check_distances(system, neighbors)
    for line in potential.advice(system):
        warnings.warn(line, ModelWarning, stacklevel=2)

    final, relaxed = _plain(crystal), None
    if relax != "none":
        relaxed = minimize(
            system,
            potential,
            fmax=fmax,
            smax=smax,
            max_steps=max_steps,
            cell="triclinic" if relax == "cell" else None,
            pressure=pressure,
            callback=_told(progress, "crystal"),
        )
        system, neighbors = relaxed.system, potential.neighbors(relaxed.system)
        final.positions = relaxed.system.positions.cpu().numpy()
        final.cell[:] = relaxed.system.cell[0].cpu().numpy()
    prediction = evaluate_system(potential, system, neighbors)
    energy = float(prediction.energy[0])
    assert prediction.forces is not None
    final.calc = SinglePointCalculator(final, energy=energy, forces=prediction.forces.cpu().numpy())
    components = tuple(
        _component(
            potential,
            cutoff,
            [m for m in found if m.key == key],
            count,
            given.get(key),
            relax != "none",
            {"fmax": fmax, "max_steps": max_steps},
            bond_factor,
            progress,
            notes,
        )
        for key, count in per_unit.items()
    )
    notes += _changes(crystal, final, found, relaxed, bond_factor)
    correction = None
    shares = own_shares(potential, system, prediction, cutoff)
    if shares is not None:
        correction = float(shares[0]) / z - sum(c.per_unit * (c.own_share or 0.0) for c in components)
    if relax == "none":
        notes.append("nothing was relaxed: the energy holds at these geometries of crystal and molecule only")
    return LatticeEnergy(
        energy=energy / z - sum(c.per_unit * c.energy for c in components),
        units=z,
        components=components,
        crystal_energy=energy,
        cutoff_correction=correction,
        start=crystal.copy(),
        final=final,
        relax=relax,
        pressure=pressure,
        long_range_cutoff=cutoff,
        steps=relaxed.steps if relaxed else 0,
        fmax=float(relaxed.fmax[0]) if relaxed else None,
        converged=(relaxed is None or bool(relaxed.converged[0])) and all(c.converged for c in components),
        reason=relaxed.reason[0] if relaxed else "",
        rmsd=rmsd_positions(crystal, final),
        rmsd20=rmsd_cluster(crystal, final, found),
        space_groups=(space_group(crystal), space_group(final)),
        z_prime=independent_molecules(crystal, z),
        notes=tuple(notes),
    )


def _check(crystal: ase.Atoms, relax: str, fmax: float, smax: float, max_steps: int, pressure: float) -> None:
    if relax not in RELAX:
        raise InputError(f"relax must be one of {', '.join(RELAX)}, not {relax!r}")
    for name, value in (("fmax", fmax), ("smax", smax)):
        if not 0.0 < value < math.inf:
            raise InputError(f"{name} must be a positive number, not {value:g}")
    if max_steps < 1:
        raise InputError(f"max_steps must be at least 1, not {max_steps}")
    if not math.isfinite(pressure):
        raise InputError("pressure must be a finite number of bar")
    if pressure != 0.0 and relax != "cell":
        raise InputError("pressure acts through the cell: relax the cell too, or leave the pressure at 0")
    if read_charge(crystal) != 0.0 or read_spin(crystal) != 0:
        raise InputError("lattice energies are those of neutral crystals of closed shells: charge and spin must be 0")


def _plain(crystal: ase.Atoms) -> ase.Atoms:
    """A copy without what a file said about symmetry and constraints, which need not hold after relaxation."""
    return ase.Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=True)


def _match(
    molecules: Sequence[ase.Atoms], found: list[Molecule], bond_factor: float, notes: list[str]
) -> dict[str, ase.Atoms]:
    """The given molecule of each kind: that with its graph, else that with its formula."""
    kinds = {m.key: m.formula for m in found}
    taken: dict[str, ase.Atoms] = {}
    for molecule in molecules:
        if molecule.pbc.any():
            molecule = molecule.copy()
            molecule.pbc = False
        if read_charge(molecule) != 0.0 or read_spin(molecule) != 0:
            raise InputError("the molecule given must be neutral and of closed shell, as those of the crystal")
        key, formula = graph_key(molecule, bond_factor), str(molecule.get_chemical_formula("hill"))
        same = [key] if key in kinds else [k for k, f in kinds.items() if f == formula]
        if not same:
            raise InputError(
                f"the molecule given is {formula}, and the crystal consists of {', '.join(sorted(kinds.values()))}"
            )
        if len(same) > 1 or same[0] in taken:
            raise InputError(f"which {formula} of the crystal the molecule given stands for is not clear")
        if key not in kinds:
            notes.append(f"the {formula} given has other bonds than that in the crystal: a tautomer or another isomer")
        taken[same[0]] = molecule
    return taken


def _at_one_cutoff(potential: Potential, system: System) -> tuple[Potential, float | None]:
    """The model with the crystal's long-range cutoff for everything, and that cutoff in Å."""
    if not potential.has_long_range:
        return potential, None
    cutoff = float(potential.long_range_limits(system)[0])
    if math.isinf(cutoff):
        raise InputError("a crystal has infinitely many pairs: give a finite long-range cutoff (12 Å is usual)")
    # shares the parameters; the caller's model keeps its own setting
    fixed = copy.copy(potential)
    fixed.long_range_cutoff = cutoff
    return fixed, cutoff


def _component(
    potential: Potential,
    cutoff: float | None,
    members: list[Molecule],
    per_unit: int,
    given: ase.Atoms | None,
    relax: bool,
    limits: dict[str, float],
    bond_factor: float,
    progress: Progress | None,
    notes: list[str],
) -> Component:
    shapes = conformers(members)
    starts = [members[group[0]].atoms for group in shapes] if given is None else [given]
    system = System.from_atoms(starts, charge=0.0, spin=0, device=potential.device)
    formula = members[0].formula
    if relax and len(starts[0]) > 1:
        result = minimize(system, potential, callback=_told(progress, formula), **limits)  # type: ignore[arg-type]
        system, converged = result.system, bool(result.converged.all())
    else:
        converged = True
    prediction = evaluate_system(potential, system, forces=False)
    energies, shares = prediction.energy, own_shares(potential, system, prediction, cutoff)
    best = int(energies.argmin())
    atoms = ase.Atoms(
        numbers=starts[best].numbers, positions=system.positions[system.batch == best].detach().cpu().numpy()
    )
    before = graph_key(starts[best], bond_factor)
    if graph_key(atoms, bond_factor) != before:
        notes.append(f"{formula} alone reacted while it was relaxed: its bonds are not those it started with")
    return Component(
        formula=formula,
        per_unit=per_unit,
        conformers=len(shapes),
        source="crystal" if given is None else "given",
        relaxed=relax,
        energy=float(energies[best]),
        energies=tuple(energies.tolist()),
        own_share=None if shares is None else float(shares[best]),
        atoms=atoms,
        external=3 if len(atoms) == 1 else 5 if is_linear(atoms) else 6,
        converged=converged,
    )


def _told(progress: Progress | None, what: str) -> Callable[[int, torch.Tensor, torch.Tensor], bool | None] | None:
    if progress is None:
        return None
    return lambda step, energy, largest: progress(what, step, float(energy.min()), float(largest.max()))


def _changes(
    start: ase.Atoms, final: ase.Atoms, found: list[Molecule], relaxed: Minimized | None, bond_factor: float
) -> list[str]:
    """Notes on what relaxation did to cell and molecules."""
    if relaxed is None:
        return []
    notes, changes = [], []
    volume = 100.0 * (final.get_volume() / start.get_volume() - 1.0)
    if abs(volume) > LARGE_CHANGE:
        changes.append(f"volume {volume:+.1f} %")
    before, after = start.cell.cellpar(), final.cell.cellpar()
    for name, old, new in zip(("a", "b", "c"), before[:3], after[:3], strict=True):
        if abs(new / old - 1.0) > 0.01 * LARGE_CHANGE:
            changes.append(f"{name} {100.0 * (new / old - 1.0):+.1f} %")
    for name, old, new in zip(("alpha", "beta", "gamma"), before[3:], after[3:], strict=True):
        if abs(new - old) > LARGE_CHANGE:
            changes.append(f"{name} {new - old:+.1f}°")
    if changes:
        notes.append(f"the cell changed by more than thermal expansion explains: {', '.join(changes)}")
    try:
        kept = Counter(m.key for m in find_molecules(final, bond_factor)) == Counter(m.key for m in found)
    except InputError:
        kept = False
    if not kept:
        notes.append("molecules of the crystal reacted while it was relaxed: their bonds are not those of the start")
    return notes
