"""Reader of ``torch.save`` zip archives that executes nothing: a tree of inert stubs, and tensors as views of storages.

Source: torch's serialisation format (``NAME/data.pkl``, ``NAME/data/<i>``, ``NAME/byteorder``) as described in
shared/specs/mace.md, section 3. torch itself is used for tensors only, never to load.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heliodor.convert.pickled import Name, Stub, unpickle
from heliodor.errors import CheckpointError

MAX_BYTES = 512 * 2**20
MAX_PICKLE = 16 * 2**20
MAX_MEMBERS = 10_000
MAX_DIRECTORY = 4 * 2**20
MAX_DEPTH = 24
MAX_MODULES = 40_000
MAX_DIMENSIONS = 8

_MEMBER = re.compile(r"(?P<root>[^/\\\0]{1,200})/(?P<rest>data\.pkl|byteorder|version|data/\d{1,12}|\.[a-z_/]{1,40})")
_WORD = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*){1,20}", re.ASCII)
_FAMILIES = ("mace.modules.", "mace.tools.", "e3nn.", "torch.nn.modules.", "torch.nn.functional.", "torch.fx.")
_SINGLE = frozenset(
    {
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_parameter",
        "collections.OrderedDict",
        "__builtin__.set",
        "builtins.set",
        "_codecs.encode",
        "torch.Size",
        "torch.device",
        "torch.float32",
        "torch.float64",
    }
)
_TYPES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
"""Storages by the name the file gives their type."""


@dataclass(frozen=True, eq=False)
class Archive:
    """A ``torch.save`` file, read.

    Attributes:
        root: the pickled object, of stubs.
        sha256: hex digest of the whole file.
    """

    root: Any
    sha256: str


def read_archive(path: str | Path) -> Archive:
    """Read a ``torch.save`` zip archive without executing anything.

    Raises:
        CheckpointError: no such file, not such an archive, damaged, too large, big-endian, compressed, or asking for
            names that models never need.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no such model file: {path}")
    if path.stat().st_size > MAX_BYTES:
        raise CheckpointError(f"{path} is larger than any model file ({MAX_BYTES >> 20} MB)")
    content = path.read_bytes()
    try:
        root = _read(content)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except Exception as error:
        raise CheckpointError(f"{path} is not a readable torch archive (truncated or damaged): {error}") from None
    return Archive(root, hashlib.sha256(content).hexdigest())


def state_dict(module: Any) -> dict[str, Tensor]:
    """Parameters and persistent buffers by their dotted names, as ``torch.nn.Module.state_dict`` would give them.

    Returns:
        Views of the file's storages, in the file's own types.

    Raises:
        CheckpointError: not a module, or modules nested deeper, or more of them, than any model has.
    """
    flat: dict[str, Tensor] = {}
    count, held = 0, 0

    def walk(current: Any, prefix: str, depth: int) -> None:
        nonlocal count, held
        if not isinstance(current, Stub) or not isinstance(current.state, dict):
            raise CheckpointError(f"the file holds no module where one should be ({prefix or 'the model itself'})")
        transient = _members(current.state.get("_non_persistent_buffers_set"))
        groups = [_mapping(current.state.get(group)) for group in ("_parameters", "_buffers", "_modules")]
        # what is mentioned often is there often: a small file can be a large tree
        count += 1 + sum(map(len, groups))
        if depth > MAX_DEPTH or count > MAX_MODULES:
            raise CheckpointError("the file holds more, or more deeply nested, modules than any model has")
        for key, value in (item for group in groups[:2] for item in group.items()):
            if isinstance(value, Tensor) and key not in transient:
                flat[f"{prefix}{key}"] = value
                held += value.numel() * value.element_size()
        if held > 2 * MAX_BYTES:
            raise CheckpointError("the file holds the same numbers over and over, as no model does")
        for key, value in groups[2].items():
            # generated code, of which the reader keeps nothing; it holds no numbers of its own
            if value is not None and not class_name(value).startswith("torch.fx."):
                walk(value, f"{prefix}{key}.", depth + 1)

    walk(module, "", 0)
    return flat


def attribute(module: Any, path: str, default: Any = None) -> Any:
    """What lies at a dotted path: submodules, parameters, buffers, plain attributes, items of lists and dicts.

    Returns:
        The value, or `default` where the path leads nowhere.
    """
    current = module
    for part in path.split("."):
        if isinstance(current, Stub) and isinstance(current.state, dict):
            state = current.state
            groups = [_mapping(state.get(group)) for group in ("_modules", "_parameters", "_buffers")]
            current = next((group[part] for group in groups if part in group), state.get(part))
        elif isinstance(current, dict):
            current = current.get(part)
        elif isinstance(current, (list, tuple)) and part.isdecimal() and int(part) < len(current):
            current = current[int(part)]
        else:
            current = None
        if current is None:
            return default
    return current


def class_name(module: Any) -> str:
    """Full name of the class a stub stands for; empty for anything else."""
    return module.name if isinstance(module, Stub) else ""


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _members(value: Any) -> frozenset[str]:
    """The words in a pickled set."""
    items = value.arguments[0] if isinstance(value, Stub) and value.arguments else ()
    if not isinstance(items, (list, tuple)):
        return frozenset()
    return frozenset(item for item in items if isinstance(item, str))


@dataclass(frozen=True, eq=False)
class _Storage:
    """A run of numbers, shape [n]."""

    values: Tensor


def _read(content: bytes) -> Any:
    _check_directory(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = _check_members(archive.infolist(), len(content))
        if "data.pkl" not in members:
            raise CheckpointError("it is a zip archive, but not one that torch.save wrote")
        if "byteorder" in members and archive.read(members["byteorder"]) != b"little":
            raise CheckpointError("its numbers are big-endian")
        if members["data.pkl"].file_size > MAX_PICKLE:
            raise CheckpointError("its pickle is longer than that of any model")
        storages: dict[str, _Storage] = {}

        def persistent(identity: Any) -> _Storage:
            kind, storage_type, key, _, count = identity
            if kind != "storage" or not isinstance(storage_type, Name) or type(key) is not str:
                raise ValueError
            if key not in storages:
                storages[key] = _storage(archive, members, storage_type.text, key)
            values = storages[key].values
            if values.dtype != _TYPES[storage_type.text] or type(count) is not int or count != len(values):
                raise CheckpointError(f"storage {key} is not of the type or length the file says")
            return storages[key]

        return unpickle(archive.read(members["data.pkl"]), _allowed, _build, persistent)


def _check_directory(content: bytes) -> None:
    """Refuse a huge table of contents before `zipfile` makes an object of each line."""
    end = content[-22:]
    if len(end) < 22 or end[:4] != b"PK\x05\x06":
        raise CheckpointError("it is not a torch archive, or it is truncated")
    count, size = struct.unpack("<HI", end[10:16])
    locator = content[-42:-22]
    if locator[:4] == b"PK\x06\x07":
        record = struct.unpack("<Q", locator[8:16])[0]
        if record + 56 > len(content):
            raise CheckpointError("it is not a torch archive, or it is truncated")
        count, size = struct.unpack("<QQ", content[record + 32 : record + 48])
    if count > MAX_MEMBERS or size > MAX_DIRECTORY:
        raise CheckpointError("it holds more files than any model")


def _check_members(infos: list[zipfile.ZipInfo], total: int) -> dict[str, zipfile.ZipInfo]:
    """Members by their name below the root folder; nothing compressed, encrypted, doubled or oddly named."""
    members: dict[str, zipfile.ZipInfo] = {}
    roots = set()
    if len(infos) > MAX_MEMBERS:
        raise CheckpointError("it holds more files than any model")
    for info in infos:
        match = _MEMBER.fullmatch(info.filename)
        if match is None or ".." in info.filename:
            raise CheckpointError(f"it holds a file torch never writes ({info.filename[:60]!r})")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 1:
            raise CheckpointError(f"its file {info.filename[:60]!r} is compressed or encrypted, as torch never does")
        if match["rest"] in members:
            raise CheckpointError(f"it holds {info.filename[:60]!r} twice")
        roots.add(match["root"])
        members[match["rest"]] = info
    if len(roots) != 1:
        raise CheckpointError("it holds more than one archive, or none")
    if sum(info.file_size for info in infos) > total:
        raise CheckpointError("its files overlap")
    return members


def _storage(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], kind: str, key: str) -> _Storage:
    dtype = _TYPES[kind]
    raw = bytearray(archive.read(members[f"data/{key}"]))
    if len(raw) % dtype.itemsize:
        raise CheckpointError(f"storage {key} does not hold whole numbers of its type")
    if not raw:
        return _Storage(torch.empty(0, dtype=dtype))
    # bytes other than 0 and 1 are no truth values to torch
    bytewise = torch.frombuffer(raw, dtype=torch.uint8)
    return _Storage(bytewise != 0 if dtype == torch.bool else torch.frombuffer(raw, dtype=dtype))


def _allowed(name: str) -> bool:
    if _WORD.fullmatch(name) is None:
        return False
    return name in _SINGLE or name in _TYPES or name.startswith(_FAMILIES)


def _build(name: str, arguments: tuple[Any, ...]) -> Any:
    if name == "torch._utils._rebuild_tensor_v2":
        return _view(*arguments[:4])
    if name == "torch._utils._rebuild_parameter":
        if not isinstance(arguments[0], Tensor):
            raise TypeError
        return arguments[0]
    if name == "collections.OrderedDict":
        if arguments:
            raise TypeError
        return {}
    if name == "_codecs.encode":
        # TorchScript archives inside the file pass through here, and nothing else
        return b""
    return Stub(name, arguments)


def _view(storage: Any, offset: Any, size: Any, stride: Any) -> Tensor:
    """A tensor as a view of its storage, never reaching outside and never larger than it."""
    if not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise TypeError
    numbers = (offset, *size, *stride)
    if not isinstance(storage, _Storage) or not all(type(n) is int and 0 <= n <= MAX_BYTES for n in numbers):
        raise CheckpointError("it holds a tensor with a wrong shape, stride or offset")
    if len(size) != len(stride) or len(size) > MAX_DIMENSIONS:
        raise CheckpointError("it holds a tensor with a wrong shape, stride or offset")
    count, last = 1, offset
    for length, step in zip(size, stride, strict=True):
        count *= length
        last += (length - 1) * step
    if count and (count > len(storage.values) or last >= len(storage.values)):
        raise CheckpointError("it holds a tensor that reaches outside its storage")
    if not count:
        return storage.values.new_empty(size)
    return torch.as_strided(storage.values, size, stride, offset)
