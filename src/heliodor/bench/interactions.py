"""Energies of reactions by a model that may have no common zero for different charges.

A complex minus its monomers is computed at one total charge where the model can keep fragments apart: each fragment
keeps its own charge, together and infinitely far apart (`heliodor.interaction_energy`; the protocol by which SO3LR's
authors reach 0.90 kcal/mol on SAPT10k). Monomers relaxed on their own add their deformation energies, which compare a
fragment with itself at one charge. Other reactions are plain sums where a plain sum means something.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import ase
import numpy as np
from ase.data import chemical_symbols

from heliodor.api import evaluate
from heliodor.bench.complexes import Binding, binding_of
from heliodor.bench.reactions import Reaction, ReactionSet
from heliodor.bench.result import Row
from heliodor.errors import HeliodorError
from heliodor.interaction import interaction_energy
from heliodor.potential import ModelWarning, Potential, check_energy
from heliodor.system import System, read_charge, read_spin
from heliodor.units import KCAL_PER_MOL

FAR = 1e5
"""Å between pulled-apart fragments; two unit charges have 0.003 kcal/mol left."""

BATCH_ATOMS = 1000
"""Atoms evaluated at once."""

HOW = {
    "fragments": "complex minus fragments infinitely far apart, each with its own charge",
    "relaxed": "complex, in which charge may flow, minus fragments infinitely far apart, each with its own charge",
    "pulled apart": "complex minus the same complex pulled apart, one total charge",
    "sum": "plain sum of energies",
}


@dataclass(eq=False)
class Evaluator:
    """A model at work on one set; keeps energies of structures that several reactions share.

    Attributes:
        data: the set.
        group: names a reaction's group.
        distance: relative distance of a reaction, nan if it has none.
        protocol: of `heliodor.interaction_energy`.
    """

    potential: Potential
    data: ReactionSet
    group: Callable[[Reaction, ReactionSet], str]
    distance: Callable[[Reaction], float]
    protocol: str = "fragments"
    _energies: dict[str, float] = field(default_factory=dict)
    _refusals: dict[str, str] = field(default_factory=dict)

    def rows(self, names: Sequence[str]) -> Iterator[Row]:
        """One row for each reaction named, kcal/mol; of a binding reaction the interaction energy (negative: bound).

        Raises:
            ModelError: a model without energies.
        """
        check_energy(self.potential)
        wanted = set(names)
        chunk: list[Reaction] = []
        atoms = 0
        for reaction in (r for r in self.data.reactions if r.name in wanted):
            size = sum(len(self.data.structures[name]) for name, _ in reaction.terms)
            if chunk and atoms + size > BATCH_ATOMS:
                yield from self._chunk(chunk)
                chunk, atoms = [], 0
            chunk.append(reaction)
            atoms += size
        if chunk:
            yield from self._chunk(chunk)

    def _chunk(self, reactions: list[Reaction]) -> list[Row]:
        try:
            return self._compute(reactions)
        except HeliodorError as error:
            # which of them it was is found by taking each alone
            if len(reactions) > 1:
                return [row for reaction in reactions for row in self._chunk([reaction])]
            return [self._row(reactions[0], skipped=" ".join(str(error).split()))]

    def _compute(self, reactions: list[Reaction]) -> list[Row]:
        structures = self.data.structures
        plans: list[tuple[str, Binding | None, str]] = []
        for reaction in reactions:
            refused = next((word for name, _ in reaction.terms if (word := self._refusal(name))), "")
            binding = None if refused else binding_of(reaction, structures)
            plans.append((*self._protocol(reaction, binding), refused) if not refused else ("", None, refused))
        rigid = [(r, b) for r, (how, b, _) in zip(reactions, plans, strict=True) if how == self.protocol and b]
        together = self._fragments([b for _, b in rigid])
        needed = {
            name
            for reaction, (how, _, reason) in zip(reactions, plans, strict=True)
            if how == "sum" and not reason
            for name, _ in reaction.terms
        }
        self._learn(needed)
        bound = {reaction.name: energy for (reaction, _), energy in zip(rigid, together, strict=True)}
        rows = []
        for reaction, (how, binding, reason) in zip(reactions, plans, strict=True):
            if not reason and how == "":
                reason = "sums energies of different charges or spins, for which the model has no common zero"
            if reason:
                rows.append(self._row(reaction, skipped=reason))
                continue
            sign = 1.0 if binding is None else binding.sign
            if how == "sum":
                value = sign * sum(c * self._energies[name] for name, c in reaction.terms)
            else:
                assert binding is not None
                value = bound[reaction.name] if how == self.protocol else self._pulled(binding)
                value += self._deformation(binding)
            rows.append(self._row(reaction, value / KCAL_PER_MOL, sign, how))
        return rows

    def _row(
        self, reaction: Reaction, value: float = np.nan, sign: float = 1.0, how: str = "", skipped: str = ""
    ) -> Row:
        return Row(
            reaction.name,
            np.nan if skipped else sign * reaction.reference,
            value,
            self.group(reaction, self.data),
            self.distance(reaction),
            how,
            skipped,
        )

    def _refusal(self, name: str) -> str:
        """Why the model cannot take a structure; empty if it can."""
        if name not in self._refusals:
            self._refusals[name] = refusal(self.potential, System.from_atoms(self.data.structures[name]))
        return self._refusals[name]

    def _protocol(self, reaction: Reaction, binding: Binding | None) -> tuple[str, Binding | None]:
        """How to compute a reaction; an empty word where there is no way that means something."""
        structures = self.data.structures
        frames = [structures[name] for name, _ in reaction.terms]
        simple = all(read_charge(frame) == 0.0 and read_spin(frame) == 0 for frame in frames)
        if binding is None:
            return ("sum" if simple or self._comparable(reaction) else ""), None
        if simple and any(binding.deformed):
            return "sum", binding
        atoms = structures[binding.complex]
        system = System.from_atoms(atoms, fragments=binding.fragments, fragment_charges=binding.charges.tolist())
        if not refusal(self.potential, system):
            return self.protocol, binding
        return ("sum" if simple else "pulled apart"), binding

    def _comparable(self, reaction: Reaction) -> bool:
        """Whether a plain sum with ions or radicals compares like with like, or the model has nothing against it."""
        balance: dict[tuple[str, float, int], float] = defaultdict(float)
        warned = False
        for name, coefficient in reaction.terms:
            atoms = self.data.structures[name]
            charge, spin = read_charge(atoms), read_spin(atoms)
            if charge or spin:
                warned = warned or bool(self.potential.advice(System.from_atoms(atoms)))
                balance[(atoms.get_chemical_formula("hill"), charge, spin)] += coefficient
        return not warned or all(abs(total) < 1e-9 for total in balance.values())

    def _fragments(self, bindings: list[Binding]) -> list[float]:
        if not bindings:
            return []
        energies = interaction_energy(
            self.potential,
            [self._clean(b.complex) for b in bindings],
            [b.fragments.tolist() for b in bindings],
            [b.charges.tolist() for b in bindings],
            protocol=self.protocol,
            batch_atoms=BATCH_ATOMS,
        )
        return [float(energy) for energy in np.atleast_1d(energies)]

    def _clean(self, name: str) -> ase.Atoms:
        """Charge and spin and nothing else of a file's words."""
        atoms = self.data.structures[name].copy()
        atoms.info = {"charge": read_charge(atoms), "spin": read_spin(atoms)}
        return atoms

    def _pulled(self, binding: Binding) -> float:
        atoms = self._clean(binding.complex)
        near, far = energies_of(self.potential, [atoms, pulled_apart(atoms, binding.fragments)])
        return near - far

    def _deformation(self, binding: Binding) -> float:
        """From the monomers' own shapes to those in the complex, eV."""
        bent = [k for k, deformed in enumerate(binding.deformed) if deformed]
        if not bent:
            return 0.0
        self._learn({binding.monomers[k] for k in bent})
        pieces = []
        for k in bent:
            piece = self._clean(binding.complex)[binding.fragments == k]
            piece.info = {"charge": float(binding.charges[k]), "spin": 0}
            pieces.append(piece)
        free = sum(self._energies[binding.monomers[k]] for k in bent)
        return float(sum(energies_of(self.potential, pieces))) - free

    def _learn(self, names: set[str]) -> None:
        new = sorted(name for name in names if name not in self._energies)
        found = energies_of(self.potential, [self._clean(name) for name in new])
        self._energies.update(zip(new, found, strict=True))


def energies_of(potential: Potential, frames: list[ase.Atoms]) -> list[float]:
    """Energies in eV, without the warnings that speak of what is taken care of here."""
    if not frames:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelWarning)
        energy = evaluate(potential, frames, forces=False, batch_atoms=BATCH_ATOMS).energy
    return [float(e) for e in energy]


def pulled_apart(atoms: ase.Atoms, fragments: np.ndarray, distance: float = FAR) -> ase.Atoms:
    """The same structure with its fragments ``distance`` (Å) apart along a line."""
    far = atoms.copy()
    for k in np.unique(fragments):
        mine = fragments == k
        far.positions[mine] += np.array([k * distance, 0.0, 0.0]) - atoms.positions[mine].mean(axis=0)
    return far


def refusal(potential: Potential, system: System) -> str:
    """Why a model cannot take a structure; empty if it can.

    Elements are named without the atom, so that refusals can be counted; the rest is in the model's words.
    """
    outside = sorted(set(system.numbers.tolist()) - set(potential.elements))
    if outside:
        return f"elements unknown to the model: {' '.join(chemical_symbols[z] for z in outside)}"
    try:
        potential.check(system.to(potential.device))
    except HeliodorError as error:
        return " ".join(str(error).split())
    return ""
