"""From the options of a run to its workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bsqcodec.errors import UsageError
from bsqcodec.outputs import StrPath

if TYPE_CHECKING:
    from bsqcodec.codec import Model
    from bsqcodec.parallel.tasks import Workers


@dataclass(frozen=True)
class Spread:
    """Where a run's groups are coded. weights, device, threads: those of its model; 0 threads: chosen for the workers.

    jobs: processes of this machine; cluster: instead, a Ray cluster's address, or "auto".
    Raises UsageError for an impossible number of jobs, and for both.
    """

    weights: StrPath | None
    device: str
    threads: int
    jobs: int = 1
    cluster: str | None = None

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise UsageError(f"jobs {self.jobs}: must be 1 or more")
        if self.jobs > 1 and self.cluster is not None:
            raise UsageError(f"jobs {self.jobs}, cluster {self.cluster}: contradict each other; give one")

    @property
    def alone(self) -> bool:
        """Whether this process does it all."""
        return self.jobs == 1 and self.cluster is None

    @property
    def name(self) -> str:
        """What was asked for, for messages."""
        return f"jobs {self.jobs}" if self.cluster is None else f"cluster {self.cluster}"

    @contextmanager
    def started(self, model: Model) -> Iterator[Workers]:
        """The workers, which have the run's model and end with the block."""
        workers = self._start(model)
        try:
            yield workers
        finally:
            workers.close()

    def _start(self, model: Model) -> Workers:
        from bsqcodec.parallel.tasks import Setup, threads_each

        if self.cluster is not None:
            from bsqcodec.codec.model import shipped_path
            from bsqcodec.parallel.cluster import RayWorkers

            path = shipped_path(model.tune) if self.weights is None else Path(self.weights)
            setup = Setup(None, model.tune, self.device, self.threads or 1, model.sha256, path.read_bytes())
            return RayWorkers(self.cluster, setup)
        from bsqcodec.parallel.local import LocalWorkers

        weights = None if self.weights is None else os.fspath(Path(self.weights).resolve())
        threads = threads_each(self.threads, self.jobs)
        return LocalWorkers(self.jobs, Setup(weights, model.tune, self.device, threads, model.sha256))
