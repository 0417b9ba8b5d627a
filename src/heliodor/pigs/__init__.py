"""Path-integral coarse graining at an elevated temperature (Te PIGS): quantum nuclei in classical dynamics.

The centroids of the ring polymers of path-integral dynamics move on a potential of mean force. That of an elevated
temperature is smooth, and free of the curvature problem of centroid dynamics at low temperature; what it adds to the
potential is learned from the forces on the centroids by a small model. Classical dynamics on the sum, at the
temperature one is interested in, costs one evaluation a step and gives spectra with most of the quantum shifts.

Musil, Zaporozhets, Noé, Clementi & Kapil, J. Chem. Phys. 157, 181102 (2022).
"""

from __future__ import annotations

from heliodor.pigs.config import PigsChoices, read_pigs_choices
from heliodor.pigs.pipeline import coarse_grain

__all__ = ["PigsChoices", "coarse_grain", "read_pigs_choices"]
