"""MACE on GPUs: energies and their gradient by hand without a graph, the same bits every time.

The arithmetic is that of `heliodor.kernels.cpu.mace.kernel`, from the same tables. One program does one atom, or a tile
of atoms of one element, and writes to it alone; what its neighbours need of it they gather.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
from jaxtyping import Float, Int
from torch import Tensor

from heliodor.errors import ModelError
from heliodor.kernels.cpu.mace.tables import Convolution, Products, Tables, tables
from heliodor.kernels.derived import Derived
from heliodor.kernels.gpu.mace import convolve as mace_convolve
from heliodor.kernels.gpu.mace import products as mace_products
from heliodor.kernels.gpu.mace.edges import collect, edges
from heliodor.kernels.gpu.mace.linear import Linear, Sorted, tile_rows
from heliodor.kernels.gpu.mace.readout import readout
from heliodor.kernels.gpu.mace.sums import by_structure
from heliodor.kernels.gpu.matrix import NeighborMatrix, matrix_of
from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, Terms
from heliodor.potentials.mace import MACE, Layer
from heliodor.system import System

SIZE = 16
"""Components of a message of degrees 0..3."""

LANES = 32
"""Threads of a program."""


def supports(model: Potential) -> bool:
    """Whether these kernels know the model's shape: MACE-OFF's, any number of channels."""
    return isinstance(model, MACE) and model.config.two_layers


def channel_block(channels: int, degree: int) -> int:
    """Channels that one program works on: as many as leave no more numbers to a thread than it has registers."""
    return min(64 if degree > 1 else 128, triton.next_power_of_2(channels))


@dataclass(frozen=True, eq=False)
class _Edges:
    """Rows of edges within the cutoff: see `heliodor.kernels.gpu.mace.edges.edges`."""

    sender: Int[Tensor, "N C"]
    kind: Int[Tensor, "N C"]
    image: Int[Tensor, "N C"]
    vector: Float[Tensor, "N C 4"]
    number: Int[Tensor, "N"]


@dataclass(frozen=True, eq=False)
class _Convolution:
    """A layer's convolution: its kernels and the splines of its radial functions."""

    degrees: tuple[tuple[int, int, int], ...]
    table: Float[Tensor, "knots 2 F"]
    scale: float
    count: int
    components: int
    block: int

    def options(self, channels: int) -> dict[str, Any]:
        knots = len(self.table)
        return {"SCALE": self.scale, "KNOTS": knots, "K": channels, "BLOCK": self.block, "num_warps": 1}

    def forward(self, g: Tensor, row: Tensor, e: _Edges) -> Float[Tensor, "N M K"]:
        n, k = len(e.number), g.shape[-1]
        messages = g.new_empty(n, self.count, k)
        run = mace_convolve.convolve(self.degrees)
        run[(n, triton.cdiv(k, self.block))](
            g, row, e.vector, e.number, messages, self.table, row.shape[1], **self.options(k)
        )
        return messages

    def backward(
        self, g: Tensor, own: Tensor, e: _Edges, pull: Tensor, slopes: Tensor, features: bool
    ) -> Float[Tensor, "N Q K"]:
        """Gradient by the senders' features, empty unless `features`."""
        n, k = len(e.number), g.shape[-1]
        g_pull = g.new_empty(n, self.components, k) if features else g.new_empty(0, self.components, k)
        run = mace_convolve.convolve_back(self.degrees, features, self.block > LANES)
        run[(n, triton.cdiv(k, self.block))](
            g,
            own,
            e.sender,
            e.vector,
            e.number,
            pull,
            g_pull,
            slopes,
            n,
            self.table,
            e.sender.shape[1],
            **self.options(k),
            LANES=min(LANES, self.block),
        )
        return g_pull


@dataclass(frozen=True, eq=False)
class _Products:
    """A layer's symmetric products: their terms, written into kernels, and coefficients."""

    monomials: list[mace_products.Monomials]
    coefficients: Float[Tensor, "Z T K"]
    block: int

    def forward(self, a: Tensor, species: Tensor) -> Float[Tensor, "N M K"]:
        n, _, k = a.shape
        b = a.new_empty(n, len(self.monomials), k)
        for of in self.monomials:
            run = mace_products.multiply(of)
            run[(n, triton.cdiv(k, self.block))](a, species, self.coefficients, b, K=k, BLOCK=self.block, num_warps=1)
        return b

    def backward(self, a: Tensor, species: Tensor, pull: Tensor) -> Float[Tensor, "N S K"]:
        n, _, k = a.shape
        a_pull = torch.empty_like(a)
        for of in self.monomials:
            run = mace_products.multiply_back(of)
            run[(n, triton.cdiv(k, self.block))](
                a, species, self.coefficients, pull, a_pull, K=k, BLOCK=self.block, num_warps=1
            )
        return a_pull


class MACETriton:
    """Energies and gradients of a MACE, from copies of its parameters in its dtype on its device.

    Raises:
        ModelError: a network of another shape than MACE-OFF's.
    """

    def __init__(self, model: MACE) -> None:
        if not supports(model):
            raise ModelError(
                f'{model.name} is no MACE of two layers: the GPU kernels do not know it, take kernels="reference"'
            )
        self._model = model
        self._tables = made = tables(model, model.dtype)
        self._device = model.device
        config, network = model.config, model.network
        self._channels, self._degree = config.channels, config.degrees[0]
        self._index = network.index.int().to(model.device)
        self._isolated = model.isolated.to(model.device)
        layers = [layer for layer in network.layers if isinstance(layer, Layer)]
        block = channel_block(config.channels, self._degree)
        self._convolutions = [
            self._convolution(layer, c, block) for layer, c in zip(layers, made.convolutions, strict=True)
        ]
        self._products = [self._product(p) for p in made.products]
        self._maps(made)
        self._features = self._feature_maps() if model.uncertainty is not None else None
        self._kept: tuple[Neighbors, NeighborMatrix] | None = None

    @property
    def spline_error(self) -> float:
        """Largest error of a radial function by its spline, as a fraction of the largest radial function."""
        return max(c.spline_error for c in self._tables.convolutions)

    def derive(self, system: System, neighbors: Neighbors, *, gradient: bool, strain: bool) -> Derived:
        """Energies, and their derivatives where asked for."""
        if self._kept is None or self._kept[0] is not neighbors:
            self._kept = neighbors, matrix_of(neighbors, system.n_atoms)
        return self.evaluate(system, self._kept[1], gradient=gradient, strain=strain)

    def evaluate(
        self,
        system: System,
        short: NeighborMatrix,
        long: NeighborMatrix | None = None,
        *,
        gradient: bool = True,
        strain: bool = False,
    ) -> Derived:
        """As `derive`; nothing waits for the device, and shapes depend on those of the arguments alone.

        Args:
            short: edges; those beyond its cutoff, within the skin, are left out.
            long: has no meaning for MACE.
        """
        n, back = system.n_atoms, gradient or strain
        species = self._index[system.numbers]
        isolated = self._isolated[species]
        atoms = Sorted.of(species, len(self._isolated), tile_rows())
        e = self._edges(system, species, short)
        first, second = self._convolutions
        a_1 = self._mix_1(first.forward(self._sender, e.kind, e), atoms)
        b_1 = self._products[0].forward(a_1, species)
        g_2 = self._up(b_1, atoms)
        a_2 = self._mix_2(second.forward(g_2, e.sender, e), atoms)
        b_2 = self._products[1].forward(a_2, species)
        energy = b_1.new_empty(n)
        b_1_pull, b_2_pull = torch.empty_like(b_1), torch.empty_like(b_2)
        self._read(b_1, b_2, species, energy, b_1_pull, b_2_pull, back)
        terms = Terms({"mace": energy, "isolated_atoms": isolated}, force_error=self._error(b_1, b_2, atoms, system))
        if not back:
            return Derived(terms)
        parts = triton.cdiv(self._channels, first.block)
        slopes = b_1.new_empty(2, parts, *e.sender.shape, 3)
        pull = self._mix_2_back(self._products[1].backward(a_2, species, b_2_pull), atoms)
        every = torch.arange(n, dtype=torch.int32, device=species.device)
        g_pull = second.backward(g_2, every, e, pull, slopes[1], features=True)
        self._up_back(g_pull, atoms, out=b_1_pull, add=1)
        pull = self._mix_1_back(self._products[0].backward(a_1, species, b_1_pull), atoms)
        first.backward(self._sender, species, e, pull, slopes[0], features=False)
        return self._collected(system, e, slopes, terms, gradient, strain)

    def _edges(self, system: System, species: Tensor, matrix: NeighborMatrix) -> _Edges:
        n, room = matrix.index.shape
        ints = matrix.index.new_empty(3, n, room)
        vector = torch.empty(n, room, 4, dtype=self._model.dtype, device=ints.device)
        made = _Edges(ints[0], ints[1], ints[2], vector, torch.empty_like(matrix.count))
        edges[(n,)](
            system.positions,
            system.cell,
            system.batch,
            species,
            matrix.index,
            matrix.shift,
            matrix.count,
            made.sender,
            made.kind,
            made.image,
            made.vector,
            made.number,
            room,
            CUTOFF=min(matrix.cutoff, self._model.cutoff),
            WIDTH=triton.next_power_of_2(room),
            num_warps=1,
        )
        return made

    def _read(
        self, b_1: Tensor, b_2: Tensor, species: Tensor, energy: Tensor, pull_1: Tensor, pull_2: Tensor, back: bool
    ) -> None:
        made = self._tables
        k, h = self._hidden.shape
        readout[(len(energy),)](
            b_1,
            b_2,
            species,
            self._readout,
            self._skip,
            self._hidden,
            self._out,
            energy,
            pull_1,
            pull_2,
            GATE=made.gate,
            SCALE=made.scale,
            SHIFT=made.shift,
            Q=b_1.shape[1],
            K=k,
            H=h,
            CHANNELS=triton.next_power_of_2(k),
            HIDDEN=triton.next_power_of_2(h),
            BACK=back,
            num_warps=4,
        )

    def _error(self, b_1: Tensor, b_2: Tensor, atoms: Sorted, system: System) -> Tensor | None:
        if self._features is None:
            return None
        from_second, from_first = self._features
        features = from_first(b_1, atoms, out=from_second(b_2, atoms), add=1)
        return self._model.force_error(features.squeeze(1), system)

    def _collected(
        self, system: System, e: _Edges, slopes: Tensor, terms: Terms, gradient: bool, strain: bool
    ) -> Derived:
        n, room = e.sender.shape
        by_atom = torch.empty(n, 3, dtype=torch.float64, device=slopes.device)
        strains = torch.empty(n if strain else 0, 9, dtype=torch.float64, device=slopes.device)
        collect[(n,)](
            e.sender,
            e.image,
            e.vector,
            e.number,
            slopes,
            by_atom,
            strains,
            n,
            room,
            PARTS=slopes.shape[0] * slopes.shape[1],
            WIDTH=triton.next_power_of_2(room),
            STRAIN=strain,
            num_warps=1,
        )
        return Derived(
            terms,
            by_atom if gradient else None,
            by_structure(strains, system.batch, system.n_structures).view(-1, 3, 3) if strain else None,
        )

    def _convolution(self, layer: Layer, made: Convolution, block: int) -> _Convolution:
        table = torch.from_numpy(made.table).to(self._device)
        degrees = tuple(layer.paths)
        components = (1 + max(l1 for l1, _, _ in degrees)) ** 2
        return _Convolution(degrees, table, made.scale, len(made.ways), components, block)

    def _product(self, made: Products) -> _Products:
        monomials = mace_products.monomials(SIZE, made.components, made.pairs, made.terms)
        coefficients = torch.from_numpy(made.coefficients).to(self._device)
        return _Products(monomials, coefficients, min(128, triton.next_power_of_2(self._channels)))

    def _maps(self, made: Tables) -> None:
        degree_of = [degree for degree in range(4) for _ in range(2 * degree + 1)]
        count = (self._degree + 1) ** 2
        self._mix_1 = Linear.of(
            torch.stack(made.mix[0], dim=1).to(self._device), [[(q, degree_of[q])] for q in range(SIZE)], SIZE
        )
        self._up = Linear.of(
            torch.stack(made.up).unsqueeze(0).to(self._device), [[(q, degree_of[q])] for q in range(count)], count
        )
        ways: list[list[tuple[int, int]]] = [[] for _ in range(SIZE)]
        for p, (begin, end, degree) in enumerate(made.convolutions[1].blocks):
            for m in range(end - begin):
                ways[degree**2 + m].append((begin + m, p))
        came = len(made.convolutions[1].ways)
        self._mix_2 = Linear.of(torch.stack(made.mix[1]).unsqueeze(0).to(self._device), ways, came)
        self._mix_1_back, self._up_back, self._mix_2_back = (
            each.back() for each in (self._mix_1, self._up, self._mix_2)
        )
        self._sender = made.sender.unsqueeze(1).contiguous().to(self._device)
        self._readout, self._skip, self._hidden, self._out = (
            x.contiguous().to(self._device) for x in (made.read, made.skip, made.hidden, made.out)
        )

    def _feature_maps(self) -> tuple[Linear, Linear]:
        """From both layers' products to the last layer's scalars, which the uncertainty reads."""
        network, config = self._model.network, self._model.config
        first, second = (layer for layer in network.layers if isinstance(layer, Layer))
        k, n = config.channels, len(config.elements)
        with torch.no_grad():
            last = second.out[0].double() / k**0.5
            rest = first.out[0].double() @ second.skip[0].double() / (k * n**0.5)
        both = (last.view(1, 1, k, k), rest.view(n, 1, k, k))
        from_second, from_first = (Linear.of(w.to(self._model.dtype), [[(0, 0)]], 1) for w in both)
        return from_second, Linear.of(from_first.weight, [[(0, 0)]], (self._degree + 1) ** 2)
