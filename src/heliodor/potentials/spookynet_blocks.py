"""The parts of SpookyNet: residual maps with learned activations, electronic embeddings, local and non-local messages.

Unke, Chmiela, Gastegger, Schütt, Sauceda & Müller, Nat. Commun. 12, 7273 (2021). Maps of the same shape that read the
same features run side by side: P of them as one batched matrix product, with parameters [P, F, F].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

from heliodor.errors import InputError
from heliodor.halo import Halo
from heliodor.potentials.favor import Molecules, RandomFeatureAttention

ACTIVATIONS = ("swish", "ssp")
_NORM_FLOOR = 1e-8


class Activation(nn.Module):
    """A nonlinearity whose steepness and scale are learned for each feature.

    "swish": αx/(1 + exp(-βx)); "ssp": α(softplus(βx) - ln 2)/β.
    """

    def __init__(self, kind: str, parallel: int, n_features: int) -> None:
        super().__init__()
        if kind not in ACTIVATIONS:
            raise InputError(f"no activation called {kind!r}; there are {', '.join(ACTIVATIONS)}")
        self.kind = kind
        self.alpha = nn.Parameter(torch.ones(parallel, 1, n_features))
        self.beta = nn.Parameter(torch.full((parallel, 1, n_features), 1.702 if kind == "swish" else 1.0))

    def forward(self, x: Float[Tensor, "#P N F"]) -> Float[Tensor, "P N F"]:
        if self.kind == "swish":
            return self.alpha * x * torch.sigmoid(self.beta * x)
        flat = self.beta == 0.0
        beta = torch.where(flat, 1.0, self.beta)
        curved = (softplus(beta * x) - math.log(2.0)) / beta
        return self.alpha * torch.where(flat, 0.5 * x, curved)


class Dense(nn.Module):
    """P linear maps of F features side by side."""

    def __init__(self, parallel: int, n_features: int, *, bias: bool = True, zero: Sequence[bool] = ()) -> None:
        super().__init__()
        weight = torch.stack([nn.init.orthogonal_(torch.empty(n_features, n_features)) for _ in range(parallel)])
        for p, empty in enumerate(zero):
            weight[p] *= 0.0 if empty else 1.0
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(parallel, 1, n_features)) if bias else None

    def forward(self, x: Float[Tensor, "P N F"]) -> Float[Tensor, "P N F"]:
        if self.bias is None:
            return torch.bmm(x, self.weight.mT)
        return torch.baddbmm(self.bias, x, self.weight.mT)


class Residual(nn.Module):
    """x + L2(φ2(L1(φ1(x)))), L2 zero to begin with."""

    def __init__(self, kind: str, parallel: int, n_features: int, *, bias: bool = True) -> None:
        super().__init__()
        self.activation_1 = Activation(kind, parallel, n_features)
        self.linear_1 = Dense(parallel, n_features, bias=bias)
        self.activation_2 = Activation(kind, parallel, n_features)
        self.linear_2 = Dense(parallel, n_features, bias=bias, zero=[True] * parallel)

    def forward(self, x: Float[Tensor, "P N F"]) -> Float[Tensor, "P N F"]:
        return x + self.linear_2(self.activation_2(self.linear_1(self.activation_1(x))))


class Stack(nn.Module):
    """P stacks of residual maps of the same features, of given (possibly different) depths."""

    def __init__(self, kind: str, n_features: int, depths: Sequence[int], *, bias: bool = True) -> None:
        super().__init__()
        self.depths = tuple(depths)
        self.blocks = nn.ModuleList(
            Residual(kind, sum(d > level for d in depths), n_features, bias=bias) for level in range(max(depths))
        )

    def forward(self, x: Float[Tensor, "P N F"]) -> Float[Tensor, "P N F"]:
        for level, block in enumerate(self.blocks):
            deep = [p for p, depth in enumerate(self.depths) if depth > level]
            if len(deep) == len(self.depths):
                x = block(x)
            else:
                index = torch.tensor(deep, device=x.device)
                x = x.index_copy(0, index, block(x.index_select(0, index)))
        return x


class ResidualMLP(nn.Module):
    """P times a stack of residual maps, an activation and a linear map."""

    def __init__(
        self, kind: str, n_features: int, depths: Sequence[int], *, bias: bool = True, zero: Sequence[bool] = ()
    ) -> None:
        super().__init__()
        self.stack = Stack(kind, n_features, depths, bias=bias)
        self.activation = Activation(kind, len(depths), n_features)
        self.linear = Dense(len(depths), n_features, bias=bias, zero=zero)

    def forward(self, x: Float[Tensor, "N F"]) -> Float[Tensor, "P N F"]:
        x = x.expand(len(self.stack.depths), *x.shape)
        return self.linear(self.activation(self.stack(x)))


class ElectronicEmbedding(nn.Module):
    """A molecule's charge or number of unpaired electrons, spread over its atoms by attention.

    Without biases in what carries the value, a neutral or closed-shell molecule gets exact zeros. The weights are
    normalised over the whole molecule: the embedding is not size-consistent.

    Args:
        signed: whether positive and negative values have features of their own (charge).
    """

    def __init__(self, kind: str, n_features: int, depth: int, *, signed: bool) -> None:
        super().__init__()
        self.signed = signed
        self.query = nn.Linear(n_features, n_features)
        self.key = nn.Linear(2 if signed else 1, n_features, bias=False)
        self.value = nn.Linear(2 if signed else 1, n_features, bias=False)
        self.output = ResidualMLP(kind, n_features, [depth], bias=False, zero=[True])

    def forward(self, z: Float[Tensor, "N F"], psi: Float[Tensor, "B"], molecules: Molecules) -> Float[Tensor, "N F"]:
        parts = torch.stack([psi, -psi], dim=-1).relu() if self.signed else psi.abs().unsqueeze(-1)
        key, value = self.key(parts / parts.clamp(min=1.0)), self.value(parts)
        weight = softplus((self.query(z) * molecules.spread(key)).sum(-1, keepdim=True) / z.shape[1] ** 0.5)
        weight = weight / (molecules.spread(molecules.sum(weight)) + _NORM_FLOOR)
        return self.output(weight * molecules.spread(value)).squeeze(0)


class NonlinearElectronicEmbedding(nn.Module):
    """The embedding of SpookyNet's earliest models: exponential weights, keys and values from residual maps."""

    def __init__(self, kind: str, n_features: int, depth: int) -> None:
        super().__init__()
        self.query = nn.Linear(n_features, n_features, bias=False)
        self.key = nn.Linear(1, n_features)
        self.value = nn.Linear(1, n_features, bias=False)
        self.key_output = ResidualMLP(kind, n_features, [depth], zero=[True])
        self.value_output = ResidualMLP(kind, n_features, [depth], bias=False, zero=[True])

    def forward(self, z: Float[Tensor, "N F"], psi: Float[Tensor, "B"], molecules: Molecules) -> Float[Tensor, "N F"]:
        scalar = psi.unsqueeze(-1)
        key, value = self.key_output(self.key(scalar)).squeeze(0), self.value_output(self.value(scalar)).squeeze(0)
        logit = (self.query(z) * molecules.spread(key)).sum(-1)
        weight = torch.exp((logit - molecules.spread(molecules.max(logit))) / z.shape[1] ** 0.5).unsqueeze(-1)
        return weight / (molecules.spread(molecules.sum(weight)) + _NORM_FLOOR) * molecules.spread(value)


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Each atom's neighbours within the cutoff in a row of S, the rest of the row weightless.

    Sums over neighbours are then products of small matrices, and no array of edges times components times features is
    ever made.

    Attributes:
        send: neighbours; any atom where the basis is zero.
        basis: radial functions.
        direction, quadrupole: angular functions of the unit vector to the neighbour, of degrees 1 and 2.
        halo: in a domain of a divided simulation; rows are of its own atoms, neighbours may be copies.
    """

    send: Int[Tensor, "NS"]
    basis: Float[Tensor, "NS K"]
    direction: Float[Tensor, "N 3 S"]
    quadrupole: Float[Tensor, "N Q S"]
    halo: Halo | None = None

    @staticmethod
    def of(
        i: Int[Tensor, "E"],
        j: Int[Tensor, "E"],
        unit: Float[Tensor, "E 3"],
        basis: Float[Tensor, "E K"],
        n_atoms: int,
        *,
        irreducible: bool,
        halo: Halo | None = None,
    ) -> Surroundings:
        """From a half list of edges; ``unit`` points from i to j, ``n_atoms`` have rows."""
        receive, n_edges = torch.cat([i, j]), len(i)
        order = torch.argsort(receive)
        counts = torch.bincount(receive, minlength=n_atoms)
        if halo is not None:
            # copies, which come last, receive where they are at home
            counts = counts[:n_atoms]
            order = order[: int(counts.sum())]
        width = max(int(counts.max()), 1)
        row = receive[order]
        place = row * width + torch.arange(len(order), device=i.device) - (counts.cumsum(0) - counts)[row]
        edge = order % max(n_edges, 1)
        flip = torch.where(order < n_edges, 1.0, -1.0).to(unit.dtype).unsqueeze(-1)
        both = torch.cat([unit, basis], dim=1).index_select(0, edge)
        both = torch.cat([both[:, :3] * flip, both[:, 3:]], dim=1)
        padded = both.new_zeros(n_atoms * width, both.shape[1]).index_copy(0, place, both)
        send = i.new_zeros(n_atoms * width)
        send[place] = torch.cat([j, i])[order]
        u = padded[:, :3]
        return Surroundings(
            send,
            padded[:, 3:],
            u.view(n_atoms, width, 3).mT,
            _quadrupole(u, irreducible).view(n_atoms, width, -1).mT,
            halo,
        )


def _quadrupole(u: Float[Tensor, "E 3"], irreducible: bool) -> Float[Tensor, "E Q"]:
    """Degree 2 of unit vectors: five irreducible functions, or the six products of the earliest models.

    Where a row is not filled u is zero and the values mean nothing.
    """
    x, y, z = u.unbind(-1)
    root = 3.0**0.5 if irreducible else 2.0**0.5
    mixed = [root * x * y, root * x * z, root * y * z]
    if irreducible:
        return torch.stack([*mixed, 0.5 * (3.0 * z * z - 1.0), 0.5 * root * (x * x - y * y)], dim=-1)
    return torch.stack([x * x, y * y, z * z, *mixed], dim=-1)


@dataclass(frozen=True)
class Depths:
    """Numbers of residual maps in each part of a module."""

    electron: int = 1
    pre: int = 1
    local_x: int = 1
    local_s: int = 1
    local_p: int = 1
    local_d: int = 1
    local: int = 1
    nonlocal_q: int = 1
    nonlocal_k: int = 1
    nonlocal_v: int = 1
    post: int = 1
    output: int = 1


class Interaction(nn.Module):
    """One module: features in; features and their contribution to the output out."""

    def __init__(self, kind: str, n_features: int, n_basis: int, depths: Depths) -> None:
        super().__init__()
        f, n = n_features, depths
        self.pre = Stack(kind, f, [n.pre])
        # what reads the features before any message: x, s, p, d of the local part, q, k, v of the other
        readers = [n.local_x, n.local_s, n.local_p, n.local_d, n.nonlocal_q, n.nonlocal_k, n.nonlocal_v]
        self.readers = ResidualMLP(kind, f, readers, zero=[False] * 4 + [True] * 3)
        self.radial = nn.Linear(n_basis, 3 * f, bias=False)
        self.projection_p = nn.Linear(f, 2 * f, bias=False)
        self.projection_d = nn.Linear(f, 2 * f, bias=False)
        for weight in (self.radial.weight, self.projection_p.weight, self.projection_d.weight):
            nn.init.orthogonal_(weight)
        self.local = ResidualMLP(kind, f, [n.local], zero=[True])
        self.attention = RandomFeatureAttention(f)
        self.post = Stack(kind, f, [n.post])
        self.output = ResidualMLP(kind, f, [n.output])

    def forward(
        self, x: Float[Tensor, "N F"], around: Surroundings, molecules: Molecules
    ) -> tuple[Float[Tensor, "N F"], Float[Tensor, "N F"]]:
        x = self.pre(x.unsqueeze(0)).squeeze(0)
        center, s, p, d, q, k, v = self.readers(x).unbind(0)
        x = x + self.local(self.messages(center, (s, p, d), around)).squeeze(0) + self.attention(q, k, v, molecules)
        x = self.post(x.unsqueeze(0)).squeeze(0)
        return x, self.output(x).squeeze(0)

    def messages(
        self, center: Float[Tensor, "N F"], senders: tuple[Tensor, ...], around: Surroundings
    ) -> Float[Tensor, "N F"]:
        """The atom's own features, its neighbours', and the squared dipoles and quadrupoles they make."""
        n, f = center.shape
        if around.halo is not None:
            senders = around.halo.fill(*senders)
        s, p, d = (
            (sent.index_select(0, around.send) * linear(around.basis, weight)).view(n, -1, f)
            for sent, weight in zip(senders, self.radial.weight.chunk(3), strict=True)
        )
        p1, p2 = self.projection_p(torch.bmm(around.direction, p)).chunk(2, dim=-1)
        d1, d2 = self.projection_d(torch.bmm(around.quadrupole, d)).chunk(2, dim=-1)
        return center + s.sum(1) + (p1 * p2).sum(1) + (d1 * d2).sum(1)
