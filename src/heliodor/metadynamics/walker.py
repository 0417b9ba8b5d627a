"""The walker: an OpenMM context that openmm.app.Metadynamics moves and biases.

Traps of OpenMM's class (8.6.1), seen and kept out of the way here:
- it takes in every ``bias_*.npy`` of its ``biasDir``, whatever variables or settings these came from, and writes its
  own only now and then; so the bias is kept in our restart file and handed over through a folder of one run;
- its arrays have the last variable first;
- its grid includes both ends (the documentation of ``getFreeEnergy`` says otherwise), so that the first and last
  point of a periodic variable are the same;
- beyond the grid of a distance the bias is zero: the grid has to reach over the walls.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase
import numpy as np
from jaxtyping import Float

from heliodor.engines.openmm import openmm_force
from heliodor.errors import HeliodorError, InputError, MissingExtraError, SimulationError
from heliodor.metadynamics.settings import Settings
from heliodor.metadynamics.variables import NM, Variable, walls
from heliodor.potential import Potential
from heliodor.units import KJ_PER_MOL

if TYPE_CHECKING:
    import openmm

MODEL, WALLS = 0, 1
"""Force groups."""

NEVER = 10**12
"""Steps between files that OpenMM would write by itself."""

PLATFORM = "Reference"
"""Double precision, and random numbers that a checkpoint holds; all the work is in the model anyway."""


class Walker:
    """A system under bias; has what `openmm.app.Metadynamics.step` asks of a simulation.

    Args:
        variables: checked (`check_variables`).
        bias: kJ/mol, in OpenMM's order of axes, to begin with.

    Raises:
        MissingExtraError: OpenMM is not installed.
        InputError, ModelError: what the model, or OpenMM, cannot take.
    """

    def __init__(
        self,
        potential: Potential,
        atoms: ase.Atoms,
        variables: Sequence[Variable],
        settings: Settings,
        bias: np.ndarray | None = None,
    ) -> None:
        try:
            import openmm
            from openmm import app
        except ImportError:
            raise MissingExtraError("openmm", "openmm") from None
        self.variables, self.settings = tuple(variables), settings
        periodic = bool(atoms.pbc.any())
        system = openmm.System()
        for mass in atoms.get_masses():
            system.addParticle(float(mass))
        if periodic:
            set_box(system, atoms)
        model = openmm_force(potential, atoms)
        model.setForceGroup(MODEL)
        system.addForce(model)
        held = walls(variables, settings.wall, periodic)
        if held is not None:
            held.setForceGroup(WALLS)
            system.addForce(held)
        self._meta = self._metadynamics(app, system, periodic, bias)
        self._bias = system.getForce(system.getNumForces() - 1)
        integrator = openmm.LangevinMiddleIntegrator(
            settings.temperature, settings.friction, settings.timestep_fs * 1e-3
        )
        # OpenMM takes 0 for a seed to be drawn
        seed = settings.seed % (2**31 - 2) + 1
        integrator.setRandomNumberSeed(seed)
        self._error: type[Exception] = openmm.OpenMMException
        self.context = openmm.Context(system, integrator, openmm.Platform.getPlatform(PLATFORM))
        self._integrator = integrator
        self.context.setPositions(atoms.positions / NM)
        # of the same seed, the noise of the first steps would be the numbers that made the velocities
        self.context.setVelocitiesToTemperature(settings.temperature, 2**31 - 1 - seed)
        self._seen = (np.zeros(len(self.variables)), 0.0)

    def _metadynamics(self, app: Any, system: openmm.System, periodic: bool, bias: np.ndarray | None) -> Any:
        biased = []
        for v in self.variables:
            grid = v.grid
            biased.append(
                app.BiasVariable(
                    v.force(periodic),
                    float(grid[0]) * v.scale,
                    float(grid[-1]) * v.scale,
                    v.width * v.scale,
                    v.periodic,
                    len(grid),
                )
            )
        s = self.settings
        # it draws a number for its files from the generator everyone uses
        random = np.random.get_state()  # noqa: NPY002
        try:
            with tempfile.TemporaryDirectory() as folder:
                if bias is not None:
                    # numbers drawn by OpenMM are smaller, so that this is taken for another walker's
                    np.save(Path(folder) / f"bias_{2**40}_0.npy", bias)
                return app.Metadynamics(
                    system,
                    biased,
                    s.temperature,
                    s.bias_factor,
                    s.height / KJ_PER_MOL,
                    s.stride_steps,
                    NEVER * s.stride_steps,
                    folder,
                )
        finally:
            np.random.set_state(random)  # noqa: NPY002

    @property
    def currentStep(self) -> int:
        """Under the name by which OpenMM asks for it."""
        return int(self.context.getStepCount())

    def step(self, count: int) -> None:
        """Called by OpenMM: move, and look at variables and bias before the next Gaussian is put there."""
        self._integrator.step(count)
        self._seen = (self.values(), self.energy({self._bias.getForceGroup()}))

    def advance(self) -> tuple[Float[np.ndarray, "D"], float, float]:
        """One stride and its Gaussian: values of the variables (° and Å), bias there before (eV), height added (eV).

        Raises:
            SimulationError: the run has become unstable.
        """
        s = self.settings
        try:
            self._meta.step(self, s.stride_steps)
        except (self._error, HeliodorError) as error:
            raise self.stopped(str(error)) from error
        values, bias = self._seen
        if not np.isfinite([*values, bias]).all():
            raise self.stopped("the collective variables are no longer finite numbers")
        return values, bias, s.height * float(np.exp(-bias / (s.kt * (s.bias_factor - 1.0))))

    def stopped(self, why: str) -> SimulationError:
        """The error to raise where the dynamics cannot go on."""
        told = " ".join(why.split())
        return SimulationError(
            f"the metadynamics became unstable after step {self.currentStep}: {told}; take a shorter timestep, lower "
            "or wider Gaussians, or relax the structure first"
        )

    def values(self) -> Float[np.ndarray, "D"]:
        """Of the variables, ° and Å."""
        scales = np.array([v.scale for v in self.variables])
        found = np.asarray(self._bias.getCollectiveVariableValues(self.context), dtype=np.float64)
        return found / scales

    def energy(self, groups: set[int]) -> float:
        """eV, of some force groups."""
        state = self.context.getState(energy=True, groups=groups)
        return float(state.getPotentialEnergy()._value) * KJ_PER_MOL

    def frame(self) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"], float]:
        """Positions (Å), velocities (Å/fs), energy of the model (eV), which costs one more evaluation."""
        positions, velocities = self.motion()
        try:
            return positions, velocities, self.energy({MODEL})
        except (self._error, HeliodorError) as error:
            raise self.stopped(str(error)) from error

    def motion(self) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"]]:
        """Positions (Å) and velocities (Å/fs)."""
        state = self.context.getState(positions=True, velocities=True)
        positions = np.asarray(state.getPositions(asNumpy=True)._value) * NM
        # nm/ps
        velocities = np.asarray(state.getVelocities(asNumpy=True)._value) * (NM * 1e-3)
        return positions, velocities

    @property
    def bias(self) -> np.ndarray:
        """The bias on its grid, kJ/mol, to the last bit, in OpenMM's order of axes."""
        shape = tuple(len(v.grid) for v in reversed(self.variables))
        given = self._bias.getTabulatedFunction(0).getFunctionParameters()
        table = given[0] if len(self.variables) == 1 else given[2]
        return np.array(table, dtype=np.float64).reshape(shape)

    def save(self) -> bytes:
        """OpenMM's own checkpoint: positions, velocities, step, random numbers."""
        return bytes(self.context.createCheckpoint())

    def load(self, checkpoint: bytes) -> bool:
        """Whether the checkpoint could be taken: it is of the same version of OpenMM."""
        try:
            self.context.loadCheckpoint(checkpoint)
        except self._error:
            return False
        return True

    def place(self, positions: np.ndarray, velocities: np.ndarray, step: int) -> None:
        """Go on from positions (Å) and velocities (Å/fs) at a step; random numbers are new."""
        self.context.setPositions(positions / NM)
        self.context.setVelocities(velocities / (NM * 1e-3))
        self.context.setStepCount(step)
        self.context.setTime(step * self.settings.timestep_fs * 1e-3)


def set_box(system: openmm.System, atoms: ase.Atoms) -> None:
    """OpenMM's periodic box.

    Raises:
        InputError: a box that is not periodic in all directions or not in OpenMM's form.
    """
    import openmm

    if not atoms.pbc.all():
        raise InputError("OpenMM knows boxes that are periodic in all directions and molecules without any, no slabs")
    vectors = [openmm.Vec3(*(float(x) / NM for x in row)) for row in np.asarray(atoms.cell)]
    try:
        system.setDefaultPeriodicBoxVectors(*vectors)
        # it is looked at when a context is made
        openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform(PLATFORM))
    except openmm.OpenMMException as error:
        raise InputError(
            f"OpenMM does not take this cell ({' '.join(str(error).split())}): turn the structure so that a lies along "
            "x and b in the plane of x and y, and choose the shortest vectors"
        ) from None
