"""Top-down fragments: spheres cut out of a structure, closed with hydrogens.

The rules are those of GEMS (Unke et al., Sci. Adv. 10, eadn4397, 2024): everything within a radius of an atom; dangling
single bonds on heavy atoms are closed with hydrogen, and where a multiple bond or one of hydrogen would be cut the atom
beyond it joins; repeated until nothing changes. Three are added, without which most fragments have two caps on one
spot or a cut aromatic ring: see `heliodor.fragments.cutting` and `ChemicalGraph.whole`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ase
import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Bool, Float, Int

from heliodor.errors import InputError
from heliodor.fragments.cutting import Rules, caps, cut_bonds, grown, refuse_small, rules_of
from heliodor.fragments.graph import ChemicalGraph
from heliodor.fragments.graph_of import shortest
from heliodor.topology import topology_of

SHELL = 3.0
"""Å beyond the radius that a periodic box must have room for: most of what joins lies within it."""

APART = 1.3
"""Å; a cap closer than this to another, or to an atom it is not bonded to, is not placed: the real atom joins."""

CLOSED_SHELLS = frozenset((2, 10, 18, 28, 36, 46, 54, 68, 78, 80, 86))
"""Electrons of single ions whose ground state has all of them paired."""


@dataclass(frozen=True, eq=False)
class Fragment:
    """A piece of a structure that quantum chemistry can be done on.

    Attributes:
        atoms: Å, without cell, in one piece about the centre, which stays where it is; hydrogens that stand for cut
            bonds come last. ``info``: charge, spin (0), kind ("top-down"), group, centre. The array ``parent`` repeats
            ``parents``.
        parents: index in the whole structure of each atom; of a cap, that of the atom it stands for.
        caps: which atoms are caps.
        hosts: places in the fragment of the atoms that carry the caps, in the order of the caps.
        centre: index in the whole structure.
        charge: sum of formal charges, e.
        dropped: indices of ions that were left out to keep the charge small.
    """

    atoms: ase.Atoms
    parents: Int[np.ndarray, "n"]
    caps: Bool[np.ndarray, "n"]
    hosts: Int[np.ndarray, "c"]
    centre: int
    charge: int
    dropped: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.parents)

    @property
    def electrons(self) -> int:
        return int(self.atoms.numbers.sum()) - self.charge


def top_down(
    atoms: ase.Atoms,
    graph: ChemicalGraph,
    centres: Sequence[int] | Int[np.ndarray, "c"] | str = "solute and heavy",
    radius: float = 8.0,
    *,
    count: int | None = None,
    seed: int = 0,
    water: bool = True,
    largest_charge: int | None = None,
    distinct: bool = True,
    group: str | None = None,
    refused: list[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Fragment]:
    """Cut a sphere around each of some atoms.

    Args:
        atoms: Å; in a periodic box molecules may be broken across its faces.
        graph: of the same atoms, `graph_of(atoms)`; of a trajectory, that of its first frame.
        centres: indices, or words as in `heliodor.trajectory.selection.select`; by default all heavy atoms that are
            neither water nor ions.
        radius: Å.
        count: so many of the centres, drawn at random.
        seed: of the draw.
        water: whether water molecules are kept; without, only solute and ions are.
        largest_charge: e, without sign: in fragments with more, single ions are left out, the farthest first; those
            that still have more are refused.
        distinct: leave out fragments of the very same atoms as one before.
        group: for ``info["group"]``; default: that of ``atoms``, else "top-down".
        refused: why fragments were refused is appended here; without it the first refusal is an error.
        progress: called with the number of centres done and of all.

    Returns:
        Fragments in the order of the centres.

    Raises:
        InputError: a graph of other atoms; a radius that is no length, or too large for the box; centres that are not
            there; a fragment that cannot be closed (odd number of electrons, metals with unpaired electrons, elements
            without a cap, too much charge) where ``refused`` is None.
    """
    if len(graph) != len(atoms) or (graph.numbers != atoms.numbers).any():
        raise InputError("the chemical graph is of other atoms than the structure: make it of this one, in this order")
    if not 0.0 < radius < float("inf"):
        raise InputError(f"the radius must be a length above zero, not {radius:g}")
    if not np.isfinite(atoms.positions).all():
        raise InputError("some positions are not finite: nothing can be cut out of this structure")
    refuse_small(atoms, radius, SHELL)
    chosen = _centres(atoms, graph, centres, count, seed)
    rules = rules_of(atoms, graph, water=water)
    name = str(atoms.info.get("group", "top-down")) if group is None else group
    found: list[Fragment] = []
    seen: set[bytes] = set()
    for done, centre in enumerate(chosen.tolist()):
        try:
            fragment = _cut(atoms, graph, rules, centre, radius, water, largest_charge, name)
        except InputError as error:
            if refused is None:
                raise
            refused.append(str(error))
        else:
            key = np.sort(fragment.parents[~fragment.caps]).tobytes()
            if not (distinct and key in seen):
                found.append(fragment)
            seen.add(key)
        if progress is not None:
            progress(done + 1, len(chosen))
    return found


def _centres(
    atoms: ase.Atoms,
    graph: ChemicalGraph,
    centres: Sequence[int] | Int[np.ndarray, "c"] | str,
    count: int | None,
    seed: int,
) -> Int[np.ndarray, "k"]:
    if isinstance(centres, str):
        from heliodor.trajectory.selection import select

        chosen = select(topology_of(atoms, graph.bonds), centres)
    else:
        chosen = np.asarray(centres, dtype=np.int64).reshape(-1)
        if len(chosen) and (chosen.min() < 0 or chosen.max() >= len(atoms)):
            raise InputError(f"centres are indices from 0 to {len(atoms) - 1}")
    if count is None or count >= len(chosen):
        return chosen
    if count < 1:
        raise InputError(f"at least one centre must be drawn, not {count}")
    return np.sort(np.random.default_rng(seed).choice(chosen, count, replace=False))


def _cut(
    atoms: ase.Atoms,
    graph: ChemicalGraph,
    rules: Rules,
    centre: int,
    radius: float,
    water: bool,
    largest_charge: int | None,
    group: str,
) -> Fragment:
    """One fragment."""
    arms = shortest(atoms.positions - atoms.positions[centre], atoms)
    inside = (arms**2).sum(1) < radius**2
    if not water:
        inside &= ~rules.water
        inside[centre] = True
    label = f"the fragment around {chemical_symbols[graph.numbers[centre]]} {centre}"
    places = atoms.positions[centre] + arms
    while True:
        inside = grown(rules, inside)
        members = np.flatnonzero(inside)
        hosts, gone = cut_bonds(rules, inside)
        _refuse_wrapped(atoms, rules, inside, hosts, gone, places, label)
        hydrogens = caps(graph.numbers[hosts], places[hosts], places[gone])
        crowded = _crowded(hydrogens, hosts, places[members], members)
        if not crowded.any():
            break
        inside[gone[crowded]] = True
    members, dropped = _discharged(graph, members, places, centre, largest_charge, label)
    numbers = np.concatenate([graph.numbers[members], np.ones(len(hosts), dtype=np.int64)])
    charge = int(graph.charges[members].sum())
    _refuse_open(graph, members, int(numbers.sum()) - charge, label)
    parents = np.concatenate([members, gone])
    made = ase.Atoms(
        numbers=numbers,
        positions=np.concatenate([places[members], hydrogens]),
        info={"charge": charge, "spin": 0, "kind": "top-down", "group": group, "centre": centre},
    )
    made.set_array("parent", parents)
    return Fragment(
        atoms=made,
        parents=parents,
        caps=np.arange(len(parents)) >= len(members),
        hosts=np.searchsorted(members, hosts),
        centre=centre,
        charge=charge,
        dropped=dropped,
    )


def _crowded(
    hydrogens: Float[np.ndarray, "C 3"],
    hosts: Int[np.ndarray, "C"],
    places: Float[np.ndarray, "n 3"],
    members: Int[np.ndarray, "n"],
) -> Bool[np.ndarray, "C"]:
    """Caps that are too close to another cap, or to an atom other than their own."""
    among = np.linalg.norm(hydrogens[:, None] - hydrogens[None], axis=2)
    np.fill_diagonal(among, np.inf)
    others = np.linalg.norm(hydrogens[:, None] - places[None], axis=2)
    others[hosts[:, None] == members[None]] = np.inf
    found: np.ndarray = (among < APART).any(1) | (others < APART).any(1)
    return found


def _discharged(
    graph: ChemicalGraph,
    members: Int[np.ndarray, "n"],
    places: Float[np.ndarray, "N 3"],
    centre: int,
    largest: int | None,
    label: str,
) -> tuple[Int[np.ndarray, "m"], tuple[int, ...]]:
    """The atoms without the far ions that make the charge too large, and those ions."""
    charge = int(graph.charges[members].sum())
    if largest is None or abs(charge) <= largest:
        return members, ()
    dropped: list[int] = []
    ions = [k for k in members.tolist() if not graph.neighbors[k] and abs(graph.charges[k]) == 1 and k != centre]
    ions.sort(key=lambda k: -float(np.linalg.norm(places[k] - places[centre])))
    for ion in ions:
        if abs(charge) > largest and graph.charges[ion] * charge > 0:
            charge -= int(graph.charges[ion])
            dropped.append(ion)
    if abs(charge) > largest:
        raise InputError(f"{label} has a charge of {charge:+d} e, more than {largest} are allowed")
    return np.setdiff1d(members, dropped), tuple(dropped)


def _refuse_open(graph: ChemicalGraph, members: Int[np.ndarray, "n"], electrons: int, label: str) -> None:
    single = [k for k in members.tolist() if not graph.neighbors[k]]
    for k in single:
        if int(graph.numbers[k] - graph.charges[k]) not in CLOSED_SHELLS:
            raise InputError(
                f"{label} contains {chemical_symbols[graph.numbers[k]]}{int(graph.charges[k]):+d}, whose electrons are "
                "not all paired: fragments here are closed shells; choose centres farther from it"
            )
    if electrons % 2:
        raise InputError(
            f"{label} has {electrons} electrons, an odd number: a formal charge is wrong, or a hydrogen is missing"
        )


def _refuse_wrapped(
    atoms: ase.Atoms,
    rules: Rules,
    inside: Bool[np.ndarray, "N"],
    hosts: Int[np.ndarray, "C"],
    gone: Int[np.ndarray, "C"],
    places: Float[np.ndarray, "N 3"],
    label: str,
) -> None:
    """Refuse what reaches beyond half the box, where an atom's nearest image is not the one it is bonded to."""
    if not atoms.pbc.any():
        return
    kept = rules.bonds[inside[rules.bonds].all(1)]
    arms = np.concatenate([places[kept[:, 1]] - places[kept[:, 0]], places[gone] - places[hosts]])
    if len(arms) and np.abs(arms - shortest(arms, atoms)).max() > 1e-6:
        raise InputError(
            f"{label} reaches farther than half the box and would meet its own image: choose a smaller radius or a "
            "larger box"
        )
