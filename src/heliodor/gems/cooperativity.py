"""Helices of growing length: what one more residue adds, by the force field and by the method it learned from.

Double differences as in Fig. 3A of GEMS (Unke et al., Sci. Adv. 10, eadn4397 (2024)): ΔE(n) = E(α) - E(extended),
ΔΔE(n) the change of ΔE per residue.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
from jaxtyping import Float, Int

from heliodor.analysis.helix import HelixPair
from heliodor.analysis.show import Axis, Curve, Number, Panel, Shown
from heliodor.api import evaluate
from heliodor.dynamics.files.storage import write_durably
from heliodor.errors import HeliodorError, InputError
from heliodor.fragments.energy_source import relaxed
from heliodor.gems.config import Config
from heliodor.gems.pieces import weights
from heliodor.gems.together import pool
from heliodor.label.methods import find_method
from heliodor.label.single import labelled
from heliodor.potential import Potential
from heliodor.units import KCAL_PER_MOL

OUTPUTS = ("helix.json", "helix.xyz")

FORCE, STEPS = 0.05, 200
"""eV/Å and steps of relaxations."""

QUICK = ("gfn", "teacher:")
"""Methods that can relax a hundred atoms in minutes."""


@dataclass(frozen=True, eq=False)
class Cooperativity:
    """Of L chain lengths, ascending.

    Attributes:
        sequence: with {n}.
        n: repeated residues.
        difference: ΔE in eV by the name of the model or method.
        reference: which of them is the method.
        relaxed: whether geometries were relaxed with the method, and all of them converged; None: as built.
    """

    sequence: str
    n: Int[np.ndarray, "L"]
    difference: dict[str, Float[np.ndarray, "L"]]
    reference: str
    relaxed: bool | None

    def double_difference(self, name: str) -> Float[np.ndarray, "L1"]:
        """eV per residue, of all lengths but the first."""
        found: np.ndarray = np.diff(self.difference[name]) / np.diff(self.n)
        return found


def build_pairs(sequence: str, lengths: Sequence[int], seed: int = 0) -> list[HelixPair]:
    """α helix and fully extended form of each length.

    Raises:
        InputError: no {n} in the sequence, or fewer than two lengths.
    """
    from heliodor.prepare.peptides import peptide

    check_series(sequence, lengths)
    pairs = []
    for n in sorted(set(lengths)):
        alpha, extended = (
            peptide(sequence.replace("{n}", str(n)), fold=fold, seed=seed).atoms for fold in ("alpha", "extended")
        )
        pairs.append(HelixPair(n, alpha, extended))
    return pairs


def check_series(sequence: str, lengths: Sequence[int]) -> None:
    """Refuse what is no series.

    Raises:
        InputError: no {n} in the sequence, or fewer than two lengths.
    """
    if "{n}" not in sequence or len(set(lengths)) < 2:
        raise InputError(
            f"helices need a sequence with {{n}} in it and two lengths at least, not {sequence!r} and {lengths}"
        )


def label_pairs(
    pairs: Sequence[HelixPair],
    method: str,
    relaxing: bool,
    kept: Path,
    workers: int = 1,
    tell: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> tuple[list[HelixPair], Float[np.ndarray, "L"], bool | None]:
    """Relax with the method if wanted, and take its energies.

    Args:
        method: its name.
        kept: folder for what is done, so that nothing is done twice.
        workers: processes.

    Raises:
        HeliodorError: a process was killed.

    Returns:
        The pairs as their energies were taken; ΔE in eV; whether all relaxations converged (None without).
    """
    # the longest first: they take longest
    jobs = [(k, form) for k in reversed(range(len(pairs))) for form in ("alpha", "extended")]
    done: dict[tuple[int, str], tuple[ase.Atoms, float, bool]] = {}
    kept.mkdir(exist_ok=True)
    try:
        with pool(min(workers, len(jobs))) as processes:
            waiting = {
                processes.submit(_settled, method, getattr(pairs[k], form), relaxing, kept): (k, form)
                for k, form in jobs
            }
            tell(f"{method} of helices and extended chains", 0, len(jobs))
            for future in as_completed(waiting):
                done[waiting[future]] = future.result()
                tell(f"{method} of helices and extended chains", len(done), len(jobs))
    except BrokenProcessPool:
        raise HeliodorError("a process that labelled helices was killed: start the same command again") from None
    found = [HelixPair(pair.n, done[k, "alpha"][0], done[k, "extended"][0]) for k, pair in enumerate(pairs)]
    energies = np.array([done[k, "alpha"][1] - done[k, "extended"][1] for k in range(len(pairs))])
    return found, energies, all(good for _, _, good in done.values()) if relaxing else None


def _settled(method: str, atoms: ase.Atoms, relaxing: bool, kept: Path) -> tuple[ase.Atoms, float, bool]:
    """A structure relaxed if wanted, its energy (eV), and whether it converged; kept in a file when it is done."""
    choices = [method, weights(method), relaxing, FORCE, STEPS, atoms.numbers.tolist(), atoms.positions.tolist()]
    path = kept / f"{hashlib.sha256(json.dumps(choices).encode()).hexdigest()[:24]}.xyz"
    if path.is_file():
        found = ase.io.read(path, format="extxyz")
        assert isinstance(found, ase.Atoms)
        return found, float(found.info.pop("label_eV")), bool(found.info.pop("converged"))
    source, left = find_method(method), 0.0
    if relaxing:
        atoms, left = relaxed(source, atoms, fmax=FORCE, steps=STEPS)
    energy = labelled(source, atoms).energy
    written = atoms.copy()
    written.info |= {"label_eV": energy, "converged": left <= FORCE}
    part = path.with_name(path.name + ".part")
    ase.io.write(part, written, format="extxyz")
    part.replace(path)
    return atoms, energy, left <= FORCE


def cooperativity(
    sequence: str,
    pairs: Sequence[HelixPair],
    reference: tuple[str, Float[np.ndarray, "L"]],
    models: Mapping[str, Potential],
    relaxed: bool | None,
) -> Cooperativity:
    """Differences by models at the same geometries.

    Args:
        reference: the method's name and ΔE, eV.
    """
    differences = {reference[0]: reference[1]}
    for name, potential in models.items():
        alpha = evaluate(potential, [pair.alpha for pair in pairs], forces=False).energy.double().numpy()
        extended = evaluate(potential, [pair.extended for pair in pairs], forces=False).energy.double().numpy()
        differences[name] = alpha - extended
    return Cooperativity(sequence, np.array([pair.n for pair in pairs]), differences, reference[0], relaxed)


def show(found: Cooperativity) -> Shown:
    """ΔE and ΔΔE against the number of residues, kcal/mol."""
    total, added, numbers = [], [], []
    true = found.double_difference(found.reference)
    for name, difference in found.difference.items():
        mine = found.double_difference(name)
        is_reference = name == found.reference
        total.append(Curve(name, found.n.astype(float), difference / KCAL_PER_MOL, reference=is_reference))
        added.append(Curve(name, found.n[1:].astype(float), mine / KCAL_PER_MOL, reference=is_reference))
        if not is_reference:
            error = float(np.abs(mine - true).mean()) / KCAL_PER_MOL
            title = f"{name}: ΔΔE, mean absolute deviation from {found.reference}"
            numbers.append(Number(title, error, unit="kcal/mol per residue"))
    where = {
        None: "as built (force field geometry, ideal backbone)",
        True: f"relaxed with {found.reference}",
        False: f"relaxed with {found.reference}, not all of them to the end ({FORCE} eV/Å, {STEPS} steps)",
    }[found.relaxed]
    x = Axis("n")
    table = {"n": found.n} | {f"difference_{name.replace(' ', '_')}_eV": d for name, d in found.difference.items()}
    return Shown(
        "helix",
        f"Stability of helices: {found.sequence}",
        panels=(
            Panel("E(α) - E(extended)", x, Axis("ΔE", "kcal/mol"), tuple(total)),
            Panel("What one more residue adds", x, Axis("ΔΔE", "kcal/mol per residue"), tuple(added)),
        ),
        numbers=tuple(numbers),
        notes=(f"All energies are of the same structures, {where}.", "Double differences as in Fig. 3A of GEMS."),
        tables={"helix": table},
    )


def label_series(folder: Path, config: Config, tell: Callable[[str, int, int], None]) -> dict[str, Any]:
    """Build helices of growing length, relax and label them, and keep what came out in `OUTPUTS`."""
    choices = config.validate
    assert choices.helix is not None
    method = find_method(config.label.method)
    tell("building peptides", 0, 0)
    pairs = build_pairs(choices.helix, choices.lengths, config.seed)
    relaxing = choices.relax and method.name.startswith(QUICK)
    pairs, difference, converged = label_pairs(pairs, method.name, relaxing, folder / "helix", config.workers, tell)
    part = folder / ".helix.part"
    ase.io.write(part, [form for pair in pairs for form in (pair.alpha, pair.extended)], format="extxyz")
    part.replace(folder / OUTPUTS[1])
    record = {
        "sequence": choices.helix,
        "n": [pair.n for pair in pairs],
        "method": method.name,
        "difference_eV": difference.tolist(),
        "relaxed": converged,
    }
    write_durably(folder / OUTPUTS[0], json.dumps(record, indent=1).encode())
    return {"lengths": len(pairs), "relaxed": str(converged)}


def read_series(folder: Path, models: Mapping[str, Potential]) -> Cooperativity:
    """What `label_series` left, with the models' answers for the same structures."""
    record = json.loads((folder / OUTPUTS[0]).read_text(encoding="utf-8"))
    frames = ase.io.read(folder / OUTPUTS[1], index=":", format="extxyz")
    assert isinstance(frames, list)
    pairs = [HelixPair(n, frames[2 * k], frames[2 * k + 1]) for k, n in enumerate(record["n"])]
    reference = record["method"], np.array(record["difference_eV"])
    return cooperativity(record["sequence"], pairs, reference, models, record["relaxed"])
