"""A student against its teacher, on structures of groups that it never saw."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np

from heliodor.potential import Potential, evaluate_system
from heliodor.system import System
from heliodor.train.dataset import Dataset
from heliodor.train.errors import Errors, compare, predict
from heliodor.units import DEBYE

REPEATS = 5


@dataclass(frozen=True)
class Judgement:
    """What a student came to.

    Attributes:
        errors: by kind of structure.
        dipole: D, mean length of the error of the dipole of molecules; None without dipoles.
        cheaper: time of the teacher over that of the student, energy and forces, by size of the structure in atoms.
    """

    errors: Errors
    dipole: float | None
    cheaper: dict[int, float]

    def to_dict(self) -> dict[str, Any]:
        return {
            "errors": self.errors.to_dict(),
            "dipole_debye": self.dipole,
            "teacher_over_student_time": {str(n): round(x, 2) for n, x in self.cheaper.items()},
        }


def judge(student: Potential, teacher: Potential, test: Dataset) -> Judgement:
    """Errors against the teacher's labels, and how much cheaper the student is on this machine, both in float32."""
    predicted = predict(student, test)
    errors = compare(predicted, test)
    off = np.linalg.norm(predicted.dipole - test.dipole, axis=1)
    known = np.isfinite(off)
    dipole = float(off[known].mean()) / DEBYE if known.any() else None
    sizes = np.argsort(test.counts)
    chosen = sorted({int(sizes[len(sizes) // 2]), int(sizes[-1])}, key=lambda k: int(test.counts[k]))
    cheaper = {int(test.counts[k]): _ratio(student, teacher, test.atoms(k)) for k in chosen}
    return Judgement(errors, dipole, cheaper)


def _ratio(student: Potential, teacher: Potential, atoms: ase.Atoms) -> float:
    seconds = {}
    for name, model in (("student", student), ("teacher", teacher)):
        single = model.float()
        system = System.from_atoms([atoms], device=single.device)
        lists = single.neighbors(system)
        # the shortest of several, in turn with nothing else in between
        taken = []
        for _ in range(REPEATS + 1):
            begun = time.perf_counter()
            evaluate_system(single, system, lists)
            taken.append(time.perf_counter() - begun)
        seconds[name] = min(taken[1:])
    return seconds["teacher"] / seconds["student"]
