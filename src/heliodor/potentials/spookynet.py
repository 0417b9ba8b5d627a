"""SpookyNet: a network with charge, spin and non-local effects, and the physics that it need not learn.

Unke, Chmiela, Gastegger, Schütt, Sauceda & Müller, Nat. Commun. 12, 7273 (2021); used for proteins as GEMS by Unke et
al., Sci. Adv. 10, eadn4397 (2024).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from heliodor.errors import InputError, ModelError
from heliodor.kernels.derived import as_terms
from heliodor.neighbors import Neighbors
from heliodor.physics.d4 import D4Dispersion
from heliodor.physics.smeared_coulomb import smeared_coulomb
from heliodor.physics.tables import BOHR_2014
from heliodor.physics.zbl import ZBLRepulsion
from heliodor.potential import Potential, Terms
from heliodor.potentials.favor import Molecules
from heliodor.potentials.radial import RadialBasis, exponential_cutoff
from heliodor.potentials.spookynet_blocks import (
    Depths,
    ElectronicEmbedding,
    Interaction,
    NonlinearElectronicEmbedding,
    Surroundings,
)
from heliodor.system import System

N_ELEMENTS = 87
"""Rows of tables by atomic number: none, then H to Rn."""


@dataclass(frozen=True)
class SpookyNetConfig:
    """The network's shape and its physical terms; the defaults are those of GEMS for crambin without its cutoff.

    Attributes:
        cutoff, long_range_cutoff: Å; the second (None: none) is part of what is trained.
        basis: one of `heliodor.potentials.radial.RADIAL_BASES`.
        exp_weighting: whether the exponential bases carry one more factor exp(-αr).
        activation: "swish" or "ssp".
        depths: numbers of residual maps.
        module_keep_prob: in training, the probability that a molecule passes all modules but the first.
        zbl, electrostatics, dispersion: whether the term is there.
        irreducible: five functions of degree 2, not the six products of the earliest models.
        nonlinear_embedding: charge and spin embedded as in the earliest models.
        single_precision_tables: constants rounded to float32, as in some released models.
        elements: atomic numbers the model is for.
    """

    n_features: int = 64
    n_modules: int = 3
    n_basis: int = 16
    cutoff: float = 10.0 * BOHR_2014
    long_range_cutoff: float | None = None
    basis: str = "exp-bernstein"
    exp_weighting: bool = True
    activation: str = "swish"
    depths: Depths = field(default_factory=Depths)
    module_keep_prob: float = 0.9
    zbl: bool = True
    electrostatics: bool = True
    dispersion: bool = True
    irreducible: bool = True
    nonlinear_embedding: bool = False
    single_precision_tables: bool = False
    elements: tuple[int, ...] = tuple(range(1, N_ELEMENTS))

    def __post_init__(self) -> None:
        if not self.cutoff > 0.0 or (self.long_range_cutoff is not None and not self.long_range_cutoff >= self.cutoff):
            raise InputError("SpookyNet's cutoff must be positive (Å), its long-range cutoff none or at least as large")
        if min(self.n_features, self.n_modules) < 1 or self.n_basis < 2:
            raise InputError("SpookyNet needs at least one feature, one module and two radial functions")
        if not 0.0 <= self.module_keep_prob <= 1.0:
            raise InputError(f"module_keep_prob is a probability, not {self.module_keep_prob:g}")
        outside = [z for z in self.elements if not 0 < z < N_ELEMENTS]
        if outside or not self.elements:
            raise InputError(f"SpookyNet's elements are atomic numbers from 1 to 86, not {outside or 'none at all'}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> SpookyNetConfig:
        rest = {key: value for key, value in values.items() if key not in ("depths", "elements")}
        return SpookyNetConfig(depths=Depths(**values["depths"]), elements=tuple(values["elements"]), **rest)


PRESETS: dict[str, SpookyNetConfig] = {
    "crambin": SpookyNetConfig(long_range_cutoff=20.0 * BOHR_2014),
    "polyalanine": SpookyNetConfig(n_features=128, n_modules=6),
}
"""The shapes GEMS used, by system (Unke et al. 2024)."""


class SpookyNet(Potential):
    """E = E_network + E_ZBL + E_electrostatics + E_D4, with charges from the network in the last two.

    `SpookyNet(config)` is a model to be trained, from torch's random numbers: its network gives every atom the same
    energy of zero and the same charge, until `set_element_energies` and training.

    Args:
        config: shape and constants.
    """

    outputs = frozenset({"charges", "dipole"})
    electrons: Tensor

    def __init__(self, config: SpookyNetConfig) -> None:
        super().__init__()
        self.config = config
        self.name = "spookynet"
        self.cutoff = config.cutoff
        self.elements = config.elements
        self.has_long_range = config.electrostatics or config.dispersion
        self.dispersion_damping_width = 0.0
        f, kind, single = config.n_features, config.activation, config.single_precision_tables
        electrons = torch.from_numpy(electron_configurations())
        self.register_buffer("electrons", electrons.float().double() if single else electrons, persistent=False)
        self.element = nn.Parameter(torch.zeros(N_ELEMENTS, f))
        self.element_electrons = nn.Linear(electrons.shape[1], f, bias=False)
        nn.init.zeros_(self.element_electrons.weight)
        depth = config.depths.electron
        self.charge_embedding: nn.Module
        self.spin_embedding: nn.Module
        if config.nonlinear_embedding:
            self.charge_embedding = NonlinearElectronicEmbedding(kind, f, depth)
            self.spin_embedding = NonlinearElectronicEmbedding(kind, f, depth)
        else:
            self.charge_embedding = ElectronicEmbedding(kind, f, depth, signed=True)
            self.spin_embedding = ElectronicEmbedding(kind, f, depth, signed=False)
        self.radial = RadialBasis(
            config.basis, config.n_basis, config.cutoff, exp_weighting=config.exp_weighting, single_precision=single
        )
        self.interactions = nn.ModuleList(
            Interaction(kind, f, config.n_basis, config.depths) for _ in range(config.n_modules)
        )
        self.output = nn.Linear(f, 2, bias=False)
        nn.init.orthogonal_(self.output.weight)
        self.element_bias = nn.Parameter(torch.zeros(N_ELEMENTS, 2))
        """By element: energy (eV) and charge (e) before the features add theirs."""
        self.zbl = ZBLRepulsion(switch_off=None) if config.zbl else None
        self.d4 = D4Dispersion(config.long_range_cutoff, single_precision=single) if config.dispersion else None

    def forward(self, system: System, neighbors: Neighbors) -> Terms:
        """Per-atom energies by term and partial charges."""
        if self.derives(neighbors):
            return as_terms(self.kernel, system, neighbors)
        edges = neighbors.within(system)
        r = edges.vectors(system).to(self.dtype)
        d = r.square().sum(-1).sqrt()
        inner, home = edges.inner(system), edges.home(system)
        molecules = Molecules.of(home, self.config.n_features, edges.halo)
        x = self.contributions(home, self.surroundings(edges, r, d, home.n_atoms), molecules)
        out = self.output(x)
        bias = self.element_bias[home.numbers]
        # float64: energies of isolated atoms may be large
        energies = {"spookynet": out[:, 0].double() + bias[:, 0].double()}
        charges = self.conserve(out[:, 1] + bias[:, 1], home, molecules)
        if self.zbl is not None:
            z = inner.numbers.to(self.dtype)
            pair = self.zbl(d, z[edges.i], z[edges.j], exponential_cutoff(d, self.cutoff))
            energies["zbl"] = edges.own(_share(pair, edges, inner.n_atoms))
        if self.has_long_range:
            if neighbors.long_range is None:
                raise ValueError("SpookyNet needs a long-range list: use potential.neighbors(system)")
            energies |= self.long_range(system, neighbors.long_range, charges)
        return Terms(energies=energies, charges=charges, force_error=self.force_error(x, home))

    def embed(self, system: System, molecules: Molecules) -> Float[Tensor, "N F"]:
        """Features before the first module: element, charge, spin."""
        z = self.element[system.numbers] + self.element_electrons(self.electrons.to(self.dtype)[system.numbers])
        x = z
        for psi, embedding in ((system.charge, self.charge_embedding), (system.spin, self.spin_embedding)):
            # exactly nothing comes of zero
            if psi.is_cuda or bool(psi.any()):
                x = x + embedding(z, psi.to(self.dtype), molecules)
        return x

    def surroundings(
        self, edges: Neighbors, r: Float[Tensor, "E 3"], d: Float[Tensor, "E"], n_atoms: int
    ) -> Surroundings:
        """What the modules need to know of the edges."""
        return Surroundings.of(
            edges.i,
            edges.j,
            r / d.unsqueeze(-1),
            self.radial(d),
            n_atoms,
            irreducible=self.config.irreducible,
            halo=edges.halo,
        )

    def contributions(self, system: System, around: Surroundings, molecules: Molecules) -> Float[Tensor, "N F"]:
        """What the modules make of the features, summed."""
        x = self.embed(system, molecules)
        keep = self.config.module_keep_prob ** (1.0 / max(self.config.n_modules - 1, 1))
        dropping = self.training and keep < 1.0
        alive = torch.ones(system.n_structures, 1, dtype=x.dtype, device=x.device)
        total = torch.zeros_like(x)
        for interaction in self.interactions:
            x, y = interaction(x, around, molecules)
            total = total + (y * molecules.spread(alive) if dropping else y)
            if dropping:
                alive = alive * torch.bernoulli(torch.full_like(alive, keep))
        return total

    @property
    def network(self) -> SpookyNet:
        """Where `heliodor.descriptor` looks for features."""
        return self

    def features(self, system: System, neighbors: Neighbors) -> list[list[Tensor]]:
        """After each module: its features [N, F, 1] (`heliodor.descriptor`)."""
        edges = neighbors.within(system)
        r = edges.vectors(system).to(self.dtype)
        around = self.surroundings(edges, r, r.square().sum(-1).sqrt(), system.n_atoms)
        molecules = Molecules.of(system, self.config.n_features)
        x, found = self.embed(system, molecules), []
        for interaction in self.interactions:
            x, _ = interaction(x, around, molecules)
            found.append([x.unsqueeze(-1)])
        return found

    def conserve(self, raw: Float[Tensor, "N"], system: System, molecules: Molecules) -> Float[Tensor, "N"]:
        """Charges that add up to the total of each structure, the correction shared evenly."""
        counts = system.counts if molecules.halo is None else molecules.sum(torch.ones_like(raw))
        missing = (system.charge.to(raw.dtype) - molecules.sum(raw)) / counts
        return raw + molecules.spread(missing)

    def long_range(
        self, system: System, pairs: Neighbors, charges: Float[Tensor, "N"]
    ) -> dict[str, Float[Tensor, "N"]]:
        """Electrostatics and dispersion, eV per atom."""
        d = pairs.vectors(system).to(self.dtype).square().sum(-1).sqrt()
        outer = pairs.inner(system)
        coordination = None
        if self.d4 is None:
            (charges,) = pairs.fill(charges)
        else:
            coordination = pairs.own(self.d4.coordination(d / BOHR_2014, pairs.i, pairs.j, outer.numbers))
            charges, coordination = pairs.fill(charges, coordination)
        cutoff, found = self.config.long_range_cutoff, {}
        if self.config.electrostatics:
            product = charges.index_select(0, pairs.i) * charges.index_select(0, pairs.j)
            pair = smeared_coulomb(d, product, 0.25 * self.cutoff, 0.75 * self.cutoff, cutoff)
            found["electrostatics"] = pairs.own(_share(pair, pairs, outer.n_atoms))
        if self.d4 is not None:
            pair = self.d4(d, pairs.i, pairs.j, outer.numbers, charges, coordination)
            found["dispersion"] = pairs.own(_share(pair, pairs, outer.n_atoms))
        return found

    def set_element_energies(self, energies: Mapping[int, float]) -> None:
        """Energies (eV) that atoms start from before training, by atomic number."""
        with torch.no_grad():
            for number, energy in energies.items():
                self.element_bias[number, 0] = energy

    @property
    def long_range_cutoff(self) -> float | None:
        """Å; that of the training, and no other can be set."""
        return self.config.long_range_cutoff

    @long_range_cutoff.setter
    def long_range_cutoff(self, value: float | str | None) -> None:
        own = self.config.long_range_cutoff
        if value == "auto" or value == own:
            return
        if own is not None and isinstance(value, float | int) and abs(value - own) < 1e-5:
            # the same one, rounded for printing
            return
        trained = "without a long-range cutoff" if own is None else f"with a long-range cutoff of {own:.6f} Å"
        raise ModelError(
            f"{self.name} was trained {trained}, and cannot be run with {'none' if value is None else value}: the "
            "cutoff's shift acts on bonded atoms too and is part of the parameters (in spookynet-gfn2, 20 Bohr instead "
            "of none would move a water molecule by 0.9 eV); leave long_range_cutoff at 'auto'"
        )

    def neighbors(self, system: System, skin: float = 0.0) -> Neighbors:
        """The lists this model needs at these positions.

        Raises:
            ModelError: a periodic structure, for a model without a long-range cutoff.
        """
        self._refuse_periodic(system)
        return super().neighbors(system, skin)

    def check(self, system: System) -> None:
        """As `Potential.check`; structures the model has no meaning for are refused too.

        Raises:
            ModelError: a periodic structure, for a model without a long-range cutoff; fragments.
        """
        super().check(system)
        self._refuse_periodic(system)
        if system.fragment is not None:
            raise ModelError(
                f"{self.name} cannot keep fragments apart: its attention and its charges are shared by all atoms of a "
                "structure; evaluate the complex, and the same complex pulled far apart"
            )

    def _refuse_periodic(self, system: System) -> None:
        if self.has_long_range and self.config.long_range_cutoff is None and bool(system.pbc.any()):
            raise ModelError(
                f"{self.name} was trained without a long-range cutoff, so its electrostatics and dispersion run over "
                "all pairs, of which a periodic structure has infinitely many: take a model trained with a long-range "
                "cutoff (20 Bohr in GEMS), or a cluster without periodicity"
            )

    def advice(self, system: System) -> list[str]:
        """Where the model is not size-consistent."""
        if bool(((system.charge != 0) | (system.spin != 0)).any()):
            return [
                "charged or open-shell structure: charge and spin are shared by all atoms of it, molecules far apart "
                "included, so that energies of different total charge or spin have no common zero; for binding compare "
                "with the same complex pulled far apart"
            ]
        return []


def _share(pair: Float[Tensor, "P"], pairs: Neighbors, n_atoms: int) -> Float[Tensor, "N"]:
    """Half of each pair energy to each of its atoms."""
    half = 0.5 * pair
    return half.new_zeros(n_atoms).index_add(0, pairs.i, half).index_add(0, pairs.j, half)


@lru_cache(maxsize=1)
def electron_configurations() -> np.ndarray:
    """[87, 20]: atomic number, electrons in each shell, valence electrons, each as a part of its largest value."""
    with resources.files("heliodor.physics").joinpath("electron_configurations.csv").open() as file:
        table = np.loadtxt(file, delimiter=",")
    return table / table.max(axis=0)
