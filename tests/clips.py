"""Small synthetic videos for tests of the command line and the API."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT, FRAMES = 34, 26, 7
RATE = Fraction(25)


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frame `number` of a moving texture: y uint8 [H, W], u and v uint8 [ceil(H/2), ceil(W/2)]."""
    rows, columns = np.mgrid[:height, :width]
    y = (40 + 5 * rows + 3 * columns + 7 * number + 9 * ((rows * columns) % 5)) % 200 + 16
    small = np.mgrid[: -(-height // 2), : -(-width // 2)]
    return y.astype(np.uint8), (100 + 2 * small[0] + number).astype(np.uint8), (90 + small[1]).astype(np.uint8)


def y4m_bytes(frames: int = FRAMES, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """A YUV4MPEG2 stream of `picture` 0 .. frames - 1."""
    head = f"YUV4MPEG2 W{width} H{height} F{RATE.numerator}:{RATE.denominator} Ip A1:1 C420jpeg\n".encode()
    return head + b"".join(
        b"FRAME\n" + b"".join(plane.tobytes() for plane in picture(n, width, height)) for n in range(frames)
    )


def read_y4m(data: bytes) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The planes of a YUV4MPEG2 stream in 4:2:0."""
    head, _, rest = data.partition(b"\n")
    fields = {token[:1]: token[1:] for token in head.split()[1:]}
    width, height = int(fields[b"W"]), int(fields[b"H"])
    shapes = [(height, width), (-(-height // 2), -(-width // 2)), (-(-height // 2), -(-width // 2))]
    frames = []
    while rest:
        mark, _, rest = rest.partition(b"\n")
        assert mark.startswith(b"FRAME")
        planes = []
        for rows, columns in shapes:
            planes.append(np.frombuffer(rest[: rows * columns], np.uint8).reshape(rows, columns))
            rest = rest[rows * columns :]
        frames.append((planes[0], planes[1], planes[2]))
    return frames


def write_mkv_with_audio(path: Path, seconds: int = 1) -> list[bytes]:
    """FFV1 video with FLAC audio; returns the audio packets."""
    packets = []
    with av.open(str(path), "w") as out:
        video = out.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = out.add_stream("flac", rate=8000)
        audio.layout = "mono"
        for number in range(25 * seconds):
            frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
            for plane, samples in zip(frame.planes, picture(number), strict=True):
                padded = np.zeros((samples.shape[0], plane.line_size), np.uint8)
                padded[:, : samples.shape[1]] = samples
                plane.update(padded)
            frame.pts = number
            out.mux(video.encode(frame))
            tone = (2000 * np.sin(np.arange(320) * (0.1 + number / 100))).astype(np.int16).reshape(1, -1)
            sound = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
            sound.sample_rate, sound.pts = 8000, 320 * number
            for packet in audio.encode(sound):
                packets.append(bytes(packet))
                out.mux(packet)
        out.mux(video.encode(None))
        for packet in filter(bytes, audio.encode(None)):  # the last one is empty, it only carries side data
            packets.append(bytes(packet))
            out.mux(packet)
    return packets
