"""From a peptide to its force field, at the smallest size at which every stage has something to do."""

import json
import shutil

import ase
import ase.build
import ase.io
import numpy as np
import pytest

import heliodor
from heliodor.errors import InputError
from heliodor.fragments.embed import embed
from heliodor.fragments.solvent import with_waters
from heliodor.gems import judge, pieces
from heliodor.gems.choose import choose, shares
from heliodor.gems.config import read_config
from heliodor.gems.fit import Fit, fits, split, train_settings
from heliodor.gems.molecule import read_source
from heliodor.gems.pipeline import make_force_field, stages
from heliodor.gems.plan import plan
from heliodor.registry import checkpoint_path, find_model
from heliodor.stages import read_record
from heliodor.train.dataset import Dataset, join

pytest.importorskip("openmm")
pytest.importorskip("rdkit")

SMALL = {
    "system": {"folds": ["extended"]},
    "snapshots": {"time": "0.6 ps", "every": "0.05 ps", "temperatures": [300]},
    "bottom_up": {"max_heavy": 3, "conformers": 1, "sampler": "model:heliodor-mini", "modes": 2, "dynamics": 0},
    "top_down": {"radius": 3.0, "centres": 3, "structures": 12, "held_out": 4},
    "label": {"method": "teacher:heliodor-mini"},
    "model": {"size": "small"},
    "train": {"epochs": 2, "time": "", "compile": "no", "batch_size": 8},
    "validate": {"whole": 2, "helix": "AceAla{n}Nme", "lengths": [1, 2], "relax": False},
    "simulate": {"time": "2 fs"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gems")
    return folder, make_force_field("AceGlyNme", folder, read_config(SMALL))


@pytest.mark.filterwarnings("ignore")
def test_every_stage_leaves_what_the_next_one_reads(made):
    folder, records = made
    names = "prepare snapshots bottom-up top-down select label train helix validate simulate report"
    assert " ".join(records) == names
    labelled = Dataset.read(folder / "labelled.h5")
    assert set(labelled.kind) == {"bottom-up", "top-down", "held-out", "whole"}
    assert labelled.method == "teacher:heliodor-mini" and np.isfinite(labelled.energy).all()
    # the labels are the method's, structure by structure
    k = int(np.flatnonzero(labelled.kind == "whole")[0])
    again = heliodor.evaluate(heliodor.load("heliodor-mini", dtype="float64"), labelled.atoms(k))
    assert float(again.energy[0]) == pytest.approx(labelled.energy[k], abs=1e-9)
    np.testing.assert_allclose(again.forces.numpy(), labelled.forces[labelled.span(k)], atol=1e-9)
    assert "<html" in (folder / "report.html").read_text()[:300]


def test_the_models_load_and_the_second_one_saw_no_top_down_fragments(made):
    folder, records = made
    both = judge.models(folder, read_config(SMALL))
    assert list(both) == ["force field", "without top-down fragments"]
    counts = {
        kind: int((Dataset.read(folder / "labelled.h5").kind == kind).sum()) for kind in ("bottom-up", "top-down")
    }
    facts = records["train"].facts
    assert facts["model-bottom-up: trained_on"] < counts["bottom-up"]
    assert counts["bottom-up"] < facts["model: trained_on"] < counts["bottom-up"] + counts["top-down"]
    potential = heliodor.load(folder / "model.safetensors")
    assert set(potential.elements) == {1, 6, 7, 8}


def test_validation_says_what_an_evaluation_by_hand_says(made):
    folder, _ = made
    record = json.loads((folder / "validation.json").read_text())
    said = {n["name"]: n["value"] for n in record["whole"]["numbers"]}
    labelled = Dataset.read(folder / "labelled.h5")
    mine = labelled.take(np.flatnonzero(labelled.kind == "whole"))
    potential = heliodor.load(folder / "model.safetensors", dtype="float64")
    found = heliodor.evaluate(potential, [mine.atoms(k) for k in range(len(mine))])
    error = 1e3 * np.abs(found.forces.numpy() - mine.forces).mean()
    assert said["force field: forces, mean absolute error"] == pytest.approx(error, rel=1e-9)


def test_again_nothing_is_done_and_a_change_is_followed(made, monkeypatch):
    folder, _ = made
    told = []
    make_force_field("AceGlyNme", folder, read_config(SMALL), tell=lambda stage, what, *_: told.append((stage, what)))
    assert all(what.startswith("unchanged") for _, what in told)
    told.clear()
    changed = read_config(SMALL | {"simulate": {"time": "3 fs"}})
    make_force_field("AceGlyNme", folder, changed, tell=lambda stage, what, *_: told.append((stage, what)))
    assert {stage for stage, what in told if not what.startswith("unchanged")} == {"simulate", "report"}


def test_stopping_early(tmp_path):
    records = make_force_field("AceGlyNme", tmp_path, read_config(SMALL), until="prepare")
    assert list(records) == ["prepare"] and read_record("snapshots", tmp_path) is None
    with pytest.raises(InputError, match="no stage 'lable'; did you mean 'label'"):
        make_force_field("AceGlyNme", tmp_path, read_config(SMALL), until="lable")


def test_the_plan_counts_what_is_then_made(made):
    _, records = made
    lines = {line.name: line.numbers for line in plan("AceGlyNme", read_config(SMALL))}
    assert lines["bottom-up"]["graphs"] == records["bottom-up"].facts["graphs"]
    assert lines["snapshots"]["snapshots"] == records["snapshots"].facts["snapshots"]
    assert lines["bottom-up"]["structures"] >= records["select"].facts["bottom-up"]
    assert lines["labels"]["cpu_hours"] > 0.0


def test_the_settings_of_a_training(made):
    config = read_config(SMALL)
    both, one = fits(config)
    assert train_settings(config, both).kind_shares == {"bottom-up": 0.5, "top-down": 0.5}
    assert train_settings(config, one).kind_shares == {}
    with pytest.raises(InputError, match="learning_rat"):
        train_settings(read_config(SMALL | {"train": {"learning_rat": 1}}), both)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": {"method": "gfn3"}}, "gfn3"),
        ({"model": {"architecture": "spukynet"}}, "spukynet.*did you mean 'spookynet'"),
        ({"train": {"epoch": 3}}, "epoch"),
        ({"snapshots": {"time": "long"}}, "long"),
        ({"label": {"memory": "much"}}, "much"),
        ({"simulate": {"time": "10px"}}, "cannot read '10px' as a time"),
        ({"validate": {"helix": "AceAlaNme"}}, "helices need a sequence with {n}"),
    ],
)
def test_what_would_fail_after_hours_is_refused_at_once(tmp_path, change, words):
    with pytest.raises(heliodor.HeliodorError, match=words):
        stages(read_source("AceGlyNme"), tmp_path, read_config(SMALL | change))


@pytest.mark.parametrize(
    ("atoms", "words"),
    [
        (ase.build.molecule("CH3"), "leaves 9 electrons, which cannot have 0 unpaired"),
        (ase.Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.13]]), "has no hydrogens: prepare it first"),
    ],
)
def test_structures_that_are_no_molecules_are_refused(tmp_path, atoms, words):
    with pytest.raises(InputError, match=words):
        make_force_field(atoms, tmp_path, read_config(SMALL), until="prepare")


def test_words_that_are_neither_file_nor_sequence():
    with pytest.raises(InputError, match=r"there is no file nowhere\.pdb"):
        read_source("nowhere.pdb")
    with pytest.raises(InputError):
        read_source("AceXyzNme")


def water(group, kind="bottom-up", shift=0.0):
    atoms = ase.build.molecule("H2O")
    atoms.positions[1, 2] += shift
    atoms.info |= {"group": group, "kind": kind}
    return atoms


def test_no_group_is_both_trained_on_and_watched():
    frames = [water(f"g{k % 20}", kind) for k in range(200) for kind in ("bottom-up", "top-down")]
    data = Dataset.from_atoms(frames)
    object.__setattr__(data, "energy", np.zeros(len(data)))
    training, watching = split(data, ("bottom-up", "top-down"), seed=3)
    for kind in ("bottom-up", "top-down"):
        learned, watched = (part.group[part.kind == kind] for part in (training, watching))
        assert not set(learned) & set(watched) and len(watched) == 10
    assert len(training) + len(watching) == len(data)


def test_failed_labels_are_not_learned_from():
    data = Dataset.from_atoms([water(f"g{k}") for k in range(40)])
    energy = np.zeros(40)
    energy[::4] = np.nan
    object.__setattr__(data, "energy", energy)
    training, watching = split(data, ("bottom-up",), seed=0)
    assert len(training) + len(watching) == 30 and np.isfinite(training.energy).all()


def test_shares_of_a_budget():
    sizes = np.array([1, 5, 100, 100])
    assert shares(sizes, 206) == 100
    assert shares(sizes, 46) == 20
    assert shares(sizes, 3) == 0


def test_a_budget_keeps_every_group_and_takes_what_differs():
    few = [water("a", shift=0.001 * k) for k in range(20)] + [water("b", shift=0.3 * (k == 7)) for k in range(20)]
    data = Dataset.from_atoms(few)
    picked = choose(data, 4, "groups", 0, lambda what, done, of: None)
    assert np.bincount((picked >= 20).astype(int)).tolist() == [2, 2]
    assert 27 in picked
    assert choose(join([data]), 40, "groups", 0, lambda what, done, of: None).tolist() == list(range(40))


def test_a_budget_is_kept_with_hydrates_too():
    ethanol = embed("CCO", 1)[0]
    frames = [ethanol] * 10 + with_waters(ethanol, (1, 2, 3), 30)
    for budget in (2, 8, 20):
        assert len(choose(Dataset.from_atoms(frames), budget, "groups", 0, lambda what, done, of: None)) <= budget


def test_an_ion_of_zinc_is_left_to_the_top_down_fragments():
    zinc = ase.Atoms("Zn", positions=[[9.0, 0.0, 0.0]])
    system = zinc + ase.build.molecule("CH3OH") + zinc
    alone = pieces.amons_of(ase.build.molecule("CH3OH"), read_config({}).bottom_up)
    assert (
        [amon.smiles for amon in alone]
        == ["C", "O", "CO"]
        == [amon.smiles for amon in pieces.amons_of(system, read_config({}).bottom_up)]
    )


def keys(source, folder, values):
    return {one.name: json.dumps(one.settings) for one in stages(source, folder, read_config(values))}


def test_files_behind_a_choice_are_part_of_it(tmp_path):
    """A trajectory or a model's weights that changed, under the same name, are another choice."""
    model, frames = tmp_path / "net.safetensors", tmp_path / "frames.xyz"
    shutil.copyfile(checkpoint_path(find_model("heliodor-mini")), model)
    frames.write_text("a")
    source = read_source("AceGlyNme")
    values = SMALL | {"snapshots": {"trajectory": str(frames)}}
    values["bottom_up"] = SMALL["bottom_up"] | {"sampler": f"model:{model}"}
    before = keys(source, tmp_path, values)
    frames.write_text("ab")
    after = keys(source, tmp_path, values)
    assert {name for name in before if before[name] != after[name]} == {"snapshots"}
    digest = pieces.weights(f"model:{model}")
    assert digest == pieces.weights(f"teacher:{model}") and pieces.weights("gfn2") == {}
    model.write_bytes(b"other")
    last = keys(source, tmp_path, values)
    assert {name for name in before if after[name] != last[name]} == {"bottom-up"}
    frames.unlink()
    with pytest.raises(InputError, match=r"frames\.xyz cannot be read"):
        keys(source, tmp_path, values)


def test_raised_limits_are_another_choice_of_labels_only(tmp_path):
    source = read_source("AceGlyNme")
    before, after = (
        keys(source, tmp_path, SMALL | {"label": SMALL["label"] | extra}) for extra in ({}, {"time_limit": "1 min"})
    )
    assert {name for name in before if before[name] != after[name]} == {"label"}


@pytest.mark.parametrize("time", ["0 ps", "0ps", "0.0", " 0 fs"])
def test_no_trial_run(tmp_path, time):
    found = keys(read_source("AceGlyNme"), tmp_path, SMALL | {"simulate": {"time": time}})
    assert "simulate" not in found


def test_one_kind_only_needs_one_training():
    assert fits(read_config({"top_down": {"structures": 0}})) == (Fit("model", ("bottom-up", "top-down")),)


def test_a_single_group_is_split_all_the_same():
    data = Dataset.from_atoms([water("only") for _ in range(40)])
    object.__setattr__(data, "energy", np.zeros(40))
    training, watching = split(data, ("bottom-up",), seed=0)
    assert (len(training), len(watching)) == (38, 2)
