"""Names of methods, teachers, and programs behind QCEngine (with a stand-in: none is installed where tests run)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule

from heliodor import evaluate, load
from heliodor.label.label import LabelError, NotConvergedError
from heliodor.label.methods import find_method, list_methods
from heliodor.units import BOHR, HARTREE


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("gfn2", "gfn2"),
        ("GFN2-xTB", "gfn2"),
        (" gfn1 ", "gfn1"),
        ("PBE0+MBD/def2-SVP", "pbe0-mbd/def2-svp"),
        ("wB97M-D3(BJ)/def2-TZVPPD", "wb97m-d3bj/def2-tzvppd"),
        ("ωB97M-D3BJ/def2-svp", "wb97m-d3bj/def2-svp"),
        ("pbe0/def2-qzvp", "pbe0/def2-qzvp"),
    ],
)
def test_names(name: str, canonical: str) -> None:
    pytest.importorskip("tblite" if "gfn" in canonical else "pyscf")
    method = find_method(name)
    assert method.name == canonical and method.efforts >= 1
    assert all(method.versions.values())


def test_every_listed_name_without_capitals_is_found() -> None:
    pytest.importorskip("pyscf")
    pytest.importorskip("tblite")
    names = [name for name in list_methods() if name == name.lower()]
    assert len(names) > 5
    assert [find_method(name).name for name in names] == names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gfn3", "did you mean 'gfn2'"),
        ("pbe0-mdb/def2-svp", "did you mean 'pbe0-mbd/def2-svp'"),
        ("pbe0-mbd", "goes with a basis"),
        ("pbe0-mbd/def2-tzvq", "write for example 'pbe0-mbd/def2-tzvp'"),
        ("", "no method ''"),
        ("teacher:so3lx", "no model called 'so3lx'"),
        ("teacher:", "teacher:MODEL"),
        ("qcengine:psi4:pbe0", "qcengine:PROGRAM:METHOD/BASIS"),
        ("qcengine:psi5:pbe0/def2-svp", "no way to run 'psi5'; did you mean 'psi4'"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    if name.count("/") and name.startswith("qcengine"):
        pytest.importorskip("qcengine")
    with pytest.raises(LabelError, match=message):
        find_method(name)


def test_teacher_says_what_the_model_says() -> None:
    teacher = find_method("teacher:so3lr")
    ethanol, ion = molecule("CH3CH2OH"), molecule("CH3O")
    ion.info["charge"] = -1
    label = teacher(ethanol)
    direct = evaluate(load("so3lr", dtype="float64"), ethanol)
    assert label.energy == pytest.approx(float(direct.energy[0]), abs=1e-9)
    assert label.forces == pytest.approx(np.asarray(direct.forces), abs=1e-9)
    assert sum(label.terms.values()) == pytest.approx(label.energy, abs=1e-8)
    assert label.hirshfeld_ratios is not None and label.charges is not None
    assert label.dipole == pytest.approx(label.charges @ ethanol.positions, abs=1e-9)
    many = teacher.label_many([ethanol, ion, ethanol], batch_atoms=10)
    assert [len(each.forces) for each in many] == [9, 5, 9]
    for each in (many[0], many[2]):
        assert each.energy == pytest.approx(label.energy, abs=1e-9)
        assert each.forces == pytest.approx(label.forces, abs=1e-9)
    assert many[1].charges.sum() == pytest.approx(-1.0, abs=1e-6)
    assert teacher.label_many([]) == []


def test_a_committee_as_teacher_is_known_by_all_its_files(tmp_path: Path) -> None:
    from heliodor.checkpoint import save_checkpoint

    model = load("heliodor-mini", dtype="float64", device="cpu")
    found = []
    for k in range(3):
        with torch.no_grad():
            next(model.parameters()).mul_(1.01)
        save_checkpoint(model, tmp_path / f"{k}.safetensors")
    for pair in ("01", "02", "01"):
        names = ",".join(str(tmp_path / f"{k}.safetensors") for k in pair)
        found.append(find_method(f"teacher:{names}").versions["model"])
    assert found[0] == found[2] != found[1]


def test_an_imported_teacher_is_known_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from heliodor.checkpoint import save_checkpoint

    monkeypatch.setenv("HELIODOR_CACHE", str(tmp_path))
    save_checkpoint(load("heliodor-mini", dtype="float64", device="cpu"), tmp_path / "own.safetensors")
    digest = hashlib.sha256((tmp_path / "own.safetensors").read_bytes()).hexdigest()
    assert find_method("teacher:own").versions["model"] == digest[:16]


def test_teacher_refuses_what_its_model_does_not_know() -> None:
    with pytest.raises(LabelError, match=r"teacher:so3lr: .*Na"):
        find_method("teacher:so3lr")(ase.Atoms("NaCl", [[0, 0, 0], [0, 0, 2.4]]))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """In Psi4's place in QCEngine: a spring between two atoms, 0.1 Hartree/Bohr² about 2 Bohr; gives what was asked."""
    qcengine = pytest.importorskip("qcengine")
    seen: dict[str, Any] = {}

    class Spring:
        found = staticmethod(lambda: True)
        get_version = staticmethod(lambda: "0.0-stand-in")

    def compute(task: dict[str, Any], program: str, **options: Any) -> dict[str, Any]:
        seen.update(task=task, program=program, options=options)
        if "error" in seen:
            return {"success": False, "error": {"error_type": "x", "error_message": seen["error"]}}
        here = np.reshape(task["molecule"]["geometry"], (2, 3))
        d = here[0] - here[1]
        r = np.linalg.norm(d)
        slope = 0.1 * (r - 2.0) * d / r
        properties = {"return_energy": 0.05 * (r - 2.0) ** 2, "scf_dipole_moment": [0.0, 0.0, 1.0]}
        return {"success": True, "return_result": [*slope, *-slope], "properties": properties}

    monkeypatch.setattr(qcengine, "get_program", lambda name, check=True: Spring)
    monkeypatch.setattr(qcengine, "compute", compute)
    return seen


def test_qcengine_stand_in_gets_and_gives_atomic_units(stand_in: dict[str, Any]) -> None:
    method = find_method("qcengine:psi4:PBE0/def2-SVP", threads=2, memory=2048)
    radical = ase.Atoms("OH", [[0, 0, 0], [0, 0, 3.0 * BOHR]], info={"spin": 1})
    label = method(radical)
    assert method.name == "qcengine:psi4:pbe0/def2-svp" and method.versions["psi4"] == "0.0-stand-in"
    task = stand_in["task"]
    assert task["molecule"]["geometry"][-1] == pytest.approx(3.0)
    assert task["molecule"]["molecular_multiplicity"] == 2 and task["keywords"]["reference"] == "uks"
    assert task["model"] == {"method": "pbe0", "basis": "def2-svp"}
    assert stand_in["options"]["task_config"]["ncores"] == 2
    assert stand_in["options"]["task_config"]["memory"] == pytest.approx(2.0)
    assert label.energy == pytest.approx(0.05 * HARTREE)
    # stretched by one Bohr: the atoms pull at each other
    assert label.forces[:, 2] == pytest.approx([0.1 * HARTREE / BOHR, -0.1 * HARTREE / BOHR])
    assert label.dipole == pytest.approx([0.0, 0.0, BOHR])


def test_qcengine_stand_in_fails_as_programs_do(stand_in: dict[str, Any]) -> None:
    method, pair = find_method("qcengine:psi4:pbe0/def2-svp"), ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.7]])
    stand_in["error"] = "PsiException: Could not converge SCF iterations in 100 iterations."
    with pytest.raises(NotConvergedError, match="Could not converge"):
        method(pair)
    stand_in["error"] = "BasisSetNotFound: def2-svq"
    with pytest.raises(LabelError, match="def2-svq") as caught:
        method(pair, effort=2)
    assert not isinstance(caught.value, NotConvergedError)
    assert stand_in["task"]["keywords"]["soscf"] is True
    with pytest.raises(LabelError, match="molecules only"):
        method(ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.7]], cell=[9, 9, 9], pbc=True))


def test_missing_program_is_said() -> None:
    qcengine = pytest.importorskip("qcengine")
    if qcengine.get_program("nwchem", check=False).found():
        pytest.skip("installed here")
    with pytest.raises(LabelError, match="nwchem is not installed"):
        find_method("qcengine:nwchem:pbe0/def2-svp")
