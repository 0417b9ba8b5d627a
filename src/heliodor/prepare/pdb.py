"""From a PDB or mmCIF file to a system that can be simulated: PDBFixer and OpenMM do the chemistry.

What a file leaves open is either decided by a stated rule, which stands in the notes, or refused with the ways out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.errors import InputError, ModelError
from heliodor.potential import Potential
from heliodor.prepare import clashes, cycles, hydrogens, ligands, relaxing, residues, stereo
from heliodor.prepare.building import hydrogenated, standing
from heliodor.prepare.chains import mended
from heliodor.prepare.check import model_for, refuse_charges, refuse_elements
from heliodor.prepare.prepared import (
    LETTERS,
    NANOMETRE,
    Prepared,
    Progress,
    box_of,
    charged_residues,
    from_openmm,
    label,
    nanometres,
    openmm,
    residue_labels,
    system_charge,
)
from heliodor.prepare.relax import DEFAULT_FORCE_FIELD, Equilibration, force_field, parametrised
from heliodor.prepare.solvate import Solvent, box_for, counter_ions, density, solvated
from heliodor.prepare.source import PLACEHOLDER, Source, fixer_of, read_source
from heliodor.topology import Topology

SELENIUM = {"MSE": "MET"}
"""Replaced without being asked: put in by crystallographers for the phases, and no model here knows selenium."""


@dataclass(frozen=True)
class Choices:
    """Everything that can be chosen about a file.

    Attributes:
        model_number: of several models; None: the first.
        chains: only these; empty: all.
        waters: keep those of the file.
        ions: keep single-atom residues.
        ligands: keep other residues; they need all hydrogens and no charge, or a SMILES.
        smiles: of ligands to keep, by residue name; gives bonds, hydrogens and charge.
        cell: keep the periodic box of the file (of one that holds its solvent already).
        replace: put the standard residue in the place of modified ones.
        build: longest missing loop to be built, residues.
        split: make pieces of broken chains chains of their own.
        caps: put ACE and NME on the ends of protein chains.
        ph: pH.
        protonation: states of single residues, as `hydrogens.parse_protonation` reads them.
        force_field: of `relax.FORCE_FIELDS`.
        solvent: water and ions to be put around; None for none.
        minimise: relax with the force field.
        equilibration: dynamics with the force field; None for none.
        seed: of everything random.
    """

    model_number: int | None = None
    chains: tuple[str, ...] = ()
    waters: bool = False
    ions: bool = False
    ligands: bool = False
    smiles: Mapping[str, str] = field(default_factory=dict)
    cell: bool = False
    replace: bool = False
    build: int = 0
    split: bool = False
    caps: bool = False
    ph: float = 7.0
    protonation: str = ""
    force_field: str = DEFAULT_FORCE_FIELD
    solvent: Solvent | None = None
    minimise: bool = True
    equilibration: Equilibration | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.solvent is not None and self.cell:
            raise InputError("the box of the file is to be kept and a new one filled with water: choose one of the two")
        if self.equilibration is not None and not self.minimise:
            raise InputError("an equilibration begins with a minimisation: leave --no-minimise out")
        if self.build < 0:
            raise InputError("the longest loop to build cannot be negative")
        hydrogens.parse_protonation(self.protonation)


def prepare_file(
    path: str | Path,
    choices: Choices = Choices(),
    *,
    model: str | Path | Potential | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Prepare the content of a PDB or mmCIF file.

    Args:
        model: what is to run the system: what it cannot describe is refused before the work begins; None: no check.
        progress: told what is being done.

    Raises:
        InputError: what cannot be read, decided or repaired, with the ways out.
        ModelError: elements or charges outside the model.
        MissingExtraError: OpenMM or PDBFixer is not installed.
    """
    mm = openmm()
    potential = model_for(model)
    source = read_source(path, choices.model_number)
    fixer = fixer_of(source)
    _name_chains(fixer.topology)
    notes = list(source.notes)
    details: dict[str, Any] = {"source": {"file": source.path, "sha256": source.sha256, "model": source.model}}

    fixer.topology, fixer.positions, told = residues.choose_chains(fixer.topology, fixer.positions, choices.chains)
    notes += told + _cell(fixer, source, choices)
    notes += _modified(fixer, choices)
    kept = _selected(fixer, source, choices, notes)
    _refuse_early(fixer.topology, potential, choices)
    clashes.refuse_one_spot(fixer.topology, fixer.positions)
    cycles.refuse_cycles(fixer.topology, fixer.positions)

    given = {relaxing.place(position) for position in nanometres(fixer.positions)}
    topology, positions, told, added = mended(fixer, kept, choices.build, choices.split, choices.caps, choices.seed)
    notes += told
    forces = force_field(choices.force_field)
    topology, positions, known = ligands.completed(
        topology, positions, [residue.name for residue in kept.ligands], choices.smiles, forces
    )
    notes += known.notes
    topology, positions, replaced = hydrogens.without_hydrogens(topology, positions)
    if replaced:
        notes.append(f"{replaced} hydrogens of the file replaced by ones for pH {choices.ph:g}")
    asked = hydrogens.parse_protonation(choices.protonation)
    named = (hydrogens.Override(*place, state, asked=False) for place, state in source.states.items())
    overrides = (*named, *asked)
    strange = stereo.wrong(topology, positions, standing(topology, positions, given))[1]
    topology, positions, chosen, unusual = hydrogenated(
        topology,
        positions,
        forces,
        overrides,
        given,
        set(known.residues),
        ph=choices.ph,
        tried=choices.minimise,
        seed=choices.seed,
    )
    states = hydrogens.states(topology, chosen)
    ends, bridges = hydrogens.termini(topology), hydrogens.disulfides(topology)
    notes += hydrogens.state_notes(states, choices.ph, len(asked), len(source.states))
    notes += unusual
    notes += [f"ends of chain {text}" for text in ends]
    notes.append(f"disulfides: {', '.join(bridges)}" if bridges else "no disulfides")
    crowded = clashes.refuse_one_spot(topology, positions)
    if crowded:
        notes.append(f"{crowded} pairs of heavy atoms closer than {clashes.CONTACT:g} Å before the relaxation")

    system = parametrised(topology, forces)
    charge, charged = system_charge(system), charged_residues(system, topology)
    details |= {"protonation": states, "disulfides": bridges, "ends": ends, "built": added}
    details["solute"] = {"atoms": topology.getNumAtoms(), "charge": charge}
    if potential is not None:
        written = [f"{chain} {number}" for chain, number in residue_labels(topology)[0]]
        _refuse_late(charge, charged, potential, choices, dict(zip(written, topology.residues(), strict=True)))
    if choices.solvent is not None:
        # refuses a box that is too small before anything is filled
        box_for(from_openmm(topology, positions, charge=charge).atoms.positions, choices.solvent)
        _tell(progress, "adding water", 0.0)
        topology, positions, numbers, told = solvated(
            topology, positions, forces, choices.solvent, charge, choices.seed
        )
        _tell(progress, "adding water", 1.0)
        notes += told
        details["solvent"] = numbers
        system = parametrised(topology, forces)
        charge, charged = system_charge(system), charged_residues(system, topology)
    of_file = standing(topology, positions, given)
    frozen = [a.index for r in topology.residues() if r.name in known.residues for a in r.atoms()]
    positions, box, told, record = relaxing.relax(
        topology,
        positions,
        forces,
        minimise=choices.minimise,
        equilibration=choices.equilibration,
        given=given,
        frozen=frozen,
        seed=choices.seed,
        progress=progress,
    )
    notes += told
    details["relaxation"] = record
    if box is not None:
        topology.setPeriodicBoxVectors([mm.Vec3(*row) * mm.unit.nanometer for row in box.tolist()])
        positions = relaxing.centred(topology, positions, box)
    clashes.refuse_clashes(topology, positions, choices.minimise)
    built, own = stereo.wrong(topology, positions, of_file)
    stereo.refuse([*built, *(words for words in own if words.endswith((" is D", "inverted")) and words not in strange)])
    if strange:
        more = f"; and {len(strange) - 6} more" if len(strange) > 6 else ""
        notes.append(f"unusual in the file itself, and left so: {'; '.join(strange[:6])}{more}")
    if box is not None:
        weight = density(topology, box * NANOMETRE)
        loose = choices.solvent is not None and choices.equilibration is None
        lighter = ", lighter than at 1 bar: --equilibrate, or a run with a barostat, brings it there" * loose
        notes.append(f"density {weight:.3f} g/cm³{lighter}")
        details["density_g_cm3"] = weight
    details["choices"] = asdict(choices)
    return from_openmm(topology, positions, charge=charge, charged=charged, notes=notes, details=details)


def _name_chains(topology: Any) -> None:
    """Letters for chains without a name, so that they can be spoken of."""
    taken = {chain.id for chain in topology.chains()}
    free = iter(letter for letter in LETTERS if letter not in taken)
    unnamed = next(free, "A")
    for chain in topology.chains():
        if not chain.id.strip():
            chain.id = unnamed


def _cell(fixer: Any, source: Source, choices: Choices) -> list[str]:
    """Decide about the periodic box of the file."""
    box = box_of(fixer.topology)
    if box is None:
        if choices.cell:
            raise InputError(f"{source.path} has no periodic box to keep: leave --keep-cell out")
        return []
    lengths = np.linalg.norm(box, axis=1)
    if (lengths < PLACEHOLDER).all():
        fixer.topology.setPeriodicBoxVectors(None)
        if choices.cell:
            raise InputError(f"the cell of {source.path} is a placeholder of 1 Å: leave --keep-cell out")
        return ["the cell of 1 Å in the file is a placeholder and is ignored"]
    size = " × ".join(f"{length:.2f}" for length in lengths)
    if not choices.cell:
        fixer.topology.setPeriodicBoxVectors(None)
        return [f"the cell of the file ({size} Å) is left out (--keep-cell keeps it)"]
    if source.space_group.replace(" ", "") not in ("", "P1"):
        return [
            f"the cell of the file ({size} Å) is kept; its space group is {source.space_group}: symmetry copies are "
            "not made, the cell holds only what the file lists"
        ]
    return [f"the cell of the file ({size} Å) is kept"]


def _modified(fixer: Any, choices: Choices) -> list[str]:
    """Replace modified residues where that is agreed, else refuse them."""
    fixer.findNonstandardResidues()
    suggested = residues.replacements(fixer)
    wanted = {r: new for r, new in suggested.items() if r.name in SELENIUM or choices.replace}
    left = [residue for residue in residues.kinds_of(fixer.topology).modified if residue not in wanted]
    if left:
        known = [f"{label(r)} (is {suggested[r]} modified)" if r in suggested else label(r) for r in left]
        can = (
            "--replace-nonstandard puts the standard residue in its place; "
            if any(r in suggested for r in left)
            else ""
        )
        raise InputError(
            f"modified residues in the chains: {', '.join(known[:10])}{' ...' * (len(known) > 10)}; ways out: {can}"
            "--chains leaves their chains out, or change them in a modelling program"
        )
    if not wanted:
        return []
    text = ", ".join(f"{label(residue)} by {new}" for residue, new in wanted.items())
    fixer.nonstandardResidues = list(wanted.items())
    fixer.replaceNonstandardResidues()
    return [f"modified residues replaced: {text}"]


def _selected(fixer: Any, source: Source, choices: Choices, notes: list[str]) -> residues.Kinds:
    """Leave out what is not to be kept, and say so; move the rest behind the polymers."""
    kinds = residues.kinds_of(fixer.topology)
    unknown = [name for name in choices.smiles if name not in {r.name for r in kinds.ligands}]
    if unknown:
        raise InputError(
            f"--ligand: there is no residue {', '.join(unknown)} among those that could be kept: "
            f"{residues.named(kinds.ligands) or 'there are none'}"
        )
    if not kinds.polymer:
        what = "water only" if kinds.waters and not kinds.ligands and not kinds.ions else "no protein or nucleic acid"
        other = "" if what == "water only" else residues.named((*kinds.ligands, *kinds.ions))
        raise InputError(
            f"{source.path} holds {what}{f' ({other})' if other else ''}; water and other liquids are "
            "made with 'heliodor prepare liquid', molecules with 'heliodor prepare molecule'"
        )
    dropped: list[Any] = []
    if kinds.waters and not choices.waters:
        dropped += kinds.waters
        notes.append(f"{len(kinds.waters)} waters of the file left out (--waters keep keeps them)")
    if kinds.ions and not choices.ions:
        dropped += kinds.ions
        notes.append(f"ions left out: {residues.named(kinds.ions)} (--keep-ions keeps them)")
    ligands_out = [r for r in kinds.ligands if not choices.ligands and r.name not in choices.smiles]
    if ligands_out:
        dropped += ligands_out
        notes.append(f"other residues left out: {residues.named(ligands_out)} (--keep-ligands, --ligand keep them)")
    modeller = openmm().app.Modeller(fixer.topology, fixer.positions)
    modeller.delete(dropped)
    left = residues.kinds_of(modeller.topology)
    fixer.topology, fixer.positions, _ = residues.rearranged(
        modeller.topology, modeller.positions, (*left.waters, *left.ions, *left.ligands)
    )
    return residues.kinds_of(fixer.topology)


def _refuse_early(topology: Any, potential: Potential | None, choices: Choices) -> None:
    """Refuse elements of the file that the model does not know."""
    if potential is None:
        return
    names = [atom.element is None and f"{label(atom.residue)} {atom.name}" for atom in topology.atoms()]
    unknown = [name for name in names if name]
    if unknown:
        raise InputError(f"the file does not say which element these atoms are: {', '.join(unknown[:8])}")
    ways = []
    if choices.ions:
        ways.append("leave --keep-ions out")
    if choices.ligands or choices.smiles:
        ways.append("leave the ligands out (--keep-ligands, --ligand)")
    refuse_elements(_as_topology(topology), potential, ways)


def _refuse_late(
    charge: int, charged: list[tuple[str, int]], potential: Potential, choices: Choices, of_file: Mapping[str, Any]
) -> None:
    """Refuse charges, and the ions that solvation would bring in, where the model does not know them.

    Args:
        of_file: residues (OpenMM's) by chain and number of the output.
    """
    words = [name.split()[1] for name, _ in charged]
    ways = []
    acids = [name for name, q in charged if name.split()[1] in ("ASP", "GLU") and q < 0]
    if acids:
        chain, residue, number = acids[0].split()
        neutral = {"ASP": "ASH", "GLU": "GLH"}[residue]
        own = of_file[f"{chain} {number}"]
        place = f"{own.chain.id}:{residue} {own.id}{own.insertionCode.strip()}"
        ways.append(f"--protonation '{place}={neutral}' and so on makes side chains neutral")
    if not choices.caps and len(words) > 0:
        ways.append("--caps both makes the ends of chains neutral")
    refuse_charges(charge, charged, potential, ways)
    if choices.solvent is None:
        return
    brought = counter_ions(charge, choices.solvent)
    if not brought:
        return
    from ase.data import atomic_numbers, chemical_symbols

    outside = [symbol for symbol in brought if atomic_numbers[symbol] not in potential.elements]
    if not outside:
        return
    ways = []
    if choices.solvent.neutralise and charge:
        ways.append(
            f"--no-neutralise{' --salt 0' * bool(choices.solvent.salt)} leaves the charge of {charge:+d} in the box"
        )
    elif choices.solvent.salt:
        ways.append("--salt 0")
    if charge < 0 and choices.solvent.neutralise:
        ways.append("protonate acids until the charge is not negative (--protonation, --ph; Cl- can balance the rest)")
    ways += ["a model that knows them (--model), or --model none to prepare for other programs"]
    known = " ".join(chemical_symbols[z] for z in potential.elements)
    signs = {"Na": "Na+", "Cl": "Cl-"}
    raise ModelError(
        f"the water would need {' and '.join(signs[symbol] for symbol in outside)} for a charge of {charge:+d} and "
        f"{choices.solvent.salt:g} mol/l of salt, and {potential.name} knows only {known}; ways out: "
        + "; ".join(f"({k}) {way}" for k, way in enumerate(ways, 1))
    )


def _as_topology(topology: Any) -> Topology:
    """Names and elements only."""
    atoms = list(topology.atoms())
    return Topology(
        numbers=np.array([a.element.atomic_number for a in atoms], dtype=np.int64),
        names=np.array([a.name for a in atoms]),
        residue_names=np.array([a.residue.name for a in atoms]),
        residue_numbers=np.zeros(len(atoms), dtype=np.int64),
        chains=np.array([a.residue.chain.id for a in atoms]),
        bonds=np.zeros((0, 2), dtype=np.int64),
        named=True,
    )


def _tell(progress: Progress | None, what: str, part: float) -> None:
    if progress is not None:
        progress(what, part)
