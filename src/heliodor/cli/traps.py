"""Traps of file types: what ASE reads without complaint, but wrongly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from heliodor.cli.common import note
from heliodor.errors import InputError

if TYPE_CHECKING:
    import ase

HOW_TO_FIX_ELEMENTS = (
    "write the element symbols into columns 77-78 (PDBFixer, Open Babel and most modelling programs do), or use xyz"
)

_WITH_HYDROGENS = (
    "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL HOH WAT DA DC DG DT A C G U"
)
HYDROGENATED = frozenset(_WITH_HYDROGENS.split())
"""Residues that always have hydrogen atoms."""


def check_ipi(path: Path) -> None:
    """Refuse i-PI's xyz, whose comment line names cell and unit (often bohr), which ASE passes over."""
    with path.open(errors="replace") as file:
        comment = [file.readline(), file.readline()][1]
    if "CELL(" in comment or "CELL{" in comment or "positions{" in comment.lower():
        raise InputError(
            f"{path} is an xyz file of i-PI: its cell and its unit of length stand in a comment that is not read here; "
            "convert it to extxyz in Å (i-PI's tools, or ase.io.read and write after scaling)"
        )


def check_pdb(path: Path) -> None:
    """Refuse a PDB file with wrongly guessed elements, alternate locations or no hydrogen atoms.

    Without the element column (77-78) ASE reads the α carbon CA as calcium, HG as mercury, CD as cadmium.
    """
    places: dict[tuple[str, str, str], str] = {}
    residues: dict[tuple[str, str], bool] = {}
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        if line.startswith(("ENDMDL", "MODEL")):
            places.clear()
        if line.startswith("CRYST1") and line[55:66].strip() not in ("", "P 1", "P1"):
            note(
                f"{path}: space group {line[55:66].strip()}: symmetry copies are not generated, the cell holds only "
                "what the file lists"
            )
        if not line.startswith(("ATOM  ", "HETATM")):
            continue
        name, residue, element = line[12:16].strip(), line[17:21].strip(), line[76:78].strip().upper()
        if not element:
            _check_guess(f"{path}, line {number}", name, residue)
            element = name.lstrip("0123456789")[:1]
        seen = places.setdefault((line[21:27], residue, name), line[16])
        if line[16] != seen and line[16] != " ":
            raise InputError(
                f"{path}, line {number}: atom {name} of residue {residue} {line[22:27].strip()} has alternate "
                f"locations {seen.strip() or 'blank'} and {line[16]}, which would lie on top of each other; keep one"
            )
        key = (residue, line[21:27].strip())
        residues[key] = residues.get(key, False) or element in ("H", "D")
    for (residue, place), hydrogens in residues.items():
        if residue in HYDROGENATED and not hydrogens:
            raise InputError(
                f"{path}: residue {residue} {place} has no hydrogen atoms, as in most crystal structures; add them "
                "first (PDBFixer, Reduce, Open Babel)"
            )


def _check_guess(where: str, name: str, residue: str) -> None:
    from ase.data import atomic_numbers

    guess = name[:2].capitalize()
    # ions stand alone in a residue of their own name; and no atom of a biomolecule is called CL or BR otherwise
    ion = residue.upper().rstrip("0123456789+-") in (guess.upper(), name.upper().rstrip("0123456789+-"))
    if len(guess) == 2 and guess in atomic_numbers and not ion and guess not in ("Cl", "Br"):
        raise InputError(
            f"{where}: the element column is empty, and atom {name} of residue {residue or '?'} would be read as "
            f"{guess}; {HOW_TO_FIX_ELEMENTS}"
        )


def drop_dummy_cell(atoms: ase.Atoms) -> None:
    """Forget the 1 Å cube that NMR and modelled structures carry in place of a cell."""
    if atoms.pbc.any() and (atoms.cell.lengths() < 1.5).all():
        note("the CRYST1 record of 1 Å is a placeholder: the structure is taken as not periodic")
        atoms.cell, atoms.pbc = None, False


def check_gro(path: Path, frames: list[ase.Atoms]) -> None:
    """Refuse a GROMACS file, which has no elements, where ASE takes CL for C, NA for N and MW for W."""
    from ase.data import atomic_numbers

    for frame in frames:
        rows = zip(frame.symbols, frame.arrays["atomtypes"], frame.arrays["residuenames"], strict=True)
        for index, (symbol, name, residue) in enumerate(rows):
            bare = name.upper().rstrip("0123456789+-")
            element = bare.capitalize()
            ion = bare == residue.upper().rstrip("0123456789+-") and element in atomic_numbers and element != symbol
            halogen = bare.startswith(("CL", "BR")) and symbol in ("C", "B")
            if ion or halogen or bare in ("MW", "LP", "EP"):
                raise InputError(
                    f"{path}: atom {index} ({name} of residue {residue}) would be read as {symbol}: GROMACS files "
                    "do not say which element an atom is; write the structure as pdb with elements, or as xyz"
                )
