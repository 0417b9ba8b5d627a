"""SAPT10k: interaction energies of dimers, neutral and charged (Villot & Lao, J. Chem. Phys. 160, 184103 (2024))."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import ase
import numpy as np
from ase.io import iread

from heliodor.bench.interactions import Evaluator
from heliodor.bench.reactions import Reaction, ReactionSet
from heliodor.bench.result import KCAL, QUICK, Row, Task, spread_out
from heliodor.errors import InputError
from heliodor.interaction import PROTOCOLS
from heliodor.potential import Potential

WHOLE = 9948
"""Dimers that the SO3LR authors evaluated."""

TITLE = "dimers of 70 collections"
APART = 5000.0
"""Å; a structure wider than this is the separated copy of a dimer."""


def read_dimers(path: Path) -> tuple[list[ase.Atoms], list[np.ndarray]]:
    """Dimers and the fragment of each atom.

    The file is extended xyz (.gz or not) with info keys charge_a, charge_b, benchmark_Eint (kcal/mol) and either an
    array `fragment` or, as in the SO3LR authors' examples/data/sapt10k.zip, each dimer a second time with its monomers
    far apart.

    Raises:
        InputError: the file lacks these.
    """
    try:
        content = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
        frames = list(iread(io.StringIO(content), ":", format="extxyz"))
    except (EOFError, KeyError, OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as extended xyz: {error}") from None
    for number, atoms in enumerate(frames):
        missing = [key for key in ("charge_a", "charge_b", "benchmark_Eint") if key not in atoms.info]
        if missing:
            raise InputError(f"{path}: structure {number} has no {missing[0]} in its comment line")
    near = [atoms for atoms in frames if np.ptp(atoms.positions, axis=0).max() < APART]
    far = [atoms for atoms in frames if np.ptp(atoms.positions, axis=0).max() >= APART]
    if far:
        moved = [np.abs(b.positions - a.positions).max(axis=1) > 0.5 * APART for a, b in zip(near, far, strict=True)]
        return near, [m.astype(int) for m in moved]
    if not all("fragment" in atoms.arrays for atoms in near):
        raise InputError(f"{path}: a dimer has neither an array 'fragment' nor a second copy with monomers far apart")
    return near, [atoms.arrays["fragment"] for atoms in near]


def read_sapt10k(path: Path) -> ReactionSet:
    """As a set of reactions: each dimer minus its monomers."""
    dimers, fragments = read_dimers(path)
    structures: dict[str, ase.Atoms] = {}
    reactions = []
    for number, (atoms, fragment) in enumerate(zip(dimers, fragments, strict=True)):
        name = f"{number:05d} {atoms.info.get('folder_name', '')}".strip()
        charges = [float(atoms.info[key]) for key in ("charge_a", "charge_b")]
        parts = [ase.Atoms(atoms[fragment == label]) for label in np.unique(fragment)]
        if len(parts) != 2:
            raise InputError(f"{path}: dimer {number} has {len(parts)} fragments")
        for part, charge in zip(parts, charges, strict=True):
            part.info = {"charge": charge}
        whole = parts[0] + parts[1]
        whole.info = {"charge": sum(charges)}
        structures |= {name: whole, f"{name} A": parts[0], f"{name} B": parts[1]}
        terms = ((name, 1.0), (f"{name} A", -1.0), (f"{name} B", -1.0))
        reactions.append(Reaction(name, terms, float(atoms.info["benchmark_Eint"])))
    digest = sha256(path.read_bytes()).hexdigest()
    return ReactionSet("SAPT10k", "SAPT2+(3)(CCD)/aug-cc-pVTZ", "", structures, tuple(reactions), digest)


def sapt10k_task(folder: Path, protocol: str = "fragments") -> Task:
    """The task of the dimers in a folder.

    Raises:
        InputError: no file of dimers there.
    """
    files = sorted(folder.glob("sapt10k*.xyz*"))
    if not files:
        raise InputError(f"there is no sapt10k*.xyz or .xyz.gz in {folder}")
    data = read_sapt10k(files[0])
    names = tuple(reaction.name for reaction in data.reactions)

    def group(reaction: Reaction, data: ReactionSet) -> str:
        charged = any(data.structures[name].info["charge"] for name, _ in reaction.terms)
        return "charged" if charged else "neutral"

    def evaluate(potential: Potential, items: Sequence[str]) -> Iterator[Row]:
        return Evaluator(potential, data, group, lambda _: float("nan"), protocol).rows(items)

    key = data.sha256 if protocol == PROTOCOLS[0] else f"{data.sha256} {protocol}"
    part = f"{len(names)} of its {WHOLE} dimers are in the data folder" if len(names) < WHOLE else ""
    return Task(
        "sapt10k", TITLE, data.level, KCAL, key, names, spread_out(names, QUICK),
        evaluate, part, "hours" if len(names) > 2000 else "minutes",
    )  # fmt: skip
