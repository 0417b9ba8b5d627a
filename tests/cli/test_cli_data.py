"""heliodor data: what it prints, writes and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from heliodor.train.dataset import open_dataset


@pytest.fixture
def labelled() -> Path:
    """Sixty frames of methanol on a harmonic surface about its rest, exactly labelled."""
    rest, rng, frames = molecule("CH3OH"), np.random.default_rng(5), []
    for k in range(60):
        atoms = rest.copy()
        atoms.positions += 0.03 * rng.normal(size=(6, 3))
        apart = atoms.get_all_distances() - rest.get_all_distances()
        unit = atoms.get_all_distances(vector=True) / (atoms.get_all_distances() + np.eye(6))[:, :, None]
        forces = 5.0 * (apart[:, :, None] * unit).sum(1)
        atoms.calc = SinglePointCalculator(atoms, energy=-3140.0 + 1.25 * float((apart**2).sum()), forces=forces)
        atoms.info["config_type"] = "warm" if k % 3 else "cold"
        frames.append(atoms)
    ase.io.write("set.extxyz", frames, format="extxyz")
    return Path("set.extxyz")


def test_check(cli: Callable[..., object], labelled: Path) -> None:
    answer = cli("data", "check", labelled)
    assert answer.code == 0, answer.out
    assert "energy: 'energy' in eV" in answer.out and "0 errors, 0 warnings" in answer.out
    wrong = cli("data", "check", labelled, "--force-unit", "hartree/bohr", "--json")
    assert wrong.code == 1
    record = json.loads(wrong.out)
    assert record["consistency"]["verdict"] == "units" and record["errors"] >= 1
    twice = cli("data", "check", labelled, labelled)
    assert twice.code == 1 and "in several files" in twice.out


def test_convert_split_stats(cli: Callable[..., object], labelled: Path) -> None:
    answer = cli("data", "convert", labelled, "-o", "all.shelf", "--method", "springs", "--max-force", "0.7")
    assert answer.code == 0, answer.err
    kept = open_dataset("all.shelf")
    assert f"written      {len(kept)} of 60" in answer.out and 0 < len(kept) < 60
    assert f"left out     {60 - len(kept)}: forces too strong" in answer.out
    assert kept.method == "springs" and np.linalg.norm(kept.forces, axis=1).max() < 0.7
    answer = cli("data", "split", labelled, "-o", "part", "--parts", "train=40,test=20", "--stratify", "--h5")
    assert answer.code == 0, answer.err
    parts = [open_dataset(f"part-{name}.h5") for name in ("train", "test")]
    assert [len(part) for part in parts] == [40, 20]
    assert not set(parts[0].energy) & set(parts[1].energy)
    answer = cli("data", "stats", "part-train.h5", "--plot", "s.png", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["elements"] == {"H": 160, "C": 40, "O": 40}
    assert Path("s.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("check", "none.xyz"), "there is no file none.xyz"),
        (("check", "set.extxyz", "--energy-key", "E"), "has no key 'E' for energy"),
        (("convert", "set.extxyz", "-o", "set.extxyz"), "exists"),
        (("convert", "set.extxyz", "-o", "o.shelf", "--units", "eel"), "no unit of energy"),
        (("split", "set.extxyz", "-o", "p", "--parts", "train"), "--parts is written"),
        (("split", "set.extxyz", "-o", "p", "--by", "molecule"), "the part 'valid' would be empty"),
        (("stats", "thing.doc"), "cannot tell from the name"),
    ],
)
def test_refusals(cli: Callable[..., object], labelled: Path, words: tuple[str, ...], said: str) -> None:
    Path("thing.doc").write_text("x")
    answer = cli("data", *words)
    assert answer.code == 2
    assert said in answer.error
