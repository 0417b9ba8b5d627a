"""Free energies by well-tempered metadynamics, through OpenMM's ``Metadynamics`` class.

variables = phi_psi(atoms, 2)
result = metadynamics("heliodor-s", atoms, variables, Settings(time="1 ns"), output="metad.h5")
"""

from __future__ import annotations

from heliodor.metadynamics.averages import reweighted_average, reweighted_couplings, weighted_average
from heliodor.metadynamics.peptides import peptide_torsion, phi_psi
from heliodor.metadynamics.result import Result, read_result
from heliodor.metadynamics.run import metadynamics
from heliodor.metadynamics.settings import Settings
from heliodor.metadynamics.variables import Variable, distance, torsion

__all__ = [
    "Result",
    "Settings",
    "Variable",
    "distance",
    "metadynamics",
    "peptide_torsion",
    "phi_psi",
    "read_result",
    "reweighted_average",
    "reweighted_couplings",
    "torsion",
    "weighted_average",
]
