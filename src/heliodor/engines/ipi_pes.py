"""The file that i-PI loads by path (``<pes>custom</pes>``, ``i-pi-py_driver -m custom -P``).

It must not be called ipi.py: i-PI enters such a file into `sys.modules` under the name it has. Parameters:
``structure`` (a file), ``model`` (heliodor-s if not given), ``charge``, ``spin``, ``compare`` (false where i-PI goes on
from a restart file), ``device``, ``dtype``, ``kernels``. The model is loaded when the first positions come.
"""

from __future__ import annotations

from typing import Any

try:
    from ipi.pes.dummy import Dummy_driver
except ImportError:
    from heliodor.errors import MissingExtraError

    raise MissingExtraError("ipi", "ipi") from None

__DRIVER_NAME__ = "heliodor"
__DRIVER_CLASS__ = "HeliodorDriver"


class HeliodorDriver(Dummy_driver):  # type: ignore[misc]
    """Energies, forces, virials and dipoles from a heliodor model."""

    def check_parameters(self) -> None:
        from heliodor.errors import InputError

        known = {"structure", "model", "charge", "spin", "compare", "device", "dtype", "kernels", "verbosity"}
        for name in self.kwargs:
            if name not in known:
                raise InputError(f"{name!r} is no parameter of heliodor's i-PI driver: {', '.join(sorted(known))}")
        if "structure" not in self.kwargs:
            raise InputError("heliodor's i-PI driver needs the parameter 'structure': the file that i-PI starts from")
        self.beads: Any = None

    def compute(self, cell: Any, pos: Any) -> Any:
        if self.beads is None:
            self.beads = _load(dict(self.kwargs))
        if isinstance(cell, list):
            return self.beads(cell, pos)
        return self.beads([cell], [pos])[0]

    def compute_structure(self, cell: Any, pos: Any) -> Any:
        return self.compute(cell, pos)


def _load(given: dict[str, Any]) -> Any:
    import ase
    import ase.io

    from heliodor.engines.ipi import Beads, upright

    given.pop("verbosity", None)
    atoms = ase.io.read(given.pop("structure"))
    assert isinstance(atoms, ase.Atoms)
    charge, spin = given.pop("charge", None), given.pop("spin", None)
    compare = str(given.pop("compare", True)).strip().lower() not in ("false", "0", "no")
    return Beads(
        given.pop("model", "heliodor-s"),
        upright(atoms),
        charge=None if charge is None else float(charge),
        spin=None if spin is None else int(spin),
        compare=compare,
        **given,
    )
