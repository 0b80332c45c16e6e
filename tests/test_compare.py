"""`bsqcodec compare`: sizes and metrics of several files against one original, as a table, as JSON, as a picture."""

from __future__ import annotations

import importlib
import json
import math
import sys
import tracemalloc
from fractions import Fraction
from pathlib import Path

import clips
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from bsqcodec.bench.compare import Options, compare_file, frames_of
from bsqcodec.bench.pictures import CAPTION, GAP
from bsqcodec.bench.quality import RgbConverter
from bsqcodec.cli.tool import cli
from bsqcodec.errors import UsageError
from bsqcodec.frames import Frame
from bsqcodec.video import create_video, open_video

FAKES = Path(__file__).parent / "fakes"
FRAMES = 4


def y4m(path: Path, frames: int = FRAMES, width: int = 64, height: int = 48, add: int = 0, tag: str = "") -> Path:
    """The moving texture of `clips`, `add` brighter in the luma."""
    head = f"YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 C420jpeg{tag}\n".encode()
    body = b""
    for number in range(frames):
        y, u, v = clips.picture(number, width, height)
        body += b"FRAME\n" + b"".join(plane.tobytes() for plane in (y + np.uint8(add), u, v))
    path.write_bytes(head + body)
    return path


@pytest.fixture
def invoke(monkeypatch):
    """The command in this process, with the stand-in codec."""
    monkeypatch.syspath_prepend(str(FAKES))
    monkeypatch.setitem(sys.modules, "bsqcodec.codec", importlib.import_module("fake_codec"))
    monkeypatch.delenv("BSQCODEC_SKIP", raising=False)
    monkeypatch.delenv("BSQCODEC_LIMIT", raising=False)
    return lambda *args: CliRunner().invoke(cli, ["compare", *map(str, args)], env={"COLUMNS": "200"})


@pytest.fixture
def original(tmp_path):
    return y4m(tmp_path / "original.y4m")


@pytest.fixture
def brighter(tmp_path):
    return y4m(tmp_path / "brighter.y4m", add=3)


def lines(result) -> list[dict]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def files(result) -> list[dict]:
    return [line for line in lines(result) if line["type"] == "file"]


def one_error(result, code: int = 2) -> str:
    """The error line, which must be the only one, on stderr, with nothing on stdout."""
    assert (result.exit_code, result.stdout) == (code, "")
    (line,) = result.stderr.splitlines()
    return line.removeprefix("bsqcodec: error: ")


def test_json_has_sizes_and_metrics_by_the_formulas(invoke, original, brighter):
    result = invoke(original, brighter, original, "--json")
    assert result.exit_code == 0
    assert lines(result)[-1] == {"type": "done", "files": 2, "picture": None}
    worse, same = files(result)
    size = brighter.stat().st_size
    assert (worse["file"], worse["frames"], worse["bytes"]) == (str(brighter), FRAMES, size)
    assert worse["bpp"] == pytest.approx(8 * size / (64 * 48 * FRAMES), abs=1e-6)
    assert worse["kbps"] == pytest.approx(8 * size * 25 / FRAMES / 1000, abs=1e-6)
    y = 20 * math.log10(255 / 3)
    assert worse["metrics"]["psnr_y"]["frames"] == pytest.approx([y] * FRAMES, abs=1e-6)
    assert worse["metrics"]["psnr_yuv"]["mean"] == pytest.approx((6 * y + 100 + 100) / 8, abs=1e-6)
    assert worse["metrics"]["psnr_u"] == dict.fromkeys(("mean", "min", "harmonic"), "inf") | {"frames": ["inf"] * 4}
    assert {m["mean"] for name, m in same["metrics"].items() if name.startswith("psnr")} == {"inf"}
    assert not any(name.startswith("ms_ssim") for name in same["metrics"])  # too small for it


def test_table_goes_to_stdout_whole(invoke, original, brighter, tmp_path):
    long = y4m(tmp_path / ("a_rather_long_name_of_a_file" * 3 + ".y4m"), add=1)
    result = invoke(original, brighter, long, original)
    assert (result.exit_code, result.stderr) == (0, "")
    for text in ("PSNR Y", "kbit/s", "38.59", "48.13", "inf", f"{brighter.stat().st_size:,}"):
        assert text in result.stdout
    assert "MS-SSIM" not in result.stdout  # no value, no column
    folded = result.stdout.replace("\n", "").replace("│", "").replace(" ", "")
    assert "bsqcodec:error" not in folded and "…" not in folded


def test_ms_ssim_of_identical_and_other_video(invoke, tmp_path):
    original = y4m(tmp_path / "a.y4m", 2, 176, 176)
    result = invoke(original, original, y4m(tmp_path / "b.y4m", 2, 176, 176, add=9), "--json", "--metrics", "ms-ssim")
    same, other = (line["metrics"] for line in files(result))
    assert same["ms_ssim_y"]["mean"] == pytest.approx(1, abs=1e-6)
    assert same["ms_ssim_y_db"]["mean"] in ("inf", pytest.approx(60, abs=41))  # one rounding of float32 from infinity
    assert 0.5 < other["ms_ssim_y"]["mean"] < 0.9999
    assert "psnr_y" not in same


def test_a_bsq_file_is_decoded(invoke, original, tmp_path):
    made = tmp_path / "made.bsq"
    assert CliRunner().invoke(cli, ["encode", str(original), str(made), "--crf", "16"]).exit_code == 0
    (line,) = files(invoke(original, made, "--json"))
    with open_video(original) as video:
        errors = [f.y.astype(int) % 3 for f in video if isinstance(f, Frame)]  # the stand-in drops low bits
    expected = [10 * math.log10(255**2 / np.mean(np.square(error))) for error in errors]
    assert line["metrics"]["psnr_y"]["frames"] == pytest.approx(expected, abs=1e-6)
    assert line["bytes"] == made.stat().st_size
    renamed = made.rename(tmp_path / "no_suffix")
    assert files(invoke(original, renamed, "--json"))[0]["metrics"] == line["metrics"]
    assert files(invoke(renamed, renamed, "--json"))[0]["metrics"]["psnr_y"]["mean"] == "inf"


def test_a_damaged_bsq_file_is_refused(invoke, original, tmp_path):
    made = tmp_path / "made.bsq"
    CliRunner().invoke(cli, ["encode", str(original), str(made), "--keyint", "2"])
    data = made.read_bytes()
    made.write_bytes(data[: len(data) // 2])
    assert str(made) in one_error(invoke(original, made), 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 62}, "62x48 px, the original has 64x48; compare videos of one size"),
        ({"frames": FRAMES - 1}, "the reference goes on after frame 2"),
        ({"frames": FRAMES + 1}, "the decoded video goes on after frame 3"),
    ],
)
def test_other_sizes_and_lengths_are_refused(invoke, original, brighter, tmp_path, change, message):
    other = y4m(tmp_path / "other.y4m", **change)
    line = one_error(invoke(original, brighter, other))
    assert line.startswith(f"{other}: {message}")


def test_limit_compares_the_beginning_and_leaves_out_rates_of_longer_files(invoke, original, tmp_path):
    longer = y4m(tmp_path / "longer.y4m", FRAMES + 3, add=2)
    exact = y4m(tmp_path / "exact.y4m", 3, add=2)
    first, second = files(invoke(original, longer, exact, "--limit", 3, "--json"))
    assert (first["frames"], first["kbps"], first["bpp"]) == (3, None, None)
    assert second["bpp"] == pytest.approx(8 * exact.stat().st_size / (64 * 48 * 3), abs=1e-6)
    assert first["metrics"] == second["metrics"]
    table = invoke(original, longer, "--limit", 3)
    assert (table.exit_code, table.stderr) == (0, "")
    shorter = y4m(tmp_path / "shorter.y4m", 2)
    assert "goes on after frame 1" in one_error(invoke(original, shorter, "--limit", 3))


@pytest.mark.parametrize("kind", ["video", "stream"])
def test_skip_leaves_out_the_beginning_of_the_original(invoke, original, tmp_path, kind):
    later = tmp_path / "later.bsq"
    part = ["--skip", "1", "--limit", "2"]
    assert CliRunner().invoke(cli, ["encode", str(original), str(later), "--crf", "0", *part]).exit_code == 0
    if kind == "stream":
        whole = tmp_path / "whole.bsq"
        assert CliRunner().invoke(cli, ["encode", str(original), str(whole), "--crf", "0"]).exit_code == 0
        original = whole
    path = tmp_path / "out.png"
    result = invoke(original, later, *part, "--json", "--picture", path, "--frame", 1)
    (line,) = files(result)
    assert (line["frames"], line["metrics"]["psnr_y"]["mean"]) == (2, "inf")
    assert line["bpp"] is not None  # all of the file was compared
    assert path.exists()
    assert frames_of(original, Options(skip=1)) == FRAMES - 1
    assert "the reference goes on after frame 1" in one_error(invoke(original, later, "--skip", 1))
    (other,) = files(invoke(original, later, "--limit", 2, "--json"))
    assert other["metrics"]["psnr_y"]["mean"] != "inf"
    for skip in (FRAMES, FRAMES + 5):
        error = one_error(invoke(original, later, "--skip", skip), 1)
        assert error == f"{original}: skipping {skip} frames leaves none, it has {FRAMES}; skip fewer"


def test_picture_shows_the_frame_of_every_file(invoke, original, brighter, tmp_path):
    path = tmp_path / "out.png"
    result = invoke(original, brighter, original, "--picture", path, "--frame", 2, "--json")
    assert lines(result)[-1]["picture"] == str(path)
    image = np.asarray(Image.open(path))
    assert image.shape[1] == 3 * (64 + GAP) - GAP
    with open_video(brighter) as video:
        frame = [event for event in video if isinstance(event, Frame)][2]
    expected = RgbConverter().rgb(frame)
    shown = image[2 * CAPTION :, 64 + GAP :][:48, :64]
    assert np.array_equal(shown[1:-1, 1:-1], expected[1:-1, 1:-1])  # the frame of the crop is drawn on the border


def test_picture_is_not_overwritten_and_not_left_half_done(invoke, original, brighter, tmp_path):
    path = tmp_path / "out.png"
    assert "the last frame that is compared is 3" in one_error(
        invoke(original, brighter, "--picture", path, "--frame", 9)
    )
    assert "ends in .png" in one_error(invoke(original, brighter, "--picture", tmp_path / "out.jpg"))
    assert {p.name for p in tmp_path.iterdir()} == {"original.y4m", "brighter.y4m"}
    path.write_bytes(b"mine")
    assert "already exists" in one_error(invoke(original, brighter, "--picture", path), 1)
    assert path.read_bytes() == b"mine"
    assert invoke(original, brighter, "--picture", path, "-y").exit_code == 0
    assert Image.open(path).format == "PNG"


@pytest.mark.parametrize(
    ("name", "content", "code"), [("none.mkv", None, 1), ("text.txt", b"no video\n" * 99, 1), ("empty.bsq", b"", 3)]
)
def test_what_cannot_be_read_is_named(invoke, original, tmp_path, name, content, code):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    assert name in one_error(invoke(original, path), code)
    assert name in one_error(invoke(path, original), code)


def test_a_folder_is_no_video(invoke, original, tmp_path):
    assert one_error(invoke(original, tmp_path), 1) == f"{tmp_path}: is a folder; give the name of a file"


def test_metrics_that_do_not_exist_are_refused_before_anything_is_read(invoke):
    assert "metric 'ssim': must be one of psnr, ms-ssim" in one_error(invoke("a", "b", "--metrics", "psnr,ssim"))
    assert "name at least one metric" in one_error(invoke("a", "b", "--metrics", ","))


def test_error_in_json_is_the_last_line(invoke, original, tmp_path):
    result = invoke(original, original, tmp_path / "none.mkv", "--json")
    assert [line["type"] for line in lines(result) if line["type"] != "progress"] == ["file", "error"]
    assert lines(result)[-1]["exit_code"] == result.exit_code == 1


def test_another_range_is_warned_about(invoke, original, tmp_path):
    full = y4m(tmp_path / "full.y4m", tag=" XCOLORRANGE=FULL")
    result = invoke(original, full)
    assert result.exit_code == 0
    assert f"warning: {full}: full range, the original limited" in result.stderr
    assert invoke(full, full).stderr == ""


def test_memory_does_not_grow_with_the_video(tmp_path):
    def peak(frames: int) -> int:
        original = y4m(tmp_path / "a.y4m", frames, 320, 240)
        tracemalloc.start()
        compared = compare_file(original, original, Options(metrics=("psnr",)))
        assert compared.frames == frames
        result = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return result

    peak(2)  # imports
    assert peak(40) - peak(4) < 320 * 240  # 36 frames more, less than one plane more


def test_frames_to_come_are_known_before(original, tmp_path):
    assert frames_of(original, Options(limit=2)) == 2
    made = tmp_path / "a.mkv"
    with open_video(original) as video, create_video(made, video.info, [], codec="ffv1") as out:
        for frame in (event for event in video if isinstance(event, Frame)):
            out.write(frame)
    assert frames_of(made, Options()) == FRAMES


def test_frame_rate_is_that_of_the_original(original, tmp_path):
    compared = compare_file(original, original, Options(metrics=("psnr",), frame=1))
    assert compared.kbps == pytest.approx(float(Fraction(original.stat().st_size * 8 * 25, FRAMES * 1000)))
    assert np.array_equal(compared.kept.original.y, clips.picture(1, 64, 48)[0])
    with pytest.raises(UsageError, match="frame 4"):
        compare_file(original, original, Options(metrics=("psnr",), frame=4))
