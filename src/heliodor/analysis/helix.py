"""How much longer peptides gain by folding: double differences of the energy of helices against chain length.

ΔE(n) = E(α helix) - E(fully extended) of a peptide with n repeated residues, and ΔΔE(n) = ΔE(n) - ΔE(n - 1), what one
more residue adds: its cooperativity (Fig. 3A of GEMS, Unke et al., Sci. Adv. 10, eadn4397 (2024)).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import ase
import ase.io
import numpy as np
from jaxtyping import Bool, Float, Int

from heliodor.analysis.proteins.hydrogen_bonds import STEPS, bonds_of
from heliodor.errors import InputError
from heliodor.potential import Potential
from heliodor.topology import Topology, topology_of
from heliodor.trajectory.perceive import recognised
from heliodor.units import KCAL_PER_MOL

FORMS = {"alpha": "alpha", "helix": "alpha", "extended": "extended", "fes": "extended"}
"""Ends of file names and what they mean."""

HELICAL = (STEPS.index(3), STEPS.index(4))
"""Columns of `STEPS` whose hydrogen bonds make a helix."""

Told = Callable[[int, str, int, float], bool | None]
"""Called with n, form, step and largest force (eV/Å); True stops."""


@dataclass(frozen=True, eq=False)
class HelixPair:
    """A peptide with n repeated residues, folded and not."""

    n: int
    alpha: ase.Atoms
    extended: ase.Atoms


@dataclass(frozen=True, eq=False)
class Stabilisation:
    """Of L chain lengths, ascending.

    Attributes:
        n: repeated residues.
        alpha, extended: energies in eV.
        bonds_before, bonds_after: helical hydrogen bonds (i -> i+3 and i -> i+4, by energy) of the α helix as handed in
            and as its energy was taken.
        bonds_extended: of the extended form, as its energy was taken.
        converged: whether both relaxations reached the largest force asked for; True without relaxation.
        structures: as the energies were taken.
    """

    n: Int[np.ndarray, "L"]
    alpha: Float[np.ndarray, "L"]
    extended: Float[np.ndarray, "L"]
    bonds_before: Int[np.ndarray, "L"]
    bonds_after: Int[np.ndarray, "L"]
    bonds_extended: Int[np.ndarray, "L"]
    converged: Bool[np.ndarray, "L"]
    structures: tuple[HelixPair, ...]

    @property
    def difference(self) -> Float[np.ndarray, "L"]:
        """ΔE = E(α) - E(extended), eV."""
        return self.alpha - self.extended

    @property
    def double_difference(self) -> Float[np.ndarray, "L"]:
        """ΔΔE in eV per residue: the change of ΔE from the length before, divided by the residues between them.

        NaN for the first. For lengths that follow each other it is ΔΔE(n); otherwise a mean over those between.
        """
        found: np.ndarray = np.concatenate([[np.nan], np.diff(self.difference) / np.diff(self.n)])
        return found

    @property
    def kept(self) -> Bool[np.ndarray, "L"]:
        """Whether the helix has at least half of the hydrogen bonds it came with, and the extended form none."""
        held: np.ndarray = (2 * self.bonds_after >= self.bonds_before) & (self.bonds_extended == 0)
        return held

    def table(self) -> dict[str, np.ndarray]:
        """Columns for a CSV file."""
        return {
            "n": self.n,
            "energy_alpha_eV": self.alpha,
            "energy_extended_eV": self.extended,
            "difference_eV": self.difference,
            "difference_kcal_mol": self.difference / KCAL_PER_MOL,
            "double_difference_kcal_mol_per_residue": self.double_difference / KCAL_PER_MOL,
            "helical_bonds_before": self.bonds_before,
            "helical_bonds_after": self.bonds_after,
            "helical_bonds_extended": self.bonds_extended,
            "converged": self.converged,
        }


def stabilisation(
    pairs: Sequence[HelixPair],
    potential: Potential,
    *,
    relax: bool = True,
    fmax: float = 0.01,
    max_steps: int = 2000,
    told: Told | None = None,
) -> Stabilisation:
    """Energies of helices and extended chains of growing length, both relaxed first unless ``relax`` is False.

    Args:
        pairs: with lengths that differ and the same atoms in both forms; charge and spin in ``info``.
        fmax: eV/Å, of the relaxations.
        max_steps: of each.
        told: called at each step of each relaxation.

    Raises:
        InputError: fewer than two lengths, one twice, or forms of different atoms or charges.
    """
    ordered = sorted(pairs, key=lambda pair: pair.n)
    _check(ordered)
    energies, before, after, straight, converged, structures = [], [], [], [], [], []
    for pair in ordered:
        found = {}
        for form, atoms in (("alpha", pair.alpha), ("extended", pair.extended)):
            found[form] = _energy(atoms, potential, relax, fmax, max_steps, _teller(told, pair.n, form))
        energies.append([found["alpha"][1], found["extended"][1]])
        before.append(_helical(pair.alpha, pair.alpha))
        after.append(_helical(pair.alpha, found["alpha"][0]))
        straight.append(_helical(pair.extended, found["extended"][0]))
        converged.append(found["alpha"][2] and found["extended"][2])
        structures.append(replace(pair, alpha=found["alpha"][0], extended=found["extended"][0]))
    both = np.array(energies)
    return Stabilisation(
        n=np.array([pair.n for pair in ordered]),
        alpha=both[:, 0],
        extended=both[:, 1],
        bonds_before=np.array(before),
        bonds_after=np.array(after),
        bonds_extended=np.array(straight),
        converged=np.array(converged),
        structures=tuple(structures),
    )


def _check(pairs: list[HelixPair]) -> None:
    if len(pairs) < 2:
        raise InputError(f"double differences need two chain lengths and more, not {len(pairs)}")
    for one, other in pairwise(pairs):
        if one.n == other.n:
            raise InputError(f"there are two peptides with n = {one.n}: give one of each length")
    for pair in pairs:
        if sorted(pair.alpha.numbers) != sorted(pair.extended.numbers):
            raise InputError(
                f"n = {pair.n}: helix {pair.alpha.get_chemical_formula()} and extended chain "
                f"{pair.extended.get_chemical_formula()} are different molecules"
            )
        charges = [float(atoms.info.get("charge", 0.0)) for atoms in (pair.alpha, pair.extended)]
        if charges[0] != charges[1]:
            raise InputError(f"n = {pair.n}: helix and extended chain have charges {charges[0]:g} and {charges[1]:g} e")


def _teller(told: Told | None, n: int, form: str) -> Callable[[int, float], bool | None]:
    return lambda step, largest: None if told is None else told(n, form, step, largest)


def _energy(
    atoms: ase.Atoms,
    potential: Potential,
    relax: bool,
    fmax: float,
    max_steps: int,
    told: Callable[[int, float], bool | None],
) -> tuple[ase.Atoms, float, bool]:
    """The structure, its energy in eV, and whether the relaxation converged."""
    from heliodor.api import evaluate
    from heliodor.dynamics.relax.minimize import minimize
    from heliodor.system import System

    if not relax:
        return atoms, float(evaluate(potential, atoms, forces=False).energy[0]), True
    result = minimize(
        System.from_atoms(atoms, device=potential.device),
        potential,
        fmax=fmax,
        max_steps=max_steps,
        callback=lambda step, _, largest: told(step, float(largest[0])),
    )
    relaxed = atoms.copy()
    relaxed.calc = None
    relaxed.positions = result.system.positions.cpu().numpy()
    return relaxed, float(result.energy[0]), bool(result.converged[0])


def _helical(named: ase.Atoms, placed: ase.Atoms) -> int:
    """Hydrogen bonds of helices with the bonds of the structure handed in, wherever its atoms went."""
    return int(bonds_of(_topology(named), placed.positions)[list(HELICAL)].sum())


def _topology(atoms: ase.Atoms) -> Topology:
    topology = topology_of(atoms)
    return topology if topology.named else recognised(topology) or topology


def read_pairs(folder: str | Path, name: str | None = None) -> tuple[str, tuple[HelixPair, ...]]:
    """Peptides of one series from a folder, by the names of their files.

    Files are called like ``AceAla10LysH_alpha.xyz`` and ``AceAla10LysH_extended.xyz`` (also ``_helix``, ``_fes``; xyz,
    extxyz, pdb): the last number before the last underscore is n.

    Args:
        name: of the series with ``{n}`` in the place of the number, ``AceAla{n}LysH``, where the folder holds several.

    Returns:
        The name of the series, and its pairs by ascending n.

    Raises:
        InputError: no folder, no series of two lengths and more, several series and none named, unreadable files.
    """
    place = Path(folder)
    if not place.is_dir():
        raise InputError(f"there is no folder {place}")
    series: dict[str, dict[int, dict[str, Path]]] = {}
    for path in sorted(place.iterdir()):
        match = re.fullmatch(r"(.*?)(\d+)([^\d_]*)_([a-z]+)", path.stem)
        if match and match[4] in FORMS and path.suffix in (".xyz", ".extxyz", ".pdb"):
            known = series.setdefault(f"{match[1]}{{n}}{match[3]}", {})
            known.setdefault(int(match[2]), {})[FORMS[match[4]]] = path
    whole = {title: {n: forms for n, forms in lengths.items() if len(forms) == 2} for title, lengths in series.items()}
    whole = {title: lengths for title, lengths in whole.items() if len(lengths) > 1}
    if name is not None and name not in whole:
        raise InputError(f"{place} holds no series {name}; it holds {', '.join(whole) or 'none'}")
    if not whole:
        raise InputError(
            f"{place} holds no two lengths of a peptide in both forms: names must be like AceAla3LysH_alpha.xyz and "
            "AceAla3LysH_extended.xyz"
        )
    if name is None and len(whole) > 1:
        raise InputError(f"{place} holds several series: say which with --sequence, one of {', '.join(whole)}")
    title = name or next(iter(whole))
    pairs = [HelixPair(n, _read(forms["alpha"]), _read(forms["extended"])) for n, forms in sorted(whole[title].items())]
    return title, tuple(pairs)


def _read(path: Path) -> ase.Atoms:
    try:
        atoms = ase.io.read(path, index=0)
    except Exception as error:
        raise InputError(f"{path} cannot be read as a structure: {' '.join(str(error).split())[:200]}") from None
    assert isinstance(atoms, ase.Atoms)
    return atoms


def draw(found: Stabilisation, path: Path, title: str) -> None:
    """Write a PNG: ΔE and ΔΔE per residue against n."""
    # imported here: it takes half a second, and no global state of pyplot is touched
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(5.4, 6.2), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.plot(found.n, found.difference / KCAL_PER_MOL, "o-", ms=5)
    upper.set_ylabel("ΔE = E(α) - E(extended) (kcal/mol)")
    steps = np.diff(found.n)
    values = found.double_difference[1:] / KCAL_PER_MOL
    if (steps == 1).all():
        lower.plot(found.n[1:], values, "o-", ms=5)
        lower.set_ylabel("ΔΔE(n) = ΔE(n) - ΔE(n-1) (kcal/mol)")
    else:
        lower.errorbar(found.n[1:] - 0.5 * steps, values, xerr=0.5 * steps, fmt="o", ms=5, capsize=3)
        lower.set_ylabel("ΔΔE per residue between lengths (kcal/mol)")
    lower.set_xlabel("residues n")
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (upper, lower):
        axes.axhline(0.0, color="0.6", lw=0.8, zorder=0)
        axes.grid(alpha=0.2)
    upper.set_title(title, fontsize=10)
    figure.savefig(path, dpi=150, format="png")
