"""SO3LR in Triton: energies, charges and all derivatives by hand-written kernels, bit-equal from run to run."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import triton
from jaxtyping import Float
from torch import Tensor

from heliodor.errors import InputError
from heliodor.kernels.derived import Derived
from heliodor.kernels.gpu.matrix import NeighborMatrix, matrix_of
from heliodor.kernels.gpu.pairs.terms import LongRangeTables, ZBLTables, long_range_pairs, zbl_pairs
from heliodor.kernels.gpu.so3lr.geometry import edges_within
from heliodor.kernels.gpu.so3lr.heads import Groups, read_out, read_out_back
from heliodor.kernels.gpu.so3lr.layout import NARROWEST, SMALLEST, power_of_two, spread
from heliodor.kernels.gpu.so3lr.network import NetworkTriton, Tuning
from heliodor.kernels.gpu.so3lr.weights import vector_at
from heliodor.neighbors import Neighbors
from heliodor.potential import Terms
from heliodor.potentials.so3krates import Dense
from heliodor.potentials.so3lr import SO3LR
from heliodor.system import System


@dataclass(frozen=True, eq=False)
class _Heads:
    """Arguments of `read_out` in their order."""

    energy_inner: Float[Tensor, "F H"]
    energy_bias: Float[Tensor, "H"]
    energy_outer: Float[Tensor, "H"]
    charge_inner: Float[Tensor, "F H"]
    charge_bias: Float[Tensor, "H"]
    charge_outer: Float[Tensor, "H"]
    ratio_inner: Float[Tensor, "F K"]
    ratio_bias: Float[Tensor, "K"]
    ratio_outer: Float[Tensor, "Z K"]
    of_element: Float[Tensor, "Z 4"]

    @property
    def piece(self) -> int:
        """Columns of hidden layers that `read_out_back` works on at once."""
        return min(NARROWEST, self.energy_inner.shape[1], self.ratio_inner.shape[1])

    @property
    def arguments(self) -> tuple[Tensor, ...]:
        return tuple(getattr(self, name) for name in self.__dataclass_fields__)

    @staticmethod
    def of(model: SO3LR, network: NetworkTriton) -> _Heads:
        places, f = network.places.cpu(), network.layout.features
        hidden = power_of_two(model.config.network.n_features, SMALLEST)
        ratios = power_of_two(model.config.n_hirshfeld, SMALLEST)
        weight = model.hirshfeld_weight.double() / model.config.n_hirshfeld**0.5
        last = model.hirshfeld_head.out
        scale = model.energy_scale.double()
        of_element = [
            scale,
            model.energy_offset.double() + scale * model.energy_head.out.bias.double(),
            model.charge_offset.double() + model.charge_head.out.bias.double(),
            model.hirshfeld_offset.double() + weight @ last.bias.double(),
        ]

        def inner(head: Dense, size: int) -> tuple[Tensor, Tensor]:
            matrix = spread(head.hidden.weight.double().T, places, None, (f, size))
            return matrix.float(), vector_at(head.hidden.bias, None, size).float()

        outer = weight @ last.weight.double()
        return _Heads(
            *inner(model.energy_head, hidden),
            vector_at(model.energy_head.out.weight[0], None, hidden).float(),
            *inner(model.charge_head, hidden),
            vector_at(model.charge_head.out.weight[0], None, hidden).float(),
            *inner(model.hirshfeld_head, ratios),
            spread(outer, None, None, (len(outer), ratios)).float(),
            torch.stack(of_element, dim=1).float(),
        )


@dataclass(frozen=True, eq=False)
class _Constant:
    """What positions and cell do not change, kept for the next call with the same atoms.

    Attributes:
        made_of: the tensors it was made of, and their versions then.
        structures: atoms of each structure.
        charged: atoms of each structure or fragment that keeps its charge.
        charge: of these, e.
        x, projected: embedded atoms, and the first layer's queries, keys and values.
    """

    made_of: list[tuple[Tensor | None, int]]
    structures: Groups
    charged: Groups
    charge: Float[Tensor, "G"]
    x: Float[Tensor, "N F"]
    projected: Float[Tensor, "N P"]


class SO3LRTriton:
    """Kernels for one model: copies of its parameters as they are now, float32, on its device.

    Args:
        tuning: precision of products, sizes of tiles.

    Attributes:
        network: the layers; `network.radial_error` says how well the radial filters are tabulated.
    """

    def __init__(self, model: SO3LR, tuning: Tuning | None = None) -> None:
        self.model = model
        self.tuning = Tuning() if tuning is None else tuning
        with torch.no_grad():
            self.network = NetworkTriton(model.network, self.tuning)
            self.heads = _Heads.of(model, self.network)
            long, short = LongRangeTables.of(model), ZBLTables.of(model)
        self.long_tables = replace(long, free=long.free.float())
        self.zbl_tables = replace(short, screening=short.screening.float(), inverse_length=short.inverse_length.float())
        self._constant: _Constant | None = None
        self._lists: tuple[Neighbors, NeighborMatrix, NeighborMatrix] | None = None

    @staticmethod
    def fits(neighbors: Neighbors) -> bool:
        """Whether all structures have the same long-range cutoff: molecules and boxes in one batch do not."""
        cutoff = None if neighbors.long_range is None else neighbors.long_range.cutoff
        return cutoff is None or len(cutoff) == 1 or bool((cutoff == cutoff[0]).all())

    def derive(self, system: System, neighbors: Neighbors, *, gradient: bool, strain: bool) -> Derived:
        """Energies, and their derivatives where asked for.

        Raises:
            InputError: no long-range list; structures with different cutoffs.
        """
        if neighbors.long_range is None:
            raise InputError("SO3LR needs a long-range list: use potential.neighbors(system)")
        if self._lists is None or self._lists[0] is not neighbors:
            short = matrix_of(neighbors, system.n_atoms)
            self._lists = (neighbors, short, matrix_of(neighbors.long_range, system.n_atoms))
        return self.evaluate(system, *self._lists[1:], gradient=gradient, strain=strain)

    def evaluate(
        self,
        system: System,
        short: NeighborMatrix,
        long: NeighborMatrix | None,
        *,
        gradient: bool = True,
        strain: bool = False,
    ) -> Derived:
        """Energies, charges, ratios and derivatives, without a word between device and host.

        Args:
            short: rows that hold all within the network's cutoff.
            long: likewise within the long-range cutoff; None for all pairs of the same structure without a cutoff.
        """
        with torch.no_grad():
            return self._evaluate(system, short, long, gradient=gradient or strain, strain=strain)

    def _evaluate(
        self, system: System, short: NeighborMatrix, long: NeighborMatrix | None, *, gradient: bool, strain: bool
    ) -> Derived:
        constant = self.constant(system)
        edges = edges_within(system, short, self.model.cutoff, self.network.layout)
        x, kept = self.network.forward(constant.x, constant.projected, edges)
        node, raw, signed = self._read_out(x, system)
        charges = raw + constant.charged.spread(
            ((constant.charge - constant.charged.sum(raw)) / constant.charged.count).float()
        )
        place = (system.positions, system.cell, system.batch)
        pairs = long_range_pairs(*place, long, system.numbers, charges, signed.abs(), self.long_tables, strain=strain)
        repulsion = zbl_pairs(*place, short, system.numbers, self.zbl_tables, strain=strain)
        terms = Terms(
            energies={
                "so3krates": node,
                "zbl": repulsion.energy,
                "electrostatics": pairs.coulomb,
                "dispersion": pairs.dispersion,
            },
            charges=charges,
            hirshfeld_ratios=signed.abs(),
            force_error=self._force_error(x, system),
        )
        if not gradient:
            return Derived(terms)
        by_charge = pairs.charge_slope - constant.charged.mean(pairs.charge_slope).float()
        x_pull = self._read_out_back(x, system, by_charge, pairs.ratio_slope * signed.sign())
        slope, rows = self.network.backward(x_pull, kept, edges, strain=strain)
        total = slope.double() + pairs.gradient.double() + repulsion.gradient.double()
        strains = None
        if rows is not None and pairs.strain is not None and repulsion.strain is not None:
            strains = constant.structures.sum(rows + pairs.strain + repulsion.strain).view(-1, 3, 3).to(system.dtype)
        return Derived(terms, total.to(system.dtype), strains)

    def constant(self, system: System) -> _Constant:
        """Embedded atoms, made anew only for other tensors than last time: call it before capturing a graph."""
        tensors = [
            system.numbers, system.batch, system.charge, system.spin, system.fragment, system.fragment_charge
        ]  # fmt: skip
        kept = self._constant
        if kept is not None and all(
            now is then and (now is None or now._version == version)
            for now, (then, version) in zip(tensors, kept.made_of, strict=True)
        ):
            return kept
        structures = Groups(system.batch, system.n_structures)
        if system.fragment is not None and system.fragment_charge is not None:
            charged, charge = Groups(system.fragment, len(system.fragment_charge)), system.fragment_charge
        else:
            charged, charge = structures, system.charge
        x = self.network.embed(system.numbers, system.charge, system.spin, structures)
        made_of = [(tensor, 0 if tensor is None else tensor._version) for tensor in tensors]
        made = _Constant(made_of, structures, charged, charge.double(), x, self.network.project(0, x))
        self._constant = made
        return made

    def _force_error(self, x: Tensor, system: System) -> Tensor | None:
        if self.model.uncertainty is None:
            return None
        return self.model.force_error(self.network.plain(x).to(self.model.dtype), system)

    def _read_out(self, x: Tensor, system: System) -> tuple[Tensor, Tensor, Tensor]:
        energy, charge, ratio = x.new_empty(3, len(x))
        read_out[(triton.cdiv(len(x), self.tuning.atoms),)](
            x, system.numbers, *self.heads.arguments, energy, charge, ratio, len(x), **self._shape()
        )
        return energy, charge, ratio

    def _read_out_back(self, x: Tensor, system: System, by_charge: Tensor, by_ratio: Tensor) -> Tensor:
        x_pull = torch.empty_like(x)
        read_out_back[(triton.cdiv(len(x), self.tuning.atoms),)](
            x,
            system.numbers,
            by_charge,
            by_ratio,
            *self.heads.arguments,
            x_pull,
            len(x),
            PIECE=self.heads.piece,
            **self._shape(),
        )
        return x_pull

    def _shape(self) -> dict[str, int | str]:
        return {
            "F": self.network.layout.features,
            "HIDDEN": self.heads.energy_inner.shape[1],
            "RATIO": self.heads.ratio_inner.shape[1],
            "BLOCK": self.tuning.atoms,
            "PRECISION": self.tuning.precision,
            "num_warps": self.tuning.atoms_warps,
            "num_stages": 1,
        }
