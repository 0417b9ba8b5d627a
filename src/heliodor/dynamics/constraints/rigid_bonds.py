"""find_rigid: which bonds are held, at which lengths, and the structure prepared for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from ase.data import chemical_symbols
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heliodor.dynamics.constraints.clusters import Clusters, Rigid, cut_triangles, group_atoms, make_clusters
from heliodor.dynamics.constraints.hydrogens import Hydrogens, find_bonds, find_hydrogens
from heliodor.dynamics.constraints.shake import TOLERANCE, shake
from heliodor.dynamics.naming import atom_name
from heliodor.errors import InputError, suggestion
from heliodor.neighbors import Neighbors
from heliodor.system import System

KINDS = ("h-bonds", "water")
"""h-bonds: every bond to hydrogen, and the H-H distance of waters. Water: waters alone."""

SHARED = 1.15
"""A hydrogen whose second nearest atom is not this much farther than the nearest (relative to radii) is shared."""


def find_rigid(
    system: System,
    masses: Float[Tensor, "N"],
    kind: str,
    *,
    lengths: Mapping[str, float] | None = None,
    lengths_of: Rigid | None = None,
    frozen: Bool[Tensor, "N"] | None = None,
) -> tuple[System, Rigid]:
    """The bonds to hold, and the system with these bonds at their lengths and no group cut by a periodic boundary.

    Kinds: "water" holds the three distances of every H2O. "h-bonds" holds every bond of a hydrogen to a nonmetal and
    also makes waters rigid altogether (as OpenMM and GROMACS do for water models). A water is an oxygen with just two
    hydrogens and no other nonmetal within bonding distance. Bonds are those of covalent radii at the start.

    Lengths, Å: within each structure the mean over bonds of one kind, which is the element, the number of hydrogens
    on the atom, and whether it is a water; or as given.

    Args:
        masses: amu, those of the simulation.
        lengths: Å by kind of bond, such as ``{"C-H": 1.09, "water O-H": 0.9572, "water H-H": 1.5139}``; kinds left
            out keep the mean.
        lengths_of: found before for the same atoms, followed since without wrapping (a relaxation): its bonds and
            lengths are kept, only the positions are corrected.
        frozen: atoms that do not move. Groups that are frozen whole are not constrained; a frozen heavy atom holds
            its moving hydrogens.

    Returns:
        The system: each group shifted whole by lattice vectors, bonds corrected to 1e-12 relative.

    Raises:
        InputError: unknown kind or name of a length; no such bonds; a hydrogen shared by two atoms; a frozen
            hydrogen in a moving group; lengths that make no triangle.
    """
    if kind not in KINDS:
        raise InputError(f"rigid bonds can be {' or '.join(KINDS)}, not {kind!r}")
    if lengths_of is not None:
        parts = [part for part in (lengths_of.clusters, lengths_of.waters) if part is not None]
        return system.replace(positions=_corrected(system, parts)), lengths_of
    here = system.to(device="cpu", dtype=torch.float64)
    bonds = find_bonds(here)
    found = find_hydrogens(here, bonds)
    water = _waters(here, bonds, found)
    chosen = water[found.partner] if kind == "water" else torch.ones_like(found.atom, dtype=torch.bool)
    _refuse_shared(here, found, chosen)
    # of the two hydrogens of H2, the first is the centre
    chosen &= (here.numbers[found.partner] != 1) | (found.partner < found.atom)
    held = torch.zeros(here.n_atoms, dtype=torch.bool) if frozen is None else frozen.cpu()
    chosen &= _moving(here, found, held, water, chosen)
    atom, center = found.atom[chosen], found.partner[chosen]
    if len(atom) == 0:
        what = "water" if kind == "water" else "bond to hydrogen"
        raise InputError(f"there is no {what} that could be held rigid here: leave the constraints out")

    cell = here.cell[here.batch[atom]]
    offset = torch.bmm(found.shift[chosen].to(cell.dtype).unsqueeze(1), cell).squeeze(1)
    here = here.replace(positions=here.positions.index_add(0, atom, offset))
    wet = water[center]
    ends = atom[wet][torch.argsort(center[wet], stable=True)].view(-1, 2)
    oxygens = center[wet].sort().values.view(-1, 2)[:, 0]
    pairs = torch.cat([torch.stack([center, atom], -1), ends])
    owner = torch.cat([center, oxygens])
    wanted = _lengths(here, pairs, water[owner], lengths or {})

    inverse = torch.where(held, 0.0, 1.0 / masses.cpu().double())
    alike = torch.zeros_like(water)
    alike[oxygens] = torch.isclose(inverse[ends[:, 0]], inverse[ends[:, 1]], rtol=1e-12)
    settled = alike[owner]
    clusters = make_clusters(owner[~settled], pairs[~settled], wanted[~settled], inverse)
    waters = make_clusters(owner[settled], pairs[settled], wanted[settled], inverse)
    whole = _corrected(here, [part for part in (clusters, waters) if part is not None])
    members, present, group = group_atoms(here.n_atoms, center, atom)
    rigid = Rigid(
        kind=kind,
        group=group,
        count=torch.bincount(here.batch[owner], minlength=here.n_structures).double(),
        pairs=pairs,
        lengths=wanted,
        members=members,
        present=present,
        clusters=clusters,
        waters=waters,
        triangles=None if waters is None else cut_triangles(waters, inverse),
    )
    return system.replace(positions=whole.to(system.positions)), _moved(rigid, system.device)


def _waters(system: System, bonds: Neighbors, found: Hydrogens) -> Bool[Tensor, "N"]:
    """Which atoms are the oxygen of an H2O."""
    hydrogens = torch.bincount(found.partner, minlength=system.n_atoms)
    heavy = (system.numbers[bonds.i] != 1) & (system.numbers[bonds.j] != 1)
    others = torch.bincount(torch.cat([bonds.i[heavy], bonds.j[heavy]]), minlength=system.n_atoms)
    return (system.numbers == 8) & (hydrogens == 2) & (others == 0)


def _refuse_shared(system: System, found: Hydrogens, chosen: Bool[Tensor, "H"]) -> None:
    for k in (chosen & (found.margin < SHARED)).nonzero()[:1, 0].tolist():
        names = [atom_name(system, int(x[k])) for x in (found.atom, found.partner, found.rival)]
        raise InputError(
            f"{names[0]} is shared by {names[1]} and {names[2]}, so which bond to hold is open: minimize first, or "
            "simulate without rigid bonds"
        )
    partner = torch.full((system.n_atoms,), -1)
    partner[found.atom] = found.partner
    chained = chosen & (system.numbers[found.partner] == 1) & (partner[found.partner] != found.atom)
    for k in chained.nonzero()[:1, 0].tolist():
        a, b = int(found.atom[k]), int(found.partner[k])
        raise InputError(
            f"{atom_name(system, a)} is bonded to {atom_name(system, b)}, which is bonded to something else: minimize "
            "first, or simulate without rigid bonds"
        )


def _moving(
    system: System, found: Hydrogens, frozen: Bool[Tensor, "N"], water: Bool[Tensor, "N"], chosen: Bool[Tensor, "H"]
) -> Bool[Tensor, "H"]:
    """The bonds of groups that are not frozen whole; refuses groups that cannot be solved."""
    atom, center = found.atom[chosen], found.partner[chosen]
    loose = torch.zeros(system.n_atoms, dtype=torch.bool)
    loose[center[~(frozen[atom] & frozen[center])]] = True
    # a frozen heavy atom may hold moving hydrogens, the angle of a water leaves no such choice
    wrong = chosen & loose[found.partner] & (frozen[found.atom] | (water & frozen)[found.partner])
    for k in wrong.nonzero()[:1, 0].tolist():
        names = [atom_name(system, int(x[k])) for x in (found.atom, found.partner)]
        raise InputError(
            f"{names[0]} and {names[1]} are of one rigid group, of which only a part is frozen: freeze the whole group "
            "or none of it"
        )
    return loose[found.partner]


def _lengths(
    system: System, pairs: Int[Tensor, "K 2"], water: Bool[Tensor, "K"], given: Mapping[str, float]
) -> Float[Tensor, "K"]:
    """The mean over the pairs of one structure and kind, or what is given for the kind, Å."""
    d = (system.positions[pairs[:, 1]] - system.positions[pairs[:, 0]]).norm(dim=-1)
    siblings = torch.bincount(pairs[:, 0], minlength=system.n_atoms)[pairs[:, 0]]
    element = system.numbers[pairs[:, 0]]
    keys = torch.stack([system.batch[pairs[:, 0]], element, torch.where(water, 0, siblings)], -1)
    _, kind, members = torch.unique(keys, dim=0, return_inverse=True, return_counts=True)
    mean = (torch.zeros(len(members), dtype=d.dtype).index_add(0, kind, d) / members)[kind]

    names = {}
    for z, in_water in torch.unique(torch.stack([element, water.long()], -1), dim=0).tolist():
        names[f"{'water ' if in_water else ''}{chemical_symbols[z]}-H"] = (element == z) & (water == bool(in_water))
    for name, value in given.items():
        if name not in names:
            meant = suggestion(name, names) or f"; here are {', '.join(names)}"
            raise InputError(f"no rigid bond of the kind {name!r} here{meant}")
        if not 0.3 < value < 3.0:
            raise InputError(f"a bond {name} of {value:g} Å is not possible; lengths are in Å")
        mean = torch.where(names[name], float(value), mean)
    sides, bases = mean[water & (element == 8)], mean[water & (element == 1)]
    if not bool((bases < 1.999 * sides[: len(bases)]).all()):
        raise InputError("the lengths of water make no triangle: H-H must be shorter than twice O-H")
    return mean


def _corrected(system: System, parts: list[Clusters]) -> Float[Tensor, "N 3"]:
    positions = system.positions
    for part in parts:
        positions, error = shake(part, positions, positions)
        bad = (~(error <= TOLERANCE)).nonzero()
        if len(bad):
            names = ", ".join(atom_name(system, k) for k in sorted(set(part.atoms[int(bad[0])].tolist())))
            raise InputError(f"the bonds of {names} cannot be brought to the lengths asked for: minimize first")
    return positions


def _moved(value: Any, device: torch.device) -> Any:
    """A dataclass with its tensors on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _moved(getattr(value, f.name), device) for f in fields(value)})
    return value
