"""Which protons the residues and ends of a peptide carry at a pH."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from heliodor.errors import InputError
from heliodor.prepare.sequence import STATES, Sequence

PKA = {"ASP": 3.67, "GLU": 4.25, "HIS": 6.54, "CYS": 8.55, "TYR": 9.84, "LYS": 10.40, "ARG": 12.3, "C": 3.67, "N": 8.00}
"""Of side chains, carboxyl end and amino end in short flexible peptides: Thurlkill, Grimsley, Scholtz and Pace, Protein
Sci. 15, 1214 (2006), measured in Ac-Ala-Ala-X-Ala-Ala-NH2 and alanine pentapeptides."""

TERMINI = ("auto", "charged", "neutral")


@dataclass(frozen=True)
class Protonation:
    """The states of one peptide.

    Attributes:
        residues: Amber's names: ASP or ASH, LYS or LYN, HID, HIE or HIP, ...
        ammonium: whether a free amino end is NH3+ rather than NH2.
        carboxylate: whether a free carboxyl end is COO- rather than COOH.
        notes: what was decided, in words.
    """

    residues: tuple[str, ...]
    ammonium: bool
    carboxylate: bool
    notes: tuple[str, ...]


def protonation(sequence: Sequence, ph: float = 7.0, termini: str = "auto") -> Protonation:
    """States at a pH by model pKa values (`PKA`); names of `STATES` in the sequence stay as they are.

    Args:
        termini: ``"charged"``, ``"neutral"``, or ``"auto"`` for what the pH says.

    Raises:
        InputError: a pH outside 0 to 14, unknown ``termini``, "+H+" without one basic residue.
    """
    if not (isfinite(ph) and 0.0 <= ph <= 14.0):
        raise InputError(f"the pH must lie between 0 and 14, not {ph:g}")
    if termini not in TERMINI:
        raise InputError(f"the termini are {', '.join(TERMINI)}, not {termini!r}")
    if sequence.proton:
        return _one_proton(sequence, termini)
    names = tuple(_state(name, ph) for name in sequence.residues)
    told = []
    if "HIE" in names and "HIS" in sequence.residues:
        told.append("neutral histidine is HIE (proton on NE2); write HID in the sequence for the other tautomer")
    for name, what in (("CYS", "thiol"), ("TYR", "phenol"), ("ARG", "guanidinium")):
        if name in names and ph > PKA[name]:
            told.append(f"{name} keeps its {what} proton, although its pKa ({PKA[name]}) is below pH {ph:g}")
    charged = {"charged": True, "neutral": False}.get(termini)
    return Protonation(
        names,
        ammonium=ph < PKA["N"] if charged is None else charged,
        carboxylate=ph > PKA["C"] if charged is None else charged,
        notes=tuple(told),
    )


def _state(name: str, ph: float) -> str:
    low, high = {"ASP": ("ASH", "ASP"), "GLU": ("GLH", "GLU"), "HIS": ("HIP", "HIE"), "LYS": ("LYS", "LYN")}.get(
        name, (name, name)
    )
    return low if name in PKA and ph < PKA[name] else high


def _one_proton(sequence: Sequence, termini: str) -> Protonation:
    """A neutral molecule and one proton more, as in the gas phase: on the only basic side chain."""
    if termini == "charged":
        raise InputError("+H+ means a molecule with neutral ends and one proton: leave out charged termini, or +H+")
    basic = [k for k, name in enumerate(sequence.residues) if STATES.get(name, name) in ("LYS", "ARG", "HIS")]
    if len(basic) != 1:
        raise InputError(
            f"{sequence.short} +H+ has {len(basic)} basic residues: where the proton sits is clear only for one; write "
            "the states as residue names (LYS, LYN, HIP, HIE, ASH ...) and choose neutral termini"
        )
    neutral = {"ASP": "ASH", "GLU": "GLH"}
    names = [neutral.get(name, name) for name in sequence.residues]
    acid = STATES.get(names[basic[0]], names[basic[0]])
    names[basic[0]] = "HIP" if acid == "HIS" else acid
    number = basic[0] + 1 + (sequence.front is not None)
    where = f"{names[basic[0]]} {number}"
    return Protonation(tuple(names), False, False, (f"+H+: the proton is on {where}; ends and acids are neutral",))
