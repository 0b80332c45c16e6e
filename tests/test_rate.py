"""Rate control: goals, the survey of a source, forecasts, and the loops that keep to a goal."""

from __future__ import annotations

import errno
import json
import math
import random
import re
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import av
import clips
import numpy as np
import pytest
import streams
from click.testing import CliRunner
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import bsqcodec
from bsqcodec.cli.tool import cli
from bsqcodec.errors import UsageError
from bsqcodec.frames import Frame, VideoInfo
from bsqcodec.metrics import ms_ssim_of
from bsqcodec.rate.control import BudgetControl, Forecast, PsnrControl, solve
from bsqcodec.rate.goals import Goal, amount, goal_of, target_of
from bsqcodec.rate.plan import Scale, container_bytes, plan_budget, plan_quality
from bsqcodec.rate.samples import HIGHEST, Sample, Trial, interpolate
from bsqcodec.rate.survey import Changes, Survey, run_length, starts, take_survey
from bsqcodec.video import open_video

HEADER = replace(streams.HEADER, keyint=32)


# --- goals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("500k", 5e5), ("1.5M", 1.5e6), (800, 800), ("2MiB", 2**21), ("2MB", 2e6), ("64Ki", 65536), (".5g", 5e8)),
        *(("500 kbit/s", 5e5), ("300kbps", 3e5)),
    ],
)
def test_amounts(text, value):
    assert amount(text, "size") == value


@pytest.mark.parametrize("text", ["", "0", "-5", "k", "5x", "5kk", "1e5", "nan"])
def test_no_amounts(text):
    with pytest.raises(UsageError, match="bitrate"):
        amount(text, "bitrate")


def test_goals():
    assert goal_of(None, None, None, None) is None
    assert goal_of(None, None, None, 20.0) is None
    assert goal_of("1k", None, None, None) == Goal("bitrate", 1000)
    assert goal_of(None, "1k", None, None) == Goal("size", 1000)
    assert goal_of(None, None, "ms-ssim=.98", None) == target_of("ms-ssim=.98") == Goal("ms-ssim", 0.98)
    for given_two in ((1, 1, None, None), (None, 1, "psnr=3", None), (1, None, None, 28.0)):
        with pytest.raises(UsageError, match="contradict"):
            goal_of(*given_two)
    for text in ("psnr", "psnr=", "psnr=0", "psnr=100", "ms-ssim=1", "ms-ssim=38", "vmaf=95", "psnr=nan", "=3"):
        with pytest.raises(UsageError, match="not a quality"):
            target_of(text)


# --- forecasts -----------------------------------------------------------------------------------


def sample(start: int, intra: float, inter: float) -> Sample:
    return Sample(start, {140: Trial(intra, inter), 168: Trial(intra / 2, inter / 3)})


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 40), st.integers(1, 3), st.data())
def test_a_forecast_is_the_sum_over_frames(frames, keyint, count, data):
    samples = [sample(start, 900 + start, 100 + start) for start in starts(frames, 9, count)]
    forecast = Forecast(samples, frames, keyint)
    at = data.draw(st.integers(0, frames), "at")
    position = data.draw(st.integers(0, keyint - 1), "position")
    expected = [0.0, 0.0]
    for frame in range(at, frames):
        first = (frame - at + position) % keyint == 0
        expected[not first] += forecast.of_frame(frame, first, 150)
    assert forecast.of_rest(at, position, 150) == pytest.approx(tuple(expected))


def test_lines_through_trials():
    assert interpolate(150, {140: 10.0}, -0.5) == 5
    assert interpolate(150, {140: 10.0, 160: 0.0}, -0.5) == 5
    assert interpolate(170, {140: 10.0, 160: 0.0, 164: -8.0}, -0.5) == -20  # straight on
    assert interpolate(150, {140: 10.0, 160: 11.0}, -0.5) == pytest.approx(5)  # noise; the slope is known better
    assert solve(lambda q: -q, -77.0) == pytest.approx(77, abs=0.05)
    assert solve(lambda q: -q, -300.0) == pytest.approx(HIGHEST, abs=0.05)


@given(st.integers(1, 5000), st.integers(1, 40), st.integers(1, 6))
def test_runs_lie_in_the_video_and_apart(total, length, most):
    begins = starts(total, length, most)
    assert 1 <= len(begins) <= most
    assert begins[0] >= 0 and begins[-1] + min(length, total) <= total
    assert all(b - a >= length for a, b in pairwise(begins))
    assert length <= 9 or run_length(length) == 9
    assert run_length(length) % min(length, 9) == 0


# --- the loops -----------------------------------------------------------------------------------


SCENE = 25  # frames of the shortest scene


class Content:
    """A video as its bits: frames of scenes that differ, each frame with noise of its own, coded in groups."""

    def __init__(self, seed: int, frames: int, keyint: int) -> None:
        dice = random.Random(seed)
        self.frames, self.keyint = frames, keyint
        apart = sorted(dice.randrange(SCENE, frames - SCENE) for _ in range(dice.randrange(4)))
        self.cuts = {0, *(b for a, b in pairwise([0, *apart]) if b - a >= SCENE)}
        levels = {cut: (dice.uniform(9, 10), dice.uniform(6.5, 8), dice.uniform(18, 45)) for cut in self.cuts}
        self.scene, self.noise = [], []
        for frame in range(frames):
            if frame in levels:
                now = levels[frame]
            self.scene.append(now)
            self.noise.append(dice.gauss(0, 0.15))

    def bits(self, frame: int, first: bool, quality: float) -> float:
        intra, inter, slope = self.scene[frame]
        return math.exp((intra if first else inter) + self.noise[frame] - (quality - 140) / slope)

    def samples(self) -> list[Sample]:
        begins = starts(self.frames, 9, 5)
        return [Sample(b, {q: self._trial(b, q) for q in (140, 165)}) for b in begins]

    def _trial(self, begin: int, quality: int) -> Trial:
        inter = [self.bits(begin + i, False, quality) for i in range(1, 9)]
        return Trial(self.bits(begin, True, quality), sum(inter) / 8)

    def run(self, control, whole_groups: bool = False) -> tuple[float, list[int]]:
        """All bits, and the quality of each frame; scenes begin groups of their own."""
        spent, known, position, qualities = 0.0, 0.0, 0, []
        for frame in range(self.frames):
            if position == self.keyint:
                position = 0
            known = known if whole_groups and position else spent
            quality = control.next(frame, position, known, 0.0)
            position = 0 if frame in self.cuts and not whole_groups else position  # told too late, as by the encoder
            spent += self.bits(frame, position == 0, quality)
            qualities.append(quality)
            position += 1
        return spent, qualities


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(125, 300), st.sampled_from([8, 32, 250]), st.floats(0.3, 3))
def test_a_budget_is_met_within_three_percent(seed, frames, keyint, share):
    assume(not 0 < frames % keyint < 4)  # a first frame at the very end costs what it costs
    content = Content(seed, frames, keyint)
    forecast = Forecast(content.samples(), frames, keyint, sorted(content.cuts))
    budget = share * forecast.of_all(140)
    spent, qualities = content.run(BudgetControl(forecast, budget))
    assert spent == pytest.approx(budget, rel=0.03)
    jumps = [abs(a - b) for a, b in pairwise(qualities[: -len(qualities) // 10])]
    assert max(jumps) <= 19  # half an octave, rounded, and what the end's haste adds before the last tenth


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.integers(125, 300))
def test_models_that_code_groups_at_once_meet_it_too(seed, frames):
    content = Content(seed, frames, 4)
    forecast = Forecast(content.samples(), frames, 4)
    control = BudgetControl(forecast, forecast.of_all(140), whole_groups=True)
    spent, qualities = content.run(control, whole_groups=True)
    assert all(len(set(qualities[i : i + 4])) == 1 for i in range(0, frames, 4))
    assert spent == pytest.approx(forecast.of_all(140), rel=0.04)


def test_the_quality_hardly_moves_where_the_samples_were_right():
    content = Content(3, 400, 32)
    content.noise = [0.0] * 400
    content.cuts = {0}
    content.scene = [content.scene[0]] * 400
    forecast = Forecast(content.samples(), 400, 32)
    spent, qualities = content.run(BudgetControl(forecast, forecast.of_all(150)))
    assert max(qualities) - min(qualities) <= 1
    assert spent == pytest.approx(forecast.of_all(150), rel=0.003)


@pytest.mark.parametrize("bias", [-1.0, 0.0, 0.7])
def test_a_psnr_is_met_though_the_samples_were_off(bias):
    control = PsnrControl(300, 38.0, quality=120.0, slope=-0.13)
    found: list[float] = []
    for frame in range(300):
        known = found[: frame // 32 * 32]
        quality = control.next(frame, frame % 32, 0.0, float(np.mean(known or [0])))
        found.append(38 + bias - 0.15 * (quality - 120))
    assert np.mean(found) == pytest.approx(38, abs=0.05)


# --- plans ---------------------------------------------------------------------------------------


class StandIn:
    """A sampler of a video whose figures follow a law. bits(quality): of all kinds of frame; score(quality): dB."""

    def __init__(self, bits, score=lambda quality: 0.0) -> None:
        self._bits, self._score = bits, score
        self.samples = [Sample(0)]

    def try_quality(self, quality: int) -> None:
        self.samples[0].trials[quality] = Trial(3 * self._bits(quality), self._bits(quality), self._score(quality))


def test_cuts_are_guessed_where_scenes_change_not_where_a_frame_is_shown_again():
    rows, columns = np.mgrid[:64, :200]
    scenes = [110 + 60 * np.sin(columns / 9 + rows / 20), 250 - columns % 250]
    places = [0, 4, 8, 8, 12, 16, 16, 16, 20, 24]  # of a camera that moves on
    lumas = [scene[:, place : place + 64].astype(np.uint8) for scene in scenes for place in places]
    chroma = np.full((32, 32), 128, np.uint8)
    changes = Changes()
    found = [n for n, luma in enumerate(lumas) if changes.is_cut(Frame(luma, chroma, chroma, pts=n))]
    assert found == [len(places)]


def survey(track_bytes: int = 0) -> Survey:
    return Survey(VideoInfo(640, 360), 250, 10.0, track_bytes, 1, [])


SCALE = Scale(lambda crf: round(5 * crf))
LAW = StandIn(lambda quality: 40000 * 2 ** (-quality / 25))


def test_a_bitrate_becomes_a_crf_and_sound_counts():
    plans = [plan_budget(Goal("bitrate", 100_000), survey(n), LAW, SCALE, HEADER) for n in (0, 60_000)]
    for plan, video in zip(plans, (125_000, 65_000), strict=True):
        bits = 8 * (video - container_bytes(survey(), HEADER))
        quality = -25 * math.log2(bits / 40000 / (250 + 2 * 8))
        assert plan.crf == pytest.approx(quality / 5, abs=0.2)
    assert "48 kbit/s of it for other tracks" in plans[1].note


@pytest.mark.parametrize(
    ("goal", "tracks", "says"),
    [
        (Goal("bitrate", 3000), 0, r"crf 51 needs about .* kbit/s; ask for more \(is 3000k meant\?\)"),
        (Goal("bitrate", 500), 0, r"alone take 0\.82 kbit/s; ask for more \(is 500k meant\?\)"),
        (Goal("bitrate", 50_000), 70_000, "sound, subtitles and the container alone take"),
        (Goal("size", 20_000), 20_000, "alone take 21,025 bytes; ask for more$"),
        (Goal("size", 2_000), 0, "2,000 bytes: cannot be reached"),
    ],
)
def test_impossible_budgets(goal, tracks, says):
    with pytest.raises(UsageError, match=says) as caught:
        plan_budget(goal, survey(tracks), StandIn(lambda q: 40000 * 2 ** (-q / 60)), SCALE, HEADER)
    assert "\n" not in str(caught.value)


def test_a_target_becomes_a_crf():
    sampler = StandIn(lambda q: 1.0, score=lambda q: 52 - 0.1 * q - 0.0002 * q * q)
    plan = plan_quality(Goal("psnr", 38.0), survey(), sampler, SCALE)
    quality = next(q for q in range(256) if 52 - 0.1 * q - 0.0002 * q * q <= 38)
    assert plan.crf == pytest.approx(quality / 5, abs=0.5)
    for goal in (Goal("psnr", 60.0), Goal("psnr", 3.0), Goal("ms-ssim", 0.9999999)):
        with pytest.raises(UsageError, match=r"cannot be reached, the (best|worst) this video can have"):
            plan_quality(goal, survey(), sampler, SCALE)


def test_a_survey_counts_what_encode_will_write(tmp_path):
    packets = clips.write_mkv_with_audio(tmp_path / "in.mkv", seconds=4)
    found = take_survey(lambda: open_video(tmp_path / "in.mkv", skip=10), 9)
    assert (found.frames, found.tracks) == (90, 1)
    assert found.seconds == pytest.approx(3.6)
    assert sum(map(len, packets)) * 0.8 < found.track_bytes < sum(map(len, packets)) * 0.95 + 5 * len(packets)
    assert [len(run.frames) for run in found.runs] == [9, 9]
    for run in found.runs:
        np.testing.assert_array_equal(run.frames[0].y, clips.picture(10 + run.start)[0])


# --- with the real model -------------------------------------------------------------------------

BEE = Path(__file__).parent.parent / "benchmarks" / "data" / "bee_640x360.mp4"
FRAMES = 130  # 5.2 s


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """A real clip made small, and long by playing it to and fro."""
    path = tmp_path_factory.mktemp("rate") / "in.y4m"
    with av.open(str(BEE)) as source:
        pictures = [frame.reformat(64, 48, "yuv420p").to_ndarray() for frame in source.decode(video=0)]
    order = [*range(len(pictures)), *range(len(pictures) - 2, 0, -1)]
    body = b"".join(b"FRAME\n" + pictures[order[n % len(order)]].tobytes() for n in range(FRAMES))
    path.write_bytes(b"YUV4MPEG2 W64 H48 F25:1 Ip A1:1 C420jpeg\n" + body)
    return path


def encode(weights: Path, *options: object):
    arguments = ["encode", *map(str, options), "--device", "cpu", "--weights", str(weights)]
    return CliRunner().invoke(cli, arguments)


@pytest.mark.parametrize(("option", "asked"), [("-b", 40_000), ("--size", 60_000)])
def test_the_file_is_as_large_as_asked(clip, tmp_path, weights, option, asked):
    out = tmp_path / "out.bsq"
    result = encode(weights, clip, out, option, f"{asked / 1000:g}k", "--json")
    assert result.exit_code == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert {line["stage"] for line in lines[:-1]} <= {"samples", "main"}
    done = lines[-1]
    found = out.stat().st_size * (8 / 5.2 if option == "-b" else 1)
    assert found == pytest.approx(asked, rel=0.03)
    assert (done["goal"], done["asked"]) == ("bitrate" if option == "-b" else "size", asked)
    assert done["achieved"] == pytest.approx(found, rel=1e-4)
    assert "first pass: crf" in result.stderr and "(" in result.stderr.splitlines()[-1]
    summary = bsqcodec.inspect(out, check=True)
    assert summary.damage is None and summary.crf == pytest.approx(done["crf"])


def test_the_psnr_is_what_was_asked(clip, tmp_path, weights):
    result = encode(weights, clip, tmp_path / "out.bsq", "--target", "psnr=36", "--limit", 70, "--keyint", 16)
    assert result.exit_code == 0, result.stderr
    y, u, v = bsqcodec.inspect(tmp_path / "out.bsq").psnr
    found = (6 * y + u + v) / 8
    assert found == pytest.approx(36, abs=0.15)
    assert f"asked for PSNR 36 dB, achieved {found:.2f} (" in result.stderr.splitlines()[-1]


def test_what_cannot_be_is_one_line(clip, tmp_path, weights):
    cases = [
        (("-b", 500), "alone take"),
        (("-b", "0.1k", "--crf", 20), "contradict"),
        (("-b", "fast"), "not an amount"),
        (("--target", "psnr=99"), "cannot be reached"),
        (("--target", "ms-ssim=0.98"), "use --target psnr"),
    ]
    for options, says in cases:
        result = encode(weights, clip, tmp_path / "out.bsq", *options, "--limit", 12, "-q")
        assert result.exit_code == 2, options
        assert len(result.stderr.splitlines()) == 1 and says in result.stderr, result.stderr
        assert list(tmp_path.iterdir()) == []


def test_a_pipe_is_copied_and_gives_the_same_file(clip, tmp_path, weights, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    options = ["--target", "psnr=36", "--limit", "2", "--device", "cpu", "--weights", str(weights)]
    named = CliRunner().invoke(cli, ["encode", str(clip), str(tmp_path / "named.bsq"), *options])
    piped = CliRunner().invoke(cli, ["encode", "-", str(tmp_path / "piped.bsq"), *options], input=clip.read_bytes())
    assert (named.exit_code, piped.exit_code) == (0, 0), piped.stderr
    assert "standard input: copied to a temporary file first" in piped.stderr
    assert (tmp_path / "piped.bsq").read_bytes() == (tmp_path / "named.bsq").read_bytes()
    assert list((tmp_path / "temporary").iterdir()) == []


def test_errors_of_a_copy_name_the_pipe(tmp_path, weights, monkeypatch):
    def encode_pipe() -> str:
        arguments = ["encode", "-", str(tmp_path / "out.bsq"), "-b", "40k", "-q", "--weights", str(weights)]
        result = CliRunner().invoke(cli, arguments, input=b"no video at all" * 9)
        assert result.exit_code == 1 and list(tmp_path.iterdir()) == []
        (line,) = result.stderr.splitlines()
        return line

    line = encode_pipe()
    assert line.startswith("bsqcodec: error: standard input: not yuv4mpegpipe") and "--format" in line

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    assert re.search(r"error: standard input: cannot be copied to .+: No space left .+; set TMPDIR", encode_pipe())


def test_the_ms_ssim_is_what_was_asked(tmp_path, weights):
    """On a picture just above the least that MS-SSIM can be measured on; judged by what the file decodes to."""
    with av.open(str(BEE)) as source:
        frames = [frame.reformat(176, 176, "yuv420p").to_ndarray() for frame in islice(source.decode(video=0), 2)]
    body = b"".join(b"FRAME\n" + frame.tobytes() for frame in frames)
    (tmp_path / "in.y4m").write_bytes(b"YUV4MPEG2 W176 H176 F25:1 Ip A1:1 C420jpeg\n" + body)
    result = encode(weights, tmp_path / "in.y4m", tmp_path / "out.bsq", "--target", "ms-ssim=0.97", "--json")
    assert result.exit_code == 0, result.stderr
    done = json.loads(result.stdout.splitlines()[-1])
    with bsqcodec.open(tmp_path / "out.bsq", device="cpu", weights=weights) as video:
        found = np.mean([ms_ssim_of(frame[:176], back.y) for frame, back in zip(frames, video, strict=True)])
    assert found == pytest.approx(0.97, abs=0.004)
    assert (done["goal"], done["asked"]) == ("ms-ssim", 0.97)
    assert done["achieved"] == done["ms_ssim"] == pytest.approx(found, abs=1e-4)


def test_the_command_line_beats_the_environment(clip, tmp_path, weights):
    """BSQCODEC_BITRATE is set for good somewhere; --crf on the line is what holds."""
    arguments = ["encode", str(clip), str(tmp_path / "a.bsq"), "--crf", "40", "--limit", "2", "--weights", str(weights)]
    result = CliRunner().invoke(cli, arguments, env={"BSQCODEC_BITRATE": "40k"})
    assert result.exit_code == 0, result.stderr
    assert bsqcodec.inspect(tmp_path / "a.bsq").crf == 40
