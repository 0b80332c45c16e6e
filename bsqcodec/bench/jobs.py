"""What a run of the benchmark does piece by piece, wherever it is done: points, and pictures for the report."""

from __future__ import annotations

import glob
from pathlib import Path

from bsqcodec.bench.plan import WORK, Task, write_record
from bsqcodec.bench.point import Record, measure
from bsqcodec.bench.sources import prepare
from bsqcodec.bench.stills import Still

Job = Task | Still
Result = tuple[Job, Record | None, str]  # the record, None for a picture or a failure; why it failed


def name_of(job: Job) -> str:
    """For people."""
    return job.name if isinstance(job, Task) else f"{job.clip.name} picture"


def do(job: Job, out: Path) -> Record | None:
    """Measure a point or make a picture; its file is then `job.path(out)`.

    The prepared clip stays in `out`'s work folder for the next job, see `forget`. Raises what `prepare`, `measure` and
    `Still.make` raise.
    """
    if isinstance(job, Still):
        job.make(out)
        return None
    work, settings = out / WORK, job.settings
    prepared = prepare(job.clip, work)
    record = measure(
        job.clip,
        prepared,
        job.codec,
        job.quality,
        work=work,
        keyint=settings.keyint,
        threads=settings.threads,
        metrics=settings.metrics,
    )
    record["identity"] = job.identity()
    write_record(job.path(out), record)
    return record


def forget(out: Path, clip: str) -> None:
    """Remove the prepared file of a clip that is done with: raw video is large."""
    for path in (out / WORK).glob(f"{glob.escape(clip)}-*.mkv"):
        path.unlink(missing_ok=True)
