"""What can be asked of an encode instead of a crf: a bitrate, a size, or a quality."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bsqcodec.errors import UsageError

Amount = str | int | float
METRICS = ("psnr", "ms-ssim")
_PREFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_AMOUNT = re.compile(r"(\d+(?:\.\d*)?|\.\d+) ?([kmg]i?)?(b|bps|bit/s)?", re.IGNORECASE)
_EXAMPLES = {"bitrate": "500k or 1.5M, in bit/s", "size": "700k, 2M or 2MiB, in bytes"}


@dataclass(frozen=True)
class Goal:
    """kind: "bitrate" (bit/s of the whole file), "size" (bytes), "psnr" ((6Y+U+V)/8 in dB) or "ms-ssim" (luma)."""

    kind: str
    value: float

    @property
    def by_size(self) -> bool:
        """Whether bytes are counted, rather than quality."""
        return self.kind in _EXAMPLES


def goal_of(bitrate: Amount | None, size: Amount | None, target: str | None, crf: float | None) -> Goal | None:
    """The goal that is asked for; None = none. Raises UsageError for more than one, and for what makes no sense."""
    given = {"bitrate": bitrate, "size": size, "target": target, "crf": crf}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise UsageError(f"--{names[0]} and --{names[1]} contradict each other; give one")
    if bitrate is not None:
        return Goal("bitrate", amount(bitrate, "bitrate"))
    if size is not None:
        return Goal("size", amount(size, "size"))
    return None if target is None else target_of(target)


def amount(value: Amount, what: str) -> float:
    """A number with a prefix, such as 500k, 1.5M, 2MB or 2MiB. Raises UsageError for anything else, and for 0."""
    match = _AMOUNT.fullmatch(str(value))
    if match is None or float(match[1]) == 0:
        raise UsageError(f"{what} {value!r}: not an amount; write {_EXAMPLES[what]}")
    return float(match[1]) * _PREFIXES[(match[2] or "").lower()]


def target_of(text: str) -> Goal:
    """A quality such as "psnr=38" or "ms-ssim=0.98"."""
    name, _, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if name not in METRICS or not 0 < number < (100 if name == "psnr" else 1):
        raise UsageError(f"target {text!r}: not a quality; write psnr=38 (dB, below 100) or ms-ssim=0.98 (below 1)")
    return Goal(name, number)


def said(goal: Goal) -> str:
    """The goal as a message says it."""
    match goal.kind:
        case "bitrate":
            return f"bitrate {goal.value / 1000:.4g} kbit/s"
        case "size":
            return f"size {goal.value:,.0f} bytes"
    return f"{goal.kind} {goal.value:g}"


def needs_decoding(goal: Goal | None) -> bool:
    """Whether what became of the goal is known only after decoding the result."""
    return goal is not None and goal.kind == "ms-ssim"


def achieved(goal: Goal, *, size: int, kbps: float, psnr: float, ms_ssim: float | None) -> float:
    """What became of a goal, in its unit: bit/s, bytes, dB, or MS-SSIM."""
    match goal.kind:
        case "bitrate":
            return 1000 * kbps
        case "size":
            return float(size)
        case "psnr":
            return psnr
    return 0.0 if ms_ssim is None else ms_ssim
