"""Options of the command line made from the fields of `Settings`, so that each is named and explained in one place."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from dataclasses import fields
from typing import Annotated, Any

import typer

from heliodor.dynamics.settings import Settings


def with_settings(command: Callable[..., Any], leave_out: Collection[str] = ()) -> Callable[..., Any]:
    """The command with an option for each field of `Settings` in the place of its ``**settings``.

    The command gets those that were given, by name.
    """
    own = inspect.signature(command, eval_str=True)
    before = [p for p in own.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    taken = {p.name for p in before} | set(leave_out)
    added = [_parameter(f) for f in fields(Settings) if f.metadata["cli"] and f.name not in taken]
    defaults = {p.name: p.default for p in added}

    @functools.wraps(command)
    def wrapped(**values: Any) -> Any:
        given = {name: value for name, value in values.items() if name not in defaults or value != defaults[name]}
        return command(**given)

    keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in [*before, *added]]
    wrapped.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in keyword}
    return wrapped


def _parameter(f: Any) -> inspect.Parameter:
    words = str(f.type).replace(" ", "").split("|")
    kind: Any = str
    if words[0] in ("bool", "int", "float"):
        kind = {"bool": bool, "int": int, "float": float}[words[0]]
    default = f.default if kind is not str or f.default is None else _text(f.default)
    options: dict[str, Any] = {"help": f.metadata["help"]}
    if f.metadata["metavar"]:
        options["metavar"] = f.metadata["metavar"]
    name = f"--{f.name.replace('_', '-')}"
    names = [f"{name}/--no-{name[2:]}" if kind is bool else name, *(["-T"] if f.name == "temperature" else [])]
    optional: Any = kind | None if default is None else kind
    annotation = Annotated[optional, typer.Option(*names, **options)]
    return inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
