"""What several test modules need: where the reference data lie, and how they are read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import ase
import numpy as np
import pytest

DATA = Path(__file__).parent / "data"
TERMS = {"so3krates": "e_so3k", "zbl": "e_zbl", "electrostatics": "e_elec", "dispersion": "e_disp"}


def shared(relative: str) -> Path:
    """A path inside the shared folder of reference data (HELIODOR_SHARED, else ../shared); skips where absent."""
    root = Path(os.environ.get("HELIODOR_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    path = root / relative
    if not path.exists():
        pytest.skip(f"needs the shared reference data: no {path} (set HELIODOR_SHARED)")
    return path


@dataclass(frozen=True)
class Reference:
    """Float64 output of the reference code for one structure; `values` by the names it uses."""

    name: str
    values: dict[str, np.ndarray]

    @property
    def cutoff(self) -> float | None:
        value = float(self.values["lr_cutoff"])
        return None if np.isnan(value) else value

    @property
    def atoms(self) -> ase.Atoms:
        v = self.values
        return ase.Atoms(
            numbers=v["numbers"],
            positions=v["positions"],
            cell=v.get("cell"),
            pbc="cell" in v,
            info={"charge": float(v["total_charge"]), "spin": int(v["num_unpaired_electrons"])},
        )


def embedded_references() -> list[Reference]:
    """The few that lie beside the tests (tests/data/README.md)."""
    grouped: dict[str, dict[str, np.ndarray]] = {}
    with np.load(DATA / "so3lr_reference.npz", allow_pickle=False) as file:
        for key in file.files:
            name, quantity = key.split("/")
            grouped.setdefault(name, {})[quantity] = file[key]
    return [Reference(name, values) for name, values in grouped.items()]


def shared_references() -> list[Reference]:
    """All of them; skips where the shared folder is absent."""
    found = []
    for path in sorted(shared("reference/so3lr").glob("*.npz")):
        if not path.name.startswith("intermediates"):
            with np.load(path, allow_pickle=False) as file:
                found.append(Reference(path.stem, {key: file[key] for key in file.files}))
    return found
