"""Fine-tuning: a trained model goes on being trained, on data of its user, through the same `train`.

What is trained, from which zero of energy, and what old data come in between is said by `FineTune`; what was won and
what was forgotten by the `Forgetting` that comes back, and by the card of the model.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256 as digest_of
from pathlib import Path
from typing import Any

import numpy as np
import torch

from heliodor.api import choose_device
from heliodor.checkpoint import architectures, read_header, save_checkpoint, sha256
from heliodor.errors import HeliodorError, InputError
from heliodor.potential import Potential, check_energy
from heliodor.potentials.sum import Sum
from heliodor.system import System
from heliodor.train.dataset import Dataset
from heliodor.train.errors import some_of
from heliodor.train.finetuning.adapters import add_low_rank, merge, merge_file, round_weights, slow_down
from heliodor.train.finetuning.chosen import depths, heads, linear_maps, matching
from heliodor.train.finetuning.forgetting import Forgetting, measure_forgetting
from heliodor.train.finetuning.new_zero import put_back, with_zero
from heliodor.train.finetuning.replay import Replay, label_by_itself, mix, read_old, split_old, to_zero_of
from heliodor.train.finetuning.settings import FineTune
from heliodor.train.progress import Progress, silent
from heliodor.train.references import References
from heliodor.train.settings import TrainSettings
from heliodor.train.state import other_run, write_text
from heliodor.train.trainer import TrainResult, train

CHUNK = 1000
"""Structures checked in one go."""

_NOT_HANDED_ON = ("origin", "source_sha256", "state_sha256", "errors", "dynamics", "how_made")
"""What a card says of the model one began with, and is not true of what was made of it."""

_ANCESTRY = ("origin", "source_sha256", "how_made", "fine_tuning")


@dataclass(frozen=True, eq=False)
class FineTuned:
    """A finished fine-tuning.

    Attributes:
        model: plain weights of the architecture one began with, float64, on the CPU, adapters merged.
        path: its checkpoint.
        run: as `train` gives it.
        forgetting: errors before and after.
        trained: how many numbers were trained.
    """

    model: Potential
    path: Path
    run: TrainResult
    forgetting: Forgetting
    trained: int


def fine_tune(
    model: Potential,
    training: Dataset,
    validation: Dataset,
    output: str | Path,
    settings: TrainSettings,
    how: FineTune | None = None,
    progress: Progress | None = None,
    old: Dataset | None = None,
) -> FineTuned:
    """Fit a trained model to new data; the one handed in stays as it is.

    What `train` leaves in the folder is joined by ``forgetting.json``, ``.txt`` and ``.png`` and, with replay, by the
    labelled old structures ``old.h5``. A killed run goes on where it was.

    Args:
        model: from `heliodor.load`, official ones included, of any dtype.
        validation: new data that are not trained on; they decide which parameters are kept.
        old: old data, in the place of the file that `how.replay` names; without replay only to see what is forgotten.

    Raises:
        InputError: model, data or settings that do not go together, or a folder of another run.
    """
    how = how or FineTune()
    if old is not None and how.replay is None:
        how = replace(how, replay=Replay(share=0.0))
    how.check()
    settings.check()
    say = progress or silent
    _refuse(model, {"training": training, "validation": validation})
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    _remember(folder, _key(how, old))
    say(0.0, "reference energies")
    start = with_zero(model, training, how.references)
    start.card.pop("fine_tuning", None)
    # as exact as the run, and its checkpoint, are
    dtype = torch.float64 if settings.precision == "float64" else torch.float32
    judge = copy.deepcopy(start).to(device=choose_device(settings.device), dtype=dtype)
    sets, joined, notes = {"new": validation}, training, []
    if how.replay is not None:
        sample, note = _old_data(judge, training, folder, how.replay, settings.seed, old, say)
        kept, held = split_old(sample, how.replay.held, settings.seed)
        notes.append(f"old data: {len(sample)} structures, {note}; {len(held)} of them kept out for this report")
        sets = {"old": held, **sets}
        if how.replay.share > 0:
            joined, shares = mix(training, kept, how.replay.share, settings.kind_shares)
            settings = replace(settings, kind_shares=shares)
            notes.append(f"{how.replay.share:.0%} of the structures drawn were old ones")
    else:
        notes.append("no old data were given: what the model has forgotten is not known")
    adapted, trained = adapt(start, how, settings.seed)
    path = folder / "model.safetensors"
    finished = _first_process() and (folder / "result.json").exists() and path.exists()
    if finished and (whole := merge_file(path, adapted, start)) is not None:
        # killed between the end of the training and the merging
        save_checkpoint(whole, path, read_header(path)["card"])
    run = train(adapted, joined, validation, folder, settings, say)
    unmerged = any(".parametrizations." in f".{name}" for name, _ in run.model.named_parameters())
    final = merge(run.model, start) if unmerged else run.model
    if dtype == torch.float32:
        round_weights(final, start)
    say(1.0, "errors on old and new data, before and after")
    after = copy.deepcopy(final).to(device=judge.device, dtype=dtype)
    forgetting = measure_forgetting(judge, after, sets, notes)
    if "fine_tuning" not in final.card:
        final.card = _card(final.card, model, how, trained, forgetting)
        final.name = final.card["name"]
        put_back(final, model)
        if _first_process():
            save_checkpoint(final, path, final.card)
    if _first_process():
        forgetting.write(folder)
    return FineTuned(final, path, replace(run, model=final), forgetting, trained)


def adapt(start: Potential, how: FineTune, seed: int = 1) -> tuple[Potential, int]:
    """A copy of a model whose parameters require gradients as wanted, thin modules put in; and how many are trained.

    Raises:
        InputError: names that match nothing, or nothing to be trained.
    """
    model = copy.deepcopy(start).requires_grad_(False)
    if how.train == "low-rank":
        also = matching(model, how.also)
        chosen = matching(model, how.adapt) if how.adapt else None
        names = [n for n in linear_maps(model, how.rank, chosen) if n not in also]
        if not names:
            raise InputError(
                f"finetune: no linear map of {model.name} is large enough for adapters of rank {how.rank}"
                f"{' among those named in adapt' if how.adapt else ''}: take a smaller rank"
            )
        for name in also:
            model.get_parameter(name).requires_grad_(True)
        add_low_rank(model, names, how.rank, how.scale, seed)
    else:
        if how.train == "all":
            names = [name for name, _ in model.named_parameters()]
        elif how.train == "heads":
            names = list(heads(model))
        else:
            names = list(matching(model, how.train))
        for name in names:
            model.get_parameter(name).requires_grad_(True)
        if how.layer_decay < 1.0:
            far = {name: depth for name, depth in depths(model).items() if depth and name in names}
            slow_down(model, {name: how.layer_decay**depth for name, depth in far.items() if "." in name})
            for name in far:
                if "." not in name:
                    # a table on the model itself cannot be slowed down: the slowest of all is left as it is
                    model.get_parameter(name).requires_grad_(False)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if not trained:
        raise InputError("finetune: nothing is left to be trained")
    return model, trained


def _refuse(model: Potential, sets: Mapping[str, Dataset]) -> None:
    """One clear error for a model or structures that cannot be."""
    known = [cls for cls, _ in architectures().values() if cls is not Sum]
    if type(model) not in known:
        raise InputError(
            f"a {type(model).__name__} cannot be fine-tuned: hand in one model of "
            f"{', '.join(cls.__name__ for cls in known)} (of a committee, one member after the other; of a sum, its "
            "base, before a correction to it is learned)"
        )
    check_energy(model)
    for words, data in sets.items():
        if len(data) == 0:
            raise InputError(f"the {words} set is empty")
        counts = data.counts
        for begin in range(0, len(data), CHUNK):
            end = min(begin + CHUNK, len(data))
            span = slice(int(data.offsets[begin]), int(data.offsets[end]))
            system = System(
                positions=torch.from_numpy(np.array(data.positions[span])),
                numbers=torch.from_numpy(np.array(data.numbers[span], dtype=np.int64)),
                cell=torch.from_numpy(np.array(data.cell[begin:end])),
                pbc=torch.from_numpy(np.array(data.pbc[begin:end])),
                batch=torch.repeat_interleave(torch.arange(end - begin), torch.from_numpy(counts[begin:end])),
                charge=torch.from_numpy(np.array(data.charge[begin:end])),
                spin=torch.from_numpy(np.array(data.spin[begin:end])),
            ).to(model.device)
            try:
                model.check(system)
            except HeliodorError as error:
                beyond = f" (counted from structure {begin})" if begin else ""
                raise InputError(f"the {words} set does not fit {model.name}: {error}{beyond}") from None


def _old_data(
    judge: Potential,
    training: Dataset,
    folder: Path,
    replay: Replay,
    seed: int,
    old: Dataset | None,
    say: Progress,
) -> tuple[Dataset, str]:
    """The labelled sample, kept beside the run, so that a resumed one has the same; and a sentence about its labels."""
    kept = folder / "old.h5"
    if kept.exists():
        sample = Dataset.read(kept)
    else:
        sample = read_old(replay, seed) if old is None else some_of(old, replay.sample, seed)
        _refuse(judge, {"replay": sample})
        if replay.labelled_by == "itself":
            sample = label_by_itself(judge, sample, lambda n, of: say(0.0, f"labels of old structures, {n} of {of}"))
        if _first_process():
            sample.write(kept)
    if replay.labelled_by == "itself":
        return sample, f"labelled by {judge.name} itself before fine-tuning"
    if not np.isfinite(sample.energy).any() and not np.isfinite(sample.forces).any():
        raise InputError("replay: the old data have neither energies nor forces: by: itself has the model label them")
    return to_zero_of(judge, sample, training.method, replay.energies)


def _key(how: FineTune, old: Dataset | None) -> str:
    """SHA-256 of what a run's state does not know of how it came about."""
    digest = digest_of(json.dumps(how.to_dict(), sort_keys=True, default=str).encode())
    if how.replay is not None and old is None:
        path = Path(how.replay.data or how.replay.structures)
        digest.update(sha256(path).encode() if path.is_file() else b"")
    elif old is not None:
        digest.update(np.ascontiguousarray(old.positions).tobytes() + np.ascontiguousarray(old.energy).tobytes())
    return digest.hexdigest()


def _remember(folder: Path, key: str) -> None:
    """Refuse a folder where something else was begun; where nothing was trained yet, what lies there is left behind."""
    path = folder / "finetune.json"
    begun = any((folder / name).exists() for name in ("state.pt", "result.json"))
    try:
        same = path.exists() and json.loads(path.read_text())["key"] == key
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}): delete the folder to begin again") from None
    if not same:
        if begun:
            raise other_run(folder)
        if _first_process():
            (folder / "old.h5").unlink(missing_ok=True)
            write_text(path, json.dumps({"key": key}))


def _first_process() -> bool:
    """Whether this is the only process, or the one of several (`torchrun`) that writes."""
    return os.environ.get("RANK", "0") == "0"


def _card(
    card: Mapping[str, Any], before: Potential, how: FineTune, trained: int, forgetting: Forgetting
) -> dict[str, Any]:
    """That of the run, with where the weights come from and what was done to them."""
    references = References.from_card(card)
    fine: dict[str, Any] = {
        "from": {"name": before.name, **{k: before.card[k] for k in _ANCESTRY if k in before.card}},
        "trained": how.train if isinstance(how.train, str) else list(how.train),
        "parameters_trained": trained,
        "references": references.origin if references is not None else "",
        "notes": forgetting.notes,
        "forgotten": forgetting.words,
    }
    if how.train == "low-rank":
        fine["low_rank"] = {"rank": how.rank, "scale": how.scale, "adapters": "merged into the weights"}
    if how.layer_decay < 1.0:
        fine["layer_decay"] = how.layer_decay
    if how.replay is not None:
        fine["replay"] = how.replay.to_dict()
    name = before.name if before.name.endswith("-finetuned") else f"{before.name}-finetuned"
    method = card.get("method") or "labels of a level of theory that is not named"
    return {
        **{k: v for k, v in card.items() if k not in _NOT_HANDED_ON},
        "name": name,
        "summary": f"{before.name}, fine-tuned on {method}",
        "fine_tuning": fine,
    }
