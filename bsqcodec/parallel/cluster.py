"""Workers of a Ray cluster. Ray starts another process for one that dies, and does its task again."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bsqcodec.codec import Model
from bsqcodec.errors import WorkerError
from bsqcodec.parallel.tasks import Setup, Task, attempt

RETRIES = 3  # of a task whose worker died
_MODELS: dict[Setup, Model] = {}  # of a worker process, which does many tasks

_log = logging.getLogger("bsqcodec")


class RayWorkers:
    """As many tasks at a time as the cluster has CPUs (or GPUs) for; the model's weights travel to it.

    address: "auto" = the cluster that this machine is part of, or else one of its own on this machine. Other machines
    need the same version of bsqcodec. Raises WorkerError without Ray and where there is no cluster.
    """

    def __init__(self, address: str, setup: Setup) -> None:
        self._ray, self._ours = connect(address)
        self._tasks: dict[int, Any] = {}
        self._tickets = 0
        resources, threads = self._ray.cluster_resources(), max(1, setup.threads)
        on_gpu = setup.device.startswith("cuda")
        self.size = max(1, int(resources.get("GPU", 0) if on_gpu else resources.get("CPU", 1) // threads))
        _log.info("cluster: %d workers", self.size)
        self._setup = self._ray.put(setup)
        options: dict[str, Any] = {"num_cpus": threads, "num_gpus": 1 if on_gpu else 0, "max_retries": RETRIES}
        self._do = self._ray.remote(**options)(_do)

    def submit(self, task: Task) -> int:
        """See `Workers`."""
        self._tickets += 1
        self._tasks[self._tickets] = self._do.remote(task, self._setup)
        return self._tickets

    def result(self, ticket: int) -> Any:
        """See `Workers`. Raises WorkerError for a task whose workers died again and again."""
        try:
            value, error = self._ray.get(self._tasks.pop(ticket))
        except self._ray.exceptions.RayError as failure:
            reason = str(failure).strip().splitlines()[0]
            raise WorkerError(f"the cluster could not code a group: {reason}; see Ray's logs") from failure
        if error is not None:
            raise error
        return value

    def drop(self, ticket: int) -> None:
        """See `Workers`."""
        self._ray.cancel(self._tasks.pop(ticket))

    def close(self) -> None:
        """See `Workers`."""
        for task in self._tasks.values():
            self._ray.cancel(task, force=True)
        self._tasks.clear()
        if self._ours:
            self._ray.shutdown()


def connect(address: str) -> tuple[Any, bool]:
    """Ray, connected to a cluster, and whether it was not before: then who called shuts it down.

    address: as of `RayWorkers`. Raises WorkerError without Ray and where there is no cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent home
    os.environ.setdefault("RAY_worker_niceness", "0")  # of a cluster of our own, which is as fast as --jobs then; or 15
    try:
        import ray
    except ImportError:
        raise WorkerError("--cluster needs Ray, which is not installed; pip install 'bsqcodec[ray]'") from None
    ours = not ray.is_initialized()
    if ours:
        with _termination_kept():
            _join(ray, address)
    return ray, ours


def _join(ray: Any, address: str) -> None:
    where = None if address == "auto" else address
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    try:
        ray.init(address=where, include_dashboard=False if where is None else None, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise WorkerError(f"--cluster {address}: no Ray cluster answers ({reason}); check the address") from error


@contextmanager
def _termination_kept() -> Iterator[None]:
    """Ray puts a handler of SIGTERM of its own in the place of the program's, whose exit code and message are lost."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _do(task: Task, setup: Setup) -> tuple[Any, Exception | None]:
    return attempt(task, setup, _MODELS)
