"""Torsion drives: relaxed energies on a grid of one or two dihedrals, each point started from relaxed neighbours."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import ase
import numpy as np

from heliodor.errors import InputError, SimulationError
from heliodor.potential import Potential, check_distances
from heliodor.scan.geometry import Rotor, angles_of, bonds_of, rotor
from heliodor.scan.grid import Axis, Point, neighbours
from heliodor.scan.record import ELECTRONS, Record, Relaxation, fingerprint
from heliodor.scan.relax import CRITERIA, Interrupted, need_geometric, relax_held
from heliodor.scan.result import Scan
from heliodor.system import System
from heliodor.units import HARTREE

METHODS = ("wavefront", "sweeps", "forward")

IMPROVEMENT = 1e-5 * HARTREE
"""eV by which a structure must be lower to be passed on to its neighbours (torsiondrive's threshold)."""


def torsion_scan(
    atoms: ase.Atoms,
    potential: Potential,
    dihedrals: Sequence[Sequence[int]],
    *,
    axes: Axis | Sequence[Axis] | None = None,
    method: str = "wavefront",
    criteria: str = "gau",
    max_steps: int = 300,
    record: str | Path | None = None,
    restart: bool = False,
    progress: Callable[[Relaxation, int], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Scan:
    """Relaxed energies on a grid of one or two dihedrals.

    wavefront: Qiu et al., J. Chem. Phys. 152, 244116 (2020). The input is relaxed at the grid point nearest to it;
    each structure that is the lowest so far of its point, by more than `IMPROVEMENT`, starts a relaxation at each
    neighbouring point; until nothing improves. So every point is reached from all its neighbours. sweeps (one
    dihedral): once along the grid and back, each point from the one before. forward: once along only, which hides
    hysteresis. The same input gives the same scan.

    Args:
        atoms: a molecule; charge and spin from ``atoms.info``.
        dihedrals: one or two, four atoms each, counted from 0, bonded one to the next, not in rings.
        axes: their grids; a turn by 15° from -180° where None, one grid for both where one is given.
        criteria: of convergence, see `heliodor.scan.relax.CRITERIA`.
        record: extended xyz file that takes each relaxation as it finishes.
        restart: go on from the record.
        progress: called after each relaxation with it and the number still waiting.
        stop: asked before each energy; the scan so far is returned when it says yes.

    Returns:
        Scan; points that no relaxation reached have no structure and an energy that is not a number.

    Raises:
        InputError: dihedrals or grid that cannot be scanned, a periodic structure, a record of another scan.
        ModelError: atoms outside the model.
        MissingExtraError: geomeTRIC is not installed.
        SimulationError: the first relaxation failed, or the record cannot be written.
    """
    need_geometric()
    if atoms.pbc.any():
        raise InputError("dihedrals are scanned of molecules only: the structure is periodic")
    for name, value, known in (("method", method, METHODS), ("criteria", criteria, tuple(CRITERIA))):
        if value not in known:
            raise InputError(f"{name} must be one of {', '.join(known)}, not {value!r}")
    bare = ase.Atoms(numbers=atoms.numbers, positions=atoms.positions)
    bare.info = {k: v for k, v in atoms.info.items() if k in ELECTRONS}
    system = System.from_atoms(bare, device=potential.device)
    potential.check(system)
    check_distances(system, potential.neighbors(system))
    bonds = bonds_of(bare)
    rotors = check_rotors(bare, dihedrals, bonds)
    grid = _grid(axes, len(rotors))
    if method != "wavefront" and len(rotors) > 1:
        raise InputError("two dihedrals are scanned by wavefront only")
    seed = _nearest(bare, rotors, grid)
    plan = _wavefront(seed, grid) if method == "wavefront" else _path(seed[0], grid[0], once=method == "forward")

    settings = {
        "dihedrals": [r.atoms for r in rotors],
        "axes": [[axis.angles.tolist(), axis.periodic] for axis in grid],
        "method": method,
        "criteria": criteria,
        "max_steps": max_steps,
    }
    book = None
    if record is not None:
        book = Record(Path(record), fingerprint(bare, potential, settings), restart=restart)
    try:
        done, complete = _follow(plan, bare, potential, rotors, grid, bonds, criteria, max_steps, book, progress, stop)
    finally:
        if book is not None:
            book.close()
    return Scan.of(rotors, grid, done, complete)


def check_rotors(atoms: ase.Atoms, dihedrals: Sequence[Sequence[int]], bonds: np.ndarray) -> list[Rotor]:
    """Dihedrals as rotors.

    Raises:
        InputError: none or more than two, two around one bond, or one that cannot be turned.
    """
    if len(dihedrals) not in (1, 2):
        raise InputError(f"one or two dihedrals can be scanned, not {len(dihedrals)}")
    rotors = [rotor(atoms, dihedral, bonds) for dihedral in dihedrals]
    if len(rotors) == 2 and set(rotors[0].atoms[1:3]) == set(rotors[1].atoms[1:3]):
        raise InputError(f"dihedrals {rotors[0].name} and {rotors[1].name} turn the same bond")
    return rotors


Plan = Iterator[tuple[Point, int]]
"""Asks for (grid point, number of the relaxation to start from) and reads the outcome in a `Ledger`."""


@dataclass
class Ledger:
    """Relaxations so far, and how many the plan has still in mind."""

    done: list[Relaxation]
    waiting: int = 0


def _follow(
    plan: Callable[[Ledger], Plan],
    atoms: ase.Atoms,
    potential: Potential,
    rotors: Sequence[Rotor],
    grid: Sequence[Axis],
    bonds: np.ndarray,
    criteria: str,
    max_steps: int,
    record: Record | None,
    progress: Callable[[Relaxation, int], None] | None,
    stop: Callable[[], bool] | None,
) -> tuple[list[Relaxation], bool]:
    ledger = Ledger([])
    known = [] if record is None else record.finished
    for point, source in plan(ledger):
        angles = tuple(float(axis.angles[k]) for axis, k in zip(grid, point, strict=True))
        if len(ledger.done) < len(known):
            one = known[len(ledger.done)]
            if (one.point, one.source) != (point, source):
                assert record is not None
                raise InputError(f"{record.path} does not follow from its own beginning: start again with overwriting")
        else:
            start = atoms if source < 0 else ledger.done[source].atoms.copy()
            start.info = dict(atoms.info)
            try:
                found = relax_held(
                    start, potential, rotors, angles, bonds, criteria=criteria, max_steps=max_steps, stop=stop
                )
            except Interrupted:
                return ledger.done, False
            one = Relaxation(point, angles, source, found.atoms, found.energy, found.forces, found.steps, found.failure)
            if record is not None:
                record.append(one)
        ledger.done.append(one)
        if progress is not None:
            progress(one, ledger.waiting)
        if one.failure is not None and len(ledger.done) == 1:
            raise SimulationError(f"the first relaxation, at {_words(angles)}, failed: {one.failure}")
    return ledger.done, True


def _wavefront(seed: Point, grid: Sequence[Axis]) -> Callable[[Ledger], Plan]:
    def plan(ledger: Ledger) -> Plan:
        waiting = deque([(seed, -1)])
        passed: dict[Point, int] = {}
        while waiting:
            point, source = waiting.popleft()
            # something lower of the same point was put in the queue since
            if source >= 0 and passed[ledger.done[source].point] != source:
                continue
            ledger.waiting = len(waiting)
            yield point, source
            one, before = ledger.done[-1], passed.get(point)
            if one.failure is not None or one.energy is None:
                continue
            # compared with what was passed on, not with the lowest, so that small gains add up
            if before is None or one.energy < (ledger.done[before].energy or 0.0) - IMPROVEMENT:
                passed[point] = len(ledger.done) - 1
                waiting.extend((near, passed[point]) for near in neighbours(point, grid))
                ledger.waiting = len(waiting)

    return plan


def _path(seed: int, axis: Axis, once: bool) -> Callable[[Ledger], Plan]:
    n = len(axis.angles)
    if axis.periodic:
        up = [(seed + k) % n for k in range(n if once else n + 1)]
        legs = [up] if once else [up + up[-2::-1]]
    else:
        up, down = list(range(seed, n)), list(range(seed, -1, -1))
        legs = [up, down[1:]] if once else [up + up[-2::-1] + down[1:] + list(range(1, seed + 1))]

    def plan(ledger: Ledger) -> Plan:
        left = sum(map(len, legs))
        for number, leg in enumerate(legs):
            source = -1 if number == 0 else 0
            for place in leg:
                left -= 1
                ledger.waiting = left
                yield (place,), source
                if ledger.done[-1].failure is None:
                    source = len(ledger.done) - 1

    return plan


def _grid(axes: Axis | Sequence[Axis] | None, count: int) -> list[Axis]:
    if axes is None:
        axes = Axis.over(-180.0, 180.0, 15.0)
    grid = [axes] * count if isinstance(axes, Axis) else list(axes)
    if len(grid) != count:
        raise InputError(f"{count} dihedrals need as many grids, not {len(grid)}")
    return grid


def _nearest(atoms: ase.Atoms, rotors: Sequence[Rotor], grid: Sequence[Axis]) -> Point:
    now = angles_of(atoms, rotors)
    off = [np.abs((axis.angles - angle + 180.0) % 360.0 - 180.0) for axis, angle in zip(grid, now, strict=True)]
    # rounded, so that a start half-way between two points does not depend on its last bits
    return tuple(int(np.argmin(np.round(far, 6))) for far in off)


def _words(angles: Sequence[float]) -> str:
    return ", ".join(f"{angle:g}°" for angle in angles)
