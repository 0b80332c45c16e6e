"""Charts of the report as inline SVG, every text in them escaped.

All colours come from the page's style sheet, so that charts are readable in light and dark: a codec's lines and markers
have the class `codec` and its two colours as the variables --light and --dark; axes and text use the page's own.
Sizes are in the user units of the view box, which the page scales to its column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from bsqcodec.bench.plots import rate_ticks
from bsqcodec.bench.series import style

R = 3.6  # radius of a marker
LEFT, RIGHT, TOP, BOTTOM = 46.0, 10.0, 10.0, 40.0  # margins around the axes
MAX_FRAMES = 128  # of a chart of bits per frame: more would be a grey band


@dataclass(frozen=True)
class Point:
    """x: rate in bpp; y: quality in dB; text: what a tooltip says."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class _Scale:
    """From values to user units: `place(value)` is linear or logarithmic."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def place(self, value: float) -> float:
        low, high, at = (
            (math.log(v) for v in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        )
        return self.start + (at - low) / (high - low) * (self.stop - self.start)


def rd_chart(curves: Mapping[str, list[Point]], *, title: str, y_label: str, width: int, height: int) -> str:
    """Quality over rate, the rate logarithmic with ticks that double; curves: points by codec key, rising rate."""
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return _svg(title, width, height, [_text(width / 2, height / 2, "no point", "middle")])
    x_low, x_high = min(p.x for p in points), max(p.x for p in points)
    x_pad = max((x_high / x_low) ** 0.04, 1.02)
    y_low, y_high = min(p.y for p in points), max(p.y for p in points)
    y_pad = max(0.05 * (y_high - y_low), 0.1)
    x = _Scale(x_low / x_pad, x_high * x_pad, LEFT, width - RIGHT, log=True)
    y = _Scale(y_low - y_pad, y_high + y_pad, height - BOTTOM, TOP)
    parts = _axes(
        x,
        y,
        [(v, f"{v:.3g}") for v in rate_ticks(x_low, x_high, width // 62)],
        [(v, f"{v:g}") for v in linear_ticks(y.low, y.high, height // 45)],
        "rate in bit per pixel (logarithmic)",
        y_label,
    )
    for codec, curve in curves.items():
        placed = [(x.place(p.x), y.place(p.y)) for p in curve]
        if not placed:
            continue
        marks = [_marker(codec, at, p.text) for at, p in zip(placed, curve, strict=True)]
        parts.append(_group(codec, [_line(codec, placed), *marks]))
    return _svg(title, width, height, parts)


def bits_chart(series: Mapping[str, Sequence[float]], *, title: str, width: int, height: int) -> str:
    """Bits of each frame as steps, logarithmic; series: kbit per frame in display order, by codec key.

    Shows `MAX_FRAMES` frames at most; a frame of no bits is drawn at the bottom.
    """
    series = {codec: values[:MAX_FRAMES] for codec, values in series.items()}
    positive = [value for values in series.values() for value in values if value > 0]
    if not positive:
        return _svg(title, width, height, [_text(width / 2, height / 2, "no frame", "middle")])
    low, high = min(positive) / 1.2, max(positive) * 1.2
    count = max(map(len, series.values()))
    x, y = _Scale(0, count, LEFT, width - RIGHT), _Scale(low, high, height - BOTTOM, TOP, log=True)
    numbers = linear_ticks(0, count - 1, min(count - 1, width // 62)) or [0]
    ticks = [(number + 0.5, f"{number:g}") for number in numbers]
    parts = _axes(x, y, ticks, [(v, f"{v:g}") for v in log_ticks(low, high)], "frame", "kbit per frame (logarithmic)")
    for codec, values in series.items():
        steps = []
        for frame, value in enumerate(values):
            level = y.place(max(value, low))
            steps += [(x.place(frame), level), (x.place(frame + 1), level)]
        parts.append(_group(codec, [_line(codec, steps)]))
    return _svg(title, width, height, parts)


def swatch(codec: str) -> str:
    """The line and the marker of a codec, for legends."""
    parts = [_line(codec, [(1.0, 7.0), (41.0, 7.0)]), _marker(codec, (21.0, 7.0), "")]
    body = _group(codec, parts)
    return f'<svg class="swatch" viewBox="0 0 42 14" width="42" height="14" aria-hidden="true">{body}</svg>'


def linear_ticks(low: float, high: float, most: int) -> list[float]:
    """At most about `most` round numbers within low..high, 1, 2 or 5 times a power of ten apart."""
    span = high - low
    if span <= 0:
        return []
    rough = span / max(1, most)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within low..high, or the powers alone when that would be more than six."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1,)):
        ticks = [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]
        if len(ticks) <= 6:
            break
    return ticks or [low, high]


def _axes(
    x: _Scale,
    y: _Scale,
    x_ticks: Iterable[tuple[float, str]],
    y_ticks: Iterable[tuple[float, str]],
    x_label: str,
    y_label: str,
) -> list[str]:
    bottom, middle_x, middle_y = y.start, (x.start + x.stop) / 2, (y.start + y.stop) / 2
    parts = []
    for value, text in x_ticks:
        at = x.place(value)
        parts.append(f'<path class="grid" d="M{at:.1f} {y.stop:.1f}V{bottom:.1f}"/>')
        parts.append(_text(at, bottom + 15, text, "middle"))
    for value, text in y_ticks:
        at = y.place(value)
        parts.append(f'<path class="grid" d="M{x.start:.1f} {at:.1f}H{x.stop:.1f}"/>')
        parts.append(_text(x.start - 6, at + 4, text, "end"))
    parts.append(f'<path class="axis" d="M{x.start:.1f} {y.stop:.1f}V{bottom:.1f}H{x.stop:.1f}"/>')
    parts.append(_text(middle_x, bottom + 33, x_label, "middle"))
    turned = f'transform="rotate(-90 12 {middle_y:.1f})"'
    parts.append(f'<text x="12" y="{middle_y:.1f}" text-anchor="middle" {turned}>{escape(y_label)}</text>')
    return parts


def _svg(title: str, width: int, height: int, parts: Iterable[str]) -> str:
    name = escape(title)
    body = "".join(parts)
    return f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{name}">{body}</svg>'


def _group(codec: str, parts: Iterable[str]) -> str:
    look = style(codec)
    body = "".join(parts)
    return f'<g class="codec" style="--light:{look.colour};--dark:{look.dark}">{body}</g>'


def _line(codec: str, points: Sequence[tuple[float, float]]) -> str:
    look = style(codec)
    dash = f' stroke-dasharray="{" ".join(f"{d:g}" for d in look.dash)}"' if look.dash else ""
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path class="line" d="M{path}" stroke-width="{look.width:g}"{dash}/>'


def _marker(codec: str, at: tuple[float, float], text: str) -> str:
    look = style(codec)
    kind = "full" if look.filled else "hollow"
    tooltip = f"<title>{escape(text)}</title>" if text else ""
    return f'<path class="mark {kind}" d="{_SHAPES[look.marker](*at)}">{tooltip}</path>'


def _polygon(corners: int, radius: float, turn: float) -> Callable[[float, float], str]:
    angles = [math.radians(turn + 360 * i / corners) for i in range(corners)]
    return lambda x, y: (
        "M" + "L".join(f"{x + radius * math.cos(a):.1f} {y + radius * math.sin(a):.1f}" for a in angles) + "Z"
    )


def _circle(x: float, y: float) -> str:
    return f"M{x - R:.1f} {y:.1f}a{R} {R} 0 1 0 {2 * R} 0a{R} {R} 0 1 0 {-2 * R} 0Z"


_SHAPES: dict[str, Callable[[float, float], str]] = {
    "circle": _circle,
    "square": _polygon(4, R * 1.3, 45),
    "triangle": _polygon(3, R * 1.35, -90),
    "diamond": _polygon(4, R * 1.3, 0),
    "pentagon": _polygon(5, R * 1.2, -90),
}


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
