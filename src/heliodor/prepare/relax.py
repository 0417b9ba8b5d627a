"""Relaxation and equilibration with a classical force field, by OpenMM: what takes clashes out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from heliodor.errors import InputError, SimulationError
from heliodor.prepare.prepared import NANOMETRE, Progress, nanometres, openmm

FORCE_FIELDS: dict[str, tuple[str, ...]] = {
    "amber99sb-ildn": ("amber99sbildn.xml", "tip3p.xml"),
    "ff14sb": ("amber14-all.xml", "amber14/tip3p.xml"),
}
"""Files of OpenMM by the name of the force field; water is TIP3P in both."""

DEFAULT_FORCE_FIELD = "amber99sb-ildn"

STIFFNESS = 1000.0
"""kJ/mol/nm² (2.4 kcal/mol/Å²) of the springs that hold atoms where they are."""

CUTOFF = 1.0
"""nm, of the forces in real space of boxes; electrostatics beyond it by particle mesh Ewald."""

GAS_PHASE_ATOMS = 3000
"""More than so many atoms without a box see each other within `GAS_PHASE_CUTOFF` only (with a reaction field)."""

GAS_PHASE_CUTOFF = 1.5
"""nm."""

TOLERANCE = 10.0
"""kJ/mol/nm; root mean square force at the end of a minimisation (OpenMM's own default)."""


@dataclass(frozen=True, eq=False)
class Relaxation:
    """What came of a relaxation.

    Attributes:
        positions: nm.
        box: nm, rows are vectors; None in gas phase.
        before, after: potential energy of the force field, kJ/mol.
        moved: largest displacement of a heavy atom, Å, solvent left out.
        protocol: what was done, in words.
    """

    positions: Float[np.ndarray, "N 3"]
    box: Float[np.ndarray, "3 3"] | None
    before: float
    after: float
    moved: float
    protocol: str


@dataclass(frozen=True)
class Equilibration:
    """Lengths and targets of an equilibration with the classical force field.

    The order is the usual one for a protein in water, in the manner of what GEMS (Unke et al., Sci. Adv. 10, eadn4397,
    2024, section S2) did before its own dynamics: minimise, heat at fixed volume with the solute's heavy atoms held,
    let the box find its volume with the springs still on, then release them in steps.

    Attributes:
        temperature: K.
        pressure: bar.
        heating: ps at constant volume, solute held; from 10 K to the temperature in ten steps.
        pressing: ps at constant pressure, solute held.
        releasing: ps at constant pressure, in four equal parts with springs of 1/2, 1/5, 1/20 and 0 of their stiffness.
        step: fs, with bonds to hydrogen and water rigid.
    """

    temperature: float = 300.0
    pressure: float = 1.0
    heating: float = 20.0
    pressing: float = 40.0
    releasing: float = 40.0
    step: float = 2.0

    def __post_init__(self) -> None:
        values = (self.temperature, self.heating, self.pressing, self.releasing, self.step)
        if not all(0.0 < value < float("inf") for value in values):
            raise InputError("temperature, lengths and time step of an equilibration must be above zero")


SHAPE = 1e-3
"""nm; single precision and boxes of some nanometres leave this much at most."""

SMALL = 1000
"""Atoms below which one thread is as fast as several, and gives the same bits each time."""


def force_field(name: str = DEFAULT_FORCE_FIELD, *more: str) -> Any:
    """An ``openmm.app.ForceField``.

    Args:
        name: one of `FORCE_FIELDS`.
        more: further files of OpenMM, for lipids for example.

    Raises:
        InputError: unknown name.
    """
    if name not in FORCE_FIELDS:
        raise InputError(f"there is no force field {name!r} to prepare with: {' or '.join(FORCE_FIELDS)}")
    return openmm().app.ForceField(*FORCE_FIELDS[name], *more)


def parametrised(topology: Any, field: Any, *, rigid: bool = False, **options: Any) -> Any:
    """An ``openmm.System``: PME in a box; in gas phase all pairs, or a cutoff for large solutes (`GAS_PHASE_ATOMS`).

    Args:
        rigid: keep bonds to hydrogen and water rigid, for dynamics.

    Raises:
        InputError: residues the force field does not know, naming them; a box too small.
    """
    mm = openmm()
    app = mm.app
    periodic = topology.getPeriodicBoxVectors() is not None
    large = topology.getNumAtoms() > GAS_PHASE_ATOMS
    method = app.PME if periodic else app.CutoffNonPeriodic if large else app.NoCutoff
    cutoff = min(CUTOFF, 0.49 * _thickness(topology)) if periodic else GAS_PHASE_CUTOFF
    missing = field.getUnmatchedResidues(topology)
    if missing:
        raise InputError(_unknown(missing))
    try:
        return field.createSystem(
            topology,
            nonbondedMethod=method,
            nonbondedCutoff=cutoff * mm.unit.nanometer,
            constraints=app.HBonds if rigid else None,
            rigidWater=rigid,
            **options,
        )
    except ValueError as error:
        raise InputError(f"the force field cannot describe this system: {error}") from error


def relaxed(
    topology: Any,
    positions: Any,
    field: Any,
    *,
    held: Sequence[int] = (),
    stiffness: float = STIFFNESS,
    tolerance: float = TOLERANCE,
    iterations: int = 0,
    progress: Progress | None = None,
    system: Any = None,
) -> Relaxation:
    """Minimise the force field's energy (L-BFGS of OpenMM).

    Args:
        topology: of OpenMM; its box decides on periodicity.
        positions: nm.
        field: from `force_field`.
        held: atoms on springs to where they start.
        stiffness: of the springs, kJ/mol/nm².
        tolerance: root mean square force, kJ/mol/nm.
        iterations: 0 for as many as it takes.
        system: instead of one made of ``field``.

    Raises:
        InputError: residues the force field does not know.
        SimulationError: the energy is not finite at the end.
    """
    mm = openmm()
    start = nanometres(positions)
    system = parametrised(topology, field) if system is None else system
    if len(held):
        _springs(system, start, held, stiffness)
    context = _context(system, mm.VerletIntegrator(0.001), start)
    before = _energy(context)
    _minimise(context, tolerance, iterations, progress, "minimising")
    after = _energy(context)
    found = _positions(context)
    _check_finite(after, found)
    free = "" if not len(held) else f", {len(held)} atoms held by springs of {stiffness:g} kJ/mol/nm²"
    return Relaxation(
        found,
        _box(context, topology),
        before,
        after,
        _moved(topology, start, found),
        f"minimised to {tolerance:g} kJ/mol/nm{free}",
    )


def equilibrated(
    topology: Any,
    positions: Any,
    field: Any,
    *,
    protocol: Equilibration = Equilibration(),
    held: Sequence[int] = (),
    stiffness: float = STIFFNESS,
    frozen: Sequence[int] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> Relaxation:
    """Minimise, heat, find the volume, release: see `Equilibration`. Langevin thermostat, Monte Carlo barostat.

    In gas phase there is no volume and so no barostat; the rest is the same. Ends with the coordinates of the last
    step, rigid bonds still at their lengths.

    Args:
        topology, positions, field: as `relaxed`.
        held: atoms on springs until the release: as a rule the solute's heavy atoms.
        frozen: atoms that never move, but with the whole solute, and keep their shape.
        seed: of velocities, thermostat and barostat.

    Raises:
        InputError: residues the force field does not know.
        SimulationError: the dynamics left the range of numbers.
    """
    mm = openmm()
    unit = mm.unit
    periodic = topology.getPeriodicBoxVectors() is not None
    given = nanometres(positions)
    still = sorted({*map(int, held), *map(int, frozen)}) if periodic else []
    # the barostat scales the places of molecules about the origin: what is held must be one molecule and stay there
    middle = given[still].mean(0) if still else np.zeros(3)
    start = given - middle
    system = parametrised(topology, field, rigid=True)
    for atom in frozen:
        system.setParticleMass(int(atom), 0.0)
    _springs(system, start, held, stiffness)
    _as_one(system, still)
    barostat = None
    if periodic:
        barostat = mm.MonteCarloBarostat(protocol.pressure * unit.bar, protocol.temperature * unit.kelvin, 0)
        barostat.setRandomNumberSeed(seed + 1)
        system.addForce(barostat)
    integrator = mm.LangevinMiddleIntegrator(10.0, 1.0 / unit.picosecond, protocol.step * unit.femtosecond)
    integrator.setRandomNumberSeed(seed + 1)
    context = _context(system, integrator, start)
    before = _energy(context)
    _minimise(context, TOLERANCE, 0, progress, "minimising")
    context.setVelocitiesToTemperature(10.0, seed + 1)
    for k in range(1, 11):
        integrator.setTemperature(protocol.temperature * k / 10)
        _run(context, integrator, protocol.heating / 10, protocol.step, progress, "heating", (k - 1) / 10, k / 10)
    if barostat is not None:
        # the frequency is read when the context is made anew
        barostat.setFrequency(25)
        context.reinitialize(preserveState=True)
    _run(context, integrator, protocol.pressing, protocol.step, progress, "finding the volume", 0.0, 1.0)
    for k, part in enumerate((0.5, 0.2, 0.05, 0.0)):
        if len(held):
            context.setParameter("stiffness", stiffness * part)
        _run(context, integrator, protocol.releasing / 4, protocol.step, progress, "releasing", k / 4, (k + 1) / 4)
    found, after = _positions(context), _energy(context)
    _check_finite(after, found)
    found = _put_back(found, given, frozen, middle)
    volume = f"; {protocol.pressing:g} ps at {protocol.pressure:g} bar" if periodic else f"; {protocol.pressing:g} ps"
    return Relaxation(
        found,
        _box(context, topology),
        before,
        after,
        _moved(topology, given, found),
        f"minimised; heated to {protocol.temperature:g} K in {protocol.heating:g} ps at fixed volume with {len(held)} "
        f"atoms held by {stiffness:g} kJ/mol/nm²{volume}; released in four steps over {protocol.releasing:g} ps; "
        f"{protocol.step:g} fs steps, bonds to hydrogen rigid",
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """OpenMM's own contexts on the CPU add up forces in one order here, so that the same input gives the same bits."""
    mm = openmm()
    names = [mm.Platform.getPlatform(k).getName() for k in range(mm.Platform.getNumPlatforms())]
    if "CPU" not in names:
        yield
        return
    platform = mm.Platform.getPlatform("CPU")
    kept = platform.getPropertyDefaultValue("Threads")
    platform.setPropertyDefaultValue("Threads", "1")
    try:
        yield
    finally:
        platform.setPropertyDefaultValue("Threads", kept)


@contextmanager
def random_numbers(seed: int) -> Iterator[None]:
    """OpenMM and PDBFixer draw from the random numbers of Python and NumPy: seeded here, put back afterwards."""
    import random

    kept, kept_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(kept)
        np.random.set_state(kept_numpy)  # noqa: NPY002


def _context(system: Any, integrator: Any, positions: Float[np.ndarray, "N 3"]) -> Any:
    mm = openmm()
    fastest = max(
        (mm.Platform.getPlatform(k) for k in range(mm.Platform.getNumPlatforms())), key=lambda p: float(p.getSpeed())
    )
    properties = {}
    if "DeterministicForces" in fastest.getPropertyNames():
        properties["DeterministicForces"] = "true"
    if fastest.getName() == "CPU" and system.getNumParticles() < SMALL:
        # several threads add up forces in any order, and gain nothing here
        properties["Threads"] = "1"
    context = mm.Context(system, integrator, fastest, properties)
    context.setPositions(positions)
    return context


def _springs(system: Any, start: Float[np.ndarray, "N 3"], held: Sequence[int], stiffness: float) -> None:
    mm = openmm()
    periodic = bool(system.usesPeriodicBoundaryConditions())
    distance = "periodicdistance(x, y, z, x0, y0, z0)^2" if periodic else "((x-x0)^2+(y-y0)^2+(z-z0)^2)"
    springs = mm.CustomExternalForce(f"0.5*stiffness*{distance}")
    springs.addGlobalParameter("stiffness", stiffness)
    for name in ("x0", "y0", "z0"):
        springs.addPerParticleParameter(name)
    for atom in held:
        springs.addParticle(int(atom), start[atom].tolist())
    system.addForce(springs)


def _as_one(system: Any, atoms: Sequence[int]) -> None:
    """Bonds without stiffness between atoms, which OpenMM's barostat then moves as one molecule."""
    if len(atoms) < 2:
        return
    bonds = openmm().HarmonicBondForce()
    for i, j in itertools.pairwise(atoms):
        bonds.addBond(i, j, 0.0, 0.0)
    system.addForce(bonds)


def _put_back(
    found: Float[np.ndarray, "N 3"],
    given: Float[np.ndarray, "N 3"],
    frozen: Sequence[int],
    middle: Float[np.ndarray, "3"],
) -> Float[np.ndarray, "N 3"]:
    """Positions back where they were: by what was frozen, whose shape must be as it was, else the middle."""
    if not len(frozen):
        return found + middle
    still = np.asarray(frozen, dtype=np.int64)
    moved = found[still] - given[still]
    shift: Float[np.ndarray, "3"] = moved.mean(0)
    if np.abs(moved - shift).max() > SHAPE:
        raise SimulationError(
            f"what was to be left alone changed its shape by {np.abs(moved - shift).max() * NANOMETRE:.3f} Å during "
            "the equilibration: leave --equilibrate out, or the ligand"
        )
    back = found - shift
    back[still] = given[still]
    return back


def _minimise(context: Any, tolerance: float, iterations: int, progress: Progress | None, what: str) -> None:
    mm = openmm()
    reporter = None
    if progress is not None:
        tell = progress

        class Reporter(mm.MinimizationReporter):  # type: ignore[misc, name-defined]
            def report(self, iteration: int, x: Any, gradient: Any, numbers: Any) -> bool:
                # how many it takes is not known beforehand; some hundreds are usual
                tell(what, iteration / (iteration + 300.0))
                return False

        reporter = Reporter()
    mm.LocalEnergyMinimizer.minimize(context, tolerance, iterations, reporter)
    if progress is not None:
        progress(what, 1.0)


def _run(
    context: Any,
    integrator: Any,
    length: float,
    step: float,
    progress: Progress | None,
    what: str,
    first: float,
    last: float,
) -> None:
    """``length`` ps in pieces, so that progress can be told and an explosion is seen."""
    mm = openmm()
    steps = max(1, round(length * 1000.0 / step))
    done = 0
    while done < steps:
        piece = min(250, steps - done)
        try:
            integrator.step(piece)
        except mm.OpenMMException as error:
            raise SimulationError(
                f"the equilibration failed while {what}: {error}; a clash is left, or the box is far too dense"
            ) from error
        done += piece
        if progress is not None:
            progress(what, first + (last - first) * done / steps)


def _energy(context: Any) -> float:
    unit = openmm().unit
    return float(context.getState(getEnergy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole))


def _positions(context: Any) -> Float[np.ndarray, "N 3"]:
    unit = openmm().unit
    found = context.getState(getPositions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    return np.array(found, dtype=np.float64)


def _box(context: Any, topology: Any) -> Float[np.ndarray, "3 3"] | None:
    if topology.getPeriodicBoxVectors() is None:
        return None
    return nanometres(context.getState().getPeriodicBoxVectors())


def _moved(topology: Any, start: Float[np.ndarray, "N 3"], end: Float[np.ndarray, "N 3"]) -> float:
    from heliodor.prepare.prepared import WATERS

    solute = [a.index for a in topology.atoms() if a.residue.name not in WATERS and a.element.atomic_number > 1]
    return float(np.linalg.norm(end[solute] - start[solute], axis=1).max()) * NANOMETRE if solute else 0.0


def _check_finite(energy: float, positions: Float[np.ndarray, "N 3"]) -> None:
    if not (np.isfinite(energy) and np.isfinite(positions).all()):
        raise SimulationError(
            "the classical relaxation ended in numbers that are not finite: look for atoms on one spot"
        )


def _thickness(topology: Any) -> float:
    """nm, of the box along its thinnest direction."""
    box = nanometres(topology.getPeriodicBoxVectors())
    return float(1.0 / np.linalg.norm(np.linalg.inv(box), axis=0).max())


def _unknown(residues: Sequence[Any]) -> str:
    from heliodor.prepare.prepared import label

    shown = ", ".join(dict.fromkeys(label(residue) for residue in residues[:6]))
    more = f" and {len(residues) - 6} more" if len(residues) > 6 else ""
    return (
        f"the force field has no parameters for {shown}{more}: atoms or bonds are missing in them, or they are no "
        "amino acids, nucleotides, water or common ions; leave them out, or choose not to relax and not to solvate"
    )
