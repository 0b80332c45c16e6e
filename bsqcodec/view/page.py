"""The page: one HTML file with everything in it, `page/view.html` filled in."""

from __future__ import annotations

import base64
import html
import json
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bsqcodec.info import inspect
from bsqcodec.outputs import AtomicOutput, StrPath
from bsqcodec.view.collect import Options, Seen, Viewing
from bsqcodec.view.film import CRF, Film
from bsqcodec.view.heat import COVER, MIN_TOP, STOPS, TICKS

PAGE = Path(__file__).parent / "page"
BIT_PARTS = 8  # token costs are kept in eighths of a bit


@dataclass(frozen=True)
class Viewed:
    """A page that was written: frames on it, frames of the file, its bytes, mean PSNR (6Y+U+V)/8 in dB if known."""

    path: Path
    frames: int
    frames_in_file: int
    bytes: int
    psnr: float | None


class _Frames:
    """What the page needs of each frame, besides its pictures."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.psnr: list[float] = []
        self._bits: list[np.ndarray] = []
        self._vectors: list[np.ndarray] = []

    def add(self, seen: Seen) -> None:
        row = {
            "number": seen.number,
            "time": round(float(seen.time), 6),
            "first": seen.first,
            "tokens": round(float(seen.token_bits.sum()), 1),
            "motion": round(seen.motion_bits, 1),
            "psnr": None if seen.psnr is None else round(seen.psnr, 2),
        }
        self.rows.append(row)
        self.psnr += [] if seen.psnr is None else [seen.psnr]
        self._bits.append(np.clip(np.rint(seen.token_bits * BIT_PARTS), 0, 65535).astype("<u2"))
        self._vectors.append(seen.vectors.astype("<i2"))

    def data(self) -> dict[str, Any]:
        """As JSON types; arrays are deflated, [T, h, w] u16 and [T, h, w, 2] i16."""
        bits = np.stack(self._bits)
        return {
            "frames": self.rows,
            "rows": bits.shape[1],
            "columns": bits.shape[2],
            "top": max(MIN_TOP, float(bits.max()) / BIT_PARTS),
            "bits": _deflated(bits),
            "vectors": _deflated(np.stack(self._vectors)),
        }


def write_page(
    src: StrPath,
    dst: StrPath,
    original: StrPath | None = None,
    options: Options | None = None,
    *,
    overwrite: bool = False,
    on_frame: Callable[[int, int], None] | None = None,
) -> Viewed:
    """Write a page that shows the .bsq file `src`, beside the video it was made from where that is given.

    on_frame: called after every frame with how many are done and how many there will be.
    Raises as `bsqcodec.open`; UsageError where there is no frame to show or the original does not fit; VideoError
    where a file cannot be read or written.
    """
    with (
        AtomicOutput(dst, src=src, overwrite=overwrite) as output,
        Viewing(src, original, options or Options()) as view,
    ):
        frames = _Frames()
        film = _film(view, frames, on_frame)
        values = {**frames.data(), **_constants(view, film)}
        text = _render(view, values, frames)
        output.part.write_text(text, encoding="utf-8")
        psnr = float(np.mean(frames.psnr)) if frames.psnr else None
        return Viewed(Path(dst), view.total, view.frames_in_file, len(text.encode()), psnr)


def _film(view: Viewing, frames: _Frames, on_frame: Callable[[int, int], None] | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bsqcodec-") as folder:
        path = Path(folder) / "film.mp4"
        both = view.original is not None
        with Film(path, view.info, both=both, threads=view.options.threads) as film:
            for done, seen in enumerate(view, 1):
                film.add(seen)
                frames.add(seen)
                if on_frame is not None:
                    on_frame(done, view.total)
        return {"film": base64.b64encode(path.read_bytes()).decode("ascii"), "both": both, "half": film.half}


def _constants(view: Viewing, film: dict[str, Any]) -> dict[str, Any]:
    info = view.info
    return {
        **film,
        "width": info.width,
        "height": info.height,
        "aspect": float(info.sample_aspect_ratio),
        "fps": float(info.fps),
        "bitParts": BIT_PARTS,
        "stops": STOPS,
        "cover": COVER,
        "ticks": TICKS,
    }


def _render(view: Viewing, values: dict[str, Any], frames: _Frames) -> str:
    texts = {"title": html.escape(Path(view.path).name), "summary": html.escape(_summary(view))}
    texts["facts"] = _facts(view, frames)
    texts["left"] = "original" if view.original is not None else "decoded"
    texts["data"] = json.dumps(values, separators=(",", ":")).replace("<", "\\u003c")
    for part in ("css", "js"):
        texts[part] = (PAGE / f"view.{part}").read_text(encoding="utf-8")
    page = (PAGE / "view.html").read_text(encoding="utf-8")
    pieces = page.split("{{")
    filled = [texts[name.strip()] + rest for name, _, rest in (piece.partition("}}") for piece in pieces[1:])]
    return pieces[0] + "".join(filled)


def _summary(view: Viewing) -> str:
    last = view.options.skip + view.total - 1
    some = (
        "" if view.total == view.frames_in_file else f" Of {view.frames_in_file} frames, {view.options.skip} to {last}."
    )
    against = f" Left of the divider the original, {Path(view.original).name}." if view.original is not None else ""
    return f"What the decoder sees, and where the bits went.{against}{some}"


def _facts(view: Viewing, frames: _Frames) -> str:
    summary, info = inspect(view.path), view.info
    tokens, motion = (sum(row[name] for row in frames.rows) for name in ("tokens", "motion"))
    total = tokens + motion or 1
    rows = [
        ("picture", f"{info.width}x{info.height}, {float(info.fps):.3f} frames/s"),
        ("file", f"{summary.size:,} bytes, {summary.kbit_per_s:.1f} kbit/s, {summary.bits_per_pixel:.4f} bit/pixel"),
        ("quality", f"crf {summary.crf:g}, tune {summary.tune}"),
        ("model", f"{summary.model} ({summary.weights_id})"),
        ("bits of these frames", f"{tokens / total:.1%} tokens, {motion / total:.1%} motion"),
    ]
    if frames.psnr:
        rows.append(("PSNR (6Y+U+V)/8", f"{np.mean(frames.psnr):.2f} dB, worst frame {min(frames.psnr):.2f} dB"))
    rows.append(("shown as", f"H.264, crf {CRF}: a little less exact than the decoder's output"))
    parts = [f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd></div>" for name, text in rows]
    return "\n    ".join(parts)


def _deflated(array: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(array.tobytes(), 9)).decode("ascii")
