"""Bonds of fixed length: what integrators and barostats do with them.

`find_rigid` (in ``rigid_bonds``) finds the bonds; all groups of a batch are solved at once, positions by SHAKE
(``shake``) and SETTLE (``settle``), velocities by RATTLE.

Under pressure, groups of rigidly bonded atoms are units: their centres move with the cell, their shape does not.
The virial is then that of the forces on the centres, in which the forces of the constraints (internal to each
group) cancel; with the kinetic energy of the centres it gives the pressure. Ciccotti & Ryckaert, Comput. Phys. Rep.
4, 345 (1986). Groups are whole and followed without wrapping, as `find_rigid` leaves them.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heliodor.dynamics.constraints.clusters import Rigid
from heliodor.dynamics.constraints.rigid_bonds import find_rigid
from heliodor.dynamics.constraints.settle import settle
from heliodor.dynamics.constraints.shake import TOLERANCE, project, shake
from heliodor.dynamics.naming import atom_name
from heliodor.errors import SimulationError
from heliodor.system import System
from heliodor.units import KINETIC

__all__ = [
    "Rigid",
    "constrain_positions",
    "constrain_velocities",
    "find_rigid",
    "group_centers",
    "group_kinetic_tensor",
    "group_masses",
    "group_virial",
    "scale_groups",
]


def constrain_positions(
    rigid: Rigid,
    reference: Float[Tensor, "N 3"],
    positions: Float[Tensor, "N 3"],
    system: System | None = None,
) -> Float[Tensor, "N 3"]:
    """Positions with all held bonds at their lengths, to 1e-10 relative, Å.

    Corrections lie along the bonds of ``reference``, positions (Å) that satisfy the constraints: those at the start
    of the drift. What a correction means for velocities is the caller's business: a drift of dt that is corrected
    adds (corrected - uncorrected) / dt to them.

    Args:
        system: gives atoms their names in errors; without it they are counted over the whole batch.

    Raises:
        SimulationError: no solution found, with the atoms of the worst group.
    """
    unsolved = []
    result = positions
    if rigid.clusters is not None:
        result, error = shake(rigid.clusters, reference, result)
        unsolved.append((rigid.clusters.atoms, error))
    if rigid.triangles is not None:
        triangles = rigid.triangles
        places = settle(triangles, reference, positions)
        result = result.index_copy(0, triangles.atoms.flatten(), places.flatten(0, 1))
        error = torch.where(places.isfinite().all(-1).all(-1), 0.0, torch.inf)
        unsolved.append((triangles.atoms, error))
    # one transfer from the device for both
    if not bool(torch.stack([(error <= TOLERANCE).all() for _, error in unsolved]).all()):
        raise SimulationError(_message(unsolved, system))
    return result


def constrain_velocities(
    rigid: Rigid, positions: Float[Tensor, "N 3"], velocities: Float[Tensor, "N 3"]
) -> Float[Tensor, "N 3"]:
    """Velocities (Å/fs) without the part that would stretch the held bonds of these positions (Å).

    The orthogonal projection in the mass metric, an exact linear solution: Maxwell-Boltzmann velocities stay so.
    """
    for clusters in (rigid.clusters, rigid.waters):
        if clusters is not None:
            velocities = project(clusters, positions, velocities)
    return velocities


def group_masses(rigid: Rigid, masses: Float[Tensor, "N"]) -> Float[Tensor, "G"]:
    """amu."""
    return (masses[rigid.members] * rigid.present).sum(-1)


def group_centers(rigid: Rigid, positions: Float[Tensor, "N 3"], masses: Float[Tensor, "N"]) -> Float[Tensor, "G 3"]:
    """Centres of mass, Å (of velocities in Å/fs: velocities of the centres)."""
    weights = masses[rigid.members] * rigid.present
    return (weights.unsqueeze(-1) * positions[rigid.members]).sum(1) / weights.sum(-1, keepdim=True)


def group_kinetic_tensor(
    rigid: Rigid,
    velocities: Float[Tensor, "N 3"],
    masses: Float[Tensor, "N"],
    batch: Int[Tensor, "N"],
    n_structures: int,
) -> Float[Tensor, "B 3 3"]:
    """Σ M V⊗V over the groups' centres of mass, eV: twice their kinetic energy, by direction."""
    centers = group_centers(rigid, velocities, masses)
    each = (KINETIC * group_masses(rigid, masses)).view(-1, 1, 1) * centers.unsqueeze(-1) * centers.unsqueeze(-2)
    if n_structures == 1:
        return each.sum(0, keepdim=True)
    return each.new_zeros(n_structures, 3, 3).index_add(0, batch[rigid.members[:, 0]], each)


def group_virial(
    rigid: Rigid,
    virial: Float[Tensor, "B 3 3"],
    positions: Float[Tensor, "N 3"],
    forces: Float[Tensor, "N 3"],
    masses: Float[Tensor, "N"],
    system: System,
) -> Float[Tensor, "B 3 3"]:
    """-∂E/∂ε, eV, symmetrised, under strains that move groups without deforming them (`scale_groups`).

    The atoms' virial less Σ (R_i - R_group) ⊗ F_i.

    Args:
        virial: of the atoms, from `heliodor.potential.evaluate_system`, eV.
        positions: Å, where ``virial`` and ``forces`` (eV/Å; the model's, without those of constraints) were computed.
        system: for its batch.
    """
    arms = positions - group_centers(rigid, positions, masses)[rigid.group]
    each = arms.unsqueeze(-1) * forces.unsqueeze(-2)
    inner = torch.zeros_like(virial).index_add(0, system.batch, each)
    return virial - 0.5 * (inner + inner.mT)


def scale_groups(
    rigid: Rigid,
    positions: Float[Tensor, "N 3"],
    masses: Float[Tensor, "N"],
    gradient: Float[Tensor, "B 3 3"],
    system: System,
) -> Float[Tensor, "N 3"]:
    """Positions, Å, with each group's centre carried along, R -> R·gradient, and its atoms shifted with it.

    Args:
        gradient: deformation of each structure (row vectors): 1 + ε.
        system: for its batch.
    """
    centers = group_centers(rigid, positions, masses)
    of_group = gradient[system.batch[rigid.members[:, 0]]]
    moves = torch.bmm(centers.unsqueeze(1), of_group).squeeze(1) - centers
    return positions + moves[rigid.group]


def _message(unsolved: list[tuple[Tensor, Tensor]], system: System | None) -> str:
    for atoms, error in unsolved:
        bad = (~(error <= TOLERANCE)).nonzero()
        if len(bad):
            members = sorted(set(atoms[int(bad[0])].tolist()))
            names = ", ".join(atom_name(system, k) for k in members) if system else f"atoms {members}"
            more = f" and {len(bad) - 1} other groups" if len(bad) > 1 else ""
            return (
                f"the bonds held rigid at {names}{more} cannot be brought back to their lengths: atoms moved too far "
                "in one step; use a smaller timestep, minimize first, or doubt the model here"
            )
    raise AssertionError("all constraints are solved")
