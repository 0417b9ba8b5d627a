"""Peptides from a sequence: a chain at given backbone angles, protonated for a pH, side chains relaxed."""

from __future__ import annotations

from collections.abc import Sequence as Items
from typing import Any

import ase
import numpy as np
from jaxtyping import Float

from heliodor.errors import InputError, SimulationError, suggestion
from heliodor.prepare.chain import FOLDS, PROLINE_PHI, as_pdb, dihedral, heavy_chain
from heliodor.prepare.peptide_ends import amide, neutral_amine, neutral_carboxyl, neutral_side
from heliodor.prepare.prepared import Prepared, from_openmm, openmm, system_charge
from heliodor.prepare.protonation import Protonation, protonation
from heliodor.prepare.relax import DEFAULT_FORCE_FIELD, force_field, parametrised, random_numbers, relaxed
from heliodor.prepare.sequence import Sequence, parse_sequence
from heliodor.topology import Topology, bonds_by_distance

BACKBONE = ("N", "CA", "C", "O", "OXT", "CH3", "CB")
"""Atoms that stay where the angles put them; with CB free, a hydrogen put in a bad place can turn a residue over."""

TOLERANCE = 30.0
"""kJ/mol/nm (0.03 eV/Å), root mean square force at the end."""

CHARGES = {"LYS": 1, "ARG": 1, "HIP": 1, "ASP": -1, "GLU": -1}
"""e, of side chains."""


def peptide(
    sequence: str | Sequence,
    *,
    fold: str = "extended",
    phi: float | None = None,
    psi: float | None = None,
    caps: str | None = None,
    ph: float = 7.0,
    termini: str = "auto",
    seed: int = 0,
) -> Prepared:
    """Build a peptide of L-amino acids.

    The backbone has the bond lengths and angles of PeptideBuilder and exactly the angles asked for; side chains are
    turned away from clashes and relaxed, with all hydrogens, in AMBER99SB-ILDN with implicit water (OBC2, so that
    charged groups do not fold back onto the chain) while the backbone is held. The result is a force field geometry
    with an ideal backbone, for a model to relax further.

    Args:
        sequence: as `parse_sequence` reads it.
        fold: one of `FOLDS`; not used where ``phi`` and ``psi`` are given.
        phi, psi: degrees, for all residues; proline keeps phi = -65°, which its ring demands.
        caps: in addition to those in the sequence: ``"ACE,NME"``, ``"ACE"``, ``"NME"``, ``"NH2"``.
        ph, termini: see `protonation`.
        seed: of the places hydrogens start from; the same seed gives the same structure to some 1e-5 Å.

    Returns:
        The peptide in gas phase; amino acids are numbered from 1, a cap in front of them is 0.

    Raises:
        InputError: sequence, fold, angles or pH that mean nothing; a chain that runs into itself at these angles.
        MissingExtraError: OpenMM or PeptideBuilder is not installed.
    """
    wanted = parse_sequence(sequence, caps) if isinstance(sequence, str) else sequence
    states = protonation(wanted, ph, termini)
    angles, omega, told = backbone_angles(wanted, fold, phi, psi)
    if len(wanted.residues) == 1 and wanted.front is None and wanted.end is None:
        raise InputError(
            f"a single amino acid is no peptide: cap it (--caps ACE,NME), or make {wanted.name} from SMILES"
        )
    units = heavy_chain(wanted.residues, wanted.front, wanted.end, angles, omega)
    late = _late(wanted, states)
    with random_numbers(seed):
        topology, positions = _with_hydrogens(as_pdb(units), wanted, states, late)
        field = force_field(DEFAULT_FORCE_FIELD, "implicit/obc2.xml")
        system = parametrised(topology, field)
        for atom in topology.atoms():
            if atom.name in BACKBONE:
                # what has no mass does not move
                system.setParticleMass(atom.index, 0.0)
        try:
            found = relaxed(topology, positions, field, system=system, tolerance=TOLERANCE)
        except SimulationError as error:
            raise InputError(f"{wanted.short} runs into itself at these backbone angles: choose others") from error
    raw = from_openmm(topology, found.positions, charge=system_charge(system))
    made, here = _finished(raw.topology, raw.atoms.positions, wanted, states, late)
    charge, charged = charges_of(wanted, states)
    result = Prepared(
        ase.Atoms(numbers=made.numbers, positions=here),
        made,
        charge,
        charged,
        (*states.notes, *told),
        {
            "sequence": wanted.name,
            "fold": "given" if phi is not None else fold,
            "phi_psi_deg": [list(pair) for pair in angles],
            "ph": ph,
            "relaxation": f"{DEFAULT_FORCE_FIELD} with OBC2 water, {found.protocol}, backbone held",
            "seed": seed,
        },
    )
    return _checked(result, wanted, angles)


def backbone_angles(
    sequence: Sequence, fold: str, phi: float | None = None, psi: float | None = None
) -> tuple[list[tuple[float, float]], float, tuple[str, ...]]:
    """(phi, psi) of each residue, omega (degrees), and notes.

    Raises:
        InputError: an unknown fold; one angle without the other; an angle outside -180 to 180.
    """
    if (phi is None) != (psi is None):
        raise InputError("phi and psi come together: give both, or the name of a fold")
    if phi is not None and psi is not None:
        for name, value in (("phi", phi), ("psi", psi)):
            if not -180.0 <= value <= 180.0:
                raise InputError(f"{name} is an angle between -180° and 180°, not {value:g}")
        omega = 180.0
    else:
        known = fold.lower().replace("3-10", "310").replace("3_10", "310").replace("helix", "").strip("-_ ")
        if known not in FOLDS:
            raise InputError(f"there is no fold {fold!r}{suggestion(fold, FOLDS)} (there are {', '.join(FOLDS)})")
        phi, psi, omega = FOLDS[known]
    angles = [(PROLINE_PHI if name == "PRO" else phi, psi) for name in sequence.residues]
    bent = [k for k, name in enumerate(sequence.residues) if name == "PRO" and abs(phi - PROLINE_PHI) > 20.0]
    told = (f"proline has phi = {PROLINE_PHI:g}°, which its ring demands, instead of {phi:g}°",) if bent else ()
    return angles, omega, told


def measured_angles(prepared: Prepared) -> Float[np.ndarray, "R 2"]:
    """Phi and psi (degrees) of each amino acid of one chain; nan where a neighbour is missing."""
    topology, x = prepared.topology, prepared.atoms.positions
    place = {
        (int(topology.residues[k]), str(topology.names[k])): k for k in range(len(topology)) if topology.numbers[k] > 1
    }
    found = []
    for r in range(int(topology.residues[-1]) + 1):
        if (r, "CA") not in place:
            continue
        fours = (
            ((r - 1, "C"), (r, "N"), (r, "CA"), (r, "C")),
            ((r, "N"), (r, "CA"), (r, "C"), (r + 1, "N")),
        )
        found.append(
            [dihedral(x[[place[a] for a in four]]) if all(a in place for a in four) else np.nan for four in fours]
        )
    return np.array(found)


def handedness(prepared: Prepared) -> Float[np.ndarray, "R"]:
    """Volume (Å³) spanned by N, C and CB seen from CA for each amino acid: positive for L; nan for glycine."""
    topology, x = prepared.topology, prepared.atoms.positions
    found = []
    for r in np.unique(topology.residues):
        place = {str(topology.names[k]): k for k in np.flatnonzero(topology.residues == r)}
        if "CA" not in place:
            continue
        if "CB" not in place:
            found.append(np.nan)
            continue
        n, c, cb = (x[place[name]] - x[place["CA"]] for name in ("N", "C", "CB"))
        found.append(float(np.dot(n, np.cross(c, cb))))
    return np.array(found)


CHARGED = {"ASH": "ASP", "GLH": "GLU", "LYN": "LYS"}


def _late(sequence: Sequence, states: Protonation) -> tuple[int, ...]:
    """Residues at free ends in states the force field has inside chains only: they are relaxed charged."""
    ends = ([0] if sequence.front is None else []) + ([len(states.residues) - 1] if sequence.end is None else [])
    return tuple(k for k in ends if states.residues[k] in CHARGED)


def _with_hydrogens(text: Any, sequence: Sequence, states: Protonation, late: tuple[int, ...]) -> tuple[Any, Any]:
    mm = openmm()
    pdb = mm.app.PDBFile(text)
    modeller = mm.app.Modeller(pdb.topology, pdb.positions)
    fixed = ("ASP", "ASH", "GLU", "GLH", "LYS", "LYN", "HID", "HIE", "HIP")
    names = [CHARGED[name] if k in late else name for k, name in enumerate(states.residues)]
    variants = [name if name in fixed else None for name in names]
    # a thiol: without this two cysteines that happen to be near would be made a disulfide's
    variants = ["CYS" if name == "CYS" else v for name, v in zip(states.residues, variants, strict=True)]
    modeller.addHydrogens(
        variants=[None] * (sequence.front is not None) + variants + [None] * (sequence.end is not None),
        # adds up in one order
        platform=mm.Platform.getPlatform("Reference"),
    )
    return modeller.topology, modeller.positions


def _finished(
    topology: Topology,
    positions: Float[np.ndarray, "N 3"],
    sequence: Sequence,
    states: Protonation,
    late: tuple[int, ...],
) -> tuple[Topology, Float[np.ndarray, "M 3"]]:
    """Names of the protonation states, and the ends as they should be."""
    offset = int(sequence.front is not None)
    names = np.array([f"{name:4s}" for name in topology.residue_names])
    for k, name in enumerate(states.residues):
        names[topology.residues == k + offset] = name
    words = np.array([name.strip() for name in names])
    here = positions
    made = Topology(
        topology.numbers,
        topology.names,
        words,
        topology.residue_numbers - offset,
        np.full(len(topology), "A"),
        topology.bonds,
        named=True,
    )
    for k in late:
        made, here = neutral_side(made, here, k + offset, states.residues[k])
    if sequence.end is None and not states.carboxylate:
        made, here = neutral_carboxyl(made, here)
    if sequence.end == "NH2":
        made, here = amide(made, here)
    if sequence.front is None and not states.ammonium:
        made, here = neutral_amine(made, here)
    return made, here


def charges_of(sequence: Sequence, states: Protonation) -> tuple[int, tuple[tuple[str, int], ...]]:
    """Total charge (e) and the charged residues, as `Prepared` names them."""
    charges = [CHARGES.get(name, 0) for name in states.residues]
    if sequence.front is None and states.ammonium:
        charges[0] += 1
    if sequence.end is None and states.carboxylate:
        charges[-1] -= 1
    named = [(f"A {name} {k + 1}", q) for k, (name, q) in enumerate(zip(states.residues, charges, strict=True)) if q]
    return sum(charges), tuple(named)


def _checked(prepared: Prepared, sequence: Sequence, angles: Items[tuple[float, float]]) -> Prepared:
    """Hand back what is as it was asked for, with the fold that was measured.

    Raises:
        InputError: atoms of different residues so close that they are bonded, or a bond torn.
    """
    bonds = {tuple(pair) for pair in prepared.topology.bonds.tolist()}
    seen = {tuple(pair) for pair in bonds_by_distance(prepared.atoms).tolist()}
    wrong = sorted(bonds ^ seen)
    if wrong:
        i, j = wrong[0]
        names = [prepared.topology.label(k) for k in (i, j)]
        raise InputError(
            f"{sequence.short} runs into itself at these backbone angles: {names[0]} and {names[1]} are "
            f"{prepared.atoms.get_distance(i, j):.2f} Å apart; choose other angles or another fold"
        )
    volumes = handedness(prepared)
    if (volumes[np.isfinite(volumes)] <= 0.0).any():
        raise RuntimeError(f"a residue of {sequence.name} came out with D configuration")
    off = (measured_angles(prepared) - np.array(angles) + 180.0) % 360.0 - 180.0
    worst = float(np.nanmax(np.abs(off))) if np.isfinite(off).any() else 0.0
    return prepared.with_notes(
        f"backbone angles are within {max(worst, 0.1):.1f}° of those asked for", largest_backbone_deviation_deg=worst
    )
