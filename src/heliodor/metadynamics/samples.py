"""What a run left, and the weights that undo its bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from heliodor.errors import InputError
from heliodor.metadynamics.files import read_hills
from heliodor.metadynamics.grids import between, inside, sum_of_gaussians
from heliodor.metadynamics.settings import Settings
from heliodor.metadynamics.variables import Variable

METHODS = ("tiwary-parrinello", "final-bias")

HONEST = METHODS[:1]
"""Whose errors can be had from blocks of time. All blocks share the final bias, and its own error is most of the whole:
in 60 runs of a double well the results scattered by 2.5 times what leaving out blocks said."""

UPDATES = 1000
"""Times along a run at which c(t) is computed; linear between."""


@dataclass(frozen=True, eq=False)
class Samples:
    """T samples, one before each Gaussian, of D variables.

    Attributes:
        steps: of the dynamics.
        values: ° and Å.
        bias: felt by the sample, eV.
        heights: of the Gaussian put there next, eV.
    """

    variables: tuple[Variable, ...]
    settings: Settings
    steps: Int[np.ndarray, "T"]
    values: Float[np.ndarray, "T D"]
    bias: Float[np.ndarray, "T"]
    heights: Float[np.ndarray, "T"]

    def __len__(self) -> int:
        return len(self.steps)

    @staticmethod
    def read(path: Path, variables: Sequence[Variable], settings: Settings) -> Samples:
        """Of a run's table of Gaussians.

        Raises:
            InputError: the file is missing, of other variables, or holds none.
        """
        steps, values, bias, heights = read_hills(path, variables)
        if not len(steps):
            raise InputError(f"{path} holds no Gaussians yet")
        return Samples(tuple(variables), settings, steps, values, bias, heights)

    def final_bias(self, count: int | None = None) -> Float[np.ndarray, "*n"]:
        """The bias on the grid after the first ``count`` Gaussians (all), eV, first variable first."""
        return sum_of_gaussians(self.variables, self.values[:count], self.heights[:count])

    def free_energy(self, count: int | None = None) -> Float[np.ndarray, "*n"]:
        """F(s) = -γ/(γ-1) V(s) on the grid, eV, zero at the lowest point between the walls."""
        factor = self.settings.bias_factor / (self.settings.bias_factor - 1.0)
        found = -factor * self.final_bias(count)
        return found - found[inside(self.variables)].min()

    @cached_property
    def offsets(self) -> Float[np.ndarray, "T"]:
        """c(t) before each Gaussian, eV (Tiwary & Parrinello, J. Phys. Chem. B 119, 736 (2015), eq. 12).

        c = kT ln [∫ exp(γ V/((γ-1) kT)) ds / ∫ exp(V/((γ-1) kT)) ds], integrals between the walls.
        """
        kt, gamma = self.settings.kt, self.settings.bias_factor
        starts = np.unique(np.linspace(0, len(self), min(UPDATES, len(self)) + 1).astype(int))
        there = inside(self.variables)
        table = np.zeros(tuple(len(v.grid) for v in self.variables))
        found = np.zeros(len(starts))
        for k, start in enumerate(starts[1:], 1):
            rows = slice(int(starts[k - 1]), int(start))
            table += sum_of_gaussians(self.variables, self.values[rows], self.heights[rows])
            v = table[there] / ((gamma - 1.0) * kt)
            most = v.max()
            high = np.log(np.exp(gamma * (v - most)).mean()) + gamma * most
            found[k] = kt * (high - np.log(np.exp(v - most).mean()) - most)
        offsets: np.ndarray = np.interp(np.arange(len(self)), starts, found)
        return offsets

    def log_weights(self, method: str = METHODS[0], skip: float = 0.2) -> Float[np.ndarray, "T"]:
        """Logarithms of weights that make averages those without bias; -inf of the part left out.

        Samples beyond the walls of a distance are left out too: between them the springs are nothing, so that what is
        left is the molecule's own ensemble at these distances.

        Args:
            method: "tiwary-parrinello": exp((V(s,t) - c(t))/kT); "final-bias": exp(V(s, end)/kT) (Branduardi, Bussi
                & Parrinello, JCTC 8, 2247 (2012)).
            skip: fraction of the run, from its beginning, that is left out: the bias still grew fast.

        Raises:
            InputError: no such method; a fraction outside 0 to 0.9.
        """
        check_reweighting(method, skip)
        if method == "final-bias":
            v = between(self.variables, self.final_bias(), self.values)
        else:
            v = self.bias - self.offsets
        found: np.ndarray = v / self.settings.kt
        found[: int(skip * len(self))] = -np.inf
        for k, variable in enumerate(self.variables):
            if not variable.periodic:
                at = self.values[:, k]
                found[(at < variable.lower) | (at > variable.upper)] = -np.inf
        return found


def check_reweighting(method: str, skip: float) -> None:
    """Refuse what cannot be.

    Raises:
        InputError: no such method; a fraction outside 0 to 0.9.
    """
    if method not in METHODS:
        raise InputError(f"there is no way of reweighting {method!r}; there are {' and '.join(METHODS)}")
    if not 0.0 <= skip <= 0.9:
        raise InputError(f"the part to leave out must be a fraction between 0 and 0.9, not {skip!r}")
