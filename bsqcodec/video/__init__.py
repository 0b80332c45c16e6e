"""Video files in and out: everything that touches FFmpeg (through PyAV) lives in this room."""

from __future__ import annotations

from bsqcodec.video.formats import input_format
from bsqcodec.video.reader import VideoReader, open_video
from bsqcodec.video.writer import CODECS, VideoWriter, create_video

__all__ = ["CODECS", "VideoReader", "VideoWriter", "create_video", "input_format", "open_video"]
