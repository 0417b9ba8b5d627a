"""MACE: higher-order equivariant message passing, as MACE-OFF uses it.

Batatia, Kovács, Simm, Ortner & Csányi, NeurIPS 35, 11423 (2022); Kovács et al., J. Am. Chem. Soc. 147, 17598 (2025).
Features of degree l are [N, K, 2l+1] in the order and with the signs of e3nn, so that the weights of its files fit;
inside the network they are [N, 2l+1, K], atoms sorted by element.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from heliodor.errors import ModelError
from heliodor.halo import Halo
from heliodor.kernels.derived import as_terms
from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, Terms
from heliodor.potentials.angular import component_harmonics
from heliodor.potentials.couplings import convolution_paths, product_monomials, ways_to, wigner_3j
from heliodor.potentials.radial import bessel_basis
from heliodor.potentials.rows import Rows
from heliodor.system import System

SILU_SCALE = 1.6765324703310909
"""1/sqrt(<silu(z)²>) for normal z; e3nn estimates it from random numbers as 1.6792, and its files bring that along."""


@dataclass(frozen=True)
class MACEConfig:
    """The network's shape and the constants that a file brings along.

    Attributes:
        cutoff: Å.
        elements: atomic numbers, ascending.
        channels: K.
        degrees: highest degree of the features each layer hands on; 0 for the last one where energies are wanted.
        edge_degree: highest degree of the harmonics and of the messages.
        products: for each layer, output degree and order: numbers of (monomials, paths).
        bessel, cutoff_power, radial_hidden: radial functions.
        residual_first: whether the first layer adds what came in instead of mixing by species.
        average_neighbors: for each layer.
        silu_scale, gate_scale: factors on silu in the radial functions and in the last readout.
        readout_hidden: width of the last readout.
        isolated_energies: eV, for each element.
    """

    cutoff: float
    elements: tuple[int, ...]
    channels: int
    degrees: tuple[int, ...]
    isolated_energies: tuple[float, ...]
    average_neighbors: tuple[float, ...]
    products: tuple[tuple[tuple[tuple[int, int], ...], ...], ...] = ()
    edge_degree: int = 3
    correlation: int = 3
    bessel: int = 8
    cutoff_power: int = 5
    radial_hidden: tuple[int, ...] = (64, 64, 64)
    residual_first: bool = False
    silu_scale: float = SILU_SCALE
    gate_scale: float = SILU_SCALE
    readout_hidden: int = 16

    @property
    def two_layers(self) -> bool:
        """Whether this is the shape of MACE-OFF's models."""
        usual = self.edge_degree == 3 and self.correlation == 3 and not self.residual_first
        return usual and len(self.degrees) == 2 and self.degrees[0] <= 2 and self.degrees[1] == 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> MACEConfig:
        def frozen(value: Any) -> Any:
            return tuple(frozen(v) for v in value) if isinstance(value, (list, tuple)) else value

        return MACEConfig(**{key: frozen(value) for key, value in values.items()})


class MACE(Potential):
    """E = Σ_i (E0 of the element + scale (sum of the layers' readouts) + shift).

    The energies of the isolated atoms, -1e3 to -1e5 eV, and all sums are float64 whatever the network's dtype:
    float32 has grains of 16 meV there at 200 atoms.

    Args:
        config: shape and constants.
    """

    isolated: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, config: MACEConfig) -> None:
        super().__init__()
        self.name = "mace"
        self.cutoff = config.cutoff
        self.elements = config.elements
        self.network = MACENetwork(config)
        self.config = replace(config, products=self.network.config.products)
        k, hidden = config.channels, config.readout_hidden
        self.readouts = nn.ParameterList([_weights(k) for _ in config.degrees[:-1]])
        self.last_hidden = _weights(k, hidden)
        self.last_out = _weights(hidden)
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))
        self.register_buffer("shift", torch.zeros((), dtype=torch.float64))
        self._keep_isolated()

    def forward(self, system: System, neighbors: Neighbors) -> Terms:
        """Per-atom interaction energies, and those of the isolated atoms, eV."""
        if self.derives(neighbors):
            return as_terms(self.kernel, system, neighbors)
        error = None
        if self.kernel is not None and not hasattr(self.kernel, "derive") and neighbors.half:
            # Numba's keeps its features to itself: no uncertainty, as `advice` says
            interaction = self.kernel(system, neighbors)
        else:
            features = self.network.features(system, neighbors)
            interaction = self.energies(features)
            error = self.force_error(features[-1][0].squeeze(-1), neighbors.home(system))
        isolated = self.isolated[self.network.species(neighbors.home(system).numbers)]
        return Terms({"mace": interaction, "isolated_atoms": isolated}, force_error=error)

    def energies(self, features: list[list[Tensor]]) -> Float[Tensor, "N"]:
        """Scaled and shifted readouts of each layer's scalars, eV."""
        scalars = [layer[0].squeeze(-1) for layer in features]
        root = math.sqrt(self.config.channels)
        total = torch.zeros_like(scalars[0][:, 0])
        for h, w in zip(scalars[:-1], self.readouts, strict=True):
            total = total + h @ w / root
        hidden = self.config.gate_scale * nn.functional.silu(scalars[-1] @ self.last_hidden / root)
        total = total + hidden @ self.last_out / math.sqrt(self.config.readout_hidden)
        return self.scale * total + self.shift

    def check(self, system: System) -> None:
        """As `Potential.check`; charges are refused too.

        Raises:
            ModelError: a charged structure, which this model cannot tell from a neutral one.
        """
        super().check(system)
        charged = (system.charge != 0.0).nonzero()
        if len(charged):
            b = int(charged[0])
            where = f"structure {b}: " if system.n_structures > 1 else ""
            raise ModelError(
                f"{where}the total charge is {float(system.charge[b]):+g} and {self.name} has no notion of charge (it "
                "was trained on neutral, closed-shell molecules): take a model that has, such as so3lr"
            )

    def advice(self, system: System) -> list[str]:
        lines = []
        if bool((system.spin != 0).any()):
            lines.append(f"unpaired electrons are given and {self.name} has no notion of them: it answers as for none")
        if self.uncertainty is not None and self.kernel is not None and not hasattr(self.kernel, "derive"):
            lines.append(
                f"the kernel {self.kernels!r} gives no features, so no errors of forces are told: for these load the "
                'model with kernels="reference" (--kernels reference)'
            )
        return lines

    def _keep_isolated(self) -> None:
        self.isolated = torch.tensor(self.config.isolated_energies, dtype=torch.float64, device=self.device)

    def _apply(self, fn: Any, recurse: bool = True) -> MACE:
        super()._apply(fn, recurse)
        self._keep_isolated()
        return self


class MACENetwork(nn.Module):
    """Features of atoms after each layer; every linear map is without bias and divided by the root of its inputs."""

    frequency: Tensor
    index: Tensor

    def __init__(self, config: MACEConfig) -> None:
        super().__init__()
        n = len(config.elements)
        self.embedding = _weights(n, config.channels)
        n_th = torch.arange(1.0, config.bessel + 1.0, dtype=torch.float64)
        self.register_buffer("frequency", n_th * (math.pi / config.cutoff))
        index = torch.zeros(256, dtype=torch.int64)
        index[list(config.elements)] = torch.arange(n)
        self.register_buffer("index", index, persistent=False)
        self.layers = nn.ModuleList([Layer(config, t) for t in range(len(config.degrees))])
        products = tuple(tuple(product.shape for product in layer.products) for layer in self.layers)  # type: ignore[union-attr]
        self.config = replace(config, products=products)

    def species(self, numbers: Int[Tensor, "N"]) -> Int[Tensor, "N"]:
        """Position of each atom's element in the table of elements."""
        return self.index[numbers]

    def features(self, system: System, neighbors: Neighbors) -> list[list[Tensor]]:
        """Features of each layer, by degree, [N, K, 2l+1] (`heliodor.descriptor`)."""
        edges = neighbors.within(system)
        # from the neighbour to the centre
        v = -edges.vectors(system).to(self.embedding.dtype)
        return self(edges.inner(system).numbers, edges.i, edges.j, v, edges.half, edges.halo)

    def forward(
        self,
        numbers: Int[Tensor, "N"],
        i: Int[Tensor, "E"],
        j: Int[Tensor, "E"],
        v: Float[Tensor, "E 3"],
        half: bool,
        halo: Halo | None = None,
    ) -> list[list[Tensor]]:
        """Features of each layer, by degree, of a domain's own atoms only.

        Args:
            v: Å, from the sender j to the receiver i.
            half: whether each pair stands once, for both directions.
        """
        config = self.config
        n = len(numbers) if halo is None else halo.n_own
        order = torch.argsort(self.species(numbers[:n]), stable=True)
        place = torch.empty_like(order).index_copy(0, order, torch.arange(n, device=order.device))
        if halo is not None:
            # copies stay behind, in their order
            copies = torch.arange(n, len(numbers), device=order.device)
            order, place = torch.cat([order, copies]), torch.cat([place, copies])
        spread = None if halo is None else _Spread(halo, order, place[:n])
        species = self.species(numbers)[order]
        elements = _Elements.of(species[:n])
        rows = Rows.of(place[i], place[j], n, half, v.dtype, partial=halo is not None)
        r = v.norm(dim=-1)
        harmonics = torch.cat(component_harmonics(v / r.unsqueeze(-1), config.edge_degree), dim=-1)
        radial = bessel_basis(r, self.frequency, config.cutoff, config.cutoff_power)
        h = [(self.embedding[species] / math.sqrt(len(config.elements))).unsqueeze(1)]
        features = []
        for layer in self.layers:
            h = layer(h, elements, rows, radial, harmonics, spread)
            features.append([x.index_select(0, place[:n]).mT for x in h])
        return features


@dataclass(frozen=True, eq=False)
class _Spread:
    """What a domain's atoms have to send, to all domains, in this network's order of atoms."""

    halo: Halo
    order: Int[Tensor, "N"]
    place: Int[Tensor, "O"]

    def __call__(self, h: list[Tensor]) -> list[Tensor]:
        return [x.index_select(0, self.order) for x in self.halo.fill(*(x.index_select(0, self.place) for x in h))]


@dataclass(frozen=True)
class _Elements:
    """Which atoms are of which element: runs of the sorted atoms."""

    index: Int[Tensor, "Z"]
    counts: list[int]

    @staticmethod
    def of(species: Int[Tensor, "N"]) -> _Elements:
        index, counts = torch.unique_consecutive(species, return_counts=True)
        return _Elements(index, counts.tolist())

    def linear(self, x: Float[Tensor, "N M U"], weight: Float[Tensor, "All U W"]) -> Float[Tensor, "N M W"]:
        """A linear map for each element."""
        parts = zip(torch.split(x, self.counts), weight.index_select(0, self.index), strict=True)
        return torch.cat([part @ w for part, w in parts])


class Layer(nn.Module):
    """Convolution over neighbours, products of its result with itself, linear map."""

    def __init__(self, config: MACEConfig, t: int) -> None:
        super().__init__()
        k, n = config.channels, len(config.elements)
        came = 0 if t == 0 else config.degrees[t - 1]
        goes = config.degrees[t]
        self.config = config
        self.first = t == 0
        self.neighbors = config.average_neighbors[t]
        self.paths = convolution_paths(came, config.edge_degree, config.edge_degree)
        self.residual = t > 0 or config.residual_first
        self.up = nn.ParameterList([_weights(k, k) for _ in range(came + 1)])
        widths = [config.bessel, *config.radial_hidden, len(self.paths) * k]
        self.radial = nn.ParameterList([_weights(*shape) for shape in pairwise(widths)])
        self.ways = ways_to(self.paths)
        self.mix = nn.ParameterList([_weights(len(ways) * k, k) for ways in self.ways])
        kept = min(came, goes) if self.residual else config.edge_degree
        self.skip = nn.ParameterList([_weights(n, k, k) for _ in range(kept + 1)])
        shapes = config.products[t] if config.products else (None,) * (goes + 1)
        self.products = nn.ModuleList([Product(config, degree, shape) for degree, shape in enumerate(shapes)])
        self.out = nn.ParameterList([_weights(k, k) for _ in range(goes + 1)])
        self.widths = [(2 * l1 + 1) * (2 * l3 + 1) for l1, _, l3 in self.paths]
        size = (config.edge_degree + 1) ** 2
        coupling = torch.zeros(size, sum(self.widths), dtype=torch.float64)
        odd = torch.zeros(sum(self.widths), dtype=torch.bool)
        for (l1, l2, l3), last in zip(self.paths, accumulate(self.widths), strict=True):
            part = math.sqrt(2 * l3 + 1) * wigner_3j(l1, l2, l3).transpose(1, 0, 2).reshape(2 * l2 + 1, -1)
            columns = slice(last - part.shape[1], last)
            coupling[l2 * l2 : (l2 + 1) ** 2, columns] = torch.from_numpy(part)
            odd[columns] = l2 % 2 == 1
        self.register_buffer("coupling", coupling, persistent=False)
        self.register_buffer("odd", odd, persistent=False)

    def forward(
        self,
        h: list[Tensor],
        elements: _Elements,
        rows: Rows,
        radial: Float[Tensor, "E B"],
        harmonics: Float[Tensor, "E S"],
        spread: _Spread | None = None,
    ) -> list[Tensor]:
        """Features [N, 2l+1, K] of the next layer from those of the last one."""
        root = math.sqrt(self.config.channels)
        a = self.convolve(h, rows, radial, harmonics, spread)
        if spread is not None:
            h = [spread.halo.own(x) for x in h]
        mixed = [elements.linear(x, w) for x, w in zip(h if self.residual else a, self.skip, strict=False)]
        scaled = [x / math.sqrt(self.config.channels * len(self.config.elements)) for x in mixed]
        rest = scaled if self.residual else []
        joined = torch.cat(a if self.residual else scaled, dim=1)
        result = []
        for degree, (new, w) in enumerate(zip(self.multiply(joined, elements), self.out, strict=True)):
            new = new @ w / root
            result.append(new + rest[degree] if degree < len(rest) else new)
        return result

    def convolve(
        self,
        h: list[Tensor],
        rows: Rows,
        radial: Float[Tensor, "E B"],
        harmonics: Float[Tensor, "E S"],
        spread: _Spread | None = None,
    ) -> list[Tensor]:
        """Messages of all neighbours, mixed and divided by their average number: [N, 2l+1, K] for l = 0..3."""
        k, width = self.config.channels, rows.width
        ready = [x @ w / math.sqrt(k) for x, w in zip(h, self.up, strict=True)]
        n = len(h[0]) if spread is None else spread.halo.n_own
        if spread is not None and not self.first:
            # the elements of copies are known, what layers have made of them is not
            ready = spread(ready)
        sent = [x.index_select(0, rows.sender) for x in ready]
        # radial functions and harmonics once for each pair; the latter of odd degree change sign with its direction
        weights = self.radial_functions(radial).index_select(0, rows.pair).unbind(1)
        sign = rows.sign.unsqueeze(-1)
        turned = (harmonics @ self.get_buffer("coupling")).index_select(0, rows.pair) * torch.where(
            self.get_buffer("odd"), sign, sign.square()
        )
        sums = []
        for (l1, _, l3), weight, turn in zip(self.paths, weights, torch.split(turned, self.widths, dim=1), strict=True):
            come, go = 2 * l1 + 1, 2 * l3 + 1
            left = (sent[l1] * weight.unsqueeze(1)).view(n, width * come, k)
            sums.append(torch.bmm(turn.reshape(n, width * come, go).mT, left))
        return [
            torch.cat([sums[p] for p in ways], dim=2) @ w / (self.neighbors * math.sqrt(k * len(ways)))
            for ways, w in zip(self.ways, self.mix, strict=True)
        ]

    def multiply(self, a: Float[Tensor, "N S K"], elements: _Elements) -> list[Tensor]:
        """Symmetric products of a, coupled to each degree: [N, 2l+1, K].

        Monomials of all orders and degrees are made in one go; lower orders have ones for the factors they lack.
        """
        one = a.new_ones(1, a.shape[2], a.shape[0])
        values = torch.cat([a.permute(1, 2, 0), one])
        products: list[Any] = list(self.products)
        tables = [product.factors(len(values) - 1) for product in products]
        factors = torch.cat(tables).T
        monomials = values.index_select(0, factors[0])
        for more in factors[1:]:
            monomials = monomials * values.index_select(0, more)
        parts = zip(products, torch.split(monomials, [len(table) for table in tables]), strict=True)
        return [product(part, elements) for product, part in parts]

    def radial_functions(self, radial: Float[Tensor, "E B"]) -> Float[Tensor, "E P K"]:
        """One function of distance for each path and channel; all vanish at the cutoff, as nothing has a bias."""
        x = radial
        for w in list(self.radial)[:-1]:
            x = self.config.silu_scale * nn.functional.silu(x @ w / math.sqrt(len(w)))
        last = self.radial[-1]
        return (x @ last / math.sqrt(len(last))).view(len(x), len(self.paths), self.config.channels)


class Product(nn.Module):
    """Symmetric products of one vector a = [N, K, S], channel by channel, coupled to one degree.

    B = Σ_ν Σ_η W^ν[species, η] Σ_monomials c^ν[monomial, M, η] a_q1 ... a_qν.

    Args:
        degree: of the result.
        shape: (monomials, paths) of each order, where couplings come from a file; None to make all couplings.
    """

    def __init__(self, config: MACEConfig, degree: int, shape: tuple[tuple[int, int], ...] | None) -> None:
        super().__init__()
        self.degree = degree
        self.weights = nn.ParameterList()
        for order in range(1, config.correlation + 1):
            if shape is None:
                made = product_monomials(config.edge_degree, order, degree)
                factors, coefficients = (torch.tensor(array) for array in made)
            else:
                count, paths = shape[order - 1]
                factors = torch.zeros(count, order, dtype=torch.int64)
                coefficients = torch.zeros(count, 2 * degree + 1, paths, dtype=torch.float64)
            self.register_buffer(f"factors_{order}", factors)
            self.register_buffer(f"coefficients_{order}", coefficients)
            self.weights.append(_weights(len(config.elements), coefficients.shape[-1], config.channels))

    @property
    def shape(self) -> tuple[tuple[int, int], ...]:
        counts = (self.get_buffer(f"coefficients_{nu + 1}").shape for nu in range(len(self.weights)))
        return tuple((shape[0], shape[-1]) for shape in counts)

    def factors(self, one: int) -> Int[Tensor, "Q Nu"]:
        """Factors of the monomials of all orders; `one` is where a factor is missing."""
        parts = [self.get_buffer(f"factors_{order}") for order in range(1, len(self.weights) + 1)]
        return torch.cat([nn.functional.pad(part, (0, len(self.weights) - part.shape[1]), value=one) for part in parts])

    def forward(self, monomials: Float[Tensor, "Q K N"], elements: _Elements) -> Float[Tensor, "N M K"]:
        """B [N, 2 degree + 1, K].

        Couplings and weights become one coefficient for each element, channel and monomial before atoms come in: paths
        are many, elements few.
        """
        found = []
        for order, weight in enumerate(self.weights, start=1):
            coefficients = self.get_buffer(f"coefficients_{order}").permute(1, 0, 2)
            found.append(torch.einsum("mqp,zpk->zkmq", coefficients, weight.index_select(0, elements.index)))
        atoms = torch.split(monomials.transpose(0, 1), elements.counts, dim=2)
        parts = [torch.bmm(c, x) for c, x in zip(torch.cat(found, dim=3), atoms, strict=True)]
        return torch.cat(parts, dim=2).permute(2, 1, 0)


def _weights(*shape: int) -> nn.Parameter:
    # float64 from the start, as the couplings are: what is rounded cannot be got back
    return nn.Parameter(torch.randn(shape, dtype=torch.float64))
