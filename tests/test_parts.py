"""Parts of a stream: the frames and packets they hold, what is read for them, and how they decode."""

from __future__ import annotations

import importlib
import io
import json
import sys
from fractions import Fraction
from pathlib import Path

import av
import clips
import numpy as np
import pytest
import streams
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import bsqcodec
from bsqcodec.cli.tool import cli
from bsqcodec.container import StreamReader
from bsqcodec.errors import BitstreamError, TruncatedError, UsageError
from bsqcodec.frames import TrackPacket
from bsqcodec.partreader import GroupPart, PartReader
from bsqcodec.parts import Part, seconds

FAKES = Path(__file__).parent / "fakes"
SIZES = st.lists(st.integers(1, 8), min_size=1, max_size=12)


@pytest.fixture
def fake_codec(monkeypatch):
    monkeypatch.syspath_prepend(str(FAKES))
    monkeypatch.setitem(sys.modules, "bsqcodec.codec", importlib.import_module("fake_codec"))


@pytest.fixture
def made(tmp_path, fake_codec):
    """A stream of 20 frames in groups of 3."""
    (tmp_path / "in.y4m").write_bytes(clips.y4m_bytes(20))
    bsqcodec.encode(tmp_path / "in.y4m", tmp_path / "made.bsq", crf=0, keyint=3)
    return tmp_path / "made.bsq"


def read(data: bytes, part: Part, file: io.BytesIO | None = None) -> tuple[list[tuple[int, int]], list[TrackPacket]]:
    """(number, pts) of each frame of a part, and its packets."""
    file = file or io.BytesIO(data)
    frames, packets = [], []
    for item in PartReader(StreamReader(file), file, part):
        if isinstance(item, GroupPart):
            frames += [(item.group.first_frame + i, item.group.pts[i]) for i in item.wanted]
        else:
            packets += item
    return frames, packets


# --- which frames --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(
            (12.5, Fraction(25, 2)),
            ("12.5", Fraction(25, 2)),
            (0.1, Fraction(1, 10)),
            (3, 3),
            ("1:02.5", Fraction(125, 2)),
        ),
        *(
            ("1:00:02", 3602),
            ("750ms", Fraction(3, 4)),
            (".5", Fraction(1, 2)),
            ("90s", 90),
            (Fraction(1, 3), Fraction(1, 3)),
        ),
    ],
)
def test_times(text, value):
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "x", "-1", "1:2:3:4", "1:60.0", "1:3ms", float("nan"), float("inf"), "1e3"])
def test_no_times(text):
    with pytest.raises(UsageError, match="not a time"):
        seconds(text)


@settings(max_examples=150, deadline=None)
@given(SIZES, st.integers(0, 300), st.data())
def test_any_part_holds_the_frames_that_begin_in_it(sizes, start, data):
    """Also through a pipe, and for a video that does not begin at 0."""
    total = sum(sizes)
    whole = [(n, start + streams.STEP * n) for n in range(total)]
    if data.draw(st.booleans(), "by number"):
        skip = data.draw(st.integers(0, total - 1))
        limit = data.draw(st.none() | st.integers(1, total + 3))
        part = Part(skip=skip, limit=limit)
        expected = whole[skip : None if limit is None else skip + limit]
    else:
        begin = data.draw(st.integers(0, streams.STEP * (total - 1)), "begin") * streams.TICK
        length = data.draw(st.none() | st.integers(streams.STEP, 120), "length")
        duration = None if length is None else length * streams.TICK
        part = Part(start=begin, duration=duration)
        times = {n: n * streams.STEP * streams.TICK for n, _ in whole}
        expected = [f for f in whole if times[f[0]] >= begin and (duration is None or times[f[0]] < begin + duration)]
    shift = expected[0][1] if expected[0][0] else 0
    expected = [(n, pts - shift) for n, pts in expected]
    file = streams.stream(sizes, start=start)
    frames, packets = read(file, part)
    assert frames == expected
    assert read(file, part, streams.Pipe(file)) == (frames, packets)


@settings(max_examples=80, deadline=None)
@given(SIZES, st.data())
def test_packets_of_a_part_are_those_that_play_in_it(sizes, data):
    total = sum(sizes)
    skip = data.draw(st.integers(0, total - 1))
    limit = data.draw(st.integers(1, total))
    packets = read(streams.stream(sizes), Part(skip=skip, limit=limit))[1]
    seconds_of = [n * streams.STEP * streams.TICK for n in (skip, min(skip + limit, total))]
    low = -10 if skip == 0 else float(seconds_of[0])
    high = 10**6 if skip + limit > total else float(seconds_of[1])
    stored = streams.contents(streams.stream(sizes))[1]
    expected = [packet for packet in stored if 1000 * low <= packet.pts < 1000 * high]
    shift = round(1000 * seconds_of[0])
    assert [(p.data, p.pts) for p in packets] == [(p.data, p.pts - shift) for p in expected]


def test_contradictions_and_parts_outside_of_the_video():
    for options in ({"start": Fraction(1), "skip": 1}, {"duration": Fraction(1), "limit": 1}):
        with pytest.raises(UsageError, match="contradict"):
            Part(**options)
    for options in ({"start": Fraction(-1)}, {"duration": Fraction(0)}, {"skip": -1}, {"limit": 0}):
        with pytest.raises(UsageError, match=next(iter(options))):
            Part(**options)
    file = streams.stream([8, 8])
    for part in (Part(start=Fraction(5)), Part(skip=16), Part(start=Fraction(61, 100))):
        with pytest.raises(UsageError, match=r"last frame is 15, at 0\.600 s"):
            read(file, part)
    with pytest.raises(UsageError, match="no frame begins"):
        read(file, Part(start=Fraction(1, 100), duration=Fraction(1, 100)))


# --- what is read --------------------------------------------------------------------------------


@pytest.mark.parametrize("audio", [False, True])
def test_what_is_read_does_not_depend_on_the_position(audio):
    """Groups of 0.32 s and 4 kB; the index of the 1000 of them is read whole, 4 kB."""
    data = streams.stream([8] * 1000, audio=audio, words=1000)
    counts = []
    for start in (10, 100, 200, 310):
        file = streams.CountingFile(data)
        assert len(read(data, Part(start=Fraction(start), duration=Fraction(1)), file)[0]) == 25
        counts.append(file.count)
    assert max(counts) - min(counts) < 6000  # a group more or less at the borders
    assert max(counts) < len(data) / 50


def test_only_the_groups_of_the_part_are_decoded(made, monkeypatch):
    room, decoded = sys.modules["bsqcodec.codec"], []
    original = room.decode_group

    def watched(model, group, info):
        for number, frame in enumerate(original(model, group, info)):
            decoded.append(group.first_frame + number)
            yield frame

    monkeypatch.setattr(room, "decode_group", watched)
    stats = bsqcodec.decode(made, made.with_name("part.y4m"), skip=10, limit=3)
    assert decoded == [9, 10, 11, 12]
    assert (stats.frames, stats.groups, stats.first_frame, stats.start) == (3, 2, 10, 0.4)


def test_damage_elsewhere_does_not_matter():
    good = streams.stream([8] * 20)
    groups = StreamReader(io.BytesIO(good)).index()
    broken = bytearray(good)
    broken[groups[2].offset + 30] ^= 1
    for part in (Part(start=Fraction(3)), Part(limit=8)):
        assert read(bytes(broken), part) == read(good, part)
    with pytest.raises(BitstreamError, match="group 2"):
        read(bytes(broken), Part(skip=15, limit=2))
    cut = good[: groups[15].offset + 30]
    assert read(cut, Part(skip=20, limit=8)) == read(good, Part(skip=20, limit=8))
    with pytest.raises(TruncatedError):
        read(cut, Part(skip=100))


# --- decoding ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "frames"),
    [
        ({"start": 0.2, "duration": "0.16"}, range(5, 9)),
        ({"skip": 7}, range(7, 20)),
        ({"limit": 4}, range(4)),
        ({"start": "0.2", "limit": 2}, range(5, 7)),
        ({"skip": 19, "duration": 9}, range(19, 20)),
    ],
)
def test_decode_a_part(made, options, frames):
    done = []
    stats = bsqcodec.decode(made, made.with_name("part.y4m"), **options, on_progress=done.append)
    planes = clips.read_y4m(made.with_name("part.y4m").read_bytes())
    assert (len(planes), stats.first_frame) == (len(frames), frames[0])
    assert (done[-1].frames, done[-1].total) == (len(frames), len(frames))
    for number, picture in zip(frames, planes, strict=True):
        for got, expected in zip(picture, clips.picture(number), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_a_part_with_sound_begins_at_zero(tmp_path, fake_codec):
    clips.write_mkv_with_audio(tmp_path / "in.mkv", seconds=6)
    bsqcodec.encode(tmp_path / "in.mkv", tmp_path / "out.bsq", keyint=10)
    bsqcodec.decode(tmp_path / "out.bsq", tmp_path / "part.mkv", codec="ffv1", start=3, duration=1.5)
    with av.open(str(tmp_path / "in.mkv")) as file:
        stored = [(p.pts, bytes(p)) for p in file.demux(audio=0) if p.size]
    with av.open(str(tmp_path / "part.mkv")) as file:
        found = [(p.pts, bytes(p)) for p in file.demux(audio=0) if p.size]
    with av.open(str(tmp_path / "part.mkv")) as file:
        pictures = [frame.pts * frame.time_base for frame in file.decode(video=0)]
    assert pictures == pytest.approx([n / 25 for n in range(38)], abs=1e-3)  # frames at 3.00 .. 4.48
    assert found == [(pts - 3000, data) for pts, data in stored if 3000 <= pts < 4520]


def test_usage_errors_are_one_line_and_leave_nothing(made, tmp_path):
    for options in (
        ("--start", "99"),
        ("--start", "soon"),
        ("--start", 1, "--skip", 2),
        ("--limit", 0),
        ("--scale", "1/2"),
        ("--scale", "1/3", "--keyframes"),
        ("--keyframes", "--start", "0.77"),  # the last group began before
    ):
        result = CliRunner().invoke(cli, ["decode", str(made), str(tmp_path / "x.y4m"), *map(str, options)])
        assert result.exit_code == 2, options
        lines = [line for line in result.stderr.splitlines() if not line.startswith("device:")]
        assert len(lines) == 1 and lines[0].startswith("bsqcodec: error: "), result.stderr
        assert {path.name for path in tmp_path.iterdir()} == {"in.y4m", "made.bsq"}


# --- keyframes -----------------------------------------------------------------------------------


def test_keyframes_are_the_first_frames_of_groups(made):
    out = made.with_name("keys.y4m")
    result = CliRunner().invoke(cli, ["decode", str(made), str(out), "--keyframes", "--json"])
    assert json.loads(result.stdout.splitlines()[-1])["frames"] == 7
    data = out.read_bytes()
    assert b" F35:4 " in data.partition(b"\n")[0]  # 7 groups in 20 frames at 25 fps
    for number, picture in zip(range(0, 20, 3), clips.read_y4m(data), strict=True):
        np.testing.assert_array_equal(picture[0], clips.picture(number)[0])
    stats = bsqcodec.decode(made, out, overwrite=True, keyframes=True, start=0.3, limit=2)
    assert (stats.frames, stats.first_frame, stats.start) == (2, 9, 0.36)
    np.testing.assert_array_equal(clips.read_y4m(out.read_bytes())[1][0], clips.picture(12)[0])


def test_keyframes_keep_their_times_and_leave_sound_out(tmp_path, fake_codec):
    clips.write_mkv_with_audio(tmp_path / "in.mkv", seconds=2)
    bsqcodec.encode(tmp_path / "in.mkv", tmp_path / "out.bsq", keyint=20)
    bsqcodec.decode(tmp_path / "out.bsq", tmp_path / "keys.mkv", codec="ffv1", keyframes=True)
    with av.open(str(tmp_path / "keys.mkv")) as file:
        assert not file.streams.audio
        assert [float(f.pts * f.time_base) for f in file.decode(video=0)] == pytest.approx([0, 0.8, 1.6])
