"""Small lossless videos for the tests of the benchmark, and fake codecs that misbehave."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from bsqcodec.bench.codecs import Encoded
from bsqcodec.bench.sources import frames
from bsqcodec.frames import Frame
from bsqcodec.video.convert import to_av_frame

RATE = Fraction(30000, 1001)


def textured_frames(count: int, height: int = 96, width: int = 128, seed: int = 5) -> list[Frame]:
    """A textured picture with colour in it that slides two px a frame: something that motion compensation can code."""
    rng = np.random.default_rng(seed)
    wide = np.cumsum(rng.normal(0, 6, (height, width + 2 * count)), axis=1)
    wide = np.clip(120 + wide - wide.mean(axis=1, keepdims=True), 16, 235).astype(np.uint8)
    rows, columns = np.mgrid[: height // 2, : width // 2]
    u, v = (90 + rows // 2).astype(np.uint8), (170 - columns // 2).astype(np.uint8)
    return [Frame(wide[:, 2 * i : 2 * i + width].copy(), u, v, i, 1) for i in range(count)]


def write_ffv1(path: Path, pictures: list[Frame], *, full_range: bool = False) -> Path:
    """A lossless constant-rate file in BT.709."""
    height, width = pictures[0].y.shape
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = 1
        context.color_range = 2 if full_range else 1
        for picture in pictures:
            frame = to_av_frame(picture.y, picture.u, picture.v)
            frame.pts = picture.pts
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@dataclass(frozen=True)
class FakeCodec:
    """Keeps every frame as it is, but for one fault; see `decode` and `encode`."""

    fault: str = ""

    name = "fake"
    setting = "plain"
    label = "a fake"
    suffix = ".raw"
    qualities = (1.0,)
    quality_range = (0.0, 10.0)
    own_keyint = True

    def options(self, quality: float, *, keyint: int, threads: int) -> str:
        return f"-q {quality:g}"

    def identity(self) -> str:
        return "fake 1"

    def encode(
        self, source: Path, out: Path, quality: float, *, keyint: int, threads: int = 1, limit: int | None = None
    ) -> Encoded:
        if self.fault == "big":
            kept = np.ones(400 * 2**17)  # 400 MiB
            assert kept.sum() > 0
        if self.fault == "die":
            os._exit(9)
        if self.fault == "crash":
            raise RuntimeError("two\nlines")
        pictures = list(frames(source, limit))
        np.savez(out.with_suffix(".npz"), *(plane for p in pictures for plane in (p.y, p.u, p.v)))
        out.with_suffix(".npz").replace(out)
        return Encoded(0.5, (8.0,) * len(pictures), "fake 1")

    def decode(self, stream: Path, *, threads: int = 1) -> Iterator[Frame]:
        with np.load(stream) as file:
            planes = [file[f"arr_{i}"] for i in range(len(file.files))]
        pictures = [Frame(*planes[i : i + 3], i // 3) for i in range(0, len(planes), 3)]
        if self.fault == "short":
            pictures.pop()
        if self.fault == "long":
            pictures.append(pictures[-1])
        if self.fault == "small":
            pictures = [Frame(p.y[:-2], p.u[:-1], p.v[:-1], p.pts) for p in pictures]
        for picture in pictures:
            if self.fault == "slow":
                time.sleep(0.1)
            yield picture
