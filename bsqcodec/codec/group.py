"""Groups: frames in, a group's motion and token streams out, and the inverse.

A group's first frame depends on nothing; the others on frames of their own group that come before. The encoder ends a
group when it is full or when the picture changes abruptly (a cut), since a first frame then costs no more.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from bsqcodec.codec.causal import decode_causal, encode_causal
from bsqcodec.codec.filtering import Flags
from bsqcodec.codec.model import Model
from bsqcodec.codec.predictive import PredictiveCoder
from bsqcodec.codec.settings import (
    LOOKAHEAD,
    first_quality,
    inter_quality,
    intra_quality,
    is_cut,
    tail_quality,
)
from bsqcodec.codec.worth import price_factors
from bsqcodec.container import Group
from bsqcodec.entropy import BitDecoder, BitEncoder
from bsqcodec.errors import BitstreamError
from bsqcodec.frames import Frame, VideoInfo
from bsqcodec.motion import MotionField, MotionState, decode_field, encode_field
from bsqcodec.presets import MEDIUM, Search
from bsqcodec.prior.coding import Reader, Writer
from bsqcodec.profile import stage
from bsqcodec.tokenizer.causal import CausalTokenizer
from bsqcodec.tokenizer.transform import Planes, pad_planes, token_grid


@dataclass(frozen=True)
class FrameStats:
    """What coding a frame came to: ideal bits, squared errors summed over each plane, CRC-32 of its reconstruction."""

    bits: float
    sse_y: int
    sse_u: int
    sse_v: int
    crc: int


@dataclass(frozen=True)
class EncodedGroup:
    """A finished group. plane_bits: ideal bits of "motion" and of "tokens/<bit plane>"."""

    group: Group
    frames: list[FrameStats]
    plane_bits: dict[str, float] = field(default_factory=dict)


class _OpenGroup:
    """A group while its frames are being coded (predictive models). factors: `PredictiveCoder.factors`."""

    def __init__(self, model: Model, h: int, w: int, search: Search, factors: Sequence[np.ndarray] = ()):
        assert not isinstance(model.tokenizer, CausalTokenizer)
        self.model = model
        self.motion, self.tokens = BitEncoder(), BitEncoder()
        self.writer = Writer(self.tokens)
        self.search = search
        self.coder = PredictiveCoder(
            model.tokenizer, model.tokens, h, w, model.device, model.tune, looks=search.looks, factors=factors
        )
        self.state = MotionState(model.motion)
        self.field: MotionField | None = None
        self.motion_bits = 0.0
        self.frames: list[Frame] = []
        self.qualities: list[int] = []
        self.stats: list[FrameStats] = []
        self.silent: list[np.ndarray] = []  # for a second pass: tokens of each frame that have no levels
        self.vectors: list[np.ndarray] = []  # and where the frames behind the first are predicted from

    @property
    def bits(self) -> float:
        return self.motion_bits + sum(self.writer.plane_bits.values())

    def add(self, frame: Frame, target: Planes, quality: int, motion: MotionField | None) -> None:
        """Code a frame: the first without motion, the others with."""
        before = self.bits
        if motion is None:
            planes = self.coder.first(self.writer, quality, target)
        else:
            with stage("coder"):
                self.motion_bits += encode_field(self.motion, motion, self.field, self.model.motion, self.state)
            planes = self.coder.next(self.writer, quality, motion, target)
            self.field = motion
        self.frames.append(frame)
        self.qualities.append(quality)
        self.stats.append(frame_stats(frame, planes, self.bits - before))
        if self.search.again:
            self._remember(motion)

    def predict(self, target: Planes, quality: int) -> MotionField | None:
        """How a frame is predicted from the one before, None for a group's first."""
        if self.coder.planes is None:
            return None
        with stage("motion"):
            return self.coder.estimate(target, quality, self.field, self.search.motion)

    def factors(self) -> list[np.ndarray]:
        """Factors of the levels' prices for a second pass: [h, w] of each frame."""
        return list(price_factors(self.silent, self.vectors))

    def _remember(self, motion: MotionField | None) -> None:
        assert self.coder.references is not None
        self.silent.append((self.coder.references.levels == 0).all(-1).cpu().numpy())
        if motion is not None:
            self.vectors.append(motion.vectors.to(torch.int16).cpu().numpy())

    def finish(self, first_frame: int) -> EncodedGroup:
        group = Group(
            first_frame,
            tuple(frame.pts for frame in self.frames),
            tuple(frame.duration for frame in self.frames),
            tuple(self.qualities),
            self.motion.words(),
            self.tokens.words(),
        )
        bits = {"motion": self.motion_bits}
        bits |= {f"tokens/{plane}": count for plane, count in self.writer.plane_bits.items()}
        return EncodedGroup(group, self.stats, bits)


class GroupEncoder:
    """Turns frames into groups. frames_done and bytes_done (estimated inside a group) are for progress."""

    def __init__(
        self,
        model: Model,
        info: VideoInfo,
        *,
        crf: float,
        keyint: int,
        first_frame: int = 0,
        search: Search = MEDIUM,
    ):
        self.model, self.keyint, self.first_frame, self.search = model, keyint, first_frame, search
        self.h, self.w = token_grid(info.width, info.height)
        self.quality = intra_quality(crf, model.config.crf_curve)
        self.frames_done = 0
        self._bytes_finished = 0
        self._open: _OpenGroup | None = None
        self._waiting: list[Frame] = []  # causal models code a group at once
        self.last_cost: float | None = None  # of the last prediction, for cuts; kept from group to group

    @property
    def bytes_done(self) -> int:
        """Bytes of all groups so far."""
        return self._bytes_finished + (round(self._open.bits / 8) if self._open else 0)

    def push(self, frame: Frame, ahead: int = LOOKAHEAD) -> list[EncodedGroup]:
        """Code a frame; returns the groups that are finished by it (usually none).

        ahead: frames that will follow, as far as that is known, LOOKAHEAD for that many or more. A first frame that few
        others are predicted from is worth fewer bits.
        """
        self.frames_done += 1
        if isinstance(self.model.tokenizer, CausalTokenizer):
            self._waiting.append(frame)
            return [self._finish()] if len(self._waiting) == self.keyint else []
        done = []
        target = self._planes(frame)
        motion = self._motion(target)
        if self._open and self.cuts(target, motion):
            done.append(self._finish())
            motion = None
        if self._open is None:
            self._open = _OpenGroup(self.model, self.h, self.w, self.search)
        self._open.add(frame, target, self._quality(ahead), motion)
        if len(self._open.frames) == self.keyint:
            done.append(self._finish())
        return done

    def flush(self) -> list[EncodedGroup]:
        """Finish the last group."""
        return [self._finish()] if self._open or self._waiting else []

    def cuts(self, target: Planes, motion: MotionField | None) -> bool:
        """Whether the picture changed too much to be predicted; remembers how well prediction went."""
        if motion is None:
            return False
        cut = is_cut(target[0], motion.cost, self.last_cost)
        if not cut:
            self.last_cost = motion.cost
        return cut

    def _motion(self, target: Planes) -> MotionField | None:
        return self._open.predict(target, self._quality()) if self._open else None

    def _quality(self, ahead: int = LOOKAHEAD) -> int:
        """Quality index of the next frame of the open group."""
        position = len(self._open.frames) if self._open else 0
        if position:
            return inter_quality(self.quality, position, self.model.tune)
        frames = min(ahead + 1, self.keyint)
        if self.first_frame > 0:
            return tail_quality(self.quality, frames, self.keyint, self.model.tune)
        return first_quality(self.quality, frames)

    def _planes(self, frame: Frame) -> Planes:
        return pad_planes(to_planes(frame, self.model.device), self.h, self.w)

    def _finish(self) -> EncodedGroup:
        if self._open is not None:
            group = self._again(self._open) if self.search.again else self._open
            encoded = group.finish(self.first_frame)
        else:
            encoded = self._finish_causal()
        self._open, self._waiting = None, []
        self.first_frame += len(encoded.frames)
        self._bytes_finished += len(encoded.group.motion) + len(encoded.group.tokens)
        return encoded

    def _again(self, first: _OpenGroup) -> _OpenGroup:
        """A group coded once more, in the light of which tokens of it stayed copies."""
        group = _OpenGroup(self.model, self.h, self.w, replace(self.search, again=False), first.factors())
        for frame, quality in zip(first.frames, first.qualities, strict=True):
            target = self._planes(frame)
            group.add(frame, target, quality, group.predict(target, quality))
        return group

    def _finish_causal(self) -> EncodedGroup:
        encoder = BitEncoder()
        writer = Writer(encoder)
        targets = [self._planes(frame) for frame in self._waiting]
        pictures, bits = encode_causal(self.model, writer, targets, self.quality)
        stats = [frame_stats(*item) for item in zip(self._waiting, pictures, bits, strict=True)]
        group = Group(
            self.first_frame,
            tuple(frame.pts for frame in self._waiting),
            tuple(frame.duration for frame in self._waiting),
            (self.quality,) * len(self._waiting),
            b"",
            encoder.words(),
        )
        planes = {f"tokens/{plane}": count for plane, count in writer.plane_bits.items()}
        return EncodedGroup(group, stats, {"motion": 0.0} | planes)


def decode_group(model: Model, group: Group, info: VideoInfo) -> Iterator[Frame]:
    """The frames of a group, in order. Raises BitstreamError where the words make no sense."""
    for planes, pts, duration in zip(decode_planes(model, group, info), group.pts, group.durations, strict=True):
        yield to_frame(planes, info, pts, duration)


def decode_planes(model: Model, group: Group, info: VideoInfo, filters: list[Flags] | None = None) -> Iterator[Planes]:
    """The padded planes of a group's frames, uint8 on the model's device. Raises as `decode_group` does.

    filters: where the flags of its inter frames are put (`FilterFlags.seen`), if anywhere.
    """
    h, w = token_grid(info.width, info.height)
    reader = Reader(BitDecoder(group.tokens))
    if isinstance(model.tokenizer, CausalTokenizer):
        return iter(decode_causal(model, reader, len(group.pts), h, w, group.qualities))
    return _decode_predictive(model, reader, group, h, w, filters)


def _decode_predictive(
    model: Model, reader: Reader, group: Group, h: int, w: int, filters: list[Flags] | None
) -> Iterator[Planes]:
    assert not isinstance(model.tokenizer, CausalTokenizer)
    coder = PredictiveCoder(model.tokenizer, model.tokens, h, w, model.device)
    coder.filters.seen = filters
    vectors, state = BitDecoder(group.motion), MotionState(model.motion)
    motion: MotionField | None = None
    for i, quality in enumerate(group.qualities):
        if i == 0:
            yield coder.first(reader, quality, None)
        else:
            with stage("coder"):
                motion = decode_field(vectors, (h, w), motion, model.motion, state)
            moved = MotionField(motion.vectors.to(model.device), motion.split.to(model.device))
            yield coder.next(reader, quality, moved, None)


def to_planes(frame: Frame, device: torch.device) -> Planes:
    """A frame's planes as uint8 tensors on a device; those of a `bsqcodec.tensors.DeviceFrame` where they are."""
    if (held := getattr(frame, "tensors", None)) is not None:
        return held[0].to(device), held[1].to(device), held[2].to(device)
    y, u, v = (_uploaded(_tensor(plane), device) for plane in (frame.y, frame.u, frame.v))
    return y, u, v


def _tensor(plane: np.ndarray) -> Tensor:
    """The samples of a plane; a copy where torch would warn of memory that must not be written."""
    whole = np.ascontiguousarray(plane)
    return torch.from_numpy(whole if whole.flags.writeable else whole.copy())


def _uploaded(plane: Tensor, device: torch.device) -> Tensor:
    """The plane on a device. From pinned memory a GPU fetches it by itself; from other memory its queue is waited for.

    torch keeps a pinned block until the copies from it are done.
    """
    return plane.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else plane.to(device)


def to_frame(planes: Planes, info: VideoInfo, pts: int, duration: int) -> Frame:
    """Padded planes as a frame of the video's size."""
    rows, columns = (info.height + 1) // 2, (info.width + 1) // 2
    y = planes[0][: info.height, : info.width].cpu().numpy()
    u, v = (plane[:rows, :columns].cpu().numpy() for plane in planes[1:])
    if y.shape != (info.height, info.width):
        raise BitstreamError("the group's pictures are smaller than the video")
    return Frame(np.ascontiguousarray(y), np.ascontiguousarray(u), np.ascontiguousarray(v), pts, duration)


def frame_stats(frame: Frame, planes: Planes, bits: float) -> FrameStats:
    """Compare a frame with its reconstruction (padded planes)."""
    crc = 0
    errors = []
    for original, plane in zip((frame.y, frame.u, frame.v), planes, strict=True):
        rows, columns = original.shape
        decoded = np.ascontiguousarray(plane[:rows, :columns].cpu().numpy())
        crc = zlib.crc32(decoded.tobytes(), crc)
        difference = original.astype(np.int32) - decoded
        errors.append(int((difference * difference).sum(dtype=np.int64)))
    return FrameStats(bits, errors[0], errors[1], errors[2], crc)
