"""The student of a distillation: new, or going on from a model, with the teacher's physics."""

from __future__ import annotations

import copy

import torch

from heliodor.distil.config import StudentChoices
from heliodor.errors import InputError
from heliodor.potential import Potential
from heliodor.potentials.so3lr import SO3LR
from heliodor.train.dataset import Dataset
from heliodor.train.models import new_model
from heliodor.train.references import References


def new_student(choices: StudentChoices, teacher: Potential, training: Dataset, seed: int) -> Potential:
    """A student in float64 on the CPU, ready for `heliodor.train.trainer.train`.

    Where both have SO3LR's form, the repulsion (ZBL) is the teacher's and stays as it is: what two nuclei close to each
    other do is not to be learned again from the few structures that show it.

    Args:
        seed: of new parameters.

    Raises:
        InputError: `start` cannot be trained, or does not know the elements of the training set.
    """
    if choices.start is not None:
        from heliodor.api import load

        student = copy.deepcopy(load(choices.start, device="cpu", dtype="float64", kernels="reference"))
        missing = sorted(set(training.elements) - set(student.elements))
        if missing:
            raise InputError(f"start: {choices.start} does not know the atomic numbers {missing} of the training set")
        student.requires_grad_(True)
        # what it knew of its own errors will no longer hold
        student.uncertainty = None
        # what it begins with has been told by its own card; energies are relative to the same zero
        student.card = {"started_from": choices.start, "seed": seed, **_own_zero(student).to_card()}
    else:
        zero = _own_zero(teacher)
        student = new_model(choices.architecture, choices.size, teacher.elements, training, references=zero, seed=seed)
    student.name = student.card["name"] = choices.name
    if choices.physics and isinstance(student, SO3LR) and isinstance(teacher, SO3LR):
        share_physics(student, teacher)
    return student


def _own_zero(model: Potential) -> References:
    """No reference energies: teacher and student count from the same zero, atom by atom."""
    return References(dict.fromkeys(model.elements, 0.0), "none: energies are the teacher's own")


def share_physics(student: SO3LR, teacher: SO3LR) -> None:
    """Give a student the teacher's repulsion, frozen.

    Raises:
        InputError: physical terms of other constants, which no training would reconcile.
    """
    for name in ("electrostatic_damping", "dispersion_scale"):
        mine, theirs = getattr(student.config, name), getattr(teacher.config, name)
        if mine != theirs:
            raise InputError(f"the student's {name} is {mine:g}, the teacher's {theirs:g}: set it in student.size")
    with torch.no_grad():
        for mine_p, theirs_p in zip(student.zbl.parameters(), teacher.zbl.parameters(), strict=True):
            mine_p.copy_(theirs_p)
    student.zbl.requires_grad_(False)
