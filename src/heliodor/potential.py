"""Potential: the contract between models and everything that moves atoms; forces and stress in one place."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from ase.data import chemical_symbols
from jaxtyping import Float
from torch import Tensor, nn

from heliodor.doubt import Doubt
from heliodor.errors import InputError, ModelError
from heliodor.neighbors import Neighbors, find_neighbors
from heliodor.spread import Spread, join_spreads
from heliodor.system import System
from heliodor.uncertainty import ForceError

CLASH = 0.05
"""Å; two atoms closer than this are on one spot: bad input, not physics."""

PERIODIC_LONG_RANGE_CUTOFF = 12.0
"""Å; default for periodic structures."""


class ModelWarning(UserWarning):
    """The model answers, but outside what it was made for."""


@dataclass(frozen=True)
class Terms:
    """What a model's forward pass hands out, per atom.

    Attributes:
        energies: eV, by the name of the term; an atom's share of pair energies is half; empty without energies.
        charges: partial charges, e (models that have them).
        hirshfeld_ratios: effective over free atomic volume (models that have them).
        dipoles: e·Å, in addition to those of the charges (models that have them).
        polarizabilities: e²Å²/eV (models that have them).
        force_error: eV/Å, half-width of the interval of |ΔF| (models with an `uncertainty`).
    """

    energies: dict[str, Float[Tensor, "N"]]
    charges: Float[Tensor, "N"] | None = None
    hirshfeld_ratios: Float[Tensor, "N"] | None = None
    dipoles: Float[Tensor, "N 3"] | None = None
    polarizabilities: Float[Tensor, "N 3 3"] | None = None
    force_error: Float[Tensor, "N"] | None = None


@dataclass(frozen=True)
class Prediction:
    """Energies in eV and their derivatives for B structures of N atoms in all.

    Attributes:
        energy: [B] eV. Models trained on forces have no meaningful zero: compare like with like. Not a number for
            models without energies.
        forces: [N, 3] eV/Å.
        stress: [B, 3, 3] eV/Å³, ASE's sign (negative under compression), fully periodic structures only.
        virial: [B, 3, 3] eV, -∂E/∂ε symmetrised, for structures of any periodicity.
        terms: energy by term, [B] eV each.
        node_energy: [N] eV.
        charges: [N] e.
        hirshfeld_ratios: [N].
        dipole: [B, 3] e·Å, from the positions as given: depends on the origin for charged structures. Of periodic
            ones it depends on which image of each atom is given: only its changes along unwrapped positions mean
            something.
        polarizability: [B, 3, 3] e²Å²/eV, symmetric; times `heliodor.units.POLARIZABILITY_VOLUME` in Å³. Of periodic
            structures that of one cell, as far as the model sees it.
        force_error: [N] eV/Å: the force on an atom is off by less than this, |ΔF| as a vector, in the share of atoms
            that ``potential.uncertainty.level`` states. None where the model has no uncertainty.
    """

    energy: Float[Tensor, "B"]
    terms: dict[str, Float[Tensor, "B"]] = field(default_factory=dict)
    node_energy: Float[Tensor, "N"] | None = None
    forces: Float[Tensor, "N 3"] | None = None
    stress: Float[Tensor, "B 3 3"] | None = None
    virial: Float[Tensor, "B 3 3"] | None = None
    charges: Float[Tensor, "N"] | None = None
    hirshfeld_ratios: Float[Tensor, "N"] | None = None
    dipole: Float[Tensor, "B 3"] | None = None
    polarizability: Float[Tensor, "B 3 3"] | None = None
    force_error: Float[Tensor, "N"] | None = None

    node_terms: dict[str, Float[Tensor, "N"]] = field(default_factory=dict)
    """[N] eV: energy by term and atom."""

    spread: Spread | None = None
    """Standard deviations over the models of a committee."""

    def detached(self, device: str | torch.device | None = None) -> Prediction:
        """Without graph, on a device (so that numpy can read it on the CPU)."""
        return Prediction(**{f.name: _moved(getattr(self, f.name), device) for f in fields(self)})


# not inside `detached`: the checks of shapes in tests wrap a function each time it is defined
def _moved(value: Any, device: str | torch.device | None) -> Any:
    if isinstance(value, dict):
        return {name: tensor.detach().to(device) for name, tensor in value.items()}
    if isinstance(value, Spread):
        return value.detached(device)
    return None if value is None else value.detach().to(device)


class Potential(nn.Module):
    """Base of all models.

    Attributes:
        name: the model's name.
        source: what `heliodor.load` was given; None for a potential made in Python.
        cutoff: Å, of the network's edges.
        has_long_range: whether there are pair terms beyond the network's cutoff.
        long_range_cutoff: Å; None for no cutoff; "auto": none in gas phase, 12 Å in periodic boxes.
        periodic_long_range_cutoff: Å, what "auto" means in periodic boxes.
        elements: atomic numbers the model was trained on.
        outputs: quantities beyond energy and forces, such as "charges".
        has_energy: False for models of dipoles or polarizabilities alone, which nothing can move by.
        kernel: what runs in the place of plain PyTorch: a function of (system, neighbors), or a
            `heliodor.kernels.derived.DerivingKernel`; None for plain PyTorch.
        kernels: its name, "reference" for plain PyTorch.
        uncertainty: how far off forces may be (`heliodor.train.uncertainty.fit_uncertainty`); None where not known.
    """

    name: str = "model"
    source: str | None = None
    cutoff: float
    has_long_range: bool = False
    long_range_cutoff: float | str | None = None
    periodic_long_range_cutoff: float = PERIODIC_LONG_RANGE_CUTOFF
    dispersion_damping_width: float
    elements: tuple[int, ...]
    outputs: frozenset[str] = frozenset()
    has_energy: bool = True
    kernel: Any = None
    kernels: str = "reference"
    card: dict[str, Any]
    uncertainty: ForceError | None

    def __init__(self) -> None:
        super().__init__()
        self.card = {}
        self.register_module("uncertainty", None)

    def use_kernel(self, kernel: Any, name: str) -> None:
        """Run a kernel made from these parameters as they are now (see `heliodor.kernels`)."""
        self.kernel, self.kernels = kernel, name

    def derives(self, neighbors: Neighbors) -> bool:
        """Whether there is a kernel that gives energies with these lists, and their derivatives too."""
        if not hasattr(self.kernel, "derive") or not neighbors.half:
            return False
        fits = getattr(self.kernel, "fits", None)
        return fits is None or bool(fits(neighbors))

    def _apply(self, fn: Any, recurse: bool = True) -> Potential:
        was = None if self.kernel is None else (self.dtype, self.device)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if was is not None and (self.dtype, self.device) != was:
            # a kernel has copies of the parameters, of one dtype on one device
            self.use_kernel(None, "reference")
        return self

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        # called for every part that `load_state_dict` fills, the members of a committee included
        self.use_kernel(None, "reference")
        super()._load_from_state_dict(*args, **options)

    def requires_grad_(self, requires_grad: bool = True) -> Potential:
        """As in torch; kernels know no derivatives by parameters and go, the members' of a committee too."""
        for part in self.modules() if requires_grad else ():
            if isinstance(part, Potential):
                part.use_kernel(None, "reference")
        super().requires_grad_(requires_grad)
        return self

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def forward(self, system: System, neighbors: Neighbors) -> Terms:  # pragma: no cover - interface
        raise NotImplementedError

    def long_range_limits(self, system: System) -> Float[Tensor, "B"]:
        """The long-range cutoff of each structure, Å; infinite where there is none."""
        periodic = system.pbc.any(-1)
        if self.long_range_cutoff == "auto":
            infinite = torch.full((system.n_structures,), torch.inf, dtype=system.dtype, device=system.device)
            return torch.where(periodic, self.periodic_long_range_cutoff, infinite)
        value = torch.inf if self.long_range_cutoff is None else float(self.long_range_cutoff)
        return torch.full((system.n_structures,), value, dtype=system.dtype, device=system.device)

    def neighbors(self, system: System, skin: float = 0.0) -> Neighbors:
        """The lists this model needs at these positions."""
        limits = self.long_range_limits(system) if self.has_long_range else None
        return find_neighbors(system, self.cutoff, long_range_cutoff=limits, skin=skin)

    def check(self, system: System) -> None:
        """Refuse what the model cannot represent.

        Raises:
            ModelError: an element outside the training set.
            InputError: charge and spin that do not fit the number of electrons.
        """
        supported = torch.zeros(256, dtype=torch.bool, device=system.device)
        supported[list(self.elements)] = True
        outside = (~supported[system.numbers]).nonzero()
        if len(outside):
            atom = int(outside[0])
            symbols = " ".join(chemical_symbols[z] for z in self.elements)
            raise ModelError(
                f"atom {system.label(atom)} is {chemical_symbols[int(system.numbers[atom])]}: {self.name} "
                f"knows only {symbols}; choose another model or leave such atoms out"
            )
        electrons = torch.zeros_like(system.charge).index_add(0, system.batch, system.numbers.to(system.dtype))
        unpaired = electrons - system.charge - system.spin
        broken = (unpaired.remainder(2.0) != 0.0) | (unpaired < 0)
        if bool(broken.any()):
            b = int(broken.nonzero()[0])
            raise InputError(
                f"{_where(system, b)}charge {float(system.charge[b]):+g} leaves "
                f"{float(electrons[b] - system.charge[b]):g} "
                f"electrons, which cannot have {int(system.spin[b])} unpaired: set the charge (--charge, "
                "atoms.info['charge']) or the number of unpaired electrons (--spin, atoms.info['spin'])"
            )

    def advice(self, system: System) -> list[str]:
        """What the user should know about this structure and this model, in words."""
        return []

    def force_error(self, features: Float[Tensor, "N F"], system: System) -> Float[Tensor, "N"] | None:
        """For `Terms.force_error`, from the last features; None without an `uncertainty`."""
        return None if self.uncertainty is None else self.uncertainty(features, system.numbers)

    def doubts(self, system: System, prediction: Prediction, limit: float | None = None) -> list[Doubt]:
        """Atoms whose force may be off by more than a limit: one doubt a structure, the worst atom first.

        Args:
            limit: eV/Å; that of the `uncertainty` if not given.
        """
        error = prediction.force_error
        if self.uncertainty is None or error is None:
            return []
        most = self.uncertainty.limit if limit is None else limit
        words = f"half-width of its {100.0 * self.uncertainty.level:g} % interval"
        return doubts_above(
            error, most, system, lambda worst: f"the force may be off by {worst:.2f} eV/Å ({words}, limit {most:.3g})"
        )


def evaluate_system(
    potential: Potential,
    system: System,
    neighbors: Neighbors | None = None,
    *,
    forces: bool = True,
    stress: bool = False,
    virial: bool = False,
    create_graph: bool = False,
) -> Prediction:
    """Energy and its derivatives: the only place where any model is differentiated.

    Forces are -∂E/∂R through everything the energy depends on, charges and Hirshfeld ratios included. The
    stress is (1/V) ∂E/∂ε under R -> R(1+ε), cell -> cell(1+ε), symmetrised; the virial is -∂E/∂ε.

    Args:
        neighbors: lists from `potential.neighbors`; built here if not given.
        virial: without a volume, so that molecules and slabs have one too; comes with the stress anyway.
        create_graph: keep the graph, for losses on forces.

    Raises:
        InputError: stress asked of a structure that is not fully periodic.
        ModelError: a model without energies.
    """
    check_energy(potential)
    if create_graph and any(isinstance(part, Potential) and part.kernel is not None for part in potential.modules()):
        with without_kernels(potential):
            return evaluate_system(
                potential, system, neighbors, forces=forces, stress=stress, virial=virial, create_graph=True
            )
    if stress and not bool(system.pbc.all()):
        raise InputError("stress is defined for fully periodic structures only")
    if neighbors is None:
        neighbors = potential.neighbors(system)
    apart = getattr(potential, "evaluate_apart", None)
    if apart is not None and not create_graph:
        # a committee: model by model, which takes the memory of one
        return apart(system, neighbors, forces=forces, stress=stress, virial=virial)
    strained = stress or virial
    if not create_graph and not _in_graph(system) and potential.derives(neighbors):
        return _derived(potential, system, neighbors, forces=forces, stress=stress, strained=strained)
    moving = system
    strain = None
    with torch.set_grad_enabled(forces or strained or create_graph or torch.is_grad_enabled()):
        if forces or strained:
            moving = system.replace(positions=system.positions.detach().requires_grad_())
            leaf = moving.positions
        if strained:
            strain = torch.zeros_like(system.cell, requires_grad=True)
            moving = moving.deform(strain)
        terms = potential(moving, neighbors)
        node = torch.stack([energy.double() for energy in terms.energies.values()])
        by_term = torch.zeros(len(node), system.n_structures, dtype=node.dtype, device=node.device)
        by_term = by_term.index_add(1, system.batch, node)
        energy = by_term.sum(0)
        gradients: tuple[Tensor, ...] = ()
        if forces or strained:
            wanted = ([leaf] if forces else []) + ([strain] if strain is not None else [])
            gradients = torch.autograd.grad(energy.sum(), wanted, create_graph=create_graph, materialize_grads=True)
        dipole = total_dipole(terms, system)
    virial_tensor = -0.5 * (gradients[-1] + gradients[-1].mT) if strained else None
    prediction = Prediction(
        energy=energy,
        terms=dict(zip(terms.energies, by_term.unbind(0), strict=True)),
        node_energy=node.sum(0),
        node_terms=dict(zip(terms.energies, node.unbind(0), strict=True)),
        forces=-gradients[0] if forces else None,
        stress=_stress(virial_tensor, system) if stress else None,
        virial=virial_tensor,
        charges=terms.charges,
        hirshfeld_ratios=terms.hirshfeld_ratios,
        dipole=dipole,
        force_error=terms.force_error,
    )
    return prediction if create_graph else prediction.detached()


def _stress(virial: Tensor | None, system: System) -> Tensor | None:
    return None if virial is None else -virial / system.volume.abs().view(-1, 1, 1)


def _in_graph(system: System) -> bool:
    return torch.is_grad_enabled() and (system.positions.requires_grad or system.cell.requires_grad)


def _derived(
    potential: Potential, system: System, neighbors: Neighbors, *, forces: bool, stress: bool, strained: bool
) -> Prediction:
    """By a kernel that gives its own derivatives."""
    kernel: Any = potential.kernel
    with torch.no_grad():
        derived = kernel.derive(system, neighbors, gradient=forces or strained, strain=strained)
        terms = derived.terms
        node = torch.stack([energy.double() for energy in terms.energies.values()])
        by_term = node.sum(1, keepdim=True)
        if system.n_structures > 1:
            by_term = node.new_zeros(len(node), system.n_structures).index_add(1, system.batch, node)
        virial = -0.5 * (derived.strain + derived.strain.mT) if strained else None
        return Prediction(
            energy=by_term.sum(0),
            terms=dict(zip(terms.energies, by_term.unbind(0), strict=True)),
            node_energy=node.sum(0),
            node_terms=dict(zip(terms.energies, node.unbind(0), strict=True)),
            forces=-derived.gradient if forces else None,
            stress=_stress(virial, system) if stress else None,
            virial=virial,
            charges=terms.charges,
            hirshfeld_ratios=terms.hirshfeld_ratios,
            dipole=total_dipole(terms, system),
            force_error=terms.force_error,
        )


@contextmanager
def without_kernels(potential: Potential) -> Iterator[None]:
    """Plain PyTorch for a while: what differentiates more than energies by positions needs its graph."""
    parts = [part for part in potential.modules() if isinstance(part, Potential)]
    kept = [(part, part.kernel, part.kernels) for part in parts]
    for part in parts:
        part.use_kernel(None, "reference")
    try:
        yield
    finally:
        for part, kernel, name in kept:
            part.use_kernel(kernel, name)


def doubts_above(
    values: Float[Tensor, "N"], limit: float, system: System, words: Callable[[float], str]
) -> list[Doubt]:
    """Atoms whose value exceeds a limit: one doubt a structure, the worst atom first.

    Args:
        words: the text of a doubt, from its largest value.
    """
    above = (values > limit).nonzero().squeeze(-1)
    ranked = above[values[above].argsort(descending=True)]
    groups: dict[int, list[int]] = {}
    for atom, structure in zip(ranked.tolist(), system.batch[ranked].tolist(), strict=True):
        groups.setdefault(structure, []).append(atom)
    return [Doubt(tuple(atoms), words(float(values[atoms[0]]))) for _, atoms in sorted(groups.items())]


def total_dipole(terms: Terms, system: System) -> Float[Tensor, "B 3"] | None:
    """Dipoles of structures from charges and dipoles of their atoms, e·Å; None where the model has neither."""
    parts = []
    if terms.charges is not None:
        parts.append(terms.charges.to(system.dtype).unsqueeze(-1) * system.positions)
    if terms.dipoles is not None:
        parts.append(terms.dipoles.to(system.dtype))
    if not parts:
        return None
    return torch.zeros_like(system.cell[:, 0]).index_add(0, system.batch, sum(parts[1:], parts[0]))


def join_predictions(parts: list[Prediction]) -> Prediction:
    """Predictions of consecutive batches as one; a field that some part lacks is left out."""
    if len(parts) == 1:
        return parts[0]

    def join(values: list[Any]) -> Any:
        if isinstance(values[0], dict):
            return {name: torch.cat([value[name] for value in values]) for name in values[0]}
        if any(value is None for value in values):
            return None
        return join_spreads(values) if isinstance(values[0], Spread) else torch.cat(values)

    return Prediction(**{f.name: join([getattr(part, f.name) for part in parts]) for f in fields(Prediction)})


def check_energy(potential: Potential) -> None:
    """Refuse a model of dipoles or polarizabilities alone.

    Raises:
        ModelError: naming what it predicts.
    """
    if not potential.has_energy:
        raise ModelError(
            f"{potential.name} predicts {', '.join(sorted(potential.outputs))}, but no energies or forces: take a "
            "force field such as so3lr for these"
        )


def check_distances(system: System, neighbors: Neighbors, first_structure: int = 0, minimum: float = CLASH) -> None:
    """Refuse atoms on one spot (closer than ``minimum``, Å).

    Args:
        first_structure: index that the batch's first structure has for the user.

    Raises:
        InputError: naming the two atoms and their distance.
    """
    with torch.no_grad():
        d = neighbors.vectors(system).norm(dim=-1)
    if len(d) == 0 or not bool((closest := d.min()) < minimum):
        return
    edge = int(d.argmin())
    a, b = int(neighbors.i[edge]), int(neighbors.j[edge])
    local = [k - int((system.batch < system.batch[k]).sum()) for k in (a, b)]
    names = [f"{chemical_symbols[int(system.numbers[k])]} (atom {n})" for k, n in zip((a, b), local, strict=True)]
    structure = first_structure + int(system.batch[a])
    where = f"structure {structure}: " if system.n_structures > 1 or first_structure else ""
    raise InputError(f"{where}{names[0]} and {names[1]} are {float(closest):.3f} Å apart: two atoms on one spot")


def warn_about(potential: Potential, system: System) -> None:
    """Say as warnings what `Potential.advice` has to say."""
    for line in potential.advice(system):
        warnings.warn(line, ModelWarning, stacklevel=3)


def _where(system: System, structure: int) -> str:
    return f"structure {structure}: " if system.n_structures > 1 else ""
