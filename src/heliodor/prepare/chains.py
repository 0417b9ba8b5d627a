"""Chains made whole: missing loops, missing heavy atoms and caps, by PDBFixer."""

from __future__ import annotations

from typing import Any

from heliodor.prepare.gaps import end_notes, find_gaps, refuse_gaps
from heliodor.prepare.output import PROTEIN
from heliodor.prepare.prepared import label, openmm
from heliodor.prepare.relax import random_numbers
from heliodor.prepare.residues import Kinds, rearranged
from heliodor.prepare.stereo import with_betas

FIRST_CAP, LAST_CAP = "ACE", "NME"


def mended(
    fixer: Any, kept: Kinds, build: int, split: bool, caps: bool, seed: int
) -> tuple[Any, Any, list[str], dict[str, int]]:
    """Find gaps, build or split what was asked, put caps on, add missing heavy atoms.

    Args:
        fixer: a PDBFixer, with other residues behind the polymers.
        build: longest missing loop to be built, residues.
        split: whether broken chains are to be split.
        caps: whether protein chains get `FIRST_CAP` and `LAST_CAP`.

    Returns:
        Topology, positions, notes, and how many residues and atoms were added.

    Raises:
        InputError: a broken chain that nothing was asked to be done about.
    """
    fixer.findMissingResidues()
    missing = {key: list(names) for key, names in fixer.missingResidues.items()}
    notes = end_notes(fixer.topology, missing, fixer.sequences)
    gaps = find_gaps(fixer.topology, fixer.positions, missing)
    refuse_gaps(gaps, build, split)
    loops = {gap.before: list(gap.missing) for gap in gaps if 0 < len(gap.missing) <= build}
    cuts = {gap.before: gap for gap in gaps if gap.before not in loops}
    if cuts:
        others = (*kept.waters, *kept.ions, *kept.ligands)
        fixer.topology, fixer.positions, now = rearranged(
            fixer.topology, fixer.positions, others, lambda before, after: before in cuts
        )
        loops = {now[residue]: names for residue, names in loops.items()}
        notes.append(f"chains split at gaps: {'; '.join(map(str, cuts.values()))}")
    fixer.missingResidues = {}
    for residue, names in loops.items():
        position = list(residue.chain.residues()).index(residue) + 1
        fixer.missingResidues[(residue.chain.index, position)] = names
        notes.append(f"{len(names)} missing residues built after {label(residue)}: {' '.join(names)} (a mere guess)")
    if caps:
        notes += _ask_for_caps(fixer)
    with random_numbers(seed):
        fixer.findMissingAtoms()
        atoms = sum(len(names) for names in fixer.missingAtoms.values())
        ends = sum(len(names) for names in fixer.missingTerminals.values())
        if atoms:
            shown = [f"{label(r)} ({' '.join(a.name for a in names)})" for r, names in fixer.missingAtoms.items()]
            more = f" and {len(shown) - 8} residues more" if len(shown) > 8 else ""
            notes.append(f"{atoms} missing heavy atoms built: {', '.join(shown[:8])}{more}")
        if ends:
            notes.append(f"{ends} missing end atoms (OXT) built")
        fixer.topology, fixer.positions, betas = with_betas(fixer.topology, fixer.positions)
        if betas:
            fixer.findMissingAtoms()
        fixer.addMissingAtoms(seed=seed + 1)
    new = sum(len(names) for names in fixer.missingResidues.values())
    return fixer.topology, fixer.positions, notes, {"residues": new, "heavy_atoms": atoms, "end_atoms": ends}


def _ask_for_caps(fixer: Any) -> list[str]:
    """Enter caps among the missing residues of a PDBFixer, and take away what stands in their place."""
    capped, in_the_way = [], []
    for chain in fixer.topology.chains():
        own = list(chain.residues())
        if not own or not all(residue.name in PROTEIN for residue in own):
            continue
        if own[0].name != FIRST_CAP:
            fixer.missingResidues.setdefault((chain.index, 0), []).append(FIRST_CAP)
            in_the_way += [a for a in own[0].atoms() if a.name in ("H2", "H3")]
        if own[-1].name not in (LAST_CAP, "NH2"):
            fixer.missingResidues.setdefault((chain.index, len(own)), []).append(LAST_CAP)
            in_the_way += [a for a in own[-1].atoms() if a.name in ("OXT", "HXT")]
        capped.append(f"{chain.id} ({own[0].name} {own[0].id} to {own[-1].name} {own[-1].id})")
    if in_the_way:
        modeller = openmm().app.Modeller(fixer.topology, fixer.positions)
        modeller.delete(in_the_way)
        fixer.topology, fixer.positions = modeller.topology, modeller.positions
    return [f"caps {FIRST_CAP} and {LAST_CAP} on chain {', '.join(capped)}"] if capped else []
