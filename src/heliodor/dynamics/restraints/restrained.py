"""Restrained: a potential with restraints added, as one more term of its energy.

What restraints there are and how they are read: `heliodor.dynamics.restraints.kinds`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heliodor.doubt import Doubt
from heliodor.dynamics.restraints.frozen import frozen_from
from heliodor.dynamics.restraints.kinds import (
    KINDS,
    AngleRestraint,
    DihedralRestraint,
    DistanceRestraint,
    PositionRestraint,
    Restraint,
    describe,
    kind_of,
    read_restraints,
    to_dict,
)
from heliodor.dynamics.restraints.springs import angle, dihedral, fractional, isotropic_spring, nearest, norm, spring
from heliodor.errors import InputError
from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, Prediction, Terms
from heliodor.system import System

__all__ = [
    "TERM",
    "AngleRestraint",
    "DihedralRestraint",
    "DistanceRestraint",
    "PositionRestraint",
    "Restrained",
    "Restraint",
    "frozen_from",
    "read_restraints",
    "to_dict",
]

TERM = "restraint"
"""Name of the term among the energies."""


@dataclass(frozen=True)
class _Springs:
    """R restraints of one kind with A atoms each; angles in radians.

    Attributes:
        atoms: indices over the whole batch.
        reference: fractional coordinates of places, and ``rest`` in Å beyond the periodic directions.
    """

    atoms: Int[Tensor, "R A"]
    value: Float[Tensor, "R"]
    k: Float[Tensor, "R"]
    flat: Float[Tensor, "R"]
    reference: Float[Tensor, "R 3"]
    rest: Float[Tensor, "R 3"]


class Restrained(Potential):
    """Another potential plus restraints, in its energy, forces and virial; everything else is the other's.

    Vectors are taken to the nearest image of the present cell. Places of position restraints keep their fractional
    coordinates along periodic directions, so a barostat carries them along.

    Args:
        restraints: atoms are counted within each structure.
        start: the structures to be simulated. Gives positions that references leave out. The potential can then be
            used for batches of these structures only.
        places: of an earlier object with the same restraints, for going on with a run: then positions and cell of
            ``start`` set no places.

    Raises:
        InputError: no restraints, or atoms and structures that do not exist, named by the restraint.
    """

    def __init__(
        self,
        potential: Potential,
        restraints: Sequence[Restraint],
        start: System,
        places: Float[Tensor, "P 6"] | None = None,
    ) -> None:
        super().__init__()
        if not restraints:
            raise InputError("no restraints given")
        self.inner = potential
        self.restraints = tuple(restraints)
        for name in (
            "name",
            "cutoff",
            "has_long_range",
            "long_range_cutoff",
            "elements",
            "outputs",
            "card",
            "periodic_long_range_cutoff",
        ):
            setattr(self, name, getattr(potential, name))
        if hasattr(potential, "dispersion_damping_width"):
            self.dispersion_damping_width = potential.dispersion_damping_width
        self.holds_places = any(isinstance(r, PositionRestraint) for r in restraints)
        """Whether the centre of mass is held: momentum is then not conserved."""
        self._n_atoms, self._n_structures = start.n_atoms, start.n_structures
        self._periodic = bool(start.pbc.any())
        self._springs = {kind: _compiled(kind, self.restraints, start) for kind in KINDS}
        held = self._springs["position"]
        if places is not None:
            n_places = 0 if held is None else len(held.reference)
            if len(places) != n_places:
                raise InputError(f"{len(places)} places of position restraints were kept, and {n_places} are needed")
            if held is not None:
                places = places.cpu().double()
                self._springs["position"] = replace(held, reference=places[:, :3], rest=places[:, 3:])

    @property
    def places(self) -> Float[Tensor, "P 6"]:
        """Of position restraints: fractional coordinates, and Å beyond periodic directions; a restart needs them."""
        held = self._springs["position"]
        if held is None:
            return torch.zeros(0, 6, dtype=torch.float64)
        return torch.cat([held.reference, held.rest], dim=-1).cpu()

    def forward(self, system: System, neighbors: Neighbors) -> Terms:
        terms = self.inner(system, neighbors)
        before = terms.energies.get(TERM, torch.zeros((), dtype=system.dtype, device=system.device))
        return replace(terms, energies={**terms.energies, TERM: before + self.energies(system)})

    def energies(self, system: System) -> Float[Tensor, "N"]:
        """The restraints' energy, eV, in equal shares at their atoms.

        Raises:
            InputError: another number of atoms or structures than at the start.
        """
        if (system.n_atoms, system.n_structures) != (self._n_atoms, self._n_structures):
            raise InputError(
                f"the restraints are for {self._n_structures} structures with {self._n_atoms} atoms in all, not for "
                f"{system.n_structures} with {system.n_atoms}: make another Restrained for these"
            )
        node = torch.zeros(system.n_atoms, dtype=system.dtype, device=system.device)
        lattice = (system.cell * system.pbc.unsqueeze(-1)).double()
        for kind, springs in self._springs.items():
            if springs is None:
                continue
            if springs.atoms.device != system.device:
                springs = self._springs[kind] = _to(springs, system.device)
            cell = lattice[system.batch[springs.atoms[:, 0]]]
            energy = self._energy(kind, springs, system.positions[springs.atoms].double(), cell).to(system.dtype)
            share = (energy / springs.atoms.shape[1]).unsqueeze(-1).expand(springs.atoms.shape)
            node = node.index_add(0, springs.atoms.flatten(), share.flatten())
        return node

    def _energy(
        self, kind: str, springs: _Springs, r: Float[Tensor, "R A 3"], cell: Float[Tensor, "R 3 3"]
    ) -> Float[Tensor, "R"]:
        if kind == "position":
            place = (springs.reference.unsqueeze(-2) @ cell).squeeze(-2) + springs.rest
            return isotropic_spring(self._nearest(r[:, 0] - place, cell), springs.k, springs.flat)
        bonds = [self._nearest(r[:, k + 1] - r[:, k], cell) for k in range(r.shape[1] - 1)]
        if kind == "distance":
            x = norm(bonds[0]) - springs.value
        elif kind == "angle":
            x = angle(-bonds[0], bonds[1]) - springs.value
        else:
            x = torch.remainder(dihedral(*bonds) - springs.value + math.pi, 2.0 * math.pi) - math.pi
        return spring(x, springs.k, springs.flat)

    def _nearest(self, vectors: Float[Tensor, "R 3"], cell: Float[Tensor, "R 3 3"]) -> Float[Tensor, "R 3"]:
        return nearest(vectors, cell) if self._periodic else vectors

    def long_range_limits(self, system: System) -> Float[Tensor, "B"]:
        return self.inner.long_range_limits(system)

    def neighbors(self, system: System, skin: float = 0.0) -> Neighbors:
        return self.inner.neighbors(system, skin)

    def check(self, system: System) -> None:
        self.inner.check(system)

    def advice(self, system: System) -> list[str]:
        return self.inner.advice(system)

    def doubts(self, system: System, prediction: Prediction, limit: float | None = None) -> list[Doubt]:
        return self.inner.doubts(system, prediction, limit)


def _compiled(kind: str, restraints: tuple[Restraint, ...], start: System) -> _Springs | None:
    """All restraints of one kind as tensors over the batch, on the CPU; None if there are none."""
    counts = start.counts.tolist()
    starts = [sum(counts[:b]) for b in range(len(counts))]
    lattice = (start.cell * start.pbc.unsqueeze(-1)).cpu().double()
    positions = start.positions.detach().cpu().double()
    atoms: list[list[int]] = []
    numbers: list[tuple[float, float, float]] = []
    places: list[Tensor] = []
    unit = math.pi / 180.0 if kind in ("angle", "dihedral") else 1.0
    for restraint in restraints:
        if kind_of(restraint) != kind:
            continue
        for b in _structures(restraint, counts):
            members = [starts[b] + atom for atom in restraint.atoms]
            if not isinstance(restraint, PositionRestraint):
                atoms.append(members)
                numbers.append((unit * restraint.value, restraint.k, unit * restraint.flat))
                continue
            atoms.extend([member] for member in members)
            numbers.extend([(0.0, restraint.k, restraint.flat)] * len(members))
            given = positions[members] if restraint.reference is None else _tensor(restraint.reference)
            coordinates = fractional(given, lattice[b].expand(len(given), 3, 3))
            places.append(torch.stack([coordinates, given - coordinates @ lattice[b]], -1))
    if not atoms:
        return None
    value, k, flat = _tensor(numbers).unbind(-1)
    place = torch.cat(places) if places else torch.zeros(len(atoms), 3, 2, dtype=torch.float64)
    return _Springs(torch.tensor(atoms), value, k, flat, place[..., 0], place[..., 1])


def _structures(restraint: Restraint, counts: list[int]) -> list[int]:
    if restraint.structure is not None and restraint.structure >= len(counts):
        raise InputError(f"{describe(restraint)}: there is no structure {restraint.structure}, only {len(counts)}")
    chosen = list(range(len(counts))) if restraint.structure is None else [restraint.structure]
    for b in chosen:
        if max(restraint.atoms) >= counts[b]:
            where = f"structure {b}" if len(counts) > 1 else "the structure"
            raise InputError(
                f"{describe(restraint)}: there is no atom {max(restraint.atoms)}, {where} has {counts[b]} (counted "
                "from 0)"
            )
    return chosen


def _tensor(values: Sequence[Sequence[float]]) -> Float[Tensor, "R C"]:
    return torch.tensor(values, dtype=torch.float64)


def _to(springs: _Springs, device: torch.device) -> _Springs:
    return replace(springs, **{f.name: getattr(springs, f.name).to(device) for f in fields(springs)})
