"""Descriptors: what a model's network knows of each atom, for clustering, selecting structures, fitting something else.

The module is not called ``descriptors``, which is the function's name in `heliodor`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ase
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from heliodor.api import batches, load
from heliodor.errors import InputError, ModelError
from heliodor.neighbors import find_neighbors
from heliodor.potential import Potential, check_distances
from heliodor.potentials.committee import Committee
from heliodor.system import System


@dataclass(frozen=True)
class Block:
    """Neighbouring columns of descriptors: the features of one degree in one layer.

    Attributes:
        layer: 0 for the first.
        degree: l; 0 are invariants, 1 turn as vectors do.
        channels: K; component m of channel k is column ``first + k * (2l + 1) + m``.
        first: column.
    """

    layer: int
    degree: int
    channels: int
    first: int

    @property
    def width(self) -> int:
        """Number of columns, K (2l + 1)."""
        return self.channels * (2 * self.degree + 1)

    @property
    def columns(self) -> slice:
        """Where the block is: ``d[:, b.columns].reshape(-1, b.channels, 2 * b.degree + 1)`` takes it apart."""
        return slice(self.first, self.first + self.width)


def descriptors(
    potential: Potential | str | Path,
    atoms: ase.Atoms | Sequence[ase.Atoms],
    *,
    invariant: bool = True,
    layers: int | Sequence[int] | None = None,
    charge: float | None = None,
    spin: int | None = None,
    batch_atoms: int = 2000,
) -> Float[np.ndarray, "N D"] | list[np.ndarray]:
    """Features of each atom in a model's network, layer after layer: [N, D], in the network's precision, without unit.

    MACE with K channels: K scalars for each layer; with ``invariant=False`` each layer has its degrees l = 0, 1, ...
    one after another, K (2l+1) columns each, channel by channel, m in e3nn's order, which is x, y, z for l = 1.
    SO3krates (SO3LR, heliodor-mini) with F features: F for each layer; with ``invariant=False`` each layer's F are
    followed by one channel of every degree of its Euclidean variables, m = -l..l, which is y, z, x for l = 1.
    SpookyNet with F features: F for each layer, all invariant.
    `layout` says which column is what. Descriptors of a layer know atoms up to (layer + 1) times the cutoff away (in
    SO3LR, of charged structures, all atoms; in SpookyNet always all atoms).

    Args:
        potential: from `heliodor.load`, or a model's name or file.
        atoms: one structure or many; many are evaluated in batches of about ``batch_atoms`` atoms.
        invariant: only what does not change when the structure is rotated.
        layers: one layer or several, 0 the first, -1 the last; None: all.
        charge, spin: override ``atoms.info["charge"]``, ``["spin"]`` (unpaired electrons).

    Returns:
        One array; for a list of structures a list of arrays.

    Raises:
        ModelError: a model without a network to look into, a committee; structures outside the model.
        InputError: a layer that does not exist, atoms on one spot.
    """
    if not isinstance(potential, Potential):
        potential = load(potential)
    frames = [atoms] if isinstance(atoms, ase.Atoms) else list(atoms)
    if not frames:
        return []
    potential.check(System.from_atoms(frames, charge=charge, spin=spin))
    found: list[np.ndarray] = []
    for first, last in batches([len(frame) for frame in frames], batch_atoms):
        system = System.from_atoms(frames[first:last], charge=charge, spin=spin, device=potential.device)
        blocks = [features for _, features in _chosen(potential, system, invariant, layers, first)]
        whole = torch.cat([features.flatten(1) for features in blocks], dim=1).cpu()
        found += [part.numpy() for part in whole.split(system.counts.tolist())]  # type: ignore[no-untyped-call]
    return found[0] if isinstance(atoms, ase.Atoms) else found


def layout(
    potential: Potential | str | Path, *, invariant: bool = True, layers: int | Sequence[int] | None = None
) -> list[Block]:
    """Which columns of `descriptors` are what; arguments and errors as there."""
    if not isinstance(potential, Potential):
        potential = load(potential)
    # a lone atom has them all
    system = System.from_atoms(ase.Atoms([potential.elements[0]], positions=[[0.0, 0.0, 0.0]]), device=potential.device)
    blocks: list[Block] = []
    for layer, features in _chosen(potential, system, invariant, layers, 0):
        _, channels, size = features.shape
        first = blocks[-1].columns.stop if blocks else 0
        blocks.append(Block(layer, (size - 1) // 2, channels, first))
    return blocks


def _chosen(
    potential: Potential, system: System, invariant: bool, layers: int | Sequence[int] | None, first: int
) -> list[tuple[int, Float[Tensor, "N K M"]]]:
    """The features asked for, each with the layer it is from."""
    if isinstance(potential, Committee):
        raise ModelError("the networks of a committee have no features in common: take those of a member")
    features = getattr(getattr(potential, "network", None), "features", None)
    if features is None:
        raise ModelError(f"{potential.name} has no network to take descriptors from")
    neighbors = find_neighbors(system, potential.cutoff)
    check_distances(system, neighbors, first)
    with torch.no_grad():
        made: list[list[Tensor]] = features(system, neighbors)
    wanted = range(len(made)) if layers is None else [layers] if isinstance(layers, int) else list(layers)
    if not len(wanted):
        raise InputError("no layers chosen: leave layers out for all of them")
    for layer in wanted:
        if not -len(made) <= layer < len(made):
            raise InputError(f"{potential.name} has {len(made)} layers, counted from 0: there is no layer {layer}")
    chosen = [(layer % len(made), block) for layer in wanted for block in made[layer]]
    return [(layer, block) for layer, block in chosen if block.shape[-1] == 1 or not invariant]
