"""How far off the force on each atom may be: a half-width in eV/Å from the last features of a network.

One pass over the features, without a second derivative: a matrix product of the size of one layer. Fitted and
calibrated by `heliodor.train.uncertainty.fit_uncertainty`, kept in the model's own checkpoint.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

N_ELEMENTS = 119

NEAREST = 1e-3
"""Distance from the training set, in its own widths, below which all are alike."""


@dataclass(frozen=True)
class ForceErrorConfig:
    """What is no tensor of a `ForceError`.

    Attributes:
        n_features: of the network's last layer.
        elements: atomic numbers, one row of the tables each.
        level: share of atoms whose |ΔF| the half-width is to cover.
        limit: eV/Å, half-width above which the model doubts itself: that of one in 1000 atoms it was calibrated on.
        weights: of the model it was fitted to, `weights_digest`; with other weights it means nothing.
        calibration: what it was calibrated on, and how well it did there: plain numbers and words.
    """

    n_features: int
    elements: tuple[int, ...]
    level: float
    limit: float
    weights: str
    calibration: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> ForceErrorConfig:
        known = {f.name for f in fields(ForceErrorConfig)}
        rest = {key: value for key, value in values.items() if key in known and key != "elements"}
        return ForceErrorConfig(elements=tuple(values["elements"]), **rest)


class ForceError(nn.Module):
    """Half-widths h = scale max(d / r, 1) exp(a_z + b log min(d, r) + c_z · w) of intervals of |ΔF|, atom by atom.

    w = W (x - μ_z) are the last features x about the training set's mean for the element, whitened by the covariance
    common to all elements; d = |w|/√F is their Mahalanobis distance, 1 on average over the training set (Lee, Lee, Lee
    & Shin, NeurIPS 2018; for the last layer of atomistic models, where the error grows in proportion to it, Bigi,
    Chong, Ceriotti & Grasselli, Mach. Learn.: Sci. Technol. 5, 045018 (2024)). The exponent is a regression of log
    |ΔF| on structures the model was not trained on; it sees w shortened to the length r, within which 99 % of the
    training set lie, so that beyond r h grows as d along every ray; within r it is what the regression found. The scale
    comes from conformal calibration (`heliodor.train.conformal`).

    Holds buffers, no parameters: nothing that trains a model changes it.
    """

    row: Tensor
    mean: Tensor
    whiten: Tensor
    radius: Tensor
    intercept: Tensor
    by_distance: Tensor
    slope: Tensor
    scale: Tensor

    def __init__(self, config: ForceErrorConfig) -> None:
        super().__init__()
        self.config = config
        z, f = len(config.elements), config.n_features
        row = torch.zeros(N_ELEMENTS, dtype=torch.int64)
        row[list(config.elements)] = torch.arange(z)
        self.register_buffer("row", row, persistent=False)
        self.register_buffer("mean", torch.zeros(z, f))
        self.register_buffer("whiten", torch.eye(f))
        self.register_buffer("radius", torch.ones(()))
        self.register_buffer("intercept", torch.zeros(z))
        self.register_buffer("by_distance", torch.zeros(()))
        self.register_buffer("slope", torch.zeros(z, f))
        self.register_buffer("scale", torch.ones(()))

    @property
    def level(self) -> float:
        """Share of atoms that the half-widths are to cover."""
        return self.config.level

    @property
    def limit(self) -> float:
        """eV/Å, half-width above which the model doubts itself."""
        return self.config.limit

    def forward(self, features: Float[Tensor, "N F"], numbers: Int[Tensor, "N"]) -> Float[Tensor, "N"]:
        """Half-widths, eV/Å; nothing of them reaches the features' gradients."""
        with torch.no_grad():
            z = self.row[numbers]
            w, d = self.whitened(features, z)
            inside = d.clamp(NEAREST, None).minimum(self.radius)
            w = w * (inside / d.clamp_min(NEAREST)).unsqueeze(-1)
            exponent = self.intercept[z] + self.by_distance * inside.log() + (self.slope[z] * w).sum(-1)
            return self.scale * (d / self.radius).clamp_min(1.0) * exponent.exp()

    def distance(self, features: Float[Tensor, "N F"], numbers: Int[Tensor, "N"]) -> Float[Tensor, "N"]:
        """Mahalanobis distance from the training set's atoms of the same element, 1 on average there."""
        with torch.no_grad():
            return self.whitened(features, self.row[numbers])[1]

    def whitened(
        self, features: Float[Tensor, "N F"], z: Int[Tensor, "N"]
    ) -> tuple[Float[Tensor, "N F"], Float[Tensor, "N"]]:
        """Features in the training set's own widths, and their distances."""
        w = (features.detach() - self.mean[z]) @ self.whiten
        return w, w.square().mean(-1).sqrt()


def weights_digest(model: nn.Module) -> str:
    """SHA-256 over all parameters in float32: the same for a model in float32 and float64."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        value = parameter.detach().cpu().float().contiguous()
        digest.update(f"{name} {tuple(value.shape)}\n".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()
