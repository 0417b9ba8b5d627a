"""What is checked at LAMMPS's first step, over all domains together: they come to one verdict."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from heliodor.engines.lammps.domain import Domain, Synchronized
from heliodor.engines.lammps.ranks import Ranks
from heliodor.errors import InputError
from heliodor.potential import CLASH, Potential
from heliodor.system import System


def check_whole(domain: Domain, potential: Potential, ranks: Ranks, cutoff: float, charge: float, spin: int) -> None:
    """What can be wrong about all domains together; every process comes to the same verdict.

    Raises:
        InputError: charge and spin that do not fit the atoms; atoms on one spot; lists or copies that are not what
            models need.
    """
    n_local, ghosts = domain.n_local, domain.n_rows - domain.n_local
    real = {"dtype": torch.float64, "device": domain.device}
    counts = torch.bincount(domain.numbers[:n_local], minlength=120).double()
    # copies: do their owners say of them what LAMMPS says, and do owners hear from all of them?
    sent = domain.numbers.double().unsqueeze(-1)
    sent[n_local:] = 0.0
    received, heard = torch.empty_like(sent), torch.empty_like(sent)
    exchange = Synchronized(domain.data)
    exchange.forward_exchange(sent, received, 1)
    wrong = (received.squeeze(-1) != domain.numbers).sum()
    ones = torch.zeros_like(sent)
    ones[n_local:] = 1.0
    exchange.reverse_exchange(ones, heard, 1)
    # pairs: each with a copy stands once more, the other way round, in the domain of the copy's owner
    across = domain.j >= n_local
    length = domain.vectors.norm(dim=-1)
    # (rounding decides on which side of the cutoff the two are: there they weigh nothing)
    flow = (domain.vectors * (1.0 - length / cutoff).unsqueeze(-1))[across].sum(0)
    clash = (length < CLASH).sum()
    pairs = int(domain.data.npairs)
    listed = torch.tensor([pairs - 2 * int((~across).sum()) - int(across.sum()), ghosts], **real)  # type: ignore[arg-type]
    own = [wrong.view(1), heard[:n_local].sum().view(1), clash.view(1), flow, listed.abs(), across.sum().view(1)]
    found = ranks.sum(torch.cat([*(x.double() for x in own), counts])).cpu()
    wrong_n, heard_n, clash_n, x, y, z, odd, ghost_n, across_n = found[:9].tolist()
    if clash_n:
        raise InputError(
            f"{clash_n:.0f} pairs of atoms are closer than {CLASH} Å: two atoms on one spot, or lengths that are not "
            "in Å (LAMMPS's units must be metal or real)"
        )
    if odd or max(abs(x), abs(y), abs(z)) > 1e-6 * (1.0 + across_n):
        raise InputError(
            "LAMMPS's list of pairs is not a full one of all pairs within the cutoff: the model has to be the only "
            "pair style and to act on all atoms (no pair_style hybrid, no neigh_modify exclude)"
        )
    if wrong_n or heard_n != ghost_n:
        raise InputError(
            "what LAMMPS exchanges between domains does not reach the copies it belongs to: this LAMMPS's "
            "forward_exchange or reverse_exchange does not work (take a build for GPUs, or a later one)"
        )
    atoms = found[9:].round().long()
    # as many as tell parity and elements apart
    few = torch.where(atoms > 1000, 1000 + atoms % 2, atoms)
    numbers = torch.repeat_interleave(torch.arange(len(few)), few)
    try:
        potential.check(composition(numbers, charge, spin).to(potential.device))
    except InputError as error:
        raise InputError(f"{error}; for LAMMPS: charge and spin of write_mliap") from None


def composition(numbers: Int[Tensor, "N"], charge: float, spin: float) -> System:
    """Atoms of one structure whose places do not matter."""
    return System(
        positions=torch.zeros(len(numbers), 3, dtype=torch.float64),
        numbers=numbers,
        cell=torch.zeros(1, 3, 3, dtype=torch.float64),
        pbc=torch.zeros(1, 3, dtype=torch.bool),
        batch=torch.zeros_like(numbers),
        charge=torch.tensor([charge], dtype=torch.float64),
        spin=torch.tensor([float(spin)], dtype=torch.float64),
    )
