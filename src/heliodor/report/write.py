"""write_report: from trajectories to one HTML file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from heliodor.analysis.catalogue import catalogue
from heliodor.analysis.show import Analysis, Shown
from heliodor.dynamics.files.storage import write_durably
from heliodor.dynamics.files.trajectory import refuse_existing
from heliodor.errors import HeliodorError, InputError
from heliodor.report.done import Done, Step, Tell, chosen, do, told, unfit
from heliodor.report.facts import facts
from heliodor.report.figures import figure_json
from heliodor.report.frames import VALUES, Film, film
from heliodor.report.merge import merged
from heliodor.report.page import Content, Part, page, plotly_script
from heliodor.report.sound import Soundness, soundness
from heliodor.report.tables import file_name, rows_csv, tables_of
from heliodor.trajectory.open import open_trajectory
from heliodor.trajectory.trajectory import Trajectory


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        path: of the page.
        bytes: its size.
        checks: (name, verdict, words) of each run, in order.
        analyses: done, by name.
        failed: reasons by name, of those that fit but could not be done.
        left_out: reasons by name, of those that do not fit.
        tables: CSV files written.
    """

    path: Path
    bytes: int
    checks: Mapping[str, tuple[tuple[str, str, str], ...]]
    analyses: tuple[str, ...]
    failed: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    tables: tuple[Path, ...] = ()


def write_report(
    trajectories: Trajectory | str | Path | Sequence[Trajectory | str | Path],
    path: str | Path,
    *,
    only: Collection[str] = (),
    without: Collection[str] = (),
    processes: int = 1,
    csv: str | Path | None = None,
    first: Sequence[Shown] = (),
    title: str = "",
    overwrite: bool = False,
    tell: Tell = lambda what, how: None,
    step: Step = lambda what, done, of: None,
) -> Report:
    """Write one self-contained HTML page about a run, or several side by side (the first is what others are held to).

    What was run, whether it is sound, what the analyses that fit it show (`heliodor.analysis.catalogue`), and the
    frames in a viewer. The page needs no network. An analysis that fails is told on the page; the others go on.

    Args:
        trajectories: opened, or files.
        path: of the page.
        only: names of analyses to be done, also of those that are done by request only; empty: all usual ones.
        without: names of analyses to be left out.
        processes: that share the work of an analysis.
        csv: a folder, made if need be, for all tables as CSV files.
        first: sections in front of the analyses, of results had elsewhere; of a report of one run only.
        title: of the page, in the place of the names of the runs.
        overwrite: replace files that exist.
        tell, step: called as the work goes on, see `heliodor.report.done`.

    Raises:
        InputError: no trajectory, unknown names, files that exist.
        MissingExtraError: plotly is not installed.
        StorageError: the page cannot be written.
    """
    path = Path(path)
    refuse_existing(path, overwrite)
    given = [trajectories] if isinstance(trajectories, (Trajectory, str, Path)) else list(trajectories)
    if not given:
        raise InputError("a report needs at least one trajectory")
    twice = [one for k, one in enumerate(given) if _same(one) in [_same(other) for other in given[:k]]]
    if twice:
        raise InputError(f"{_same(twice[0])[0]} is given twice: a run is held against other runs")
    picked = chosen(catalogue(), tuple(only), tuple(without))
    # asked for now: not to find out after minutes of work
    plotly_script()
    opened = [one if isinstance(one, Trajectory) else open_trajectory(one) for one in given]
    runs = run_names([one.path for one in opened], [one.structure for one in opened])
    sound = tuple(soundness(one) for one in opened)
    done, failed, left_out = _analyses(picked, opened, runs, processes, tell, step)
    tell("frames", "")
    films: tuple[Film, ...] = ()
    problem = ""
    try:
        films = tuple(film(one, VALUES // len(opened)) for one in opened)
        tell("frames", f"{films[0].data['frames']} in the viewer")
    except HeliodorError as error:
        problem = str(error)
        tell("frames", f"not shown: {error}")
    content = Content(
        facts=tuple(facts(one, name) for one, name in zip(opened, runs, strict=True)),
        soundness=sound,
        films=films,
        sound=_log_parts(sound, runs),
        done=(*(_part([shown], runs) for shown in first), *done.values()),
        failed=tuple(failed.items()),
        left_out=tuple(left_out.items()),
        problem=problem,
        title=title,
    )
    text = page(content).encode()
    write_durably(path, text)
    written = () if csv is None else _write_tables(Path(csv), (*content.sound, *content.done), overwrite)
    checks = {
        name: tuple((c.name, c.verdict, c.words) for c in one.checks) for name, one in zip(runs, sound, strict=True)
    }
    return Report(path, len(text), checks, tuple(done), failed, left_out, written)


def _same(one: Trajectory | str | Path) -> tuple[Path, int]:
    if isinstance(one, Trajectory):
        return one.path.absolute(), one.structure
    return Path(one).absolute(), 0


def run_names(paths: Sequence[Path], structures: Sequence[int] = ()) -> list[str]:
    """What runs are called: the stems of their files, with folders in front where those are the same.

    Args:
        structures: which of its file's structures each is; said where several are of one file.
    """
    stems = [path.stem for path in paths]
    if len(set(paths)) == 1 and len(set(structures)) == len(paths) > 1:
        return [f"{stem} {k}" for stem, k in zip(stems, structures, strict=True)]
    if len(set(stems)) == len(stems):
        return stems
    longer = [f"{path.absolute().parent.name}/{path.stem}" for path in paths]
    if len(set(longer)) == len(longer):
        return longer
    return [f"{name} ({k + 1})" for k, name in enumerate(longer)]


def _analyses(
    picked: tuple[Analysis, ...],
    opened: Sequence[Trajectory],
    runs: Sequence[str],
    processes: int,
    tell: Tell,
    step: Step,
) -> tuple[dict[str, Part], dict[str, str], dict[str, str]]:
    """Sections by name of analysis; reasons of what failed; reasons of what does not fit."""
    done: dict[str, Part] = {}
    failed: dict[str, str] = {}
    left_out: dict[str, str] = {}
    reasons = [unfit(picked, one) for one in opened]
    for analysis in picked:
        outcomes: list[Shown | None] = [None] * len(opened)
        for k, one in enumerate(opened):
            label = f"{runs[k]}: " if len(runs) > 1 else ""
            if analysis.name in reasons[k]:
                left_out[f"{label}{analysis.name}"] = reasons[k][analysis.name]
                continue
            found: Done = do(analysis, one, processes=processes, label=label, tell=tell, step=step)
            outcomes[k] = found.shown
            if found.shown is None:
                failed[f"{label}{analysis.title}"] = found.reason
        if all(outcome is None for outcome in outcomes):
            continue
        try:
            part = _part(outcomes, runs)
            for figure in part.section.figures:
                figure_json(figure)
        except Exception as error:
            # arrays that do not fit together must not cost the others their page
            failed[analysis.title] = f"what it hands over cannot be drawn: {told(error)}"
            tell(analysis.name, failed[analysis.title])
        else:
            done[analysis.name] = part
    return done, failed, left_out


def _log_parts(sound: Sequence[Soundness], runs: Sequence[str]) -> tuple[Part, ...]:
    names = list(dict.fromkeys(shown.name for one in sound for shown in one.shown))
    return tuple(
        _part([next((shown for shown in one.shown if shown.name == name), None) for one in sound], runs)
        for name in names
    )


def _part(outcomes: Sequence[Shown | None], runs: Sequence[str]) -> Part:
    section = merged(outcomes, runs)
    tables: dict[str, str] = {}
    for k, outcome in enumerate(outcomes):
        if outcome is not None:
            run = runs[k] if len(runs) > 1 else ""
            tables |= {file_name(run, name): text for name, text in tables_of(outcome).items()}
    if section.rows:
        tables[file_name(section.name, "numbers")] = rows_csv(section.rows, runs)
    return Part(section, tables)


def _write_tables(folder: Path, parts: Sequence[Part], overwrite: bool) -> tuple[Path, ...]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InputError(f"{folder} is no folder: give another to --csv") from None
    tables = {folder / f"{name}.csv": text for part in parts for name, text in part.tables.items()}
    for path in tables:
        refuse_existing(path, overwrite)
    for path, text in tables.items():
        write_durably(path, text.encode())
    return tuple(tables)
