"""Run a plan: points side by side in processes of this machine or of a cluster, each record written as soon as it is
there.

A run that was stopped goes on where it was: points whose record is there, and still stands, are not measured again.
"""

from __future__ import annotations

import multiprocessing
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bsqcodec.bench.children import end_with_parent
from bsqcodec.bench.jobs import Job, Result, do, forget, name_of
from bsqcodec.bench.plan import WORK, Task
from bsqcodec.bench.point import Record
from bsqcodec.bench.stills import Still
from bsqcodec.errors import BsqError

STILL_COST = 1.5  # of a picture for the report, in points of bsqcodec of the same clip


@dataclass(frozen=True)
class Step:
    """How far a run is. done, total: points and pictures; eta: seconds left, None = not known yet.

    name: what was finished last; record: its record, None for a picture or a failure; error: why it failed.
    """

    done: int
    total: int
    seconds: float
    eta: float | None
    name: str
    record: Record | None = None
    error: str = ""


@dataclass
class Outcome:
    """What a run came to: records of all points, finished before or now, in the plan's order; what failed and why."""

    records: list[Record] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    measured: int = 0  # points measured now


def run(
    tasks: Sequence[Task],
    out: Path,
    *,
    stills: Sequence[Still] = (),
    jobs: int = 1,
    cluster: str | None = None,
    on_step: Callable[[Step], None] = lambda step: None,
) -> Outcome:
    """Measure what is missing of a plan and make the pictures of `stills`; a point that fails does not stop the others.

    out: folder of records (`points`), pictures, and of work files, which are removed at the end.
    jobs: processes of this machine; cluster: instead, a Ray cluster's address or "auto", see `bsqcodec.bench.cluster`.
    On KeyboardInterrupt the workers are ended and what is finished is kept.
    Raises BsqError where a process of this machine that does jobs dies, and what `on_cluster` raises.
    """
    known = {task: task.finished(out) for task in tasks}
    outcome = Outcome()
    todo: list[Job] = [task for task in tasks if known[task] is None]
    todo += [still for still in stills if not still.finished(out)]
    meter = _Meter(todo)
    with closing(_results(todo, out, jobs, cluster)) as results:
        for job, record, error in results:
            if error:
                outcome.failures.append(f"{name_of(job)}: {error}")
            elif isinstance(job, Task):
                known[job] = record
                outcome.measured += 1
            on_step(meter.step(job, record, error))
    outcome.records = [record for record in known.values() if record is not None]
    return outcome


def _results(todo: Sequence[Job], out: Path, jobs: int, cluster: str | None) -> Generator[Result, None, None]:
    """(job, record, error) in the order in which jobs end."""
    if cluster is None:
        return _here(todo, out, jobs)
    from bsqcodec.bench.cluster import on_cluster

    return on_cluster(todo, out, cluster)


def _here(todo: Sequence[Job], out: Path, jobs: int) -> Generator[Result, None, None]:
    """The results of processes of this machine."""
    left = Counter(job.clip.name for job in todo)
    work = out / WORK
    work.mkdir(parents=True, exist_ok=True)
    try:
        with _pool(min(jobs, max(1, len(todo)))) as pool:
            futures = {pool.submit(do, job, out): job for job in todo}
            for job, record, error in _as_they_end(futures):
                left[job.clip.name] -= 1
                if not left[job.clip.name]:
                    forget(out, job.clip.name)
                yield job, record, error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _as_they_end(futures: dict[Future[Record | None], Job]) -> Iterator[Result]:
    while futures:
        ended, _ = wait(futures, return_when=FIRST_COMPLETED)
        for future in ended:
            job = futures.pop(future)
            try:
                yield job, future.result(), ""
            except BsqError as error:
                yield job, None, str(error)
            except BrokenProcessPool as error:
                raise BsqError(
                    f"{name_of(job)}: a worker process died, out of memory perhaps; try --jobs 1 and run again"
                ) from error


@contextmanager
def _pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes (not daemons: a point has processes of its own); ended at once when the block is left early."""
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(jobs,))
    try:
        yield pool
    except BaseException:
        workers = list((pool._processes or {}).values())  # no public way before Python 3.14 (kill_workers)
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()
        raise
    pool.shutdown()


def _start_worker(jobs: int) -> None:
    """Ctrl-C is the parent's business, and a worker ends with it; side by side, metrics take one thread each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    if jobs > 1:
        import torch

        torch.set_num_threads(1)


class _Meter:
    """Time left, from the expected work of what is done and of what is not."""

    def __init__(self, todo: Sequence[Job]) -> None:
        self.start = time.monotonic()
        self.total, self.done = len(todo), 0
        self.costs = {id(job): self._cost(job) for job in todo}
        self.left = sum(self.costs.values())
        self.worked = 0.0

    @staticmethod
    def _cost(job: Job) -> float:
        return job.cost if isinstance(job, Task) else job.ours.cost * STILL_COST

    def step(self, job: Job, record: Record | None, error: str) -> Step:
        cost = self.costs[id(job)]
        self.done, self.worked, self.left = self.done + 1, self.worked + cost, self.left - cost
        seconds = time.monotonic() - self.start
        eta = seconds / self.worked * self.left if self.worked else None
        return Step(self.done, self.total, seconds, eta, name_of(job), record, error)
