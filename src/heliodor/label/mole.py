"""PySCF kept quiet: molecules whose failures have words, and no warnings meant for its own developers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from ase.data import atomic_numbers
from jaxtyping import Float

from heliodor.label.label import LabelError

_LAST_WITHOUT_CORE_POTENTIAL = 36
"""Krypton; the def2 bases replace inner shells of heavier elements by potentials made for them."""


def make_mole(
    symbols: Sequence[str],
    positions: Float[np.ndarray, "N 3"],
    charge: int,
    unpaired: int,
    basis: str,
    memory: int = 4000,
) -> Any:
    """PySCF's ``Mole``.

    Args:
        positions: Å.
        memory: MB that PySCF tries to stay under.

    Raises:
        LabelError: the basis has no functions for an element.
    """
    from pyscf import gto
    from pyscf.lib.exceptions import BasisNotFoundError

    heavy = {s for s in symbols if atomic_numbers[s] > _LAST_WITHOUT_CORE_POTENTIAL}
    try:
        return gto.M(
            atom=list(zip(symbols, positions.tolist(), strict=True)),
            unit="Angstrom",
            charge=charge,
            spin=unpaired,
            basis=basis,
            ecp=dict.fromkeys(heavy, basis) if basis.startswith("def2") else {},
            verbose=0,
            max_memory=memory,
            parse_arg=False,
        )
    except (BasisNotFoundError, KeyError) as error:
        raise LabelError(f"basis {basis}: {str(error).strip()} (elements {' '.join(sorted(set(symbols)))})") from None


@contextmanager
def quiet(threads: int | None = None) -> Iterator[None]:
    """Without PySCF's warnings, and with so many threads (None: as they are)."""
    from pyscf import lib

    with warnings.catch_warnings(), lib.with_omp_threads(threads):
        warnings.simplefilter("ignore")
        yield
