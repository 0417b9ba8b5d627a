"""Known answers: shipped models reproduce them, other files do not, and what cannot be checked is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heliodor import registry
from heliodor.checkpoint import load_checkpoint, save_checkpoint
from heliodor.errors import CheckpointError, InputError
from heliodor.verify import UNITS, verify
from support import shared

TABLE = json.loads((registry.weights_folder() / "known" / "known_answers.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["so3lr", "heliodor-mini"])
def test_shipped_models(name):
    result = verify(name)
    assert result.passed
    assert result.official
    assert result.model == name
    assert len(result.answers) >= 3
    for answer in result.answers:
        assert answer.passed
        assert abs(answer.difference) < 1e-8
        assert answer.source and answer.tolerance_from


def test_the_table_says_where_everything_comes_from():
    assert set(TABLE["answers"]) <= set(registry.models())
    for items in TABLE["answers"].values():
        for item in items:
            assert item["structure"] in TABLE["structures"]
            assert item["unit"] in UNITS
            assert item["tolerance"] > 0.0 and item["tolerance_from"]
            source = TABLE["sources"][item["source"]]
            assert source["where"] and source["how"] and source["licence"]
    off = [name for name in registry.models() if name.startswith("mace-off")]
    assert len(off) == 4 and set(off) <= set(TABLE["answers"])


def test_the_sizes_of_mace_off_are_told_apart():
    """By toluene, whose energies differ by a tenth of a kJ/mol and more."""
    values = [
        (item["value"], item["tolerance"])
        for items in TABLE["answers"].values()
        for item in items
        if item["structure"] == "toluene"
    ]
    assert len(values) == 4
    for n, (a, tolerance) in enumerate(values):
        assert all(abs(a - b) > 2 * tolerance for b, _ in values[n + 1 :])


def test_another_model_under_a_known_name(tmp_path: Path):
    source = registry.find_model("heliodor-mini").path
    assert source is not None
    potential = load_checkpoint(source)
    next(potential.parameters()).data.mul_(1.001)
    save_checkpoint(potential, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="say with --as which model"):
        verify(tmp_path / "x.safetensors")
    result = verify(tmp_path / "x.safetensors", "heliodor-mini")
    assert not result.passed
    assert any(answer.passed is False for answer in result.answers)
    with pytest.raises(InputError, match="no known answers for nonsense"):
        verify(source, "nonsense")


def test_what_is_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(registry.ENVIRONMENT, str(tmp_path))
    with pytest.raises(CheckpointError, match="models fetch mace-off23-small"):
        verify("mace-off23-small")
    with pytest.raises(CheckpointError, match="no such model file"):
        verify(tmp_path / "absent.model")


def test_a_mace_file_that_is_not_the_official_one():
    """Random numbers in MACE-OFF23(S)'s layout: recognised by its hash, and by every energy."""
    path = shared("weights/mace/rand_OFF23_S.model")
    result = verify(path, "mace-off23-small")
    assert result.official is False
    assert "not the official file of mace-off23-small" in result.identity
    by_name = {answer.structure: answer for answer in result.answers}
    skipped = by_name.pop("alanine dipeptide in water, periodic")
    assert (skipped.passed, skipped.missing) == (None, "alanine-dipeptide-explicit.pdb")
    assert not any(answer.passed for answer in by_name.values())
    assert not result.passed
