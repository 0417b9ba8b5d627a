"""MACE for dipoles and polarizabilities: the network of `heliodor.potentials.mace` with vector and tensor readouts.

Class ``AtomicDielectricMACE`` of mace: MACE-OFF-mu (dipoles; Kovács et al., J. Am. Chem. Soc. 147, 17598 (2025)) and
MACE-MDP (dipoles and polarizabilities). It has no energies.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, Terms
from heliodor.potentials.couplings import wigner_3j
from heliodor.potentials.mace import SILU_SCALE, MACEConfig, MACENetwork
from heliodor.system import System


@dataclass(frozen=True)
class MACEDielectricConfig:
    """The model's shape and constants.

    Attributes:
        network: degrees end with 2 (1 for dipoles alone) instead of 0; isolated energies and readout_hidden mean
            nothing here.
        hidden: channels of degree 0, 1 (and 2) inside the last readout; without the 2 there is no polarizability.
        gate_scale: factor on silu in the last readout.
    """

    network: MACEConfig
    hidden: tuple[int, ...]
    gate_scale: float = SILU_SCALE

    @property
    def polarizable(self) -> bool:
        return len(self.hidden) > 2

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> MACEDielectricConfig:
        network = MACEConfig.from_dict(values["network"])
        return MACEDielectricConfig(network, tuple(values["hidden"]), float(values["gate_scale"]))


class MACEDielectric(Potential):
    """μ = Σ_i (q_i R_i + μ_i) and α = Σ_i α_i, every atomic quantity a sum of the layers' readouts.

    The charges are shifted, all by the same, so that they add up to the total charge; nothing else knows of it.

    Args:
        config: shape and constants.
    """

    has_energy = False
    basis: Tensor

    def __init__(self, config: MACEDielectricConfig) -> None:
        super().__init__()
        self.name = "mace-dielectric"
        self.cutoff = config.network.cutoff
        self.elements = config.network.elements
        self.network = MACENetwork(config.network)
        self.config = replace(config, network=self.network.config)
        self.outputs = frozenset({"charges", "dipole"} | ({"polarizability"} if config.polarizable else set()))
        k, hidden = config.network.channels, config.hidden
        # of degree 0: the charge and the trace of the polarizability
        out = [len(hidden) - 1, *(1 for _ in hidden[1:])]
        self.linear = nn.ModuleList([_maps([k] * len(out), out) for _ in config.network.degrees[:-1]])
        self.inner = _maps([k] * len(out), [sum(hidden), *hidden[1:]])
        self.outer = _maps(hidden, out)
        self.register_buffer("basis", symmetric_basis() if config.polarizable else torch.zeros(0, 3, 3).double())

    def forward(self, system: System, neighbors: Neighbors) -> Terms:
        """Charges (e), dipoles (e·Å) and polarizabilities (e²Å²/eV) of the atoms; no energies."""
        features = self.network.features(system, neighbors)
        parts = [_apply(maps, h) for maps, h in zip(self.linear, features, strict=False)]
        parts.append(_apply(self.outer, self.gated(features[-1])))
        scalars, vectors, *tensors = [sum(part[1:], part[0]) for part in zip(*parts, strict=True)]
        charges = self._neutral(scalars[:, 0, 0].to(system.dtype), system)
        if not tensors:
            return Terms({}, charges=charges, dipoles=vectors[:, 0])
        spherical = torch.cat([scalars[:, 1], tensors[0][:, 0]], dim=-1)
        return Terms(
            {},
            charges=charges,
            dipoles=vectors[:, 0],
            polarizabilities=torch.einsum("np,pab->nab", spherical, self.basis),
        )

    def gated(self, h: list[Tensor]) -> list[Tensor]:
        """Features inside the last readout: scalars through silu, the others times silu of scalars of their own."""
        scalars, *others = _apply(self.inner, h)
        passed = self.config.gate_scale * nn.functional.silu(scalars)
        first, *gates = torch.split(passed, list(self.config.hidden), dim=1)
        return [first, *(gate * x for gate, x in zip(gates, others, strict=True))]

    def advice(self, system: System) -> list[str]:
        said = []
        if bool((system.charge != 0.0).any()):
            said.append(
                f"{self.name} does not see the total charge, it only spreads it evenly over the atoms; the dipole of a "
                "charged structure depends on the origin"
            )
        if bool((system.spin != 0).any()):
            said.append(f"unpaired electrons are given and {self.name} has no notion of them: it answers as for none")
        return said

    @staticmethod
    def _neutral(charges: Tensor, system: System) -> Tensor:
        """Charges [N] that add up to those of the structures."""
        total = torch.zeros_like(system.charge).index_add(0, system.batch, charges)
        excess = (total - system.charge) / torch.zeros_like(total).index_add(0, system.batch, torch.ones_like(charges))
        return charges - excess[system.batch]


def symmetric_basis() -> Tensor:
    """Orthonormal symmetric matrices of degree 0 (one) and 2 (five), in e3nn's order and signs: [6, 3, 3]."""
    scalar, tensor = (torch.from_numpy(wigner_3j(1, 1, degree)) for degree in (0, 2))
    return torch.cat([scalar.permute(2, 0, 1), math.sqrt(5.0) * tensor.permute(2, 0, 1)])


def _maps(come: list[int] | tuple[int, ...], go: list[int]) -> nn.ParameterList:
    """A weight matrix for each degree."""
    shapes = zip(come, go, strict=True)
    return nn.ParameterList([nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in shapes])


def _apply(maps: Any, h: list[Tensor]) -> list[Tensor]:
    """Linear maps of features [N, U, 2l+1], divided by the roots of their numbers of inputs."""
    return [torch.einsum("num,uw->nwm", x, w) / math.sqrt(len(w)) for w, x in zip(maps, h, strict=True)]
