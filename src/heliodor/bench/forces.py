"""Forces on given structures against a set's own level of theory."""

from __future__ import annotations

import gzip
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import ase
import numpy as np
from ase.io import iread

from heliodor.api import evaluate
from heliodor.bench.interactions import BATCH_ATOMS, refusal
from heliodor.bench.result import FORCE, Row, Task, spread_out
from heliodor.errors import HeliodorError, InputError
from heliodor.potential import ModelWarning, Potential
from heliodor.system import System, read_charge, read_spin

LIMIT = 200
"""Structures of a file, evenly spread."""

QUICK = 10


@dataclass(frozen=True)
class ForceSet:
    """A file of labelled structures.

    Attributes:
        name, path, title, level: as of sets of reactions.
        limit: structures taken, evenly spread.
    """

    name: str
    path: str
    title: str
    level: str
    limit: int = LIMIT


FORCES = (
    ForceSet("aspirin-rmd17", "ef_md17/rmd17_aspirin_split01_training.xyz.gz", "aspirin, 500 K", "PBE/def2-SVP"),
    ForceSet("ethanol-md17", "ef_md17/ethanol_so3lr.xyz.gz", "ethanol, 500 K", "PBE+TS"),
    ForceSet("ethanol-pbe", "ef_botnet/ethanol_pbe/test_MD.xyz.gz", "ethanol", "PBE/def2-SVP"),
    ForceSet("3bpa-300k", "ef_botnet/3bpa/train_300K.xyz.gz", "3BPA, 300 K", "ωB97X/6-31G(d)"),
    ForceSet("acac-300k", "ef_botnet/acac/test_MD_300K.xyz.gz", "acetylacetone, 300 K", "UHF-PBE+D3/def2-SVP"),
    ForceSet("spice-dipeptides", "ef_spice_dipeptides/spice_dipep_dipolar_val.xyz.gz", "dipeptides of SPICE",
             "ωB97M-D3(BJ)/def2-TZVPPD"),
    ForceSet("spice-mixed", "ef_small_misc/spice_1.1.4_n2.xyz.gz", "two molecules of SPICE",
             "ωB97M-D3(BJ)/def2-TZVPPD"),
    ForceSet("comp6-s66x8", "ef_small_misc/comp6_s66x8_wb97x_631gd.xyz.gz", "dimers of S66x8", "ωB97X/6-31G(d)"),
    ForceSet("aimnet-tests", "ef_small_misc/aimnet_tests.xyz.gz", "molecules with charges -3 to +2 and radicals",
             "that of AIMNet2 (not stated in the file)"),
    ForceSet("lode-dimers", "ef_lode_dimers/lode_dimers_hse06.xyz.gz", "charged, polar and apolar dimers",
             "HSE06+MBD (of the paper; not stated in the file)"),
    ForceSet("electrolytes-xtb", "ef_mace_tutorial_xtb/solvent_test.xyz.gz", "clusters of carbonates", "GFN2-xTB"),
    ForceSet("water-pbe0", "ef_water/deepmd_water64_pbe0ts_public.xyz.gz", "liquid water, 64 molecules",
             "PBE0+TS (of the papers; not stated in the file)", 20),
)  # fmt: skip


def force_task(data: Path, one: ForceSet) -> Task:
    """The task of one file.

    Raises:
        InputError: it cannot be read, or has no forces.
    """
    path = data / one.path
    try:
        raw = path.read_bytes()
        content = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
        frames = [atoms for atoms in iread(io.StringIO(content), ":", format="extxyz") if len(atoms) > 1]
    except (EOFError, KeyError, OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as extended xyz: {error}") from None
    chosen = {name: frames[int(name)] for name in spread_out([f"{k}" for k in range(len(frames))], one.limit)}
    labels = {name: _forces(atoms, path, name) for name, atoms in chosen.items()}
    names = tuple(chosen)

    def rows(potential: Potential, items: Sequence[str]) -> Iterator[Row]:
        yield from force_rows(potential, {name: chosen[name] for name in items}, labels)

    part = f"{len(names)} of its {len(frames)} structures" if len(names) < len(frames) else ""
    key = sha256(raw + f"{one.limit}".encode()).hexdigest()
    return Task(one.name, one.title, one.level, FORCE, key, names, spread_out(names, QUICK), rows, part, "minutes")


def force_rows(potential: Potential, structures: dict[str, ase.Atoms], labels: dict[str, np.ndarray]) -> Iterator[Row]:
    """One row a structure, meV/Å: the root mean square error of its components, their mean absolute error beside.

    Args:
        labels: forces in eV/Å by the structures' names.
    """
    chunk: list[str] = []
    for name, atoms in structures.items():
        if chunk and sum(len(structures[k]) for k in chunk) + len(atoms) > BATCH_ATOMS:
            yield from _chunk(potential, chunk, structures, labels)
            chunk = []
        chunk.append(name)
    if chunk:
        yield from _chunk(potential, chunk, structures, labels)


def _chunk(
    potential: Potential, names: list[str], structures: dict[str, ase.Atoms], labels: dict[str, np.ndarray]
) -> list[Row]:
    groups = {name: _group(structures[name]) for name in names}
    reasons = {name: refusal(potential, System.from_atoms(structures[name])) for name in names}
    rows = {name: Row(name, group=groups[name], skipped=reason) for name, reason in reasons.items() if reason}
    good = [name for name in names if not reasons[name]]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ModelWarning)
            found = evaluate(potential, [structures[name] for name in good]).forces if good else None
    except HeliodorError as error:
        if len(good) > 1:
            return [row for name in names for row in _chunk(potential, [name], structures, labels)]
        return [Row(good[0], group=groups[good[0]], skipped=" ".join(str(error).split()))]
    first = 0
    for name in good:
        assert found is not None
        count = len(structures[name])
        off = 1000.0 * (found[first : first + count].double().numpy() - labels[name])
        first += count
        rmse = float(np.sqrt(np.mean(np.square(off))))
        rows[name] = Row(
            name, 0.0, rmse, groups[name], how="forces", weight=off.size, mean_absolute=float(np.abs(off).mean())
        )
    return [rows[name] for name in names]


def _group(atoms: ase.Atoms) -> str:
    if read_spin(atoms):
        return "open shell"
    return "charged" if read_charge(atoms) else "neutral"


def _forces(atoms: ase.Atoms, path: Path, name: str) -> np.ndarray:
    stored = atoms.calc.results.get("forces") if atoms.calc is not None else atoms.arrays.get("forces")
    if stored is None:
        raise InputError(f"{path}: structure {name} has no forces")
    return np.asarray(stored, dtype=float)
