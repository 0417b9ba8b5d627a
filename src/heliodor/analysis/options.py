"""Options of an analysis: its keyword-only parameters, read from text."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from heliodor.errors import InputError, suggestion

OWN = ("progress", "processes")
"""Parameters that are no options."""


def described(show: Callable[..., Any]) -> dict[str, Any]:
    """Defaults by name."""
    parameters = inspect.signature(show).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in OWN}


def read_options(name: str, show: Callable[..., Any], texts: Sequence[str]) -> dict[str, Any]:
    """Values by name from texts ``option=value``, of the kinds that the parameters have.

    Args:
        name: of the analysis, for messages.

    Raises:
        InputError: no such option, or a value that is not of its kind.
    """
    known = inspect.signature(show).parameters
    values = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals:
            raise InputError(f"write an option as name=value, not {text!r}")
        if key not in described(show):
            names = ", ".join(described(show)) or "none"
            raise InputError(f"{name} has no option {key!r}{suggestion(key, described(show))}; it has: {names}")
        values[key] = _value(
            name, key, value.strip(), inspect.formatannotation(known[key].annotation), known[key].default
        )
    return values


def _value(name: str, key: str, text: str, annotation: str, default: Any) -> Any:
    kinds = [kind.strip() for kind in annotation.strip("'\"").split("|")]
    if text.lower() in ("none", "auto") and "None" in kinds:
        return None
    for kind in kinds:
        try:
            if kind == "bool" and text.lower() in ("true", "yes", "1", "false", "no", "0"):
                return text.lower() in ("true", "yes", "1")
            if kind in ("int", "float"):
                return int(text) if kind == "int" else float(text)
        except ValueError:
            continue
    if any(kind in ("str", "Path") or "Literal" in kind or "Path" in kind for kind in kinds):
        return text
    if any("tuple" in kind or "Sequence" in kind or "list" in kind for kind in kinds):
        return _several(text, annotation)
    raise InputError(f"{name}: {key} cannot be {text!r}; it is of kind {annotation} and by default {default!r}")


def _several(text: str, annotation: str) -> tuple[Any, ...]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    for kind in (int, float):
        if kind.__name__ in annotation:
            try:
                return tuple(kind(word) for word in words)
            except ValueError:
                continue
    return tuple(words)
