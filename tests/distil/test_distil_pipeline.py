"""From structures to a judged student, at the smallest size at which every stage has something to do."""

import json

import numpy as np
import pytest
from ase.build import molecule

import heliodor
from heliodor.distil.config import DistilChoices, explain, read_distil_choices
from heliodor.distil.labels import split_buckets, split_groups
from heliodor.distil.pipeline import distil
from heliodor.errors import InputError
from heliodor.train.dataset import Dataset

TEACHER = "heliodor-mini"
CHOICES = {
    "student": {"size": {"preset": "small", "n_features": 16, "n_layers": 1, "n_basis": 8}},
    "structures": {"validation": 0.2, "test": 0.2},
    "train": {"epochs": 2, "compile": "no", "batch_size": 4, "loss": "huber", "node_energies_weight": 1.0},
}


def structures(number=40):
    random = np.random.default_rng(2)
    frames = []
    for k in range(number):
        name = ("H2O", "CH3OH", "NH3", "CH4", "H2CO", "C2H6", "HCN", "C2H2")[k % 8]
        frame = molecule(name)
        frame.positions += 0.03 * random.normal(size=frame.positions.shape)
        frame.info |= {"kind": "small", "group": name}
        frames.append(frame)
    return Dataset.from_atoms(frames)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distil")
    structures().write(folder / "asked.h5")
    records = distil(TEACHER, read_distil_choices(CHOICES), folder / "out", folder / "asked.h5")
    return folder, records


def test_stages_and_what_they_leave(made):
    folder, records = made
    assert list(records) == ["structures", "dynamics", "labels", "split", "active", "begin", "train", "judge"]
    sets = [Dataset.read(folder / "out" / name) for name in ("training.h5", "validation.h5", "test.h5")]
    groups = [set(part.group) for part in sets]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert sum(map(len, sets)) == 40
    teacher = heliodor.load(TEACHER, dtype="float64")
    again = heliodor.evaluate(teacher, sets[2].atoms(0))
    # labels are made in float32
    np.testing.assert_allclose(sets[2].forces[sets[2].span(0)], again.forces, atol=1e-3)


def test_the_student_is_what_was_judged(made):
    folder, _ = made
    test = Dataset.read(folder / "out" / "test.h5")
    student = heliodor.load(str(folder / "out" / "student.safetensors"), dtype="float64")
    answers = [np.asarray(heliodor.evaluate(student, test.atoms(k)).forces) for k in range(len(test))]
    wrong = [answer - test.forces[test.span(k)] for k, answer in enumerate(answers)]
    rmse = float(np.sqrt(np.square(np.concatenate(wrong)).mean()))
    judgement = json.loads((folder / "out" / "judgement.json").read_text())
    assert judgement["errors"]["all"]["forces"]["rmse"] == pytest.approx(rmse, rel=1e-3)
    # the teacher's repulsion is taken over, to the bit
    teacher = heliodor.load(TEACHER, dtype="float64")
    for mine, theirs in zip(student.zbl.parameters(), teacher.zbl.parameters(), strict=True):
        assert bool((mine == theirs).all())
    assert student.card["teacher"] == TEACHER


def test_again_does_nothing_and_a_change_does_what_it_must(made):
    folder, first = made
    told: list[tuple[str, str]] = []

    def tell(stage, what, done, of):
        if done == of == 1:
            told.append((stage, what))

    changed = {**CHOICES, "train": {**CHOICES["train"], "epochs": 3}}
    asked = folder / "asked.h5"
    again = distil(TEACHER, read_distil_choices(CHOICES), folder / "out", asked, tell=tell)
    assert all(what.startswith("unchanged") for _, what in told) and len(told) == len(first)
    told.clear()
    other = distil(TEACHER, read_distil_choices(changed), folder / "out", asked, tell=tell)
    fresh = [stage for stage, what in told if not what.startswith("unchanged")]
    assert fresh == ["train", "judge"]
    assert other["labels"].outputs == again["labels"].outputs


def test_labels_survive_a_kill(made, monkeypatch):
    folder, _ = made
    asked, out = folder / "asked.h5", folder / "killed"
    from heliodor.distil import labels

    monkeypatch.setattr(labels, "PIECE", 15)
    taught, real = [], labels.teach_some

    def teach(teacher, chunk, **rest):
        if len(taught) == 2:
            raise KeyboardInterrupt
        taught.append(len(chunk))
        return real(teacher, chunk, **rest)

    monkeypatch.setattr(labels, "teach_some", teach)
    with pytest.raises(KeyboardInterrupt):
        distil(TEACHER, read_distil_choices(CHOICES), out, asked, until="labels")
    calls: list[int] = []

    def counted(teacher, chunk, **rest):
        calls.append(len(chunk))
        return real(teacher, chunk, **rest)

    monkeypatch.setattr(labels, "teach_some", counted)
    distil(TEACHER, read_distil_choices(CHOICES), out, asked, until="labels")
    assert calls == [10]
    a, b = Dataset.read(out / "labelled.h5"), Dataset.read(folder / "out" / "labelled.h5")
    np.testing.assert_allclose(a.forces, b.forces, atol=1e-4)


def test_active_rounds_take_what_the_committee_doubts(made):
    folder, _ = made
    active = {"rounds": 2, "begin": 0.3, "take": 4, "members": 2, "time": "2 s"}
    choices = read_distil_choices({**CHOICES, "active": active})
    record = distil(TEACHER, choices, folder / "active", folder / "asked.h5", until="active")["active"]
    whole, chosen = (Dataset.read(folder / "active" / name) for name in ("training.h5", "chosen.h5"))
    assert record.facts["structures"] == len(chosen) == round(0.3 * len(whole)) + 8
    assert len(record.facts["median_spread"]) == 2


def test_the_teachers_dynamics_join(made):
    pytest.importorskip("rdkit")
    folder, _ = made
    with_dynamics = {**CHOICES, "structures": {**CHOICES["structures"], "dynamics": 2}}
    out = folder / "visited"
    record = distil(TEACHER, read_distil_choices(with_dynamics), out, folder / "asked.h5", until="dynamics")["dynamics"]
    data, asked = Dataset.read(out / "visited.h5"), Dataset.read(folder / "asked.h5")
    assert record.facts["by_dynamics"] == len(data) - len(asked) > 0
    added = data.take(range(len(asked), len(data)))
    assert set(added.group) <= set(asked.group) and all("teacher" in origin for origin in added.origin)


def test_bad_choices():
    for values, words in (
        ({"studnet": {}}, "studnet"),
        ({"structures": {"test": 0.7}}, "structures.test"),
        ({"active": {"members": 1}}, "members"),
        ({"features": -1}, "features"),
    ):
        with pytest.raises(InputError, match=words):
            read_distil_choices(values)
    import yaml

    assert read_distil_choices(yaml.safe_load(explain())) == DistilChoices()


def test_too_few_groups():
    data = structures(4)
    alone = Dataset.from_atoms([data.atoms(0)])
    with pytest.raises(InputError, match="set would be empty"):
        split_groups(alone, read_distil_choices({}).structures, 0)


def test_a_group_of_several_kinds_stays_together():
    random = np.random.default_rng(1)
    frames = []
    for k in range(300):
        frame = molecule("H2O")
        frame.info |= {"kind": ("alone", "wet")[k % 2], "group": f"molecule {random.integers(60)}"}
        frames.append(frame)
    choices = read_distil_choices({"structures": {"validation": 0.1, "test": 0.2}}).structures
    parts = split_groups(Dataset.from_atoms(frames), choices, 0)
    seen = [set(part.group) for part in parts]
    assert sum(map(len, parts)) == 300 and len(parts[2]) == pytest.approx(60, abs=12)
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]


def test_a_piece_of_no_use_is_counted_and_a_failure_is_none(tmp_path, monkeypatch):
    """The first piece has nothing for the teacher; a disk that is full while the second is written leaves no trace."""
    from ase import Atoms

    from heliodor.distil import labels

    monkeypatch.setattr(labels, "PIECE", 5)
    data = Dataset.from_atoms([Atoms("Na")] * 5 + [structures(8).atoms(k) for k in range(5)])
    model, choices = heliodor.load(TEACHER, dtype="float32"), read_distil_choices({}).structures

    def full(self, path):
        raise InputError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(Dataset, "write", full)
        with pytest.raises(InputError, match="the disk is full"):
            labels.label_pieces(model, data, tmp_path, choices, "x", lambda *told: None)
    found, left_out = labels.label_pieces(model, data, tmp_path, choices, "x", lambda *told: None)
    assert len(found) == 5 and left_out == {"outside the teacher": 5}


def test_buckets_keep_molecules_apart():
    random = np.random.default_rng(0)
    names = ["C" * n + "O" * m for n in range(1, 9) for m in range(1, 5)]
    frames = []
    for k in range(600):
        frame = molecule("H2O")
        # pairs of any two molecules, some with water
        pair = random.choice(names, size=1 + k % 2)
        frame.info |= {"kind": "dimer", "group": ".".join(sorted(set(pair.tolist())))}
        frames.append(frame)
    data = Dataset.from_atoms(frames)
    parts = split_buckets(data, read_distil_choices({}).structures, 3)
    seen = [{name for group in part.group for name in str(group).split(".")} for part in parts]
    assert all(seen) and not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]


def test_few_generated_structures_are_enough_for_three_sets():
    """Most of the sixteen buckets are empty here, and those that are held out are not."""
    frames = []
    for name in ("CCO", "CCN", "c1ccccc1", "CC(C)=O"):
        frame = molecule("H2O")
        frame.info |= {"kind": "molecule", "group": name}
        frames.append(frame)
    for seed in range(10):
        parts = split_buckets(Dataset.from_atoms(frames), read_distil_choices({}).structures, seed)
        assert sum(map(len, parts)) == 4 and all(map(len, parts))


def test_stages_and_teachers_that_are_not(tmp_path):
    structures(8).write(tmp_path / "asked.h5")
    with pytest.raises(InputError, match="no stage 'trian'"):
        distil(TEACHER, read_distil_choices(CHOICES), tmp_path / "x", tmp_path / "asked.h5", until="trian")
    with pytest.raises(InputError, match="cannot be read"):
        distil(TEACHER, read_distil_choices(CHOICES), tmp_path / "y", tmp_path / "nothing.h5")
