"""heliodor pigs: options into choices, files, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from ase.build import molecule
from typer.testing import CliRunner

from heliodor.cli import pigs
from heliodor.stages import Record

runner = CliRunner()
# with a second command the first one keeps its name
app = typer.Typer()
pigs.register(app)
app.command("other")(lambda: None)


@pytest.fixture
def water(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    molecule("H2O").write(tmp_path / "water.xyz")
    return tmp_path / "water.xyz"


def test_options_win_over_the_file(water, monkeypatch):
    asked = {}

    def stand_in(model, atoms, folder, choices, **options):
        asked.update(model=model, atoms=atoms, folder=folder, choices=choices, **options)
        return {"paths": Record("", {}, facts={"frames": 3})}

    monkeypatch.setattr("heliodor.pigs.pipeline.coarse_grain", stand_in)
    Path("pigs.yaml").write_text("paths: {beads: 8, temperature: 700}\nseed: 4\n")
    command = "pigs water.xyz -m so3lr -c pigs.yaml --elevated 600 -T 250 --time 1ps --charge 0 --json"
    result = runner.invoke(app, [*command.split(), "--set", "train.epochs=7", "--long-range-cutoff", "9"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["stages"]["paths"]["frames"] == 3
    choices = asked["choices"]
    assert (choices.paths.temperature, choices.paths.beads, choices.paths.time) == (600.0, 8, "1ps")
    assert (choices.temperature, choices.seed, choices.charge, choices.train["epochs"]) == (250.0, 4, 0.0, 7)
    assert (asked["long_range_cutoff"], asked["dtype"], asked["kernels"]) == (9.0, "float32", "auto")
    assert asked["folder"] == Path("pigs-water") and asked["model"] == "so3lr" and len(asked["atoms"]) == 3


def test_explain():
    result = runner.invoke(app, ["pigs", "--explain"])
    assert result.exit_code == 0
    assert "temperature: 500.0  # K, the elevated one." in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("pigs", "which structure, and which model"),
        ("pigs water.xyz -m so3lr --elevated 100", "cannot be below"),
        ("pigs water.xyz -m so3lr --long-range-cutoff far", "must be a number of Å, 'none' or 'auto', not 'far'"),
        ("pigs nowhere.xyz -m so3lr", "there is no file"),
    ],
)
def test_refusals(water, arguments, words):
    result = runner.invoke(app, arguments.split())
    assert words in str(result.exception)
