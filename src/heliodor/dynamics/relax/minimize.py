"""Structure relaxation: atoms and, if asked, the cell, of many structures at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from heliodor.dynamics.relax.fire import Fire
from heliodor.dynamics.relax.landscape import Landscape, Point, chosen, landscape, look, spread
from heliodor.dynamics.relax.lbfgs import Lbfgs, noise_of
from heliodor.dynamics.state import SKIN
from heliodor.errors import InputError, SimulationError
from heliodor.potential import Potential
from heliodor.system import System
from heliodor.units import BAR, GPA

METHODS: dict[str, type[Fire] | type[Lbfgs]] = {"lbfgs": Lbfgs, "fire": Fire}


@dataclass(frozen=True)
class Minimized:
    """Result for B structures of N atoms in all.

    Attributes:
        system: at the best positions (and cell) found.
        energy: eV.
        forces: eV/Å, on frozen atoms too.
        fmax: largest force on an atom that may move, eV/Å.
        converged: whether fmax was reached and, with a cell, smax.
        steps: force evaluations after the first.
        energies: eV at each step, the first row being the start.
        enthalpy: energy + pressure · volume, eV; never above that of the structure handed in.
        enthalpies: eV at each step.
        stress_deviation: largest component of (stress + asked pressure) along the free strains, GPa; None if the
            cell was kept.
        pressure: that of the final structure, bar; None if the cell was kept or has an open direction.
        reason: why a structure was given up before max_steps; empty for all others.
    """

    system: System
    energy: Float[Tensor, "B"]
    forces: Float[Tensor, "N 3"]
    fmax: Float[Tensor, "B"]
    converged: Bool[Tensor, "B"]
    steps: int
    energies: Float[Tensor, "T B"]
    enthalpy: Float[Tensor, "B"]
    enthalpies: Float[Tensor, "T B"]
    stress_deviation: Float[Tensor, "B"] | None
    pressure: Float[Tensor, "B"] | None
    reason: tuple[str, ...]


Callback = Callable[[int, Float[Tensor, "B"], Float[Tensor, "B"]], bool | None]
"""Called with step, energy [B] eV and fmax [B] eV/Å; True stops the minimization."""


def minimize(
    system: System,
    potential: Potential,
    *,
    method: str = "lbfgs",
    fmax: float = 0.01,
    max_steps: int = 1000,
    max_displacement: float = 0.2,
    cell: str | None = None,
    pressure: float = 0.0,
    smax: float = 0.01,
    frozen: Bool[Tensor, "N"] | None = None,
    skin: float = SKIN,
    callback: Callback | None = None,
) -> Minimized:
    """Relax each structure until no force exceeds fmax and, with a cell, the stress is that of the pressure.

    No result lies above its start (but for the noise of a float32 model). A structure that has converged stays
    where it is while others go on. One whose energy or forces stop being numbers goes back to its best place.

    Args:
        method: "lbfgs" (`heliodor.dynamics.relax.lbfgs`) or "fire" (`heliodor.dynamics.relax.fire`).
        fmax: eV/Å.
        max_steps: force evaluations after the first.
        max_displacement: Å, of any atom in one step.
        cell: how the cell relaxes, one of `heliodor.dynamics.steps.coupling.COUPLINGS`; None keeps it. It is stretched
            and sheared, never turned (`heliodor.dynamics.relax.landscape`).
        pressure: bar; the enthalpy E + P·V is then what is minimized.
        smax: GPa; largest component of stress + pressure along the free strains.
        frozen: True for atoms that stay; the force on them does not count.
        skin: Å, of the neighbour lists.

    Raises:
        InputError: unknown method or coupling, numbers out of range, a cell that cannot relax that way, frozen
            atoms in a cell that relaxes.
        SimulationError: energy or forces of the start are not finite.
    """
    if method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    for name, value in (("fmax", fmax), ("max_displacement", max_displacement), ("smax", smax)):
        if not 0.0 < value < math.inf:
            raise InputError(f"{name} must be a positive number, not {value:g}")
    if frozen is not None and len(frozen) != system.n_atoms:
        raise InputError(f"frozen must say True or False for each of {system.n_atoms} atoms, not for {len(frozen)}")
    system = system.to(device=potential.device, dtype=torch.float64)
    frozen = None if frozen is None else frozen.to(potential.device)
    land, rows = landscape(system, coupling=cell, pressure=pressure * BAR, frozen=frozen)
    point, neighbors = look(land, rows, potential, potential.neighbors(system, skin))
    if bool(_broken(point, land).any()):
        raise SimulationError("energy or forces of the structure handed in are not finite: look at its distances")

    best, energies, enthalpies = point, [point.energy], [point.enthalpy]
    converged = _settled(point, fmax, smax)
    left = torch.zeros_like(converged)
    mind = METHODS[method].begin(point, land, max_displacement)
    while len(energies) <= max_steps and not bool((converged | left | mind.stuck).all()):
        if callback is not None and callback(len(energies) - 1, point.energy, point.largest):
            break
        still = spread(converged | left | mind.stuck, land.owner).unsqueeze(-1)
        rows = torch.where(still, best.rows, mind.target)
        if cell is not None and bool((outside := land.outside(rows)).any()):
            left = left | outside
            continue
        point, neighbors = look(land, rows, potential, neighbors)
        energies.append(point.energy)
        enthalpies.append(point.enthalpy)

        flat = _settled(point, fmax, smax)
        broken = _broken(point, land)
        good = (point.enthalpy <= best.enthalpy + noise_of(best.enthalpy)) & ~broken
        taken = ((point.enthalpy <= best.enthalpy) & ~broken | (flat & good)) & ~converged
        best = chosen(taken, point, best, land)
        converged = converged | (flat & good)
        mind = mind.judge(point, best, (flat & ~good) | broken, land)

    pressures = None
    if best.virial is not None and bool(system.pbc.all()):
        pressures = best.virial.diagonal(dim1=-2, dim2=-1).sum(-1) / (3.0 * land.volume(best.rows)) / BAR
    return Minimized(
        system=land.system(best.rows),
        energy=best.energy,
        forces=best.forces,
        fmax=best.largest,
        converged=converged,
        steps=len(energies) - 1,
        energies=torch.stack(energies),
        enthalpy=best.enthalpy,
        enthalpies=torch.stack(enthalpies),
        stress_deviation=None if cell is None else best.misfit / GPA,
        pressure=pressures,
        reason=_reasons(converged, left, mind.stuck),
    )


def _settled(point: Point, fmax: float, smax: float) -> Bool[Tensor, "B"]:
    return (point.largest <= fmax) & (point.misfit <= smax * GPA)


def _broken(point: Point, land: Landscape) -> Bool[Tensor, "B"]:
    """Structures whose enthalpy, forces or stress are not numbers."""
    total = torch.zeros_like(point.enthalpy).index_add(0, land.owner, point.pull.abs().sum(-1))
    return ~(total.isfinite() & point.enthalpy.isfinite())


def _reasons(converged: Bool[Tensor, "B"], left: Bool[Tensor, "B"], stuck: Bool[Tensor, "B"]) -> tuple[str, ...]:
    found = []
    for done, away, end in zip(converged.tolist(), left.tolist(), stuck.tolist(), strict=True):
        if done or not (away or end):
            found.append("")
        elif away:
            found.append("the cell runs away: nothing holds this structure together at this pressure")
        else:
            found.append("no step lowers the energy any more: forces and energies disagree at this precision")
    return tuple(found)
