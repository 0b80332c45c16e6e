"""What an encode or a decode did: the results of the public API, and the sums behind them."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any

from bsqcodec.container import Loss
from bsqcodec.frames import VideoInfo
from bsqcodec.metrics import PSNR_CAP
from bsqcodec.profile import Profile


def psnr_of(sse: int, samples: int) -> float:
    """PSNR in dB of 8-bit samples with the given sum of squared errors, capped at 100 dB."""
    return PSNR_CAP if sse == 0 else min(PSNR_CAP, 10 * math.log10(255.0**2 * samples / sse))


@dataclass(frozen=True)
class EncodeStats:
    """What `encode` made.

    frames, groups: counts; bytes: size of the whole file; seconds: wall time of reading, coding,
    writing (and verifying, if asked for) without loading the model; fps: frames per second of it.
    kbps: kbit/s of playing time; bpp: bits of the file per luma pixel.
    psnr_y, psnr_u, psnr_v, psnr: dB, the mean over frames of each frame's PSNR, where `psnr` of a
    frame is (6 Y + U + V) / 8 and an identical plane counts as 100 dB.
    bits: what the model spent by part ("motion", "tokens/...").
    frame_bits: what it spent on each frame, in display order; not in `to_dict`.
    crf: of the header; where a goal was given, the one its first pass found, around which the frames vary.
    goal: "bitrate" (bit/s), "size" (bytes), "psnr" (dB), "ms-ssim" or None; asked, achieved: its value and result.
    ms_ssim: mean of the luma over frames; measured for the goal "ms-ssim" only.
    profile: where `seconds` went, if that was asked for.
    """

    frames: int
    groups: int
    bytes: int
    seconds: float
    fps: float
    kbps: float
    bpp: float
    psnr_y: float
    psnr_u: float
    psnr_v: float
    psnr: float
    bits: Mapping[str, float] = field(default_factory=dict)
    frame_bits: Sequence[float] = ()
    crf: float | None = None
    goal: str | None = None
    asked: float | None = None
    achieved: float | None = None
    ms_ssim: float | None = None
    profile: Profile | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types, rounded to what is meaningful."""
        fields = _rounded({**asdict(self), "bits": dict(self.bits), "profile": _profile_dict(self.profile)})
        del fields["frame_bits"]
        return fields


@dataclass(frozen=True)
class DecodeStats:
    """What `decode` wrote: frames, groups, wall time without loading the model, frames per second of it.

    dropped: tracks that the output cannot hold, one line each.
    lost_frames: frames that damage cost; concealed_frames: how many of them are in the output as stand-ins, counted in
    `frames`; damage: where the file is damaged. All empty unless `on_error` puts up with damage.
    first_frame, start: number of the first frame in the stream, and its time in seconds from the stream's first.
    profile: where `seconds` went, if that was asked for.
    """

    frames: int
    groups: int
    seconds: float
    fps: float
    dropped: tuple[str, ...] = ()
    lost_frames: int = 0
    concealed_frames: int = 0
    damage: tuple[Loss, ...] = ()
    first_frame: int = 0
    start: float = 0.0
    profile: Profile | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types, rounded to what is meaningful."""
        damage = [asdict(loss) for loss in self.damage]
        profile = _profile_dict(self.profile)
        return _rounded({**asdict(self), "dropped": list(self.dropped), "damage": damage, "profile": profile})


def _profile_dict(profile: Profile | None) -> dict[str, Any] | None:
    return None if profile is None else profile.to_dict()


def _rounded(fields: dict[str, Any]) -> dict[str, Any]:
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in fields.items()}


class Tally:
    """Sums over frames and groups from which `EncodeStats` follow; its size is 8 bytes a frame."""

    def __init__(self, info: VideoInfo) -> None:
        self.info = info
        chroma = -(-info.width // 2) * -(-info.height // 2)
        self._samples = (info.width * info.height, chroma, chroma)
        self._psnr = [0.0, 0.0, 0.0]
        self._first_pts: int | None = None
        self._last_pts = 0
        self._last_duration = 0
        self.frames = 0
        self.groups = 0
        self.bits: Counter[str] = Counter()
        self.frame_bits = array("d")

    def add_frame(self, sse_y: int, sse_u: int, sse_v: int, bits: float = 0.0) -> None:
        """Count one frame by the sums of squared errors of its planes and its bits."""
        self.frame_bits.append(bits)
        for plane, sse in enumerate((sse_y, sse_u, sse_v)):
            self._psnr[plane] += psnr_of(int(sse), self._samples[plane])
        self.frames += 1

    def add_group(self, pts: tuple[int, ...], durations: tuple[int, ...], bits: Mapping[str, float]) -> None:
        """Count one group: its timestamps in ticks and its bits by part."""
        self._first_pts = pts[0] if self._first_pts is None else self._first_pts
        self._last_pts, self._last_duration = pts[-1], durations[-1]
        self.bits.update(bits)
        self.groups += 1

    @property
    def psnr(self) -> tuple[float, float, float]:
        """Mean PSNR of Y, U, V in dB."""
        y, u, v = (total / max(1, self.frames) for total in self._psnr)
        return y, u, v

    @property
    def overall_psnr(self) -> float:
        """(6 Y + U + V) / 8 of `psnr`, in dB."""
        y, u, v = self.psnr
        return (6 * y + u + v) / 8

    @property
    def duration(self) -> float:
        """Playing time in seconds; the nominal rate fills in a last frame of unknown duration."""
        if self._first_pts is None:
            return 0.0
        last = self._last_duration * self.info.time_base or 1 / (self.info.fps or Fraction(25))
        return float((self._last_pts - self._first_pts) * self.info.time_base + last)

    def stats(self, *, size: int, seconds: float) -> EncodeStats:
        """The result for a file of `size` bytes made in `seconds`."""
        y, u, v = self.psnr
        pixels = self.info.width * self.info.height * self.frames
        return EncodeStats(
            frames=self.frames,
            groups=self.groups,
            bytes=size,
            seconds=seconds,
            fps=self.frames / seconds if seconds > 0 else 0.0,
            kbps=size * 8 / self.duration / 1000 if self.duration > 0 else 0.0,
            bpp=size * 8 / pixels if pixels else 0.0,
            psnr_y=y,
            psnr_u=u,
            psnr_v=v,
            psnr=self.overall_psnr,
            bits=dict(self.bits),
            frame_bits=self.frame_bits,
        )
