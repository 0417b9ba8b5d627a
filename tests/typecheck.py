"""The type checker that conftest.py hooks into heliodor."""

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))


def checked(thing: Callable[..., Any]) -> Callable[..., Any]:
    """beartype, with int accepted where float is written (PEP 484), except on the command line.

    Typer hands its callbacks a private base class of the `typer.Context` that its documentation has them declare.
    """
    return thing if thing.__module__.startswith("heliodor.cli") else _checked(thing)
