"""SO3LR: the SO3krates network with learned repulsion, damped electrostatics and QDO dispersion.

Kabylda, Frank, Suárez Dou, Khabibrakhmanov, Medrano Sandonas, Unke, Chmiela, Müller & Tkatchenko,
J. Am. Chem. Soc. 147, 33723 (2025).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heliodor.halo import Halo
from heliodor.kernels.derived import as_terms
from heliodor.neighbors import Neighbors
from heliodor.physics.dispersion import qdo_dispersion
from heliodor.physics.electrostatics import damped_coulomb
from heliodor.physics.tables import free_atom_table
from heliodor.physics.zbl import ZBLRepulsion
from heliodor.potential import Potential, Terms
from heliodor.potentials.so3krates import Dense, SO3krates, SO3kratesConfig
from heliodor.system import System


@dataclass(frozen=True)
class SO3LRConfig:
    """The network's shape and the constants of the physical terms (Å)."""

    network: SO3kratesConfig = field(default_factory=SO3kratesConfig)
    n_hirshfeld: int = 64
    electrostatic_damping: float = 4.0
    dispersion_scale: float = 1.2
    elements: tuple[int, ...] = (1, 6, 7, 8, 9, 15, 16, 17)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> SO3LRConfig:
        network = dict(values["network"])
        network["degrees"] = tuple(network["degrees"])
        rest = {key: value for key, value in values.items() if key not in ("network", "elements")}
        return SO3LRConfig(network=SO3kratesConfig(**network), elements=tuple(values["elements"]), **rest)


class SO3LR(Potential):
    """E = E_SO3krates + E_ZBL + E_electrostatics + E_dispersion.

    Partial charges and Hirshfeld ratios come from the network's features and feed the long-range terms, so
    that forces run through them. Charges are corrected uniformly to the total charge of the structure or,
    where fragments are given, of each fragment.

    Args:
        config: shape and constants.
        long_range_cutoff: Å, None for none, "auto" for none in gas phase and 12 Å in periodic boxes.
        dispersion_damping_width: Å over which dispersion is switched off below that cutoff.
    """

    has_long_range = True
    outputs = frozenset({"charges", "hirshfeld_ratios", "dipole"})
    free_atoms: Tensor

    def __init__(
        self,
        config: SO3LRConfig,
        *,
        long_range_cutoff: float | str | None = "auto",
        dispersion_damping_width: float = 2.0,
    ) -> None:
        super().__init__()
        f, z = config.network.n_features, config.network.n_elements
        self.config = config
        self.name = "so3lr"
        self.cutoff = config.network.cutoff
        self.elements = config.elements
        self.long_range_cutoff = long_range_cutoff
        self.dispersion_damping_width = dispersion_damping_width
        self.network = SO3krates(config.network)
        self.zbl = ZBLRepulsion()
        self.energy_head = Dense(f, f, 1)
        self.energy_scale = nn.Parameter(torch.ones(z))
        self.energy_offset = nn.Parameter(torch.zeros(z))
        self.charge_head = Dense(f, f, 1)
        self.charge_offset = nn.Parameter(torch.zeros(z))
        self.hirshfeld_head = Dense(f, config.n_hirshfeld, config.n_hirshfeld)
        self.hirshfeld_offset = nn.Parameter(torch.ones(z))
        self.hirshfeld_weight = nn.Parameter(torch.zeros(z, config.n_hirshfeld))
        self.register_buffer("free_atoms", free_atom_table(z), persistent=False)

    def forward(self, system: System, neighbors: Neighbors) -> Terms:
        """Per-atom energies by term, partial charges and Hirshfeld ratios."""
        if self.derives(neighbors):
            return as_terms(self.kernel, system, neighbors)
        edges, pairs = neighbors.within(system), neighbors.long_range
        if pairs is None:
            raise ValueError("SO3LR needs a long-range list: use potential.neighbors(system)")
        r = edges.vectors(system).to(self.dtype)
        d = r.square().sum(-1).sqrt()
        inner, home, outer = edges.inner(system), edges.home(system), pairs.inner(system)
        charge, spin = system.charge.to(self.dtype), system.spin.to(self.dtype)
        x = self.network.embed(inner.numbers, charge, spin, inner.batch, edges.halo)
        geometry = self.network.geometry(edges.i, edges.j, r, d, edges.halo)
        x = self.network(x, geometry)

        numbers = home.numbers
        node = self.energy_scale[numbers] * self.energy_head(x).squeeze(-1) + self.energy_offset[numbers]
        z = inner.numbers.to(self.dtype)
        zbl = self.zbl(d, z[edges.i], z[edges.j], geometry.cutoff)
        charges = self.partial_charges(x, home, edges.halo)
        ratios = self.hirshfeld_ratios(x, home)
        coulomb, dispersion = self.long_range(outer, pairs, *pairs.fill(charges, ratios))
        return Terms(
            energies={
                "so3krates": node,
                "zbl": edges.own(_share(zbl, edges, inner.n_atoms)),
                "electrostatics": pairs.own(_share(coulomb, pairs, outer.n_atoms)),
                "dispersion": pairs.own(_share(dispersion, pairs, outer.n_atoms)),
            },
            charges=charges,
            hirshfeld_ratios=ratios,
            force_error=self.force_error(x, home),
        )

    def partial_charges(self, x: Float[Tensor, "N F"], system: System, halo: Halo | None = None) -> Float[Tensor, "N"]:
        """Charges in e that add up to the total charge of each structure (or fragment), in all domains together."""
        raw = self.charge_head(x).squeeze(-1) + self.charge_offset[system.numbers]
        if halo is not None:
            found, count = halo.sum(torch.stack([raw, torch.ones_like(raw)], dim=-1)).unbind(-1)
            return raw + (system.charge.to(raw.dtype) - found) / count
        if system.fragment is not None and system.fragment_charge is not None:
            group, total = system.fragment, system.fragment_charge.to(raw.dtype)
        else:
            group, total = system.batch, system.charge.to(raw.dtype)
        sums = torch.zeros_like(total).index_add(0, group, raw)
        counts = torch.zeros_like(total).index_add(0, group, torch.ones_like(raw))
        return raw + ((total - sums) / counts).index_select(0, group)

    def hirshfeld_ratios(self, x: Float[Tensor, "N F"], system: System) -> Float[Tensor, "N"]:
        """Effective over free atomic volume."""
        weight = self.hirshfeld_weight[system.numbers]
        ratio = (weight * self.hirshfeld_head(x)).sum(-1) / weight.shape[1] ** 0.5
        return (self.hirshfeld_offset[system.numbers] + ratio).abs()

    def long_range(
        self,
        system: System,
        pairs: Neighbors,
        charges: Float[Tensor, "N"],
        ratios: Float[Tensor, "N"],
    ) -> tuple[Float[Tensor, "P"], Float[Tensor, "P"]]:
        """Electrostatic and dispersion energy of each listed pair, eV."""
        i, j = pairs.i, pairs.j
        d = pairs.vectors(system).to(self.dtype).square().sum(-1).sqrt()
        limit = pairs.cutoff.to(self.dtype)
        if len(limit) > 1:
            limit = limit[system.batch[i]]
        coulomb = damped_coulomb(
            d, charges.index_select(0, i) * charges.index_select(0, j), limit, self.config.electrostatic_damping
        )
        free = self.free_atoms[system.numbers]
        alpha, c6 = ratios * free[:, 0], ratios.square() * free[:, 1]
        dispersion = qdo_dispersion(
            d,
            alpha.index_select(0, i),
            alpha.index_select(0, j),
            c6.index_select(0, i),
            c6.index_select(0, j),
            limit,
            self.dispersion_damping_width,
            self.config.dispersion_scale,
        )
        return coulomb, dispersion

    def advice(self, system: System) -> list[str]:
        """Where the model is not size-consistent, and what that forbids."""
        lines = []
        charged = (system.charge != 0) | (system.spin != 0)
        if bool((charged & ~system.pbc.any(-1)).any()):
            lines.append(
                "charged or open-shell structure: the model is not size-consistent here, energies of different total "
                "charge or spin have no common zero; for binding use heliodor.interaction_energy, not a subtraction "
                "(which is wrong by 18 kcal/mol on average)"
            )
        if bool((charged & system.pbc.any(-1)).any()):
            lines.append(
                "charged or open-shell periodic cell: electrostatics is cut off without a neutralising background, "
                "and the charge embedding is shared by all atoms of the box, so energies depend on its size"
            )
        return lines


def _share(pair: Float[Tensor, "P"], pairs: Neighbors, n_atoms: int) -> Float[Tensor, "N"]:
    """Half of each pair energy to each of its atoms."""
    half = 0.5 * pair
    return (
        torch.zeros(n_atoms, dtype=pair.dtype, device=pair.device)
        .index_add(0, pairs.i, half)
        .index_add(0, pairs.j, half)
    )
