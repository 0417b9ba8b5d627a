"""Bad input: one line saying what, where and what to do; exit code 2; nothing written, nothing overwritten."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from heliodor import registry
from heliodor.errors import SimulationError

XYZ = "3\n{comment}\nO 0.0 0.0 0.12\nH 0.0 0.76 -0.48\nH 0.0 -0.76 -0.48\n"
CELL = 'Lattice="{cell}" Properties=species:S:1:pos:R:3 pbc="T T T"'
PDB = "ATOM      1  {name:<3} {residue:>3} A   1       0.000   0.000   0.000  1.00  0.00          {element:>2}\nEND\n"
GRO = "x\n    1\n    1{residue:<5}{name:>5}    1   1.000   1.000   1.000\n   3.0 3.0 3.0\n"

STRUCTURES = {
    "unknown element": ("a.xyz", XYZ.format(comment="").replace("O ", "Qq "), "cannot be read"),
    "element outside the model": (
        "a.xyz",
        XYZ.format(comment="").replace("O ", "Xe "),
        "atom 0 is Xe: so3lr knows only",
    ),
    "missing coordinate": ("a.xyz", XYZ.format(comment="").replace("0.12", ""), "a.xyz cannot be read"),
    "missing atom": ("a.xyz", XYZ.format(comment="").replace("3\n", "4\n", 1), "a.xyz cannot be read"),
    "coordinate not finite": ("a.xyz", XYZ.format(comment="").replace("0.12", "nan"), "atom 0 (O) has a coordinate"),
    "two atoms on one spot": ("a.xyz", XYZ.format(comment="").replace("-0.76", "0.76"), "two atoms on one spot"),
    "zero cell": ("a.xyz", XYZ.format(comment=CELL.format(cell="0 0 0 0 9 0 0 0 9")), "zero length"),
    "left-handed cell": ("a.xyz", XYZ.format(comment=CELL.format(cell="0 9 0 9 0 0 0 0 9")), "left-handed"),
    "flat cell": ("a.xyz", XYZ.format(comment=CELL.format(cell="9 0 0 9 0 0 0 0 9")), "no volume"),
    "odd electrons": ("a.xyz", XYZ.format(comment="charge=1"), "leaves 9 electrons, which cannot have 0 unpaired"),
    "charge that is no number": ("a.xyz", XYZ.format(comment="charge=many"), "charge must be a number"),
    "empty": ("a.xyz", "", "a.xyz is empty"),
    "blank": ("a.xyz", "\n\n", "a.xyz"),
    "no atoms": ("a.xyz", "0\n\n", "a.xyz"),
    "picture": ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "a.png"),
    "picture called xyz": ("a.xyz", b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "a.xyz cannot be read"),
    "prose": ("a.txt", "Dear reader,\nthis is no structure.\n", "a.txt is of no type that can be read"),
    "i-PI in bohr": (
        "a.xyz",
        XYZ.format(comment="# CELL(abcABC): 20 20 20 90 90 90  positions{atomic_unit}  cell{atomic_unit}"),
        "unit of length",
    ),
    "broken trajectory": ("a.h5", b"nothing of the kind", "a.h5"),
    "alpha carbon as calcium": ("a.pdb", PDB.format(name="CA", residue="ALA", element=""), "would be read as Ca"),
    "gamma hydrogen as mercury": ("a.pdb", PDB.format(name="HG", residue="SER", element=""), "would be read as Hg"),
    "alternate locations": (
        "a.pdb",
        "".join(
            f"ATOM      {n}  CB {alt}SER A   1       0.000   0.000   {n}.000  0.50  0.00           C\n"
            for n, alt in ((1, "A"), (2, "B"))
        ),
        "alternate locations A and B",
    ),
    "no hydrogen": ("a.pdb", PDB.format(name="CA", residue="ALA", element="C"), "has no hydrogen atoms"),
    "chloride as carbon": ("a.gro", GRO.format(residue="CL", name="CL"), "would be read as C"),
    "virtual site": ("a.gro", GRO.format(residue="SOL", name="MW"), "MW of residue SOL"),
}


@pytest.mark.parametrize("command", ["md", "opt", "eval"])
@pytest.mark.parametrize("case", STRUCTURES)
def test_structures(cli, write, case, command):
    name, content, message = STRUCTURES[case]
    path = write(name, content)
    answer = cli(command, path, "--model", "so3lr", "--device", "cpu")
    assert answer.code == 2
    # eval finds out that there are no labels before it looks for overlapping atoms
    assert message in answer.error or (command == "eval" and message == "two atoms on one spot")
    assert [p.name for p in Path().iterdir()] == [name]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("md", "nowhere.xyz"), "there is no file nowhere.xyz"),
        (("md", "."), "is a folder"),
        (("md",), "give a structure FILE, or --restart FILE"),
        (("mdd", "water.xyz"), "No such command 'mdd'"),
        (("md", "water.xyz", "--stepps", "3"), "No such option"),
        (("md", "water.xyz", "--steps", "many"), "valid integer"),
        (("md", "water.xyz", "--steps", "0"), "steps must be at least 1"),
        (("md", "water.xyz", "--steps", "3", "--time", "1 ps"), "not both"),
        (("md", "water.xyz", "--time", "1 week"), "cannot read '1 week' as a time"),
        (("md", "water.xyz", "--timestep", "-1"), "cannot read '-1' as a time"),
        (("md", "water.xyz", "--ensemble", "npt"), "needs a periodic cell"),
        (("md", "water.xyz", "--ensemble", "nvp"), "ensemble must be one of"),
        (("md", "water.xyz", "--restart", "run.restart"), "leave out FILE"),
        (("md", "--restart", "run.restart", "--temperature", "400"), "leave out --temperature"),
        (("md", "--restart", "run.restart", "--kernels", "reference"), "leave out --kernels"),
        (("md", "--restart", "run.restart", "--dtype", "float64", "-o", "b.h5"), "leave out --dtype, --output"),
        (("md", "--restart", "nowhere.restart"), "there is no restart file"),
        (("md", "water.xyz", "--extend", "1 ps"), "--extend needs --restart"),
        (("md", "water.xyz", "--restraints", "nowhere.yaml"), "there is no file nowhere.yaml"),
        (("md", "water.xyz", "--thermostat", "berendsen"), "thermostat must be"),
        (("md", "water.xyz", "--temperature", "nan"), "temperature"),
        (("md", "water.xyz", "--charge", "1"), "cannot have 0 unpaired"),
        (("md", "water.xyz", "--charge", "0.5"), "leaves 9.5 electrons"),
        (("md", "water.xyz", "--spin", "1"), "cannot have 1 unpaired"),
        (("md", "water.xyz", "--spin", "-2"), "whole number"),
        (("md", "water.xyz", "--frame", "7"), "there is no frame 7"),
        (("md", "water.xyz", "--dtype", "float16"), "dtype"),
        (("md", "water.xyz", "--device", "abacus"), "no such device"),
        (("md", "water.xyz", "--long-range-cutoff", "far"), "--long-range-cutoff must be"),
        (("md", "water.xyz", "--long-range-cutoff", "1"), "at least the network's cutoff"),
        (("md", "water.xyz", "--output", "run.docx"), "run.docx"),
        (("md", "water.xyz", "--output", "nowhere/run.h5"), "there is no folder"),
        (("md", "water.xyz", "--output", "water.xyz", "--overwrite"), "is the structure handed in"),
        (("md", "water.xyz", "--model", "no-such-model"), "known models: "),
        (("md", "water.xyz", "--model", "nowhere/model.safetensors"), "no such model file"),
        (("opt", "water.xyz", "--fmax", "-1"), "--fmax"),
        (("opt", "water.xyz", "--output", "opt.docx"), "opt.docx"),
        (("eval", "water.xyz"), "there are no labels"),
        (("eval", "water.xyz", "--forces-key", "truth"), "no structure has forces under 'truth'"),
        (("eval", "water.xyz", "--output", "water.xyz"), "is a file"),
        (("models", "info", "no-such-model"), "known models: "),
        (("models", "fetch", "no-such-model"), "known models: "),
        (("models", "import", "nowhere.pkl"), "nowhere.pkl"),
        (("models", "import", "water.xyz", "--name", "so3lr"), "comes with heliodor"),
        (("models", "import", "water.xyz", "--name", "../so3lr"), "leave out slashes"),
        (("models", "import", "water.xyz", "--name", "a,b"), "leave out commas"),
        (("models", "import", "water.xyz", "--name", "a*"), "leave out commas"),
    ],
)
def test_options(cli, water, words, message):
    before = water.read_bytes()
    needs_model = words[0] in ("md", "opt", "eval") and "--model" not in words and len(words) > 1
    answer = cli(*words, *(("--model", "so3lr") if needs_model else ()))
    assert answer.code == 2
    assert message in answer.error
    assert water.read_bytes() == before
    assert [p.name for p in Path().iterdir()] == ["water.xyz"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_absent_gpu(cli, water):
    answer = cli("md", water, "--model", "so3lr", "--device", "cuda")
    assert answer.code == 2
    assert "torch sees none: use --device cpu" in answer.error


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.mark.parametrize("name", ["evil.pkl", "evil.safetensors", "evil.pth"])
def test_pickles_are_not_executed(cli, water, write, name):
    path = write(name, pickle.dumps(Evil()))
    for words in (("md", water, "--model", path), ("models", "info", path), ("models", "import", path), ("md", path)):
        answer = cli(*words)
        assert answer.code == 2
        assert name in answer.error
    assert sorted(p.name for p in Path().iterdir()) == sorted([name, "water.xyz"])


@pytest.mark.parametrize("keep", [4, 1000, 100_000, -100])
def test_truncated_checkpoint(cli, water, write, keep):
    path = write("half.safetensors", (registry.weights_folder() / "so3lr.safetensors").read_bytes()[:keep])
    answer = cli("md", water, "--model", path)
    assert answer.code == 2
    assert "half.safetensors" in answer.error
    assert not Path("run.h5").exists()


def test_tampered_checkpoint(cli, water, tmp_path, monkeypatch):
    content = bytearray((registry.weights_folder() / "so3lr.safetensors").read_bytes())
    content[-1000] ^= 1
    (tmp_path / "so3lr.safetensors").write_bytes(content)
    (tmp_path / "registry.json").write_bytes((registry.weights_folder() / "registry.json").read_bytes())
    monkeypatch.setattr(registry, "weights_folder", lambda: tmp_path)
    answer = cli("md", water, "--model", "so3lr")
    assert answer.code == 2
    assert "SHA-256 differs" in answer.error


@pytest.mark.parametrize(
    ("words", "there"),
    [
        (("md", "--steps", "1"), "run.h5"),
        (("md", "--steps", "1"), "run.csv"),
        (("md", "--steps", "1"), "run.png"),
        (("opt",), "opt.xyz"),
        (("eval", "--output", "there"), "there/notes.txt"),
    ],
)
def test_nothing_is_overwritten(cli, water, write, words, there):
    Path("there").mkdir()
    write(there, "precious")
    answer = cli(words[0], water, *words[1:], "--model", "so3lr")
    assert answer.code == 2
    assert "--overwrite" in answer.error
    assert Path(there).read_text() == "precious"


def test_our_own_faults(cli, water, monkeypatch):
    def broken(*args, **options):
        raise RuntimeError("something\nin two lines")

    monkeypatch.setattr("heliodor.dynamics.run.simulate", broken)
    answer = cli("md", water, "--model", "so3lr")
    assert answer.code == 1
    assert "unexpected RuntimeError: something in two lines; run with --debug" in answer.error
    shown = cli("md", water, "--model", "so3lr", "--debug")
    assert "Traceback" in shown.err
    assert shown.code == 1


def test_failed_simulations_and_interruptions(cli, water, monkeypatch):
    def stop(error):
        def run(*args, **options):
            raise error

        return run

    monkeypatch.setattr("heliodor.dynamics.run.simulate", stop(SimulationError("step 3: H is gone")))
    answer = cli("md", water, "--model", "so3lr")
    assert (answer.code, answer.error) == (1, "heliodor: error: step 3: H is gone")
    monkeypatch.setattr("heliodor.dynamics.run.simulate", stop(KeyboardInterrupt()))
    assert cli("md", water, "--model", "so3lr").code == 130
    monkeypatch.setattr("heliodor.dynamics.run.simulate", stop(OSError(28, "No space left on device", "run.h5")))
    answer = cli("md", water, "--model", "so3lr")
    assert (answer.code, answer.error) == (2, "heliodor: error: run.h5: No space left on device")
