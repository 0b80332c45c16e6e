"""`bsqcodec view`.

With --json there is one object per line on stdout, told apart by "type": "progress", with --serve one "serving", and
as the last line "done" or "error"; see docs/json.md.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from bsqcodec.cli.exits import Terminated
from bsqcodec.cli.options import IO, SETTINGS, chosen_device, device_options, examples, overwrite_option, talk_options
from bsqcodec.cli.terminal import Terminal
from bsqcodec.errors import UsageError

if TYPE_CHECKING:
    from bsqcodec.view import Options, Viewed

WHAT = "What to show"
FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(
    context_settings=SETTINGS,
    epilog=examples("bsqcodec view out.bsq in.mp4 --serve", "bsqcodec view out.bsq --heatmap bits.png --frame 12"),
)
@click.argument("path", metavar="FILE", type=click.Path(dir_okay=False))
@click.argument("original", metavar="[ORIGINAL]", type=click.Path(dir_okay=False), required=False)
@click.option(
    "-o", "--out", type=FILE, metavar="HTML", help="The page; FILE with .html at its end without it.", panel=IO
)
@overwrite_option
@click.option("--serve", is_flag=True, help="Serve the page to this machine until Ctrl-C.", panel=IO)
@click.option("--port", type=click.IntRange(0, 65535), default=0, metavar="N", help="Where to, 0 = any free.", panel=IO)
@click.option(
    "--skip", type=click.IntRange(0), default=0, metavar="N", help="Leave out the first N frames.", panel=WHAT
)
@click.option("--limit", type=click.IntRange(1), default=300, metavar="N", help="Show N frames at most.", panel=WHAT)
@click.option(
    "--heatmap", type=FILE, metavar="PNG", help="Write the bits of one frame as a picture instead.", panel=WHAT
)
@click.option("--frame", type=click.IntRange(0), default=0, metavar="N", help="Number of that frame.", panel=WHAT)
@device_options
@talk_options
@click.pass_context
def view(ctx: click.RichContext, /, **opts: Any) -> None:
    """Show a .bsq file in a browser, and where its bits went.

    The page plays the decoded video beside ORIGINAL with a divider to drag, and shows bits per frame, bits per token
    and motion. It is one file that needs no network. ORIGINAL is the video that FILE was made from.
    """
    terminal: Terminal = ctx.obj
    if opts["quiet"] and opts["verbose"]:
        raise click.UsageError("-q and -v contradict each other; give one", ctx)
    terminal.configure(quiet=opts["quiet"], verbose=opts["verbose"], json=opts["json"])
    _check_order(opts["path"], opts["original"])
    from bsqcodec.view import Options

    options = Options(opts["skip"], opts["limit"], chosen_device(ctx), opts["threads"], opts["weights"])
    if opts["heatmap"] is not None:
        _heat_map(terminal, opts, options)
        return
    out: Path = opts["out"] or Path(opts["path"]).with_suffix(".html")
    _need_suffix(out, ".html", "a page", "--out")
    viewed = _page(terminal, opts, options, out)
    if opts["serve"]:
        _serve(terminal, out, opts["port"])
    if terminal.json:
        done = {"frames": viewed.frames, "frames_in_file": viewed.frames_in_file, "bytes": viewed.bytes}
        psnr = None if viewed.psnr is None else round(viewed.psnr, 4)
        terminal.data({"type": "done", "page": str(out), "heatmap": None, **done, "psnr": psnr})


def _check_order(path: str, original: str | None) -> None:
    if original is not None and original.lower().endswith(".bsq") and not path.lower().endswith(".bsq"):
        raise UsageError(f"{original}: is the .bsq file; give it first and its original second")


def _need_suffix(path: Path, suffix: str, what: str, option: str) -> None:
    if path.suffix.lower() != suffix:
        raise UsageError(f"{path}: {what} has a name that ends in {suffix}; give {option} such a name")


def _heat_map(terminal: Terminal, opts: dict[str, Any], options: Options) -> None:
    path: Path = opts["heatmap"]
    _need_suffix(path, ".png", "a heat map", "--heatmap")
    if opts["serve"] or opts["out"] is not None or opts["original"] is not None:
        raise UsageError("--heatmap writes a picture and no page; leave out ORIGINAL, --out and --serve")
    from bsqcodec.view import write_heat_map

    seen = write_heat_map(opts["path"], path, opts["frame"], options, overwrite=opts["overwrite"])
    tokens = float(seen.token_bits.sum())
    terminal.say(f"{path}: frame {seen.number}, {tokens:,.0f} bits in tokens, {seen.motion_bits:,.0f} in motion")
    if terminal.json:
        bits = {"token_bits": round(tokens, 1), "motion_bits": round(seen.motion_bits, 1)}
        terminal.data({"type": "done", "page": None, "heatmap": str(path), "frame": seen.number, **bits})


def _page(terminal: Terminal, opts: dict[str, Any], options: Options, out: Path) -> Viewed:
    from bsqcodec.cli.display import Display, size_text
    from bsqcodec.progress import ProgressMeter
    from bsqcodec.view import write_page

    with Display(terminal, "looked at") as display:
        meter: ProgressMeter | None = None

        def tick(done: int, total: int) -> None:
            nonlocal meter
            meter = meter or ProgressMeter(display, rate=Fraction(1), total=total)
            meter.report(done)

        viewed = write_page(opts["path"], out, opts["original"], options, overwrite=opts["overwrite"], on_frame=tick)
    psnr = "" if viewed.psnr is None else f", PSNR {viewed.psnr:.2f} dB"
    some = "; --skip and --limit choose others" if viewed.frames < viewed.frames_in_file else ""
    terminal.say(f"{out}: {viewed.frames} of {viewed.frames_in_file} frames, {size_text(viewed.bytes)}{psnr}{some}")
    return viewed


def _serve(terminal: Terminal, out: Path, port: int) -> None:
    from bsqcodec.view import PageServer

    with PageServer(out, port) as server:
        terminal.say(f"{server.url} shows it; Ctrl-C ends")
        if terminal.json:
            terminal.data({"type": "serving", "url": server.url})
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
        except Terminated:
            raise Terminated(f"{out} is written") from None
