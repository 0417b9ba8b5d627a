"""Sequences of peptides as chemists write them: AAAK, ACE-ALA-LYS-NME, AceAla15Nme, Ac-Ala15-Lys+H+."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from heliodor.errors import InputError, suggestion

ONE_LETTER = {
    "A": "ALA", "R": "ARG", "N": "ASN", "D": "ASP", "C": "CYS", "Q": "GLN", "E": "GLU", "G": "GLY", "H": "HIS",
    "I": "ILE", "L": "LEU", "K": "LYS", "M": "MET", "F": "PHE", "P": "PRO", "S": "SER", "T": "THR", "W": "TRP",
    "Y": "TYR", "V": "VAL",
}  # fmt: skip

AMINO_ACIDS = tuple(ONE_LETTER.values())

STATES = {"ASH": "ASP", "GLH": "GLU", "LYN": "LYS", "HID": "HIS", "HIE": "HIS", "HIP": "HIS"}
"""Residues in a protonation state of their own, by Amber's names, and the amino acid each is of."""

N_CAPS = {"ACE": "ACE", "AC": "ACE"}
"""How an acetyl group in front may be written."""

C_CAPS = {"NME": "NME", "NMA": "NME", "NHME": "NME", "NH2": "NH2", "NHE": "NH2"}
"""How a methylamide or an amide at the end may be written."""

LONGEST = 200
"""Residues: a chain in one straight fold is no model of anything longer."""

_D_WORDS = "DAL DAR DSG DAS DCY DGN DGL DHI DIL DLE DLY MED DPN DPR DSN DTH DTR DTY DVA"

D_RESIDUES = frozenset(_D_WORDS.split())
"""Names of D-amino acids in the PDB."""


@dataclass(frozen=True)
class Sequence:
    """What a peptide is made of.

    Attributes:
        residues: three letters each; a name of `STATES` fixes a protonation state.
        front: ``"ACE"`` or None.
        end: ``"NME"``, ``"NH2"`` or None.
        proton: written with "+H+": neutral ends and acids, and one basic residue that carries the charge.
    """

    residues: tuple[str, ...]
    front: str | None = None
    end: str | None = None
    proton: bool = False

    @property
    def name(self) -> str:
        """In three letters: ``"ACE-ALA-ALA-NME"``."""
        return "-".join(word for word in (self.front, *self.residues, self.end) if word)

    @property
    def short(self) -> str:
        """The name, or the first residues of a long one and how many there are."""
        return self.name if len(self.residues) <= 8 else f"{self.name[:19]}... ({len(self.residues)} residues)"


def parse_sequence(text: str, caps: str | None = None) -> Sequence:
    """Read a sequence.

    One letter a residue (``AAAK``); three letters joined by dashes (``ACE-ALA-LYS-NME``, counts allowed: ``ALA15``); or
    the names of the literature (``AceAla15Nme``, ``Ac-Ala15-Lys+H+``).

    Args:
        caps: ``"ACE,NME"``, ``"ACE"``, ``"NH2"``, ``"none"``: in addition to what the sequence says.

    Raises:
        InputError: an unknown letter or name, D-residues, no residue, caps given twice, an ambiguous word.
    """
    words, proton = _words(text)
    front = N_CAPS.get(words[0]) if words else None
    words = words[1:] if front else words
    end = C_CAPS.get(words[-1]) if words else None
    words = words[:-1] if end else words
    for word in words:
        if word not in AMINO_ACIDS and word not in STATES:
            raise InputError(_unknown(word, text))
    if not words:
        raise InputError(
            f"the sequence {text!r} has no amino acid: write for example AAAK, ACE-ALA-ALA-NME, AceAla15Nme"
        )
    if len(words) > LONGEST:
        raise InputError(f"a peptide of {len(words)} residues is too long to be built in one fold: at most {LONGEST}")
    found = Sequence(tuple(words), front, end, proton)
    return found if caps is None else _capped(found, caps)


def _words(text: str) -> tuple[list[str], bool]:
    """Three-letter words with their counts written out, and whether "+H+" stood at the end."""
    bare = text.strip()
    body = re.sub(r"(\+H\+|H\+)$", "", bare)
    proton, body = body != bare, body.rstrip("+-")
    if not body:
        raise InputError("an empty sequence: write for example AAAK, ACE-ALA-ALA-NME, AceAla15Nme")
    parts = [part for part in re.split(r"[-\s,_]+", body) if part]
    if len(parts) == 1 and parts[0].isupper() and parts[0].isalpha():
        return _letters(parts[0], text), proton
    mixed = re.search(r"(^|[A-Z])[a-z]+[A-Z]{2}|[A-Z]{2}[a-z]+$|^[a-z][A-Z]", body) and "Me" not in body
    if mixed and set(body.upper()) <= set(ONE_LETTER):
        raise InputError(
            f"small letters in the sequence {text!r} stand for D-residues, which are not built: write L-residues in "
            "capital letters (AAAK) or by three letters (Ala)"
        )
    words = []
    for part in parts:
        # names run together are told apart by their capital letters
        pieces = re.findall(r"[A-Z][a-z]+\d*|NH2|NHMe|NMe", part) if not part.isupper() else [part]
        if part == "NHMe" or part == "NMe":
            pieces = [part]
        if "".join(pieces) != part:
            pieces = _compact(part, text)
        for piece in pieces:
            words += _counted(piece, text)
    return words, proton


def _compact(part: str, text: str) -> list[str]:
    """``AcAla3NHMe``: the caps of organic chemistry have two capital letters."""
    if re.fullmatch(r"[a-z]+", part) or re.search(r"(^|[^A-Za-z])[dD](?=[A-Z][a-z]{2})", part):
        raise InputError(
            f"{part!r} in the sequence {text!r} reads as D-residues, which cannot be built: write L-residues in "
            "capital letters (AAAK) or as Ala"
        )
    found = re.fullmatch(r"((?:[A-Z][a-z]{1,2}\d*)*)(NHMe|NMe|NH2|NHE)?", part)
    if found is None:
        raise InputError(_unknown(part, text))
    return re.findall(r"[A-Z][a-z]{1,2}\d*", found[1]) + ([found[2]] if found[2] else [])


def _counted(piece: str, text: str) -> list[str]:
    word = piece.upper()
    if word in C_CAPS:
        return [word]
    found = re.fullmatch(r"([A-Z]+)(\d*)", word)
    if found is None:
        raise InputError(_unknown(piece, text))
    count = int(found[2]) if found[2] else 1
    if not 1 <= count <= LONGEST:
        raise InputError(f"{piece!r} in the sequence {text!r}: a residue comes 1 to {LONGEST} times")
    return [found[1]] * count


def _letters(word: str, text: str) -> list[str]:
    known = {*AMINO_ACIDS, *STATES, *N_CAPS, *C_CAPS}
    if word in known and len(word) == 3:
        raise InputError(
            f"{word!r} can mean the residue {word.title()} or the sequence {'-'.join(word)}: write {word.title()!r}, "
            "or the three residues by name, joined by dashes"
        )
    for letter in word:
        if letter not in ONE_LETTER:
            raise InputError(
                f"{letter!r} in the sequence {text!r} stands for no amino acid: one of {' '.join(sorted(ONE_LETTER))}, "
                "or three letters a residue, joined by dashes"
            )
    return [ONE_LETTER[letter] for letter in word]


def _unknown(word: str, text: str) -> str:
    if word.upper() in D_RESIDUES or word in ("D", "d") or (word[:1] in "dD" and word[1:].upper() in AMINO_ACIDS):
        return f"{word!r} in the sequence {text!r} is a D-residue, which cannot be built"
    if word in C_CAPS or word in N_CAPS:
        return f"the cap {word} in the sequence {text!r} does not stand at its end of the chain"
    known = [*AMINO_ACIDS, *STATES, "ACE", "NME", "NH2"]
    return (
        f"{word!r} in the sequence {text!r} is no residue that can be built{suggestion(word.upper(), known)} (there "
        f"are the 20 amino acids, {', '.join(STATES)}, and the caps ACE, NME, NH2)"
    )


def _capped(found: Sequence, caps: str) -> Sequence:
    words = [word.upper() for word in re.split(r"[\s,]+", caps.strip()) if word and word.lower() != "none"]
    for word in words:
        if word not in N_CAPS and word not in C_CAPS:
            raise InputError(f"{word!r} is no cap: write ACE, NME, NH2, two of them as ACE,NME, or none")
    fronts = [N_CAPS[word] for word in words if word in N_CAPS]
    ends = [C_CAPS[word] for word in words if word in C_CAPS]
    if len(fronts) > 1 or len(ends) > 1 or (fronts and found.front) or (ends and found.end):
        raise InputError(f"the caps {caps!r} are one too many for {found.short}: one in front, one at the end")
    if not words and (found.front or found.end):
        raise InputError(f"{found.short} has caps in its sequence: leave them out there, or leave out --caps none")
    return replace(found, front=found.front or "".join(fronts) or None, end=found.end or "".join(ends) or None)
