"""Label all structures of a store: leases, workers, results, until nothing waits."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from heliodor.errors import InputError
from heliodor.label.drive import Drive, Progress, Summary, parsl_folder, reap, work_folder
from heliodor.label.label import Method
from heliodor.label.parsl_pool import Cluster, ParslPool
from heliodor.label.pool import LocalPool, Pool
from heliodor.label.shard import FIND, Limits, make_method
from heliodor.label.store import LEASE, Store

HERE = Cluster(shard_seconds=5.0, heartbeat=2)
"""Parsl on this machine."""


def run_campaign(
    store: Store | str | Path,
    workers: int = 2,
    executor: str = "local",
    *,
    cluster: Cluster | None = None,
    limits: Limits | None = None,
    threads: int = 1,
    progress: Callable[[Progress], None] | None = None,
    find: str = FIND,
    lease: float = LEASE,
) -> Summary:
    """Label whatever waits in a store; whatever ends this, the same call goes on from there.

    Args:
        store: or its path.
        workers: processes of this machine; of other providers than the local one see `Cluster`.
        executor: ``"local"`` (processes of this machine) or ``"parsl"``.
        cluster: for Parsl; by default this machine.
        limits: of each job.
        threads: of each job.
        progress: called some times a second.
        find: what makes methods from their names, as ``module:function``; workers must be able to import it.
        lease: s without a sign of life after which another campaign on this store counts as dead.

    Raises:
        InputError: no such executor; a method that cannot be made.
        StoreError: the disk is full, or no worker can work; results are kept.
        KeyboardInterrupt: Ctrl-C or SIGTERM; results are kept, and jobs that ran wait again.
    """
    if executor not in ("local", "parsl"):
        raise InputError(f"executor must be 'local' or 'parsl', not {executor!r}")
    if workers < 1 or threads < 1:
        raise InputError("a campaign needs at least one worker, and each job a thread")
    if isinstance(store, (str, Path)):
        with Store(store, create=False) as opened:
            return run_campaign(
                opened,
                workers,
                executor,
                cluster=cluster,
                limits=limits,
                threads=threads,
                progress=progress,
                find=find,
                lease=lease,
            )
    reap(store, lease)
    for name in store.methods(waiting=True):
        # a package that is missing is one error, not a million
        refuse_other_weights(store, make_method(find, name))
    with _terminable():
        return _run(store, workers, executor, cluster, limits or Limits(), threads, progress, find, lease)


def refuse_other_weights(store: Store, method: Method) -> None:
    """
    Raises:
        InputError: the store holds labels by the same name of a model whose weights were others.
    """
    mine = method.versions.get("model")
    others = {found["model"] for found in store.versions(method.name) if "model" in found} - {mine}
    if mine is not None and others:
        raise InputError(
            f"{store.path} holds labels by {method.name} of other weights ({', '.join(sorted(others))}; now {mine}): "
            "begin a new store, so that labels are not mixed"
        )


def _run(
    store: Store,
    workers: int,
    executor: str,
    cluster: Cluster | None,
    limits: Limits,
    threads: int,
    progress: Callable[[Progress], None] | None,
    find: str,
    lease: float,
) -> Summary:
    master = store.register()
    run: Drive | None = None
    pool: Pool | None = None
    try:
        if executor == "parsl":
            pool = ParslPool(cluster or HERE, workers, threads, parsl_folder(store.path, master))
        else:
            pool = LocalPool(workers)
        run = Drive(store, pool, master, limits, threads, find, lease, progress)
        run.to_the_end()
        pool.close()
        store.leave(master)
        return run.summary()
    except BaseException:
        try:
            if pool is not None:
                pool.close()
            if run is not None:
                run.put_away()
            store.leave(master)
        except BaseException:
            # what lies in the spools is found by the next campaign
            store.give_up(master)
        raise
    finally:
        with suppress(OSError):
            work_folder(store.path).rmdir()


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM, by which batch systems end their jobs, is as good as Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
