"""heliodor metad: a short run, going on with it, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule

pytest.importorskip("openmm")

QUICK = ("--timestep", 1, "--stride", 2, "--height", 0.02, "--save-every", 4, "--checkpoint-every", 10)


@pytest.fixture
def peroxide() -> Path:
    path = Path("peroxide.xyz")
    molecule("H2O2").write(path, format="extxyz")
    return path


def options(*words: object) -> tuple[object, ...]:
    return (*QUICK, "--model", "heliodor-mini", "--kernels", "reference", "--threads", 1, *words)


def test_a_run_and_going_on_with_it(cli: Callable[..., object], peroxide: Path) -> None:
    begun = ("metad", peroxide, "--torsion", "2,0,1,3", "--width", 25, "--time", "24 fs", *options("-o", "run.h5"))
    answer = cli(*begun)
    assert answer.code == 0, answer.err
    for words in ("torsion 2-0-1-3 (H-O-O-H)", "0.02 eV (0.461 kcal/mol) every 2 fs", "finished after 24 fs"):
        assert words in answer.out
    for name in ("run.h5", "run.hills.csv", "run.json", "run.restart"):
        assert Path(name).is_file()
    assert "exists already" in cli(*begun).error
    longer = [word if word != "24 fs" else "52 fs" for word in begun]
    answer = cli(*longer, "--restart", "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found["gaussians"] == 26 and found["time_fs"] == 52.0
    assert found["basins"][0]["free_energy_kcal_per_mol"] == 0.0
    assert sum(basin["population"] for basin in found["basins"]) == pytest.approx(1.0)
    table = np.genfromtxt("run.surface.csv", delimiter=",", names=True)
    assert table.dtype.names == (
        "torsion_2013_deg",
        "F_from_bias_kcal_per_mol",
        "F_reweighted_kcal_per_mol",
        "error_kcal_per_mol",
    )
    assert len(table) == 29 and np.nanmin(table["F_reweighted_kcal_per_mol"]) == 0.0
    record = json.loads(Path("run.json").read_text())
    assert record["inputs"]["structure"] == "peroxide.xyz"
    assert Path("run.png").read_bytes()[:4] == b"\x89PNG"
    other = [word if word != 0.02 else 0.01 for word in longer]
    assert "another height" in cli(*other, "--restart").error
    # other tools read the trajectory
    assert cli("analyze", "run.h5", "dihedrals", "--set", "atoms=2,0,1,3").code in (0, 2)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "no collective variables"),
        (("--torsion", "0,1,2"), "must be 4 atoms"),
        (("--torsion", "2,0,1,7"), "atom 7, which is not there"),
        (("--torsion", "phi2"), "no peptide could be recognised"),
        (("--distance", "0,1"), "a distance needs walls"),
        (("--distance", "0,1", "--walls", "1-2"), "--walls must be LOW:HIGH"),
        (("--distance", "0,1", "--walls", "1:3", "--torsion", "2,0,1,3"), "cannot be biased together"),
        (("--torsion", "2,0,1,3", "--walls", "1:3"), "--walls are of distances"),
        (("--torsion", "2,0,1,3", "--width", 10, "--width", 20), "--width must be given once"),
        (("--torsion", "2,0,1,3", "--bias-factor", 1), "bias factor must be above 1"),
        (("--torsion", "2,0,1,3", "--restart", "--overwrite"), "give one of them"),
        (("--torsion", "2,0,1,3", "--output", "run.dcd"), "DCD"),
        (("--torsion", "2,0,1,3", "--output", "peroxide.xyz"), "exists already"),
        (("--torsion", "2,0,1,3", "--output", "peroxide.xyz", "--overwrite"), "is the structure handed in"),
        (("--torsion", "2,0,1,3", "--restart"), "no restart file"),
        # what would fail at the end of a long run is told before it
        (("--torsion", "2,0,1,3", "--couplings", "vogeli"), "no peptide with an angle φ"),
        (("--torsion", "2,0,1,3", "--couplings", "me"), "'me'"),
        (("--torsion", "2,0,1,3", "--reweighting", "me"), "no way of reweighting 'me'"),
        (("--torsion", "2,0,1,3", "--skip", 1), "a fraction between 0 and 0.9"),
        (("--distance", "0,1", "--walls", "1:3", "--wall", 1), "do not hold"),
    ],
)
def test_what_is_refused(cli: Callable[..., object], peroxide: Path, words: tuple[object, ...], told: str) -> None:
    before = peroxide.read_bytes()
    answer = cli("metad", peroxide, *words, *options())
    assert answer.code == 2
    assert told in answer.error
    assert peroxide.read_bytes() == before
    assert [path.name for path in Path().iterdir()] == ["peroxide.xyz"]
