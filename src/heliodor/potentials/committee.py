"""Committees: several models as one potential, whose disagreement tells where not to trust it.

Mean and standard deviation over models trained apart are the ensemble estimate of a model's own error (Gastegger,
Behler & Marquetand, Chem. Sci. 8, 6924 (2017); Zhang, Wang et al., Comput. Phys. Commun. 253, 107206 (2020)).
"""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields, replace
from functools import reduce
from pathlib import Path
from typing import Any, cast

import ase
import torch
from torch import Tensor, nn

from heliodor.doubt import Doubt
from heliodor.errors import CheckpointError, InputError, ModelError
from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, Prediction, Terms, check_distances, doubts_above, evaluate_system
from heliodor.spread import Spread, standard_deviation
from heliodor.system import System

FORCE_LIMIT = 0.3
"""eV/Å, spread of an atom's force (`Spread.force_norms`) beyond which a committee doubts itself. A choice: models of
molecules disagree by a tenth of this where they know, and active learning asks for new labels at 0.1 to 0.4."""

TERM = "committee"
"""Name of the one energy term of members whose terms have different names."""


class Committee(Potential):
    """The mean of several models: energies, forces, stress, charges; their standard deviations as `Prediction.spread`.

    Members may differ in architecture and cutoff. They are evaluated one after another, so that memory is that of the
    largest one (but where second derivatives are wanted: then all graphs are kept).

    Attributes:
        force_limit: eV/Å, above which spread of an atom's force `doubts` are told.

    Args:
        members: at least two, on one device.

    Raises:
        InputError: fewer than two members, or members on several devices.
        ModelError: no element that all know; different long-range cutoffs; models with and without energies.
    """

    def __init__(self, members: Sequence[Potential], *, force_limit: float = FORCE_LIMIT) -> None:
        super().__init__()
        if len(members) < 2:
            raise InputError(f"a committee needs at least two models, not {len(members)}")
        if not force_limit > 0.0:
            raise InputError(f"force_limit must be a positive force (eV/Å), not {force_limit!r}")
        if len({member.device for member in members}) > 1:
            raise InputError("the members of a committee must be on one device: load them together")
        self.models = nn.ModuleList(members)
        self.force_limit = float(force_limit)
        names = dict.fromkeys(member.name for member in members)
        self.name = f"committee of {len(members)} ({', '.join(names)})"
        self.cutoff = max(member.cutoff for member in members)
        self.elements = tuple(sorted(set(members[0].elements).intersection(*(m.elements for m in members))))
        if not self.elements:
            raise ModelError(f"there is no element that all models of this {self.name} know")
        if len({member.has_energy for member in members}) > 1:
            raise ModelError("models with and without energies have nothing to average: leave one kind out")
        self.has_energy = members[0].has_energy
        self.outputs = frozenset(members[0].outputs).intersection(*(m.outputs for m in members))
        self.card = common_card(members)
        far = [member for member in members if member.has_long_range]
        self.has_long_range = bool(far)
        if far:
            settings = {(m.long_range_cutoff, getattr(m, "dispersion_damping_width", None)) for m in far}
            if len(settings) > 1:
                raise ModelError(
                    "the members of a committee have different long-range cutoffs or damping widths, and energies at "
                    "different ones cannot be averaged: load them together"
                )
            self.long_range_cutoff = far[0].long_range_cutoff
            if hasattr(far[0], "dispersion_damping_width"):
                self.dispersion_damping_width = far[0].dispersion_damping_width

    @property
    def members(self) -> tuple[Potential, ...]:
        """The models."""
        return tuple(cast(Potential, model) for model in self.models)

    def forward(self, system: System, neighbors: Neighbors) -> Terms:
        """Per-atom energies averaged by term, or as one term `TERM` where members' terms have different names."""
        found = [member(system, self.lists_of(member, neighbors)) for member in self.members]
        energies = [terms.energies for terms in found]
        names = energies[0].keys()
        if any(terms.keys() != names for terms in energies):
            energies = [{TERM: reduce(torch.add, (e.double() for e in terms.values()))} for terms in energies]
        rest = {f.name: _mean([getattr(terms, f.name) for terms in found]) for f in fields(Terms)}
        return Terms(**{**rest, "energies": _mean_by_name(energies)})

    def evaluate_apart(
        self, system: System, neighbors: Neighbors, *, forces: bool = True, stress: bool = False, virial: bool = False
    ) -> Prediction:
        """What `evaluate_system` calls, as long as no graph is to be kept: means and spread, member by member."""
        parts = evaluate_members(self, system, neighbors, forces=forces, stress=stress, virial=virial)
        return replace(average(parts), spread=spread_of(parts))

    def lists_of(self, member: Potential, neighbors: Neighbors) -> Neighbors:
        """The committee's lists as those of a member: what lies beyond its own cutoff is skin."""
        lists = neighbors
        beyond = self.cutoff - member.cutoff
        if beyond > 0.0:
            limits = torch.full_like(lists.cutoff, member.cutoff)
            lists = replace(lists, cutoff=limits, skin=lists.skin + beyond)
        if lists.long_range is not None and not member.has_long_range:
            lists = replace(lists, long_range=None)
        return lists

    def check(self, system: System) -> None:
        """As `Potential.check`, and what each member refuses."""
        super().check(system)
        for member in self.members:
            member.check(system)

    def advice(self, system: System) -> list[str]:
        """What the members have to say, each thing once."""
        return list(dict.fromkeys(line for member in self.members for line in member.advice(system)))

    def doubts(self, system: System, prediction: Prediction, limit: float | None = None) -> list[Doubt]:
        """Atoms on whose force the members disagree by more than a limit: one doubt a structure, worst first.

        Costs nothing where the prediction has a spread; with restraints around the committee it has none, and the
        members are evaluated once more.

        Args:
            limit: eV/Å; `force_limit` if not given.
        """
        spread = prediction.spread if prediction.spread is not None else committee_spread(self, system)
        norms = spread.force_norms
        if norms is None:
            return []
        most = self.force_limit if limit is None else limit
        return doubts_above(
            norms,
            most,
            system,
            lambda worst: (
                f"forces of the {len(self.models)} models are {worst:.2f} eV/Å apart (standard deviation, limit "
                f"{most:g})"
            ),
        )


def evaluate_members(
    committee: Committee,
    system: System,
    neighbors: Neighbors | None = None,
    *,
    forces: bool = True,
    stress: bool = False,
    virial: bool = False,
) -> list[Prediction]:
    """What each member says, evaluated one after another; arguments and errors as `evaluate_system`."""
    if neighbors is None:
        neighbors = committee.neighbors(system)
    return [
        evaluate_system(
            member, system, committee.lists_of(member, neighbors), forces=forces, stress=stress, virial=virial
        )
        for member in committee.members
    ]


def committee_spread(
    committee: Committee,
    atoms: ase.Atoms | Sequence[ase.Atoms] | System,
    *,
    without: Collection[str] = (),
    charge: float | None = None,
    spin: int | None = None,
) -> Spread:
    """Standard deviations over the members (M - 1): energy, forces, and stress of fully periodic structures.

    Args:
        atoms: all evaluated in one batch.
        without: names of energy terms left out of energies, such as ``["isolated_atoms"]``: members trained on
            different levels of theory then have comparable zeros. Forces and stress are whole all the same.
        charge, spin: override ``atoms.info`` (not with a System).

    Raises:
        InputError, ModelError: what cannot be evaluated, naming the atom; a term that no member has.
    """
    system = atoms
    if not isinstance(system, System):
        frames = [system] if isinstance(system, ase.Atoms) else list(system)
        system = System.from_atoms(frames, charge=charge, spin=spin, device=committee.device)
    committee.check(system)
    neighbors = committee.neighbors(system)
    check_distances(system, neighbors)
    parts = evaluate_members(committee, system, neighbors, stress=bool(system.pbc.all()))
    return spread_of(parts, without=without)


def spread_of(predictions: Sequence[Prediction], *, without: Collection[str] = ()) -> Spread:
    """Spread of several models' predictions for the same structures.

    Args:
        without: as for `committee_spread`.

    Raises:
        InputError: fewer than two predictions, or a term that none of them has.
    """
    if len(predictions) < 2:
        raise InputError(f"a spread needs at least two predictions, not {len(predictions)}")
    known = {name for p in predictions for name in p.terms}
    for name in without:
        if name not in known:
            raise InputError(f"no model has an energy term called {name!r}; there are {', '.join(sorted(known))}")
    energies = torch.stack([p.energy.double() for p in predictions])
    for row, p in zip(energies, predictions, strict=True):
        for name in set(without) & p.terms.keys():
            row -= p.terms[name]

    def deviation(values: list[Tensor | None]) -> Tensor | None:
        whole = [value for value in values if value is not None]
        return standard_deviation(torch.stack(whole)) if len(whole) == len(values) else None

    return Spread(
        energies=energies.T,
        energy=standard_deviation(energies),
        forces=deviation([p.forces for p in predictions]),
        stress=deviation([p.stress for p in predictions]),
    )


def average(predictions: Sequence[Prediction]) -> Prediction:
    """The mean of several models' predictions; what some of them lack is left out.

    Energy terms are averaged by name, or are one, `TERM`, where the names differ.
    """
    rest: dict[str, Any] = {}
    for f in fields(Prediction):
        values = [getattr(p, f.name) for p in predictions]
        rest[f.name] = _mean(values)
    same = all(p.terms.keys() == predictions[0].terms.keys() for p in predictions)
    node = rest["node_energy"]
    rest["terms"] = _mean_by_name([p.terms for p in predictions]) if same else {TERM: rest["energy"]}
    if same:
        rest["node_terms"] = _mean_by_name([p.node_terms for p in predictions])
    else:
        rest["node_terms"] = {} if node is None else {TERM: node}
    return Prediction(**rest)


def expand(model: str | Path | Iterable[str | Path]) -> list[str]:
    """The names and files that a user's word for a model stands for: ``"a.model,b.model"``, ``"runs/*.model"``, a list.

    Raises:
        InputError: nothing given, or a model given twice.
        CheckpointError: a pattern that no file matches.
    """
    if isinstance(model, (str, Path)):
        text = str(model)
        parts = [text] if os.path.exists(text) else [part.strip() for part in text.split(",")]
    else:
        parts = [str(part) for part in model]
    if not parts or not all(parts):
        raise InputError(f"a model is missing in {str(model)!r}: give names or files, separated by commas")
    found: list[str] = []
    for part in parts:
        if os.path.exists(part) or not glob.has_magic(part):
            found.append(part)
            continue
        matches = sorted(path for path in glob.glob(part, recursive=True) if os.path.isfile(path))
        if not matches:
            raise CheckpointError(f"no model file matches {part!r}")
        found += matches
    for k, name in enumerate(found):
        if name in found[:k]:
            raise InputError(f"{name} is given twice: a model does not disagree with itself")
    return found


def common_card(members: Sequence[Potential]) -> dict[str, Any]:
    """Names, licences and citations of several models used as one."""
    card: dict[str, Any] = {"members": [member.name for member in members]}
    for key in ("licence", "citation"):
        texts = dict.fromkeys(str(member.card[key]) for member in members if key in member.card)
        if texts:
            card[key] = "; ".join(texts)
    return card


def _mean(values: Sequence[Any]) -> Any:
    """Of tensors; None unless all are."""
    if not all(isinstance(value, Tensor) for value in values):
        return None
    return reduce(torch.add, values) / len(values)


def _mean_by_name(values: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: _mean([value[name].double() for value in values]) for name in values[0]}
