"""i-PI inside this process: made from XML, stepped by us, its state taken and given back as XML."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from heliodor.engines.ipi import Beads
from heliodor.errors import InputError, MissingExtraError
from heliodor.units import BAR, BOHR, BOLTZMANN, HARTREE


class Ring:
    """One simulation of i-PI, whose forces come from `Beads` in this process.

    Its own loop, files and signal handlers are left aside: what is stored and when is the caller's.

    Raises:
        MissingExtraError: i-PI is not installed.
        InputError: i-PI cannot read the XML.
    """

    def __init__(self, xml: str, beads: Beads) -> None:
        try:
            from ipi.engine.simulation import Simulation
            from ipi.inputs.simulation import InputSimulation
            from ipi.utils.softexit import softexit
        except ImportError:
            raise MissingExtraError("ipi", "ipi") from None

        def use(simulation: Any) -> None:
            for field in simulation.fflist.values():
                field.driver = _Direct(beads)

        said = io.StringIO()
        with _quiet(said):
            try:
                self._simulation = Simulation.load_from_xml(xml, custom_verbosity="quiet", post_init_hook=use)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(f"i-PI cannot start from its input: {error}; {said.getvalue()[-300:]}") from error
            finally:
                # gives the signals back, and ends the thread that watches for a file called EXIT
                softexit.reset()
        self._input = InputSimulation
        self._system = self._simulation.syslist[0]
        self.step = int(self._simulation.step)
        self.pes = beads

    def advance(self) -> None:
        """One step."""
        self._simulation.step = self.step
        with _quiet(io.StringIO()):
            self._simulation.run_step(self.step)
        self.step += 1

    def state(self) -> str:
        """XML from which a run goes on, bit for bit but for the neighbour lists."""
        self._simulation.step = self.step
        taken = self._input()
        taken.store(self._simulation)
        with _written_fast():
            text: str = taken.write(name="simulation")
        return text

    @property
    def positions(self) -> Float[np.ndarray, "P N 3"]:
        """Å."""
        return _array(self._system.beads.q) * BOHR

    @property
    def forces(self) -> Float[np.ndarray, "P N 3"]:
        """eV/Å."""
        return _array(self._system.forces.f) * (HARTREE / BOHR)

    @property
    def cell(self) -> Float[np.ndarray, "3 3"]:
        """Å, rows are lattice vectors."""
        return np.ascontiguousarray(np.array(self._system.cell.h, dtype=np.float64).T) * BOHR

    def measured(self, boxed: bool) -> dict[str, float]:
        """`heliodor.paths.result.PROPERTIES` as they are now; pressure and volume only of a box."""
        cell = self.cell
        pressure = self._of("pressure_cv") * HARTREE / BOHR**3 / BAR if boxed else np.nan
        return {
            "step": float(self.step),
            "temperature": self._of("temperature") * HARTREE / BOLTZMANN,
            "conserved": self._of("conserved") * HARTREE,
            "potential": self._of("potential") * HARTREE,
            "kinetic_primitive": self._of("kinetic_td") * HARTREE,
            "kinetic_virial": self._of("kinetic_cv") * HARTREE,
            "pressure": pressure,
            "volume": float(abs(np.linalg.det(cell))) if boxed else np.nan,
        }

    def _of(self, name: str) -> float:
        value, _, _ = self._system.properties[name]
        return float(value)


class _Direct:
    """Between i-PI's call, a list of structures or one, and ours."""

    def __init__(self, beads: Beads) -> None:
        self._beads = beads

    def __call__(self, cell: Any, pos: Any) -> Any:
        if isinstance(cell, list):
            return self._beads(cell, pos)
        return self._beads([cell], [pos])[0]


@contextlib.contextmanager
def _quiet(into: io.StringIO) -> Iterator[None]:
    with warnings.catch_warnings(), contextlib.redirect_stdout(into):
        # i-PI's own, of deprecated names
        warnings.filterwarnings("ignore", module="ipi")
        yield


@contextlib.contextmanager
def _written_fast() -> Iterator[None]:
    """Each array is put into words once, and at once.

    i-PI does it number by number, in a time that goes with the square of their count, and twice at each level it is
    nested in: 7 s for 64 water molecules of 32 beads with coloured noise, at each save; so 0.5 s.
    """
    from ipi.utils.inputvalue import Input, InputArray
    from ipi.utils.io.inputs.io_xml import write_type

    texts: dict[int, str] = {}

    def write(array: Any, name: str = "", indent: str = "") -> Any:
        if id(array) not in texts:
            numbers = ", ".join([write_type(array.type, value) for value in array.value])
            texts[id(array)] = f" [ {numbers}".rstrip(", ") + " ] "
        return Input.write(array, name=name, indent=indent, text=texts[id(array)])

    slow = InputArray.write
    InputArray.write = write
    try:
        yield
    finally:
        InputArray.write = slow


def _array(values: Any) -> np.ndarray:
    found = np.array(values, dtype=np.float64)
    return found.reshape(len(found), -1, 3)
