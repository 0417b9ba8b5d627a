"""A stand-in for LAMMPS's ML-IAP coupling (src/KOKKOS, 2025) on several processes: one domain a thread.

What it keeps of the original: space is cut in slabs of lattice coordinates; atoms belong to the domain they were in
when lists were last built, and have moved since; ghosts are all atoms and images in the domain's box grown by cutoff
plus skin, owners elsewhere or in the same domain; pairs are those of own atoms closer than the cutoff now, both ways
round; arrays are float64 and int32, views of LAMMPS's memory, and cannot be had where they would be empty; features
travel as float64; a pair's force is added to i and taken from j, ghosts' forces go home at the end, and the virial is
that of pairs. All processes have to meet in every exchange, in the same one: whoever does not come ends all.
"""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass, field

import ase
import numpy as np
import torch

SKIN = 1.0
WAIT = 60.0
"""Seconds after which a domain that does not come is dead."""


DIED = "another domain did not come"


class Died(Exception):
    """Another domain ended the run."""


class World:
    """Where threads meet, and what they lay on the table."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._barrier = threading.Barrier(size, timeout=WAIT)
        self._table: list[object] = [None] * size
        self.messages: list[str] = []
        self.log: list[list[tuple[object, ...]]] = [[] for _ in range(size)]

    def gather(self, rank: int, kind: tuple[object, ...], value: object) -> list[object]:
        """Everybody's values, of one and the same kind."""
        self.log[rank].append(kind)
        try:
            self._table[rank] = (kind, value)
            self._barrier.wait()
            found = list(self._table)
            self._barrier.wait()
        except threading.BrokenBarrierError:
            raise Died(DIED) from None
        kinds = {entry[0] for entry in found}
        assert len(kinds) == 1, f"domains are in different exchanges: {kinds}"
        return [entry[1] for entry in found]

    def end(self) -> None:
        self._barrier.abort()


class Ranks:
    """One domain's `heliodor.engines.lammps.ranks.Ranks`."""

    def __init__(self, world: World, rank: int) -> None:
        self.world, self.rank, self.size = world, rank, world.size

    def sum(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack(self.world.gather(self.rank, ("sum", tuple(x.shape)), x.detach().clone())).sum(0)

    def max(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack(self.world.gather(self.rank, ("max", tuple(x.shape)), x.detach().clone())).amax(0)

    def abort(self, message: str) -> None:
        if message != DIED:
            self.world.messages.append(message)
        self.world.end()


@dataclass
class Divided:
    """What LAMMPS has at the end of a step."""

    energy: float
    energies: np.ndarray
    forces: np.ndarray
    virial: np.ndarray
    n_local: list[int]
    n_ghosts: list[int]
    log: list[tuple[object, ...]]
    messages: list[str] = field(default_factory=list)


class Data:
    """`MLIAPDataPy` of one domain."""

    def __init__(self, world, rank, owned, ghosts, x, element, cutoff, tags) -> None:
        self._world, self._rank = world, rank
        self._owner = ghosts
        self.nlocal = self.nlistatoms = self.natomneigh = len(owned)
        self.ntotal = len(x)
        self._tags = tags
        d = x[None, :, :] - x[: self.nlocal, None, :]
        listed = (d**2).sum(-1) < cutoff**2
        listed[np.arange(self.nlocal), np.arange(self.nlocal)] = False
        i, j = np.nonzero(listed)
        # neighbours of an atom come in the order of cells, which is none
        shuffled = np.random.default_rng(rank).permutation(len(i))
        shuffled = shuffled[np.argsort(i[shuffled], kind="stable")]
        i, j = i[shuffled], j[shuffled]
        self.npairs = len(i)
        self._arrays = {
            "pair_i": i.astype(np.int32),
            "jatoms": j.astype(np.int32),
            "elems": element.astype(np.int32),
            "iatoms": np.arange(self.nlocal, dtype=np.int32),
            "rij": np.ascontiguousarray(d[i, j]),
            "eatoms": np.full(self.nlocal, np.nan),
            "f": np.zeros((self.ntotal, 3)),
        }
        self.virial = np.zeros(6)
        self.written: float | None = None
        self.updates = 0

    def __getattr__(self, name):
        if name == "pair_j":
            name = "jatoms"
        if name.startswith("_") or name not in self._arrays:
            raise AttributeError(name)
        if len(self._arrays[name]) == 0:
            raise ValueError("Invalid shape in axis 0: 0.")
        return self._arrays[name]

    energy = property(None, lambda self, value: setattr(self, "written", float(value)))

    def update_pair_forces(self, fij) -> None:
        values = fij.detach().numpy().astype(np.double)
        assert values.shape == (self.npairs, 3) and values.flags.c_contiguous
        _ = values[0][0]
        i, j, rij = self.pair_i, self.jatoms, self.rij
        np.add.at(self.f, i, values)
        np.add.at(self.f, j, -values)
        for k, (a, b) in enumerate(((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))):
            self.virial[k] -= (rij[:, a] * values[:, b]).sum()
        self.updates += 1

    def forward_exchange(self, copy_from, copy_to, vec_len) -> None:
        self._check(copy_from, copy_to, vec_len)
        copy_to.copy_(copy_from)
        everybody = self._world.gather(self._rank, ("forward", vec_len), copy_from.double().numpy().copy())
        for ghost, (rank, atom) in enumerate(self._owner, start=self.nlocal):
            copy_to[ghost] = torch.from_numpy(everybody[rank][atom])

    def reverse_exchange(self, copy_from, copy_to, vec_len) -> None:
        self._check(copy_from, copy_to, vec_len)
        copy_to.copy_(copy_from)
        mine = (copy_from.double().numpy().copy(), self._owner, self.nlocal)
        for values, owners, first in self._world.gather(self._rank, ("reverse", vec_len), mine):
            for ghost, (rank, atom) in enumerate(owners, start=first):
                if rank == self._rank:
                    copy_to[atom] += torch.from_numpy(values[ghost]).to(copy_to.dtype)
        copy_to[self.nlocal :] = 0.0

    def _check(self, copy_from, copy_to, vec_len) -> None:
        for x in (copy_from, copy_to):
            # LAMMPS takes a pointer and trusts
            assert x.dtype in (torch.float32, torch.float64) and x.is_contiguous()
            assert x.shape == (self.ntotal, vec_len)
        assert (copy_from.dtype == copy_to.dtype and copy_from.data_ptr() != copy_to.data_ptr()) or self.ntotal == 0


def divide(
    atoms: ase.Atoms, symbols: list[str], cutoff: float, cuts: tuple[list[float], ...], world: World, seed: int = 0
) -> list[Data]:
    """Atoms in domains bounded by cuts (inner bounds, in lattice coordinates) along each direction."""
    rng = np.random.default_rng(seed)
    pbc = np.asarray(atoms.pbc)
    if pbc.any():
        cell = np.asarray(atoms.cell.complete())
        origin = np.zeros(3)
    else:
        origin = atoms.positions.min(0) - 0.1
        cell = np.diag(np.ptp(atoms.positions, axis=0) + 0.2)
    inverse = np.linalg.inv(cell)
    # what atoms have moved since lists were built
    drift = rng.normal(size=(len(atoms), 3))
    drift *= (0.49 * SKIN * rng.random(len(atoms)) / np.linalg.norm(drift, axis=1))[:, None]
    old = (atoms.positions - drift - origin) @ inverse
    wrapped = np.where(pbc, np.floor(old), 0.0)
    old, now = old - wrapped, (atoms.positions - origin) @ inverse - wrapped
    bounds = [
        np.array([-np.inf if not p else 0.0, *c, np.inf if not p else 1.0]) for p, c in zip(pbc, cuts, strict=True)
    ]
    boxes = list(itertools.product(*(list(itertools.pairwise(b)) for b in bounds)))
    assert len(boxes) == world.size
    reach = (cutoff + SKIN) * np.linalg.norm(inverse, axis=0)
    species = {symbol: k for k, symbol in enumerate(symbols)}
    element = np.array([species[s] for s in atoms.symbols])
    owned = []
    for box in boxes:
        inside = np.all([(old[:, k] >= lo) & (old[:, k] < hi) for k, (lo, hi) in enumerate(box)], axis=0)
        owned.append(rng.permutation(np.flatnonzero(inside)))
    assert sorted(np.concatenate(owned).tolist()) == list(range(len(atoms)))
    home = {int(a): (rank, k) for rank, own in enumerate(owned) for k, a in enumerate(own)}
    images = [
        range(-int(np.ceil(r)) - 1, int(np.ceil(r)) + 2) if p else range(1) for r, p in zip(reach, pbc, strict=True)
    ]
    found = []
    for rank, (box, own) in enumerate(zip(boxes, owned, strict=True)):
        lo, hi = (np.array(side) for side in zip(*box, strict=True))
        ghosts, places = [], []
        for shift in itertools.product(*images):
            moved = old + np.array(shift)
            near = np.all((moved >= lo - reach) & (moved <= hi + reach), axis=1)
            for a in np.flatnonzero(near):
                if home[int(a)][0] != rank or any(shift):
                    ghosts.append(int(a))
                    places.append(now[a] + np.array(shift))
        order = rng.permutation(len(ghosts))
        ghosts = [ghosts[k] for k in order]
        fractional = np.concatenate([now[own], np.array(places).reshape(-1, 3)[order]])
        tags = np.concatenate([own, np.array(ghosts, dtype=int)]).astype(int)
        owners = [home[a] for a in ghosts]
        found.append(Data(world, rank, own, owners, fractional @ cell + origin, element[tags], cutoff, tags))
    return found


def run_divided(unifieds, atoms: ase.Atoms, cuts, seed: int = 0, tamper=None) -> Divided:
    """One step; `unifieds` are the objects of each domain, `tamper(data)` changes what they get."""
    world = World(len(unifieds))
    first = unifieds[0]
    cutoff = 2.0 * first.rcutfac
    domains = divide(atoms, first.element_types, cutoff, cuts, world, seed)
    if tamper is not None:
        for rank, data in enumerate(domains):
            tamper(rank, data)
    errors: list[BaseException] = []

    def work(rank: int) -> None:
        unifieds[rank].ranks = Ranks(world, rank)
        try:
            unifieds[rank].compute_descriptors(domains[rank])
            unifieds[rank].compute_gradients(domains[rank])
            unifieds[rank].compute_forces(domains[rank])
        except BaseException as error:
            errors.append(error)
            world.end()

    threads = [threading.Thread(target=work, args=(rank,), daemon=True) for rank in range(world.size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2.0 * WAIT)
        assert not thread.is_alive(), "a domain hangs"
    real = [error for error in errors if not isinstance(error, Died)]
    if errors:
        failure = real[0] if real else errors[0]
        failure.messages = world.messages
        raise failure
    assert all(log == world.log[0] for log in world.log)
    forces, energies = np.zeros((len(atoms), 3)), np.full(len(atoms), np.nan)
    for data in domains:
        if data.ntotal:
            np.add.at(forces, data._tags, data._arrays["f"])
        energies[data._tags[: data.nlocal]] = data._arrays["eatoms"]
    xx, yy, zz, xy, xz, yz = sum(data.virial for data in domains)
    return Divided(
        energy=sum(data.written for data in domains),
        energies=energies,
        forces=forces,
        virial=np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]),
        n_local=[data.nlocal for data in domains],
        n_ghosts=[data.ntotal - data.nlocal for data in domains],
        log=world.log[0],
    )
