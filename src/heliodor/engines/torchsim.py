"""TorchSim: any heliodor potential as a `torch_sim` model, for many structures at once."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ase
import torch
from torch import Tensor

from heliodor.api import load
from heliodor.errors import InputError, MissingExtraError
from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, check_distances, check_energy, evaluate_system, warn_about
from heliodor.system import System

try:
    with warnings.catch_warnings():
        # TorchSim 0.3 compiles with torch.jit.script, which torch calls deprecated
        warnings.simplefilter("ignore", DeprecationWarning)
        from torch_sim.models.interface import ModelInterface
except ImportError:
    raise MissingExtraError("torch-sim-atomistic", "torchsim") from None


class TorchSimModel(ModelInterface):  # type: ignore[misc]
    """A model for `torch_sim.integrate`, `optimize`, `static` and its autobatchers.

    Units are TorchSim's "metal" ones, which are ours: eV, Å, eV/Å³, amu. Its unit of time is Å √(amu/eV) inside
    integrators (about 10.18 fs) and ps in `torch_sim.integrate`.

    The neighbour list is kept while the same atoms come again and none has moved by half the skin; atoms that were
    wrapped into their cell are followed across it.

    Args:
        model: name, file, several of these for a committee, or a loaded potential.
        charge: total charge, e: one for all structures, or by chemical formula in Hill's order (``{"C2H3O2": -1.0}``,
            0 for those not named). By default the state's own ``total_charge`` or ``charge``, which states of TorchSim
            0.6 can carry, or 0.
        spin: unpaired electrons, one or by formula; 0 by default. What a state says of spins is not read.
        skin: Å; 0 finds the neighbours anew at each call.
        compute_stress: whether periodic structures get their stress.
        compute_forces: whether there are forces.
        state_dtype: of the states that TorchSim makes for this model, and of what it gets back. The network's own is
            ``dtype`` of ``load_options``.
        load_options: as for `heliodor.load`.

    Raises:
        ModelError: a model without energies.
    """

    def __init__(
        self,
        model: str | Path | Sequence[str | Path] | Potential,
        *,
        charge: float | Mapping[str, float] | None = None,
        spin: int | Mapping[str, int] | None = None,
        skin: float = 0.5,
        compute_stress: bool = True,
        compute_forces: bool = True,
        state_dtype: torch.dtype = torch.float64,
        **load_options: Any,
    ) -> None:
        super().__init__()
        self.potential = model if isinstance(model, Potential) else load(model, **load_options)
        check_energy(self.potential)
        self.charge, self.spin, self.skin = charge, spin, skin
        self._device, self._dtype = self.potential.device, state_dtype
        self._compute_stress, self._compute_forces = compute_stress, compute_forces
        # TorchSim's other measure needs a cell, which molecules have not
        self._memory_scales_with = "n_atoms"
        self._known: System | None = None
        self._neighbors: Neighbors | None = None
        self._last: Tensor | None = None
        self.lists_built = 0

    @property
    def compute_stress(self) -> bool:
        """Whether periodic structures get their stress."""
        return bool(self._compute_stress)

    @compute_stress.setter
    def compute_stress(self, value: bool) -> None:
        self._compute_stress = value

    @property
    def compute_forces(self) -> bool:
        """Whether there are forces."""
        return bool(self._compute_forces)

    @compute_forces.setter
    def compute_forces(self, value: bool) -> None:
        self._compute_forces = value

    def forward(self, state: Any, **_: Any) -> dict[str, Tensor]:
        """Energies [B] eV; forces [N, 3] eV/Å; stress [B, 3, 3] eV/Å³ where structures are fully periodic.

        In a batch of both kinds the stress of those that are not periodic is not a number.

        Args:
            state: torch_sim.SimState, or a dictionary of its fields.

        Raises:
            InputError, ModelError: what the model cannot describe, naming the atom; positions that are not finite.
        """
        system = self._system(state)
        neighbors = self._lists(system)
        if torch.equal(system.cell, neighbors.cell):
            # the same tensor tells the list that its cached image offsets hold
            system = system.replace(cell=neighbors.cell)
        periodic = system.pbc.all(-1)
        strained = self.compute_stress and bool(periodic.any())
        p = evaluate_system(self.potential, system, neighbors, forces=self.compute_forces, virial=strained)
        if not bool(torch.isfinite(p.energy).all()):
            which = int((~torch.isfinite(p.energy)).nonzero()[0])
            raise InputError(
                f"the energy of structure {which} is no longer a finite number: "
                "the simulation has left what the model can describe; start from a relaxed structure or take a shorter "
                "time step"
            )
        dtype = _field(state, "positions").dtype
        found = {"energy": p.energy.to(dtype)}
        if p.forces is not None:
            found["forces"] = p.forces.to(dtype)
        if strained and p.virial is not None:
            stress = -p.virial / system.volume.abs().view(-1, 1, 1)
            found["stress"] = torch.where(periodic.view(-1, 1, 1), stress, torch.nan).to(dtype)
        return {name: value.detach() for name, value in found.items()}

    def _system(self, state: Any) -> System:
        positions = _field(state, "positions").detach().to(self._device, torch.float64)
        numbers = _field(state, "atomic_numbers").to(self._device, torch.int64)
        batch = _field(state, "system_idx", "graph_idx", "batch")
        batch = torch.zeros_like(numbers) if batch is None else batch.to(self._device, torch.int64)
        if not bool(torch.isfinite(positions).all()):
            which = int((~torch.isfinite(positions).all(-1)).nonzero()[0])
            raise InputError(
                f"the position of atom {which} is not a finite number: "
                "the simulation has become unstable; take a shorter time step or relax the structure first"
            )
        # TorchSim's cells have lattice vectors as columns
        cell = _field(state, "cell").detach().to(self._device, torch.float64).reshape(-1, 3, 3).mT.contiguous()
        pbc = torch.as_tensor(_field(state, "pbc"), dtype=torch.bool, device=self._device)
        pbc = pbc.expand(cell.shape[0], 3).contiguous()
        given = _field(state, "total_charge", "charge") if self.charge is None else None
        known = self._known
        if (
            known is None
            or not torch.equal(known.numbers, numbers)
            or not torch.equal(known.batch, batch)
            or not torch.equal(known.pbc, pbc)
            or (given is not None and not bool((known.charge == given.to(known.charge)).all()))
        ):
            known = self._new(positions, numbers, cell, pbc, batch, given)
        return known.replace(positions=self._follow(positions, cell, known), cell=cell)

    def _new(
        self, positions: Tensor, numbers: Tensor, cell: Tensor, pbc: Tensor, batch: Tensor, given: Tensor | None
    ) -> System:
        """Atoms that were not those of the last call: checked, and nothing kept of the others."""
        zeros = torch.zeros(cell.shape[0], dtype=torch.float64, device=self._device)
        formulas = [
            ase.Atoms(numbers=numbers[batch == b].cpu().numpy()).get_chemical_formula() for b in range(len(zeros))
        ]
        charge = zeros + given.to(zeros) if given is not None else _chosen(self.charge, formulas, zeros)
        system = System(positions, numbers, cell, pbc, batch, charge, _chosen(self.spin, formulas, zeros))
        self.potential.check(system)
        if self._known is None or not torch.equal(self._known.charge, charge):
            warn_about(self.potential, system)
        self._known, self._neighbors, self._last = system, None, None
        return system

    def _follow(self, positions: Tensor, cell: Tensor, known: System) -> Tensor:
        """The image of each atom that is nearest to where it was."""
        if not bool(known.pbc.all()):
            return positions
        inverse = torch.linalg.inv(cell)[known.batch]
        fractional = torch.bmm(positions.unsqueeze(1), inverse).squeeze(1)
        if self._last is not None:
            jump = (fractional - self._last).round()
            fractional = fractional - jump
            positions = positions - torch.bmm(jump.unsqueeze(1), cell[known.batch]).squeeze(1)
        self._last = fractional
        return positions

    def _lists(self, system: System) -> Neighbors:
        neighbors = self._neighbors
        if neighbors is None or self.skin == 0.0 or bool(neighbors.stale(system)):
            neighbors = self.potential.neighbors(system, skin=self.skin)
            check_distances(system, neighbors)
            self._neighbors = neighbors
            self.lists_built += 1
        return neighbors


def _field(state: Any, *names: str) -> Any:
    """The first of these that a state, or a dictionary of its fields, has; versions of TorchSim differ in names."""
    for name in names:
        value = state.get(name) if isinstance(state, Mapping) else getattr(state, name, None)
        if value is not None:
            return value
    return None


def _chosen(value: float | Mapping[str, float] | None, formulas: list[str], zeros: Tensor) -> Tensor:
    if value is None or not isinstance(value, Mapping):
        return zeros + (0.0 if value is None else float(value))
    return zeros.new_tensor([float(value.get(formula, 0.0)) for formula in formulas])
