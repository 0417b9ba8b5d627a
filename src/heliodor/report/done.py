"""The analyses that fit a trajectory, done one after the other; one that fails is told, and the others go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from heliodor.analysis.show import Analysis, Shown, run
from heliodor.errors import HeliodorError, InputError, suggestion
from heliodor.trajectory.trajectory import Trajectory

Tell = Callable[[str, str], None]
"""Called with what is being done and how it went; an empty second word: it begins."""

Step = Callable[[str, int, int], None]
"""Called with what is being done, frames done and of all."""


@dataclass(frozen=True, eq=False)
class Done:
    """An analysis of one trajectory.

    Attributes:
        name, title: of the analysis.
        shown: its outcome; None if it failed.
        reason: why it failed.
        unexpected: it failed with an error that is a defect of the program.
    """

    name: str
    title: str
    shown: Shown | None = None
    reason: str = ""
    unexpected: bool = False


def chosen(
    known: Mapping[str, Analysis], only: Collection[str] = (), without: Collection[str] = ()
) -> tuple[Analysis, ...]:
    """Those to be tried, in the order of the catalogue; `only` names also those that are not usual.

    Raises:
        InputError: an unknown name.
    """
    for name in (*only, *without):
        if name not in known:
            raise InputError(f"there is no analysis {name!r}{suggestion(name, known)}; known: {', '.join(known)}")
    picked = [a for a in known.values() if (a.name in only if only else a.usual)]
    return tuple(analysis for analysis in picked if analysis.name not in without)


def unfit(analyses: tuple[Analysis, ...], trajectory: Trajectory) -> dict[str, str]:
    """Reasons by name, of those that cannot be done."""
    reasons = {}
    for analysis in analyses:
        try:
            reason = analysis.unfit(trajectory)
        except Exception as error:
            reason = told(error)
        if reason is not None:
            reasons[analysis.name] = reason
    return reasons


def do(
    analysis: Analysis,
    trajectory: Trajectory,
    *,
    processes: int = 1,
    label: str = "",
    tell: Tell = lambda what, how: None,
    step: Step = lambda what, done, of: None,
) -> Done:
    """Do one; whatever goes wrong is written down rather than raised.

    Args:
        label: in front of the name when telling.
    """
    what = f"{label}{analysis.name}"
    tell(what, "")
    begun = time.perf_counter()
    try:
        shown = run(analysis, trajectory, progress=lambda done, of: step(what, done, of), processes=processes)
    except HeliodorError as error:
        tell(what, f"not done: {error}")
        return Done(analysis.name, analysis.title, reason=str(error))
    except Exception as error:
        # a report of many analyses must not be lost for one that has a defect
        reason = told(error)
        tell(what, f"failed: {reason}")
        return Done(analysis.name, analysis.title, reason=reason, unexpected=True)
    tell(what, f"{time.perf_counter() - begun:.1f} s")
    return Done(analysis.name, analysis.title, shown)


def told(error: Exception) -> str:
    """An unexpected error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
