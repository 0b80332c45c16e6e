"""From the options of a run to its workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bsqcodec.outputs import StrPath

if TYPE_CHECKING:
    from bsqcodec.codec import Model
    from bsqcodec.parallel.tasks import Workers


@contextmanager
def started(model: Model, weights: StrPath | None, device: str, threads: int, jobs: int) -> Iterator[Workers]:
    """`jobs` processes of this machine that have the run's model; they end with the block.

    weights, device, threads: as the run's model was loaded with; 0 threads share the machine's out.
    """
    from bsqcodec.parallel.local import LocalWorkers
    from bsqcodec.parallel.tasks import Setup, threads_each

    path = None if weights is None else os.fspath(Path(weights).resolve())
    workers = LocalWorkers(jobs, Setup(path, model.tune, device, threads_each(threads, jobs), model.sha256))
    try:
        yield workers
    finally:
        workers.close()
