"""A prepared run in words, for people who want to see what they are about to simulate."""

from __future__ import annotations

import torch

from heliodor.dynamics.ensemble import words
from heliodor.dynamics.restraints.restrained import Restrained
from heliodor.dynamics.setup import Job
from heliodor.units import format_time


def described(job: Job) -> list[tuple[str, str]]:
    """Lines of (title, text): the dynamics, and whatever is not plain about it."""
    settings = job.settings
    first = "relaxed first, then " if settings.minimize_first else ""
    copies = f"{settings.replicas} copies, " if settings.replicas > 1 else ""
    span = f"{job.steps} steps of {job.timestep:g} fs = {format_time(job.steps * job.timestep)}"
    lines = [("dynamics", f"{first}{copies}{words(settings, job.ramp)}, {span}")]
    if settings.hydrogen_mass is not None:
        lines.append(("masses", f"hydrogen {settings.hydrogen_mass:g} amu, taken from the atoms it is bonded to"))
    if job.rigid is not None:
        sizes = torch.bincount(job.rigid.group)
        held = int(job.rigid.count.sum())
        lines.append(("rigid", f"{held} distances in {int((sizes > 1).sum())} groups ({settings.constraints})"))
    if job.frozen is not None:
        origin = "as chosen" if settings.frozen is not None else "from the structure"
        lines.append(("frozen", f"{int(job.frozen.sum())} of {job.system.n_atoms} atoms, {origin}"))
    if isinstance(job.potential, Restrained):
        energy = float(job.potential.energies(job.system).sum())
        lines.append(("restraints", f"{len(job.potential.restraints)}, {energy:+.4g} eV at the start"))
    return lines
