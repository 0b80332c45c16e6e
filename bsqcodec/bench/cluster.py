"""`bench --cluster`: points and pictures as tasks of a Ray cluster.

Each machine reads the clips from the paths that they have here and does a job as a process of this machine would, in a
folder of its own for the run; the record or picture comes back, and is written here. So times, peak memory and the
machine of a record are those of where it was measured.

Ray starts another process for one that dies. Its job is given out again from here rather than by Ray, which sets no
bound where it was memory that ran out.
"""

from __future__ import annotations

import json
import logging
import platform
import shutil
import sys
import tempfile
import types
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from bsqcodec.bench.codecs import Codec
from bsqcodec.bench.jobs import Job, Result, do, forget, name_of
from bsqcodec.bench.ours import Bsqcodec
from bsqcodec.bench.plan import Task, write_whole
from bsqcodec.bench.stills import Still
from bsqcodec.errors import BsqError, WorkerError
from bsqcodec.parallel.cluster import RETRIES, connect

_PATIENCE = 60.0  # seconds that the end of a run waits for the cluster to clear up, where machines are busy

_log = logging.getLogger("bsqcodec")


def on_cluster(todo: Sequence[Job], out: Path, address: str) -> Generator[Result, None, None]:
    """(job, record, error) in the order in which jobs end, as of processes of this machine; files are in `out` by then.

    address: of a Ray cluster, or "auto" = the one that this machine is part of, else one of its own on this machine.
    A job whose worker dies is done again, `RETRIES` times; then that is its error.
    Raises WorkerError without Ray or a cluster, where a machine does not have the files that are measured or not this
    bsqcodec, and for an error that is not a BsqError. Tasks end with the generator.
    """
    if not todo:
        return
    crew = _Crew(address)
    left = Counter(job.clip.name for job in todo)
    try:
        crew.begin(todo)
        while crew.busy:
            ended = crew.next()
            if ended is None:
                continue
            job, kept, error = ended
            left[job.clip.name] -= 1
            if not left[job.clip.name] and crew.busy:  # at the end all goes
                crew.forget(job.clip.name)
            if not error:
                write_whole(job.path(out), kept)
            yield job, json.loads(kept) if kept and isinstance(job, Task) else None, error
    finally:
        crew.close()


class _Crew:
    """The cluster with all jobs of a run, of which it does as many at a time as it has CPUs (and GPUs) for."""

    def __init__(self, address: str) -> None:
        self._folder = f"bsqcodec-bench-{uuid4().hex}"
        self._files: dict[Path, int] = {}
        self._given: dict[Any, tuple[Job, int]] = {}  # by Ray's references; how often the job's worker has died
        self._ray, self._ours = connect(address)

    def begin(self, todo: Sequence[Job]) -> None:
        """Give all jobs out."""
        self._files = _sizes(todo)
        self._warn_of_none(todo)
        for job in todo:
            self._give(job, 0)

    @property
    def busy(self) -> bool:
        """Whether jobs are left."""
        return bool(self._given)

    def next(self) -> tuple[Job, bytes, str] | None:
        """Wait for a job: its file and its error. None where its worker died and it is done again."""
        (reference,), _ = self._ray.wait(list(self._given), num_returns=1)
        job, deaths = self._given.pop(reference)
        kinds = self._ray.exceptions
        try:
            kept, error = self._ray.get(reference)
        except (kinds.WorkerCrashedError, kinds.NodeDiedError, kinds.OutOfMemoryError, kinds.ObjectLostError):
            return self._again(job, deaths + 1)
        except kinds.RayError as failure:
            raise WorkerError(f"{name_of(job)}: on the cluster: {_reason(failure)}") from failure
        if isinstance(error, WorkerError):
            raise error
        return job, kept, "" if error is None else str(error)

    def forget(self, clip: str) -> None:
        """Nobody needs this clip any more."""
        self._everywhere(_forget, self._folder, clip)

    def close(self) -> None:
        """End what is being done, at once, and remove the run's folder from every machine."""
        references = list(self._given)
        with suppress(self._ray.exceptions.RayError):  # the cluster may be what failed
            for reference in references:
                self._ray.cancel(reference, force=True)
            self._finish(references)  # a process that is still ending would write into the folder
            self._finish(self._everywhere(_remove, self._folder))
        if self._ours:
            self._ray.shutdown()

    def _give(self, job: Job, deaths: int) -> None:
        cpus, gpus = _needs(job)
        task = self._ray.remote(max_retries=0, num_cpus=cpus, num_gpus=gpus)(_run)
        reference = task.remote(Errand(_absolute(job), job.identity(), self._files, self._folder))
        self._given[reference] = (job, deaths)

    def _again(self, job: Job, deaths: int) -> tuple[Job, bytes, str] | None:
        if deaths > RETRIES:
            return job, b"", f"its process on the cluster died, {deaths} times; out of memory perhaps, see Ray's logs"
        _log.info("%s: its process on the cluster died; once more", name_of(job))
        self._give(job, deaths)
        return None

    def _everywhere(self, work: Callable[..., None], *args: str) -> list[Any]:
        """Have something done on every machine at once, whatever it is busy with."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in self._machines()]
        options = [{"max_retries": 0, "num_cpus": 0, "scheduling_strategy": where} for where in there]
        return [self._ray.remote(**of_one)(work).remote(*args) for of_one in options]

    def _finish(self, references: list[Any]) -> None:
        if references:
            self._ray.wait(references, num_returns=len(references), timeout=_PATIENCE)

    def _machines(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _warn_of_none(self, todo: Sequence[Job]) -> None:
        """Ray waits for a machine that is large enough, which a cluster that grows may get, without a word."""
        for cpus, gpus in sorted({_needs(job) for job in todo}):
            have = (machine["Resources"] for machine in self._machines())
            if not any(of_one.get("CPU", 0) >= cpus and of_one.get("GPU", 0) >= gpus for of_one in have):
                what = f"{cpus} CPUs" + (f" and {gpus} GPU" if gpus else "")
                _log.warning("no machine of the cluster has %s, which a point takes; waiting for one", what)


@dataclass(frozen=True)
class Errand:
    """A job on its way to a machine which may have other files under the same paths.

    identity: `Job.identity()` where the run was started; files: sizes in bytes of all that the run reads, by path;
    folder: name of the run's own among the machine's temporary files.
    """

    job: Job
    identity: str
    files: dict[Path, int]
    folder: str

    def run(self) -> tuple[bytes, BsqError | None]:
        """The file that the job made, or why there is none: a WorkerError where this machine can do no job."""
        try:
            self._check()
            out = _folder(self.folder)
            out.mkdir(mode=0o700, exist_ok=True)
            with _no_main():
                do(self.job, out)
            return self.job.path(out).read_bytes(), None
        except BsqError as error:
            return b"", error

    def _check(self) -> None:
        """Of all clips, not only this job's, or the last clip would be missed after days."""
        here = platform.node()
        for path, size in self.files.items():
            try:
                found = path.stat().st_size
            except OSError as error:
                reason = error.strerror or str(error)
                raise WorkerError(f"{path}: {reason} on {here}; every machine must read it at this path") from None
            if found != size:
                raise WorkerError(f"{path}: has {found} bytes on {here} and {size} where the run was started")
        if self.job.identity() != self.identity:
            what = f"another {self.job.clip.path} or another bsqcodec"
            raise WorkerError(f"{name_of(self.job)}: {here} has {what} than where the run was started")


def _run(errand: Errand) -> tuple[bytes, BsqError | None]:
    """A task of the cluster. Others run beside it, so that metrics take one thread."""
    import torch

    torch.set_num_threads(1)
    return errand.run()


def _forget(folder: str, clip: str) -> None:
    forget(_folder(folder), clip)


def _remove(folder: str) -> None:
    shutil.rmtree(_folder(folder), ignore_errors=True)


def _folder(name: str) -> Path:
    return Path(tempfile.gettempdir(), name)


@contextmanager
def _no_main() -> Iterator[None]:
    """A child that is spawned imports its parent's main module, here Ray: its memory would be in the child's peak."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _needs(job: Job) -> tuple[int, int]:
    """CPUs and GPUs that a job is alone with."""
    task = job.ours if isinstance(job, Still) else job
    on_gpu = isinstance(task.codec, Bsqcodec) and task.codec.device.startswith("cuda")
    return max(1, task.settings.threads), int(on_gpu)


def _sizes(todo: Sequence[Job]) -> dict[Path, int]:
    """Bytes of every file that is read: clips, and weights that were asked for."""
    paths = {job.clip.path for job in todo}
    paths |= {Path(codec.weights) for job in todo if isinstance(codec := _codec(job), Bsqcodec) and codec.weights}
    return {path.absolute(): path.stat().st_size for path in sorted(paths)}


def _codec(job: Job) -> Codec:
    return job.ours.codec if isinstance(job, Still) else job.codec


def _absolute(job: Job) -> Job:
    """The job with paths that do not hang on the folder a process was started in."""
    if isinstance(job, Still):
        ours = _absolute(job.ours)
        assert isinstance(ours, Task)
        return replace(job, ours=ours)
    codec = job.codec
    if isinstance(codec, Bsqcodec) and codec.weights:
        codec = replace(codec, weights=str(Path(codec.weights).absolute()))
    return replace(job, clip=replace(job.clip, path=job.clip.path.absolute()), codec=codec)


def _reason(failure: Exception) -> str:
    """One line: of an error that a task raised its own text, without Ray's account of where."""
    cause = getattr(failure, "cause", None) or failure
    text = str(cause).strip() or type(cause).__name__
    return f"{type(cause).__name__}: {text.splitlines()[0]}"
