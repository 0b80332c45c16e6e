"""x264, x265 and SVT-AV1 as anchors: what goes in, what the stream holds, what comes out."""

from __future__ import annotations

import re
from pathlib import Path

import av
import pytest
from av.video.frame import PictureType
from bench_video import RATE, textured_frames, write_ffv1

from bsqcodec.bench.anchors import ANCHORS, split_settings
from bsqcodec.bench.codecs import check_quality, codec
from bsqcodec.bench.tosize import encode_to_size
from bsqcodec.errors import UsageError, VideoError
from bsqcodec.metrics import compare, plane_psnr
from bsqcodec.video.convert import to_av_frame

COUNT = 11
FRAMES = textured_frames(COUNT)
NAMES = sorted(ANCHORS)
MIDDLE = {"x264": 27.0, "x265": 27.0, "svtav1": 41.0}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ffv1(tmp_path_factory.mktemp("anchors") / "clip.mkv", FRAMES)


def pictures(stream: Path, container: str) -> list[av.VideoFrame]:
    with av.open(str(stream), format=container) as file:
        return list(file.decode(video=0))


@pytest.mark.parametrize("name", NAMES)
def test_round_trip(name: str, clip: Path, tmp_path: Path) -> None:
    anchor = ANCHORS[name]
    out = tmp_path / f"out{anchor.suffix}"
    made = anchor.encode(clip, out, MIDDLE[anchor.name], keyint=4)
    decoded = list(anchor.decode(out))
    assert compare(FRAMES, decoded).psnr > 30  # raises when a frame is lost
    for number, frame in enumerate(decoded):  # display order: nearest to the frame of its own number
        nearest = max(range(COUNT), key=lambda n: plane_psnr(FRAMES[n].y, frame.y))
        assert (number, frame.pts) == (nearest, number)
    assert sum(made.frame_bits) == 8 * out.stat().st_size
    assert len(made.frame_bits) == COUNT
    assert made.frame_bits[0] > 3 * sorted(made.frame_bits)[COUNT // 2]  # the key frame of a moving texture
    assert made.seconds > 0
    assert re.search(r"\d", made.library.split(",")[0]), "a version of the encoder"
    assert f"PyAV {av.__version__}, libavcodec " in made.library
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize("name", NAMES)
def test_key_frames_are_as_often_as_said(name: str, clip: Path, tmp_path: Path) -> None:
    anchor = ANCHORS[name]
    out = tmp_path / "out"
    anchor.encode(clip, out, MIDDLE[anchor.name], keyint=4)
    keys = [n for n, picture in enumerate(pictures(out, anchor.library.container)) if picture.key_frame]
    assert anchor.own_keyint is (anchor.setting != "paper")
    if anchor.own_keyint:
        gaps = [b - a for a, b in zip(keys, [*keys[1:], COUNT], strict=True)]
        assert keys[0] == 0
        assert max(gaps) <= 4
    else:
        assert keys == [0]


@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith("svt")])
def test_only_best_has_b_frames(name: str, clip: Path, tmp_path: Path) -> None:
    anchor = ANCHORS[name]
    anchor.encode(clip, tmp_path / "out", 27, keyint=32)
    kinds = [picture.pict_type for picture in pictures(tmp_path / "out", anchor.library.container)]
    assert (PictureType.B in kinds) is (anchor.setting == "best")


def test_svtav1_shows_stored_frames_again_only_in_random_access(clip: Path, tmp_path: Path) -> None:
    """A frame that was stored ahead is shown by 5 bytes: the mark of the structure with frames that wait."""
    shortest = {}
    for setting in ("paper", "lowdelay", "best"):
        anchor = ANCHORS[f"svtav1:{setting}"]
        made = anchor.encode(clip, tmp_path / "out.obu", 20, keyint=32)
        shortest[setting] = min(made.frame_bits) / 8
    assert shortest["best"] == 5
    assert min(shortest["paper"], shortest["lowdelay"]) > 15


def test_options_in_words() -> None:
    wanted = {
        "x264:paper": "-c:v libx264 -preset medium -bf 0 -crf 27.5 -threads 1",
        "x264:lowdelay": "-c:v libx264 -preset medium -tune zerolatency -g 32 -crf 27.5 -threads 1",
        "x264:best": "-c:v libx264 -preset slow -tune psnr -g 32 -crf 27.5 -threads 1",
        "x265:paper": "-c:v libx265 -preset medium -crf 27.5 "
        "-x265-params bframes=0:pools=none:log-level=none -threads 1",
        "svtav1:best": "-c:v libsvtav1 -preset 4 -g 32 -crf 27.5 -svtav1-params pred-struct=2:tune=1:lp=1",
    }
    assert {name: ANCHORS[name].options(27.5, keyint=32, threads=1) for name in wanted} == wanted
    assert "pools=3:" in ANCHORS["x265:best"].options(27, keyint=32, threads=3)
    assert "lp=3" in ANCHORS["svtav1:paper"].options(27, keyint=32, threads=3)


def test_libraries_say_that_they_took_the_options(clip: Path, tmp_path: Path) -> None:
    def settings(name: str) -> set[str]:
        text = ANCHORS[name].encode(clip, tmp_path / "out", 30, keyint=8, limit=3).settings
        return set(text.split("options: ")[1].split())

    assert settings("x264:paper") >= {"bframes=0", "keyint=250", "crf=30.0", "subme=7", "ref=3", "threads=1"}
    assert settings("x264:best") >= {"bframes=3", "keyint=8", "subme=8", "psy=0", "aq=1:0.00", "b_pyramid=2"}
    assert settings("x264:lowdelay") >= {"bframes=0", "keyint=8", "mbtree=0", "subme=7"}
    assert settings("x265:paper") >= {"bframes=0", "keyint=250", "crf=30.0", "rd=3", "frame-threads=1"}
    assert settings("x265:best") >= {"bframes=4", "keyint=8", "rd=4", "aq-strength=0.00", "psy-rd=0.00"}
    assert settings("x265:lowdelay") >= {"bframes=0", "keyint=8", "rc-lookahead=0"}


def test_x265_stream_is_what_it_writes_without_its_settings(clip: Path, tmp_path: Path) -> None:
    """The message is repeated at each key frame; x265's own switch against it gives the same bytes."""
    out = tmp_path / "out.265"
    ANCHORS["x265:best"].encode(clip, out, 30, keyint=4)
    context = av.CodecContext.create("libx265", "w")
    context.width, context.height, context.pix_fmt = 128, 96, "yuv420p"
    context.framerate, context.time_base, context.thread_count = RATE, 1 / RATE, 1
    context.color_primaries = context.color_trc = context.colorspace = context.color_range = 1
    context.options = {
        "preset": "slow", "tune": "psnr", "g": "4", "crf": "30", "x265-params": "info=0:pools=none:log-level=none"
    }  # fmt: skip
    packets = []
    for frame in FRAMES:
        picture = to_av_frame(frame.y, frame.u, frame.v)
        picture.pts, picture.time_base = frame.pts, 1 / RATE
        packets += context.encode(picture)
    assert out.read_bytes() == b"".join(map(bytes, [*packets, *context.encode(None)]))


@pytest.mark.parametrize("name", ["x264:paper", "x265:paper"])
def test_settings_message_is_not_charged(name: str, clip: Path, tmp_path: Path) -> None:
    anchor = ANCHORS[name]
    made = anchor.encode(clip, tmp_path / "out", 40, keyint=32, limit=2)
    data = (tmp_path / "out").read_bytes()
    assert b"options: " not in data
    assert anchor.library.settings_uuid not in data
    assert len(made.settings) > 500
    assert made.settings.startswith(anchor.name)


def test_split_settings_keeps_every_other_byte() -> None:
    uuid = bytes(range(1, 17))
    head, message, tail = b"\0\0\0\1\x67abc", b"\0\0\1\x06\x05\x20" + uuid + b"x264 - core 1\0\x80", b"\0\0\1\x65rest"
    assert split_settings(head + message + tail, uuid) == (head + tail, "x264 - core 1")
    assert split_settings(head + tail, uuid) == (head + tail, "")
    far = b"\0\0\1\x65" + bytes([9]) * 50 + uuid  # the same bytes inside of a picture are no message
    assert split_settings(head + far, uuid) == (head + far, "")


@pytest.mark.parametrize("name", ["x264:best", "x265:best", "svtav1:best"])
def test_size_falls_with_the_quality_and_bytes_are_repeatable(name: str, clip: Path, tmp_path: Path) -> None:
    anchor = ANCHORS[name]
    sizes = []
    for quality in (anchor.qualities[0], anchor.qualities[-1]):
        anchor.encode(clip, tmp_path / "a", quality, keyint=4, limit=5)
        sizes.append((tmp_path / "a").stat().st_size)
    anchor.encode(clip, tmp_path / "b", anchor.qualities[-1], keyint=4, limit=5)
    assert sizes[0] > 2 * sizes[1]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert len(list(anchor.decode(tmp_path / "a"))) == 5


@pytest.mark.parametrize("name", ["x264:paper", "x265:paper", "svtav1:paper"])
@pytest.mark.parametrize("full_range", [False, True])
def test_colour_description_goes_into_the_stream(name: str, full_range: bool, tmp_path: Path) -> None:
    anchor = ANCHORS[name]
    source = write_ffv1(tmp_path / "clip.mkv", FRAMES[:2], full_range=full_range)
    anchor.encode(source, tmp_path / "out", MIDDLE[anchor.name], keyint=4)
    frame = pictures(tmp_path / "out", anchor.library.container)[0]
    assert (frame.colorspace, frame.color_primaries, frame.color_trc) == (1, 1, 1)
    assert frame.color_range == (2 if full_range else 1)
    assert compare(FRAMES[:2], anchor.decode(tmp_path / "out")).psnr > 30  # samples are not converted


@pytest.mark.parametrize("name", ["x264:paper", "x265:paper", "svtav1:paper"])
def test_what_is_no_stream_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"this is no video at all, whatever its name says " * 20)
    with pytest.raises(VideoError, match=r"bad: FFmpeg cannot decode") as caught:
        list(ANCHORS[name].decode(tmp_path / "bad"))
    assert "\n" not in str(caught.value)


def test_odd_sides_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    frame = FRAMES[0]
    odd = type(frame)(frame.y[:95, :127], frame.u, frame.v, 0)
    source = write_ffv1(tmp_path / "odd.mkv", [odd])
    with pytest.raises(UsageError, match="127x95 has an odd side"):
        ANCHORS["x264:paper"].encode(source, tmp_path / "out.264", 30, keyint=4)
    with pytest.raises(VideoError, match=r"missing\.mkv"):
        ANCHORS["x264:paper"].encode(tmp_path / "missing.mkv", tmp_path / "out.264", 30, keyint=4)
    assert [path.name for path in tmp_path.iterdir()] == ["odd.mkv"]


@pytest.mark.parametrize("name", ["x264:best", "svtav1:paper"])
def test_encode_to_size(name: str, clip: Path, tmp_path: Path) -> None:
    anchor, out = ANCHORS[name], tmp_path / "out"
    anchor.encode(clip, out, MIDDLE[anchor.name] + 3.3, keyint=4, limit=6)
    size = out.stat().st_size
    made, quality = encode_to_size(anchor, clip, out, size, keyint=4, limit=6)
    assert out.stat().st_size == pytest.approx(size, rel=0.04)
    assert sum(made.frame_bits) == 8 * out.stat().st_size
    assert quality == pytest.approx(MIDDLE[anchor.name] + 3.3, abs=1)
    for wanted, end in ((1, anchor.quality_range[1]), (10**9, anchor.quality_range[0])):
        assert encode_to_size(anchor, clip, out, wanted, keyint=4, limit=2)[1] == end
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with pytest.raises(UsageError, match="above 0"):
        encode_to_size(anchor, clip, out, 0, keyint=4)


def test_encode_to_size_leaves_nothing_behind_when_it_fails(tmp_path: Path) -> None:
    with pytest.raises(VideoError):
        encode_to_size(ANCHORS["x264:best"], tmp_path / "missing.mkv", tmp_path / "out", 1000, keyint=4)
    assert list(tmp_path.iterdir()) == []


def test_codecs_by_name() -> None:
    assert codec("x265:best") is ANCHORS["x265:best"]
    assert codec("svtav1") is ANCHORS["svtav1:paper"]
    ours = codec(" bsqcodec:ms-ssim ", device="cpu", weights=Path("w.safetensors"))
    assert (ours.name, ours.setting, ours.suffix) == ("bsqcodec", "ms-ssim", ".bsq")
    assert codec("bsqcodec").setting == "psnr"
    slow = codec("bsqcodec:ms-ssim-slow")
    assert (slow.setting, slow.label) == ("ms-ssim-slow", "bsqcodec, tune ms-ssim, preset slow")
    assert "--tune ms-ssim --preset slow" in slow.options(30, keyint=8, threads=1)
    for unknown in ("x266", "x265:fast", "bsqcodec:ssim", ""):
        with pytest.raises(UsageError, match=r"bsqcodec:psnr, .*x264:paper, .*svtav1:best"):
            codec(unknown)


def test_qualities_are_checked() -> None:
    for name in NAMES:
        for quality in (*ANCHORS[name].qualities, *ANCHORS[name].quality_range):
            check_quality(ANCHORS[name], quality)
        with pytest.raises(UsageError, match="must lie in"):
            check_quality(ANCHORS[name], 64)
    with pytest.raises(UsageError, match=r"bsqcodec: .*0\.\.51"):
        check_quality(codec("bsqcodec"), float("nan"))


def test_identity_names_the_libraries_and_the_weights(tmp_path: Path) -> None:
    assert ANCHORS["x264:best"].identity().startswith(f"PyAV {av.__version__}")
    assert ANCHORS["svtav1:best"].identity().startswith("SVT-AV1 ")
    (tmp_path / "a.safetensors").write_bytes(b"a")
    (tmp_path / "b.safetensors").write_bytes(b"b")
    identities = {codec("bsqcodec", weights=tmp_path / f"{n}.safetensors").identity() for n in "ab"}
    assert len({*identities, codec("bsqcodec").identity()}) == 3
