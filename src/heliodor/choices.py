"""Choices: frozen dataclasses with a help text per field, read from YAML with errors that name the misspelt one."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import textwrap
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import field, fields
from typing import Any, TypeVar

from heliodor.errors import InputError, suggestion

T = TypeVar("T")


def option(default: Any, text: str) -> Any:
    """A field with its help text; lists and mappings as default are copied."""
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata={"help": text})
    return field(default=default, metadata={"help": text})


def read_fields(cls: type[T], values: Any, where: str = "") -> T:
    """A frozen dataclass from names and values, those of dataclasses among its fields likewise.

    Args:
        where: what stands before the names in messages, such as "training.".

    Raises:
        InputError: a name that no field has, with the one that was probably meant; a value of the wrong kind.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{where.rstrip('.') or 'the configuration'} should hold names and values, not {values!r}")
    hints = typing.get_type_hints(cls)
    names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name not in names:
            raise InputError(f"unknown entry {where}{name}{suggestion(name, names)}")
        kind = hints[name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            found[name] = read_fields(kind, {} if value is None else value, f"{where}{name}.")
        else:
            found[name] = _as(kind, value, f"{where}{name}")
    return cls(**found)


def _as(kind: Any, value: Any, where: str) -> Any:
    """The value as its field wants it."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        kinds = [a for a in arguments if a is not type(None)]
        fitting = [a for a in kinds if isinstance(value, typing.get_origin(a) or a)]
        return _as((fitting or kinds)[0], value, where)
    if origin is tuple:
        items = value if isinstance(value, (list, tuple)) else [value]
        return tuple(_as(arguments[0], item, where) for item in items)
    if kind is Any or (origin is not None and isinstance(value, Mapping)):
        return value
    if kind is float and isinstance(value, str):
        # YAML reads 1e-3 as text
        with contextlib.suppress(ValueError):
            value = float(value)
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
    raise InputError(f"{where} should be {words.get(kind, 'names and values')}, not {value!r}")


def override(values: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """``a.b=c`` put into what a YAML file holds.

    Raises:
        InputError: not of that form.
    """
    import yaml

    for change in changes:
        name, equals, text = change.partition("=")
        *rooms, last = name.strip().split(".")
        if not equals or not all([*rooms, last]):
            raise InputError(f"--set wants NAME=VALUE, with points in the name as in output.folder=run, not {change!r}")
        place = values
        for room in rooms:
            if place.get(room) is None:
                place[room] = {}
            place = place[room]
            if not isinstance(place, dict):
                raise InputError(f"--set {name}: {room} holds no further names")
        try:
            place[last] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise InputError(f"--set {name}: {text!r} is not a value") from None
    return values


def explain_fields(values: Any, depth: int = 0) -> str:
    """All choices of a dataclass with their values as commented YAML."""
    lines = []
    pad, words = "  " * depth, field_help(type(values))
    for f in fields(values):
        value = getattr(values, f.name)
        if dataclasses.is_dataclass(value):
            lines += [f"{pad}{f.name}:  # {words[f.name]}", explain_fields(value, depth + 1)]
        else:
            lines.append(f"{pad}{f.name}: {in_yaml(value)}".rstrip() + f"  # {words[f.name]}")
    return "\n".join(lines)


def field_help(cls: Any) -> dict[str, str]:
    """What is said of each field of a dataclass, by `option` or in the docstring, by name."""
    text = textwrap.dedent((cls.__doc__ or "").partition("Attributes:\n")[2])
    found: dict[str, str] = {}
    for match in re.finditer(r"^([a-z_, ]+): (.*(?:\n +.*)*)", text, re.MULTILINE):
        words = " ".join(match.group(2).split())
        found |= {name.strip(): words for name in match.group(1).split(",")}
    return found | {f.name: f.metadata["help"] for f in fields(cls) if "help" in f.metadata}


def in_yaml(value: Any) -> str:
    """A value in one line of YAML; nothing for None."""
    import yaml

    if value is None:
        return ""
    plain = list(value) if isinstance(value, tuple) else value
    return str(yaml.safe_dump(plain, default_flow_style=True, allow_unicode=True)).replace("\n...", "").strip()
