"""The undamaged files that fuzzing starts from: tiny, and with every kind of chunk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from standin import SOUND, TITLES, standin_weights, stream


@dataclass(frozen=True)
class Seed:
    """A file by its making. weights: 0 = the predictive stand-in, 1 = the causal one; options: of `standin.stream`."""

    weights: int
    options: dict[str, Any] = field(default_factory=dict)


SEEDS = (
    Seed(0, {"frames": 5, "tracks": (SOUND, TITLES)}),
    Seed(0, {"frames": 4, "width": 17, "height": 19, "keyint": 3, "times": (0, 3, 4, 11), "tracks": (SOUND,)}),
    Seed(0, {"frames": 3, "keyint": 1, "crf": 51, "complete": False}),
    Seed(0, {"frames": 8, "keyint": 2}),
    Seed(1, {"frames": 5, "keyint": 2, "tracks": (SOUND,)}),
)


def make_seeds(folder: Path, codec: Callable[[list[Path]], Any]) -> tuple[Any, list[bytes]]:
    """The models in a codec of the caller's, and the seeds' bytes."""
    paths = [standin_weights(folder / f"{number}.safetensors", causal=bool(number)) for number in range(2)]
    made = codec(paths)
    return made, [stream(made.models[seed.weights], **seed.options) for seed in SEEDS]
