"""Every command of the examples runs, for a shorter time than its reader would want."""

from __future__ import annotations

import runpy
import shlex
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHORTER = {"--time": "60 fs", "--save-every": "1", "--solvate": "3"}
SHORTEST = {"crambin": {"--time": "3 fs", "--save-every": "1", "--solvate": "2"}}
"""Lengths put in place of those a reader would want."""
FEW_FRAGMENTS = shlex.split(
    "--until select --set snapshots.time='0.2 ps' --set snapshots.every='0.05 ps' --set snapshots.temperatures=300 "
    "--set system.folds=extended --set bottom_up.max_heavy=2 --set bottom_up.dynamics=0 --set bottom_up.modes=1"
)
"""Training is tried in tests/gems."""
SHORTEST_GEMS = {"gems-ala15": ["--until", "prepare"]}
MADE = {"fine-tuning": "forgetting.png"}
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
            shorter = SHORTEST.get(script.parent.name, SHORTER)
            arguments = [shorter.get(words[k - 1], word) for k, word in enumerate(words) if k]
            if arguments[0] == "report":
                # its compiler takes half a minute
                arguments += ["--without", "map"]
            if arguments[0] == "gems":
                arguments += SHORTEST_GEMS.get(script.parent.name, FEW_FRAGMENTS)
            assert main(arguments) == 0, line
        elif line.startswith('"$python" '):
            runpy.run_path(shlex.split(line)[1], run_name="__main__")
    made = "system.xyz" if script.parent.name.startswith("gems") else MADE.get(script.parent.name, "*.html")
    assert list((folder / "out").rglob(made))
