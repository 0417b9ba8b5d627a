"""Every command of the examples runs, for a shorter time than its reader would want."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHORTER = {"--time": "60 fs", "--save-every": "1", "--solvate": "3"}
SCRIPTS = sorted((ROOT / "examples").glob("*/run.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=[path.parent.name for path in SCRIPTS])
def test_examples_run(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from heliodor.cli import main

    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("out"))
    folder = tmp_path / "examples" / script.parent.name
    (folder / "out").mkdir()
    monkeypatch.chdir(folder)
    for line in script.read_text().splitlines():
        if line.startswith("heliodor "):
            words = shlex.split(line)
            arguments = [SHORTER.get(words[k - 1], word) for k, word in enumerate(words) if k]
            assert main(arguments) == 0, line
    assert list((folder / "out").glob("*.html"))
