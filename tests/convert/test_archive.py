"""The reader of torch archives: exact where they are right, deaf to code, and one plain error where they are not."""

from __future__ import annotations

import hashlib
import struct
import tracemalloc

import numpy as np
import pytest
import torch
from archives import REDUCE, Name, Num, Obj, Writer, module, modules_of, pack, pickled, refused

from heliodor.convert import archive as reader
from heliodor.convert.archive import attribute, class_name, read_archive, state_dict
from heliodor.errors import CheckpointError

LINEAR = "torch.nn.modules.linear.Linear"


# what is right ----------------------------------------------------------------------------------------------


def test_modules_become_a_flat_dict(write, rng):
    weight, bias, running = rng.normal(size=(3, 2)), np.arange(3, dtype="<f4"), np.arange(6, dtype="<i8").reshape(2, 3)
    inner = module(
        LINEAR, {"weight": weight, "bias": bias}, {"count": running, "flag": np.array([True, False])}, size=7
    )
    tree = module(
        "mace.modules.models.MACE", modules={"layers": modules_of([inner, module(LINEAR)])}, r=0.5, f=[1, {"a": "b"}]
    )
    path = write(tree)
    read = read_archive(path)
    state = state_dict(read.root)
    assert list(state) == [f"layers.0.{key}" for key in ("weight", "bias", "count", "flag")]
    for key, expected in (("weight", weight), ("bias", bias), ("count", running), ("flag", [True, False])):
        np.testing.assert_array_equal(state[f"layers.0.{key}"].numpy(), expected)
    assert state["layers.0.bias"].dtype == torch.float32
    assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
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
    refused(write(pickled(b"}" + b")" + b"\x85" * 30_000 + b"K\x01s")), "damaged")


def test_deep_values_are_only_values(write):
    read = read_archive(write(pickled(b")" + b"\x85" * 20_000)))
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


def test_small_file_that_unfolds_to_many_parameters(write):
    """Ten thousand times fifty thousand of nothing would keep a reader busy for minutes."""
    word = Writer().one
    nothing = b"".join(word(str(n)) + b"N" for n in range(50_000))
    body = b"cmace.modules.blocks\nX\nq\x00)\x81}" + word("_parameters") + b"}(" + nothing + b"usbq\x01"
    places = b"".join(word(str(n)) + b"h\x01" for n in range(10_000))
    body += b"h\x00)\x81}" + word("_modules") + b"}(" + places + b"usb"
    read = read_archive(write(pickled(body + b"\x86")))
    with pytest.raises(CheckpointError, match="more, or more deeply"):
        state_dict(read.root[1])


def test_the_same_numbers_over_and_over(write, monkeypatch):
    read = read_archive(write(modules_of([module(LINEAR, {"weight": np.ones(1024)})] * 3)))
    monkeypatch.setattr("heliodor.convert.archive.MAX_BYTES", 3 * 2**12)
    assert len(state_dict(read.root)) == 3
    monkeypatch.setattr("heliodor.convert.archive.MAX_BYTES", 2 * 2**12)
    with pytest.raises(CheckpointError, match="over and over"):
        state_dict(read.root)


def test_too_many_instructions(write, monkeypatch):
    monkeypatch.setattr("heliodor.convert.pickled.MAX_INSTRUCTIONS", 100)
    refused(write(pickled(b"(" + b"K\x01" * 200 + b"t")), "longer than")
