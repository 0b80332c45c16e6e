"""The public API: encode, decode, open. The codec room is the stand-in of `tests/fakes`."""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
from dataclasses import fields
from fractions import Fraction
from pathlib import Path

import av
import clips
import numpy as np
import pytest

import bsqcodec
from bsqcodec import codec as room  # before the stand-in takes its place: a second import would make a second module
from bsqcodec.colour import to_rgb
from bsqcodec.errors import BitstreamError, DeviceError, TruncatedError, UsageError, VideoError, WeightsMismatchError
from bsqcodec.frames import Frame, VideoInfo
from bsqcodec.metrics import compare
from bsqcodec.progress import ProgressMeter
from bsqcodec.results import psnr_of

FAKES = Path(__file__).parent / "fakes"


@pytest.fixture(autouse=True)
def fake_codec(monkeypatch):
    monkeypatch.syspath_prepend(str(FAKES))
    monkeypatch.setitem(sys.modules, "bsqcodec.codec", importlib.import_module("fake_codec"))


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "in.y4m"
    path.write_bytes(clips.y4m_bytes())
    return path


@pytest.fixture
def stream(clip, tmp_path):
    path = tmp_path / "made.bsq"
    bsqcodec.encode(clip, path, keyint=3)
    return path


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- the package ---------------------------------------------------------------------------------


def test_import_is_lazy_and_every_name_resolves():
    code = "import sys, bsqcodec; bsqcodec.open; bsqcodec.encode; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
    for name in bsqcodec.__all__:
        assert getattr(bsqcodec, name).__name__ == name
    assert set(bsqcodec.__all__) <= set(dir(bsqcodec))
    assert set(bsqcodec.__all__) == set(bsqcodec._HOME)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bsqcodec.nothing


def test_the_stand_in_has_the_shape_of_the_real_room():
    fake = sys.modules["bsqcodec.codec"]
    assert fake is not room
    for name in ("load_model", "check_model", "decode_group", "GroupEncoder"):
        real, ours = (inspect.signature(getattr(module, name)).parameters for module in (room, fake))
        assert [(p.name, p.kind) for p in real.values()] == [(p.name, p.kind) for p in ours.values()], name
    for name in ("FrameStats", "EncodedGroup"):
        real, ours = ({field.name for field in fields(getattr(module, name))} for module in (room, fake))
        assert real == ours, name


# --- encode --------------------------------------------------------------------------------------


def test_encode_reports_what_the_file_holds(clip, tmp_path):
    stats = bsqcodec.encode(clip, tmp_path / "out.bsq", crf=40, keyint=3)
    size = (tmp_path / "out.bsq").stat().st_size
    assert (stats.frames, stats.groups, stats.bytes) == (clips.FRAMES, 3, size)
    assert stats.bpp == pytest.approx(size * 8 / (clips.FRAMES * clips.WIDTH * clips.HEIGHT))
    assert stats.kbps == pytest.approx(size * 8 / (clips.FRAMES / 25) / 1000)
    assert stats.fps == pytest.approx(stats.frames / stats.seconds)
    originals = [Frame(*clips.picture(n), n) for n in range(clips.FRAMES)]
    with bsqcodec.open(tmp_path / "out.bsq") as video:
        quality = compare(originals, video)
    measured = (quality.psnr_y, quality.psnr_u, quality.psnr_v, quality.psnr)
    assert (stats.psnr_y, stats.psnr_u, stats.psnr_v, stats.psnr) == pytest.approx(measured, abs=1e-9)
    assert 20 < stats.psnr < 60
    assert set(stats.bits) == {"motion", "tokens/1"}
    assert files(tmp_path) == {"in.y4m", "out.bsq"}


def test_identical_frames_count_as_100_db(clip, tmp_path):
    assert bsqcodec.encode(clip, tmp_path / "out.bsq", crf=0).psnr == 100
    assert psnr_of(0, 10) == 100 == psnr_of(1, 10**7)
    assert psnr_of(255**2 * 10, 10) == 0


def test_skip_and_limit(clip, tmp_path):
    assert bsqcodec.encode(clip, tmp_path / "out.bsq", crf=0, skip=2, limit=3).frames == 3
    with bsqcodec.open(tmp_path / "out.bsq") as video:
        for number, frame in enumerate(video, 2):
            np.testing.assert_array_equal(frame.y, clips.picture(number)[0])
        assert len(video) == 3


def test_skip_past_the_end_is_an_error(clip, tmp_path):
    with pytest.raises(VideoError, match="leaves none"):
        bsqcodec.encode(clip, tmp_path / "out.bsq", skip=100)
    assert files(tmp_path) == {"in.y4m"}


@pytest.mark.parametrize(
    "options",
    [
        *({"crf": -1}, {"crf": 51.1}, {"crf": float("nan")}, {"keyint": 0}, {"keyint": 65536}),
        *({"tune": "vmaf"}, {"skip": -1}, {"limit": 0}, {"threads": -1}),
    ],
)
def test_arguments_out_of_range(clip, tmp_path, options):
    with pytest.raises(UsageError, match=next(iter(options))):
        bsqcodec.encode(clip, tmp_path / "out.bsq", **options)
    assert files(tmp_path) == {"in.y4m"}


def test_progress_reaches_the_end(clip, tmp_path):
    seen = []
    stats = bsqcodec.encode(clip, tmp_path / "out.bsq", keyint=3, on_progress=seen.append)
    counts = [progress.frames for progress in seen]
    assert counts == sorted(counts)
    assert (seen[0].frames, seen[-1].frames, seen[-1].bytes) == (1, clips.FRAMES, stats.bytes)
    assert seen[-1].kbps == pytest.approx(stats.kbps)
    decoded = []
    bsqcodec.decode(tmp_path / "out.bsq", tmp_path / "out.y4m", on_progress=decoded.append)
    assert [(p.frames, p.total) for p in decoded] == [(n, clips.FRAMES) for n in range(1, clips.FRAMES + 1)]
    assert decoded[-1].fraction == 1
    assert decoded[-1].eta == 0


def test_meter_extrapolates():
    meter = ProgressMeter(None, rate=Fraction(25), total=100)
    progress = meter.measure(50, 1000)
    assert progress.kbps == pytest.approx(1000 * 8 / 2 / 1000)
    assert progress.expected_bytes == 2000
    assert progress.eta == pytest.approx(progress.seconds, rel=1e-6)
    assert meter.measure(120).total == 120  # more than was promised


# --- decode --------------------------------------------------------------------------------------


def test_decode_to_y4m_gives_the_frames_of_open(stream, tmp_path):
    stats = bsqcodec.decode(stream, tmp_path / "back.y4m")
    assert (stats.frames, stats.groups) == (clips.FRAMES, 3)
    planes = clips.read_y4m((tmp_path / "back.y4m").read_bytes())
    with bsqcodec.open(stream) as video:
        for frame, (y, u, v) in zip(video, planes, strict=True):
            for got, expected in ((frame.y, y), (frame.u, u), (frame.v, v)):
                np.testing.assert_array_equal(got, expected)


def test_audio_comes_back_untouched(tmp_path):
    packets = clips.write_mkv_with_audio(tmp_path / "in.mkv", seconds=2)
    bsqcodec.encode(tmp_path / "in.mkv", tmp_path / "out.bsq")
    bsqcodec.decode(tmp_path / "out.bsq", tmp_path / "back.mkv", codec="ffv1")
    with av.open(str(tmp_path / "back.mkv")) as back:
        got = [bytes(packet) for packet in back.demux(audio=0) if packet.size]
    assert len(packets) > 1
    assert got == packets


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_damaged_streams_leave_no_output(stream, tmp_path, damage):
    data = bytearray(stream.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    broken = {"cut": data[:-100], "flip": data, "empty": b"", "text": b"not a stream at all, only text"}[damage]
    (tmp_path / "broken.bsq").write_bytes(broken)
    with pytest.raises(TruncatedError if damage == "cut" else BitstreamError, match=r"broken\.bsq"):
        bsqcodec.decode(tmp_path / "broken.bsq", tmp_path / "back.y4m")
    assert "back" not in " ".join(files(tmp_path))


def test_other_weights_and_devices(stream, tmp_path):
    with pytest.raises(WeightsMismatchError):
        bsqcodec.decode(stream, tmp_path / "back.y4m", weights="other.safetensors")
    with pytest.raises(DeviceError):
        bsqcodec.decode(stream, tmp_path / "back.y4m", device="cuda:0")
    with pytest.raises(WeightsMismatchError):
        bsqcodec.open(stream, weights="other.safetensors")
    assert not (tmp_path / "back.y4m").exists()


# --- outputs -------------------------------------------------------------------------------------


@pytest.fixture
def no_torch_room(monkeypatch):
    """Makes sure that an error comes before the codec is imported."""
    monkeypatch.setitem(sys.modules, "bsqcodec.codec", None)


def test_output_checks_come_first(clip, tmp_path, no_torch_room):
    (tmp_path / "taken.bsq").write_bytes(b"old")
    (tmp_path / "link.y4m").symlink_to(clip)
    cases = [
        (clip, UsageError, "same file"),
        (tmp_path / "link.y4m", UsageError, "same file"),
        (tmp_path / "taken.bsq", VideoError, "already exists"),
        (tmp_path / "nowhere" / "out.bsq", VideoError, "no folder"),
        (tmp_path, VideoError, "is a folder"),
        (clip / "out.bsq", VideoError, "no folder"),
    ]
    before = files(tmp_path)
    for dst, kind, message in cases:
        with pytest.raises(kind, match=message):
            bsqcodec.encode(clip, dst)
    assert files(tmp_path) == before
    assert (tmp_path / "taken.bsq").read_bytes() == b"old"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody can write to")
def test_unwritable_folder(clip, no_torch_room):
    with pytest.raises(VideoError, match="cannot write here"):
        bsqcodec.encode(clip, "/proc/out.bsq")


def test_part_file_of_the_output_as_input_is_refused(clip, tmp_path):
    clip.rename(tmp_path / "out.bsq.part")
    with pytest.raises(UsageError, match="same file"):
        bsqcodec.encode(tmp_path / "out.bsq.part", tmp_path / "out.bsq")
    assert (tmp_path / "out.bsq.part").read_bytes() == clips.y4m_bytes()


def test_failure_keeps_the_old_file_and_success_replaces_it(clip, tmp_path):
    target, link = tmp_path / "old.bsq", tmp_path / "link.bsq"
    target.write_bytes(b"old")
    link.symlink_to(target)

    def stop(progress):
        if progress.frames == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bsqcodec.encode(clip, link, overwrite=True, on_progress=stop)
    assert target.read_bytes() == b"old"
    assert files(tmp_path) == {"in.y4m", "old.bsq", "link.bsq"}
    stats = bsqcodec.encode(clip, link, overwrite=True)
    assert link.is_symlink()
    assert target.stat().st_size == stats.bytes


def test_full_disk_names_the_file(clip, tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("bsqcodec.container.StreamWriter.write_group", full)
    with pytest.raises(VideoError, match=r"out\.bsq: No space left"):
        bsqcodec.encode(clip, tmp_path / "out.bsq")
    assert files(tmp_path) == {"in.y4m"}


def test_device_files_are_written_directly(clip):
    assert bsqcodec.encode(clip, os.devnull).frames == clips.FRAMES
    assert not Path(os.devnull).is_file()


def test_verify(clip, tmp_path, monkeypatch):
    assert bsqcodec.encode(clip, tmp_path / "good.bsq", verify=True, keyint=3).frames == clips.FRAMES
    monkeypatch.setenv("FAKE_FLIP", "1")
    with pytest.raises(bsqcodec.BsqError, match="frame 0 decodes to other pixels") as caught:
        bsqcodec.encode(clip, tmp_path / "bad.bsq", verify=True)
    assert caught.value.exit_code == 1
    assert files(tmp_path) == {"in.y4m", "good.bsq"}
    with pytest.raises(UsageError, match="cannot be read back"):
        bsqcodec.encode(clip, "-", verify=True)
    with pytest.raises(UsageError, match="cannot be read back"):
        bsqcodec.encode(clip, os.devnull, verify=True)


# --- open ----------------------------------------------------------------------------------------


def test_open_iterates_and_seeks(stream):
    with bsqcodec.open(stream) as video:
        assert len(video) == clips.FRAMES
        everything = list(video)
        assert [frame.index for frame in everything] == list(range(clips.FRAMES))
        assert [frame.pts for frame in everything] == [Fraction(n, 25) for n in range(clips.FRAMES)]
        assert list(video) == []
        for start in (*range(clips.FRAMES), 3, 0):
            video.seek(start)
            frame = next(iter(video))
            assert frame.index == start
            np.testing.assert_array_equal(frame.v, everything[start].v)
            np.testing.assert_array_equal(frame.y, everything[start].y)
        assert repr(frame) == "DecodedFrame(index=0, 34x26, pts=0.000 s)"


@pytest.mark.parametrize("target", [0, 1, 2, 4, 5, 6, 7])
def test_seek_while_iterating(stream, target):
    seen = []
    with bsqcodec.open(stream) as video:
        for frame in video:
            seen.append(frame.index)
            if len(seen) == 4:  # frame 3, the first of the second group
                video.seek(target)
    assert seen == [0, 1, 2, 3, *range(target, clips.FRAMES)]


def test_seek_outside_and_missing_file(stream, tmp_path):
    with bsqcodec.open(stream) as video:
        for frame in (-1, clips.FRAMES + 1):
            with pytest.raises(UsageError, match="outside"):
                video.seek(frame)
    with pytest.raises(VideoError, match=r"gone\.bsq: cannot read"):
        bsqcodec.open(tmp_path / "gone.bsq")


def test_a_cut_file_gives_its_whole_groups_and_then_an_error(stream, tmp_path):
    (tmp_path / "cut.bsq").write_bytes(stream.read_bytes()[:-300])
    with bsqcodec.open(tmp_path / "cut.bsq") as video:
        frames = iter(video)
        assert len(video) in (3, 6)
        assert [next(frames).index for _ in range(len(video))] == list(range(len(video)))
        with pytest.raises(TruncatedError, match=r"cut\.bsq"):
            next(frames)


# --- colour --------------------------------------------------------------------------------------


def flat(y: int, u: int, v: int, **known) -> np.ndarray:
    """RGB of a flat 720-row picture's first pixel."""
    info = VideoInfo(width=4, height=known.pop("height", 720), **known)
    shape = (info.height, 4), (info.height // 2, 2)
    planes = [np.full(shape[min(n, 1)], value, np.uint8) for n, value in enumerate((y, u, v))]
    return to_rgb(*planes, info)[0, 0]


@pytest.mark.parametrize(
    ("known", "rgb"),
    [
        # pure red at 255, rounded to 8-bit codes, by each matrix (BT.601, BT.709, BT.2020)
        ({"matrix": 6, "yuv": (81, 90, 240)}, (255, 0, 0)),
        ({"matrix": 1, "yuv": (63, 102, 240)}, (255, 0, 0)),
        ({"matrix": 9, "yuv": (74, 97, 240)}, (255, 0, 0)),
        ({"matrix": 6, "full_range": True, "yuv": (76, 85, 255)}, (255, 0, 0)),
        ({"matrix": 1, "yuv": (32, 240, 118)}, (0, 0, 255)),
        # unspecified: BT.709 from 720 rows up, else BT.601
        ({"yuv": (63, 102, 240)}, (255, 0, 0)),
        ({"height": 576, "yuv": (81, 90, 240)}, (255, 0, 0)),
        ({"matrix": 1, "yuv": (235, 128, 128)}, (255, 255, 255)),
        ({"matrix": 1, "yuv": (16, 128, 128)}, (0, 0, 0)),
        ({"full_range": True, "yuv": (16, 128, 128)}, (16, 16, 16)),
    ],
)
def test_rgb_of_flat_colours(known, rgb):
    yuv = known.pop("yuv")
    np.testing.assert_allclose(flat(*yuv, **known).astype(int), rgb, atol=2)


@pytest.mark.parametrize(("location", "first"), [(1, 0.0), (0, 0.0), (2, -0.25), (6, -0.25), (3, 0.0)])
def test_chroma_lies_where_the_stream_says(location, first):
    """A horizontal ramp of V stays a ramp, placed by the chroma location; rows do not matter to it."""
    v = np.tile(np.arange(8, dtype=np.uint8) * 10 + 100, (4, 1))
    info = VideoInfo(width=16, height=8, matrix=6, full_range=True, chroma_location=location)
    rgb = to_rgb(np.full((8, 16), 100, np.uint8), np.full((4, 8), 128, np.uint8), v, info)
    position = np.clip(np.arange(16) / 2 + first, 0, 7)
    expected = 100 + 1.402 * (100 + 10 * position - 128)
    np.testing.assert_allclose(rgb[:, :, 0], np.tile(expected, (8, 1)), atol=0.51)


def test_rgb_of_odd_sizes(tmp_path):
    (tmp_path / "odd.y4m").write_bytes(clips.y4m_bytes(2, 35, 27))
    bsqcodec.encode(tmp_path / "odd.y4m", tmp_path / "odd.bsq", crf=0)
    with bsqcodec.open(tmp_path / "odd.bsq") as video:
        frame = next(iter(video))
    assert (frame.rgb.shape, frame.rgb.dtype) == ((27, 35, 3), np.uint8)
    assert frame.u.shape == (14, 18)
