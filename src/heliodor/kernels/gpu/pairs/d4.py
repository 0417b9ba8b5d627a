"""D4 dispersion in three launches: polarizabilities of atoms, pairs, and forces through coordination numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import softplus

from heliodor.errors import ModelError
from heliodor.kernels.gpu.matrix import NeighborMatrix
from heliodor.kernels.gpu.pairs.d4_coordination import N_REFERENCES, polarizability_kernel, spread_kernel
from heliodor.kernels.gpu.pairs.d4_dispersion import dispersion_kernel
from heliodor.kernels.gpu.pairs.edges import BLOCK, SHORT_BLOCK, SHORT_WARPS, WARPS, PairSums, rows_of
from heliodor.physics.d4 import _EMPTY, _EXPONENT, _HARDNESS, _K2, _K4, _K5, _K6, _STEEPNESS, _WEIGHT
from heliodor.physics.tables import BOHR_2014, HARTREE_2014

if TYPE_CHECKING:
    from heliodor.potentials.spookynet import SpookyNet

_REACH = 1.6
"""Sums of scaled radii beyond which a neighbour counts less than 1e-9 in a coordination number."""


@dataclass(frozen=True, eq=False)
class D4Tables:
    """Constants of `D4Dispersion` with learned parameters, by element; inside Bohr and Hartree.

    Attributes:
        references: polarizabilities of the reference systems, such that C6 is a scalar product of two rows. Not at the
            23 frequencies but in the few directions that they span for the elements of the model, which keeps scalar
            products to the precision of the dtype.
        radii: 4/3 of covalent radii.
        en: electronegativities.
        cn_ref, n_gauss, fallback, reference_charge: of the reference systems: coordination numbers, numbers of
            Gaussians, weights where no reference is near, scaled effective charges.
        zeff, hardness: effective nuclear charges and chemical hardnesses.
        size: 3^(1/4) times the square root of ⟨r⁴⟩/⟨r²⟩.
        damping: s6, s8, a1, a2.
        cutoff: Bohr; None for none.
        reach: Å, beyond which atoms do not count as neighbours of one another.
    """

    references: Float[Tensor, "Z 8 W"]
    radii: Float[Tensor, "Z"]
    en: Float[Tensor, "Z"]
    cn_ref: Float[Tensor, "Z 8"]
    n_gauss: Int[Tensor, "Z 8"]
    fallback: Float[Tensor, "Z 8"]
    reference_charge: Float[Tensor, "Z 8"]
    zeff: Float[Tensor, "Z"]
    hardness: Float[Tensor, "Z"]
    size: Float[Tensor, "Z"]
    damping: tuple[float, float, float, float]
    cutoff: float | None
    reach: float

    @staticmethod
    def of(model: SpookyNet, elements: Sequence[int] | None = None) -> D4Tables:
        """On the model's device, in its dtype.

        Args:
            elements: atomic numbers that will occur, the fewer the faster; the model's if not given.

        Raises:
            ModelError: a model without the term.
        """
        d4 = model.d4
        if d4 is None:
            raise ModelError(f"{model.name} has no D4 dispersion")
        here = sorted(set(model.elements if elements is None else elements))
        with torch.no_grad():
            rows = d4.reference_polarizabilities(torch.float64)
            rows = rows * (3.0 / math.pi * d4.casimir_polder_weights.double()).sqrt()
            rows = rows @ _directions(rows[here].flatten(0, 1), 1e-7 if model.dtype == torch.float32 else 1e-14)
            zeff = d4.zeff.double()
            charge = zeff.unsqueeze(-1) + softplus(d4.charge_scale.double()) * d4.refq.double()
            radii = _K2 * d4.rcov.double()
            size = 3.0**0.25 * d4.sqrt_r4r2.double()
            s6, s8, a1, a2 = (float(softplus(p.double())) for p in (d4.s6, d4.s8, d4.a1, d4.a2))

            def put(table: Tensor) -> Tensor:
                if table.dim() > 1:
                    table = torch.cat([table, torch.zeros_like(table[:, : N_REFERENCES - table.shape[1]])], dim=1)
                return (table if table.dtype == torch.int32 else table.to(model.dtype)).contiguous()

            return D4Tables(
                put(rows), put(radii), put(d4.en), put(d4.cn), put(d4.n_gaussians.int()), put(d4.fixgweights),
                put(charge), put(zeff), put(d4.gam), put(size), (s6, s8, a1, a2), d4.cutoff,
                _REACH * 2.0 * float(radii[here].max()) * BOHR_2014,
            )  # fmt: skip


def _directions(rows: Float[Tensor, "R W"], error: float) -> Float[Tensor, "W K"]:
    """Orthonormal directions, a power of two of them, that keep the rows' scalar products to a relative error.

    What a row loses is its part r beyond the directions, and a product of two loses the product of what they lose.
    """
    norms = rows.norm(dim=-1)
    unit = rows[norms > 0.0] / norms[norms > 0.0].unsqueeze(-1)
    vectors = torch.linalg.svd(unit)[2].mT
    for k in (8, 16):
        lost = (unit - unit @ vectors[:, :k] @ vectors[:, :k].mT).square().sum(-1)
        if float(lost.max()) <= error:
            return vectors[:, :k]
    # all of them; zeros fill up
    return torch.cat([vectors, torch.zeros_like(vectors[:, : 32 - vectors.shape[1]])], dim=1)


def d4_pairs(
    positions: Float[Tensor, "N 3"],
    cell: Float[Tensor, "B 3 3"],
    batch: Int[Tensor, "N"],
    long: NeighborMatrix | None,
    numbers: Int[Tensor, "N"],
    charges: Float[Tensor, "N"],
    tables: D4Tables,
    *,
    strain: bool,
    contacts: NeighborMatrix | None = None,
) -> PairSums:
    """`D4Dispersion` of every pair, and its derivatives.

    Args:
        positions: Å, float64.
        cell: Å, float64; not looked at without a matrix.
        long: rows that hold all within the model's cutoff; None for all pairs of the same structure, none of them
            images, within that cutoff if there is one.
        numbers: atomic numbers.
        charges: e, of the dtype of the tables.
        contacts: shorter rows, which coordination numbers are taken from if they hold all that counts as a
            neighbour (`D4Tables.reach`).
    """
    n, width = len(batch), tables.references.shape[-1]
    near = contacts if contacts is not None and contacts.cutoff >= tables.reach else long
    near_rows, near_kind = rows_of(near, batch, len(cell))
    near_kind |= contact_constants(tables, math.inf if near is None else near.cutoff)
    near_kind |= {"BLOCK": BLOCK, "num_warps": WARPS} if near is long else SHORT
    rows, kind = rows_of(long, batch, len(cell))
    where = {"positions": positions.contiguous(), "cell": cell.contiguous(), "batch": batch, "numbers": numbers}
    roots = charges.new_empty(3, n, width)
    energy, by_cn, charge_slope = charges.new_empty(3, n)
    gradient = charges.new_empty(n, 3)
    strains = charges.new_empty(n, 9) if strain else None
    out = {"gradient": gradient, "strain": gradient if strains is None else strains}
    polarizability_kernel[(n,)](
        **where, charges=charges.contiguous(), radii=tables.radii, en=tables.en, cn_ref=tables.cn_ref,
        n_gauss=tables.n_gauss, fallback=tables.fallback, reference_charge=tables.reference_charge, zeff=tables.zeff,
        hardness=tables.hardness, references=tables.references, root=roots[0], root_by_cn=roots[1],
        root_by_q=roots[2], **near_rows, **near_kind, **REFERENCE_CONSTANTS, WIDTH=width,
    )  # fmt: skip
    dispersion_kernel[(n,)](
        **where, size=tables.size, root=roots[0], root_by_cn=roots[1], root_by_q=roots[2], energy=energy, **out,
        by_cn=by_cn, charge_slope=charge_slope, **rows, **dispersion_constants(tables), **kind,
        STRAIN=strain, BLOCK=BLOCK, num_warps=WARPS,
    )  # fmt: skip
    spread_kernel[(n,)](
        **where, radii=tables.radii, en=tables.en, by_cn=by_cn, **out, **near_rows, **near_kind, STRAIN=strain
    )
    return PairSums(energy, gradient, strains, charge_slope)


SHORT: dict[str, Any] = {"BLOCK": SHORT_BLOCK, "num_warps": SHORT_WARPS}
"""Launch of kernels over short rows."""

REFERENCE_CONSTANTS: dict[str, Any] = {
    "WEIGHT": _WEIGHT, "EXPONENT": _EXPONENT, "HARDNESS": _HARDNESS, "EMPTY": _EMPTY, "N_REFERENCES": N_REFERENCES,
}  # fmt: skip
"""Compile-time constants of `polarizability_kernel` that do not depend on the model."""


def contact_constants(tables: D4Tables, listed: float) -> dict[str, Any]:
    """Compile-time constants of the passes over coordination numbers; ``listed``: Å, the cutoff of the rows."""
    edge = math.inf if tables.cutoff is None else tables.cutoff * BOHR_2014
    limit = min(edge, listed)
    return {
        "BOHR": BOHR_2014, "LIMIT": limit if math.isfinite(limit) else 0.0, "LIMITED": math.isfinite(limit),
        "EDGE": edge if math.isfinite(edge) else 0.0, "HEIGHT": 0.5 * _K4, "K5": _K5, "K6": _K6, "STEEP": _STEEPNESS,
        # the switch is one Bohr² wide, in Å
        "SWITCHED": math.isfinite(edge) and limit > edge - BOHR_2014**2,
    }  # fmt: skip


def dispersion_constants(tables: D4Tables) -> dict[str, Any]:
    """Compile-time constants of `dispersion_kernel` but for the strain and the block."""
    s6, s8, a1, a2 = tables.damping
    return {
        "BOHR": BOHR_2014, "HARTREE": HARTREE_2014, "S6": s6, "S8": s8, "A1": a1, "A2": a2,
        "EDGE": tables.cutoff or 0.0, "LIMITED": tables.cutoff is not None, "WIDTH": tables.references.shape[-1],
    }  # fmt: skip
