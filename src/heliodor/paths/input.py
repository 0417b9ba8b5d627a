"""The XML that i-PI reads, everything in atomic units so that only our own conversions count."""

from __future__ import annotations

from xml.sax.saxutils import escape

import ase
import numpy as np

from heliodor.engines.ipi import ATOMIC_TIME, ELECTRON_MASS, PES_FILE
from heliodor.errors import InputError
from heliodor.paths.gle import drift
from heliodor.paths.settings import PathSettings
from heliodor.units import BAR, BOHR, BOLTZMANN, HARTREE

ENDLESS = 10**12
"""Steps: we count them ourselves."""

NO_CELL = 1000.0
"""Å, of the box that i-PI needs around molecules; the model never sees it."""

PISTON_TIME, CELL_FRICTION = 250.0, 100.0
"""fs; of the Bussi-Zykova-Parrinello barostat."""

OUTPUTS = """<output prefix='ipi'>
  <properties filename='out' stride='{stride}'> [ step, time{{femtosecond}}, conserved{{electronvolt}},
    temperature{{kelvin}}, potential{{electronvolt}}, kinetic_cv{{electronvolt}},
    kinetic_td{{electronvolt}}, pressure_cv{{megapascal}} ]
  </properties>
  <trajectory filename='pos' stride='{beads}'> positions{{angstrom}} </trajectory>
  <checkpoint filename='chk' stride='{save}' overwrite='True'/>
</output>"""


def input_xml(
    atoms: ase.Atoms,
    settings: PathSettings,
    parameters: dict[str, str],
    *,
    outputs: bool = True,
) -> str:
    """Of a run from the beginning, all beads of an atom on one spot and with thermal momenta.

    Steps are split as BAOAB (Leimkuhler & Matthews, J. Chem. Phys. 138, 174102 (2013)), whose positions, which all
    estimators come from, are sampled several times better than with i-PI's default (OBABO): at 8 beads, 300 K and 0.6
    fs it makes the kinetic energy of a hydrogen at 3285 cm⁻¹ 3.7 % too large, BAOAB 0.7 %. Momenta pay for it.

    Args:
        atoms: with the cell turned as i-PI wants it (`heliodor.engines.ipi.upright`).
        parameters: of `heliodor.engines.ipi_pes`.
        outputs: i-PI's own files; without, nothing is written and steps are endless.

    Raises:
        InputError: a pressure without a fully periodic cell.
    """
    if settings.pressure is not None and not atoms.pbc.all():
        raise InputError("a pressure needs a structure that is periodic in all directions")
    cell = np.array(atoms.cell) if atoms.pbc.any() else np.zeros((3, 3))
    for k in range(3):
        if not cell[k].any():
            cell[k, k] = NO_CELL
    masses = atoms.get_masses() / ELECTRON_MASS
    temperature = settings.temperature * BOLTZMANN / HARTREE
    n, beads = len(atoms), settings.beads
    steps = settings.steps if outputs else ENDLESS
    stride = settings.stride
    files = OUTPUTS.format(stride=stride, beads=settings.every_bead or ENDLESS, save=100 * stride) if outputs else ""
    ensemble = f"<temperature> {temperature:.17e} </temperature>"
    if settings.pressure is not None:
        ensemble += f"<pressure> {settings.pressure * BAR / HARTREE * BOHR**3:.17e} </pressure>"
    return f"""<simulation verbosity='{"low" if outputs else "quiet"}' floatformat='%24.16e' threading='False'
  safe_stride='{100 * stride if outputs else ENDLESS}'>
{files if outputs else "<output></output>"}
<total_steps> {steps} </total_steps>
<prng><seed> {settings.seed} </seed></prng>
<ffdirect name='heliodor' pbc='False' threaded='False'>
  <pes> custom </pes>
  <pes_path> {escape(str(PES_FILE))} </pes_path>
  <parameters> {escape(_dictionary(parameters))} </parameters>
  <batch_size> {beads} </batch_size>
</ffdirect>
<system>
  <beads natoms='{n}' nbeads='{beads}'>
    <q shape='({beads}, {3 * n})'> {_list(np.tile(atoms.positions / BOHR, (beads, 1)))} </q>
    <p shape='({beads}, {3 * n})'> {_list(np.zeros(beads * 3 * n))} </p>
    <m shape='({n})'> {_list(masses)} </m>
    <names shape='({n})'> [ {", ".join(atoms.get_chemical_symbols())} ] </names>
  </beads>
  <cell shape='(3, 3)'> {_list(cell.T / BOHR)} </cell>
  <initialize nbeads='{beads}'>
    <velocities mode='thermal'> {temperature:.17e} </velocities>
  </initialize>
  <ensemble> {ensemble} </ensemble>
  <forces><force forcefield='heliodor'> </force></forces>
  <motion mode='dynamics'>
    <fixcom> {settings.fixed_center} </fixcom>
    <dynamics mode='{"nvt" if settings.pressure is None else "npt"}' splitting='baoab'>
      <timestep> {settings.timestep / ATOMIC_TIME:.17e} </timestep>
      {_thermostat(settings)}
      {"" if settings.pressure is None else _barostat()}
    </dynamics>
  </motion>
</system>
</simulation>
"""


def _thermostat(settings: PathSettings) -> str:
    if settings.thermostat == "gle":
        matrix = drift(settings.temperature, settings.beads, settings.friction_time) * ATOMIC_TIME
        return f"<thermostat mode='gle'> <A shape='({len(matrix)}, {len(matrix)})'> {_list(matrix)} </A> </thermostat>"
    spectra = settings.thermostat == "trpmd"
    mode, damping = ("pile_g", 0.5) if spectra else ("pile_l", 1.0)
    tau = settings.centroid_time / ATOMIC_TIME
    return f"<thermostat mode='{mode}'> <tau> {tau:.17e} </tau> <pile_lambda> {damping} </pile_lambda> </thermostat>"


def _barostat() -> str:
    return (
        f"<barostat mode='isotropic'> <tau> {PISTON_TIME / ATOMIC_TIME:.17e} </tau> <thermostat mode='langevin'> "
        f"<tau> {CELL_FRICTION / ATOMIC_TIME:.17e} </tau> </thermostat> </barostat>"
    )


def _dictionary(parameters: dict[str, str]) -> str:
    """As i-PI reads it: without quotes, so that words hold no colons or commas."""
    for name, word in parameters.items():
        if set(word) & set(",:{}\n"):
            raise InputError(f"i-PI cannot read {name} {word!r}: it must not hold commas, colons or braces")
    return "{ " + ", ".join(f"{name}: {word}" for name, word in parameters.items()) + " }"


def _list(values: np.ndarray) -> str:
    return "[ " + ", ".join(f"{value:.17e}" for value in np.ravel(values)) + " ]"
