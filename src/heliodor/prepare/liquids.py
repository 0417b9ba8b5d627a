"""Boxes of pure or mixed liquids at a density, and water around a molecule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np
from jaxtyping import Float

from heliodor.errors import InputError, suggestion
from heliodor.prepare.compounds import ALIASES, COMPOUNDS, SOURCE, Compound, known
from heliodor.prepare.molecules import centred, molecule, quiet, rdkit, renamed, with_spin
from heliodor.prepare.packing import Kind, occupied, pack
from heliodor.prepare.prepared import LETTERS, Prepared
from heliodor.prepare.solvate import Solvent, box_for, diameter
from heliodor.topology import NO_RESIDUE, Topology
from heliodor.units import GRAM_PER_CM3

DENSEST = 0.85
"""Part of a box that molecules may fill (van der Waals volumes): glycerol fills 0.71, water 0.64, hexane 0.51."""

IMAGES = 2.0
"""Å at least between a molecule and its periodic image."""

ABOUT = ("stereochemistry", "unpaired", "isotopes")
"""Words of the notes on a molecule that hold in a liquid of it too."""

LARGEST = 200_000
"""Atoms."""


@dataclass(frozen=True)
class Component:
    """One kind of molecule of a liquid.

    Attributes:
        word: as the user wrote it.
        smiles: its formula.
        residue: its residue name; None for one to be given.
        density: of the pure liquid, g/cm³ at 298 K; None where it is not known.
        amount: number of molecules, or a fraction.
    """

    word: str
    smiles: str
    residue: str | None
    density: float | None
    amount: float


def parse_component(text: str) -> Component:
    """Read ``"water:64"``, ``"CCO:0.2"``, or ``"ethanol"`` for one part.

    Raises:
        InputError: an amount that is no positive number; no known name and no SMILES.
    """
    # a colon also stands in SMILES, between the brackets of mapped atoms
    word, colon, tail = text.strip().rpartition(":")
    if not colon or "]" in tail:
        word, tail = text.strip(), "1"
    try:
        amount = float(tail)
    except ValueError:
        amount = float("nan")
    if not word or not 0.0 < amount < float("inf"):
        raise InputError(f"cannot read {text!r} as a component: write its name or SMILES and how many, as water:64")
    name = known(word)
    if name is not None:
        found = COMPOUNDS[name]
        return Component(word, found.smiles, found.residue, found.density, amount)
    # words that only look like SMILES are caught by reading them
    if not _is_smiles(word):
        raise InputError(
            f"{word!r} is neither a liquid known by name{suggestion(word.lower(), [*COMPOUNDS, *ALIASES])} nor a valid "
            f"SMILES; known are {', '.join(COMPOUNDS)}"
        )
    same = _by_formula(word)
    if same is not None:
        return Component(word, word, same.residue, same.density, amount)
    return Component(word, word, None, None, amount)


def counts_of(
    components: Sequence[Component], molecules: int | None = None, atoms: int | None = None, sizes: Sequence[int] = ()
) -> list[int]:
    """Whole numbers of molecules.

    Args:
        molecules, atoms: totals to be shared out by the amounts; without them the amounts are the numbers.
        sizes: atoms of one molecule of each kind; needed for ``atoms``.

    Raises:
        InputError: no whole numbers; both totals; a kind of which nothing is left.
    """
    if molecules is not None and atoms is not None:
        raise InputError("give the number of molecules or of atoms, not both")
    amounts = np.array([c.amount for c in components])
    if molecules is None and atoms is None:
        broken = [c for c in components if c.amount != round(c.amount)]
        if broken:
            raise InputError(
                f"{broken[0].amount:g} {broken[0].word} is no whole number: for fractions say how many "
                "molecules or atoms in all"
            )
        return [round(c.amount) for c in components]
    share = amounts / amounts.sum()
    total = molecules if molecules is not None else (atoms or 0) / float(share @ np.array(sizes))
    if total < 1:
        raise InputError("a liquid has at least one molecule")
    exact = share * round(total)
    counts = np.floor(exact).astype(int)
    # what is left goes to the largest remainders
    for k in np.argsort(counts - exact, kind="stable")[: round(total) - int(counts.sum())]:
        counts[k] += 1
    for component, count in zip(components, counts.tolist(), strict=True):
        if count == 0:
            raise InputError(f"nothing is left of {component.word} among {round(total)} molecules: take more")
    return [int(n) for n in counts]


def liquid(
    components: Sequence[str | Component],
    *,
    density: float | None = None,
    box: Sequence[float] | None = None,
    molecules: int | None = None,
    atoms: int | None = None,
    seed: int = 0,
) -> Prepared:
    """Pack a liquid at random into a periodic box.

    Each molecule has its conformer of lowest energy in gas phase. A random packing is no liquid: relax it and let it
    equilibrate before anything is measured.

    Args:
        components: ``"water:64"``, ``"CCO:10"``, ``"[Cl-]:2"``.
        density: g/cm³; without it and ``box`` that of the pure liquids at 298 K (`SOURCE`), as if their volumes added.
        box: edges, Å (one for a cube, or three).
        molecules, atoms: how many in all; the amounts of the components are then parts.
        seed: of the packing and the molecules.

    Raises:
        InputError: components, numbers or density that mean nothing or have no room.
        MissingExtraError: RDKit or PACKMOL is not installed.
    """
    parts = [parse_component(c) if isinstance(c, str) else c for c in components]
    if not parts:
        raise InputError("a liquid without components: write for example water:64")
    single = _molecules(parts, seed)
    counts = counts_of(parts, molecules, atoms, [len(m.atoms) for m in single])
    total = sum(n * len(m.atoms) for n, m in zip(counts, single, strict=True))
    if total > LARGEST:
        raise InputError(f"{total} atoms are more than the {LARGEST} that are packed")
    mass = sum(n * float(m.atoms.get_masses().sum()) for n, m in zip(counts, single, strict=True))
    edges, told = _edges(parts, counts, single, mass, density, box)
    kinds = [Kind(m.topology.numbers, centred(m), n) for m, n in zip(single, counts, strict=True)]
    _refuse_dense(kinds, edges, mass)
    positions, closest = pack(kinds, edges, seed)
    reached = mass / float(np.prod(edges)) / GRAM_PER_CM3
    names = ", ".join(f"{n} {c.word}" for n, c in zip(counts, parts, strict=True))
    return assembled(
        single,
        counts,
        positions,
        edges,
        (
            *_all_notes(single),
            f"{names} at {reached:.4f} g/cm³{told}",
            f"atoms of different molecules are at least {closest:.2f} Å apart; relax and equilibrate this "
            "random packing",
        ),
        {
            "components": [
                {"name": c.word, "smiles": c.smiles, "molecules": n} for c, n in zip(parts, counts, strict=True)
            ],
            "density_g_per_cm3": reached,
            "closest_contact_A": closest,
            "seed": seed,
        },
    )


def assembled(
    single: Sequence[Prepared],
    counts: Sequence[int],
    positions: Float[np.ndarray, "N 3"],
    edges: Float[np.ndarray, "3"],
    notes: tuple[str, ...],
    details: dict[str, Any],
) -> Prepared:
    """Copies of molecules as one system in a box: a chain for each kind, its residues numbered from 1."""
    pieces: list[Topology] = []
    start, charge, spin = 0, 0, 0
    bonds = []
    for chain, (one, count) in enumerate(zip(single, counts, strict=True)):
        t, n = one.topology, len(one.topology)
        residues = int(t.residues[-1]) + 1 if n else 0
        for k in range(count):
            numbers = t.residue_numbers if count == 1 else t.residues + 1 + k * residues
            pieces.append(
                Topology(
                    t.numbers,
                    t.names,
                    t.residue_names,
                    np.asarray(numbers),
                    np.full(n, LETTERS[chain]),
                    t.bonds,
                    named=True,
                )
            )
            bonds.append(t.bonds + start)
            start += n
        charge += count * one.charge
        spin += count * int(one.atoms.info.get("spin", 0))
    joined = Topology(
        numbers=np.concatenate([p.numbers for p in pieces]),
        names=np.concatenate([p.names for p in pieces]),
        residue_names=np.concatenate([p.residue_names for p in pieces]),
        residue_numbers=np.concatenate([p.residue_numbers for p in pieces]),
        chains=np.concatenate([p.chains for p in pieces]),
        bonds=np.concatenate(bonds),
        named=True,
    )
    charged = [
        (f"{LETTERS[k]} {name[2:]}" if count == 1 else f"{count} × {name.split()[1]}", q)
        for k, (one, count) in enumerate(zip(single, counts, strict=True))
        for name, q in one.charged
    ]
    atoms = ase.Atoms(numbers=joined.numbers, positions=positions, cell=np.diag(edges), pbc=True)
    return with_spin(Prepared(atoms, joined, charge, tuple(charged), notes, details), spin)


def in_water(
    solute: Prepared, *, margin: float | None = None, box: Sequence[float] | None = None, seed: int = 0
) -> Prepared:
    """Put a molecule into the middle of a box of water at 0.997 g/cm³ of what it leaves free.

    No ions are added: where the solute is charged, the box is.

    Args:
        margin: Å from the solute to the faces of a cubic box around its largest diameter.
        box: edges, Å (one or three), instead.

    Raises:
        InputError: neither or both of them, or no room for water.
        MissingExtraError: RDKit or PACKMOL is not installed.
    """
    three = None if box is None else _three(box)
    here = centred(solute)
    edges = np.array(box_for(here, Solvent(margin=margin, box=three)))
    water = _molecules([parse_component("water:1")], seed)[0]
    kind = Kind(solute.topology.numbers, here + 0.5 * edges, 1, fixed=True)
    mass = float(water.atoms.get_masses().sum())
    # what a solute takes from water is about its van der Waals volume and the gaps water leaves around it
    taken = occupied(kind) / _FILLED
    count = round((float(np.prod(edges)) - taken) * COMPOUNDS["water"].density * GRAM_PER_CM3 / mass)
    if count < 1:
        raise InputError("the box leaves no room for water: choose a wider margin or box")
    kinds = [kind, Kind(water.topology.numbers, centred(water), count)]
    positions, closest = pack(kinds, edges, seed)
    words = (
        f"{count} waters packed around it in a box of {' × '.join(f'{edge:.2f}' for edge in edges)} Å, no ions; at "
        f"least {closest:.2f} Å between molecules: relax and equilibrate it"
    )
    made = assembled(
        [solute, water],
        [1, count],
        positions,
        edges,
        (*solute.notes, words),
        {**solute.details, "box_A": edges.tolist(), "waters_added": count, "closest_contact_A": closest},
    )
    return made


_FILLED = 0.7
"""Van der Waals volume of a molecule over the volume it takes up in water (its partial molar volume), about."""


def _molecules(parts: Sequence[Component], seed: int) -> list[Prepared]:
    """One molecule of each kind, with residue names that tell them apart."""
    found, taken = [], {c.residue for c in parts if c.residue}
    for k, part in enumerate(parts):
        one = molecule(part.smiles, seed=seed)[0]
        name = part.residue
        if name is None and len(one.atoms) == 1:
            name = one.topology.symbols[0].upper()
        if name is None:
            name = NO_RESIDUE if NO_RESIDUE not in taken else f"M{k + 1:02d}"
        taken.add(name)
        found.append(renamed(one, name))
    return found


def _is_smiles(word: str) -> bool:
    with quiet():
        return rdkit().MolFromSmiles(word) is not None


def _by_formula(smiles: str) -> Compound | None:
    """The known liquid of this formula."""
    chem = rdkit()
    wanted = chem.CanonSmiles(smiles)
    return next((c for c in COMPOUNDS.values() if chem.CanonSmiles(c.smiles) == wanted), None)


def _edges(
    parts: Sequence[Component],
    counts: Sequence[int],
    single: Sequence[Prepared],
    mass: float,
    density: float | None,
    box: Sequence[float] | None,
) -> tuple[Float[np.ndarray, "3"], str]:
    """Edges of the box and words about where the density comes from."""
    if box is not None and density is not None:
        raise InputError("give a density or a box, not both: the numbers of molecules decide on the other")
    if box is not None:
        return np.array(_three(box)), ", from the box"
    if density is not None:
        if not 0.0 < density < 25.0:
            raise InputError(f"a density in g/cm³ is above zero and below 25, not {density:g}")
        return np.full(3, (mass / (density * GRAM_PER_CM3)) ** (1 / 3)), ""
    unknown = [c.word for c in parts if c.density is None]
    if unknown:
        raise InputError(
            f"the density of {', '.join(unknown)} is not known here: give --density in g/cm³, or --box in Å"
        )
    volume = sum(
        n * float(m.atoms.get_masses().sum()) / ((c.density or 1.0) * GRAM_PER_CM3)
        for c, n, m in zip(parts, counts, single, strict=True)
    )
    mixed = " of the pure liquids, volumes added" if len(parts) > 1 else ""
    return np.full(3, volume ** (1 / 3)), f" (density{mixed}: {SOURCE})"


def _three(box: Sequence[float]) -> tuple[float, float, float]:
    edges = [float(edge) for edge in box]
    if len(edges) == 1:
        edges *= 3
    if len(edges) != 3 or not all(0.0 < edge < 1000.0 for edge in edges):
        raise InputError("a box has one edge or three, in Å, above zero and below 1000")
    return (edges[0], edges[1], edges[2])


def _refuse_dense(kinds: Sequence[Kind], edges: Float[np.ndarray, "3"], mass: float) -> None:
    volume = float(np.prod(edges))
    filled = sum(kind.count * occupied(kind) for kind in kinds) / volume
    if filled > DENSEST:
        raise InputError(
            f"{mass / volume / GRAM_PER_CM3:.3g} g/cm³ is too dense: the molecules would fill {filled:.0%} of the box, "
            f"liquids fill 50 to 70%; at most {DENSEST:.0%} is packed"
        )
    for kind in kinds:
        extent = diameter(kind.positions)
        # however it lies, it must not touch its own image
        if extent + IMAGES > edges.min():
            raise InputError(
                f"a box edge of {edges.min():.1f} Å is too short for a molecule of {extent:.1f} Å, which would touch "
                "its own image: take more molecules, a lower density or a wider box"
            )


def _all_notes(single: Sequence[Prepared]) -> list[str]:
    """What is to be said about the chemistry of the molecules, not about their conformers."""
    return [note for one in single for note in one.notes if any(word in note for word in ABOUT)]
