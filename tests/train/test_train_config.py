"""A training run from YAML: fields, files, division, models, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
import pytest
import torch
import yaml
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from heliodor.checkpoint import save_checkpoint
from heliodor.choices import override
from heliodor.errors import InputError, MissingExtraError
from heliodor.potentials.sum import Sum
from heliodor.train.events import Events
from heliodor.train.files.config import documented, explain, read_config, tables
from heliodor.train.files.job import prepare
from heliodor.train.files.outlook import describe
from heliodor.train.files.sources import load_sets
from heliodor.train.models import new_model
from heliodor.train.references import References
from heliodor.train.settings import TrainSettings

DOCS = Path(__file__).resolve().parents[2] / "docs" / "training.md"
NAMES = ("H2O", "CH4", "NH3", "CH3OH", "C2H6")
TINY = {"preset": "small", "n_features": 16, "n_modules": 1}


def nothing(what: str, done: int, of: int) -> None:
    pass


def frames(each: int = 4, **info: Any) -> list[ase.Atoms]:
    """Energies of -10 eV an electron, forces of 1 eV/Å along x."""
    rng = np.random.default_rng(5)
    found = []
    for name in NAMES:
        for _ in range(each):
            frame = molecule(name)
            frame.positions += rng.normal(scale=0.03, size=frame.positions.shape)
            frame.info = {"group": name, **info}
            forces = np.zeros((len(frame), 3))
            forces[:, 0] = 1.0
            frame.calc = SinglePointCalculator(frame, energy=-10.0 * sum(frame.numbers), forces=forces)
            found.append(frame)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ase.io.write(tmp_path / "data.extxyz", frames(), format="extxyz")
    return tmp_path


def values(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "data": {"training": "data.extxyz", "validation_share": 0.2},
        "model": {"architecture": "spookynet", "size": TINY},
        "training": {"epochs": 2, "batch_size": 4},
    }
    for name, part in changes.items():
        base[name] = {**base.get(name, {}), **part}
    return base


def test_documented_and_documents() -> None:
    """Every field has a meaning; the page holds the tables as they are generated; the explained YAML is a valid one."""
    rows = documented()
    assert all(text for _, _, _, text in rows)
    settings = [name for room, name, _, _ in rows if room == "training"]
    assert settings == list(TrainSettings.__dataclass_fields__)
    assert tables() in DOCS.read_text()
    parsed = yaml.safe_load(explain())
    parsed["data"]["training"] = ["x.extxyz"]
    parsed["model"]["architecture"] = "mace"
    parsed["training"] = {k: v for k, v in parsed["training"].items() if v is not None} | {"epochs": 3}
    config = read_config(parsed, Path())
    assert config.settings == TrainSettings(epochs=3)


def test_names_that_do_not_exist(folder: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"dta": {}}, "unknown entry dta; did you mean 'data'"),
        ({"data": {"trainig": "x"}}, "unknown entry data.trainig; did you mean 'training'"),
        ({"model": {"architektur": "mace"}}, "unknown entry model.architektur; did you mean 'architecture'"),
        ({"model": {"architecture": "spokynet"}}, "not 'spokynet'; did you mean 'spookynet'"),
        ({"training": {"learning_rat": 1}}, "training has no setting 'learning_rat'; did you mean 'learning_rate'"),
        ({"references": {"kind": "fited"}}, "did you mean 'fitted'"),
        ({"references": {"kind": "isolated"}}, "references.energies: give the energies"),
        ({"references": {"energies": {"Xy": 1.0}}}, "'Xy' is none"),
        ({"data": {"split": "molecules"}}, "did you mean 'molecule'"),
        ({"data": {"validation_share": 1.5}}, "data.validation_share lies between 0 and 1"),
        ({"data": {"validation_share": 0.0}}, "a validation_share above 0"),
        ({"data": {"max_force": -1.0}}, "data.max_force must be above zero"),
        ({"data": {"structures": "all"}}, "data.structures should be a whole number"),
        ({"data": {"max_force": "1 e-1"}}, "data.max_force should be a number"),
        ({"data": {"training": []}}, "data.training: name the files"),
        ({"base": {}}, "unknown entry base"),
        ({"finetune": {"modell": "so3lr"}}, "finetune has no setting 'modell'; did you mean 'model'"),
    ]
    for changes, words in cases:
        with pytest.raises(InputError) as caught:
            read_config(values(**changes), folder)
        assert words in str(caught.value), str(caught.value)
    with pytest.raises(InputError, match="give an architecture"):
        read_config({"data": {"training": "data.extxyz"}, "training": {"epochs": 1}}, folder)


def test_override() -> None:
    found = override({"training": {"epochs": 3}, "output": None}, ["training.learning_rate=1e-4", "output.folder=b"])
    assert found == {"training": {"epochs": 3, "learning_rate": "1e-4"}, "output": {"folder": "b"}}
    assert TrainSettings.from_mapping(found["training"]).learning_rate == 1e-4
    # YAML reads 1e-1 as text
    assert read_config(values(data={"max_force": "1e-1"}), Path()).data.max_force == 0.1
    assert override({}, ["model.size={preset: small}"]) == {"model": {"size": {"preset": "small"}}}
    for change, words in (
        ("training", "NAME=VALUE"),
        ("training.=1", "NAME=VALUE"),
        ("data.training.x=1", "holds no further names"),
        ("a=[", "value"),
    ):
        with pytest.raises(InputError, match=words):
            override({"data": {"training": "x"}}, [change])


def test_division_by_molecule(folder: Path) -> None:
    config = read_config(values(data={"test_share": 0.2}), folder)
    sets = load_sets(config, nothing)
    assert sets.test is not None
    assert [len(part) for part in (sets.training, sets.validation, sets.test)] == [12, 4, 4]
    parts = [set(part.group) for part in (sets.training, sets.validation, sets.test)]
    assert set.union(*parts) == set(NAMES) and sum(map(len, parts)) == 5
    again = load_sets(config, nothing)
    np.testing.assert_array_equal(again.validation.positions, sets.validation.positions)
    # by frames, and with other files
    mixed = load_sets(read_config(values(data={"split": "frame"}), folder), nothing)
    assert len(mixed.validation) == 4 and len(set(mixed.training.group)) == 5
    other = load_sets(read_config(values(data={"validation": "data.extxyz", "structures": 7}), folder), nothing)
    assert len(other.training) == 7 and len(other.validation) == 20 and other.test is None


def test_units_keys_and_filters(tmp_path: Path) -> None:
    found = frames(2)
    for frame in found:
        frame.info["e"], frame.arrays["f"] = -10.0, np.full((len(frame), 3), 1.0)
        frame.calc = None
    found[0].arrays["f"][1, 2] = 80.0
    found[-1].positions[0] = found[-1].positions[1] + [0.1, 0.0, 0.0]
    ase.io.write(tmp_path / "data.extxyz", found, format="extxyz")
    keys = {"keys": {"energy": "e", "forces": "f"}, "energy_unit": "kcal/mol", "split": "frame"}
    sets = load_sets(read_config(values(data={**keys, "max_force": 3.0, "min_distance": 0.25}), tmp_path), nothing)
    assert len(sets.training) + len(sets.validation) == 8
    np.testing.assert_allclose(sets.training.energy, -10.0 * 0.0433641, rtol=1e-6)
    np.testing.assert_allclose(sets.training.forces, 0.0433641, rtol=1e-6)
    assert sum("left out" in note for note in sets.notes) == 2
    with pytest.raises(InputError, match="no structures are left"):
        load_sets(read_config(values(data={**keys, "max_force": 1e-3}), tmp_path), nothing)


def test_data_that_cannot_be(folder: Path) -> None:
    def refused(words: str, **data: Any) -> None:
        with pytest.raises(InputError) as caught:
            load_sets(read_config(values(data=data), folder), nothing)
        assert words in str(caught.value), str(caught.value)

    refused("there is no file", training="none.extxyz")
    refused("has no key 'ref_energy' for energy", keys={"energy": "ref_energy"})
    refused("data.validation_share: the part 'validation' would be empty", validation_share=0.01)
    refused("the part 'test' would be empty", test_share=0.02)
    refused("nothing is left to train on", validation_share=0.5, test_share=0.5)
    bad = frames()
    bad[3].calc.results["energy"] = float("nan")
    ase.io.write(folder / "nan.extxyz", bad, format="extxyz")
    refused("structure 3", training="nan.extxyz")
    refused("data.keep_nan: true", training="nan.extxyz")
    kept = load_sets(read_config(values(data={"training": "nan.extxyz", "keep_nan": True}), folder), nothing)
    assert np.isnan(np.concatenate([kept.training.energy, kept.validation.energy])).sum() == 1
    # cations beside molecules, without a column for the charge
    mixed = [
        *frames(),
        *(
            ase.Atoms("H4N", frame.positions[[1, 2, 3, 0, 0]] + [[0, 0, 0.9 * k] for k in range(5)])
            for frame in frames()[8:9]
        ),
    ]
    mixed[-1].calc = SinglePointCalculator(mixed[-1], energy=1.0, forces=np.zeros((5, 3)))
    ase.io.write(folder / "mixed.extxyz", mixed, format="extxyz")
    refused("1 of 21 structures have electrons that do not fit their charge and spin", training="mixed.extxyz")
    refused("mix charge states without saying so", training="mixed.extxyz")
    assert load_sets(read_config(values(data={"training": "mixed.extxyz", "check_electrons": False}), folder), nothing)


def test_models_and_references(folder: Path) -> None:
    job = prepare(read_config(values(model={"elements": ["S"]}), folder))
    assert job.model.elements == (1, 6, 7, 8, 16)
    kept = References.from_card(job.model.card)
    # energies are -10 eV an electron, which elements explain exactly
    assert kept is not None and kept.energies[8] == pytest.approx(-80.0, abs=1e-6)
    given = {"energies": {"H": -10.0, "C": -60.0, "N": -70.0, "O": -80.5, "S": -160.0}}
    kept = References.from_card(prepare(read_config(values(references=given), folder)).model.card)
    assert kept is not None and kept.energies[8] == -80.5 and kept.origin == "isolated atoms"
    kept = References.from_card(prepare(read_config(values(references={"kind": "none"}), folder)).model.card)
    assert kept is not None and set(kept.energies.values()) == {0.0}
    with pytest.raises(InputError, match="no reference energy for"):
        prepare(read_config(values(references={"energies": {"H": -10.0}}), folder))
    with pytest.raises(InputError, match="'Xx9' is no element"):
        prepare(read_config(values(model={"elements": ["Xx9"]}), folder))
    # the words of a dry run are those of the data
    lines = dict(describe(job).lines)
    assert lines["training"].startswith("16 structures, ") and "energy, forces" in lines["training"]
    assert lines["loss"] == "robust: energy 1, forces 1"
    assert "about 4 batches an epoch; ends after 2 epochs (about 8 steps)" in lines["length"]
    assert f"{sum(p.numel() for p in job.model.parameters()):,} parameters" in lines["model"]


def test_checkpoint(folder: Path) -> None:
    job = prepare(read_config(values(), folder))
    save_checkpoint(job.model, folder / "old.safetensors", job.model.card)
    trained = {"checkpoint": "old.safetensors", "size": "medium"}
    again = prepare(read_config(values(model=trained), folder)).model
    for name, value in job.model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value)
    with pytest.raises(InputError, match=r"is of the architecture spookynet, but model\.architecture says mace"):
        prepare(read_config(values(model={**trained, "architecture": "mace"}), folder))
    with pytest.raises(InputError, match="a trained one keeps its own"):
        prepare(read_config(values(model={"checkpoint": "old.safetensors"}), folder))
    outside = new_model("spookynet", TINY, (1, 8), _water(folder))
    save_checkpoint(outside, folder / "water.safetensors", outside.card)
    save_checkpoint(Sum(job.model, [copy.deepcopy(job.model)]), folder / "sum.safetensors")
    with pytest.raises(InputError, match="is a sum of a model and a correction, which is not trained as a whole"):
        prepare(read_config(values(model={**trained, "checkpoint": "sum.safetensors"}), folder))
    with pytest.raises(InputError, match=r"hold C, N, which spookynet does not know"):
        prepare(read_config(values(model={**trained, "checkpoint": "water.safetensors"}), folder))


def _water(folder: Path) -> Any:
    sets = load_sets(read_config(values(data={"validation": "data.extxyz"}), folder), nothing)
    return sets.training.take(np.flatnonzero(sets.training.group == "H2O"))


def test_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    rows = [{"step": float(k), "validation_forces_mae": 1.0 / (k + 1), "learning_rate": 0.1} for k in range(3)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="heliodor\\[train\\]"):
        Events(tmp_path / "none")
    monkeypatch.undo()
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for ends in (2, 3):
        # a second process goes on, and what the first one wrote is not shown twice
        events = Events(tmp_path / "events")
        for end in range(1, ends + 1):
            events.write(rows[:end])
        events.close()
    read = EventAccumulator(str(tmp_path / "events"))
    read.Reload()
    found = [(event.step, event.value) for event in read.Scalars("validation/forces_mae")]
    assert found == [(0, 1.0), (1, 0.5), (2, pytest.approx(1.0 / 3.0))]
    assert [event.step for event in read.Scalars("run/learning_rate")] == [0, 1, 2]
