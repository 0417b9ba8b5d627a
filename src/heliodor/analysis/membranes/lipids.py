"""Which molecules are lipids, and the carbons of their tails: by the bonds, as names differ between force fields.

A tail begins at an ester carbon, its number 1, and is numbered along the chain as chemists do. Esters on the glycerol
carbon with one carbon neighbour are sn-1, on the one with two sn-2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from heliodor.topology import Topology
from heliodor.trajectory.selection import is_ion, is_lipid, is_water
from heliodor.trajectory.trajectory import Trajectory

LEAST = 8
"""Lipids that make a bilayer worth the name."""

MANY_CARBONS = 20
"""Of a molecule with one or two phosphorus atoms that is taken for a lipid whatever its name."""

MEASURED = (295.0, 315.0)
"""K, within which measurements at 300 and 303 K are shown."""

SHORTEST = 6
"""Carbons of a chain that counts as a tail."""


@dataclass(frozen=True, eq=False)
class Tails:
    """C-H bonds of the carbons of one tail (sn-1 or sn-2) in all L lipids of one kind.

    Attributes:
        name: "sn-1", "sn-2".
        length: number of its carbons, the ester's included.
        number: of the carbon within the tail, of each of the bonds of one lipid, ascending.
        carbon, hydrogen: atoms of each bond.
        double: numbers n of carbons that are doubly bonded to carbon n+1, as far as hydrogens tell.
        last: atoms at the tails' ends.
    """

    name: str
    length: int
    number: Int[np.ndarray, "B"]
    carbon: Int[np.ndarray, "L B"]
    hydrogen: Int[np.ndarray, "L B"]
    double: tuple[int, ...]
    last: Int[np.ndarray, "L"]


@dataclass(frozen=True, eq=False)
class Kind:
    """All L lipids with the same atoms and bonds in the same order.

    Attributes:
        name: residue name, or the formula.
        molecules: their indices.
        phosphorus: one of each lipid.
        tails: sn-1 and sn-2, as far as there are such.
        palmitoyl_oleoyl_choline: whether it is POPC.
    """

    name: str
    molecules: Int[np.ndarray, "L"]
    phosphorus: Int[np.ndarray, "L"]
    tails: tuple[Tails, ...]
    palmitoyl_oleoyl_choline: bool


def phospholipids(topology: Topology) -> Int[np.ndarray, "L"]:
    """Molecules with one or two phosphorus atoms that bear the name of a lipid or have 20 carbons and more."""
    molecules = topology.molecules
    count = int(molecules.max()) + 1
    phosphorus = np.bincount(molecules, weights=topology.numbers == 15, minlength=count)
    carbon = np.bincount(molecules, weights=topology.numbers == 6, minlength=count)
    named = np.bincount(molecules, weights=is_lipid(topology), minlength=count) > 0
    return np.flatnonzero((phosphorus >= 1) & (phosphorus <= 2) & (named | (carbon >= MANY_CARBONS)))


def unfit(trajectory: Trajectory) -> str | None:
    """Why it is no bilayer."""
    found = len(phospholipids(trajectory.topology))
    if found < LEAST:
        return f"it holds {found} phospholipid(s): no bilayer"
    return None if trajectory.periodic else "it is not periodic, which a bilayer is"


def unlike_measured(trajectory: Trajectory) -> str | None:
    """Why it cannot be held against measurements of POPC near 300 K; None if it can.

    POPC, water and ions alone, all of it in the file, at 295 to 315 K if the file says its temperature.
    """
    topology = trajectory.topology
    popc = [kind.molecules for kind in kinds_of(topology) if kind.palmitoyl_oleoyl_choline]
    if not popc:
        return "it holds no POPC"
    usual = np.isin(topology.molecules, np.concatenate(popc)) | is_water(topology) | is_ion(topology)
    if not usual.all():
        return "it holds other molecules than POPC, water and ions"
    if trajectory.partial:
        return "the file holds a part of the atoms, and what else was there is not known"
    low, high = MEASURED
    warm = trajectory.temperature
    if warm is not None and not low <= warm <= high:
        return f"it was run at {warm:.0f} K, and measurements are of 300 and 303 K"
    return None


def comparison_note(trajectory: Trajectory) -> list[str]:
    """A sentence about why a bilayer with POPC is not held against measurements, if it is not."""
    reason = unlike_measured(trajectory)
    held = any(kind.palmitoyl_oleoyl_choline for kind in kinds_of(trajectory.topology))
    return [f"Not held against measurements of POPC: {reason}."] if held and reason is not None else []


def kinds_of(topology: Topology) -> tuple[Kind, ...]:
    """The kinds of phospholipids, in order of their first molecules."""
    found = phospholipids(topology)
    molecules = topology.molecules
    order = np.argsort(molecules, kind="stable")
    ends = np.cumsum(np.bincount(molecules))
    bond_of = molecules[topology.bonds[:, 0]] if len(topology.bonds) else np.zeros(0, dtype=np.int64)
    bond_order = np.argsort(bond_of, kind="stable")
    bond_ends = np.cumsum(np.bincount(bond_of, minlength=len(ends)))
    groups: dict[tuple[bytes, bytes], list[tuple[int, np.ndarray]]] = {}
    for molecule in found.tolist():
        atoms = order[ends[molecule - 1] if molecule else 0 : ends[molecule]]
        rows = bond_order[bond_ends[molecule - 1] if molecule else 0 : bond_ends[molecule]]
        bonds = np.searchsorted(atoms, topology.bonds[rows])
        key = (topology.numbers[atoms].tobytes(), np.sort(bonds[:, 0] * len(atoms) + bonds[:, 1]).tobytes())
        groups.setdefault(key, []).append((molecule, atoms))
    return tuple(_kind(topology, members) for members in groups.values())


def _kind(topology: Topology, members: list[tuple[int, np.ndarray]]) -> Kind:
    atoms = np.stack([atoms for _, atoms in members])
    one = topology.take(atoms[0])
    partners: list[list[int]] = [[] for _ in range(len(one))]
    for i, j in one.bonds.tolist():
        partners[i].append(j)
        partners[j].append(i)
    tails = []
    for name, chain in _chains(one.numbers, partners):
        bonds = [(number, c, h) for number, cs in chain for c in cs for h in partners[c] if one.numbers[h] == 1]
        hydrogens = {number: sum(b[0] == number for b in bonds) for number, _ in chain}
        double = [n for n, _ in chain if n > 1 and hydrogens.get(n) == 1 and hydrogens.get(n + 1) == 1]
        places = np.array(bonds, dtype=np.int64).reshape(-1, 3)
        tails.append(
            Tails(
                name=name,
                length=chain[-1][0],
                number=places[:, 0],
                carbon=atoms[:, places[:, 1]],
                hydrogen=atoms[:, places[:, 2]],
                double=tuple(double),
                last=atoms[:, chain[-1][1][0]],
            )
        )
    shapes = {(tail.name, tail.length, tail.double) for tail in tails}
    choline = any(one.numbers[k] == 7 and sum(one.numbers[p] == 6 for p in partners[k]) == 4 for k in range(len(one)))
    return Kind(
        name=_name(one),
        molecules=np.array([molecule for molecule, _ in members]),
        phosphorus=atoms[:, int(np.flatnonzero(one.numbers == 15)[0])],
        tails=tuple(tails),
        palmitoyl_oleoyl_choline=choline and shapes == {("sn-1", 16, ()), ("sn-2", 18, (9,))},
    )


def _name(one: Topology) -> str:
    names = list(dict.fromkeys(one.residue_names.tolist()))
    if one.named:
        return "/".join(names)
    from ase.formula import Formula

    return str(Formula.from_list(one.symbols.tolist()).format("hill"))


def _chains(numbers: np.ndarray, partners: list[list[int]]) -> list[tuple[str, list[tuple[int, list[int]]]]]:
    """Name, and (number, carbons) from the ester carbon along the chain, of each tail; sn-1 first."""
    found = []
    for k in np.flatnonzero(numbers == 6).tolist():
        oxygens = [p for p in partners[k] if numbers[p] == 8]
        bridges = [(o, c) for o in oxygens for c in partners[o] if c != k and numbers[c] == 6 and len(partners[o]) == 2]
        if len(oxygens) != 2 or len(bridges) != 1:
            continue
        glycerol = bridges[0][1]
        chain, seen, level = [(1, [k])], {k}, [k]
        while True:
            level = sorted({p for c in level for p in partners[c] if numbers[p] == 6} - seen)
            if not level:
                break
            seen.update(level)
            chain.append((len(chain) + 1, level))
        if len(chain) >= SHORTEST:
            neighbours = sum(numbers[p] == 6 for p in partners[glycerol])
            found.append(("sn-2" if neighbours > 1 else "sn-1", chain))
    return sorted(found, key=lambda item: item[0])
