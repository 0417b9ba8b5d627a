"""Restart files, and runs in parts that end in the very bits of a run in one."""

import dataclasses
import json
import os
import struct

import h5py
import numpy as np
import pytest
import torch
from parts import STEPPERS, begin, go
from safetensors.torch import load_file, save_file
from toys import LennardJones, Morse, argon_box, cluster

from heliodor.dynamics import init, nve_step
from heliodor.dynamics.constraints.rigid_bonds import find_rigid
from heliodor.dynamics.files.restart import load_state, save_state
from heliodor.dynamics.files.storage import StorageError
from heliodor.dynamics.steps.extended import Chain, Piston
from heliodor.errors import CheckpointError
from heliodor.neighbors import find_neighbors
from heliodor.system import System

NAMES = ("run.h5", "run.xyz", "run.dcd")


def same(a, b, path="state"):
    """Whether two states are equal to the last bit, memory order included."""
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and a.shape == b.shape, path
        assert a.numel() < 2 or a.stride() == b.stride() or 0 in a.stride(), path
        assert a.numpy().tobytes() == b.numpy().tobytes(), path
    elif dataclasses.is_dataclass(a):
        assert type(a) is type(b), path
        for field in dataclasses.fields(a):
            if field.name != "prediction":
                same(getattr(a, field.name), getattr(b, field.name), f"{path}.{field.name}")
    else:
        assert type(a) is type(b) and (a == b), path


def same_trajectories(a, b):
    """Same bytes for text and DCD; for HDF5, whose bytes depend on the order of allocation, the same content."""
    if a.suffix != ".h5":
        assert a.read_bytes() == b.read_bytes()
        return
    with h5py.File(a) as one, h5py.File(b) as other:
        found = []
        for file in (one, other):
            content = {}
            file.visititems(lambda name, item, content=content: content.__setitem__(name, (item, dict(item.attrs))))
            found.append(content)
        assert found[0].keys() == found[1].keys()
        for name, (item, attributes) in found[0].items():
            twin, its = found[1][name]
            assert attributes.keys() == its.keys()
            assert all(np.array_equal(attributes[key], its[key]) for key in its)
            if isinstance(item, h5py.Dataset):
                assert (item.dtype, item.maxshape, item.chunks) == (twin.dtype, twin.maxshape, twin.chunks), name
                assert item[()].tobytes() == twin[()].tobytes(), name
        assert one["particles/trajectory/position/step"] == one["heliodor/step"]
        assert other["particles/trajectory/position/step"] == other["heliodor/step"]


def everything():
    """A state with all its optional parts."""
    state = begin("nve")
    lists = find_neighbors(state.system, 6.0, long_range_cutoff=torch.tensor([7.0]).double(), skin=0.1)
    chain = Chain(torch.rand(1, 3).double(), torch.rand(1).double())
    return state.replace(
        neighbors=lists,
        frozen=torch.arange(8) % 2 == 0,
        chain=chain,
        piston=Piston(torch.rand(1, 3, 3).double().mT, chain),
        time=0.1 + 0.2,
        energy=torch.tensor([-0.0]).double(),
    )


def test_a_state_comes_back_to_the_bit(tmp_path):
    path = tmp_path / "run.restart"
    state = everything()
    extra = {"marks": {"frames": 3}, "exact": [0.1 + 0.2, float("inf"), -0.0], "none": None}
    save_state(path, state, extra)
    loaded, back = load_state(path)
    same(state, loaded)
    assert back == extra
    assert str(back["exact"][2]) == "-0.0"
    assert loaded.prediction is None
    # the fast path of the lists: one cell, not two equal ones; and one chain's tensors, not copies
    assert loaded.system.cell is loaded.neighbors.cell is loaded.neighbors.long_range.cell
    assert loaded.piston.chain.heat is loaded.chain.heat
    assert loaded.neighbors.positions is not loaded.system.positions
    assert os.listdir(tmp_path) == ["run.restart"]


def test_states_of_several_molecules_and_without_edges(tmp_path):
    for frames, potential in (
        ([cluster(3), cluster(6)], Morse(cutoff=float("inf"))),
        ([argon_box(1, 20.0)], LennardJones()),
    ):
        state = init(System.from_atoms(frames), potential, temperature=100.0)
        save_state(tmp_path / "run.restart", state, {})
        loaded, _ = load_state(tmp_path / "run.restart")
        same(state, loaded)
        same(nve_step(state, potential, 0.5), nve_step(loaded, potential, 0.5))


def test_rigid_bonds_are_kept(tmp_path):
    from ase.build import molecule

    atoms = molecule("CH3OH") + molecule("H2O")
    atoms.positions[6:] += 5.0
    system, rigid = find_rigid(System.from_atoms(atoms), torch.as_tensor(atoms.get_masses()), "h-bonds")
    state = init(system, Morse(), temperature=10.0, rigid=rigid)
    save_state(tmp_path / "run.restart", state, {})
    same(state, load_state(tmp_path / "run.restart")[0])


def test_a_run_can_move_to_another_kind_of_device(tmp_path):
    path = tmp_path / "run.restart"
    state = begin("langevin")
    save_state(path, state, {})
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        metadata = json.loads(file.read(length))["__metadata__"]
    assert json.loads(metadata["heliodor"])["device"] == "cpu"
    # pretend it came from a GPU, whose generator state is 16 bytes
    import heliodor.dynamics.files.restart as module

    header = json.loads(metadata["heliodor"]) | {"device": "cuda"}
    tensors = load_file(path) | {"rng": torch.arange(16, dtype=torch.uint8)}
    text = json.dumps(header)
    save_file(tensors, path, {"heliodor": text, "sha256": module._digest(text, tensors)})
    states = [load_state(path)[0] for _ in range(2)]
    assert torch.equal(states[0].rng, states[1].rng)
    STEPPERS["langevin"](states[0], LennardJones(), 4.0)


def test_damage_is_found_wherever_it_is(tmp_path):
    path = tmp_path / "run.restart"
    state = begin("nve")
    save_state(path, state, {"marks": 1})
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    messages = []
    for place in [0, 7, 9, 40, *rng.integers(0, len(whole), 60).tolist(), len(whole) - 1]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << int(rng.integers(8)))]) + whole[place + 1 :])
        try:
            # true is any byte but zero: a bit more there changes nothing
            same(state, load_state(path)[0])
        except CheckpointError as error:
            messages.append(str(error))
    assert len(messages) >= 63
    assert all(message.startswith(f"{path} is damaged") and "\n" not in message for message in messages)
    for end in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(CheckpointError, match="damaged or not a heliodor restart file"):
            load_state(path)
    path.write_bytes(whole)
    load_state(path)


def test_foreign_files_are_refused(tmp_path):
    path = tmp_path / "run.restart"
    with pytest.raises(CheckpointError, match="there is no restart file"):
        load_state(path)
    save_file({"x": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="not a heliodor restart file"):
        load_state(path)


def rewritten(path, change):
    """The file with its header changed and its digest made to fit."""
    import heliodor.dynamics.files.restart as module

    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(json.loads(file.read(length))["__metadata__"]["heliodor"])
    change(header)
    text, tensors = json.dumps(header), load_file(path)
    save_file(tensors, path, {"heliodor": text, "sha256": module._digest(text, tensors)})


def test_other_versions_and_made_up_classes_are_refused(tmp_path):
    path = tmp_path / "run.restart"
    changes = {
        "restart format 'heliodor-restart-9'": lambda header: header.update(format="heliodor-restart-9"),
        "does not fit this version of heliodor.*Popen": lambda header: header["state"].update({"class": "Popen"}),
        "does not fit this version.*magic": lambda header: header["state"]["fields"].update(magic=1),
        "does not fit this version.*no MDState": lambda header: header.update(
            state=header["state"]["fields"]["system"]
        ),
        "does not fit this version.*nowhere": lambda header: header["state"]["fields"].update(
            forces={"tensor": "nowhere"}
        ),
    }
    for message, change in changes.items():
        save_state(path, begin("nve"), {})
        rewritten(path, change)
        with pytest.raises(CheckpointError, match=message):
            load_state(path)


def test_what_cannot_be_kept_is_not_lost_in_silence(tmp_path):
    with pytest.raises(TypeError, match="neighbors"):
        save_state(tmp_path / "run.restart", begin("nve").replace(neighbors=[1]), {})
    assert not list(tmp_path.iterdir())


def test_a_vanished_folder_is_named(tmp_path):
    with pytest.raises(StorageError, match=r"gone/run\.restart: no such file or directory.*begin anew"):
        save_state(tmp_path / "gone" / "run.restart", begin("nve"), {})


def asked_at(step):
    """A stop that is asked for when a step has been taken."""
    taken = iter(range(10**9))
    return lambda: next(taken) == step


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", STEPPERS)
def test_parts_make_the_same_run(tmp_path, kind, name):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    expected = go(whole, last_step=43, kind=kind, name=name)
    assert (expected.ended, expected.state.step) == ("finished", 43)
    # an end off every rhythm, one on that of the files, an interruption, and an extension
    assert go(parts, last_step=13, kind=kind, name=name).ended == "finished"
    assert go(parts, last_step=36, kind=kind, name=name).state.step == 36
    assert go(parts, last_step=43, kind=kind, name=name, stop=asked_at(2)).ended == "interrupted"
    end = go(parts, last_step=43, kind=kind, name=name)
    same(expected.state, end.state)
    assert (whole / "run.csv").read_bytes() == (parts / "run.csv").read_bytes()
    same_trajectories(whole / name, parts / name)
    # and once more, with nothing left to do
    go(parts, last_step=43, kind=kind, name=name)
    assert (whole / "run.csv").read_bytes() == (parts / "run.csv").read_bytes()
    same_trajectories(whole / name, parts / name)
