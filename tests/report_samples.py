"""Made-up but plausible records of a benchmark, and pictures of the demo clip, for the tests of the report."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "benchmarks" / "data" / "bee_640x360.mp4"

# Name, dB at 0.05 bpp, dB per octave. The last name is what an escape must survive.
CLIPS = (("bee", 36.0, 1.9), ("flower", 33.0, 2.2), ('<b>"R&D\'s" clip</b>', 38.5, 1.6))
# Rate against x264:paper at equal quality, label, options, library.
CODECS = {
    "bsqcodec:psnr": (1.3, "bsqcodec, tune psnr", "tune=psnr keyint=32", "bsqcodec 0.1.0, weights 1a2b3c4d"),
    "x264:paper": (1.0, "x264 medium, no B-frames", "-c:v libx264 -preset medium -bf 0 -threads 1", "x264 core 165"),
    "x265:paper": (0.72, "x265 medium, no B-frames", "-c:v libx265 -preset medium -x265-params bframes=0", "x265 4.1"),
    "x265:best": (0.55, "x265 slow, B-frames", "-c:v libx265 -preset slow -tune psnr -g 32", "x265 4.1"),
}
FRAMES = 32
QUALITIES = {"bsqcodec": (20, 25, 30, 35, 40), "x264": (17, 22, 27, 32, 37), "x265": (17, 22, 27, 32, 37)}


def record(clip: str, codec: str, quality: float, bpp: float, psnr: float) -> dict[str, Any]:
    """One point of contract "bsqcodec-bench-point/1"; every metric follows from `psnr` (dB of the luma)."""
    name, _, setting = codec.partition(":")
    _, label, options, library = CODECS[codec]
    width, height, size = 640, 360, round(bpp * 640 * 360 * FRAMES / 8)
    ssim_db = psnr / 2 - 1
    values = {"psnr_y": psnr, "psnr_u": psnr + 5, "psnr_v": psnr + 6, "psnr_yuv": psnr + 1.375, "psnr_rgb": psnr - 1.5}
    values |= {"ms_ssim_y": 1 - 10 ** (-ssim_db / 10), "ms_ssim_y_db": ssim_db}
    metrics = {
        key: {"mean": value, "min": value * 0.97, "harmonic": value * 0.999, "frames": [value] * FRAMES}
        for key, value in values.items()
    }
    speed = {"bsqcodec": (2.5, 7.1, 900.0), "x264": (91.0, 400.0, 120.0), "x265": (24.0, 300.0, 160.0)}[name]
    return {
        "schema": "bsqcodec-bench-point/1",
        "clip": {
            "name": clip,
            "width": width,
            "height": height,
            "fps": "30000/1001",
            "frames": FRAMES,
            "sha256": "ab" * 32,
        },
        "codec": {"name": name, "setting": setting, "label": label, "options": options, "library": library},
        "quality": float(quality),
        "keyint": 32,
        "threads": 1,
        "bytes": size,
        "bpp": size * 8 / (width * height * FRAMES),
        "kbps": size * 8 * (30000 / 1001) / FRAMES / 1000,
        "frame_bits": _frame_bits(size * 8),
        "encode": {"seconds": FRAMES / speed[0], "fps": speed[0], "peak_mib": speed[2]},
        "decode": {"seconds": FRAMES / speed[1], "fps": speed[1], "peak_mib": speed[2] / 2},
        "metrics": metrics,
        "machine": {"cpu": "AMD EPYC", "cores": 2, "python": "3.11.2", "bsqcodec": "0.1.0", "commit": "abc1234"},
        "made": "2026-11-23T00:10:00+00:00",
    }


def _frame_bits(total: int) -> list[int]:
    """A key frame of a third of the bits, then smaller frames of uneven size."""
    weights = [1 + 0.4 * math.sin(i) for i in range(FRAMES - 1)]
    rest = total * 2 / 3
    return [total // 3, *(int(rest * weight / math.fsum(weights)) for weight in weights)]


def records() -> list[dict[str, Any]]:
    """3 clips x 4 codecs x 5 qualities; bsqcodec needs 1.3 times the rate of x264:paper, x265 0.72 and 0.55 times."""
    made = []
    for (clip, at, slope), (codec, (factor, *_)) in itertools.product(CLIPS, CODECS.items()):
        for step, quality in enumerate(QUALITIES[codec.partition(":")[0]]):
            octaves = 2.0 - step
            bpp = 0.05 * 2**octaves * factor
            made.append(record(clip, codec, quality, bpp, at + slope * octaves - 0.06 * octaves**2))
    return made


def frames(count: int = 2) -> list[Any]:
    """The first frames of the demo clip, as `bsqcodec.frames.Frame`."""
    from bsqcodec.frames import Frame
    from bsqcodec.video import open_video

    with open_video(CLIP, limit=count) as video:
        return [event for event in video if isinstance(event, Frame)]


def coarser(frame: Any, step: int) -> Any:
    """The frame with its samples rounded to multiples of `step`: something that looks and measures worse."""
    from dataclasses import replace

    planes = {p: ((getattr(frame, p).astype(int) + step // 2) // step * step).clip(0, 255) for p in "yuv"}
    return replace(frame, **{p: plane.astype(np.uint8) for p, plane in planes.items()})


def without(records: list[dict[str, Any]], codec: str, clip: str, keep: int) -> list[dict[str, Any]]:
    """The records, with only `keep` points of one codec on one clip."""
    chosen = [
        r for r in records if f"{r['codec']['name']}:{r['codec']['setting']}" == codec and r["clip"]["name"] == clip
    ]
    return [r for r in records if r not in chosen[keep:]]


def picture() -> Any:
    """Frame 7 of the clip with the nasty name, in three versions."""
    from bsqcodec.bench import pictures

    frame = frames(1)[0]
    coded = pictures.Coded("bsqcodec:psnr, crf 30", 12345, 0.0123), pictures.Coded("x265:paper <&>", 12300, 0.0122)
    worse = coarser(frame, 8), coarser(frame, 20)
    return pictures.make_picture(CLIPS[2][0], 7, frame, *worse, ours_is=coded[0], other_is=coded[1])
