"""Reading YAML files of users: data only, one plain error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heliodor.errors import InputError


def read_yaml(path: Path, kind: type) -> Any:
    """What a YAML file holds.

    Args:
        kind: list or dict, whichever it should be.

    Raises:
        InputError: missing, not YAML (with the line), or of another kind.
    """
    import yaml

    if not path.is_file():
        raise InputError(f"there is no file {path}")
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        raise InputError(f"{path}{place} is not YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(value, kind):
        wanted = "a list (lines beginning with '- ')" if kind is list else "names and values ('name: value')"
        raise InputError(f"{path} should hold {wanted}")
    return value
