"""The reader of torch archives: exact where they are right, deaf to code, and one plain error where they are not."""

from __future__ import annotations

import contextlib
import hashlib
import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from archives import REDUCE, Name, Num, Obj, Writer, archive, module, modules_of, ordered, pack

from heliodor.convert import archive as reader
from heliodor.convert.archive import attribute, class_name, read_archive, state_dict
from heliodor.errors import CheckpointError

LINEAR = "torch.nn.modules.linear.Linear"


@pytest.fixture
def write(tmp_path: Path):
    def to_file(content: object) -> Path:
        path = tmp_path / "x.model"
        path.write_bytes(content if isinstance(content, bytes) else archive(content))
        return path

    return to_file


def refused(path: Path, words: str | None = None) -> None:
    with pytest.raises(CheckpointError, match=words) as caught:
        read_archive(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def pickled(opcodes: bytes) -> bytes:
    return pack(b"\x80\x02" + opcodes + b".", {})


# what is right ----------------------------------------------------------------------------------------------


def test_modules_become_a_flat_dict(write, rng):
    weight, bias, running = rng.normal(size=(3, 2)), np.arange(3, dtype="<f4"), np.arange(6, dtype="<i8").reshape(2, 3)
    inner = module(
        LINEAR, {"weight": weight, "bias": bias}, {"count": running, "flag": np.array([True, False])}, size=7
    )
    tree = module(
        "mace.modules.models.MACE", modules={"layers": modules_of([inner, module(LINEAR)])}, r=0.5, f=[1, {"a": "b"}]
    )
    read = read_archive(write(tree))
    state = state_dict(read.root)
    assert list(state) == [f"layers.0.{key}" for key in ("weight", "bias", "count", "flag")]
    for key, expected in (("weight", weight), ("bias", bias), ("count", running), ("flag", [True, False])):
        np.testing.assert_array_equal(state[f"layers.0.{key}"].numpy(), expected)
    assert state["layers.0.bias"].dtype == torch.float32
    assert read.sha256 == hashlib.sha256((write(tree)).read_bytes()).hexdigest()
    assert class_name(read.root) == "mace.modules.models.MACE"
    assert class_name(attribute(read.root, "layers.0")) == LINEAR
    assert (attribute(read.root, "r"), attribute(read.root, "layers.0.size")) == (0.5, 7)
    assert attribute(read.root, "f.1.a") == "b"
    assert attribute(read.root, "layers.5.weight") is None
    assert attribute(read.root, "layers.0.weight.x.y", "nothing") == "nothing"


def test_views(write):
    """Strides, offsets, and several tensors in one storage."""
    array = np.arange(12.0)
    tree = module("mace.modules.x", {"a": array})
    tree.state["_parameters"]["b"] = Num(array, size=(3, 2), stride=(1, 4), offset=2)
    tree.state["_parameters"]["c"] = Num(array, size=(0, 3), stride=(3, 1), offset=0)
    tree.state["_buffers"]["d"] = Num(array, size=(), stride=(), offset=11)
    state = state_dict(read_archive(write(tree)).root)
    assert state["b"].tolist() == [[2, 6], [3, 7], [4, 8]]
    assert state["c"].shape == (0, 3)
    assert state["d"].item() == 11.0


def test_what_torch_itself_writes(tmp_path):
    """Names, alignment and extra members of a real file; buffers that are not persistent are left out."""
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.SiLU(), torch.nn.Linear(3, 1)).double()
    net.register_buffer("kept", torch.arange(3))
    net.register_buffer("left", torch.arange(3), persistent=False)
    torch.save(net, tmp_path / "x.model")
    state = state_dict(read_archive(tmp_path / "x.model").root)
    assert state.keys() == net.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in net.state_dict().items())


# what would run code ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [REDUCE, b"\x81"])
@pytest.mark.parametrize(
    "name",
    [
        "posix.system",
        "os.system",
        "builtins.eval",
        "__builtin__.exec",
        "builtins.getattr",
        "torch.load",
        "torch.jit._serialization.load",
        "torch.serialization.load",
        "torch.storage._load_from_bytes",
        "torch._utils._rebuild_wrapper_subclass",
        "torch.hub.load",
        "numpy.load",
        "subprocess.Popen",
        "mace.cli.run_train.main",
        "heliodor.convert.archive._build",
        "functools.partial",
        "copyreg._reconstructor",
        "torch.nn.Module",
    ],
)
def test_foreign_names_are_refused(name, call, tmp_path, write):
    target = tmp_path / "executed"
    tree = module("mace.modules.x", a=Obj(name, (f"touch '{target}'",), call=call))
    refused(write(tree), f"asks for {name}")
    assert not target.exists()


def test_generated_code_is_not_run(tmp_path, write):
    """`reduce_graph_module` exec()s text out of the file when it is torch's own: here it is a word."""
    target = tmp_path / "executed"
    source = f"open({str(target)!r}, 'w').close()\n"
    exec(source)
    assert target.exists(), "the payload is harmless: the test would prove nothing"
    target.unlink()
    body = {"_code": "def forward(self):\n    pass\n", "_tracer_cls": Name("torch.fx._symbolic_trace.Tracer")}
    graph = Obj("torch.fx.graph_module.reduce_graph_module", (body, source), call=REDUCE)
    read = read_archive(write(module("mace.modules.x", {"a": np.ones(2)}, modules={"graph": graph})))
    assert list(state_dict(read.root)) == ["a"]
    assert not target.exists()


def test_torchscript_is_dropped(write):
    blob = Obj("_codecs.encode", ("PK\x03\x04 whatever", "latin1"), call=REDUCE)
    read = read_archive(write(module("e3nn.o3._linear.Linear", __codegen__={"_compiled_main": blob})))
    assert attribute(read.root, "__codegen__._compiled_main") == b""


@pytest.mark.parametrize(
    "name",
    ["mace.modules.blocks.__globals__['os'].system", "mace.modules.a\u00e9.b", "mace.modules. os.system", "torch.fx."],
)
def test_names_that_are_no_names(name, write):
    word = name.encode()
    head, tail = word.rsplit(b".", 1)
    refused(write(pickled(b"c" + head + b"\n" + tail + b"\n")))


def test_a_file_cannot_change_our_code(write):
    """BUILD on a name, on a list, or twice on one object."""
    state = b"}(X\x06\x00\x00\x00poisonX\x01\x00\x00\x00yu"
    for victim in (b"cmace.modules.blocks\nX\n", b"]", b"}", b")", b"K\x01"):
        refused(write(pickled(victim + state + b"b")))
    refused(write(pickled(b"cmace.modules.blocks\nX\n)\x81" + state + b"b" + state + b"b")))
    assert not any(hasattr(thing, "poison") for thing in vars(reader).values())


@pytest.mark.parametrize(
    "opcodes",
    [
        b"K\x01K\x02R",
        b"K\x01)R",
        b"K\x01)\x81",
        b"(K\x01i" + b"posix\nsystem\n",
        b"(cposix\nsystem\nX\x02\x00\x00\x00lso",
        b"\x8c\x05posix\x8c\x06system\x93",
        b"\x82\x01",
        b"Pname\n",
        b"I1\n",
        b"S'a'\n",
        b"\x8c\x01a\x94",
        b"}K\x01e",
        b"]K\x01K\x02s",
        b"0",
        b"",
        b"K\x01K\x02",
        b"(K\x01",
        b"h\x05",
        b"q\x00",
        b"t",
        b"K\x01Q",
        b"(X\x07\x00\x00\x00storageK\x01tQ",
    ],
)
def test_unknown_or_senseless_instructions(opcodes, write):
    refused(write(pickled(opcodes)))


def test_other_protocols_and_trailing_bytes(write):
    refused(write(pack(b"\x80\x04].", {})))
    refused(write(pack(b"\x80\x02].]", {})))
    refused(write(pack(b"", {})))


# what would take all memory, or the whole stack ---------------------------------------------------------------


def test_huge_memo_index(write):
    path = write(pickled(b"]r" + struct.pack("<I", 2**31)))
    tracemalloc.start()
    refused(path, "truncated or damaged")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**21


def test_deep_tuple_as_a_key(write):
    """Hashing it overflows the C stack and ends the process, in an Unpickler with any find_class."""
    refused(write(pickled(b"}" + b")" + b"\x85" * 1_000_000 + b"K\x01s")), "damaged")


def test_deep_values_are_only_values(write):
    read = read_archive(write(pickled(b")" + b"\x85" * 100_000)))
    assert attribute(read.root, "0.0") == read.root[0][0]
    with pytest.raises(CheckpointError, match="no module"):
        state_dict(read.root)


def nested(depth: int) -> Obj:
    tree = module("mace.modules.x")
    for _ in range(depth):
        tree = module("mace.modules.x", modules={"a": tree})
    return tree


def test_deep_modules(write):
    assert state_dict(read_archive(write(nested(20))).root) == {}
    with pytest.raises(CheckpointError, match="deeply nested"):
        state_dict(read_archive(write(nested(100))).root)


def test_module_that_holds_itself(write):
    def text(word: str) -> bytes:
        return Writer().one(word)

    opcodes = b"cmace.modules.blocks\nX\n)\x81q\x00}" + text("_modules") + b"}" + text("a") + b"h\x00ssb"
    read = read_archive(write(pickled(opcodes)))
    assert repr(read.root) == "<mace.modules.blocks.X>"
    with pytest.raises(CheckpointError, match="deeply nested"):
        state_dict(read.root)


def test_small_file_that_unfolds_to_many_modules(write):
    """Sixteen modules twice in one another are 65 536; sixty would be more than there is time for."""
    inner = b"h\x00)\x81}b"
    body = b"(cmace.modules.blocks\nX\nq\x00" + inner + b"q\x01"
    for n in range(16):
        item = b"h" + bytes([n + 1])
        group, a, b = (Writer().one(word) for word in ("_modules", "a", "b"))
        body += b"h\x00)\x81}" + group + b"}(" + a + item + b + item + b"us" + b"bq" + bytes([n + 2])
    read = read_archive(write(pickled(body + b"t")))
    with pytest.raises(CheckpointError, match="more, or more deeply"):
        state_dict(read.root[-1])


def test_too_many_instructions(write, monkeypatch):
    monkeypatch.setattr("heliodor.convert.pickled.MAX_INSTRUCTIONS", 100)
    refused(write(pickled(b"(" + b"K\x01" * 200 + b"t")), "longer than")


# tensors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": (5,)},
        {"offset": 1},
        {"offset": -1},
        {"offset": 2**62},
        {"offset": None},
        {"offset": True},
        {"size": (-1,)},
        {"size": (2, 2), "stride": (-1, 1)},
        {"size": (2, 2), "stride": (2, 2)},
        {"size": (2, 2), "stride": (1,)},
        {"size": (2**40,), "stride": (0,)},
        {"size": (100,), "stride": (0,)},
        {"size": (2**31, 2**31), "stride": (0, 0)},
        {"size": (2**100,), "stride": (0,)},
        {"size": (4.0,)},
        {"size": [4]},
        {"size": ("a",)},
        {"size": None, "stride": (2**62,)},
        {"size": (1,) * 9, "stride": (1,) * 9},
        {"count": 3},
        {"count": 5},
        {"count": -4},
        {"count": 4.0},
        {"kind": "Float"},
        {"kind": "Bool"},
        {"kind": "Int", "size": (8,), "stride": (1,)},
        {"kind": "ComplexDouble"},
        {"kind": "Untyped"},
    ],
)
def test_tensor_that_lies_about_itself(wrong, write):
    tree = module("mace.modules.x")
    tree.state["_parameters"]["a"] = Num(np.arange(4.0), **wrong)
    refused(write(tree))


def test_storages_that_are_not_there_or_not_whole(write):
    tree = module("mace.modules.x", {"a": np.arange(4.0)})
    writer = Writer()
    content = writer.encode(tree)
    refused(write(pack(content, {})), "damaged")
    refused(write(pack(content, {"0": b"1234567"})), "whole numbers")
    refused(write(pack(content, {"0": writer.storages["0"][:-8]})), "type or length")
    refused(write(pack(content, {"0": writer.storages["0"] + bytes(8)})), "type or length")
    assert list(state_dict(read_archive(write(pack(content, writer.storages))).root)) == ["a"]


def test_one_storage_as_two_types(write):
    as_double = Num(np.arange(4.0))
    writer = Writer()
    first = writer.one(as_double)
    second = first.replace(b"DoubleStorage", b"LongStorage")
    content = b"\x80\x02(" + first + second + b"t."
    refused(write(pack(content, writer.storages)), "type or length")


def test_truth_values_other_than_0_and_1(write):
    tree = module("mace.modules.x", buffers={"a": np.zeros(3, dtype=bool)})
    content = Writer().encode(tree)
    state = state_dict(read_archive(write(pack(content, {"0": b"\x00\x02\xff"}))).root)
    assert state["a"].tolist() == [False, True, True]
    assert int(state["a"].sum()) == 2


def test_parameter_of_no_tensor(write):
    refused(
        write(module("mace.modules.x", a=Obj("torch._utils._rebuild_parameter", (1, True, ordered()), call=REDUCE)))
    )
    refused(write(module("mace.modules.x", a=Obj("torch._utils._rebuild_parameter", (), call=REDUCE))))
    refused(write(module("mace.modules.x", a=Obj("torch._utils._rebuild_tensor_v2", (1, 2), call=REDUCE))))
    refused(write(module("mace.modules.x", a=Obj("collections.OrderedDict", ([],), call=REDUCE))))


# the zip ------------------------------------------------------------------------------------------------------


SMALL = module("mace.modules.x", {"a": np.arange(40.0)})


def test_truncated_anywhere(tmp_path):
    content = archive(SMALL)
    path = tmp_path / "x.model"
    for kept in {*range(0, 64), *range(0, len(content), 23), *range(len(content) - 64, len(content))}:
        path.write_bytes(content[:kept])
        refused(path)


def test_pickle_truncated_anywhere(write):
    writer = Writer()
    content = writer.encode(SMALL)
    for kept in range(0, len(content), 3):
        refused(write(pack(content[:kept], writer.storages)))


def test_damaged_anywhere(tmp_path, rng):
    """Either it is refused, or it was a byte that means nothing to us; never another exception."""
    content = bytearray(archive(SMALL))
    path = tmp_path / "x.model"
    for place in rng.integers(0, len(content), 300).tolist():
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with contextlib.suppress(CheckpointError):
            state_dict(read_archive(path).root)


def zipped(members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as out:
        for name, raw in members:
            out.writestr(name, raw)
    return file.getvalue()


GOOD = [("a/data.pkl", b"\x80\x02]."), ("a/byteorder", b"little"), ("a/version", b"3\n")]


def test_big_endian(write):
    refused(write(pack(Writer().encode(SMALL), {}, byteorder=b"big")), "big-endian")


def test_compressed(write):
    assert read_archive(write(zipped(GOOD))).root == []
    bomb = [*GOOD, ("a/data/0", bytes(50 * 2**20))]
    content = zipped(bomb, zipfile.ZIP_DEFLATED)
    assert len(content) < 2**20
    tracemalloc.start()
    refused(write(content), "compressed")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * 2**20


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_names(write):
    refused(write(zipped([*GOOD, ("a/data.pkl", b"\x80\x02}.")])), "twice")


@pytest.mark.parametrize(
    "name",
    [
        "../data/0",
        "/data/0",
        "a/../b",
        "a/data/../../x",
        "a\\data\\0",
        "a/data/x",
        "a/code/x.py",
        "a/data/",
        "b",
        "a//",
        "./a",
    ],
)
def test_odd_names(name, write):
    refused(write(zipped([*GOOD, (name, b"x")])))


def test_two_archives_or_none(write):
    refused(write(zipped([*GOOD, ("b/data/0", b"")])), "more than one")
    refused(write(zipped(GOOD[1:])), "not one that torch.save wrote")
    refused(write(zipped([])))
    for content in (b"", b"hello", b"\x80\x02].", bytes(1000), b"PK\x05\x06" + bytes(18)):
        refused(write(content))


def test_too_many_members(write, monkeypatch):
    monkeypatch.setattr(reader, "MAX_MEMBERS", 10)
    assert read_archive(write(zipped([*GOOD, *((f"a/data/{n}", b"") for n in range(7))]))).root == []
    refused(write(zipped([*GOOD, *((f"a/data/{n}", b"") for n in range(8))])), "more files than")


def test_directory_that_says_it_is_huge(write):
    content = bytearray(zipped(GOOD))
    struct.pack_into("<I", content, len(content) - 10, 2**31)
    refused(write(bytes(content)), "more files than")


def test_members_that_overlap(write):
    """Two lines of the table of contents for one run of bytes."""
    content = zipped([*GOOD, ("a/data/0", bytes(4000)), ("a/data/1", bytes(4000))])
    first, second = content.rfind(b"a/data/0"), content.rfind(b"a/data/1")
    # the offset of the member stands four bytes before its name in the table
    offset = content[first - 4 : first]
    refused(write(content[: second - 4] + offset + content[second:]))


def test_encrypted(write):
    content = bytearray(zipped(GOOD))
    table = content.rfind(b"PK\x01\x02")
    content[table + 8] |= 1
    refused(write(bytes(content)), "encrypted")


def test_too_large_missing_or_a_folder(tmp_path):
    path = tmp_path / "x.model"
    with path.open("wb") as file:
        file.truncate(reader.MAX_BYTES + 1)
    refused(path, "larger than any")
    refused(tmp_path / "absent.model", "no such")
    refused(tmp_path, "no such")
