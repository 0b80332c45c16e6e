"""Video in and out: every clip is made here, with PyAV, in the test's own folder."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from bsqcodec.errors import UsageError, VideoError
from bsqcodec.frames import Frame, Track, TrackPacket, VideoInfo
from bsqcodec.video import create_video, open_video
from bsqcodec.video.source import ebml_size, promised_end

RATE = 48000  # Hz
MS = Fraction(1, 1000)


def pictures(count: int, width: int, height: int, pts: list[int] | None = None, duration: int = 0) -> list[Frame]:
    """Frames with a moving gradient and some detail; default pts 0, 1, 2, ..."""
    rows, columns = np.mgrid[:height, :width]
    half = ((height + 1) // 2, (width + 1) // 2)
    frames = []
    for n in range(count):
        y = (16 + (rows * 3 + columns * 2 + n * 5) % 200).astype(np.uint8)
        u = (100 + (rows[: half[0], : half[1]] + n) % 50).astype(np.uint8)
        v = (90 + (columns[: half[0], : half[1]] + n) % 50).astype(np.uint8)
        frames.append(Frame(y, u, v, n if pts is None else pts[n], duration))
    return frames


def write(path: Path, frames: list[Frame], info: VideoInfo, codec: str | None = None) -> Path:
    with create_video(path, info, codec=codec) as video:
        for frame in frames:
            video.write(frame)
    return path


def read(src: object, **options: int) -> tuple[VideoInfo, list[Frame], list[TrackPacket], list[Track]]:
    with open_video(src, **options) as video:  # type: ignore[arg-type]
        events = list(video)
        info, tracks = video.info, video.tracks
    return info, [e for e in events if isinstance(e, Frame)], [e for e in events if isinstance(e, TrackPacket)], tracks


def planes(frame: Frame) -> list[bytes]:
    return [frame.y.tobytes(), frame.u.tobytes(), frame.v.tobytes()]


def seconds(frames: list[Frame], info: VideoInfo) -> list[Fraction]:
    return [frame.pts * info.time_base for frame in frames]


def raw_clip(path: Path, pixel_format: str, samples: list[np.ndarray], color_range: int = 0) -> Path:
    """One FFV1 frame in any planar pixel format; samples: one [h, w] array a plane."""
    height, width = samples[0].shape
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.color_range = color_range
        frame = av.VideoFrame(width, height, pixel_format)
        for plane, array in zip(frame.planes, samples, strict=True):
            row = plane.line_size // array.itemsize
            plane.update(np.pad(array, ((0, 0), (0, row - array.shape[1]))).tobytes())
        frame.color_range = color_range
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def clip_with_audio(path: Path, codec: str = "aac", seconds: int = 1, subtitles: str | None = None) -> Path:
    """25 frames a second of 64x48 H.264 with B-frames, and a stereo tone."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = out.add_stream(codec, rate=RATE)
        audio.layout = "stereo"
        text = None
        if subtitles:
            text = out.add_stream(subtitles)
            text.codec_context.subtitle_header = b"[Script Info]\nScriptType: v4.00+\n"
            text.time_base = MS
            text.metadata["language"] = "fin"
        for frame in pictures(25 * seconds, 64, 48):
            picture = av.VideoFrame(64, 48, "yuv420p")
            picture.planes[0].update(np.pad(frame.y, ((0, 0), (0, picture.planes[0].line_size - 64))).tobytes())
            picture.pts, picture.time_base = frame.pts, Fraction(1, 25)
            out.mux(video.encode(picture))
        out.mux(video.encode(None))
        audio.codec_context.open(strict=False)
        tone = np.sin(np.arange(RATE * seconds) * 2 * np.pi * 440 / RATE).astype(np.float32) * 0.3
        whole = av.AudioFrame.from_ndarray(np.stack([tone, tone]), format="fltp", layout="stereo")
        whole.sample_rate, whole.pts, whole.time_base = RATE, 0, Fraction(1, RATE)
        cut = av.AudioResampler(
            audio.codec_context.format.name, "stereo", RATE, frame_size=audio.codec_context.frame_size or 1024
        )
        for part in cut.resample(whole) + cut.resample(None):
            out.mux(audio.encode(part))
        out.mux(audio.encode(None))
        if text is not None:
            packet = av.Packet(b"hei" if subtitles != "ass" else b"0,0,Default,,0,0,0,,hei")
            packet.stream, packet.time_base = text, MS
            packet.pts = packet.dts = 200
            packet.duration, packet.is_keyframe = 300, True
            out.mux(packet)
    return path


def copy(src: Path, dst: Path) -> list[str]:
    """Read everything, write everything; the names of the tracks that did not fit."""
    with open_video(src) as video, create_video(dst, video.info, video.tracks) as out:
        for event in video:
            if isinstance(event, Frame):
                out.write(event)
            else:
                out.write_packet(event)
        return out.dropped


# ---- pixels and geometry


@pytest.mark.parametrize(("width", "height"), [(16, 16), (353, 289), (36, 64), (35, 16), (64, 47)])
@pytest.mark.parametrize("name", ["clip.y4m", "clip.mkv"])
def test_planes_survive_bit_exact(tmp_path: Path, name: str, width: int, height: int) -> None:
    frames = pictures(3, width, height)
    codec = "ffv1" if name.endswith("mkv") else None
    info, back, _, _ = read(write(tmp_path / name, frames, VideoInfo(width, height), codec))
    assert (info.width, info.height, info.source_format) == (width, height, "yuv420p")
    assert [planes(f) for f in back] == [planes(f) for f in frames]
    for frame in back:
        assert frame.u.shape == ((height + 1) // 2, (width + 1) // 2)
        assert all(plane.flags.c_contiguous and plane.dtype == np.uint8 for plane in (frame.y, frame.u, frame.v))


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "h264-lossless"), ("a.mov", "h264-lossless"), ("a.mkv", "rawvideo")]
)
def test_lossless_codecs(tmp_path: Path, name: str, codec: str) -> None:
    frames = pictures(5, 64, 48)
    _, back, _, _ = read(write(tmp_path / name, frames, VideoInfo(64, 48), codec))
    assert [planes(f) for f in back] == [planes(f) for f in frames]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("size", [(64, 48), (65, 49)])
def test_lossy_codecs_keep_size_and_picture(tmp_path: Path, codec: str, size: tuple[int, int]) -> None:
    frames = pictures(3, *size)
    info, back, _, _ = read(write(tmp_path / "a.mp4", frames, VideoInfo(*size), codec))
    assert (info.width, info.height) == size
    for one, two in zip(frames, back, strict=True):
        for name in "yuv":
            error = getattr(one, name).astype(float) - getattr(two, name)
            assert np.sqrt((error**2).mean()) < 4, name  # 36 dB


def test_one_frame(tmp_path: Path) -> None:
    _, back, _, _ = read(write(tmp_path / "a.mp4", pictures(1, 32, 32), VideoInfo(32, 32)))
    assert len(back) == 1


@pytest.mark.parametrize("full", [False, True])
def test_ten_bit_444_is_converted_and_keeps_its_range(tmp_path: Path, full: bool) -> None:
    samples = [np.full((48, 64), value, np.uint16) for value in (700, 400, 400)]
    path = raw_clip(tmp_path / "a.mkv", "yuv444p10le", samples, 2 if full else 1)
    info, (frame,), _, _ = read(path)
    assert (info.source_format, info.full_range, info.chroma_location) == ("yuv444p10le", full, 1)
    assert np.abs(frame.y.astype(int) - 175).max() <= 1  # 700 / 4, or 700 * 255 / 1023 = 174.5
    assert np.abs(frame.u.astype(int) - 100).max() <= 1
    assert frame.u.shape == (24, 32)


def test_rgb_becomes_bt709_limited(tmp_path: Path) -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 255
    with av.open(str(tmp_path / "a.png"), "w", format="image2") as out:
        stream = out.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "rgb24"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(red, format="rgb24")))
        out.mux(stream.encode(None))
    info, (frame,), _, _ = read(tmp_path / "a.png")
    assert (info.matrix, info.full_range, info.source_format) == (1, False, "rgb24")
    assert [int(p[8, 8]) for p in (frame.y, frame.u, frame.v)] == [63, 102, 240]  # BT.709 red, studio range


def test_untagged_grey_is_full_range_with_neutral_chroma(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (32, 1))
    info, (frame,), _, _ = read(raw_clip(tmp_path / "a.mkv", "gray", [ramp]))
    assert info.full_range is True
    assert np.array_equal(frame.y, ramp)
    assert np.unique(frame.u).tolist() == [128]


# ---- description


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize(
    ("rotation", "full", "location"), [(0, False, 1), (90, False, 3), (180, True, 2), (270, False, 1)]
)
def test_description_round_trip(
    tmp_path: Path, name: str, codec: str, rotation: int, full: bool, location: int
) -> None:
    info = VideoInfo(
        48, 64, Fraction(1, 30000), Fraction(30000, 1001), Fraction(4, 3), rotation, 9, 16, 9, full, location
    )
    frames = pictures(4, 48, 64, [0, 1001, 2002, 3003], 1001)
    back, _, _, _ = read(write(tmp_path / name, frames, info, codec))
    for key in ("width", "height", "rotation", "primaries", "transfer", "matrix", "full_range", "sample_aspect_ratio"):
        assert getattr(back, key) == getattr(info, key), key
    assert back.chroma_location == location
    assert abs(back.fps / info.fps - 1) < 0.002
    if name != "a.mkv":
        assert back.time_base == info.time_base


def test_ffv1_keeps_description(tmp_path: Path) -> None:
    info = VideoInfo(32, 32, rotation=90, primaries=1, transfer=1, matrix=1, full_range=True, chroma_location=3)
    back, _, _, _ = read(write(tmp_path / "a.mkv", pictures(2, 32, 32), info, "ffv1"))
    for key in ("rotation", "primaries", "transfer", "matrix", "full_range", "chroma_location"):
        assert getattr(back, key) == getattr(info, key), key


@pytest.mark.parametrize(("full", "location"), [(None, 1), (False, 2), (True, 3)])
def test_y4m_header(tmp_path: Path, full: bool | None, location: int) -> None:
    info = VideoInfo(
        32, 16, Fraction(1001, 24000), Fraction(24000, 1001), Fraction(8, 9), full_range=full, chroma_location=location
    )
    back, frames, _, _ = read(write(tmp_path / "a.y4m", pictures(3, 32, 16), info))
    assert (back.time_base, back.fps, back.sample_aspect_ratio) == (info.time_base, info.fps, info.sample_aspect_ratio)
    assert back.full_range == full
    assert back.chroma_location == location
    assert [frame.pts for frame in frames] == [0, 1, 2]


# ---- times


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("time_base", [Fraction(1, 1000), Fraction(1001, 30000), Fraction(1, 90000)])
@pytest.mark.parametrize("start", [0, 7777])
def test_variable_frame_times_survive(tmp_path: Path, name: str, time_base: Fraction, start: int) -> None:
    step = max(1, round(Fraction(1, 200) / time_base))  # 5 ms or one tick
    pts = [start + step * n for n in (0, 2, 3, 10, 11, 12, 30, 31)]
    info = VideoInfo(32, 32, time_base, Fraction(25))
    frames = pictures(8, 32, 32, pts)
    back, read_back, _, _ = read(write(tmp_path / name, frames, info))
    wanted, got = seconds(frames, info), seconds(read_back, back)
    exact = name == "a.mp4"
    assert all(abs(a - b) <= (0 if exact else MS / 2) for a, b in zip(wanted, got, strict=True))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_negative_start_moves_everything_together(tmp_path: Path, name: str) -> None:
    track = Track("audio", "pcm_s16le", Fraction(1, RATE), b"", "", RATE, 2, "stereo")
    info = VideoInfo(32, 32, Fraction(1, 1000), Fraction(25))
    with create_video(tmp_path / name, info, [track]) as out:
        for n in range(5):  # the sound starts 20 ms after the picture
            out.write_packet(TrackPacket(0, bytes(1920 * 4), -RATE // 50 * 3 + RATE // 25 * n, None, 1920, True))
        for frame in pictures(5, 32, 32, [-80, -40, 0, 40, 80]):
            out.write(frame)
    back, frames, packets, tracks = read(tmp_path / name)
    assert len(frames) == 5 and sum(len(packet.data) for packet in packets) == 5 * 1920 * 4
    assert [float(t) for t in seconds(frames, back)] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    gap = (packets[0].pts or 0) * tracks[0].time_base - frames[0].pts * back.time_base
    assert abs(gap - Fraction(20, 1000)) <= MS


def test_missing_and_repeated_times_are_repaired(tmp_path: Path) -> None:
    clip = clip_with_audio(tmp_path / "a.mp4")
    elementary = tmp_path / "a.h264"  # has no times at all
    with av.open(str(clip)) as src, av.open(str(elementary), "w") as out:
        stream = out.add_stream_from_template(src.streams.video[0])
        for packet in src.demux(src.streams.video[0]):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    info, frames, _, _ = read(elementary)
    assert len(frames) == 25
    assert all(a.pts < b.pts for a, b in pairwise(frames))
    span = (frames[-1].pts - frames[0].pts) * info.time_base
    assert abs(span - Fraction(24, 25)) < Fraction(1, 10)


def test_skip_and_limit(tmp_path: Path) -> None:
    path = clip_with_audio(tmp_path / "a.mp4", seconds=2)
    info, everything, all_packets, tracks = read(path)
    with open_video(path, skip=10, limit=20) as video:
        assert video.frame_count_hint == 20
        assert video.duration_hint == pytest.approx(0.8)
    _, frames, packets, _ = read(path, skip=10, limit=20)
    assert [f.pts for f in frames] == [f.pts for f in everything[10:30]]
    assert [planes(f) for f in frames] == [planes(f) for f in everything[10:30]]
    start, end = everything[10].pts * info.time_base, everything[30].pts * info.time_base
    base = tracks[0].time_base
    assert [p.pts for p in packets] == [p.pts for p in all_packets if start <= (p.pts or 0) * base < end]
    assert len(packets) > 30


def test_skip_too_many_and_bad_range(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", pictures(4, 32, 32), VideoInfo(32, 32))
    with pytest.raises(VideoError, match="skipping 9 frames leaves none, it has 4"):
        read(path, skip=9)
    for bad in ({"skip": -1}, {"limit": 0}):
        with pytest.raises(UsageError):
            read(path, **bad)


def test_hints(tmp_path: Path) -> None:
    with open_video(write(tmp_path / "a.mp4", pictures(10, 32, 32), VideoInfo(32, 32))) as video:
        assert video.frame_count_hint == 10
        assert video.duration_hint == pytest.approx(0.4)


# ---- tracks


@pytest.mark.parametrize(
    ("codec", "source", "target"),
    [
        ("aac", "mp4", "mp4"),
        ("aac", "mp4", "mkv"),
        ("aac", "mkv", "mp4"),
        ("flac", "mkv", "mp4"),
        ("flac", "mp4", "mkv"),
        ("libopus", "mkv", "mp4"),
        ("libopus", "mp4", "mkv"),
        ("libmp3lame", "mp4", "mkv"),
        ("ac3", "mp4", "mkv"),
        ("pcm_s16le", "mkv", "mkv"),
        ("pcm_s24le", "mkv", "mp4"),
    ],
)
def test_audio_packets_are_copied_untouched(tmp_path: Path, codec: str, source: str, target: str) -> None:
    src, dst = clip_with_audio(tmp_path / f"in.{source}", codec), tmp_path / f"out.{target}"
    assert copy(src, dst) == []
    info, frames, packets, (track,) = read(src)
    info2, frames2, packets2, (track2,) = read(dst)
    assert len(packets) > 5
    assert [p.data for p in packets2] == [p.data for p in packets]
    assert (track2.codec, track2.extradata, track2.sample_rate, track2.channels) == (
        track.codec,
        track.extradata,
        track.sample_rate,
        track.channels,
    )
    for one, two in zip(packets, packets2, strict=True):
        assert abs((one.pts or 0) * track.time_base - (two.pts or 0) * track2.time_base) < MS
    for a, b in zip(seconds(frames, info), seconds(frames2, info2), strict=True):
        assert abs(a - b) < MS
    if codec == "aac" and source == "mp4":
        assert (packets[0].pts or 0) < 0 and (packets2[0].pts or 0) < 0  # the priming survives


@pytest.mark.parametrize(
    ("codec", "container", "other"), [("mov_text", "mp4", "mkv"), ("subrip", "mkv", "mp4"), ("ass", "mkv", "mp4")]
)
def test_subtitles(tmp_path: Path, codec: str, container: str, other: str) -> None:
    src = clip_with_audio(tmp_path / f"in.{container}", subtitles=codec)
    assert copy(src, tmp_path / f"out.{container}") == []
    _, _, packets, tracks = read(src)
    _, _, packets2, tracks2 = read(tmp_path / f"out.{container}")
    assert (tracks2[1].kind, tracks2[1].codec, tracks2[1].language) == ("subtitle", codec, "fin")
    assert tracks2[1].extradata == tracks[1].extradata
    texts = [(p.data, p.pts, p.duration) for p in packets if p.track == 1 and b"hei" in p.data]
    assert texts and texts == [(p.data, p.pts, p.duration) for p in packets2 if p.track == 1 and b"hei" in p.data]
    assert copy(src, tmp_path / f"other.{other}") == [
        f"track 1 (subtitle, {codec}): cannot be stored in {'matroska' if other == 'mkv' else other}"
    ]
    assert [t.kind for t in read(tmp_path / f"other.{other}")[3]] == ["audio"]


def test_bitmap_subtitles_and_codecs_without_a_home(tmp_path: Path) -> None:
    tracks = [
        Track("subtitle", "hdmv_pgs_subtitle", MS, b"", "deu"),
        Track("audio", "dts", MS, b"", "", RATE, 2, "stereo"),
    ]
    with create_video(tmp_path / "a.mkv", VideoInfo(32, 32, MS), tracks) as out:
        assert out.dropped == ["track 1 (audio, dts): cannot be stored in matroska"]
        out.write_packet(TrackPacket(0, b"\x80\x00\x00", 10, 10, 20, True))
        out.write_packet(TrackPacket(1, b"\x00", 10, 10, 20, True))
        out.write(pictures(1, 32, 32)[0])
    _, _, packets, (track,) = read(tmp_path / "a.mkv")
    assert (track.codec, track.language) == ("hdmv_pgs_subtitle", "deu")
    assert [(p.data, p.pts) for p in packets] == [(b"\x80\x00\x00", 10)]


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv"])
def test_adts_audio_of_a_transport_stream_loses_its_headers(tmp_path: Path, container: str) -> None:
    src, dst = clip_with_audio(tmp_path / "in.ts"), tmp_path / f"out.{container}"
    assert copy(src, dst) == []
    _, frames, packets, (track,) = read(src)
    _, frames2, packets2, (track2,) = read(dst)  # one track, though the container learns late what it is
    assert len(frames2) == len(frames) == 25 and len(packets) > 40
    header = 7  # bytes; ISO/IEC 13818-7, 6.2, without a CRC
    assert [p.data for p in packets2] == [p.data[header:] for p in packets]
    assert (track.extradata, track2.extradata[:2]) == (b"", b"\x11\x90")  # AAC-LC, 48 kHz, stereo
    for one, two in zip(packets, packets2, strict=True):
        assert abs((one.pts or 0) * track.time_base - (two.pts or 0) * track2.time_base) < MS


def test_adts_audio_may_begin_late_or_never(tmp_path: Path) -> None:
    src = clip_with_audio(tmp_path / "in.ts")
    _, frames, packets, tracks = read(src)
    for kept in (packets[30:], []):
        with open_video(src) as video, create_video(tmp_path / "out.mkv", video.info, tracks) as out:
            for frame in frames:
                out.write(frame)
            for packet in kept:
                out.write_packet(packet)
        _, frames2, packets2, tracks2 = read(tmp_path / "out.mkv")
        assert (len(frames2), len(packets2), len(tracks2)) == (len(frames), len(kept), 1)


def test_y4m_drops_and_names_tracks(tmp_path: Path) -> None:
    dropped = copy(clip_with_audio(tmp_path / "in.mp4"), tmp_path / "out.y4m")
    assert dropped == ["track 0 (audio, aac): cannot be stored in y4m"]
    assert len(read(tmp_path / "out.y4m")[1]) == 25


def test_reader_names_what_it_cannot_carry(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        out.add_attachment("font.ttf", "font/ttf", b"not a font")
        out.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        out.mux(stream.encode(None))
    with open_video(path) as video:
        assert video.dropped == ["stream 1 (attachment, font/ttf)"] and video.tracks == []


# ---- pipes and file objects


def test_y4m_through_real_pipes(tmp_path: Path) -> None:
    script = (
        "from bsqcodec.video import open_video, create_video\n"
        "with open_video('-') as video, create_video('-', video.info) as out:\n"
        "    for frame in video: out.write(frame)\n"
    )
    path = write(tmp_path / "a.y4m", pictures(4, 35, 17), VideoInfo(35, 17, full_range=False, chroma_location=1))
    done = subprocess.run([sys.executable, "-c", script], input=path.read_bytes(), capture_output=True, check=True)
    assert done.stdout == path.read_bytes()


def test_file_objects(tmp_path: Path) -> None:
    frames = pictures(3, 32, 32)
    out = io.BytesIO()
    with create_video(out, VideoInfo(32, 32), format="mkv", codec="ffv1") as video:
        for frame in frames:
            video.write(frame)
    out.seek(0)
    assert [planes(f) for f in read(out)[1]] == [planes(f) for f in frames]


def test_broken_pipe_stays_a_broken_pipe() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with pytest.raises(BrokenPipeError), os.fdopen(write_end, "wb", buffering=0) as pipe:
        create_video(pipe, VideoInfo(32, 32), format="y4m")


# ---- errors


def one_line(path: Path) -> str:
    with pytest.raises(VideoError) as caught:
        read(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text
    return text


def test_unusable_inputs(tmp_path: Path) -> None:
    assert "no such file" in one_line(tmp_path / "missing.mp4")
    assert "is a directory" in one_line(tmp_path)
    (tmp_path / "empty.mp4").write_bytes(b"")
    assert "is empty" in one_line(tmp_path / "empty.mp4")
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(1).bytes(5000))
    assert "not a video" in one_line(tmp_path / "noise.mp4")
    (tmp_path / "notes.txt").write_text("dear diary\n" * 100)
    assert "not a video" in one_line(tmp_path / "notes.txt")
    write(tmp_path / "small.mkv", pictures(1, 14, 16), VideoInfo(14, 16), "ffv1")
    assert "14x16 is not supported" in one_line(tmp_path / "small.mkv")


def test_audio_only(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.wav"), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=RATE)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.int16), format="s16", layout="mono")
        frame.sample_rate = RATE
        out.mux(stream.encode(frame))
    assert "no video stream (only audio)" in one_line(tmp_path / "a.wav")


def test_empty_standard_input() -> None:
    script = "from bsqcodec.video import open_video\nopen_video('-')"
    done = subprocess.run([sys.executable, "-c", script], input=b"", capture_output=True, check=False)
    assert b"VideoError: standard input: the input is empty" in done.stderr


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_mp4_without_its_index(tmp_path: Path, part: float) -> None:
    data = clip_with_audio(tmp_path / "a.mp4").read_bytes()  # the index is at the end
    (tmp_path / "cut.mp4").write_bytes(data[: int(data.index(b"moov") * part)])
    assert "cut short or damaged" in one_line(tmp_path / "cut.mp4")


@pytest.mark.parametrize("flags", ["+faststart", "frag_keyframe+empty_moov"])
@pytest.mark.parametrize("part", [0.5, 0.8, 0.97])
def test_mp4_cut_in_the_middle(tmp_path: Path, flags: str, part: float) -> None:
    clip = clip_with_audio(tmp_path / "in.mp4", seconds=2)
    whole = tmp_path / "whole.mp4"
    with av.open(str(clip)) as src, av.open(str(whole), "w", options={"movflags": flags}) as out:
        streams = {s.index: out.add_stream_from_template(s) for s in src.streams}
        for packet in src.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
    assert len(read(whole)[1]) == 50
    (tmp_path / "cut.mp4").write_bytes(whole.read_bytes()[: int(whole.stat().st_size * part)])
    assert "cut short or damaged after frame" in one_line(tmp_path / "cut.mp4")


@pytest.mark.parametrize(("name", "codec"), [("a.y4m", None), ("a.mkv", "ffv1"), ("a.mkv", "h264")])
def test_other_files_cut_in_the_middle(tmp_path: Path, name: str, codec: str | None) -> None:
    path = write(tmp_path / name, pictures(12, 64, 64), VideoInfo(64, 64), codec)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7)])
    assert "cut short or damaged" in one_line(path)


def test_cut_pipe() -> None:
    out = io.BytesIO()
    with create_video(out, VideoInfo(32, 32), format="y4m") as video:
        for frame in pictures(3, 32, 32):
            video.write(frame)

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    assert len(read(Pipe(out.getvalue()))[1]) == 3
    with pytest.raises(VideoError, match="cut short or damaged after frame 2"):
        read(Pipe(out.getvalue()[:-100]))


def test_edit_lists_are_not_damage(tmp_path: Path) -> None:
    """A clip whose edit list leaves out its first frames still reads to its end."""
    clip = clip_with_audio(tmp_path / "in.mp4", seconds=2)
    with av.open(str(clip)) as src:
        options = {"avoid_negative_ts": "disabled"}
        with av.open(str(tmp_path / "edit.mp4"), "w", container_options=options) as out:
            streams = {s.index: out.add_stream_from_template(s) for s in src.streams}
            for packet in src.demux():
                if packet.size:
                    ticks = round(Fraction(1, 5) / packet.time_base)
                    packet.pts, packet.dts = (packet.pts or 0) - ticks, (packet.dts or 0) - ticks
                    packet.stream = streams[packet.stream_index]
                    out.mux(packet)
    info, frames, _, _ = read(tmp_path / "edit.mp4")
    assert len(frames) == 45 and frames[0].pts * info.time_base == 0


def test_change_of_size(tmp_path: Path) -> None:
    path = tmp_path / "a.h264"
    small = write(tmp_path / "s.mp4", pictures(3, 32, 32), VideoInfo(32, 32))
    large = write(tmp_path / "l.mp4", pictures(3, 64, 32), VideoInfo(64, 32))
    with path.open("wb") as joined:
        for part in (small, large):
            with av.open(str(part)) as src:
                video = src.streams.video[0]
                annex_b = av.BitStreamFilterContext("h264_mp4toannexb", video)
                for packet in src.demux(video):
                    for out in annex_b.filter(packet if packet.size else None):
                        joined.write(bytes(out))
    assert "frame 3 is 64x32, the frames before are 32x32" in one_line(path)


def test_writer_refuses(tmp_path: Path) -> None:
    info = VideoInfo(32, 32)
    for name, codec in [("a.mp4", "ffv1"), ("a.mov", "rawvideo"), ("a.mp4", "xvid"), ("a.avi", None), ("a", None)]:
        with pytest.raises(UsageError):
            create_video(tmp_path / name, info, codec=codec)
    with pytest.raises(UsageError, match="takes no codec"):
        create_video("-", info, codec="h264")
    with pytest.raises(VideoError, match="cannot be written"):
        create_video(tmp_path / "missing" / "a.y4m", info)
    with pytest.raises(VideoError, match="cannot be written"):
        write(tmp_path / "missing" / "a.mp4", pictures(1, 32, 32), info)
    with pytest.raises(UsageError, match="do not make 32x32"):
        write(tmp_path / "a.mkv", pictures(1, 32, 16), info)
    with pytest.raises(VideoError, match="no frame was written"):
        write(tmp_path / "a.mkv", [], info)


def test_part_suffix_names_the_container(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv.part", pictures(2, 32, 32), VideoInfo(32, 32), "ffv1")
    assert path.read_bytes()[:4] == b"\x1a\x45\xdf\xa3"


def test_promised_end() -> None:
    assert promised_end(b"RIFF" + (100).to_bytes(4, "little") + b"AVI ") == 108
    assert promised_end(b"\x1a\x45\xdf\xa3\x81\x00\x18\x53\x80\x67\x42\x00") == 12 + 512
    assert promised_end(b"\x1a\x45\xdf\xa3\x81\x00\x18\x53\x80\x67\x01" + b"\xff" * 7) == 0  # live: unknown size
    assert promised_end(b"anything else") == 0
    assert ebml_size(b"\x10\x00\x00\x05", 0) == (5, 4)
