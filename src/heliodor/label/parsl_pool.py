"""Workers through Parsl: on this machine, on the nodes of a cluster, or in a cloud, from one YAML file."""

from __future__ import annotations

import inspect
import shutil
import sys
import threading
import time
import warnings
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from heliodor.errors import InputError, MissingExtraError, suggestion
from heliodor.label.shard import Shard
from heliodor.label.worker import Ended, run_shard

PROVIDERS = {
    "local": "LocalProvider",
    "slurm": "SlurmProvider",
    "pbs": "PBSProProvider",
    "torque": "TorqueProvider",
    "lsf": "LSFProvider",
    "gridengine": "GridEngineProvider",
    "condor": "CondorProvider",
    "kubernetes": "KubernetesProvider",
    "aws": "AWSProvider",
    "google": "GoogleCloudProvider",
    "azure": "AzureProvider",
}
"""Words of the configuration, and the classes of `parsl.providers`."""


PATIENCE = 20.0
"""Heartbeats after which workers that hold shards but run no job count as stuck. A worker that is killed while it waits
for work dies with the lock of the queue that it shares with its neighbours, and Parsl does not notice."""

ENDING = 30.0
"""Seconds that Parsl may take to end."""


@dataclass(frozen=True)
class Cluster:
    """Where Parsl shall find workers.

    Attributes:
        provider: one of `PROVIDERS`.
        workers_per_node: processes on each node; each has `threads` cores, which is an option of the campaign.
        options: of Parsl's provider, by its own names: partition, account, walltime, nodes_per_block, max_blocks,
            worker_init, ...
        executor: options of Parsl's HighThroughputExecutor: address, worker_port_range, encrypted, ...
        shared_files: whether nodes see the folder of the store; then a lost node costs the running jobs only,
            otherwise the shards it had.
        shard_seconds: work sent to a worker at a time, s.
        heartbeat: s between signs of life of workers; a lost one is noticed after some of them.
    """

    provider: str = "local"
    workers_per_node: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    executor: dict[str, Any] = field(default_factory=dict)
    shared_files: bool = True
    shard_seconds: float = 60.0
    heartbeat: int = 10

    def __post_init__(self) -> None:
        if self.provider not in PROVIDERS:
            known = ", ".join(PROVIDERS)
            raise InputError(
                f"there is no provider {self.provider!r}{suggestion(self.provider, PROVIDERS)}; there are: {known}"
            )


def read_cluster(path: str | Path) -> Cluster:
    """A YAML file with the fields of `Cluster`.

    Raises:
        InputError: missing, not YAML, or with words that mean nothing.
    """
    import yaml

    path = Path(path)
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(given, dict):
        raise InputError(f"{path} must hold names with values, such as provider: slurm")
    known = [one.name for one in fields(Cluster)]
    # an empty "options:" is read as None
    given = {word: value for word, value in given.items() if value is not None}
    for word in given:
        if word not in known:
            raise InputError(
                f"{path}: {word!r} means nothing here{suggestion(word, known)}; known are {', '.join(known)}; what "
                "belongs to Parsl's provider goes under 'options:'"
            )
    for word, kind in (("provider", str), ("options", dict), ("executor", dict), ("shared_files", bool)):
        if not isinstance(given.get(word, kind()), kind):
            words = {str: "a word", dict: "names with values", bool: "true or false"}
            raise InputError(f"{path}: {word} must be {words[kind]}, not {given[word]!r}")
    for word, least in (("workers_per_node", 0), ("shard_seconds", 0.1), ("heartbeat", 1)):
        value = given.get(word, least)
        whole = word != "shard_seconds"
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or value < least:
            raise InputError(f"{path}: {word} must be a{' whole' * whole} number of at least {least}, not {value!r}")
    try:
        return Cluster(**given)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


class ParslPool:
    """A `Pool` on Parsl's HighThroughputExecutor.

    Args:
        workers: at the same time on this machine, for the local provider; elsewhere nodes and blocks decide.
        folder: for Parsl's own files; removed at the end.

    Raises:
        InputError: options that Parsl's provider does not know.
        MissingExtraError: Parsl is not installed.
    """

    def __init__(self, cluster: Cluster, workers: int, threads: int, folder: Path) -> None:
        try:
            from parsl.executors import HighThroughputExecutor
        except ImportError:
            raise MissingExtraError("parsl", "label") from None
        local = cluster.provider == "local"
        per_node = cluster.workers_per_node or workers
        provider = _provider(cluster)
        self.workers = per_node * provider.nodes_per_block * provider.max_blocks
        self.span = cluster.shard_seconds
        # files of other nodes are read no more often than needed
        self.tick = 0.2 if local else 2.0
        self.spools = cluster.shared_files
        self._folder = folder
        options = {
            "label": "workers",
            **_commands(cluster),
            "max_workers_per_node": per_node,
            "cores_per_worker": 1e-6 if local else threads,
            "heartbeat_period": cluster.heartbeat,
            "heartbeat_threshold": 4 * cluster.heartbeat,
            **({"address": "127.0.0.1", "cpu_affinity": "none"} if local else {}),
            **cluster.executor,
        }
        _know(HighThroughputExecutor, options, "executor")
        self._options = options
        self._cluster = cluster
        self._futures: dict[Future[Ended], str] = {}
        self.patience: float | None = PATIENCE * cluster.heartbeat if self.spools else None
        self._begin(provider)

    def _begin(self, provider: Any) -> None:
        from parsl import python_app
        from parsl.config import Config
        from parsl.dataflow.dflow import DataFlowKernel
        from parsl.executors import HighThroughputExecutor

        self._provider = provider
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._executor = HighThroughputExecutor(provider=provider, **self._options)
                # results and retries are the store's business, not Parsl's
                self._kernel = DataFlowKernel(
                    Config(
                        executors=[self._executor],
                        run_dir=str(self._folder),
                        retries=0,
                        usage_tracking=0,
                        initialize_logging=False,
                        strategy="simple",
                        strategy_period=2.0,
                    )
                )
            self._app = python_app(run_shard, data_flow_kernel=self._kernel, executors=["workers"], cache=False)
        except Exception as error:
            raise InputError(f"Parsl could not begin: {type(error).__name__}: {error}") from error

    def submit(self, shard: Shard) -> None:
        future = self._app(shard)
        self._futures[future] = shard.key

    def wait(self, seconds: float) -> list[Ended]:
        if not self._futures:
            time.sleep(seconds)
            return []
        done, _ = wait(self._futures, seconds, return_when=FIRST_COMPLETED)
        ended = []
        for future in done:
            key = self._futures.pop(future)
            error = future.exception()
            if error is None:
                ended.append(future.result())
                continue
            kind = type(error).__name__
            text = " ".join(str(error).split())[:300]
            if kind in ("WorkerLost", "ManagerLost"):
                ended.append(Ended(key, lost=f"{kind}: {text}"))
            elif kind == "BadStateException":
                ended.append(Ended(key, f"Parsl's workers could not be started: {text}"))
            else:
                ended.append(Ended(key, f"Parsl could not run a shard: {kind}: {text}"))
        return ended

    def holding(self) -> bool:
        return any(manager["tasks"] for manager in self._executor.connected_managers())

    def restart(self) -> None:
        self._end()
        self._futures = {}
        self._begin(_provider(self._cluster))

    def close(self) -> None:
        self._end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _end(self) -> None:
        def clean() -> None:
            with warnings.catch_warnings(), suppress(Exception):
                warnings.simplefilter("ignore")
                self._kernel.cleanup()

        # it waits for ever where its interchange is gone
        cleaning = threading.Thread(target=clean, daemon=True)
        cleaning.start()
        cleaning.join(ENDING)
        if cleaning.is_alive():
            with suppress(Exception):
                self._provider.cancel(list(self._provider.resources))
            if self._executor.interchange_proc is not None:
                self._executor.interchange_proc.kill()


def _commands(cluster: Cluster) -> dict[str, Any]:
    """Parsl starts its programs by names that only an activated environment finds: name this Python instead."""
    from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD

    commands: dict[str, Any] = {"interchange_launch_cmd": [sys.executable, "-m", "heliodor.label.interchange"]}
    if cluster.shared_files:
        program = f"{sys.executable} -m parsl.executors.high_throughput.process_worker_pool"
        commands["launch_cmd"] = DEFAULT_LAUNCH_CMD.replace("process_worker_pool.py", program, 1)
    return commands


def _provider(cluster: Cluster) -> Any:
    import parsl.providers

    kind = getattr(parsl.providers, PROVIDERS[cluster.provider])
    _know(kind, cluster.options, "options")
    try:
        return kind(**cluster.options)
    except Exception as error:
        raise InputError(f"the provider {cluster.provider} cannot be used: {type(error).__name__}: {error}") from None


def _know(kind: type, options: dict[str, Any], where: str) -> None:
    known = [name for name in inspect.signature(kind).parameters if name not in ("self", "provider", "label")]
    for word in options:
        if word != "label" and word not in known:
            raise InputError(
                f"{where}: Parsl's {kind.__name__} knows no {word!r}{suggestion(word, known)}; "
                f"it has {', '.join(known)}"
            )
