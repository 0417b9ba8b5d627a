"""heliodor train: dry run, run, resume, test set, overrides, one line for what cannot be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import yaml
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

import heliodor

CONFIG = {
    "data": {"training": "data.extxyz", "validation_share": 0.2, "test_share": 0.2, "split": "frame"},
    "model": {"architecture": "mace", "size": {"preset": "small", "channels": 4}},
    "training": {"epochs": 2, "batch_size": 4, "warmup_steps": 2, "threads": 1, "plot_every": 1},
    "output": {"folder": "out"},
}


@pytest.fixture
def config(in_folder: Path) -> Path:
    """Twenty structures bound by springs to their geometry, and how to fit them."""
    rng = np.random.default_rng(2)
    frames = []
    for k in range(20):
        frame = molecule(("H2O", "CH4")[k % 2])
        step = rng.normal(scale=0.05, size=frame.positions.shape)
        frame.positions += step
        frame.info["kind"] = ("water", "methane")[k % 2]
        frame.calc = SinglePointCalculator(frame, energy=float(5.0 * np.square(step).sum()), forces=-10.0 * step)
        frames.append(frame)
    ase.io.write("data.extxyz", frames, format="extxyz")
    path = Path("config.yaml")
    path.write_text(yaml.safe_dump(CONFIG))
    return path


def test_dry_run(cli: Callable[..., Any], config: Path) -> None:
    answer = cli("train", config, "--dry-run")
    assert answer.code == 0, answer.err
    assert "training     12 structures" in answer.out and "kinds: methane" in answer.out
    assert "about 3 batches an epoch; ends after 2 epochs (about 6 steps)" in answer.out
    assert "out: model.safetensors" in answer.out and "test.json" in answer.out
    assert not Path("out").exists()
    numbers = json.loads(cli("train", config, "--dry-run", "--json", "--set", "training.batch_size=12").out)
    assert numbers["batches_per_epoch"] == 1 and numbers["training"]["structures"] == 12
    assert sum(numbers["training"]["kinds"].values()) == 12
    # three atoms a water, five a methane
    atoms = 3 * numbers["training"]["kinds"]["water"] + 5 * numbers["training"]["kinds"]["methane"]
    assert numbers["training"]["labels"] == {"energy": 12, "forces": atoms}


def test_run_and_again(cli: Callable[..., Any], config: Path) -> None:
    answer = cli("train", config)
    assert answer.code == 0, answer.err
    for word in ("validation", "test", "water (", "methane (", "forces meV/Å", "energy meV/atom", "heliodor eval"):
        assert word in answer.out, answer.out
    names = {path.name for path in Path("out").iterdir()}
    assert names == {
        *("model.safetensors", "log.csv", "result.json", "curves.png", "parity.png"),
        *("config.yaml", "test.json", "parity_test.png"),
    }
    # the test set's errors, from the checkpoint and the file by another way
    told = json.loads(Path("out/test.json").read_text())["all"]["forces"]
    used = yaml.safe_load(Path("out/config.yaml").read_text())
    assert used["training"] == CONFIG["training"] and used["data"]["split"] == "frame"
    model = heliodor.load("out/model.safetensors", device="cpu", dtype="float32")
    frames = ase.io.read("data.extxyz", ":")
    errors = [np.abs(heliodor.evaluate(model, f).forces.numpy() - f.get_forces()).mean() for f in frames]  # type: ignore[union-attr]
    assert min(errors) < told["mae"] < max(errors)
    before = Path("out/result.json").read_bytes()
    again = cli("train", config, "--json")
    assert again.code == 0 and Path("out/result.json").read_bytes() == before
    assert json.loads(again.out)["validation"]["all"] == json.loads(before)["errors"]["all"]
    # other settings in the same folder
    refused = cli("train", config, "--set", "training.learning_rate=1e-4")
    assert refused.code == 2 and "other data, settings or another model" in refused.error
    assert yaml.safe_load(Path("out/config.yaml").read_text()) == used
    # scored by the command that the page points to
    scored = cli("eval", "data.extxyz", "--model", "out/model.safetensors", "--output", "scores", "--no-plots")
    assert scored.code == 0, scored.err


def test_goes_on_after_a_kill(cli: Callable[..., Any], config: Path, in_folder: Path) -> None:
    # pictures take longer than everything else together
    changes = ("training.epochs=30", "training.checkpoint_minutes=1e-6", "training.plot_every=0")
    long = [word for change in changes for word in ("--set", change)]
    assert cli("train", config, *long, "--set", "output.folder=whole").code == 0
    environment = {**os.environ, "PYTHONPATH": str(Path(heliodor.__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-m", "heliodor", "train", "config.yaml", *long], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 300.0
        while time.monotonic() < deadline and process.poll() is None:
            if Path("out/log.csv").is_file() and len(Path("out/log.csv").read_text().splitlines()) > 3:
                break
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert Path("out/state.pt").is_file() and not Path("out/result.json").exists()
    assert cli("train", config, *long).code == 0
    assert not Path("out/state.pt").exists()
    one, two = (Path(f"{name}/model.safetensors").read_bytes() for name in ("out", "whole"))
    errors = [json.loads(Path(f"{name}/test.json").read_text()) for name in ("out", "whole")]
    assert errors[0] == errors[1] and len(one) == len(two)


def test_only_the_first_process_speaks(cli: Callable[..., Any], config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    answer = cli("train", config, "--dry-run")
    assert answer.code == 0 and answer.out == "" and answer.err == ""


def test_what_cannot_be(cli: Callable[..., Any], config: Path, in_folder: Path) -> None:
    def refused(words: str, *options: str) -> None:
        answer = cli("train", config, "--dry-run", *options)
        assert answer.code == 2 and words in answer.error, answer.err

    refused("config.yaml: unknown entry data.trainig; did you mean 'training'", "--set", "data.trainig=x")
    refused("training has no setting 'epoch'; did you mean 'epochs'", "--set", "training.epoch=3")
    refused("--set wants NAME=VALUE", "--set", "training.epochs")
    refused("there is no file", "--set", "data.training=none.extxyz")
    refused("has no key 'E_dft'", "--set", "data.keys={energy: E_dft}")
    refused("no model called 'nothing'", "--set", "model={checkpoint: nothing}")
    assert cli("train").code == 2 and "which configuration" in cli("train").error
    assert "there is no file nothing.yaml" in cli("train", "nothing.yaml").error


def test_explain(cli: Callable[..., Any]) -> None:
    answer = cli("train", "--explain")
    assert answer.code == 0
    assert set(yaml.safe_load(answer.out)) == {"data", "model", "references", "training", "finetune", "output"}
