"""D4 two-body dispersion: C6 from coordination numbers and given partial charges, with learnable damping.

Caldeweyher et al., J. Chem. Phys. 150, 154122 (2019), without the three-body term, as SpookyNet uses it (Unke et al.
2021): charges come from the network, and s8, a1, a2 and the scale of the reference charges are learned. The constants
are Bohr and Hartree inside.
"""

from __future__ import annotations

import math
from functools import lru_cache
from importlib import resources

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import softplus

from heliodor.physics.tables import BOHR_2014, HARTREE_2014
from heliodor.potentials.radial import smooth_switch

TABLES = "d4_tables.npz"
"""Tables by element (0-86), reference system (7) and imaginary frequency (23), float64.

Copied from SpookyNet's repository (MIT, (c) 2021 Oliver T. Unke), where they are those of Grimme's D4 with EEQ charges
of the references; equal to tad-dftd4 0.8.0 (Apache-2.0) except for its newer references of Cu, Zn, Ag, Cd, Au, Hg and
roundings at Sc, Sr, Ba. `cn` and `n_gaussians` stand for the repository's arrays that repeat them three times.
"""

_EXPONENT, _HARDNESS = 3.0, 2.0
_K2, _K4, _K5, _K6, _STEEPNESS = 4.0 / 3.0, 4.10451, 19.08857, 254.5553148552, 7.5
_WEIGHT = 6.0
_EMPTY = 1e-8
_HARTREE_FOCK = {"s6": 1.0, "s8": 1.61679827, "a1": 0.44959224, "a2": 3.35743605, "charge_scale": 1.0}


@lru_cache(maxsize=1)
def d4_tables() -> dict[str, np.ndarray]:
    """The tables by name (`TABLES`); not to be changed."""
    with resources.files("heliodor.physics").joinpath(TABLES).open("rb") as file, np.load(file) as stored:
        return {name: stored[name] for name in stored.files}


class D4Dispersion(nn.Module):
    """Dispersion energies of pairs, from distances, elements and partial charges.

    The C6 coefficients are sums over frequencies of products of the two atoms' polarizabilities, so that derivatives by
    every parameter exist. Parameters are stored before softplus; s6 is fixed.

    Args:
        cutoff: Å, where energy and force are shifted to zero; None for none.
        single_precision: round the tables to float32, as some released parameters were trained with.
    """

    refsys: Tensor
    zeff: Tensor
    refh: Tensor
    sscale: Tensor
    secaiw: Tensor
    gam: Tensor
    ascale: Tensor
    alphaiw: Tensor
    hcount: Tensor
    casimir_polder_weights: Tensor
    rcov: Tensor
    en: Tensor
    n_gaussians: Tensor
    cn: Tensor
    fixgweights: Tensor
    refq: Tensor
    sqrt_r4r2: Tensor
    s6: Tensor

    def __init__(self, cutoff: float | None = None, *, single_precision: bool = False) -> None:
        super().__init__()
        self.cutoff = None if cutoff is None else cutoff / BOHR_2014
        for name, values in d4_tables().items():
            table = torch.from_numpy(values.copy())
            if single_precision and table.is_floating_point():
                table = table.float().double()
            self.register_buffer(name, table, persistent=False)
        raw = {name: torch.tensor(value).expm1().log() for name, value in _HARTREE_FOCK.items()}
        self.register_buffer("s6", raw["s6"])
        self.s8, self.a1, self.a2 = (nn.Parameter(raw[name]) for name in ("s8", "a1", "a2"))
        self.charge_scale = nn.Parameter(raw["charge_scale"])

    def forward(
        self,
        d: Float[Tensor, "P"],
        i: Int[Tensor, "P"],
        j: Int[Tensor, "P"],
        numbers: Int[Tensor, "N"],
        charges: Float[Tensor, "N"],
        coordination: Float[Tensor, "N"] | None = None,
    ) -> Float[Tensor, "P"]:
        """Pair energies in eV.

        Args:
            d: distances, Å, each pair once; all pairs within the cutoff, or all.
            i, j: atoms of each pair.
            numbers: atomic numbers.
            charges: e.
            coordination: of all atoms, where these pairs are not all that some of them have.
        """
        r = d / BOHR_2014
        if coordination is None:
            coordination = self.coordination(r, i, j, numbers)
        alpha = self.polarizabilities(coordination, numbers, charges)
        root = alpha * (3.0 / math.pi * self.casimir_polder_weights.to(d.dtype)).sqrt()
        c6 = (root.index_select(0, i) * root.index_select(0, j)).sum(-1)
        size = 3.0**0.25 * self.sqrt_r4r2.to(d.dtype)[numbers]
        radius = size.index_select(0, i) * size.index_select(0, j)
        s6, s8, a1, a2 = (softplus(p.to(d.dtype)) for p in (self.s6, self.s8, self.a1, self.a2))
        r0 = a1 * radius + a2
        o6 = _damped(r, r0, 6, self.cutoff)
        o8 = _damped(r, r0, 8, self.cutoff)
        energy = -HARTREE_2014 * c6 * (s6 * o6 + s8 * radius.square() * o8)
        return energy if self.cutoff is None else torch.where(r < self.cutoff, energy, 0.0)

    def coordination(
        self, r: Float[Tensor, "P"], i: Int[Tensor, "P"], j: Int[Tensor, "P"], numbers: Int[Tensor, "N"]
    ) -> Float[Tensor, "N"]:
        """Fractional coordination numbers; r in Bohr."""
        radii, en = self.rcov.to(r.dtype)[numbers], self.en.to(r.dtype)[numbers]
        r0 = _K2 * (radii.index_select(0, i) + radii.index_select(0, j))
        unlike = (en.index_select(0, i) - en.index_select(0, j)).abs()
        count = 0.5 * _K4 * torch.exp(-(unlike + _K5).square() / _K6) * torch.erfc(_STEEPNESS * (r - r0) / r0)
        if self.cutoff is not None:
            # as trained: meant to be 1 Å, it is 0.529 Bohr
            count = count * smooth_switch((r - self.cutoff) / BOHR_2014 + 1.0)
        return torch.zeros_like(radii).index_add(0, i, count).index_add(0, j, count)

    def polarizabilities(
        self, coordination: Float[Tensor, "N"], numbers: Int[Tensor, "N"], charges: Float[Tensor, "N"]
    ) -> Float[Tensor, "N W"]:
        """Of each atom in its surroundings, at the 23 imaginary frequencies, Bohr³."""
        alpha = self.reference_polarizabilities(charges.dtype)[numbers]
        return torch.bmm(self.reference_weights(coordination, numbers, charges).unsqueeze(1), alpha).squeeze(1)

    def static_polarizabilities(
        self, coordination: Float[Tensor, "N"], numbers: Int[Tensor, "N"], charges: Float[Tensor, "N"]
    ) -> Float[Tensor, "N"]:
        """At frequency zero, from references that are not rescaled, Å³ (α/4πε₀)."""
        unit = torch.ones((), dtype=charges.dtype, device=charges.device)
        alpha = self.reference_polarizabilities(charges.dtype, unit)[numbers][..., 0]
        return BOHR_2014**3 * (self.reference_weights(coordination, numbers, charges) * alpha).sum(-1)

    def reference_weights(
        self, coordination: Float[Tensor, "N"], numbers: Int[Tensor, "N"], charges: Float[Tensor, "N"]
    ) -> Float[Tensor, "N 7"]:
        """How much of each reference system an atom is, by its coordination and its charge."""
        dtype = charges.dtype
        apart = (coordination.unsqueeze(-1) - self.cn.to(dtype)[numbers]).square().unsqueeze(-1)
        order = torch.arange(1, 4, dtype=dtype, device=charges.device)
        used = order <= self.n_gaussians[numbers].unsqueeze(-1)
        gauss = torch.where(used, torch.exp(-_WEIGHT * order * apart), 0.0).sum(-1)
        norm = gauss.sum(-1, keepdim=True)
        known = norm > _EMPTY
        weight = torch.where(known, gauss / torch.where(known, norm, 1.0), self.fixgweights.to(dtype)[numbers])
        zeff, gam = self.zeff.to(dtype)[numbers].unsqueeze(-1), self.gam.to(dtype)[numbers].unsqueeze(-1)
        scale = softplus(self.charge_scale.to(dtype))
        return weight * _charge_factor(zeff + scale * self.refq.to(dtype)[numbers], zeff + charges.unsqueeze(-1), gam)

    def reference_polarizabilities(self, dtype: torch.dtype, scale: Tensor | None = None) -> Float[Tensor, "Z 7 W"]:
        """Of each element in each of its reference systems, freed of the partners, Bohr³."""
        scale = softplus(self.charge_scale.to(dtype)) if scale is None else scale
        partner = self.zeff.to(dtype)[self.refsys]
        factor = _charge_factor(partner, partner + scale * self.refh.to(dtype), self.gam.to(dtype)[self.refsys])
        share = self.hcount.to(dtype) * self.sscale.to(dtype)[self.refsys] * factor
        rest = self.alphaiw.to(dtype) - share.unsqueeze(-1) * self.secaiw.to(dtype)[self.refsys]
        return (self.ascale.to(dtype).unsqueeze(-1) * rest).clamp(min=0.0)


def _charge_factor(reference: Tensor, actual: Tensor, hardness: Tensor) -> Tensor:
    """ζ: how a polarizability follows the effective nuclear charge."""
    positive = actual > _EMPTY
    ratio = reference / torch.where(positive, actual, 1.0)
    inner = torch.where(positive, torch.exp(_HARDNESS * hardness * (1.0 - ratio)), 0.0)
    return torch.exp(_EXPONENT * (1.0 - inner))


def _damped(r: Tensor, r0: Tensor, n: int, cutoff: float | None) -> Tensor:
    """1/(rⁿ + r0ⁿ), shifted so that it and its slope vanish at the cutoff."""
    power, damping = _power(r, n), _power(r0, n)
    if cutoff is None:
        return 1.0 / (power + damping)
    edge = cutoff**n
    bottom = 1.0 / (edge + damping)
    return 1.0 / (power + damping) - bottom + n * edge * bottom.square() * (r / cutoff - 1.0)


def _power(x: Tensor, n: int) -> Tensor:
    """x⁶ or x⁸ as products: nothing overflows on the way back."""
    square = x * x
    sixth = square * square * square
    return sixth if n == 6 else sixth * square
