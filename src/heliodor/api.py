"""What a user calls: load a model, evaluate structures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ase
import numpy as np
import torch

from heliodor.checkpoint import load_checkpoint
from heliodor.errors import CheckpointError, InputError, ModelError
from heliodor.kernels import choose_kernels
from heliodor.potential import (
    Potential,
    Prediction,
    check_distances,
    evaluate_system,
    join_predictions,
    warn_about,
)
from heliodor.potentials.committee import Committee, expand
from heliodor.registry import check_source, checkpoint_path, find_model, imported
from heliodor.response import evaluate_response
from heliodor.system import System

_DTYPES = {"float32": torch.float32, "float64": torch.float64}


def load(
    model: str | Path | Sequence[str | Path],
    *,
    device: str = "auto",
    dtype: str = "float32",
    long_range_cutoff: float | str | None = "auto",
    dispersion_damping_width: float = 2.0,
    kernels: str = "auto",
    head: str | None = None,
) -> Potential:
    """Load a potential.

    Args:
        model: a name from `heliodor.models()`, a heliodor checkpoint (.safetensors), or an official file
            (SO3LR's params.pkl, a MACE .model, a SpookyNet .pth). Several of these, in a list or separated by commas,
            or a pattern such as ``"runs/*.safetensors"``: their `Committee`, or the one model that matches.
        device: "cpu", "cuda", "cuda:1", or "auto": the GPU if there is one.
        dtype: "float32" or "float64" for the network; positions are float64 in either case.
        long_range_cutoff: Å for electrostatics and dispersion; None for no cutoff; "auto": none in gas phase,
            12 Å in periodic boxes. Energies at different cutoffs cannot be compared. SpookyNet is trained with one
            (or none): "auto" is that one, and another is refused.
        dispersion_damping_width: Å over which dispersion is switched off below that cutoff.
        kernels: "auto" (the fastest that is exact to the precision asked for), "reference" (plain PyTorch), or the name
            of a kernel: "numba" for MACE on CPUs.
        head: level of theory, of MACE files that hold several.

    Raises:
        ModelError: unknown name or option.
        CheckpointError: the file is missing, damaged or not to be trusted.
        InputError: the device does not exist; a model given twice.
    """
    if dtype not in _DTYPES:
        raise InputError(f"dtype must be 'float32' or 'float64', not {dtype!r}")
    sources = expand(model)
    potentials = [_read(source, head) for source in sources]
    far = [potential for potential in potentials if potential.has_long_range]
    for potential in far:
        potential.long_range_cutoff = _check_cutoff(long_range_cutoff, potential.cutoff)
        if not 0.0 < dispersion_damping_width < np.inf:
            raise InputError(
                f"dispersion_damping_width must be a positive length (Å), not {dispersion_damping_width!r}"
            )
        potential.dispersion_damping_width = float(dispersion_damping_width)
    if not far and long_range_cutoff not in ("auto", None):
        raise ModelError(f"{potentials[0].name} has no long-range terms: long_range_cutoff does not apply")
    target = choose_device(device)
    for k, (source, potential) in enumerate(zip(sources, potentials, strict=True)):
        potential.source = source
        potentials[k] = potential.to(device=target, dtype=_DTYPES[dtype]).eval().requires_grad_(False)
        choose_kernels(potentials[k], target, kernels)
    if len(potentials) == 1:
        return potentials[0]
    committee = Committee(potentials).eval()
    # split at commas when a run is restarted
    committee.source = None if any("," in source for source in sources) else ",".join(sources)
    return committee


def evaluate(
    potential: Potential | str,
    atoms: ase.Atoms | Sequence[ase.Atoms],
    *,
    charge: float | None = None,
    spin: int | None = None,
    fragments: Sequence[int] | np.ndarray | None = None,
    fragment_charges: Sequence[float] | None = None,
    forces: bool = True,
    batch_atoms: int = 2000,
) -> Prediction:
    """Energy, forces, stress (fully periodic input) and the model's other outputs.

    Of a model of dipoles and polarizabilities alone the energy is not a number and there are no forces.

    Args:
        potential: from `load`, or a model's name.
        atoms: one structure or many; many are evaluated in batches of about ``batch_atoms`` atoms.
        charge, spin: override ``atoms.info["charge"]``, ``["spin"]`` (unpaired electrons).
        fragments, fragment_charges: fragment index per atom and charge per fragment (one structure): partial
            charges then add up within each fragment.

    Returns:
        Prediction on the CPU; `numpy.asarray` reads its fields.

    Raises:
        InputError, ModelError: what cannot be evaluated, naming the atom.
    """
    if isinstance(potential, str):
        potential = load(potential)
    frames = [atoms] if isinstance(atoms, ase.Atoms) else list(atoms)
    whole = System.from_atoms(frames, charge=charge, spin=spin, fragments=fragments, fragment_charges=fragment_charges)
    potential.check(whole)
    warn_about(potential, whole)
    predictions = []
    for first, last in batches([len(frame) for frame in frames], batch_atoms):
        if (first, last) == (0, len(frames)):
            system = whole.to(potential.device)
        else:
            system = System.from_atoms(frames[first:last], charge=charge, spin=spin, device=potential.device)
        neighbors = potential.neighbors(system)
        check_distances(system, neighbors, first)
        if not potential.has_energy:
            predictions.append(evaluate_response(potential, system, neighbors).detached("cpu"))
            continue
        stress = forces and bool(system.pbc.all())
        predictions.append(evaluate_system(potential, system, neighbors, forces=forces, stress=stress).detached("cpu"))
    return join_predictions(predictions)


def choose_device(device: str) -> torch.device:
    """The device a name stands for.

    Raises:
        InputError: a GPU asked for and absent, or no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
    except RuntimeError:
        raise InputError(f"no such device: {device!r}; use 'cpu', 'cuda' or 'auto'") from None
    if target.type == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "a GPU was asked for (device 'cuda'), but torch sees none: use --device cpu, or install a CUDA build of "
            "torch (see README, 'GPU')"
        )
    if target.type == "cuda" and (target.index or 0) >= torch.cuda.device_count():
        raise InputError(f"{device} was asked for, but there are only {torch.cuda.device_count()} GPUs")
    if target.type not in ("cpu", "cuda"):
        raise InputError(f"device {device!r} is not supported; use 'cpu' or 'cuda'")
    return target


def _read(model: str | Path, head: str | None) -> Potential:
    path = Path(model)
    if head is not None and path.suffix != ".model":
        raise ModelError(f"{model} has no heads to choose from: leave head={head!r} out")
    if path.suffix == ".pkl" and path.exists():
        from heliodor.convert.so3lr import convert_so3lr

        return convert_so3lr(path)
    if path.suffix == ".model" and path.exists():
        from heliodor.convert.mace_any import convert_model

        return convert_model(path, head)
    if path.suffix == ".pth" and path.exists():
        from heliodor.convert.spookynet import convert_spookynet

        return convert_spookynet(path)
    if path.exists() and path.is_file():
        return load_checkpoint(path)
    own = imported().get(str(model))
    if own is not None:
        return load_checkpoint(own)
    if path.suffix or len(path.parts) > 1:
        raise CheckpointError(f"no such model file: {path}")
    entry = find_model(str(model))
    potential = load_checkpoint(checkpoint_path(entry), expected_sha256=entry.sha256)
    check_source(entry, potential.card)
    return potential


def _check_cutoff(value: float | str | None, short: float) -> float | str | None:
    if value is None or value == "auto":
        return value
    try:
        cutoff = float(value)
    except ValueError:
        cutoff = float("nan")
    if not cutoff >= short:
        raise InputError(
            f"long_range_cutoff must be at least the network's cutoff ({short:g} Å), None or 'auto'; got {value!r}"
        )
    return None if np.isinf(cutoff) else cutoff


def batches(counts: list[int], limit: int) -> list[tuple[int, int]]:
    """Consecutive structures of these numbers of atoms in batches of at most ``limit`` atoms, or one structure."""
    spans, first, total = [], 0, 0
    for index, count in enumerate(counts):
        if total and total + count > limit:
            spans.append((first, index))
            first, total = index, 0
        total += count
    return [*spans, (first, len(counts))]
