"""The loop: what happens when, in which order, and how it ends."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
from parts import Charged, begin, go
from toys import Morse

from heliodor.dynamics import nve_step, read_trajectory
from heliodor.dynamics.files.log import Log
from heliodor.dynamics.files.restart import load_state
from heliodor.dynamics.files.storage import StorageError
from heliodor.dynamics.loop import STAGES, Schedule, run_loop
from heliodor.errors import SimulationError


class Recorder:
    """A writer that notes what happens."""

    path = None

    def __init__(self, events, frames=0, step=-1):
        self.events = events
        self._mark = {"frames": frames, "step": step}

    def write(self, state):
        self.events.append(("frame", state.step))
        self._mark = {"frames": self._mark["frames"] + 1, "step": state.step}

    def mark(self):
        self.events.append(("mark", self._mark["step"]))
        return dict(self._mark)

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class NotingLog(Log):
    def __init__(self, events):
        super().__init__(None)
        self.events = events

    def write(self, state):
        super().write(state)
        self.events.append(("line", state.step))


class Judge:
    """A watch that notes, and says what it was told to say."""

    def __init__(self, events, asks_at=None, fails_at=None):
        self.events, self.asks_at, self.fails_at = events, asks_at, fails_at

    def look(self, state, thorough):
        if thorough:
            self.events.append(("look", state.step))
        if state.step == self.fails_at:
            raise SimulationError("it fell apart")
        return state.step == self.asks_at

    def failed(self, state, error):
        return SimulationError(f"after step {state.step}: {error}")


def loop(start=0, last=10, walltime=None, stop=lambda: False, writer=None, reports=None, pause=0.0, **plan):
    potential = Charged()
    events = []
    schedule = {"save_every": 4, "log_every": 6, "checkpoint_steps": 5}
    watch = {key: plan.pop(key) for key in ("asks_at", "fails_at") if key in plan}

    def advance(state):
        time.sleep(pause)
        return nve_step(state, potential, 4.0)

    ended = error = None
    try:
        ended = run_loop(
            begin("nve").replace(step=start, time=4.0 * start),
            advance,
            Schedule(last_step=last, timestep=4.0, temperature=90.0, **(schedule | plan)),
            writer=Recorder(events) if writer is None else writer(events),
            log=NotingLog(events),
            report=(lambda report: None) if reports is None else reports.append,
            stop=stop,
            watch=Judge(events, **watch),
            checkpoint=lambda state, marks: events.append(("checkpoint", state.step, marks["trajectory"]["step"])),
            walltime=walltime,
        )
    except SimulationError as raised:
        error = raised
    return ended, events, error


def test_everything_at_its_step_and_in_order():
    reports = []
    ended, events, _ = loop(reports=reports)
    assert (ended.ended, ended.state.step) == ("finished", 10)
    assert events == [
        ("mark", -1),
        ("look", 0),
        ("frame", 0),
        ("line", 0),
        ("mark", 0),
        ("checkpoint", 0, 0),
        ("frame", 4),
        ("look", 5),
        ("mark", 4),
        ("checkpoint", 5, 4),
        ("look", 6),
        ("line", 6),
        ("frame", 8),
        ("look", 10),
        ("mark", 8),
        ("checkpoint", 10, 8),
        # off their rhythm, so after the checkpoint
        ("frame", 10),
        ("line", 10),
    ]
    assert set(ended.timings) == set(STAGES)
    assert sum(ended.timings.values()) <= ended.seconds
    assert ended.timings["steps"] > 0.2 * ended.seconds
    assert [(report.step, report.steps) for report in reports] == [(0, 10), (6, 10), (10, 10)]


def test_rhythms_are_those_of_absolute_steps():
    reports = []
    ended, events, _ = loop(start=7, last=13, reports=reports)
    assert ended.state.step == 13
    # new files begin with the state handed in
    assert [event for event in events if event[0] == "frame"] == [("frame", s) for s in (7, 8, 12, 13)]
    assert [event for event in events if event[0] == "line"] == [("line", s) for s in (7, 12, 13)]
    assert [event[1] for event in events if event[0] == "checkpoint"] == [7, 10, 13]
    told = [(report.step, report.steps, report.time) for report in reports]
    assert told == [(7, 13, 28.0), (12, 13, 48.0), (13, 13, 52.0)]
    # the speed is that of this part
    assert reports[-1].ns_per_day == pytest.approx(86400.0 * 24.0 * 1e-6 / reports[-1].seconds)
    # files that have something already get no first frame
    for frames, step, expected in ((3, 4, [8, 10]), (4, 7, [8, 10]), (3, 8, [10])):
        start = 8 if step == 8 else 7
        _, events, _ = loop(start=start, writer=lambda e, f=frames, s=step: Recorder(e, f, s))
        assert [event[1] for event in events if event[0] == "frame"] == expected


def test_checkpoints_by_the_clock():
    _, events, _ = loop(checkpoint_steps=None, checkpoint_seconds=0.05, pause=0.03)
    steps = [event[1] for event in events if event[0] == "checkpoint"]
    assert steps[0] == 0
    assert steps[-1] == 10
    # no more than one per step; how many fewer depends on the machine
    assert 4 <= len(steps) <= 11
    _, events, _ = loop(checkpoint_steps=None)
    assert [event[1] for event in events if event[0] == "checkpoint"] == [0, 10]


@pytest.mark.parametrize("walltime", [1.0, 1.01, 1.02, 1.03, 1.04, 1.05, 1.06, 1.07, 1.08, 1.09, 1.1, 1.11])
def test_the_loop_ends_before_the_walltime(monkeypatch, walltime):
    # a clock of our own: each step takes 0.01 s whatever the machine is busy with
    now = 0.0

    def sleep(seconds):
        nonlocal now
        now += seconds

    monkeypatch.setattr("heliodor.dynamics.loop.time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(time, "sleep", sleep)
    ended, events, _ = loop(last=10**6, walltime=walltime, pause=0.01)
    assert ended.ended == "walltime"
    assert walltime - 0.04 < ended.seconds < walltime
    # on its rhythm or off it, the last step has everything
    assert {"checkpoint", "frame", "line"} <= {event[0] for event in events if event[1] == ended.state.step}


def test_the_watch_may_ask_for_an_end():
    ended, events, _ = loop(asks_at=7)
    assert (ended.ended, ended.state.step) == ("asked", 7)
    assert [event[:2] for event in events][-3:] == [("checkpoint", 7), ("frame", 7), ("line", 7)]


@pytest.mark.parametrize("fails_at", [3, 5, 6])
def test_a_breakdown_leaves_the_last_frame_and_no_checkpoint(fails_at):
    _, events, error = loop(fails_at=fails_at)
    assert str(error) == f"after step {fails_at}: it fell apart"
    assert events[-1] == ("frame", fails_at)
    assert [event[1] for event in events if event[0] == "checkpoint"] == [0, 5][: 1 + fails_at // 6]


def test_a_full_disk_is_not_written_to_again():
    class Full(Recorder):
        def write(self, state):
            super().write(state)
            if state.step == 4:
                raise StorageError("cannot write run.h5: no space left on device")

    _, events, error = loop(writer=Full)
    assert isinstance(error, StorageError)
    assert events[-1] == ("frame", 4)


def test_the_error_of_a_checkpoint_is_put_in_words():
    def vanish(state, marks):
        raise FileNotFoundError(2, "No such file or directory", "/scratch/run.restart")

    state = begin("nve")
    with pytest.raises(StorageError, match=r"cannot write /scratch/run\.restart: no such file or directory"):
        run_loop(
            state,
            lambda state: nve_step(state, Charged(), 4.0),
            Schedule(last_step=3, timestep=4.0, save_every=1, log_every=1, temperature=90.0),
            writer=None,
            log=Log(None),
            report=lambda report: None,
            stop=lambda: False,
            checkpoint=vanish,
        )


def test_an_interruption_is_said_and_kept(tmp_path):
    taken = iter(range(100))
    ended = go(tmp_path, last_step=50, stop=lambda: next(taken) == 7)
    assert (ended.ended, ended.state.step) == ("interrupted", 7)
    assert read_trajectory(tmp_path / "run.h5")[-1].info["step"] == 7
    state, extra = load_state(tmp_path / "run.restart")
    assert state.step == 7
    # of the files, what an uninterrupted run would have by then
    assert extra["marks"]["trajectory"]["step"] == 4
    assert extra["marks"]["log"]["step"] == 6


def test_broken_numbers_end_the_run_with_the_checks_of_old():
    state = begin("nve")
    steps = []

    def advance(state):
        state = nve_step(state, Morse(), 4.0)
        steps.append(state.step)
        return state if state.step < 3 else state.replace(forces=state.forces * np.nan)

    with pytest.raises(SimulationError, match="step 3"):
        run_loop(
            state,
            advance,
            Schedule(last_step=9, timestep=4.0, save_every=5, log_every=5, temperature=1e6),
            writer=None,
            log=Log(None),
            report=lambda report: None,
            stop=lambda: False,
        )
    assert steps == [1, 2, 3]
