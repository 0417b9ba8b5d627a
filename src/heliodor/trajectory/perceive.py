"""Names for atoms that came without: waters, and peptides of the standard amino acids, recognised by their bonds.

Elements and bonds decide, not positions: which of two equivalent atoms is called CD1 and which CD2 (also in leucine
and valine, where they differ by chirality) follows their order in the file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import numpy as np

from heliodor.topology import NO_RESIDUE, Topology, renamed
from heliodor.trajectory.amino_acids import match

H, C, N, O, S = 1, 6, 7, 8, 16  # noqa: E741


@dataclass(frozen=True)
class _Unit:
    """The backbone of one amino acid."""

    n: int
    ca: int
    c: int
    o: int


class _Names:
    """Names that are being given."""

    def __init__(self, topology: Topology) -> None:
        n = len(topology)
        symbols = topology.symbols.tolist()
        self.names = [f"{symbol}{k + 1}" for k, symbol in enumerate(symbols)]
        self.residue_names = [NO_RESIDUE] * n
        self.residue_numbers = [1] * n
        self.chains = [""] * n
        self.done = [False] * n

    def give(self, atom: int, name: str, residue: str, number: int, chain: str) -> None:
        self.names[atom], self.residue_names[atom] = name, residue
        self.residue_numbers[atom], self.chains[atom] = number, chain
        self.done[atom] = True


def recognised(topology: Topology) -> Topology | None:
    """The topology with PDB names, or None where nothing was recognised.

    Peptides of the twenty amino acids, open or cyclic, with free ends or ACE, FOR, NME, NH2; protonation by Amber's
    residue names (ASH GLH HID HIE HIP LYN CYM, CYX in disulfides). Amino acids are counted from 1 in each chain, a cap
    in front of them is 0. Waters are HOH (O, H1, H2); molecules with anything else in them keep `NO_RESIDUE`, each
    with a number of its own. A peptide is named as far as its amino acids are standard ones; others in it stay
    unnamed residues and break the chain.
    """
    numbers = topology.numbers.tolist()
    partners: list[list[int]] = [[] for _ in numbers]
    for i, j in topology.bonds.tolist():
        partners[i].append(j)
        partners[j].append(i)
    given = _Names(topology)
    letters = (_letters(k) for k in count())
    for chain in _chains(_units(numbers, partners), partners):
        _name_chain(given, chain, numbers, partners, next(letters))
    found = any(given.done)
    rest = next(letters)
    found |= _name_rest(given, topology, numbers, partners, rest)
    if not found:
        return None
    return renamed(
        topology,
        names=np.array(given.names),
        residue_names=np.array(given.residue_names),
        residue_numbers=np.array(given.residue_numbers),
        chains=np.array(given.chains),
    )


def _units(numbers: list[int], partners: list[list[int]]) -> dict[int, _Unit]:
    """Backbones N-CA-C=O by their nitrogen; CA has four bonds, C three (or no OXT), one to an oxygen alone."""
    found: dict[int, list[_Unit]] = {}
    for c in range(len(numbers)):
        if numbers[c] != C or len(partners[c]) not in (2, 3):
            continue
        oxygens = [k for k in partners[c] if numbers[k] == O and len(partners[k]) == 1]
        alphas = [k for k in partners[c] if numbers[k] == C and len(partners[k]) == 4]
        ends = [k for k in partners[c] if numbers[k] in (N, O) and k not in oxygens[:1]]
        # a last residue without OXT is common in deposited structures
        if not oxygens or len(alphas) != 1 or len(ends) != len(partners[c]) - 2:
            continue
        nitrogens = [k for k in partners[alphas[0]] if numbers[k] == N]
        if len(nitrogens) == 1:
            found.setdefault(nitrogens[0], []).append(_Unit(nitrogens[0], alphas[0], c, oxygens[0]))
    return {n: units[0] for n, units in found.items() if len(units) == 1}


def _chains(units: dict[int, _Unit], partners: list[list[int]]) -> list[list[_Unit]]:
    """Units that are bonded C to N, from the first to the last, in the order of their first atoms."""
    follower = {n: next((k for k in partners[u.c] if k in units and k != n), None) for n, u in units.items()}
    followed = {k for k in follower.values() if k is not None}
    starts = [n for n in units if n not in followed]
    chains, seen = [], set()
    # what is left after the open chains are rings
    for start in [*starts, *sorted(units)]:
        chain, at = [], start if start not in seen else None
        while at is not None and at not in seen:
            seen.add(at)
            chain.append(units[at])
            at = follower[at]
        if chain:
            chains.append(chain)
    return sorted(chains, key=lambda chain: chain[0].n)


def _name_chain(given: _Names, chain: list[_Unit], numbers: list[int], partners: list[list[int]], letter: str) -> None:
    named = 0
    for k, unit in enumerate(chain):
        named += _name_unit(given, unit, k + 1, numbers, partners, letter)
    if not named:
        return
    first, last = chain[0], chain[-1]
    before = [k for k in partners[first.n] if numbers[k] == C and k != first.ca and not given.done[k]]
    for c in before:
        _name_front(given, c, first.n, numbers, partners, letter)
    after = [k for k in partners[last.c] if k not in (last.ca, last.o) and not given.done[k]]
    for k in after:
        if numbers[k] == N:
            _name_back(given, k, last.c, len(chain) + 1, numbers, partners, letter)


def _name_unit(
    given: _Names, unit: _Unit, number: int, numbers: list[int], partners: list[list[int]], letter: str
) -> bool:
    """Whether the residue is a standard one; if not, nothing is named."""
    side = [k for k in partners[unit.ca] if k not in (unit.n, unit.c) and numbers[k] != H]
    if len(side) > 1:
        return False
    heavy = _side_chain(unit, side, numbers, partners)
    inner = {a: [b for b in partners[a] if b in heavy] for a in heavy}
    matched = match({a: numbers[a] for a in heavy}, inner, side[0] if side else None)
    if matched is None:
        return False
    residue, atoms = matched[0].residue, matched[1]
    places = {a: name for name, a in atoms.items()}
    hydrogens = {name: [k for k in partners[a] if numbers[k] == H] for name, a in atoms.items()}
    outer = [(name, k) for name, a in atoms.items() for k in partners[a] if numbers[k] != H and k not in heavy]
    bridged = False
    for name, k in outer:
        to_backbone = (name == "CB" and k == unit.ca) or (name == "CD" and residue == "PRO" and k == unit.n)
        bridged |= name == "SG" and numbers[k] == S
        if not to_backbone and not (name == "SG" and numbers[k] == S):
            return False
    if (residue == "PRO") != any(k == unit.n for _, k in outer):
        return False
    residue = _protonation(residue, {name: len(found) for name, found in hydrogens.items()}, bridged)
    _untangle(places, hydrogens)

    def give(atom: int, name: str) -> None:
        given.give(atom, name, residue, number, letter)

    for name, atom in (("N", unit.n), ("CA", unit.ca), ("C", unit.c), ("O", unit.o)):
        give(atom, name)
        if name in ("N", "CA"):
            _name_hydrogens(give, name, [k for k in partners[atom] if numbers[k] == H])
    for atom, name in places.items():
        give(atom, name)
        _name_hydrogens(give, name, hydrogens[name])
    for atom in partners[unit.c]:
        if numbers[atom] == O and atom != unit.o and all(k == unit.c or numbers[k] == H for k in partners[atom]):
            give(atom, "OXT")
            for k in partners[atom]:
                if numbers[k] == H:
                    give(k, "HXT")
    return True


def _side_chain(unit: _Unit, start: list[int], numbers: list[int], partners: list[list[int]]) -> set[int]:
    """Heavy atoms reached from CB, not through the backbone nor across a disulfide; at most a few too many."""
    found, rest = set(start), list(start)
    while rest and len(found) < 14:
        atom = rest.pop()
        for k in partners[atom]:
            across = numbers[atom] == S and numbers[k] == S
            if numbers[k] != H and k not in (unit.n, unit.ca, unit.c) and k not in found and not across:
                found.add(k)
                rest.append(k)
    return found


def _protonation(residue: str, hydrogens: dict[str, int], bridged: bool) -> str:
    """Amber's name of the form of a residue, by where its hydrogens are; without any, the standard name."""
    if not sum(hydrogens.values()):
        return "CYX" if bridged else residue
    if residue == "ASP" and hydrogens["OD1"] + hydrogens["OD2"]:
        return "ASH"
    if residue == "GLU" and hydrogens["OE1"] + hydrogens["OE2"]:
        return "GLH"
    if residue == "LYS" and hydrogens["NZ"] == 2:
        return "LYN"
    if residue == "CYS" and not hydrogens["SG"]:
        return "CYX" if bridged else "CYM"
    if residue == "HIS":
        forms = {(1, 0): "HID", (0, 1): "HIE", (1, 1): "HIP"}
        return forms.get((hydrogens["ND1"], hydrogens["NE2"]), residue)
    return residue


def _untangle(places: dict[int, str], hydrogens: dict[str, list[int]]) -> None:
    """Of an acid's two oxygens the second carries the proton."""
    for first, second in (("OD1", "OD2"), ("OE1", "OE2")):
        if first in hydrogens and second in hydrogens and hydrogens[first] and not hydrogens[second]:
            swap = {first: second, second: first}
            for atom, name in places.items():
                places[atom] = swap.get(name, name)
            hydrogens[first], hydrogens[second] = hydrogens[second], hydrogens[first]


def _name_hydrogens(give: Callable[[int, str], None], heavy: str, hydrogens: list[int]) -> None:
    """H, HA, HA2 and HA3, HB1 to HB3, HD21 and HD22: after the atom that carries them."""
    stem = "H" + heavy[1:]
    # CH2 counts 2, 3 and NH2 counts 1, 2
    first = 2 if len(hydrogens) == 2 and heavy[0] == "C" else 1
    for k, atom in enumerate(hydrogens):
        give(atom, stem if len(hydrogens) == 1 else f"{stem}{first + k}")


def _name_front(given: _Names, c: int, n: int, numbers: list[int], partners: list[list[int]], letter: str) -> None:
    """ACE (CH3-CO-) or FOR (H-CO-) before the first nitrogen."""
    others = [k for k in partners[c] if k != n]
    oxygens = [k for k in others if numbers[k] == O and len(partners[k]) == 1]
    rest = [k for k in others if k not in oxygens]
    if len(oxygens) != 1 or len(rest) != 1:
        return
    methyl = _methyl(rest[0], c, numbers, partners)
    if numbers[rest[0]] == H:
        atoms = {rest[0]: "H"}
    elif methyl is not None:
        atoms = {rest[0]: "CH3", **methyl}
    else:
        return
    for atom, name in {**atoms, c: "C", oxygens[0]: "O"}.items():
        given.give(atom, name, "FOR" if numbers[rest[0]] == H else "ACE", 0, letter)


def _name_back(
    given: _Names, n: int, c: int, number: int, numbers: list[int], partners: list[list[int]], letter: str
) -> None:
    """NME (-NH-CH3) or NH2 after the last carbonyl."""
    others = [k for k in partners[n] if k != c]
    hydrogens = [k for k in others if numbers[k] == H]
    carbons = [k for k in others if numbers[k] == C]
    if len(others) != 2 or len(hydrogens) + len(carbons) != 2:
        return
    if not carbons:
        atoms, residue = {hydrogens[0]: "HN1", hydrogens[1]: "HN2"}, "NH2"
    else:
        methyl = _methyl(carbons[0], n, numbers, partners)
        if methyl is None or len(hydrogens) != 1:
            return
        atoms, residue = {hydrogens[0]: "H", carbons[0]: "C", **methyl}, "NME"
    for atom, name in {n: "N", **atoms}.items():
        given.give(atom, name, residue, number, letter)


def _methyl(carbon: int, bonded_to: int, numbers: list[int], partners: list[list[int]]) -> dict[int, str] | None:
    hydrogens = [k for k in partners[carbon] if k != bonded_to]
    if numbers[carbon] != C or len(hydrogens) != 3 or any(numbers[k] != H for k in hydrogens):
        return None
    return {atom: f"H{k + 1}" for k, atom in enumerate(hydrogens)}


def _name_rest(given: _Names, topology: Topology, numbers: list[int], partners: list[list[int]], letter: str) -> bool:
    """Waters, and numbers for all other molecules; whether there are waters."""
    waters, number = False, 0
    molecule_number: dict[int, int] = {}
    molecules = topology.molecules.tolist()
    for atom, done in enumerate(given.done):
        if done:
            continue
        molecule = molecules[atom]
        if molecule not in molecule_number:
            number += 1
            molecule_number[molecule] = number
        pair = partners[atom]
        water = numbers[atom] == O and len(pair) == 2
        if water and all(numbers[k] == H and len(partners[k]) == 1 for k in pair):
            waters = True
            for name, k in (("O", atom), ("H1", min(pair)), ("H2", max(pair))):
                given.give(k, name, "HOH", molecule_number[molecule], letter)
        else:
            given.residue_numbers[atom], given.chains[atom] = molecule_number[molecule], letter
    return waters


def _letters(k: int) -> str:
    """A, B ... Z, AA, AB ..."""
    return (_letters(k // 26 - 1) if k >= 26 else "") + chr(ord("A") + k % 26)
