"""`cut` and `join`: groups and packets from file to file, nothing decoded."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
import streams
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bsqcodec
from bsqcodec.cli.tool import cli
from bsqcodec.errors import BitstreamError, TruncatedError, UsageError, VideoError
from bsqcodec.frames import Track
from bsqcodec.joining import common_tick

ONE_FOLDER = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def payload(groups):
    """What must not change: all of a group but its place in the video."""
    return [(g.motion, g.tokens, g.qualities, g.durations, len(g.pts)) for g in groups]


def run(*args: object):
    return CliRunner().invoke(cli, [str(arg) for arg in args])


@ONE_FOLDER
@given(st.lists(st.integers(1, 8), min_size=2, max_size=9), st.data())
def test_cut_then_join_gives_the_video_back(tmp_path, sizes, data):
    number = data.draw(st.integers(1, len(sizes) - 1))
    border = sum(sizes[:number])
    source = write(tmp_path / "in.bsq", streams.stream(sizes))
    parts = [tmp_path / "a.bsq", tmp_path / "b.bsq"]
    first = bsqcodec.cut(source, parts[0], limit=border, overwrite=True)
    second = bsqcodec.cut(source, parts[1], skip=border, overwrite=True)
    assert (first.groups, second.groups, second.first_frame) == (number, len(sizes) - number, border)
    groups, packets = streams.contents(parts[1])
    assert [g.first_frame for g in groups] == [sum(sizes[number:n]) for n in range(number, len(sizes))]
    assert groups[0].pts[0] == 0
    assert all(packet.pts >= 0 for packet in packets)
    stats = bsqcodec.join(parts, tmp_path / "out.bsq", overwrite=True)
    assert stats.bytes == (tmp_path / "out.bsq").stat().st_size
    assert streams.contents(tmp_path / "out.bsq")[0] == streams.contents(source)[0]
    assert [p.data for p in streams.contents(tmp_path / "out.bsq")[1]] == [p.data for p in streams.contents(source)[1]]
    times = [[p.pts for p in streams.contents(path)[1]] for path in (tmp_path / "out.bsq", source)]
    assert max(abs(a - b) for a, b in zip(*times, strict=True)) <= 1  # a tick of the track
    summary = bsqcodec.inspect(tmp_path / "out.bsq", check=True)
    assert (summary.damage, summary.complete, summary.meta) == (None, True, {"title": "a test"})


def test_cut_keeps_groups_whole_and_says_where(tmp_path):
    source = write(tmp_path / "in.bsq", streams.stream([8] * 10, start=30))
    stats = bsqcodec.cut(source, tmp_path / "out.bsq", start="0.5", duration=0.5)
    assert (stats.frames, stats.groups, stats.first_frame, stats.start) == (24, 3, 8, 0.32)
    assert stats.seconds == pytest.approx(24 / 25)
    groups, packets = streams.contents(tmp_path / "out.bsq")
    assert payload(groups) == payload(streams.contents(source)[0][1:4])
    assert [pts for g in groups for pts in g.pts] == [4 * n for n in range(24)]
    assert [p.pts for p in packets] == sorted(p.pts for p in packets)
    assert 0 <= packets[0].pts < streams.LENGTH and 960 - streams.LENGTH <= packets[-1].pts < 960


def test_cut_keeps_what_the_encoder_counted_only_with_all_groups(tmp_path):
    source, out = write(tmp_path / "in.bsq", streams.stream([8] * 3)), tmp_path / "out.bsq"
    counted = bsqcodec.inspect(source)
    for part in ({}, {"skip": 3, "limit": 15}, {"start": 0.1, "duration": 60}):
        assert bsqcodec.cut(source, out, overwrite=True, **part).groups == 3
        summary = bsqcodec.inspect(out, check=True)
        assert summary.psnr == counted.psnr == streams.STATS.psnr
        assert (summary.motion_bits, summary.token_bits) == (counted.motion_bits, counted.token_bits)
    for part in ({"limit": 16}, {"skip": 8}, {"skip": 8, "limit": 8}):
        bsqcodec.cut(source, out, overwrite=True, **part)
        summary = bsqcodec.inspect(out, check=True)
        assert (summary.psnr, summary.motion_bits, summary.token_bits) == (None, None, {})
    assert "PSNR" not in run("info", out).stdout
    write(source, streams.stream([8] * 3, stats=None))
    bsqcodec.cut(source, out, overwrite=True)
    assert bsqcodec.inspect(out, check=True).psnr is None
    assert "has none unless it holds all groups" in " ".join(run("cut", "--help").output.split())


def test_join_adds_up_statistics_and_times(tmp_path):
    ten, better = streams.stream([8, 2]), replace(streams.STATS, psnr=(40.0, 50.0, 60.0))
    a = write(tmp_path / "a.bsq", ten)
    b = write(tmp_path / "b.bsq", streams.stream([5], start=77, stats=better))
    stats = bsqcodec.join([a, b, a], tmp_path / "out.bsq")
    assert (stats.frames, stats.groups, stats.seconds) == (25, 5, 1.0)
    groups, packets = streams.contents(tmp_path / "out.bsq")
    assert [pts for g in groups for pts in g.pts] == [4 * n for n in range(25)]
    for before, after in pairwise(packets):
        assert before.pts < after.pts
    summary = bsqcodec.inspect(tmp_path / "out.bsq", check=True)
    assert summary.psnr == pytest.approx((32.0, 42.0, 52.0))  # 5 of 25 frames are 10 dB better
    assert (summary.motion_bits, summary.token_bits) == (300, {"1": 150})


def test_join_of_other_time_bases_and_rates(tmp_path):
    thousandth = replace(streams.HEADER, info=replace(streams.INFO, time_base=Fraction(1, 30000)), crf=20.0, keyint=4)
    a = write(tmp_path / "a.bsq", streams.stream([8]))
    b = write(tmp_path / "b.bsq", streams.stream([4], header=thousandth))
    bsqcodec.join([a, b], tmp_path / "out.bsq")
    summary = bsqcodec.inspect(tmp_path / "out.bsq", check=True)
    groups = streams.contents(tmp_path / "out.bsq")[0]
    assert [pts * summary.video.time_base for g in groups for pts in g.pts] == [Fraction(n, 25) for n in range(12)]
    assert (summary.keyint, summary.crf) == (8, pytest.approx(25.33))
    with pytest.raises(UsageError, match="no common one"):
        common_tick([Fraction(1, 2**31 - 1), Fraction(1, 2**31)])


def test_join_keeps_the_tracks_that_all_have(tmp_path):
    other = replace(streams.AUDIO, codec="opus")
    a = write(tmp_path / "a.bsq", streams.stream([8], tracks=(streams.AUDIO, other)))
    b = write(tmp_path / "b.bsq", streams.stream([8], tracks=(other,)))
    result = run("join", a, b, tmp_path / "out.bsq")
    assert result.exit_code == 0
    assert "a.bsq: track 0 (audio, flac): not every file has one like it" in result.stderr
    assert [track["codec"] for track in bsqcodec.inspect(tmp_path / "out.bsq").tracks] == ["opus"]
    packets = streams.contents(tmp_path / "out.bsq")[1]
    assert packets and {packet.track for packet in packets} == {0}
    assert all(packet.pts >= 320 for packet in packets)  # the stand-in writes packets of track 0 only, so b's alone


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"info": replace(streams.INFO, width=66)}, "66x48, but"),
        ({"weights_sha256": bytes(32), "model": "other"}, "weights other (00000000)"),
        ({"info": replace(streams.INFO, rotation=90)}, "rotation 90"),
        ({"info": replace(streams.INFO, full_range=True)}, "colour range True"),
    ],
)
def test_streams_that_do_not_go_together(tmp_path, change, says):
    a = write(tmp_path / "a.bsq", streams.stream([8]))
    b = write(tmp_path / "b.bsq", streams.stream([8], header=replace(streams.HEADER, **change)))
    with pytest.raises(UsageError) as caught:
        bsqcodec.join([a, b], tmp_path / "out.bsq")
    assert says in str(caught.value) and str(b) in str(caught.value)
    assert not list(tmp_path.glob("out*"))


def test_errors_leave_nothing(tmp_path):
    good = streams.stream([8] * 6)
    a = write(tmp_path / "a.bsq", good)
    broken = bytearray(good)
    broken[-200] ^= 1
    damaged, short = write(tmp_path / "damaged.bsq", bytes(broken)), write(tmp_path / "short.bsq", good[:-60])
    before = set(tmp_path.iterdir())
    out = tmp_path / "out.bsq"
    cases = [
        (lambda: bsqcodec.join([a], out), UsageError, "two files or more"),
        (lambda: bsqcodec.join([a, damaged], out), BitstreamError, "damaged.bsq"),
        (lambda: bsqcodec.join([a, short], out), TruncatedError, "short.bsq"),
        (lambda: bsqcodec.join([a, tmp_path / "gone.bsq"], out), VideoError, "gone.bsq"),
        (lambda: bsqcodec.join([a, damaged], a, overwrite=True), UsageError, "same file"),
        (lambda: bsqcodec.join([damaged, a], a, overwrite=True), UsageError, "same file"),
        (lambda: bsqcodec.cut(a, a, overwrite=True), UsageError, "same file"),
        (lambda: bsqcodec.cut(a, damaged), VideoError, "already exists"),
        (lambda: bsqcodec.cut(a, out, skip=48), UsageError, "last frame is 47"),
        (lambda: bsqcodec.cut("-", out), UsageError, "a pipe has none"),
    ]
    for call, kind, says in cases:
        with pytest.raises(kind, match=says):
            call()
        assert set(tmp_path.iterdir()) == before
    assert a.read_bytes() == good


def test_commands(tmp_path):
    source = write(tmp_path / "in.bsq", streams.stream([8] * 4))
    result = run("cut", source, tmp_path / "cut.bsq", "--start", "0.5")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "24 frames in 3 groups from frame 8 (0.320 s) on, 0.960 s" in result.stderr
    done = json.loads(run("join", source, tmp_path / "cut.bsq", tmp_path / "out.bsq", "--json").stdout)
    assert (done["type"], done["frames"], done["groups"], done["dropped"]) == ("done", 56, 7, [])
    assert done["bytes"] == (tmp_path / "out.bsq").stat().st_size
    assert run("join", source, tmp_path / "cut.bsq", "-y").exit_code == 2
    failed = run("cut", source, tmp_path / "cut.bsq")
    assert failed.exit_code == 1 and "already exists" in failed.stderr


def test_cut_into_a_pipe_and_without_torch(tmp_path):
    source = write(tmp_path / "in.bsq", streams.stream([8] * 4))
    code = (
        "import sys; from bsqcodec.cli import main; code = main(sys.argv[1:]); "
        "print('torch' in sys.modules, file=sys.stderr); raise SystemExit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, "cut", str(source), "-", "--limit", "8"], capture_output=True)
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == b"False"
    assert payload(streams.contents(done.stdout)[0]) == payload(streams.contents(source)[0][:1])


def test_tracks_are_compared_by_all_they_say(tmp_path):
    quieter: Track = replace(streams.AUDIO, sample_rate=16000)
    a = write(tmp_path / "a.bsq", streams.stream([8]))
    b = write(tmp_path / "b.bsq", streams.stream([8], tracks=(quieter,)))
    assert len(bsqcodec.join([a, b], tmp_path / "out.bsq").dropped) == 2
    assert streams.contents(tmp_path / "out.bsq")[1] == []
