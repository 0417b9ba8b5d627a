"""Torsion drives: relaxed energies over one or two dihedrals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heliodor.lazy import attach

if TYPE_CHECKING:
    from heliodor.scan.drive import torsion_scan
    from heliodor.scan.grid import Axis
    from heliodor.scan.profile import Profile, compare, read_profile
    from heliodor.scan.result import Scan

__all__ = ["Axis", "Profile", "Scan", "compare", "read_profile", "torsion_scan"]

_HOMES = {
    "Axis": "heliodor.scan.grid",
    "Profile": "heliodor.scan.profile",
    "Scan": "heliodor.scan.result",
    "compare": "heliodor.scan.profile",
    "read_profile": "heliodor.scan.profile",
    "torsion_scan": "heliodor.scan.drive",
}


__getattr__, __dir__ = attach(__name__, _HOMES)
