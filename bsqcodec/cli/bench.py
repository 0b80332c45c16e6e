"""`bsqcodec bench`.

The table of results goes to stdout. With --json there is one object per line instead, told apart by "type": a "point"
for each that is finished, and as the last line "done" or "error"; see docs/json.md.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from bsqcodec.cli.exits import Terminated
from bsqcodec.cli.options import (
    IO,
    QUALITY,
    SETTINGS,
    SPEED,
    chosen_device,
    examples,
    talk_options,
    weights_option,
    where_options,
)
from bsqcodec.cli.terminal import Terminal
from bsqcodec.errors import BsqError, UsageError

if TYPE_CHECKING:
    from bsqcodec.bench.codecs import Codec
    from bsqcodec.bench.plan import Task
    from bsqcodec.bench.run import Outcome
    from bsqcodec.bench.stills import Still

DATA = "Data"


def _words(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(dict.fromkeys(w.strip() for w in value.split(",") if w.strip()))


def _numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    words = _words(ctx, param, value)
    try:
        return None if words is None else tuple(map(float, words))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 20,28,36", ctx, param) from None


def _size(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    width, _, height = value.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise click.BadParameter(f"{value!r} is not a size such as 640x360", ctx, param)
    return int(width), int(height)


@click.command(
    context_settings=SETTINGS,
    epilog=examples(
        "bsqcodec bench", "bsqcodec bench --dataset uvg --data ~/uvg --anchors x264:paper,x265:best --jobs 2 -o uvg"
    ),
)
@click.option(
    "--dataset",
    default="mini",
    metavar="NAME|DIR",
    help="mini, uvg, mcl-jcv, kodak, or a folder.",
    panel=DATA,
)
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR", help="Where a dataset's files are.", panel=DATA)
@click.option("--download", is_flag=True, help="Fetch missing files into --data first.", panel=DATA)
@click.option("--frames", type=click.IntRange(1), metavar="N", help="Frames of each clip, all without it.", panel=DATA)
@click.option("--scale", callback=_size, metavar="WxH", help="Resize the clips first, bicubic.", panel=DATA)
@click.option(
    "--anchors",
    callback=_words,
    default="x264:paper,x265:paper",
    metavar="LIST",
    help="Codecs to compare with: x264, x265, svtav1, each :paper, :lowdelay or :best.",
    panel=QUALITY,
)
@click.option("--tune", callback=_words, default="psnr", metavar="LIST", help="Tunes of bsqcodec.", panel=QUALITY)
@click.option(
    "--preset",
    callback=_words,
    default="medium",
    metavar="LIST",
    help="Presets of bsqcodec, each with every tune: fast, medium, slow.",
    panel=QUALITY,
)
@click.option(
    "--crf", callback=_numbers, metavar="LIST", help="Qualities of bsqcodec; 6 without it, 5 on mini.", panel=QUALITY
)
@click.option(
    "--anchor-crf",
    callback=_numbers,
    metavar="LIST",
    help="Qualities of anchors; 7 without it, 5 on mini.",
    panel=QUALITY,
)
@click.option(
    "--keyint", type=click.IntRange(1, 65535), default=32, metavar="N", help="Frames in a group.", panel=QUALITY
)
@click.option(
    "--metrics",
    callback=_words,
    default="psnr,ms-ssim",
    metavar="LIST",
    help="psnr, ms-ssim, xpsnr, vmaf; each as far as FFmpeg has it.",
    panel=QUALITY,
)
@where_options
@click.option(
    "--threads",
    type=click.IntRange(0),
    default=1,
    metavar="N",
    help="CPU threads of each coder, 0 = all; the bytes of the anchors hang on it.",
    panel=SPEED,
)
@weights_option
@click.option(
    "--jobs", type=click.IntRange(1), metavar="N", help="Points side by side, one per core without it.", panel=SPEED
)
@click.option(
    "--cluster",
    metavar="auto|ADDRESS",
    help="Instead of --jobs: a Ray cluster; auto finds or starts one. All machines need the clips at the same paths.",
    panel=SPEED,
)
@click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("bench_results"),
    metavar="DIR",
    help="Folder of records, tables, plots and the report.",
    panel=IO,
)
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.", panel=IO)
@talk_options
@click.pass_context
def bench(ctx: click.RichContext, /, **opts: Any) -> None:
    """Measure rate and distortion against H.264, HEVC and AV1.

    A run that was stopped goes on where it was when it is started again. The report is DIR/report.html.
    """
    terminal: Terminal = ctx.obj
    if opts["quiet"] and opts["verbose"]:
        raise click.UsageError("-q and -v contradict each other; give one", ctx)
    terminal.configure(quiet=opts["quiet"], verbose=opts["verbose"], json=opts["json"])
    device = chosen_device(ctx)
    _check_cluster(opts, device)
    if opts["download"]:
        _download(terminal, opts["dataset"], opts["data"])
    tasks = _plan(opts, device)
    if opts["dry_run"]:
        _print_plan(terminal, tasks, opts["out"])
        return
    from bsqcodec.bench.quality import check_families

    check_families(opts["metrics"])
    _check_models(tasks, opts)
    outcome, stills = _run(terminal, tasks, opts)
    _finish(terminal, outcome, stills, opts)


def _download(terminal: Terminal, dataset: str, data: Path | None) -> None:
    if data is None:
        raise UsageError("--download needs a folder to download to; give it with --data")
    from bsqcodec.bench.download import download, plan
    from bsqcodec.cli.bench_display import transfer_lines

    wanted = plan(dataset, data)
    terminal.say(str(wanted))
    with transfer_lines(terminal) as progress:
        download(dataset, data, progress=progress)


def _plan(opts: dict[str, Any], device: str) -> list[Task]:
    from bsqcodec.bench.catalogue import DATASETS
    from bsqcodec.bench.codecs import OURS, codec
    from bsqcodec.bench.datasets import find_clips
    from bsqcodec.bench.plan import Settings, make_plan

    ours = _ours(opts, device)
    anchors = [codec(spec) for spec in opts["anchors"]]
    if any(anchor.name == OURS for anchor in anchors):
        raise UsageError(f"--anchors: {OURS} is measured anyway; its tunes are chosen with --tune")
    known = DATASETS.get(opts["dataset"])
    qualities = dict(known.qualities) if known else {}
    qualities |= {a.name: opts["anchor_crf"] for a in anchors if opts["anchor_crf"]}
    qualities |= {OURS: opts["crf"]} if opts["crf"] else {}
    clips = find_clips(opts["dataset"], opts["data"], frames=opts["frames"], scale=opts["scale"])
    settings = Settings(opts["keyint"], opts["threads"], opts["metrics"])
    return make_plan(clips, [*ours, *anchors], settings, qualities)


def _ours(opts: dict[str, Any], device: str) -> list[Codec]:
    """bsqcodec with every tune and preset. Raises UsageError where there is none by such a name."""
    from bsqcodec.bench.ours import Bsqcodec
    from bsqcodec.checks import check_search

    pairs = [(tune, preset) for tune in opts["tune"] for preset in opts["preset"]]
    for tune, preset in pairs:
        check_search(tune, preset)
    weights = None if opts["weights"] is None else os.fspath(opts["weights"])
    return [Bsqcodec(tune, preset, device, weights) for tune, preset in pairs]


def _check_cluster(opts: dict[str, Any], device: str) -> None:
    """Refuse what contradicts --cluster."""
    jobs, cluster = opts["jobs"], opts["cluster"]
    if cluster is None:
        return
    if jobs is not None:
        raise UsageError(f"jobs {jobs}, cluster {cluster}: contradict each other; give one")
    if device not in ("auto", "cpu", "cuda:0"):
        raise UsageError(f"device {device}, cluster {cluster}: Ray gives a point a GPU, its cuda:0; give that")


def _check_models(tasks: list[Task], opts: dict[str, Any]) -> None:
    """Refuse a tune without weights, wrong weights or an absent device before hours go into the anchors."""
    from bsqcodec.bench.ours import Bsqcodec

    for codec in {task.codec for task in tasks if task.finished(opts["out"]) is None}:
        if isinstance(codec, Bsqcodec):
            here = codec if opts["cluster"] is None else replace(codec, device="cpu")  # the GPUs are elsewhere
            here.check()


def _print_plan(terminal: Terminal, tasks: list[Task], out: Path) -> None:
    """One line a point on stdout: whether it is there, its name, its options."""
    done = 0
    for task in tasks:
        there = task.finished(out) is not None
        done += there
        options = task.codec.options(task.quality, keyint=task.settings.keyint, threads=task.settings.threads)
        if terminal.json:
            terminal.data({"type": "plan", "point": task.name, "done": there, "options": options})
        else:
            click.echo(f"{'done' if there else 'todo'}  {task.name}  {options}")
    clips = len({task.clip.name for task in tasks})
    terminal.say(f"{len(tasks)} points of {clips} clips, {done} of them done; results in {out}")


def _cores() -> int:
    """Cores this process may use; only Linux tells them from those that the machine has."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _run(terminal: Terminal, tasks: list[Task], opts: dict[str, Any]) -> tuple[Outcome, list[Still]]:
    from bsqcodec.bench.run import run
    from bsqcodec.cli.bench_display import Steps

    stills = _stills(tasks, opts)
    jobs, cluster = opts["jobs"] or _cores(), opts["cluster"]
    where = f"{jobs} at a time" if cluster is None else f"on cluster {cluster}"
    done = sum(task.finished(opts["out"]) is not None for task in tasks)
    terminal.say(f"{len(tasks)} points, {done} of them done already; {where}")
    try:
        with Steps(terminal) as steps:
            outcome = run(tasks, opts["out"], stills=stills, jobs=jobs, cluster=cluster, on_step=steps)
    except (KeyboardInterrupt, Terminated) as stop:
        kept = f"{opts['out']} keeps the points that are finished; the same command goes on from there"
        raise type(stop)(kept) from None
    if not outcome.records:
        raise BsqError(f"no point could be measured; the first reason: {outcome.failures[0]}")
    return outcome, stills


def _stills(tasks: list[Task], opts: dict[str, Any]) -> list[Still]:
    """A frame of each clip in the middle of bsqcodec's qualities beside x265, or beside another anchor without it."""
    from bsqcodec.bench.codecs import OURS, codec
    from bsqcodec.bench.stills import Still

    anchors = sorted(opts["anchors"], key=lambda spec: not spec.startswith("x265"))
    if not anchors:
        return []
    first = next(task.codec for task in tasks if task.codec.name == OURS)
    chosen: dict[str, list[Task]] = {}
    for task in tasks:
        if task.codec == first:
            chosen.setdefault(task.clip.name, []).append(task)
    middle = [sorted(of_clip, key=lambda t: t.quality)[len(of_clip) // 2] for of_clip in chosen.values()]
    return [Still(task, codec(anchors[0])) for task in middle]


def _finish(terminal: Terminal, outcome: Outcome, stills: list[Still], opts: dict[str, Any]) -> None:
    """Tables, plots, the report; then what the user sees of them."""
    from bsqcodec.bench.html import write_report
    from bsqcodec.bench.plots import write_plots
    from bsqcodec.bench.tables import write_csv
    from bsqcodec.cli.bench_display import print_table, summary

    out: Path = opts["out"]
    records = outcome.records
    write_csv(out / "results.csv", records)
    write_plots(out, records)
    pictures = [picture for still in stills if (picture := still.picture(out)) is not None]
    about = _about(opts, outcome)
    report = write_report(out, records, pictures, about)
    for note in about["notes"]:
        terminal.line(f"broken promise: {note}")
    first = opts["anchors"][0] if opts["anchors"] else None
    if terminal.json:
        done = summary(records, first) if first else {}
        terminal.data(
            {
                "type": "done",
                "points": len(records),
                "measured": outcome.measured,
                "failures": outcome.failures,
                "report": str(report),
                **done,
            }
        )
    elif first:
        print_table(records, first)
    terminal.say(f"report: {report}")
    if outcome.failures:
        for failure in outcome.failures:
            terminal.line(f"failed: {failure}")
        raise BsqError(f"{len(outcome.failures)} points failed; the report is made from the others, run again to retry")


def _about(opts: dict[str, Any], outcome: Outcome) -> dict[str, Any]:
    from bsqcodec.bench.catalogue import DATASETS
    from bsqcodec.bench.promises import broken_promises

    known = DATASETS.get(opts["dataset"])
    about: dict[str, Any] = {
        "dataset": known.title if known else Path(opts["dataset"]).name,
        "command": shlex.join(["bsqcodec", *sys.argv[1:]]),
        "failures": outcome.failures,
        "notes": broken_promises(outcome.records),
    }
    if known:
        about |= {"home": known.home, "licence": known.licence}
    if opts["anchors"]:
        about["anchor"] = opts["anchors"][0] if ":" in opts["anchors"][0] else f"{opts['anchors'][0]}:paper"
    return about
