"""Writing archives into a file of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from archives import archive


@pytest.fixture
def write(tmp_path: Path) -> Callable[[object], Path]:
    """A tree (`archives.archive`), or bytes as they are, in a file."""

    def to_file(content: object) -> Path:
        path = tmp_path / "x.model"
        path.write_bytes(content if isinstance(content, bytes) else archive(content))
        return path

    return to_file
