"""Running the command line inside the test process, and files to run it on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ase
import pytest
from ase.build import molecule

from heliodor.cli import main


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that says what is wrong; notes and progress are not errors."""
        lines = [line for line in self.err.splitlines() if line.startswith("heliodor: error:")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0]


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in an empty folder and has its own cache of models."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HELIODOR_CACHE", str(tmp_path / "cache"))
    # main() sets it for the process; undone after each test
    monkeypatch.setenv("GOMP_SPINCOUNT", "10000")
    return folder


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    def run(*words: object) -> Answer:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Answer(code, *capsys.readouterr())

    return run


@pytest.fixture
def water() -> Path:
    path = Path("water.xyz")
    molecule("H2O").write(path, format="extxyz")
    return path


@pytest.fixture
def write() -> Callable[..., Path]:
    """Write a file from text or atoms."""

    def to(name: str, content: str | bytes | ase.Atoms) -> Path:
        path = Path(name)
        if isinstance(content, ase.Atoms):
            content.write(path)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content)
        return path

    return to
