"""SpookyNet on a layout made beforehand, so that nothing in its forward pass depends on the values of tensors.

The model's own `forward` sizes its rows of neighbours and blocks of atoms by the batch at hand, which torch.compile
cannot follow. Here they have one size for a whole run; the mathematics are the model's own parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from heliodor.neighbors import Neighbors
from heliodor.potential import Terms
from heliodor.potentials.favor import Molecules
from heliodor.potentials.radial import exponential_cutoff
from heliodor.potentials.spookynet import SpookyNet
from heliodor.potentials.spookynet_blocks import Surroundings, _quadrupole
from heliodor.system import System
from heliodor.train.batches import Batch

_LOW = -1e9
"""Below every exponent of the attention."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Places of edges in rows of neighbours, and of atoms in rows of molecules.

    Attributes:
        slot: directed edge (those j <- i after all i <- j) in each place of each atom's row; the last edge of the half
            list, too long to count, where a row is not full.
        place: where each atom lies in the molecules' rows laid end to end.
        width, length: of a row of neighbours, and of a molecule's.
    """

    slot: Int[Tensor, "NS"]
    place: Int[Tensor, "N"]
    width: int
    length: int

    @staticmethod
    def of(filled: Batch, width: int, length: int) -> Layout:
        """For a filled-up batch, whose last edge is a dummy."""
        first, second, molecule = (x.cpu().numpy() for x in (filled.i, filled.j, filled.batch))
        n_real_edges = int((filled.index.cpu().numpy()[molecule[first]] >= 0).sum())
        n_edges, n_atoms = len(first), len(molecule)
        receive = np.concatenate([first[:n_real_edges], second[:n_real_edges]])
        edge = np.concatenate([np.arange(n_real_edges), n_edges + np.arange(n_real_edges)])
        order = np.argsort(receive, kind="stable")
        counts = np.bincount(receive, minlength=n_atoms)
        within = np.arange(len(receive)) - np.repeat(np.cumsum(counts) - counts, counts)
        slot = np.full(n_atoms * width, n_edges - 1)
        slot[receive[order] * width + within] = edge[order]
        sizes = np.bincount(molecule)
        # dummy atoms may be more than a row holds; those beyond lie on one spot
        inside = np.minimum(np.arange(n_atoms) - np.repeat(np.cumsum(sizes) - sizes, sizes), length - 1)
        place = molecule * length + inside
        return Layout(torch.from_numpy(slot), torch.from_numpy(place), width, length)


class FixedMolecules(Molecules):
    """`Molecules` with one row for each, and the largest value found along it."""

    def max(self, x: Float[Tensor, "N"]) -> Float[Tensor, "B"]:
        assert self.place is not None
        rows = torch.full((self.shape[0] * self.shape[1],), _LOW, dtype=x.dtype, device=x.device)
        return rows.index_copy(0, self.place, x).view(self.shape).amax(1)


def forward_fixed(model: SpookyNet, system: System, neighbors: Neighbors, layout: Layout) -> Terms:
    """What `SpookyNet.forward` gives, in training mode without dropped modules."""
    r = neighbors.vectors(system)
    d = r.square().sum(-1).sqrt()
    b = system.n_structures
    molecules = FixedMolecules(system.batch, b, (b, layout.length), layout.place, None)
    around = _surroundings(neighbors, r / d.unsqueeze(-1), model.radial(d), system.n_atoms, layout, model)
    z = model.element[system.numbers] + model.element_electrons(model.electrons.to(r.dtype)[system.numbers])
    x = z + model.charge_embedding(z, system.charge, molecules) + model.spin_embedding(z, system.spin, molecules)
    total = torch.zeros_like(x)
    for interaction in model.interactions:
        x, y = interaction(x, around, molecules)
        total = total + y
    out = model.output(total)
    bias = model.element_bias[system.numbers]
    energies = {"spookynet": out[:, 0] + bias[:, 0]}
    raw = out[:, 1] + bias[:, 1]
    # as `SpookyNet.conserve`, whose counts of atoms torch.compile cannot follow
    missing = (system.charge - molecules.sum(raw)) / molecules.sum(torch.ones_like(raw))
    charges = raw + molecules.spread(missing)
    if model.zbl is not None:
        number = system.numbers.to(r.dtype)
        pair = model.zbl(d, number[neighbors.i], number[neighbors.j], exponential_cutoff(d, model.cutoff))
        half = 0.5 * pair
        zero = torch.zeros_like(number)
        energies["zbl"] = zero.index_add(0, neighbors.i, half).index_add(0, neighbors.j, half)
    if model.has_long_range:
        assert neighbors.long_range is not None
        energies |= model.long_range(system, neighbors.long_range, charges)
    return Terms(energies=energies, charges=charges)


def _surroundings(
    edges: Neighbors,
    unit: Float[Tensor, "E 3"],
    basis: Float[Tensor, "E K"],
    n_atoms: int,
    layout: Layout,
    model: SpookyNet,
) -> Surroundings:
    # the two directions of an edge share their radial functions
    edge = layout.slot % len(edges.i)
    flip = torch.where(layout.slot < len(edges.i), 1.0, -1.0).to(unit.dtype).unsqueeze(-1)
    u = unit.index_select(0, edge) * flip
    shape = (n_atoms, layout.width)
    return Surroundings(
        torch.cat([edges.j, edges.i]).index_select(0, layout.slot),
        basis.index_select(0, edge),
        u.view(*shape, 3).mT,
        _quadrupole(u, model.config.irreducible).view(*shape, -1).mT,
    )
