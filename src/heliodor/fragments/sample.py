"""Ways of distorting a fragment: along normal modes, by hot dynamics, at random; all seeded."""

from __future__ import annotations

from collections.abc import Sequence

import ase
import numpy as np

from heliodor.errors import InputError
from heliodor.fragments.distorted import Distorted, Sieve
from heliodor.fragments.embed import seed_of_structure
from heliodor.fragments.normal_modes import Modes, normal_modes, sample_normal_modes
from heliodor.fragments.short_dynamics import sample_dynamics

__all__ = [
    "Distorted",
    "Modes",
    "normal_modes",
    "sample_displacements",
    "sample_dynamics",
    "sample_normal_modes",
]

TRIES = 20
"""Structures drawn for each that is wanted, at most."""


def sample_displacements(
    atoms: ase.Atoms,
    count: int,
    *,
    amplitudes: Sequence[float] = (0.05, 0.1),
    reject_reconnected: bool = False,
    seed: int = 0,
) -> Distorted:
    """Structures with normally distributed displacements of every coordinate; no energies are needed.

    Args:
        count: structures, the amplitudes in turn.
        amplitudes: Å, standard deviations. 0.05 Å on every coordinate is hotter than any dynamics: bonds stretch by
            0.07 Å.
        reject_reconnected: leave out structures whose bonds changed.
        seed: with the same structure and seed the result is the same to the last bit.

    Raises:
        InputError: a starting geometry that clashes, amplitudes that are none.
    """
    if count < 0 or len(amplitudes) == 0 or not all(0.0 < float(a) < float("inf") for a in amplitudes):
        raise InputError("count must be 0 or more, amplitudes above 0 Å")
    sieve = Sieve(atoms, reject_reconnected)
    rng = np.random.default_rng(seed_of_structure(atoms, "displacements", seed))
    for _ in range(TRIES * count):
        if len(sieve.frames) == count:
            break
        amplitude = float(amplitudes[len(sieve.frames) % len(amplitudes)])
        sieve.offer(
            atoms.positions + rng.normal(scale=amplitude, size=atoms.positions.shape), f"displaced by {amplitude:g} Å"
        )
    few = f"only {len(sieve.frames)} of {count} structures were sound in {TRIES * count} tries"
    return sieve.result(notes=(few,) if len(sieve.frames) < count else ())
