"""OpenMM: any heliodor potential as a force of an OpenMM system.

OpenMM's Python callbacks (`openmm.PythonForce`) get the state of a step and return energy and forces.
"""

from heliodor.engines.openmm.force import NM, Force, openmm_force
from heliodor.engines.openmm.start import check_simulation
from heliodor.engines.openmm.system import openmm_system, openmm_topology

__all__ = ["NM", "Force", "check_simulation", "openmm_force", "openmm_system", "openmm_topology"]
