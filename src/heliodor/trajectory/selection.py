"""Which atoms are meant: by what they belong to (protein, water ...), by name, residue, element or index."""

from __future__ import annotations

import re

import numpy as np
from ase.data import atomic_numbers
from jaxtyping import Bool, Int

from heliodor.errors import InputError
from heliodor.topology import Topology

_AMINO_ACIDS_WORDS = (
    "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL ASH GLH HID HIE HIP "
    "HSD HSE HSP LYN CYX CYM MSE SEC PYL"
)
_CAPS_WORDS = "ACE NME NMA NH2 FOR NHE"
_WATERS_WORDS = "HOH WAT H2O TIP3 TIP3P SOL TIP TP3 SPC OPC T3P"
_LIPIDS_WORDS = "POPC POPE POPG POPS DPPC DPPE DOPC DOPE DOPG DOPS DMPC DLPC DLPE DSPC PSPC CHOL CHL1 POP PA PC OL"

AMINO_ACIDS = frozenset(_AMINO_ACIDS_WORDS.split())
"""Residue names of amino acids, with those of protonation states."""

CAPS = frozenset(_CAPS_WORDS.split())
"""Residue names of peptides' ends."""

WATERS = frozenset(_WATERS_WORDS.split())

LIPIDS = frozenset(_LIPIDS_WORDS.split())
"""Residue names of lipids, whole ones and Amber's parts."""

BACKBONE = frozenset(["N", "CA", "C", "O"])


def is_water(topology: Topology) -> Bool[np.ndarray, "N"]:
    """By residue name, or as molecules of one oxygen and two hydrogens bonded to it."""
    by_name = np.isin(topology.residue_names, list(WATERS))
    molecules, size = topology.molecules, np.bincount(topology.molecules)
    oxygens = np.bincount(molecules, weights=topology.numbers == 8)
    hydrogens = np.bincount(molecules, weights=topology.numbers == 1)
    return by_name | ((size == 3) & (oxygens == 1) & (hydrogens == 2))[molecules]


def is_protein(topology: Topology) -> Bool[np.ndarray, "N"]:
    """Amino acids and the caps of peptides, by residue name."""
    return np.isin(topology.residue_names, list(AMINO_ACIDS | CAPS))


def is_lipid(topology: Topology) -> Bool[np.ndarray, "N"]:
    """By residue name."""
    return np.isin(topology.residue_names, list(LIPIDS))


def is_ion(topology: Topology) -> Bool[np.ndarray, "N"]:
    """Atoms without bonds that are no noble gases."""
    alone = np.bincount(topology.molecules)[topology.molecules] == 1
    return alone & ~np.isin(topology.numbers, (2, 10, 18, 36, 54))


def solute(topology: Topology) -> Int[np.ndarray, "n"]:
    """Atoms that are neither water nor ions; all atoms where nothing else is there."""
    rest = ~is_water(topology) & ~is_ion(topology)
    return np.flatnonzero(rest if rest.any() else np.ones(len(topology), dtype=bool))


def select(topology: Topology, text: str) -> Int[np.ndarray, "n"]:
    """Indices, ascending, of the atoms a text describes.

    Terms are joined by ``and``; words within a term by spaces, commas or ``or``; ``not`` in front of a term takes all
    others. Words are ``all``, ``heavy``, ``protein``, ``water``, ``lipid``, ``ion``, ``solute``, ``backbone`` (N CA C
    O of amino acids), elements (``C N``), atom names (``name CA CB``), residues by name (``resname ALA``) or number
    (``residue 3-9``), chains (``chain A``), molecules counted from 0 (``molecule 0-3``), indices from 0 (``0-99,120``).

    Raises:
        InputError: a word that means nothing, or nothing selected.
    """
    chosen = np.ones(len(topology), dtype=bool)
    terms = [term.strip() for term in re.split(r"\band\b", text) if term.strip()]
    for term in terms:
        chosen &= _term(topology, term)
    if not terms or not chosen.any():
        raise InputError(f"the selection {text!r} leaves no atom")
    return np.flatnonzero(chosen)


def _term(topology: Topology, text: str) -> np.ndarray:
    words = [word for word in re.split(r"[\s,]+", text) if word and word != "or"]
    inverted = words[:1] == ["not"]
    words = words[inverted:]
    mask = np.zeros(len(topology), dtype=bool)
    key = words[0].lower() if words else ""
    if key in ("name", "resname", "chain"):
        known = {"name": topology.names, "resname": topology.residue_names, "chain": topology.chains}[key]
        mask |= np.isin(known, words[1:])
    elif key in ("residue", "molecule"):
        known = topology.residue_numbers if key == "residue" else topology.molecules
        for word in words[1:]:
            first, last = _range(word, text)
            mask |= (known >= first) & (known <= last)
    else:
        for word in words:
            mask |= _word(topology, word, text)
    return ~mask if inverted else mask


def _word(topology: Topology, word: str, text: str) -> np.ndarray:
    groups = {"protein": is_protein, "water": is_water, "lipid": is_lipid, "ion": is_ion}
    lower = word.lower()
    if lower == "all":
        return np.ones(len(topology), dtype=bool)
    if lower == "heavy":
        return topology.numbers > 1
    if lower == "solute":
        return np.isin(np.arange(len(topology)), solute(topology))
    if lower == "backbone":
        return np.isin(topology.names, list(BACKBONE)) & np.isin(topology.residue_names, list(AMINO_ACIDS))
    if lower in groups:
        return groups[lower](topology)
    if word in atomic_numbers:
        return topology.numbers == atomic_numbers[word]
    first, last = _range(word, text)
    if last >= len(topology):
        raise InputError(f"cannot select {word!r}: atoms are counted from 0 to {len(topology) - 1}")
    index = np.arange(len(topology))
    return (index >= first) & (index <= last)


def _range(word: str, text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(-?\d+)(?:-(-?\d+))?", word)
    if found is None:
        raise InputError(
            f"cannot select {word!r} in {text!r}: write all, heavy, protein, water, lipid, ion, solute, backbone, "
            "elements (C N), indices (0-99), name CA, resname ALA, residue 3-9, chain A, molecule 0, joined by 'and'"
        )
    first = int(found[1])
    return first, int(found[2]) if found[2] is not None else first
