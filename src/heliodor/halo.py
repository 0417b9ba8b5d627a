"""Halo: the atoms of other domains that a domain of a divided simulation sees, and how features reach them.

A program that divides space among processes keeps, beside each process's own atoms, copies of those of its neighbours
(and periodic images) within the cutoff. A message-passing model needs the copies' features anew before each layer
(`Halo.fill`); what is a sum over a whole structure needs one over all domains (`Halo.total`). The energy of a domain is
that of its own atoms, so that derivatives go the same ways back: a copy's gradient is added to its atom in the domain
that owns it, and gradients of sums are summed.

All of this is collective: every domain calls the same exchanges in the same order, one without atoms too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heliodor.system import System


@runtime_checkable
class Exchange(Protocol):
    """Rows of atoms between domains: own atoms come first, copies after them (LAMMPS's ML-IAP data has these)."""

    def forward_exchange(self, copy_from: Tensor, copy_to: Tensor, vec_len: int) -> None:
        """Write all rows into ``copy_to``, those of copies with their owners' values."""

    def reverse_exchange(self, copy_from: Tensor, copy_to: Tensor, vec_len: int) -> None:
        """Write own rows into ``copy_to`` with those of their copies everywhere added, zeros for copies."""


@runtime_checkable
class Domains(Protocol):
    """Reductions over all domains; each returns the same tensor everywhere."""

    def sum(self, x: Tensor) -> Tensor: ...

    def max(self, x: Tensor) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Halo:
    """One list's atoms in a domain: first its own, then those copies that the list's pairs reach.

    A domain without atoms of its own has one that does not exist in their place: it has no neighbours, sends nothing
    and is never counted, and keeps the domain in step with the others.

    Attributes:
        n_local: atoms of this domain.
        n_rows: those and all copies, as the exchange counts them.
        rows: the exchange's row of each atom of the list (without the one that does not exist).
        exchange, domains: the ways to the others.
        nobody: atomic number of the atom that does not exist.
    """

    n_local: int
    n_rows: int
    rows: Int[Tensor, "M"]
    exchange: Exchange
    domains: Domains
    nobody: int = 1

    @property
    def n_own(self) -> int:
        """Rows that models make energies of: the domain's atoms, at least one."""
        return max(self.n_local, 1)

    @property
    def n_atoms(self) -> int:
        """Rows of the list: N."""
        return len(self.rows) + self.n_own - self.n_local

    def inner(self, system: System) -> System:
        """The atoms of this list, from all rows of the exchange."""
        numbers = system.numbers.index_select(0, self.rows)
        if self.n_local == 0:
            numbers = torch.cat([numbers.new_full((1,), self.nobody), numbers])
        return system.replace(
            positions=system.positions.new_zeros(len(numbers), 3), numbers=numbers, batch=torch.zeros_like(numbers)
        )

    def home(self, system: System) -> System:
        """The domain's own atoms."""
        inner = self.inner(system)
        fields = {name: getattr(inner, name)[: self.n_own] for name in ("positions", "numbers", "batch")}
        return inner.replace(**fields)

    def own(self, x: Float[Tensor, "N *F"]) -> Float[Tensor, "O *F"]:
        """The first `n_own` rows."""
        return x[: self.n_own]

    def fill(self, *features: Tensor) -> tuple[Tensor, ...]:
        """Own rows of several features -> rows of all atoms of the list, in one exchange."""
        widths = [x[0].numel() for x in features]
        joined = torch.cat([x.reshape(self.n_own, -1) for x in features], dim=1)
        filled = _Fill.apply(joined, self)  # type: ignore[no-untyped-call]
        parts = torch.split(filled, widths, dim=1)
        return tuple(part.reshape(self.n_atoms, *x.shape[1:]) for part, x in zip(parts, features, strict=True))

    def total(self, x: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
        """Sum over all domains."""
        return _Total.apply(x, self.domains)  # type: ignore[no-untyped-call]

    def sum(self, x: Float[Tensor, "N *F"]) -> Float[Tensor, "*F"]:
        """Sum over all atoms of all domains; copies are not counted."""
        return self.total(x[: self.n_local].sum(0))

    def largest(self, x: Float[Tensor, "N"]) -> Float[Tensor, ""]:
        """Largest value of all atoms of all domains, without derivative."""
        own = x.detach()[: self.n_local]
        return self.domains.max(torch.cat([own, own.new_full((1,), -torch.inf)]).amax())


class _Fill(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, halo: Halo) -> Tensor:
        ctx.halo = halo
        sent = own.new_zeros(halo.n_rows, own.shape[1])
        sent[: halo.n_local] = own[: halo.n_local]
        received = torch.empty_like(sent)
        halo.exchange.forward_exchange(sent, received, own.shape[1])
        return torch.cat([own[halo.n_local :], received.index_select(0, halo.rows)])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        halo: Halo = ctx.halo
        nobody = halo.n_own - halo.n_local
        sent = gradient.new_zeros(halo.n_rows, gradient.shape[1])
        sent[halo.rows] = gradient[nobody:]
        received = torch.empty_like(sent)
        halo.exchange.reverse_exchange(sent, received, gradient.shape[1])
        return torch.cat([gradient[:nobody], received[: halo.n_local]]), None


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, domains: Domains) -> Tensor:
        ctx.domains = domains
        return _summed(x, domains)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _summed(gradient, ctx.domains), None


def _summed(x: Tensor, domains: Domains) -> Tensor:
    # float64: the order of the sum is not ours
    return domains.sum(x.double()).to(x.dtype)
