"""What a set of point records holds: its clips, its codecs, the curves between them, and how each codec is drawn.

A record is one measured point (schema "bsqcodec-bench-point/1"). A codec is named by its key, "x265:paper": the
name of the codec and of its setting.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bsqcodec.metrics import PSNR_CAP

Record = dict[str, Any]
Curve = list[tuple[float, float]]  # (rate in bit per pixel, quality), by growing rate

OURS = "bsqcodec"
# The metrics that curves and BD-rates are made of, all in dB, and their names for people.
METRICS = {"psnr_yuv": "PSNR (6Y+U+V)/8", "ms_ssim_y_db": "MS-SSIM (Y)", "psnr_rgb": "PSNR (RGB)"}
SHORT = {"psnr_yuv": "PSNR", "ms_ssim_y_db": "MS-SSIM", "psnr_rgb": "PSNR RGB"}  # the same, for buttons
_ORDER = (OURS, "x264", "x265", "svtav1")
_PRESETS: dict[str, tuple[float, ...]] = {"": (), "-fast": (1.5, 2.5), "-slow": (8, 3)}
_SETTINGS = (*(f"{tune}{preset}" for tune in ("psnr", "ms-ssim") for preset in _PRESETS), "paper", "lowdelay", "best")


@dataclass(frozen=True)
class Style:
    """How a codec is drawn: told apart by colour, marker and dashes at once, so that none of them is needed alone.

    colour: palette entry of Okabe and Ito (https://jfly.uni-koeln.de/color/), for a white background; dark: a
    lighter tone of it for a dark one. marker: "circle", "square", "triangle", "diamond", "pentagon"; filled or
    hollow. dash: lengths of dashes and gaps in px, () = solid. width: of the line in px.
    """

    colour: str
    dark: str
    marker: str
    filled: bool
    dash: tuple[float, ...]
    width: float


_COLOURS = {
    OURS: ("#d55e00", "#ff8f45", "circle"),  # vermilion
    "x264": ("#0072b2", "#5cb8f0", "square"),  # blue
    "x265": ("#009e73", "#33c79b", "triangle"),  # bluish green
    "svtav1": ("#cc79a7", "#e79cc6", "diamond"),  # reddish purple
}
_OTHER = ("#8a6d00", "#e6b800", "pentagon")
_DASHES: dict[str, tuple[float, ...]] = {
    **{f"psnr{preset}": dash for preset, dash in _PRESETS.items()},
    **{f"ms-ssim{preset}": dash or (4, 2) for preset, dash in _PRESETS.items()},
    **{"paper": (6, 3), "lowdelay": (2, 2), "best": (9, 2, 2, 2)},
}
_FILLED = {"psnr", "psnr-fast", "psnr-slow", "best"}


def style(codec: str) -> Style:
    """The look of a codec; the same in every plot and every report."""
    name, _, setting = codec.partition(":")
    colour, dark, marker = _COLOURS.get(name, _OTHER)
    return Style(colour, dark, marker, setting in _FILLED, _DASHES.get(setting, (4, 2)), 2.2 if name == OURS else 1.5)


def codec_of(record: Record) -> str:
    """The key of a record's codec: "x265:paper"."""
    return f"{record['codec']['name']}:{record['codec']['setting']}"


def clips_of(records: Iterable[Record]) -> list[str]:
    """Names of the clips, in the order of the records."""
    return list(dict.fromkeys(str(r["clip"]["name"]) for r in records))


def codecs_of(records: Iterable[Record]) -> list[str]:
    """Keys of the codecs: bsqcodec first, then the anchors by age, each with its settings from plain to best."""
    return sorted({codec_of(r) for r in records}, key=_rank)


def _rank(codec: str) -> tuple[int, int, str]:
    name, _, setting = codec.partition(":")
    return (
        _ORDER.index(name) if name in _ORDER else len(_ORDER),
        _SETTINGS.index(setting) if setting in _SETTINGS else len(_SETTINGS),
        codec,
    )


def is_ours(codec: str) -> bool:
    """True for bsqcodec, whatever its setting."""
    return codec.partition(":")[0] == OURS


def default_anchor(records: Iterable[Record]) -> str | None:
    """What rates are compared with when nothing else is said: x264:paper, or else the first codec that is not ours."""
    others = [c for c in codecs_of(records) if not is_ours(c)]
    return "x264:paper" if "x264:paper" in others else next(iter(others), None)


def label_of(records: Iterable[Record], codec: str) -> str:
    """The codec's name for people, as its records give it; the key when they give none."""
    return next((str(r["codec"]["label"]) for r in records if codec_of(r) == codec and r["codec"].get("label")), codec)


def number(value: Any) -> float | None:
    """A number of a record: "inf" is infinity, a missing value is None."""
    return None if value is None else float(value)


def quality_of(record: Record, metric: str) -> float | None:
    """The mean of a metric over a clip's frames, None when it was not measured."""
    return number(record["metrics"].get(metric, {}).get("mean"))


def points_of(records: Iterable[Record], clip: str, codec: str) -> list[Record]:
    """The records of one clip and codec by growing rate."""
    chosen = [r for r in records if r["clip"]["name"] == clip and codec_of(r) == codec]
    return sorted(chosen, key=lambda r: float(r["bpp"]))


def curve_of(records: Iterable[Record], clip: str, codec: str, metric: str) -> Curve:
    """The rate-distortion curve of one clip; see `on_curve`."""
    pairs = ((float(r["bpp"]), quality_of(r, metric)) for r in points_of(records, clip, codec))
    return [(rate, quality) for rate, quality in pairs if quality is not None and on_curve(quality)]


def on_curve(quality: float) -> bool:
    """Whether a quality in dB is a point of a curve: identical video, which counts as 100 dB, is not."""
    return quality < PSNR_CAP


def mean_curve(records: Iterable[Record], codec: str, metric: str) -> Curve:
    """Mean rate and mean quality over all clips, one point per quality setting that every clip has.

    For looking at only: BD-rates are computed per clip and then averaged.
    """
    records = list(records)
    clips = set(clips_of(records))
    by_setting: dict[float, dict[str, tuple[float, float]]] = {}
    for record in records:
        quality = quality_of(record, metric)
        if codec_of(record) == codec and quality is not None and on_curve(quality):
            point = by_setting.setdefault(float(record["quality"]), {})
            point[record["clip"]["name"]] = (float(record["bpp"]), quality)
    complete = [list(points.values()) for points in by_setting.values() if points.keys() == clips]
    return sorted((_mean(r for r, _ in points), _mean(q for _, q in points)) for points in complete)


def _mean(values: Iterable[float]) -> float:
    items = list(values)
    return math.fsum(items) / len(items)
