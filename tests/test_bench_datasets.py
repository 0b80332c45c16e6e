"""Datasets of the benchmark: their tables, how files are found, and that everything wrong with them is said at once."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import types
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import picture, y4m_bytes
from hypothesis import given
from hypothesis import strategies as st

from bsqcodec.bench.catalogue import DATASETS, SHIPPED
from bsqcodec.bench.datasets import find_clips
from bsqcodec.bench.rawvideo import frame_bytes, other_format, parse_name, read_frames
from bsqcodec.errors import UsageError, VideoError

W, H, N = 32, 18, 4  # the reduced geometry of these tests
UVG = [item.name for item in DATASETS["uvg"].items]


def raw_bytes(frames: int = N, width: int = W, height: int = H) -> bytes:
    return b"".join(plane.tobytes() for n in range(frames) for plane in picture(n, width, height))


def uvg_file(name: str) -> str:
    return f"{name}_1920x1080_120fps_420_8bit_YUV.yuv"


@pytest.fixture
def uvg(tmp_path: Path) -> Path:
    """A folder laid out as the UVG archives are, in a reduced geometry."""
    folder = tmp_path / "uvg"
    folder.mkdir()
    (folder / "dataset.json").write_text(json.dumps({"width": W, "height": H, "frames": N}))
    for name in UVG:
        (folder / uvg_file(name)).write_bytes(raw_bytes())
    return folder


def write_video(path: Path, frames: int = N, codec: str = "ffv1", width: int = W, height: int = H) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.thread_count = width, height, "yuv420p", 1
        for number in range(frames):
            packed = np.concatenate([plane.reshape(-1) for plane in picture(number, width, height)])
            frame = av.VideoFrame.from_ndarray(packed.reshape(height * 3 // 2, width), format="yuv420p")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def write_image(path: Path, width: int, height: int) -> None:
    from PIL import Image

    blocks = np.random.default_rng(0).integers(0, 255, (-(-height // 8), -(-width // 8), 3), np.uint8)
    Image.fromarray(blocks.repeat(8, 0).repeat(8, 1)[:height, :width]).save(path)


# --- tables


def test_tables_hold_what_is_published() -> None:
    assert [(d.name, len(d.items), sum(i.frames for i in d.items)) for d in DATASETS.values()] == [
        ("mini", 3, 96),
        ("uvg", 7, 3900),
        ("mcl-jcv", 30, 4115),
        ("kodak", 24, 24),
    ]
    uvg = {item.name: item for item in DATASETS["uvg"].items}
    raw = {name: frame_bytes(item.width, item.height) * item.frames for name, item in uvg.items()}
    assert (raw["Beauty"], raw["ShakeNDry"]) == (1_866_240_000, 933_120_000)
    assert uvg["Jockey"].url == "https://ultravideo.fi/video/Jockey_1920x1080_120fps_420_8bit_YUV_RAW.7z"
    assert {name for name, item in uvg.items() if item.bytes is None} == {"ReadySteadyGo", "YachtRide"}
    mcl = {item.stem for item in DATASETS["mcl-jcv"].items}
    assert {"videoSRC01_1920x1080_30", "videoSRC05_1920x1080_25", "videoSRC29_1920x1080_24"} <= mcl
    portrait = [item.name for item in DATASETS["kodak"].items if (item.width, item.height) == (512, 768)]
    assert portrait == [f"kodim{n:02d}" for n in (4, 9, 10, 17, 18, 19)]


def test_file_names_agree_with_the_tables() -> None:
    for dataset in DATASETS.values():
        for item in dataset.items:
            said = parse_name(item.stem)
            assert said is None or (said.width, said.height) == (item.width, item.height)
            assert said is None or said.fps in (None, item.fps)
            assert other_format(item.stem) is None
        assert len({item.name.lower() for item in dataset.items}) == len(dataset.items)


def test_the_shipped_set_is_what_its_readme_says() -> None:
    rows = re.findall(r"^\| `(\S+)` \| (\d+) \| `(\w{64})` \|$", (SHIPPED / "README.md").read_text(), re.M)
    files = {path.name: path.read_bytes() for path in SHIPPED.glob("*.mp4")}
    assert {(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()} == {
        (name, int(size), digest) for name, size, digest in rows
    }
    assert len(rows) == 3
    assert sum(map(len, files.values())) <= 3_000_000
    clips = find_clips("mini", None, frames=8)
    assert [clip.name for clip in clips] == ["bee", "butterfly", "flower"]
    assert {(c.width, c.height, c.fps, c.frames) for c in clips} == {(640, 360, Fraction(30000, 1001), 8)}
    assert [(clip.matrix, clip.full_range) for clip in clips] == [(1, False), (1, False), (6, False)]
    with pytest.raises(UsageError, match="mini ships with bsqcodec"):
        find_clips("mini", SHIPPED)


# --- raw names


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("foo_1920x1080_30", (1920, 1080, Fraction(30))),
        ("mobile_352x288_", (352, 288, None)),
        ("mobile_352x288", (352, 288, None)),
        ("Beauty_1920x1080_120fps_420_8bit_YUV", (1920, 1080, Fraction(120))),
        ("a_640x360_29.97", (640, 360, Fraction(30000, 1001))),
        ("a-416x240-59.94fps", (416, 240, Fraction(60000, 1001))),
        ("50fps_416x240", (416, 240, Fraction(50))),
        ("a_640x360_30p_x", (640, 360, Fraction(30))),
        ("a_640x360_999", (640, 360, None)),
        ("nothing", None),
    ],
)
def test_names_of_raw_files(stem: str, expected: tuple[int, int, Fraction | None] | None) -> None:
    said = parse_name(stem)
    assert (None if said is None else (said.width, said.height, said.fps)) == expected


@given(st.integers(16, 9999), st.integers(16, 9999), st.integers(1, 300), st.from_regex(r"[a-z]{1,9}", fullmatch=True))
def test_names_are_read_back(width: int, height: int, fps: int, word: str) -> None:
    said = parse_name(f"{word}_{width}x{height}_{fps}")
    assert said is not None
    assert (said.width, said.height, said.fps) == (width, height, fps)


@pytest.mark.parametrize("stem", ["a_352x288_10bit", "a_352x288_422", "yuv444p_a", "a_p10le", "a_12-bit", "nv12_a"])
def test_other_formats_in_names(stem: str) -> None:
    assert other_format(stem)
    assert other_format("Beauty_1920x1080_120fps_420_8bit_YUV") is None
    assert other_format("crowd_422x444_10") is None


def test_a_raw_frame_is_y_then_u_then_v(tmp_path: Path) -> None:
    path = tmp_path / "odd.yuv"
    path.write_bytes(raw_bytes(3, 17, 33))
    assert path.stat().st_size == 3 * frame_bytes(17, 33) == 3 * (17 * 33 + 2 * 9 * 17)
    frames = list(read_frames(path, 17, 33))
    assert [frame.pts for frame in frames] == [0, 1, 2]
    for number, frame in enumerate(frames):
        for plane, expected in zip((frame.y, frame.u, frame.v), picture(number, 17, 33), strict=True):
            assert np.array_equal(plane, expected)
    assert len(list(read_frames(path, 17, 33, 2))) == 2
    path.write_bytes(raw_bytes(3, 17, 33)[:-1])
    with pytest.raises(VideoError, match="ends within frame 2"):
        list(read_frames(path, 17, 33))


# --- named datasets


def test_a_uvg_folder_in_a_reduced_geometry(uvg: Path) -> None:
    clips = find_clips("uvg", uvg)
    assert [clip.name for clip in clips] == UVG
    assert {(c.width, c.height, c.raw, c.fps, c.frames) for c in clips} == {(W, H, (W, H), Fraction(120), N)}
    assert [clip.frames for clip in find_clips("uvg", uvg, frames=2)] == [2] * 7
    assert [clip.frames for clip in find_clips("uvg", uvg, frames=99)] == [N] * 7
    small = find_clips("uvg", uvg, scale=(16, 16))[0]
    assert (small.width, small.height, small.scale, small.raw) == (16, 16, (16, 16), (W, H))
    assert find_clips("uvg", uvg, scale=(W, H))[0].scale is None


def test_full_size_files_pass_without_a_dataset_json(tmp_path: Path) -> None:
    for item in DATASETS["uvg"].items:
        with (tmp_path / f"{item.stem}.yuv").open("wb") as file:  # sparse: no byte is written
            file.truncate(frame_bytes(1920, 1080) * item.frames)
    assert [clip.frames for clip in find_clips("uvg", tmp_path)] == [600] * 5 + [300, 600]


def test_other_containers_and_subfolders_count(uvg: Path) -> None:
    (uvg / uvg_file("Beauty")).rename(uvg / "beauty_reduced.yuv")
    (uvg / "Jockey").mkdir()
    (uvg / uvg_file("Jockey")).rename(uvg / "Jockey" / uvg_file("Jockey"))
    (uvg / uvg_file("HoneyBee")).unlink()
    (uvg / "HoneyBee.y4m").write_bytes(y4m_bytes(N, W, H))
    (uvg / uvg_file("YachtRide")).unlink()
    write_video(uvg / "YachtRide_1920x1080_120fps_420_8bit_YUV.mkv")
    clips = {clip.name: clip for clip in find_clips("uvg", uvg)}
    assert list(clips) == UVG
    assert clips["Jockey"].path.parent.name == "Jockey"
    assert {name for name, clip in clips.items() if clip.raw is None} == {"HoneyBee", "YachtRide"}
    assert {clip.fps for clip in clips.values()} == {Fraction(120)}  # the table's, not the container's


def test_files_of_another_size_or_depth_are_not_the_clip(uvg: Path) -> None:
    (uvg / uvg_file("Beauty")).rename(uvg / "Beauty_3840x2160_120fps_420_8bit_YUV.yuv")
    (uvg / uvg_file("Jockey")).rename(uvg / "Jockey_1920x1080_120fps_420_10bit_YUV.yuv")
    (uvg / uvg_file("HoneyBee")).rename(uvg / "HoneyBees.yuv")
    with pytest.raises(UsageError, match=r"3 of 7 clips not in .*Beauty.*HoneyBee.*Jockey"):
        find_clips("uvg", uvg)


def test_missing_files_are_named_with_where_to_get_them(uvg: Path) -> None:
    (uvg / uvg_file("Jockey")).unlink()
    with pytest.raises(UsageError) as caught:
        find_clips("uvg", uvg)
    message = str(caught.value)
    for part in ("1 of 7", uvg_file("Jockey"), "https://ultravideo.fi", "CC BY-NC 3.0", "--data", "--download"):
        assert part in message
    assert "Beauty" not in message
    assert "\n" not in message


def test_without_data_every_file_is_named() -> None:
    with pytest.raises(UsageError) as caught:
        find_clips("mcl-jcv", None)
    message = str(caught.value)
    assert all(f"{item.stem}.yuv" in message for item in DATASETS["mcl-jcv"].items)
    assert "mcl.usc.edu" in message
    assert "--download" not in message  # there is no address for it


def test_one_missing_one_wrong_and_one_truncated_file_in_one_message(uvg: Path) -> None:
    (uvg / uvg_file("Beauty")).unlink()
    (uvg / uvg_file("Bosphorus")).write_bytes(raw_bytes(N + 1))
    (uvg / uvg_file("HoneyBee")).write_bytes(raw_bytes()[:-7])
    with pytest.raises(UsageError) as caught:
        find_clips("uvg", uvg, frames=1)  # although one frame would be there
    message, size = str(caught.value), frame_bytes(W, H)
    assert f"Bosphorus_1920x1080_120fps_420_8bit_YUV.yuv: has {size * 5} bytes, {size * 4} expected" in message
    assert f"is cut short, has {size * 4 - 7} bytes, {size * 4} expected (4 frames of {W}x{H}" in message
    assert "1 of 7 clips not in" in message
    (uvg / uvg_file("Beauty")).write_bytes(raw_bytes())
    with pytest.raises(VideoError, match=r"Bosphorus.*HoneyBee"):
        find_clips("uvg", uvg)


def test_containers_are_compared_with_the_table(uvg: Path) -> None:
    (uvg / uvg_file("Beauty")).unlink()
    write_video(uvg / "Beauty.mkv", frames=N - 1)
    with pytest.raises(VideoError, match=f"has 3 frames of {W}x{H}, 4 frames of {W}x{H} expected"):
        find_clips("uvg", uvg)
    write_video(uvg / "Beauty.mkv", width=48, height=32)
    with pytest.raises(VideoError, match="4 frames of 48x32"):
        find_clips("uvg", uvg)
    (uvg / "Beauty.y4m").write_bytes(y4m_bytes(N, W, H)[:-5])  # preferred to the .mkv
    with pytest.raises(VideoError, match=r"Beauty\.y4m: is cut short, \d+ of \d+ bytes of frame 3"):
        find_clips("uvg", uvg)


@pytest.mark.parametrize("text", ["{", "[1]", '{"frames": 0}', '{"frames": true}', '{"fps": 3}', '{"width": "32"}'])
def test_a_wrong_dataset_json_is_refused(uvg: Path, text: str) -> None:
    (uvg / "dataset.json").write_text(text)
    with pytest.raises(UsageError, match=r"dataset\.json: must hold whole numbers"):
        find_clips("uvg", uvg)


def test_kodak(tmp_path: Path) -> None:
    for item in DATASETS["kodak"].items:
        write_image(tmp_path / f"{item.name}.png", item.width, item.height)
    clips = find_clips("kodak", tmp_path)
    assert [(clip.name, clip.frames) for clip in clips] == [(f"kodim{n:02d}", 1) for n in range(1, 25)]
    assert (clips[3].width, clips[3].height, clips[3].matrix, clips[3].full_range) == (512, 768, 1, False)
    write_image(tmp_path / "kodim04.png", 768, 512)
    (tmp_path / "kodim05.png").write_bytes((tmp_path / "kodim05.png").read_bytes()[:2000])
    with pytest.raises(VideoError, match=r"kodim04\.png: has 1 frame of 768x512, 1 frame of 512x768.*kodim05\.png"):
        find_clips("kodak", tmp_path)
    (tmp_path / "kodim05.png").rename(tmp_path / "kodim05.jpg")  # lossy: not the photograph
    with pytest.raises(UsageError, match=r"1 of 24 clips not in .*kodim05\.png"):
        find_clips("kodak", tmp_path)


# --- archives


class FakeSevenZip:
    """What `archives` uses of py7zr, over a folder that stands for the archive."""

    def __init__(self, path: Path, mode: str) -> None:
        self.files = json.loads(Path(path).read_text())  # ValueError for what is no archive

    def __enter__(self) -> FakeSevenZip:
        return self

    def __exit__(self, *args: object) -> None:
        pass

    def list(self) -> list[types.SimpleNamespace]:
        return [types.SimpleNamespace(filename=name, uncompressed=size) for name, size in self.files.items()]


@pytest.fixture
def fake_py7zr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "py7zr", types.SimpleNamespace(SevenZipFile=FakeSevenZip))  # type: ignore[arg-type]


def replace_by_archive(folder: Path, members: dict[str, int]) -> Path:
    (folder / uvg_file("ReadySteadyGo")).unlink()
    path = folder / "ReadySetGo_1920x1080_120fps_420_8bit_YUV_RAW.7z"  # as the site calls it
    path.write_text(json.dumps(members))
    return path


@pytest.mark.usefixtures("fake_py7zr")
def test_archives_are_judged_by_the_size_of_what_is_in_them(uvg: Path) -> None:
    whole = frame_bytes(W, H) * N
    path = replace_by_archive(uvg, {"x/ReadySteadyGo.yuv": whole, "x/ReadySteadyGo_Copyright.txt": 5})
    clip = find_clips("uvg", uvg)[4]
    assert (clip.name, clip.path, clip.raw, clip.frames) == ("ReadySteadyGo", path, (W, H), N)
    path.write_text(json.dumps({"a.y4m": whole + 6 * N + 60}))
    assert find_clips("uvg", uvg)[4].raw is None
    for members, error in (
        ({"a.yuv": whole - 1}, f"is cut short, has {whole - 1} bytes"),
        ({"a.y4m": whole}, "and a header expected"),
        ({"a.txt": 3}, "holds 0 .yuv or .y4m files"),
        ({"a.yuv": whole, "b.yuv": whole}, "holds 2 .yuv or .y4m files"),
    ):
        path.write_text(json.dumps(members))
        with pytest.raises(VideoError, match=error):
            find_clips("uvg", uvg)
    path.write_text("damaged")
    with pytest.raises(VideoError, match=r"not a whole 7-Zip archive .*download it again"):
        find_clips("uvg", uvg)


def test_an_archive_of_another_size_than_published(uvg: Path) -> None:
    (uvg / "dataset.json").unlink()
    for item in DATASETS["uvg"].items:
        with (uvg / uvg_file(item.name)).open("wb") as file:
            file.truncate(frame_bytes(1920, 1080) * item.frames)
    (uvg / uvg_file("Beauty")).unlink()
    (uvg / "Beauty_1920x1080_120fps_420_8bit_YUV_RAW.7z").write_bytes(b"7z")
    with pytest.raises(VideoError, match="has 2 bytes, 925430047 published"):
        find_clips("uvg", uvg)


def test_without_py7zr_the_remedy_is_named(uvg: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "py7zr", None)
    replace_by_archive(uvg, {})
    with pytest.raises(UsageError, match=r"needs py7zr; install it with: pip install 'bsqcodec\[bench\]'"):
        find_clips("uvg", uvg)


# --- folders


def test_a_folder_gives_its_videos_and_images_in_order(tmp_path: Path) -> None:
    write_video(tmp_path / "b.mkv")
    write_video(tmp_path / "b.mp4", codec="libx264", width=48, height=32)
    (tmp_path / "a_32x18_50.yuv").write_bytes(raw_bytes())
    (tmp_path / "c d.y4m").write_bytes(y4m_bytes(N, 33, 19))
    write_image(tmp_path / "e.png", 40, 30)
    (tmp_path / ".hidden.mkv").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no video")
    clips = find_clips(str(tmp_path), None, frames=3)
    assert [(c.name, c.width, c.height, c.fps, c.frames) for c in clips] == [
        ("a_32x18_50", 32, 18, 50, 3),
        ("b-mkv", 32, 18, 25, 3),
        ("b-mp4", 48, 32, 25, 3),
        ("c_d", 32, 18, 25, 3),  # odd sides are cropped
        ("e", 40, 30, 25, 1),
    ]
    assert [clip.raw for clip in clips] == [(32, 18), None, None, None, None]
    assert [clip.name for clip in find_clips(str(tmp_path / "b.mkv"), None)] == ["b"]


def test_names_of_clips_never_clash(tmp_path: Path) -> None:
    for name in ("a b.y4m", "a_b.y4m", "A_B.y4m", "a.b-y4m.y4m", "..y4m"):
        (tmp_path / name).write_bytes(y4m_bytes(1, W, H))
    names = [clip.name for clip in find_clips(str(tmp_path), None)]
    assert len({name.casefold() for name in names}) == len(names) == 4  # "..y4m" is hidden
    assert all(re.fullmatch(r"\w[\w.-]*", name) for name in names)


def test_a_raw_file_without_a_rate_is_taken_as_30_and_said_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a_32x18.yuv").write_bytes(raw_bytes())
    (clip,) = find_clips(str(tmp_path), None)
    assert clip.fps == 30
    assert "does not say the frame rate, 30 frames/s assumed" in caplog.text


def _cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-40])
    return path


BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a.yuv": (lambda p: p.write_bytes(raw_bytes()), "rename it to NAME_WIDTHxHEIGHT_FPS.yuv"),
    "b_32x18_10bit.yuv": (lambda p: p.write_bytes(raw_bytes()), "'10bit' in the name"),
    "c_32x18_25.yuv": (lambda p: p.write_bytes(raw_bytes()[:-1]), "no whole number of frames of 32x18"),
    "d_32x10_25.yuv": (lambda p: p.write_bytes(raw_bytes(1, 32, 10)), "32x10 is not supported"),
    "e_32x18_25.yuv": (lambda p: p.write_bytes(b""), "has 0 bytes"),
    "f.y4m": (lambda p: p.write_bytes(y4m_bytes(N, W, H)[:-1]), "bytes of frame 3"),
    "g.mkv": (lambda p: _cut(write_video(p)), "is cut short"),
    "h.mp4": (lambda p: _cut(write_video(p, codec="libx264")), "is cut short"),
    "i.mp4": (lambda p: p.write_bytes(b"not a video at all" * 50), "not a video that FFmpeg can read"),
    "j.jpg": (lambda p: (write_image(p, 64, 48), p.write_bytes(p.read_bytes()[:-99])), "is cut short"),
    "k.webm": (lambda p: p.write_bytes(b""), "the file is empty"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_cannot_be_measured_is_named(tmp_path: Path, name: str) -> None:
    make, error = BAD_FILES[name]
    make(tmp_path / name)
    with pytest.raises(VideoError, match=re.escape(error)) as caught:
        find_clips(str(tmp_path), None)
    assert name in str(caught.value)


def test_all_bad_files_of_a_folder_are_named_at_once(tmp_path: Path) -> None:
    for name, (make, _) in BAD_FILES.items():
        make(tmp_path / name)
    write_video(tmp_path / "good.mkv")
    with pytest.raises(VideoError) as caught:
        find_clips(str(tmp_path), None)
    assert [name for name in BAD_FILES if f"{tmp_path / name}" not in str(caught.value)] == []
    assert "good.mkv" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"frames": 0}, "frames 0: must be 1 or more"),
        ({"scale": (641, 360)}, "scale 641x360: both sides must be even"),
        ({"scale": (8, 8)}, "scale 8x8"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, object], error: str) -> None:
    with pytest.raises(UsageError, match=error):
        find_clips("mini", None, **arguments)  # type: ignore[arg-type]


def test_what_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a dataset nor a folder; give one of mini, uvg, mcl-jcv, kodak"):
        find_clips("ugv", None)
    with pytest.raises(UsageError, match="holds no video or image"):
        find_clips(str(tmp_path), None)
    with pytest.raises(UsageError, match="leave one of them out"):
        find_clips(str(tmp_path), tmp_path)
    with pytest.raises(UsageError, match="there is no such folder; check --data"):
        find_clips("uvg", tmp_path / "nowhere")
