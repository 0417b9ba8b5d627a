"""SpookyNet on a GPU: energies and derivatives worked out by hand, without a graph.

Sums over neighbours, activations, random features and pair terms are Triton kernels, matrix products are torch's. What
positions do not reach, the embedding and all of the first module but its messages, is worked out once for a system.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from heliodor.errors import ModelError
from heliodor.kernels.derived import Derived
from heliodor.kernels.gpu.matrix import NeighborMatrix, matrix_of
from heliodor.kernels.gpu.pairs.d4 import D4Tables, d4_pairs
from heliodor.kernels.gpu.pairs.terms import PairSums, SmearedTables, ZBLTables, smeared_coulomb_pairs, zbl_pairs
from heliodor.kernels.gpu.spookynet.basis import basis_table
from heliodor.kernels.gpu.spookynet.messages import Edges
from heliodor.kernels.gpu.spookynet.module import Module, ModuleKept, Still
from heliodor.kernels.gpu.spookynet.segments import Segments
from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, Terms
from heliodor.potentials.favor import Molecules
from heliodor.potentials.spookynet import SpookyNet
from heliodor.system import System

_SQUARE = (0, 5, 4, 5, 1, 3, 4, 3, 2)
"""Where xx, yy, zz, yz, xz, xy go in a matrix, row by row."""


@dataclass(frozen=True, eq=False)
class Constant:
    """What is the same as long as elements, charges and spins are.

    Attributes:
        of: tensors it was made from, and their versions.
        atoms: which belong together.
        still: what of the first module does not move.
        bias: energy (eV, float64) and charge (e) of each atom's element.
        dispersion: constants of D4 for these elements; None for a model without.
    """

    of: tuple[tuple[Tensor, int], ...]
    atoms: Segments
    still: Still
    bias: tuple[Float[Tensor, "N"], Float[Tensor, "N"]]
    dispersion: D4Tables | None


class SpookyNetTriton:
    """A SpookyNet's parameters as they are now, in the model's dtype and on its device.

    Raises:
        ModelError: a variant without kernels, see `supports`.
    """

    def __init__(self, model: SpookyNet) -> None:
        if not self.supports(model):
            raise ModelError(f"there are no GPU kernels for this variant of SpookyNet ({model.name})")
        with torch.no_grad():
            self.model = copy.deepcopy(model)
            self.model.use_kernel(None, "reference")
            self.model.requires_grad_(False)
            self.model.eval()
            dtype = self.dtype = model.dtype
            table = basis_table(self.model.radial, dtype)
            self.modules = [Module.of(module, table, dtype) for module in self.model.interactions]
            self.output = self.model.output.weight.detach().contiguous()
            self.zbl = None if model.zbl is None else ZBLTables.of(model)
            self.smeared = SmearedTables.of(model) if model.config.electrostatics else None
        self._matrices: tuple[Neighbors, NeighborMatrix, NeighborMatrix | None] | None = None
        self._constant: Constant | None = None

    @staticmethod
    def supports(model: Potential) -> bool:
        """Whether there are kernels: powers of two from 16 to 256 features, irreducible functions of degree 2."""
        if not isinstance(model, SpookyNet):
            return False
        config = model.config
        return config.irreducible and config.n_features in (16, 32, 64, 128, 256) and config.n_basis <= 64

    def derive(self, system: System, neighbors: Neighbors, *, gradient: bool, strain: bool) -> Derived:
        """Energies, and their derivatives where asked for; the matrices are kept while the list is the same object."""
        if self._matrices is None or self._matrices[0] is not neighbors:
            far = neighbors.long_range
            listed = self.model.has_long_range and self.model.config.long_range_cutoff is not None
            if self.model.has_long_range and far is None:
                raise ModelError("SpookyNet needs a long-range list: use potential.neighbors(system)")
            long = matrix_of(far, system.n_atoms) if listed and far is not None else None
            self._matrices = (neighbors, matrix_of(neighbors, system.n_atoms), long)
        _, short, long = self._matrices
        return self.evaluate(system, short, long, gradient=gradient, strain=strain)

    @torch.no_grad()
    def evaluate(
        self,
        system: System,
        short: NeighborMatrix,
        long: NeighborMatrix | None,
        *,
        gradient: bool = True,
        strain: bool = False,
    ) -> Derived:
        """As `derive`; nothing in it waits for the device once it has seen this system's elements and charges.

        Args:
            short: rows within the network's cutoff.
            long: rows within the long-range cutoff; None for all pairs, or a model without long-range terms.
        """
        constant = self.prepare(system)
        atoms = constant.atoms
        edges = Edges.of(system, short, self.model.cutoff, self.dtype)
        total, kept = self._features(constant, edges)
        out = total @ self.output.mT
        raw = out[:, 1] + constant.bias[1]
        missing = (system.charge.to(raw.dtype) - atoms.sum(raw)) / atoms.counts
        charges = raw + atoms.spread(missing)
        energies = {"spookynet": out[:, 0].double() + constant.bias[0]}
        pairs = self._pair_terms(system, short, long, constant, charges, strain)
        energies |= {name: sums.energy for name, sums in pairs.items()}
        terms = Terms(energies=energies, charges=charges, force_error=self.model.force_error(total, system))
        if not (gradient or strain):
            return Derived(terms)
        by_degree = total.new_zeros(3, system.n_atoms, 3)
        strains = total.new_zeros(3, system.n_atoms, 6) if strain else None
        self._back(self._pull(pairs, atoms), constant, edges, kept, by_degree, strains)
        slopes = by_degree.sum(0).to(system.dtype)
        for sums in pairs.values():
            slopes = slopes + sums.gradient
        whole = None
        if strains is not None:
            own = strains.sum(0).double()
            own = torch.stack([own[:, c] for c in _SQUARE], dim=1)
            own = own + sum(s.strain.double() for s in pairs.values() if s.strain is not None)
            whole = atoms.sum(own).view(-1, 3, 3).to(system.dtype)
        return Derived(terms, slopes if gradient else None, whole)

    def prepare(self, system: System) -> Constant:
        """What does not depend on positions, kept while the system has the same tensors: call before capturing."""
        made_from = (system.numbers, system.charge, system.spin, system.batch)
        was = self._constant
        if was is not None and all(
            a is b and version == b._version for (a, version), b in zip(was.of, made_from, strict=True)
        ):
            return was
        with torch.no_grad():
            atoms = Segments.of(system)
            x = self.model.embed(system, Molecules.of(system, self.model.config.n_features)).contiguous()
            bias = self.model.element_bias[system.numbers]
            elements = torch.bincount(system.numbers).nonzero().squeeze(1).tolist()
            self._constant = Constant(
                tuple((tensor, tensor._version) for tensor in made_from),
                atoms,
                self.modules[0].still(x, atoms),
                (bias[:, 0].double(), bias[:, 1].contiguous()),
                None if self.model.d4 is None else D4Tables.of(self.model, elements),
            )
        return self._constant

    def _features(self, constant: Constant, edges: Edges) -> tuple[Float[Tensor, "N F"], list[ModuleKept]]:
        """What the modules make of the features, summed."""
        atoms, kept = constant.atoms, []
        x, total, record = self.modules[0].moving(constant.still, edges, atoms)
        kept.append(record)
        for module in self.modules[1:]:
            x, y, record = module.forth(x, edges, atoms)
            total = total + y
            kept.append(record)
        return total, kept

    def _pair_terms(
        self,
        system: System,
        short: NeighborMatrix,
        long: NeighborMatrix | None,
        constant: Constant,
        charges: Float[Tensor, "N"],
        strain: bool,
    ) -> dict[str, PairSums]:
        x, cell, batch = system.positions.double(), system.cell.double(), system.batch
        found = {}
        if self.zbl is not None:
            found["zbl"] = zbl_pairs(x, cell, batch, short, system.numbers, self.zbl, strain=strain)
        if self.smeared is not None:
            found["electrostatics"] = smeared_coulomb_pairs(x, cell, batch, long, charges, self.smeared, strain=strain)
        if constant.dispersion is not None:
            found["dispersion"] = d4_pairs(
                x, cell, batch, long, system.numbers, charges, constant.dispersion, strain=strain, contacts=short
            )
        return found

    def _pull(self, pairs: dict[str, PairSums], atoms: Segments) -> Float[Tensor, "N F"]:
        """∂E/∂(sum of the modules' contributions): of the energy, and of the charges through the pair terms."""
        by_energy, by_charge = self.output
        slopes = [sums.charge_slope for sums in pairs.values() if sums.charge_slope is not None]
        if not slopes:
            return by_energy.expand(atoms.n_atoms, -1).contiguous()
        slope = slopes[0] if len(slopes) == 1 else slopes[0] + slopes[1]
        slope = slope - atoms.spread(atoms.sum(slope) / atoms.counts)
        return torch.addcmul(by_energy, slope.unsqueeze(-1), by_charge)

    def _back(
        self,
        pull: Float[Tensor, "N F"],
        constant: Constant,
        edges: Edges,
        kept: list[ModuleKept],
        gradient: Float[Tensor, "3 N 3"],
        strain: Float[Tensor, "3 N 6"] | None,
    ) -> None:
        onward = None
        for module, record in zip(reversed(self.modules), reversed(kept), strict=True):
            onward = module.back(pull, onward, record, edges, constant.atoms, gradient, strain)
