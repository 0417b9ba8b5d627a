"""System: one or many structures as tensors, batched by concatenation; the only thing models and MD see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import ase
import numpy as np
import torch
from ase.data import chemical_symbols
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heliodor.errors import InputError


@dataclass(frozen=True)
class System:
    """B structures with N atoms in all.

    Positions and cell are float64 unless asked otherwise, whatever the model's dtype: edge vectors are
    formed in the System's dtype, so that a molecule far from the origin loses nothing in a float32 model.

    Attributes:
        positions: Å.
        numbers: atomic numbers.
        cell: rows are lattice vectors, Å; zeros where a structure has none.
        pbc: periodicity along each lattice vector.
        batch: index of the structure each atom belongs to, ascending.
        charge: total charge of each structure, e.
        spin: number of unpaired electrons of each structure.
        fragment: optional fragment index of each atom, 0..G-1 over the whole batch; a fragment lies in one
            structure and keeps its own charge.
        fragment_charge: charge of each fragment, e.
    """

    positions: Float[Tensor, "N 3"]
    numbers: Int[Tensor, "N"]
    cell: Float[Tensor, "B 3 3"]
    pbc: Bool[Tensor, "B 3"]
    batch: Int[Tensor, "N"]
    charge: Float[Tensor, "B"]
    spin: Float[Tensor, "B"]
    fragment: Int[Tensor, "N"] | None = None
    fragment_charge: Float[Tensor, "G"] | None = None

    @property
    def n_atoms(self) -> int:
        return self.positions.shape[0]

    @property
    def n_structures(self) -> int:
        return self.cell.shape[0]

    @property
    def counts(self) -> Int[Tensor, "B"]:
        """Number of atoms of each structure."""
        return torch.bincount(self.batch, minlength=self.n_structures)

    @property
    def volume(self) -> Float[Tensor, "B"]:
        """Å³; meaningful for fully periodic structures."""
        return torch.linalg.det(self.cell)

    @property
    def device(self) -> torch.device:
        return self.positions.device

    @property
    def dtype(self) -> torch.dtype:
        return self.positions.dtype

    def label(self, atom: int) -> str:
        """An atom's index as its user counts: ``"12"``, or ``"12 of structure 3"`` in a batch."""
        first = int((self.batch < self.batch[atom]).sum())
        suffix = f" of structure {int(self.batch[atom])}" if self.n_structures > 1 else ""
        return f"{atom - first}{suffix}"

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> System:
        """Move to a device and, for the floating-point fields, to a dtype."""
        fields = {name: _moved(getattr(self, name), device, dtype) for name in self.__dataclass_fields__}
        return System(**fields)  # type: ignore[arg-type]

    def replace(self, **changes: Any) -> System:
        """A copy with some fields exchanged."""
        return replace(self, **changes)

    def deform(self, strain: Float[Tensor, "B 3 3"]) -> System:
        """Apply R -> R(1+ε), cell -> cell(1+ε) to each structure (row vectors)."""
        identity = torch.eye(3, dtype=self.dtype, device=self.device)
        gradient = identity + strain
        positions = torch.bmm(self.positions.unsqueeze(1), gradient[self.batch]).squeeze(1)
        return replace(self, positions=positions, cell=self.cell @ gradient)

    @staticmethod
    def from_atoms(
        atoms: ase.Atoms | Sequence[ase.Atoms],
        *,
        charge: float | None = None,
        spin: int | None = None,
        fragments: Sequence[int] | np.ndarray | None = None,
        fragment_charges: Sequence[float] | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> System:
        """Read one or several ase.Atoms.

        Total charge comes from ``charge`` or ``atoms.info["charge"]`` (0 if absent); the number of unpaired
        electrons from ``spin``, ``atoms.info["spin"]``, or ``info["multiplicity"]``/``["spin_multiplicity"]``
        minus one (0 if absent). Explicit arguments win and apply to every structure.

        Args:
            fragments: fragment index of each atom (0..G-1, one structure only).
            fragment_charges: charge of each fragment, e.

        Raises:
            InputError: no atoms, non-finite coordinates, unknown element, unusable cell, fragments that do
                not add up.
        """
        frames = [atoms] if isinstance(atoms, ase.Atoms) else list(atoms)
        if not frames:
            raise InputError("no structures given")
        for index, frame in enumerate(frames):
            _check_frame(frame, f" (structure {index})" if len(frames) > 1 else "")
        charges = [read_charge(frame, charge) for frame in frames]
        spins = [read_spin(frame, spin) for frame in frames]
        counts = torch.tensor([len(frame) for frame in frames])

        fragment = fragment_charge = None
        if fragments is None and fragment_charges is not None:
            raise InputError("fragment_charges were given without fragments")
        if fragments is not None:
            if len(frames) != 1:
                raise InputError("fragments can be given for one structure at a time")
            fragment, fragment_charge = _check_fragments(fragments, fragment_charges, len(frames[0]), charges[0])

        def real(x: Any) -> Tensor:
            return torch.as_tensor(np.asarray(x, dtype=np.float64)).to(device=device, dtype=dtype)

        return System(
            positions=real(np.concatenate([frame.positions for frame in frames])),
            numbers=torch.as_tensor(np.concatenate([frame.numbers for frame in frames]).astype(np.int64)).to(device),
            cell=real(np.stack([np.asarray(frame.cell) for frame in frames])),
            pbc=torch.as_tensor(np.stack([frame.pbc for frame in frames])).to(device),
            batch=torch.repeat_interleave(torch.arange(len(frames)), counts).to(device),
            charge=real(charges),
            spin=real(spins),
            fragment=None if fragment is None else fragment.to(device),
            fragment_charge=None if fragment_charge is None else fragment_charge.to(device=device, dtype=dtype),
        )

    def to_atoms(self) -> list[ase.Atoms]:
        """One ase.Atoms per structure, charge and spin in ``info``."""
        frames = []
        for b in range(self.n_structures):
            mask = self.batch == b
            frames.append(
                ase.Atoms(
                    numbers=self.numbers[mask].cpu().numpy(),
                    positions=self.positions[mask].detach().cpu().double().numpy(),
                    cell=self.cell[b].detach().cpu().double().numpy(),
                    pbc=self.pbc[b].cpu().numpy(),
                    info={"charge": float(self.charge[b]), "spin": int(self.spin[b])},
                )
            )
        return frames


def _moved(x: Tensor | None, device: torch.device | str | None, dtype: torch.dtype | None) -> Tensor | None:
    if x is None:
        return None
    return x.to(device=device, dtype=dtype if x.is_floating_point() else None)


def read_charge(atoms: ase.Atoms, explicit: float | None = None) -> float:
    """Total charge of a structure in e: the argument, else ``info["charge"]``, else 0."""
    return _number(atoms.info.get("charge", 0.0) if explicit is None else explicit, "charge")


def read_spin(atoms: ase.Atoms, explicit: int | None = None) -> int:
    """Unpaired electrons of a structure: the argument, else ``info``, else 0.

    Raises:
        InputError: not a whole number >= 0, or ``spin`` and ``multiplicity`` disagree.
    """
    if explicit is not None:
        found = {_number(explicit, "spin")}
    else:
        found = {_number(atoms.info[key], key) for key in ("spin",) if key in atoms.info}
        found |= {_number(atoms.info[k], k) - 1 for k in ("multiplicity", "spin_multiplicity") if k in atoms.info}
    if len(found) > 1:
        raise InputError("info['spin'] (unpaired electrons) and info['multiplicity'] (that plus one) disagree")
    value = found.pop() if found else 0.0
    if value < 0 or value != int(value):
        raise InputError(f"spin is the number of unpaired electrons, a whole number >= 0, not {value:g}")
    return int(value)


def _number(value: Any, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise InputError(f"{name} must be a number, not {value!r}")
    return number


def _check_frame(atoms: ase.Atoms, where: str) -> None:
    if len(atoms) == 0:
        raise InputError(f"the structure{where} has no atoms")
    bad = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
    if len(bad):
        raise InputError(
            f"atom {bad[0]} ({atoms.symbols[int(bad[0])]}){where} has a coordinate that is not a finite number"
        )
    unknown = np.flatnonzero((atoms.numbers < 1) | (atoms.numbers >= len(chemical_symbols)))
    if len(unknown):
        raise InputError(f"atom {unknown[0]}{where} has no known element (atomic number {atoms.numbers[unknown[0]]})")
    cell = np.asarray(atoms.cell)
    if not np.isfinite(cell).all():
        raise InputError(f"the cell{where} is not finite")
    if atoms.pbc.any():
        lengths = np.linalg.norm(cell, axis=1)
        if (lengths[atoms.pbc] < 1e-3).any():
            raise InputError(
                f"the structure{where} is periodic but has a lattice vector of zero length: set the cell or pbc=False"
            )
        periodic = cell[atoms.pbc]
        if np.sqrt(max(np.linalg.det(periodic @ periodic.T), 0.0)) < 1e-3 * lengths[atoms.pbc].prod():
            raise InputError(f"the cell{where} has no volume: its periodic lattice vectors lie in a line or a plane")
        if atoms.pbc.all():
            volume = np.linalg.det(cell)
            if volume < 0:
                raise InputError(f"the cell{where} is left-handed (negative volume); exchange two lattice vectors")


def _check_fragments(
    fragments: Sequence[int] | np.ndarray, charges: Sequence[float] | None, n_atoms: int, total: float
) -> tuple[Tensor, Tensor]:
    index = torch.as_tensor(np.asarray(fragments), dtype=torch.int64)
    if index.shape != (n_atoms,):
        raise InputError(f"fragments must give one index per atom ({n_atoms}), not shape {tuple(index.shape)}")
    n_fragments = int(index.max()) + 1
    if int(index.min()) < 0 or len(torch.unique(index)) != n_fragments:
        raise InputError("fragment indices must run from 0 to G-1 with none left out")
    if charges is None:
        raise InputError("fragment_charges must be given with fragments")
    charge = torch.as_tensor(np.asarray(charges, dtype=np.float64))
    if charge.shape != (n_fragments,):
        raise InputError(f"{n_fragments} fragments need {n_fragments} charges, not {charge.numel()}")
    if abs(float(charge.sum()) - total) > 1e-6:
        raise InputError(f"fragment charges add up to {float(charge.sum()):g}, the total charge is {total:g}")
    return index, charge
