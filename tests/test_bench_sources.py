"""What the benchmark feeds the codecs with: the same pictures as the source, 8-bit 4:2:0, even, at a constant rate."""

from __future__ import annotations

import json
import logging
import sys
import threading
import tracemalloc
import types
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import picture, write_mkv_with_audio, y4m_bytes

from bsqcodec.bench import sources
from bsqcodec.bench.datasets import Clip, find_clips
from bsqcodec.bench.probe import scan
from bsqcodec.bench.sources import frames, prepare
from bsqcodec.errors import UsageError, VideoError
from bsqcodec.frames import Frame

W, H, N = 48, 34, 5


def only_clip(folder: Path, **options: object) -> Clip:
    (clip,) = find_clips(str(folder), None, **options)  # type: ignore[arg-type]
    return clip


def write_raw(path: Path, count: int = N, width: int = W, height: int = H) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"".join(p.tobytes() for n in range(count) for p in picture(n, width, height)))
    return path


def write_video(path: Path, pictures: list[av.VideoFrame], format: str, times: list[int] | None = None) -> Path:
    """FFV1 of pictures; times in 1/25 s."""
    path.parent.mkdir(exist_ok=True)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = pictures[0].width, pictures[0].height, format
        for number, frame in enumerate(pictures):
            frame.pts, frame.time_base = number if times is None else times[number], Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def check_frames(path: Path, count: int, width: int, height: int) -> None:
    """Compare a prepared file with `picture` 0 .. count - 1, cropped to the size."""
    made = list(frames(path))
    assert [frame.pts for frame in made] == list(range(count))
    for number, frame in enumerate(made):
        y, u, v = picture(number, width + width % 2, height + height % 2)
        assert np.array_equal(frame.y, y[:height, :width])
        assert np.array_equal(frame.u, u[: height // 2, : width // 2])
        assert np.array_equal(frame.v, v[: height // 2, : width // 2])


# --- what needs no preparing


@pytest.mark.parametrize("name", ["bee", "butterfly", "flower"])
def test_the_shipped_clips_are_ready(name: str, tmp_path: Path) -> None:
    clip = next(clip for clip in find_clips("mini", None, frames=3) if clip.name == name)
    work = tmp_path / "work"
    assert prepare(clip, work) == clip.path
    assert not work.exists()
    assert len(list(frames(clip.path, clip.frames))) == 3


def test_a_plain_y4m_is_ready(tmp_path: Path) -> None:
    (tmp_path / "a.y4m").write_bytes(y4m_bytes(N, W, H))
    assert prepare(only_clip(tmp_path), tmp_path / "work") == tmp_path / "a.y4m"


# --- raw video


def test_raw_video_comes_out_unchanged_and_is_made_once(tmp_path: Path) -> None:
    source = write_raw(tmp_path / "in" / f"a_{W}x{H}_29.97.yuv")
    clip, work = only_clip(source.parent), tmp_path / "work"
    made = prepare(clip, work)
    assert made.parent == work
    check_frames(made, N, W, H)
    found = scan(made)
    assert (found.info.fps, found.frames, found.steady, found.alone) == (Fraction(30000, 1001), N, True, True)
    stamp = made.stat().st_mtime_ns
    assert prepare(clip, work) == made
    assert made.stat().st_mtime_ns == stamp
    assert list(work.iterdir()) == [made]
    assert prepare(replace(clip, path=made, raw=None), work) == made  # what was prepared is ready


def test_another_source_or_another_wish_is_another_file(tmp_path: Path) -> None:
    source = write_raw(tmp_path / "in" / f"a_{W}x{H}_25.yuv")
    work = tmp_path / "work"
    made = {prepare(only_clip(source.parent), work)}
    made.add(prepare(only_clip(source.parent, frames=2), work))
    made.add(prepare(only_clip(source.parent, scale=(32, 32)), work))
    write_raw(source, N + 1)
    made.add(prepare(only_clip(source.parent), work))
    assert len(made) == 4
    assert sorted(scan(path).frames for path in made) == [2, N, N, N + 1]


def test_full_size_uvg_is_read_frame_by_frame(tmp_path: Path) -> None:
    for name in ("Beauty", "Bosphorus", "HoneyBee", "Jockey", "ReadySteadyGo", "ShakeNDry", "YachtRide"):
        with (tmp_path / f"{name}_1920x1080_120fps_420_8bit_YUV.yuv").open("wb") as file:  # sparse
            file.truncate((300 if name == "ShakeNDry" else 600) * 3_110_400)
    clip = find_clips("uvg", tmp_path, frames=2)[0]
    tracemalloc.start()
    made = prepare(clip, tmp_path / "work", threads=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [frame.y.shape for frame in frames(made)] == [(1080, 1920)] * 2
    assert peak < 20e6  # bytes; the file has 1.9e9


# --- sizes


def test_odd_sides_lose_a_row_or_a_column_and_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = write_raw(tmp_path / "in" / "a_35x27_25.yuv", N, 35, 27)
    clip = only_clip(source.parent)
    assert (clip.width, clip.height) == (34, 26)
    with caplog.at_level(logging.INFO, "bsqcodec"):
        made = prepare(clip, tmp_path / "work")
    assert "cropped from 35x27 to even sides" in caplog.text
    for number, frame in enumerate(frames(made)):
        y, u, v = picture(number, 35, 27)
        assert np.array_equal(frame.y, y[:26, :34])
        assert np.array_equal(frame.u, u[:13, :17])
        assert np.array_equal(frame.v, v[:13, :17])


def cubic_weights(size: int, target: int) -> np.ndarray:
    """[target, size]: Mitchell and Netravali's cubic with B = 0, C = 0.6, as wide as the samples it takes in."""
    step = size / target
    centre = (np.arange(target)[:, None] + 0.5) * step - 0.5
    x = np.abs(np.arange(-size, 2 * size)[None, :] - centre) / max(step, 1)
    c = 0.6
    inner = (2 - c) * x**3 + (c - 3) * x**2 + 1
    outer = -c * x**3 + 5 * c * x**2 - 8 * c * x + 4 * c
    wide = np.where(x < 1, inner, np.where(x < 2, outer, 0))
    weights = wide[:, size : 2 * size].copy()
    weights[:, 0] += wide[:, :size].sum(1)  # what lies outside counts as the border
    weights[:, -1] += wide[:, 2 * size :].sum(1)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("size", [(64, 36), (160, 48), (240, 150)])
def test_scaling_is_bicubic(tmp_path: Path, size: tuple[int, int]) -> None:
    blocks = np.random.default_rng(1).integers(60, 190, (36, 64), np.uint8)
    luma = blocks.repeat(3, 0).repeat(3, 1)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a_192x108_25.yuv").write_bytes((luma.tobytes() + bytes(2 * 96 * 54)) * 2)
    clip = only_clip(tmp_path / "in", scale=size)
    assert (clip.width, clip.height) == size
    made = list(frames(prepare(clip, tmp_path / "work")))
    assert len(made) == 2
    expected = cubic_weights(108, size[1]) @ luma @ cubic_weights(192, size[0]).T
    assert np.abs(made[1].y - expected).max() < 3


def test_scaling_keeps_flat_pictures_flat(tmp_path: Path) -> None:
    flat = b"".join(
        np.full(n, value, np.uint8).tobytes() for n, value in ((W * H, 77), (W * H // 4, 200), (W * H // 4, 3))
    )
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / f"a_{W}x{H}_25.yuv").write_bytes(flat)
    (frame,) = frames(prepare(only_clip(tmp_path / "in", scale=(80, 60)), tmp_path / "work"))
    assert [set(np.unique(plane)) for plane in (frame.y, frame.u, frame.v)] == [{77}, {200}, {3}]


# --- formats


def test_rgb_becomes_bt709_limited_range(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "in").mkdir()
    colour = (200, 40, 90)
    Image.new("RGB", (40, 30), colour).save(tmp_path / "in" / "a.png")
    clip = only_clip(tmp_path / "in")
    assert (clip.matrix, clip.full_range, clip.frames) == (1, False, 1)
    (frame,) = frames(prepare(clip, tmp_path / "work"))
    red, green, blue = (value / 255 for value in colour)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue  # ITU-R BT.709
    expected = (16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748)
    for plane, value in zip((frame.y, frame.u, frame.v), expected, strict=True):
        assert np.abs(plane - value).max() <= 1


def test_ten_bits_and_444_are_converted(tmp_path: Path) -> None:
    samples = np.stack([np.full((32, 48), 257 * value, np.uint16) for value in (60, 120, 180)])
    frame = av.VideoFrame.from_ndarray(np.moveaxis(samples, 0, 2), format="rgb48le").reformat(format="yuv444p10le")
    ten = [int(np.frombuffer(memoryview(plane), np.uint16)[0]) for plane in frame.planes]
    write_video(tmp_path / "in" / "a.mkv", [frame] * 2, "yuv444p10le")
    clip = only_clip(tmp_path / "in")
    made = prepare(clip, tmp_path / "work")
    assert scan(made).info.source_format == "yuv420p"
    for made_frame in frames(made):
        for plane, sample in zip((made_frame.y, made_frame.u, made_frame.v), ten, strict=True):
            assert np.abs(plane - sample / 4).max() <= 0.75


def av_picture(number: int) -> av.VideoFrame:
    packed = np.concatenate([plane.reshape(-1) for plane in picture(number, W, H)])
    return av.VideoFrame.from_ndarray(packed.reshape(H * 3 // 2, W), format="yuv420p")


@pytest.mark.parametrize("times", [[0, 1, 2, 7, 8], [0, 3, 4, 5, 6]], ids=["gap", "late"])
def test_uneven_times_become_a_constant_rate(tmp_path: Path, times: list[int]) -> None:
    path = write_video(tmp_path / "in" / "a.mkv", [av_picture(n) for n in range(N)], "yuv420p", times)
    clip, work = only_clip(path.parent), tmp_path / "work"
    made = prepare(clip, work)
    assert made.parent == work
    check_frames(made, N, W, H)
    assert scan(made).steady


def test_sound_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_mkv_with_audio(tmp_path / "in" / "a.mkv")
    clip = only_clip(tmp_path / "in", frames=4)
    made = prepare(clip, tmp_path / "work")
    with av.open(str(made)) as container:
        assert [stream.type for stream in container.streams] == ["video"]
    check_frames(made, 4, clip.width, clip.height)


# --- damage, interruption, company


def test_a_source_that_ends_early_leaves_nothing_behind(tmp_path: Path) -> None:
    source = write_raw(tmp_path / "in" / f"a_{W}x{H}_25.yuv")
    clip, work = only_clip(source.parent), tmp_path / "work"
    write_raw(source, N - 1)  # after it was checked
    with pytest.raises(VideoError, match=f"ends after frame {N - 1} of {N}"):
        prepare(clip, work)
    source.write_bytes(source.read_bytes()[:-1])
    with pytest.raises(VideoError, match="ends within frame"):
        prepare(clip, work)
    assert list(work.iterdir()) == []


def test_an_interruption_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_raw(tmp_path / "in" / f"a_{W}x{H}_25.yuv")
    clip, work = only_clip(source.parent), tmp_path / "work"
    real = sources.read_frames

    def interrupted(*arguments: object) -> object:
        for number, frame in enumerate(real(*arguments)):  # type: ignore[arg-type]
            if number == 3:
                assert [path.suffix for path in work.iterdir()] == [".part"]
                raise KeyboardInterrupt
            yield frame

    monkeypatch.setattr(sources, "read_frames", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(clip, work)
    assert list(work.iterdir()) == []
    monkeypatch.undo()
    check_frames(prepare(clip, work), N, W, H)


def test_two_at_once_make_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_raw(tmp_path / "in" / f"a_{W}x{H}_25.yuv", 40)
    clip, work = only_clip(source.parent), tmp_path / "work"
    runs, results = [], []
    real = sources._write
    monkeypatch.setattr(sources, "_write", lambda *arguments: (runs.append(1), real(*arguments)))
    threads = [threading.Thread(target=lambda: results.append(prepare(clip, work, threads=1))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(results)) == 1
    assert len(results) == 3
    assert len(runs) == 1
    check_frames(results[0], 40, W, H)


def test_frames_stop_at_the_limit(tmp_path: Path) -> None:
    (tmp_path / "a.y4m").write_bytes(y4m_bytes(N, W, H))
    assert len(list(frames(tmp_path / "a.y4m", 2))) == 2
    assert len(list(frames(tmp_path / "a.y4m"))) == N
    assert all(isinstance(frame, Frame) and frame.duration == 1 for frame in frames(tmp_path / "a.y4m"))
    with pytest.raises(VideoError, match="no such file"):
        next(frames(tmp_path / "b.y4m"))


# --- archives


class FakeSevenZip:
    """What `archives` uses of py7zr; the archive is a JSON object of member names and their contents in hex."""

    def __init__(self, path: Path, mode: str) -> None:
        self.files = {name: bytes.fromhex(data) for name, data in json.loads(Path(path).read_text()).items()}

    def __enter__(self) -> FakeSevenZip:
        return self

    def __exit__(self, *args: object) -> None:
        pass

    def list(self) -> list[types.SimpleNamespace]:
        return [types.SimpleNamespace(filename=n, uncompressed=len(d)) for n, d in self.files.items()]

    def extract(self, path: Path, targets: list[str]) -> None:
        for name in targets:
            if not self.files[name].startswith(b"broken"):
                (path / name).write_bytes(self.files[name])


def uvg_with_archive(folder: Path, member: str, data: bytes) -> None:
    names = ["Bosphorus", "HoneyBee", "Jockey", "ReadySteadyGo", "ShakeNDry", "YachtRide"]
    for name in names:
        write_raw(folder / f"{name}_1920x1080_120fps_420_8bit_YUV.yuv")
    (folder / "dataset.json").write_text(json.dumps({"width": W, "height": H, "frames": N}))
    archive = {"Beauty_Copyright.txt": b"c".hex(), member: data.hex()}
    (folder / "Beauty_1920x1080_120fps_420_8bit_YUV_RAW.7z").write_text(json.dumps(archive))


@pytest.mark.parametrize("member", ["a.yuv", "deep/er/a.yuv", "deep/a.y4m"])
def test_an_archive_is_unpacked_for_as_long_as_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: str
) -> None:
    monkeypatch.setitem(sys.modules, "py7zr", types.SimpleNamespace(SevenZipFile=FakeSevenZip))  # type: ignore[arg-type]
    raw = write_raw(tmp_path / "a" / "a.yuv").read_bytes()
    uvg_with_archive(tmp_path / "uvg", member, raw if member.endswith("yuv") else y4m_bytes(N, W, H))
    clip, work = find_clips("uvg", tmp_path / "uvg")[0], tmp_path / "work"
    made = prepare(clip, work)
    assert list(work.iterdir()) == [made]
    check_frames(made, N, W, H)
    assert scan(made).info.fps == 120


def test_an_archive_that_does_not_come_out_whole_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "py7zr", types.SimpleNamespace(SevenZipFile=FakeSevenZip))  # type: ignore[arg-type]
    uvg_with_archive(tmp_path / "uvg", "a.yuv", b"broken".ljust(N * W * H * 3 // 2))
    clip, work = find_clips("uvg", tmp_path / "uvg")[0], tmp_path / "work"
    with pytest.raises(VideoError, match="does not come out whole"):
        prepare(clip, work)
    assert list(work.iterdir()) == []
    monkeypatch.setattr("shutil.disk_usage", lambda path: types.SimpleNamespace(free=100))
    with pytest.raises(UsageError, match="bytes needed to unpack"):
        prepare(clip, work)


def test_a_real_archive(tmp_path: Path) -> None:
    py7zr = pytest.importorskip("py7zr")
    raw = write_raw(tmp_path / "raw" / "a.yuv")
    uvg_with_archive(tmp_path / "uvg", "a.yuv", b"")
    archive = tmp_path / "uvg" / "Beauty_1920x1080_120fps_420_8bit_YUV_RAW.7z"
    archive.unlink()
    with py7zr.SevenZipFile(archive, "w") as out:
        out.write(raw, "Beauty/Beauty_1920x1080_120fps_420_8bit_YUV.yuv")
    clip, work = find_clips("uvg", tmp_path / "uvg")[0], tmp_path / "work"
    check_frames(prepare(clip, work), N, W, H)
    data = bytearray(archive.read_bytes())
    data[40] ^= 255  # in the compressed video
    archive.write_bytes(data)
    with pytest.raises(VideoError, match="download"):
        prepare(clip, tmp_path / "work2")
    assert list((tmp_path / "work2").iterdir()) == []
    archive.write_bytes(data[: len(data) // 2])
    with pytest.raises(VideoError, match="not a whole 7-Zip archive"):
        find_clips("uvg", tmp_path / "uvg")
