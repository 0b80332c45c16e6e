"""A small stand-in for the codec room, so that the command line can be tested without a model.

A group's token words are the frames with their low bits dropped (more of them at a higher crf),
deflated; each frame is "coded" as it is pushed. `sitecustomize.py` beside it puts it in place.
Environment: FAKE_DELAY = seconds a frame takes; FAKE_FLIP = 1: decode other pixels than were coded.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import bsqcodec
from bsqcodec.container import Group, StreamHeader
from bsqcodec.errors import DeviceError, UsageError, WeightsMismatchError
from bsqcodec.frames import Frame, VideoInfo

# What others import from inside of the room, such as its settings, is the real thing.
__path__ = [str(Path(bsqcodec.__file__).parent / "codec")]


@dataclass(frozen=True)
class Model:
    sha256: bytes = bytes(range(32))
    name: str = "fake"
    tune: str = "psnr"
    device_note: str = "cpu (auto: no CUDA)"
    tokenizer: object = None


@dataclass(frozen=True)
class FrameStats:
    bits: float
    sse_y: int
    sse_u: int
    sse_v: int
    crc: int


@dataclass(frozen=True)
class EncodedGroup:
    group: Group
    frames: list[FrameStats]
    plane_bits: dict[str, float] = field(default_factory=dict)


def load_model(weights=None, *, tune="psnr", device="auto", threads=0):
    if device.startswith("cuda"):
        raise DeviceError(f"{device}: there is no such GPU here; use --device cpu")
    if tune != "psnr":
        raise UsageError(f"no weights for tune {tune} yet; use psnr")
    return Model() if weights is None else Model(sha256=bytes(32), name="other")


def check_model(model: Model, header: StreamHeader) -> None:
    if model.sha256 != header.weights_sha256:
        raise WeightsMismatchError(f"the stream needs weights {header.weights_sha256.hex()[:8]}; use --weights")


def _planes(frame):
    return frame.y, frame.u, frame.v


class GroupEncoder:
    def __init__(self, model, info, *, crf, keyint, first_frame=0, search=None):
        self._step = 1 + int(crf) // 8
        self._keyint, self._first = keyint, first_frame
        self._frames: list[Frame] = []
        self._stats: list[FrameStats] = []
        self.frames_done = self.bytes_done = 0

    def push(self, frame, ahead=8):
        time.sleep(float(os.environ.get("FAKE_DELAY", "0")))
        planes = [p // self._step * self._step for p in _planes(frame)]
        crc = 0
        for plane in planes:
            crc = zlib.crc32(np.ascontiguousarray(plane).tobytes(), crc)
        sse = [int(((a.astype(int) - b) ** 2).sum()) for a, b in zip(_planes(frame), planes, strict=True)]
        self._frames.append(Frame(*planes, frame.pts, frame.duration))
        self._stats.append(FrameStats(8.0, *sse, crc))
        self.frames_done += 1
        return [self._finish()] if len(self._frames) == self._keyint else []

    def flush(self):
        return [self._finish()] if self._frames else []

    def _finish(self):
        raw = b"".join(p.tobytes() for f in self._frames for p in _planes(f))
        packed = zlib.compress(raw, 1)
        words = len(packed).to_bytes(4, "little") + packed + bytes(-len(packed) % 4)
        n = len(self._frames)
        pts, durations = tuple(f.pts for f in self._frames), tuple(f.duration for f in self._frames)
        group = Group(self._first, pts, durations, (self._step,) * n, b"", words)
        done = EncodedGroup(group, self._stats, {"motion": 0.0, "tokens/1": 8.0 * len(packed)})
        self._first += n
        self.bytes_done += len(words)
        self._frames, self._stats = [], []
        return done


def decode_group(model, group: Group, info: VideoInfo) -> Iterator[Frame]:
    size = int.from_bytes(group.tokens[:4], "little")
    data = np.frombuffer(zlib.decompress(group.tokens[4 : 4 + size]), np.uint8)
    if os.environ.get("FAKE_FLIP"):
        data = data ^ np.uint8(1)
    h, w = info.height, info.width
    ch, cw = -(-h // 2), -(-w // 2)
    at = 0
    for pts, duration in zip(group.pts, group.durations, strict=True):
        time.sleep(float(os.environ.get("FAKE_DELAY", "0")))
        planes = []
        for rows, columns in ((h, w), (ch, cw), (ch, cw)):
            planes.append(data[at : at + rows * columns].reshape(rows, columns))
            at += rows * columns
        yield Frame(*planes, pts, duration)
