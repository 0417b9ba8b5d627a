"""The reader of params.pkl: exact on the official file, and deaf to whatever else a pickle can say."""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule

import heliodor
from heliodor.checkpoint import sha256
from heliodor.convert.so3lr import MAX_BYTES, convert_so3lr, read_parameters
from heliodor.errors import CheckpointError
from heliodor.registry import find_model
from support import shared

F = 128


def shapes() -> dict[str, tuple[int, ...]]:
    """Every array of the official file (shared/specs/so3lr.md, section 2.9)."""
    found: dict[str, tuple[int, ...]] = {"feature_embeddings_0/Embed_0/embedding": (119, F)}
    for n in (1, 2):
        s = f"feature_embeddings_{n}/ChargeSpinEmbedSparse_0"
        found |= {
            f"{s}/Embed_0/embedding": (119, F),
            f"{s}/Embed_1/embedding": (2, F),
            f"{s}/Embed_2/embedding": (2, F),
        }
        found |= {f"{s}/Residual_0/layers_{k}/kernel": (F, F) for k in (0, 1)}

    def dense(name: str, n_in: int, n_out: int) -> None:
        found[f"{name}/kernel"] = (n_in, n_out)
        found[f"{name}/bias"] = (n_out,)

    for t in range(3):
        a = f"layers_{t}/attention_block"
        found |= {f"{a}/{w}": (4, 32, 32) for w in ("Wq1", "Wk1", "Wv1", "Wq2", "Wk2")}
        for n in (1, 2):
            dense(f"{a}/radial_filter{n}_layer_1", 32, F)
            dense(f"{a}/radial_filter{n}_layer_2", F, F)
            dense(f"{a}/spherical_filter{n}_layer_1", 4, 32)
            dense(f"{a}/spherical_filter{n}_layer_2", 32, F)
            found |= {f"layers_{t}/layer_normalization_{n}/{p}": (F,) for p in ("scale", "bias")}
            dense(f"layers_{t}/res_mlp_1_layer_{n}", F, F)
        dense(f"layers_{t}/exchange_block/mlp_layer_2", 132, 132)
    found |= {"observables_0/atomic_scales": (119,), "observables_0/energy_offset": (119,)}
    dense("observables_0/energy_dense_regression", F, F)
    dense("observables_0/energy_dense_final", F, 1)
    c = "observables_0/electrostatic_energy/partial_charges"
    found[f"{c}/Embed_0/embedding"] = (100, 1)
    dense(f"{c}/charge_dense_regression_vec", F, F)
    dense(f"{c}/charge_dense_final_vec", F, 1)
    found |= {
        f"observables_0/zbl_repulsion/{p}": (1,) for p in ("a1", "a2", "a3", "a4", "c1", "c2", "c3", "c4", "p", "d")
    }
    found |= {"observables_2/Embed_0/embedding": (100, 1), "observables_2/Embed_1/embedding": (100, 64)}
    dense("observables_2/hirshfeld_ratios_dense_regression", F, 64)
    dense("observables_2/hirshfeld_ratios_dense_final", 64, 64)
    return found


def nested(flat: dict[str, object]) -> dict:
    tree: dict = {}
    for key, value in flat.items():
        *folders, name = key.split("/")
        branch = tree
        for folder in folders:
            branch = branch.setdefault(folder, {})
        branch[name] = value
    return {"params": tree}


@pytest.fixture
def flat(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A complete set of arrays with random values."""
    return {key: rng.normal(scale=0.1, size=shape).astype(np.float32) for key, shape in shapes().items()}


@pytest.fixture
def write(tmp_path: Path):
    """Pickle something (or write bytes as they are) to a file."""

    def to_file(content: object, protocol: int = 4) -> Path:
        path = tmp_path / "params.pkl"
        path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol=protocol))
        return path

    return to_file


# what is right ----------------------------------------------------------------------------------------------


def test_official_file_is_the_embedded_model():
    """Bit for bit, through both doors; and the registry knows the file by its hash."""
    path = shared("weights/so3lr/params.pkl")
    entry = find_model("so3lr")
    assert sha256(path) == entry.official["sha256"]
    assert path.stat().st_size == entry.official["bytes"]
    ours = heliodor.load("so3lr", device="cpu", dtype="float64")
    theirs = heliodor.load(path, device="cpu", dtype="float64")
    assert theirs.config == ours.config
    official, embedded = theirs.state_dict(), ours.state_dict()
    assert official.keys() == embedded.keys()
    assert all(torch.equal(official[key], embedded[key]) for key in official)
    frames = [molecule("CH3SH"), molecule("HCOOH")]
    a, b = heliodor.evaluate(theirs, frames), heliodor.evaluate(ours, frames)
    assert torch.equal(a.forces, b.forces)
    assert len(read_parameters(path)) == 131
    assert {key: value.shape for key, value in read_parameters(path).items()} == shapes()


def test_constants_beside_the_weights(flat, write):
    """What the file does not say, by the specification; the embedded model carries the same numbers."""
    for config in (convert_so3lr(write(nested(flat))).config, heliodor.load("so3lr", device="cpu").config):
        assert config.network.gamma == float(np.float32(0.5 / 0.5291772105638411)) == 0.9448630809783936
        assert config.network.average_neighbors == 13.168995780096482
        assert config.network.cutoff == 4.5
        assert config.electrostatic_damping == 4.0
        assert config.dispersion_scale == 1.2
        assert config.elements == (1, 6, 7, 8, 9, 15, 16, 17)


def test_layouts(flat, write):
    """Kernels are stored (in, out), heads (head, out, in); the two filters' biases add."""
    assert len(flat) == 131
    assert sum(a.size for a in flat.values()) == 530_238
    state = {key: value.float().numpy() for key, value in convert_so3lr(write(nested(flat))).state_dict().items()}
    a = "layers_1/attention_block"
    np.testing.assert_array_equal(
        state["energy_head.hidden.weight"], flat["observables_0/energy_dense_regression/kernel"].T
    )
    np.testing.assert_array_equal(state["network.layers.1.project_x"][2, :, 32:64], flat[f"{a}/Wk1"][2].T)
    np.testing.assert_array_equal(state["network.layers.1.project_ev"][3, :, :32], flat[f"{a}/Wq2"][3].T)
    np.testing.assert_array_equal(state["network.layers.1.radial_out"][1], flat[f"{a}/radial_filter2_layer_2/kernel"])
    np.testing.assert_allclose(
        state["network.layers.1.filter_bias"][0, 0],
        flat[f"{a}/radial_filter1_layer_2/bias"] + flat[f"{a}/spherical_filter1_layer_2/bias"],
        rtol=0,
        atol=1e-7,
    )
    assert not state["charge_offset"][100:].any()
    np.testing.assert_array_equal(state["zbl.coefficients"][2], flat["observables_0/zbl_repulsion/c3"][0])


def test_numpy_1_wrote_another_module_name(flat, write):
    """numpy before 2.0 calls it numpy.core.multiarray."""
    old = pickle.dumps(nested(flat), protocol=4)
    new, former = b"numpy._core.multiarray", b"numpy.core.multiarray"
    assert old.count(new) == 1
    # SHORT_BINUNICODE carries its length; the frame around it loses one byte
    swapped = old.replace(bytes([len(new)]) + new, bytes([len(former)]) + former)
    swapped = swapped[:3] + (int.from_bytes(swapped[3:11], "little") - 1).to_bytes(8, "little") + swapped[11:]
    assert len(read_parameters(write(swapped))) == 131


def test_fortran_order(flat, write):
    name = "observables_0/energy_dense_regression/kernel"
    flat[name] = np.asfortranarray(flat[name])
    np.testing.assert_array_equal(read_parameters(write(nested(flat)))[name], flat[name])


# what would run code ----------------------------------------------------------------------------------------


class Reduced:
    """Pickles as the call function(*arguments)."""

    def __init__(self, function, *arguments, state=None) -> None:
        self.recipe = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.recipe


def protocol_0(module: str, name: str, argument: str) -> bytes:
    """The oldest spelling: GLOBAL, MARK, TUPLE, REDUCE."""
    return f"c{module}\n{name}\n(V{argument}\ntR.".encode()


def payloads(target: Path) -> dict[str, object]:
    """Pickles that create `target` when read without care."""
    shell, python = f"touch '{target}'", f"open({str(target)!r}, 'w').close()"
    dtype = np.dtype("float32")
    return {
        "os.system": Reduced(os.system, shell),
        "eval": Reduced(eval, python),
        "exec": Reduced(exec, python),
        "os.mkfifo": Reduced(os.mkfifo, str(target)),
        "inside the tree": {"params": {"observables_0": {"atomic_scales": Reduced(eval, python)}}},
        "beside the tree": {"params": {}, "extra": Reduced(eval, python)},
        "as a key": {"params": {Reduced(eval, f"{python} or 'key'"): 1}},
        "as an array's dtype": Reduced(np.dtype, Reduced(eval, f"{python} or 'f4'")),
        "as an array's state": Reduced(
            np._core.multiarray._reconstruct,
            np.ndarray,
            (0,),
            b"b",
            state=(1, (1,), dtype, False, Reduced(eval, f"{python} or b'abcd'")),
        ),
        "object array": np.array([Reduced(eval, python)], dtype=object),
        "protocol 0": protocol_0("posix", "system", shell),
        "old builtins": protocol_0("__builtin__", "eval", python),
        "inst": b"(V" + shell.encode() + b"\niposix\nsystem\n.",
        "obj": b"(cbuiltins\neval\nV" + python.encode() + b"\no.",
    }


NAMES = tuple(payloads(Path("x")))


@pytest.mark.parametrize("name", NAMES)
def test_poison_executes_nothing(name, tmp_path, write):
    target = tmp_path / "executed"
    path = write(payloads(target)[name])
    if name not in ("inst", "obj"):  # these two need a class to call: plain pickle refuses them as well
        with path.open("rb") as file:
            pickle.load(file)
        assert target.exists(), "the payload is harmless: the test would prove nothing"
        target.unlink()
    for read in (read_parameters, convert_so3lr, heliodor.load):
        with pytest.raises(CheckpointError):
            read(path)
        assert not target.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "getattr"),
        ("numpy", "dtype.__init__"),
        ("numpy", "ndarray.__reduce__"),
        ("numpy", "load"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy._core.multiarray", "_reconstruct.__globals__"),
        ("torch", "load"),
        ("copyreg", "_reconstructor"),
        ("_codecs", "encode"),
        ("heliodor.convert.so3lr", "_Array"),
    ],
)
def test_only_three_names_are_known(module, name, write):
    stack_global = b"\x80\x04" + b"".join(b"\x8c" + bytes([len(s)]) + s.encode() for s in (module, name)) + b"\x93."
    with pytest.raises(CheckpointError, match=re.escape(f"asks for {module}.{name}")):
        read_parameters(write(stack_global))


@pytest.mark.parametrize("slots", [False, True], ids=["dict", "slots"])
@pytest.mark.parametrize("name", ["numpy._core.multiarray._reconstruct", "numpy.ndarray", "numpy.dtype"])
def test_a_file_cannot_change_our_code(name, slots, write):
    """BUILD on the name itself, not on what it makes, would set attributes on our class or function."""
    from heliodor.convert import so3lr as module

    words = (*name.rsplit(".", 1), "poison", "yes")
    module_name, attribute, key, value = (b"\x8c" + bytes([len(word)]) + word.encode() for word in words)
    state = b"}" + key + value + b"s"
    build = b"\x80\x04" + module_name + attribute + b"\x93" + (b"N" + state + b"\x86" if slots else state) + b"b."
    with pytest.raises(CheckpointError):
        read_parameters(write(build))
    assert not any(hasattr(thing, "poison") for thing in vars(module).values())


# what is damaged --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0.0, 1e-5, 0.3, 0.9, 0.99999])
def test_truncated(kept, flat, write):
    content = pickle.dumps(nested(flat), protocol=4)
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        convert_so3lr(write(content[: int(kept * len(content))]))


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04 a zip archive",
        b"hello, world\n",
        b"\x00" * 100,
        b"\x80\x04}.",
        [1, 2],
        {},
        {"params": [1]},
        {"params": {"a": 1.5}},
        None,
    ],
)
def test_not_parameters(content, write):
    with pytest.raises(CheckpointError):
        convert_so3lr(write(content))


@pytest.mark.parametrize(
    "key", ["observables_0/atomic_scales", "layers_2/attention_block/Wv1", "observables_0/zbl_repulsion/d"]
)
def test_missing_array(key, flat, write):
    del flat[key]
    with pytest.raises(CheckpointError, match=f"lacks the array.*{key}"):
        convert_so3lr(write(nested(flat)))


def test_left_over_array(flat, write):
    flat["layers_3/attention_block/Wv1"] = np.zeros((4, 32, 32), np.float32)
    with pytest.raises(CheckpointError, match="does not have: layers_3/attention_block/Wv1"):
        convert_so3lr(write(nested(flat)))


@pytest.mark.parametrize("dtype", ["<f8", "<f2", ">f4", "<i4", "<c8", "S4", "<U1", "?"])
def test_wrong_dtype(dtype, flat, write):
    flat["observables_0/atomic_scales"] = np.zeros(119, dtype)
    with pytest.raises(CheckpointError):
        convert_so3lr(write(nested(flat)))


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("observables_0/energy_dense_regression/kernel", (128, 64)),
        ("observables_0/atomic_scales", (118, 2)),
        ("observables_0/zbl_repulsion/p", (2,)),
        ("layers_0/layer_normalization_1/scale", (1, 128)),
    ],
)
def test_wrong_shape(key, shape, flat, write):
    flat[key] = np.zeros(shape, np.float32)
    with pytest.raises(CheckpointError):
        convert_so3lr(write(nested(flat)))


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("observables_0/atomic_scales", (120,)),
        ("observables_0/energy_dense_final/kernel", (128,)),
        ("observables_0/zbl_repulsion/a1", ()),
        ("layers_0/attention_block/Wq1", (32, 4, 32)),
        ("layers_0/attention_block/Wk1", (32,)),
        ("layers_0/attention_block/radial_filter1_layer_2/bias", (127,)),
    ],
)
def test_wrong_shape_that_does_not_even_convert(key, shape, flat, write):
    flat[key] = np.zeros(shape, np.float32)
    with pytest.raises(CheckpointError):
        convert_so3lr(write(nested(flat)))


def array_pickle(shape: object, raw: object, dtype: object = np.dtype("float32"), fortran: object = False) -> dict:
    """An array whose state says what numpy would never write."""
    state = (1, shape, dtype, fortran, raw)
    return {"params": {"a": Reduced(np._core.multiarray._reconstruct, np.ndarray, (0,), b"b", state=state)}}


@pytest.mark.parametrize(
    ("shape", "raw"),
    [
        ((2**62,), b""),
        ((2**40, 2**40), b"abcd"),
        ((-1,), b""),
        ((-1, -1), b"abcd"),
        ((0.5, 2), b"abcd"),
        (("a",), b"abcd"),
        ([1], b"abcd"),
        ((1,), [1.0]),
        ((1,), "abcd"),
        ((1,), bytearray(b"abcd")),
        (None, b"abcd"),
        ((1,) * 70, b"abcd"),
    ],
)
def test_array_that_lies_about_itself(shape, raw, write):
    with pytest.raises(CheckpointError):
        read_parameters(write(array_pickle(shape, raw)))


@pytest.mark.parametrize("state", [(), (1, 2), "state", {"a": 1}])
def test_array_with_a_strange_state(state, write):
    array = Reduced(np._core.multiarray._reconstruct, np.ndarray, (0,), b"b", state=state)
    with pytest.raises(CheckpointError):
        read_parameters(write({"params": {"a": array}}))


def test_array_without_state(write):
    array = Reduced(np._core.multiarray._reconstruct, np.ndarray, (0,), b"b")
    with pytest.raises(CheckpointError):
        read_parameters(write({"params": {"a": array}}))


def test_tree_that_holds_itself(write):
    tree: dict = {}
    tree["params"] = tree
    with pytest.raises(CheckpointError):
        read_parameters(write(tree))


@pytest.mark.parametrize("depth", [4000, 200_000])
def test_deeply_nested_key_does_not_end_the_process(depth, tmp_path):
    """`hash` walks down nested tuples on the C stack, where an overflow cannot be caught."""
    path = tmp_path / "params.pkl"
    path.write_bytes(b"\x80\x04})" + b"\x85" * depth + b"K\x01s.")
    code = "import sys; from heliodor.convert.so3lr import read_parameters; read_parameters(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "CheckpointError" in done.stderr


def test_small_file_that_unfolds_to_a_huge_tree(write):
    branch: dict = {}
    for _ in range(60):
        branch = {"a": branch, "b": branch}

    def give_up(*_: object) -> None:
        raise TimeoutError

    previous = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    try:
        with pytest.raises(CheckpointError):
            read_parameters(write({"params": branch}))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, previous)


def test_small_file_that_asks_for_a_huge_memo(write):
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError):
            read_parameters(write(b"\x80\x04}r" + (2**22).to_bytes(4, "little") + b"."))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * 2**20


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_parameters_that_are_not_numbers(value, flat, write):
    flat["layers_1/attention_block/Wv1"][0, 0, 0] = value
    with pytest.raises(CheckpointError, match="finite"):
        convert_so3lr(write(nested(flat)))


def test_too_large(tmp_path):
    path = tmp_path / "params.pkl"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(CheckpointError, match="larger than any"):
        convert_so3lr(path)


def test_a_folder_called_pkl(tmp_path):
    path = tmp_path / "params.pkl"
    path.mkdir()
    with pytest.raises(CheckpointError):
        heliodor.load(path)


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointError):
        convert_so3lr(tmp_path / "params.pkl")
