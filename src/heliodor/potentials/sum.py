"""Sums of potentials: a base and corrections to it, such as what nuclear quantum effects add to classical dynamics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, cast

import torch
from torch import Tensor, nn

from heliodor.doubt import Doubt
from heliodor.errors import CheckpointError, InputError, ModelError
from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, Prediction, Terms, evaluate_system
from heliodor.potentials.committee import common_card
from heliodor.system import System
from heliodor.uncertainty import weights_digest

TERM = "correction"
"""Name of the energy term of the only correction; of several: with their numbers from 1."""


@dataclass(frozen=True)
class SumConfig:
    """What a checkpoint says of the members, the base first; their tensors are in the same file.

    Attributes:
        members: architecture, config, card and uncertainty (or None) of each, as in a checkpoint of its own.
    """

    members: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        return {"members": list(self.members)}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> SumConfig:
        return SumConfig(tuple(values["members"]))


class Sum(Potential):
    """E = E_base + Σ E_correction; charges, dipoles, Hirshfeld ratios and errors of forces are the base's.

    Members have cutoffs and kernels of their own. Each is evaluated apart, with its own kernel, unless a graph is to be
    kept. `check` asks the base for everything, the corrections for their elements only: a correction for one system
    needs no notion of its charge.

    Args:
        base: what is corrected.
        corrections: at least one.

    Raises:
        InputError: no correction, or members on several devices or of several dtypes.
        ModelError: no element that all know, a member without energies, or different long-range cutoffs.
    """

    def __init__(self, base: Potential, corrections: Sequence[Potential]) -> None:
        super().__init__()
        members = [base, *corrections]
        if len(members) < 2:
            raise InputError("a sum needs a base and at least one correction to it")
        if len({member.device for member in members}) > 1 or len({member.dtype for member in members}) > 1:
            raise InputError("the members of a sum must be on one device and of one dtype: load them alike")
        for member in members:
            if not member.has_energy:
                raise ModelError(f"{member.name} has no energies: there is nothing to add")
        self.base = base
        self.corrections = nn.ModuleList(corrections)
        self.cutoff = max(member.cutoff for member in members)
        self.elements = tuple(sorted(set(base.elements).intersection(*(m.elements for m in corrections))))
        if not self.elements:
            raise ModelError(f"there is no element that both {base.name} and its corrections know")
        self.outputs = frozenset(base.outputs)
        self.name = " + ".join(member.name for member in members)
        self.card = common_card(members)
        self.has_long_range = any(member.has_long_range for member in members)
        if len({m.long_range_cutoff for m in self._far}) > 1:
            raise ModelError("the members of a sum have different long-range cutoffs: load them alike")

    @property
    def members(self) -> tuple[Potential, ...]:
        """The base, and the corrections."""
        return (self.base, *(cast(Potential, part) for part in self.corrections))

    @classmethod
    def from_config(cls, config: SumConfig) -> Sum:
        """Members as described, with parameters that `load_state_dict` is to fill."""
        from heliodor.checkpoint import built

        members = []
        for entry in config.members:
            member = built(entry)
            member.card = dict(entry["card"])
            member.name = str(member.card.get("name", entry["architecture"]))
            members.append(member)
        return cls(members[0], members[1:])

    @property
    def config(self) -> SumConfig:
        """For a checkpoint.

        Raises:
            CheckpointError: a member that has no checkpoint format, or an uncertainty fitted to other weights.
        """
        from heliodor.checkpoint import architectures

        names = {cls: name for name, (cls, _) in architectures().items()}
        entries = []
        for member in self.members:
            if type(member) not in names:
                raise CheckpointError(f"no checkpoint format for {type(member).__name__}")
            told = member.uncertainty
            if told is not None and told.config.weights != weights_digest(member):
                raise CheckpointError(
                    f"the uncertainty of {member.name} belongs to other weights: fit it again, or set it to None"
                )
            config: Any = member.config
            entries.append(
                {
                    "architecture": names[type(member)],
                    "config": config.to_dict(),
                    "card": {**member.card, "name": member.name},
                    "uncertainty": None if told is None else told.config.to_dict(),
                }
            )
        return SumConfig(tuple(entries))

    def forward(self, system: System, neighbors: Neighbors) -> Terms:
        """The base's terms, and the energies of each correction as one more."""
        terms = self.base(system, self.lists_of(self.base, neighbors))
        added = {}
        for name, part in self._named():
            found = part(system, self.lists_of(part, neighbors))
            added[name] = reduce(torch.add, (energy.double() for energy in found.energies.values()))
        return replace(terms, energies={**terms.energies, **added})

    def evaluate_apart(
        self, system: System, neighbors: Neighbors, *, forces: bool = True, stress: bool = False, virial: bool = False
    ) -> Prediction:
        """What `evaluate_system` calls, as long as no graph is to be kept: member by member, each by its own kernel."""

        def ask(member: Potential) -> Prediction:
            lists = self.lists_of(member, neighbors)
            return evaluate_system(member, system, lists, forces=forces, stress=stress, virial=virial)

        total = ask(self.base)
        for name, part in self._named():
            more = ask(part)
            node = more.node_energy
            total = replace(
                total,
                energy=total.energy + more.energy,
                terms={**total.terms, name: more.energy},
                node_terms=total.node_terms if node is None else {**total.node_terms, name: node},
                node_energy=_plus(total.node_energy, node),
                forces=_plus(total.forces, more.forces),
                stress=_plus(total.stress, more.stress),
                virial=_plus(total.virial, more.virial),
            )
        return total

    def lists_of(self, member: Potential, neighbors: Neighbors) -> Neighbors:
        """The sum's lists as those of a member: what lies beyond its own cutoff is skin."""
        lists = neighbors
        beyond = self.cutoff - member.cutoff
        if beyond > 0.0:
            lists = replace(lists, cutoff=torch.full_like(lists.cutoff, member.cutoff), skin=lists.skin + beyond)
        if lists.long_range is not None and not member.has_long_range:
            lists = replace(lists, long_range=None)
        return lists

    def check(self, system: System) -> None:
        """As the base's own, and that all members know the elements."""
        super().check(system)
        self.base.check(system)

    def advice(self, system: System) -> list[str]:
        """What the base has to say, and what its statements about errors of forces leave out."""
        said = self.base.advice(system)
        if self.base.uncertainty is not None:
            said.append(
                f"errors of forces are those that {self.base.name} states of itself: how far off the correction may be "
                "is not known"
            )
        return said

    def doubts(self, system: System, prediction: Prediction, limit: float | None = None) -> list[Doubt]:
        """The base's; how far off a correction may be is not known."""
        return self.base.doubts(system, prediction, limit)

    def choose_kernels(self, device: torch.device, name: str) -> str:
        """As `heliodor.kernels.choose_kernels`: the base by name, the corrections by the best they have.

        Raises:
            ModelError: the base has no such kernel.
        """
        from heliodor.kernels import REFERENCE, choose_kernels

        chosen = choose_kernels(self.base, device, name)
        for part in self.members[1:]:
            choose_kernels(part, device, REFERENCE if name == REFERENCE else "auto")
        return chosen

    def use_kernel(self, kernel: Any, name: str) -> None:
        """Kernels belong to the members: a sum has none.

        Raises:
            ModelError: a kernel is given.
        """
        if kernel is not None:
            raise ModelError(f"no kernel computes a sum as a whole: {name!r} is for one of its members")

    @property
    def kernels(self) -> str:  # type: ignore[override]
        """The name of the base's."""
        return self.base.kernels

    # set by those who load a model: one value for all members with long range

    @property
    def long_range_cutoff(self) -> float | str | None:
        """Å, see `Potential`."""
        return self._far[0].long_range_cutoff if self._far else None

    @long_range_cutoff.setter
    def long_range_cutoff(self, value: float | str | None) -> None:
        for member in self._far:
            member.long_range_cutoff = value

    @property
    def periodic_long_range_cutoff(self) -> float:
        """Å, see `Potential`."""
        return self._far[0].periodic_long_range_cutoff if self._far else Potential.periodic_long_range_cutoff

    @periodic_long_range_cutoff.setter
    def periodic_long_range_cutoff(self, value: float) -> None:
        for member in self._far:
            member.periodic_long_range_cutoff = value

    @property
    def dispersion_damping_width(self) -> float:
        """Å, see `Potential`."""
        return self._far[0].dispersion_damping_width if self._far else 0.0

    @dispersion_damping_width.setter
    def dispersion_damping_width(self, value: float) -> None:
        for member in self._far:
            member.dispersion_damping_width = value

    @property
    def _far(self) -> list[Potential]:
        return [member for member in self.members if member.has_long_range]

    def _named(self) -> list[tuple[str, Potential]]:
        parts = self.members[1:]
        return [(TERM if len(parts) == 1 else f"{TERM} {k}", part) for k, part in enumerate(parts, 1)]


def _plus(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return None if one is None or other is None else one + other
