"""`bsqcodec compare`.

The table goes to stdout. With --json there is one object per line instead, told apart by "type": "progress", a "file"
for each FILE when it is done, and as the last line "done" or "error"; see docs/json.md.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from bsqcodec.cli.options import IO, QUALITY, SETTINGS, chosen_device, device_options, examples, talk_options
from bsqcodec.cli.terminal import Terminal
from bsqcodec.errors import UsageError

if TYPE_CHECKING:
    from bsqcodec.bench.compare import Compared, Options

# Metric of the record -> heading of its column and digits after the point.
COLUMNS = {
    "psnr_y": ("PSNR Y", 2),
    "psnr_u": ("U", 2),
    "psnr_v": ("V", 2),
    "psnr_yuv": ("YUV", 2),
    "psnr_rgb": ("RGB", 2),
    "ms_ssim_y": ("MS-SSIM Y", 5),
    "ms_ssim_y_db": ("in dB", 2),
    "xpsnr_y": ("XPSNR Y", 2),
    "vmaf": ("VMAF", 2),
}
MIN_WIDTH = 140  # columns; without a terminal, and in a narrow one, lines are long rather than cut


def _families(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
    if not names:
        raise click.BadParameter("name at least one metric", ctx, param)
    return names


@click.command(
    context_settings=SETTINGS,
    epilog=examples(
        "bsqcodec compare in.mp4 out.bsq x265.mkv", "bsqcodec compare in.mp4 out.bsq --picture out.png --frame 12"
    ),
)
@click.argument("original", metavar="ORIGINAL", type=click.Path())
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path())
@click.option(
    "--skip",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Leave out the first N frames of ORIGINAL; for files that begin there, as after encode --skip.",
    panel=IO,
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Compare the first N frames.", panel=IO)
@click.option(
    "--picture", type=click.Path(dir_okay=False, path_type=Path), metavar="PNG", help="Write a frame of each.", panel=IO
)
@click.option(
    "--frame",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Number of that frame, from the first compared = 0.",
    panel=IO,
)
@click.option("-y", "--overwrite", is_flag=True, help="Replace the picture if it exists.", panel=IO)
@click.option(
    "--metrics",
    default="psnr,ms-ssim",
    metavar="LIST",
    callback=_families,
    help="Any of psnr, ms-ssim, xpsnr, vmaf.",
    panel=QUALITY,
)
@device_options
@talk_options
@click.pass_context
def compare(ctx: click.RichContext, /, **opts: Any) -> None:
    """Compare decoded videos or .bsq files with their original.

    ORIGINAL and every FILE are videos that FFmpeg reads, or .bsq files, of one size and length. Bytes are those of
    the whole FILE. PSNR is the mean over frames; YUV is (6Y+U+V)/8.
    """
    terminal: Terminal = ctx.obj
    if opts["quiet"] and opts["verbose"]:
        raise click.UsageError("-q and -v contradict each other; give one", ctx)
    terminal.configure(quiet=opts["quiet"], verbose=opts["verbose"], json=opts["json"])
    picture: Path | None = opts["picture"]
    if picture is not None and picture.suffix.lower() != ".png":
        raise UsageError(f"{picture}: a picture is written as PNG; give it a name that ends in .png")
    from bsqcodec.bench.compare import Options
    from bsqcodec.bench.quality import check_families
    from bsqcodec.outputs import AtomicOutput

    check_families(opts["metrics"])
    options = Options(
        metrics=opts["metrics"],
        skip=opts["skip"],
        limit=opts["limit"],
        frame=None if picture is None else opts["frame"],
        device=chosen_device(ctx),
        threads=opts["threads"],
        weights=opts["weights"],
    )
    output = nullcontext() if picture is None else AtomicOutput(picture, overwrite=opts["overwrite"])
    with output as target:
        results = _compare_all(terminal, opts["original"], opts["files"], options)
        if target is not None:
            _write_picture(target.part, results)
    if terminal.json:
        terminal.data({"type": "done", "files": len(results), "picture": None if picture is None else str(picture)})
    else:
        _print_table(results)


def _compare_all(terminal: Terminal, original: str, files: tuple[str, ...], options: Options) -> list[Compared]:
    from bsqcodec.bench.compare import compare_file, frames_of
    from bsqcodec.cli.display import Display
    from bsqcodec.progress import ProgressMeter

    total = frames_of(original, options)
    results, done = [], 0
    with Display(terminal, "compared") as display:
        meter = ProgressMeter(display, rate=Fraction(1), total=None if total is None else total * len(files))

        def tick() -> None:
            nonlocal done
            done += 1
            meter.report(done)

        for file in files:
            results.append(compare_file(original, file, options, tick))
            if terminal.json:
                terminal.data({"type": "file", **results[-1].to_dict()})
    return results


def _write_picture(path: Path, results: list[Compared]) -> None:
    from bsqcodec.bench.pictures import Coded, sheet_of

    coded = [(Coded(Path(r.file).name, r.bytes, r.bpp), r.kept.decoded) for r in results if r.kept is not None]
    kept = results[0].kept
    assert kept is not None  # or `compare_file` had raised an error
    sheet_of(coded, kept.original, matrix=kept.matrix, full_range=kept.full_range).save(path, "png")


def _print_table(results: list[Compared]) -> None:
    from rich.console import Console
    from rich.table import Table

    from bsqcodec.bench.compare import value_text

    shown = [metric for metric in COLUMNS if any(metric in result.metrics for result in results)]
    table = Table(header_style="bold")
    table.add_column("file", overflow="fold")
    for name in ("frames", "bytes", "kbit/s", "bpp", *(COLUMNS[metric][0] for metric in shown)):
        table.add_column(name, justify="right", no_wrap=True)
    for r in results:
        rate = ["-", "-"] if r.kbps is None or r.bpp is None else [f"{r.kbps:,.1f}", f"{r.bpp:.4f}"]
        values = [value_text(r, metric, COLUMNS[metric][1]) for metric in shown]
        table.add_row(r.file, str(r.frames), f"{r.bytes:,}", *rate, *values)
    console = Console(file=sys.stdout, highlight=False, markup=False)
    console.width = max(console.width, MIN_WIDTH)
    console.print(table)
