"""Reading sets, forces with known errors, statistics, what is kept on disk, tables."""

from __future__ import annotations

import ase
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from bench_toys import EPSILON, SIGMA, SpoiledPairs, between, write_set

from heliodor.bench.forces import ForceSet, force_task
from heliodor.bench.reactions import read_set
from heliodor.bench.record import model_key, rows_file
from heliodor.bench.result import Row, SetResult, spread_out
from heliodor.bench.run import run_task
from heliodor.bench.sapt10k import read_sapt10k
from heliodor.bench.sets import find_data, open_tasks, reaction_task
from heliodor.bench.tables import csv_text, markdown, put_into
from heliodor.errors import InputError
from heliodor.units import KCAL_PER_MOL
from support import DATA, shared

HELIUM = ase.Atoms("He")
NEON = ase.Atoms("Ne", [[0.0, 0.0, 3.0]])
STRUCTURES = {"pair": HELIUM + NEON, "he": HELIUM, "ne": NEON}
REACTION = {"terms": [["pair", 1], ["he", -1], ["ne", -1]], "ref": -1.0}


def test_units_and_names(tmp_path):
    """4.184 kJ are 1 kcal; names of reactions that share a complex are told apart."""
    data = read_set(write_set(tmp_path, STRUCTURES, [REACTION | {"ref": -4.184}, REACTION], unit="kJ/mol", level="X"))
    assert data.reactions[0].reference == pytest.approx(-1.0, rel=1e-12)
    assert [r.name for r in data.reactions] == ["pair", "pair (2)"]
    assert reaction_task(data).level == "X"
    hartree = read_set(write_set(tmp_path, STRUCTURES, [REACTION], "h", unit="hartree"))
    assert hartree.reactions[0].reference == pytest.approx(-627.5095, abs=1e-4)


@pytest.mark.parametrize(
    ("reactions", "words", "message"),
    [
        ([], {}, "no list 'reactions'"),
        ([{"terms": [["pair", 1], ["he", -1]], "ref": 1.0}], {}, "atoms of Ne do not balance"),
        ([{"terms": [["pair", 1], ["xe", -1]], "ref": 1.0}], {}, "'xe', which is not among"),
        ([{"terms": [["pair", 1]]}], {}, "reaction 0 must have"),
        ([REACTION | {"ref": float("nan")}], {}, "not finite"),
        ([REACTION], {"unit": "furlong"}, "unit is 'furlong'"),
    ],
)
def test_bad_sets_are_refused(tmp_path, reactions, words, message):
    with pytest.raises(InputError, match=message):
        read_set(write_set(tmp_path, STRUCTURES, reactions, **words))


def test_charges_must_balance_and_names_be_unique(tmp_path):
    ion = HELIUM.copy()
    ion.info["charge"] = 1
    with pytest.raises(InputError, match="charges do not balance"):
        read_set(write_set(tmp_path, STRUCTURES | {"he": ion}, [REACTION]))
    path = write_set(tmp_path, STRUCTURES, [REACTION])
    path.with_suffix(".xyz.gz").unlink()
    with pytest.raises(InputError, match=r"neither toy.xyz nor toy.xyz.gz"):
        read_set(path)
    write(path.with_suffix(".xyz"), [HELIUM, HELIUM], format="extxyz")
    with pytest.raises(InputError, match="structure 0 has no name"):
        read_set(path)
    path.write_text("{")
    with pytest.raises(InputError, match="no JSON file"):
        read_set(path)


def test_finding_sets(tmp_path, monkeypatch):
    monkeypatch.delenv("HELIODOR_SHARED", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="--data"):
        find_data()
    with pytest.raises(InputError, match="there is no folder"):
        find_data(tmp_path / "no")
    with pytest.raises(InputError, match=r"no set 's66x9'; did you mean 's66x8'"):
        open_tasks("s66x9", tmp_path)
    with pytest.raises(InputError, match=r"S66x8.json"):
        open_tasks("s66x8", tmp_path)
    with pytest.raises(InputError, match="holds none"):
        open_tasks("conformers", tmp_path)
    (task,) = open_tasks(str(DATA / "bench" / "S66x8_part.json"))
    assert len(task.items) == 16
    assert task.level.startswith("CCSD(T)/CBS")
    monkeypatch.setenv("HELIODOR_SHARED", str(tmp_path))
    (tmp_path / "data").mkdir()
    assert find_data() == tmp_path / "data"


def test_distances_and_classes_of_known_sets():
    shared("data/nci_refdata/S66x8.json")
    tasks = {task.name: task for task in open_tasks("s66x8,s22x5,ionichb", shared("data"))}

    def first(name: str, count: int) -> list[Row]:
        return list(tasks[name].evaluate(SpoiledPairs(), tasks[name].items[:count]))

    # a model that knows none of their elements still has their distances
    assert [row.x for row in first("s66x8", 8)] == [0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 1.5, 2.0]
    assert [row.x for row in first("s22x5", 5)] == [0.9, 1.0, 1.2, 1.5, 2.0]
    assert [row.x for row in first("ionichb", 8)] == [0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 1.5, 2.0]
    groups = [row.group for row in tasks["s66x8"].evaluate(SpoiledPairs(), tasks["s66x8"].items)]
    assert [groups.count(g) for g in ("hydrogen bonds", "dispersion", "mixed")] == [184, 184, 160]
    assert all("elements unknown" in row.skipped for row in first("s66x8", 8))


def test_every_known_set_can_be_read():
    """No reaction is lost, and none has the name of another."""
    for task in open_tasks("interactions,conformers", shared("data")):
        assert len(set(task.items)) == len(task.items) > 5
        assert set(task.quick) <= set(task.items)


# forces ------------------------------------------------------------------------------------------------------


def test_errors_of_forces_are_those_put_in(tmp_path):
    """Labels are exact forces plus 0.01 eV/Å on one component of each atom."""
    frames = []
    for distance in (1.0, 1.2, 2.0):
        atoms = ase.Atoms("Ne2", [[0.0, 0.0, 0.0], [0.0, 0.0, distance]])
        x = (SIGMA / distance) ** 6
        pull = 4.0 * EPSILON * (12.0 * x * x - 6.0 * x) / distance
        forces = np.array([[0.0, 0.0, -pull], [0.0, 0.0, pull]]) - [0.01, 0.0, 0.0]
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=forces)
        frames.append(atoms)
    frames.append(frames[0][:1])  # isolated atoms are no test of forces
    write(tmp_path / "f.xyz", frames, format="extxyz")
    task = force_task(tmp_path, ForceSet("f", "f.xyz", "neon", "exact"))
    potential = SpoiledPairs()
    result = run_task(potential, task)
    e = result.errors()
    assert e.count == 3
    assert e.mae == pytest.approx(10.0 / 3.0, rel=1e-6)
    assert e.rmse == pytest.approx(10.0 / np.sqrt(3.0), rel=1e-6)
    assert "meV/Å" in markdown([result])


# statistics and files ----------------------------------------------------------------------------------------


def result_of(rows, **words):
    fields = {"model": "m", "task": "t", "title": "T", "level": "L", "unit": "kcal/mol", "note": "", "total": len(rows)}
    return SetResult(**(fields | words), rows=tuple(rows))


def test_statistics():
    rows = [Row("a", 1.0, 2.0, "x", 0.9), Row("b", 0.0, -3.0, "y", 0.9), Row("c", 2.0, 2.5, "x", 1.0)]
    rows += [Row("d", skipped="no"), Row("e", skipped="no")]
    result = result_of(rows)
    e = result.errors()
    assert (e.count, e.mae, e.mean, e.largest, e.worst) == (3, 1.5, -0.5, 3.0, "b")
    assert e.rmse == pytest.approx(np.sqrt((1.0 + 9.0 + 0.25) / 3.0))
    assert result.skipped == {"no": 2}
    assert {name: g.mae for name, g in result.groups().items()} == {"x": 0.75, "y": 3.0}
    assert {x: g.mae for x, g in result.by_distance().items()} == {0.9: 2.0, 1.0: 0.5}
    text = markdown([result])
    assert "| t | 5 | 1.50, -0.50, 1.85 (2 left out) |" in text
    assert "| t | x | 0.75, +0.75, 0.79 (2) |" in text
    assert "| t | 0.9 | 2.00, -1.00, 2.24 (2) |" in text
    assert "| t | T | L |  |" in text
    assert "| t | m | 2 | no |" in text
    assert csv_text([result]).count("\n") == 6
    assert np.isnan(result_of(rows[3:]).errors().mae)


def test_spread_out():
    assert spread_out(list("abcdefghi"), 3) == ("a", "e", "i")
    assert spread_out(["a"], 3) == ("a",)
    assert spread_out([], 3) == ()


def test_what_is_done_is_not_done_again(tmp_path):
    path = write_set(tmp_path, STRUCTURES, [REACTION, REACTION | {"ref": 3.0}])
    (task,) = open_tasks([str(path)])
    potential = SpoiledPairs()
    first = run_task(potential, task, tmp_path / "rows")
    assert first.rows[0].value == pytest.approx(between(HELIUM, NEON) / KCAL_PER_MOL)
    calls = potential.calls
    assert calls > 0
    told = []
    again = run_task(potential, task, tmp_path / "rows", progress=lambda *x: told.append(x))
    assert potential.calls == calls
    assert told == [(2, 2)]
    assert again.errors() == first.errors()
    # a line that a kill cut off is computed again, and what was before it is not
    file = rows_file(tmp_path / "rows", task, model_key(potential))
    whole = file.read_text()
    file.write_text(whole[:-20])
    told.clear()
    assert run_task(potential, task, tmp_path / "rows", progress=lambda *x: told.append(x)).errors() == first.errors()
    assert told == [(1, 2), (2, 2)]
    assert len(file.read_text().splitlines()) == 2
    # other parameters, other data
    other = run_task(SpoiledPairs(epsilon=0.6), task, tmp_path / "rows")
    assert other.rows[0].value != first.rows[0].value
    (changed,) = open_tasks([str(write_set(tmp_path, STRUCTURES, [REACTION | {"ref": 0.5}]))])
    assert run_task(potential, changed, tmp_path / "rows").rows[0].reference == 0.5
    assert model_key(potential) == model_key(SpoiledPairs())


def test_tables_go_into_a_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- begin accuracy -->\nold\n<!-- end accuracy -->\nbelow\n")
    for _ in range(2):
        put_into(page, r"| new \1 |")
        assert page.read_text() == ("above\n<!-- begin accuracy -->\n\n| new \\1 |\n<!-- end accuracy -->\nbelow\n")
    page.write_text("nothing")
    with pytest.raises(InputError, match="begin accuracy"):
        put_into(page, "x")


def test_sapt10k_with_monomers_in_any_order(tmp_path):
    """Both kinds of files: an array of fragments, or a second copy far apart."""
    pair = ase.Atoms("HeNeHe", [[0, 0, 0], [0, 3, 0], [0, 0, 0.5]])
    pair.info = {"charge_a": 1, "charge_b": 0, "benchmark_Eint": -2.5, "folder_name": "F"}
    far = pair.copy()
    far.positions[1] += 1e4
    marked = pair.copy()
    marked.arrays["fragment"] = np.array([0, 1, 0])
    sets = []
    for name, frames in (("a", [marked]), ("b", [pair, far])):
        write(tmp_path / f"{name}.xyz", frames, format="extxyz")
        sets.append(read_sapt10k(tmp_path / f"{name}.xyz"))
    for data in sets:
        (reaction,) = data.reactions
        assert reaction.reference == -2.5
        whole, a, b = (data.structures[name] for name, _ in reaction.terms)
        assert [str(x.symbols) for x in (whole, a, b)] == ["He2Ne", "He2", "Ne"]
        assert (whole.info["charge"], a.info["charge"], b.info["charge"]) == (1.0, 1.0, 0.0)
    pair.info.pop("charge_a")
    write(tmp_path / "c.xyz", pair, format="extxyz")
    with pytest.raises(InputError, match="charge_a"):
        read_sapt10k(tmp_path / "c.xyz")
