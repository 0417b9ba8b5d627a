"""The loop of a campaign: hand out shards, collect what comes back, commit it."""

from __future__ import annotations

import shutil
import time
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from heliodor.errors import InputError
from heliodor.label.cost import fit_cost
from heliodor.label.pool import AHEAD, Pool
from heliodor.label.process import identity
from heliodor.label.rows import Counts
from heliodor.label.schema import StoreError, full_disk, is_full
from heliodor.label.shard import DONE, Frame, Limits, Outcome, Shard, Started, read_spool
from heliodor.label.store import Store
from heliodor.label.worker import Ended

LARGEST = 500
"""Jobs of a shard."""

DEATHS = 10
"""Workers that may be lost one after the other without a single job ended."""

COUNTING = 1.0
"""Seconds between two counts of the store, at least."""

LOOKING = 5.0
"""Seconds between two looks for other campaigns that died, and between heartbeats."""


@dataclass(frozen=True)
class Progress:
    """A campaign under way.

    Attributes:
        counts: jobs of the store by state.
        done, failed: jobs that ended so in this run.
        seconds: since it began.
        cpu: s spent in this run.
        remaining: s to come at this pace; None while that is not known.
    """

    counts: Counts
    done: int = 0
    failed: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    remaining: float | None = None

    @property
    def rate(self) -> float:
        """Jobs per second."""
        return (self.done + self.failed) / self.seconds if self.seconds > 0.0 else 0.0


@dataclass(frozen=True)
class Summary:
    """How a campaign ended.

    Attributes:
        done, failed: jobs that ended so in this run.
        counts: jobs of the store by state.
        failures: failed jobs of the store by reason.
        seconds: of this run; cpu: s of its jobs.
        lost_workers: that died and were replaced.
    """

    done: int
    failed: int
    counts: Counts
    failures: dict[str, int]
    seconds: float
    cpu: float
    lost_workers: int = 0


@dataclass
class _Flight:
    """A shard under way: its spool, how far that is read, the job that runs, the jobs without an outcome."""

    path: Path | None
    left: set[int]
    offset: int = 0
    running: Started | None = None


@dataclass
class Drive:
    """One run of a campaign under the lease of a master; see `campaign.run_campaign`."""

    store: Store
    pool: Pool
    master: str
    limits: Limits
    threads: int
    find: str
    lease: float
    progress: Callable[[Progress], None] | None
    _flights: dict[str, _Flight] = field(default_factory=dict)
    _walls: deque[float] = field(default_factory=lambda: deque(maxlen=200))
    _done: int = 0
    _failed: int = 0
    _cpu: float = 0.0
    _wall: float = 0.0
    _first: float | None = None
    _lost: int = 0
    _deaths: int = 0
    _counted: float = 0.0
    _looked: float = 0.0
    _heard: float = 0.0
    _counts: Counts = field(default_factory=Counts)
    _remaining: float | None = None

    def to_the_end(self) -> None:
        """Work until nothing waits and nobody works.

        Raises:
            InputError: a method that no worker can make.
            StoreError: disk full; workers that all die.
        """
        self._began = self._heard = time.monotonic()
        self._walls.extend(wall for _, wall, _ in self.store.history(self._walls.maxlen or 0))
        self._count()
        while True:
            self._fill()
            if not self._flights:
                self._count()
                if not self._counts.left:
                    break
            ended = self.pool.wait(self.pool.tick)
            self._collect()
            for one in ended:
                self._end(one)
            self._look()
            self._unstick()
        self._tell()

    def put_away(self) -> None:
        """After workers were ended in the middle: commit what they wrote."""
        self._collect()
        for flight in self._flights.values():
            if flight.path is not None:
                flight.path.unlink(missing_ok=True)
        self._flights = {}

    def summary(self) -> Summary:
        seconds = time.monotonic() - self._began
        failures = self.store.failures()
        return Summary(self._done, self._failed, self.store.counts(), failures, seconds, self._cpu, self._lost)

    def _fill(self) -> None:
        while len(self._flights) < AHEAD * self.pool.workers:
            key = uuid.uuid4().hex[:16]
            jobs = self.store.take(self.master, key, self._size())
            if not jobs:
                return
            path = spool_of(self.store.path, key) if self.pool.spools else None
            self._flights[key] = _Flight(path, {job.id for job in jobs})
            if path is not None:
                _create(path)
            spool = None if path is None else str(path)
            self.pool.submit(Shard(key, tuple(jobs), self.find, self.limits, spool, identity(), self.threads))

    def _size(self) -> int:
        """Jobs of the next shard: work for as long as the pool likes, less towards the end, where all shall share."""
        if not self._walls:
            return 1
        mean = sum(self._walls) / len(self._walls)
        share = -(-self._counts.waiting // (AHEAD * self.pool.workers))
        return max(1, min(int(self.pool.span / max(mean, 1e-6)), share, LARGEST))

    def _collect(self) -> None:
        read = {key: read_spool(f.path, f.offset) for key, f in self._flights.items() if f.path is not None}
        self._commit({key: frames for key, (frames, _) in read.items() if frames})
        for key, (_, offset) in read.items():
            # only now: what could not be committed is read again
            self._flights[key].offset = offset

    def _commit(self, frames: dict[str, list[Frame]]) -> None:
        if frames:
            self._heard = time.monotonic()
        outcomes = {key: [one for one in some if isinstance(one, Outcome)] for key, some in frames.items()}
        taken = self.store.commit(self.master, outcomes)
        for key, some in frames.items():
            flight = self._flights[key]
            flight.running = unfinished(some) or (None if outcomes[key] else flight.running)
            flight.left -= {one.job for one in outcomes[key]}
        if taken and self._first is None:
            # workers take a while to begin
            self._first = time.monotonic() - min(sum(a.wall for a in one.attempts) for one in taken)
        for one in taken:
            self._deaths = 0
            good = one.attempts[-1].outcome == DONE
            self._done += good
            self._failed += not good
            wall = sum(attempt.wall for attempt in one.attempts)
            self._walls.append(wall)
            self._wall += wall
            self._cpu += sum(attempt.cpu for attempt in one.attempts)

    def _end(self, ended: Ended) -> None:
        flight = self._flights[ended.key]
        if flight.path is not None:
            self._collect()
        if ended.frames:
            self._commit({ended.key: list(ended.frames)})
        if flight.left:
            culprit = flight.running if ended.lost else None
            job, at = (culprit.job, culprit.at) if culprit else (None, 0.0)
            self.store.release(self.master, ended.key, job, ended.lost, at)
        del self._flights[ended.key]
        if flight.path is not None:
            flight.path.unlink(missing_ok=True)
        if ended.full:
            raise StoreError(full_disk(self.store.path, "the disk is full" if not ended.error else ended.error))
        if ended.error:
            raise InputError(ended.error)
        if ended.lost:
            self._lost += 1
            self._deaths += 1
            if self._deaths >= DEATHS:
                raise StoreError(
                    f"{DEATHS} workers were lost one after the other and no job ended meanwhile; the last: {ended.lost}"
                )

    def _unstick(self) -> None:
        """New workers for those that hold shards but have begun nothing for long."""
        if self.pool.patience is None or time.monotonic() - self._heard < self.pool.patience:
            return
        # a job may take days, and a cluster's queue longer: only who has work and does nothing is stuck
        if any(flight.running for flight in self._flights.values()) or not self.pool.holding():
            self._heard = time.monotonic()
            return
        self.pool.restart()
        for key in list(self._flights):
            self._end(Ended(key))
        self._lost += 1
        self._heard = time.monotonic()

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked >= min(LOOKING, self.lease / 5):
            self._looked = now
            self.store.beat(self.master)
            reap(self.store, self.lease)
            self._estimate()
        if now - self._counted >= COUNTING:
            self._count()
            # of a large store counting takes its time
            self._counted = time.monotonic() + 20.0 * (time.monotonic() - now)
            self._tell()

    def _count(self) -> None:
        self._counts = self.store.counts()

    def _estimate(self) -> None:
        """Remaining time from the sizes of what is left and how many worked at the same time so far."""
        cost = fit_cost(self.store.history())
        if cost is not None and self._first is not None and self._wall > 0.0:
            elapsed = time.monotonic() - self._first
            sizes = [atoms for atoms, number in self.store.sizes() for _ in range(number)]
            self._remaining = cost.seconds(sizes) / max(self._wall / elapsed, 1e-9)

    def _tell(self) -> None:
        if self.progress is not None:
            seconds = time.monotonic() - self._began
            self.progress(Progress(self._counts, self._done, self._failed, seconds, self._cpu, self._remaining))


def reap(store: Store, lease: float) -> int:
    """Take over from campaigns that died: results that lie in their spools are committed, the rest waits again.

    Returns:
        How many had died.
    """
    dead = store.dead(lease)
    for master in dead:
        for shard in store.shards(master):
            path = spool_of(store.path, shard)
            frames, _ = read_spool(path)
            store.commit(master, {shard: [frame for frame in frames if isinstance(frame, Outcome)]})
            running = unfinished(frames)
            job, at = (running.job, running.at) if running else (None, 0.0)
            store.release(master, shard, job, "the campaign was killed", at)
            path.unlink(missing_ok=True)
        store.leave(master)
        shutil.rmtree(parsl_folder(store.path, master), ignore_errors=True)
    return len(dead)


def unfinished(frames: list[Frame]) -> Started | None:
    """The job that was begun last, if nothing is known of its end."""
    return frames[-1] if frames and isinstance(frames[-1], Started) else None


def work_folder(store: Path) -> Path:
    """Where workers leave what comes out, until it is committed."""
    return store.absolute().with_name(store.name + ".work")


def parsl_folder(store: Path, master: str) -> Path:
    """Where Parsl keeps its own files."""
    return work_folder(store) / f"parsl-{master}"


def spool_of(store: Path, shard: str) -> Path:
    """The file in which a shard's results arrive."""
    return work_folder(store) / f"{shard}.spool"


def _create(path: Path) -> None:
    try:
        for _ in range(3):
            path.parent.mkdir(exist_ok=True)
            # another campaign that ends may remove the folder, as long as it is empty
            with suppress(FileNotFoundError):
                path.touch()
                return
    except OSError as error:
        if is_full(error):
            raise StoreError(full_disk(path.parent, "the disk is full")) from None
        raise StoreError(f"cannot write {path}: {error.strerror}") from None
