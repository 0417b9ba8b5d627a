"""Helices of growing length: what one more residue adds, by the force field and by the method it learned from.

Double differences as in Fig. 3A of GEMS (Unke et al., Sci. Adv. 10, eadn4397 (2024)): ΔE(n) = E(α) - E(extended),
ΔΔE(n) the change of ΔE per residue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import ase
import numpy as np
from jaxtyping import Float, Int

from heliodor.analysis.helix import HelixPair
from heliodor.analysis.show import Axis, Curve, Number, Panel, Shown
from heliodor.api import evaluate
from heliodor.errors import InputError
from heliodor.label.calculator import labelled, relax
from heliodor.label.label import Method
from heliodor.potential import Potential
from heliodor.units import KCAL_PER_MOL


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

    if "{n}" not in sequence or len(set(lengths)) < 2:
        raise InputError(
            f"helices need a sequence with {{n}} in it and two lengths at least, not {sequence!r} and {lengths}"
        )
    pairs = []
    for n in sorted(set(lengths)):
        alpha, extended = (
            peptide(sequence.replace("{n}", str(n)), fold=fold, seed=seed).atoms for fold in ("alpha", "extended")
        )
        pairs.append(HelixPair(n, alpha, extended))
    return pairs


def label_pairs(
    pairs: Sequence[HelixPair],
    method: Method,
    relaxing: bool,
    tell: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> tuple[list[HelixPair], Float[np.ndarray, "L"], bool | None]:
    """Relax with the method if wanted, and take its energies.

    Returns:
        The pairs as their energies were taken; ΔE in eV; whether all relaxations converged (None without).
    """
    found, energies, converged = [], [], True
    for k, pair in enumerate(pairs):
        forms: dict[str, ase.Atoms] = {}
        for form in ("alpha", "extended"):
            tell(f"{method.name} of {form} n = {pair.n}", 2 * k + (form == "extended"), 2 * len(pairs))
            atoms = getattr(pair, form)
            if relaxing:
                atoms, good = relax(atoms, method, fmax=0.05, steps=200)
                converged &= good
            forms[form] = atoms
        found.append(HelixPair(pair.n, forms["alpha"], forms["extended"]))
        energies.append(labelled(method, forms["alpha"]).energy - labelled(method, forms["extended"]).energy)
    return found, np.array(energies), converged if relaxing else None


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
        False: f"relaxed with {found.reference}, not all of them to the end (0.05 eV/Å, 200 steps)",
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
