"""Writing a prepared system: extended xyz for the model, PDB for names and bonds, JSON for where it comes from."""

from __future__ import annotations

import io
import json
import platform
import shlex
import sys
import time
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Bool, Int

from heliodor.dynamics.files.storage import put_in_place, write_durably
from heliodor.dynamics.files.trajectory import refuse_existing
from heliodor.errors import InputError
from heliodor.prepare.prepared import LARGEST_NUMBER, WATERS, Prepared, fit_for_pdb
from heliodor.topology import Topology

PACKAGES = ("openmm", "pdbfixer", "rdkit", "PeptideBuilder", "packmol", "numpy", "ase")

AMINO_ACIDS = tuple("ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL".split())  # noqa: SIM905
PROTEIN = (*AMINO_ACIDS, "ASH", "CYX", "GLH", "HID", "HIE", "HIP", "LYN", "ACE", "NME", "NH2")
NUCLEIC = ("DA", "DC", "DG", "DT", "DI", "A", "C", "G", "U", "I")
LAST_SERIAL = 99_999
"""Five columns hold no more, and readers disagree about letters in them: MDTraj, for one, loses every CONECT record of
a file with such. Atoms from here on share this number."""

_SUFFIXES = (".prepare.json", ".xyz", ".extxyz", ".pdb")


def output_paths(stem: str | Path) -> tuple[Path, Path, Path]:
    """The xyz, pdb and json files of a stem, or of the name of one of them."""
    path = Path(stem)
    ending = next((ending for ending in _SUFFIXES if path.name.endswith(ending)), "")
    base = path.with_name(path.name.removesuffix(ending)) if path.name != ending else path
    if not base.name or path.name == ending:
        raise InputError(f"{str(stem)!r} is no name for output files")
    return (
        base.with_name(base.name + ".xyz"),
        base.with_name(base.name + ".pdb"),
        base.with_name(base.name + ".prepare.json"),
    )


def refuse_outputs(stem: str | Path, overwrite: bool = False, source: Path | None = None) -> None:
    """To be called before the work begins.

    Args:
        source: the file handed in, which is never replaced.

    Raises:
        InputError: one of the files exists, or there is no such folder; ``source`` is one of them.
    """
    for path in output_paths(stem):
        if source is not None and path.exists() and source.exists() and path.samefile(source):
            raise InputError(f"{path} is the structure handed in: choose another --output")
        refuse_existing(path, overwrite)


def write_prepared(prepared: Prepared, stem: str | Path, overwrite: bool = False) -> tuple[Path, Path]:
    """Write ``<stem>.xyz`` (extended xyz), ``<stem>.pdb`` and ``<stem>.prepare.json``.

    Each gets its name when it is complete. (``md -o <stem>.h5`` writes a ``<stem>.json`` of its own.)

    Args:
        stem: without ending; one of the three endings is taken off.

    Returns:
        The xyz and the pdb file.

    Raises:
        InputError: files that exist; positions a PDB file cannot hold.
    """
    import ase.io

    refuse_outputs(stem, overwrite)
    xyz, pdb, record = output_paths(stem)
    fitted = fit_for_pdb(prepared.topology)
    if fitted is not prepared.topology:
        prepared = Prepared(
            prepared.atoms.copy(), fitted, prepared.charge, prepared.charged, prepared.notes, prepared.details
        )
    text = pdb_text(prepared)
    lost = unwritten_bonds(prepared.topology)
    if lost:
        prepared = prepared.with_notes(
            f"{lost} bonds have no CONECT record in {pdb.name}, which numbers {LAST_SERIAL - 1} atoms: readers that do "
            "not know the residues by name miss them"
        )
    made = json.dumps(provenance(prepared), indent=2, ensure_ascii=False, default=str) + "\n"
    part = xyz.with_name(f".{xyz.name}.part")
    try:
        ase.io.write(part, prepared.atoms, format="extxyz")
        put_in_place(part, xyz)
    finally:
        part.unlink(missing_ok=True)
    write_durably(pdb, text.encode("ascii", errors="replace"))
    write_durably(record, made.encode())
    return xyz, pdb


def provenance(prepared: Prepared) -> dict[str, Any]:
    """What was made, from what, by which command and programs, with every choice on the way."""
    return {
        "command": shlex.join(sys.argv),
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": {"python": platform.python_version()} | _versions(),
        "atoms": len(prepared.atoms),
        "formula": prepared.atoms.get_chemical_formula("hill"),
        "charge": prepared.charge,
        "cell_A": prepared.atoms.cell.array.tolist() if prepared.atoms.pbc.any() else None,
        "residues": residue_counts(prepared.topology),
        "charged_residues": dict(prepared.charged),
        "notes": list(prepared.notes),
        **dict(prepared.details),
    }


def residue_counts(topology: Topology) -> dict[str, int]:
    """How many residues of each name, in order of first appearance."""
    starts = np.flatnonzero(np.diff(topology.residues, prepend=-1))
    return dict(Counter(topology.residue_names[starts].tolist()))


def pdb_text(prepared: Prepared) -> str:
    """A PDB file: CRYST1, atoms with elements, TER after each chain, CONECT for all bonds but water's.

    OpenMM, MDTraj and MDAnalysis read the same bonds; of atoms beyond `LAST_SERIAL` those they know by name.

    Raises:
        InputError: coordinates that are not finite or need more than eight columns; residue numbers of five digits.
    """
    topology, positions = prepared.topology, prepared.atoms.positions
    if not np.isfinite(positions).all():
        raise InputError("some positions are not finite: nothing is written")
    if len(positions) and (positions.max() > 9999.0 or positions.min() < -999.0):
        raise InputError("a PDB file holds coordinates from -999 to 9999 Å only: move the structure towards the origin")
    if (topology.residue_numbers > LARGEST_NUMBER).any() or (topology.residue_numbers < -999).any():
        raise InputError("a PDB file holds residue numbers of four digits only")
    out = io.StringIO()
    out.write("REMARK   1 made by heliodor prepare, total charge " + f"{prepared.charge:+d}\n")
    if prepared.atoms.pbc.any():
        a, b, c, alpha, beta, gamma = prepared.atoms.cell.cellpar()
        out.write(f"CRYST1{a:9.3f}{b:9.3f}{c:9.3f}{alpha:7.2f}{beta:7.2f}{gamma:7.2f} P 1           1\n")
    ends = _ends_of_chains(topology)
    serials = _serials(topology)
    for k in range(len(topology)):
        residue = topology.residue_names[k][:4]
        kind = "ATOM  " if residue in PROTEIN or residue in NUCLEIC else "HETATM"
        place = f"{residue:>3s}" if len(residue) < 4 else residue
        where = f"{place:<4s}{topology.chains[k][:1]}{topology.residue_numbers[k]:4d}"
        x, y, z = positions[k]
        symbol = chemical_symbols[topology.numbers[k]]
        out.write(
            f"{kind}{serials[k]:5d} {_name(topology.names[k], symbol)} {where}    {x:8.3f}{y:8.3f}{z:8.3f}"
            f"  1.00  0.00          {symbol.upper():>2s}\n"
        )
        if k in ends:
            out.write(f"TER   {min(serials[k] + 1, LAST_SERIAL):5d}      {where}\n")
    for first, others in _connections(topology, serials).items():
        for start in range(0, len(others), 4):
            row = [first, *others[start : start + 4]]
            out.write("CONECT" + "".join(f"{serials[k]:5d}" for k in row) + "\n")
    out.write("END\n")
    return out.getvalue()


def unwritten_bonds(topology: Topology) -> int:
    """Bonds, not of water, of atoms beyond the numbers a PDB file has."""
    return int(_needed(topology).sum() - _written(topology, _serials(topology)).sum())


def _needed(topology: Topology) -> Bool[np.ndarray, "K"]:
    """Bonds for CONECT records: all but water's. Readers know bonds of standard residues by name, but no two the same:
    not those of ASH, GLH and LYN, of hydrogens at the ends of chains, from one nucleotide to the next.
    """
    water = np.isin(topology.residue_names, list(WATERS))
    return ~water[topology.bonds].all(1)


def _written(topology: Topology, serials: Int[np.ndarray, "N"]) -> Bool[np.ndarray, "K"]:
    return _needed(topology) & (serials[topology.bonds] < LAST_SERIAL).all(1)


def _serials(topology: Topology) -> Int[np.ndarray, "N"]:
    """Numbers of the atoms; the end of a chain takes one too."""
    before = np.zeros(len(topology), dtype=np.int64)
    before[1:] = np.cumsum(topology.chains[1:] != topology.chains[:-1])
    return np.minimum(np.arange(1, len(topology) + 1) + before, LAST_SERIAL)


def _connections(topology: Topology, serials: Int[np.ndarray, "N"]) -> dict[int, list[int]]:
    """Bonded atoms of each atom."""
    found: dict[int, list[int]] = {}
    for i, j in topology.bonds[_written(topology, serials)].tolist():
        found.setdefault(i, []).append(j)
        found.setdefault(j, []).append(i)
    return dict(sorted(found.items()))


def _ends_of_chains(topology: Topology) -> set[int]:
    changes: Int[np.ndarray, "n"] = np.flatnonzero(topology.chains[1:] != topology.chains[:-1])
    return {*changes.tolist(), len(topology) - 1}


def _name(name: str, symbol: str) -> str:
    """Four columns: elements of one letter begin in the second unless the name needs all."""
    name = name[:4]
    return f" {name:<3s}" if len(name) < 4 and len(symbol) == 1 else f"{name:<4s}"


def _versions() -> dict[str, str]:
    from heliodor import __version__

    found = {"heliodor": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
