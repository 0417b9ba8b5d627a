"""From a teacher to a smaller, faster student: structures, labels, active selection, training, judgement.

Stages whose inputs have not changed are skipped; a killed one is taken up where it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.api import load
from heliodor.checkpoint import load_checkpoint, save_checkpoint, sha256
from heliodor.distil.active import choose_by_disagreement, disagreement
from heliodor.distil.config import DistilChoices
from heliodor.distil.features import match_features
from heliodor.distil.judge import judge
from heliodor.distil.labels import label_pieces, split_buckets, split_groups
from heliodor.distil.structures.recipe import Recipe, find_recipe
from heliodor.distil.student import new_student, share_physics
from heliodor.distil.teach import check_teacher
from heliodor.dynamics.files.storage import write_durably
from heliodor.errors import InputError, suggestion
from heliodor.potential import Potential
from heliodor.potentials.so3lr import SO3LR
from heliodor.stages import Record, Stage, Tell, run_stages
from heliodor.train.curves import plot_parity
from heliodor.train.dataset import Dataset, join, open_dataset
from heliodor.train.settings import TrainSettings
from heliodor.train.state import fingerprint
from heliodor.train.trainer import TrainResult, train

Say = Callable[[str, int, int], None]

GENERATED = "generated"

STARTS = 40
"""Of the teacher's dynamics, at a time."""

SETS = ("training.h5", "validation.h5", "test.h5")


def distil(
    teacher: str,
    choices: DistilChoices,
    output: str | Path,
    structures: str | Path = GENERATED,
    *,
    until: str | None = None,
    tell: Tell = lambda stage, what, done, of: None,
) -> dict[str, Record]:
    """Train a student on what a teacher says.

    The folder holds `student.safetensors`, `judgement.json`, `parity.png`, the structures, the three sets and the
    training's own folder. Give the same call again to go on after a kill.

    Args:
        teacher: a name or file, as `heliodor.load` takes.
        structures: a data set's file of unlabelled structures (labels in it are not used), or "generated".
        until: the stage to stop after: structures, dynamics, labels, split, active, begin, train or judge.

    Raises:
        InputError: choices, teacher or structures that cannot be used.
    """
    folder = Path(output)
    settings = TrainSettings.from_mapping(choices.train, "train: ")
    model = load(teacher, dtype="float32")
    check_teacher(model)
    stages = _stages(teacher, model, choices, settings, structures, folder)
    names = [stage.name for stage in stages]
    if until is not None:
        if until not in names:
            raise InputError(f"there is no stage {until!r}: {', '.join(names)}")
        stages = stages[: names.index(until) + 1]
    return run_stages(stages, folder, tell)


def _stages(
    name: str, teacher: Potential, choices: DistilChoices, settings: TrainSettings, source: str | Path, folder: Path
) -> list[Stage]:
    s, seed = choices.structures, choices.seed
    plain = dataclasses.asdict(choices)
    made: dict[str, Any]
    if str(source) == GENERATED:
        made = {"from": "generated", "recipe": dataclasses.asdict(_recipe(choices)), "seed": seed}
    else:
        made = {"from": str(source), "file": _stamp(Path(source))}
    asked = {"teacher": name, "weights": _weights(teacher), "max_force": s.max_force, "cutoff": s.periodic_cutoff}
    shares = {"validation": s.validation, "test": s.test, "seed": seed, "buckets": str(source) == GENERATED}
    learner = {"student": plain["student"], "seed": seed}
    hint = {"features": choices.features, "epochs": choices.features_epochs}
    training = {**learner, "train": settings.to_dict()}
    return [
        Stage(
            *("structures", "structures for the teacher", (), made, ("structures.h5",)),
            partial(_structures, source, choices, folder),
        ),
        Stage(
            *("dynamics", "the teacher's own dynamics", ("structures",)),
            {"starts": s.dynamics, "seed": seed, **(asked if s.dynamics else {})},
            *(("visited.h5",), partial(_dynamics, teacher, choices, folder)),
        ),
        Stage(
            *("labels", "labels by the teacher", ("dynamics",), asked, ("labelled.h5",)),
            partial(_label, teacher, name, choices, folder),
        ),
        Stage(
            *("split", "training, validation and test sets", ("labels",), shares, SETS),
            partial(_split, split_buckets if str(source) == GENERATED else split_groups, choices, folder),
            version=2,
        ),
        Stage(
            *("active", "structures on which students disagree", ("split",)),
            {"active": plain["active"], **training, "train": {**settings.to_dict(), "time": "", "epochs": 0}},
            *(("chosen.h5",), partial(_active, teacher, choices, settings, folder)),
        ),
        Stage(
            *(
                "begin",
                "the student to begin with",
                ("active",),
                {**learner, **hint, **asked},
                ("beginning.safetensors",),
            ),
            partial(_begin, teacher, choices, folder),
        ),
        Stage(
            *("train", "training of the student", ("begin", "active", "split"), training, ("student.safetensors",)),
            partial(_train, teacher, name, choices, settings, folder),
        ),
        Stage(
            *("judge", "the student against its teacher", ("train", "split"), asked),
            *(("judgement.json", "parity.png"), partial(_judge, teacher, choices, folder)),
        ),
    ]


def _structures(source: str | Path, choices: DistilChoices, folder: Path, say: Say) -> Mapping[str, Any]:
    if str(source) == GENERATED:
        from heliodor.distil.structures import read_structures, write_structures

        recipe = _recipe(choices)
        shards = folder / "structures" / _digest([str(recipe), choices.seed])
        write_structures(recipe, shards, choices.seed, lambda done, of: say("structures made", done, of))
        data = read_structures(shards)
    else:
        data = open_dataset(source)
    data.write(folder / "structures.h5")
    return {"structures": len(data), "atoms": len(data.numbers), "kinds": len(np.unique(data.kind))}


def _dynamics(teacher: Potential, choices: DistilChoices, folder: Path, say: Say) -> Mapping[str, Any]:
    data = Dataset.read(folder / "structures.h5")
    number = min(choices.structures.dynamics, len(data))
    parts = [data]
    if number:
        from heliodor.distil.structures.teacher_dynamics import teacher_dynamics

        chosen = np.sort(np.random.default_rng([choices.seed, 17]).permutation(len(data))[:number])
        place = folder / "dynamics" / _digest([sha256(folder / "structures.h5"), _weights(teacher), number])
        place.mkdir(parents=True, exist_ok=True)
        for begin in range(0, number, STARTS):
            file = place / f"{begin:06d}.h5"
            if not file.exists():
                starts = [data.atoms(int(k)) for k in chosen[begin : begin + STARTS]]
                frames = teacher_dynamics(teacher, starts, seed=choices.seed + begin)
                # a piece of which nothing was sound is one of its own starts: the labels tell what is wrong with it
                Dataset.from_atoms(frames or starts[:1]).write(file)
            parts.append(Dataset.read(file))
            say("the teacher's own dynamics", min(begin + STARTS, number), number)
    visited = join(parts)
    visited.write(folder / "visited.h5")
    return {"structures": len(visited), "by_dynamics": len(visited) - len(data)}


def _recipe(choices: DistilChoices) -> Recipe:
    wanted = choices.structures.recipe
    if isinstance(wanted, str):
        return find_recipe(wanted)
    names = [f.name for f in dataclasses.fields(Recipe)]
    for name in wanted:
        if name not in names:
            raise InputError(f"structures.recipe: there is no family {name!r}{suggestion(name, names)}")
    return Recipe(**wanted)


def _label(teacher: Potential, name: str, choices: DistilChoices, folder: Path, say: Say) -> Mapping[str, Any]:
    structures = Dataset.read(folder / "visited.h5")
    s = choices.structures
    key = _digest([sha256(folder / "visited.h5"), _weights(teacher), s.max_force, s.periodic_cutoff])
    found, left_out = label_pieces(teacher, structures, folder / "labels" / key, s, name, say)
    found.write(folder / "labelled.h5")
    return {"labelled": len(found), **{why.replace(" ", "_"): count for why, count in left_out.items()}}


def _split(
    divide: Callable[..., tuple[Dataset, Dataset, Dataset]], choices: DistilChoices, folder: Path, say: Say
) -> Mapping[str, Any]:
    data = Dataset.read(folder / "labelled.h5")
    parts = divide(data, choices.structures, choices.seed)
    for name, part in zip(SETS, parts, strict=True):
        part.write(folder / name)
    facts = {name.removesuffix(".h5"): len(part) for name, part in zip(SETS, parts, strict=True)}
    mixed = len(data) - sum(facts.values())
    return {**facts, "left_out_with_molecules_of_two_sets": mixed} if mixed else facts


def _active(
    teacher: Potential, choices: DistilChoices, settings: TrainSettings, folder: Path, say: Say
) -> Mapping[str, Any]:
    data, watched = Dataset.read(folder / "training.h5"), Dataset.read(folder / "validation.h5")
    a = choices.active
    if not a.rounds:
        data.write(folder / "chosen.h5")
        return {"structures": len(data)}
    random = np.random.default_rng([choices.seed, 9])
    order = random.permutation(len(data))
    chosen = np.sort(order[: max(2, round(a.begin * len(data)))])
    short = dataclasses.replace(settings, time=a.time, epochs=0.0, compile="no")
    medians = []
    for number in range(a.rounds):
        part = data.take(chosen)
        members = []
        for k in range(a.members):
            say(f"round {number + 1} of {a.rounds}, student {k + 1} of {a.members}", k, a.members)
            student = new_student(choices.student, teacher, part, choices.seed + 1 + k)
            one = dataclasses.replace(short, seed=short.seed + 1 + k)
            members.append(_fit(student, part, watched, folder / "committee", one, say).model.float())
        pool = np.setdiff1d(np.arange(len(data)), chosen)
        if not len(pool):
            break
        spread = disagreement(members, data.take(pool), lambda done, of: say("the committee on the pool", done, of))
        medians.append(float(np.median(spread[np.isfinite(spread)])))
        taken = choose_by_disagreement(spread, data.group[pool], a.take)
        chosen = np.sort(np.concatenate([chosen, pool[taken]]))
    data.take(chosen).write(folder / "chosen.h5")
    return {"structures": len(chosen), "of": len(data), "median_spread": [round(m, 4) for m in medians]}


def _begin(teacher: Potential, choices: DistilChoices, folder: Path, say: Say) -> Mapping[str, Any]:
    data = Dataset.read(folder / "chosen.h5")
    student = new_student(choices.student, teacher, data, choices.seed)
    facts: dict[str, Any] = {"parameters": sum(p.numel() for p in student.parameters())}
    if choices.features:
        hint = match_features(
            *(student, teacher, data, choices.features, choices.features_epochs),
            seed=choices.seed,
            say=lambda done, of: say("matching the teacher's features", done, of),
        )
        facts |= {"features_explained": round(hint.explained, 4), "of_their_variance": round(hint.share, 4)}
    save_checkpoint(student, folder / "beginning.safetensors", student.card)
    return facts


def _train(
    teacher: Potential, name: str, choices: DistilChoices, settings: TrainSettings, folder: Path, say: Say
) -> Mapping[str, Any]:
    data, watched = Dataset.read(folder / "chosen.h5"), Dataset.read(folder / "validation.h5")
    student = load_checkpoint(folder / "beginning.safetensors").double()
    if choices.student.physics and isinstance(student, SO3LR) and isinstance(teacher, SO3LR):
        share_physics(student, teacher)
    result = _fit(student, data, watched, folder / "training", settings, say)
    card = {
        **result.model.card,
        "teacher": name,
        "teacher_licence": str(teacher.card.get("licence", "")),
        "distillation": dataclasses.asdict(choices),
    }
    save_checkpoint(result.model, folder / "student.safetensors", card)
    return {"steps": result.steps, "epochs": round(result.epochs, 1), "minutes": round(result.seconds / 60.0, 1)}


def _fit(
    student: Potential, data: Dataset, watched: Dataset, folder: Path, settings: TrainSettings, say: Say
) -> TrainResult:
    """A training in a folder of its own for these inputs, so that another choice never meets its remains."""
    place = folder / fingerprint(student, data, watched, settings)[:12]
    return train(student, data, watched, place, settings, lambda share, words: say(words, round(1000 * share), 1000))


def _judge(teacher: Potential, choices: DistilChoices, folder: Path, say: Say) -> Mapping[str, Any]:
    student = load_checkpoint(folder / "student.safetensors").float()
    test = Dataset.read(folder / "test.h5")
    for model in (student, teacher):
        model.periodic_long_range_cutoff = choices.structures.periodic_cutoff
    found = judge(student, teacher, test)
    write_durably(folder / "judgement.json", json.dumps(found.to_dict(), indent=1).encode())
    plot_parity(student, test, folder / "parity.png")
    forces = found.errors.all["forces"]
    facts: dict[str, Any] = {
        "force_rmse_meV_per_A": round(1e3 * forces.rmse, 1),
        "force_mae": round(1e3 * forces.mae, 1),
    }
    if found.dipole is not None:
        facts["dipole_error_D"] = round(found.dipole, 3)
    return {**facts, "cheaper": ", ".join(f"{x:.1f} times at {n} atoms" for n, x in found.cheaper.items())}


def _weights(model: Potential) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().double().numpy().tobytes())
    return digest.hexdigest()


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:12]


def _stamp(path: Path) -> list[int]:
    try:
        found = path.stat()
    except OSError as error:
        raise InputError(f"the structures {path} cannot be read: {error.strerror}") from None
    return [found.st_size, found.st_mtime_ns]
