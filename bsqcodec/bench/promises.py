"""What bsqcodec promises of its curves, checked on measured points."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from bsqcodec.bench.codecs import OURS
from bsqcodec.bench.point import Record
from bsqcodec.bench.series import clips_of, codec_of, codecs_of

TOLERANCE = 0.01  # dB between the PSNR that the encoder reports and that of the decoded file


def broken_promises(records: Iterable[Record]) -> list[str]:
    """What is wrong, a line each: rate and PSNR fall as the crf rises; the encoder reports the decoded file's PSNR."""
    records = list(records)
    wrong = []
    for clip in clips_of(records):
        for codec in (c for c in codecs_of(records) if c.startswith(f"{OURS}:")):
            points = [r for r in records if r["clip"]["name"] == clip and codec_of(r) == codec]
            wrong += [f"{clip} {codec}: {line}" for line in _of_a_curve(sorted(points, key=lambda r: r["quality"]))]
    return wrong


def _of_a_curve(points: list[Record]) -> list[str]:
    wrong = []
    for low, high in pairwise(points):
        step = f"from crf {low['quality']:g} to {high['quality']:g}"
        if high["bytes"] >= low["bytes"]:
            wrong.append(f"the rate does not fall {step} ({low['bytes']} and {high['bytes']} bytes)")
        before, after = _psnr(low), _psnr(high)
        if before is not None and after is not None and after >= before:
            wrong.append(f"the PSNR does not fall {step} ({before:.3f} and {after:.3f} dB)")
    for point in points:
        reported, found = point.get("reported_psnr_yuv"), _psnr(point)
        if reported is not None and found is not None and abs(reported - found) > TOLERANCE:
            wrong.append(f"crf {point['quality']:g}: {reported:.3f} dB reported, {found:.3f} dB decoded")
    return wrong


def _psnr(point: Record) -> float | None:
    value = point["metrics"].get("psnr_yuv", {}).get("mean")
    return None if value is None else float(value)
