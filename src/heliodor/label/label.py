"""Label: what a method of quantum chemistry says about one structure; Method: what gives it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import ase
import numpy as np
from jaxtyping import Float

from heliodor.errors import HeliodorError


class LabelError(HeliodorError):
    """A structure could not be labelled; the message says why and what was tried."""


class NotConvergedError(LabelError):
    """The self-consistent field did not converge: worth another try with more effort."""


@dataclass(frozen=True, eq=False)
class Label:
    """Results for N atoms.

    Attributes:
        energy: eV, of the whole structure: the method's own total energy, electrons and nuclei.
        forces: eV/Å.
        dipole: e·Å, about the origin of the coordinates (what sum(q R) gives).
        hirshfeld_ratios: effective over free atomic volume.
        charges: partial charges, e, of whatever kind the method's documentation says.
        terms: eV, parts of the energy by name, such as "dispersion".
        notes: what a reader of the result should know.
        node_energies: eV, energies of the atoms by a teacher's network, without its physical terms.
        stress: eV/Å³, of periodic structures.
    """

    energy: float
    forces: Float[np.ndarray, "N 3"] | None = None
    dipole: Float[np.ndarray, "3"] | None = None
    hirshfeld_ratios: Float[np.ndarray, "N"] | None = None
    charges: Float[np.ndarray, "N"] | None = None
    terms: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    node_energies: Float[np.ndarray, "N"] | None = None
    stress: Float[np.ndarray, "3 3"] | None = None


@runtime_checkable
class Method(Protocol):
    """A level of theory, ready to run; made by `heliodor.label.methods.find_method` from its name.

    Attributes:
        name: canonical, such as ``"gfn2"``, ``"pbe0-mbd/def2-svp"``, ``"wb97m-d3bj/def2-tzvppd"``,
            ``"teacher:so3lr"``. The same name always means the same numbers, within the versions.
        versions: of the programs whose numbers these are.
        efforts: how many settings there are to try, from the quickest to the most stubborn.
    """

    name: str
    versions: dict[str, str]
    efforts: int

    def __call__(self, atoms: ase.Atoms, effort: int = 0) -> Label:
        """Label one structure; charge and unpaired electrons come from ``atoms.info["charge"]``, ``["spin"]``.

        Args:
            effort: 0 to ``efforts`` - 1.

        Raises:
            NotConvergedError: with this effort; a larger one may.
            LabelError: the structure is outside the method.
        """
        ...
