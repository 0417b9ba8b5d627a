"""Reference values of the original SpookyNet, and our models to compare with them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import ase
import ase.io
import numpy as np

import heliodor
from heliodor.api import load
from heliodor.potentials.spookynet import SpookyNet
from support import DATA, shared

HERE = DATA / "spookynet"
FILES = {
    "parameters": "spookynet-gfn2",
    "random_T3F64": "random_T3F64.pth",
    "random_legacy_T2F32_rc3.7": "random_legacy_T2F32.safetensors",
    "random_ssp_noD4_T2F32_rc4.5": "random_ssp_noD4_T2F32.pth",
}
TERMS = {"spookynet": "ea", "zbl": "ea_rep", "electrostatics": "ea_ele", "dispersion": "ea_vdw"}


def frames(path: Path = HERE / "structures.extxyz") -> dict[str, ase.Atoms]:
    """Structures by name."""
    found = {}
    for atoms in ase.io.read(path, ":"):
        atoms.info["spin"] = atoms.info.pop("unpaired")
        found[atoms.info["name"]] = atoms
    return found


@cache
def model(name: str, cutoff: float | None = None) -> SpookyNet:
    """One of the models in float64, as if it had been trained with this long-range cutoff."""
    source = FILES[name]
    path = source if source in heliodor.models() else HERE / source
    if isinstance(path, Path) and not path.exists():
        path = shared(f"weights/spookynet/{source}")
    loaded = load(path, device="cpu", dtype="float64")
    return at_cutoff(loaded, cutoff)


def at_cutoff(loaded: SpookyNet, cutoff: float | None) -> SpookyNet:
    """The same parameters with another long-range cutoff: another model, for comparison only."""
    other = SpookyNet(replace(loaded.config, long_range_cutoff=cutoff)).double()
    other.load_state_dict(loaded.state_dict())
    return other.eval().requires_grad_(False)


def split(stem: str) -> tuple[str, float | None]:
    """Model and cutoff of a file or key such as ``parameters__lr10.583544`` (which stands for 20 Bohr)."""
    name, _, cutoff = stem.partition("__lr")
    if cutoff == "None":
        return name, None
    return name, 20.0 * 0.5291772105638411 if cutoff == "10.583544" else float(cutoff)


def embedded() -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """``[model with cutoff][structure][quantity]`` beside the tests."""
    with np.load(HERE / "reference.npz") as file:
        return _nested({key: file[key] for key in file.files})


def everything() -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """The same of the shared folder."""
    found: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for path in sorted(shared("reference/spookynet").glob("*__lr*.npz")):
        with np.load(path) as file:
            found |= _nested({f"{path.stem}/{key}": file[key] for key in file.files})
    return found


def _nested(flat: dict[str, np.ndarray]) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    found: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for key, value in flat.items():
        stem, structure, quantity = key.rsplit("/", 2)
        found.setdefault(stem, {}).setdefault(structure, {})[quantity] = value
    return found
