"""Tensors and zip members that lie about themselves, and files that are damaged or cut off."""

from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from archives import REDUCE, Num, Obj, Writer, archive, module, ordered, pack, refused

from heliodor.convert import archive as reader
from heliodor.convert.archive import read_archive, state_dict
from heliodor.errors import CheckpointError

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
    content = archive(module("mace.modules.x", {"a": np.zeros(500), "b": np.zeros(500)}))
    assert len(state_dict(read_archive(write(content)).root)) == 2
    first, second = content.rfind(b"archive/data/0"), content.rfind(b"archive/data/1")
    # where a member begins stands in the four bytes before its name
    refused(write(content[: second - 4] + content[first - 4 : first] + content[second:]))


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
