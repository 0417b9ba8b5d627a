"""All proteins at once: peptides of the twenty amino acids in every state whose pieces are those of any protein.

A piece of up to eight heavy atoms cannot touch more than two side chains, of neighbouring residues or across a
disulfide, and cut bonds become hydrogens, so that a side chain outside the piece leaves no trace: a few thousand
peptides stand for all. What is special about two neighbours holds atoms of both side chains, and is grown from there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from heliodor.errors import InputError, suggestion
from heliodor.fragments.bottom_up import Amon, Progress, bottom_up, check_size, collect, pieces
from heliodor.fragments.graph import ChemicalGraph
from heliodor.fragments.rdkit_graph import graph_from_rows
from heliodor.fragments.skeleton import Skeleton

SHORTEST_BRIDGE = 5
"""Heavy atoms of the smallest piece that touches two side chains: Cβ, Cα, C, N, and Cδ of a proline."""

LARGEST = 8
"""Heavy atoms; one more, and pieces could hold parts of three side chains."""

SIDE_CHAINS: dict[str, dict[str, str]] = {
    "G": {"": ""},
    "A": {"": "CA-CB"},
    "V": {"": "CA-CB CB-CG1 CB-CG2"},
    "L": {"": "CA-CB CB-CG CG-CD1 CG-CD2"},
    "I": {"": "CA-CB CB-CG1 CB-CG2 CG1-CD1"},
    "P": {"": "CA-CB CB-CG CG-CD CD-N"},
    "M": {"": "CA-CB CB-CG CG-SD SD-CE"},
    "S": {"": "CA-CB CB-OG"},
    "T": {"": "CA-CB CB-OG1 CB-CG2"},
    "N": {"": "CA-CB CB-CG CG=OD1 CG-ND2"},
    "Q": {"": "CA-CB CB-CG CG-CD CD=OE1 CD-NE2"},
    "D": {"-": "CA-CB CB-CG CG=OD1 CG-OD2 OD2:-1", "0": "CA-CB CB-CG CG=OD1 CG-OD2"},
    "E": {"-": "CA-CB CB-CG CG-CD CD=OE1 CD-OE2 OE2:-1", "0": "CA-CB CB-CG CG-CD CD=OE1 CD-OE2"},
    "K": {"+": "CA-CB CB-CG CG-CD CD-CE CE-NZ NZ:+1", "0": "CA-CB CB-CG CG-CD CD-CE CE-NZ"},
    "R": {
        "+": "CA-CB CB-CG CG-CD CD-NE NE-CZ CZ=NH1 CZ-NH2 NH1:+1",
        "+ NE": "CA-CB CB-CG CG-CD CD-NE NE=CZ CZ-NH1 CZ-NH2 NE:+1",
        "0": "CA-CB CB-CG CG-CD CD-NE NE-CZ CZ=NH1 CZ-NH2",
        "0 NE": "CA-CB CB-CG CG-CD CD-NE NE=CZ CZ-NH1 CZ-NH2",
    },
    "H": {
        "e": "CA-CB CB-CG CG=CD2 CG-ND1 ND1=CE1 CE1-NE2 NE2-CD2",
        "d": "CA-CB CB-CG CG=CD2 CG-ND1 ND1-CE1 CE1=NE2 NE2-CD2",
        "+": "CA-CB CB-CG CG=CD2 CG-ND1 ND1=CE1 CE1-NE2 NE2-CD2 ND1:+1",
        "+ NE2": "CA-CB CB-CG CG=CD2 CG-ND1 ND1-CE1 CE1=NE2 NE2-CD2 NE2:+1",
    },
    "C": {"": "CA-CB CB-SG", "-": "CA-CB CB-SG SG:-1", "SS": "CA-CB CB-SG"},
    "F": {"": "CA-CB CB-CG CG=CD1 CG-CD2 CD1-CE1 CD2=CE2 CE1=CZ CE2-CZ"},
    "Y": {
        "": "CA-CB CB-CG CG=CD1 CG-CD2 CD1-CE1 CD2=CE2 CE1=CZ CE2-CZ CZ-OH",
        "-": "CA-CB CB-CG CG=CD1 CG-CD2 CD1-CE1 CD2=CE2 CE1=CZ CE2-CZ CZ-OH OH:-1",
    },
    "W": {"": "CA-CB CB-CG CG=CD1 CD1-NE1 NE1-CE2 CE2-CD2 CD2-CG CE2=CZ2 CZ2-CH2 CH2=CZ3 CZ3-CE3 CE3=CD2"},
}
"""Bonds and formal charges, names as in PDB files, by letter and state; where there are several, the state that
`amons_of_sequence` takes first. Charged resonance forms are states; "SS" is half a disulfide. The six-ring of
tryptophan is drawn with CD2=CE3; `every_kekule` adds the drawing with CD2=CE2. Those of Phe and Tyr are mirror
images."""

N_TERMINI = {"NH3+": "N:+1", "NH2": "", "ACE": "N-Cac Cac=Oac Cac-Cme"}
C_TERMINI = {"COO-": "C-OXT OXT:-1", "COOH": "C-OXT", "NME": "C-Nme Nme-Cnm", "NH2": "C-Nam"}
"""By what stands there: charged and neutral ends, acetyl, methylamide, amide."""

PARTNERS = {
    "SS": "SG-S' S'-CB' CB'-CA' CA'-N' CA'-C' C'=O'",
    "SS NH3+": "SG-S' S'-CB' CB'-CA' CA'-N' CA'-C' C'=O' N':+1",
}
"""The other half of a disulfide, in the middle of its chain or at the beginning."""

_ELEMENTS = {"C": 6, "N": 7, "O": 8, "S": 16}
_VALENCES = {"C": 4, "N": 3, "O": 2, "S": 2}

Residue = tuple[str, str]


@dataclass(frozen=True)
class Peptide:
    """A chain of residues, each a letter and a state of `SIDE_CHAINS`, with its ends and bridges between residues."""

    residues: tuple[Residue, ...]
    n_terminus: str
    c_terminus: str
    disulfides: tuple[tuple[int, int], ...] = ()


def protein_amons(
    max_heavy: int, *, every_kekule: bool = False, complete: bool = False, progress: Progress | None = None
) -> tuple[Amon, ...]:
    """The amons of all proteins of the twenty amino acids: 2,331 of up to eight heavy atoms.

    Taken are side chains in the states of `SIDE_CHAINS`, chains that begin with NH2, NH3+ or acetyl and end with
    COOH, COO- or methylamide, single amino acids and dipeptides with all ends, and disulfides to the middle of a
    chain. Charges from -2 to 2, all closed-shell. Unke & Meuwly (2019) count 2,307; they do not list their states.

    Args:
        max_heavy: atoms other than hydrogen, 1 to `LARGEST`.
        every_kekule: take tryptophan in both its Kekulé structures: 69 more; see `bottom_up`.
        complete: add what the 2,331 lack of proteins in these states, three pieces of eight atoms: of chains that
            begin with NH3+ and have proline second, of disulfides between two such beginnings, and the ring that a
            disulfide between neighbours closes.
        progress: called with (peptides done, all).

    Returns:
        Ordered by size, then SMILES; counts are over the peptides of `peptides`.

    Raises:
        InputError: max_heavy outside its range.
        MissingExtraError: RDKit is not installed.
    """
    check_size(max_heavy)
    if max_heavy > LARGEST:
        raise InputError(
            f"the amons of all proteins are known up to {LARGEST} heavy atoms, not {max_heavy}: larger pieces touch "
            "three side chains; take those of a sequence instead"
        )
    counts: Counter[tuple[str, int, int]] = Counter()
    everything = list(peptides(max_heavy, complete))
    for done, (peptide, seeds) in enumerate(everything, 1):
        skeleton, places = build(peptide)
        starts: list[list[int] | None] = [[places[name] for name in seed] for seed in seeds] or [None]
        for start in starts:
            collect(pieces(skeleton, max_heavy, start, every_kekule=every_kekule), counts)
        if progress is not None:
            progress(done, len(everything))
    ordered = sorted(counts, key=lambda amon: (amon[1], amon[0]))
    return tuple(Amon(*amon, count=counts[amon]) for amon in ordered)


def peptides(max_heavy: int, complete: bool = False) -> Iterator[tuple[Peptide, list[tuple[str, ...]]]]:
    """Peptides that hold every piece of a protein, with the sets of atoms that pieces new in each grow from.

    Without such sets all pieces are new. What a side chain adds near an end of the chain holds its Cβ, or Cδ of
    proline; the rest is as with glycine, or inside the side chain. Pairs of residues add pieces that hold both. For
    `complete` see `protein_amons`.
    """
    glycine, alanine = ("G", ""), ("A", "")
    states = [(letter, state) for letter, known in SIDE_CHAINS.items() for state in known]
    ends = [(n, c) for n in ("NH2", "NH3+") for c in ("COOH", "COO-")]
    for residue in states:
        # all its pieces, those inside the side chain too
        yield Peptide((glycine, glycine, residue, glycine, glycine), "NH2", "COOH"), []
        yield _end(residue, n="ACE", c="NME", at=1)
        for n in ("NH2", "NH3+"):
            yield _end(residue, alanine, glycine, n=n, c="NME", at=1)
        for c in ("COOH", "COO-"):
            yield _end(glycine, glycine, residue, n="ACE", c=c, at=3)
        for n, c in ends:
            yield _end(residue, n=n, c=c, at=1)
            yield _end(glycine, residue, n=n, c=c, at=2)
            yield _end(residue, glycine, n=n, c=c, at=1)
    near = [residue for residue in _different(states, max_heavy - SHORTEST_BRIDGE) if residue != glycine]
    for first in near:
        for second in near:
            yield Peptide((glycine, first, second, glycine), "NH2", "COOH"), _bridges(first, second, 2)
            for n, c in ends:
                yield Peptide((first, second), n, c), _bridges(first, second, 1)
    if complete:
        yield Peptide((glycine, ("P", ""), glycine), "NH3+", "NME"), []
        yield Peptide((("C", "SS NH3+"),), "NH3+", "NME"), []
        yield Peptide((("C", ""), ("C", "")), "ACE", "NME", ((1, 2),)), []


def _end(*residues: Residue, n: str, c: str, at: int) -> tuple[Peptide, list[tuple[str, ...]]]:
    """A peptide with what is new where one of its residues, counted from 1, meets the ends."""
    letter = residues[at - 1][0]
    entries: list[tuple[str, ...]] = [] if letter == "G" else [(f"{at}.CB",)]
    return Peptide(residues, n, c), entries + [(f"{at}.CD",)] * (letter == "P")


def _different(states: Sequence[Residue], reach: int) -> list[Residue]:
    """Residues whose side chains differ within so many bonds of Cβ; proline, which is met from two sides, always."""
    found: dict[object, Residue] = {}
    for residue in states:
        skeleton, places = build(Peptide((residue,), "NH2", "COOH"))
        own = [places[f"1.{name}"] for name in ("N", "CA", "C", "O", "OXT")]
        atoms = [places["1.CB"]] if "1.CB" in places else []
        for _ in range(max(reach, 0)):
            atoms += sorted(
                {b for b in range(len(skeleton)) for a in atoms if skeleton.adjacency[a] >> b & 1} - {*atoms, *own}
            )
        alike = (residue[0] == "P", skeleton.piece(tuple(sorted(atoms))))
        found.setdefault(alike, residue)
    return list(found.values())


def _bridges(first: Residue, second: Residue, number: int) -> list[tuple[str, ...]]:
    lefts = [("CB", "CA"), ("CD", "N", "CA")] if first[0] == "P" else [("CB", "CA")]
    rights = [("CA", "CB"), ("CD",)] if second[0] == "P" else [("CA", "CB")]
    return [
        (*(f"{number}.{a}" for a in (*left, "C")), *(f"{number + 1}.{a}" for a in ("N", *right)))
        for left in lefts
        for right in rights
    ]


def amons_of_sequence(
    sequence: str,
    max_heavy: int,
    *,
    n_terminus: str = "NH3+",
    c_terminus: str = "COO-",
    states: Mapping[int, str] | None = None,
    disulfides: Sequence[tuple[int, int]] = (),
    every_kekule: bool = False,
    progress: Progress | None = None,
) -> tuple[Amon, ...]:
    """The amons of one chain; arguments of `peptide_graph` and `bottom_up`."""
    graph = peptide_graph(sequence, n_terminus, c_terminus, states=states, disulfides=disulfides)
    return bottom_up(graph, max_heavy, every_kekule=every_kekule, progress=progress)


def peptide_graph(
    sequence: str,
    n_terminus: str = "NH3+",
    c_terminus: str = "COO-",
    *,
    states: Mapping[int, str] | None = None,
    disulfides: Sequence[tuple[int, int]] = (),
) -> ChemicalGraph:
    """A chain with all hydrogens, these last. Without states: Asp, Glu, Lys and Arg charged, His on Nε.

    Args:
        sequence: one letter a residue.
        n_terminus: of `N_TERMINI`.
        c_terminus: of `C_TERMINI`.
        states: of `SIDE_CHAINS`, by residue number, from 1.
        disulfides: pairs of residue numbers.

    Raises:
        InputError: a letter, end, state or residue number that does not exist; a disulfide without two cysteines.
    """
    letters = sequence.strip().upper()
    if not letters:
        raise InputError("an empty sequence: write one letter for each residue, for example AAA")
    chosen = dict(states or {})
    for number, letter in enumerate(letters, 1):
        if letter not in SIDE_CHAINS:
            raise InputError(f"residue {number} is {letter!r}, none of the twenty amino acids {''.join(SIDE_CHAINS)}")
        state = chosen.setdefault(number, next(iter(SIDE_CHAINS[letter])))
        known = [name for name in SIDE_CHAINS[letter] if name != "SS"]
        if state not in known:
            raise InputError(f"residue {number} ({letter}) has no state {state!r}, only {known}")
    strangers = sorted(set(chosen) - set(range(1, len(letters) + 1)))
    if strangers:
        raise InputError(f"states are given for residue {strangers[0]}, but residues count from 1 to {len(letters)}")
    for end, ends in ((n_terminus, N_TERMINI), (c_terminus, C_TERMINI)):
        if end not in ends:
            raise InputError(f"no end of a chain is called {end!r}: take one of {list(ends)}{suggestion(end, ends)}")
    bridged = [number for pair in disulfides for number in pair]
    for number in bridged:
        whether = 1 <= number <= len(letters) and letters[number - 1] == "C" and chosen[number] == ""
        if not whether or bridged.count(number) > 1:
            raise InputError(f"residue {number} cannot be in a disulfide: pair neutral cysteines, each once")
    residues = tuple((letter, chosen[number]) for number, letter in enumerate(letters, 1))
    skeleton, _ = build(Peptide(residues, n_terminus, c_terminus, tuple(disulfides)))
    return saturated(skeleton)


def build(peptide: Peptide) -> tuple[Skeleton, dict[str, int]]:
    """The heavy atoms of a peptide, and their indices by residue number (from 1) and name: ``"1.CA"``."""
    places: dict[str, int] = {}
    charges: dict[int, int] = {}
    bonds: list[tuple[int, int, int]] = []

    def place(name: str) -> int:
        return places.setdefault(name, len(places))

    last = len(peptide.residues)
    for number, (letter, state) in enumerate(peptide.residues, 1):
        words = ["N-CA CA-C C=O", SIDE_CHAINS[letter][state.removesuffix(" NH3+")]]
        words.append(PARTNERS.get(state, ""))
        words += [N_TERMINI[peptide.n_terminus]] * (number == 1) + [C_TERMINI[peptide.c_terminus]] * (number == last)
        if number > 1:
            bonds.append((place(f"{number - 1}.C"), place(f"{number}.N"), 1))
        for word in " ".join(words).split():
            name, mark, other = _parsed(word)
            if mark == ":":
                charges[place(f"{number}.{name}")] = int(other)
            else:
                bonds.append((place(f"{number}.{name}"), place(f"{number}.{other}"), 1 + (mark == "=")))
    for first, second in peptide.disulfides:
        bonds.append((places[f"{first}.SG"], places[f"{second}.SG"], 1))
    symbols = [name.split(".")[1][0] for name in places]
    skeleton = Skeleton(
        elements=tuple(_ELEMENTS[symbol] for symbol in symbols),
        charges=tuple(charges.get(k, 0) for k in range(len(symbols))),
        # N⁺ binds four times, O⁻ and S⁻ once
        valences=tuple(_VALENCES[symbol] + charges.get(k, 0) for k, symbol in enumerate(symbols)),
        bonds=tuple(sorted((min(i, j), max(i, j), order) for i, j, order in bonds)),
    )
    return skeleton, places


def _parsed(word: str) -> tuple[str, str, str]:
    mark = next(c for c in word if c in ":-=")
    name, other = word.split(mark, 1)
    return name, mark, other


def saturated(skeleton: Skeleton) -> ChemicalGraph:
    """With its hydrogens as atoms, after the heavy ones."""
    owners = [k for k, count in enumerate(skeleton.hydrogens) for _ in range(count)]
    first = len(skeleton)
    rows = [*skeleton.bonds, *((owner, first + k, 1) for k, owner in enumerate(owners))]
    return graph_from_rows([*skeleton.elements, *[1] * len(owners)], [*skeleton.charges, *[0] * len(owners)], rows)
