"""Runs of two processes, of accumulated batches, of lists found batch by batch: the same curve as one of one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import molecule

import heliodor
from heliodor.errors import InputError
from heliodor.label.label import Label
from heliodor.train import trainer, validation
from heliodor.train.dataset import Dataset
from heliodor.train.models import new_model
from heliodor.train.parallel import Processes, processes
from heliodor.train.settings import TrainSettings
from heliodor.train.trainer import train

TINY = {"n_features": 16, "n_heads": 2, "degrees": [1, 2], "n_layers": 1, "n_basis": 8, "n_hirshfeld": 8}
EXACT = {"precision": "float64", "threads": 1, "plot_every": 0}
SCRIPT = """
import sys
from pathlib import Path
from heliodor.errors import HeliodorError
from heliodor.train.dataset import Dataset
from heliodor.train.models import new_model
from heliodor.train.settings import TrainSettings
from heliodor.train.trainer import train
folder = Path(sys.argv[1])
data = Dataset.read(folder / "data.h5")
model = new_model("so3lr", {size}, data.elements, data)
settings = TrainSettings.from_mapping({settings})
try:
    for name in sys.argv[2:]:
        train(model, data, data, folder / name, settings, lambda f, w, name=name: print(f"{{name}}: {{w}}", flush=True))
except HeliodorError as error:
    sys.exit(f"{{type(error).__name__}}: {{error}}")
"""


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Molecules of several sizes; some labels missing, so that parts of a batch have different numbers of them."""
    rng = np.random.default_rng(4)
    frames, labels = [], []
    for k in range(14):
        frame = molecule(("H2O", "CH3OH", "NH3", "C2H6")[k % 4])
        frame.positions += rng.normal(scale=0.05, size=frame.positions.shape)
        frame.info |= {"group": f"m{k}"}
        forces = rng.normal(size=frame.positions.shape)
        forces[: k % 3] = np.nan
        frames.append(frame)
        labels.append(Label(float(rng.normal()) if k % 5 else np.nan, forces, rng.normal(size=3)))
    return Dataset.from_atoms(frames, labels, method="random")


def start(data: Dataset, folder: Path, values: dict[str, Any], names: tuple[str, ...]) -> list[subprocess.Popen[str]]:
    """Two processes with the environment that torchrun gives, for one run after the other."""
    data.write(folder / "data.h5")
    script = folder / "run.py"
    script.write_text(SCRIPT.format(size=TINY, settings=values))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"PYTHONPATH": str(Path(heliodor.__file__).parents[1]), "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        subprocess.Popen(
            [sys.executable, str(script), str(folder), *names],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


def rows(folder: Path) -> list[dict[str, float]]:
    kept = json.loads((folder / "result.json").read_text())["rows"]
    return [{k: v for k, v in row.items() if k != "minutes"} for row in kept]


def same_curve(one: list[dict[str, float]], two: list[dict[str, float]], exact: float = 1e-9) -> None:
    assert len(one) == len(two) >= 3
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        np.testing.assert_allclose([b[k] for k in a], list(a.values()), rtol=exact, atol=1e-12, err_msg=str(a))


def test_two_processes_are_one(data: Dataset, tmp_path: Path) -> None:
    """With a broken structure: the curve of one process; and so after kill -9 of one of the two, gone on with alone."""
    broken = data.take(range(len(data)))
    broken.positions[int(broken.offsets[5])] = broken.positions[int(broken.offsets[5]) + 1]
    # the validation set is the same file: its broken structure must not be watched
    watched = [k for k in range(20) if 5 not in _watched(14, k)]
    values = {**EXACT, "epochs": 3, "batch_size": 4, "accumulate": 2, "checkpoint_minutes": 1e-6, "seed": watched[0]}
    values |= {"validation_structures": 8, "learning_rate": 3e-3, "warmup_steps": 2}
    # both runs by the same two processes: most of the time goes into starting them
    pair = start(broken, tmp_path, values, ("pair", "killed"))
    assert pair[0].stdout is not None
    for line in pair[0].stdout:
        if line.startswith("killed: step 3"):
            os.kill(pair[1].pid, signal.SIGKILL)
            break
    said = [p.communicate(timeout=300) for p in pair]
    assert pair[1].returncode == -signal.SIGKILL
    assert pair[0].returncode == 1 and "LostProcessError" in said[0][1] and "start the same run again" in said[0][1]
    assert len(said[0][1].strip().splitlines()) == 1, said[0][1]
    assert not said[1][0].strip(), "only the first process speaks"
    assert (tmp_path / "killed" / "state.pt").exists()
    model = new_model("so3lr", TINY, broken.elements, broken)
    settings, told = TrainSettings.from_mapping(values), []
    alone = train(model, broken, broken, tmp_path / "alone", settings)
    train(model, broken, broken, tmp_path / "killed", settings, lambda fraction, words: told.append(words))
    assert next(int(w.split()[1].strip(",")) for w in told if w.startswith("step")) in (4, 5)
    assert alone.steps > 5 and len(alone.skipped) == 3
    assert all(event["structures"] == ["structure 5 (CH4O, m5)"] for event in alone.skipped)
    for name in ("pair", "killed"):
        same_curve(rows(tmp_path / "alone"), rows(tmp_path / name))
        assert json.loads((tmp_path / name / "result.json").read_text())["skipped"] == alone.skipped
        made = heliodor.load(str(tmp_path / name / "model.safetensors"), device="cpu", dtype="float64").state_dict()
        for key, value in alone.model.state_dict().items():
            torch.testing.assert_close(made[key], value, rtol=1e-6, atol=1e-9)


def _watched(number: int, seed: int) -> set[int]:
    return set(np.random.default_rng([seed, 7]).permutation(number)[:8].tolist())


def test_shares() -> None:
    rng = np.random.default_rng(1)
    atoms = rng.integers(1, 60, 300)
    sizes = np.stack([atoms, 10 * atoms, atoms * (atoms - 1) // 2], axis=1)
    batch = rng.permutation(300)[:40]
    parts = [Processes(rank, 3).share(batch, sizes) for rank in range(3)]
    assert sorted(np.concatenate(parts)) == sorted(batch)
    cost = [sizes[part].sum() for part in parts]
    assert max(cost) < 1.05 * min(cost)
    # fewer structures than processes: some have nothing to do
    assert [len(Processes(rank, 3).share(batch[:2], sizes)) for rank in range(3)] == [1, 1, 0]
    spans = [Processes(rank, 3).span(10) for rank in range(3)]
    assert [k for s in spans for k in range(10)[s]] == list(range(10))


def test_accumulated_batches_are_one(data: Dataset, tmp_path: Path) -> None:
    """All batches of an epoch added up are the epoch in one batch, whatever labels each of them lacks."""
    found = {}
    for name, size, count in (("whole", 14, 1), ("parts", 3, 9)):
        values = {**EXACT, "epochs": 5, "batch_size": size, "accumulate": count, "warmup_steps": 1, "clip": 1.0}
        model = new_model("so3lr", TINY, data.elements, data)
        result = train(model, data, data, tmp_path / name, TrainSettings.from_mapping(values))
        assert result.steps == 5
        found[name] = rows(tmp_path / name)
    same_curve(found["whole"], found["parts"])


def test_precisions(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What each costs along a short run: nothing that matters in float32, per cents in bf16; tf32 is not for CPUs."""
    seen: list[tuple[str, bool]] = []

    def noting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*given: Any) -> Any:
            seen.append((name, torch.backends.cuda.matmul.allow_tf32))
            return function(*given)

        return noted

    monkeypatch.setattr(trainer, "advance", noting("step", trainer.advance))
    monkeypatch.setattr(validation, "predict", noting("validation", validation.predict))
    values = {"epochs": 3, "batch_size": 7, "threads": 1, "plot_every": 0, "warmup_steps": 1}
    model = new_model("so3lr", TINY, data.elements, data)
    exact = train(model, data, data, tmp_path / "a", TrainSettings.from_mapping({**values, "precision": "float64"}))
    for precision in ("float32", "bf16", "tf32"):
        settings = TrainSettings.from_mapping({**values, "precision": precision})
        seen.clear()
        if precision == "tf32":
            with pytest.warns(UserWarning, match="training goes on in float32"):
                found = train(model, data, data, tmp_path / precision, settings)
        else:
            found = train(model, data, data, tmp_path / precision, settings)
        # validation is in full precision, whatever the steps are in
        assert set(seen) == {("step", precision == "tf32"), ("validation", False)}
        assert not torch.backends.cuda.matmul.allow_tf32
        away = max(abs(a["loss"] - b["loss"]) / a["loss"] for a, b in zip(exact.rows[1:], found.rows[1:], strict=True))
        assert (1e-5 < away < 0.05) if precision == "bf16" else away < 1e-4


def test_odd_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(InputError, match="torchrun"), processes("cpu"):
        pass
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(InputError, match="WORLD_SIZE must be a whole number"), processes("cpu"):
        pass
