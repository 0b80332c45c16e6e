"""The 30-second look: encode the shipped clip, decode it, compare with x264 at the same size, draw a picture.

bin/demo runs it and writes to demo_out/; see benchmarks/data/README.md for the clip.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import x264
from pictures import Panel, side_by_side
from rich.console import Console
from rich.table import Table

import bsqcodec
from bsqcodec.errors import BsqError
from bsqcodec.frames import Frame
from bsqcodec.metrics import Quality, compare

ROOT = Path(__file__).resolve().parent.parent
CLIP = Path("benchmarks/data/bee_640x360.mp4")  # in ROOT
CROP = (330, 130, 160, 90)  # x, y, width, height in px of the part that is shown enlarged
SHOWN = 24  # frame in the picture
TABLE_WIDTH = 122  # columns; a narrower terminal wraps lines rather than losing digits


@dataclass(frozen=True)
class Result:
    """One row of the table. size in bytes; speeds in frames per second; shown: frame `SHOWN`, decoded."""

    name: str
    size: int
    quality: Quality
    encode_fps: float
    decode_fps: float
    shown: Frame


def run_bsqcodec(frames: list[Frame], crf: float, out: Path, console: Console) -> Result:
    """Encode the clip and decode the file, as the two commands that are printed would."""
    stream, raw = out / f"bee_crf{crf:g}.bsq", out / f"bee_crf{crf:g}.y4m"
    console.print(f"bsqcodec encode {CLIP} demo_out/{stream.name} --crf {crf:g}", style="bold")
    made = bsqcodec.encode(ROOT / CLIP, stream, crf=crf, overwrite=True)
    console.print(f"bsqcodec decode demo_out/{stream.name} demo_out/{raw.name}", style="bold")
    read = bsqcodec.decode(stream, raw, overwrite=True)
    decoded = list(x264.read_frames(raw))
    raw.unlink()  # 17 MB of raw video
    quality = compare(frames, decoded, ms_ssim=True)
    name = f"bsqcodec --crf {crf:g}"
    return Result(name, stream.stat().st_size, quality, made.fps, read.fps, decoded[min(SHOWN, len(decoded) - 1)])


def run_x264(frames: list[Frame], rate: Fraction, size: int, bframes: int | None) -> Result:
    """x264 medium at the crf whose file comes nearest to `size` bytes."""
    crf = x264.encode_to_size(frames, rate, size, bframes=bframes).crf
    start = time.perf_counter()
    made = x264.encode(frames, rate, crf, bframes=bframes)
    encoded = time.perf_counter()
    decoded = list(x264.decode(made.data))
    seconds = time.perf_counter() - encoded
    quality = compare(frames, decoded, ms_ssim=True)
    name = f"x264 medium{'' if bframes is None else f' -bf {bframes}'} -crf {crf:g}"
    speeds = len(frames) / (encoded - start), len(frames) / seconds
    return Result(name, len(made.data), quality, *speeds, decoded[min(SHOWN, len(decoded) - 1)])


def print_table(results: list[Result], console: Console) -> None:
    table = Table(title=f"{CLIP.name}: {results[0].quality.frames} frames", header_style="bold")
    for name in ("", "bytes", "bpp", "PSNR Y", "U", "V", "(6Y+U+V)/8", "MS-SSIM", "enc fps", "dec fps"):
        table.add_column(name, justify="right" if name else "left")
    for r in results:
        q = r.quality
        planes = [f"{value:.2f}" for value in (q.psnr_y, q.psnr_u, q.psnr_v, q.psnr)]
        ms_ssim = "-" if q.ms_ssim is None else f"{q.ms_ssim:.4f}"
        bpp = r.size * 8 / (q.frames * r.shown.y.size)
        speeds = [f"{value:.1f}" for value in (r.encode_fps, r.decode_fps)]
        is_ours = r.name.startswith("bsqcodec")
        cells = [r.name, f"{r.size:,}", f"{bpp:.4f}", *planes, ms_ssim, *speeds]
        table.add_row(*cells, style="bold" if is_ours else "", end_section=r.name == results[-1].name)
    console.print(table)
    console.print(
        "x264: one thread, crf chosen for the size of the bsqcodec file above it. PSNR in dB, mean over frames."
    )


def panel(title: str, result: Result) -> Panel:
    q = result.quality
    return Panel(f"{title}: {result.size:,} bytes, {q.psnr:.2f} dB (6Y+U+V)/8", result.shown)


def demo(out: Path, crfs: list[float], limit: int | None, console: Console) -> None:
    """Table and picture; the picture shows the last (smallest) of the crfs."""
    out.mkdir(parents=True, exist_ok=True)
    frames = list(x264.read_frames(ROOT / CLIP, limit))
    rate = x264.read_rate(ROOT / CLIP)
    results: list[Result] = []
    for crf in crfs:
        ours = run_bsqcodec(frames, crf, out, console)
        results += [ours, run_x264(frames, rate, ours.size, 0), run_x264(frames, rate, ours.size, None)]
    print_table(results, console)
    ours, anchor = results[-3], results[-2]
    source = Panel("original", frames[min(SHOWN, len(frames) - 1)])
    picture = out / "side_by_side.png"
    side_by_side([source, panel(ours.name, ours), panel(anchor.name, anchor)], CROP).save(picture)
    stream = out / f"bee_crf{crfs[-1]:g}.bsq"
    console.print(f"bsqcodec info demo_out/{stream.name}", style="bold")
    info = [sys.executable, "-m", "bsqcodec", "info", str(stream.resolve())]
    done = subprocess.run(info, cwd=ROOT, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise BsqError(f"{stream}: bsqcodec info ended with exit code {done.returncode}; see its message above")
    console.print(f"picture: {picture}", soft_wrap=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "demo_out", help="folder for the files and the picture")
    parser.add_argument("--crf", type=float, nargs="+", default=[24.0, 32.0])
    args = parser.parse_args(argv)
    console = Console(width=max(Console().width, TABLE_WIDTH))
    start = time.perf_counter()
    try:
        demo(args.out, args.crf, None, console)
    except (BsqError, OSError) as error:
        console.print(f"error: {error}", markup=False)
        return error.exit_code if isinstance(error, BsqError) else 1
    console.print(f"done in {time.perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
