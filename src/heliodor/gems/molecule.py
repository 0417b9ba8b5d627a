"""The molecule a force field is made for: from a sequence, a PDB file or a structure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np

from heliodor.errors import InputError
from heliodor.gems.config import SystemChoices
from heliodor.system import System

PDB = (".pdb", ".ent", ".cif", ".mmcif")


@dataclass(frozen=True, eq=False)
class Source:
    """What was handed in.

    Attributes:
        words: for people: the file's name, or the sequence.
        digest: of its content, so that a stage knows when it changed.
        sequence: None for files and structures.
        path: of a PDB or mmCIF file.
        atoms: a structure as it is.
    """

    words: str
    digest: str
    sequence: str | None = None
    path: Path | None = None
    atoms: ase.Atoms | None = None


def read_source(source: str | Path | ase.Atoms) -> Source:
    """Tell sequences, PDB files and structures apart.

    Raises:
        InputError: neither a file nor a sequence.
    """
    if isinstance(source, ase.Atoms):
        arrays = [source.numbers, source.positions, np.asarray(source.cell), source.pbc]
        arrays += [source.arrays[name] for name in sorted(source.arrays) if name not in ("numbers", "positions")]
        digest = hashlib.sha256(repr(sorted(source.info.items(), key=str)).encode())
        for array in arrays:
            digest.update(repr(np.asarray(array).tolist()).encode())
        return Source(source.get_chemical_formula(), digest.hexdigest(), atoms=source)
    path = Path(source)
    if path.is_file():
        digest_of_file = hashlib.sha256(path.read_bytes()).hexdigest()
        if path.name.lower().removesuffix(".gz").endswith(PDB):
            return Source(path.name, digest_of_file, path=path)
        try:
            atoms = ase.io.read(path, index=0)
        except Exception as error:
            raise InputError(f"{path} cannot be read as a structure: {' '.join(str(error).split())[:200]}") from None
        assert isinstance(atoms, ase.Atoms)
        return Source(path.name, digest_of_file, atoms=atoms)
    if path.suffix or len(path.parts) > 1:
        raise InputError(f"there is no file {path}")
    from heliodor.prepare.sequence import parse_sequence

    parse_sequence(str(source))
    return Source(str(source), hashlib.sha256(str(source).encode()).hexdigest(), sequence=str(source))


def build_system(source: Source, choices: SystemChoices, seed: int, tell: Any) -> list[ase.Atoms]:
    """The molecule with names, charge and all hydrogens: one structure, or of a sequence one for each fold.

    Raises:
        InputError: what cannot be prepared; a charge that does not fit the number of electrons.
    """
    if source.sequence is not None:
        from heliodor.prepare.peptides import peptide

        frames = []
        for k, fold in enumerate(choices.folds):
            tell(f"building {source.words} ({fold})", k, len(choices.folds))
            frames.append(peptide(source.sequence, fold=fold, ph=choices.ph, seed=seed).atoms)
        return frames
    if source.path is not None:
        from heliodor.prepare.pdb import Choices, prepare_file
        from heliodor.prepare.solvate import Solvent

        solvent = None if choices.solvate is None else Solvent(margin=choices.solvate)
        made = prepare_file(
            source.path,
            Choices(ph=choices.ph, solvent=solvent, seed=seed, ions=True),
            progress=lambda what, part: tell(what, round(100 * part), 100),
        )
        return [made.atoms]
    assert source.atoms is not None
    atoms = source.atoms.copy()
    if choices.charge is not None:
        atoms.info["charge"] = choices.charge
    electrons = int(atoms.numbers.sum()) - round(float(System.from_atoms(atoms).charge[0]))
    spin = int(System.from_atoms(atoms).spin[0])
    if (electrons - spin) % 2:
        raise InputError(
            f"{source.words}: charge {atoms.info.get('charge', 0)} leaves {electrons} electrons, which cannot have "
            f"{spin} unpaired: hydrogens are missing, or set system.charge (--charge)"
        )
    if not (atoms.numbers == 1).any():
        raise InputError(f"{source.words} has no hydrogens: prepare it first (heliodor prepare {source.words})")
    return [atoms]
