"""The commands with a model of dipoles and polarizabilities: scores where there are some, refusals elsewhere."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import ase.io
import pytest
from ase.build import molecule

import heliodor
from dielectric_model import polarizable_model
from heliodor.checkpoint import save_checkpoint


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "response.safetensors"
    save_checkpoint(polarizable_model(), path, {"name": "response"})
    return path


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Labels off by known amounts; energies that the model does not predict."""
    potential, frames = polarizable_model(), []
    for seed in range(3):
        atoms = molecule("H2O")
        atoms.rattle(0.1, seed=seed)
        p = heliodor.evaluate(potential, atoms)
        atoms.info["REF_dipole"] = p.dipole[0].numpy() + 0.25
        atoms.info["REF_polarizability"] = p.polarizability[0].numpy() - 0.5
        atoms.info["REF_energy"] = 1.0
        frames.append(atoms)
    ase.io.write(tmp_path / "labelled.extxyz", frames)
    return tmp_path / "labelled.extxyz"


def test_eval_scores_dipoles_and_polarizabilities(cli, model: Path, labelled: Path) -> None:
    answer = cli("eval", labelled, "--model", model, "--device", "cpu", "--dtype", "float64", "--json", "-o", "scores")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert set(found["quantities"]) == {"dipole", "polarizability"}
    assert found["quantities"]["dipole"]["mae"] == pytest.approx(0.25, abs=1e-6)
    alpha = found["quantities"]["polarizability"]
    assert (alpha["unit"], alpha["count"], alpha["max"]) == ("e²Å²/eV", 27, pytest.approx(0.5, abs=1e-6))
    assert any("response does not predict energies" in note for note in found["notes"])
    assert Path("scores/parity_polarizability.png").is_file()
    with Path("scores/structures.csv").open() as file:
        row = next(csv.DictReader(file))
    assert float(row["polarizability_rmse_e2A2_per_eV"]) == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("command", ["md", "opt", "vib"])
def test_what_needs_energies_is_refused_and_leaves_nothing(cli, command: str, model: Path, labelled: Path) -> None:
    before = set(Path.cwd().iterdir())
    answer = cli(command, labelled, "--model", model, "--device", "cpu")
    assert answer.code == 2
    assert "response predicts charges, dipole, polarizability, but no energies or forces" in answer.err
    assert set(Path.cwd().iterdir()) == before
