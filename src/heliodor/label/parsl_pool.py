"""Workers through Parsl: on this machine, on the nodes of a cluster, or in a cloud, from one YAML file."""

from __future__ import annotations

import inspect
import shutil
import sys
import time
import warnings
from concurrent.futures import FIRST_COMPLETED, Future, wait
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
        for name, kind in (("options", dict), ("executor", dict), ("shared_files", bool)):
            if not isinstance(getattr(self, name), kind):
                raise InputError(f"{name} must be {'yes or no' if kind is bool else 'names with values'}")
        for name, least in (("workers_per_node", 0), ("shard_seconds", 0.1), ("heartbeat", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value < least:
                raise InputError(f"{name} must be a number of at least {least}, not {value!r}")


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
    for word in given:
        if word not in known:
            hint = suggestion(word, known) or f"; options of the provider go under 'options:'; there are: {known}"
            raise InputError(f"{path}: {word!r} means nothing here{hint}")
    try:
        # an empty "options:" is read as None
        return Cluster(**{word: value for word, value in given.items() if value is not None})
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
            from parsl import python_app
            from parsl.config import Config
            from parsl.dataflow.dflow import DataFlowKernel
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
        self._futures: dict[Future[Ended], str] = {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                executor = HighThroughputExecutor(provider=provider, **options)
                # results and retries are the store's business, not Parsl's
                self._kernel = DataFlowKernel(
                    Config(
                        executors=[executor],
                        run_dir=str(folder),
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

    def close(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._kernel.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)


def _commands(cluster: Cluster) -> dict[str, Any]:
    """Parsl starts its programs by names that only an activated environment finds: name this Python instead."""
    from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD

    commands: dict[str, Any] = {
        "interchange_launch_cmd": [sys.executable, "-m", "heliodor.label.interchange"]
    }
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
