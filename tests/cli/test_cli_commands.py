"""The commands doing what they are for, and what they leave behind."""

from __future__ import annotations

import csv
import json
import lzma
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from PIL import Image

import heliodor
from heliodor.dynamics.files.trajectory import read_trajectory
from heliodor.errors import InputError
from support import shared

MD = ("--model", "so3lr", "--device", "cpu")


def source_environment() -> dict[str, str]:
    source = str(Path(heliodor.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}


def start(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "heliodor", *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=source_environment(), stdout=pipe, stderr=pipe, text=True)


def test_md_leaves_files_that_can_be_read(cli, water):
    answer = cli("md", water, *MD, "--steps", 40, "--save-every", "5 fs", "--log-every", "1 fs", "--seed", 7)
    assert answer.code == 0, answer.err
    assert "water.xyz: 3 atoms, H2O, charge 0, closed shell" in answer.out
    assert "none (gas phase)" in answer.out
    assert "MIT" in answer.out
    assert "NVT at 300 K (Langevin thermostat 2 1/ps), 40 steps of 0.5 fs = 20 fs" in answer.out
    assert "run.h5, run.csv, run.png, run.restart, run.json" in answer.out
    assert "ns/day), seed 7" in answer.out
    assert "100 %" in answer.err
    frames = read_trajectory("run.h5")
    assert [frame.info["time_fs"] for frame in frames] == [0.0, 5.0, 10.0, 15.0, 20.0]
    assert np.abs(frames[-1].positions - frames[0].positions).max() > 0.01
    with Path("run.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 21
    assert float(rows[-1]["time_fs"]) == 20.0
    assert float(rows[-1]["conserved_eV"]) == pytest.approx(float(rows[0]["conserved_eV"]), abs=0.02)
    with Image.open("run.png") as picture:
        assert min(picture.size) > 500


def test_md_json_and_going_on(cli, water):
    first = cli("md", water, *MD, "--steps", 4, "--minimize", "--ensemble", "nve", "--json")
    result = json.loads(first.out)
    assert result["steps"] == 4
    named = {"trajectory": "run.h5", "log": "run.csv", "picture": "run.png", "restart": "run.restart", "trouble": None}
    assert result["files"] == named
    assert result["broken_bonds"] == []
    assert "relaxed first, then NVE" in first.err
    again = cli(
        "md", "run.h5", *MD, "--frame", -1, "--steps", 2, "--thermostat", "csvr", "--output", "more.xyz", "--json"
    )
    assert again.code == 0, again.err
    assert len(read_trajectory("more.xyz")) == 2
    np.testing.assert_allclose(
        read_trajectory("more.xyz")[0].positions, read_trajectory("run.h5")[-1].positions, atol=1e-5
    )


def test_md_of_a_small_periodic_ion(cli, write):
    ion = molecule("H2O")
    ion.set_cell([7.0, 7.0, 7.0])
    ion.pbc = True
    write("ion.extxyz", ion)
    answer = cli("md", "ion.extxyz", *MD, "--charge", 1, "--spin", 1, "--steps", 1, "--long-range-cutoff", 6)
    assert answer.code == 0, answer.err
    assert "charge +1, 1 unpaired electron" in answer.out
    assert "7.000 × 7.000 × 7.000 Å, 90.0° 90.0° 90.0°, periodic" in answer.out
    assert "the box is 7.00 Å thin, less than twice the cutoff" in answer.out
    # said once, although several functions warn
    assert answer.err.count("charged or open-shell periodic cell") == 1
    assert read_trajectory("run.h5")[0].info["charge"] == 1.0


def test_opt(cli, water):
    answer = cli("opt", water, *MD, "--fmax", 0.02, "--output", "relaxed.xyz")
    assert answer.code == 0, answer.err
    assert "converged" in answer.out
    relaxed = ase.io.read("relaxed.xyz")
    assert np.linalg.norm(relaxed.get_forces(), axis=1).max() <= 0.02
    assert 0.9 < relaxed.get_distance(0, 1) < 1.0
    assert cli("opt", water, *MD, "--output", "relaxed.pdb", "--fmax", 0.1).code == 0
    assert len(ase.io.read("relaxed.pdb")) == 3


def test_opt_that_does_not_converge(cli, water):
    answer = cli("opt", water, *MD, "--steps", 2, "--fmax", 1e-5, "--json")
    assert answer.code == 1
    assert "not converged after 2 steps" in answer.error
    assert json.loads(answer.out)["converged"] is False
    assert len(ase.io.read("opt.xyz")) == 3


@pytest.fixture
def labelled(so3lr, rng) -> Path:
    """Structures that carry SO3LR's own answers, with a zero of energy of their own for each formula."""
    frames = []
    for name, count in (("H2O", 4), ("CH3OH", 3), ("NH3", 1)):
        for _ in range(count):
            frame = molecule(name)
            frame.rattle(0.05, rng=rng)
            p = heliodor.evaluate(so3lr, frame)
            energy = float(p.energy[0]) + 100.0 * len(frame)
            frame.calc = SinglePointCalculator(frame, energy=energy, forces=p.forces.numpy() + 0.1)
            frame.info["dft_dipole"] = p.dipole[0].numpy()
            frame.arrays["hirshfeld_ratios"] = p.hirshfeld_ratios.numpy()
            frames.append(frame)
    frames[-1].calc = None
    path = Path("labelled.extxyz")
    ase.io.write(path, frames)
    return path


def test_eval(cli, labelled):
    options = ("--dtype", "float64", "--dipole-key", "dft_dipole", "--output", "scores")
    answer = cli("eval", labelled, *MD, *options)
    assert answer.code == 0, answer.err
    assert "each of 2 group(s)" in answer.err
    assert "1 of 8 structures have no label of forces" in answer.err
    found = json.loads(Path("scores/errors.json").read_text())
    energy, forces = found["quantities"]["energy"], found["quantities"]["forces"]
    assert energy["count"] == 7
    assert energy["max"] < 1e-6
    assert (energy["unit"], forces["unit"]) == ("eV", "eV/Å")
    # labels were shifted by 0.1 eV/Å
    assert forces["mae"] == pytest.approx(0.1, abs=1e-6)
    assert forces["rmse"] == pytest.approx(0.1, abs=1e-6)
    assert forces["r2"] < 1.0
    assert forces["elements"]["C"]["count"] == 9
    assert found["quantities"]["dipole"]["max"] < 1e-6
    assert found["quantities"]["hirshfeld_ratios"]["elements"]["N"]["max"] < 1e-6
    with Path("scores/structures.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert float(rows[0]["forces_rmse_eV_per_A"]) == pytest.approx(0.1, abs=1e-6)
    assert rows[7]["energy_error_eV"] == ""
    with Path("scores/errors.csv").open() as file:
        assert {row["quantity"] for row in csv.DictReader(file)} == set(found["quantities"])
    with Image.open("scores/parity_forces.png") as picture:
        assert min(picture.size) > 500
    assert cli("eval", labelled, *MD, *options).code == 2
    assert cli("eval", labelled, *MD, *options, "--overwrite", "--no-plots").code == 0


def test_eval_json_of_several_files(cli, labelled):
    answer = cli("eval", labelled, labelled, *MD, "--dtype", "float64", "--absolute-energies", "--no-plots", "--json")
    found = json.loads(answer.out)
    assert found["structures"] == 16
    assert found["quantities"]["energy"]["mae"] == pytest.approx(100.0 * (4 * 3 + 3 * 6) / 7)
    assert not list(Path("eval-so3lr-labelled").glob("*.png"))


def test_eval_against_the_original_code(cli):
    files = sorted(shared("reference/so3lr").glob("saptmono*.extxyz"))
    options = ("--dtype", "float64", "--absolute-energies", "--long-range-cutoff", 1000, "--no-plots", "--json")
    found = json.loads(cli("eval", *files, *MD, *options).out)["quantities"]
    assert {name: entry["max"] < 1e-7 for name, entry in found.items()} == dict.fromkeys(found, True)
    assert len(found) == 6


def test_models(cli):
    listed = {row["name"]: row for row in json.loads(cli("models", "list", "--json").out)}
    assert listed["so3lr"]["where"] == "built in"
    assert "so3lr" in cli("models", "list").out
    card = json.loads(cli("models", "info", "so3lr", "--json").out)
    assert card["parameters"] == 530_724
    assert card["sha256"] == listed["so3lr"]["sha256"]
    assert card["elements"] == ["H", "C", "N", "O", "F", "P", "S", "Cl"]
    assert "Kabylda" in card["citation"]
    words = cli("models", "info", "so3lr").out
    assert "530 724" in words
    assert "2.13 MB" in words
    assert "was here already" in cli("models", "fetch", "so3lr").out


def test_every_embedded_model_says_what_it_is(cli):
    for name, entry in heliodor.registry.models().items():
        if entry.embedded:
            card = json.loads(cli("models", "info", name, "--json").out)
            assert card["licence"]
            assert card["summary"]
            assert card["sha256"] == entry.sha256


def test_a_name_with_a_dot_is_a_name(cli, water):
    source = heliodor.registry.weights_folder() / "so3lr.safetensors"
    assert cli("models", "import", source, "--name", "mine-0.2").code == 0
    assert "mine-0.2.safetensors" in cli("models", "info", "mine-0.2").out


def test_a_model_of_dipoles_has_no_energies(cli, water):
    packed = Path(__file__).parents[1] / "data" / "mace_dielectric" / "dipole_only.model.xz"
    Path("dipole.model").write_bytes(lzma.decompress(packed.read_bytes()))
    assert json.loads(cli("models", "info", "dipole.model", "--json").out)["outputs"] == ["charges", "dipole"]
    before = sorted(Path().iterdir())
    for command in ("md", "opt", "vib"):
        answer = cli(command, water, "--model", "dipole.model")
        assert answer.code == 2
        assert "no energies or forces" in answer.error
        assert answer.out == ""
    assert sorted(Path().iterdir()) == before


MDL = """ammonium
  heliodor

  5  0  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 N   0  3  0  0
    0.5900    0.5900    0.5900 H   0  0  0  0
   -0.5900   -0.5900    0.5900 H   0  0  0  0
   -0.5900    0.5900   -0.5900 H   0  0  0  0
    0.5900   -0.5900   -0.5900 H   0  0  0  0
M  CHG  1   1   1
M  END
$$$$
"""


@pytest.mark.parametrize("old", [False, True])
def test_charges_of_sdf_files(cli, write, old):
    """Stated in a line of their own, or by the code in the atom's line."""
    text = MDL.replace("M  CHG  1   1   1\n", "") if old else MDL
    answer = cli("opt", write("two.sdf", text + text), "--model", "so3lr", "--frame", 1, "--fmax", 1.0)
    assert answer.code == 0
    assert "5 atoms, H4N, charge +1, closed shell" in answer.out


def test_sdf_files_that_are_cut_off_or_of_the_new_kind(cli, write):
    for name, text, message in (
        ("cut.mol", "\n".join(MDL.splitlines()[:7]) + "\n", "announces 5 atoms and holds 3"),
        ("new.sdf", MDL.replace("V2000", "V3000"), "V3000 is not read"),
    ):
        answer = cli("opt", write(name, text), "--model", "so3lr")
        assert answer.code == 2
        assert message in answer.error


def test_import_and_use(cli, water):
    source = heliodor.registry.weights_folder() / "so3lr.safetensors"
    assert cli("models", "import", source, "--name", "mine").code == 0
    assert cli("models", "import", source, "--name", "mine").code == 2
    assert "imported" in cli("models", "list").out
    answer = cli("opt", water, "--model", "mine", "--fmax", 0.1)
    assert answer.code == 0
    assert "mine; float32 on cpu" in answer.out


def test_reading(cli, write):
    from heliodor.cli.reading import read_structure, read_structures

    line = "{kind}{n:>5} {name:<4} {residue:>3} A   1    {x:8.3f}   0.000   0.000  1.00  0.00          {element:>2}\n"
    alanine = line.format(kind="ATOM  ", n=1, name=" CA", residue="LIG", x=0.0, element="C")
    calcium = line.format(kind="HETATM", n=2, name="CA", residue="CA", x=5.0, element="")
    cube = "CRYST1    1.000    1.000    1.000  90.00  90.00  90.00 P 1           1\n"
    path = write("protein.pdb", cube + alanine + calcium + "END\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        atoms = read_structure(path)
    assert list(atoms.symbols) == ["C", "Ca"]
    assert not atoms.pbc.any()
    two = write("box@300K.xyz", "1\n\nHe 0 0 0\n1\n\nHe 0 0 1\n")
    assert len(read_structures(two)) == 2
    assert read_structure(two).positions[0, 2] == 0.0
    assert read_structure(two, -1).positions[0, 2] == 1.0
    with pytest.raises(InputError, match="there is no frame 2"):
        read_structure(two, 2)
    bulk = molecule("H2O")
    bulk.set_cell([9.0, 9.0, 9.0])
    bulk.pbc = True
    for name in ("POSCAR", "water.cif", "water.gro", "water.pdb"):
        write(name, bulk)
        assert sorted(read_structure(Path(name)).symbols) == ["H", "H", "O"]


def test_several_structures_are_noted(cli, write):
    path = write("two.xyz", "3\n\nO 0 0 0.12\nH 0 0.76 -0.48\nH 0 -0.76 -0.48\n" * 2)
    assert "holds 2 structures: using the first" in cli("md", path, *MD, "--steps", 1).err


def test_help(cli):
    for words in (
        (),
        ("--help",),
        ("md", "--help"),
        ("opt", "-h"),
        ("eval", "-h"),
        ("models",),
        ("models", "list", "-h"),
    ):
        answer = cli(*words)
        assert answer.code == 0
        assert "Usage: heliodor" in answer.out
    assert "heliodor md water.xyz --time '10 ps'" in cli("md", "--help").out
    assert cli("--version").out == f"heliodor {heliodor.__version__}\n"


def test_python_m_heliodor():
    program = start("md", "nowhere.xyz")
    out, err = program.communicate(timeout=60)
    assert (program.returncode, out) == (2, "")
    assert err == "heliodor: error: there is no file nowhere.xyz\n"


def test_help_does_not_wait_for_torch():
    code = "import sys, heliodor.cli; sys.exit('torch' in sys.modules or 'ase' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=source_environment(), check=False).returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_interrupted_run(water):
    program = start("md", water, *MD, "--steps", 100_000, "--save-every", "0.5 fs", "--log-every", "0.5 fs")
    log = Path("run.csv")
    for _ in range(600):
        if program.poll() is not None or (log.exists() and len(log.read_text().splitlines()) > 5):
            break
        time.sleep(0.1)
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=60)
    assert program.returncode == 130, err
    assert "interrupted after" in out
    assert "Traceback" not in err
    frames = read_trajectory("run.h5")
    assert len(frames) > 3
    assert frames[-1].info["step"] == int(log.read_text().splitlines()[-1].split(",")[0])
