"""A prepared system: atoms with names, bonds and a total charge; to and from OpenMM's topologies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import ase
import numpy as np
from jaxtyping import Float

from heliodor.errors import InputError, MissingExtraError
from heliodor.topology import Topology, set_names

NANOMETRE = 10.0
"""Å."""

WHOLE = 1e-3
"""e; a force field's partial charges of a system must add up to a whole number within this."""

LARGEST_NUMBER = 9999
"""Residue numbers have four columns in a PDB file."""

LONGEST_CHAIN = 4999
"""Residues of a chain numbered here: a number that falls by more than 5000 wrapped around, for MDAnalysis."""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
SOLVENT_LETTERS = "WXYZVUTSRQPONMLKJIHGFEDCBAwxyzvutsrqponmlkjihgfedcba0123456789"

WATERS = ("HOH", "WAT", "H2O", "TIP3", "SOL", "DOD")
"""Residue names of water."""

Progress = Callable[[str, float], None]
"""Called with what is being done and which part of it (0 to 1) is done."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A system that can be simulated.

    Attributes:
        atoms: Å; names in its arrays (`heliodor.topology.set_names`), ``info["charge"]``, ``info["spin"]`` = 0.
        topology: of the same atoms, with bonds from chemistry rather than from distances.
        charge: total, e.
        charged: residues with a formal charge, as ("A ASP 43", -1).
        notes: what was decided on the way, in words.
        details: the same for machines, JSON only; what stands in the provenance file.
    """

    atoms: ase.Atoms
    topology: Topology
    charge: int
    charged: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if len(self.atoms) != len(self.topology):
            raise ValueError(f"{len(self.topology)} atoms in the topology, {len(self.atoms)} in the structure")
        set_names(self.atoms, self.topology)
        self.atoms.info["charge"] = self.charge
        self.atoms.info.setdefault("spin", 0)

    def with_notes(self, *notes: str, **details: Any) -> Prepared:
        """The same with more said about it."""
        return replace(self, notes=(*self.notes, *notes), details={**self.details, **details})


def openmm() -> Any:
    """The package, with its submodules ``app`` and ``unit``.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import openmm
        import openmm.app
        import openmm.unit
    except ImportError:
        raise MissingExtraError("openmm", "prepare") from None
    return openmm


def nanometres(positions: Any) -> Float[np.ndarray, "N 3"]:
    """Positions as OpenMM has them (with or without unit, lists of vectors) as an array in nm."""
    unit = openmm().unit
    if unit.is_quantity(positions):
        positions = positions.value_in_unit(unit.nanometer)
    elif len(positions) and unit.is_quantity(positions[0]):
        positions = [p.value_in_unit(unit.nanometer) for p in positions]
    return np.array([[p[0], p[1], p[2]] for p in positions], dtype=np.float64).reshape(-1, 3)


def box_of(topology: Any) -> Float[np.ndarray, "3 3"] | None:
    """Periodic box of an OpenMM topology, Å, rows are vectors; None without one."""
    vectors = topology.getPeriodicBoxVectors()
    return None if vectors is None else nanometres(vectors) * NANOMETRE


def from_openmm(
    topology: Any,
    positions: Any,
    *,
    charge: int,
    charged: Sequence[tuple[str, int]] = (),
    notes: Sequence[str] = (),
    details: Mapping[str, Any] | None = None,
) -> Prepared:
    """A `Prepared` from an OpenMM topology and positions in nm.

    Residues keep chain and number where a PDB file can hold them; chains of water alone and chains with longer names,
    insertion codes or numbers beyond `LARGEST_NUMBER` are numbered anew, from 1, in chains of at most `LONGEST_CHAIN`.

    Args:
        positions: [N, 3] nm, or a quantity.
        charge: total, e; `system_charge` works it out.
    """
    here = nanometres(positions) * NANOMETRE
    atoms = list(topology.atoms())
    missing = [atom for atom in atoms if atom.element is None]
    if missing:
        raise InputError(
            f"{len(missing)} atoms have no element (virtual sites such as those of TIP4P?): take a water of three atoms"
        )
    names, told = residue_labels(topology)
    numbers = np.array([atom.element.atomic_number for atom in atoms], dtype=np.int64)
    bonds = {tuple(sorted((bond[0].index, bond[1].index))) for bond in topology.bonds()}
    box = box_of(topology)
    made = Topology(
        numbers=numbers,
        names=np.array([atom.name for atom in atoms]),
        residue_names=np.array([atom.residue.name for atom in atoms]),
        residue_numbers=np.array([names[atom.residue.index][1] for atom in atoms], dtype=np.int64),
        chains=np.array([names[atom.residue.index][0] for atom in atoms]),
        bonds=np.array(sorted(bonds), dtype=np.int64).reshape(-1, 2),
        named=True,
    )
    return Prepared(
        atoms=ase.Atoms(numbers=numbers, positions=here, cell=box, pbc=box is not None),
        topology=made,
        charge=charge,
        charged=tuple(charged),
        notes=(*notes, *told),
        details=dict(details or {}),
    )


def to_openmm(prepared: Prepared) -> tuple[Any, Float[np.ndarray, "N 3"]]:
    """An OpenMM topology with the same atoms, residues, chains, bonds and box, and the positions in nm."""
    mm = openmm()
    made, known = mm.app.Topology(), prepared.topology
    atoms: list[Any] = []
    chain = residue = None
    before = ("", -1)
    for k in range(len(known)):
        if chain is None or known.chains[k] != before[0]:
            chain = made.addChain(str(known.chains[k]))
        if int(known.residues[k]) != before[1]:
            residue = made.addResidue(str(known.residue_names[k]), chain, str(int(known.residue_numbers[k])))
        before = (str(known.chains[k]), int(known.residues[k]))
        element = mm.app.Element.getByAtomicNumber(int(known.numbers[k]))
        atoms.append(made.addAtom(str(known.names[k]), element, residue))
    for i, j in known.bonds.tolist():
        made.addBond(atoms[i], atoms[j])
    if prepared.atoms.pbc.any():
        made.setPeriodicBoxVectors([mm.Vec3(*row) * mm.unit.angstrom for row in prepared.atoms.cell.array.tolist()])
    return made, prepared.atoms.positions / NANOMETRE


def residue_labels(topology: Any) -> tuple[list[tuple[str, int]], tuple[str, ...]]:
    """(chain, number) of each residue of an OpenMM topology, such that a PDB file can hold them; and notes."""
    labels: list[tuple[str, int]] = []
    taken: dict[str, set[int]] = {}
    told = []
    letters = {chain.id for chain in topology.chains() if len(chain.id) == 1 and not _is_water(chain)}
    for chain in topology.chains():
        residues = list(chain.residues())
        kept = None if _is_water(chain) else _own_numbers(residues)
        shared = sum(other.id == chain.id and not _is_water(other) for other in topology.chains()) > 1
        fits = len(chain.id) == 1 and chain.id.strip() not in ("", "_")
        # two polymers under one letter would be bonded to each other by whoever reads the file
        free_letter = chain.id not in taken or not _is_polymer(chain)
        if kept is not None and fits and free_letter and not taken.get(chain.id, set()) & set(kept):
            taken.setdefault(chain.id, set()).update(kept)
            labels += [(chain.id, number) for number in kept]
            continue
        order = SOLVENT_LETTERS if _is_water(chain) else LETTERS
        used = []
        for first in range(0, len(residues), LONGEST_CHAIN):
            free = [letter for letter in order if letter not in taken and letter not in letters]
            letter = chain.id if fits and not first and chain.id not in taken and not _is_water(chain) else ""
            if not letter and not free:
                raise InputError(f"{len(labels) + len(residues)} residues are more than the chains of a PDB file hold")
            letter = letter or free[0]
            part = residues[first : first + LONGEST_CHAIN]
            numbers = kept if kept is not None and len(part) == len(residues) else list(range(1, len(part) + 1))
            taken.setdefault(letter, set()).update(numbers)
            labels += [(letter, number) for number in numbers]
            used.append(letter)
        if residues and not _is_water(chain):
            why = "residues numbered anew from 1" if kept is None else "numbers as they were"
            part_of = f" ({residues[0].name} {residues[0].id} to {residues[-1].name} {residues[-1].id})"
            name = f"{chain.id or 'without name'}{part_of * shared}"
            told.append(f"chain {name} is chain {', '.join(used)} in the output ({why})")
    return labels, tuple(told)


def label(residue: Any) -> str:
    """An OpenMM residue for people: ``"A HIS 15"``."""
    return f"{residue.chain.id} {residue.name} {residue.id}{residue.insertionCode.strip()}"


def fit_for_pdb(topology: Topology) -> Topology:
    """The same with chains of one letter and residue numbers of four digits, as `from_openmm` gives them.

    Raises:
        InputError: more residues than the chains of a PDB file hold.
    """
    starts = np.flatnonzero(np.diff(topology.residues, prepend=-1))
    chains, numbers = topology.chains[starts], topology.residue_numbers[starts]
    if (
        all(len(c) == 1 and c.strip() for c in set(chains.tolist()))
        and not ((numbers > LARGEST_NUMBER) | (numbers < -999)).any()
    ):
        return topology
    made = ase.Atoms(numbers=topology.numbers, positions=np.zeros((len(topology), 3)))
    again = to_openmm(Prepared(made, topology, 0))[0]
    labels, _ = residue_labels(again)
    return replace(
        topology,
        chains=np.array([labels[k][0] for k in topology.residues]),
        residue_numbers=np.array([labels[k][1] for k in topology.residues], dtype=np.int64),
    )


def system_charge(system: Any) -> int:
    """Total charge of an OpenMM system: its partial charges added up, e.

    Raises:
        InputError: the sum is no whole number within `WHOLE`.
    """
    value = float(partial_charges(system).sum())
    if abs(value - round(value)) > WHOLE:
        raise InputError(
            f"the partial charges of the system add up to {value:+.4f} e, which is no whole number: an incomplete "
            "residue, or a force field that does not fit"
        )
    return round(value)


def charged_residues(system: Any, topology: Any) -> list[tuple[str, int]]:
    """Residues with a formal charge, as the nearest whole number to the sum of their partial charges in e; labelled as
    the output is. (The ends of nucleic acids carry -0.31 and -0.69 e in Amber's force fields: 0 and -1.)
    """
    charges = partial_charges(system)
    labels, _ = residue_labels(topology)
    found = []
    for residue in topology.residues():
        total = float(charges[[atom.index for atom in residue.atoms()]].sum())
        if abs(total) > 0.5:
            chain, number = labels[residue.index]
            found.append((f"{chain} {residue.name} {number}", round(total)))
    return found


def partial_charges(system: Any) -> Float[np.ndarray, "N"]:
    """Of the particles of an OpenMM system, e.

    Raises:
        InputError: the force field has no Coulomb term that could be read.
    """
    mm = openmm()
    for force in system.getForces():
        if isinstance(force, mm.NonbondedForce):
            rows = range(force.getNumParticles())
            charges = [force.getParticleParameters(k)[0].value_in_unit(mm.unit.elementary_charge) for k in rows]
            return np.array(charges, dtype=np.float64)
    raise InputError("this force field has no partial charges to work the total charge out from")


def _is_water(chain: Any) -> bool:
    return all(residue.name in WATERS for residue in chain.residues())


def _is_polymer(chain: Any) -> bool:
    names = [{atom.name for atom in residue.atoms()} for residue in chain.residues()]
    return any({"N", "CA", "C"} <= found or "O3'" in found for found in names)


def _own_numbers(residues: Sequence[Any]) -> list[int] | None:
    """The residues' numbers, or None where they cannot stay."""
    try:
        numbers = [int(residue.id) for residue in residues]
    except ValueError:
        return None
    codes = any(residue.insertionCode.strip() for residue in residues)
    fits = all(-999 <= number <= LARGEST_NUMBER for number in numbers) and len(set(numbers)) == len(numbers)
    return numbers if fits and not codes else None
