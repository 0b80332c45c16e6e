"""Metrics that FFmpeg offers as filters: XPSNR, and VMAF where the build of FFmpeg that PyAV carries has `libvmaf`.

XPSNR: C. Helmrich et al., "XPSNR: a low-complexity extension of the perceptually weighted peak signal-to-noise
ratio", ICASSP 2020. The filter writes each frame's value into the frame's metadata. VMAF: the filter's default model,
read from the JSON log that it writes when its graph is freed; FFmpeg builds without it, such as PyAV's own wheels,
have no VMAF.
"""

from __future__ import annotations

import json
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av.filter
from av.filter.context import FilterContext
from av.video.frame import VideoFrame

from bsqcodec.metrics import Planes

XPSNR, VMAF = "xpsnr", "libvmaf"
XPSNR_MIN_PIXELS = 2025  # with fewer its blocks have no size, and the filter divides by it, which ends the process


def has_filter(name: str) -> bool:
    """Whether this build of FFmpeg has a filter."""
    return name in av.filter.filters_available


class _PairFilter:
    """A filter that takes two videos; frames go in pairs, and each pair gives one frame of the first video back.

    width, height: luma samples; fps: frames per second, which XPSNR's temporal part depends on.
    """

    def __init__(self, name: str, width: int, height: int, fps: Fraction, **options: str) -> None:
        self._graph: av.filter.Graph | None = av.filter.Graph()
        self._tick = 1 / fps
        self._count = 0
        video = {
            "video_size": f"{width}x{height}",
            "pix_fmt": "yuv420p",
            "time_base": f"{self._tick.numerator}/{self._tick.denominator}",
            "frame_rate": f"{fps.numerator}/{fps.denominator}",
        }
        self._inputs: list[FilterContext] = [self._graph.add("buffer", **video) for _ in range(2)]
        metric = self._graph.add(name, **options)
        self._output: FilterContext | None = self._graph.add("buffersink")
        for number, source in enumerate(self._inputs):
            source.link_to(metric, 0, number)
        metric.link_to(self._output)
        self._graph.configure()

    def push(self, first: Planes, second: Planes) -> VideoFrame:
        """Both frames go in; the first comes back, with what the filter says about the pair in its metadata."""
        assert self._output is not None
        for source, picture in zip(self._inputs, (first, second), strict=True):
            source.push(self._timed(picture))
        self._count += 1
        frame = self._output.pull()
        assert isinstance(frame, VideoFrame)
        return frame

    def _timed(self, picture: Planes) -> VideoFrame:
        from bsqcodec.video.convert import to_av_frame

        frame = to_av_frame(picture.y, picture.u, picture.v)
        frame.pts, frame.time_base = self._count, self._tick
        return frame

    def close(self) -> None:
        """Free the graph, on which filters write their logs."""
        for source in self._inputs:
            source.push(None)
        self._inputs, self._output, self._graph = [], None, None


class Xpsnr:
    """XPSNR of the luma, frame by frame; dB, `inf` = identical. Needs `XPSNR_MIN_PIXELS`."""

    def __init__(self, width: int, height: int, fps: Fraction) -> None:
        self._filter = _PairFilter(XPSNR, width, height, fps)

    def add(self, reference: Planes, decoded: Planes) -> float:
        """The filter weighs errors by the activity of its first input, the reference."""
        metadata: dict[str, Any] = self._filter.push(reference, decoded).metadata
        return float(metadata["lavfi.xpsnr.xpsnr.y"])


class Vmaf:
    """VMAF 0..100, known only when all frames are in."""

    def __init__(self, width: int, height: int, fps: Fraction) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name, "vmaf.json")
        self._filter = _PairFilter(VMAF, width, height, fps, log_fmt="json", log_path=str(self._log))

    def add(self, reference: Planes, decoded: Planes) -> None:
        """The filter's first input is the decoded video."""
        self._filter.push(decoded, reference)

    def finish(self) -> list[float]:
        """One value per frame."""
        self._filter.close()
        with self._folder:
            return vmaf_of_log(self._log.read_text())


def vmaf_of_log(text: str) -> list[float]:
    """The VMAF of each frame, in order, from the JSON log of the filter."""
    frames = sorted(json.loads(text)["frames"], key=lambda frame: int(frame["frameNum"]))
    return [float(frame["metrics"]["vmaf"]) for frame in frames]
