"""How far the members of a committee are apart: standard deviations, never variances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Spread:
    """Of M models for B structures of N atoms in all: sample standard deviations, with M - 1 in the denominator.

    Attributes:
        energies: [B, M] eV, of each member. Members of different levels of theory have different zeros: take
            differences of structures first, member by member, and their standard deviation then.
        energy: [B] eV, standard deviation of these as they are, zeros included.
        forces: [N, 3] eV/Å, of each component.
        stress: [B, 3, 3] eV/Å³, of each component.
    """

    energies: Float[Tensor, "B M"]
    energy: Float[Tensor, "B"]
    forces: Float[Tensor, "N 3"] | None = None
    stress: Float[Tensor, "B 3 3"] | None = None

    @property
    def force_norms(self) -> Float[Tensor, "N"] | None:
        """[N] eV/Å: sqrt(Σ|F - F_mean|² / (M - 1)) of each atom's force; does not depend on the axes."""
        return None if self.forces is None else self.forces.norm(dim=-1)

    def detached(self, device: str | torch.device | None = None) -> Spread:
        """Without graph, on a device."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {n: None if v is None else v.detach().to(device) for n, v in values.items()}
        return Spread(**moved)


def standard_deviation(values: Float[Tensor, "M *S"]) -> Float[Tensor, "*S"]:
    """Over the first axis, with M - 1; exactly zero where all values are the same.

    Args:
        values: of at least two members.
    """
    # deviations from the first: energies of 1e5 eV with spreads of 1e-3 eV lose nothing in a mean
    return (values - values[0]).std(dim=0, correction=1)


def join_spreads(parts: Sequence[Spread]) -> Spread:
    """Spreads of consecutive batches as one; a field that some part lacks is left out."""
    columns = {f.name: [getattr(part, f.name) for part in parts] for f in fields(Spread)}
    joined: dict[str, Any] = {n: None if any(v is None for v in c) else torch.cat(c) for n, c in columns.items()}
    return Spread(**joined)
