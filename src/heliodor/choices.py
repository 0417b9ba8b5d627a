"""Choices: frozen dataclasses with a help text per field, read from YAML with errors that name the misspelt one."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
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
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
    raise InputError(f"{where} should be {words.get(kind, 'names and values')}, not {value!r}")


def explain_fields(values: Any, depth: int = 0) -> str:
    """All choices of a dataclass with their values as commented YAML."""
    import yaml

    lines = []
    for f in fields(values):
        pad, value = "  " * depth, getattr(values, f.name)
        if dataclasses.is_dataclass(value):
            lines += [f"{pad}{f.name}:  # {f.metadata['help']}", explain_fields(value, depth + 1)]
            continue
        plain = list(value) if isinstance(value, tuple) else value
        text = yaml.safe_dump(plain, default_flow_style=True, allow_unicode=True).replace("\n...", "").strip()
        lines.append(f"{pad}{f.name}: {text}  # {f.metadata['help']}")
    return "\n".join(lines)
