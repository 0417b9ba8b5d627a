"""From any MACE file that heliodor computes to a model, by the class the file holds."""

from __future__ import annotations

from pathlib import Path

from heliodor.convert.mace import build_mace
from heliodor.convert.mace_dielectric import MODEL, build_dielectric
from heliodor.convert.mace_file import read_mace
from heliodor.potential import Potential


def convert_model(path: str | Path) -> Potential:
    """Energies (`heliodor.convert.mace`) or dipoles and polarizabilities (`heliodor.convert.mace_dielectric`).

    Raises:
        CheckpointError: not such a file, damaged, untrusted, of an architecture that is not computed exactly, or with
            several heads.
    """
    file = read_mace(path)
    return build_dielectric(file, path) if file.model == MODEL else build_mace(file, path)
