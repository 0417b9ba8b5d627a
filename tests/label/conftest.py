"""Structures, and an environment in which worker processes find the toy methods."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import ase
import pytest
import toy_methods
from ase.build import molecule


@pytest.fixture
def executions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Counter[str]]:
    """How often each structure was labelled to the end, by the methods' own log."""
    log = tmp_path / "executions"
    log.touch()
    monkeypatch.setenv(toy_methods.LOG, str(log))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    path = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(part for part in path if part))
    return lambda: Counter(log.read_text().split())


@pytest.fixture
def frames() -> Callable[..., list[ase.Atoms]]:
    """Distinct structures of a molecule."""

    def make(number: int, name: str = "CH3OH") -> list[ase.Atoms]:
        made = []
        for seed in range(number):
            atoms = molecule(name)
            atoms.rattle(0.05, seed=seed)
            atoms.info |= {"charge": 0.0, "spin": 0, "kind": "bottom-up", "group": name}
            made.append(atoms)
        return made

    return make
