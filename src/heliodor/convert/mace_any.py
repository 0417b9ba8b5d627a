"""From any MACE file that heliodor computes to a model, by the class the file holds."""

from __future__ import annotations

from pathlib import Path

from heliodor.convert.mace import build_mace
from heliodor.convert.mace_dielectric import MODEL, build_dielectric
from heliodor.convert.mace_file import read_mace
from heliodor.potential import Potential
from heliodor.registry import official_model


def convert_model(path: str | Path, head: str | None = None) -> Potential:
    """Energies (`heliodor.convert.mace`) or dipoles and polarizabilities (`heliodor.convert.mace_dielectric`).

    An official file is known by its SHA-256, and gets its licence and citation into its card.

    Args:
        head: which level of theory, of a file that holds several.

    Raises:
        CheckpointError: not such a file, damaged, untrusted, of an architecture that is not computed exactly, or with
            several heads of which none is chosen.
    """
    file = read_mace(path, head)
    model: Potential = build_dielectric(file, path) if file.model == MODEL else build_mace(file, path, head)
    known = official_model(file.sha256)
    if known is not None:
        # whatever the file is called, its licence holds, and every command states it
        model.card |= {"licence": known.licence, "citation": known.citation}
    return model
