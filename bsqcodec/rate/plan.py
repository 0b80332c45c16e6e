"""The first pass: from a goal to the quality an encode begins with, and the control that keeps it to the goal."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bsqcodec.container import StreamHeader, StreamWriter
from bsqcodec.errors import UsageError
from bsqcodec.presets import MEDIUM, Search
from bsqcodec.progress import ProgressCallback, ProgressMeter
from bsqcodec.rate.control import BudgetControl, Control, Forecast, PsnrControl, solve
from bsqcodec.rate.goals import Goal, said
from bsqcodec.rate.samples import Sampler, interpolate, ms_ssim_db, ms_ssim_score, psnr_score
from bsqcodec.rate.survey import Opener, Survey, run_length, take_survey

if TYPE_CHECKING:
    from bsqcodec.codec import Model

_log = logging.getLogger("bsqcodec")

TRIALS = 4  # qualities the samples are coded at, at most
FIRST_TRIAL = 140  # about crf 27
NEAR = 8.0  # indices between a trial and a wanted quality that make another trial needless
SPREAD = 16  # indices between the first two trials at least, or their noise hides the slope
DB_SLOPE = -0.13  # dB an index is worth where only one was tried
UNREACHABLE = 1.1  # bits of the lowest quality over the budget that are refused
GROUP_BYTES = 36  # of the container for each group, besides one a frame
TRACK_BYTES = 26  # of the container for each group where there are tracks
END_BYTES = 160  # statistics and the end of the file


@dataclass(frozen=True)
class Plan:
    """crf: where the encode begins; control: what keeps it to the goal, None = nothing needs to; note: for the user.

    seconds: what the first pass took.
    """

    crf: float
    control: Control | None
    note: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Scale:
    """The qualities a crf stands for: index of a first frame by crf, and the crf range."""

    index: Callable[[float], int]
    low: float = 0.0
    high: float = 51.0

    @property
    def range(self) -> tuple[int, int]:
        """The finest and the coarsest index."""
        return self.index(self.low), self.index(self.high)

    def crf(self, quality: float) -> float:
        """The crf whose index is nearest to a quality, in hundredths."""
        low, high = self.low, self.high
        while high - low > 0.01:
            middle = (low + high) / 2
            low, high = (middle, high) if self.index(middle) < quality else (low, middle)
        return round(high, 2)


def first_pass(
    goal: Goal,
    opened: Opener,
    model: Model,
    header: StreamHeader,
    on_progress: ProgressCallback | None = None,
    encoding: Search = MEDIUM,
) -> Plan:
    """Look at the source and code samples of it.

    opened: opens the source at its beginning, again and again; header: of the stream to come; encoding: its search.
    Raises UsageError for a goal that cannot be reached.
    """
    meter = ProgressMeter(on_progress, rate=header.info.fps, total=None, stage="samples")
    survey = take_survey(opened, run_length(header.keyint) * (1 if goal.by_size else 2))
    scale = scale_of(model)
    if goal.by_size:
        sampler = Sampler(
            model,
            survey.info,
            header.keyint,
            survey.runs,
            on_frames=meter.report,
            encoding=encoding,
            frames=survey.frames,
        )
        plan = plan_budget(goal, survey, sampler, scale, header, whole_groups=is_causal(model))
    else:
        score = psnr_score(survey.info) if goal.kind == "psnr" else ms_ssim_score(model, survey.info)
        sampler = Sampler(model, survey.info, header.keyint, survey.runs, score, meter.report, encoding, survey.frames)
        plan = plan_quality(goal, survey, sampler, scale)
    _log.info("%s", plan.note)
    return replace(plan, seconds=meter.seconds)


def plan_budget(
    goal: Goal, survey: Survey, sampler: Sampler, scale: Scale, header: StreamHeader, *, whole_groups: bool = False
) -> Plan:
    """A bitrate or a size."""
    asked = goal.value if goal.kind == "size" else goal.value * survey.seconds / 8
    overhead = container_bytes(survey, header)
    budget = 8 * (asked - overhead - survey.track_bytes)
    if budget <= 0:
        raise UsageError(
            f"{said(goal)}: sound, subtitles and the container alone take "
            f"{amount_of(goal, overhead + survey.track_bytes, survey)}; ask for more{hint(goal)}"
        )
    forecast = Forecast(sampler.samples, survey.frames, header.keyint, survey.cuts)
    quality = search(sampler, lambda: solve(forecast.of_all, budget, *scale.range), scale)
    if round(quality) >= scale.range[1] and forecast.of_all(quality) > UNREACHABLE * budget:
        least = forecast.of_all(quality) / 8 + overhead + survey.track_bytes
        raise UsageError(
            f"{said(goal)}: cannot be reached, crf {scale.high:g} needs about {amount_of(goal, least, survey)}; "
            f"ask for more{hint(goal)}, or make the picture smaller"
        )
    control = BudgetControl(forecast, budget, *scale.range, whole_groups=whole_groups)
    sound = f", {amount_of(goal, survey.track_bytes, survey)} of it for other tracks" if survey.track_bytes else ""
    crf = scale.crf(quality)
    return Plan(crf, control, f"first pass: crf {crf:.4g} for {said(goal)}{sound}")


def plan_quality(goal: Goal, survey: Survey, sampler: Sampler, scale: Scale) -> Plan:
    """A PSNR or an MS-SSIM."""
    wanted = goal.value if goal.kind == "psnr" else ms_ssim_db(goal.value)

    def score(quality: float) -> float:
        qualities = sampler.samples[0].trials.keys()
        means = {q: sum(s.trials[q].score for s in sampler.samples) / len(sampler.samples) for q in qualities}
        return interpolate(quality, means, DB_SLOPE)

    quality = search(sampler, lambda: solve(score, wanted, *scale.range), scale)
    if abs(score(quality) - wanted) > 0.5:  # the end of the range
        end = "best" if score(quality) < wanted else "worst"
        best = score(quality) if goal.kind == "psnr" else 1 - 10 ** (-score(quality) / 10)
        raise UsageError(f"{said(goal)}: cannot be reached, the {end} this video can have is about {best:.4g}")
    slope = min(score(quality + 1) - score(quality), DB_SLOPE / 4)
    control = PsnrControl(survey.frames, wanted, quality, slope, *scale.range) if goal.kind == "psnr" else None
    crf = scale.crf(quality)
    return Plan(crf, control, f"first pass: crf {crf:.4g} for {said(goal)}")


def search(sampler: Sampler, wanted: Callable[[], float], scale: Scale) -> float:
    """Code the samples until the quality that `wanted` finds by them is near one that was tried."""
    low, high = scale.range
    tried = [min(max(FIRST_TRIAL, low), high)]
    sampler.try_quality(tried[0])
    while len(tried) < TRIALS:
        quality = round(wanted())
        if min(abs(quality - other) for other in tried) <= (NEAR if len(tried) > 1 else 0):
            break
        if len(tried) == 1 and abs(quality - tried[0]) < SPREAD:
            quality = tried[0] + (SPREAD if quality >= tried[0] else -SPREAD)
        tried.append(min(max(quality, low), high))
        sampler.try_quality(tried[-1])
    return wanted()


def container_bytes(survey: Survey, header: StreamHeader) -> int:
    """What the container will take besides motion, tokens and packets, about."""
    front = StreamWriter(io.BytesIO(), header).offset
    groups = -(-survey.frames // header.keyint)
    return front + END_BYTES + survey.frames + groups * (GROUP_BYTES + (TRACK_BYTES if survey.tracks else 0))


def scale_of(model: Model) -> Scale:
    """The qualities of a model."""
    from bsqcodec.codec.settings import intra_quality

    return Scale(lambda crf: intra_quality(crf, model.config.crf_curve))


def is_causal(model: Model) -> bool:
    """Whether a model codes a group at once."""
    from bsqcodec.tokenizer.causal import CausalTokenizer

    return isinstance(model.tokenizer, CausalTokenizer)


def amount_of(goal: Goal, size: float, survey: Survey) -> str:
    """Bytes in the unit of the goal."""
    if goal.kind == "size":
        return f"{size:,.0f} bytes"
    return f"{8 * size / survey.seconds / 1000:.4g} kbit/s"


def hint(goal: Goal) -> str:
    """What is often meant by a tiny bitrate or size."""
    small = goal.value < 10_000
    return f" (is {goal.value:g}k meant?)" if small else ""
