"""Hydrogens at a pH: which residue gets which protonation state, what the user decides, and what came out."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from heliodor.errors import InputError
from heliodor.prepare.output import NUCLEIC, PROTEIN
from heliodor.prepare.prepared import label, openmm
from heliodor.prepare.protonation import PKA
from heliodor.prepare.relax import one_thread, random_numbers

VARIANTS = {
    "ASP": ("ASP", "ASH"),
    "GLU": ("GLU", "GLH"),
    "HIS": ("HID", "HIE", "HIP"),
    "LYS": ("LYS", "LYN"),
    "CYS": ("CYS", "CYX"),
}
"""Protonation states OpenMM builds, by residue."""

INNER = ("ASH", "GLH", "LYN")
"""States that force fields have inside chains only."""

NEUTRAL = {"ASP": ("ASH", 4.4), "GLU": ("GLH", 4.4), "LYS": ("LYN", 10.0)}
"""Neutral states and the pH at which OpenMM goes over to them."""

_FORM = re.compile(
    r"\s*(?:(?P<chain>\S+?)\s*:)?\s*(?:(?P<name>[A-Za-z]{3})\s*)?(?P<number>-?\d+)(?P<code>[A-Za-z]?)\s*$"
)


@dataclass(frozen=True)
class Override:
    """One residue's state as the user wants it; chain and name are "" where he did not say."""

    chain: str
    name: str
    number: str
    code: str
    variant: str
    asked: bool = True
    """By the user; else by the residue's name in the file."""


def parse_protonation(text: str) -> tuple[Override, ...]:
    """Read ``"A:HIS 15=HIE, B:ASP 4=ASH"``; chain and residue name may be left out.

    Raises:
        InputError: what cannot be read, and how it is written.
    """
    found = []
    for part in filter(str.strip, text.split(",")):
        place, _, variant = part.partition("=")
        match = _FORM.match(place)
        if match is None or not variant.strip():
            raise InputError(
                f"cannot read {part.strip()!r} as a protonation state: write for example 'A:HIS 15=HIE', several "
                "separated by commas"
            )
        fields = {key: value or "" for key, value in match.groupdict().items()}
        found.append(
            Override(fields["chain"], fields["name"].upper(), fields["number"], fields["code"], variant.strip().upper())
        )
    return tuple(found)


def variants_for(topology: Any, overrides: tuple[Override, ...]) -> list[Any]:
    """The state of each residue where the user decides it, None elsewhere; no hydrogens on what is no polymer.

    Raises:
        InputError: no such residue, or a state it cannot have.
    """
    residues = list(topology.residues())
    variants: list[Any] = [None] * len(residues)
    for one in overrides:
        fit = [r for r in residues if r.id == one.number and r.insertionCode.strip() == one.code and r.name in PROTEIN]
        fit = [r for r in fit if one.chain in ("", r.chain.id) and one.name in ("", r.name)]
        place = f"{one.chain}:{one.name} {one.number}{one.code}".lstrip(":").strip()
        if not fit:
            raise InputError(f"--protonation: there is no residue {place} in what is prepared")
        if len(fit) > 1:
            raise InputError(
                f"--protonation: {place} may be {', '.join(map(label, fit))}: write the chain in front, 'A:'"
            )
        residue = fit[0]
        states = VARIANTS.get(residue.name, ())
        if one.variant not in states:
            known = f"it can be {', '.join(states)}" if states else f"only {', '.join(VARIANTS)} have states"
            raise InputError(f"--protonation: {label(residue)} cannot be {one.variant}: {known}")
        variants[residue.index] = one.variant
        if one.asked and one.variant in INNER and _is_end(residue):
            raise InputError(
                f"--protonation: {label(residue)} is a free end of its chain, where the force field has no "
                f"{one.variant}: --caps both makes room for it"
            )
    return variants


def at_ph(topology: Any, variants: list[Any], ph: float) -> tuple[list[Any], list[str]]:
    """The same states, with those decided that OpenMM would choose at this pH and the force field has no template of:
    neutral side chains at free ends of chains and thiolates stay as they are in the middle of the pH scale.

    Returns:
        States, and notes on what keeps a state unusual for the pH.
    """
    chosen = list(variants)
    bridged = {bond[k].residue for bond in topology.bonds() if bond[0].name == "SG" == bond[1].name for k in (0, 1)}
    ends, kept = [], Counter[str]()
    for residue in topology.residues():
        state = chosen[residue.index]
        if residue.name == "CYS" and residue not in bridged and state is None:
            chosen[residue.index] = "CYS"
            kept["CYS"] += 1
        elif residue.name in ("TYR", "ARG"):
            kept[residue.name] += 1
        elif residue.name in NEUTRAL and _is_end(residue) and state in (None, *NEUTRAL[residue.name][:1]):
            chosen[residue.index] = residue.name
            low, at = NEUTRAL[residue.name]
            if state is not None or (ph > at if residue.name == "LYS" else ph < at):
                ends.append(f"{label(residue)} (not {low})")
    notes = []
    if ends:
        notes.append(
            f"side chains at free ends of chains stay charged for want of parameters: {', '.join(ends)} (--caps both)"
        )
    for name, what in (("CYS", "thiol"), ("TYR", "phenol"), ("ARG", "guanidinium")):
        if kept[name] and ph > PKA[name]:
            notes.append(
                f"{kept[name]} {name} keep their {what} proton, although their pKa ({PKA[name]}) is below pH {ph:g}"
            )
    first, last = _free_ends(topology)
    if first and ph > PKA["N"]:
        notes.append(f"{first} amino ends stay NH3+, although their pKa ({PKA['N']}) is below pH {ph:g} (--caps both)")
    if last and ph < PKA["C"]:
        notes.append(
            f"{last} carboxyl ends stay COO-, although their pKa ({PKA['C']}) is above pH {ph:g} (--caps both)"
        )
    return chosen, notes


def _free_ends(topology: Any) -> tuple[int, int]:
    """How many amino and carboxyl ends of proteins have no cap."""
    chains = [[r for r in chain.residues() if r.name in PROTEIN] for chain in topology.chains()]
    first = sum(1 for own in chains if own and own[0].name != "ACE")
    return first, sum(1 for own in chains if own and own[-1].name not in ("NME", "NH2"))


def _is_end(residue: Any) -> bool:
    """Whether an amino acid is the first or last of its chain, without a cap."""
    own = [r for r in residue.chain.residues() if r.name in PROTEIN]
    return residue is own[0] or residue is own[-1]


def without_hydrogens(topology: Any, positions: Any) -> tuple[Any, Any, int]:
    """Amino acids and nucleotides without their hydrogens, which are put on anew; and how many there were."""
    modeller = openmm().app.Modeller(topology, positions)
    hydrogens = [
        atom
        for atom in topology.atoms()
        if atom.element is not None
        and atom.element.atomic_number == 1
        and (atom.residue.name in PROTEIN or atom.residue.name in NUCLEIC)
    ]
    if hydrogens:
        modeller.delete(hydrogens)
    return modeller.topology, modeller.positions, len(hydrogens)


def add_hydrogens(
    topology: Any,
    positions: Any,
    field: Any,
    *,
    ph: float = 7.0,
    overrides: tuple[Override, ...] = (),
    seed: int = 0,
) -> tuple[Any, Any, list[Any], list[str]]:
    """Put on the hydrogens that are missing; states by the usual pKa of each kind of residue, histidines by their
    hydrogen bonds (`openmm.app.Modeller.addHydrogens`).

    Returns:
        Topology, positions, the state of each residue (None where there is no choice), and notes.

    Raises:
        InputError: residues that the force field does not know or that are incomplete.
    """
    if not 0.0 <= ph <= 14.0:
        raise InputError(f"pH must be between 0 and 14, not {ph:g}")
    variants, notes = at_ph(topology, variants_for(topology, overrides), ph)
    modeller = openmm().app.Modeller(topology, positions)
    with random_numbers(seed), one_thread():
        try:
            chosen = modeller.addHydrogens(field, pH=ph, variants=variants)
        except ValueError as error:
            told = " ".join(str(error).split()).partition(" For more information")[0]
            raise InputError(f"hydrogens cannot be put on: {told} Leave such residues out, or repair them") from error
    return modeller.topology, modeller.positions, chosen, notes


def states(topology: Any, chosen: list[Any]) -> dict[str, str]:
    """The state of every residue that has a choice, by label."""
    return {
        label(residue): str(state)
        for residue, state in zip(topology.residues(), chosen, strict=True)
        if state is not None or residue.name in VARIANTS
        for state in [_state(residue) if state is None else state]
    }


def state_notes(found: dict[str, str], ph: float, asked: int, named: int) -> list[str]:
    """What people want to know of the states: histidines and unusual ones by name, the rest counted.

    Args:
        asked: how many the user decided.
        named: how many the file decides by names such as HIE or ASH.
    """
    counts = Counter(found.values())
    usual = ("ASP", "GLU", "LYS", "CYS", "CYX")
    special = [f"{name} {state}" for name, state in found.items() if state not in usual]
    text = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
    notes = [f"protonation at pH {ph:g} by the usual pKa of each kind of residue: {text or 'nothing to choose'}"]
    if special:
        shown = ", ".join(special[:20]) + (f" and {len(special) - 20} more" if len(special) > 20 else "")
        notes.append(f"histidines and unusual states: {shown}")
    if named:
        notes.append(f"{named} of these by the residue's name in the file (HIE, ASH and so on)")
    if asked:
        notes.append(f"{asked} of these as asked (--protonation)")
    return notes


def termini(topology: Any) -> list[str]:
    """Ends of the protein chains in words: ``"A: THR 1 NH3+ ... ASN 46 COO-"``."""
    found = []
    for chain in topology.chains():
        residues = [residue for residue in chain.residues() if residue.name in PROTEIN]
        if not residues:
            continue
        found.append(f"{chain.id}: {_end(residues[0])} ... {_end(residues[-1])}")
    return found


def disulfides(topology: Any) -> list[str]:
    """Bonded pairs of cysteines: ``"A CYS 3 - A CYS 40"``."""
    return [
        f"{label(bond[0].residue)} - {label(bond[1].residue)}"
        for bond in topology.bonds()
        if bond[0].name == "SG" == bond[1].name
    ]


def _state(residue: Any) -> str:
    """By the hydrogens a residue has."""
    names = {atom.name for atom in residue.atoms()}
    if residue.name == "HIS":
        return {(True, True): "HIP", (True, False): "HID", (False, True): "HIE"}.get(
            ("HD1" in names, "HE2" in names), "HIN"
        )
    proton = {"ASP": ("HD2", "ASH", "ASP"), "GLU": ("HE2", "GLH", "GLU"), "CYS": ("HG", "CYS", "CYX")}
    if residue.name in proton:
        atom, with_it, without = proton[residue.name]
        return with_it if atom in names else without
    return "LYS" if {"HZ1", "HZ2", "HZ3"} <= names else "LYN"


def _end(residue: Any) -> str:
    names = {atom.name for atom in residue.atoms()}
    here = f"{residue.name} {residue.id}"
    if residue.name in ("ACE", "NME", "NH2"):
        return f"{here} (cap)"
    if "OXT" in names:
        return f"{here} COO{'H' if 'HXT' in names else '-'}"
    protons = len(names & {"H", "H1", "H2", "H3"})
    return f"{here} NH{protons}{'+' if protons == 3 or (residue.name == 'PRO' and protons == 2) else ''}"
