"""Interaction energies that never mix total charges.

SO3LR's embedding of the total charge is shared by all atoms, and it was trained on forces only: subtracting
separate calculations of charged monomers compares energies with different, arbitrary zeros. Both structures
compared here have the same atoms and the same total charge; in the second one the fragments do not see each
other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import ase
import numpy as np
import torch

from heliodor.errors import InputError
from heliodor.neighbors import Neighbors
from heliodor.potential import Potential, check_distances, evaluate_system
from heliodor.system import System, read_spin

PROTOCOLS = ("fragments", "relaxed")


def interaction_energy(
    potential: Potential,
    atoms: ase.Atoms | Sequence[ase.Atoms],
    fragments: Sequence[int] | Sequence[Sequence[int]] | None = None,
    fragment_charges: Sequence[float] | Sequence[Sequence[float]] | None = None,
    *,
    protocol: str = "fragments",
    batch_atoms: int = 2000,
) -> np.ndarray | float:
    """Energy of the whole minus its fragments at infinite separation, in eV (negative: bound).

    Args:
        atoms: one complex or many.
        fragments: fragment index of each atom; default ``atoms.arrays["fragment"]`` (any labels).
        fragment_charges: charge of each fragment, e, in the order of the sorted labels; default
            ``atoms.info["fragment_charges"]``.
        protocol: "fragments": each fragment keeps its own charge, together and apart (SAPT10k MAE 0.905 kcal/mol);
            "relaxed": charge may flow within the complex, each fragment has its own when apart (0.897).

    Returns:
        A float for one complex, an array for many.

    Raises:
        InputError: fragments or charges missing or not adding up; a periodic structure; unpaired electrons.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol must be one of {', '.join(PROTOCOLS)}, not {protocol!r}")
    single = isinstance(atoms, ase.Atoms)
    frames = [atoms] if isinstance(atoms, ase.Atoms) else list(atoms)
    labels = _default(frames, fragments, single, "fragment")
    charges = _default(frames, fragment_charges, single, "fragment_charges")
    energies, first = [], 0
    while first < len(frames):
        last, total = first + 1, len(frames[first])
        while last < len(frames) and total + len(frames[last]) <= batch_atoms:
            total += len(frames[last])
            last += 1
        system = _join(frames[first:last], labels[first:last], charges[first:last]).to(potential.device)
        energies.append(_interaction(potential, system, first, protocol))
        first = last
    result = np.concatenate(energies)
    return float(result[0]) if single else result


def _default(frames: list[ase.Atoms], given: Sequence | None, single: bool, key: str) -> list[np.ndarray]:  # type: ignore[type-arg]
    if given is not None:
        return [np.asarray(given)] if single else [np.asarray(g) for g in given]
    store = [frame.arrays if key == "fragment" else frame.info for frame in frames]
    missing = [index for index, place in enumerate(store) if key not in place]
    if missing:
        where = "atoms.arrays" if key == "fragment" else "atoms.info"
        raise InputError(f"structure {missing[0]}: give {key} (argument, or {where}[{key!r}])")
    return [np.atleast_1d(np.asarray(place[key])) for place in store]


def _join(frames: list[ase.Atoms], labels: list[np.ndarray], charges: list[np.ndarray]) -> System:
    """A batch whose fragments are numbered through."""
    fragment, fragment_charge, start = [], [], 0
    for frame, label, charge in zip(frames, labels, charges, strict=True):
        if frame.pbc.any():
            raise InputError("interaction energies are for molecules: a periodic structure has no infinite separation")
        if read_spin(frame):
            raise InputError(
                "interaction energies are for closed shells, and this structure has unpaired electrons "
                "(atoms.info['spin']): nothing says which fragment they belong to"
            )
        names, index = np.unique(label, return_inverse=True)
        one = System.from_atoms(frame, charge=float(np.sum(charge)), fragments=index, fragment_charges=charge.tolist())
        assert one.fragment is not None and one.fragment_charge is not None
        fragment.append(one.fragment + start)
        fragment_charge.append(one.fragment_charge)
        start += len(names)
    total = torch.tensor([float(np.sum(charge)) for charge in charges], dtype=torch.float64)
    batch = System.from_atoms(frames)
    return batch.replace(
        charge=total,
        spin=torch.zeros_like(total),
        fragment=torch.cat(fragment),
        fragment_charge=torch.cat(fragment_charge),
    )


def _interaction(potential: Potential, system: System, first: int, protocol: str) -> np.ndarray:
    potential.check(system)
    neighbors = potential.neighbors(system)
    check_distances(system, neighbors, first)
    together = system if protocol == "fragments" else system.replace(fragment=None, fragment_charge=None)
    bound = evaluate_system(potential, together, neighbors, forces=False).energy
    free = evaluate_system(potential, system, apart(neighbors, system), forces=False).energy
    return (bound - free).cpu().numpy()


def apart(neighbors: Neighbors, system: System) -> Neighbors:
    """Without the edges between fragments: as if they were infinitely far from each other."""
    assert system.fragment is not None
    kept = neighbors.select(system.fragment[neighbors.i] == system.fragment[neighbors.j])
    long_range = None if neighbors.long_range is None else apart(neighbors.long_range, system)
    return replace(kept, long_range=long_range)
