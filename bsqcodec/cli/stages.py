"""The table of `--profile`: one line a stage that took any time, then their sum."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bsqcodec.cli.terminal import Terminal

if TYPE_CHECKING:
    from bsqcodec.profile import Profile

_HEAD = ("stage", "seconds", "share", "ms/frame", "GMAC", "floor s", "time/floor")


def say_profile(terminal: Terminal, profile: Profile | None) -> None:
    """Print a profile, if there is one, to standard error."""
    if profile is None:
        return
    terminal.say(_line(*_HEAD))
    for name, stage in profile.stages.items():
        if stage.seconds > 0:
            terminal.say(_row(profile, name))
    total = profile.seconds
    terminal.say(_line("total", f"{total:.3f}", "100.0%", f"{1000 * total / max(1, profile.frames):.2f}"))
    rate = profile.macs_per_second / 1e9
    terminal.say(f"  floor: float32 matrix products, measured at {rate:.4g} GMAC/s with --threads {profile.threads}")


def _row(profile: Profile, name: str) -> str:
    row = profile.figures(name)
    cells = [name, f"{row['seconds']:.3f}", f"{row['share']:.1%}", f"{row['ms_per_frame']:.2f}"]
    if row["over_floor"] is not None:
        cells += [f"{(row['macs'] or 0) / 1e9:.4g}", f"{row['floor_seconds']:.3f}", f"{row['over_floor']:.2f}"]
    return _line(*cells)


def _line(name: str, *cells: str) -> str:
    return f"  {name:<12}" + "".join(f"{cell:>11}" for cell in cells)
