"""Checkpoints: the same bits back, and one clear error for every way a file can be wrong."""

from __future__ import annotations

import json
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ase.build import molecule
from safetensors.torch import load_file, save_file

import heliodor
from heliodor import checkpoint, registry
from heliodor.checkpoint import FORMAT, MAX_HEADER, load_checkpoint, read_header, save_checkpoint, sha256
from heliodor.errors import CheckpointError, ModelError
from heliodor.potentials.so3krates import SO3kratesConfig
from heliodor.potentials.so3lr import SO3LR, SO3LRConfig

SMALL = SO3LRConfig(
    network=SO3kratesConfig(n_features=8, n_heads=2, degrees=(1, 2), n_layers=1, n_basis=4, n_elements=18),
    n_hirshfeld=4,
)


@pytest.fixture
def model() -> SO3LR:
    """A tiny model with parameters that float32 cannot hold."""
    torch.manual_seed(1)
    return SO3LR(SMALL).double()


@pytest.fixture
def saved(model: SO3LR, tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    for parameter in model.parameters():
        parameter.data += 1e-12 * torch.randn_like(parameter)
    save_checkpoint(model, path, {"name": "tiny", "licence": "MIT"})
    return path


def rewrite(path: Path, change) -> None:
    """Edit the header's text in place, keeping the safetensors container whole."""
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    outer = json.loads(content[8 : 8 + length])
    inner = change(json.loads(outer["__metadata__"]["heliodor"]))
    outer["__metadata__"]["heliodor"] = inner if isinstance(inner, str) else json.dumps(inner)
    header = json.dumps(outer).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + content[8 + length :])


# right ------------------------------------------------------------------------------------------------------


def test_round_trip(model, saved):
    again = load_checkpoint(saved)
    assert again.name == "tiny"
    assert again.card == {"name": "tiny", "licence": "MIT"}
    assert again.config == SMALL
    assert again.dtype == torch.float64
    before, after = model.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    atoms = molecule("H2O")
    one, two = (heliodor.evaluate(m.eval().requires_grad_(False), atoms) for m in (model, again))
    assert torch.equal(one.forces, two.forces)


def test_same_model_same_bytes(model, saved, tmp_path):
    other = tmp_path / "other.safetensors"
    save_checkpoint(load_checkpoint(saved), other, {"name": "tiny", "licence": "MIT"})
    assert sha256(other) == sha256(saved)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.safetensors", "other.safetensors"]


def test_float32_where_it_loses_nothing(saved):
    assert torch.float64 in {value.dtype for value in load_file(saved).values()}
    embedded = load_file(registry.find_model("so3lr").path)
    assert {value.dtype for value in embedded.values()} == {torch.float32}


def test_embedded_model_round_trips_to_its_own_bytes(tmp_path):
    entry = registry.find_model("so3lr")
    assert sha256(entry.path) == entry.sha256
    potential = load_checkpoint(entry.path, entry.sha256)
    save_checkpoint(potential, tmp_path / "copy.safetensors", potential.card)
    assert sha256(tmp_path / "copy.safetensors") == entry.sha256


def test_read_header(saved):
    header = read_header(saved)
    assert header["format"] == FORMAT
    assert header["architecture"] == "so3lr"
    assert header["card"]["licence"] == "MIT"
    assert header["config"]["network"]["n_features"] == 8


def test_load_by_path(saved):
    potential = heliodor.load(saved, device="cpu", dtype="float64", long_range_cutoff=9.0)
    assert potential.long_range_cutoff == 9.0
    assert heliodor.load(str(saved), device="cpu").dtype == torch.float32


def test_a_failed_write_leaves_the_old_file(model, saved, monkeypatch):
    before = saved.read_bytes()

    def fail(tensors, path, metadata):
        Path(path).write_bytes(b"half a fi")
        raise OSError("no space left on device")

    monkeypatch.setattr("heliodor.checkpoint.save_file", fail)
    with pytest.raises(OSError, match="no space"):
        save_checkpoint(model, saved)
    assert saved.read_bytes() == before


def test_only_known_models_are_saved(tmp_path):
    class Other(heliodor.Potential):
        pass

    with pytest.raises(CheckpointError, match="no checkpoint format for Other"):
        save_checkpoint(Other(), tmp_path / "other.safetensors")


# wrong ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 4, 8, 100, 0.5, -1])
def test_truncated(kept, saved):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(CheckpointError):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    "content", [b"", b"hello, world, this is no checkpoint", b"\x80\x04}.", b"\x00" * 64, b"{}" * 20]
)
def test_not_a_checkpoint(content, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    for read in (read_header, load_checkpoint, heliodor.load):
        with pytest.raises(CheckpointError, match="not a heliodor checkpoint"):
            read(path)


def test_somebody_elses_safetensors(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="not a heliodor checkpoint"):
        load_checkpoint(path)


def test_missing_or_folder(tmp_path):
    with pytest.raises(CheckpointError, match="no such model file"):
        load_checkpoint(tmp_path / "nothing.safetensors")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path)


def test_header_too_large(tmp_path):
    path = tmp_path / "model.safetensors"
    for length in (MAX_HEADER + 1, 2**63, 2**64 - 1):
        path.write_bytes(struct.pack("<Q", length) + b"{}")
        with pytest.raises(CheckpointError, match="not a heliodor checkpoint"):
            read_header(path)


def raw_header(path: Path, text: bytes) -> Path:
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    return path


@pytest.mark.parametrize(
    "text", [b"[]", b"1", b"null", b'{"__metadata__": {}}', b'{"__metadata__": {"heliodor": "{"}}', b"\xff\xfe"]
)
def test_header_of_another_kind(text, tmp_path):
    with pytest.raises(CheckpointError):
        read_header(raw_header(tmp_path / "m.safetensors", text))


@pytest.mark.parametrize(
    "text",
    [
        b'{"__metadata__": []}',
        b'{"__metadata__": {"heliodor": 1}}',
        b'{"__metadata__": {"heliodor": "[]"}}',
        b"[" * 100_000,
    ],
    ids=["metadata is a list", "header is a number", "header holds a list", "deep"],
)
def test_header_of_a_stranger_kind(text, tmp_path):
    with pytest.raises(CheckpointError):
        read_header(raw_header(tmp_path / "m.safetensors", text))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "heliodor-checkpoint-2"}, f"'heliodor-checkpoint-2'; this version reads {FORMAT}"),
        ({"format": None}, "checkpoint format None"),
        ({"architecture": "gpt"}, "'gpt'; this version knows so3lr"),
        ({"architecture": None}, "architecture None"),
        ({"config": {}}, "does not fit its own description"),
        ({"config": None}, "does not fit its own description"),
        ({"config": {**SMALL.to_dict(), "n_hirshfeld": 5}}, "does not fit its own description"),
        ({"config": {**SMALL.to_dict(), "unheard_of": 1}}, "does not fit its own description"),
    ],
)
def test_header_that_does_not_fit(change, message, saved):
    rewrite(saved, lambda header: {**header, **change})
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(saved)


@pytest.mark.parametrize("change", [{"card": None}, {"card": "tiny"}, {"architecture": []}])
def test_header_with_a_strange_card(change, saved):
    rewrite(saved, lambda header: {**header, **change})
    with pytest.raises(CheckpointError):
        load_checkpoint(saved)


def edit(path: Path, change) -> None:
    """Change the tensors, keep the header."""
    header = read_header(path)
    tensors = load_file(path)
    change(tensors)
    header["tensors_sha256"] = checkpoint._digest(tensors)
    save_file(tensors, path, metadata={"heliodor": json.dumps(header)})


def test_numbers_changed_without_their_hash(saved):
    """A weight that was flipped on disk or by hand is found, whatever name the file is loaded by."""
    header = read_header(saved)
    tensors = load_file(saved)
    tensors["charge_head.hidden.weight"].view(-1)[3] *= 1.0001
    save_file(tensors, saved, metadata={"heliodor": json.dumps(header)})
    with pytest.raises(CheckpointError, match="do not match their own SHA-256"):
        load_checkpoint(saved)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_parameters_that_are_not_finite(value, saved):
    edit(saved, lambda tensors: tensors["charge_head.hidden.weight"].view(-1)[3:4].fill_(value))
    with pytest.raises(CheckpointError, match="not finite"):
        load_checkpoint(saved)


def drop(tensors: dict) -> None:
    del tensors["zbl.power"]


def add(tensors: dict) -> None:
    tensors["surprise"] = torch.zeros(2)


def reshape(tensors: dict) -> None:
    tensors["zbl.exponents"] = torch.zeros(5)


@pytest.mark.parametrize("change", [drop, add, reshape])
def test_tensors_that_do_not_fit(change, saved):
    edit(saved, change)
    with pytest.raises(CheckpointError, match="does not fit its own description"):
        load_checkpoint(saved)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A copy of the embedded weights that the registry takes for the real one."""
    copy = tmp_path / "weights"
    shutil.copytree(registry.weights_folder(), copy)
    for path in copy.iterdir():
        path.chmod(0o600)
    monkeypatch.setattr(registry, "weights_folder", lambda: copy)
    return copy


def test_untouched_copy_loads(folder):
    assert heliodor.load("so3lr", device="cpu").card["name"] == "so3lr"


@pytest.mark.parametrize("where", [0.001, 0.5, -1])
def test_tampered_embedded_weights(where, folder):
    path = folder / "so3lr.safetensors"
    content = bytearray(path.read_bytes())
    content[int(where * len(content)) if where != -1 else -1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"SHA-256 differs|damaged"):
        heliodor.load("so3lr", device="cpu")


def test_truncated_embedded_weights(folder):
    path = folder / "so3lr.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        heliodor.load("so3lr", device="cpu")


def test_a_model_to_be_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv(registry.ENVIRONMENT, str(tmp_path))
    entry = replace(registry.find_model("so3lr"), embedded=None)
    assert entry.path is None
    with pytest.raises(CheckpointError, match="heliodor models fetch so3lr"):
        registry.checkpoint_path(entry)
    (tmp_path / "so3lr.safetensors").write_bytes(b"x")
    assert registry.checkpoint_path(entry) == tmp_path / "so3lr.safetensors"


def test_cache_folder(monkeypatch):
    monkeypatch.delenv(registry.ENVIRONMENT, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert registry.cache_folder() == Path("/somewhere/heliodor")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert registry.cache_folder() == Path.home() / ".cache" / "heliodor"


def test_unknown_name():
    with pytest.raises(ModelError, match="no model called 'so4lr'"):
        registry.find_model("so4lr")
