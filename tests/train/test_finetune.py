"""Fine-tuning: what stays as it was, the zero of energy, replay, what was forgotten, killed runs, refusals."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule
from safetensors.torch import load_file

import heliodor
from heliodor.errors import HeliodorError, InputError
from heliodor.label.label import Label
from heliodor.potential import Potential
from heliodor.potentials.committee import Committee
from heliodor.potentials.sum import Sum
from heliodor.train.batches import find_lists
from heliodor.train.dataset import Dataset
from heliodor.train.errors import compare, predict
from heliodor.train.finetuning import finetune
from heliodor.train.finetuning.finetune import FineTuned, fine_tune
from heliodor.train.finetuning.new_zero import put_back, with_zero
from heliodor.train.finetuning.replay import Replay, label_by_itself, mix, split_old, to_zero_of
from heliodor.train.finetuning.settings import FineTune
from heliodor.train.models import new_model
from heliodor.train.references import References
from heliodor.train.sampling import Sampler
from heliodor.train.settings import TrainSettings

TINY = {"n_features": 8, "n_heads": 2, "degrees": [1, 2], "n_layers": 1, "n_basis": 6, "n_hirshfeld": 4}
QUICK = {"epochs": 1, "batch_size": 6, "validation_structures": 4, "compile": "no", "learning_rate": 0.01}
ADAPTERS = FineTune(train="low-rank", rank=1, also=("energy_offset",), replay=Replay(by="itself", share=0.5, sample=15))
SETTINGS = ADAPTERS.settings(QUICK)
SHIFTS = {1: -13.25, 6: -1030.5, 8: -2043.125}


def bent(names: tuple[str, ...], number: int, seed: int, kind: str = "") -> list[ase.Atoms]:
    rng = np.random.default_rng(seed)
    frames = []
    for k in range(number):
        frame = molecule(names[k % len(names)])
        frame.positions += rng.normal(scale=0.05, size=frame.positions.shape)
        frame.info |= {"kind": kind, "group": names[k % len(names)]}
        frames.append(frame)
    return frames


def labelled(frames: list[ase.Atoms], method: str, seed: int = 0) -> Dataset:
    """Springs between all atoms, and an energy for each element: a level of theory of its own."""
    rng = np.random.default_rng(seed)
    labels = []
    for frame in frames:
        r = frame.positions[:, None] - frame.positions[None]
        d = np.sqrt(np.square(r).sum(-1) + np.eye(len(frame)))
        stretch = d - 1.5 - 0.1 * rng.random()
        np.fill_diagonal(stretch, 0.0)
        energy = 0.25 * np.square(stretch).sum() + sum(SHIFTS[int(z)] for z in frame.numbers)
        labels.append(Label(energy=float(energy), forces=-(stretch / d)[..., None].__mul__(r).sum(1)))
    return Dataset.from_atoms(frames, labels, method=method)


@pytest.fixture(scope="module")
def new() -> Dataset:
    return labelled(bent(("H2O", "CH3OH", "CH4"), 12, 1), "springs")


@pytest.fixture(scope="module")
def held() -> Dataset:
    return labelled(bent(("H2O", "CH3OH"), 4, 2), "springs")


@pytest.fixture(scope="module")
def old() -> Dataset:
    return Dataset.from_atoms(bent(("CH3OH", "CO2", "C2H6", "H2O2", "C2H4"), 15, 3, "organic"))


def made(architecture: str, size: dict[str, Any]) -> Potential:
    frames = bent(("H2O", "CH3OH", "CO2"), 6, 4)
    data = Dataset.from_atoms(frames)
    return new_model(architecture, size, data.elements, data).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def base() -> Potential:
    model = made("so3lr", TINY)
    model.card |= {"source_sha256": "of something else", "licence": "MIT"}
    model.name = "tiny"
    return model


@pytest.fixture(scope="module")
def whole(
    base: Potential, new: Dataset, held: Dataset, old: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> FineTuned:
    return fine_tune(base, new, held, tmp_path_factory.mktemp("whole"), SETTINGS, ADAPTERS, old=old)


def test_untrained_weights_keep_their_bits(
    base: Potential, new: Dataset, held: Dataset, whole: FineTuned, tmp_path: Path
) -> None:
    before = dict(base.named_parameters())
    energies = {n for n in before if n.startswith("energy")}
    for how, allowed in (
        (FineTune(train="heads"), {n for n in before if n.startswith(("energy", "charge", "hirshfeld"))}),
        (
            FineTune(train=("network.layers.0.update", "energy_offset")),
            {n for n in before if ".update." in n} | energies,
        ),
        (ADAPTERS, {n for n in before if before[n].ndim > 1} | energies),
    ):
        result = whole if how is ADAPTERS else fine_tune(base, new, held, tmp_path / str(len(allowed)), SETTINGS, how)
        after = dict(result.model.named_parameters())
        assert before.keys() == after.keys()
        changed = {n for n in before if not torch.equal(before[n], after[n])}
        assert len(changed) >= 3 and "energy_offset" in changed and changed <= allowed
        # forces do not depend on it, energies do
        assert ("energy_head.out.weight" in changed) == (how.train == "heads")
        stored = load_file(result.path)
        assert set(stored) == set(base.state_dict())
        assert all(stored[n].dtype == torch.float32 for n in changed)
        card = heliodor.load(str(result.path), device="cpu").card
        assert card["name"] == "tiny-finetuned" and "source_sha256" not in card and card["licence"] == "MIT"
        fine = card["fine_tuning"]
        assert fine["from"] == {"name": "tiny", "source_sha256": "of something else"}
        assert ("low_rank" in fine) == (how is ADAPTERS)
        assert fine["parameters_trained"] == result.trained


def test_zero_of_energy(base: Potential, new: Dataset) -> None:
    own = predict(base, replace(new))
    energies = own.energy + np.array([sum(SHIFTS[int(z)] for z in new.numbers[new.span(k)]) for k in range(len(new))])
    shifted = replace(new, energy=energies)
    refit = with_zero(base, shifted, "refit")
    np.testing.assert_allclose(predict(refit, shifted).energy, energies, atol=1e-7)
    references = References.from_card(refit.card)
    assert references is not None and "C, O" in references.origin
    # energies in the composition are all that is added: three molecules tell three elements apart
    mine = References.from_card(base.card)
    for z, shift in SHIFTS.items():
        assert references.energies[z] - (mine.energies[z] if mine else 0.0) == pytest.approx(shift, abs=1e-6)
    kept = with_zero(base, shifted, "keep")
    np.testing.assert_allclose(predict(kept, shifted).energy, own.energy, rtol=1e-12)
    given = with_zero(base, shifted, {"H": -1.0, "C": -2.0, "O": -3.0})
    found = References.from_card(given.card)
    assert found is not None and [found.energies[z] for z in (1, 6, 8)] == [-1.0, -2.0, -3.0]
    with pytest.raises(InputError, match="no energy is given for O"):
        with_zero(base, shifted, {"H": -1.0, "C": -2.0})
    assert base.card.get("reference_energies") == made("so3lr", TINY).card.get("reference_energies")


def test_isolated_atoms_of_mace(new: Dataset) -> None:
    model = made("mace", {"preset": "small", "channels": 4, "isolated_energies": [-13.0, -1030.0, -2043.0]})
    model.card.pop("reference_energies", None)
    frames = [new.atoms(k) for k in range(4)]
    total = heliodor.evaluate(model, frames).energy.numpy()
    start = with_zero(model, new, "keep")
    # taken out: what the labels lose in float32 is that of the interaction energies
    bare = heliodor.evaluate(start, frames).energy.numpy()
    assert np.abs(bare).max() < 100.0 < np.abs(total).max()
    references = References.from_card(start.card)
    assert references is not None
    np.testing.assert_allclose(bare + references.sums(new.take(range(4))), total, atol=1e-9)
    put_back(start, model)
    np.testing.assert_allclose(heliodor.evaluate(start, frames).energy.numpy(), total, atol=1e-9)
    np.testing.assert_allclose(predict(start, new.take(range(4))).energy, total, atol=1e-9)
    refit = with_zero(model, new, "refit")
    off = predict(refit, new).energy - new.energy
    put_back(refit, model)
    answers = heliodor.evaluate(refit, [new.atoms(k) for k in range(len(new))]).energy.numpy()
    np.testing.assert_allclose(answers - new.energy, off, atol=1e-8)
    assert np.abs(off).max() < 5.0


def test_share_of_what_is_drawn(base: Potential, new: Dataset, old: Dataset) -> None:
    kinds = replace(new, kind=np.array(["", "a", "b"] * 4))
    for share in (0.3, 0.75):
        joined, shares = mix(kinds, old, share, {"": 0.5, "a": 0.25, "b": 0.25})
        assert sum(shares.values()) == pytest.approx(1.0) and joined.method == "springs"
        lists = find_lists(joined, base, None)
        sampler = Sampler(lists, 6, shares, 1)
        drawn = np.concatenate([lists.dataset.kind[c] for e in range(20) for c in sampler.epoch(e)])
        assert np.mean(drawn == "old: organic") == pytest.approx(share, abs=1.5 / len(drawn))
        assert np.mean(drawn == "new") == pytest.approx(0.5 * (1 - share), abs=1.5 / len(drawn))
        # every batch has its part, within what chance does to one
        old_part = [np.mean(lists.dataset.kind[c] == "old: organic") for e in range(20) for c in sampler.epoch(e)]
        assert np.mean(old_part) == pytest.approx(share, abs=0.05)
    with pytest.raises(InputError, match="rename it"):
        mix(replace(new, kind=np.full(len(new), "old: organic")), old, 0.3)


def test_old_labels_beside_new(base: Potential, new: Dataset, old: Dataset) -> None:
    start = with_zero(base, new, "refit")
    mine = label_by_itself(start, old)
    assert "tiny, before fine-tuning" in mine.method and np.isfinite(mine.dipole).all()
    np.testing.assert_allclose(mine.energy, predict(start, old).energy, rtol=1e-12)
    # the same labels with another zero, as another method has it
    elsewhere = replace(
        mine, energy=mine.energy + References({1: 3.0, 6: -20.0, 8: 7.0}, "").sums(old), method="another"
    )
    moved, words = to_zero_of(start, elsewhere, "springs", "move")
    np.testing.assert_allclose(moved.energy, mine.energy, atol=1e-6)
    np.testing.assert_array_equal(moved.forces, mine.forces)
    assert "another level of theory (another)" in words and "shifted by element" in words
    dropped, _ = to_zero_of(start, elsewhere, "springs", "drop")
    assert np.isnan(dropped.energy).all() and np.isfinite(dropped.forces).all()
    same, words = to_zero_of(start, replace(elsewhere, method="springs"), "springs", "move")
    np.testing.assert_array_equal(same.energy, elsewhere.energy)
    assert "same level" in words
    kept, out = split_old(mine, 0.2, 1)
    assert len(kept) + len(out) == len(old) and len(out) >= 3
    assert not set(kept.group) & set(out.group)
    with pytest.raises(InputError, match="cannot be divided"):
        split_old(mine.take([0, 5, 10]), 0.2, 1)


def test_what_was_forgotten(base: Potential, new: Dataset, held: Dataset, whole: FineTuned) -> None:
    folder = whole.path.parent
    # once more from what lies on the disk, by the plain functions
    model = heliodor.load(str(whole.path), device="cpu", dtype="float32")
    start = with_zero(base, new, "refit").float()
    _, out = split_old(Dataset.read(folder / "old.h5"), 0.2, SETTINGS.seed)
    found = whole.forgetting
    for where, data in {"old": out, "new": held}.items():
        for errors, judge in ((found.before, start), (found.after, model)):
            expected = compare(predict(judge, data), data).all
            for name in ("forces", "energy_shifted"):
                assert errors[where].all[name].mae == pytest.approx(expected[name].mae, rel=1e-5, abs=1e-6)
    by_hand = np.abs(predict(model, out).forces - out.forces).mean()
    assert found.after["old"].all["forces"].mae == pytest.approx(by_hand, rel=1e-5)
    assert found.before["old"].all["forces"].mae < 1e-2 * by_hand
    assert re.fullmatch(r"forces on the old data 0 -> [0-9.]+ meV/Å", found.words[0])
    assert float(found.words[0].split()[-2]) == pytest.approx(1e3 * by_hand, rel=0.01)
    kept = json.loads((folder / "forgetting.json").read_text())
    assert kept["after"]["old"]["all"]["forces"]["mae"] == found.after["old"].all["forces"].mae
    assert found.words[0] in (folder / "forgetting.txt").read_text()
    assert (folder / "forgetting.png").read_bytes()[:4] == b"\x89PNG"
    assert model.card["fine_tuning"]["forgotten"] == found.words
    assert any("labelled by tiny itself" in note for note in model.card["fine_tuning"]["notes"])


class Killed(BaseException):
    pass


def test_killed_before_the_merging(
    base: Potential,
    new: Dataset,
    held: Dataset,
    old: Dataset,
    whole: FineTuned,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def die(*_: object) -> Potential:
        raise Killed

    def go_on(how: FineTune = ADAPTERS) -> FineTuned:
        return fine_tune(base, new, held, tmp_path, SETTINGS, how, old=old)

    with monkeypatch.context() as patch:
        patch.setattr(finetune, "merge", die)
        with pytest.raises(Killed):
            go_on()
    assert any("parametrizations" in name for name in load_file(tmp_path / "model.safetensors"))
    # on again, and again when all is done
    for _ in range(2):
        result = go_on()
        stored, expected = load_file(result.path), load_file(whole.path)
        assert stored.keys() == expected.keys() and all(torch.equal(stored[k], expected[k]) for k in stored)
        assert result.model.card["fine_tuning"] == whole.model.card["fine_tuning"]
        assert result.forgetting.to_dict() == whole.forgetting.to_dict()
    with pytest.raises(InputError, match="other data, settings or another model"):
        go_on(replace(ADAPTERS, rank=2))


def test_refusals(base: Potential, new: Dataset, held: Dataset, old: Dataset, tmp_path: Path) -> None:
    settings = TrainSettings.from_mapping(QUICK)

    def refused(match: str, model: Potential, training: Dataset, how: FineTune | None = None) -> None:
        with pytest.raises(HeliodorError, match=match) as caught:
            fine_tune(model, training, held, tmp_path / "refused", settings, how)
        assert "\n" not in str(caught.value)

    nitrogen = labelled(bent(("H2O",), 2, 1), "springs")
    nitrogen.numbers[0] = 7
    refused("the training set does not fit tiny: atom 0 of structure 0 is N", base, nitrogen)
    mace = made("mace", {"preset": "small", "channels": 4})
    charged = replace(new, charge=np.where(np.arange(len(new)) == 3, 1.0, 0.0))
    charged = replace(charged, spin=np.where(np.arange(len(new)) == 3, 1.0, 0.0))
    refused("structure 3: the total charge is \\+1 and mace has no notion of charge", mace, charged)
    refused("a Committee cannot be fine-tuned", Committee([base, base]), new)
    refused("a Sum cannot be fine-tuned.* of a sum, its base", Sum(base, [copy.deepcopy(base)]), new)
    refused("the training set is empty", base, new.take([]))
    refused(
        "no weights of tiny are called 'network.layer.0'; did you mean", base, new, FineTune(train=("network.layer.0",))
    )
    refused("neither energies nor forces", base, new, FineTune(replay=Replay(data=str(write(old, tmp_path)))))
    refused("there is no file", base, new, FineTune(replay=Replay(structures="nowhere.xyz")))
    # nothing was begun
    assert {path.name for path in (tmp_path / "refused").iterdir()} <= {"finetune.json", "old.h5"}


def write(data: Dataset, folder: Path) -> Path:
    data.write(folder / "structures.h5")
    return folder / "structures.h5"


def test_from_a_mapping() -> None:
    how = FineTune.from_mapping(
        {
            "model": "so3lr",
            "train": ["network.layers.2.*", "energy_head.*"],
            "references": {"H": -13.6},
            "layer_decay": "0.8",
            "replay": {"structures": "old.xyz", "by": "itself", "share": 0.3},
        }
    )
    assert how.train == ("network.layers.2.*", "energy_head.*") and how.layer_decay == 0.8
    assert how.replay == Replay(structures="old.xyz", by="itself", share=0.3)
    settings = how.settings({"epochs": 1})
    assert settings.learning_rate < TrainSettings().learning_rate
    assert how.settings({"epochs": 1, "learning_rate": 0.5}).learning_rate == 0.5
    for mapping, match in (
        ({"modle": "so3lr"}, "did you mean 'model'"),
        ({"train": "low rank"}, None),
        ({"train": 3}, "list of names"),
        ({"train": "low-rank", "rank": 0}, "rank must be 1"),
        ({"references": "forget"}, "'keep', 'refit'"),
        ({"layer_decay": 2}, "layer_decay lies above 0"),
        ({"also": ["zbl"]}, "go with train: low-rank"),
        ({"replay": {"share": 1.0}}, "share lies between"),
        ({"replay": {"by": "so3lr"}}, "'labels' or 'itself'"),
        ({"replay": {"data": "a", "structures": "b"}}, "not both"),
        ({"replay": {"shares": 0.1}}, "did you mean 'share'"),
        ({"replay": "old.xyz"}, "section of its own"),
        ({"rank": "many"}, "rank cannot be 'many'"),
    ):
        if match is None:
            # a name like any other, refused when there is a model to look at
            assert FineTune.from_mapping(mapping).train == ("low rank",)
            continue
        with pytest.raises(InputError, match=match):
            FineTune.from_mapping(mapping)
    with pytest.raises(InputError, match="what to begin with"):
        FineTune().load()
