"""What the benchmark asks of a codec, and the codecs there are, by name: "bsqcodec:psnr", "x265:best"."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from bsqcodec.errors import UsageError
from bsqcodec.frames import Frame

OURS = "bsqcodec"


@dataclass(frozen=True)
class Encoded:
    """What an encode came to.

    seconds: wall time of reading the source, coding and writing; a model is loaded before. frame_bits: bits of the
    stream by frame, in display order; their sum is at most 8 * file size. library: name and version of the encoder
    and of what carries it. settings: the encoder's own account of its
    settings, "" where it gives none. psnr_yuv: the quality it reports, the mean over frames of (6Y+U+V)/8 in dB,
    None where it reports none.
    """

    seconds: float
    frame_bits: tuple[float, ...]
    library: str
    settings: str = ""
    psnr_yuv: float | None = None


class Codec(Protocol):
    """A codec in one named setting. Objects are small, immutable, and can be sent to another process."""

    @property
    def name(self) -> str:
        """Of the codec: "x265"."""

    @property
    def setting(self) -> str:
        """Name of the setting: "paper"."""

    @property
    def label(self) -> str:
        """Both in words, for people."""

    @property
    def suffix(self) -> str:
        """Of a stream's file name: ".265"."""

    @property
    def qualities(self) -> tuple[float, ...]:
        """The values of the quality option that a curve is made of unless told otherwise, best quality first."""

    @property
    def quality_range(self) -> tuple[float, float]:
        """The best and the worst value of the quality option."""

    @property
    def own_keyint(self) -> bool:
        """Whether the distance of its key frames is set at all; otherwise it is the library's default."""

    def options(self, quality: float, *, keyint: int, threads: int) -> str:
        """All options of an encode, as its command line tool takes them."""

    def identity(self) -> str:
        """What a stream depends on besides the options: another text means that old measurements are stale."""

    def encode(
        self, source: Path, out: Path, quality: float, *, keyint: int, threads: int = 1, limit: int | None = None
    ) -> Encoded:
        """Encode the first `limit` frames (None = all) of a prepared video into the file `out`.

        keyint: longest distance of two points of random access in frames, where the setting has one (`own_keyint`).
        threads: 0 = all. Raises VideoError, UsageError; then `out` does not exist.
        """

    def decode(self, stream: Path, *, threads: int = 1) -> Iterator[Frame]:
        """The frames of a stream, in display order. Raises VideoError or BitstreamError when it is damaged."""


def codec(spec: str, *, device: str = "auto", weights: str | os.PathLike[str] | None = None) -> Codec:
    """The codec that "name:setting" stands for; "bsqcodec" alone is "bsqcodec:psnr", an anchor's is "paper".

    A setting of bsqcodec is a tune, or a tune and a preset: "psnr-slow".

    device, weights: of bsqcodec, see `bsqcodec.encode`; anchors have neither.
    Raises UsageError, listing what there is.
    """
    from bsqcodec.bench.anchors import ANCHORS
    from bsqcodec.bench.ours import Bsqcodec
    from bsqcodec.checks import TUNES
    from bsqcodec.presets import PRESETS

    name, _, setting = spec.strip().partition(":")
    if name == OURS:
        for ours in (Bsqcodec(tune, preset) for tune in TUNES for preset in PRESETS):
            if ours.setting == (setting or TUNES[0]):
                return replace(ours, device=device, weights=os.fspath(weights) if weights is not None else None)
    found = ANCHORS.get(f"{name}:{setting or 'paper'}")
    if found is None:
        known = [*(f"{OURS}:{tune}" for tune in TUNES), *ANCHORS]
        raise UsageError(f"codec {spec!r}: must be one of {', '.join(known)}")
    return found


def check_quality(codec: Codec, quality: float) -> None:
    """Raise UsageError for a quality that the codec does not have, before any work is done."""
    low, high = codec.quality_range
    if not low <= quality <= high:  # False for NaN too
        raise UsageError(f"{codec.name}: quality {quality}: must lie in {low:g}..{high:g}")
